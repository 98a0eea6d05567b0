//! Rules of the protocol that may be broken on purpose: only builds with the feature `weakened` can.

use super::Machine;
#[cfg(feature = "weakened")]
use super::{Clocks, Until};
#[cfg(feature = "weakened")]
use crate::model::{guard::Lease, lease::Granted, span::Span, time::Time};

/// A rule that is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Weakness {
    /// The lease counts from the receipt of the grant, not from the sending of the request.
    LeaseFromReceipt,
    /// The guard takes a grant of an epoch below its promise.
    GrantBelowPromise,
    /// The acknowledgement goes out before the promise is on disk.
    AcknowledgedBeforeWritten,
    /// The database is started with no lease, because the disk says that the site is primary.
    PermitFromDisk,
    /// A promoted deputy does not wait for its own grants to end.
    DeputyDoesNotWait,
    /// A deputy that was started anew forgets that it may have granted just before.
    DeputyForgetsAtStart,
    /// A deputy goes on granting after it promised a later epoch.
    DeputyGrantsBelowPromise,
    /// A guard that lost its state grants and obeys as if it had never known anything.
    LostStateVotes,
    /// The end of a lease is told as an acknowledged fence.
    LapseAcknowledged,
    /// The database is promoted before the lease has come and the timer is armed.
    PromotedBeforeLease,
    /// A guard that was started anew believes that it still has a lease.
    LeaseKeptAtStart,
    /// An order of an epoch below the promise is obeyed.
    OldPromoteObeyed,
    /// A holder takes its lease to be longer than what was granted.
    LeaseLengthened,
}

#[cfg(feature = "weakened")]
impl Machine {
    /// Breaks one rule of the protocol, so that a model can show that it would catch it. Called at the guard's start.
    #[must_use]
    pub fn weakened(mut self, weakness: Option<Weakness>, now: Clocks) -> Self {
        self.weakness = weakness;
        if self.weak(Weakness::DeputyForgetsAtStart) {
            self.granted = Granted::just_before(Time::default(), Span::ZERO);
        }
        if self.weak(Weakness::LeaseKeptAtStart)
            && self.is_primary()
            && let Some(Lease::Bounded(lease)) = self.terms().map(|t| t.lease)
        {
            self.lease = Some(Until::At(now.holder.after(lease)));
        }
        self
    }

    pub(super) fn weak(&self, weakness: Weakness) -> bool {
        self.weakness == Some(weakness)
    }
}

#[cfg(not(feature = "weakened"))]
impl Machine {
    #[expect(clippy::unused_self, reason = "the build for tests asks the guard")]
    pub(super) fn weak(&self, _: Weakness) -> bool {
        false
    }
}
