//! Tests of DNS: real BIND, the embedded server against BIND's own tools, and stand-ins for what goes wrong on the wire.

mod bind;
mod cloudflare;
mod cutover;
mod embedded;
mod rehearsal;
mod repoint;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use failover::{
    driver::registry,
    model::{
        check::CheckItem,
        id::{Attempt, Epoch, IdempotencyKey, RunId, ServiceName, StepId},
        plan::RunKind,
        secret::{Secret, SecretRef},
        service::{Dns, DnsRecord, RecordKind, Service},
        site::{Location, Site, SiteRole},
        span::Span,
        step::StepResult,
        time::Time,
    },
    port::{
        action::{SharedAction, StepContext},
        dns::{RecordSet, SharedDns, Swap},
        kind::{Make, Wiring},
        runtime::Runtime,
        secret::{SecretError, Secrets},
    },
};
use futures::future::BoxFuture;
use serde_json::{Value, json};

use crate::stand::bind::SECRET;

/// The host's clock, set wrong by so many milliseconds.
struct Clock(i64);

impl Runtime for Clock {
    fn now(&self) -> Time {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Time::from_millis(i64::try_from(now.as_millis()).unwrap() + self.0)
    }

    fn sleep_until(&self, at: Time) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(at.since(self.now()).to_std()))
    }

    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }
}

/// Secrets that can be exchanged while somebody holds on to them.
#[derive(Clone)]
struct Vault(Arc<Mutex<BTreeMap<String, String>>>);

impl Secrets for Vault {
    fn read(&self, at: &SecretRef) -> Result<Secret, SecretError> {
        let SecretRef::Env(name) = at else {
            return Err(SecretError::Empty(at.to_string()));
        };
        let vault = self.0.lock().unwrap();
        vault
            .get(name)
            .map(Secret::new)
            .ok_or_else(|| SecretError::Env(name.clone()))
    }
}

/// A service with DNS, and everything that its adapters are made with.
struct World {
    wiring: Wiring,
    vault: Vault,
    _state: tempfile::TempDir,
}

impl World {
    /// Records of `app.<zone>` (A, two values at the primary) and `six.<zone>` (AAAA).
    fn new(zone: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let state = tempfile::tempdir().unwrap();
        let vault = Vault(Arc::default());
        vault.put("KEY", SECRET);
        let wiring = Wiring {
            secrets: Arc::new(vault.clone()),
            runtime: Arc::new(Clock(0)),
            http: failover::port::http::client(Duration::from_secs(2)).unwrap(),
            service: Arc::new(service(zone)),
            state: state.path().to_owned(),
            dns: None,
            lookouts: None,
            guards: None,
        };
        Self {
            wiring,
            vault,
            _state: state,
        }
    }

    fn clock(mut self, off_by: Duration) -> Self {
        self.wiring.runtime = Arc::new(Clock(i64::try_from(off_by.as_millis()).unwrap()));
        self
    }

    fn dns(&mut self, change: impl FnOnce(&mut Dns)) {
        let mut service = (*self.wiring.service).clone();
        change(service.dns.as_mut().unwrap());
        self.wiring.service = Arc::new(service);
    }

    /// Makes the provider, which its actions then use.
    fn provider(&mut self, kind: &str, with: &Value) -> SharedDns {
        let found = registry::kinds().get(kind).unwrap();
        let problems = (found.check)(with);
        assert!(problems.is_empty(), "{problems:?}");
        let Make::Dns(make) = found.make else {
            panic!("{kind} is no DNS provider");
        };
        let provider = make(with, &self.wiring).unwrap();
        self.wiring.dns = Some(provider.clone());
        provider
    }

    fn rfc2136(&mut self, server: SocketAddr) -> SharedDns {
        self.provider(
            "dns/rfc2136",
            &json!({"server": server.to_string(), "timeout": "1s",
                    "key": {"name": "failover-key", "secret": {"env": "KEY"}}}),
        )
    }

    fn action(&self, kind: &str, with: &Value) -> SharedAction {
        let Make::Action(make) = registry::kinds().get(kind).unwrap().make else {
            panic!("{kind} is no action");
        };
        make(with, &self.wiring).unwrap()
    }

