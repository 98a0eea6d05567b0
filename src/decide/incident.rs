//! Incidents: when one opens and closes, and what is done about it.

use super::{
    budget, compile,
    detect::{self, Need},
    gate::{self, Says},
    lag, readiness,
    restore::{self, Way},
    state::{Incident, Question, State},
    turn,
    view::View,
};
use crate::model::{
    announcement::Phase,
    approval::{Ask, AskSubject},
    id::{AskId, IncidentId, SiteName},
    loss::LossForecast,
    observation::Lsn,
    plan::{Plan, RunKind},
    record::{AskOutcome, ForecastPart, RecordBody},
    service::{Mode, Service},
    site::SiteRole,
    span::Span,
    time::Time,
    verdict::Verdict,
};

/// All is well for so long before an incident is closed: a flapping primary is one incident, not ten.
pub const QUIET: Span = Span::from_secs(60);

/// Changes of verdicts since they were last recorded.
#[must_use]
pub fn verdicts(service: &Service, state: &State, view: &View, now: Time) -> Vec<RecordBody> {
    let mut out = Vec::new();
    for component in &service.components {
        let from = state
            .verdicts
            .get(&component.name)
            .map_or(Verdict::Inconclusive, |v| v.0);
        if detect::verdict(service, component, state, view, now) != from {
            let judged = detect::judge(service, component, state, view, now);
            out.push(RecordBody::VerdictChanged {
                component: component.name.clone(),
                from,
                to: judged.verdict,
                reason: judged.reason,
                witnesses: judged.witnesses,
            });
        }
    }
    out
}

/// Whether an incident opens or closes.
#[must_use]
pub fn turn(service: &Service, state: &State, view: &View, now: Time) -> Vec<RecordBody> {
    let need = detect::need(service, &state.verdicts);
    match &state.incident {
        None if need != Need::Nothing => vec![open(service, state, view, now)],
        Some(incident) if closes(state, view, incident, need, now) => {
            vec![RecordBody::IncidentClosed {
                incident: incident.id.clone(),
                reason: format!("every component has been well for {QUIET}"),
            }]
        }
        Some(_) | None => Vec::new(),
    }
}

/// Whether every verdict is one that people call well.
#[must_use]
pub fn well(service: &Service, state: &State) -> bool {
    let verdict = |c: &crate::model::service::Component| {
        state
            .verdicts
            .get(&c.name)
            .map_or(Verdict::Inconclusive, |v| v.0)
    };
    service
        .components
        .iter()
        .all(|c| matches!(verdict(c), Verdict::Healthy | Verdict::Degraded))
}

fn closes(state: &State, view: &View, incident: &Incident, need: Need, now: Time) -> bool {
    let quiet = view
        .well_since
        .is_some_and(|since| now.since(since) >= QUIET);
    let told = incident.phase.is_none_or(Phase::is_last);
    let sent = state
        .announcements
        .values()
        .all(|t| t.announcement.incident != incident.id || t.settled.is_some());
    need == Need::Nothing
        && (incident.declared.is_none() || incident.resolved.is_some())
        && quiet
        && told
        && sent
        && state.run.is_none()
        && state.unacknowledged.is_none()
        && state.asks.is_empty()
}

fn open(service: &Service, state: &State, view: &View, now: Time) -> RecordBody {
    let mut since = now;
    let mut reasons = Vec::new();
    let mut components = Vec::new();
    for component in &service.components {
        if state
            .verdicts
            .get(&component.name)
            .is_some_and(|v| v.0 == Verdict::Down)
        {
            let judged = detect::judge(service, component, state, view, now);
            since = since.min(judged.failing_since.unwrap_or(now));
            reasons.push(judged.reason);
            components.push(component.name.clone());
        }
    }
    RecordBody::IncidentOpened {
        components,
        since,
        reason: reasons.join("; "),
        loss: loss_now(service, state, view, since, now),
    }
}

