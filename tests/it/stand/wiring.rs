//! What adapters are made with, for a service that has little more than a name and two sites.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use failover::{
    driver::registry::kinds,
    model::{
        id::{Attempt, Epoch, IdempotencyKey, RunId, StepId},
        plan::RunKind,
        service::{Service, Via},
        span::Span,
        step::{Proof, StepResult},
        time::Time,
    },
    port::{
        action::{SharedAction, StepContext},
        http::client,
        kind::{Make, Wiring},
        probe::{LookContext, SharedProbe},
        runtime::{Runtime, SharedRuntime},
        secret::HostSecrets,
    },
};
use futures::future::BoxFuture;
use serde_json::{Value, json};

/// A service `shop` with the sites `a` (primary) and `b` (standby).
pub fn service() -> Service {
    let site = |name: &str, role: &str, address: &str| {
        json!({
            "name": name, "role": role, "location": {}, "addresses": [address],
            "url": format!("https://{name}.example.com/"),
        })
    };
    serde_json::from_value(json!({
        "name": "shop",
        "title": "Shop",
        "mode": "ask",
        "objectives": {"rto": "5m", "rpo": "1m"},
        "sites": [site("a", "primary", "192.0.2.1"), site("b", "standby", "192.0.2.2")],
        "residency": [],
        "vantagePoints": [],
        "quorum": {"networks": 1, "failures": 1, "successes": 1},
        "components": [],
        "trigger": "immediate",
        "gates": {"maxLagAge": "1m", "overRpo": "ask", "maintenance": []},
        "fencing": "infrastructure",
        "announcements": {"channels": [], "templates": {}, "symptom": "", "cadence": "20m"},
        "team": {"people": [], "channels": [], "repeat": "5m"},
        "approvals": {
            "required": 1, "approvers": [], "breakGlass": [], "expiry": "1h", "onTimeout": "hold",
        },
        "runbook": {"name": "shop", "title": "Shop", "steps": []},
        "config": "0",
    }))
    .unwrap()
}

/// Everything that an adapter may hold on to; it keeps what it keeps in `state`.
pub fn wiring(state: &Path) -> Wiring {
    // Whoever comes first installs it; all install the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Wiring {
        secrets: Arc::new(HostSecrets),
        runtime: clock(0),
        http: client(Duration::from_secs(5)).unwrap(),
        service: Arc::new(service()),
        state: state.to_owned(),
        dns: None,
        lookouts: None,
        guards: None,
    }
}

/// The action of that kind, after its `with` passed the check that `failover validate` makes.
pub fn action(kind: &str, with: &Value, wiring: &Wiring) -> SharedAction {
    let kind = kinds().get(kind).unwrap();
    assert_eq!((kind.check)(with), []);
    let Make::Action(make) = kind.make else {
        panic!("{} is no action", kind.name)
    };
    make(with, wiring).unwrap()
}

/// The probe of that kind, after its `with` passed the check that `failover validate` makes.
pub fn probe(kind: &str, with: &Value, wiring: &Wiring) -> SharedProbe {
    let kind = kinds().get(kind).unwrap();
    assert_eq!((kind.check)(with), []);
    let Make::Probe(make) = kind.make else {
        panic!("{} is no probe", kind.name)
    };
    make(with, wiring).unwrap()
}

/// The step `step` of a failover from `a` to `b`.
pub fn step(timeout: Span) -> StepContext {
    let service = service();
    let run = RunId::from("shop-r7");
    let step = StepId::from("step");
    StepContext {
        key: IdempotencyKey::of(&run, &step, Epoch(2)),
        service: service.name,
        run,
        kind: RunKind::Failover,
        step,
        attempt: Attempt(1),
        epoch: Epoch(2),
        site: service.sites[1].clone(),
        from: service.sites[0].clone(),
        to: service.sites[1].clone(),
        facts: [("fence.instance".to_owned(), "i-1".to_owned())].into(),
        timeout,
    }
}

/// A look from this host.
pub fn look(timeout: Span) -> LookContext {
    LookContext {
        via: Via::Direct,
        timeout,
    }
}

/// A clock that is so many seconds ahead of this host's.
pub fn clock(ahead: i64) -> SharedRuntime {
    Arc::new(Tokio(ahead))
}

struct Tokio(i64);

impl Runtime for Tokio {
    fn now(&self) -> Time {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Time::from_millis(i64::try_from(wall.as_millis()).unwrap() + self.0 * 1000)
    }

    fn sleep_until(&self, at: Time) -> BoxFuture<'static, ()> {
        let wait = at.since(self.now()).to_std();
        Box::pin(tokio::time::sleep(wait))
    }

    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }
}

/// What a step proved.
pub fn done(result: StepResult) -> Proof {
    let StepResult::Done(proof) = result else {
        panic!("{result:?}")
    };
    proof
}

/// Why a step failed.
pub fn failed(result: StepResult) -> String {
    let StepResult::Failed { reason } = result else {
        panic!("{result:?}")
    };
    reason
}

/// Why nobody knows what a step came to.
pub fn unclear(result: StepResult) -> String {
    let StepResult::Indeterminate { reason } = result else {
        panic!("{result:?}")
    };
    reason
}
