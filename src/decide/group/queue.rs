//! Who may go: wave by wave, so many at once, and nobody waits for ever for one that does not get on.

use super::{State, View};
use crate::{
    decide::turn::Stands,
    model::{
        group::{GroupRecord, Member, ServiceGroup},
        id::ServiceName,
        record::RecordBody,
        time::Time,
    },
};

/// Names that a reason lists.
const NAMES: usize = 3;

/// Why a wave does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Not every member has reported since the start.
    Unknown,
    /// Outages are still being gathered.
    Gathering,
    /// Members of this wave, from 0, go first.
    Wave(usize),
    /// As many runs are open as may be at once.
    Full,
}

/// Turns that are over: their run has ended, or they were given back.
pub fn over(state: &State, view: &View) -> Vec<RecordBody> {
    let ended = state.turns.iter().filter_map(|(member, turn)| {
        let report = view.reports.get(member)?;
        let began = view.began.get(member) == Some(&turn.seq);
        // What it says may be older than its turn.
        if !began && report.spent != Some(turn.seq) {
            return None;
        }
        let reason = match report.stands {
            Stands::Runs => return None,
            Stands::Clear if began => "its run has ended",
            Stands::Ahead | Stands::Waits if began => "its run has ended, and something is down",
            Stands::Clear | Stands::Ahead | Stands::Waits => "it gave its turn back",
        };
        Some(RecordBody::Group(GroupRecord::TurnOver {
            member: member.clone(),
            reason: reason.to_owned(),
        }))
    });
    ended.collect()
}

/// Turns that can be given now; where somebody waits behind one that does not get on, that one is passed first.
pub fn give(group: &ServiceGroup, state: &State, view: &View, now: Time) -> Vec<RecordBody> {
    let waits = |service: &ServiceName| {
        let report = view.reports.get(service);
        report.is_some_and(|r| r.stands == Stands::Waits) && !state.turns.contains_key(service)
    };
    let mut out = Vec::new();
    let mut open = busy(group, state, view).len();
    for (n, wave) in group.waves.iter().enumerate() {
        let mut waiting = wave.iter().filter(|m| waits(&m.service)).peekable();
        if waiting.peek().is_none() {
            continue;
        }
        match why(group, state, view, n, now) {
            Some(Why::Unknown | Why::Gathering) => break,
            Some(Why::Wave(_)) => {
                let members = group.waves[..n].iter().flatten();
                let ahead = members.filter(|m| is_ahead(state, view, &m.service));
                out.extend(ahead.filter_map(|m| passed(group, state, view, &m.service, now)));
                break;
            }
            Some(Why::Full) | None => {}
        }
        for member in waiting {
            if open >= group.at_once {
                let busy = busy(group, state, view);
                out.extend(
                    busy.iter()
                        .filter_map(|m| passed(group, state, view, m, now)),
                );
                return out;
            }
            open += 1;
            out.push(RecordBody::Group(GroupRecord::TurnGiven {
                member: member.service.clone(),
                wave: n + 1,
            }));
        }
    }
    out
}

/// Why a wave waits now; none where one of it could go.
fn why(group: &ServiceGroup, state: &State, view: &View, wave: usize, now: Time) -> Option<Why> {
    if !view.knows_all(group, now) {
        return Some(Why::Unknown);
    }
    let opened = state.incident.as_ref().map(|i| i.opened);
    if wave > 0 && opened.is_some_and(|at| now.since(at) < group.gather) {
        return Some(Why::Gathering);
    }
    let before = group.waves[..wave].iter().enumerate();
    let ahead = |wave: &[Member]| wave.iter().any(|m| is_ahead(state, view, &m.service));
    if let Some((n, _)) = before.into_iter().find(|(_, wave)| ahead(wave)) {
        return Some(Why::Wave(n));
    }
    (busy(group, state, view).len() >= group.at_once).then_some(Why::Full)
}