/// What a failover to the first standby would lose.
#[must_use]
pub fn loss_now(
    service: &Service,
    state: &State,
    view: &View,
    since: Time,
    now: Time,
) -> LossForecast {
    let to = state.active.as_ref().and_then(|a| target(service, a));
    match to {
        Some(to) => lag::forecast(service, state, view, &to, since, now),
        None => LossForecast::Unknown {
            reason: "there is no standby".to_owned(),
        },
    }
}

/// A run that could be begun: everything that was worked out about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// What for.
    pub kind: RunKind,
    /// The plan.
    pub plan: Plan,
    /// What would be lost.
    pub loss: LossForecast,
    /// Part by part.
    pub parts: Vec<ForecastPart>,
    /// What the gates say.
    pub answers: Vec<gate::Answer>,
}

/// Works out a run.
///
/// # Errors
/// In one sentence, where no plan can be made.
pub fn propose(
    service: &Service,
    state: &State,
    view: &View,
    kind: RunKind,
    to: Option<&SiteName>,
    since: Time,
    now: Time,
) -> Result<Proposal, String> {
    let from = leaves(state, kind).ok_or("the active site is not known yet")?;
    let to = match to {
        Some(to) if service.site(to).is_none() => {
            let known: Vec<&str> = service.sites.iter().map(|s| s.name.as_str()).collect();
            return Err(format!(
                "there is no site {to}; known are {}",
                known.join(", ")
            ));
        }
        Some(to) => to.clone(),
        None if kind == RunKind::Failback => service
            .primary()
            .map(|p| p.name.clone())
            .filter(|p| p != from)
            .ok_or_else(|| {
                format!("{from} is the primary of the documents: nothing is to be brought back")
            })?,
        None => newest(service, view, kind, from, now)
            .or_else(|| target(service, from))
            .ok_or("there is no other site to go to")?,
    };
    if &to == from {
        return Err(format!("{to} is the site that is to be left"));
    }
    let way = restore::way(service, state, view, kind, &to, now)?;
    let plan = compile::along(service, kind, from, &to, &way).map_err(|e| e.to_string())?;
    let loss = match (kind, &way) {
        (RunKind::Redirect, _) => LossForecast::Stateless,
        (_, Way::Restore(found)) => restore::loss(&plan, view, found, since),
        (
            RunKind::Failover | RunKind::Switchover | RunKind::Failback | RunKind::Drill,
            Way::Promote(_),
        ) => {
            let forecast = lag::forecast(service, state, view, &to, since, now);
            if forecast != LossForecast::Stateless && kind.is_planned() && drains(&plan) {
                LossForecast::Drained
            } else {
                forecast
            }
        }
    };
    let parts = budget::forecast(service, state, &plan);
    let answers = gate::answers(service, state, view, &plan, &loss, now);
    Ok(Proposal {
        kind,
        plan,
        loss,
        parts,
        answers,
    })
}

/// Steps that stop writes in order and wait until the standby has them all.
const DRAINS: [&str; 2] = ["command/drain", "guard/drain"];

fn drains(plan: &Plan) -> bool {
    let mut kinds = plan.steps.iter().filter_map(|s| s.action.kind());
    kinds.any(|kind| DRAINS.contains(&kind))
}

/// The site that a run leaves: a redirect takes traffic away from where it goes now.
#[must_use]
pub fn leaves(state: &State, kind: RunKind) -> Option<&SiteName> {
    match kind {
        RunKind::Redirect => state.serving.as_ref(),
        RunKind::Failover | RunKind::Switchover | RunKind::Failback | RunKind::Drill => {
            state.active.as_ref()
        }
    }
}

/// Where to go: the first standby in the document's order, else any other site.
#[must_use]
pub fn target(service: &Service, from: &SiteName) -> Option<SiteName> {
    let others = || service.sites.iter().filter(|s| &s.name != from);
    others()
        .find(|s| s.role == SiteRole::Standby)
        .or_else(|| others().next())
        .map(|s| s.name.clone())
}

