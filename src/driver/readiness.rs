//! Readiness: every credential and grant tried harmlessly, the sites held against each other, and proof that nothing in
//! the plan needs the primary.

mod clocks;
mod comparisons;
mod disk;
mod drift;
mod moves;
mod proofs;
mod secrets;
mod server;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::join_all;

use self::proofs::Sink;
pub use self::{
    comparisons::check as compared,
    secrets::{check as resolved, references},
};
use super::{
    backups,
    fitting::Fitting,
    independence::{self, Outside},
    perform,
    watch::Lookouts,
};
use crate::{
    decide::{
        core::Core,
        incident::{self, Proposal},
        lint, readiness,
    },
    journal::copy::Copy,
    model::{
        check::{CheckItem, CheckStatus},
        id::{ChannelName, PlanHash, ServiceName, SiteName},
        loss::LossForecast,
        plan::{Action as Doing, Plan, PlanStep, RunKind, Uses},
        service::{Channel, Service},
    },
    port::{cause, channel::SharedChannel, guard::Order, kind::Kinds, ledger::SharedLedger},
};

/// Guards that were asked are given so long.
const ANSWER: Duration = Duration::from_millis(500);

/// What a check is made with.
pub struct Scene<'a> {
    /// Where the service stands.
    pub core: &'a Core,
    /// Makes its adapters.
    pub fitting: &'a Fitting,
    /// Its vantage points.
    pub lookouts: &'a Arc<Lookouts>,
    /// The channels to customers.
    pub customers: &'a BTreeMap<ChannelName, SharedChannel>,
    /// The channels to the team.
    pub team: &'a BTreeMap<ChannelName, SharedChannel>,
    /// What is known of observers elsewhere.
    pub observers: Vec<CheckItem>,
    /// The journal's copy, where this process makes one.
    pub copy: Option<&'a Copy>,
    /// Who was told what, where this process knows.
    pub ledger: Option<&'a SharedLedger>,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Every item, the worst first.
    pub items: Vec<CheckItem>,
    /// The plan that it was made for, where one can be made.
    pub plan: Option<PlanHash>,
}

/// Checks one service as the failover that would come next.
pub async fn check(scene: Scene<'_>) -> Found {
    let (core, fitting) = (scene.core, scene.fitting);
    let now = fitting.wiring().runtime.now();
    let service = core.service();
    let mut items = scene.observers.clone();
    let active = core.state().active.as_ref();
    items.extend(scene.lookouts.check(service, active).await);
    let (sunk, sinks) = outlets(&scene).await;
    items.extend(sunk);
    let state = &fitting.wiring().state;
    items.extend(proofs::check(
        &sinks,
        state,
        service.readiness.proof_max_age,
        now,
    ));
    items.extend(secrets::check(service, fitting.wiring().secrets.as_ref()));
    items.push(readiness::drill(
        &service.readiness,
        core.state().drills.last_passed(),
        now,
    ));
    let since = core.state().incident.as_ref().map_or(now, |i| i.outage);
    let (seen, kind) = ((core.state(), core.view()), RunKind::Failover);
    let proposal = incident::propose(service, seen.0, seen.1, kind, None, since, now);
    let plan = proposal.as_ref().ok().map(|p| &p.plan);
    items.extend(servers(service, fitting, plan).await);
    items.extend(clocks::servers(service, fitting.wiring()).await);
    items.extend(comparisons::check(service, fitting.wiring()).await);
    items.extend(moves::check(core, fitting, plan, now).await);
    items.extend(moves::drills(core, fitting, plan).await);
    match &proposal {
        Ok(proposal) => items.extend(planned(&scene, proposal).await),
        Err(reason) => items.push(CheckItem::bad(
            "plan",
            CheckStatus::Fail,
            reason,
            "see `failover plan`",
        )),
    }
    items.sort_by(|a, b| b.status.cmp(&a.status).then_with(|| a.name.cmp(&b.name)));
    Found {
        items,
        plan: plan.map(Plan::hash),
    }
}

