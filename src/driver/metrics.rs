//! Figures for Prometheus, and the answers to "does it live?" and "is it ready?".
//!
//! What happens is counted as it happens; how things stand is told from the loops' last turn, at the moment of asking,
//! so that a service which is gone leaves no figure behind that still looks alive.

mod observers;
mod routes;
mod standing;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};

pub use observers::Observers;
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
    observers: Arc<Observers>,
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
    service: Arc<str>,
    probe: Arc<str>,
    vantage: Arc<str>,
    sight: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProbeLabels {
    service: Arc<str>,
    probe: Arc<str>,
    vantage: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HttpLabels {
    service: Arc<str>,
    probe: Arc<str>,
    vantage: Arc<str>,
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
        let observers = Arc::new(Observers::new(runtime.clone()));
        let standings = Arc::new(Standings::new(runtime));
        let mut metrics = Self {
            registry: Registry::with_prefix("failover"),
            standings: standings.clone(),
            observers: observers.clone(),
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
        observers.register(&mut metrics.registry);
        metrics.registry.register_collector(Box::new(standings));
        metrics.registry.register_collector(Box::new(observers));
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

    /// Figures of observers elsewhere.
    #[must_use]
    pub fn observers(&self) -> &Observers {
        &self.observers
    }

    /// Somebody looked.
    pub fn observed(&self, service: &ServiceName, seen: &Observation) {
        let labels = ProbeLabels {
            service: service.0.clone(),
            probe: seen.probe.0.clone(),
            vantage: seen.vantage.0.clone(),
        };
        let look = LookLabels {
            service: labels.service.clone(),
            probe: labels.probe.clone(),
            vantage: labels.vantage.clone(),
            sight: seen.sight.word(),
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
        self.standings.copied(chain, up_to);
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

    /// Services that have documents here and nobody who protects them.
    pub fn unprotected(&self, services: BTreeSet<ServiceName>) {
        self.standings.unprotected(services);
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
mod tests;
