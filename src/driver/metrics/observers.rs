//! Figures of observers elsewhere: when each was heard, what was refused, which looks did not count.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, PoisonError},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _},
    metrics::{MetricType, counter::Counter, family::Family, gauge::ConstGauge},
    registry::{Registry, Unit},
};

use crate::{
    model::{
        id::{ServiceName, VantageName},
        time::Time,
    },
    port::runtime::SharedRuntime,
};

/// Figures of observers elsewhere.
pub struct Observers {
    runtime: SharedRuntime,
    heard: Mutex<BTreeMap<(ServiceName, VantageName), Heard>>,
    refused: Family<RefusedLabels, Counter>,
    dropped: Family<DroppedLabels, Counter>,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    at: Time,
    ahead_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DroppedLabels {
    vantage: String,
    reason: &'static str,
}

impl Observers {
    /// Nobody was heard yet.
    pub(super) fn new(runtime: SharedRuntime) -> Self {
        Self {
            runtime,
            heard: Mutex::default(),
            refused: Family::default(),
            dropped: Family::default(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "vantage_refused",
            "Requests of observers that were refused, by why",
            self.refused.clone(),
        );
        registry.register(
            "vantage_looks_dropped",
            "Looks of observers that did not count, by why",
            self.dropped.clone(),
        );
    }

    /// A vantage point of a service was heard, and its clock was so far ahead.
    pub fn heard(&self, service: &ServiceName, vantage: &VantageName, at: Time, ahead_ms: i64) {
        let key = (service.clone(), vantage.clone());
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.insert(key, Heard { at, ahead_ms });
    }

    /// These are the vantage points of a service from now on.
    pub fn keep(&self, service: &ServiceName, known: &[VantageName]) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.retain(|(of, vantage), _| of != service || known.contains(vantage));
    }

    /// A request was refused. Who sent it is not told: it may be anybody.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&RefusedLabels { reason }).inc();
    }

    /// A look did not count.
    pub fn dropped(&self, vantage: &VantageName, reason: &'static str) {
        let labels = DroppedLabels {
            vantage: vantage.to_string(),
            reason,
        };
        self.dropped.get_or_create(&labels).inc();
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observers").finish_non_exhaustive()
    }
}

impl Collector for Observers {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let now = self.runtime.now();
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let heard = heard.clone();
        let age = heard
            .iter()
            .map(|(who, h)| (who, now.since(h.at).as_secs_f64()));
        gauge(
            &mut encoder,
            "vantage_report_age",
            "How long ago an observer was heard; absent where it never was.",
            age,
        )?;
        let ahead = heard.iter().map(|(who, h)| (who, seconds(h.ahead_ms)));
        gauge(
            &mut encoder,
            "vantage_clock_ahead",
            "How far an observer's clock is ahead; below zero where it is behind.",
            ahead,
        )
    }
}

/// Seconds for each vantage point of each service.
fn gauge<'a>(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    samples: impl Iterator<Item = (&'a (ServiceName, VantageName), f64)>,
) -> fmt::Result {
    let mut metric =
        encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
    for ((service, vantage), value) in samples {
        let labels = [
            ("service", service.to_string()),
            ("vantage", vantage.to_string()),
        ];
        ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "clocks differ by less than 2^52 ms"
)]
fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}
