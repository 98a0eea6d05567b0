//! DNS providers: read a record set, and swap it for another if it still is what was read.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::model::{check::CheckItem, service::RecordKind, span::Span};

/// A record set: values in presentation form (addresses, or one absolute name) and TTL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordSet {
    /// Values, order without meaning.
    pub values: BTreeSet<String>,
    /// TTL in seconds; 0 where there are no values.
    pub ttl: u32,
}

/// What a swap came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swap {
    /// The provider holds the wanted set.
    Done,
    /// The set was no longer what was expected; nothing was changed.
    Conflict {
        /// What stands there.
        found: RecordSet,
    },
    /// Refused; nothing was changed.
    Refused {
        /// In plain words, without secrets.
        reason: String,
    },
    /// It may or may not have happened.
    Unknown {
        /// In plain words, without secrets.
        reason: String,
    },
}

/// Why a provider could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ReadError {
    /// In plain words, without secrets.
    pub reason: String,
}

/// A place where a zone is kept.
#[async_trait]
pub trait DnsProvider: Send + Sync {
    /// What the provider holds for this name and type now; an empty set where it holds nothing.
    ///
    /// # Errors
    /// Where the provider cannot be asked.
    async fn read(&self, name: &str, kind: RecordKind) -> Result<RecordSet, ReadError>;

    /// Puts `want` in the place of `expect`, and touches nothing else in the zone.
    async fn swap(
        &self,
        name: &str,
        kind: RecordKind,
        expect: &RecordSet,
        want: &RecordSet,
    ) -> Swap;

    /// The shortest TTL in seconds that the provider accepts.
    fn shortest_ttl(&self) -> u32 {
        1
    }

    /// How long the zone's servers may take until they give what the provider holds: until they do, a change is not in
    /// effect. Zero where the provider is who serves the zone.
    fn propagation(&self) -> Span {
        Span::ZERO
    }

    /// What has to happen before the zone's servers can give what the provider holds, in plain words; none where nothing
    /// is known to be missing.
    async fn outstanding(&self) -> Option<String> {
        None
    }

    /// Why resolvers see something else than what the provider holds for this name, where that is by design (a proxy
    /// stands in front); `None` where they see what it holds.
    async fn fronted(&self, _name: &str, _kind: RecordKind) -> Option<String> {
        None
    }

    /// Tries credentials and grants without changing anything, for `failover check`.
    async fn check(&self, name: &str, kind: RecordKind) -> Vec<CheckItem>;
}

/// A shared provider.
pub type SharedDns = Arc<dyn DnsProvider>;
