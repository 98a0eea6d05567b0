//! Why it did, did not, or would fail over, in plain sentences: what every front end renders.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod pages;

use super::{
    budget,
    core::Core,
    detect::{self, Need},
    drill,
    event::{answers, subject_words},
    gate::{self, Says},
    incident, page, phase, readiness,
    state::{Run, Step},
};
use crate::model::{
    announcement::Phase,
    drill::{Depth, DrillOutcome},
    duty::Duty,
    guard::{self, Database, Role},
    id::{
        AskId, ComponentName, DrillName, Epoch, IncidentId, PersonName, RunId, ServiceName,
        SiteName, StepId,
    },
    plan::{RunKind, StepPhase},
    readiness::Readiness,
    record::ForecastPart,
    service::Mode,
    span::Span,
    time::Time,
    verdict::{Verdict, Witness},
};
pub use pages::{PageReport, PagedReport};

/// Where a service stands, with the reasons.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ServiceReport")]
pub struct Report {
    /// The service.
    pub service: ServiceName,
    /// As customers know it.
    pub title: String,
    /// When this was worked out.
    pub at: Time,
    /// The mode that the documents ask for.
    pub mode_wanted: Mode,
    /// The mode in force.
    pub mode: Mode,
    /// The site whose data takes writes.
    pub active: Option<SiteName>,
    /// The site that users are served from.
    pub serving: Option<SiteName>,
    /// The epoch in force.
    pub epoch: Epoch,
    /// In one sentence.
    pub headline: String,
    /// Why it did, did not, or would fail over.
    pub sentences: Vec<String>,
    /// What it does next, and when, where it waits for nothing but time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Each component with its evidence.
    pub components: Vec<ComponentReport>,
    /// What each site's guard says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guards: Vec<GuardReport>,
    /// What each gate says to a failover now.
    pub gates: Vec<GateReport>,
    /// What would be lost now.
    pub loss: String,
    /// What each part of a failover is expected to take.
    pub forecast: Vec<ForecastPart>,
    /// The RTO.
    pub rto: Span,
    /// What is left of it, during an incident.
    pub rto_left: Option<Span>,
    /// The open incident.
    pub incident: Option<IncidentId>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Who declared it, where a person did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<PersonName>,
    /// Who does what in it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub duties: BTreeMap<Duty, PersonName>,
    /// Who is asked to lead it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered_to: Option<PersonName>,
    /// What customers heard last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// When they were promised to hear again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_update: Option<Time>,
    /// The open run, else the last one of the open incident.
    pub run: Option<RunReport>,
    /// Open questions.
    pub asks: Vec<AskReport>,
    /// Pages that nobody acknowledged.
    pub pages: Vec<PageReport>,
    /// Readiness, in one sentence.
    pub readiness: String,
    /// Its drills.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drills: Vec<DrillReport>,
    /// The open drill, step by step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<RunReport>,
    /// Who paused it.
    pub paused: Option<String>,
}

/// A drill of the documents, or one that was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillReport {
    /// Its name.
    pub name: DrillName,
    /// How far it goes.
    pub depth: Depth,
    /// When it begins by itself.
    pub next: Option<Time>,
    /// How it ended last.
    pub last: Option<LastDrill>,
}

/// How a drill ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastDrill {
    /// Its id.
    pub id: RunId,
    /// What came of it.
    pub outcome: DrillOutcome,
    /// Why.
    pub reasons: Vec<String>,
    /// When.
    pub at: Time,
}

/// What a site's guard says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GuardReport {
    /// The site.
    pub site: SiteName,
    /// In one sentence.
    pub says: String,
}

/// A component with its evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComponentReport {
    /// Its name.
    pub name: ComponentName,
    /// The verdict now.
    pub verdict: Verdict,
    /// In one sentence.
    pub reason: String,
    /// Each vantage point's last look.
    pub witnesses: Vec<Witness>,
}

/// What one gate says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GateReport {
    /// Which gate.
    pub gate: String,
    /// `allow`, `ask` or `hold`.
    pub says: String,
    /// In one sentence.
    pub reason: String,
}

/// A run, step by step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunReport {
    /// Its id.
    pub id: RunId,
    /// What for.
    pub kind: RunKind,
    /// From.
    pub from: SiteName,
    /// To.
    pub to: SiteName,
    /// When the outage began.
    pub since: Time,
    /// When the run was opened.
    pub opened: Time,
    /// When the service was verified.
    pub verified: Option<Time>,
    /// How it ended.
    pub outcome: Option<String>,
    /// Why it was begun, and why it ended.
    pub reason: String,
    /// The steps in order.
    pub steps: Vec<StepReport>,
}

