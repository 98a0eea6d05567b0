//! The report of a drill, from its records alone: whoever has the journal comes to the same.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::leg::Leg;
use crate::model::{
    drill::{Depth, DrillOutcome},
    fault::Injected,
    id::{DrillName, PersonName, PlanHash, RunId, ServiceName, StepId},
    loss::LossForecast,
    plan::{Action, Plan, PlanStep, StepPhase},
    record::{DrillPlan, ForecastPart, LivePlan, Record, RecordBody, Settlement, StepForecast},
    span::Span,
    step::{Presence, StepResult},
    time::Time,
};

/// The fact of a step that says how old the newest data was that a clone had, in seconds.
const DATA_AGE: &str = "rpoSeconds";

/// What a drill showed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The drill.
    pub drill: RunId,
    /// Of which service.
    pub service: ServiceName,
    /// As the documents name it.
    pub policy: DrillName,
    /// How far it went.
    pub depth: Depth,
    /// When it began.
    pub began: Time,
    /// When it was judged; none while it goes on.
    pub judged: Option<Time>,
    /// Who asked for it; none where its schedule did.
    pub requester: Option<PersonName>,
    /// Why.
    pub reason: String,
    /// What came of it; none while it goes on.
    pub outcome: Option<DrillOutcome>,
    /// Why, one sentence each.
    pub reasons: Vec<String>,
    /// The plan that was exercised, where there was one.
    pub plan: Option<PlanHash>,
    /// The failover that it stands for.
    pub failover: PlanHash,
    /// Recovery time, part by part.
    pub rto: Rto,
    /// Recovery point.
    pub rpo: Rpo,
    /// What was done.
    pub steps: Vec<StepLine>,
    /// Both directions of a live one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub legs: Vec<Leg>,
    /// Steps of the failover that nothing here stands for.
    pub not_exercised: Vec<Unexercised>,
    /// What the gates had against a failover.
    pub gates: Vec<String>,
    /// What the last readiness check found; none where there was none for these documents.
    pub readiness: Option<Vec<String>>,
    /// What must not lead to a failover, and what came of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub injected: Vec<Injected>,
    /// By how much the steps' durations differed from what was expected of them, in percent of the latter; none where
    /// none of them was measured before.
    pub forecast_error: Option<f64>,
}

/// Recovery time, part by part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rto {
    /// What is promised.
    pub objective: Span,
    /// The parts in their order.
    pub parts: Vec<RtoPart>,
    /// Their sum.
    pub total: Span,
}

/// One part of the recovery time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RtoPart {
    /// `detect`, `fence`, `promote`, `traffic`, `dnsTtl`, `verify`.
    pub part: String,
    /// What a failover is forecast to take.
    pub forecast: Span,
    /// What it took here; none where it was not exercised, and the forecast counts.
    pub measured: Option<Span>,
}

impl RtoPart {
    /// What counts.
    #[must_use]
    pub fn counts(&self) -> Span {
        self.measured.unwrap_or(self.forecast)
    }
}

/// Recovery point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rpo {
    /// What is promised.
    pub objective: Span,
    /// What a failover would have lost when the drill began.
    pub forecast: LossForecast,
    /// How old the newest data of the clone was; none where that was not measured.
    pub measured: Option<Span>,
}

/// A step that was to be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepLine {
    /// The step.
    pub id: StepId,
    /// For people.
    pub name: String,
    /// Its part of the run.
    pub phase: StepPhase,
    /// The adapter; none where a person does it.
    pub uses: Option<String>,
    /// What was expected of it: the median of what was measured before, else its time-out.
    pub expected: Span,
    /// Whether it was measured before.
    pub known: bool,
    /// When it was begun, counted from the beginning of the drill; none where it was not.
    pub begun: Option<Span>,
    /// What its last attempt took.
    pub took: Option<Span>,
    /// Attempts.
    pub attempts: u32,
    /// How it came out.
    pub result: StepStatus,
    /// What was seen, or why it failed.
    pub evidence: String,
    /// What it measured.
    pub facts: BTreeMap<String, String>,
}

/// How a step came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StepStatus {
    /// It was not begun.
    NotBegun,
    /// It is in place, or was.
    Done,
    /// It failed.
    Failed,
    /// It could not be told.
    Unclear,
    /// It was left out.
    LeftOut,
}

/// A step of the failover that was not exercised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unexercised {
    /// The step.
    pub id: StepId,
    /// For people.
    pub name: String,
    /// Why.
    pub why: String,
}