/// What the plan of a failover needs.
async fn planned(scene: &Scene<'_>, proposal: &Proposal) -> Vec<CheckItem> {
    let (service, fitting, plan) = (scene.core.service(), scene.fitting, &proposal.plan);
    let mut items = steps(service, fitting, plan, plan.steps.iter()).await;
    items.extend(independence::check(service, fitting.kinds(), plan).await);
    let copy = scene.copy.map(Copy::place);
    let outside = Outside::of_host(service, &fitting.wiring().state, copy);
    items.extend(independence::outside(service, plan, &outside).await);
    items.extend(certificate(service, scene.lookouts, &plan.to).await);
    let total = crate::decide::budget::total(&proposal.parts);
    for remark in lint::lint(service, plan, total) {
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
            plan.to, service.objectives.rto
        ),
    ));
    let loss = &proposal.loss;
    items.push(match loss {
        LossForecast::Unknown { reason } => CheckItem::bad(
            "lag",
            CheckStatus::Unknown,
            format!("the loss cannot be forecast: {reason}"),
            "see that the database probes of both sites work",
        ),
        LossForecast::Stateless
        | LossForecast::Drained
        | LossForecast::Restored(_)
        | LossForecast::Known(_) => CheckItem::ok("lag", format!("expected loss: {loss}")),
    });
    items
}

/// The databases of all sites: their clocks, what they take of their disks, and what the one that would take over lacks.
pub async fn servers(service: &Service, fitting: &Fitting, plan: Option<&Plan>) -> Vec<CheckItem> {
    let wiring = fitting.wiring();
    let now = wiring.runtime.now();
    if let Some(guards) = &wiring.guards {
        // What requests for leases leave out is said on being asked.
        for site in service.guards.iter().flat_map(|g| g.sites.keys()) {
            guards.order(site, Order::Look);
        }
        guards.news(ANSWER).await;
    }
    let logins = server::logins(service, plan, &wiring.secrets);
    let looks = logins.iter().map(|(site, login)| async move {
        let seen = server::look(login, &wiring.runtime).await;
        (site, login, seen)
    });
    let mut items = Vec::new();
    let mut seen = BTreeMap::new();
    for (site, login, look) in join_all(looks).await {
        match look {
            Ok(server) => {
                if let Some(skew) = server.skew {
                    let (name, whose) = (
                        format!("{site}/database"),
                        format!("the database at {site}"),
                    );
                    items.push(clocks::item(
                        &name,
                        &whose,
                        skew,
                        service.readiness.max_skew,
                    ));
                }
                seen.insert(site.clone(), server);
            }
            // Whether it answers is the business of its probe, which knows what is cold.
            Err(error) => {
                tracing::debug!(%site, server = %login.conninfo.server(), error = %error.told(), "not compared");
            }
        }
    }
    if let Some(guards) = &wiring.guards {
        items.extend(clocks::guards(service, guards.as_ref(), now));
    }
    items.extend(disk::check(service, wiring.guards.as_deref(), &seen));
    let Some(plan) = plan else {
        return items;
    };
    match (seen.get(&plan.from), seen.get(&plan.to)) {
        (Some(from), Some(to)) => {
            items.extend(drift::compare((&plan.from, from), (&plan.to, to)));
        }
        (Some(_), None) | (None, Some(_)) => items.push(CheckItem::untold(
            "drift",
            format!(
                "only one of the databases at {} and {} can be asked, so they are not compared",
                plan.from, plan.to
            ),
            "name both in probes (probe/postgres) whose role may log in",
        )),
        (None, None) => {}
    }
    items
}

/// The channels to one audience.
struct Audience<'a> {
    /// What items call it.
    room: &'static str,
    made: &'a BTreeMap<ChannelName, SharedChannel>,
    named: &'a [Channel],
    kinds: Kinds,
    ledger: Option<&'a SharedLedger>,
    /// What the ledger calls it.
    service: ServiceName,
}

impl<'a> Scene<'a> {
    fn audience(
        &'a self,
        room: &'static str,
        made: &'a BTreeMap<ChannelName, SharedChannel>,
        named: &'a [Channel],
    ) -> Audience<'a> {
        let service = &self.core.service().name;
        Audience {
            room,
            made,
            named,
            kinds: self.fitting.kinds(),
            ledger: self.ledger,
            service: if room == "page" {
                perform::team_of(service)
            } else {
                service.clone()
            },
        }
    }
}

