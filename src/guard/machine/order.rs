//! Orders of the controller: fence, promote. An order of the past changes nothing; a repeat is answered again.

use super::{Clocks, Effect, Job, Machine, Next, Weakness, Why, deputy};
use crate::model::{
    guard::{
        Boot, Database, FenceAck, FenceOrder, Lease, Promise, PromoteOrder, Resync, Role, Starts,
    },
    id::Epoch,
    lease::{self, LONGEST},
    observation::Lsn,
    span::Span,
};

/// What could not be ended is ended again after this.
const AGAIN: Span = Span::from_secs(1);

impl Machine {
    /// Stops writing for good, in favour of a later epoch.
    pub(super) fn fence(&mut self, order: &FenceOrder, effects: &mut Vec<Effect>) {
        let Some(before) = self.before(order.epoch, order.boot) else {
            return;
        };
        let stopped = self.is_drained();
        let is_repeated = before.epoch == order.epoch && self.promise.is_some();
        if order.drained && stopped.is_none() && !is_repeated {
            return;
        }
        if before.epoch == order.epoch && self.promise.is_some() {
            // Done already: said again, in case that nobody heard it.
            if self.job == Job::Idle || self.job == Job::Opening {
                effects.push(Effect::Acknowledge(self.acknowledgement(order.epoch)));
            }
            return;
        }
        let next = Next {
            promise: deputy::fenced(&before, order.epoch),
            why: Why::Fence,
        };
        self.break_off(effects);
        self.turn_to(next, effects);
    }

    /// Becomes the primary of a later epoch.
    pub(super) fn promote(&mut self, order: PromoteOrder, effects: &mut Vec<Effect>) {
        // A lease that nobody would enforce is none.
        let is_kept = match order.terms.lease {
            Lease::Bounded(lease) => lease::is_enforced(self.kill, lease),
            Lease::Unbounded => true,
        };
        if order.terms.site != self.site || !is_kept {
            return;
        }
        let Some(before) = self.before(order.terms.epoch, order.boot) else {
            return;
        };
        // Nobody may write to data that is neither old nor new: only a resync makes it whole.
        if self.resync == Some(Resync::HalfDone) {
            return;
        }
        let known = before.terms.as_ref();
        if known.is_some_and(|t| t.epoch == order.terms.epoch && *t != order.terms) {
            // An epoch never changes.
            return;
        }
        let next = Next {
            promise: Promise {
                epoch: order.terms.epoch,
                role: Role::Primary,
                longest: before.longest,
                starts: before.starts,
                terms: Some(order.terms),
            },
            why: Why::Promote {
                acknowledged: order.acknowledged,
            },
        };
        match self.job {
            Job::Idle | Job::Opening => {
                self.job = Job::Writing(next.clone());
                effects.push(Effect::Write(next.promise));
            }
            // The controller says it again.
            Job::Resyncing => self.break_off(effects),
            Job::Emptying(_) | Job::Draining | Job::Writing(_) | Job::Broken => {}
        }
    }

    /// What waits for a site that may not answer any more gives way; the controller says its order again.
    fn break_off(&self, effects: &mut Vec<Effect>) {
        if self.job == Job::Resyncing {
            effects.push(Effect::BreakOff);
        }
    }

    /// What an order of this epoch finds; none where the order is of the past, or nothing can be promised.
    fn before(&self, epoch: Epoch, boot: Option<Boot>) -> Option<Promise> {
        let Some(promise) = &self.promise else {
            // Without state only an order counts that was given in this life of the guard.
            let is_new = boot == Some(self.boot) || self.weak(Weakness::LostStateVotes);
            return is_new.then(|| Promise {
                role: Role::Fenced,
                starts: Starts(1),
                longest: LONGEST,
                ..Promise::first()
            });
        };
        let is_later = epoch > promise.epoch
            || epoch == promise.epoch && promise.role != Role::Primary
            || self.weak(Weakness::OldPromoteObeyed) && promise.role != Role::Primary;
        is_later.then(|| promise.clone())
    }

