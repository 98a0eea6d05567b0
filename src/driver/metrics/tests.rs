//! Figures as Prometheus reads them.

use futures::future::BoxFuture;
use serde_json::json;

use super::*;
use crate::{
    model::{
        id::Epoch,
        observation::{Facts, HttpTimes, Sight},
        record::FORMAT,
        service::{Mode, Service},
    },
    port::runtime::Runtime,
};

struct Clock(Mutex<Time>);

impl Clock {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(at(0))))
    }

    fn set(&self, secs: i64) {
        *self.0.lock().unwrap() = at(secs);
    }
}

impl Runtime for Clock {
    fn now(&self) -> Time {
        *self.0.lock().unwrap()
    }
    fn sleep_until(&self, _: Time) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
    fn spawn(&self, _: &'static str, _: BoxFuture<'static, ()>) {}
}

fn at(secs: i64) -> Time {
    Time::from_millis(1_800_000_000_000 + secs * 1000)
}

fn shop() -> Arc<Service> {
    let site = |name: &str, role: &str| json!({"name": name, "role": role, "location": {}, "addresses": [], "url": null});
    let probe = json!({
        "id": "front", "action": {"uses": "http", "with": {}}, "site": null, "evidence": "outside", "every": "5s",
        "timeout": "2s", "from": []
    });
    let service = json!({
        "name": "shop", "title": "Example Shop", "mode": "ask",
        "objectives": {"rto": "5m", "rpo": "10s", "availability": null, "responseTime": null},
        "sites": [site("ham", "primary"), site("fra", "standby")],
        "residency": [], "vantagePoints": [], "quorum": {"networks": 1, "failures": 3, "successes": 2},
        "components": [{"name": "web", "title": "Shop", "kind": "application", "probes": [probe]}],
        "trigger": "immediate", "gates": {"maxLagAge": "30s", "overRpo": "ask", "maintenance": []},
        "fencing": "infrastructure", "dns": null, "publication": null,
        "announcements": {"channels": [], "templates": {}, "symptom": "", "cadence": "20m"},
        "team": {"people": [], "channels": [], "repeat": "5m"},
        "approvals": {"required": 1, "approvers": [], "breakGlass": [], "expiry": "1h", "onTimeout": "hold"},
        "runbook": {"name": "r", "title": "r", "steps": []}, "config": "c"
    });
    Arc::new(serde_json::from_value(service).unwrap())
}

fn record(seq: u64, secs: i64, body: RecordBody) -> Record {
    Record {
        format: FORMAT,
        chain: "shop".into(),
        seq: Seq(seq),
        epoch: Epoch(7),
        at: at(secs),
        prev: "0".repeat(64),
        body,
    }
}

fn started() -> RecordBody {
    RecordBody::ControllerStarted {
        version: "1".into(),
        config: "c".into(),
        active: Some("ham".into()),
        mode: Mode::Ask,
    }
}

fn incident() -> RecordBody {
    RecordBody::IncidentOpened {
        components: vec!["web".into()],
        since: at(10),
        reason: "it does not answer".into(),
        loss: crate::model::loss::LossForecast::Stateless,
    }
}

fn has(metrics: &Metrics, line: &str) {
    let text = metrics.encode();
    assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
}

fn lacks(metrics: &Metrics, start: &str) {
    let text = metrics.encode();
    assert!(
        !text.lines().any(|l| l.starts_with(start)),
        "{start} in\n{text}"
    );
}

#[test]
fn looks_are_counted_and_timed() {
    let metrics = Metrics::new(Clock::new(), "1.2.3");
    let seen = Observation {
        at: at(0),
        vantage: "oslo".into(),
        probe: "front".into(),
        sight: Sight::Up,
        detail: "HTTP 200".into(),
        latency: Some(Span::from_millis(40)),
        facts: Facts {
            http: Some(HttpTimes {
                first_byte_us: 31_000,
                ..HttpTimes::default()
            }),
            certificate_expires: Some(at(86_400)),
            database: None,
        },
    };
    metrics.observed(&"shop".into(), &seen);
    metrics.observed(&"shop".into(), &seen);
    let probe = "service=\"shop\",probe=\"front\",vantage=\"oslo\"";
    has(
        &metrics,
        &format!("failover_probe_looks_total{{{probe},sight=\"up\"}} 2"),
    );
    has(
        &metrics,
        &format!("failover_probe_duration_seconds_count{{{probe}}} 2"),
    );
    has(
        &metrics,
        &format!("failover_probe_duration_seconds_bucket{{le=\"0.025\",{probe}}} 0"),
    );
    has(
        &metrics,
        &format!("failover_probe_duration_seconds_bucket{{le=\"0.05\",{probe}}} 2"),
    );
    has(
        &metrics,
        &format!("failover_probe_http_phase_seconds{{{probe},phase=\"firstByte\"}} 0.031"),
    );
    has(
        &metrics,
        &format!("failover_probe_certificate_expiry_timestamp_seconds{{{probe}}} 1800086400"),
    );
    has(&metrics, "failover_build_info{version=\"1.2.3\"} 1");
}

