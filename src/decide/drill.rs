//! Drills: what the journal knows of them, when one begins, and when it is over.
//!
//! A drill is open beside everything else, so that a real outage never waits for one: it is judged, its steps are taken
//! back in the reverse of their order, and only then it is closed.

mod calendar;
pub mod leg;
mod live;
pub mod report;
mod shadow;

use std::collections::BTreeMap;

pub use calendar::next;

use super::{
    budget, compile, detect, gate, incident, readiness, restore,
    run::Run,
    state::{State, in_drill},
    view::View,
};
use crate::model::{
    approval::AskSubject,
    drill::{Depth, DrillOutcome, DrillPolicy},
    id::{DrillName, PersonName, RunId},
    loss::LossForecast,
    plan::{Plan, RunKind, StepPhase},
    record::{DrillPlan, LegPlan, LivePlan, Record, RecordBody, RunOutcome, StepForecast},
    service::{Mode, Service},
    span::Span,
    step::StepResult,
    time::Time,
};

/// The name of the drill that every service has.
pub const PAPER: &str = "paper";
/// Durations that are remembered.
const REMEMBERED: usize = 50;
/// Records of one drill that go into its report, at most.
const RECORDS: usize = 5000;

/// What the journal knows of a service's drills.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drills {
    /// The open one.
    pub open: Option<Drill>,
    /// The last moment of each schedule that was taken up or left out.
    pub slots: BTreeMap<DrillName, Time>,
    /// How each ended last.
    pub ended: BTreeMap<DrillName, Ended>,
    /// When one of each depth passed last.
    pub passed: BTreeMap<Depth, Time>,
    /// What promoting took in drills, newest last, by the kind of the step that did it.
    pub promotions: BTreeMap<String, Vec<Span>>,
}

/// An open drill.
#[derive(Clone, Debug, PartialEq)]
pub struct Drill {
    /// Its id.
    pub id: RunId,
    /// What is exercised.
    pub what: DrillPlan,
    /// When it began.
    pub opened: Time,
    /// Who asked for it.
    pub requester: Option<PersonName>,
    /// Why.
    pub reason: String,
    /// Its steps, where it has any of its own.
    pub run: Option<Run>,
    /// Whether people were asked for a live one.
    pub asked: bool,
    /// The runs of a live one, in their order.
    pub legs: Vec<OwnRun>,
    /// What came of it, once it is over.
    pub judged: Option<DrillOutcome>,
    /// What its report is made from.
    pub records: Vec<Record>,
}

/// A run of a live drill.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnRun {
    /// Its id.
    pub run: RunId,
    /// How it ended, and when.
    pub ended: Option<(RunOutcome, Time)>,
}

/// How a drill ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// Which.
    pub id: RunId,
    /// How far it went.
    pub depth: Depth,
    /// What came of it.
    pub outcome: DrillOutcome,
    /// Why.
    pub reasons: Vec<String>,
    /// What could not be taken back.
    pub left: Vec<String>,
    /// When.
    pub at: Time,
}

impl Drills {
    /// The run of the open drill.
    #[must_use]
    pub fn run(&self) -> Option<&Run> {
        self.open.as_ref()?.run.as_ref()
    }

    /// The same, to be changed.
    pub fn run_mut(&mut self) -> Option<&mut Run> {
        self.open.as_mut()?.run.as_mut()
    }

    /// The last moment at which anything but the plan was exercised and passed.
    #[must_use]
    pub fn last_passed(&self) -> Option<Time> {
        let deep = self.passed.iter().filter(|(d, _)| **d > Depth::Paper);
        deep.map(|(_, at)| *at).max()
    }

