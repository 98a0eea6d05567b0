//! What guards and the controller tell each other, and what a guard keeps on its disk.
//!
//! Times in here are the clock of the holder alone (`CLOCK_BOOTTIME`, milliseconds): nobody compares them with another
//! clock. Orders and requests may be lost, repeated, reordered and kept for ever; each says what it needs to be judged.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    id::{Epoch, ServiceName, SiteName},
    observation::Lsn,
    span::Span,
    time::Time,
};

/// One life of a guard's process: drawn at its start, never used again.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(transparent)]
pub struct Boot(pub u64);

/// How often a guard was started with the state that it has; one less than others saw means that the state is an old one.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(transparent)]
pub struct Starts(pub u64);

impl Starts {
    /// One start more.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// How long a holder may write after a request that was granted.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Lease {
    /// For ever: a lone site, which nobody could replace. The lease rung is not offered.
    Unbounded,
    /// So long after the request was sent.
    Bounded(Span),
}

/// What an epoch is; it never changes.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct Terms {
    /// Of which service.
    pub service: ServiceName,
    /// The epoch.
    pub epoch: Epoch,
    /// The one site that may write in it.
    pub site: SiteName,
    /// For how long after each request.
    pub lease: Lease,
    /// The site whose guard grants beside the controller; none where there is no candidate.
    pub deputy: Option<SiteName>,
}

/// What a guard promised, as it stands on its disk. A lease is never on disk.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct Promise {
    /// Nothing of an earlier epoch is ever done again.
    pub epoch: Epoch,
    /// What the site is in it.
    pub role: Role,
    /// The terms, where the guard was told them.
    pub terms: Option<Terms>,
    /// The longest lease that the guard may ever have granted as a deputy: what it waits for is counted from it.
    pub longest: Span,
    /// How often the guard was started.
    pub starts: Starts,
}

impl Promise {
    /// Of a guard that was never told anything.
    #[must_use]
    pub fn first() -> Self {
        Self {
            epoch: Epoch(0),
            role: Role::Standby,
            terms: None,
            longest: Span::ZERO,
            starts: Starts(0),
        }
    }
}

/// What a site is in the epoch that its guard promised.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// It may write while it has a lease.
    Primary,
    /// It follows.
    Standby,
    /// It was a primary and stays stopped until people have looked after its data.
    Fenced,
}

/// What the database at a site does.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Database {
    /// No process of it is there: the process namespace is empty.
    Gone,
    /// It is in recovery, and takes no writes.
    Following,
    /// It takes writes, or may do so at any moment.
    Writable,
}

/// Who grants.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Grantor {
    /// The controller.
    Controller,
    /// The guard of the epoch's deputy.
    Deputy,
}

impl fmt::Display for Grantor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Controller => "controller",
            Self::Deputy => "deputy",
        })
    }
}

/// What a guard's last look at its database and its disk told besides.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "camelCase", default)]
pub struct FirstHand {
    /// How far the log is written, or received by a standby.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<Lsn>,
    /// How long ago a primary heard of a standby.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contact: Option<Span>,
    /// Less is free on the disk of its data than the next piece of the log takes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_full: bool,
    /// The file system of its data takes no writes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_read_only: bool,
    /// Room on the disk of its data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<Room>,
    /// How far the host's wall clock is ahead of the clock that its messages carry, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall: Option<i64>,
}

/// Room on a disk, in bytes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct Room {
    /// What the database may still take.
    pub free: u64,
    /// The whole of it.
    pub size: u64,
}

/// What a guard sees at first hand.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The site.
    pub site: SiteName,
    /// The life of the guard's process.
    pub boot: Boot,
    /// What it promised; none where its state is lost.
    pub promise: Option<Promise>,
    /// What the database does; none before the first look.
    pub database: Option<Database>,
    /// Whether the database answered when the guard looked last.
    pub answers: bool,
    /// What else the last look told.
    #[serde(default)]
    pub seen: FirstHand,
    /// Whether the guard can stop the database: not where a kill hangs or a promise could not be written.
    pub can_fence: bool,
    /// How long the kernel takes at most to end a database at its time, as the guard proved on its host; none where it
    /// could not be proved: then it gets no lease that ends.
    pub kill: Option<Span>,
    /// Whether it has a lease.
    pub leased: bool,
    /// Where the log ends of a database that is stopped in order, and stays so for the moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<Lsn>,
    /// How far its data is brought into line with the site that serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resync: Option<Resync>,
}

