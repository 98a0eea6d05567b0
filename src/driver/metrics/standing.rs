//! How each service stands, as its loop's last turn said; read when somebody asks.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, gauge::ConstGauge},
    registry::Unit,
};

use super::STUCK;
use crate::{
    decide::{core::Core, incident, lag, readiness},
    model::{
        id::{ComponentName, Epoch, Seq, ServiceName, SiteName},
        loss::{Lag, LossForecast},
        plan::RunKind,
        readiness::Readiness,
        service::Mode,
        span::Span,
        time::Time,
        verdict::Verdict,
    },
    port::runtime::SharedRuntime,
};

/// How a service stands.
#[derive(Clone, Debug)]
pub struct Standing {
    turned: Time,
    mode: Mode,
    paused: bool,
    epoch: Epoch,
    sites: Vec<SiteName>,
    active: Option<SiteName>,
    verdicts: BTreeMap<ComponentName, Verdict>,
    lag: Option<Lag>,
    rto: Span,
    rpo: Span,
    outage: Option<Time>,
    run: Option<RunKind>,
    downtime: Option<Span>,
    stuck_run: bool,
    pages: usize,
    asks: usize,
    check: Option<Time>,
    readiness: Readiness,
}

/// How a chain stands.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// Its last record.
    pub last: Seq,
    /// What the copy holds.
    pub copied: Option<Seq>,
    /// Why it cannot be written.
    pub trouble: Option<String>,
}

/// How everything stands.
pub struct Standings {
    runtime: SharedRuntime,
    services: Mutex<BTreeMap<ServiceName, Standing>>,
    chains: Mutex<BTreeMap<ServiceName, Chain>>,
    documents: Mutex<Documents>,
    unprotected: Mutex<BTreeSet<ServiceName>>,
}

#[derive(Debug)]
enum Documents {
    Missing,
    InForce,
    /// Newer ones are there, but cannot be used.
    Outdated,
}

impl Standing {
    /// As the core says.
    pub fn of(core: &Core, now: Time) -> Self {
        let (service, state) = (core.service(), core.state());
        let active = state.active.clone();
        let last = state.run.as_ref().or(state.last_run.as_ref());
        Self {
            turned: now,
            mode: readiness::mode(service, state, now),
            paused: state.paused.is_some(),
            epoch: state.epoch,
            sites: service.sites.iter().map(|s| s.name.clone()).collect(),
            verdicts: service
                .components
                .iter()
                .map(|c| {
                    (
                        c.name.clone(),
                        state
                            .verdicts
                            .get(&c.name)
                            .map_or(Verdict::Inconclusive, |v| v.0),
                    )
                })
                .collect(),
            lag: active.as_ref().and_then(|from| known_lag(core, from, now)),
            active,
            rto: service.objectives.rto,
            rpo: service.objectives.rpo,
            outage: state.incident.as_ref().map(|i| i.since),
            run: state.run.as_ref().map(|r| r.kind),
            downtime: last.and_then(|r| r.verified.map(|end| end.since(r.since))),
            stuck_run: state.stuck.is_some(),
            pages: state
                .pages
                .values()
                .filter(|p| p.acknowledged.is_none())
                .count(),
            asks: state.asks.len(),
            check: state.check.as_ref().map(|c| c.at),
            readiness: readiness::verdict(service, state, now).0,
        }
    }
}

/// Lag that is not known, or too old, is no figure at all.
fn known_lag(core: &Core, from: &SiteName, now: Time) -> Option<Lag> {
    let to = incident::target(core.service(), from)?;
    match lag::forecast(core.service(), core.state(), core.view(), &to, now, now) {
        LossForecast::Known(lag) => Some(lag),
        LossForecast::Stateless
        | LossForecast::Drained
        | LossForecast::Restored(_)
        | LossForecast::Unknown { .. } => None,
    }
}

