//! A `ProtectedService` document becomes the service that the engine works with.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::{
    branch,
    code::Code,
    document::ProtectedService,
    drill, fit, guards, names,
    outline::Outline,
    path::FieldPath,
    people, place, readiness,
    ready::RUNBOOKS,
    scope::Scope,
    service::{ProtectedServiceSpec, TriggerSpec},
    tell, watch,
};
use crate::model::{
    backup::BackupPolicy,
    id::{ConfigHash, RunbookName, ServiceName},
    service::{Gates, Objectives, Runbook, Service, Trigger, Window},
    span::Span,
};

/// Checks a service against everything it refers to. What comes back may be used only if nothing was complained of.
pub fn service(
    scope: &mut Scope<'_>,
    document: &ProtectedService,
    outlines: &[Outline<'_>],
    backups: Option<BackupPolicy>,
) -> Service {
    let spec = &document.spec;
    let name = &document.metadata.name;
    scope.label(name, &FieldPath::parse("metadata.name"));
    let title = spec.title.clone().unwrap_or_else(|| name.clone());
    let sites = place::sites(scope, spec);
    let watch = watch::watch(scope, spec);
    let people = people::people(scope, spec);
    let runbook = runbook(scope, spec, outlines);
    branch::suits_backups(scope, &runbook, backups.as_ref());
    let mut service = Service {
        name: ServiceName::new(name),
        title: title.clone(),
        mode: spec.mode,
        objectives: objectives(scope, spec),
        sites,
        residency: spec
            .residency
            .as_ref()
            .map(|r| r.countries.clone())
            .unwrap_or_default(),
        vantage_points: watch.vantage_points,
        quorum: watch.quorum,
        components: watch.components,
        trigger: trigger(&spec.trigger),
        gates: gates(scope, spec),
        fencing: spec.fencing.require,
        guards: guards::guards(scope, spec),
        dns: names::dns(scope, spec),
        publication: tell::publication(scope, spec),
        announcements: tell::announcements(scope, &spec.announcements, &title, true),
        team: tell::team(scope, spec, people),
        approvals: people::approvals(scope, spec),
        runbook,
        backups,
        drills: drill::drills(scope, spec, outlines),
        readiness: readiness::policy(scope, spec),
        group: None,
        config: ConfigHash::new(String::new()),
    };
    service.config = config(&service);
    service
}

/// SHA-256 over the service as JSON: the same documents written otherwise give the same hash.
fn config(service: &Service) -> ConfigHash {
    let json = serde_json::to_string(service).unwrap_or_default();
    ConfigHash::new(hex::encode(Sha256::digest(json.as_bytes())))
}

fn objectives(scope: &mut Scope<'_>, spec: &ProtectedServiceSpec) -> Objectives {
    let said = &spec.objectives;
    let path = FieldPath::spec().key("objectives");
    if said.rto == Span::ZERO {
        let complaint = scope
            .about(
                Code::BadValue,
                path.key("rto"),
                "no failover takes no time at all",
            )
            .expected("a duration such as 5m");
        scope.add(complaint);
    }
    if let Some(percent) = said.availability
        && !(percent > 0.0 && percent <= 100.0)
    {
        let complaint = scope
            .about(
                Code::BadValue,
                path.key("availability"),
                format!("{percent} is no availability"),
            )
            .expected("percent: more than 0 and at most 100, such as 99.9");
        scope.add(complaint);
    }
    if said.response_time == Some(Span::ZERO) {
        let complaint = scope.about(
            Code::BadValue,
            path.key("responseTime"),
            "nothing answers in no time at all",
        );
        scope.add(complaint);
    }
    Objectives {
        rto: said.rto,
        rpo: said.rpo,
        availability: said.availability,
        response_time: said.response_time,
    }
}

const fn trigger(said: &TriggerSpec) -> Trigger {
    match said {
        TriggerSpec::Budget(budget) => Trigger::Budget {
            patience: budget.patience,
        },
        TriggerSpec::Immediate(_) => Trigger::Immediate,
        TriggerSpec::Manual(_) => Trigger::Manual,
    }
}

fn gates(scope: &mut Scope<'_>, spec: &ProtectedServiceSpec) -> Gates {
    let said = &spec.gates;
    let list = FieldPath::spec().key("gates").key("maintenance");
    for (n, window) in said.maintenance.iter().enumerate() {
        if window.from >= window.to {
            let complaint = scope
                .about(
                    Code::BadValue,
                    list.index(n).key("to"),
                    "the window ends before it begins",
                )
                .expected("a moment after `from`")
                .rests_on(list.index(n).key("from"));
            scope.add(complaint);
        }
    }
    Gates {
        max_lag_age: said.max_lag_age,
        over_rpo: said.over_rpo,
        maintenance: said
            .maintenance
            .iter()
            .map(|w| Window {
                from: w.from,
                to: w.to,
                reason: w.reason.clone(),
            })
            .collect(),
    }
}

fn runbook(
    scope: &mut Scope<'_>,
    spec: &ProtectedServiceSpec,
    outlines: &[Outline<'_>],
) -> Runbook {
    if let Some(outline) = outlines.iter().find(|o| o.name == spec.runbook) {
        return fit::fit(scope, spec, outline);
    }
    let given = outlines.iter().map(|o| o.name);
    let known: BTreeSet<_> = given.chain(RUNBOOKS.iter().map(|r| r.name)).collect();
    let known: Vec<_> = known.into_iter().collect();
    let path = FieldPath::spec().key("runbook");
    scope.refers("runbook", &spec.runbook, &known, &path, &FieldPath::root());
    Runbook {
        name: RunbookName::new(&spec.runbook),
        title: spec.runbook.clone(),
        steps: Vec::new(),
    }
}
