//! A runbook put together with a service: settings filled in, and the two checked against each other.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    branch,
    code::Code,
    complaint::Complaint,
    document::With,
    mend::Found,
    outline::{Outline, OutlineStep},
    path::{FieldPath, Segment},
    runbook::{Run, StepOverride},
    scope::Scope,
    service::ProtectedServiceSpec,
    settings,
};
use crate::model::{
    id::{KindName, RunbookName, SiteName, StepId},
    plan::{Action, OnFailure, StepPhase, Uses},
    service::{ComponentKind, Mode, Runbook, RunbookStep},
    site::SiteRole,
    span::Span,
    step::Rung,
};

/// The step that publishes the fallback URL.
const FALLBACK: &str = "publish/fallback";
/// The step that tries a write at the old primary.
const WRITE_ATTEMPT: &str = "postgres/write-attempt";

/// What a service changes in a runbook's steps, and where that stands.
pub struct Changes<'a> {
    /// By the steps' ids.
    pub steps: &'a BTreeMap<String, StepOverride>,
    /// Where they stand.
    pub path: FieldPath,
    /// Where the runbook is named.
    pub runbook: FieldPath,
    /// The sites that there are.
    pub sites: Vec<&'a str>,
}

/// The runbook of a service, filled in and checked against it.
pub fn fit(scope: &mut Scope<'_>, spec: &ProtectedServiceSpec, outline: &Outline<'_>) -> Runbook {
    let changes = Changes {
        steps: &spec.steps,
        path: FieldPath::spec().key("steps"),
        runbook: FieldPath::spec().key("runbook"),
        sites: spec.sites.iter().map(|s| s.name.as_str()).collect(),
    };
    let runbook = fill(scope, &changes, outline);
    if outline.whole {
        suits(scope, spec, outline);
    }
    runbook
}

/// A runbook with a service's changes.
pub fn fill(scope: &mut Scope<'_>, changes: &Changes<'_>, outline: &Outline<'_>) -> Runbook {
    let ids: Vec<_> = outline.steps.iter().map(|s| s.spec.id.as_str()).collect();
    for (id, change) in changes.steps {
        let at = changes.path.key(id);
        let list = FieldPath::parse("spec.steps");
        if outline.whole && scope.refers("step of the runbook", id, &ids, &at, &list) {
            check_override(scope, changes, outline, id, change, &at);
        }
    }
    let steps = outline
        .steps
        .iter()
        .map(|step| filled_in(scope, changes, outline, step))
        .collect();
    Runbook {
        name: RunbookName::new(outline.name),
        title: outline.title.to_owned(),
        steps,
    }
}

fn check_override(
    scope: &mut Scope<'_>,
    changes: &Changes<'_>,
    outline: &Outline<'_>,
    id: &str,
    change: &StepOverride,
    at: &FieldPath,
) {
    let is_manual = outline
        .steps
        .iter()
        .any(|s| s.spec.id == id && s.kind.is_none());
    for site in change.sites.keys() {
        let list = FieldPath::parse("spec.sites");
        scope.refers(
            "site",
            site,
            &changes.sites,
            &at.key("sites").key(site),
            &list,
        );
    }
    let has_settings = !change.with.is_empty() || !change.sites.is_empty();
    if is_manual && has_settings {
        let complaint = scope.about(
            Code::RunbookUnfit,
            at.key("with"),
            format!("a person does the step `{id}`: it takes no settings"),
        );
        scope.add(complaint.on_key());
    }
    if change.timeout == Some(Span::ZERO) {
        let complaint = scope.about(
            Code::BadValue,
            at.key("timeout"),
            "a time-out must be longer than nothing",
        );
        scope.add(complaint);
    }
    if change.retry.is_some_and(|r| r.attempts == 0) {
        let complaint = scope
            .about(
                Code::BadValue,
                at.key("retry").key("attempts"),
                "no attempt at all would be made",
            )
            .expected("1 or more");
        scope.add(complaint);
    }
}