    /// Takes in one record.
    pub fn apply(&mut self, record: &Record) {
        if let RecordBody::DrillOpened {
            drill,
            requester,
            reason,
        } = &record.body
        {
            if let Some(slot) = drill.slot {
                self.slots.insert(drill.policy.clone(), slot);
            }
            let run = |plan| Run::exercise(record, plan, reason);
            self.open = Some(Drill {
                id: RunId::of(&record.chain, record.seq),
                what: (**drill).clone(),
                opened: record.at,
                requester: requester.clone(),
                reason: reason.clone(),
                run: drill.plan.as_ref().map(run),
                asked: false,
                legs: Vec::new(),
                judged: None,
                records: Vec::new(),
            });
        }
        if let RecordBody::DrillSkipped { policy, slot, .. } = &record.body {
            self.slots.insert(policy.clone(), *slot);
        }
        if let Some((kind, took)) = self.open.as_mut().and_then(|open| open.apply(record)) {
            let promotions = self.promotions.entry(kind).or_default();
            promotions.push(took);
            let over = promotions.len().saturating_sub(REMEMBERED);
            promotions.drain(..over);
        }
        if let RecordBody::DrillClosed { left, .. } = &record.body {
            self.close(left, record.at);
        }
    }

    fn close(&mut self, left: &[String], at: Time) {
        let Some(open) = self.open.take() else { return };
        let outcome = open.judged.unwrap_or(DrillOutcome::BrokenOff);
        // Who cannot tidy up after a drill has not shown that everything works.
        if outcome == DrillOutcome::Passed && left.is_empty() {
            self.passed.insert(open.what.depth, at);
        }
        let reasons = report::of(&open.records).map(|r| r.reasons);
        let ended = Ended {
            id: open.id,
            depth: open.what.depth,
            outcome,
            reasons: reasons.unwrap_or_default(),
            left: left.to_vec(),
            at,
        };
        self.ended.insert(open.what.policy, ended);
    }
}

impl Drill {
    /// Takes in one record; what a promotion took, where it is one, and the kind of its step.
    fn apply(&mut self, record: &Record) -> Option<(String, Span)> {
        if report::is_told(&record.body) && self.records.len() < RECORDS {
            self.records.push(record.clone());
        }
        if let RecordBody::DrillJudged {
            outcome, reasons, ..
        } = &record.body
        {
            self.judged = Some(*outcome);
            if let Some(run) = &mut self.run {
                run.unwinding = Some((None, reasons.join("; ")));
            }
        }
        self.follow(record);
        let RecordBody::StepOutcome {
            run,
            step,
            result: StepResult::Done(_),
            took,
            ..
        } = &record.body
        else {
            return None;
        };
        let planned = self
            .run
            .as_ref()
            .filter(|r| r.id == *run)?
            .plan
            .step(step)?;
        let kind = planned.action.kind()?;
        (planned.phase == StepPhase::Promote).then(|| (kind.to_owned(), *took))
    }
}

impl Drill {
    /// Takes in what a live one asks for, begins and brings to an end.
    fn follow(&mut self, record: &Record) {
        if let RecordBody::AskOpened { ask, .. } = &record.body
            && matches!(&ask.subject, AskSubject::Drill { drill } if *drill == self.id)
        {
            self.asked = true;
        }
        if let RecordBody::RunOpened { drill, .. } = &record.body
            && drill.as_ref() == Some(&self.id)
        {
            self.legs.push(OwnRun {
                run: RunId::of(&record.chain, record.seq),
                ended: None,
            });
        }
        if let RecordBody::RunClosed { run, outcome, .. } = &record.body
            && let Some(leg) = self.legs.iter_mut().find(|l| l.run == *run)
        {
            leg.ended = Some((*outcome, record.at));
        }
    }
}

/// What is done about drills.
#[must_use]
pub fn turn(service: &Service, state: &State, view: &View, now: Time) -> Vec<RecordBody> {
    let Some(drill) = &state.drills.open else {
        return calendar::turn(service, state, view, now);
    };
    match (&drill.judged, &drill.run) {
        (None, _) if drill.what.depth == Depth::Live => {
            live::turn(service, state, view, drill, now)
        }
        (None, _) => under_way(service, state, drill),
        (Some(_), None) => {
            let left = live::left(service, state, drill);
            closed(state, left).into_iter().collect()
        }
        // Its run takes everything back first.
        (Some(_), Some(_)) => Vec::new(),
    }
}

