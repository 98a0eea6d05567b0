//! Service, runbook and direction become a plan that leaves no choice to execution time.

use std::collections::BTreeSet;

use super::incident;
use crate::model::{
    id::{SiteName, StepId},
    plan::{Plan, PlanStep, RunKind, StepPhase},
    service::{RunbookStep, Service},
};

/// Why no plan can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The runbook has nothing for this kind of run.
    #[error(
        "runbook {runbook} has no step for a {kind}: add `runs: [{kind}]` to the steps that it needs"
    )]
    NoSteps {
        /// The runbook.
        runbook: String,
        /// The kind of run.
        kind: RunKind,
    },
    /// The steps are written for another way.
    #[error(
        "the steps of runbook {runbook} lead {written}, not {wanted} ({steps}): rejoin the old primary, then turn the documents round, the roles of the sites and these steps"
    )]
    OtherWay {
        /// The runbook.
        runbook: String,
        /// The way that they lead.
        written: String,
        /// The way that they would have to lead.
        wanted: String,
        /// The steps that name hosts of one way.
        steps: String,
    },
    /// Steps wait for each other.
    #[error("steps wait for each other: {0}")]
    Cycle(String),
}

/// Compiles the plan of a run.
///
/// # Errors
/// Where the runbook has no steps for it; documents that passed validation have no cycles.
pub fn compile(
    service: &Service,
    kind: RunKind,
    from: &SiteName,
    to: &SiteName,
) -> Result<Plan, CompileError> {
    let chosen: Vec<&RunbookStep> = service
        .runbook
        .steps
        .iter()
        .filter(|s| s.on.contains(&kind))
        .collect();
    if chosen.is_empty() {
        return Err(CompileError::NoSteps {
            runbook: service.runbook.name.to_string(),
            kind,
        });
    }
    direction(service, &chosen, from, to)?;
    let ids: BTreeSet<&StepId> = chosen.iter().map(|s| &s.id).collect();
    let steps = chosen.iter().map(|s| step(s, &ids, &chosen)).collect();
    let steps = ordered(steps)?;
    let promotes = steps.iter().any(|s| s.phase == StepPhase::Promote);
    Ok(Plan {
        service: service.name.clone(),
        kind,
        runbook: service.runbook.name.clone(),
        from: from.clone(),
        to: to.clone(),
        fencing: promotes.then_some(service.fencing),
        steps,
        config: service.config.clone(),
    })
}

/// Steps name the hosts that they fence and promote: they lead from the site that the documents call the primary to its
/// standby. Any other way they would stop the wrong server.
fn direction(
    service: &Service,
    chosen: &[&RunbookStep],
    from: &SiteName,
    to: &SiteName,
) -> Result<(), CompileError> {
    let Some(primary) = service.primary() else {
        return Ok(());
    };
    let Some(standby) = incident::target(service, &primary.name) else {
        return Ok(());
    };
    let bound: Vec<&str> = chosen
        .iter()
        .filter(|s| !s.both_ways)
        .map(|s| s.id.as_str())
        .collect();
    if bound.is_empty() || (from == &primary.name && to == &standby) {
        return Ok(());
    }
    Err(CompileError::OtherWay {
        runbook: service.runbook.name.to_string(),
        written: format!("from {} to {standby}", primary.name),
        wanted: format!("from {from} to {to}"),
        steps: bound.join(", "),
    })
}

fn step(step: &RunbookStep, ids: &BTreeSet<&StepId>, chosen: &[&RunbookStep]) -> PlanStep {
    let mut needs: Vec<StepId> = step
        .needs
        .iter()
        .filter(|n| ids.contains(n))
        .cloned()
        .collect();
    // Whatever a document forgets: nothing is promoted before every fence step is settled.
    if step.phase == StepPhase::Promote {
        for fence in chosen.iter().filter(|s| s.phase == StepPhase::Fence) {
            if !needs.contains(&fence.id) {
                needs.push(fence.id.clone());
            }
        }
    }
    PlanStep {
        id: step.id.clone(),
        name: step.name.clone(),
        phase: step.phase,
        action: step.action.clone(),
        needs,
        timeout: step.timeout,
        retry: step.retry,
        on_failure: step.on_failure,
    }
}

/// In an order in which needs come first, otherwise as the document has them.
fn ordered(mut steps: Vec<PlanStep>) -> Result<Vec<PlanStep>, CompileError> {
    let mut out: Vec<PlanStep> = Vec::with_capacity(steps.len());
    while !steps.is_empty() {
        let ready = steps
            .iter()
            .position(|s| s.needs.iter().all(|n| out.iter().any(|o| &o.id == n)));
        let Some(index) = ready else {
            let names: Vec<_> = steps.iter().map(|s| s.id.as_str()).collect();
            return Err(CompileError::Cycle(names.join(", ")));
        };
        out.push(steps.remove(index));
    }
    Ok(out)
}