/// How far a fenced site's data is brought into line with the site that serves.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Resync {
    /// It is being done.
    UnderWay,
    /// It could not be done: the guard's log says why.
    Failed,
    /// `pg_rewind` was broken off: the data is neither the old nor the new, and nothing is started on it before it was
    /// made anew.
    HalfDone,
    /// It is done, and so much was kept apart before.
    Done(Salvage),
}

/// What a site had written that the other one never got. It was kept in a folder of its own before the site's data was
/// brought into line.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct Salvage {
    /// Where the two logs part.
    pub from: Lsn,
    /// Where the log of this site ends; not after `from` where nothing was left behind.
    pub to: Lsn,
    /// How many transactions it committed in between.
    pub commits: u64,
    /// That could not be told: its old data is kept as a whole.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_whole: bool,
}

impl Salvage {
    /// Both together: their transactions, and all the log from the first to the last.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            from: self.from.min(other.from),
            to: self.to.max(other.to),
            commits: self.commits.saturating_add(other.commits),
            is_whole: self.is_whole || other.is_whole,
        }
    }
}

/// What to do about a guard that is stuck.
pub const STUCK: &str = "see its log: a kill is tried again by itself; where the disk of its state failed, mend that and start it anew";

impl Report {
    /// Why the guard cannot stop the database just now; none where it can.
    #[must_use]
    pub fn stuck(&self) -> Option<String> {
        (!self.can_fence).then(|| {
            format!(
                "the guard of {} cannot fence: a kill or a write to its disk has not come to an end",
                self.site
            )
        })
    }

    /// The same without what nobody decides by, where every byte counts: a request has to fit into one datagram.
    #[must_use]
    pub fn brief(mut self) -> Self {
        self.seen.disk = None;
        self.seen.wall = None;
        self
    }

    /// Whether it tells no more than another one, but for where log, disk and clock stand just now.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let still = |report: &Self| Self {
            seen: FirstHand {
                position: None,
                contact: None,
                disk: None,
                wall: None,
                ..report.seen
            },
            ..report.clone()
        };
        still(self) == still(other)
    }
}

/// Asks for a lease.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct LeaseRequest {
    /// For the epoch of this.
    pub epoch: Epoch,
    /// When it was sent, on the clock of the sender: the request's number, and what the lease counts from.
    pub sent: Time,
    /// The newest requests of this life that were granted, as far as the sender knows.
    pub heard: BTreeMap<Grantor, Time>,
    /// What the sender sees.
    pub report: Report,
}

/// Grants one request.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// In this epoch.
    pub epoch: Epoch,
    /// To this life of the holder's guard.
    pub boot: Boot,
    /// The request.
    pub sent: Time,
    /// For so long after the request.
    pub lease: Lease,
    /// By whom.
    pub by: Grantor,
    /// How often the deputy's guard was started.
    pub starts: Option<Starts>,
}

/// Orders a site to stop writing for good.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct FenceOrder {
    /// In favour of this epoch.
    pub epoch: Epoch,
    /// The life of the guard that the order answers: a guard that lost its state obeys no older one.
    pub boot: Option<Boot>,
    /// Only where the database is stopped in order at this moment.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drained: bool,
}

/// Has a site stop its database in order and leave it so for a while, under its leases: nothing is promised. Unless a
/// fence follows, the guard starts it again.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct DrainOrder {
    /// The epoch that the site holds.
    pub epoch: Epoch,
    /// The life of its guard.
    pub boot: Boot,
    /// The newest request of the guard that the controller knows: the while counts from it, so that an order which was
    /// kept on its way stops nothing.
    pub asked: Time,
    /// For so long; nothing ends it.
    pub hold: Span,
}

/// Has a fenced site bring its data into line with the site that serves, and follow it.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct ResyncOrder {
    /// The epoch that the site promised when it was fenced.
    pub epoch: Epoch,
    /// The life of its guard.
    pub boot: Boot,
}

/// Says that a site stopped writing for good: the process namespace is empty, sockets are destroyed, the promise is
/// on disk.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct FenceAck {
    /// The site.
    pub site: SiteName,
    /// It promised this epoch.
    pub epoch: Epoch,
    /// Where its log ends, where that could be read.
    pub lsn: Option<Lsn>,
}

/// Makes a site the primary of an epoch.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct PromoteOrder {
    /// The terms; the site is this guard's own.
    pub terms: Terms,
    /// Whether the old site's guard acknowledged its fence: then the grants of the deputy need no waiting for.
    pub acknowledged: bool,
    /// The life of the guard that the order answers.
    pub boot: Option<Boot>,
}
