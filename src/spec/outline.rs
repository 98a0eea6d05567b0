//! A runbook after its own checks: steps in order, with their phases and needs, before a service fills in settings.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    branch,
    code::Code,
    complaint::DocId,
    document::RunbookDocument,
    path::FieldPath,
    runbook::{Run, StepSpec},
    scope::{Family, Scope},
};
use crate::{
    model::{
        plan::{CLUSTER_FENCE, RESTORE, RunKind, StepPhase},
        span::Span,
    },
    port::kind::Kind,
};

/// Adapters that may also serve as a hook after the promotion: they do whatever their command or endpoint does.
const HOOKS: [&str; 2] = ["command/promote", "http/promote"];

/// Has a site follow: the one that was left, or, before a failback, the one that will serve.
const REJOIN: &str = "guard/rejoin";

/// A runbook after its own checks.
pub struct Outline<'a> {
    /// The document.
    pub doc: DocId,
    /// Its name.
    pub name: &'a str,
    /// For people.
    pub title: &'a str,
    /// The steps in the order of the document; those that could not be understood are left out.
    pub steps: Vec<OutlineStep<'a>>,
    /// Whether every step was understood.
    pub whole: bool,
}

/// A step after its own checks.
pub struct OutlineStep<'a> {
    /// Where it stands.
    pub path: FieldPath,
    /// As written.
    pub spec: &'a StepSpec,
    /// What performs it; none: a person does.
    pub kind: Option<&'static Kind>,
    /// The part of the run.
    pub phase: StepPhase,
    /// The kinds of run it takes part in.
    pub runs: BTreeSet<Run>,
    /// Ids of the steps before it.
    pub needs: Vec<String>,
    /// Time-out of one attempt.
    pub timeout: Span,
}

impl OutlineStep<'_> {
    /// Whether it takes part in such a run and belongs to this part of it.
    pub fn is(&self, run: Run, phase: StepPhase) -> bool {
        self.runs.contains(&run) && self.phase == phase
    }
}

/// Checks a runbook by itself.
pub fn outline<'a>(scope: &mut Scope<'_>, document: &'a RunbookDocument) -> Outline<'a> {
    let spec = &document.spec;
    let list = FieldPath::spec().key("steps");
    scope.label(&document.metadata.name, &FieldPath::parse("metadata.name"));
    if spec.steps.is_empty() {
        let complaint = scope
            .about(Code::MissingField, list.clone(), "the runbook has no steps")
            .expected("at least one step");
        scope.add(complaint);
    }
    let ids = spec.steps.iter().enumerate();
    scope.unique(
        "a step",
        ids.map(|(n, s)| (s.id.as_str(), list.index(n).key("id"))),
    );
    let mut steps: Vec<_> = spec
        .steps
        .iter()
        .enumerate()
        .filter_map(|(n, step)| understood(scope, step, list.index(n)))
        .collect();
    let whole = steps.len() == spec.steps.len();
    let defaults: Vec<_> = steps.iter().map(|s| phase_before(s, &steps)).collect();
    for (step, default) in steps.iter_mut().zip(defaults) {
        step.needs = step.spec.needs.clone().unwrap_or(default);
    }
    let outline = Outline {
        doc: scope.doc,
        name: &document.metadata.name,
        title: spec.title.as_deref().unwrap_or(&document.metadata.name),
        steps,
        whole,
    };
    let ids: BTreeSet<_> = spec.steps.iter().map(|s| &s.id).collect();
    if whole
        && ids.len() == spec.steps.len()
        && needs_lead_somewhere(scope, spec.steps.as_slice(), &list)
        && branch::stand_in(scope, &outline, &list)
        && !goes_round(scope, &outline)
    {
        ordered(scope, &outline, &list);
    }
    outline
}