fn under_way(service: &Service, state: &State, drill: &Drill) -> Vec<RecordBody> {
    if let Some(reason) = disturbance(service, state) {
        return vec![RecordBody::DrillJudged {
            drill: drill.id.clone(),
            outcome: DrillOutcome::BrokenOff,
            reasons: vec![reason],
        }];
    }
    match drill.what.depth {
        Depth::Paper => judged(state).into_iter().collect(),
        Depth::Isolated | Depth::Live => Vec::new(),
    }
}

/// What goes before any drill.
fn disturbance(service: &Service, state: &State) -> Option<String> {
    if let Some(run) = &state.run {
        return Some(format!("{} {} began", run.kind, run.id));
    }
    let is_down = detect::need(service, &state.verdicts) != detect::Need::Nothing;
    is_down.then(|| "an outage began".to_owned())
}

/// A step that failed ends its drill.
#[must_use]
pub fn failed(run: &Run, why: String) -> RecordBody {
    RecordBody::DrillJudged {
        drill: run.id.clone(),
        outcome: DrillOutcome::Failed,
        reasons: vec![why],
    }
}

/// A person ends it.
#[must_use]
pub fn stopped(drill: &Drill, by: &PersonName, reason: &str) -> RecordBody {
    RecordBody::DrillJudged {
        drill: drill.id.clone(),
        outcome: DrillOutcome::BrokenOff,
        reasons: vec![format!("{by} stopped it: {reason}")],
    }
}

/// What came of the open drill, where everything was done.
#[must_use]
pub fn judged(state: &State) -> Option<RecordBody> {
    let drill = state.drills.open.as_ref()?;
    let reasons = report::of(&drill.records)?.shortcomings();
    Some(RecordBody::DrillJudged {
        drill: drill.id.clone(),
        outcome: if reasons.is_empty() {
            DrillOutcome::Passed
        } else {
            DrillOutcome::Failed
        },
        reasons,
    })
}

/// Nothing of it is left but this.
#[must_use]
pub fn closed(state: &State, left: Vec<String>) -> Option<RecordBody> {
    let drill = state.drills.open.as_ref()?;
    Some(RecordBody::DrillClosed {
        drill: drill.id.clone(),
        left,
        report: report::of(&drill.records)?.hash(),
    })
}

/// Begins a drill that somebody asks for.
///
/// # Errors
/// Why it cannot begin, one sentence each.
pub fn begin(
    service: &Service,
    state: &State,
    view: &View,
    policy: &DrillPolicy,
    wanted: &Wanted<'_>,
    now: Time,
) -> Result<Vec<RecordBody>, Vec<String>> {
    let obstacles = obstacles(service, state, view, policy, wanted.slot.is_some(), now);
    if !obstacles.is_empty() {
        return Err(obstacles);
    }
    let mut what = plan(service, state, view, policy, wanted.slot, now).map_err(|e| vec![e])?;
    if policy.depth != Depth::Paper {
        let lags = lags(service, &what.loss);
        lags.map_or(Ok(()), |reason| Err(vec![reason]))?;
    }
    what.injected = shadow::play(service, state, view, &policy.inject, now);
    Ok(vec![RecordBody::DrillOpened {
        drill: Box::new(what),
        requester: wanted.by.cloned(),
        reason: wanted.reason.to_owned(),
    }])
}

/// Who wants a drill, and why.
pub struct Wanted<'a> {
    /// Who; none where the schedule does.
    pub by: Option<&'a PersonName>,
    /// Why.
    pub reason: &'a str,
    /// When the schedule wanted it.
    pub slot: Option<Time>,
}