async fn channels(audience: &Audience<'_>) -> (Vec<CheckItem>, Vec<Sink>) {
    let mut items = Vec::new();
    let mut sinks = Vec::new();
    let checks = audience.made.iter();
    let checks = checks.map(|(name, channel)| async move { (name, channel.check().await) });
    for (name, mut found) in join_all(checks).await {
        for item in &mut found {
            item.name = format!("{}/{name}/{}", audience.room, item.name);
        }
        if let Some(channel) = audience.named.iter().find(|c| &c.name == name) {
            let mut sink = Sink::new(format!("{}/{name}", audience.room), &channel.action);
            if let Some(ledger) = audience.ledger {
                // A ledger that cannot be read has its own alarm.
                let last = ledger.last_sent(&audience.service, name).await;
                sink.used = last.ok().flatten();
            }
            let kind = audience.kinds.get(channel.action.uses.as_str());
            let by_use = kind.is_some_and(|k| k.proved_by_use);
            sinks.push(if by_use { sink } else { sink.tried(&found) });
        }
        items.extend(found);
    }
    (items, sinks)
}

/// Where something goes out: each with its items, and as a sink whose last proof has an age.
async fn outlets(scene: &Scene<'_>) -> (Vec<CheckItem>, Vec<Sink>) {
    let (service, fitting) = (scene.core.service(), scene.fitting);
    let mut items = Vec::new();
    let mut sinks = Vec::new();
    let named = &service.announcements.channels;
    let customers = channels(&scene.audience("announce", scene.customers, named)).await;
    let named = &service.team.channels;
    let team = channels(&scene.audience("page", scene.team, named)).await;
    for (found, more) in [customers, team] {
        items.extend(found);
        sinks.extend(more);
    }
    if scene.team.is_empty() {
        items.push(CheckItem::bad(
            "page",
            CheckStatus::Fail,
            "the team has no channel: nobody would be paged",
            "add team.channels",
        ));
    }
    if let Some(uses) = &service.team.chat {
        match fitting.chat(uses) {
            // No run hangs on it.
            Ok(chat) => items.extend(chat.check().await.into_iter().map(CheckItem::aside)),
            Err(error) => items.push(
                CheckItem::bad(
                    "chat",
                    CheckStatus::Fail,
                    cause::in_full(&error),
                    "see 'failover help chat/telegram'",
                )
                .aside(),
            ),
        }
    }
    for (n, uses) in service
        .publication
        .iter()
        .flat_map(|p| &p.targets)
        .enumerate()
    {
        let found = match fitting.target(uses) {
            Ok(target) => target.check().await,
            Err(error) => vec![unmade(uses, &error)],
        };
        sinks.push(Sink::new(format!("publish/{}", n + 1), uses).tried(&found));
        items.extend(found);
    }
    let (found, sink) = dns(scene.core, fitting).await;
    items.extend(found);
    sinks.extend(sink);
    if let Some(copy) = scene.copy {
        let found = copy.check().await;
        let mut sink = Sink {
            name: "journal-copy".to_owned(),
            of: copy.place().0.to_owned(),
            used: None,
            checked: None,
        };
        // Only what the store itself said proves anything.
        let of_store: Vec<_> = found
            .iter()
            .filter(|i| i.name == "journal/copy")
            .cloned()
            .collect();
        sink = sink.tried(&of_store);
        sinks.push(sink);
        items.extend(found);
    }
    let (found, places) = backups::check(scene.core, fitting).await;
    items.extend(found);
    for (source, answers) in places {
        let uses = service
            .backups
            .iter()
            .flat_map(|p| &p.sources)
            .find(|s| s.name == source);
        if let Some(uses) = uses {
            let mut sink = Sink::new(format!("backups/{source}"), &uses.action);
            sink.checked = Some(answers);
            sinks.push(sink);
        }
    }
    (items, sinks)
}

async fn dns(core: &Core, fitting: &Fitting) -> (Vec<CheckItem>, Option<Sink>) {
    let service = core.service();
    let active = core.state().serving.as_ref().and_then(|s| service.site(s));
    let (Some(provider), Some(active), Some(named)) = (&fitting.wiring().dns, active, &service.dns)
    else {
        return (Vec::new(), None);
    };
    let mut items = crate::dns::readiness::provider(service, provider, active).await;
    let own: Vec<_> = items
        .iter()
        .filter(|i| i.name == "dns/provider")
        .cloned()
        .collect();
    let sink = Sink::new("dns", &named.provider).tried(&own);
    items.extend(crate::dns::readiness::live(service, provider, active).await);
    (items, Some(sink))
}

async fn steps(
    service: &Service,
    fitting: &Fitting,
    plan: &Plan,
    steps: impl Iterator<Item = &PlanStep>,
) -> Vec<CheckItem> {
    let (Some(from), Some(to)) = (service.site(&plan.from), service.site(&plan.to)) else {
        return Vec::new();
    };
    let mut items = Vec::new();
    for step in steps {
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