    fn step(&self) -> StepContext {
        let (run, id) = (RunId::new("shop-r1"), StepId::new("repoint"));
        StepContext {
            service: ServiceName::new("shop"),
            key: IdempotencyKey::of(&run, &id, Epoch(2)),
            run,
            kind: RunKind::Failover,
            step: id,
            attempt: Attempt(1),
            epoch: Epoch(2),
            site: self.wiring.service.sites[1].clone(),
            from: self.wiring.service.sites[0].clone(),
            to: self.wiring.service.sites[1].clone(),
            facts: BTreeMap::new(),
            timeout: Span::from_secs(10),
        }
    }
}

impl Vault {
    fn put(&self, name: &str, value: &str) {
        let mut vault = self.0.lock().unwrap();
        vault.insert(name.to_owned(), value.to_owned());
    }
}

fn site(name: &str, role: SiteRole) -> Site {
    Site {
        name: name.into(),
        role,
        location: Location::default(),
        addresses: Vec::new(),
        url: None,
    }
}

fn record(name: String, kind: RecordKind, east: &[&str], west: &[&str]) -> DnsRecord {
    let own = |values: &[&str]| values.iter().map(|v| (*v).to_owned()).collect();
    DnsRecord {
        name,
        kind,
        values: BTreeMap::from([("east".into(), own(east)), ("west".into(), own(west))]),
    }
}

fn service(zone: &str) -> Service {
    let mut service: Service = serde_json::from_value(json!({
        "name": "shop", "title": "Shop", "mode": "automatic",
        "objectives": {"rto": "5m", "rpo": "0s", "availability": null, "responseTime": null},
        "sites": [], "residency": [], "vantagePoints": [],
        "quorum": {"networks": 1, "failures": 1, "successes": 1},
        "components": [], "trigger": "immediate",
        "gates": {"maxLagAge": "1m", "overRpo": "ask", "maintenance": []},
        "fencing": "acknowledged", "dns": null, "publication": null,
        "announcements": {"channels": [], "templates": {}, "symptom": "", "cadence": "20m"},
        "team": {"people": [], "channels": [], "repeat": "5m"},
        "approvals": {"required": 1, "approvers": [], "breakGlass": [], "expiry": "15m", "onTimeout": "hold"},
        "runbook": {"name": "failover", "title": "Failover", "steps": []}, "config": "",
    }))
    .unwrap();
    service.sites = vec![
        site("east", SiteRole::Primary),
        site("west", SiteRole::Standby),
    ];
    service.dns = Some(Dns {
        provider: serde_json::from_value(json!({"uses": "dns/rfc2136"})).unwrap(),
        zone: format!("{zone}."),
        records: vec![
            record(
                format!("app.{zone}."),
                RecordKind::A,
                &["192.0.2.1", "192.0.2.2"],
                &["198.51.100.1"],
            ),
            record(
                format!("six.{zone}."),
                RecordKind::AAAA,
                &["2001:db8::1"],
                &["2001:DB8::2"],
            ),
        ],
        ttl: Span::from_secs(60),
        propagation: Span::ZERO,
        lower_ahead: false,
        resolvers: Vec::new(),
        authorities: Vec::new(),
    });
    service
}

fn set(values: &[&str], ttl: u32) -> RecordSet {
    RecordSet {
        values: values.iter().map(|v| (*v).to_owned()).collect(),
        ttl,
    }
}

fn east() -> RecordSet {
    set(&["192.0.2.1", "192.0.2.2"], 300)
}

fn west() -> RecordSet {
    set(&["198.51.100.1"], 60)
}

const APP: &str = "app.demo.test.";
const A: RecordKind = RecordKind::A;

fn reason(swap: Swap) -> String {
    let Swap::Refused { reason } = swap else {
        panic!("{swap:?}");
    };
    reason
}

fn unknown(swap: Swap) -> String {
    let Swap::Unknown { reason } = swap else {
        panic!("{swap:?}");
    };
    reason
}

fn done(result: StepResult) -> BTreeMap<String, String> {
    let StepResult::Done(proof) = result else {
        panic!("{result:?}");
    };
    proof.facts
}

fn failed(result: StepResult) -> String {
    let StepResult::Failed { reason } = result else {
        panic!("{result:?}");
    };
    reason
}

fn item<'a>(items: &'a [CheckItem], name: &str) -> &'a CheckItem {
    items
        .iter()
        .find(|i| i.name == name)
        .unwrap_or_else(|| panic!("no {name} in {items:?}"))
}

/// Waits for an outcome, at most 10 s.
async fn within<F: Future<Output = bool>>(what: &str, mut look: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !look().await {
        assert!(
            tokio::time::Instant::now() < deadline,
            "not within 10 s: {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
