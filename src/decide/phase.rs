//! The phases that customers hear of: derived from where incident and run stand.

use std::collections::BTreeMap;

use super::{
    detect::Need,
    incident, readiness,
    state::{Incident, Run, State, Step},
    view::View,
};
use crate::model::{
    announcement::{Announcement, Phase},
    id::{AnnouncementId, ChannelName},
    loss::LossForecast,
    plan::{Action, RunKind},
    record::{RecordBody, RunOutcome},
    service::{Mode, Service},
    span::Span,
    time::Time,
};

/// The phase that should be in force, as a record where it is not yet.
#[must_use]
pub fn turn(
    service: &Service,
    state: &State,
    view: &View,
    now: Time,
    need: Need,
) -> Option<RecordBody> {
    let incident = state.incident.as_ref()?;
    // Who heard of an outage before the mode was lowered also hears of its end.
    let observes = readiness::mode(service, state, now) == Mode::Observe;
    if observes && incident.phase.is_none() {
        return None;
    }
    let phase = wanted(service, state, view, incident, now, need)?;
    (incident.phase != Some(phase)).then(|| entered(service, state, incident, phase, None, now))
}

fn wanted(
    service: &Service,
    state: &State,
    view: &View,
    incident: &Incident,
    now: Time,
    need: Need,
) -> Option<Phase> {
    if let Some(run) = state.run.as_ref().filter(|r| r.kind.is_planned()) {
        // Beyond what was promised it is an outage, whatever it began as.
        let is_late = run
            .promised
            .is_some_and(|at| now.since(at) > service.objectives.rto);
        return Some(if is_late && run.verified.is_none() {
            Phase::Investigating
        } else {
            Phase::Maintenance
        });
    }
    let of_incident = |kind: RunKind| matches!(kind, RunKind::Failover | RunKind::Redirect);
    if let Some(run) = state.run.as_ref().filter(|r| of_incident(r.kind)) {
        return Some(if run.verified.is_some() && published(run) {
            Phase::OnStandby
        } else {
            Phase::FailingOver
        });
    }
    let done = state
        .last_run
        .as_ref()
        .filter(|r| r.incident.as_ref() == Some(&incident.id));
    let quiet = view
        .well_since
        .is_some_and(|since| now.since(since) >= incident::QUIET);
    if let Some(run) = done
        && let Some((RunOutcome::Done, _, ended)) = &run.ended
    {
        let fails_again = need != Need::Nothing && incident.outage > *ended;
        // After planned work everything is as it was meant to be. Else only a person says that it is as usual again.
        return match incident.phase {
            _ if fails_again => Some(Phase::Investigating),
            Some(Phase::Maintenance | Phase::MaintenanceOver) if quiet => Some(over(incident)),
            Some(Phase::Investigating) if !quiet => Some(Phase::Investigating),
            Some(
                phase @ (Phase::Recovered
                | Phase::Correction
                | Phase::Maintenance
                | Phase::MaintenanceOver),
            ) => Some(phase),
            // Whoever decided to go on without the proof also says that it serves.
            phase if run.verified.is_none() => phase,
            _ => Some(Phase::OnStandby),
        };
    }
    // What a person declared is over when a person says so: customers may see what probes do not.
    if incident.declared.is_some() && incident.resolved.is_none() && need == Need::Nothing {
        return incident.phase;
    }
    // A run that went back leads nobody anywhere: customers hear that as well.
    let went_back = done.is_some_and(|r| r.epoch.is_none());
    match incident.phase {
        Some(Phase::FailingOver)
            if went_back && (need != Need::Nothing || !incident::well(service, state)) =>
        {
            Some(Phase::Investigating)
        }
        Some(Phase::Maintenance) if need == Need::Nothing && quiet => Some(over(incident)),
        Some(Phase::Maintenance) if need == Need::Nothing => Some(Phase::Maintenance),
        None if need == Need::Nothing => None,
        None | Some(Phase::Maintenance) => Some(Phase::Investigating),
        Some(Phase::Investigating | Phase::FailingOver)
            if need == Need::Nothing && quiet && incident::well(service, state) =>
        {
            Some(Phase::Recovered)
        }
        // Customers who heard that it is over hear that it is not.
        Some(Phase::Recovered | Phase::MaintenanceOver) if need != Need::Nothing => {
            Some(Phase::Investigating)
        }
        Some(phase) => Some(phase),
    }
}

/// How planned work ends: it also ends an outage that it was done after.
fn over(incident: &Incident) -> Phase {
    if incident.components.is_empty() {
        Phase::MaintenanceOver
    } else {
        Phase::Recovered
    }
}

/// Whether every step that publishes is settled: nobody is told of an address before it was seen to work.
fn published(run: &Run) -> bool {
    run.steps()
        .filter(|(s, _)| is_fallback(&s.action))
        .all(|(_, at)| at.is_some_and(Step::is_settled))
}

fn is_fallback(action: &Action) -> bool {
    action.kind() == Some("publish/fallback")
}

/// Whether a run of this service publishes a fallback URL at all.
#[must_use]
pub fn publishes(service: &Service) -> bool {
    let mut steps = service.runbook.steps.iter();
    steps.any(|s| is_fallback(&s.action))
}

/// A channel that could not send is tried again after this.
pub const TELL_AGAIN: Span = Span::from_secs(300);
/// Nobody is told what is older than this.
const STALE: Span = Span::from_secs(24 * 3600);