#[test]
fn a_service_is_told_as_it_stands_at_the_moment_of_asking() {
    let clock = Clock::new();
    let metrics = Metrics::new(clock.clone(), "1");
    let mut core = Core::new(shop());
    core.replay(&record(1, 0, started()));
    metrics.turned(&core, at(0));
    has(&metrics, "failover_mode{service=\"shop\",mode=\"ask\"} 1.0");
    has(
        &metrics,
        "failover_mode{service=\"shop\",mode=\"automatic\"} 0.0",
    );
    has(
        &metrics,
        "failover_active_site{service=\"shop\",site=\"ham\"} 1.0",
    );
    has(
        &metrics,
        "failover_active_site{service=\"shop\",site=\"fra\"} 0.0",
    );
    has(
        &metrics,
        "failover_rto_objective_seconds{service=\"shop\"} 300.0",
    );
    has(
        &metrics,
        "failover_verdict{service=\"shop\",component=\"web\",verdict=\"inconclusive\"} 1.0",
    );
    lacks(&metrics, "failover_budget_left_seconds{");
    lacks(&metrics, "failover_lag_bytes{");
    core.replay(&record(2, 12, incident()));
    metrics.turned(&core, at(12));
    clock.set(70);
    has(
        &metrics,
        "failover_budget_left_seconds{service=\"shop\"} 240.0",
    );
    clock.set(330);
    has(
        &metrics,
        "failover_budget_left_seconds{service=\"shop\"} -20.0",
    );
    metrics.gone(&"shop".into());
    lacks(&metrics, "failover_mode{");
}

#[test]
fn a_service_that_nobody_protects_shows() {
    let metrics = Metrics::new(Clock::new(), "1");
    let mut core = Core::new(shop());
    core.replay(&record(1, 0, started()));
    metrics.turned(&core, at(0));
    metrics.unprotected(["books".into()].into());
    has(&metrics, "failover_protected{service=\"shop\"} 1.0");
    has(&metrics, "failover_protected{service=\"books\"} 0.0");
    metrics.unprotected(BTreeSet::new());
    assert!(!metrics.encode().contains("service=\"books\""));
}

#[test]
fn what_happened_is_counted() {
    let metrics = Metrics::new(Clock::new(), "1");
    let shop: ServiceName = "shop".into();
    metrics.recorded(&shop, &record(2, 12, incident()));
    metrics.recorded(
        &shop,
        &record(
            9,
            40,
            RecordBody::Verified {
                run: "shop-r3".into(),
                downtime: Span::from_secs(30),
                within_rto: true,
            },
        ),
    );
    let plan = json!({
        "service": "shop", "kind": "redirect", "runbook": "r", "from": "ham", "to": "fra", "fencing": null,
        "steps": [], "config": "c"
    });
    let opened = json!({
        "type": "runOpened", "kind": "redirect", "incident": null, "plan": plan, "since": at(10), "reason": "down",
        "requester": null, "approvedBy": [], "loss": "stateless", "forecast": []
    });
    let closed = json!({
        "type": "runClosed", "run": "shop-r3", "outcome": "done", "reason": "every step is done", "active": "fra"
    });
    for (seq, body) in [(3, opened), (10, closed)] {
        let body = serde_json::from_value(body).unwrap();
        metrics.recorded(&shop, &record(seq, 40, body));
    }
    metrics.stepped(&shop, &"promote".into(), Span::from_millis(700));
    let tally = Tally {
        sent: 12,
        failed: 1,
        ..Tally::default()
    };
    metrics.announced(&shop, &"mail".into(), &tally);
    metrics.published(&shop, false);
    has(&metrics, "failover_incidents_total{service=\"shop\"} 1");
    has(
        &metrics,
        "failover_runs_total{service=\"shop\",kind=\"redirect\",outcome=\"done\"} 1",
    );
    has(
        &metrics,
        "failover_rto_total{service=\"shop\",kept=\"true\"} 1",
    );
    has(
        &metrics,
        "failover_step_duration_seconds_sum{service=\"shop\",step=\"promote\"} 0.7",
    );
    has(
        &metrics,
        "failover_announcements_total{service=\"shop\",channel=\"mail\",outcome=\"sent\"} 12",
    );
    has(
        &metrics,
        "failover_status_page_writes_total{service=\"shop\",outcome=\"failed\"} 1",
    );
}

