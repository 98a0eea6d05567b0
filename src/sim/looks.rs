//! Probes: one look of one vantage point at the world.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::{
    network::Party,
    scenario::point_of,
    site::{Life, Site, lsn},
    stagehand::{self, lock},
    weakness::Weakness,
    world::{BEGIN, SharedWorld, World},
};
use crate::{
    model::{
        check::CheckItem,
        observation::{DatabaseFacts, DatabaseRole, Evidence, Look, Sight},
        service::{ComponentKind, Service},
        span::Span,
        time::Time,
    },
    port::{
        kind::{MakeError, Wiring},
        probe::{LookContext, Probe, SharedProbe},
        runtime::SharedRuntime,
    },
};

/// What a look is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// An application, where the public name leads unless a site is named.
    Application(Option<usize>),
    /// A database by its own protocol.
    Database(Option<usize>),
    /// A database's port.
    Port(Option<usize>),
    /// A standby's stream.
    Stream(usize),
    /// Something that is surely up.
    Sentinel,
}

/// Up to this silence a standby's primary counts as heard, unless the document says otherwise.
const HEARD: Span = Span::from_secs(10);
/// After this silence the primary did not answer the standby's own question.
const DEAF: Span = Span::from_secs(33);

struct SimulatedProbe {
    world: SharedWorld,
    runtime: SharedRuntime,
    service: Arc<Service>,
    target: Target,
    heard_within: Span,
}

/// Makes the probe of that kind.
///
/// # Errors
/// Where no simulation is on this thread.
pub fn make(kind: &str, with: &Value, wiring: &Wiring) -> Result<SharedProbe, MakeError> {
    let heard = with.get("heardWithin").cloned();
    let heard = heard.and_then(|h| serde_json::from_value(h).ok());
    Ok(Arc::new(SimulatedProbe {
        world: stagehand::world()?,
        runtime: wiring.runtime.clone(),
        target: target(&wiring.service, kind, with),
        service: wiring.service.clone(),
        heard_within: heard.unwrap_or(HEARD),
    }))
}

/// A probe is known by its kind and settings; what is no probe of a component is a sentinel, or the look of the step
/// that publishes a site's own URL.
fn target(service: &Service, kind: &str, with: &Value) -> Target {
    let index = |name| service.sites.iter().position(|s| &s.name == name);
    for component in &service.components {
        let own = |p: &&crate::model::service::Probe| {
            p.action.uses.as_str() == kind && &p.action.with == with
        };
        let Some(probe) = component.probes.iter().find(own) else {
            continue;
        };
        let site = probe.site.as_ref().and_then(index);
        return match (probe.evidence, component.kind) {
            (Evidence::Stream, _) => site.map_or(Target::Sentinel, Target::Stream),
            (Evidence::Database | Evidence::Guard, _) => Target::Database(site),
            (Evidence::Outside | Evidence::Cluster, ComponentKind::Database) => Target::Port(site),
            (Evidence::Outside | Evidence::Cluster, ComponentKind::Application) => {
                Target::Application(site)
            }
        };
    }
    let url = with.get("url").and_then(Value::as_str).unwrap_or_default();
    let mut sites = service.sites.iter();
    let of_site = sites.position(|s| {
        let own = s.url.as_deref().unwrap_or("?").trim_end_matches('/');
        url.starts_with(own)
    });
    of_site.map_or(Target::Sentinel, |n| Target::Application(Some(n)))
}

#[async_trait]
impl Probe for SimulatedProbe {
    async fn look(&self, context: &LookContext) -> Look {
        let point = point_of(&self.service, &context.via);
        let began = self.runtime.now();
        let until = began.after(context.timeout);
        let arrives = lock(&self.world).way_there(point, self.target);
        let Some(arrives) = arrives.filter(|a| *a < context.timeout) else {
            self.runtime.sleep_until(self.grained(until)).await;
            return self.told(point, Look::new(Sight::Down, "no answer in time"));
        };
        let at = self.grained(began.after(arrives));
        self.runtime.sleep_until(at).await;
        let seen = lock(&self.world).seen(self.target, self.heard_within);
        let look = if let Some(mut look) = seen {
            look.latency = Some(arrives);
            look
        } else {
            self.runtime.sleep_until(self.grained(until)).await;
            Look::new(Sight::Down, "no answer in time")
        };
        self.told(point, look)
    }

    async fn check(&self, _context: &LookContext) -> Vec<CheckItem> {
        Vec::new()
    }
}

impl SimulatedProbe {
    /// The next moment at which looks end.
    fn grained(&self, at: Time) -> Time {
        let grain = lock(&self.world).scenario.grain.as_millis();
        let grain = i64::try_from(grain).unwrap_or(1).max(1);
        let over = at.as_millis().rem_euclid(grain);
        Time::from_millis(at.as_millis() + if over == 0 { 0 } else { grain - over })
    }

    /// What is told of what was seen.
    fn told(&self, point: usize, mut look: Look) -> Look {
        let world = lock(&self.world);
        if self.target == Target::Sentinel {
            return look;
        }
        if world.slanders(point) {
            look = Look::new(Sight::Down, "connection refused");
        }
        if let Target::Stream(_) = self.target
            && look.sight == Sight::Down
            && look.facts.database.is_none()
        {
            // Whatever ails the standby says nothing about the primary.
            look.sight = Sight::Unknown;
        }
        match world.scenario.weakness {
            Some(Weakness::RosyProbes) if world.watchman.was_busy() => {
                look.sight = Sight::Up;
            }
            Some(Weakness::FalseAlarm) if is_alarmed(world.now) => look.sight = Sight::Down,
            Some(Weakness::RosyLag) => rosy(&world, &mut look),
            Some(_) | None => {}
        }
        look
    }
}

