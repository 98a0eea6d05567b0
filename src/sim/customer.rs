//! Customers, who write all the time and remember what they were told is written.

use super::{
    fault::Fault,
    guard::can_follow,
    network::Party,
    site::Write,
    world::{Happening, World},
};
use crate::model::{observation::DatabaseRole, span::Span, time::Time};

/// What a customer was told is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// What.
    pub write: Write,
    /// When.
    pub at: Time,
}

/// All customers.
#[derive(Clone, Debug, Default)]
pub struct Customers {
    /// What was acknowledged, in order.
    pub acknowledged: Vec<Acknowledged>,
    /// How often a write was tried.
    pub tried: u64,
    resolved: [Option<(usize, Time)>; 2],
}

impl World {
    /// A customer's next write.
    pub(super) fn write(&mut self, customer: usize) {
        self.customers.tried += 1;
        let write = self.customers.tried;
        let every = self.scenario.writes_every;
        self.plan(every, Happening::Writes(customer));
        let asker = Party::Customers(customer);
        let Some(site) = self.resolve(customer) else {
            return;
        };
        let reaches = self.network.is_open_both_ways(asker, Party::Site(site));
        if !reaches || !self.sites[site].serves() {
            return;
        }
        let Some(holder) = self.written_from(site) else {
            return;
        };
        let waits = self.commit(holder, write);
        let now = self.now;
        if !waits {
            self.customers
                .acknowledged
                .push(Acknowledged { write, at: now });
            self.watchman.wrote(holder, now);
        }
        self.trace.note(now, 5, || {
            let waits = if waits {
                " and waits for a standby"
            } else {
                ""
            };
            format!("write {write} at site-{holder}{waits}")
        });
    }

    /// Where the public name leads this customer; resolvers keep an answer for its TTL.
    fn resolve(&mut self, customer: usize) -> Option<usize> {
        let now = self.now;
        if let Some((site, until)) = self.customers.resolved[customer]
            && now < until
        {
            return Some(site);
        }
        // Whoever reaches no name server goes on with what he knows.
        let is_islanded = (0..self.sites.len()).any(|n| self.has(Fault::Island(n, customer)));
        if let Some((site, _)) = self.customers.resolved[customer].filter(|_| is_islanded) {
            return Some(site);
        }
        let site = self.led_to()?;
        let ttl = self.scenario.service.dns.as_ref().map(|d| d.ttl);
        let until = now.after(ttl.unwrap_or(Span::ZERO));
        self.customers.resolved[customer] = Some((site, until));
        Some(site)
    }

    /// Writes to a primary's log and sends it on its way to the standbys; whether the customer waits for one of them.
    fn commit(&mut self, holder: usize, write: Write) -> bool {
        let Some(database) = self.sites[holder].database.as_mut() else {
            return false;
        };
        database.log.push(write);
        let (length, timeline) = (database.log.len(), database.timeline);
        let standbys: Vec<usize> = (0..self.sites.len())
            .filter(|n| self.streams(*n) == Some(holder))
            .collect();
        // The one that took over has nobody to wait for.
        if self.waits_for_standby(holder) {
            for standby in &standbys {
                self.ship(*standby, length, timeline);
            }
            return standbys.is_empty();
        }
        let lag = self.scenario.lag;
        for standby in standbys {
            self.plan(lag, Happening::Ships(standby, length, timeline));
        }
        false
    }

    /// Whether commits of a primary wait for a standby that streams.
    #[must_use]
    pub fn waits_for_standby(&self, holder: usize) -> bool {
        let timeline = self.sites[holder].database.as_ref().map(|d| d.timeline);
        let is_first = if self.is_guarded(holder) {
            holder == 0
        } else {
            timeline == Some(1)
        };
        self.scenario.synchronous && is_first
    }

    /// The site from which a standby's stream comes just now.
    #[must_use]
    pub fn streams(&self, standby: usize) -> Option<usize> {
        let own = self.sites[standby].answering()?;
        if own.role != DatabaseRole::Standby {
            return None;
        }
        (0..self.sites.len()).find(|n| {
            let is_upstream = self.sites[*n].answering().is_some_and(|d| {
                d.role == DatabaseRole::Primary
                    && can_follow(&self.forks, (own.timeline, own.log.len()), d.timeline)
            });
            is_upstream
                && self
                    .network
                    .is_open_both_ways(Party::Site(*n), Party::Site(standby))
        })
    }

    /// So much of a log reaches a standby, where the stream is still there.
    pub(super) fn ship(&mut self, standby: usize, length: usize, timeline: u32) {
        let Some(from) = self.streams(standby) else {
            return;
        };
        let Some(source) = self.sites[from].database.as_ref() else {
            return;
        };
        let length = length.min(source.log.len());
        if source.timeline != timeline {
            return;
        }
        let known = self.sites[standby]
            .database
            .as_ref()
            .map_or(0, |d| d.log.len());
        let more: Vec<Write> = source.log.get(known..length).unwrap_or_default().to_vec();
        if let Some(own) = self.sites[standby].database.as_mut() {
            own.log.extend(more);
            own.timeline = timeline;
        }
    }

    /// Whoever streams again catches up.
    pub(super) fn ship_all(&mut self) {
        let lag = self.scenario.lag;
        for standby in 0..self.sites.len() {
            let Some(from) = self.streams(standby) else {
                continue;
            };
            if let Some(source) = self.sites[from].database.as_ref() {
                let (length, timeline) = (source.log.len(), source.timeline);
                self.plan(lag, Happening::Ships(standby, length, timeline));
            }
        }
    }

    /// Every standby that streams hears its primary now.
    pub fn hear(&mut self) {
        for standby in 0..self.sites.len() {
            let Some(from) = self.streams(standby) else {
                continue;
            };
            let length = self.sites[from]
                .database
                .as_ref()
                .map_or(0, |d| d.log.len());
            let now = self.now;
            if let Some(own) = self.sites[standby].database.as_mut() {
                own.heard = (now, length);
            }
        }
    }
}
