//! The books: which acknowledged writes the promoted database has, and what explains those that it has not.

use std::{
    collections::BTreeSet,
    fmt,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use failover::model::{span::Span, time::Time};

use crate::guard_agent::shop::Shop;

/// Writes that were acknowledged at the old site and are not at the new one.
pub struct Lost {
    writes: usize,
    /// Until the outage began, as the controller saw it.
    before: usize,
    /// How much of the last writes before that the forecast gave up.
    forecast: Duration,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (writes, before, forecast) = (self.writes, self.before, self.forecast);
        write!(
            f,
            "{writes}, {before} of them before the outage was seen, where the forecast gave up {forecast:?}"
        )
    }
}

/// Reads back every write from `b`. One that is not there was acknowledged at `a`, within the last writes that the
/// journal's forecast gave up or after the outage had begun.
pub fn settle(shop: &Shop) -> Lost {
    let acknowledged = shop.witness.writes();
    let kept = kept(shop, "b");
    let missing: Vec<_> = acknowledged
        .iter()
        .filter(|w| !kept.contains(&w.number))
        .collect();
    let opened = shop.records("runOpened");
    let since: Time = serde_json::from_value(opened[0]["since"].clone()).unwrap();
    let known = &opened[0]["loss"]["known"]["time"];
    let forecast: Span = serde_json::from_value(known.clone())
        .unwrap_or_else(|_| panic!("no forecast: {}", opened[0]["loss"]));
    let outage = moment(since);
    for write in &missing {
        assert_eq!(write.site, "a", "{write:?} is gone");
        let early = outage.saturating_duration_since(write.at);
        assert!(
            early <= forecast.to_std(),
            "{write:?} is gone, {early:?} before the outage: the forecast gave up {forecast}"
        );
    }
    Lost {
        writes: missing.len(),
        before: missing.iter().filter(|w| w.at < outage).count(),
        forecast: forecast.to_std(),
    }
}

/// Nothing that was acknowledged at `a`, which still serves, is gone.
pub fn whole(shop: &Shop) {
    let acknowledged = shop.witness.writes();
    let kept = kept(shop, "a");
    for write in acknowledged {
        assert!(kept.contains(&write.number), "{write:?} is gone");
    }
}

fn kept(shop: &Shop, site: &str) -> BTreeSet<i64> {
    let hosts = &shop.hosts;
    let site = if site == "a" { &hosts.a } else { &hosts.b };
    let rows = site.cluster.sql("SELECT number FROM witness");
    rows.lines().map(|row| row.parse().unwrap()).collect()
}

/// A moment of the journal on this process's clock.
fn moment(at: Time) -> Instant {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = Time::from_millis(i64::try_from(now.as_millis()).unwrap());
    Instant::now().checked_sub(now.since(at).to_std()).unwrap()
}
