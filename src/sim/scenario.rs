//! A scenario: everything about a history that is drawn before it begins.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use super::{
    chance::Chance,
    fault::{self, Anchor, By, Fault, Has, Mishap, Planned},
    guard::HostPlan,
    kinds,
    weakness::Weakness,
};
use crate::model::{
    observation::Evidence,
    plan::RunKind,
    public_key::PublicKey,
    secret::SecretRef,
    service::{ComponentKind, Guard, Guards, Looker, Mode, Service, Trigger, Via},
    span::Span,
    step::Rung,
};

/// What a history is made of.
#[expect(clippy::struct_excessive_bools, reason = "each was drawn for itself")]
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scenario {
    /// Where it came from.
    pub seed: u64,
    /// What is protected.
    #[serde(serialize_with = "itself", deserialize_with = "shared")]
    pub service: Arc<Service>,
    /// Whether commits of the first primary wait for a standby.
    pub synchronous: bool,
    /// How far standbys are behind otherwise.
    pub lag: Span,
    /// Time between two writes of a customer.
    pub writes_every: Span,
    /// Looks end at multiples of this: where many end at once, the controller decides once on all of them.
    pub grain: Span,
    /// What goes wrong.
    pub faults: Vec<Planned>,
    /// Whether `failover check` is green.
    pub checks_green: bool,
    /// Whether people answer while faults last: of a hundred questions so many.
    pub attention: u64,
    /// Whether people say that the old primary is off without having looked.
    pub careless: bool,
    /// Nothing but the death of the primary.
    pub clean: bool,
    /// Nothing but the controller's troubles, while guards stand at both sites.
    pub alone: bool,
    /// Whether a third one passes on what does not get through, as guards and controllers do.
    pub relays: bool,
    /// What the host of each site is like, where its database has a guard.
    pub hosts: Vec<Option<HostPlan>>,
    /// What a test has planted.
    #[serde(skip)]
    pub weakness: Option<Weakness>,
}

/// The documents that histories are about.
#[derive(Clone, Debug)]
pub enum Subject {
    /// A service of the simulator's own, drawn anew for each seed.
    Drawn,
    /// Services of a user's documents, one of them for each seed.
    Documents(Vec<Arc<Service>>),
    /// Nothing is drawn: each seed is the place of one of these.
    Scripts(Vec<Arc<Scenario>>),
}

/// A service as it is, without what shares it.
fn itself<S: Serializer>(service: &Arc<Service>, to: S) -> Result<S::Ok, S::Error> {
    service.as_ref().serialize(to)
}

fn shared<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<Service>, D::Error> {
    Service::deserialize(from).map(Arc::new)
}

impl Subject {
    /// Whether any of its services has guards.
    #[must_use]
    pub fn has_guards(&self) -> bool {
        match self {
            Self::Drawn => true,
            Self::Documents(services) => services.iter().any(|s| s.guards.is_some()),
            Self::Scripts(scripts) => scripts.iter().any(|s| s.service.guards.is_some()),
        }
    }
}

/// Of a hundred histories so many know nothing but the death of the primary.
const CLEAN: u64 = 10;
/// In so many of a hundred other histories another controller takes over, or is elected.
const SUCCEEDED: u64 = 12;
/// In so many of a hundred other histories with guards something happens to a primary that is alone no more.
const LONE: u64 = 6;
/// In so many of a hundred histories guards and controllers pass on what others say. In the rest a cut is a cut: then a
/// rule that holds by the way around alone does not hide.
const RELAYED: u64 = 30;
/// Of a hundred histories with guards so many know nothing but troubles of the controller.
const ALONE: u64 = 10;