/// Whether those of later waves wait for it.
fn is_ahead(state: &State, view: &View, member: &ServiceName) -> bool {
    let is_passed = state
        .incident
        .as_ref()
        .is_some_and(|i| i.passed.contains(member));
    let stands = view.reports.get(member).map(|r| r.stands);
    let is_in_it = state.turns.contains_key(member)
        || matches!(stands, Some(Stands::Ahead | Stands::Waits | Stands::Runs));
    is_in_it && !is_passed
}

/// Those that take one of the places: whoever has a turn or a run, and gets on.
fn busy(group: &ServiceGroup, state: &State, view: &View) -> Vec<ServiceName> {
    let runs = |m: &ServiceName| {
        let report = view.reports.get(m);
        report.is_some_and(|r| r.stands == Stands::Runs)
    };
    let is_passed = |m: &ServiceName| {
        let incident = state.incident.as_ref();
        incident.is_some_and(|i| i.passed.contains(m))
    };
    let members = group.members().map(|(_, m)| &m.service);
    // Whoever left the group in the middle still holds what it was given.
    let gone = state.turns.keys().filter(|m| !group.has(m));
    members
        .filter(|m| state.turns.contains_key(*m) || runs(m))
        .chain(gone)
        .filter(|m| !is_passed(m))
        .cloned()
        .collect()
}

/// That nobody waits for it any longer, where it has had its time.
fn passed(
    group: &ServiceGroup,
    state: &State,
    view: &View,
    member: &ServiceName,
    now: Time,
) -> Option<RecordBody> {
    let incident = state.incident.as_ref()?;
    let report = view.reports.get(member);
    let stands = report.map_or(Stands::Clear, |r| r.stands);
    let turn = state.turns.get(member);
    // Whoever waits for its own turn waits for others, each of which has its time.
    if stands == Stands::Waits && turn.is_none() {
        return None;
    }
    let since = match (turn, report.and_then(|r| r.outage)) {
        (Some(turn), _) => turn.given,
        (None, Some(outage)) => outage.max(incident.opened),
        (None, None) => incident.opened,
    };
    if now.since(since) < group.wait_at_most {
        return None;
    }
    let what = match stands {
        Stands::Runs => "its run is still open",
        Stands::Waits => "it has not begun its run",
        Stands::Ahead => "it is down and begins no run",
        Stands::Clear => "nothing was heard of its turn",
    };
    Some(RecordBody::Group(GroupRecord::Passed {
        member: member.clone(),
        reason: format!("{what} after {}", group.wait_at_most),
    }))
}

/// Brings what waves are told up to date: one sentence for as long as one reason lasts.
pub fn keep_reasons(group: &ServiceGroup, state: &State, view: &mut View, now: Time) {
    for n in 0..group.waves.len() {
        let Some(why) = why(group, state, view, n, now) else {
            view.reasons.remove(&n);
            continue;
        };
        if view.reasons.get(&n).is_some_and(|(old, _)| *old == why) {
            continue;
        }
        let reason = words(group, state, view, why, now);
        view.reasons.insert(n, (why, reason));
    }
}

fn words(group: &ServiceGroup, state: &State, view: &View, why: Why, now: Time) -> String {
    let since = now.clock();
    match why {
        Why::Unknown => "not every member of it has been heard since the start".to_owned(),
        Why::Gathering => format!(
            "outages are gathered for {} before a later wave goes",
            group.gather
        ),
        Why::Wave(wave) => {
            let members = group.waves[wave].iter().map(|m| &m.service);
            let ahead: Vec<_> = members.filter(|m| is_ahead(state, view, m)).collect();
            format!(
                "wave {} goes first since {since}: {}",
                wave + 1,
                names(&ahead)
            )
        }
        Why::Full => format!(
            "{} of the group are under way since {since}, and no more may be at once",
            group.at_once
        ),
    }
}

fn names(all: &[&ServiceName]) -> String {
    let shown: Vec<&str> = all.iter().take(NAMES).map(|m| m.as_str()).collect();
    let shown = shown.join(", ");
    match all.len().saturating_sub(NAMES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
