//! The guards of a service's databases, as adapters reach them through the controller.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::model::{
    guard::{FenceAck, Report, Terms},
    id::{Epoch, SiteName},
    span::Span,
};

/// What a guard said last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// What it said.
    pub report: Report,
    /// How long ago.
    pub age: Span,
}

/// What a guard is told or asked. It is said once and may be lost: whoever wants it done says it until it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Say how the site stands.
    Look,
    /// Stop writing for good, in favour of this epoch.
    Fence(Epoch),
    /// Become the primary of the journal's newest epoch.
    Promote {
        /// Whether the old site's guard acknowledged its fence.
        acknowledged: bool,
    },
}

/// The guards of a service.
#[async_trait]
pub trait Guards: Send + Sync {
    /// What the guard of a site said last; none where this process never heard it.
    fn heard(&self, site: &SiteName) -> Option<Heard>;

    /// The newest fence that the guard of a site acknowledged to this process.
    fn acknowledged(&self, site: &SiteName) -> Option<FenceAck>;

    /// How long until no lease that the controller granted to the site can still run; none where that cannot be told.
    fn left(&self, site: &SiteName) -> Option<Span>;

    /// The terms of the journal's newest epoch.
    fn terms(&self) -> Option<Terms>;

    /// Says something to the guard of a site.
    fn order(&self, site: &SiteName, order: Order);

    /// Returns when one of them says something, and after so long in any case.
    async fn news(&self, within: Duration);
}

/// Shared guards.
pub type SharedGuards = Arc<dyn Guards>;
