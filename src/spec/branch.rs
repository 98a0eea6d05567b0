//! The second branch of a runbook, checked: steps that stand in for others, and restores of backups.

use super::{
    code::Code,
    outline::{Outline, OutlineStep},
    path::FieldPath,
    scope::Scope,
    service::ProtectedServiceSpec,
};
use crate::model::{
    backup::{BackupKind, BackupPolicy},
    id::SourceName,
    plan::{Action, RESTORE, StepPhase},
    service::Runbook,
};

/// Checks `insteadOf`: it leads to a step of the same part of the same runs that stands in for nothing itself.
pub fn stand_in(scope: &mut Scope<'_>, outline: &Outline<'_>, list: &FieldPath) -> bool {
    let ids: Vec<_> = outline.steps.iter().map(|s| s.spec.id.as_str()).collect();
    let mut all = true;
    for step in &outline.steps {
        let Some(first) = &step.spec.instead_of else {
            continue;
        };
        let at = step.path.key("insteadOf");
        if !scope.refers("step", first, &ids, &at, list) {
            all = false;
            continue;
        }
        let other = outline.steps.iter().find(|s| &s.spec.id == first);
        let Some((message, expected)) = other.and_then(|other| misfit(step, other)) else {
            continue;
        };
        all = false;
        let complaint = scope
            .about(Code::RunbookUnfit, at, message)
            .expected(expected);
        scope.add(complaint);
    }
    all
}

/// Why one step cannot stand in for another one, and what could.
fn misfit(step: &OutlineStep<'_>, other: &OutlineStep<'_>) -> Option<(String, &'static str)> {
    let (own, first) = (&step.spec.id, &other.spec.id);
    if own == first {
        return Some((
            format!("`{own}` stands in for itself"),
            "the step that may not be possible",
        ));
    }
    if other.spec.instead_of.is_some() {
        return Some((
            format!("`{first}` stands in for another step itself"),
            "a step of the first branch: a plan has two at most",
        ));
    }
    if step.phase != StepPhase::Promote || other.phase != StepPhase::Promote {
        return Some((
            format!(
                "`{own}` ({}) cannot stand in for `{first}` ({})",
                step.phase, other.phase
            ),
            "two steps of the phase promote",
        ));
    }
    (step.runs != other.runs).then(|| {
        (
            format!("`{own}` and `{first}` take part in different runs"),
            "the same `runs` for both",
        )
    })
}

fn restores(step: &OutlineStep<'_>) -> bool {
    step.kind.is_some_and(|k| k.name == RESTORE)
}

/// A server that is started past its guard is ended by it.
pub fn suits_guards(scope: &mut Scope<'_>, spec: &ProtectedServiceSpec, outline: &Outline<'_>) {
    let Some(step) = outline.steps.iter().find(|s| restores(s)) else {
        return;
    };
    if spec.guards.is_none() {
        return;
    }
    let complaint = scope
        .about(
            Code::RunbookUnfit,
            FieldPath::spec().key("runbook"),
            format!(
                "`{}` of the runbook `{}` starts PostgreSQL past the guards that the service names",
                step.spec.id, outline.name
            ),
        )
        .hint("in this version a database that a guard holds is restored by hand: `failover backups restore`");
    scope.add(complaint);
}

/// Checks that there is a policy whose backups could be restored, and that the sources which a restore names are in it.
pub fn suits_backups(scope: &mut Scope<'_>, runbook: &Runbook, policy: Option<&BackupPolicy>) {
    for step in runbook.steps.iter().filter(|s| s.action.restores()) {
        let Some(policy) = policy else {
            let complaint = scope
                .about(
                    Code::RunbookUnfit,
                    FieldPath::spec().key("runbook"),
                    format!(
                        "the step `{}` of the runbook `{}` restores a backup, but the service has no backup policy",
                        step.id, runbook.name
                    ),
                )
                .hint("add a BackupPolicy whose `verify` restores base backups, or take another runbook");
            scope.add(complaint);
            continue;
        };
        let mut problems = Vec::new();
        if policy.verify.is_none() {
            problems.push((
                format!("the policy {} tries no backup by restoring it", policy.name),
                "a `verify` in it: only what was restored before is restored in need",
            ));
        }
        if let Some(name) = wal(&step.action) {
            let source = policy.source(&SourceName::new(name));
            if !source.is_some_and(|s| s.keeps.contains_key(&BackupKind::Log)) {
                problems.push((
                    format!(
                        "no source `{name}` of the policy {} keeps logs",
                        policy.name
                    ),
                    "a source with `keeps: [log]`",
                ));
            }
        }
        for (message, expected) in problems {
            let message = format!(
                "the step `{}` of the runbook `{}` restores a backup: {message}",
                step.id, runbook.name
            );
            let at = FieldPath::spec().key("runbook");
            let complaint = scope.about(Code::RunbookUnfit, at, message);
            scope.add(complaint.expected(expected));
        }
    }
}

fn wal(action: &Action) -> Option<&str> {
    match action {
        Action::Adapter(uses) => uses.with.get("wal")?.as_str(),
        Action::Manual { .. } => None,
    }
}
