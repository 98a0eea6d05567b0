//! A live drill: the service is moved in order to its other site, stays there for a while, and comes home.
//!
//! Both moves are runs like any other planned work, with their records, their incident and their questions; the drill only
//! asks for the first, begins the second, and judges both. Whatever else begins a run ends it.

use super::{Drill, blocked, hindrances, lags, report};
use crate::{
    decide::{
        gate::Says,
        incident::{self, Proposal},
        lag, readiness,
        state::State,
        view::View,
    },
    model::{
        approval::AskSubject,
        drill::DrillOutcome,
        id::{IncidentId, PersonName},
        plan::Plan,
        record::{LegPlan, LivePlan, RecordBody, RunOutcome},
        service::{Mode, Service},
        span::Span,
        time::Time,
    },
};

/// What a live drill does next.
#[must_use]
pub fn turn(
    service: &Service,
    state: &State,
    view: &View,
    drill: &Drill,
    now: Time,
) -> Vec<RecordBody> {
    let Some(live) = &drill.what.live else {
        return Vec::new();
    };
    match drill.legs.as_slice() {
        [] => before(service, state, view, drill, live, now),
        [there] => match &there.ended {
            None => Vec::new(),
            Some((RunOutcome::Done, at)) => stay(service, state, view, drill, live, *at, now),
            Some((RunOutcome::Aborted | RunOutcome::Unwound | RunOutcome::Stuck, _)) => {
                judged(drill, DrillOutcome::Failed, shortcomings(drill))
            }
        },
        [_, home, ..] if home.ended.is_none() => Vec::new(),
        [_, _, ..] => {
            let reasons = shortcomings(drill);
            let outcome = if reasons.is_empty() {
                DrillOutcome::Passed
            } else {
                DrillOutcome::Failed
            };
            judged(drill, outcome, reasons)
        }
    }
}

/// A single look that fails at the moment of leaving strands nobody: the way home waits so long at least.
const SHORTEST_GRACE: Span = Span::from_secs(60);

fn judged(drill: &Drill, outcome: DrillOutcome, reasons: Vec<String>) -> Vec<RecordBody> {
    vec![RecordBody::DrillJudged {
        drill: drill.id.clone(),
        outcome,
        reasons,
    }]
}

fn shortcomings(drill: &Drill) -> Vec<String> {
    let report = report::of(&drill.records);
    report.map(|r| r.shortcomings()).unwrap_or_default()
}

/// Nothing was moved yet: people are asked first, whoever asked for it.
fn before(
    service: &Service,
    state: &State,
    view: &View,
    drill: &Drill,
    live: &LivePlan,
    now: Time,
) -> Vec<RecordBody> {
    let broken = |reasons| judged(drill, DrillOutcome::BrokenOff, reasons);
    if let Some(reason) = disturbance(service, state) {
        return broken(vec![reason]);
    }
    let subject = AskSubject::Drill {
        drill: drill.id.clone(),
    };
    let mut questions = state.asks.values();
    let approved = match questions.find(|q| q.ask.subject == subject) {
        Some(q) if q.granted => {
            let since = q.settled.unwrap_or(q.opened);
            Some((
                q.approved.clone(),
                since.after(live.grace.max(SHORTEST_GRACE)),
            ))
        }
        Some(_) => return Vec::new(),
        None if drill.asked => return broken(vec!["it was not approved".to_owned()]),
        None => None,
    };
    let latest = approved.as_ref().map(|(_, latest)| *latest);
    let proposal = match proposed(service, state, view, &live.there, now) {
        Ok(_) if latest.is_some_and(|latest| now > latest) => {
            return broken(vec!["it was approved too long ago".to_owned()]);
        }
        Ok(proposal) => proposal,
        // What was approved is not given up for a single look that failed.
        Err(_) if latest.is_some_and(|latest| now < latest) => return Vec::new(),
        Err(reasons) => return broken(reasons),
    };
    let Some((approved, _)) = approved else {
        return vec![question(service, drill, live, &proposal, subject, now)];
    };
    // It was due before the window, and people took their time.
    if drill.requester.is_none() {
        let policy = service.drills.iter().find(|p| p.name == drill.what.policy);
        let closed = policy.map(|p| blocked(service, p, now)).unwrap_or_default();
        if !closed.is_empty() {
            return broken(closed);
        }
    }
    opened(service, state, view, drill, &proposal, approved, now)
}

fn question(
    service: &Service,
    drill: &Drill,
    live: &LivePlan,
    proposal: &Proposal,
    subject: AskSubject,
    now: Time,
) -> RecordBody {
    let Plan { from, to, .. } = &live.there.plan;
    let name = &drill.what.policy;
    let reasons = vec![
        match &drill.requester {
            Some(by) => format!("{by} asked for drill {name}: {}", drill.reason),
            None => format!("drill {name} is due by its schedule"),
        },
        format!(
            "it moves production from {from} to {to}, stays there for {}, and moves it back without asking again",
            live.stay
        ),
    ];
    let mut ask = incident::question(service, proposal, drill.requester.clone(), reasons);
    ask.subject = subject;
    RecordBody::AskOpened {
        ask: Box::new(ask),
        plan: Some(Box::new(proposal.plan.clone())),
        expires: now.after(service.approvals.expiry),
    }
}