fn filled_in(
    scope: &mut Scope<'_>,
    changes: &Changes<'_>,
    outline: &Outline<'_>,
    step: &OutlineStep<'_>,
) -> RunbookStep {
    let none = StepOverride::default();
    let change = changes.steps.get(&step.spec.id).unwrap_or(&none);
    let with = merged(&step.spec.with, &change.with);
    let sites: BTreeMap<&String, With> = change
        .sites
        .iter()
        .map(|(site, own)| (site, merged(&with, own)))
        .collect();
    if let Some(kind) = step.kind {
        let whole: Vec<_> = if sites.is_empty() {
            vec![(None, &with)]
        } else {
            sites
                .iter()
                .map(|(site, w)| (Some(site.as_str()), w))
                .collect()
        };
        let mut known = Vec::new();
        for (site, with) in whole {
            for found in settings::check(kind, &with.value()) {
                let complaint = blamed(scope, changes, outline, step, site, &found);
                // What is wrong with what they share is said once.
                if !known.contains(&complaint) {
                    known.push(complaint.clone());
                    scope.add(complaint);
                }
            }
        }
    }
    RunbookStep {
        id: StepId::new(&step.spec.id),
        name: step
            .spec
            .name
            .clone()
            .unwrap_or_else(|| readable(&step.spec.id)),
        phase: step.phase,
        action: match (&step.spec.uses, &step.spec.manual) {
            (Some(uses), _) => Action::Adapter(Uses {
                uses: KindName::new(uses),
                with: with.value(),
            }),
            (None, text) => Action::Manual {
                instructions: text.clone().unwrap_or_default(),
            },
        },
        both_ways: step.kind.is_some_and(|k| k.both_ways),
        sites: sites
            .into_iter()
            .map(|(site, with)| (SiteName::new(site), with.value()))
            .collect(),
        needs: step.needs.iter().map(StepId::new).collect(),
        instead_of: step.spec.instead_of.as_ref().map(StepId::new),
        timeout: change.timeout.unwrap_or(step.timeout),
        retry: change.retry.unwrap_or(step.spec.retry),
        on: step.runs.iter().map(|r| (*r).into()).collect(),
        on_failure: on_failed(scope, changes, step, change.on_failure),
    }
}

/// What is done about a step that has failed for good.
fn on_failed(
    scope: &mut Scope<'_>,
    changes: &Changes<'_>,
    step: &OutlineStep<'_>,
    own: Option<OnFailure>,
) -> OnFailure {
    let chosen = own.or(step.spec.on_failure);
    let chosen = chosen.unwrap_or_else(|| on_failure(step));
    let tries_a_write = step.kind.is_some_and(|k| k.name == WRITE_ATTEMPT);
    if tries_a_write && chosen == OnFailure::Continue {
        let at = match own {
            Some(_) => changes.path.key(&step.spec.id).key("onFailure"),
            None => changes.runbook.clone(),
        };
        let complaint = scope
            .about(
                Code::RunbookUnfit,
                at,
                format!(
                    "the step `{}` would let the run go on although the old primary still takes writes",
                    step.spec.id
                ),
            )
            .expected("`onFailure: stop`, or `ask`");
        scope.add(complaint);
    }
    chosen
}

/// A fence that cannot be proved is for a person to judge; a write that still succeeds, or a promotion that fails,
/// ends the run; after the promotion one step that fails does not keep the others from being done.
fn on_failure(step: &OutlineStep<'_>) -> OnFailure {
    match step.phase {
        StepPhase::Fence if step.kind.is_some_and(|k| k.rung.is_some()) => OnFailure::Ask,
        StepPhase::Fence | StepPhase::Promote => OnFailure::Stop,
        StepPhase::Prepare | StepPhase::Traffic | StepPhase::Verify | StepPhase::Protect => {
            OnFailure::Ask
        }
        StepPhase::Tell => OnFailure::Continue,
    }
}

/// `fence-primary` as people read it: `Fence primary`.
fn readable(id: &str) -> String {
    let mut text = id.replace('-', " ");
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text
}

/// The runbook's settings with the service's added key by key.
fn merged(base: &With, change: &With) -> With {
    let mut all: Map<String, Value> = base.0.clone();
    all.extend(change.0.iter().map(|(k, v)| (k.clone(), v.clone())));
    With(all)
}

