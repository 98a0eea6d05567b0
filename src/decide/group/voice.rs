//! What the audience of a group hears: one announcement for all members in an incident, by phase.

use std::collections::BTreeMap;

use super::{Incident, State, View};
use crate::model::{
    announcement::{Announcement, Phase},
    group::ServiceGroup,
    id::{AnnouncementId, ChannelName, ServiceName},
    record::RecordBody,
    time::Time,
};

/// Names that an announcement lists.
const NAMES: usize = 5;

/// The announcement that is due, as a record: a phase began, or an update was promised and there is news.
pub fn turn(group: &ServiceGroup, state: &State, view: &View, now: Time) -> Option<RecordBody> {
    let incident = state.incident.as_ref()?;
    if incident.phase.is_none() && now.since(incident.opened) < group.gather {
        return None;
    }
    // Nobody is told that it is over by a process that has not heard of everybody yet.
    if !view.knows_all(group, now) {
        return None;
    }
    let phases = phases(incident, view);
    let phase = wanted(incident, &phases)?;
    let symptom = symptom(group, incident, &phases, phase);
    let last = state
        .announcements
        .values()
        .map(|t| &t.announcement)
        .filter(|a| a.incident == incident.id)
        .max_by_key(|a| a.at);
    let is_due = last.is_some_and(|a| {
        a.next_update.is_some_and(|at| at <= now) && a.symptom != symptom && !a.channels.is_empty()
    });
    (incident.phase != Some(phase) || is_due)
        .then(|| entered(group, state, incident, phase, symptom, now))
}

/// What members told their own customers, of those that are in an incident now.
fn phases<'a>(incident: &'a Incident, view: &'a View) -> BTreeMap<&'a ServiceName, Phase> {
    let of = |m: &'a ServiceName| Some((m, view.reports.get(m)?.phase?));
    incident.members.iter().filter_map(of).collect()
}

fn wanted(incident: &Incident, phases: &BTreeMap<&ServiceName, Phase>) -> Option<Phase> {
    // A person corrects what was said of one service: of all of them nothing else is said by that.
    if phases.values().any(|p| *p == Phase::Correction) {
        return incident.phase;
    }
    let open = || phases.values().filter(|p| !p.is_last());
    if open().next().is_none() {
        // Nobody hears of the end of what nobody heard of.
        return incident.phase.map(|_| Phase::Recovered);
    }
    if open().all(|p| *p == Phase::OnStandby) {
        return Some(Phase::OnStandby);
    }
    let moves = |p: &Phase| matches!(p, Phase::FailingOver | Phase::OnStandby);
    if open().any(moves) {
        return Some(Phase::FailingOver);
    }
    Some(Phase::Investigating)
}

/// Which services, and how far they are.
fn symptom(
    group: &ServiceGroup,
    incident: &Incident,
    phases: &BTreeMap<&ServiceName, Phase>,
    phase: Phase,
) -> String {
    let members = group.members().map(|(_, m)| m);
    let titles: Vec<&str> = members
        .filter(|m| incident.members.contains(&m.service))
        .map(|m| m.title.as_str())
        .collect();
    let all = titles.len();
    let shown = titles
        .iter()
        .take(NAMES)
        .copied()
        .collect::<Vec<_>>()
        .join(", ");
    let who = match all.saturating_sub(NAMES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    };
    let moved = phases.values().filter(|p| **p == Phase::OnStandby).count();
    let back = incident
        .members
        .iter()
        .filter(|m| !phases.contains_key(m))
        .count()
        + phases.values().filter(|p| p.is_last()).count();
    let left = all.saturating_sub(moved + back);
    match phase {
        Phase::Investigating if moved + back == 0 => format!("Affected: {who}."),
        Phase::Investigating | Phase::FailingOver => format!(
            "Affected: {who}. On the standby site: {moved} of {all}; as usual again: {back}; left: {left}."
        ),
        Phase::OnStandby => format!("Affected: {who}. On the standby site: {moved} of {all}."),
        Phase::Recovered | Phase::Correction | Phase::Maintenance | Phase::MaintenanceOver => {
            format!("Affected were: {who}.")
        }
    }
}

fn entered(
    group: &ServiceGroup,
    state: &State,
    incident: &Incident,
    phase: Phase,
    symptom: String,
    now: Time,
) -> RecordBody {
    let last = phase.is_last();
    let said = &group.announcements;
    let is_heard = |channel: &ChannelName| {
        let told = state.announcements.values().map(|t| &t.announcement);
        told.into_iter()
            .any(|a| a.incident == incident.id && a.channels.contains(channel))
    };
    let channels = said.channels.iter().filter(|c| {
        let heard = is_heard(&c.name);
        // Who heard that a failover begins also hears that it does not.
        let takes_back = phase == Phase::Investigating && heard;
        (c.phases.contains(&phase) || takes_back) && (!last || heard)
    });
    let announcement = Announcement {
        id: AnnouncementId::new(format!(
            "{}-{}-{}",
            incident.id,
            phase.word(),
            incident.told + 1
        )),
        incident: incident.id.clone(),
        phase,
        at: now,
        started: incident.since,
        title: group.title.clone(),
        symptom,
        fallback_url: None,
        data_safety: None,
        less_often: None,
        next_update: (!last).then(|| now.after(said.cadence)),
        status_url: group.status_url.clone(),
        drill: false,
        text: None,
        channels: channels.map(|c| c.name.clone()).collect(),
    };
    RecordBody::PhaseEntered {
        phase,
        announcement: Box::new(announcement),
    }
}
