//! A run as the journal tells it.

use std::collections::{BTreeMap, BTreeSet};

use super::restore;
use crate::model::{
    id::{Attempt, Epoch, IncidentId, PersonName, RunId, StepId},
    loss::LossForecast,
    plan::{Plan, PlanStep, RunKind, StepPhase},
    record::{ForecastPart, Record, RecordBody, RunOutcome, Settlement},
    span::Span,
    step::{Presence, Proof, Rung, StepResult},
    time::Time,
};

/// A run.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// What for.
    pub kind: RunKind,
    /// The incident.
    pub incident: Option<IncidentId>,
    /// The plan.
    pub plan: Plan,
    /// When the outage began.
    pub since: Time,
    /// When it was opened.
    pub opened: Time,
    /// Why.
    pub reason: String,
    /// Who asked.
    pub requester: Option<PersonName>,
    /// What is expected to be lost.
    pub loss: LossForecast,
    /// The forecast.
    pub forecast: Vec<ForecastPart>,
    /// The epoch that it opened, once it did.
    pub epoch: Option<Epoch>,
    /// When it did.
    pub promised: Option<Time>,
    /// Where each step stands; a step that is absent has not begun.
    pub steps: BTreeMap<StepId, Step>,
    /// When each step was begun and settled.
    pub times: BTreeMap<StepId, (Time, Option<Time>)>,
    /// How often each step's effect failed or could not be told, apart from crashes of the controller.
    pub failures: BTreeMap<StepId, u32>,
    /// Steps that were left out although their effect may be in place.
    pub unclear: BTreeSet<StepId>,
    /// Why each step failed first; of a write attempt, that it was taken: the old primary can write until it refuses one.
    pub failed_first: BTreeMap<StepId, String>,
    /// An attestation by a person, and when it was given.
    pub attested: Option<(PersonName, String, Time)>,
    /// When the service was verified.
    pub verified: Option<Time>,
    /// Whether it is known by now what was really lost.
    pub is_measured: bool,
    /// Somebody wants it to stop, or its cause is gone: why.
    pub unwinding: Option<(Option<PersonName>, String)>,
    /// How it ended.
    pub ended: Option<(RunOutcome, String, Time)>,
}

/// Where a step stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Promised, outcome not recorded.
    Intended {
        /// Which attempt.
        attempt: Attempt,
    },
    /// It may or may not have happened.
    Indeterminate {
        /// Which attempt.
        attempt: Attempt,
        /// Why it cannot be told.
        reason: String,
    },
    /// It is known not to be in place after this attempt.
    Failed {
        /// Which attempt.
        attempt: Attempt,
        /// Why.
        reason: String,
    },
    /// It is in place.
    Done(Proof),
    /// Settled without being performed.
    Settled(Settlement),
}

impl Step {
    /// Whether steps after it may begin.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        match self {
            Self::Done(_) | Self::Settled(_) => true,
            Self::Intended { .. } | Self::Indeterminate { .. } | Self::Failed { .. } => false,
        }
    }
}

impl Run {
    /// A step of its plan and where it stands.
    pub fn steps(&self) -> impl Iterator<Item = (&PlanStep, Option<&Step>)> {
        self.plan.steps.iter().map(|s| (s, self.steps.get(&s.id)))
    }

    /// Whether the time of a step, with all its attempts, is over.
    #[must_use]
    pub fn is_overdue(&self, step: &PlanStep, now: Time) -> bool {
        let attempts = u64::from(step.retry.attempts.max(1));
        let begun = self.times.get(&step.id).map_or(now, |(begun, _)| *begun);
        now.since(begun) >= step.timeout.saturating_mul(attempts)
    }

    /// A promotion of which nobody can tell whether it took effect, though its time is over: why.
    #[must_use]
    pub fn unclear_promotion(&self, now: Time) -> Option<(&PlanStep, &str)> {
        self.steps().find_map(|(step, at)| match at {
            Some(Step::Indeterminate { reason, .. })
                if step.phase == StepPhase::Promote && self.is_overdue(step, now) =>
            {
                Some((step, reason.as_str()))
            }
            Some(
                Step::Indeterminate { .. }
                | Step::Intended { .. }
                | Step::Failed { .. }
                | Step::Done(_)
                | Step::Settled(_),
            )
            | None => None,
        })
    }

    /// The highest rung that its fences reached.
    #[must_use]
    pub fn rung(&self) -> Option<Rung> {
        let proved = self.steps.values().filter_map(|s| match s {
            Step::Done(proof) => proof.rung,
            Step::Intended { .. }
            | Step::Indeterminate { .. }
            | Step::Failed { .. }
            | Step::Settled(_) => None,
        });
        proved.max()
    }

    /// What a person attests, for as long as somebody who was asked may take to answer: after that the world may be another.
    #[must_use]
    pub fn attestation(&self, holds: Span, now: Time) -> Option<(&PersonName, &str)> {
        let (by, statement, at) = self.attested.as_ref()?;
        (now.since(*at) <= holds).then_some((by, statement))
    }