/// The drill of that name; the only one where none is named, and one on paper where the documents have none.
///
/// # Errors
/// Where there is no such one, or the name is needed.
pub fn named(service: &Service, name: Option<&DrillName>) -> Result<DrillPolicy, String> {
    let known = || {
        let named = service.drills.iter().map(|d| d.name.as_str());
        named.chain([PAPER]).collect::<Vec<_>>().join(", ")
    };
    match (name, service.drills.as_slice()) {
        (None, []) => Ok(on_paper()),
        (None, [only]) => Ok(only.clone()),
        (None, _) => Err(format!(
            "several drills are in the documents: name one of {}",
            known()
        )),
        (Some(name), all) => match all.iter().find(|d| d.name == *name) {
            Some(found) => Ok(found.clone()),
            None if name.as_str() == PAPER => Ok(on_paper()),
            None => Err(format!("there is no drill {name}: known are {}", known())),
        },
    }
}

/// The drill that every service has.
fn on_paper() -> DrillPolicy {
    DrillPolicy {
        name: PAPER.into(),
        depth: Depth::Paper,
        runbook: None,
        schedule: None,
        jitter: Span::ZERO,
        grace: Span::ZERO,
        stay: Span::ZERO,
        blocked: Vec::new(),
        inject: Vec::new(),
    }
}

/// What stands in the way of a drill, one sentence each.
#[must_use]
pub fn obstacles(
    service: &Service,
    state: &State,
    view: &View,
    policy: &DrillPolicy,
    by_itself: bool,
    now: Time,
) -> Vec<String> {
    let mut out = Vec::new();
    if let Some(open) = &state.drills.open {
        out.push(format!("drill {} is open", open.id));
    }
    if let Some(incident) = &state.incident {
        out.push(format!("incident {} is open", incident.id));
    }
    if policy.depth == Depth::Live && readiness::mode(service, state, now) == Mode::Observe {
        out.push("the mode is observe: nothing is moved".to_owned());
    }
    out.extend(hindrances(service, state, view, now));
    if by_itself {
        out.extend(blocked(service, policy, now));
    }
    out
}

/// The windows in which no drill begins by itself, one sentence each.
fn blocked(service: &Service, policy: &DrillPolicy, now: Time) -> Vec<String> {
    let windows = policy.blocked.iter().chain(&service.gates.maintenance);
    windows
        .filter(|w| w.from <= now && now < w.to)
        .map(|w| format!("blocked until {}: {}", w.to.date(), w.reason))
        .collect()
}

/// What stands in the way of whatever a drill does, one sentence each.
fn hindrances(service: &Service, state: &State, view: &View, now: Time) -> Vec<String> {
    let mut out = Vec::new();
    if let Some(run) = &state.run {
        out.push(format!("{} {} is in progress", run.kind, run.id));
    }
    if let Some((by, reason)) = &state.paused {
        out.push(format!("{by} paused it: {reason}"));
    }
    if let Some(run) = &state.stuck {
        out.push(format!(
            "run {run} did not finish, and nobody has acknowledged it"
        ));
    }
    if state.taken_over.is_some() {
        out.push("nobody has acknowledged the takeover".to_owned());
    }
    if !detect::sees_all(service, view, now) || !incident::well(service, state) {
        out.push("not every component is seen to be well".to_owned());
    }
    out
}

/// A standby that lags has other things to do.
fn lags(service: &Service, loss: &LossForecast) -> Option<String> {
    let rpo = service.objectives.rpo;
    match loss {
        LossForecast::Stateless | LossForecast::Drained => None,
        LossForecast::Known(lag) if lag.bytes == 0 || lag.time <= rpo => None,
        LossForecast::Known(lag) => Some(format!(
            "the standby lags by {}, beyond the RPO of {rpo}",
            lag.time
        )),
        LossForecast::Restored(_) => Some("there is no standby to exercise with".to_owned()),
        LossForecast::Unknown { reason } => {
            Some(format!("how far the standby lags is not known: {reason}"))
        }
    }
}