/// One step of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepReport {
    /// Its id.
    pub id: StepId,
    /// For people.
    pub name: String,
    /// The part of the run.
    pub phase: StepPhase,
    /// `waiting`, `running`, `unclear`, `failed`, `done`, `settled`.
    pub state: String,
    /// Evidence or reason.
    pub detail: String,
    /// What it was expected to take.
    pub expected: Span,
    /// What it took, or has taken so far.
    pub took: Option<Span>,
}

/// An open question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AskReport {
    /// Its id.
    pub id: AskId,
    /// What it is about.
    pub about: String,
    /// Why it is asked.
    pub reasons: Vec<String>,
    /// What would be lost.
    pub loss: String,
    /// The forecast against the RTO.
    pub forecast: String,
    /// How many must approve.
    pub required: u32,
    /// Who asked for the run, where a person did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<PersonName>,
    /// What happens if nobody answers.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub otherwise: String,
    /// Who has.
    pub approved: Vec<PersonName>,
    /// When it ends.
    pub expires: Time,
    /// The plan that it is about, by the first digits of its hash.
    pub plan: String,
    /// The commands that answer it.
    pub commands: Vec<String>,
}

/// Works out where a service stands.
#[must_use]
pub fn report(core: &Core, now: Time) -> Report {
    let (service, state, view) = (core.service(), core.state(), core.view());
    let components = components(core, now);
    let need = detect::need(service, &state.verdicts);
    let kind = if need == Need::Redirect {
        RunKind::Redirect
    } else {
        RunKind::Failover
    };
    let since = state.incident.as_ref().map_or(now, |i| i.outage);
    let proposal = incident::propose(service, state, view, kind, None, since, now);
    let (gates, forecast, loss) = match &proposal {
        Ok(p) => (
            p.answers.iter().map(gate_report).collect(),
            p.parts.clone(),
            p.loss.to_string(),
        ),
        Err(reason) => (Vec::new(), Vec::new(), format!("unknown: {reason}")),
    };
    let mode = readiness::mode(service, state, now);
    let run = state.run.as_ref().or_else(|| {
        state.last_run.as_ref().filter(|r| {
            state
                .incident
                .as_ref()
                .is_some_and(|i| r.incident.as_ref() == Some(&i.id))
        })
    });
    Report {
        service: service.name.clone(),
        title: service.title.clone(),
        at: now,
        mode_wanted: state.wanted,
        mode,
        active: state.active.clone(),
        serving: state.serving.clone(),
        epoch: state.epoch,
        headline: headline(core, need),
        sentences: sentences(core, need, &proposal, now),
        next: match (&proposal, need, mode) {
            (Ok(p), Need::Failover | Need::Redirect, Mode::Ask | Mode::Automatic)
                if state.run.is_none() =>
            {
                next(core, p, now)
            }
            (Ok(_) | Err(_), _, _) => None,
        },
        components,
        guards: guards(core),
        gates,
        loss,
        forecast,
        rto: service.objectives.rto,
        rto_left: state
            .incident
            .as_ref()
            .filter(|_| need != Need::Nothing || state.run.is_some())
            .map(|i| service.objectives.rto.saturating_sub(now.since(i.outage))),
        incident: state.incident.as_ref().map(|i| i.id.clone()),
        since: state.incident.as_ref().map(|i| i.since),
        declared: state.incident.as_ref().and_then(|i| i.declared.clone()),
        duties: state
            .incident
            .as_ref()
            .map(|i| i.duties.clone())
            .unwrap_or_default(),
        offered_to: state
            .incident
            .as_ref()
            .and_then(|i| Some(i.handover.as_ref()?.0.clone())),
        phase: state.incident.as_ref().and_then(|i| i.phase),
        next_update: phase::promised(state),
        run: run.map(|r| run_report(core, r, now)),
        asks: asks(core),
        pages: pages::open(core, now),
        readiness: readiness(core, now),
        drills: drills(core, now),
        drill: state.drills.run().map(|r| run_report(core, r, now)),
        paused: state
            .paused
            .as_ref()
            .map(|(by, reason)| format!("{by}: {reason}")),
    }
}