/// Of several standbys that the steps lead to, the one whose database was seen to have the most, the first in the
/// document's order where that is the same; none where it makes no difference.
fn newest(
    service: &Service,
    view: &View,
    kind: RunKind,
    from: &SiteName,
    now: Time,
) -> Option<SiteName> {
    if kind == RunKind::Redirect || !compile::leads_anywhere(service, kind) {
        return None;
    }
    let standbys = service
        .sites
        .iter()
        .filter(|s| &s.name != from && s.role == SiteRole::Standby)
        // Where guards promote, only a site that has one can take over.
        .filter(|s| {
            service
                .guards
                .as_ref()
                .is_none_or(|g| g.sites.contains_key(&s.name))
        });
    let mut best: Option<(Lsn, &SiteName)> = None;
    for site in standbys {
        let Some((_, facts)) = lag::standby(service, view, &site.name, now) else {
            continue;
        };
        // What follows another history than the primary's is not newer, whatever its position says.
        if lag::strayed(view, &site.name).is_some() {
            continue;
        }
        let Some(has) = facts.received.max(facts.replayed) else {
            continue;
        };
        if best.is_none_or(|(most, _)| has > most) {
            best = Some((has, &site.name));
        }
    }
    best.map(|(_, site)| site.clone())
}

/// What is done about an open incident: records, and when to look again.
#[must_use]
pub fn consider(
    service: &Service,
    state: &State,
    view: &View,
    now: Time,
) -> (Vec<RecordBody>, Option<Time>) {
    if state.run.is_some() {
        return (Vec::new(), None);
    }
    if let Some(found) = granted(service, state, view, now) {
        return (found, None);
    }
    if !detect::sees_all(service, view, now) {
        return (Vec::new(), None);
    }
    let Some(incident) = &state.incident else {
        return (Vec::new(), None);
    };
    let need = detect::need(service, &state.verdicts);
    let kind = match need {
        // What cannot be seen any more is not well again.
        Need::Nothing if !well(service, state) => return (Vec::new(), None),
        Need::Nothing => return (calm(state, incident), None),
        Need::Unclear if now < settled(service, state) => {
            return (Vec::new(), Some(settled(service, state)));
        }
        Need::Unclear => {
            let reason = "the application is down, and whether its database is well cannot be told: nothing is concluded".to_owned();
            return (held(incident, vec![reason]), None);
        }
        Need::Failover => RunKind::Failover,
        Need::Redirect => RunKind::Redirect,
    };
    match propose(service, state, view, kind, None, incident.outage, now) {
        Ok(proposal) => decide(service, state, view, incident, &proposal, now),
        Err(reason) => (held(incident, vec![reason]), None),
    }
}

/// When the verdicts count as settled: in the first moments of an outage, and of its end, those of an application and
/// of its database follow each other within what the slowest probe takes to be believed.
fn settled(service: &Service, state: &State) -> Time {
    let last = state.verdicts.values().map(|(_, since)| *since).max();
    last.unwrap_or_default()
        .after(budget::slowest_detection(service))
}

fn decide(
    service: &Service,
    state: &State,
    view: &View,
    incident: &Incident,
    proposal: &Proposal,
    now: Time,
) -> (Vec<RecordBody>, Option<Time>) {
    let due = budget::due(service, incident.outage, &proposal.parts);
    if readiness::mode(service, state, now) == Mode::Observe {
        return match due {
            Some((at, _)) if now < at => (Vec::new(), Some(at)),
            Some(_) | None => (would_act(incident, proposal), None),
        };
    }
    let answers = gate::but_turn(&proposal.answers);
    match gate::strictest(&answers) {
        Says::Hold => (held(incident, gate::reasons(&answers, Says::Hold)), None),
        Says::Ask => match due {
            // A question is patient as a run is. Whoever wants to act sooner gives the command.
            Some((at, _)) if now < at && open_question(state).is_none() => {
                (held(incident, Vec::new()), Some(at))
            }
            Some(_) | None => (ask(service, state, incident, proposal, now), None),
        },
        Says::Allow => match due {
            Some((at, _))
                if now >= at
                    && let Some(waits) = turn::waits_for(service, view, now) =>
            {
                (held(incident, vec![waits]), None)
            }
            Some((at, why)) if now >= at => (
                vec![opened(
                    proposal,
                    Some(&incident.id),
                    incident.outage,
                    format!("{}; {why}", incident.reason),
                    None,
                    Vec::new(),
                )],
                None,
            ),
            Some((at, _)) => (held(incident, Vec::new()), Some(at)),
            None => (Vec::new(), None),
        },
    }
}