fn understood<'a>(
    scope: &mut Scope<'_>,
    step: &'a StepSpec,
    path: FieldPath,
) -> Option<OutlineStep<'a>> {
    scope.label(&step.id, &path.key("id"));
    let (kind, own) = match (&step.uses, &step.manual) {
        (Some(uses), None) => {
            let kind = scope.kind(Family::Step, uses, &path)?;
            (Some(kind), kind.phase)
        }
        (None, Some(_)) => (None, None),
        (Some(_), Some(_)) => {
            let complaint = scope
                .about(
                    Code::BadValue,
                    path.key("manual"),
                    "a step cannot be both `uses` and `manual`",
                )
                .hint("split it in two: one that the adapter performs, one that a person does");
            scope.add(complaint.on_key());
            return None;
        }
        (None, None) => {
            let complaint = scope
                .about(Code::MissingField, path, "the step does nothing")
                .expected("`uses: family/adapter`, or `manual: what a person has to do`");
            scope.add(complaint);
            return None;
        }
    };
    let phase = phase(scope, step, kind, own, &path)?;
    let runs = runs(scope, step, phase, &path);
    if step.retry.attempts == 0 {
        let complaint = scope
            .about(
                Code::BadValue,
                path.key("retry").key("attempts"),
                "no attempt at all would be made",
            )
            .expected("1 or more");
        scope.add(complaint);
    }
    if step.timeout == Some(Span::ZERO) {
        let complaint = scope.about(
            Code::BadValue,
            path.key("timeout"),
            "a time-out must be longer than nothing",
        );
        scope.add(complaint);
    }
    Some(OutlineStep {
        path,
        spec: step,
        kind,
        phase,
        runs,
        needs: Vec::new(),
        timeout: step.timeout.unwrap_or_else(|| default_timeout(phase, kind)),
    })
}

/// The phase that a step says or its adapter has.
fn phase(
    scope: &mut Scope<'_>,
    step: &StepSpec,
    kind: Option<&Kind>,
    own: Option<StepPhase>,
    path: &FieldPath,
) -> Option<StepPhase> {
    match (step.phase, own) {
        (None, None) => {
            let complaint = scope
                .about(Code::MissingField, path.clone(), "the field `phase` is missing")
                .expected("prepare, fence, promote, traffic, verify, protect or tell: a person's step does not say it by itself");
            scope.add(complaint);
            None
        }
        (Some(said), Some(own)) if said != own => {
            let is_hook =
                kind.is_some_and(|k| HOOKS.contains(&k.name)) && said > StepPhase::Promote;
            let is_return = kind.is_some_and(|k| k.name == REJOIN) && said == StepPhase::Prepare;
            if !is_hook && !is_return {
                let uses = step.uses.as_deref().unwrap_or_default();
                let complaint = scope
                    .about(
                        Code::BadValue,
                        path.key("phase"),
                        format!("`{uses}` belongs to the phase {own}, not {said}"),
                    )
                    .hint("leave `phase` out");
                scope.add(complaint);
                return Some(own);
            }
            Some(said)
        }
        (Some(phase), _) | (None, Some(phase)) => Some(phase),
    }
}

/// The kinds of run of a step. A redirect moves traffic only.
fn runs(
    scope: &mut Scope<'_>,
    step: &StepSpec,
    phase: StepPhase,
    path: &FieldPath,
) -> BTreeSet<Run> {
    let moves_data = !matches!(
        phase,
        StepPhase::Traffic | StepPhase::Verify | StepPhase::Tell
    );
    let Some(runs) = &step.runs else {
        return match phase {
            StepPhase::Prepare => BTreeSet::from([Run::Failback]),
            StepPhase::Fence | StepPhase::Promote => BTreeSet::from([Run::Failover]),
            StepPhase::Protect => BTreeSet::from([Run::Switchover, Run::Failback]),
            StepPhase::Traffic | StepPhase::Verify | StepPhase::Tell => BTreeSet::from(Run::ALL),
        };
    };
    if runs.is_empty() {
        let complaint = scope
            .about(
                Code::BadValue,
                path.key("runs"),
                "the step takes part in no run",
            )
            .expected("some of failover, redirect, switchover, failback and drill");
        scope.add(complaint);
    }
    if moves_data && let Some(n) = runs.iter().position(|r| *r == Run::Redirect) {
        let complaint = scope
            .about(
                Code::RunbookUnfit,
                path.key("runs").index(n),
                format!("a step of the phase {phase} cannot take part in a redirect"),
            )
            .hint("a redirect moves traffic only: the database stays where it is");
        scope.add(complaint);
    }
    runs.iter().copied().collect()
}

