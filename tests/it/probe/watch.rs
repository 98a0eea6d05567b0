//! The watch under virtual time, and looks on demand over real sockets.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use failover::{
    driver::{
        registry,
        watch::{Lookouts, ProbeMaker, Watch, maker},
    },
    model::{
        id::{KindName, ProbeId},
        observation::{
            Evidence, Look, Observation, Sight,
            Sight::{Down, Unknown, Up},
        },
        plan::Uses,
        service::{Component, ComponentKind, Looker, Probe, Service, VantagePoint, Via},
        span::Span,
        time::Time,
    },
    port::{
        lookout::Lookouts as _,
        probe::{self, LookContext, SharedProbe},
        runtime::SharedRuntime,
    },
};
use futures::{FutureExt, StreamExt};
use serde_json::json;

use super::{AMPLE, HostRuntime, Vault, seen, service, wiring};
use crate::stand::{
    host::{ClosedPort, Host, http},
    virtual_time::{VirtualRuntime, VirtualTime},
};

const START: Time = Time::from_millis(1_000_000_000_123);

/// A probe that sees what it is told, after a while.
struct Told {
    runtime: SharedRuntime,
    takes: Span,
    sees: Sees,
    looks: AtomicU64,
}

#[derive(Clone, Copy)]
enum Sees {
    It(Sight),
    Panics,
}

#[async_trait]
impl probe::Probe for Told {
    async fn look(&self, _context: &LookContext) -> Look {
        self.looks.fetch_add(1, Ordering::Relaxed);
        let end = self.runtime.now().after(self.takes);
        self.runtime.sleep_until(end).await;
        match self.sees {
            Sees::It(sight) => Look::new(sight, "as told"),
            Sees::Panics => panic!("as told"),
        }
    }
}

/// A stage for a watch: virtual time, probes by the name of their kind.
struct Stage {
    time: Arc<VirtualTime>,
    runtime: SharedRuntime,
    told: BTreeMap<&'static str, Arc<Told>>,
    service: Service,
}

impl Stage {
    fn new() -> Self {
        let time = VirtualTime::at(START);
        let mut service = service();
        service.components.push(Component {
            name: "web".into(),
            title: "Web".into(),
            kind: ComponentKind::Application,
            probes: Vec::new(),
        });
        Self {
            runtime: Arc::new(VirtualRuntime(time.clone())),
            time,
            told: BTreeMap::new(),
            service,
        }
    }

    fn tell(&mut self, kind: &'static str, takes: Span, sees: Sees) {
        let told = Told {
            runtime: self.runtime.clone(),
            takes,
            sees,
            looks: AtomicU64::new(0),
        };
        self.told.insert(kind, Arc::new(told));
    }

    fn vantage(&mut self, name: &str, sentinels: &[&str]) {
        self.service.vantage_points.push(VantagePoint {
            name: name.into(),
            network: name.into(),
            looker: Looker::Controller(Via::Direct),
            sentinels: sentinels.iter().map(|kind| uses(kind)).collect(),
        });
    }

    fn probe(&mut self, id: &str, kind: &str, every: Span, from: &[&str]) {
        self.service.components[0].probes.push(Probe {
            id: id.into(),
            action: uses(kind),
            site: None,
            cold: false,
            evidence: Evidence::Outside,
            every,
            timeout: Span::from_secs(3),
            from: from.iter().map(|v| (*v).into()).collect(),
        });
    }

    fn looks(&self, kind: &str) -> u64 {
        self.told[kind].looks.load(Ordering::Relaxed)
    }

    fn watch(&self, seed: u64) -> Watch {
        let told = self.told.clone();
        let make: ProbeMaker =
            Arc::new(move |uses| Ok(told[uses.uses.as_str()].clone() as SharedProbe));
        let lookouts = Lookouts::new(&self.service, &self.runtime, make).unwrap();
        Watch::new(&self.service, &Arc::new(lookouts), &self.runtime, seed)
    }

    /// Lets time pass and gives what was observed meanwhile.
    fn pass(&self, watch: &mut Watch, span: Span) -> Vec<Observation> {
        self.time.pass(span);
        let mut seen = Vec::new();
        while let Some(Some(observation)) = watch.next().now_or_never() {
            seen.push(observation);
        }
        seen
    }
}

