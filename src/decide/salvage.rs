//! What a site that was left had written, and the other never got: known when it comes back, and settled by a person
//! before the service does.

use super::state::{Run, State, Step};
use crate::model::{
    plan::{RunKind, StepPhase},
    record::RecordBody,
};

/// What was kept apart at the site that comes back, as the step that readied it told.
struct Kept {
    bytes: u64,
    commits: u64,
}

fn kept(run: &Run) -> Option<Kept> {
    run.steps()
        .filter(|(step, _)| step.phase == StepPhase::Prepare)
        .find_map(|(_, at)| {
            let Some(Step::Done(proof)) = at else {
                return None;
            };
            let number = |fact: &str| proof.facts.get(fact)?.parse().ok();
            Some(Kept {
                bytes: number("salvage.bytes").unwrap_or(0),
                commits: number("salvage.commits")?,
            })
        })
}

/// The failover that left the site which comes back now.
fn failover<'a>(state: &'a State, run: &Run) -> Option<&'a Run> {
    let last = state.last_run.as_ref()?;
    let left = last.epoch.is_some() && last.plan.from == run.plan.to;
    (left && last.kind == RunKind::Failover).then_some(last)
}

/// What a failover really lost, once that is known.
#[must_use]
pub fn measured(state: &State, run: &Run) -> Option<RecordBody> {
    let failover = failover(state, run).filter(|f| !f.is_measured)?;
    let kept = kept(run)?;
    Some(RecordBody::LossMeasured {
        run: failover.id.clone(),
        forecast: failover.loss.clone(),
        bytes: kept.bytes,
        commits: kept.commits,
    })
}

/// Why a person has to say what becomes of it; none where nothing was kept.
#[must_use]
pub fn unsettled(state: &State, run: &Run) -> Option<Vec<String>> {
    let kept = kept(run).filter(|k| k.commits > 0)?;
    let mut reasons = vec![format!(
        "{} committed transactions ({} bytes of log) that {} never got are kept at {}, in the salvage folder of its guard",
        kept.commits, kept.bytes, run.plan.from, run.plan.to
    )];
    if let Some(failover) = failover(state, run) {
        reasons.push(format!(
            "the failover {} had forecast: {}",
            failover.id, failover.loss
        ));
    }
    reasons.push(
        "approve when what is needed of them was entered again, or nothing is: what is kept stays where it is"
            .to_owned(),
    );
    Some(reasons)
}