#[test]
fn the_journal_and_its_copy_are_followed() {
    let metrics = Metrics::new(Clock::new(), "1");
    let shop: ServiceName = "shop".into();
    metrics.appended(&shop, Span::from_millis(3), Some(Seq(41)));
    has(&metrics, "failover_journal_seq{chain=\"shop\"} 41.0");
    has(
        &metrics,
        "failover_journal_append_duration_seconds_bucket{le=\"0.005\"} 1",
    );
    lacks(&metrics, "failover_journal_copy_lag_records{");
    metrics.copied(&shop, Seq(38));
    has(
        &metrics,
        "failover_journal_copy_lag_records{chain=\"shop\"} 3.0",
    );
}

#[test]
fn ready_needs_documents_and_a_journal_and_a_loop_that_turns() {
    let clock = Clock::new();
    let metrics = Metrics::new(clock.clone(), "1");
    let shop_name: ServiceName = "shop".into();
    assert_eq!(metrics.unready(), ["no documents are loaded"]);
    metrics.documents_refused();
    assert_eq!(metrics.unready(), ["no documents are loaded"]);
    metrics.documents_loaded();
    assert!(metrics.unready().is_empty());
    metrics.documents_refused();
    assert!(metrics.unready().is_empty(), "those before stay in force");
    has(&metrics, "failover_documents_current 0.0");
    metrics.journal_failed(&shop_name, "the disk is full");
    assert_eq!(
        metrics.unready(),
        ["shop: the journal cannot be written: the disk is full"]
    );
    assert!(metrics.stuck().is_empty(), "a restart would not help");
    metrics.journal_works(&shop_name);
    assert!(metrics.unready().is_empty());
    metrics.turned(&Core::new(shop()), at(0));
    clock.set(9);
    assert!(metrics.stuck().is_empty());
    clock.set(10);
    assert_eq!(metrics.stuck(), ["shop: its loop has not turned for 10s"]);
    assert_eq!(metrics.unready(), metrics.stuck());
}

#[test]
fn the_text_is_whole_and_every_sample_belongs_to_a_family_of_its_own() {
    let metrics = Metrics::new(Clock::new(), "1");
    metrics.turned(&Core::new(shop()), at(0));
    metrics.appended(&"shop".into(), Span::ZERO, Some(Seq(1)));
    let text = metrics.encode();
    assert!(text.ends_with("# EOF\n"));
    let mut families = Vec::new();
    for line in text.lines().filter(|l| *l != "# EOF") {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            families.push(rest.split(' ').next().unwrap().to_owned());
        } else if !line.starts_with('#') {
            assert!(
                line.starts_with(families.last().unwrap().as_str()),
                "{line}"
            );
        } else {
            let help = line
                .strip_prefix("# HELP ")
                .map(|h| h.ends_with('.') && !h.ends_with(".."));
            assert_ne!(help, Some(false), "{line}");
        }
    }
    let all = families.len();
    families.sort();
    families.dedup();
    assert_eq!(families.len(), all, "a family appears twice");
}

#[tokio::test]
async fn probes_of_the_platform_get_a_status_and_the_reasons() {
    use crate::publish::listener::{Limits, serve};
    let _ = rustls::crypto::ring::default_provider().install_default();
    let clock = Clock::new();
    let metrics = Arc::new(Metrics::new(clock.clone(), "1"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = routes(metrics.clone());
    tokio::spawn(serve(
        listener,
        routes,
        Limits::default(),
        std::future::pending(),
    ));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let ask = async |path: &str| {
        let answer = client.get(format!("http://{address}{path}")).send();
        let answer = answer.await.unwrap();
        let kind = answer.headers()["content-type"]
            .to_str()
            .unwrap()
            .to_owned();
        (answer.status().as_u16(), kind, answer.text().await.unwrap())
    };
    let (status, _, text) = ask("/readyz").await;
    assert_eq!((status, text.as_str()), (503, "no documents are loaded\n"));
    assert_eq!(ask("/healthz").await.0, 200);
    metrics.documents_loaded();
    assert_eq!(ask("/readyz").await.0, 200);
    metrics.turned(&Core::new(shop()), at(0));
    clock.set(11);
    assert_eq!(ask("/healthz").await.0, 503);
    let (status, kind, text) = ask("/metrics").await;
    assert_eq!(status, 200);
    assert_eq!(
        kind,
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    assert!(text.contains("failover_last_turn_timestamp_seconds{service=\"shop\"}"));
}
