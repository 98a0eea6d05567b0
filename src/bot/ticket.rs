//! What a button may do: a word of 128 random bits, good once, for a few minutes, in one room.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::{
    desk::{message::Wish, speaker::Speaker},
    model::{
        announcement::Phase,
        id::{IncidentId, ServiceName},
        span::Span,
        time::Time,
    },
    port::chat::Room,
};

/// A ticket is good for so long.
pub const LIFE: Span = Span::from_secs(300);

/// Tickets that are kept at most; the oldest go first.
const MOST: usize = 10_000;

/// Buttons of which one is pressed at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Choice(pub u64);

/// What a press does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Gives a command.
    Give(Box<Wish>),
    /// Tells customers, where everything is still as it was when the words were shown.
    Tell {
        /// The command.
        wish: Box<Wish>,
        /// The incident of which it speaks.
        incident: Option<IncidentId>,
        /// What customers had heard.
        phase: Option<Phase>,
    },
    /// Drops what was shown: what that was.
    Drop(String),
}

/// A ticket as it was issued.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// The service that it is about.
    pub service: ServiceName,
    /// The room in which it was shown.
    pub room: Room,
    /// Who alone may use it; none: whoever may give the command.
    pub of: Option<Speaker>,
    /// What it does.
    pub deed: Deed,
    /// The message that it stands below, where it is one of several that end together.
    pub choice: Option<Choice>,
    until: Time,
    /// Whether somebody still has to hear that it was not used.
    is_awaited: bool,
}

/// Why a ticket is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is none, or none any more.
    Unknown,
    /// Its time is over.
    Expired,
    /// It was shown in another room.
    Elsewhere,
    /// It is another person's.
    NotYours,
}

/// The tickets that are out. None is kept as it is: whoever reads this process's memory later finds nothing to press.
#[derive(Debug, Default)]
pub struct Tickets(BTreeMap<[u8; 32], Ticket>);

impl Tickets {
    /// Issues a ticket, and gives what its button carries.
    pub fn issue(
        &mut self,
        service: &ServiceName,
        room: &Room,
        of: Option<&Speaker>,
        (deed, choice): (Deed, Option<Choice>),
        now: Time,
    ) -> String {
        self.0
            .retain(|_, ticket| ticket.until > now || ticket.is_awaited);
        while self.0.len() >= MOST {
            let oldest = self.0.iter().min_by_key(|(_, t)| t.until);
            let Some(key) = oldest.map(|(key, _)| *key) else {
                break;
            };
            self.0.remove(&key);
        }
        let word = hex::encode(rand::random::<[u8; 16]>());
        let is_awaited = match deed {
            Deed::Drop(_) => true,
            Deed::Give(_) | Deed::Tell { .. } => false,
        };
        let ticket = Ticket {
            service: service.clone(),
            room: room.clone(),
            is_awaited,
            of: of.cloned(),
            deed,
            choice,
            until: now.after(LIFE),
        };
        self.0.insert(key(&word), ticket);
        word
    }

    /// Choices that nobody took in their time, each once: the ticket that drops it.
    pub fn lapsed(&mut self, now: Time) -> Vec<Ticket> {
        let over = self.0.values_mut();
        over.filter(|ticket| ticket.until <= now && ticket.is_awaited)
            .map(|ticket| {
                ticket.is_awaited = false;
                ticket.clone()
            })
            .collect()
    }

    /// The service that a ticket is about.
    #[must_use]
    pub fn service(&self, word: &str) -> Option<&ServiceName> {
        self.0.get(&key(word)).map(|ticket| &ticket.service)
    }

    /// Takes a ticket: whoever may use it uses it up, and with it all others of its choice.
    ///
    /// # Errors
    /// Where it is not good, or not here, or not theirs; then it stays.
    pub fn take(
        &mut self,
        word: &str,
        room: &Room,
        by: &Speaker,
        now: Time,
    ) -> Result<Ticket, Refused> {
        let key = key(word);
        let ticket = self.0.get(&key).ok_or(Refused::Unknown)?;
        if ticket.until <= now {
            return Err(Refused::Expired);
        }
        if ticket.room != *room {
            return Err(Refused::Elsewhere);
        }
        if ticket.of.as_ref().is_some_and(|of| of != by) {
            return Err(Refused::NotYours);
        }
        let taken = self.0.remove(&key).ok_or(Refused::Unknown)?;
        if taken.choice.is_some() {
            self.0.retain(|_, other| other.choice != taken.choice);
        }
        Ok(taken)
    }
}