fn guards(core: &Core) -> Vec<GuardReport> {
    let named = core.service().guards.iter().flat_map(|g| g.sites.keys());
    let says = |site: &SiteName| {
        let Some(report) = core.view().guards.get(site) else {
            return "was not heard since the controller was started".to_owned();
        };
        if core.view().silent.contains(site) {
            return format!("is silent; it said last: {}", guard_words(report));
        }
        guard_words(report)
    };
    named
        .map(|site| GuardReport {
            site: site.clone(),
            says: says(site),
        })
        .collect()
}

fn guard_words(report: &guard::Report) -> String {
    let role = match &report.promise {
        None => "it lost its state and waits for another epoch".to_owned(),
        Some(p) => match (p.role, report.leased) {
            (Role::Primary, true) => format!("primary of epoch {}, with its lease", p.epoch),
            (Role::Primary, false) => format!("primary of epoch {}, without a lease", p.epoch),
            (Role::Standby, _) => format!("standby, epoch {}", p.epoch),
            (Role::Fenced, _) => format!("fenced in epoch {}", p.epoch),
        },
    };
    let database = match (report.database, report.answers) {
        (None, _) => "its database was not seen yet",
        (Some(Database::Gone), _) => "no process of its database runs",
        (Some(_), false) => "its database runs and does not answer",
        (Some(Database::Following), true) => "its database follows",
        (Some(Database::Writable), true) => "its database takes writes",
    };
    let mut words = format!("{role}; {database}");
    if report.seen.is_full {
        words.push_str("; the disk of its data is full");
    }
    if report.seen.is_read_only {
        words.push_str("; the file system of its data takes no writes");
    }
    if !report.can_fence {
        words.push_str("; it cannot fence: see its log");
    }
    if report.kill.is_none() {
        words.push_str("; its host enforces no lease (failover guard prove)");
    }
    words
}

fn drills(core: &Core, now: Time) -> Vec<DrillReport> {
    let (service, ended) = (core.service(), &core.state().drills.ended);
    let last = |name: &DrillName| {
        ended.get(name).map(|e| LastDrill {
            id: e.id.clone(),
            outcome: e.outcome,
            reasons: e.reasons.iter().chain(&e.left).cloned().collect(),
            at: e.at,
        })
    };
    let named = service.drills.iter().map(|policy| DrillReport {
        name: policy.name.clone(),
        depth: policy.depth,
        next: drill::next(&service.name, policy, now),
        last: last(&policy.name),
    });
    let others = ended
        .iter()
        .filter(|(name, _)| service.drills.iter().all(|policy| policy.name != **name));
    let others = others.map(|(name, e)| DrillReport {
        name: name.clone(),
        depth: e.depth,
        next: None,
        last: last(name),
    });
    named.chain(others).collect()
}

fn components(core: &Core, now: Time) -> Vec<ComponentReport> {
    let report = |c: &crate::model::service::Component| {
        let judged = detect::judge(core.service(), c, core.state(), core.view(), now);
        ComponentReport {
            name: c.name.clone(),
            verdict: judged.verdict,
            reason: judged.reason,
            witnesses: judged.witnesses,
        }
    };
    core.service().components.iter().map(report).collect()
}

fn gate_report(answer: &gate::Answer) -> GateReport {
    let says = match answer.says {
        Says::Allow => "allow",
        Says::Ask => "ask",
        Says::Hold => "hold",
    };
    GateReport {
        gate: answer.gate.to_owned(),
        says: says.to_owned(),
        reason: answer.reason.clone(),
    }
}

/// Where a service stands, in one sentence.
#[must_use]
pub fn headline_of(core: &Core) -> String {
    headline(core, detect::need(core.service(), &core.state().verdicts))
}

fn headline(core: &Core, need: Need) -> String {
    let (service, state) = (core.service(), core.state());
    if let Some(run) = &state.run {
        let waits = state.asks.values().any(|q| !q.granted);
        return format!(
            "{}: a {} from {} to {} {}",
            service.title,
            run.kind,
            run.plan.from,
            run.plan.to,
            if waits {
                "waits for your answer"
            } else {
                "is running"
            }
        );
    }
    let at = state
        .serving
        .as_ref()
        .map_or_else(|| "nowhere yet".to_owned(), ToString::to_string);
    match (need, &state.incident) {
        (Need::Nothing, None) if incident::well(service, state) => {
            format!("{} works, served from {at}", service.title)
        }
        (Need::Nothing, None) => format!(
            "{} is not known to be down, but not all of it is seen to be well",
            service.title
        ),
        (Need::Nothing, Some(i)) => format!(
            "{} is served from {at}; incident {} is still open",
            service.title, i.id
        ),
        (Need::Failover, _) => format!("{} is down at {at}", service.title),
        (Need::Redirect, _) => format!(
            "{}: the application is down at {at}, its database is well",
            service.title
        ),
        (Need::Unclear, _) => format!(
            "{}: the application is down, the state of its database is not known",
            service.title
        ),
    }
}

