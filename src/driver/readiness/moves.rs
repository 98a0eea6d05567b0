//! The steps of planned moves and of drills: their ways in are tried too, before somebody wants a switchover, to go back, or to
//! know whether it would work.

use crate::{
    decide::{compile, core::Core, incident},
    driver::fitting::Fitting,
    model::{
        check::{CheckItem, CheckStatus},
        plan::{Plan, PlanStep, RunKind},
        time::Time,
    },
};

/// Tries what the plans of a switchover and of a failback have and that of a failover has not. A failover does not hang
/// on it, so what fails is a warning.
pub async fn check(
    core: &Core,
    fitting: &Fitting,
    failover: Option<&Plan>,
    now: Time,
) -> Vec<CheckItem> {
    let mut items = Vec::new();
    let service = core.service();
    for kind in [RunKind::Switchover, RunKind::Failback] {
        let named = service.runbook.steps.iter().any(|s| s.on.contains(&kind));
        let at_home = service.primary().map(|p| &p.name) == core.state().active.as_ref();
        if !named || (kind == RunKind::Failback && at_home) {
            continue;
        }
        let to = None;
        let proposal = incident::propose(service, core.state(), core.view(), kind, to, now, now);
        let plan = match proposal {
            Ok(proposal) => proposal.plan,
            Err(reason) => {
                items.push(CheckItem::bad(
                    format!("{kind}/plan"),
                    CheckStatus::Warn,
                    format!("no {kind} can be planned: {reason}"),
                    format!("see `failover plan {} --kind {kind}`", service.name),
                ));
                continue;
            }
        };
        let known = |step: &PlanStep| {
            failover.is_some_and(|f| {
                let same = |s: &PlanStep| s.id == step.id && s.action == step.action;
                (&f.from, &f.to) == (&plan.from, &plan.to) && f.steps.iter().any(same)
            })
        };
        let new = plan.steps.iter().filter(|s| !known(s));
        let found = super::steps(service, fitting, &plan, new).await;
        items.extend(besides(&kind.to_string(), found));
    }
    items
}

/// Tries the steps of isolated drills, for the failover that they stand for.
pub async fn drills(core: &Core, fitting: &Fitting, failover: Option<&Plan>) -> Vec<CheckItem> {
    let Some(failover) = failover else {
        return Vec::new();
    };
    let service = core.service();
    let mut items = Vec::new();
    for policy in &service.drills {
        let Some(runbook) = &policy.runbook else {
            continue;
        };
        let name = format!("drill/{}", policy.name);
        match compile::exercise(service, runbook, &failover.from, &failover.to) {
            Ok(plan) => {
                let found = super::steps(service, fitting, &plan, plan.steps.iter()).await;
                items.extend(besides(&name, found));
            }
            Err(error) => items.push(CheckItem::bad(
                format!("{name}/plan"),
                CheckStatus::Warn,
                format!("it cannot be planned: {error}"),
                format!("change the runbook {}", runbook.name),
            )),
        }
    }
    items
}

/// What no failover hangs on.
fn besides(of: &str, mut items: Vec<CheckItem>) -> Vec<CheckItem> {
    for item in &mut items {
        item.name = format!("{of}/{}", item.name);
        match item.status {
            CheckStatus::Fail => item.status = CheckStatus::Warn,
            CheckStatus::Unknown => item.aside = true,
            CheckStatus::Ok | CheckStatus::Warn => {}
        }
    }
    items
}