    /// Ends what may write, then promises.
    pub(super) fn turn_to(&mut self, next: Next, effects: &mut Vec<Effect>) {
        match &self.job {
            Job::Broken | Job::Writing(_) | Job::Resyncing => return,
            Job::Emptying(Some(under_way)) if under_way.promise.epoch >= next.promise.epoch => {
                return;
            }
            Job::Emptying(_) => {
                self.job = Job::Emptying(Some(next));
                return;
            }
            Job::Idle | Job::Opening | Job::Draining => {}
        }
        self.lease = None;
        let is_harmless = self.job == Job::Idle
            && !self.is_primary()
            && matches!(self.database, Some(Database::Gone | Database::Following));
        if is_harmless {
            effects.push(Effect::Write(next.promise.clone()));
            self.job = Job::Writing(next);
        } else {
            effects.push(Effect::Empty);
            self.job = Job::Emptying(Some(next));
        }
    }

    /// No process of the database is left.
    pub(super) fn emptied(&mut self, lsn: Option<Lsn>, effects: &mut Vec<Effect>) {
        self.database = Some(Database::Gone);
        self.answers = false;
        self.armed = None;
        self.is_stuck = false;
        self.ends_again = None;
        self.lsn = lsn.or_else(|| self.drained.take().and_then(|d| d.lsn));
        let Job::Emptying(next) = std::mem::replace(&mut self.job, Job::Idle) else {
            return;
        };
        if let Some(next) = next {
            if self.weak(Weakness::AcknowledgedBeforeWritten) {
                effects.push(Effect::Acknowledge(
                    self.acknowledgement(next.promise.epoch),
                ));
            }
            effects.push(Effect::Write(next.promise.clone()));
            self.job = Job::Writing(next);
        } else {
            self.lapsed(effects);
        }
    }

    /// A process that the kernel cannot end yet, in stuck IO say: nothing is asked for or acknowledged until it is gone.
    pub(super) fn not_emptied(&mut self, now: Clocks) {
        if matches!(self.job, Job::Emptying(_)) {
            self.is_stuck = true;
            self.lease = None;
            self.ends_again = Some(now.holder.after(AGAIN));
        }
    }

    /// Ends once more what could not be ended.
    pub(super) fn end_again(&mut self, now: Clocks, effects: &mut Vec<Effect>) {
        let is_due = self.is_stuck && self.ends_again.is_some_and(|at| now.holder >= at);
        if is_due && matches!(self.job, Job::Emptying(_)) {
            self.ends_again = None;
            effects.push(Effect::Empty);
        }
    }

    /// What was to be promised is on disk.
    pub(super) fn written(&mut self, now: Clocks, effects: &mut Vec<Effect>) {
        let Job::Writing(next) = std::mem::replace(&mut self.job, Job::Idle) else {
            return;
        };
        self.promise = Some(next.promise);
        match next.why {
            Why::Fence => {
                let epoch = self.epoch().unwrap_or_default();
                effects.push(Effect::Acknowledge(self.acknowledgement(epoch)));
            }
            Why::Shown => {}
            Why::Promote { acknowledged } => {
                self.resync = None;
                self.acknowledged = acknowledged;
                self.asked = None;
                self.bound(now, effects);
            }
        }
    }

    fn acknowledgement(&self, epoch: Epoch) -> FenceAck {
        FenceAck {
            site: self.site.clone(),
            epoch,
            lsn: self.lsn,
        }
    }

    /// A lease ran out: that promises nothing.
    fn lapsed(&self, effects: &mut Vec<Effect>) {
        if self.weak(Weakness::LapseAcknowledged) {
            let epoch = self.epoch().unwrap_or_default().next();
            effects.push(Effect::Acknowledge(self.acknowledgement(epoch)));
        }
    }
}
