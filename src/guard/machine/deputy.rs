//! The deputy: grants leases of the other site's epoch, and remembers when it did.

use super::{Clocks, Effect, Job, Machine, Next, Weakness, Why};
use crate::model::{
    guard::{Grant, Grantor, Lease, LeaseRequest, Promise, Role, Terms},
    id::Epoch,
    lease,
    span::Span,
};

impl Machine {
    /// The other site's guard asks.
    pub(super) fn asked_by(
        &mut self,
        request: &LeaseRequest,
        terms: Option<Terms>,
        now: Clocks,
        effects: &mut Vec<Effect>,
    ) {
        let Some(promise) = self.promise.clone().or_else(|| self.imagined()) else {
            return;
        };
        let is_below = self.grants_below() && request.epoch < promise.epoch;
        if is_below || request.epoch == promise.epoch {
            self.grant(request, &promise, terms.as_ref(), now, effects);
        } else if request.epoch > promise.epoch
            && let Some(terms) = terms.filter(|t| self.is_deputy(t, request))
        {
            self.adopt(&promise, terms, effects);
        }
    }

    fn grant(
        &mut self,
        request: &LeaseRequest,
        promise: &Promise,
        shown: Option<&Terms>,
        now: Clocks,
        effects: &mut Vec<Effect>,
    ) {
        if self.job != Job::Idle && self.job != Job::Opening && !self.grants_below() {
            return;
        }
        let terms = promise.terms.clone().filter(|t| t.epoch == request.epoch);
        let Some(terms) = terms
            .or_else(|| shown.cloned())
            .filter(|t| self.is_deputy(t, request))
        else {
            return;
        };
        if promise.role == Role::Primary && !self.grants_below() {
            return;
        }
        if promise.longest < longest(&terms) && !self.grants_below() {
            // What it would have to wait for after a start is on disk before it grants.
            self.adopt(promise, terms, effects);
            return;
        }
        let Lease::Bounded(span) = terms.lease else {
            return;
        };
        let is_enforced = lease::is_enforced(request.report.kill, span);
        let may_hold = request.report.can_fence && is_enforced;
        let rests = self
            .granted
            .rests(Grantor::Deputy, request, span, now.grantor);
        if !may_hold || rests {
            return;
        }
        self.granted
            .note(Grantor::Deputy, request, span, now.grantor);
        effects.push(Effect::Grant(
            terms.site,
            Grant {
                epoch: request.epoch,
                boot: request.report.boot,
                sent: request.sent,
                lease: terms.lease,
                by: Grantor::Deputy,
                starts: self.starts(),
            },
        ));
    }

    fn is_deputy(&self, terms: &Terms, request: &LeaseRequest) -> bool {
        terms.epoch == request.epoch
            && terms.site == request.report.site
            && terms.deputy.as_ref() == Some(&self.site)
    }

    /// Promises the epoch that it was shown; what it was itself primary of ends before.
    fn adopt(&mut self, promise: &Promise, terms: Terms, effects: &mut Vec<Effect>) {
        let role = match promise.role {
            Role::Standby => Role::Standby,
            Role::Primary | Role::Fenced => Role::Fenced,
        };
        let next = Promise {
            epoch: terms.epoch,
            role,
            longest: promise.longest.max(longest(&terms)),
            starts: promise.starts,
            terms: Some(terms),
        };
        self.turn_to(
            Next {
                promise: next,
                why: Why::Shown,
            },
            effects,
        );
    }

    /// What a guard without state would promise if it voted all the same.
    fn imagined(&self) -> Option<Promise> {
        self.weak(Weakness::LostStateVotes).then(Promise::first)
    }

    fn grants_below(&self) -> bool {
        self.weak(Weakness::DeputyGrantsBelowPromise)
    }
}

fn longest(terms: &Terms) -> Span {
    match terms.lease {
        Lease::Bounded(lease) => lease,
        Lease::Unbounded => Span::ZERO,
    }
}

/// The promise that follows a fence in favour of this epoch.
pub(super) fn fenced(promise: &Promise, epoch: Epoch) -> Promise {
    Promise {
        epoch,
        role: match promise.role {
            Role::Standby => Role::Standby,
            Role::Primary | Role::Fenced => Role::Fenced,
        },
        terms: None,
        longest: promise.longest,
        starts: promise.starts,
    }
}
