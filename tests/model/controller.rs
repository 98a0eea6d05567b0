//! The controller: grants by the product's own code, and a journal that takes one new epoch after another.

use failover::{
    decide::grant::{Grants, Standing},
    model::{
        guard::{Grant, Lease, LeaseRequest, Terms},
        id::{Epoch, SiteName},
        span::Span,
        time::Time,
    },
};

use super::host::{HORIZON, NOW};

/// What the journal says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Journal {
    /// The terms of every epoch, the first one first.
    pub epochs: Vec<Terms>,
    /// A fence in favour of this epoch is done or pending at the site of the newest one.
    pub fencing: Option<Epoch>,
}

impl Journal {
    pub fn newest(&self) -> &Terms {
        self.epochs.last().expect("an epoch")
    }
}

/// A rule that the controller does not keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Blunder {
    /// A grant does not start the wait anew.
    WaitNotRestarted,
    /// It waits a unit less.
    WaitTooShort,
    /// A new leader assumes that nobody has a lease.
    NewLeaderAssumesNothing,
    /// A leader that was deposed while it was frozen grants without looking.
    DeposedGrants,
    /// A deposed leader's append is not compared with what is there.
    BlindAppend,
    /// It grants in an epoch that is over.
    GrantsOldEpoch,
    /// An acknowledgement of any epoch is taken for one of this.
    AnyAcknowledgement,
    /// A promotion that gave no answer is taken for one that did not happen.
    TimeoutIsFailure,
    /// The wait is kept by epoch, not by site.
    WaitByEpoch,
    /// A site that cannot be reached is taken for one that refused a write.
    UnreachableIsRefused,
    /// The lease without an end is forgotten when a bounded epoch is opened.
    SoloNotLeft,
    /// It is not waited for the bounded lease of a site that left its lease without an end.
    SoloLeftNoWait,
}

/// A process that leads, or believes so.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Leader {
    pub grants: Grants,
    /// The journal as it saw it last.
    pub seen: Journal,
    pub leads: bool,
}

impl Leader {
    pub fn new(journal: &Journal, lease: Span, blunder: Option<Blunder>) -> Self {
        let began = match blunder {
            Some(Blunder::NewLeaderAssumesNothing) => NOW.grantor.before(HORIZON),
            Some(_) | None => NOW.grantor,
        };
        let mut grants = Grants::new(began, lease);
        for terms in &journal.epochs {
            grants.opened(terms);
        }
        Self {
            grants,
            seen: journal.clone(),
            leads: true,
        }
    }

    /// Answers a request.
    pub fn grant(&mut self, request: &LeaseRequest, blunder: Option<Blunder>) -> Option<Grant> {
        let old = self.seen.epochs.iter().find(|t| t.epoch == request.epoch);
        let terms = match blunder {
            Some(Blunder::GrantsOldEpoch) => old?,
            Some(_) | None => self.seen.newest(),
        };
        let standing = Standing {
            terms,
            is_fencing: self.seen.fencing.is_some() && blunder != Some(Blunder::GrantsOldEpoch),
            leads: self.leads || blunder == Some(Blunder::DeposedGrants),
        };
        let before = self.grants.clone();
        let grant = self.grants.grant(standing, request, NOW.grantor).ok();
        match blunder {
            Some(Blunder::WaitNotRestarted) => self.grants = before,
            Some(Blunder::SoloLeftNoWait)
                if before.left(&request.report.site, NOW.grantor).is_none() =>
            {
                self.grants = Grants::new(NOW.grantor.before(HORIZON), Span::from_millis(2));
            }
            Some(_) | None => {}
        }
        grant
    }

    /// Whether every lease that it may have granted to a site is over.
    pub fn is_over(&self, site: &SiteName, blunder: Option<Blunder>) -> bool {
        match (self.grants.left(site, NOW.grantor), blunder) {
            (Some(left), Some(Blunder::WaitTooShort)) => left <= Span::from_millis(1),
            (Some(left), _) => left == Span::ZERO,
            (None, blunder) => blunder == Some(Blunder::SoloNotLeft),
        }
    }

    /// One unit of time passes.
    pub fn pass(&mut self) {
        let oldest = NOW.grantor.before(HORIZON);
        self.grants.rebase(Span::from_millis(1), oldest);
    }
}

/// The terms of an epoch.
pub fn terms(epoch: Epoch, site: &SiteName, other: &SiteName, lease: Lease) -> Terms {
    Terms {
        service: "shop".into(),
        epoch,
        site: site.clone(),
        lease,
        deputy: (lease != Lease::Unbounded).then(|| other.clone()),
    }
}

/// What nobody remembers.
pub const LONG_AGO: Time = Time::from_millis(-7);
