//! Readiness: every credential and grant tried harmlessly, and proof that nothing in the plan needs the primary.

use std::{collections::BTreeMap, sync::Arc};

use futures::future::join_all;

use super::{backups, fitting::Fitting, independence, watch::Lookouts};
use crate::{
    decide::{core::Core, incident, lint},
    model::{
        check::{CheckItem, CheckStatus},
        id::{ChannelName, SiteName},
        plan::{Action as Doing, Plan, RunKind, Uses},
        service::Service,
    },
    port::{cause, channel::SharedChannel},
};

/// Checks one service as the failover that would come next; `observers` is what is known of those elsewhere.
pub async fn check(
    core: &Core,
    fitting: &Fitting,
    lookouts: &Arc<Lookouts>,
    customers: &BTreeMap<ChannelName, SharedChannel>,
    team: &BTreeMap<ChannelName, SharedChannel>,
    observers: Vec<CheckItem>,
    now: crate::model::time::Time,
) -> Vec<CheckItem> {
    let service = core.service();
    let mut items = observers;
    items.extend(lookouts.check(service).await);
    items.extend(channels("announce", customers).await);
    items.extend(channels("page", team).await);
    if team.is_empty() {
        items.push(CheckItem::bad(
            "page",
            CheckStatus::Fail,
            "the team has no channel: nobody would be paged",
            "add team.channels",
        ));
    }
    items.extend(targets(service, fitting).await);
    items.extend(dns(core, fitting).await);
    items.extend(backups::check(core, fitting).await);
    let since = core.state().incident.as_ref().map_or(now, |i| i.outage);
    match incident::propose(
        service,
        core.state(),
        core.view(),
        RunKind::Failover,
        None,
        since,
        now,
    ) {
        Ok(proposal) => {
            items.extend(steps(service, fitting, &proposal.plan).await);
            items.extend(independence::check(service, fitting.kinds(), &proposal.plan).await);
            items.extend(certificate(service, lookouts, &proposal.plan.to).await);
            let total = crate::decide::budget::total(&proposal.parts);
            for remark in lint::lint(service, &proposal.plan, total) {
                items.push(CheckItem::bad(
                    "plan",
                    CheckStatus::Warn,
                    remark.text,
                    remark.fix,
                ));
            }
            items.push(CheckItem::ok(
                "plan",
                format!(
                    "a failover to {} is forecast to take {total} of the RTO of {}",
                    proposal.plan.to, service.objectives.rto
                ),
            ));
            let loss = &proposal.loss;
            items.push(match loss {
                crate::model::loss::LossForecast::Unknown { reason } => CheckItem::bad(
                    "lag",
                    CheckStatus::Unknown,
                    format!("the loss cannot be forecast: {reason}"),
                    "see that the database probes of both sites work",
                ),
                crate::model::loss::LossForecast::Stateless
                | crate::model::loss::LossForecast::Known(_) => {
                    CheckItem::ok("lag", format!("expected loss: {loss}"))
                }
            });
        }
        Err(reason) => items.push(CheckItem::bad(
            "plan",
            CheckStatus::Fail,
            reason,
            "see `failover plan`",
        )),
    }
    sort(&mut items);
    items
}

/// What is worst comes first.
pub(super) fn sort(items: &mut [CheckItem]) {
    items.sort_by(|a, b| b.status.cmp(&a.status).then_with(|| a.name.cmp(&b.name)));
}

async fn channels(room: &str, channels: &BTreeMap<ChannelName, SharedChannel>) -> Vec<CheckItem> {
    let checks = channels.iter().map(|(name, channel)| async move {
        let mut items = channel.check().await;
        for item in &mut items {
            item.name = format!("{room}/{name}/{}", item.name);
        }
        items
    });
    join_all(checks).await.concat()
}

async fn targets(service: &Service, fitting: &Fitting) -> Vec<CheckItem> {
    let mut items = Vec::new();
    for uses in service.publication.iter().flat_map(|p| &p.targets) {
        match fitting.target(uses) {
            Ok(target) => items.extend(target.check().await),
            Err(error) => items.push(unmade(uses, &error)),
        }
    }
    items
}

async fn dns(core: &Core, fitting: &Fitting) -> Vec<CheckItem> {
    let service = core.service();
    let active = core.state().serving.as_ref().and_then(|s| service.site(s));
    let (Some(provider), Some(active)) = (&fitting.wiring().dns, active) else {
        return Vec::new();
    };
    let mut items = crate::dns::readiness::provider(service, provider, active).await;
    items.extend(crate::dns::readiness::live(service, provider, active).await);
    items
}

async fn steps(service: &Service, fitting: &Fitting, plan: &Plan) -> Vec<CheckItem> {
    let (Some(from), Some(to)) = (service.site(&plan.from), service.site(&plan.to)) else {
        return Vec::new();
    };
    let mut items = Vec::new();
    for step in &plan.steps {
        let Doing::Adapter(uses) = &step.action else {
            continue;
        };
        match fitting.action(uses) {
            Ok(action) => {
                for mut item in action.check(from, to).await {
                    item.name = format!("step/{}/{}", step.id, item.name);
                    items.push(item);
                }
            }
            Err(error) => items.push(unmade(uses, &error)),
        }
    }
    items
}

fn unmade(uses: &Uses, error: &super::fitting::FittingError) -> CheckItem {
    let text = cause::in_full(error);
    CheckItem::bad(
        uses.uses.as_str(),
        CheckStatus::Fail,
        text,
        "see the `with` of this kind: `failover help kinds`",
    )
}

/// The standby's certificate must be good for the public name, else users who are led there are turned away.
async fn certificate(service: &Service, lookouts: &Arc<Lookouts>, to: &SiteName) -> Vec<CheckItem> {
    let Some(dns) = &service.dns else {
        return Vec::new();
    };
    let https = |uses: &Uses| {
        uses.uses.as_str() == "probe/http"
            && uses
                .with
                .get("url")
                .and_then(|u| u.as_str())
                .is_some_and(|u| u.starts_with("https:"))
    };
    let probes = service
        .components
        .iter()
        .flat_map(|c| &c.probes)
        .filter(|p| p.site.as_ref() == Some(to) && https(&p.action));
    let mut items = Vec::new();
    for probe in probes {
        for record in &dns.records {
            let name = record.name.trim_end_matches('.');
            let mut uses = probe.action.clone();
            if let Some(with) = uses.with.as_object_mut() {
                let tls = with.entry("tls").or_insert_with(|| serde_json::json!({}));
                if let Some(tls) = tls.as_object_mut() {
                    tls.insert("serverName".to_owned(), serde_json::json!(name));
                }
            }
            let sightings =
                crate::port::lookout::Lookouts::look(lookouts.as_ref(), &uses, probe.timeout).await;
            let seen = sightings.iter().any(|s| {
                s.look.facts.certificate_expires.is_some() && !s.look.detail.contains("certificate")
            });
            items.push(if seen {
                CheckItem::ok(
                    format!("certificate/{to}"),
                    format!("the certificate at {to} is good for {name}"),
                )
            } else {
                let detail = sightings
                    .first()
                    .map_or_else(String::new, |s| s.look.detail.clone());
                CheckItem::bad(
                    format!("certificate/{to}"),
                    CheckStatus::Fail,
                    format!("{to} shows no certificate that is good for {name}: {detail}"),
                    format!("install a certificate for {name} at {to}"),
                )
            });
        }
    }
    items
}