fn sentences(
    core: &Core,
    need: Need,
    proposal: &Result<incident::Proposal, String>,
    now: Time,
) -> Vec<String> {
    let (service, state) = (core.service(), core.state());
    let mut out = Vec::new();
    if let Some(run) = state.run.as_ref().or(state.last_run.as_ref()) {
        out.push(match &run.ended {
            None => format!(
                "Run {} began at {} because {}.",
                run.id,
                run.opened.clock(),
                run.reason
            ),
            Some((_, reason, at)) => format!(
                "Run {} ({}) ended at {}: {reason}.",
                run.id,
                run.kind,
                at.clock()
            ),
        });
        if let Some(waiting) = run.ended.is_none().then(|| waiting_for(run)).flatten() {
            out.push(waiting);
        }
    }
    if state.run.is_some() {
        return out;
    }
    match need {
        Need::Nothing => out.push("It does not fail over because nothing is down by quorum.".to_owned()),
        Need::Unclear => out.push("It does not fail over because the application alone is no reason to promote a database whose state is not known.".to_owned()),
        Need::Failover | Need::Redirect => match proposal {
            Err(reason) => out.push(format!("It cannot act: {reason}.")),
            Ok(p) => out.extend(prospects(core, p, now)),
        },
    }
    if need == Need::Nothing
        && let Err(reason) = proposal
    {
        out.push(format!(
            "No failover can be planned from here: {reason}. Should this site be lost now, only people can help."
        ));
    }
    if need == Need::Nothing
        && let Ok(p) = proposal
    {
        let says = match (
            readiness::mode(service, state, now),
            gate::strictest(&p.answers),
        ) {
            (Mode::Observe, _) => {
                "it would record what it would have done, and tell the team only".to_owned()
            }
            (_, Says::Hold) => format!(
                "it would be held back: {}",
                gate::reasons(&p.answers, Says::Hold).join("; ")
            ),
            (_, Says::Ask) => format!(
                "it would ask first: {}",
                gate::reasons(&p.answers, Says::Ask).join("; ")
            ),
            (_, Says::Allow) => format!("it would fail over to {} by itself", p.plan.to),
        };
        out.push(format!("If the primary were lost now, {says}."));
        let total = budget::total(&p.parts);
        out.push(format!(
            "That is forecast to take {total} of the RTO of {}, and to lose {}.",
            service.objectives.rto, p.loss
        ));
    }
    out
}

fn prospects(core: &Core, proposal: &incident::Proposal, now: Time) -> Vec<String> {
    let (service, state) = (core.service(), core.state());
    let mut out = Vec::new();
    if readiness::mode(service, state, now) == Mode::Observe {
        out.push("It does nothing because the mode is observe; the journal holds what it would have done.".to_owned());
    }
    let hold = gate::reasons(&proposal.answers, Says::Hold);
    let ask = gate::reasons(&proposal.answers, Says::Ask);
    match gate::strictest(&proposal.answers) {
        Says::Hold => out.push(format!("It is held back: {}.", hold.join("; "))),
        Says::Ask => out.push(format!("It asks before it acts: {}.", ask.join("; "))),
        Says::Allow => {}
    }
    out.extend(next(core, proposal, now));
    if let Some(incident) = &state.incident
        && incident.denied.is_some()
    {
        out.push("A person said no; it is not asked again until the evidence changes.".to_owned());
    }
    out.push(format!("Expected loss: {}.", proposal.loss));
    out
}

/// What it does once its patience ends.
fn next(core: &Core, proposal: &incident::Proposal, now: Time) -> Option<String> {
    let (service, state) = (core.service(), core.state());
    let since = state.incident.as_ref().map_or(now, |i| i.outage);
    let due = budget::due(service, since, &proposal.parts);
    match (gate::strictest(&proposal.answers), due) {
        (Says::Ask, Some((at, _))) if at > now => Some(format!(
            "It asks at {} unless the primary comes back.",
            at.clock()
        )),
        (Says::Allow, Some((at, why))) if at > now => Some(format!(
            "It begins at {} unless the primary comes back, because then {why}.",
            at.clock()
        )),
        (Says::Allow, Some((_, why))) => Some(format!("It begins now: {why}.")),
        (Says::Allow, None) => Some("It waits for a person to begin.".to_owned()),
        (Says::Ask, Some(_) | None) | (Says::Hold, _) => None,
    }
}

