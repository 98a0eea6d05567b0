//! Escalation: who is paged when, which pages go as one message, and who hears that one is over.
//!
//! A page goes along the levels of the escalation until somebody acknowledges it, then begins anew. What is due is
//! recorded first, by message: the next process sends what this one may not have, and nothing else again.

use std::collections::{BTreeMap, VecDeque};

use super::{
    event::Effect,
    state::{Paged, State},
    view::View,
};
use crate::model::{
    id::{PageId, Seq},
    page::{EscalationLevel, Page, PageTopic, Severity},
    record::RecordBody,
    service::{Service, Team},
    span::Span,
    time::Time,
};

/// So many messages of critical pages go to one level at once, a question right after its outage, and no more within
/// this time: what comes up in between goes as one.
const CRITICAL: (usize, Span) = (3, Span::from_secs(15));
/// The same of all other pages. Together that is 18 a minute: groups of Telegram take 20.
const ORDINARY: (usize, Span) = (3, Span::from_secs(30));
/// What is older is not sent by a process that finds it: the next round is on its way.
const FRESH: Span = Span::from_secs(15 * 60);
/// Ends of pages that are remembered until they are told.
const ENDS: usize = 200;

/// What a level was sent of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calling {
    /// The message that it stood in.
    pub message: Seq,
    /// How often the escalation had been gone through before.
    pub round: u32,
    /// Who, as the documents named them.
    pub to: Vec<String>,
    /// When.
    pub at: Time,
}

/// A message to one level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Which level.
    pub level: u32,
    /// Its pages, and the round of each.
    pub pages: BTreeMap<PageId, u32>,
    /// When it was recorded.
    pub at: Time,
}

/// A page that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Over {
    /// The page.
    pub page: Page,
    /// What each level had been sent of it last.
    pub told: BTreeMap<u32, Calling>,
    /// Whether another page of its topic took its place.
    pub is_replaced: bool,
    /// When.
    pub at: Time,
}

/// What was sent of pages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pager {
    /// Messages with pages that are still open.
    pub messages: BTreeMap<Seq, Message>,
    /// Pages that ended of late.
    pub over: BTreeMap<PageId, Over>,
    /// When each level was sent the last messages of critical pages, and of others, oldest first.
    last: BTreeMap<(u32, bool), VecDeque<Time>>,
}

impl Pager {
    /// A message was recorded.
    pub fn called(
        &mut self,
        open: &mut BTreeMap<PageId, Paged>,
        pages: &BTreeMap<PageId, u32>,
        level: u32,
        calling: &Calling,
    ) {
        let mut is_critical = false;
        for (id, round) in pages {
            let Some(known) = open.get_mut(id) else {
                continue;
            };
            is_critical |= known.page.severity == Severity::Critical;
            let round = *round;
            let calling = Calling {
                round,
                ..calling.clone()
            };
            known.told.insert(level, calling);
        }
        let last = self.last.entry((level, is_critical)).or_default();
        last.push_back(calling.at);
        if last.len() > pace(is_critical).0 {
            last.pop_front();
        }
        let message = Message {
            level,
            pages: pages.clone(),
            at: calling.at,
        };
        self.messages.insert(calling.message, message);
        self.forget(open);
    }

    /// A page is over.
    pub fn ended(
        &mut self,
        id: &PageId,
        paged: Option<Paged>,
        open: &BTreeMap<PageId, Paged>,
        at: Time,
    ) {
        self.forget(open);
        self.over.retain(|_, over| at.since(over.at) < FRESH);
        let Some(paged) = paged.filter(|p| !p.told.is_empty()) else {
            return;
        };
        let over = Over {
            page: paged.page,
            told: paged.told,
            is_replaced: false,
            at,
        };
        self.over.insert(id.clone(), over);
        while self.over.len() > ENDS {
            self.over.pop_first();
        }
    }

    /// A page was raised: those of its topic that ended in the same moment are not over, but say something else now.
    pub fn raised(&mut self, topic: &PageTopic, at: Time) {
        let replaced = self.over.values_mut();
        for over in replaced.filter(|o| o.page.topic == *topic && o.at == at) {
            over.is_replaced = true;
        }
    }

    /// Only the last message of each page and level can still be of use.
    fn forget(&mut self, open: &BTreeMap<PageId, Paged>) {
        self.messages.retain(|seq, _| {
            let mut told = open.values().flat_map(|paged| paged.told.values());
            told.any(|calling| calling.message == *seq)
        });
    }

    /// When a level may be sent the next message.
    fn free(&self, level: u32, is_critical: bool) -> Time {
        let (messages, within) = pace(is_critical);
        match self.last.get(&(level, is_critical)) {
            Some(last) if last.len() >= messages => {
                last.front().map_or(Time::default(), |at| at.after(within))
            }
            Some(_) | None => Time::default(),
        }
    }
}

const fn pace(is_critical: bool) -> (usize, Span) {
    if is_critical { CRITICAL } else { ORDINARY }
}

