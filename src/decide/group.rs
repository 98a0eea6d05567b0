//! Groups: services that fail over together. Who may go, and what their audience hears, from what members report.
//!
//! As in the core of a service, state changes only by records, and what was merely heard is unknown after a restart: a
//! member reports again what its own journal says.

pub mod queue;
pub mod voice;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::{
    state::Told,
    turn::{Report, Stands, Word},
};
use crate::model::{
    announcement::{Phase, Tallies},
    group::{GroupRecord, ServiceGroup},
    id::{AnnouncementId, ChannelName, IncidentId, Seq, ServiceName},
    record::{Record, RecordBody},
    span::Span,
    time::Time,
};

/// Members that have not reported yet are waited for so long after a start.
pub const SETTLE: Span = Span::from_secs(30);
/// Every member hears where it stands at least this often.
const REPEAT: Span = Span::from_secs(30);
/// A channel that could not send is tried again after this.
const TELL_AGAIN: Span = Span::from_secs(300);
/// Nobody is told what is older than this.
const STALE: Span = Span::from_secs(24 * 3600);

/// What the journal says of a group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Last record.
    pub seq: Seq,
    /// The open incident.
    pub incident: Option<Incident>,
    /// Turns that were given and are not over.
    pub turns: BTreeMap<ServiceName, Turn>,
    /// Announcements that are not settled, and those of the open incident.
    pub announcements: BTreeMap<AnnouncementId, Told>,
}

/// An incident that spans services.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    /// Its id.
    pub id: IncidentId,
    /// When the first outage began.
    pub since: Time,
    /// When it was opened.
    pub opened: Time,
    /// Who is or was in it.
    pub members: BTreeSet<ServiceName>,
    /// Who is waited for no longer.
    pub passed: BTreeSet<ServiceName>,
    /// What the audience heard last.
    pub phase: Option<Phase>,
    /// Announcements made.
    pub told: u32,
}

/// A turn that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The record that gave it.
    pub seq: Seq,
    /// When.
    pub given: Time,
}

impl State {
    /// Takes in one record; the only place where state changes.
    pub fn apply(&mut self, record: &Record) {
        self.seq = record.seq;
        if let RecordBody::Group(event) = &record.body {
            self.happened(event, record);
        } else if let RecordBody::PhaseEntered {
            phase,
            announcement,
        } = &record.body
        {
            let told = Told {
                announcement: (**announcement).clone(),
                settled: None,
            };
            self.announcements.insert(announcement.id.clone(), told);
            if let Some(incident) = &mut self.incident {
                incident.phase = Some(*phase);
                incident.told += 1;
            }
        } else if let RecordBody::AnnouncementSettled {
            announcement,
            tallies,
        } = &record.body
        {
            if let Some(told) = self.announcements.get_mut(announcement) {
                told.settled = Some(tallies.clone());
            }
        } else if let RecordBody::IncidentClosed { .. } = &record.body {
            self.incident = None;
            self.turns.clear();
            self.announcements.retain(|_, told| told.settled.is_none());
        }
    }

    fn happened(&mut self, event: &GroupRecord, record: &Record) {
        match event {
            GroupRecord::Affected { members, since } => {
                let incident = self.incident.get_or_insert_with(|| Incident {
                    id: IncidentId::of(&record.chain, record.seq),
                    since: *since,
                    opened: record.at,
                    members: BTreeSet::new(),
                    passed: BTreeSet::new(),
                    phase: None,
                    told: 0,
                });
                incident.members.extend(members.iter().cloned());
            }
            GroupRecord::TurnGiven { member, .. } => {
                let turn = Turn {
                    seq: record.seq,
                    given: record.at,
                };
                self.turns.insert(member.clone(), turn);
                if let Some(incident) = &mut self.incident {
                    incident.passed.remove(member);
                }
            }
            GroupRecord::TurnOver { member, .. } => drop(self.turns.remove(member)),
            GroupRecord::Passed { member, .. } => {
                if let Some(incident) = &mut self.incident {
                    incident.passed.insert(member.clone());
                }
            }
        }
    }
}