/// A misfit in a step's settings, laid where the setting stands: with the service, with the runbook, or, where it is
/// missing, with the service that has to give it.
fn blamed(
    scope: &Scope<'_>,
    changes: &Changes<'_>,
    outline: &Outline<'_>,
    step: &OutlineStep<'_>,
    site: Option<&str>,
    found: &Found,
) -> Complaint {
    let id = &step.spec.id;
    let change = changes.path.key(id);
    let own = change.key("with");
    let first = match found.path.segments().first() {
        Some(Segment::Key(key)) => key.as_str(),
        Some(Segment::Index(_)) | None => "",
    };
    if let Some(site) = site {
        let sites = changes.steps.get(id).and_then(|s| s.sites.get(site));
        let at = change.key("sites").key(site);
        let is_there = |with: Option<&With>| with.is_some_and(|w| w.0.contains_key(first));
        let is_shared =
            is_there(changes.steps.get(id).map(|s| &s.with)) || is_there(Some(&step.spec.with));
        if is_there(sites) || !is_shared {
            return scope.misfit(found, &at);
        }
    }
    if changes
        .steps
        .get(id)
        .is_some_and(|s| s.with.0.contains_key(first))
    {
        return scope.misfit(found, &own);
    }
    if step.spec.with.0.contains_key(first) {
        let mut complaint = scope.misfit(found, &step.path.key("with"));
        complaint.doc = outline.doc;
        return complaint;
    }
    let uses = step.spec.uses.as_deref().unwrap_or_default();
    let mut complaint = scope.misfit(found, &own);
    if !changes.steps.contains_key(id) {
        complaint.path = changes.runbook.clone();
    }
    complaint.key = false;
    complaint.message = format!(
        "the step `{id}` ({uses}) of the runbook `{}`: {}",
        outline.name, complaint.message
    );
    complaint.expected = complaint.expected.or(complaint.hint.take());
    complaint.hint = Some(format!("give it under `{own}`"));
    complaint
}

/// Checks that service and runbook suit each other.
fn suits(scope: &mut Scope<'_>, spec: &ProtectedServiceSpec, outline: &Outline<'_>) {
    let named = FieldPath::spec().key("runbook");
    let has_database = spec
        .components
        .iter()
        .any(|c| c.kind == ComponentKind::Database);
    let part = |phase| {
        outline
            .steps
            .iter()
            .filter(move |s| s.is(Run::Failover, phase))
    };
    let promotes = part(StepPhase::Promote).next();
    if has_database && promotes.is_none() {
        let complaint = scope
            .about(
                Code::NothingPromotes,
                named.clone(),
                format!(
                    "`{}` promotes nothing, but the service has a database",
                    outline.name
                ),
            )
            .hint("take a runbook that promotes, such as `postgres-failover`");
        scope.add(complaint);
    }
    if let Some(promotes) =
        promotes.filter(|_| has_database && part(StepPhase::Fence).next().is_none())
    {
        let mut complaint = scope
            .about(
                Code::UnfencedPromotion,
                promotes.path.clone(),
                format!(
                    "`{}` promotes a database, and nothing fences the old primary first",
                    promotes.spec.id
                ),
            )
            .hint("add a step of the phase fence");
        complaint.doc = outline.doc;
        scope.add(complaint);
    }
    if let Some(promotes) = promotes {
        proof(scope, spec, outline, promotes);
    }
    let uses = |name: &str| {
        let mut kinds = outline.steps.iter().filter_map(|s| s.kind);
        kinds.any(|k| k.name == name)
    };
    if uses("guard/fence") != uses("guard/promote") {
        let complaint = scope
            .about(
                Code::RunbookUnfit,
                named.clone(),
                format!(
                    "the runbook `{}` has only one of guard/fence and guard/promote: a guard ends what was promoted past it",
                    outline.name
                ),
            )
            .hint("use both, as the runbook postgres-guarded does");
        scope.add(complaint);
    }
    branch::suits_guards(scope, spec, outline);
    if spec.guards.is_none() {
        let asks_guards =
            |s: &&OutlineStep<'_>| s.kind.is_some_and(|k| k.name.starts_with("guard/"));
        if let Some(step) = outline.steps.iter().find(asks_guards) {
            let complaint = scope
                .about(
                    Code::RunbookUnfit,
                    named.clone(),
                    format!(
                        "the step `{}` of the runbook `{}` speaks to guards, but the service names none",
                        step.spec.id, outline.name
                    ),
                )
                .hint("name them in `spec.guards`, or take another runbook");
            scope.add(complaint);
        }
    }
    if spec.dns.is_none() {
        let moves_names = |s: &&OutlineStep<'_>| s.kind.is_some_and(|k| k.name.starts_with("dns/"));
        if let Some(step) = outline.steps.iter().find(moves_names) {
            let complaint = scope
                .about(
                    Code::RunbookUnfit,
                    named.clone(),
                    format!(
                        "`{}` repoints DNS in its step `{}`, but the service has no `dns`",
                        outline.name, step.spec.id
                    ),
                )
                .hint("add `spec.dns`, or take a runbook without DNS");
            scope.add(complaint);
        }
    }
    fallback(scope, spec, outline);
}

