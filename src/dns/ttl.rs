//! The TTL ahead of need: lowered while all is well, so that a failover is seen soon, and raised again.
//!
//! In two parts, because the journal announces a change before it is made: first what would be changed, then the
//! change itself, which is a swap of the same values and therefore refused where somebody else changed them.

use super::repoint::wanted_ttl;
use crate::{
    model::service::{Dns, RecordKind},
    port::dns::{RecordSet, SharedDns, Swap},
};

/// A TTL that can be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TtlChange {
    /// The record's name.
    pub name: String,
    /// Its type.
    pub kind: RecordKind,
    /// What stands there now.
    pub found: RecordSet,
    /// The TTL that it gets, in seconds.
    pub to: u32,
}

impl TtlChange {
    /// Name and type: the A and the AAAA record of one name have TTLs of their own.
    #[must_use]
    pub fn record(&self) -> String {
        format!("{} {}", self.name, self.kind)
    }
}

/// Why a TTL is not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TtlError {
    /// It cannot be read.
    #[error("the TTL of {record} cannot be read: {reason}")]
    Read {
        /// Which record.
        record: String,
        /// Why.
        reason: String,
    },
    /// It was not changed.
    #[error("the TTL of {record} was not changed: {reason}")]
    Refused {
        /// Which record.
        record: String,
        /// Why.
        reason: String,
    },
    /// It may have been changed.
    #[error("the TTL of {record} may have been changed: {reason}")]
    Unknown {
        /// Which record.
        record: String,
        /// Why.
        reason: String,
    },
}

/// The records whose TTL is longer than the document wants it (or than the provider's shortest, where that is
/// longer). A record that does not exist has no TTL.
pub async fn to_lower(dns: &Dns, provider: &SharedDns) -> Vec<Result<TtlChange, TtlError>> {
    let wanted = wanted_ttl(dns, provider);
    found(dns, provider, wanted, |ttl| ttl > wanted).await
}

/// The records whose TTL is shorter than `to` seconds.
pub async fn to_raise(
    dns: &Dns,
    provider: &SharedDns,
    to: u32,
) -> Vec<Result<TtlChange, TtlError>> {
    let to = to.max(provider.shortest_ttl());
    found(dns, provider, to, |ttl| ttl < to).await
}

async fn found(
    dns: &Dns,
    provider: &SharedDns,
    to: u32,
    differs: impl Fn(u32) -> bool,
) -> Vec<Result<TtlChange, TtlError>> {
    let mut changes = Vec::new();
    for record in &dns.records {
        match provider.read(&record.name, record.kind).await {
            Ok(found) if !found.values.is_empty() && differs(found.ttl) => {
                // Behind a proxy the TTL is the proxy's own.
                if provider.fronted(&record.name, record.kind).await.is_none() {
                    changes.push(Ok(TtlChange {
                        name: record.name.clone(),
                        kind: record.kind,
                        found,
                        to,
                    }));
                }
            }
            Ok(_) => {}
            Err(e) => changes.push(Err(TtlError::Read {
                record: format!("{} {}", record.name, record.kind),
                reason: e.reason,
            })),
        }
    }
    changes
}

/// Makes one change; the values stay as they were read.
///
/// # Errors
/// Where it was not made, or that is not known.
pub async fn make(provider: &SharedDns, change: &TtlChange) -> Result<(), TtlError> {
    let want = RecordSet {
        values: change.found.values.clone(),
        ttl: change.to,
    };
    let record = change.record();
    match provider
        .swap(&change.name, change.kind, &change.found, &want)
        .await
    {
        Swap::Done => Ok(()),
        Swap::Conflict { found } => Err(TtlError::Refused {
            record,
            reason: format!(
                "its values were changed meanwhile: {}",
                super::rrset::described(&found)
            ),
        }),
        Swap::Refused { reason } => Err(TtlError::Refused { record, reason }),
        Swap::Unknown { reason } => Err(TtlError::Unknown { record, reason }),
    }
}