impl Scenario {
    /// The scenario of a seed, about one of these services; about one of the simulator's own where there are none.
    #[must_use]
    pub fn draw(seed: u64, services: &[Arc<Service>], weakness: Option<Weakness>) -> Self {
        let mut chance = Chance::new(seed);
        // What documents promise for the death of the primary alone depends on their gates: drawn services promise it.
        let is_drawn = services.is_empty();
        let clean = chance.percent(CLEAN) && weakness.is_none() && is_drawn;
        let synchronous = chance.percent(40);
        let is_guarded = match weakness {
            None => chance.percent(50),
            Some(weakness) => weakness.is_guarded(),
        };
        let alone = match weakness {
            None => is_guarded && !clean && chance.percent(ALONE),
            Some(weakness) => weakness == Weakness::DeputySilent,
        };
        let service = if is_drawn {
            let is_simple = clean || alone;
            let drawn = drawn(&mut chance, is_simple, synchronous, weakness, is_guarded);
            with_guards(drawn, &mut chance, is_guarded)
        } else {
            let index = chance.index(services.len());
            services[index].as_ref().clone()
        };
        let service = looking_itself(service);
        let alone = alone && is_drawn;
        let unable = match weakness {
            _ if clean || alone => 0,
            Some(Weakness::EndlessForgotten) => 50,
            Some(_) | None => 6,
        };
        let hosts = hosts(&mut chance, &service, unable);
        let mut faults = if alone {
            fault::of_controller(&mut chance)
        } else if clean {
            vec![Planned {
                from: Anchor::Beginning,
                at: chance.millis(40_000, 90_000),
                lasts: Span::from_secs(1),
                fault: Fault::Burns(0),
            }]
        } else {
            let points = service.vantage_points.len();
            fault::draw(
                &mut chance,
                service.sites.len(),
                points,
                has(&service, &hosts),
            )
        };
        // A stream of its own: what else is drawn does not depend on it.
        let mut aside = Chance::new(seed ^ 0x5ec0);
        let is_lone = weakness.is_some_and(Weakness::is_of_solo);
        if is_lone || is_guarded && is_drawn && aside.percent(LONE) && !alone && !clean {
            faults.extend(fault::lone(&mut aside));
        }
        let planted = weakness.and_then(Weakness::of_succession);
        let is_succeeded = aside.percent(SUCCEEDED) && !alone && !clean;
        if is_succeeded || planted.is_some() {
            faults.extend(fault::succession(&mut aside, &faults, planted));
        }
        let relays = aside.percent(RELAYED);
        Self {
            seed,
            synchronous,
            lag: if chance.percent(20) {
                chance.millis(1_000, 20_000)
            } else {
                chance.millis(5, 800)
            },
            writes_every: chance.millis(500, 2000),
            grain: if chance.percent(80) {
                Span::from_secs(1)
            } else {
                Span::from_millis(1)
            },
            checks_green: clean || chance.percent(85),
            attention: if clean { 100 } else { chance.below(101) },
            careless: chance.percent(5),
            service: Arc::new(service),
            faults,
            clean,
            alone,
            relays,
            hosts,
            weakness,
        }
    }

    /// A service with guards and the preset `lan`, and these faults.
    #[must_use]
    pub fn lan(seed: u64, faults: Vec<Planned>) -> Self {
        let mut chance = Chance::new(seed);
        let mut service = drawn(&mut chance, true, false, None, true);
        service.trigger = Trigger::Immediate;
        service.fencing = Rung::Lease;
        service.quorum.failures = 2;
        let looks = Span::from_millis(100);
        let data = service
            .components
            .iter_mut()
            .filter(|c| c.kind == ComponentKind::Database);
        for probe in data.flat_map(|c| &mut c.probes) {
            probe.every = looks;
            probe.timeout = looks;
            if probe.evidence == Evidence::Stream {
                probe.action.with["heardWithin"] = json!("300ms");
            }
        }
        let mut service = looking_itself(with_guards(service, &mut chance, true));
        if let Some(guards) = &mut service.guards {
            guards.lease = Span::from_secs(1);
        }
        let mut hosts = hosts(&mut chance, &service, 0);
        for host in hosts.iter_mut().flatten() {
            host.renewal = Span::from_millis(150);
        }
        Self {
            seed,
            synchronous: false,
            lag: Span::from_millis(5),
            writes_every: Span::from_millis(500),
            grain: Span::from_millis(1),
            checks_green: true,
            attention: 100,
            careless: false,
            service: Arc::new(service),
            faults,
            clean: false,
            alone: false,
            relays: true,
            hosts,
            weakness: None,
        }
    }

    /// Whether the controller's clock is the world's but for where it began.
    #[must_use]
    pub fn has_true_clock(&self) -> bool {
        let steps = |p: &Planned| matches!(p.fault, Fault::ClockSteps(..));
        !self.faults.iter().any(steps)
    }

    /// How another controller comes after the first; none where nobody does.
    #[must_use]
    pub fn succession(&self) -> Option<By> {
        self.faults.iter().find_map(|p| p.fault.of_succession())
    }

    /// Whether no order arrives after whoever sent it was told what became of it.
    #[must_use]
    pub fn arrives_in_time(&self) -> bool {
        let late = |p: &Planned| {
            matches!(
                p.fault,
                Fault::Doubling | Fault::Step(_, Mishap::Late) | Fault::Slow
            )
        };
        !self.faults.iter().any(late)
    }