fn default_timeout(phase: StepPhase, kind: Option<&Kind>) -> Span {
    Span::from_secs(match (kind, phase) {
        (None, _) => 3600,
        (Some(kind), _) if kind.name == RESTORE => 4 * 3600,
        // Its Pods may take their 30 s to end, and nodes are looked at for longer than that.
        (Some(kind), _) if kind.name == CLUSTER_FENCE => 120,
        (Some(_), phase) => of_adapter(phase),
    })
}

const fn of_adapter(phase: StepPhase) -> u64 {
    match phase {
        StepPhase::Prepare => 3600,
        StepPhase::Protect => 900,
        StepPhase::Fence => 30,
        StepPhase::Promote | StepPhase::Verify | StepPhase::Tell => 60,
        StepPhase::Traffic => 300,
    }
}

/// The steps of the last phase before this one that has any in the same run. A verification does not wait for traffic:
/// the service is seen to work at its new site before DNS has come round. Nor is anybody told later because the old site is
/// being made a standby.
fn phase_before(step: &OutlineStep<'_>, steps: &[OutlineStep<'_>]) -> Vec<String> {
    let earlier = steps
        .iter()
        .filter(|s| s.phase < step.phase && !s.runs.is_disjoint(&step.runs))
        .filter(|s| step.phase != StepPhase::Verify || s.phase != StepPhase::Traffic)
        .filter(|s| step.phase != StepPhase::Tell || s.phase != StepPhase::Protect);
    let mut needs = Vec::new();
    for run in &step.runs {
        let last = earlier
            .clone()
            .filter(|s| s.runs.contains(run))
            .map(|s| s.phase)
            .max();
        for s in earlier.clone() {
            if s.runs.contains(run) && Some(s.phase) == last && !needs.contains(&s.spec.id) {
                needs.push(s.spec.id.clone());
            }
        }
    }
    needs
}

fn needs_lead_somewhere(scope: &mut Scope<'_>, steps: &[StepSpec], list: &FieldPath) -> bool {
    let ids: Vec<_> = steps.iter().map(|s| s.id.as_str()).collect();
    let mut all = true;
    for (n, step) in steps.iter().enumerate() {
        for (m, need) in step.needs.iter().flatten().enumerate() {
            let path = list.index(n).key("needs").index(m);
            all &= scope.refers("step", need, &ids, &path, list);
        }
    }
    all
}

/// Whether steps need each other in a circle.
fn goes_round(scope: &mut Scope<'_>, outline: &Outline<'_>) -> bool {
    let mut left: BTreeMap<&str, &OutlineStep<'_>> = outline
        .steps
        .iter()
        .map(|s| (s.spec.id.as_str(), s))
        .collect();
    loop {
        let ready: Vec<_> = left
            .iter()
            .filter(|(_, s)| s.needs.iter().all(|n| !left.contains_key(n.as_str())))
            .map(|(id, _)| *id)
            .collect();
        if ready.is_empty() {
            break;
        }
        for id in ready {
            left.remove(id);
        }
    }
    let Some(circle) = circle(&left) else {
        return false;
    };
    let step = left[circle[0]];
    let complaint = scope
        .about(
            Code::Cycle,
            step.path.key("needs"),
            format!(
                "steps wait for each other: {} needs {}",
                circle.join(" needs "),
                circle[0]
            ),
        )
        .hint("take one of these `needs` out");
    scope.add(complaint);
    true
}

/// One circle among steps of which each needs another one.
fn circle<'a>(left: &BTreeMap<&'a str, &'a OutlineStep<'a>>) -> Option<Vec<&'a str>> {
    let mut way: Vec<&str> = vec![left.keys().next()?];
    loop {
        let here = left.get(way.last()?)?;
        let next = here
            .needs
            .iter()
            .find_map(|n| left.get_key_value(n.as_str()))?;
        if let Some(at) = way.iter().position(|id| id == next.0) {
            return Some(way.split_off(at));
        }
        way.push(next.0);
    }
}

