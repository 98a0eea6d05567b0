//! Figures for Prometheus, and the answers to "does it live?" and "is it ready?".
//!
//! What happens is counted as it happens; how things stand is told from the loops' last turn, at the moment of asking,
//! so that a service which is gone leaves no figure behind that still looks alive.

mod routes;
mod standing;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};

pub use routes::routes;
use standing::{Standing, Standings};

use crate::{
    decide::core::Core,
    model::{
        announcement::Tally,
        id::{ChannelName, RunId, Seq, ServiceName, StepId},
        observation::Observation,
        plan::RunKind,
        record::{Record, RecordBody, RunOutcome},
        span::Span,
        step::StepResult,
        time::Time,
    },
    port::runtime::SharedRuntime,
};

/// A loop that has not turned for so long is stuck.
const STUCK: Span = Span::from_secs(10);

/// Upper bounds of a look's duration, seconds.
const LOOK_BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];
/// Upper bounds of a step's duration, seconds.
const STEP_BUCKETS: [f64; 13] = [
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
];
/// Upper bounds of an append's duration, seconds.
const APPEND_BUCKETS: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// The figures of one process.
pub struct Metrics {
    registry: Registry,
    standings: Arc<Standings>,
    runs_known: Mutex<BTreeMap<RunId, RunKind>>,
    looks: Family<LookLabels, Counter>,
    look_duration: Family<ProbeLabels, Histogram>,
    http_phase: Family<HttpLabels, Gauge<f64, std::sync::atomic::AtomicU64>>,
    certificate: Family<ProbeLabels, Gauge>,
    incidents: Family<ServiceLabels, Counter>,
    runs: Family<RunLabels, Counter>,
    steps: Family<StepOutcomeLabels, Counter>,
    step_duration: Family<StepLabels, Histogram>,
    rto: Family<RtoLabels, Counter>,
    announcements: Family<AnnouncementLabels, Counter>,
    page_writes: Family<WriteLabels, Counter>,
    append_duration: Histogram,
    append_failures: Family<ServiceLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServiceLabels {
    service: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LookLabels {
    service: String,
    probe: String,
    vantage: String,
    sight: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProbeLabels {
    service: String,
    probe: String,
    vantage: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HttpLabels {
    service: String,
    probe: String,
    vantage: String,
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RunLabels {
    service: String,
    kind: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabels {
    service: String,
    step: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepOutcomeLabels {
    service: String,
    step: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RtoLabels {
    service: String,
    kept: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnnouncementLabels {
    service: String,
    channel: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    service: String,
    outcome: &'static str,
}

impl Metrics {
    /// No figures yet, for a program of this version.
    #[must_use]
    pub fn new(runtime: SharedRuntime, version: &'static str) -> Self {
        let standings = Arc::new(Standings::new(runtime));
        let mut metrics = Self {
            registry: Registry::with_prefix("failover"),
            standings: standings.clone(),
            runs_known: Mutex::default(),
            looks: Family::default(),
            look_duration: Family::new_with_constructor(|| Histogram::new(LOOK_BUCKETS)),
            http_phase: Family::default(),
            certificate: Family::default(),
            incidents: Family::default(),
            runs: Family::default(),
            steps: Family::default(),
            step_duration: Family::new_with_constructor(|| Histogram::new(STEP_BUCKETS)),
            rto: Family::default(),
            announcements: Family::default(),
            page_writes: Family::default(),
            append_duration: Histogram::new(APPEND_BUCKETS),
            append_failures: Family::default(),
        };
        metrics.register(version);
        metrics.registry.register_collector(Box::new(standings));
        metrics
    }

    fn register(&mut self, version: &'static str) {
        let r = &mut self.registry;
        let build = Info::new(vec![("version", version)]);
        r.register("build", "The program's version", build);
        r.register(
            "probe_looks",
            "Looks through probes, by what was seen",
            self.looks.clone(),
        );
        r.register_with_unit(
            "probe_duration",
            "How long an answer took",
            Unit::Seconds,
            self.look_duration.clone(),
        );
        r.register_with_unit(
            "probe_http_phase",
            "Parts of the last HTTP answer's time",
            Unit::Seconds,
            self.http_phase.clone(),
        );
        r.register_with_unit(
            "probe_certificate_expiry_timestamp",
            "When the certificate seen last ends, since 1970",
            Unit::Seconds,
            self.certificate.clone(),
        );
        r.register("incidents", "Outages that began", self.incidents.clone());
        r.register("runs", "Runs that ended, by how", self.runs.clone());
        r.register(
            "steps",
            "Attempts of steps that ended, by how",
            self.steps.clone(),
        );
        r.register_with_unit(
            "step_duration",
            "How long performing or observing a step took",
            Unit::Seconds,
            self.step_duration.clone(),
        );
        r.register(
            "rto",
            "Outages that ended in a verified service, by whether the RTO was kept",
            self.rto.clone(),
        );
        r.register(
            "announcements",
            "Messages to customers, by what became of them",
            self.announcements.clone(),
        );
        r.register(
            "status_page_writes",
            "Writes of the status page to its targets",
            self.page_writes.clone(),
        );
        r.register_with_unit(
            "journal_append_duration",
            "How long an append took to be durable",
            Unit::Seconds,
            self.append_duration.clone(),
        );
        r.register(
            "journal_append_failures",
            "Appends that were refused, as often as it was reported",
            self.append_failures.clone(),
        );
    }

    /// A loop turned: it lives, and this is how its service stands. Each loop turns at least every few seconds, or it
    /// counts as stuck after 10 s.
    pub fn turned(&self, core: &Core, now: Time) {
        let standing = Standing::of(core, now);
        if let Some(run) = &core.state().run {
            self.known().insert(run.id.clone(), run.kind);
        }
        self.standings.put(&core.service().name, standing);
    }

    /// A service is protected here no longer.
    pub fn gone(&self, service: &ServiceName) {
        self.standings.forget(service);
    }

    /// Somebody looked.
    pub fn observed(&self, service: &ServiceName, seen: &Observation) {
        let labels = ProbeLabels {
            service: service.to_string(),
            probe: seen.probe.to_string(),
            vantage: seen.vantage.to_string(),
        };
        let look = LookLabels {
            service: labels.service.clone(),
            probe: labels.probe.clone(),
            vantage: labels.vantage.clone(),
            sight: seen.sight.to_string(),
        };
        self.looks.get_or_create(&look).inc();
        if let Some(latency) = seen.latency {
            let duration = self.look_duration.get_or_create(&labels);
            duration.observe(latency.as_secs_f64());
        }
        if let Some(http) = &seen.facts.http {
            for (phase, us) in [
                ("dns", http.dns_us),
                ("connect", http.connect_us),
                ("tls", http.tls_us),
                ("firstByte", http.first_byte_us),
            ] {
                let labels = HttpLabels {
                    service: labels.service.clone(),
                    probe: labels.probe.clone(),
                    vantage: labels.vantage.clone(),
                    phase,
                };
                let seconds = std::time::Duration::from_micros(us).as_secs_f64();
                self.http_phase.get_or_create(&labels).set(seconds);
            }
        }
        if let Some(expires) = seen.facts.certificate_expires {
            self.certificate
                .get_or_create(&labels)
                .set(expires.as_secs());
        }
    }

    /// A record became durable.
    pub fn recorded(&self, service: &ServiceName, record: &Record) {
        let own = || ServiceLabels {
            service: service.to_string(),
        };
        if let RecordBody::IncidentOpened { .. } = &record.body {
            self.incidents.get_or_create(&own()).inc();
        } else if let RecordBody::RunOpened { kind, .. } = &record.body {
            self.known().insert(RunId::of(service, record.seq), *kind);
        } else if let RecordBody::RunClosed { run, outcome, .. } = &record.body {
            if let Some(kind) = self.known().remove(run) {
                let labels = RunLabels {
                    service: service.to_string(),
                    kind: kind.to_string(),
                    outcome: run_outcome(*outcome),
                };
                self.runs.get_or_create(&labels).inc();
            }
        } else if let RecordBody::StepOutcome { step, result, .. } = &record.body {
            let labels = StepOutcomeLabels {
                service: service.to_string(),
                step: step.to_string(),
                outcome: step_outcome(result),
            };
            self.steps.get_or_create(&labels).inc();
        } else if let RecordBody::Verified { within_rto, .. } = &record.body {
            let labels = RtoLabels {
                service: service.to_string(),
                kept: *within_rto,
            };
            self.rto.get_or_create(&labels).inc();
        }
    }

    /// A step's effect was made, looked for, or taken back.
    pub fn stepped(&self, service: &ServiceName, step: &StepId, took: Span) {
        let labels = StepLabels {
            service: service.to_string(),
            step: step.to_string(),
        };
        let duration = self.step_duration.get_or_create(&labels);
        duration.observe(took.as_secs_f64());
    }

    /// An announcement has nothing left to send on a channel.
    pub fn announced(&self, service: &ServiceName, channel: &ChannelName, tally: &Tally) {
        for (outcome, n) in [
            ("sent", tally.sent),
            ("unknown", tally.unknown),
            ("failed", tally.failed),
            ("suppressed", tally.suppressed),
        ] {
            let labels = AnnouncementLabels {
                service: service.to_string(),
                channel: channel.to_string(),
                outcome,
            };
            self.announcements.get_or_create(&labels).inc_by(n);
        }
    }

    /// The status page was written to a target, or could not be.
    pub fn published(&self, service: &ServiceName, written: bool) {
        let labels = WriteLabels {
            service: service.to_string(),
            outcome: if written { "done" } else { "failed" },
        };
        self.page_writes.get_or_create(&labels).inc();
    }

    /// An append became durable; `last` is the last record of the chain, where one was written.
    pub fn appended(&self, chain: &ServiceName, took: Span, last: Option<Seq>) {
        self.append_duration.observe(took.as_secs_f64());
        if let Some(last) = last {
            self.standings.journal(chain, |j| j.last = last);
        }
    }

    /// The copy of the journal holds a chain up to this record.
    pub fn copied(&self, chain: &ServiceName, up_to: Seq) {
        self.standings.journal(chain, |j| j.copied = Some(up_to));
    }

    /// The journal cannot be written: nothing is done, and this process is not ready.
    pub fn journal_failed(&self, chain: &ServiceName, reason: &str) {
        let labels = ServiceLabels {
            service: chain.to_string(),
        };
        self.append_failures.get_or_create(&labels).inc();
        let reason = reason.to_owned();
        self.standings.journal(chain, |j| j.trouble = Some(reason));
    }

    /// The journal can be written again.
    pub fn journal_works(&self, chain: &ServiceName) {
        self.standings.journal(chain, |j| j.trouble = None);
    }

    /// Documents were loaded and are in force: from now on this process may be ready.
    pub fn documents_loaded(&self) {
        self.standings.documents(false);
    }

    /// Documents changed but cannot be used; those before stay in force.
    pub fn documents_refused(&self) {
        self.standings.documents(true);
    }

    /// Everything in the `OpenMetrics` text format.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = String::new();
        // Writing to a text fails only where an encoder breaks its own rules.
        if text::encode(&mut out, &self.registry).is_err() {
            tracing::error!("the figures could not be written");
        }
        out
    }

    /// Why this process does not live: loops that are stuck. Empty where it does.
    #[must_use]
    pub fn stuck(&self) -> Vec<String> {
        self.standings.stuck()
    }

    /// Why this process is not ready to act. Empty where it is.
    #[must_use]
    pub fn unready(&self) -> Vec<String> {
        self.standings.unready()
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<RunId, RunKind>> {
        self.runs_known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn run_outcome(outcome: RunOutcome) -> &'static str {
    match outcome {
        RunOutcome::Done => "done",
        RunOutcome::Unwound => "unwound",
        RunOutcome::Stuck => "stuck",
        RunOutcome::Aborted => "aborted",
    }
}

fn step_outcome(result: &StepResult) -> &'static str {
    match result {
        StepResult::Done(_) => "done",
        StepResult::Failed { .. } => "failed",
        StepResult::Indeterminate { .. } => "indeterminate",
    }
}

#[cfg(test)]
mod tests {
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
}