fn uses(kind: &str) -> Uses {
    Uses {
        uses: KindName::new(kind),
        with: json!({}),
    }
}

const SECOND: Span = Span::from_secs(1);
const EVERY: Span = Span::from_secs(10);

#[test]
fn every_probe_looks_at_once_and_then_on_a_grid_of_its_own() {
    let mut stage = Stage::new();
    stage.tell("up", Span::from_millis(20), Sees::It(Up));
    for name in ["here", "there"] {
        stage.vantage(name, &[]);
    }
    for i in 0..50 {
        stage.probe(&format!("p{i}"), "up", EVERY, &[]);
    }
    let mut watch = stage.watch(1);
    let first = stage.pass(&mut watch, Span::from_millis(20));
    assert_eq!(first.len(), 100);
    assert!(
        first
            .iter()
            .all(|o| o.at == START.after(Span::from_millis(20)))
    );

    let rest = stage.pass(&mut watch, Span::from_secs(600));
    let mut phases: BTreeMap<(ProbeId, String), BTreeSet<i64>> = BTreeMap::new();
    let mut counts: BTreeMap<(ProbeId, String), u64> = BTreeMap::new();
    for o in &rest {
        let key = (o.probe.clone(), o.vantage.to_string());
        let phase = (o.at.as_millis() - 20).rem_euclid(10_000);
        phases.entry(key.clone()).or_default().insert(phase);
        *counts.entry(key).or_default() += 1;
    }
    assert_eq!(counts.len(), 100);
    assert!(counts.values().all(|n| *n == 60), "{counts:?}");
    assert!(phases.values().all(|p| p.len() == 1), "{phases:?}");
    let distinct: BTreeSet<_> = phases.values().flatten().collect();
    assert!(distinct.len() > 90, "phases are not spread: {distinct:?}");
    let counted = watch.counts();
    assert_eq!(
        (counted.overlapped, counted.missed, counted.dropped),
        (0, 0, 0)
    );
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let history = |seed| {
        let mut stage = Stage::new();
        stage.tell("up", Span::from_millis(20), Sees::It(Up));
        stage.tell("down", Span::from_millis(700), Sees::It(Down));
        stage.vantage("here", &["down"]);
        stage.vantage("there", &["up"]);
        for i in 0..20 {
            let kind = if i % 3 == 0 { "down" } else { "up" };
            stage.probe(&format!("p{i}"), kind, SECOND, &[]);
        }
        let mut watch = stage.watch(seed);
        stage.pass(&mut watch, Span::from_secs(60))
    };
    let one = history(1);
    assert!(one.len() > 2000);
    assert_eq!(one, history(1));
    assert_ne!(one, history(2));
}

#[test]
fn a_probe_looks_from_its_own_vantage_points_only() {
    let mut stage = Stage::new();
    stage.tell("up", Span::ZERO, Sees::It(Up));
    for name in ["here", "there"] {
        stage.vantage(name, &[]);
    }
    stage.probe("p", "up", EVERY, &["there"]);
    let mut watch = stage.watch(1);
    let seen = stage.pass(&mut watch, Span::from_secs(60));
    assert!(!seen.is_empty() && seen.iter().all(|o| o.vantage.as_str() == "there"));
}

#[test]
fn a_look_under_way_is_not_begun_again() {
    let mut stage = Stage::new();
    stage.tell("slow", Span::from_millis(2500), Sees::It(Up));
    stage.vantage("here", &[]);
    stage.probe("p", "slow", SECOND, &[]);
    let mut watch = stage.watch(1);
    let seen = stage.pass(&mut watch, Span::from_secs(300));
    let counted = watch.counts();
    assert!((99..=101).contains(&seen.len()), "{}", seen.len());
    assert!((198..=202).contains(&counted.overlapped), "{counted:?}");
}