/// Checks that an automatic failover can prove its fence.
fn proof(
    scope: &mut Scope<'_>,
    spec: &ProtectedServiceSpec,
    outline: &Outline<'_>,
    promotes: &OutlineStep<'_>,
) {
    let fences: Vec<_> = outline
        .steps
        .iter()
        .filter(|s| s.is(Run::Failover, StepPhase::Fence))
        .collect();
    if spec.mode != Mode::Automatic {
        return;
    }
    let best = fences
        .iter()
        .filter_map(|s| s.kind.map_or(Some(Rung::Attested), |k| k.rung))
        .max();
    let wanted = spec.fencing.require;
    if best >= Some(wanted) {
        return;
    }
    let reach = best.map_or_else(
        || "no fence step proves anything".to_owned(),
        |rung| format!("its fence steps prove no more than `{rung}`"),
    );
    let fencing = FieldPath::spec().key("fencing").key("require");
    let mode = FieldPath::spec().key("mode");
    let complaint = scope
        .about(
            Code::Unproved,
            mode,
            format!(
                "`mode: automatic`, but before `{}` the fence must be proved to the rung `{wanted}`, and in the runbook \
                 `{}` {reach}",
                promotes.spec.id, outline.name
            ),
        )
        .hint("add a fence step that reaches it (command/fence reaches infrastructure), or use `mode: ask`")
        .rests_on(fencing);
    scope.add(complaint);
}

/// Checks that there is a URL to publish.
fn fallback(scope: &mut Scope<'_>, spec: &ProtectedServiceSpec, outline: &Outline<'_>) {
    let publishes = outline
        .steps
        .iter()
        .find(|s| s.kind.is_some_and(|k| k.name == FALLBACK));
    let Some(step) = publishes else { return };
    let list = FieldPath::spec().key("sites");
    for (n, site) in spec.sites.iter().enumerate() {
        if site.role == SiteRole::Standby && site.url.is_none() {
            let complaint = scope
                .about(
                    Code::RunbookUnfit,
                    list.index(n),
                    format!(
                        "the step `{}` of the runbook `{}` publishes the fallback URL, but `{}` has no `url`",
                        step.spec.id, outline.name, site.name
                    ),
                )
                .hint("add `url`: the address by which this site is reached without DNS having changed");
            scope.add(complaint);
        }
    }
}

/// Checks the settings that a runbook gives by itself, where no service fills in the rest.
pub fn check_alone(scope: &mut Scope<'_>, outline: &Outline<'_>) {
    for step in &outline.steps {
        let Some(kind) = step.kind else { continue };
        for found in settings::check(kind, &step.spec.with.value()) {
            if !settings::is_missing(&found) && !found.path.is_root() {
                let complaint = scope.misfit(&found, &step.path.key("with"));
                scope.add(complaint);
            }
        }
    }
}