/// What was merely heard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// When this process took up the chain.
    pub started: Option<Time>,
    /// What each member said last.
    pub reports: BTreeMap<ServiceName, Report>,
    /// Turns whose run was seen to be open.
    pub began: BTreeMap<ServiceName, Seq>,
    /// What each wave was told that it waits for: it stays the same sentence while the reason does.
    reasons: BTreeMap<usize, (queue::Why, String)>,
    /// What each member was told last, and when.
    words: BTreeMap<ServiceName, (Word, Time)>,
    /// Announcements whose fan-out runs in this process.
    announcing: BTreeSet<AnnouncementId>,
    /// Announcements of which a channel could not send, and when that is tried again.
    again: BTreeMap<AnnouncementId, Time>,
}

impl View {
    /// Whether every member has reported, as far as any is to be waited for.
    fn knows_all(&self, group: &ServiceGroup, now: Time) -> bool {
        let is_settled = self.started.is_none_or(|at| now.since(at) >= SETTLE);
        let mut members = group.members();
        is_settled || members.all(|(_, m)| self.reports.contains_key(&m.service))
    }
}

/// What is to be done, backed by records.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send an announcement.
    Announce(AnnouncementId),
    /// Say to a member where it stands.
    Say(ServiceName, Word),
}

/// What comes of a turn of the core.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// To be made durable; then the core is asked again.
    pub records: Vec<RecordBody>,
    /// To be done.
    pub effects: Vec<Effect>,
    /// When to ask again at the latest.
    pub wake: Option<Time>,
}

/// The core of a group.
#[derive(Clone, Debug)]
pub struct Core {
    group: ServiceGroup,
    state: State,
    view: View,
}

impl Core {
    /// A core for a group, before its chain is replayed.
    #[must_use]
    pub fn new(group: ServiceGroup) -> Self {
        Self {
            group,
            state: State::default(),
            view: View::default(),
        }
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> &ServiceGroup {
        &self.group
    }

    /// What the journal says.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Takes in a record, of an earlier process or of this one.
    pub fn apply(&mut self, record: &Record) {
        self.state.apply(record);
    }

    /// This process begins to decide.
    pub fn start(&mut self, now: Time) {
        self.view.started = Some(now);
    }

    /// Begins to use a changed document.
    pub fn reload(&mut self, group: ServiceGroup) {
        self.group = group;
        self.view.reasons.clear();
        self.view.words.clear();
    }

    /// Takes in what a member says.
    pub fn report(&mut self, report: Report) {
        let member = report.service.clone();
        if report.stands == Stands::Runs
            && let Some(turn) = self.state.turns.get(&member)
        {
            self.view.began.insert(member.clone(), turn.seq);
        }
        self.view.reports.insert(member, report);
    }

    /// A member does not run here any more.
    pub fn forget(&mut self, member: &ServiceName) {
        self.view.reports.remove(member);
        self.view.words.remove(member);
    }

    /// An announcement has nothing left to send for now.
    pub fn announced(
        &mut self,
        id: AnnouncementId,
        tallies: Tallies,
        broken: &BTreeMap<ChannelName, String>,
        now: Time,
    ) -> Vec<RecordBody> {
        self.view.announcing.remove(&id);
        let at = self.state.announcements.get(&id);
        let is_young = at.is_some_and(|told| now.since(told.announcement.at) < STALE);
        if !broken.is_empty() && is_young {
            self.view.again.insert(id, now.after(TELL_AGAIN));
            return Vec::new();
        }
        self.view.again.remove(&id);
        vec![RecordBody::AnnouncementSettled {
            announcement: id,
            tallies,
        }]
    }

    /// One decision. The caller makes `records` durable, passes each to [`Core::apply`], and calls again until there are
    /// none; only an output without records has effects.
    pub fn turn(&mut self, now: Time) -> Output {
        let mut records = self.affected(now);
        if records.is_empty() {
            records = queue::over(&self.state, &self.view);
        }
        if records.is_empty() {
            records = queue::give(&self.group, &self.state, &self.view, now);
        }
        if records.is_empty() {
            records.extend(voice::turn(&self.group, &self.state, &self.view, now));
        }
        if records.is_empty() {
            records.extend(self.closed(now));
        }
        if !records.is_empty() {
            return Output {
                records,
                ..Output::default()
            };
        }
        let mut effects = self.announcements(now);
        effects.extend(self.words(now));
        Output {
            records,
            effects,
            wake: Some(now.after(Span::from_secs(1))),
        }
    }

    /// Who is newly in an incident. After the first, they are gathered.
    fn affected(&self, now: Time) -> Vec<RecordBody> {
        let incident = self.state.incident.as_ref();
        let is_gathering = incident.is_some_and(|i| now.since(i.opened) < self.group.gather);
        let is_new = |service: &ServiceName| incident.is_none_or(|i| !i.members.contains(service));
        let of = |service: &ServiceName| self.view.reports.get(service);
        let new: Vec<&Report> = self
            .group
            .members()
            .filter_map(|(_, m)| of(&m.service))
            .filter(|r| r.outage.is_some() && is_new(&r.service))
            .collect();
        // Whoever waits is not gathered: its turn is an event of this incident.
        let is_pressing = new.iter().any(|r| r.stands >= Stands::Waits);
        let Some(since) = new.iter().filter_map(|r| r.outage).min() else {
            return Vec::new();
        };
        if is_gathering && !is_pressing {
            return Vec::new();
        }
        vec![RecordBody::Group(GroupRecord::Affected {
            members: new.iter().map(|r| r.service.clone()).collect(),
            since,
        })]
    }

    /// The incident is over once nobody is in one, everybody was told, and nobody holds a turn.
    fn closed(&self, now: Time) -> Option<RecordBody> {
        let incident = self.state.incident.as_ref()?;
        let is_over = |(_, report): (_, &Report)| report.outage.is_none();
        let is_known = self.view.knows_all(&self.group, now);
        let told = incident.phase.is_none_or(Phase::is_last);
        let sent = self
            .state
            .announcements
            .values()
            .all(|t| t.settled.is_some());
        let over = self.view.reports.iter().all(is_over);
        (is_known && over && told && sent && self.state.turns.is_empty()).then(|| {
            RecordBody::IncidentClosed {
                incident: incident.id.clone(),
                reason: "no member is in an incident any more".to_owned(),
            }
        })
    }

    fn announcements(&mut self, now: Time) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (id, told) in &self.state.announcements {
            let rests = self.view.again.get(id).is_some_and(|at| *at > now);
            if told.settled.is_none() && !rests && self.view.announcing.insert(id.clone()) {
                effects.push(Effect::Announce(id.clone()));
            }
        }
        effects
    }

