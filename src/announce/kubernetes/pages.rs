//! A mailing as it stands in its chunks: who is in which, and where each stands. Pure.

use std::{collections::BTreeMap, mem};

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    model::{announcement::Tally, time::Time},
    port::{
        channel::Recipient,
        ledger::{Delivery, Mailing},
    },
};

/// Recipients of one chunk: what changes of one is written with all of them, some ten kilobytes.
pub const CHUNK: usize = 100;

/// A part of who was told what. Holds addresses of customers; written by the controller, and by nobody else.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, CustomResource, Serialize, Deserialize, JsonSchema,
)]
#[kube(
    group = "failover.rs",
    version = "v1alpha1",
    kind = "LedgerChunk",
    plural = "ledgerchunks",
    namespaced
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LedgerChunkSpec {
    /// The service.
    pub service: String,
    /// The announcement or page; empty in the list of those who want no messages.
    pub message: String,
    /// The channel; empty in the list of those who want no messages.
    pub channel: String,
    /// Its place among the chunks of the mailing.
    pub number: u32,
    /// Which write it is, by a number that no other has: two leaders may mean to write the same.
    #[serde(default)]
    pub writer: String,
    /// Whether it stands for all chunks of the mailing by now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
    /// Who is told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<Entry>,
    /// How many stood where whose addresses are forgotten.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub forgotten: BTreeMap<Delivery, u64>,
}

/// A recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Entry {
    /// The address.
    pub to: String,
    /// Where the message stands.
    pub state: Delivery,
    /// What there is to say of that.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Since when.
    pub at: String,
}

/// A chunk, and the version that the server has of it.
#[derive(Clone, Debug)]
pub struct Page {
    /// What it holds.
    pub spec: LedgerChunkSpec,
    /// The server's version; none where it is new.
    pub version: Option<String>,
    /// What the server had when it was read or written last.
    pub before: Option<LedgerChunkSpec>,
    /// Whether the server has something else.
    pub is_changed: bool,
}

/// The chunks of a mailing.
#[derive(Clone, Debug, Default)]
pub struct Pages {
    mailing: LedgerChunkSpec,
    chunks: Vec<Page>,
    /// Chunks that the first one stands for, and that are there still.
    left: Vec<Page>,
    /// Chunk and place of each address. Addresses are compared without regard to case.
    places: BTreeMap<String, (usize, usize)>,
}

fn key(to: &str) -> String {
    to.to_ascii_lowercase()
}

/// Chunk and place of each address.
fn places(chunks: &[Page]) -> BTreeMap<String, (usize, usize)> {
    let mut places = BTreeMap::new();
    for (n, page) in chunks.iter().enumerate() {
        for (m, entry) in page.spec.recipients.iter().enumerate() {
            places.insert(key(&entry.to), (n, m));
        }
    }
    places
}

impl Pages {
    /// Of what the server holds, in any order.
    #[must_use]
    pub fn new(mailing: &Mailing, mut pages: Vec<Page>) -> Self {
        pages.sort_by_key(|page| page.spec.number);
        // One that stands for all: the others were about to be removed.
        let mut left = Vec::new();
        if pages.first().is_some_and(|page| page.spec.whole) {
            left = pages.split_off(1);
        }
        Self {
            places: places(&pages),
            chunks: pages,
            left,
            mailing: LedgerChunkSpec {
                service: mailing.service.to_string(),
                message: mailing.message.clone(),
                channel: mailing.channel.to_string(),
                ..LedgerChunkSpec::default()
            },
        }
    }

    /// The chunks, to be written.
    pub fn pages_mut(&mut self) -> &mut [Page] {
        &mut self.chunks
    }

    /// Where an address stands.
    #[must_use]
    pub fn of(&self, to: &Recipient) -> Option<&Entry> {
        let (n, m) = *self.places.get(&key(&to.0))?;
        self.chunks.get(n)?.spec.recipients.get(m)
    }

    /// Whether nobody has taken on to tell an address yet.
    #[must_use]
    pub fn is_free(&self, to: &Recipient) -> bool {
        let state = self.of(to).map(|entry| entry.state);
        state.is_none_or(|state| state == Delivery::Queued)
    }

