//! Lookouts: one look at one thing from every vantage point of a service, on demand.

use std::sync::Arc;

use async_trait::async_trait;

use crate::model::{
    id::{NetworkName, VantageName},
    observation::Look,
    plan::Uses,
    span::Span,
};

/// What one vantage point saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Who looked.
    pub vantage: VantageName,
    /// From which network.
    pub network: NetworkName,
    /// What was seen.
    pub look: Look,
}

/// The vantage points of a service.
#[async_trait]
pub trait Lookouts: Send + Sync {
    /// Looks once through this probe from every vantage point at the same time. A probe that cannot be made is
    /// Unknown everywhere.
    async fn look(&self, probe: &Uses, timeout: Span) -> Vec<Sighting>;
}

/// Shared lookouts.
pub type SharedLookouts = Arc<dyn Lookouts>;
