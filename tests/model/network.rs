//! A network that keeps every message: what was sent once may arrive at any time, any number of times, or never.
//!
//! Of requests and grants that differ only in their age the youngest is kept: it does all that an older one does.

use std::collections::{BTreeMap, BTreeSet};

use failover::model::{
    guard::{Boot, FenceAck, FenceOrder, Grant, Grantor, LeaseRequest, PromoteOrder, Terms},
    id::{Epoch, SiteName},
    span::Span,
    time::Time,
};

/// Older requests and grants make no difference.
const OLDEST: Time = Time::from_millis(-4);

/// All messages under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Network {
    pub requests: BTreeMap<(SiteName, Epoch, Boot), (LeaseRequest, Option<Terms>)>,
    pub grants: BTreeMap<(SiteName, Epoch, Boot, Grantor), Grant>,
    pub acknowledgements: BTreeSet<FenceAck>,
    pub fences: BTreeSet<(SiteName, FenceOrder)>,
    pub promotions: BTreeSet<PromoteOrder>,
}

impl Network {
    /// Of a request only what a grantor looks at makes a difference; that grants arrive is confirmed at once, since
    /// a grantor that rests grants less.
    pub fn request(&mut self, mut request: LeaseRequest, terms: Option<Terms>) {
        request.report.database = None;
        request.report.leased = false;
        request.heard = [Grantor::Controller, Grantor::Deputy]
            .map(|by| (by, request.sent))
            .into();
        let key = (
            request.report.site.clone(),
            request.epoch,
            request.report.boot,
        );
        self.requests.insert(key, (request, terms));
    }

    pub fn grant(&mut self, to: SiteName, grant: Grant) {
        let key = (to, grant.epoch, grant.boot, grant.by);
        let known = self.grants.get(&key);
        if known.is_none_or(|known| known.sent <= grant.sent) {
            self.grants.insert(key, grant);
        }
    }

    /// One unit of time passes.
    pub fn pass(&mut self) {
        let unit = Span::from_millis(1);
        for (request, _) in self.requests.values_mut() {
            request.sent = request.sent.before(unit);
            for at in request.heard.values_mut() {
                *at = at.before(unit);
            }
        }
        for grant in self.grants.values_mut() {
            grant.sent = grant.sent.before(unit);
        }
        self.requests.retain(|_, (r, _)| r.sent >= OLDEST);
        self.grants.retain(|_, g| g.sent >= OLDEST);
    }
}
