//! The ledger: who was told what. It holds addresses and is kept apart from the journal's chain.

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::channel::Recipient;
use crate::model::{
    announcement::Tally,
    id::{ChannelName, IdempotencyKey, ServiceName},
    time::Time,
};

/// Where a message to one recipient stands.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Delivery {
    /// Not yet tried, or to be tried again.
    Queued,
    /// Handed to the other side, answer not yet recorded. After a restart this becomes `Unknown`, unless the
    /// channel can tell.
    Sending,
    /// Accepted.
    Sent,
    /// The answer was lost.
    Unknown,
    /// Refused for good.
    Failed,
    /// On the suppression list.
    Suppressed,
}

impl Delivery {
    /// Whether what became of it is known, or never will be.
    #[must_use]
    pub const fn is_settled(self) -> bool {
        match self {
            Self::Queued | Self::Sending => false,
            Self::Sent | Self::Unknown | Self::Failed | Self::Suppressed => true,
        }
    }
}

/// Names one message of one channel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mailing {
    /// The service.
    pub service: ServiceName,
    /// The announcement's id, or a page's id with its repeat.
    pub message: String,
    /// The channel.
    pub channel: ChannelName,
}

impl Mailing {
    /// The key of this message to one recipient; the recipient's address does not show in it.
    #[must_use]
    pub fn key(&self, to: &Recipient) -> IdempotencyKey {
        use sha2::{Digest, Sha256};
        let digest = Sha256::digest(to.0.as_bytes());
        IdempotencyKey::new(format!(
            "{}.{}.{}",
            self.message,
            self.channel,
            hex::encode(&digest[..8])
        ))
    }
}

/// Why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the ledger cannot be used")]
pub struct LedgerError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// The ledger. Each call is durable when it returns.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Adds the recipients of a mailing that it does not know yet, as `Queued` or `Suppressed`.
    async fn enqueue(
        &self,
        mailing: &Mailing,
        to: &[Recipient],
        at: Time,
    ) -> Result<(), LedgerError>;

    /// Recipients that are `Queued`, at most `most`.
    async fn queued(&self, mailing: &Mailing, most: usize) -> Result<Vec<Recipient>, LedgerError>;

    /// Recipients that are `Sending`: left behind by a crash.
    async fn interrupted(&self, mailing: &Mailing) -> Result<Vec<Recipient>, LedgerError>;

    /// Marks recipients. Marks of many workers may be gathered into one transaction.
    async fn mark(
        &self,
        mailing: &Mailing,
        marks: &[(Recipient, Delivery, String)],
        at: Time,
    ) -> Result<(), LedgerError>;

    /// How many stand where; `Sending` counts as queued.
    async fn tally(&self, mailing: &Mailing) -> Result<Tally, LedgerError>;

    /// Puts an address on the suppression list of a service's channels.
    async fn suppress(
        &self,
        service: &ServiceName,
        to: &Recipient,
        reason: &str,
        at: Time,
    ) -> Result<(), LedgerError>;

    /// Forgets the addresses of what was settled before this; tallies and the suppression list stay. Default: a ledger
    /// that keeps nothing on disk has nothing to forget.
    async fn forget(&self, _before: Time) -> Result<(), LedgerError> {
        Ok(())
    }

    /// When a channel's message was accepted last, whoever it was for. Default: a ledger that keeps nothing knows nothing.
    async fn last_sent(
        &self,
        _service: &ServiceName,
        _channel: &ChannelName,
    ) -> Result<Option<Time>, LedgerError> {
        Ok(None)
    }

    /// Whether an address is on the suppression list.
    async fn suppressed(&self, service: &ServiceName, to: &Recipient) -> Result<bool, LedgerError>;
}

/// A shared ledger.
pub type SharedLedger = Arc<dyn Ledger>;
