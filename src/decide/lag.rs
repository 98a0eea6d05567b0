//! Lag by position and by time, with its age; stale lag is unknown, never zero.

use super::{
    detect,
    state::{Incident, State},
    view::{Position, View},
};
use crate::model::{
    id::SiteName,
    loss::{Lag, LossForecast},
    observation::{DatabaseFacts, DatabaseRole, Evidence, Lsn, Observation},
    service::{ComponentKind, Probe, Service},
    span::Span,
    time::Time,
};

/// What an observation tells of the active database's write position.
#[must_use]
pub fn position(service: &Service, state: &State, seen: &Observation) -> Option<Position> {
    let (component, probe) = service.probe(&seen.probe)?;
    let facts = seen.facts.database.as_ref()?;
    if component.kind != ComponentKind::Database {
        return None;
    }
    // What was written since the server was asked is not in the answer.
    let asked = seen.at.before(seen.latency.unwrap_or_default());
    match (probe.evidence, facts.role) {
        (Evidence::Stream, _) => facts.heard.map(|(lsn, age)| Position {
            at: asked.before(age),
            lsn,
            timeline: None,
        }),
        (
            Evidence::Database | Evidence::Guard | Evidence::Outside | Evidence::Cluster,
            DatabaseRole::Primary,
        ) if looks_at_active(probe, state) => facts.current.map(|lsn| Position {
            at: asked,
            lsn,
            timeline: facts.timeline,
        }),
        (Evidence::Database | Evidence::Guard | Evidence::Outside | Evidence::Cluster, _) => None,
    }
}

fn looks_at_active(probe: &Probe, state: &State) -> bool {
    probe.site.is_none() || probe.site == state.active
}

/// The timeline that an observation of a standby's database says it follows.
#[must_use]
pub fn follows(service: &Service, seen: &Observation) -> Option<(SiteName, u32)> {
    let (component, probe) = service.probe(&seen.probe)?;
    let facts = seen.facts.database.as_ref()?;
    let is_standby =
        component.kind == ComponentKind::Database && facts.role == DatabaseRole::Standby;
    Some((probe.site.clone()?, facts.timeline.filter(|_| is_standby)?))
}

/// Where a standby is known to follow another history than the primary's: its timeline and the primary's.
#[must_use]
pub fn strayed(view: &View, site: &SiteName) -> Option<(u32, u32)> {
    let primary = view.written_timeline()?;
    let own = *view.timelines.get(site)?;
    (own != primary).then_some((own, primary))
}

/// The newest facts of the database at a standby site.
#[must_use]
pub fn standby<'a>(
    service: &'a Service,
    view: &'a View,
    site: &SiteName,
    now: Time,
) -> Option<(&'a Observation, &'a DatabaseFacts)> {
    service
        .components
        .iter()
        .filter(|c| c.kind == ComponentKind::Database)
        .flat_map(|c| &c.probes)
        // A guard tells no position.
        .filter(|p| p.site.as_ref() == Some(site) && p.evidence != Evidence::Guard)
        .filter_map(|p| {
            let (seen, facts) = view.newest(&p.id)?;
            let facts = facts.database.as_ref()?;
            (now.since(seen.at) <= detect::shelf_life(p)).then_some((seen, facts))
        })
        .filter(|(_, f)| f.role == DatabaseRole::Standby)
        .max_by_key(|(seen, _)| seen.at)
}

/// What promoting the standby at `to` now would lose, for an outage that began at `since` (now, where there is none).
#[must_use]
pub fn forecast(
    service: &Service,
    state: &State,
    view: &View,
    to: &SiteName,
    since: Time,
    now: Time,
) -> LossForecast {
    if !service
        .components
        .iter()
        .any(|c| c.kind == ComponentKind::Database)
    {
        return LossForecast::Stateless;
    }
    let Some((_, facts)) = standby(service, view, to, now) else {
        return LossForecast::Unknown {
            reason: format!("the standby at {to} cannot be seen"),
        };
    };
    // After a restart a standby has replayed what it had, and received nothing yet.
    let Some(received) = facts.received.max(facts.replayed) else {
        return LossForecast::Unknown {
            reason: format!("the standby at {to} does not tell what it received"),
        };
    };
    // Positions of two histories say nothing of each other.
    if let Some((own, primary)) = strayed(view, to) {
        return LossForecast::Unknown {
            reason: format!(
                "the standby at {to} follows timeline {own}, the primary writes timeline {primary}: it may lack everything since they parted"
            ),
        };
    }
    let Some(last) = view.positions.back() else {
        // A controller that was restarted in the outage knows what was recorded when it began: the standby can only
        // have received more since.
        return match state.incident.as_ref().filter(|i| is_of(state, i, since)) {
            Some(incident) => incident.loss.clone(),
            None => LossForecast::Unknown {
                reason: "the primary's position was never seen by this process".to_owned(),
            },
        };
    };
    let age = since.since(last.at);
    if age > service.gates.max_lag_age {
        return LossForecast::Unknown {
            reason: format!(
                "the primary's position was last seen {age} before the outage, longer ago than maxLagAge {}",
                service.gates.max_lag_age
            ),
        };
    }
    let bytes = last.lsn.0.saturating_sub(received.0);
    let Some(time) = behind(view, received, since) else {
        return LossForecast::Unknown {
            reason: format!(
                "the standby at {to} lacks {bytes} bytes, and was behind already when this process began to look"
            ),
        };
    };
    LossForecast::Known(Lag {
        bytes,
        time,
        measured: last.at,
    })
}

/// Whether what was recorded when the incident began is about this outage: the first one, of the site active then.
fn is_of(state: &State, incident: &Incident, since: Time) -> bool {
    let moved = state
        .last_run
        .as_ref()
        .is_some_and(|r| r.epoch.is_some() && r.incident.as_ref() == Some(&incident.id));
    since == incident.since && !moved
}

/// How much time of writes may be missing: from the newest known position that the standby has, to the outage; none
/// where it has not even the oldest.
fn behind(view: &View, received: Lsn, since: Time) -> Option<Span> {
    let covered = view.positions.iter().rev().find(|p| p.lsn <= received)?;
    Some(since.since(covered.at))
}

/// What an observation of the active database tells of whether its commits wait for its standbys. Only the primary
/// knows, and not while no standby is there: what it told before stands until it grows old.
#[must_use]
pub fn waits(service: &Service, state: &State, seen: &Observation) -> Option<bool> {
    let (component, probe) = service.probe(&seen.probe)?;
    let facts = seen.facts.database.as_ref()?;
    let is_active = component.kind == ComponentKind::Database
        && probe.evidence != Evidence::Stream
        && facts.role == DatabaseRole::Primary
        && looks_at_active(probe, state);
    is_active.then_some(facts.synchronous).flatten()
}

/// Whether commits waited for the standby when the lag was measured, or not long before.
#[must_use]
pub fn synchronous(service: &Service, view: &View, lag: &Lag) -> bool {
    view.synchronous
        .is_some_and(|(at, waits)| waits && lag.measured.since(at) <= service.gates.max_lag_age)
}