/// Whether a report is made from such records.
#[must_use]
pub fn is_told(record: &RecordBody) -> bool {
    matches!(
        record,
        RecordBody::DrillOpened { .. }
            | RecordBody::DrillJudged { .. }
            | RecordBody::StepIntent { .. }
            | RecordBody::StepOutcome { .. }
            | RecordBody::StepObserved { .. }
            | RecordBody::StepSettled { .. }
            | RecordBody::RunOpened { .. }
            | RecordBody::Verified { .. }
            | RecordBody::RunClosed { .. }
    )
}

/// The report of the drill that the first of these records opens; none where none does. What it says does not depend on
/// records of other kinds, nor on what was recorded once the drill was judged.
#[must_use]
pub fn of(records: &[Record]) -> Option<Report> {
    let opened = records
        .iter()
        .position(|r| matches!(r.body, RecordBody::DrillOpened { .. }))?;
    let first = &records[opened];
    let RecordBody::DrillOpened {
        drill: what,
        requester,
        reason,
    } = &first.body
    else {
        return None;
    };
    let id = RunId::of(&first.chain, first.seq);
    let mut report = Report {
        drill: id,
        service: first.chain.clone(),
        policy: what.policy.clone(),
        depth: what.depth,
        began: first.at,
        judged: None,
        requester: requester.clone(),
        reason: reason.clone(),
        outcome: None,
        reasons: Vec::new(),
        plan: what.plan.as_ref().map(Plan::hash),
        failover: what.failover.hash(),
        rto: Rto {
            objective: what.rto,
            parts: Vec::new(),
            total: Span::ZERO,
        },
        rpo: Rpo {
            objective: what.rpo,
            forecast: what.loss.clone(),
            measured: None,
        },
        steps: what
            .plan
            .iter()
            .flat_map(|p| lines(&what.expected, p))
            .collect(),
        legs: what.live.iter().flat_map(|live| legs(live)).collect(),
        not_exercised: Vec::new(),
        gates: what.gates.clone(),
        readiness: what.readiness.clone(),
        injected: what.injected.clone(),
        forecast_error: None,
    };
    for record in &records[opened + 1..] {
        if let RecordBody::DrillJudged {
            drill,
            outcome,
            reasons,
        } = &record.body
            && *drill == report.drill
        {
            report.judged = Some(record.at);
            report.outcome = Some(*outcome);
            report.reasons.clone_from(reasons);
            break;
        }
        report.note(record);
    }
    report.conclude(what);
    Some(report)
}

fn legs(live: &LivePlan) -> [Leg; 2] {
    [&live.there, &live.home].map(|leg| Leg::planned(leg, lines(&leg.expected, &leg.plan)))
}

fn lines(expected: &[StepForecast], plan: &Plan) -> Vec<StepLine> {
    let line = |step: &PlanStep| {
        let expected = expected.iter().find(|e| e.step == step.id);
        StepLine {
            id: step.id.clone(),
            name: step.name.clone(),
            phase: step.phase,
            uses: step.action.kind().map(ToOwned::to_owned),
            expected: expected.map_or(step.timeout, |e| e.expected),
            known: expected.is_some_and(|e| e.measured),
            begun: None,
            took: None,
            attempts: 0,
            result: StepStatus::NotBegun,
            evidence: match &step.action {
                Action::Manual { instructions } => instructions.clone(),
                Action::Adapter(_) => String::new(),
            },
            facts: BTreeMap::new(),
        }
    };
    plan.steps.iter().map(line).collect()
}

impl Report {
    fn line(&mut self, run: &RunId, step: &StepId) -> Option<&mut StepLine> {
        let steps = if *run == self.drill {
            &mut self.steps
        } else {
            let mut legs = self.legs.iter_mut();
            &mut legs.find(|l| l.run.as_ref() == Some(run))?.steps
        };
        steps.iter_mut().find(|s| s.id == *step)
    }

    /// Every step that was to be done: its own, and those of the runs of a live one.
    fn all_steps(&self) -> impl Iterator<Item = &StepLine> {
        self.steps
            .iter()
            .chain(self.legs.iter().flat_map(|l| &l.steps))
    }

    /// The steps that stand for those of a failover: of a live one, those of its way there.
    fn exercised(&self) -> impl Iterator<Item = &StepLine> {
        let there = self.legs.first().into_iter().flat_map(|l| &l.steps);
        self.steps.iter().chain(there)
    }