    /// How long the primary may take to come back by itself.
    #[must_use]
    pub fn patience(&self) -> Span {
        match self.service.trigger {
            Trigger::Budget { patience } => patience,
            Trigger::Immediate | Trigger::Manual => Span::ZERO,
        }
    }

    /// When the last fault is over that is counted from there.
    #[must_use]
    pub fn calm_after(&self, from: Anchor) -> Span {
        let own = self.faults.iter().filter(|p| p.from == from);
        let ends = own.map(|p| p.at.saturating_add(p.lasts));
        ends.max().unwrap_or(Span::ZERO)
    }
}

fn has(service: &Service, hosts: &[Option<HostPlan>]) -> Has {
    if hosts.iter().all(Option::is_none) {
        return Has::Nothing;
    }
    let planned = service.runbook.steps.iter();
    let planned = planned.filter(|s| s.on.contains(&RunKind::Switchover));
    let kinds: Vec<_> = planned.filter_map(|s| s.action.kind()).collect();
    let drains = kinds.contains(&"guard/drain");
    if drains && kinds.iter().all(|kind| kinds::is_simulated(kind)) {
        Has::PlannedWork
    } else {
        Has::Guards
    }
}

/// All vantage points look from the controller, each by a way of its own: observers elsewhere see as they do.
fn looking_itself(mut service: Service) -> Service {
    for (n, point) in service.vantage_points.iter_mut().enumerate() {
        let last = u8::try_from(n + 1).unwrap_or(u8::MAX);
        let address = std::net::Ipv4Addr::new(10, 0, 0, last);
        point.looker = Looker::Controller(Via::SourceAddress(address.into()));
    }
    service
}

/// The vantage point that looks by this way.
#[must_use]
pub fn point_of(service: &Service, via: &Via) -> usize {
    let by = |point: &crate::model::service::VantagePoint| matches!(&point.looker, Looker::Controller(own) if own == via);
    service.vantage_points.iter().position(by).unwrap_or(0)
}

const STEPS: [(&str, &str, &str, &[&str]); 8] = [
    ("stop-primary", "fence", "command/fence", &[]),
    (
        "refuse-writers",
        "fence",
        "postgres/fence",
        &["stop-primary"],
    ),
    (
        "write-attempt",
        "fence",
        "postgres/write-attempt",
        &["refuse-writers"],
    ),
    ("promote", "promote", "postgres/promote", &["write-attempt"]),
    ("repoint", "traffic", "dns/repoint", &["promote"]),
    ("cutover", "traffic", "dns/cutover", &["repoint"]),
    (
        "verify",
        "verify",
        "service/verify",
        &["promote", "repoint"],
    ),
    ("fallback", "tell", "publish/fallback", &["verify"]),
];

/// The same where guards stand beside databases.
const GUARDED: [(&str, &str, &str, &[&str]); 11] = [
    ("return", "prepare", "guard/rejoin", &[]),
    ("drain", "fence", "guard/drain", &[]),
    ("stop-primary", "fence", "guard/fence", &["drain"]),
    ("switch-off", "fence", "command/fence", &[]),
    (
        "write-attempt",
        "fence",
        "postgres/write-attempt",
        &["stop-primary"],
    ),
    ("promote", "promote", "guard/promote", &["stop-primary"]),
    ("repoint", "traffic", "dns/repoint", &["promote"]),
    ("cutover", "traffic", "dns/cutover", &["repoint"]),
    (
        "verify",
        "verify",
        "service/verify",
        &["promote", "repoint"],
    ),
    ("follow", "protect", "guard/rejoin", &["verify"]),
    ("fallback", "tell", "publish/fallback", &["verify"]),
];

/// A guard at each site, and a length of its leases.
fn with_guards(mut service: Service, chance: &mut Chance, is_guarded: bool) -> Service {
    if is_guarded {
        let guard = |n: u8| Guard {
            address: ([10, 0, 0, n], 7400).into(),
            public_key: PublicKey::new([n; 32]),
        };
        let sites = (1..).zip(&service.sites);
        service.guards = Some(Guards {
            controller: "dr".to_owned(),
            key: SecretRef::Env("KEY".to_owned()),
            lease: Span::from_secs(*chance.pick(&[2, 5, 10, 10])),
            sites: sites.map(|(n, s)| (s.name.clone(), guard(n))).collect(),
        });
    }
    service
}