/// What a drill exercises, and what it is held against.
fn plan(
    service: &Service,
    state: &State,
    view: &View,
    policy: &DrillPolicy,
    slot: Option<Time>,
    now: Time,
) -> Result<DrillPlan, String> {
    let failover = incident::propose(service, state, view, RunKind::Failover, None, now, now)
        .map_err(|e| format!("no failover can be planned: {e}"))?;
    let (from, to) = (&failover.plan.from, &failover.plan.to);
    let plan = policy
        .runbook
        .as_ref()
        .map(|runbook| compile::exercise(service, runbook, from, to))
        .transpose()
        .map_err(|e| e.to_string())?;
    let live = match policy.depth {
        Depth::Live => Some(Box::new(there_and_back(service, state, view, policy, now)?)),
        Depth::Paper | Depth::Isolated => None,
    };
    // What people decide when it matters is no fault of the plan's.
    let gates = failover.answers.iter().filter(|a| {
        a.says != gate::Says::Allow && !matches!(a.gate, "mode" | "trigger" | "pause" | "flap")
    });
    Ok(DrillPlan {
        policy: policy.name.clone(),
        depth: policy.depth,
        slot,
        expected: plan
            .as_ref()
            .map(|p| expected(state, p))
            .unwrap_or_default(),
        plan,
        gates: gates.map(|a| a.reason.clone()).collect(),
        readiness: problems(service, state, now),
        injected: Vec::new(),
        live,
        forecast: failover.parts,
        loss: failover.loss,
        failover: failover.plan,
        rto: service.objectives.rto,
        rpo: service.objectives.rpo,
    })
}

/// What a live drill does: a switchover, and what brings the service home again.
fn there_and_back(
    service: &Service,
    state: &State,
    view: &View,
    policy: &DrillPolicy,
    now: Time,
) -> Result<LivePlan, String> {
    let kind = RunKind::Switchover;
    let there = incident::propose(service, state, view, kind, None, now, now)
        .map_err(|e| format!("no {kind} can be planned: {e}"))?
        .plan;
    let is_home = service.primary().is_some_and(|p| p.name == there.from);
    let back = if is_home { RunKind::Failback } else { kind };
    let home = restore::way(service, state, view, back, &there.from, now)
        .and_then(|way| {
            let plan = compile::along(service, back, &there.to, &there.from, &way);
            plan.map_err(|e| e.to_string())
        })
        .map_err(|e| format!("no way back can be planned: {e}"))?;
    let leg = |plan: Plan| LegPlan {
        expected: expected(state, &plan),
        forecast: budget::forecast(service, state, &plan),
        plan,
    };
    Ok(LivePlan {
        there: leg(there),
        home: leg(home),
        stay: policy.stay,
        grace: policy.grace,
    })
}

/// What the last check found, apart from what it says of drills; none where it says nothing any more.
fn problems(service: &Service, state: &State, now: Time) -> Option<Vec<String>> {
    let check = readiness::standing(service, state, now)?;
    let bad = check
        .problems
        .iter()
        .filter(|i| i.hinders() && i.name != readiness::DRILL);
    Some(bad.map(|i| format!("{}: {}", i.name, i.detail)).collect())
}

fn expected(state: &State, plan: &Plan) -> Vec<StepForecast> {
    let of = |step: &crate::model::plan::PlanStep| {
        let name = if plan.kind == RunKind::Drill {
            in_drill(&step.id)
        } else {
            step.id.clone()
        };
        let measured = state.durations.get(&name).and_then(|d| budget::median(d));
        StepForecast {
            step: step.id.clone(),
            expected: measured.unwrap_or(step.timeout),
            measured: measured.is_some(),
        }
    };
    plan.steps.iter().map(of).collect()
}