    /// Whether the server has what is said here of an address.
    #[must_use]
    pub fn is_written(&self, to: &Recipient) -> bool {
        let place = self.places.get(&key(&to.0));
        place.is_some_and(|(n, _)| !self.chunks[*n].is_changed)
    }

    /// Puts an address where it stands now, unless it was told already, or more is known of it.
    pub fn advance(&mut self, to: &Recipient, state: Delivery, detail: &str, at: Time) {
        let is_further = match self.of(to).map(|entry| entry.state) {
            Some(Delivery::Sent) => state != Delivery::Sent,
            Some(Delivery::Unknown | Delivery::Failed | Delivery::Suppressed) => {
                state == Delivery::Queued || state == Delivery::Sending
            }
            Some(Delivery::Queued | Delivery::Sending) | None => false,
        };
        if !is_further {
            self.put(to, state, detail, at);
        }
    }

    /// Whether anybody is still to be told.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let mut all = self.chunks.iter().flat_map(|page| &page.spec.recipients);
        all.any(|entry| !entry.state.is_settled())
    }

    /// Puts an address where it stands now.
    pub fn put(&mut self, to: &Recipient, state: Delivery, detail: &str, at: Time) {
        let mut entry = Entry {
            to: to.0.clone(),
            state,
            detail: detail.to_owned(),
            at: at.to_string(),
        };
        if let Some((n, m)) = self.places.get(&key(&to.0)) {
            let page = &mut self.chunks[*n];
            entry.to.clone_from(&page.spec.recipients[*m].to);
            page.spec.recipients[*m] = entry;
            page.is_changed = true;
            return;
        }
        let has_room = |page: &Page| page.spec.whole || page.spec.recipients.len() < CHUNK;
        if !self.chunks.last().is_some_and(has_room) {
            let number = self.chunks.last().map_or(0, |page| page.spec.number + 1);
            self.chunks.push(Page {
                spec: LedgerChunkSpec {
                    number,
                    ..self.mailing.clone()
                },
                version: None,
                before: None,
                is_changed: true,
            });
        }
        let n = self.chunks.len() - 1;
        let page = &mut self.chunks[n];
        self.places
            .insert(key(&to.0), (n, page.spec.recipients.len()));
        page.spec.recipients.push(entry);
        page.is_changed = true;
    }

    /// Addresses in a state, in the order in which they came, at most `most`.
    #[must_use]
    pub fn in_state(&self, state: Delivery, most: usize) -> Vec<Recipient> {
        let all = self.chunks.iter().flat_map(|page| &page.spec.recipients);
        all.filter(|entry| entry.state == state)
            .take(most)
            .map(|entry| Recipient(entry.to.clone()))
            .collect()
    }

    /// How many stand where.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        let mut add = |state: Delivery, more: u64| match state {
            Delivery::Queued | Delivery::Sending => tally.queued += more,
            Delivery::Sent => tally.sent += more,
            Delivery::Unknown => tally.unknown += more,
            Delivery::Failed => tally.failed += more,
            Delivery::Suppressed => tally.suppressed += more,
        };
        for page in &self.chunks {
            for entry in &page.spec.recipients {
                add(entry.state, 1);
            }
            for (state, number) in &page.spec.forgotten {
                add(*state, *number);
            }
        }
        tally
    }

    /// Forgets addresses that were settled before this. Where none is left, the first chunk stands for all of them: the
    /// others, which are given back, may be removed once it is written.
    pub fn forget(&mut self, before: Time) -> Vec<Page> {
        for page in &mut self.chunks {
            for entry in mem::take(&mut page.spec.recipients) {
                let at = Time::parse(&entry.at).ok();
                if entry.state.is_settled() && at.is_none_or(|at| at < before) {
                    *page.spec.forgotten.entry(entry.state).or_default() += 1;
                    page.is_changed = true;
                } else {
                    page.spec.recipients.push(entry);
                }
            }
        }
        let mut gone = mem::take(&mut self.left);
        if self.chunks.iter().all(|p| p.spec.recipients.is_empty()) && self.chunks.len() > 1 {
            let others = self.chunks.split_off(1);
            let first = &mut self.chunks[0];
            for (state, number) in others.iter().flat_map(|page| &page.spec.forgotten) {
                *first.spec.forgotten.entry(*state).or_default() += number;
            }
            gone.extend(others);
            first.spec.whole = true;
            first.is_changed = true;
        }
        self.places = places(&self.chunks);
        gone
    }
}