    /// What members heard last, of those that still have to hear of it.
    #[must_use]
    pub fn said(&self) -> Vec<(ServiceName, Word)> {
        let words = self.view.words.iter();
        let is_waited = |m: &ServiceName| {
            let report = self.view.reports.get(m);
            report.is_some_and(|r| r.stands == Stands::Waits)
        };
        words
            .filter(|(m, _)| is_waited(m) && !self.state.turns.contains_key(*m))
            .map(|(m, (word, _))| (m.clone(), word.clone()))
            .collect()
    }

    /// What members are to hear: news at once, and the same again now and then.
    fn words(&mut self, now: Time) -> Vec<Effect> {
        queue::keep_reasons(&self.group, &self.state, &mut self.view, now);
        let mut effects = Vec::new();
        for (wave, member) in self.group.members() {
            let Some(report) = self.view.reports.get(&member.service) else {
                continue;
            };
            let word = match self.state.turns.get(&member.service) {
                Some(turn) => Word::Given(turn.seq),
                None => match self.view.reasons.get(&wave) {
                    Some((_, reason)) => Word::Behind(reason.clone()),
                    None => Word::Free,
                },
            };
            let is_heard = match &word {
                Word::Given(seq) => report.spent == Some(*seq),
                Word::Free | Word::Behind(_) | Word::Spent(_) => false,
            };
            let last = self.view.words.get(&member.service);
            let is_same = last.is_some_and(|(said, _)| *said == word);
            let is_fresh = last.is_some_and(|(_, at)| now.since(*at) < REPEAT);
            if (is_same && is_fresh) || is_heard {
                continue;
            }
            let said = (word.clone(), now);
            self.view.words.insert(member.service.clone(), said);
            effects.push(Effect::Say(member.service.clone(), word));
        }
        effects
    }
}