/// So many of a hundred hosts are unable to end a database in time.
fn hosts(chance: &mut Chance, service: &Service, unable: u64) -> Vec<Option<HostPlan>> {
    let plan = |site: &crate::model::site::Site| {
        let guards = service.guards.as_ref()?;
        guards.sites.get(&site.name)?;
        let tenth = guards.lease.as_millis() / 10;
        let mut drift = || i64::try_from(chance.below(20_001)).unwrap_or(0) - 10_000;
        let (holder, grantor) = (drift(), drift());
        let cannot = chance.percent(unable);
        Some(HostPlan {
            renewal: Span::from_millis(tenth),
            kill: (!cannot).then(|| chance.millis(20, 50)),
            holder,
            grantor,
        })
    };
    service.sites.iter().map(plan).collect()
}

fn drawn(
    chance: &mut Chance,
    clean: bool,
    synchronous: bool,
    weakness: Option<Weakness>,
    is_guarded: bool,
) -> Service {
    let mode = if clean || chance.percent(60) {
        Mode::Automatic
    } else {
        *chance.pick(&[Mode::Ask, Mode::Ask, Mode::Observe])
    };
    let trigger = match chance.below(3) {
        0 => json!("immediate"),
        _ => json!({"budget": {"patience": *chance.pick(&["5s", "20s", "1m"])}}),
    };
    let rpo = match (clean, synchronous) {
        (true, false) => "1m",
        (_, true) => *chance.pick(&["0s", "0s", "1m"]),
        (false, false) => *chance.pick(&["0s", "30s", "1m", "1m"]),
    };
    let sites = if chance.percent(15) { 3 } else { 2 };
    let names = &["east", "west", "north"][..sites];
    let every = *chance.pick(&["5s", "5s", "10s"]);
    let points = if chance.percent(25) { 2 } else { 3 };
    let required = if chance.percent(80) { 1 } else { 2 };
    let shop = json!({
        "name": "shop", "title": "Shop", "mode": mode,
        "objectives": {"rto": "5m", "rpo": rpo},
        "sites": names.iter().enumerate().map(|(n, name)| site(n, name)).collect::<Vec<_>>(),
        "residency": [],
        "vantagePoints": (1..=points).map(|n| json!({
            "name": format!("point-{n}"), "network": format!("net-{n}"), "looker": {"controller": "direct"},
            "sentinels": [{"uses": "probe/tcp", "with": {"host": "192.0.2.254", "port": 443}}],
        })).collect::<Vec<_>>(),
        "quorum": {"networks": 2, "failures": 2, "successes": 2},
        "components": components(names, every, is_guarded),
        "trigger": trigger,
        "gates": {
            "maxLagAge": "1m", "overRpo": *chance.pick(&["ask", "ask", "hold"]), "maintenance": [],
        },
        "fencing": fencing(chance, clean, is_guarded),
        "dns": {
            "provider": {"uses": "dns/rfc2136", "with": {}}, "zone": "example.com.",
            "records": [{"name": "www.example.com.", "kind": "A", "values": values(names)}],
            "ttl": *chance.pick(&["5s", "30s", "1m"]), "lowerAhead": false, "resolvers": [], "authorities": [],
        },
        "publication": null,
        "announcements": {
            "channels": [{
                "name": "users", "action": {"uses": "announce/email", "with": {}},
                "phases": ["investigating", "failingOver", "onStandby", "recovered"],
            }],
            "templates": {}, "symptom": "Pages do not load.", "cadence": "20m",
        },
        "team": {
            "people": [{"name": "ann"}, {"name": "ben"}],
            "channels": [{"name": "pager", "action": {"uses": "announce/webhook", "with": {}}, "phases": []}],
            "repeat": "5m",
        },
        "approvals": {
            "required": required, "approvers": ["ann", "ben"], "breakGlass": ["ann"],
            "expiry": *chance.pick(&["2m", "15m"]), "onTimeout": *chance.pick(&["hold", "proceed"]),
        },
        "runbook": {"name": "drawn", "title": "Drawn", "steps": steps(chance, weakness, clean, is_guarded)},
        "config": "drawn",
    });
    // A literal of this file: the test beside it reads one of every kind.
    serde_json::from_value(shop).unwrap_or_else(|e| unreachable!("the drawn service is one: {e}"))
}

fn site(n: usize, name: &str) -> Value {
    json!({
        "name": name, "role": if n == 0 { "primary" } else { "standby" }, "location": {},
        "addresses": [format!("192.0.2.{}", n + 1)], "url": format!("https://{name}.example.com/"),
    })
}

fn values(names: &[&str]) -> Value {
    let values = names.iter().enumerate();
    values
        .map(|(n, name)| ((*name).to_owned(), json!([format!("192.0.2.{}", n + 1)])))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn fencing(chance: &mut Chance, is_able: bool, is_guarded: bool) -> &'static str {
    match (is_guarded, is_able) {
        (false, _) => "infrastructure",
        // A host that burnt down acknowledges nothing.
        (true, true) => chance.pick::<&str>(&["infrastructure", "lease"]),
        (true, false) => chance.pick::<&str>(&["infrastructure", "lease", "lease", "acknowledged"]),
    }
}

