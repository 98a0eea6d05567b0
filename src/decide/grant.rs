//! Leases: when the controller grants one to a site's guard, and when it is sure that none runs any more.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    guard::{Grant, Grantor, Lease, LeaseRequest, Starts, Terms},
    id::{Epoch, SiteName},
    lease::Granted,
    span::Span,
    time::Time,
};

/// What a controller remembers of its grants, by site and not by epoch: a site that went from one epoch to the next may
/// still write under a grant of the first. Volatile: a new process assumes the worst.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grants {
    began: Time,
    longest: Span,
    sites: BTreeMap<SiteName, Granted>,
    /// Sites that may have a lease without an end.
    unbounded: BTreeSet<SiteName>,
    starts: BTreeMap<SiteName, (Epoch, Starts)>,
}

/// What a grant rests on; each is looked up after the request came.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// The terms of the journal's newest epoch.
    pub terms: &'a Terms,
    /// Whether a fence of a later epoch is done or pending at the site.
    pub is_fencing: bool,
    /// Whether this process leads at this moment.
    pub leads: bool,
}

/// Why a request was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NotGranted {
    /// This process does not lead now.
    NotLeading,
    /// The epoch is not the newest one, or not this site's.
    OtherEpoch,
    /// The site is being fenced, or was.
    Fencing,
    /// The guard cannot stop its database.
    CannotFence,
    /// The guard's state is an older one.
    OlderState,
    /// Its grants have not arrived for as long as a lease: the controller rests for a while.
    Unheard,
}

impl Grants {
    /// A process that begins to lead assumes that it granted every site the longest lease of the journal just before.
    #[must_use]
    pub fn new(now: Time, longest: Span) -> Self {
        Self {
            began: now,
            longest,
            sites: BTreeMap::new(),
            unbounded: BTreeSet::new(),
            starts: BTreeMap::new(),
        }
    }

    /// Takes in terms of the journal, in order, before anything is granted in them.
    pub fn opened(&mut self, terms: &Terms) {
        match terms.lease {
            Lease::Unbounded => {
                self.unbounded.insert(terms.site.clone());
            }
            Lease::Bounded(lease) => self.longest = self.longest.max(lease),
        }
    }

    /// The site's guard acknowledged a fence: no lease of it runs, not even one without an end.
    pub fn acknowledged(&mut self, site: &SiteName) {
        self.unbounded.remove(site);
    }

    /// Answers a request; what is granted is noted before it is returned.
    ///
    /// # Errors
    /// Where it is not granted, with why.
    pub fn grant(
        &mut self,
        standing: Standing<'_>,
        request: &LeaseRequest,
        now: Time,
    ) -> Result<Grant, NotGranted> {
        let terms = standing.terms;
        let site = &request.report.site;
        if !standing.leads {
            return Err(NotGranted::NotLeading);
        }
        if request.epoch != terms.epoch || *site != terms.site {
            return Err(NotGranted::OtherEpoch);
        }
        if standing.is_fencing {
            return Err(NotGranted::Fencing);
        }
        if !request.report.can_fence {
            return Err(NotGranted::CannotFence);
        }
        if !self.is_newest_state(request) {
            return Err(NotGranted::OlderState);
        }
        if let Lease::Bounded(lease) = terms.lease {
            if self.unbounded.remove(site) {
                // Its guard says that it has left the epoch without an end; only from now on it can be waited for.
                self.sites
                    .insert(site.clone(), Granted::just_before(now, self.longest));
            }
            let granted = self.granted(site);
            if granted.rests(now, lease) {
                return Err(NotGranted::Unheard);
            }
            let mut granted = granted;
            granted.note(Grantor::Controller, request, lease, now);
            self.sites.insert(site.clone(), granted);
        }
        Ok(Grant {
            epoch: terms.epoch,
            boot: request.report.boot,
            sent: request.sent,
            lease: terms.lease,
            by: Grantor::Controller,
            starts: None,
        })
    }

    /// Whether no lease that the controller ever granted to the site can still run.
    #[must_use]
    pub fn is_over(&self, site: &SiteName, now: Time) -> bool {
        self.left(site, now) == Some(Span::ZERO)
    }

    /// How long it takes until then, if nothing more is granted; none where the site may have a lease without an end.
    #[must_use]
    pub fn left(&self, site: &SiteName, now: Time) -> Option<Span> {
        let granted = self.granted(site);
        (!self.unbounded.contains(site)).then(|| granted.left(now))
    }

    /// The same so much earlier, for a model that tells states apart by ages; nothing is older than `oldest`.
    #[cfg(feature = "weakened")]
    pub fn rebase(&mut self, by: Span, oldest: Time) {
        self.began = self.began.before(by).max(oldest);
        for granted in self.sites.values_mut() {
            granted.rebase(by, oldest);
        }
    }

    fn granted(&self, site: &SiteName) -> Granted {
        let assumed = || Granted::just_before(self.began, self.longest);
        self.sites.get(site).copied().unwrap_or_else(assumed)
    }

    /// A guard whose state was set back counts fewer starts than it did in the same epoch.
    fn is_newest_state(&mut self, request: &LeaseRequest) -> bool {
        let report = &request.report;
        let Some(starts) = report.promise.as_ref().map(|p| p.starts) else {
            return false;
        };
        let seen = self
            .starts
            .entry(report.site.clone())
            .or_insert((request.epoch, starts));
        if seen.0 != request.epoch {
            *seen = (request.epoch, starts);
        }
        let is_newest = starts >= seen.1;
        seen.1 = seen.1.max(starts);
        is_newest
    }
}
