//! A site of the world: a host, an application and a database with its log.

use crate::model::{
    observation::{DatabaseRole, Lsn},
    time::Time,
};

/// How a process of a site is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Life {
    /// It runs.
    #[default]
    Runs,
    /// It is there and does not move; what was sent to it waits.
    Frozen,
    /// It is gone; its host refuses connections.
    Gone,
}

/// Whether a host has power.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Power {
    /// It runs.
    #[default]
    On,
    /// It crashed and may come back by itself.
    Crashed,
    /// Somebody switched it off: it stays off until somebody switches it on.
    Off,
}

/// One transaction of a customer.
pub type Write = u64;

/// No transaction: the record with which a log ends that was closed in order.
pub const CHECKPOINT: Write = 0;

/// A database and what it knows.
#[derive(Clone, Debug)]
pub struct Database {
    /// Its process.
    pub life: Life,
    /// Whether it takes writes or replays another's log.
    pub role: DatabaseRole,
    /// Rises with each promotion.
    pub timeline: u32,
    /// Refuses ordinary sessions' writes.
    pub read_only: bool,
    /// What it has durably, in order. A standby has a beginning of its primary's.
    pub log: Vec<Write>,
    /// On a standby: when it last heard its primary, and what it then heard of its log's length.
    pub heard: (Time, usize),
}

/// Bytes of log that a transaction takes.
const BYTES: u64 = 256;
/// Where logs begin: as PostgreSQL's first segment.
const FIRST: u64 = 0x0100_0000;

/// The position behind so many transactions.
#[must_use]
pub fn lsn(length: usize) -> Lsn {
    Lsn(FIRST + length as u64 * BYTES)
}

/// One site.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its host.
    pub power: Power,
    /// Its application.
    pub application: Life,
    /// Its database; none where the service has none.
    pub database: Option<Database>,
}

impl Site {
    /// A site as it is before anything happened.
    #[must_use]
    pub fn new(database: Option<(DatabaseRole, Life)>, now: Time) -> Self {
        Self {
            power: Power::On,
            application: Life::Runs,
            database: database.map(|(role, life)| Database {
                life,
                role,
                timeline: 1,
                read_only: false,
                log: Vec::new(),
                heard: (now, 0),
            }),
        }
    }

    /// Whether its host runs.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.power == Power::On
    }

    /// Whether its application answers whoever reaches it.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.is_on() && self.application == Life::Runs
    }

    /// Its database, where that answers whoever reaches it.
    #[must_use]
    pub fn answering(&self) -> Option<&Database> {
        let database = self.database.as_ref()?;
        (self.is_on() && database.life == Life::Runs).then_some(database)
    }

    /// Whether its database takes a customer's write now.
    #[must_use]
    pub fn takes_writes(&self) -> bool {
        self.answering()
            .is_some_and(|d| d.role == DatabaseRole::Primary && !d.read_only)
    }

    /// Whether it could take a customer's write later without anybody's order: a crash ends, a process thaws.
    #[must_use]
    pub fn may_take_writes(&self) -> bool {
        let database = self.database.as_ref();
        self.power != Power::Off && database.is_some_and(|d| d.role == DatabaseRole::Primary)
    }
}