impl Standings {
    /// Nothing is known yet.
    pub fn new(runtime: SharedRuntime) -> Self {
        Self {
            runtime,
            services: Mutex::default(),
            chains: Mutex::default(),
            documents: Mutex::new(Documents::Missing),
            unprotected: Mutex::default(),
        }
    }

    /// A service stands so now.
    pub fn put(&self, service: &ServiceName, standing: Standing) {
        lock(&self.services).insert(service.clone(), standing);
    }

    /// A service is protected here no longer.
    pub fn forget(&self, service: &ServiceName) {
        lock(&self.services).remove(service);
        lock(&self.chains).remove(service);
    }

    /// Changes what is known of a chain.
    pub fn journal(&self, chain: &ServiceName, change: impl FnOnce(&mut Chain)) {
        change(lock(&self.chains).entry(chain.clone()).or_default());
    }

    /// A chain that is written here is copied up to this record.
    pub fn copied(&self, chain: &ServiceName, up_to: Seq) {
        if let Some(known) = lock(&self.chains).get_mut(chain) {
            known.copied = Some(up_to);
        }
    }

    /// Documents are in force, or newer ones were refused.
    pub fn documents(&self, refused: bool) {
        let mut documents = lock(&self.documents);
        *documents = match (&*documents, refused) {
            (Documents::Missing, true) => Documents::Missing,
            (Documents::InForce | Documents::Outdated, true) => Documents::Outdated,
            (Documents::Missing | Documents::InForce | Documents::Outdated, false) => {
                Documents::InForce
            }
        };
    }

    /// These services, and no others, are not protected.
    pub fn unprotected(&self, services: BTreeSet<ServiceName>) {
        *lock(&self.unprotected) = services;
    }

    /// Loops that are stuck, a line each. One that waits for its journal is not: another start would not help it.
    pub fn stuck(&self) -> Vec<String> {
        let now = self.runtime.now();
        let chains = lock(&self.chains);
        let waits = |name| {
            let chain = chains.get(name);
            chain.is_some_and(|chain| chain.trouble.is_some())
        };
        lock(&self.services)
            .iter()
            .map(|(name, s)| (name, now.since(s.turned)))
            .filter(|(name, still)| *still >= STUCK && !waits(*name))
            .map(|(name, still)| format!("{name}: its loop has not turned for {still}"))
            .collect()
    }

    /// Why nothing could be done now, a line each.
    pub fn unready(&self) -> Vec<String> {
        let mut reasons = self.stuck();
        if let Documents::Missing = *lock(&self.documents) {
            reasons.push("no documents are loaded".to_owned());
        }
        let chains = lock(&self.chains);
        let troubled = chains
            .iter()
            .filter_map(|(name, c)| c.trouble.as_ref().map(|why| (name, why)));
        reasons.extend(
            troubled.map(|(name, why)| format!("{name}: the journal cannot be written: {why}")),
        );
        reasons
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Standings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Standings").finish_non_exhaustive()
    }
}