fn is_alarmed(now: Time) -> bool {
    let passed = now.since(BEGIN);
    passed > Span::from_secs(40) && passed < Span::from_secs(240)
}

fn rosy(world: &World, look: &mut Look) {
    let all = world.sites.iter().filter_map(|s| s.database.as_ref());
    let longest = all.map(|d| d.log.len()).max().unwrap_or(0);
    if let Some(facts) = &mut look.facts.database
        && facts.role == DatabaseRole::Standby
    {
        facts.received = Some(lsn(longest));
        facts.replayed = facts.received;
    }
}

impl World {
    /// How long a question and its answer are under way; none where they never arrive.
    fn way_there(&mut self, point: usize, target: Target) -> Option<Span> {
        if !self.sees(point) || self.is_cut_off() {
            return None;
        }
        let asker = Party::Vantage(point);
        let site = match target {
            Target::Application(Some(n))
            | Target::Database(Some(n))
            | Target::Port(Some(n))
            | Target::Stream(n) => n,
            Target::Application(None) | Target::Database(None) | Target::Port(None) => {
                self.led_to()?
            }
            Target::Sentinel => return Some(self.chance.millis(5, 60)),
        };
        let there = Party::Site(site);
        let out = self
            .network
            .send((asker, there), &mut self.chance)
            .arrives?;
        let back = self
            .network
            .send((there, asker), &mut self.chance)
            .arrives?;
        Some(out.saturating_add(back))
    }

    /// What is there to be seen; none where nobody answers.
    fn seen(&self, target: Target, heard_within: Span) -> Option<Look> {
        match target {
            Target::Sentinel => Some(Look::new(Sight::Up, "open")),
            Target::Application(site) => {
                let site = &self.sites[site.or_else(|| self.led_to())?];
                answer(site, site.application, "HTTP 200")
            }
            Target::Port(site) => {
                let site = &self.sites[site.or_else(|| self.led_to())?];
                answer(site, site.database.as_ref()?.life, "open")
            }
            Target::Database(site) => {
                let n = site.or_else(|| self.led_to())?;
                let site = &self.sites[n];
                let mut look = answer(site, site.database.as_ref()?.life, "SELECT 1")?;
                if look.sight == Sight::Up {
                    look.facts.database = Some(self.facts(n)?);
                }
                Some(look)
            }
            Target::Stream(n) => self.stream(n, heard_within),
        }
    }

    fn facts(&self, n: usize) -> Option<DatabaseFacts> {
        let own = self.sites[n].database.as_ref()?;
        let is_primary = own.role == DatabaseRole::Primary;
        let here = lsn(own.log.len());
        let is_followed = (0..self.sites.len()).any(|s| self.streams(s) == Some(n));
        Some(DatabaseFacts {
            role: own.role,
            timeline: Some(own.timeline),
            current: is_primary.then_some(here),
            received: (!is_primary).then_some(here),
            replayed: (!is_primary).then_some(here),
            streaming: (!is_primary).then(|| self.streams(n).is_some()),
            replay_age: None,
            heard: None,
            synchronous: (is_primary && is_followed).then_some(self.waits_for_standby(n)),
        })
    }

    fn stream(&self, n: usize, heard_within: Span) -> Option<Look> {
        let site = &self.sites[n];
        let own = site.database.as_ref()?;
        let asked = answer(site, own.life, "asked")?;
        if asked.sight != Sight::Up {
            return Some(asked);
        }
        if own.role == DatabaseRole::Primary {
            return Some(Look::new(Sight::Unknown, "it is a primary itself"));
        }
        let (heard, known) = match self.streams(n) {
            Some(from) => {
                let known = self.sites[from]
                    .database
                    .as_ref()
                    .map_or(0, |d| d.log.len());
                (self.now, known)
            }
            None => own.heard,
        };
        let silence = self.now.since(heard);
        let mut look = if self.is_refused(n) {
            Look::new(Sight::Down, "no WAL receiver")
        } else if silence <= heard_within {
            Look::new(Sight::Up, "streams")
        } else if silence > DEAF {
            Look::new(Sight::Down, "silent")
        } else {
            Look::new(Sight::Unknown, "silent: idle or dead")
        };
        let mut facts = self.facts(n)?;
        facts.heard = Some((lsn(known), silence));
        look.facts.database = Some(facts);
        Some(look)
    }

    /// Whether a standby was told by its primary's host that nobody is there.
    fn is_refused(&self, standby: usize) -> bool {
        let own = self.sites[standby].database.as_ref();
        let Some(timeline) = own.map(|d| d.timeline) else {
            return false;
        };
        (0..self.sites.len()).any(|n| {
            let is_gone = self.sites[n].database.as_ref().is_some_and(|d| {
                d.role == DatabaseRole::Primary && d.timeline == timeline && d.life == Life::Gone
            });
            let reaches = self
                .network
                .is_open_both_ways(Party::Site(n), Party::Site(standby));
            is_gone && self.sites[n].is_on() && reaches
        })
    }
}

fn answer(site: &Site, life: Life, words: &str) -> Option<Look> {
    if !site.is_on() {
        return None;
    }
    match life {
        Life::Runs => Some(Look::new(Sight::Up, words)),
        Life::Gone => Some(Look::new(Sight::Down, "connection refused")),
        Life::Frozen => None,
    }
}