    /// What its fences proved has to be seen again.
    pub fn doubt_fences(&mut self) {
        let fences = self
            .plan
            .steps
            .iter()
            .filter(|s| s.phase == StepPhase::Fence);
        for step in fences {
            if let Some(at @ Step::Done(_)) = self.steps.get_mut(&step.id) {
                *at = Step::Indeterminate {
                    attempt: Attempt(1),
                    reason: "another controller saw it done".to_owned(),
                };
            }
        }
    }

    /// Whether it is proved that the new site serves. DNS is apart from that: the fallback URL works before it does.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.steps().all(|(step, at)| match step.phase {
            StepPhase::Prepare | StepPhase::Fence => at.is_some_and(Step::is_settled),
            StepPhase::Promote | StepPhase::Verify => restore::is_achieved(self, step),
            StepPhase::Traffic | StepPhase::Protect | StepPhase::Tell => true,
        })
    }

    /// Whether every step of the phases up to this one is settled.
    #[must_use]
    pub fn settled_through(&self, phase: StepPhase) -> bool {
        self.steps()
            .filter(|(s, _)| s.phase <= phase)
            .all(|(_, at)| at.is_some_and(Step::is_settled))
    }

    /// The run that a record opens.
    pub fn opened(record: &Record) -> Option<Self> {
        let RecordBody::RunOpened {
            kind,
            incident,
            plan,
            since,
            reason,
            requester,
            loss,
            forecast,
            ..
        } = &record.body
        else {
            return None;
        };
        Some(Self {
            incident: incident.clone(),
            since: *since,
            requester: requester.clone(),
            loss: loss.clone(),
            forecast: forecast.clone(),
            ..Self::begun(record, *kind, plan, reason)
        })
    }

    /// The run of a drill that a record opens.
    pub fn exercise(record: &Record, plan: &Plan, reason: &str) -> Self {
        Self::begun(record, RunKind::Drill, plan, reason)
    }

    fn begun(record: &Record, kind: RunKind, plan: &Plan, reason: &str) -> Self {
        Self {
            id: RunId::of(&record.chain, record.seq),
            kind,
            incident: None,
            plan: plan.clone(),
            since: record.at,
            opened: record.at,
            reason: reason.to_owned(),
            requester: None,
            loss: LossForecast::Stateless,
            forecast: Vec::new(),
            epoch: None,
            promised: None,
            steps: BTreeMap::new(),
            times: BTreeMap::new(),
            failures: BTreeMap::new(),
            unclear: BTreeSet::new(),
            failed_first: BTreeMap::new(),
            attested: None,
            verified: None,
            is_measured: false,
            unwinding: None,
            ended: None,
        }
    }

    /// What performing a step came to.
    pub fn outcome(&mut self, step: &StepId, attempt: Attempt, result: &StepResult, at: Time) {
        if let StepResult::Failed { reason } = result {
            self.failed_first
                .entry(step.clone())
                .or_insert_with(|| reason.clone());
        }
        let next = match result {
            StepResult::Done(proof) => Step::Done(proof.clone()),
            StepResult::Failed { reason } => Step::Failed {
                attempt,
                reason: reason.clone(),
            },
            StepResult::Indeterminate { reason } => Step::Indeterminate {
                attempt,
                reason: reason.clone(),
            },
        };
        if !next.is_settled() {
            *self.failures.entry(step.clone()).or_default() += 1;
        }
        self.put(step, next, at);
    }

    /// What a step's result comes to after what it came to before: silence does not take back a write that was taken.
    #[must_use]
    pub fn judged(&self, step: &StepId, result: StepResult) -> StepResult {
        match (result, self.failed_first.get(step)) {
            (StepResult::Done(proof), Some(before)) if proof.is_silence() => StepResult::failed(
                format!("{before}; since then nobody answers, which does not take that back"),
            ),
            (result, _) => result,
        }
    }

    /// What looking for a step's effect came to.
    pub fn observed(&mut self, step: &StepId, attempt: Attempt, presence: &Presence, at: Time) {
        let next = match presence {
            Presence::InPlace(proof) => Step::Done(proof.clone()),
            Presence::Absent { reason } => Step::Failed {
                attempt,
                reason: reason.clone(),
            },
            Presence::Unknown { reason } => Step::Indeterminate {
                attempt,
                reason: reason.clone(),
            },
        };
        self.put(step, next, at);
    }

    /// Where a step stands from now on.
    pub fn put(&mut self, step: &StepId, next: Step, at: Time) {
        let settled = next.is_settled().then_some(at);
        let times = self.times.entry(step.clone()).or_insert((at, None));
        times.1 = settled;
        let is_left_out = matches!(next, Step::Settled(Settlement::Skipped { .. }));
        let before = self.steps.insert(step.clone(), next);
        if is_left_out && matches!(before, Some(Step::Indeterminate { .. })) {
            self.unclear.insert(step.clone());
        }
    }
}