/// One sample: its labels beside `service`, and its value.
type Sample = (Vec<(&'static str, String)>, f64);

fn one(value: f64) -> Vec<Sample> {
    vec![(Vec::new(), value)]
}

fn maybe(value: Option<f64>) -> Vec<Sample> {
    value.map(one).unwrap_or_default()
}

fn flag(yes: bool) -> f64 {
    if yes { 1.0 } else { 0.0 }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn count(n: u64) -> f64 {
    n as f64
}

#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds since 1970 stay far below 2^52"
)]
fn timestamp(at: Time) -> f64 {
    at.as_millis() as f64 / 1000.0
}

/// One sample for each value that a thing may have, 1 for the one that it has.
fn states<T: fmt::Display>(
    key: &'static str,
    all: impl IntoIterator<Item = (T, bool)>,
) -> Vec<Sample> {
    all.into_iter()
        .map(|(value, holds)| (vec![(key, value.to_string())], flag(holds)))
        .collect()
}

const MODES: [Mode; 3] = [Mode::Observe, Mode::Ask, Mode::Automatic];

const READINESS: [Readiness; 3] = [Readiness::Ready, Readiness::NotReady, Readiness::Unknown];

const VERDICTS: [Verdict; 5] = [
    Verdict::Healthy,
    Verdict::Degraded,
    Verdict::Suspect,
    Verdict::Down,
    Verdict::Inconclusive,
];

const KINDS: [RunKind; 5] = [
    RunKind::Failover,
    RunKind::Redirect,
    RunKind::Switchover,
    RunKind::Failback,
    RunKind::Drill,
];

/// A figure of how services stand.
struct Figure {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    samples: fn(&Standing, Time) -> Vec<Sample>,
}

const fn figure(
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    samples: fn(&Standing, Time) -> Vec<Sample>,
) -> Figure {
    Figure {
        name,
        help,
        unit,
        samples,
    }
}

static FIGURES: [Figure; 21] = [
    figure(
        "mode",
        "The mode in force: 1 for it, 0 for the others.",
        None,
        |s, _| states("mode", MODES.map(|m| (m, m == s.mode))),
    ),
    figure("paused", "Whether a person paused it.", None, |s, _| {
        one(flag(s.paused))
    }),
    figure(
        "epoch",
        "The epoch in force; rises with each promotion.",
        None,
        |s, _| one(count(s.epoch.0)),
    ),
    figure(
        "active_site",
        "The site whose database takes writes: 1 for it, 0 for the others.",
        None,
        |s, _| {
            states(
                "site",
                s.sites
                    .iter()
                    .map(|site| (site, Some(site) == s.active.as_ref())),
            )
        },
    ),
    figure(
        "verdict",
        "What the evidence says of a component: 1 for the verdict, 0 for the others.",
        None,
        verdicts,
    ),
    figure(
        "lag",
        "Log that the standby has not received; absent where it is not known.",
        Some(Unit::Bytes),
        |s, _| maybe(s.lag.as_ref().map(|l| count(l.bytes))),
    ),
    figure(
        "lag",
        "The writes of so long would be lost; absent where it is not known.",
        Some(Unit::Seconds),
        |s, _| maybe(s.lag.as_ref().map(|l| l.time.as_secs_f64())),
    ),
    figure(
        "lag_measured_timestamp",
        "When the lag was measured, since 1970.",
        Some(Unit::Seconds),
        |s, _| maybe(s.lag.as_ref().map(|l| timestamp(l.measured))),
    ),
    figure(
        "rto_objective",
        "The recovery time objective.",
        Some(Unit::Seconds),
        |s, _| one(s.rto.as_secs_f64()),
    ),
    figure(
        "rpo_objective",
        "The recovery point objective.",
        Some(Unit::Seconds),
        |s, _| one(s.rpo.as_secs_f64()),
    ),
    figure(
        "incident_open",
        "Whether there is an outage.",
        None,
        |s, _| one(flag(s.outage.is_some())),
    ),
    figure(
        "budget_left",
        "What is left of the RTO during an outage; below zero once it is lost.",
        Some(Unit::Seconds),
        |s, now| {
            maybe(
                s.outage
                    .map(|since| timestamp(since.after(s.rto)) - timestamp(now)),
            )
        },
    ),
    figure(
        "run_in_progress",
        "Whether a run of this kind goes on.",
        None,
        |s, _| states("kind", KINDS.map(|k| (k, s.run == Some(k)))),
    ),
    figure(
        "run_stuck",
        "Whether a run ended that somebody has to look at.",
        None,
        |s, _| one(flag(s.stuck_run)),
    ),
    figure(
        "last_downtime",
        "From the beginning of the last outage until the service was verified.",
        Some(Unit::Seconds),
        |s, _| maybe(s.downtime.map(Span::as_secs_f64)),
    ),
    figure(
        "pages_open",
        "Pages that nobody has acknowledged.",
        None,
        |s, _| one(count(s.pages as u64)),
    ),
    figure(
        "asks_open",
        "Questions that wait for an answer.",
        None,
        |s, _| one(count(s.asks as u64)),
    ),
    figure(
        "ready",
        "Whether a failover would go well, as far as was checked; absent where that cannot be told any more.",
        None,
        |s, _| {
            let known = s.readiness != Readiness::Unknown;
            maybe(known.then(|| flag(s.readiness == Readiness::Ready)))
        },
    ),
    figure(
        "readiness",
        "What the checks come to: 1 for it, 0 for the others.",
        None,
        |s, _| {
            let all = READINESS.map(|r| (r.word(), r == s.readiness));
            states("readiness", all)
        },
    ),
    figure(
        "last_check_timestamp",
        "When readiness was checked last, since 1970.",
        Some(Unit::Seconds),
        |s, _| maybe(s.check.map(timestamp)),
    ),
    figure(
        "last_turn_timestamp",
        "When the service's loop turned last, since 1970.",
        Some(Unit::Seconds),
        |s, _| one(timestamp(s.turned)),
    ),
];

fn verdicts(s: &Standing, _: Time) -> Vec<Sample> {
    s.verdicts
        .iter()
        .flat_map(|(component, verdict)| {
            VERDICTS.map(|v| {
                let labels = vec![
                    ("component", component.to_string()),
                    ("verdict", v.to_string()),
                ];
                (labels, flag(v == *verdict))
            })
        })
        .collect()
}

impl Collector for Standings {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let now = self.runtime.now();
        let services = lock(&self.services).clone();
        for f in &FIGURES {
            let all = services.iter().flat_map(|(name, s)| {
                (f.samples)(s, now)
                    .into_iter()
                    .map(move |sample| (name, sample))
            });
            gauge(
                &mut encoder,
                "service",
                f.name,
                f.help,
                f.unit.as_ref(),
                all,
            )?;
        }
        let mut protected: BTreeMap<ServiceName, bool> =
            services.into_keys().map(|name| (name, true)).collect();
        let lost = lock(&self.unprotected).clone();
        protected.extend(lost.into_iter().map(|name| (name, false)));
        gauge(
            &mut encoder,
            "service",
            "protected",
            "Whether anybody protects it: 0 where no documents of it can be used, neither those of now nor those before.",
            None,
            protected
                .iter()
                .map(|(name, yes)| (name, (Vec::new(), flag(*yes)))),
        )?;
        let chains = lock(&self.chains).clone();
        let of = |samples: fn(&Chain) -> Option<f64>| {
            chains
                .iter()
                .filter_map(move |(name, c)| Some((name, (Vec::new(), samples(c)?))))
        };
        let e = &mut encoder;
        gauge(
            e,
            "chain",
            "journal_seq",
            "The last record of a chain.",
            None,
            of(|c| Some(count(c.last.0))),
        )?;
        gauge(
            e,
            "chain",
            "journal_writable",
            "Whether the chain can be written.",
            None,
            of(|c| Some(flag(c.trouble.is_none()))),
        )?;
        gauge(
            e,
            "chain",
            "journal_copy_lag_records",
            "Records that the copy does not hold yet; absent until it is known what it holds.",
            None,
            of(|c| Some(count(c.last.0.saturating_sub(c.copied?.0)))),
        )?;
        let current = match *lock(&self.documents) {
            Documents::InForce => 1.0,
            Documents::Missing | Documents::Outdated => 0.0,
        };
        encoder
            .encode_descriptor(
                "documents_current",
                "Whether the documents as they are now are those in force.",
                None,
                MetricType::Gauge,
            )
            .and_then(|metric| ConstGauge::new(current).encode(metric))
    }
}

fn gauge<'a>(
    encoder: &mut DescriptorEncoder,
    key: &'static str,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    samples: impl Iterator<Item = (&'a ServiceName, Sample)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
    for (service, (mut labels, value)) in samples {
        labels.insert(0, (key, service.to_string()));
        ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}