/// Whether an announcement is still worth sending on channels that were broken: it is young, and none of them has been
/// given anything newer to say.
#[must_use]
pub fn is_due_again(
    state: &State,
    id: &AnnouncementId,
    broken: &BTreeMap<ChannelName, String>,
    now: Time,
) -> bool {
    let Some(told) = state.announcements.get(id) else {
        return false;
    };
    let (own, known) = (&told.announcement, &state.announcements);
    let is_open = state.incident.as_ref().map(|i| &i.id) == Some(&own.incident);
    let is_last = own.phase.is_last();
    let superseded = |channel: &ChannelName| {
        known
            .values()
            .map(|t| &t.announcement)
            .any(|other| other.at > own.at && other.channels.contains(channel))
    };
    now < own.at.after(STALE)
        && (is_open || is_last)
        && broken.keys().any(|channel| !superseded(channel))
}

/// The record of a phase with the announcement that it makes.
#[must_use]
pub fn entered(
    service: &Service,
    state: &State,
    incident: &Incident,
    phase: Phase,
    text: Option<String>,
    now: Time,
) -> RecordBody {
    let last = phase.is_last();
    let cadence = cadence(service, incident, now);
    let suffix = if incident.told == 0 {
        String::new()
    } else {
        format!("-{}", incident.told + 1)
    };
    let announcement = Announcement {
        id: AnnouncementId::new(format!("{}-{}{suffix}", incident.id, phase.word())),
        incident: incident.id.clone(),
        phase,
        at: now,
        started: incident.since,
        title: service.title.clone(),
        symptom: service.announcements.symptom.clone(),
        fallback_url: fallback(state, incident, phase),
        data_safety: data_safety(state, incident, phase),
        next_update: (!last).then(|| now.after(cadence)),
        less_often: less_often(service, state, incident, now).filter(|_| !last),
        status_url: service.publication.as_ref().and_then(|p| p.url.clone()),
        drill: state.run.as_ref().is_some_and(|r| r.kind == RunKind::Drill),
        text,
        channels: service
            .announcements
            .channels
            .iter()
            .filter(|c| {
                let heard = heard(state, incident, &c.name);
                // Who heard that a failover begins also hears that it does not.
                let takes_back = phase == Phase::Investigating && heard;
                (c.phases.contains(&phase) || takes_back) && (!last || heard)
            })
            .map(|c| c.name.clone())
            .collect(),
    };
    RecordBody::PhaseEntered {
        phase,
        announcement: Box::new(announcement),
    }
}

/// The longest time from now to the next update.
#[must_use]
pub fn cadence(service: &Service, incident: &Incident, now: Time) -> Span {
    let lasted = now.since(incident.since);
    service.announcements.cadence(lasted)
}

/// How often updates come from now on, where customers heard last that they come more often.
#[must_use]
pub fn less_often(
    service: &Service,
    state: &State,
    incident: &Incident,
    now: Time,
) -> Option<Span> {
    let cadence = cadence(service, incident, now);
    let heard = heard_last(state, incident)?;
    let promised = heard.next_update?.since(heard.at);
    (promised < cadence).then_some(cadence)
}

/// What customers heard last of the open incident.
#[must_use]
pub fn heard_last<'a>(state: &'a State, incident: &Incident) -> Option<&'a Announcement> {
    let told = state.announcements.values().map(|t| &t.announcement);
    told.filter(|a| a.incident == incident.id && !a.channels.is_empty())
        .max_by_key(|a| a.at)
}

/// When customers were promised to hear again.
#[must_use]
pub fn promised(state: &State) -> Option<Time> {
    heard_last(state, state.incident.as_ref()?)?.next_update
}

/// Whether a channel was told anything of this incident: nobody hears of the end of what he never heard of.
fn heard(state: &State, incident: &Incident, channel: &ChannelName) -> bool {
    state.announcements.values().any(|t| {
        t.announcement.incident == incident.id && t.announcement.channels.contains(channel)
    })
}

/// The URL that was seen to work from two vantage points, as the step that publishes it reported.
#[must_use]
pub fn fallback(state: &State, incident: &Incident, phase: Phase) -> Option<String> {
    if !matches!(phase, Phase::OnStandby | Phase::Correction) {
        return None;
    }
    let run = run_of(state, incident)?;
    run.steps()
        .filter(|(s, _)| is_fallback(&s.action))
        .find_map(|(_, at)| match at {
            Some(Step::Done(proof)) => proof.facts.get("url").cloned(),
            Some(
                Step::Intended { .. }
                | Step::Indeterminate { .. }
                | Step::Failed { .. }
                | Step::Settled(_),
            )
            | None => None,
        })
}

/// What is said of lost data, only where it is known.
#[must_use]
pub fn data_safety(state: &State, incident: &Incident, phase: Phase) -> Option<String> {
    if !matches!(phase, Phase::OnStandby | Phase::Recovered) {
        return None;
    }
    let run = run_of(state, incident).filter(|r| r.epoch.is_some())?;
    match &run.loss {
        LossForecast::Drained => Some("No data loss is known.".to_owned()),
        LossForecast::Known(lag) if lag.bytes == 0 => Some("No data loss is known.".to_owned()),
        LossForecast::Known(lag) => Some(format!(
            "Changes made in the last {} before the outage may be missing.",
            lag.time
        )),
        LossForecast::Restored(reach) => Some(format!(
            "Changes made after {} may be missing.",
            reach.archived.unwrap_or(reach.taken).date()
        )),
        LossForecast::Unknown { .. } => Some(
            "How much of the last changes before the outage is missing is not known yet."
                .to_owned(),
        ),
        LossForecast::Stateless => None,
    }
}

/// The run of an incident: the open one, or the one that ended last.
fn run_of<'a>(state: &'a State, incident: &Incident) -> Option<&'a Run> {
    let run = state.run.as_ref().or(state.last_run.as_ref())?;
    (run.incident.as_ref() == Some(&incident.id)).then_some(run)
}