fn key(word: &str) -> [u8; 32] {
    Sha256::digest(word.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::TelegramUser;

    const ANN: Speaker = Speaker::Telegram(TelegramUser(1));
    const BEN: Speaker = Speaker::Telegram(TelegramUser(2));

    fn drop_it() -> Deed {
        Deed::Drop("begin it".to_owned())
    }

    fn room(name: &str) -> Room {
        Room(name.to_owned())
    }

    #[test]
    fn a_ticket_is_good_once_in_its_room_for_its_owner_and_for_a_while() {
        let mut tickets = Tickets::default();
        let start = Time::from_millis(1_000);
        let word = tickets.issue(
            &"shop".into(),
            &room("a"),
            Some(&ANN),
            (drop_it(), None),
            start,
        );
        assert_eq!(word.len(), 32);
        let mut take = |room: &Room, by: &Speaker, at: Time| {
            tickets.take(&word, room, by, at).map(|ticket| ticket.deed)
        };
        assert_eq!(take(&room("b"), &ANN, start), Err(Refused::Elsewhere));
        assert_eq!(take(&room("a"), &BEN, start), Err(Refused::NotYours));
        assert_eq!(
            take(&room("a"), &ANN, start.after(LIFE)),
            Err(Refused::Expired)
        );
        assert_eq!(take(&room("a"), &ANN, start), Ok(drop_it()));
        assert_eq!(take(&room("a"), &ANN, start), Err(Refused::Unknown));
    }

    #[test]
    fn of_several_one_is_taken() {
        let mut tickets = Tickets::default();
        let start = Time::from_millis(0);
        let mut issue = |choice| {
            let deed = (drop_it(), choice);
            tickets.issue(&"shop".into(), &room("a"), None, deed, start)
        };
        let one = Some(Choice(1));
        let (yes, no, other) = (issue(one), issue(one), issue(None));
        let mut take = |word: &str| tickets.take(word, &room("a"), &ANN, start).map(drop);
        assert_eq!(take(&no), Ok(()));
        assert_eq!(take(&yes), Err(Refused::Unknown));
        assert_eq!(take(&other), Ok(()));
    }

    #[test]
    fn a_choice_that_nobody_took_lapses_once() {
        let mut tickets = Tickets::default();
        let start = Time::from_millis(0);
        let choice = Some(Choice(1));
        let mut issue =
            |deed| tickets.issue(&"shop".into(), &room("a"), None, (deed, choice), start);
        issue(Deed::Give(Box::new(Wish::Resume)));
        issue(drop_it());
        assert_eq!(tickets.lapsed(start).len(), 0);
        let late = start.after(LIFE);
        // Another one that is issued meanwhile does not make it forgotten.
        tickets.issue(&"shop".into(), &room("a"), None, (drop_it(), None), late);
        let lapsed = tickets.lapsed(late);
        assert_eq!(lapsed.len(), 1);
        assert_eq!(lapsed[0].deed, drop_it());
        assert_eq!(tickets.lapsed(late.after(LIFE)).len(), 1, "the other one");
        assert_eq!(tickets.lapsed(late.after(LIFE)).len(), 0);
    }

    #[test]
    fn what_nobody_issued_is_not_taken() {
        let mut tickets = Tickets::default();
        let forged = tickets.take("0123456789abcdef", &room("a"), &ANN, Time::from_millis(0));
        assert!(matches!(forged, Err(Refused::Unknown)));
    }

    #[test]
    fn there_are_never_too_many() {
        let mut tickets = Tickets::default();
        for n in 0..=MOST {
            let now = Time::from_millis(i64::try_from(n).unwrap());
            tickets.issue(&"shop".into(), &room("a"), None, (drop_it(), None), now);
        }
        assert_eq!(tickets.0.len(), MOST);
    }
}