/// Checks that promotions wait for fences, traffic and verification for promotions, and that something verifies.
fn ordered(scope: &mut Scope<'_>, outline: &Outline<'_>, list: &FieldPath) {
    let mut unverified = Vec::new();
    for run in Run::ALL {
        let part: Vec<_> = outline
            .steps
            .iter()
            .filter(|s| s.runs.contains(&run))
            .collect();
        for (step, earlier) in too_early(&part) {
            complain_of_order(scope, step, earlier);
        }
        let acts = part.iter().any(|s| s.phase != StepPhase::Tell);
        if acts && !part.iter().any(|s| s.phase == StepPhase::Verify) {
            unverified.push(RunKind::from(run).to_string());
        }
    }
    if !unverified.is_empty() {
        let message = format!(
            "no step of the phase verify takes part in a {}",
            unverified.join(" or a ")
        );
        let complaint = scope
            .about(Code::NoVerify, list.clone(), message)
            .hint("add `- {id: verify, uses: service/verify}`");
        scope.add(complaint.on_key());
    }
}

/// Steps that may begin before one that they must wait for. Of steps that follow from each other the first is told.
fn too_early<'a>(part: &[&'a OutlineStep<'a>]) -> Vec<(&'a OutlineStep<'a>, &'a OutlineStep<'a>)> {
    let is_early = |step: &OutlineStep<'_>, earlier: &OutlineStep<'_>| {
        must_wait(step.phase, earlier.phase)
            && !all_before(step, part).contains(earlier.spec.id.as_str())
    };
    let mut found = Vec::new();
    for step in part {
        let before = all_before(step, part);
        for earlier in part {
            let follows = part
                .iter()
                .any(|s| before.contains(s.spec.id.as_str()) && is_early(s, earlier));
            if is_early(step, earlier) && !follows {
                found.push((*step, *earlier));
            }
        }
    }
    found
}

/// Whether a step of one phase may only begin when all steps of the other are done.
const fn must_wait(phase: StepPhase, earlier: StepPhase) -> bool {
    match phase {
        StepPhase::Prepare | StepPhase::Tell => false,
        StepPhase::Fence => matches!(earlier, StepPhase::Prepare),
        StepPhase::Promote => matches!(earlier, StepPhase::Fence),
        StepPhase::Traffic => matches!(earlier, StepPhase::Fence | StepPhase::Promote),
        StepPhase::Verify | StepPhase::Protect => matches!(earlier, StepPhase::Promote),
    }
}

fn complain_of_order(scope: &mut Scope<'_>, step: &OutlineStep<'_>, earlier: &OutlineStep<'_>) {
    let code = if earlier.phase == StepPhase::Fence {
        Code::UnfencedPromotion
    } else {
        Code::RunbookUnfit
    };
    let at = if step.spec.needs.is_some() {
        step.path.key("needs")
    } else {
        step.path.clone()
    };
    let complaint = scope
        .about(
            code,
            at,
            format!(
                "`{}` ({}) may begin before `{}` ({}) is done",
                step.spec.id, step.phase, earlier.spec.id, earlier.phase
            ),
        )
        .hint(format!(
            "add `{}` to its `needs`, or leave `needs` out: it then waits for the whole phase before",
            earlier.spec.id
        ))
        .related(scope.doc, earlier.path.clone(), "must be done first");
    scope.add(complaint);
}

/// Ids of all steps that must be done before this one within a run.
fn all_before<'a>(step: &'a OutlineStep<'_>, part: &[&'a OutlineStep<'_>]) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&str> = step.needs.iter().map(String::as_str).collect();
    while let Some(id) = open.pop() {
        if let Some(before) = part.iter().find(|s| s.spec.id == id)
            && found.insert(before.spec.id.as_str())
        {
            open.extend(before.needs.iter().map(String::as_str));
        }
    }
    found
}