fn components(names: &[&str], every: &str, is_guarded: bool) -> Value {
    let probe = |kind: &str, id: String, site: &str, evidence: &str| {
        json!({
            "id": id.clone(), "action": {"uses": kind, "with": {"id": id}}, "site": site,
            "evidence": evidence, "every": every, "timeout": "2s", "from": [],
        })
    };
    let all = |kind: &str, word: &str, evidence: &str, from: usize| -> Vec<Value> {
        let names = names.iter().skip(from);
        names
            .map(|n| probe(kind, format!("{word}-{n}"), n, evidence))
            .collect()
    };
    let guard = |site: &&str| {
        json!({
            "id": format!("guard-{site}"), "action": {"uses": "probe/guard", "with": {"site": site}}, "site": site,
            "evidence": "guard", "every": every, "timeout": "2s", "from": [],
        })
    };
    let guards = if is_guarded { names } else { &[] };
    let data = [
        all("probe/postgres", "data", "database", 0),
        all("probe/postgres-standby", "stream", "stream", 1),
        guards.iter().map(guard).collect(),
    ];
    json!([
        {"name": "web", "title": "Web", "kind": "application", "probes": all("probe/http", "web", "outside", 0)},
        {"name": "data", "title": "Data", "kind": "database", "probes": data.concat()},
    ])
}

fn steps(
    chance: &mut Chance,
    weakness: Option<Weakness>,
    clean: bool,
    is_guarded: bool,
) -> Vec<Value> {
    let fence_fails = *chance.pick(&["stop", "ask", "ask"]);
    let (switches_off, attempts) = (chance.percent(25), !clean && chance.percent(50));
    let hold = if is_guarded {
        *chance.pick(&["2s", "5s", "10s", "10s"])
    } else {
        "10s"
    };
    let all = if is_guarded { &GUARDED[..] } else { &STEPS[..] };
    let chosen = all.iter().filter(|(_, _, kind, _)| match *kind {
        "command/fence" => !is_guarded || switches_off,
        "postgres/write-attempt" => !is_guarded || attempts,
        _ => true,
    });
    let step = |(id, phase, kind, needs): &(&str, &str, &str, &[&str])| {
        let is_aside = *id == "refuse-writers";
        let on = if is_guarded {
            of_guarded(id, phase)
        } else {
            match *phase {
                "fence" | "promote" => json!(["failover"]),
                _ => json!(["failover", "redirect"]),
            }
        };
        let with = match *kind {
            "guard/drain" => json!({"hold": hold}),
            _ => json!({}),
        };
        let on_failure = match *phase {
            _ if is_aside => "continue",
            "fence" => fence_fails,
            "tell" => "continue",
            "traffic" | "verify" | "prepare" | "protect" => "ask",
            _ => "stop",
        };
        let needs: &[&str] = match weakness {
            Some(Weakness::NamesBeforePromotion) if *id == "repoint" => &[],
            _ => needs,
        };
        json!({
            "id": id, "name": id, "phase": phase, "action": {"adapter": {"uses": kind, "with": with}}, "needs": needs,
            "timeout": if *kind == "guard/rejoin" { "60s" } else { "20s" }, "retry": {"attempts": if is_aside { 1 } else { 3 }, "backoff": "1s"}, "on": on,
            "onFailure": on_failure, "bothWays": !matches!(*phase, "fence" | "promote") || kind.starts_with("guard/"),
        })
    };
    chosen.map(step).collect()
}

/// The runs that a step takes part in where guards stand beside databases: those can be left as planned work.
fn of_guarded(id: &str, phase: &str) -> Value {
    match (id, phase) {
        ("return", _) => json!(["failback"]),
        ("drain" | "follow", _) => json!(["switchover", "failback"]),
        ("stop-primary" | "promote", _) => json!(["failover", "switchover", "failback"]),
        (_, "fence") => json!(["failover"]),
        (_, "tell") => json!(["failover", "redirect"]),
        _ => json!(["failover", "redirect", "switchover", "failback"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_gives_a_service_and_the_same_one_again() {
        for seed in 0..200 {
            let one = Scenario::draw(seed, &[], None);
            let two = Scenario::draw(seed, &[], None);
            assert_eq!(one.service, two.service);
            assert_eq!(one.faults, two.faults);
        }
    }
}
