//! Probes: one look at one thing from one vantage point.

use std::sync::Arc;

use async_trait::async_trait;

use crate::model::{check::CheckItem, observation::Look, service::Via, span::Span};

/// From where and how long to look.
#[derive(Clone, Debug)]
pub struct LookContext {
    /// How the vantage point reaches out.
    pub via: Via,
    /// Time-out of this look.
    pub timeout: Span,
}

/// A probe. It must end within the time-out and never panics on what the other side sends.
#[async_trait]
pub trait Probe: Send + Sync {
    /// Looks once. A time-out, a refusal and a wrong answer are `Down`; what lies on the looker's own side
    /// (no route, own resolver gone, a credential that cannot be read) is `Unknown`.
    async fn look(&self, context: &LookContext) -> Look;

    /// Tries credentials and grants without changing anything, for `failover check`.
    async fn check(&self, _context: &LookContext) -> Vec<CheckItem> {
        Vec::new()
    }
}

/// A shared probe.
pub type SharedProbe = Arc<dyn Probe>;