/// Messages that are due, each as a record, critical pages first; and when the next one is.
#[must_use]
pub fn due(service: &Service, state: &State, now: Time) -> (Vec<RecordBody>, Option<Time>) {
    let mut next: Option<Time> = None;
    let mut messages: BTreeMap<(bool, u32, Option<&PageId>), BTreeMap<PageId, u32>> =
        BTreeMap::new();
    let levels = service.team.levels();
    for (id, paged) in state.pages.iter().filter(|(_, p)| p.acknowledged.is_none()) {
        let is_critical = paged.page.severity == Severity::Critical;
        // A question goes by itself: with what is lost by either answer, and how it is given.
        let question = matches!(paged.page.topic, PageTopic::Ask(_)).then_some(id);
        for (n, level) in hearing(&levels, paged.page.severity) {
            let Some((round, at)) = turn(&service.team, paged, n, level, now) else {
                continue;
            };
            let at = at.max(state.pager.free(n, is_critical));
            if at <= now {
                let message = messages.entry((!is_critical, n, question)).or_default();
                message.insert(id.clone(), round);
            } else {
                next = next.into_iter().chain([at]).min();
            }
        }
    }
    let records = messages
        .into_iter()
        .filter_map(|((_, n, _), pages)| {
            let level = levels.get(usize::try_from(n).ok()?)?;
            Some(RecordBody::TeamPaged {
                pages,
                level: n,
                to: level.to.clone(),
            })
        })
        .collect();
    (records, next)
}

/// The levels that hear of a page, each with its number.
fn hearing(
    levels: &[EscalationLevel],
    severity: Severity,
) -> impl Iterator<Item = (u32, &EscalationLevel)> {
    let numbered = (0..).zip(levels);
    numbered.filter(move |(_, l)| l.severity <= severity && !l.channels.is_empty())
}

/// When a level is sent a page next, and in which round that is; none where it has heard of it for good.
fn turn(
    team: &Team,
    paged: &Paged,
    n: u32,
    level: &EscalationLevel,
    now: Time,
) -> Option<(u32, Time)> {
    let every = team.round(paged.page.severity);
    let gone = every.map_or(0, |every| {
        now.since(paged.raised).as_millis() / every.as_millis()
    });
    let begins = |round: u64| {
        let every = every.unwrap_or_default();
        paged.raised.after(every.saturating_mul(round))
    };
    let round = u32::try_from(gone).unwrap_or(u32::MAX);
    match paged.told.get(&n) {
        // Nobody led when its time came: it is not left out.
        None if round > 0 => Some((round, now)),
        None => Some((round, begins(gone).after(level.after))),
        Some(calling) if calling.round < round => Some((round, begins(gone).after(level.after))),
        Some(_) => {
            every?;
            let next = round.saturating_add(1);
            Some((next, begins(gone.saturating_add(1)).after(level.after)))
        }
    }
}

/// Who is paged next if nobody acknowledges, and when.
#[must_use]
pub fn ahead(service: &Service, paged: &Paged, now: Time) -> Option<(Time, Vec<String>)> {
    if paged.acknowledged.is_some() {
        return None;
    }
    let levels = service.team.levels();
    let hearing = hearing(&levels, paged.page.severity);
    let turns = hearing.filter_map(|(n, level)| {
        let (_, at) = turn(&service.team, paged, n, level, now)?;
        Some((at.max(now), level.to.clone()))
    });
    turns.min_by_key(|(at, _)| *at)
}

/// Messages that this process has not sent yet.
#[must_use]
pub fn effects(state: &State, view: &mut View, now: Time) -> Vec<Effect> {
    let mut out = Vec::new();
    view.paged
        .retain(|seq| state.pager.messages.contains_key(seq));
    for (seq, message) in &state.pager.messages {
        let is_new = view.paged.insert(*seq);
        if is_new && now.since(message.at) < FRESH {
            out.push(Effect::Page(*seq));
        }
    }
    let over = &state.pager.over;
    view.over.retain(|id| over.contains_key(id));
    // Those of one moment go as one message, by whichever process.
    let mut ends: BTreeMap<Time, Vec<PageId>> = BTreeMap::new();
    for (id, over) in over {
        if view.over.insert(id.clone()) && now.since(over.at) < FRESH {
            ends.entry(over.at).or_default().push(id.clone());
        }
    }
    out.extend(ends.into_values().map(Effect::PageOver));
    out
}

/// Whether this process has sent a page that is sent once, or has nobody to send it to.
#[must_use]
pub fn is_sent(service: &Service, state: &State, view: &View, id: &PageId) -> bool {
    let levels = service.team.levels();
    let messages = &state.pager.messages;
    let sent = |seq: &Seq| messages.get(seq).is_some_and(|m| m.pages.contains_key(id));
    hearing(&levels, Severity::Info).next().is_none() || view.paged.iter().any(sent)
}

/// Several pages as one, for people. What each asks for stands with the page.
#[must_use]
pub fn together(service: &Service, pages: &[(&PageId, &Page)]) -> Page {
    let mut pages = pages.to_vec();
    pages.sort_by_key(|(_, page)| std::cmp::Reverse(page.severity));
    let worst = pages.first().map_or(Severity::Info, |(_, p)| p.severity);
    let topic = pages
        .first()
        .map_or(PageTopic::Incident, |(_, p)| p.topic.clone());
    Page {
        topic,
        severity: worst,
        title: format!("{}: {} pages", service.title, pages.len()),
        body: pages
            .iter()
            .map(|(id, page)| format!("[{}] {} ({id})", page.severity, page.title))
            .collect(),
        commands: vec![
            format!("failover status {}", service.name),
            format!("failover ack {}", service.name),
        ],
    }
}