#[test]
fn a_probe_that_never_ends_or_panics_is_unknown_and_harms_no_other() {
    let mut stage = Stage::new();
    stage.tell("never", Span::from_secs(100_000), Sees::It(Up));
    stage.tell("panics", Span::ZERO, Sees::Panics);
    stage.tell("up", Span::ZERO, Sees::It(Up));
    stage.vantage("here", &[]);
    for kind in ["never", "panics", "up"] {
        stage.probe(kind, kind, EVERY, &[]);
    }
    let mut watch = stage.watch(1);
    let seen = stage.pass(&mut watch, Span::from_secs(100));
    let of = |id: &str| {
        seen.iter()
            .filter(|o| o.probe.as_str() == id)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("up").len(), 11);
    assert_eq!(of("panics").len(), 11);
    assert!(of("panics").iter().all(|o| o.sight == Unknown));
    assert!(of("never").len() >= 9, "{}", of("never").len());
    assert!(of("never").iter().all(|o| o.sight == Unknown));
}

#[test]
fn what_is_answered_long_after_the_time_out_is_unknown() {
    let mut stage = Stage::new();
    stage.tell("late", Span::from_secs(20), Sees::It(Down));
    stage.vantage("here", &[]);
    stage.probe("late", "late", Span::from_secs(60), &[]);
    let mut watch = stage.watch(1);
    let seen = stage.pass(&mut watch, Span::from_secs(200));
    assert!(seen.len() >= 3, "{seen:?}");
    assert!(seen.iter().all(|o| o.sight == Unknown), "{seen:?}");
}

#[test]
fn a_watch_that_is_dropped_looks_no_more() {
    let mut stage = Stage::new();
    stage.tell("up", SECOND, Sees::It(Up));
    stage.vantage("here", &[]);
    stage.probe("p", "up", EVERY, &[]);
    let watch = stage.watch(1);
    stage.time.pass(Span::from_secs(30));
    let before = stage.looks("up");
    assert!(before >= 3);
    drop(watch);
    stage.time.pass(Span::from_secs(300));
    assert_eq!(stage.looks("up"), before);
    assert_eq!(
        Arc::strong_count(&stage.told["up"]),
        1,
        "the task has ended"
    );
}

#[test]
fn down_is_unknown_while_all_sentinels_fail_too() {
    let mut stage = Stage::new();
    stage.tell("up", Span::from_millis(50), Sees::It(Up));
    stage.tell("down", Span::from_millis(50), Sees::It(Down));
    stage.vantage("lost", &["down", "down"]);
    stage.vantage("well", &["down", "up"]);
    stage.vantage("bare", &[]);
    stage.probe("p", "down", EVERY, &[]);
    stage.probe("q", "up", EVERY, &[]);
    let mut watch = stage.watch(1);
    for o in stage.pass(&mut watch, Span::from_secs(60)) {
        let expected = match (o.probe.as_str(), o.vantage.as_str()) {
            ("q", _) => Up,
            (_, "lost") => Unknown,
            _ => Down,
        };
        assert_eq!(o.sight, expected, "{o:?}");
        if expected == Unknown {
            assert_eq!(
                o.detail,
                "own network is gone: sentinels down (as told), down (as told) also fail; the look: as told"
            );
        }
    }
}

#[test]
fn many_looks_that_say_down_share_one_asking_of_the_sentinels() {
    let mut stage = Stage::new();
    stage.tell("sentinel", Span::from_millis(50), Sees::It(Up));
    stage.tell("down", Span::from_millis(1), Sees::It(Down));
    stage.vantage("here", &["sentinel"]);
    for i in 0..500 {
        stage.probe(&format!("p{i}"), "down", EVERY, &[]);
    }
    let mut watch = stage.watch(1);
    let seen = stage.pass(&mut watch, Span::from_secs(60));
    assert!(seen.len() >= 3000);
    assert!(seen.iter().all(|o| o.sight == Down));
    let asked = stage.looks("sentinel");
    assert!((50..=62).contains(&asked), "asked {asked} times in 60 s");
}

