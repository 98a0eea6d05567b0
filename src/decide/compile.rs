//! Service, runbook and direction become a plan that leaves no choice to execution time.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    incident,
    restore::{self, Candidate, Way},
};
use crate::model::{
    id::{SiteName, StepId},
    plan::{Action, End, Plan, PlanStep, RunKind, StepPhase, Uses},
    service::{ComponentKind, Runbook, RunbookStep, Service},
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
        "the steps of runbook {runbook} lead {written}, not {wanted} ({steps}): give each of them its settings for both sites under `spec.steps.STEP.sites`"
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
    /// A step that has settings by site has none for the one it would act at.
    #[error(
        "step {step} has no settings for {site}: give them under `spec.steps.{step}.sites.{site}`"
    )]
    NoSettings {
        /// The step.
        step: StepId,
        /// The site.
        site: SiteName,
    },
    /// The data would stay where it is.
    #[error(
        "runbook {runbook} promotes nothing in a {kind}, and the service has a database: add {kind} to the `runs` of its fence and promote steps"
    )]
    NothingPromotes {
        /// The runbook.
        runbook: String,
        /// The kind of run.
        kind: RunKind,
    },
    /// Steps wait for each other.
    #[error("steps wait for each other: {0}")]
    Cycle(String),
}

/// Compiles the plan of a run that restores nothing.
///
/// # Errors
/// As [`along`].
pub fn compile(
    service: &Service,
    kind: RunKind,
    from: &SiteName,
    to: &SiteName,
) -> Result<Plan, CompileError> {
    along(service, kind, from, to, &Way::Promote(None))
}