/// The record that opens a run.
#[must_use]
pub fn opened(
    proposal: &Proposal,
    incident: Option<&IncidentId>,
    since: Time,
    reason: String,
    requester: Option<crate::model::id::PersonName>,
    approved_by: Vec<crate::model::id::PersonName>,
) -> RecordBody {
    RecordBody::RunOpened {
        kind: proposal.kind,
        incident: incident.cloned(),
        plan: Box::new(proposal.plan.clone()),
        since,
        reason,
        requester,
        approved_by,
        loss: proposal.loss.clone(),
        forecast: proposal.parts.clone(),
        drill: None,
    }
}

/// The question whether a run may begin.
#[must_use]
pub fn question(
    service: &Service,
    proposal: &Proposal,
    requester: Option<crate::model::id::PersonName>,
    mut reasons: Vec<String>,
) -> Ask {
    if reasons.is_empty() {
        reasons.push("approval is required".to_owned());
    }
    let total = budget::total(&proposal.parts);
    Ask {
        subject: AskSubject::Open {
            kind: proposal.kind,
        },
        plan: proposal.plan.hash(),
        reasons,
        loss: proposal.loss.clone(),
        forecast: format!(
            "a {} to {} is forecast to take {total} of the RTO of {}",
            proposal.kind, proposal.plan.to, service.objectives.rto
        ),
        required: service.approvals.required.max(1),
        requester,
    }
}

fn ask(
    service: &Service,
    state: &State,
    incident: &Incident,
    proposal: &Proposal,
    now: Time,
) -> Vec<RecordBody> {
    let reasons: Vec<String> = std::iter::once(incident.reason.clone())
        .chain(gate::reasons(&proposal.answers, Says::Ask))
        .collect();
    if let Some((id, open)) = open_question(state) {
        // Same question, same evidence: it stays as it is, whatever the clock says.
        if is_about(open, &proposal.plan)
            && (open.ask.reasons == reasons || open.ask.requester.is_some())
        {
            return Vec::new();
        }
        return vec![RecordBody::AskClosed {
            ask: id.clone(),
            outcome: AskOutcome::Void {
                reason: "the evidence or the plan changed".to_owned(),
            },
        }];
    }
    let asked = question(service, proposal, None, reasons);
    if incident.denied.as_ref() == Some(&asked.reasons) {
        return held(
            incident,
            vec!["a person said no, and the evidence is still the same".to_owned()],
        );
    }
    let expires = now.after(service.approvals.expiry);
    vec![RecordBody::AskOpened {
        ask: Box::new(asked),
        plan: Some(Box::new(proposal.plan.clone())),
        expires,
    }]
}

/// Whether a question is about this plan. To hash one takes longer than all the rest of a decision.
fn is_about(question: &Question, plan: &Plan) -> bool {
    question.plan.as_ref() == Some(plan) || question.ask.plan == plan.hash()
}

/// The open question about beginning a run.
#[must_use]
pub fn open_question(state: &State) -> Option<(&AskId, &Question)> {
    state
        .asks
        .iter()
        .find(|(_, q)| matches!(q.ask.subject, AskSubject::Open { .. }))
}

