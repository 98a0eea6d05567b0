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
    /// None where that could not be counted.
    commits: Option<u64>,
}

fn kept(run: &Run) -> Option<Kept> {
    run.steps()
        .filter(|(step, _)| step.phase == StepPhase::Prepare)
        .find_map(|(_, at)| {
            let Some(Step::Done(proof)) = at else {
                return None;
            };
            let commits = proof.facts.get("salvage.commits")?;
            let bytes = proof.facts.get("salvage.bytes");
            Some(Kept {
                bytes: bytes.and_then(|b| b.parse().ok()).unwrap_or(0),
                commits: commits.parse().ok(),
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
        commits: kept.commits?,
    })
}

/// Why a person has to say what becomes of it; none where nothing was kept.
#[must_use]
pub fn unsettled(state: &State, run: &Run) -> Option<Vec<String>> {
    let kept = kept(run).filter(|k| k.commits != Some(0))?;
    let (from, to) = (&run.plan.from, &run.plan.to);
    let mut reasons = vec![match kept.commits {
        Some(commits) => format!(
            "{commits} committed transactions ({} bytes of log) that {from} never got are kept at {to}, in the salvage folder of its guard",
            kept.bytes
        ),
        None => format!(
            "what {to} had that {from} never got could not be counted: the old data directory is kept there"
        ),
    }];
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