fn waiting_for(run: &Run) -> Option<String> {
    let (step, at) = run
        .steps()
        .find(|(_, at)| !at.is_some_and(Step::is_settled))?;
    Some(match at {
        None => format!("Next is step {} ({}).", step.id, step.name),
        Some(Step::Intended { .. }) => format!("Step {} ({}) is running.", step.id, step.name),
        Some(Step::Indeterminate { reason, .. }) => format!(
            "Whether step {} ({}) took effect cannot be told: {reason}. It is looked for again.",
            step.id, step.name
        ),
        Some(Step::Failed { reason, .. }) => {
            format!("Step {} ({}) failed: {reason}.", step.id, step.name)
        }
        Some(Step::Done(_) | Step::Settled(_)) => return None,
    })
}

fn run_report(core: &Core, run: &Run, now: Time) -> RunReport {
    let closed = run.ended.as_ref().map(|(_, _, at)| *at);
    let steps = run
        .steps()
        .map(|(step, at)| {
            let (state, detail) = match at {
                None => ("waiting", String::new()),
                Some(Step::Intended { attempt }) => ("running", format!("attempt {attempt}")),
                Some(Step::Indeterminate { reason, .. }) => ("unclear", reason.clone()),
                Some(Step::Failed { reason, .. }) => ("failed", reason.clone()),
                Some(Step::Done(proof)) => ("done", proof.summary.clone()),
                Some(Step::Settled(how)) => ("settled", settled_words(how)),
            };
            let took = run
                .times
                .get(&step.id)
                .map(|(begun, end)| end.or(closed).unwrap_or(now).since(*begun));
            StepReport {
                id: step.id.clone(),
                name: step.name.clone(),
                phase: step.phase,
                state: state.to_owned(),
                detail,
                expected: budget::expected(core.state(), step),
                took,
            }
        })
        .collect();
    RunReport {
        id: run.id.clone(),
        kind: run.kind,
        from: run.plan.from.clone(),
        to: run.plan.to.clone(),
        since: run.since,
        opened: run.opened,
        verified: run.verified,
        outcome: run
            .ended
            .as_ref()
            .map(|(o, _, _)| format!("{o:?}").to_lowercase()),
        reason: run
            .ended
            .as_ref()
            .map_or_else(|| run.reason.clone(), |(_, reason, _)| reason.clone()),
        steps,
    }
}

fn settled_words(how: &crate::model::record::Settlement) -> String {
    use crate::model::record::Settlement;
    match how {
        Settlement::Manual { by } => format!("done by {by}"),
        Settlement::Skipped { reason } => format!("skipped: {reason}"),
        Settlement::Undone { summary } => format!("taken back: {summary}"),
        Settlement::Left { reason } => format!("could not be taken back: {reason}"),
    }
}

fn asks(core: &Core) -> Vec<AskReport> {
    let open = core.state().asks.iter().filter(|(_, q)| !q.granted);
    open.map(|(id, q)| AskReport {
        id: id.clone(),
        about: subject_words(&q.ask.subject),
        reasons: q.ask.reasons.clone(),
        loss: q.ask.loss.to_string(),
        forecast: q.ask.forecast.clone(),
        required: q.ask.required,
        requester: q.ask.requester.clone(),
        otherwise: page::otherwise(core.service(), q).to_owned(),
        approved: q.approved.clone(),
        expires: q.expires,
        plan: q.ask.plan.short().to_owned(),
        commands: answers(id, &q.ask.subject),
    })
    .collect()
}

fn readiness(core: &Core, now: Time) -> String {
    let state = core.state();
    let (verdict, reason) = readiness::verdict(core.service(), state, now);
    match (verdict, &state.check) {
        (Readiness::Ready, Some(c)) => format!(
            "ready: checked {} ago",
            Span::from_secs(now.since(c.at).as_millis() / 1000)
        ),
        (Readiness::Ready | Readiness::NotReady | Readiness::Unknown, _) => {
            format!("{verdict}: {reason}")
        }
    }
}