/// The service is at the other site: it is watched for a while, then it goes home.
fn stay(
    service: &Service,
    state: &State,
    view: &View,
    drill: &Drill,
    live: &LivePlan,
    arrived: Time,
    now: Time,
) -> Vec<RecordBody> {
    if let Some(reason) = disturbance(service, state) {
        return judged(drill, DrillOutcome::BrokenOff, vec![reason]);
    }
    if state.active.as_ref() != Some(&live.there.plan.to) {
        let reason = "the service was moved past it".to_owned();
        return judged(drill, DrillOutcome::BrokenOff, vec![reason]);
    }
    let leaves = arrived.after(live.stay);
    if now < leaves {
        return Vec::new();
    }
    let latest = leaves.after(live.grace.max(SHORTEST_GRACE));
    match proposed(service, state, view, &live.home, now) {
        Ok(p) if now <= latest => opened(service, state, view, drill, &p, Vec::new(), now),
        Ok(_) => {
            let why = format!("it was to go home by {}, and could not", latest.date());
            let reasons = [why].into_iter().chain(shortcomings(drill));
            judged(drill, DrillOutcome::Failed, reasons.collect())
        }
        Err(_) if now < latest => Vec::new(),
        Err(reasons) => {
            let why = format!("the way back could not be begun: {}", reasons.join("; "));
            let reasons = [why].into_iter().chain(shortcomings(drill));
            judged(drill, DrillOutcome::Failed, reasons.collect())
        }
    }
}

/// What goes before it while no run of its own is open.
fn disturbance(service: &Service, state: &State) -> Option<String> {
    super::disturbance(service, state).or_else(|| {
        let incident = state.incident.as_ref()?;
        (!incident.components.is_empty()).then(|| format!("incident {} is open", incident.id))
    })
}

/// The move, if nothing stands in its way and it is still the one that was approved.
fn proposed(
    service: &Service,
    state: &State,
    view: &View,
    leg: &LegPlan,
    now: Time,
) -> Result<Proposal, Vec<String>> {
    let kind = leg.plan.kind;
    let mut reasons = hindrances(service, state, view, now);
    if readiness::mode(service, state, now) == Mode::Observe {
        reasons.push("the mode is observe: nothing is moved".to_owned());
    }
    let to = Some(&leg.plan.to);
    let found = incident::propose(service, state, view, kind, to, now, now);
    let proposal = found.map_err(|e| vec![format!("no {kind} can be planned: {e}")])?;
    if proposal.plan != leg.plan {
        reasons.push(format!("the plan of the {kind} changed since it began"));
    }
    let behind = lag::forecast(service, state, view, &leg.plan.to, now, now);
    reasons.extend(lags(service, &behind));
    let concerns = proposal.answers.iter().filter(|a| {
        // Whoever approved it knows of these; a pause stands above.
        a.says != Says::Allow && !matches!(a.gate, "mode" | "trigger" | "pause" | "maintenance")
    });
    reasons.extend(concerns.map(|a| a.reason.clone()));
    if reasons.is_empty() {
        Ok(proposal)
    } else {
        Err(reasons)
    }
}

/// The records that begin a move of this drill.
fn opened(
    service: &Service,
    state: &State,
    view: &View,
    drill: &Drill,
    proposal: &Proposal,
    approved: Vec<PersonName>,
    now: Time,
) -> Vec<RecordBody> {
    let why = format!(
        "drill {} ({}): {}",
        drill.id, drill.what.policy, drill.reason
    );
    let mut records = Vec::new();
    let incident = state.incident.as_ref().map_or_else(
        || IncidentId::of(&service.name, state.seq.next()),
        |i| i.id.clone(),
    );
    if state.incident.is_none() {
        records.push(RecordBody::IncidentOpened {
            components: Vec::new(),
            since: now,
            reason: why.clone(),
            loss: incident::loss_now(service, state, view, now, now),
        });
    }
    let requester = drill.requester.clone();
    let mut run = incident::opened(proposal, Some(&incident), now, why, requester, approved);
    if let RecordBody::RunOpened { drill: of, .. } = &mut run {
        *of = Some(drill.id.clone());
    }
    records.push(run);
    records
}

/// What is left of it where the service is not at home again.
#[must_use]
pub fn left(service: &Service, state: &State, drill: &Drill) -> Vec<String> {
    let Some(live) = drill.what.live.as_ref().filter(|_| !drill.legs.is_empty()) else {
        return Vec::new();
    };
    let home = &live.there.plan.from;
    let mut runs = drill.legs.iter();
    match (&state.run, &state.active) {
        (Some(run), _) if runs.any(|own| own.run == run.id) => vec![format!(
            "{} {} goes on: `failover abort {}` stops it before it promotes",
            run.kind, run.id, run.id
        )],
        (None, Some(active)) if active != home => vec![format!(
            "the service stays at {active}: `failover {} {}` brings it home",
            live.home.plan.kind, service.name
        )],
        (Some(_) | None, Some(_) | None) => Vec::new(),
    }
}