    /// Takes in what became of a direction of a live one.
    fn note_leg(&mut self, record: &Record) {
        let since = record.at.since(self.began);
        if let RecordBody::RunOpened { drill, .. } = &record.body
            && drill.as_ref() == Some(&self.drill)
            && let Some(leg) = self.legs.iter_mut().find(|l| l.run.is_none())
        {
            leg.run = Some(RunId::of(&record.chain, record.seq));
        }
        let of = |leg: &&mut Leg, run: &RunId| leg.run.as_ref() == Some(run);
        if let RecordBody::Verified { run, .. } = &record.body
            && let Some(leg) = self.legs.iter_mut().find(|l| of(l, run))
        {
            leg.verified(since);
        }
        if let RecordBody::RunClosed { run, outcome, .. } = &record.body
            && let Some(leg) = self.legs.iter_mut().find(|l| of(l, run))
        {
            leg.outcome = Some(*outcome);
        }
    }

    /// Takes in what became of a step.
    fn note(&mut self, record: &Record) {
        self.note_leg(record);
        let since = record.at.since(self.began);
        if let RecordBody::StepIntent { run, step, .. } = &record.body
            && let Some(line) = self.line(run, step)
        {
            line.begun.get_or_insert(since);
            line.attempts += 1;
            line.result = StepStatus::Unclear;
        }
        if let RecordBody::StepOutcome {
            run,
            step,
            result,
            took,
            ..
        } = &record.body
            && let Some(line) = self.line(run, step)
        {
            line.took = Some(*took);
            line.came_out(result);
        }
        if let RecordBody::StepObserved {
            run,
            step,
            presence,
            ..
        } = &record.body
            && let Some(line) = self.line(run, step)
        {
            let begun = line.begun.unwrap_or(since);
            line.took = Some(since.saturating_sub(begun));
            line.was_seen(presence);
        }
        if let RecordBody::StepSettled { run, step, how } = &record.body
            && let Some(line) = self.line(run, step)
        {
            line.was_settled(how, since);
        }
    }

    /// What follows from the steps.
    fn conclude(&mut self, what: &DrillPlan) {
        self.rto.parts = what.forecast.iter().map(|p| self.part(p)).collect();
        let counted = self.rto.parts.iter().map(RtoPart::counts);
        self.rto.total = counted.fold(Span::ZERO, Span::saturating_add);
        self.rpo.measured = self
            .steps
            .iter()
            .filter_map(|s| seconds(s.facts.get(DATA_AGE)?))
            .max();
        let stands_for = |phase| {
            let mut of_phase = self.exercised().filter(|s| s.phase == phase);
            of_phase.any(|s| s.result == StepStatus::Done)
        };
        let left_out = what.failover.steps.iter().filter(|s| !stands_for(s.phase));
        let depth = self.depth;
        self.not_exercised = left_out
            .map(|s| Unexercised {
                id: s.id.clone(),
                name: s.name.clone(),
                why: why_not(depth, s.phase).to_owned(),
            })
            .collect();
        self.legs.iter_mut().for_each(Leg::conclude);
        self.forecast_error = self.error();
    }

    /// A part of the forecast, with what the steps of that phase took from the first one's begin to the last one's end.
    fn part(&self, forecast: &ForecastPart) -> RtoPart {
        let of_part = self
            .exercised()
            .filter(|s| s.phase.to_string() == forecast.part && s.result == StepStatus::Done);
        let times: Vec<(Span, Span)> = of_part.filter_map(|s| Some((s.begun?, s.took?))).collect();
        let first = times.iter().map(|(begun, _)| *begun).min();
        let last = times
            .iter()
            .map(|(begun, took)| begun.saturating_add(*took))
            .max();
        RtoPart {
            part: forecast.part.clone(),
            forecast: forecast.expected,
            measured: last
                .zip(first)
                .map(|(last, first)| last.saturating_sub(first)),
        }
    }

    fn error(&self) -> Option<f64> {
        let known = || {
            let done = |s: &&StepLine| s.known && s.result == StepStatus::Done;
            self.all_steps().filter(done)
        };
        let expected: f64 = known().map(|s| s.expected.as_secs_f64()).sum();
        let took: f64 = known().filter_map(|s| s.took).map(Span::as_secs_f64).sum();
        (expected > 0.0).then(|| round((took - expected) / expected * 100.0))
    }