/// A question that was answered with yes becomes a run, if its plan is still the plan.
fn granted(service: &Service, state: &State, view: &View, now: Time) -> Option<Vec<RecordBody>> {
    let (id, question) = open_question(state).filter(|(_, q)| q.granted)?;
    let AskSubject::Open { kind } = question.ask.subject else {
        return None;
    };
    let by_silence = question.approved.is_empty();
    if by_silence && !detect::sees_all(service, view, now) {
        return None;
    }
    let since = state
        .incident
        .as_ref()
        .map_or(question.opened, |i| i.outage);
    let to = question.plan.as_ref().map(|p| &p.to);
    let void = |reason: String| {
        vec![RecordBody::AskClosed {
            ask: id.clone(),
            outcome: AskOutcome::Void { reason },
        }]
    };
    Some(match propose(service, state, view, kind, to, since, now) {
        Ok(p) if p.plan.hash() != question.ask.plan => {
            void("the plan changed after it was approved".to_owned())
        }
        Ok(p) if by_silence && let Some(reason) = against_silence(service, state, &p, now) => {
            void(format!("nobody answered, and {reason}"))
        }
        Ok(_)
            if !turn::is_passed_by(question)
                && let Some(waits) = turn::waits_for(service, view, now) =>
        {
            let incident = state.incident.as_ref();
            incident.map_or_else(Vec::new, |i| held(i, vec![waits]))
        }
        Ok(p) => {
            let by = if by_silence {
                "nobody answered in time, and the policy then proceeds".to_owned()
            } else {
                let names: Vec<_> = question.approved.iter().map(ToString::to_string).collect();
                format!("approved by {}", names.join(" and "))
            };
            let reason = format!("{}; {by}", question.ask.reasons.join("; "));
            vec![opened(
                &p,
                state.incident.as_ref().map(|i| &i.id),
                since,
                reason,
                question.ask.requester.clone(),
                question.approved.clone(),
            )]
        }
        Err(reason) => void(reason),
    })
}

/// Why silence is no yes: a person's approval stands against a gate, the clock's does not.
fn against_silence(
    service: &Service,
    state: &State,
    proposal: &Proposal,
    now: Time,
) -> Option<String> {
    let mode = readiness::mode(service, state, now);
    if mode != Mode::Automatic {
        return Some(format!("the mode is {mode}"));
    }
    if restore::replaces_standby(&proposal.plan) {
        return Some("what restoring a backup loses is for people to approve".to_owned());
    }
    let needed = match detect::need(service, &state.verdicts) {
        Need::Failover => proposal.kind == RunKind::Failover,
        Need::Redirect => proposal.kind == RunKind::Redirect,
        Need::Nothing | Need::Unclear => false,
    };
    if !needed {
        return Some("what it was asked for is not seen any more".to_owned());
    }
    let held = gate::reasons(&gate::but_turn(&proposal.answers), Says::Hold);
    (!held.is_empty()).then(|| held.join("; "))
}

/// Nothing is down any more: what was asked on its account is void.
fn calm(state: &State, incident: &Incident) -> Vec<RecordBody> {
    if let Some((id, _)) =
        open_question(state).filter(|(_, q)| q.ask.requester.is_none() && !q.granted)
    {
        let outcome = AskOutcome::Void {
            reason: "what was down works again".to_owned(),
        };
        return vec![RecordBody::AskClosed {
            ask: id.clone(),
            outcome,
        }];
    }
    held(incident, Vec::new())
}

fn held(incident: &Incident, reasons: Vec<String>) -> Vec<RecordBody> {
    if incident.held == reasons {
        return Vec::new();
    }
    vec![RecordBody::Held {
        incident: incident.id.clone(),
        reasons,
    }]
}

fn would_act(incident: &Incident, proposal: &Proposal) -> Vec<RecordBody> {
    if incident.would_act.is_some() {
        return Vec::new();
    }
    vec![RecordBody::WouldAct {
        incident: incident.id.clone(),
        kind: proposal.kind,
        plan: Box::new(proposal.plan.clone()),
        loss: proposal.loss.clone(),
        gates: proposal
            .answers
            .iter()
            .filter(|a| a.gate != "mode")
            .map(|a| a.reason.clone())
            .collect(),
    }]
}
