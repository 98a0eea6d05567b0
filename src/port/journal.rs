//! The journal's port: append after a known sequence, read back.

use std::sync::Arc;

use async_trait::async_trait;

use crate::model::{
    id::{Epoch, Seq, ServiceName},
    record::{Record, RecordBody},
    time::Time,
};

/// A record before the journal gives it its place.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The epoch in force.
    pub epoch: Epoch,
    /// Wall time.
    pub at: Time,
    /// What happened.
    pub body: RecordBody,
}

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk is full.
    #[error("the journal's disk is full: free space under {place}")]
    Full {
        /// Where the journal stands.
        place: String,
    },
    /// Somebody else appended.
    #[error("another writer appended to chain {chain} at sequence {seq}")]
    Conflict {
        /// The chain.
        chain: ServiceName,
        /// The sequence that is taken.
        seq: Seq,
    },
    /// Another process holds it.
    #[error("the journal {place} is in use by another controller")]
    Locked {
        /// Where the journal stands.
        place: String,
    },
    /// It was written by a newer version.
    #[error(
        "the journal has format {found}, this version knows up to {known}: use a newer failover"
    )]
    Newer {
        /// Format found.
        found: u32,
        /// Format known.
        known: u32,
    },
    /// A record is as it was written, and this version cannot read it.
    #[error(
        "record {seq} of chain {chain} was written by a version that knows more ({reason}): use that failover, or a newer one"
    )]
    Unread {
        /// The chain.
        chain: ServiceName,
        /// The record.
        seq: Seq,
        /// What cannot be read.
        reason: String,
    },
    /// The chain does not fit together.
    #[error("chain {chain} is broken at sequence {seq}: {reason}")]
    Broken {
        /// The chain.
        chain: ServiceName,
        /// Where.
        seq: Seq,
        /// How.
        reason: String,
    },
    /// Anything else.
    #[error("the journal {place} cannot be used")]
    Io {
        /// Where the journal stands.
        place: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A journal. An append is durable when it returns.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Appends after `after` (0: the chain is empty), all or none.
    ///
    /// # Errors
    /// `Conflict` where the chain's last sequence is not `after`; nothing was written on any error.
    async fn append(
        &self,
        chain: &ServiceName,
        after: Seq,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Record>, JournalError>;

    /// The records from `from` on, checked against the hash chain.
    ///
    /// # Errors
    /// `Broken` where the chain does not fit together.
    async fn read(&self, chain: &ServiceName, from: Seq) -> Result<Vec<Record>, JournalError>;

    /// The chains it holds.
    ///
    /// # Errors
    /// Where it cannot be read.
    async fn chains(&self) -> Result<Vec<ServiceName>, JournalError>;

    /// Commands by which a person finds out why it cannot be written, where it is known what it stands in.
    fn remedies(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Whether somebody else writes to a chain: what a process that was elected asks before it acts.
#[async_trait]
pub trait Rivals: Send + Sync {
    /// The first sequence behind `after` that another process wrote.
    ///
    /// # Errors
    /// Where that cannot be told.
    async fn overtaken(&self, chain: &ServiceName, after: Seq)
    -> Result<Option<Seq>, JournalError>;
}

/// A record as the bytes that were hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its place in the chain.
    pub seq: Seq,
    /// Canonical JSON of the record, without a line break.
    pub text: String,
    /// SHA-256 of `text` in lower-case hex, as the journal keeps it.
    pub hash: String,
}

/// A journal whose bytes can be had: what exports and copies are made of.
#[async_trait]
pub trait Lines: Send + Sync {
    /// At most `most` lines from `from` on, as they are kept, unchecked.
    ///
    /// # Errors
    /// Where the journal cannot be read.
    async fn lines(
        &self,
        chain: &ServiceName,
        from: Seq,
        most: usize,
    ) -> Result<Vec<Line>, JournalError>;

    /// The chains, each with its last sequence.
    ///
    /// # Errors
    /// Where the journal cannot be read.
    async fn heads(&self) -> Result<Vec<(ServiceName, Seq)>, JournalError>;
}

/// A shared journal whose bytes can be had.
pub type SharedLines = Arc<dyn Lines>;

/// A shared journal.
pub type SharedJournal = Arc<dyn Journal>;