    /// What keeps it from being passed, one sentence each.
    #[must_use]
    pub fn shortcomings(&self) -> Vec<String> {
        let mut out = Vec::new();
        for step in &self.steps {
            if step.result != StepStatus::Done {
                let what = step.result.words();
                out.push(format!(
                    "step {} ({}) {what}: {}",
                    step.id, step.name, step.evidence
                ));
            }
        }
        for leg in &self.legs {
            out.extend(leg.shortcomings(self.rto.objective));
        }
        let Rto {
            objective, total, ..
        } = self.rto;
        if total > objective {
            let guessed: Vec<&str> = self.unmeasured().collect();
            let rests = if guessed.is_empty() {
                String::new()
            } else {
                format!(" (not measured but forecast: {})", guessed.join(", "))
            };
            out.push(format!(
                "recovery takes {total}, the RTO is {objective}{rests}"
            ));
        }
        if let Some(age) = self.rpo.measured.filter(|age| *age > self.rpo.objective) {
            out.push(format!(
                "the newest data of the clone was {age} old, the RPO is {} (where nobody writes for so long, have a heartbeat row written)",
                self.rpo.objective
            ));
        }
        for injected in &self.injected {
            if let Some(wrong) = &injected.wrong {
                out.push(format!("{}: {wrong}", injected.fault));
            }
        }
        out.extend(self.gates.iter().cloned());
        match &self.readiness {
            None if self.depth == Depth::Paper => {
                out.push(format!(
                    "`failover check {}` was not run for these documents",
                    self.service
                ));
            }
            Some(problems) => out.extend(problems.iter().map(|p| format!("not ready: {p}"))),
            None => {}
        }
        out
    }

    fn unmeasured(&self) -> impl Iterator<Item = &str> {
        let parts = self.rto.parts.iter().filter(|p| p.measured.is_none());
        parts.map(|p| p.part.as_str())
    }

    /// SHA-256 over it as JSON.
    #[must_use]
    pub fn hash(&self) -> String {
        let json = serde_json::to_string(self).unwrap_or_default();
        hex::encode(Sha256::digest(json.as_bytes()))
    }
}

impl StepLine {
    fn came_out(&mut self, result: &StepResult) {
        (self.result, self.evidence) = match result {
            StepResult::Done(proof) => {
                self.facts.clone_from(&proof.facts);
                (StepStatus::Done, proof.summary.clone())
            }
            StepResult::Failed { reason } => (StepStatus::Failed, reason.clone()),
            StepResult::Indeterminate { reason } => (StepStatus::Unclear, reason.clone()),
        };
    }

    fn was_seen(&mut self, presence: &Presence) {
        (self.result, self.evidence) = match presence {
            Presence::InPlace(proof) => {
                self.facts.clone_from(&proof.facts);
                (StepStatus::Done, proof.summary.clone())
            }
            Presence::Absent { reason } => (StepStatus::Failed, reason.clone()),
            Presence::Unknown { reason } => (StepStatus::Unclear, reason.clone()),
        };
    }

    fn was_settled(&mut self, how: &Settlement, since: Span) {
        match how {
            Settlement::Manual { by } => {
                self.result = StepStatus::Done;
                self.evidence = format!("{by} did it");
                let begun = *self.begun.get_or_insert(since);
                self.took = Some(since.saturating_sub(begun));
            }
            Settlement::Skipped { reason } => {
                self.result = StepStatus::LeftOut;
                self.evidence.clone_from(reason);
            }
            Settlement::Undone { .. } | Settlement::Left { .. } => {}
        }
    }
}

impl StepStatus {
    /// In a sentence.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::NotBegun => "was not begun",
            Self::Done => "was done",
            Self::Failed => "failed",
            Self::Unclear => "cannot be told",
            Self::LeftOut => "was left out",
        }
    }
}

fn why_not(depth: Depth, phase: StepPhase) -> &'static str {
    match (depth, phase) {
        (Depth::Paper, _) => "nothing is touched in a drill on paper",
        (Depth::Live, _) => "no step of the switchover stands for it",
        (Depth::Isolated, StepPhase::Fence) => "the primary goes on serving",
        (Depth::Isolated, StepPhase::Tell) => "customers are not told of a drill",
        (
            Depth::Isolated,
            StepPhase::Prepare
            | StepPhase::Promote
            | StepPhase::Traffic
            | StepPhase::Verify
            | StepPhase::Protect,
        ) => "no step of the drill stands for it",
    }
}

/// A number of seconds, to the millisecond.
fn seconds(text: &str) -> Option<Span> {
    let seconds: f64 = text.parse().ok()?;
    let exact = Duration::try_from_secs_f64(seconds).ok()?;
    Some(Span::from(exact))
}

/// To a tenth.
fn round(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// By how much the forecasts were off, drill after drill: the middle one of their sizes, in percent.
#[must_use]
pub fn typical_error(reports: &[Report]) -> Option<f64> {
    let mut sizes: Vec<f64> = reports
        .iter()
        .filter_map(|r| r.forecast_error)
        .map(f64::abs)
        .collect();
    sizes.sort_by(f64::total_cmp);
    sizes.get(sizes.len() / 2).copied()
}
