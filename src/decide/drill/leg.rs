//! One direction of a live drill, in its report.

use serde::{Deserialize, Serialize};

use super::report::{StepLine, StepStatus};
use crate::model::{
    id::{RunId, SiteName},
    plan::{RunKind, StepPhase},
    record::{LegPlan, RunOutcome},
    span::Span,
};

/// The fact of a step that says how many transactions the site that was left had and the other never got.
const LEFT_BEHIND: &str = "salvage.commits";

/// One direction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leg {
    /// What kind of run it is.
    pub kind: RunKind,
    /// The site that is left.
    pub from: SiteName,
    /// The site that serves then.
    pub to: SiteName,
    /// The run; none where it was not begun.
    pub run: Option<RunId>,
    /// How it ended.
    pub outcome: Option<RunOutcome>,
    /// What it was forecast to take from the first fence to the verification.
    pub forecast: Span,
    /// What that took; none where it was not verified.
    pub downtime: Option<Span>,
    /// Committed transactions that the site which was left had and the other never got; none where nothing counts them.
    pub lost: Option<u64>,
    /// What was done.
    pub steps: Vec<StepLine>,
}

impl Leg {
    /// A direction that is not begun yet.
    #[must_use]
    pub fn planned(leg: &LegPlan, steps: Vec<StepLine>) -> Self {
        let sum = leg
            .forecast
            .iter()
            .fold(Span::ZERO, |sum, p| sum.saturating_add(p.expected));
        Self {
            kind: leg.plan.kind,
            from: leg.plan.from.clone(),
            to: leg.plan.to.clone(),
            run: None,
            outcome: None,
            forecast: sum,
            downtime: None,
            lost: None,
            steps,
        }
    }

    /// It was verified, so long after the drill began: writes stopped with the first fence.
    pub fn verified(&mut self, since: Span) {
        let fences = self.steps.iter().filter(|s| s.phase == StepPhase::Fence);
        let first = fences.filter_map(|s| s.begun).min();
        self.downtime = first.map(|begun| since.saturating_sub(begun));
    }

    /// What follows from its steps.
    pub fn conclude(&mut self) {
        let counted = self
            .steps
            .iter()
            .filter_map(|s| s.facts.get(LEFT_BEHIND)?.parse::<u64>().ok());
        self.lost = counted.max();
    }

    /// What keeps the drill from being passed, one sentence each; of a direction that was not begun, the drill says why.
    #[must_use]
    pub fn shortcomings(&self, rto: Span) -> Vec<String> {
        let name = format!("{} to {}", self.kind, self.to);
        if self.run.is_none() {
            return Vec::new();
        }
        // Where it ended before its end, what was not begun any more is no news.
        let is_whole = self.outcome == Some(RunOutcome::Done);
        let counts = |s: &&StepLine| match s.result {
            StepStatus::Done => false,
            StepStatus::NotBegun => is_whole,
            StepStatus::Failed | StepStatus::Unclear | StepStatus::LeftOut => true,
        };
        let mut out: Vec<String> = self
            .steps
            .iter()
            .filter(counts)
            .map(|s| {
                let what = s.result.words();
                format!("{name}: step {} ({}) {what}: {}", s.id, s.name, s.evidence)
            })
            .collect();
        match self.outcome {
            Some(RunOutcome::Done) => {}
            Some(RunOutcome::Aborted | RunOutcome::Unwound) => {
                out.push(format!("the {name} went back"));
            }
            Some(RunOutcome::Stuck) => out.push(format!("the {name} did not finish")),
            None => out.push(format!("the {name} goes on")),
        }
        match self.downtime {
            Some(took) if took > rto => {
                out.push(format!("the {name} took {took}, the RTO is {rto}"));
            }
            None if is_whole => out.push(format!("the {name} was not verified")),
            Some(_) | None => {}
        }
        if let Some(lost) = self.lost.filter(|lost| *lost > 0) {
            out.push(format!("the {name} left {lost} transactions behind"));
        }
        out
    }
}
