//! The holder: asks for a lease for its own site, and opens the database only under one.

use super::{Clocks, Effect, Job, Machine, Until, Weakness};
use crate::model::{
    guard::{Database, Grant, Grantor, Lease, LeaseRequest, Role, Starts},
    lease::kill_margin,
    span::Span,
    time::Time,
};

impl Machine {
    /// Asks where it is time: only a primary that could be fenced may write.
    pub(super) fn ask(&mut self, now: Clocks, effects: &mut Vec<Effect>) {
        let is_due = self
            .asked
            .is_none_or(|at| now.holder >= at.after(self.renewal));
        let may_ask = match self.job {
            Job::Idle | Job::Opening | Job::Draining => true,
            Job::Emptying(None) => !self.is_stuck,
            Job::Emptying(Some(_)) | Job::Resyncing | Job::Writing(_) | Job::Broken => false,
        };
        let Some(epoch) = self
            .epoch()
            .filter(|_| is_due && may_ask && self.is_primary())
        else {
            return;
        };
        if !self.is_bounded_in_deed() {
            return;
        }
        self.asked = Some(now.holder);
        effects.push(Effect::Ask(LeaseRequest {
            epoch,
            sent: now.holder,
            heard: self.heard.clone(),
            report: self.report().brief(),
        }));
    }

    /// Whoever grants a lease that ends takes the request for word that nothing writes without an end: it is not sent
    /// before the kernel's timer is set where the database writes.
    fn is_bounded_in_deed(&self) -> bool {
        let is_bounded = self.terms().is_some_and(|t| t.lease != Lease::Unbounded);
        match self.database {
            Some(Database::Writable) if is_bounded => matches!(self.armed, Some(Until::At(_))),
            None if is_bounded => false,
            Some(Database::Writable | Database::Following | Database::Gone) | None => true,
        }
    }

    /// A grant moves the end of the lease, never back.
    pub(super) fn granted_by(&mut self, grant: &Grant, now: Clocks, effects: &mut Vec<Effect>) {
        if !self.is_mine(grant, now) {
            return;
        }
        if self.weak(Weakness::GrantBelowPromise)
            && let Some(promise) = &mut self.promise
        {
            promise.epoch = grant.epoch;
            promise.role = Role::Primary;
        }
        let heard = self.heard.entry(grant.by).or_insert(grant.sent);
        *heard = (*heard).max(grant.sent);
        if let (Grantor::Deputy, Some(starts)) = (grant.by, grant.starts) {
            self.deputy_starts = Some((grant.epoch, starts));
        }
        let until = self.end_of(grant, now);
        if until.is_over(now) || self.lease.is_some_and(|lease| lease >= until) {
            return;
        }
        self.lease = Some(until);
        match (self.database, &self.job) {
            // What takes long to open would else be killed at the end of the lease that it was begun under.
            (Some(Database::Writable), _) | (_, Job::Opening) => effects.push(Effect::Arm(until)),
            // A timer that a life before set, or a promotion in vain, goes on until the promotion that is still to come.
            (Some(Database::Following), Job::Idle) if self.armed.is_some() => {
                effects.push(Effect::Arm(until));
            }
            // Armed before it is opened.
            (
                Some(Database::Gone | Database::Following) | None,
                Job::Idle
                | Job::Emptying(_)
                | Job::Draining
                | Job::Resyncing
                | Job::Writing(_)
                | Job::Broken,
            ) => {}
        }
    }

    fn end_of(&self, grant: &Grant, now: Clocks) -> Until {
        let from = if self.weak(Weakness::LeaseFromReceipt) {
            now.holder
        } else {
            grant.sent
        };
        match grant.lease {
            Lease::Unbounded => Until::Never,
            Lease::Bounded(lease) => Until::At(end(from, self.held(lease))),
        }
    }

    fn held(&self, lease: Span) -> Span {
        if self.weak(Weakness::LeaseLengthened) {
            return lease.saturating_mul(2);
        }
        lease
    }

    /// Whether a grant is for this life of this guard, in the epoch that it is primary of.
    fn is_mine(&self, grant: &Grant, now: Clocks) -> bool {
        if self.weak(Weakness::GrantBelowPromise) && Some(grant.epoch) <= self.epoch() {
            return true;
        }
        let is_under_way = match self.job {
            Job::Idle | Job::Opening | Job::Draining => true,
            Job::Emptying(None) => !self.is_stuck,
            Job::Emptying(Some(_)) | Job::Resyncing | Job::Writing(_) | Job::Broken => false,
        };
        let is_asked = grant.boot == self.boot && grant.sent <= now.holder;
        // A deputy whose state is an older one may have forgotten a promise.
        let is_older = match (self.deputy_starts, grant.by) {
            (Some((epoch, seen)), Grantor::Deputy) => {
                epoch == grant.epoch && grant.starts < Some(seen)
            }
            (None, _) | (_, Grantor::Controller) => false,
        };
        is_under_way
            && is_asked
            && !is_older
            && self.is_primary()
            && self.epoch() == Some(grant.epoch)
    }

    /// Lets the database write where everything allows it.
    pub(super) fn open(&mut self, now: Clocks, effects: &mut Vec<Effect>) {
        let is_time = self.again.is_none_or(|at| now.holder >= at);
        let (Job::Idle, true, Some(database)) = (&self.job, is_time, self.database) else {
            return;
        };
        match (self.role(), database) {
            (Some(Role::Standby), Database::Gone) => {
                self.job = Job::Opening;
                effects.push(Effect::Follow);
            }
            // It was stopped in order, and stays so for a while.
            (Some(Role::Primary), Database::Gone) if self.drained.is_some() => {}
            (Some(Role::Primary), Database::Gone) => {
                if let Some(until) = self.permit(now) {
                    self.job = Job::Opening;
                    effects.push(Effect::Start(until));
                }
            }
            (Some(Role::Primary), Database::Following) => {
                let Some(until) = self.permit(now) else {
                    return;
                };
                if self.armed.is_some_and(|armed| !armed.is_over(now)) {
                    self.job = Job::Opening;
                    effects.push(Effect::Promote);
                } else {
                    effects.push(Effect::Arm(until));
                }
            }
            (Some(Role::Standby), Database::Following)
            | (Some(Role::Primary | Role::Standby), Database::Writable)
            | (Some(Role::Fenced) | None, _) => {}
        }
    }

    /// The right to write now: never from the disk alone.
    fn permit(&self, now: Clocks) -> Option<Until> {
        if self.weak(Weakness::PermitFromDisk) || self.weak(Weakness::PromotedBeforeLease) {
            return Some(self.lease.unwrap_or(Until::Never));
        }
        let waits = !self.acknowledged && !self.weak(Weakness::DeputyDoesNotWait);
        self.lease
            .filter(|_| !waits || self.granted.is_over(now.grantor))
    }
}

/// When the kernel's timer fires for a lease of this length that began then.
fn end(from: Time, lease: Span) -> Time {
    from.after(lease.saturating_sub(kill_margin(lease)))
}

impl Machine {
    /// The lease of an epoch that bounds what was unbounded runs from now.
    pub(super) fn bound(&mut self, now: Clocks, effects: &mut Vec<Effect>) {
        let Some(Lease::Bounded(lease)) = self.terms().map(|t| t.lease) else {
            return;
        };
        if self.lease == Some(Until::Never) {
            let until = Until::At(end(now.holder, lease));
            self.lease = Some(until);
            effects.push(Effect::Arm(until));
        }
    }

    /// How often it was started.
    pub(super) fn starts(&self) -> Option<Starts> {
        self.promise.as_ref().map(|p| p.starts)
    }
}
