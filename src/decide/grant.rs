//! Leases: when the controller grants one to a site's guard, and when it is sure that none runs any more.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    guard::{Grant, Grantor, Lease, LeaseRequest, Starts, Terms},
    id::{Epoch, SiteName},
    lease::{self, Granted},
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
    /// Its kernel was not seen to end a database at its time, or takes too long for a lease so short.
    NotEnforced,
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

    /// The site may write without an end, whatever anybody grants.
    pub fn endless(&mut self, site: SiteName) {
        self.unbounded.insert(site);
    }

    /// The site has no lease without an end any more: its guard acknowledged a fence.
    pub fn left_endless(&mut self, site: &SiteName) {
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
            if !lease::is_enforced(request.report.kill, lease) {
                return Err(NotGranted::NotEnforced);
            }
            if self.unbounded.remove(site) {
                // Its guard says that it has left the epoch without an end; only from now on it can be waited for.
                self.sites
                    .insert(site.clone(), Granted::just_before(now, self.longest));
            }
            let mut granted = self.granted(site);
            if granted.rests(Grantor::Controller, request, lease, now) {
                return Err(NotGranted::Unheard);
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        guard::{Boot, FirstHand, Promise, Report, Role},
        lease::wait,
    };

    const LEASE: Span = Span::from_millis(1_000);

    fn terms(epoch: u64, lease: Lease) -> Terms {
        Terms {
            service: "shop".into(),
            epoch: Epoch(epoch),
            site: "a".into(),
            lease,
            deputy: Some("b".into()),
        }
    }

    fn request(epoch: u64, at: Time, starts: u64) -> LeaseRequest {
        LeaseRequest {
            epoch: Epoch(epoch),
            sent: at,
            heard: [(Grantor::Controller, at)].into(),
            report: Report {
                site: "a".into(),
                boot: Boot(1),
                promise: Some(Promise {
                    epoch: Epoch(epoch),
                    role: Role::Primary,
                    starts: Starts(starts),
                    ..Promise::first()
                }),
                database: None,
                answers: false,
                seen: FirstHand::default(),
                can_fence: true,
                kill: Some(Span::ZERO),
                drained: None,
                resync: None,
                leased: true,
            },
        }
    }

    fn standing(terms: &Terms) -> Standing<'_> {
        Standing {
            terms,
            is_fencing: false,
            leads: true,
        }
    }

    fn at(ms: u64) -> Time {
        Time::from_millis(1_000_000).after(Span::from_millis(ms))
    }

    #[test]
    fn a_new_leader_waits_as_if_it_had_granted_just_before() {
        let grants = Grants::new(at(0), LEASE);
        let whole = wait(LEASE).as_millis();
        assert!(!grants.is_over(&"a".into(), at(whole - 1)));
        assert!(grants.is_over(&"a".into(), at(whole)));
    }

    #[test]
    fn each_grant_starts_the_wait_anew() {
        let terms = terms(1, Lease::Bounded(LEASE));
        let mut grants = Grants::new(at(0), LEASE);
        let granted = grants.grant(standing(&terms), &request(1, at(900), 1), at(900));
        assert_eq!(granted.unwrap().lease, terms.lease);
        let whole = wait(LEASE);
        assert_eq!(grants.left(&"a".into(), at(900)), Some(whole));
        assert!(grants.is_over(&"a".into(), at(900).after(whole)));
    }

    #[test]
    fn says_why_it_does_not_grant() {
        let terms = terms(2, Lease::Bounded(LEASE));
        let well = standing(&terms);
        let mut grants = Grants::new(at(0), LEASE);
        let mut ask =
            |standing, request: &LeaseRequest| grants.grant(standing, request, at(10)).map(|_| ());
        let newest = request(2, at(10), 5);
        assert_eq!(
            ask(
                Standing {
                    leads: false,
                    ..well
                },
                &newest
            ),
            Err(NotGranted::NotLeading)
        );
        assert_eq!(
            ask(
                Standing {
                    is_fencing: true,
                    ..well
                },
                &newest
            ),
            Err(NotGranted::Fencing)
        );
        assert_eq!(
            ask(well, &request(1, at(10), 5)),
            Err(NotGranted::OtherEpoch)
        );
        let mut stuck = newest.clone();
        stuck.report.can_fence = false;
        assert_eq!(ask(well, &stuck), Err(NotGranted::CannotFence));
        let mut loose = newest.clone();
        loose.report.kill = None;
        assert_eq!(ask(well, &loose), Err(NotGranted::NotEnforced));
        assert_eq!(ask(well, &newest), Ok(()));
        assert_eq!(
            ask(well, &request(2, at(10), 4)),
            Err(NotGranted::OlderState)
        );
    }

    #[test]
    fn a_lease_without_an_end_is_left_by_the_guard_itself_and_then_waited_for() {
        let site = "a".into();
        let mut grants = Grants::new(at(0), LEASE);
        let (solo, bounded) = (terms(1, Lease::Unbounded), terms(2, Lease::Bounded(LEASE)));
        grants.opened(&solo);
        assert_eq!(grants.left(&site, at(1_000_000)), None);
        grants.opened(&bounded);
        assert_eq!(
            grants.left(&site, at(1_000_000)),
            None,
            "nobody told the guard"
        );
        let granted = grants.grant(standing(&bounded), &request(2, at(9_000), 1), at(9_000));
        assert!(granted.is_ok());
        assert_eq!(grants.left(&site, at(9_000)), Some(wait(LEASE)));
    }

    #[test]
    fn rests_where_its_grants_do_not_arrive() {
        let terms = terms(1, Lease::Bounded(LEASE));
        let mut grants = Grants::new(at(0), LEASE);
        let mut ask = |ms: u64| {
            let mut request = request(1, at(ms), 1);
            request.heard.clear();
            grants.grant(standing(&terms), &request, at(ms)).map(|_| ())
        };
        assert_eq!(ask(0), Ok(()));
        assert_eq!(ask(1_000), Ok(()));
        assert_eq!(ask(1_100), Err(NotGranted::Unheard));
        let whole = wait(LEASE).as_millis();
        assert_eq!(
            ask(1_000 + whole),
            Err(NotGranted::Unheard),
            "long enough for a fence"
        );
        assert_eq!(ask(1_000 + 2 * whole), Ok(()), "and then again");
    }

    #[test]
    fn rests_no_longer_once_a_grant_arrives() {
        let terms = terms(1, Lease::Bounded(LEASE));
        let mut grants = Grants::new(at(0), LEASE);
        let mut ask = |boot: u64, sent: u64, heard: u64, now: u64| {
            let mut request = request(1, at(sent), 1);
            request.heard = [(Grantor::Controller, at(heard))].into();
            request.report.boot = Boot(boot);
            grants
                .grant(standing(&terms), &request, at(now))
                .map(|_| ())
        };
        assert_eq!(ask(1, 100, 0, 100), Ok(()));
        // That one was lost, and everything until now.
        assert_eq!(ask(1, 9_000, 0, 9_000), Ok(()));
        assert_eq!(ask(1, 9_100, 9_000, 9_100), Ok(()));
        assert_eq!(ask(1, 9_200, 9_100, 9_200), Ok(()));
        // Nobody heard the last one, for the host went down: its clock begins anew.
        assert_eq!(ask(2, 10, 0, 12_000), Ok(()));
        assert_eq!(ask(2, 20, 10, 12_010), Ok(()));
        assert_eq!(ask(2, 1_500, 20, 13_500), Ok(()));
    }
}