impl LedgerChunkSpec {
    /// The mailing that it is of.
    #[must_use]
    pub fn mailing(&self) -> Mailing {
        Mailing {
            service: self.service.as_str().into(),
            message: self.message.clone(),
            channel: self.channel.as_str().into(),
        }
    }

    /// When the last of its messages was accepted.
    #[must_use]
    pub fn sent(&self) -> Option<Time> {
        let sent = self.recipients.iter().filter(|e| e.state == Delivery::Sent);
        sent.filter_map(|e| Time::parse(&e.at).ok()).max()
    }

    /// When the first of its addresses was settled; none where none was, and where none is ever forgotten.
    #[must_use]
    pub fn settled(&self) -> Option<Time> {
        let all = self.recipients.iter().filter(|e| e.state.is_settled());
        let times = all.filter_map(|e| Time::parse(&e.at).ok());
        times.min().filter(|_| !self.message.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_millis(1_700_000_000_000);

    fn mailing() -> Mailing {
        Mailing {
            service: "shop".into(),
            message: "shop-i4-onStandby".into(),
            channel: "mail".into(),
        }
    }

    fn person(n: usize) -> Recipient {
        Recipient(format!("p{n}@example.com"))
    }

    #[test]
    fn addresses_fill_one_chunk_after_the_other_and_are_found_again_in_any_order() {
        let mut pages = Pages::new(&mailing(), Vec::new());
        for n in 0..=(CHUNK * 2) {
            pages.put(&person(n), Delivery::Queued, "", NOW);
        }
        let numbers: Vec<_> = pages.chunks.iter().map(|p| p.spec.number).collect();
        assert_eq!(numbers, [0, 1, 2]);
        let mut written = pages.chunks.clone();
        for page in &mut written {
            page.is_changed = false;
        }
        written.reverse();
        let mut again = Pages::new(&mailing(), written);
        assert_eq!(again.in_state(Delivery::Queued, 2), [person(0), person(1)]);
        // Another spelling is the same person, who keeps the first one.
        let loud = Recipient(person(CHUNK).0.to_uppercase());
        again.put(&loud, Delivery::Sent, "250 OK", NOW);
        assert_eq!(again.of(&person(CHUNK)).unwrap().to, person(CHUNK).0);
        let changed: Vec<_> = again.chunks.iter().map(|p| p.is_changed).collect();
        assert_eq!(changed, [false, true, false]);
        assert_eq!((again.tally().queued, again.tally().sent), (200, 1));
    }

    #[test]
    fn what_is_forgotten_still_counts_and_takes_one_chunk() {
        let mut pages = Pages::new(&mailing(), Vec::new());
        for n in 0..=CHUNK {
            pages.put(&person(n), Delivery::Sent, "", NOW);
        }
        pages.put(&person(0), Delivery::Sending, "", NOW);
        assert!(pages.forget(NOW).is_empty(), "it was settled just now");
        let later = NOW.after(crate::model::span::Span::from_secs(1));
        assert!(pages.forget(later).is_empty(), "one may be under way still");
        assert_eq!(pages.in_state(Delivery::Sending, 9), [person(0)]);
        pages.put(&person(0), Delivery::Unknown, "", NOW);
        let gone = pages.forget(later);
        assert_eq!((gone.len(), pages.chunks.len()), (1, 1));
        let tally = pages.tally();
        assert_eq!((tally.sent, tally.unknown, tally.queued), (100, 1, 0));
        // The others may still be there when it is read again.
        let left = pages.chunks.iter().chain(&gone).cloned().collect();
        assert_eq!(Pages::new(&mailing(), left).tally(), tally);
        // Whoever comes later is found again, too.
        pages.put(&person(7), Delivery::Queued, "", NOW);
        let again = Pages::new(&mailing(), pages.chunks.clone());
        assert!(again.of(&person(7)).is_some());
    }
}
