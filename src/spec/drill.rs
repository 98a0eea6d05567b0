//! How a service's recovery is exercised.

use super::{
    code::Code,
    fault,
    fit::{self, Changes},
    outline::Outline,
    path::FieldPath,
    ready::RUNBOOKS,
    runbook::Run,
    schedule,
    scope::Scope,
    service::{DrillSpec, ProtectedServiceSpec},
};
use crate::model::{
    drill::{Depth, DrillPolicy},
    id::DrillName,
    plan::{Action, RunKind},
    service::{Runbook, Window},
    span::Span,
};

/// Kinds of steps that act nowhere but where a drill does, in its bubble.
const IN_BUBBLE: &str = "drill/";
/// A program that was written for the drill.
const OWN_PROGRAM: &str = "command/promote";

/// How long a live drill stays at the other site where nothing is said.
const STAY: Span = Span::from_secs(300);

/// The drills after their checks.
pub fn drills(
    scope: &mut Scope<'_>,
    spec: &ProtectedServiceSpec,
    outlines: &[Outline<'_>],
) -> Vec<DrillPolicy> {
    let list = FieldPath::spec().key("drills");
    let names = spec.drills.iter().enumerate();
    scope.unique(
        "a drill",
        names.map(|(n, d)| (d.name.as_str(), list.index(n).key("name"))),
    );
    let drills = spec.drills.iter().enumerate();
    drills
        .map(|(n, drill)| policy(scope, spec, outlines, drill, &list.index(n)))
        .collect()
}

fn policy(
    scope: &mut Scope<'_>,
    spec: &ProtectedServiceSpec,
    outlines: &[Outline<'_>],
    drill: &DrillSpec,
    at: &FieldPath,
) -> DrillPolicy {
    scope.label(&drill.name, &at.key("name"));
    windows(scope, drill, at);
    DrillPolicy {
        name: DrillName::new(&drill.name),
        depth: drill.depth,
        runbook: runbook(scope, spec, outlines, drill, at),
        schedule: schedule::schedule(scope, drill.schedule.as_ref(), at),
        jitter: drill.jitter,
        grace: drill.grace,
        stay: stay(scope, drill, at),
        blocked: drill
            .blocked
            .iter()
            .map(|w| Window {
                from: w.from,
                to: w.to,
                reason: w.reason.clone(),
            })
            .collect(),
        inject: fault::faults(scope, spec, &drill.inject, &at.key("inject")),
    }
}

/// Only a live drill stays anywhere.
fn stay(scope: &mut Scope<'_>, drill: &DrillSpec, at: &FieldPath) -> Span {
    if drill.stay.is_some() && drill.depth != Depth::Live {
        let complaint = scope.about(
            Code::BadValue,
            at.key("stay"),
            format!(
                "a drill of the depth {} moves nothing and stays nowhere",
                drill.depth
            ),
        );
        scope.add(complaint.on_key().rests_on(at.key("depth")));
    }
    drill.stay.unwrap_or(STAY)
}

fn windows(scope: &mut Scope<'_>, drill: &DrillSpec, at: &FieldPath) {
    for (n, window) in drill.blocked.iter().enumerate() {
        if window.from >= window.to {
            let path = at.key("blocked").index(n);
            let complaint = scope
                .about(
                    Code::BadValue,
                    path.key("to"),
                    "the window ends before it begins",
                )
                .expected("a moment after `from`")
                .rests_on(path.key("from"));
            scope.add(complaint);
        }
    }
}

/// What an isolated drill does; one on paper has the steps of the service's own runbook.
fn runbook(
    scope: &mut Scope<'_>,
    spec: &ProtectedServiceSpec,
    outlines: &[Outline<'_>],
    drill: &DrillSpec,
    at: &FieldPath,
) -> Option<Runbook> {
    let path = at.key("runbook");
    let name = match (&drill.runbook, drill.depth) {
        (Some(name), Depth::Isolated) => name,
        (None, Depth::Isolated) => {
            let complaint = scope
                .about(
                    Code::MissingField,
                    at.clone(),
                    "an isolated drill needs the runbook that says what is done in its bubble",
                )
                .expected("`runbook: postgres-drill`, or one of your own");
            scope.add(complaint);
            return None;
        }
        (Some(_), depth @ (Depth::Paper | Depth::Live)) => {
            let complaint = scope.about(
                Code::RunbookUnfit,
                path,
                format!(
                    "a drill of the depth {depth} has its steps from the service's own runbook"
                ),
            );
            scope.add(complaint.on_key());
            return None;
        }
        (None, Depth::Paper | Depth::Live) => return None,
    };
    let Some(outline) = outlines.iter().find(|o| o.name == *name) else {
        let given = outlines.iter().map(|o| o.name);
        let mut known: Vec<_> = given.chain(RUNBOOKS.iter().map(|r| r.name)).collect();
        known.sort_unstable();
        known.dedup();
        scope.refers("runbook", name, &known, &path, &FieldPath::root());
        return None;
    };
    let changes = Changes {
        steps: &drill.steps,
        path: at.key("steps"),
        runbook: path.clone(),
        sites: spec.sites.iter().map(|s| s.name.as_str()).collect(),
    };
    let runbook = fit::fill(scope, &changes, outline);
    if outline.whole {
        suits(scope, outline, &path);
        is_taken_back(scope, &runbook, &path);
    }
    Some(runbook)
}

/// A program's effect stays where nobody says how it is taken back.
fn is_taken_back(scope: &mut Scope<'_>, runbook: &Runbook, named: &FieldPath) {
    let steps = runbook.steps.iter();
    for step in steps.filter(|s| s.on.contains(&RunKind::Drill)) {
        let Action::Adapter(uses) = &step.action else {
            continue;
        };
        if uses.uses.as_str() != OWN_PROGRAM || uses.with.get("undo").is_some_and(|u| !u.is_null())
        {
            continue;
        }
        let complaint = scope
            .about(
                Code::RunbookUnfit,
                named.clone(),
                format!(
                    "the step `{}` of the runbook `{}` has no `undo`: what it does would stay after the drill",
                    step.id, runbook.name
                ),
            )
            .hint("add `undo`, the program that takes it back");
        scope.add(complaint);
    }
}

/// Whatever a drill does, it does where nothing else is.
fn suits(scope: &mut Scope<'_>, outline: &Outline<'_>, named: &FieldPath) {
    let steps = || {
        outline
            .steps
            .iter()
            .filter(|s| s.runs.contains(&Run::Drill))
    };
    if steps().next().is_none() {
        let complaint = scope
            .about(
                Code::RunbookUnfit,
                named.clone(),
                format!("`{}` has no step for a drill", outline.name),
            )
            .hint("add `runs: [drill]` to the steps that it needs");
        scope.add(complaint);
    }
    for step in steps() {
        let Some(kind) = step.kind else { continue };
        if kind.name.starts_with(IN_BUBBLE) || kind.name == OWN_PROGRAM {
            continue;
        }
        let complaint = scope
            .about(
                Code::RunbookUnfit,
                named.clone(),
                format!(
                    "the step `{}` of the runbook `{}` uses {}, which acts on production: an isolated drill must not",
                    step.spec.id, outline.name, kind.name
                ),
            )
            .hint("use the kinds of `drill/…`, or `command/promote` with programs that were written for the drill");
        scope.add(complaint);
    }
}
