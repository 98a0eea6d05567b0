//! What a controller shows of a service: made from its core, printed by the commands.

use std::collections::BTreeMap;

use super::socket::message::{
    AskView, PageView, PlanView, RemarkView, RunView, ServiceStatus, StepView, VerdictView,
};
use crate::{
    decide::{
        budget,
        core::Core,
        event, gate, incident, lag, lint,
        state::{Question, Run, State, Step},
    },
    model::{
        id::{AskId, SiteName},
        loss::LossForecast,
        plan::{PlanStep, RunKind},
        record::Settlement,
        span::Span,
        step::Proof,
        time::Time,
    },
};

/// How a service stands.
#[must_use]
pub fn status(core: &Core, now: Time) -> ServiceStatus {
    let (service, state) = (core.service(), core.state());
    ServiceStatus {
        service: service.name.clone(),
        title: service.title.clone(),
        mode: state.mode(now, gate::CHECK_MAX_AGE),
        wanted_mode: state.wanted,
        epoch: state.epoch,
        active: state.active.clone(),
        verdicts: state
            .verdicts
            .iter()
            .map(|(name, (verdict, since))| {
                let view = VerdictView {
                    verdict: *verdict,
                    since: *since,
                };
                (name.clone(), view)
            })
            .collect(),
        loss: loss(core, now),
        incident: state
            .incident
            .as_ref()
            .map(|i| format!("{} since {}: {}", i.id, i.since.clock(), i.reason)),
        held: state
            .incident
            .as_ref()
            .map(|i| i.held.clone())
            .unwrap_or_default(),
        run: state.run.as_ref().map(|r| run(core, r)),
        asks: state
            .asks
            .iter()
            .filter(|(_, question)| !question.granted)
            .map(|(id, question)| ask(id, question))
            .collect(),
        pages: state
            .pages
            .iter()
            .filter(|(_, paged)| paged.acknowledged.is_none())
            .map(|(id, paged)| PageView {
                page: id.clone(),
                severity: paged.page.severity,
                title: paged.page.title.clone(),
            })
            .collect(),
        paused: state
            .paused
            .as_ref()
            .map(|(by, reason)| format!("by {by}: {reason}")),
        readiness: readiness(core, now),
        unacknowledged: state.unacknowledged.clone(),
    }
}

/// A run as it stands.
#[must_use]
pub fn run(core: &Core, run: &Run) -> RunView {
    RunView {
        run: run.id.clone(),
        kind: run.kind,
        from: run.plan.from.clone(),
        to: run.plan.to.clone(),
        since: run.since,
        deadline: run.since.after(core.service().objectives.rto),
        verified: run.verified.is_some(),
        steps: run
            .steps()
            .map(|(planned, at)| step(core.state(), run, planned, at))
            .collect(),
    }
}

/// The plan of a run that could be begun now.
///
/// # Errors
/// In one sentence, where no plan can be made.
pub fn plan(
    core: &Core,
    kind: RunKind,
    to: Option<&SiteName>,
    now: Time,
) -> Result<PlanView, String> {
    let (service, state) = (core.service(), core.state());
    let since = state.incident.as_ref().map_or(now, |i| i.since);
    let proposal = incident::propose(service, state, core.view(), kind, to, since, now)?;
    let total = budget::total(&proposal.parts);
    let remarks = lint::lint(service, &proposal.plan, total);
    Ok(PlanView {
        hash: proposal.plan.hash(),
        expected: proposal
            .plan
            .steps
            .iter()
            .map(|s| (s.id.clone(), budget::expected(state, s)))
            .collect(),
        plan: proposal.plan,
        forecast: proposal.parts,
        total,
        rto: service.objectives.rto,
        loss: proposal.loss.to_string(),
        remarks: remarks
            .into_iter()
            .map(|r| RemarkView {
                text: r.text,
                fix: r.fix,
            })
            .collect(),
    })
}

fn loss(core: &Core, now: Time) -> String {
    let (service, state) = (core.service(), core.state());
    let target = state
        .active
        .as_ref()
        .and_then(|from| incident::target(service, from));
    let since = state.incident.as_ref().map_or(now, |i| i.since);
    match target {
        Some(to) => lag::forecast(service, core.view(), &to, since, now).to_string(),
        None => LossForecast::Unknown {
            reason: "there is no other site".to_owned(),
        }
        .to_string(),
    }
}

fn readiness(core: &Core, now: Time) -> String {
    let state = core.state();
    match &state.check {
        Some(check) if check.green && check.config == state.config => {
            format!("green, {} ago", whole_seconds(now.since(check.at)))
        }
        Some(_) | None => format!(
            "not green: {}",
            gate::unearned(state, now, core.service())
        ),
    }
}

fn ask(id: &AskId, question: &Question) -> AskView {
    AskView {
        ask: id.clone(),
        subject: event::subject_words(&question.ask.subject),
        reasons: question.ask.reasons.clone(),
        loss: question.ask.loss.to_string(),
        forecast: question.ask.forecast.clone(),
        plan: question.ask.plan.clone(),
        required: question.ask.required,
        approved: question.approved.clone(),
        expires: question.expires,
    }
}

fn step(state: &State, run: &Run, planned: &PlanStep, at: Option<&Step>) -> StepView {
    let (word, detail) = match at {
        None => ("waiting", String::new()),
        Some(Step::Intended { .. }) => ("running", String::new()),
        Some(Step::Indeterminate { reason, .. }) => ("unclear", reason.clone()),
        Some(Step::Failed { reason, .. }) => ("failed", reason.clone()),
        Some(Step::Done(Proof { summary, .. })) => ("done", summary.clone()),
        Some(Step::Settled(how)) => settled(how),
    };
    let took = run
        .times
        .get(&planned.id)
        .and_then(|(begun, ended)| Some(ended.as_ref()?.since(*begun)));
    StepView {
        id: planned.id.clone(),
        name: planned.name.clone(),
        phase: planned.phase,
        state: word.to_owned(),
        expected: budget::expected(state, planned),
        took,
        detail,
    }
}

fn settled(how: &Settlement) -> (&'static str, String) {
    match how {
        Settlement::Manual { by } => ("done", format!("by {by}")),
        Settlement::Skipped { reason } => ("skipped", reason.clone()),
        Settlement::Undone { summary } => ("undone", summary.clone()),
    }
}

/// A span without the milliseconds that nobody wants to read.
#[must_use]
pub fn whole_seconds(span: Span) -> Span {
    Span::from_secs(span.as_millis() / 1000)
}

/// What each step of a plan is expected to take, as `plan` shows it.
#[must_use]
pub fn expected(view: &PlanView, step: &PlanStep) -> Span {
    let known: &BTreeMap<_, _> = &view.expected;
    known.get(&step.id).copied().unwrap_or(step.timeout)
}
