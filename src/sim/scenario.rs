//! A scenario: everything about a history that is drawn before it begins.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    chance::Chance,
    fault::{self, Anchor, Fault, Mishap, Planned},
    weakness::Weakness,
};
use crate::model::{
    service::{Looker, Mode, Service, Trigger, Via},
    span::Span,
};

/// What a history is made of.
#[expect(clippy::struct_excessive_bools, reason = "each was drawn for itself")]
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Where it came from.
    pub seed: u64,
    /// What is protected.
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
    /// What a test has planted.
    pub weakness: Option<Weakness>,
}

/// The documents that histories are about.
#[derive(Clone, Debug)]
pub enum Subject {
    /// A service of the simulator's own, drawn anew for each seed.
    Drawn,
    /// Services of a user's documents, one of them for each seed.
    Documents(Vec<Arc<Service>>),
}

/// Of a hundred histories so many know nothing but the death of the primary.
const CLEAN: u64 = 10;

impl Scenario {
    /// The scenario of a seed.
    #[must_use]
    pub fn draw(seed: u64, subject: &Subject, weakness: Option<Weakness>) -> Self {
        let mut chance = Chance::new(seed);
        // What documents promise for the death of the primary alone depends on their gates: drawn services promise it.
        let is_drawn = matches!(subject, Subject::Drawn);
        let clean = chance.percent(CLEAN) && weakness.is_none() && is_drawn;
        let synchronous = chance.percent(40);
        let service = match subject {
            Subject::Drawn => drawn(&mut chance, clean, synchronous, weakness),
            Subject::Documents(services) => {
                let index = chance.index(services.len());
                services[index].as_ref().clone()
            }
        };
        let service = looking_itself(service);
        let faults = if clean {
            vec![Planned {
                from: Anchor::Beginning,
                at: chance.millis(40_000, 90_000),
                lasts: Span::from_secs(1),
                fault: Fault::Burns(0),
            }]
        } else {
            let points = service.vantage_points.len();
            fault::draw(&mut chance, service.sites.len(), points)
        };
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
            weakness,
        }
    }

    /// Whether the controller's clock is the world's but for where it began.
    #[must_use]
    pub fn has_true_clock(&self) -> bool {
        let steps = |p: &Planned| matches!(p.fault, Fault::ClockSteps(..));
        !self.faults.iter().any(steps)
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

fn drawn(
    chance: &mut Chance,
    clean: bool,
    synchronous: bool,
    weakness: Option<Weakness>,
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
        "components": components(names, every),
        "trigger": trigger,
        "gates": {
            "maxLagAge": "1m", "overRpo": *chance.pick(&["ask", "ask", "hold"]), "maintenance": [],
        },
        "fencing": "infrastructure",
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
        "runbook": {"name": "drawn", "title": "Drawn", "steps": steps(chance, weakness)},
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

fn components(names: &[&str], every: &str) -> Value {
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
    let data = [
        all("probe/postgres", "data", "database", 0),
        all("probe/postgres-standby", "stream", "stream", 1),
    ];
    json!([
        {"name": "web", "title": "Web", "kind": "application", "probes": all("probe/http", "web", "outside", 0)},
        {"name": "data", "title": "Data", "kind": "database", "probes": data.concat()},
    ])
}

fn steps(chance: &mut Chance, weakness: Option<Weakness>) -> Vec<Value> {
    let fence_fails = *chance.pick(&["stop", "ask", "ask"]);
    let step = |(id, phase, kind, needs): &(&str, &str, &str, &[&str])| {
        let is_aside = *id == "refuse-writers";
        let on = match *phase {
            "fence" | "promote" => json!(["failover"]),
            _ => json!(["failover", "redirect"]),
        };
        let on_failure = match *phase {
            _ if is_aside => "continue",
            "fence" => fence_fails,
            "tell" => "continue",
            "traffic" | "verify" => "ask",
            _ => "stop",
        };
        let needs: &[&str] = match weakness {
            Some(Weakness::NamesBeforePromotion) if *id == "repoint" => &[],
            _ => needs,
        };
        json!({
            "id": id, "name": id, "phase": phase, "action": {"adapter": {"uses": kind, "with": {}}}, "needs": needs,
            "timeout": "20s", "retry": {"attempts": if is_aside { 1 } else { 3 }, "backoff": "1s"}, "on": on,
            "onFailure": on_failure, "bothWays": !matches!(*phase, "fence" | "promote"),
        })
    };
    STEPS.iter().map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_gives_a_service_and_the_same_one_again() {
        for seed in 0..200 {
            let one = Scenario::draw(seed, &Subject::Drawn, None);
            let two = Scenario::draw(seed, &Subject::Drawn, None);
            assert_eq!(one.service, two.service);
            assert_eq!(one.faults, two.faults);
        }
    }
}