#[test]
fn a_look_that_timed_out_is_judged_by_sentinels_asked_after_it_began() {
    /// Up until the network is gone.
    struct Until {
        runtime: SharedRuntime,
        gone: Time,
        takes: Span,
    }

    #[async_trait]
    impl probe::Probe for Until {
        async fn look(&self, _context: &LookContext) -> Look {
            if self.runtime.now() < self.gone {
                return Look::new(Up, "well");
            }
            let end = self.runtime.now().after(self.takes);
            self.runtime.sleep_until(end).await;
            Look::new(Down, "silent")
        }
    }

    let mut stage = Stage::new();
    stage.vantage("here", &["net"]);
    stage.probe("dead", "dead", SECOND, &[]);
    for i in 0..10 {
        stage.probe(&format!("p{i}"), "net", SECOND, &[]);
    }
    let gone = START.after(Span::from_millis(10_500));
    let runtime = stage.runtime.clone();
    let make: ProbeMaker = Arc::new(move |uses| {
        // One thing is down from the beginning, so the sentinels are asked all the time.
        let gone = if uses.uses.as_str() == "dead" {
            START
        } else {
            gone
        };
        let takes = if uses.uses.as_str() == "dead" {
            Span::from_millis(1)
        } else {
            Span::from_secs(3)
        };
        Ok(Arc::new(Until {
            runtime: runtime.clone(),
            gone,
            takes,
        }) as SharedProbe)
    });
    let lookouts = Lookouts::new(&stage.service, &stage.runtime, make).unwrap();
    let mut watch = Watch::new(&stage.service, &Arc::new(lookouts), &stage.runtime, 1);
    let seen = stage.pass(&mut watch, Span::from_secs(40));
    let of_others = seen.iter().filter(|o| o.probe.as_str() != "dead");
    assert!(of_others.clone().any(|o| o.sight == Unknown));
    assert!(
        of_others.clone().all(|o| o.sight != Down),
        "the own network was gone, yet it was called down"
    );
}

#[tokio::test]
async fn a_look_on_demand_goes_out_from_every_vantage_point_by_its_own_way() {
    let peers = Arc::new(Mutex::new(BTreeSet::new()));
    let seen_peers = peers.clone();
    let host = Host::serving(move |mut stream| {
        let peer = stream.peer_addr().unwrap().ip().to_string();
        seen_peers.lock().unwrap().insert(peer);
        async move {
            crate::stand::host::request(&mut stream).await;
            let answer = http("200 OK", "", "");
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await;
        }
    })
    .await;
    let mut service = service();
    let closed = ClosedPort::new();
    let sentinel = Uses {
        uses: "probe/tcp".into(),
        with: json!({"host": "127.0.0.1", "port": closed.address.port()}),
    };
    for (name, ip) in [("a", "127.0.0.2"), ("b", "127.0.0.3")] {
        service.vantage_points.push(VantagePoint {
            name: name.into(),
            network: format!("net-{name}").as_str().into(),
            looker: Looker::Controller(Via::SourceAddress(ip.parse().unwrap())),
            sentinels: if name == "b" {
                vec![sentinel.clone()]
            } else {
                Vec::new()
            },
        });
    }
    let runtime: SharedRuntime = Arc::new(HostRuntime);
    let make = maker(
        registry::kinds(),
        &wiring(runtime.clone(), Vault::default()),
    );
    let lookouts = Lookouts::new(&service, &runtime, make).unwrap();

    let url = |address: String| Uses {
        uses: "probe/http".into(),
        with: json!({"url": address}),
    };
    let sightings = lookouts.look(&url(host.url()), AMPLE).await;
    let who: Vec<_> = sightings
        .iter()
        .map(|s| (s.vantage.as_str(), s.network.as_str()))
        .collect();
    assert_eq!(who, [("a", "net-a"), ("b", "net-b")]);
    assert!(
        sightings.iter().all(|s| s.look.sight == Up),
        "{sightings:?}"
    );
    assert_eq!(
        *peers.lock().unwrap(),
        BTreeSet::from(["127.0.0.2".to_owned(), "127.0.0.3".to_owned()])
    );

    let dead = lookouts
        .look(&url(format!("http://{}/", closed.address)), AMPLE)
        .await;
    assert_eq!(seen(&dead[0].look, Down), "connection refused");
    let detail = seen(&dead[1].look, Unknown);
    assert!(
        detail
            .starts_with("own network is gone: sentinel probe/tcp 127.0.0.1 (connection refused)"),
        "{detail}"
    );

    let unmade = lookouts.look(&uses("probe/none"), AMPLE).await;
    assert!(unmade.iter().all(|s| s.look.sight == Unknown));
}
