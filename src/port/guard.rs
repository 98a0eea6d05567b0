//! The guards of a service's databases, as adapters reach them through the controller.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::model::{
    action::ActState,
    guard::{FenceAck, Report, Terms},
    id::{ActionName, Attempt, Epoch, IdempotencyKey, SiteName},
    span::Span,
    time::Time,
};

/// What a guard said last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// What it said.
    pub report: Report,
    /// How long ago.
    pub age: Span,
    /// When it was said, on the guard's own clock.
    pub said: Time,
}

/// What a guard is told or asked. It is said once and may be lost: whoever wants it done says it until it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Say how the site stands.
    Look,
    /// Stop writing for good, in favour of this epoch.
    Fence(Epoch),
    /// The same, but only where the database is stopped in order.
    FenceDrained(Epoch),
    /// Stop the database in order and leave it so for this long; nothing ends it.
    Drain(Span),
    /// Bring the data into line with the site that serves.
    Resync,
    /// Become the primary of the journal's newest epoch.
    Promote {
        /// Whether the old site's guard acknowledged its fence.
        acknowledged: bool,
    },
}

/// What a guard is asked of an action that its own document names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// To run it.
    Run {
        /// Which attempt.
        attempt: Attempt,
        /// The epoch that the effect carries.
        epoch: Epoch,
    },
    /// What became of it.
    Recall,
}

/// What a guard said of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acted {
    /// What became of it.
    pub state: ActState,
    /// How long ago.
    pub age: Span,
}

/// The guards of a service.
#[async_trait]
pub trait Guards: Send + Sync {
    /// What the guard of a site said last; none where this process never heard it.
    fn heard(&self, site: &SiteName) -> Option<Heard>;

    /// The same where it was said no longer ago than this.
    fn heard_within(&self, site: &SiteName, within: Span) -> Option<Report> {
        let heard = self.heard(site).filter(|h| h.age < within)?;
        Some(heard.report)
    }

    /// The newest fence that the guard of a site acknowledged to this process.
    fn acknowledged(&self, site: &SiteName) -> Option<FenceAck>;

    /// How long until no lease that the controller granted to the site can still run; none where that cannot be told.
    fn left(&self, site: &SiteName) -> Option<Span>;

    /// The terms of the journal's newest epoch.
    fn terms(&self) -> Option<Terms>;

    /// Says something to the guard of a site.
    fn order(&self, site: &SiteName, order: Order);

    /// Asks something of the guard of a site about an action. It is said once and may be lost.
    fn act(&self, site: &SiteName, action: &ActionName, key: &IdempotencyKey, act: Act);

    /// What the guard of a site said last of an action; none where this process never heard of it.
    fn acted(&self, site: &SiteName, key: &IdempotencyKey) -> Option<Acted>;

    /// Returns when one of them says something, and after so long in any case.
    async fn news(&self, within: Duration);
}

/// Time between two orders of the same.
pub const AGAIN: Span = Span::from_millis(100);

/// When to say something again: not at every news, since an answer is news itself and would call for the next order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    next: Option<Time>,
}

impl Pace {
    /// Whether it is time; then the next time is [`AGAIN`] later.
    pub fn is_due(&mut self, now: Time) -> bool {
        let is_due = self.next.is_none_or(|at| now >= at);
        if is_due {
            self.next = Some(now.after(AGAIN));
        }
        is_due
    }
}

/// Shared guards.
pub type SharedGuards = Arc<dyn Guards>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_do_not_have_an_order_said_again_before_its_time() {
        let mut pace = Pace::default();
        let at = |ms| Time::from_millis(5_000).after(Span::from_millis(ms));
        let said: Vec<_> = (0..300).filter(|ms| pace.is_due(at(*ms))).collect();
        assert_eq!(said, [0, 100, 200]);
    }
}