/// Compiles the plan of a run that goes this way.
///
/// # Errors
/// Where the runbook has no steps for it; documents that passed validation have no cycles.
pub fn along(
    service: &Service,
    kind: RunKind,
    from: &SiteName,
    to: &SiteName,
    way: &Way,
) -> Result<Plan, CompileError> {
    let all = service.runbook.steps.iter();
    let mut chosen: Vec<&RunbookStep> = all.filter(|s| s.on.contains(&kind)).collect();
    let branches = Branches::of(&chosen);
    chosen.retain(|s| branches.takes(s, way));
    if chosen.is_empty() {
        return Err(CompileError::NoSteps {
            runbook: service.runbook.name.to_string(),
            kind,
        });
    }
    direction(service, &chosen, from, to)?;
    let ids: BTreeSet<&StepId> = chosen.iter().map(|s| &s.id).collect();
    let steps: Result<Vec<_>, _> = chosen
        .iter()
        .map(|s| {
            let mut step = step(s, &ids, &chosen, from, to)?;
            branches.join(&mut step, &s.needs, way, &ids);
            Ok(step)
        })
        .collect();
    let steps = ordered(steps?)?;
    let promotes = steps.iter().any(|s| s.phase == StepPhase::Promote);
    let mut components = service.components.iter();
    if kind.is_planned() && !promotes && components.any(|c| c.kind == ComponentKind::Database) {
        return Err(CompileError::NothingPromotes {
            runbook: service.runbook.name.to_string(),
            kind,
        });
    }
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

/// Compiles the plan of an isolated drill: it stands for the failover between these sites, and fences nothing.
///
/// # Errors
/// Where its runbook has no steps for a drill, or settings for these sites are missing.
pub fn exercise(
    service: &Service,
    runbook: &Runbook,
    from: &SiteName,
    to: &SiteName,
) -> Result<Plan, CompileError> {
    let kind = RunKind::Drill;
    let chosen: Vec<&RunbookStep> = runbook
        .steps
        .iter()
        .filter(|s| s.on.contains(&kind))
        .collect();
    if chosen.is_empty() {
        let runbook = runbook.name.to_string();
        return Err(CompileError::NoSteps { runbook, kind });
    }
    let ids: BTreeSet<&StepId> = chosen.iter().map(|s| &s.id).collect();
    let steps: Result<Vec<_>, _> = chosen
        .iter()
        .map(|s| step(s, &ids, &chosen, from, to))
        .collect();
    Ok(Plan {
        service: service.name.clone(),
        kind,
        runbook: runbook.name.clone(),
        from: from.clone(),
        to: to.clone(),
        fencing: None,
        steps: ordered(steps?)?,
        config: service.config.clone(),
    })
}

/// Which steps stand in for which others.
struct Branches(BTreeMap<StepId, Vec<StepId>>);

impl Branches {
    fn of(steps: &[&RunbookStep]) -> Self {
        let ids: BTreeSet<&StepId> = steps.iter().map(|s| &s.id).collect();
        let mut branches: BTreeMap<StepId, Vec<StepId>> = BTreeMap::new();
        for step in steps {
            if let Some(first) = step.instead_of.as_ref().filter(|f| ids.contains(f)) {
                branches
                    .entry(first.clone())
                    .or_default()
                    .push(step.id.clone());
            }
        }
        Self(branches)
    }

    /// Whether a step is part of a plan that goes this way.
    fn takes(&self, step: &RunbookStep, way: &Way) -> bool {
        match way {
            Way::Promote(Some(_)) => true,
            // Nothing could be restored.
            Way::Promote(None) => step.instead_of.is_none(),
            Way::Restore(_) => !self.0.contains_key(&step.id),
        }
    }

    /// Joins a step to the way: a branch waits for what it stands in for, and whatever waits for that waits for both, or
    /// for the one that is left.
    fn join(&self, step: &mut PlanStep, said: &[StepId], way: &Way, ids: &BTreeSet<&StepId>) {
        if matches!(way, Way::Restore(_)) {
            step.instead_of = None;
        }
        let own = self.0.values().any(|others| others.contains(&step.id));
        for (first, others) in &self.0 {
            if step.instead_of.as_ref() == Some(first) && !step.needs.contains(first) {
                step.needs.push(first.clone());
            }
            if own || !said.contains(first) {
                continue;
            }
            for other in others.iter().filter(|o| ids.contains(o)) {
                if !step.needs.contains(other) {
                    step.needs.push(other.clone());
                }
            }
        }
        step.action = restore::named(step.action.clone(), candidate(way));
    }
}

const fn candidate(way: &Way) -> Option<&Candidate> {
    match way {
        Way::Promote(found) => found.as_ref(),
        Way::Restore(found) => Some(found),
    }
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
        .filter(|s| !s.both_ways && s.sites.is_empty())
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

/// Whether its steps lead from any site to any other one.
#[must_use]
pub fn leads_anywhere(service: &Service, kind: RunKind) -> bool {
    let mut steps = service.runbook.steps.iter();
    steps.all(|s| !s.on.contains(&kind) || s.both_ways || !s.sites.is_empty())
}

/// What a step does, with the settings of the site that it acts at.
fn action(step: &RunbookStep, from: &SiteName, to: &SiteName) -> Result<Action, CompileError> {
    let (Action::Adapter(uses), false) = (&step.action, step.sites.is_empty()) else {
        return Ok(step.action.clone());
    };
    let site = match step.phase.end() {
        End::From => from,
        End::To => to,
    };
    let with = step.sites.get(site);
    let with = with.ok_or_else(|| CompileError::NoSettings {
        step: step.id.clone(),
        site: site.clone(),
    })?;
    Ok(Action::Adapter(Uses {
        uses: uses.uses.clone(),
        with: with.clone(),
    }))
}

fn step(
    step: &RunbookStep,
    ids: &BTreeSet<&StepId>,
    chosen: &[&RunbookStep],
    from: &SiteName,
    to: &SiteName,
) -> Result<PlanStep, CompileError> {
    let mut needs: Vec<StepId> = step
        .needs
        .iter()
        .filter(|n| ids.contains(n))
        .cloned()
        .collect();
    // Whatever a document forgets: nothing is promoted before every fence step is settled, and nothing is fenced for a
    // site that is not ready.
    let before = match step.phase {
        StepPhase::Promote => Some(StepPhase::Fence),
        StepPhase::Fence => Some(StepPhase::Prepare),
        StepPhase::Prepare
        | StepPhase::Traffic
        | StepPhase::Verify
        | StepPhase::Protect
        | StepPhase::Tell => None,
    };
    for earlier in chosen.iter().filter(|s| Some(s.phase) == before) {
        if !needs.contains(&earlier.id) {
            needs.push(earlier.id.clone());
        }
    }
    Ok(PlanStep {
        id: step.id.clone(),
        name: step.name.clone(),
        phase: step.phase,
        action: action(step, from, to)?,
        needs,
        instead_of: step.instead_of.clone(),
        timeout: step.timeout,
        retry: step.retry,
        on_failure: step.on_failure,
    })
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
