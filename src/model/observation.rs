//! What a vantage point saw through a probe.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    id::{ProbeId, VantageName},
    span::Span,
    time::Time,
};

/// What was seen. "I cannot see" is not "it is down".
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Sight {
    /// It answered as it should.
    Up,
    /// It answered wrongly, refused, or did not answer while the looker's own network was well.
    Down,
    /// The looker cannot tell.
    Unknown,
}

impl Sight {
    /// In one word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Sight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The kind of evidence a probe gives. A verdict of Down needs a quorum of voices and no kind that says otherwise.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Evidence {
    /// As a customer would see it, over the network.
    Outside,
    /// The database's own protocol, spoken to the component itself.
    Database,
    /// The standby's replication stream from the primary.
    Stream,
    /// The guard's own report from the primary's host.
    Guard,
    /// What the cluster says of the Pods that it runs.
    Cluster,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outside => "outside",
            Self::Database => "database",
            Self::Stream => "replication stream",
            Self::Guard => "guard",
            Self::Cluster => "cluster",
        })
    }
}

/// One look of one vantage point through one probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Observation {
    /// When the look ended.
    pub at: Time,
    /// Who looked.
    pub vantage: VantageName,
    /// Through which probe.
    pub probe: ProbeId,
    /// What was seen.
    pub sight: Sight,
    /// In a few words, for people: `HTTP 503 in 41 ms`, `connection refused`.
    pub detail: String,
    /// How long the answer took, where there was one.
    pub latency: Option<Span>,
    /// What else the probe learned.
    pub facts: Facts,
}

/// What a probe returns: an observation without its place and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// What was seen.
    pub sight: Sight,
    /// In a few words, for people.
    pub detail: String,
    /// How long the answer took, where there was one.
    pub latency: Option<Span>,
    /// What else the probe learned.
    pub facts: Facts,
}

impl Look {
    /// A look without further facts.
    pub fn new(sight: Sight, detail: impl Into<String>) -> Self {
        Self {
            sight,
            detail: detail.into(),
            latency: None,
            facts: Facts::default(),
        }
    }
}

/// What a probe may learn beside up or down. Absent means: not learned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Facts {
    /// Parts of an HTTP answer's time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpTimes>,
    /// When the certificate ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_expires: Option<Time>,
    /// What a database said of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseFacts>,
}

/// Parts of an HTTP answer's time, in microseconds each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpTimes {
    /// Name resolution, µs.
    pub dns_us: u64,
    /// TCP connection, µs.
    pub connect_us: u64,
    /// TLS handshake, µs; zero without TLS.
    pub tls_us: u64,
    /// From the request to the first byte of the answer, µs.
    pub first_byte_us: u64,
}

/// Whether a database takes writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum DatabaseRole {
    /// Takes writes.
    Primary,
    /// Replays another's log.
    Standby,
}

/// A PostgreSQL log position (LSN) as a byte offset.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    Hash,
    JsonSchema,
)]
#[serde(transparent)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    /// As PostgreSQL writes it: `0/3000148`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl Lsn {
    /// Reads PostgreSQL's own form, `0/3000148`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (high, low) = text.split_once('/')?;
        let high = u64::from_str_radix(high, 16).ok()?;
        let low = u64::from_str_radix(low, 16).ok()?;
        (high <= 0xffff_ffff && low <= 0xffff_ffff).then_some(Self(high << 32 | low))
    }
}

/// What a database said of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseFacts {
    /// Its role.
    pub role: DatabaseRole,
    /// Its timeline.
    pub timeline: Option<u32>,
    /// On a primary: current write position.
    pub current: Option<Lsn>,
    /// On a standby: what it received.
    pub received: Option<Lsn>,
    /// On a standby: what it replayed.
    pub replayed: Option<Lsn>,
    /// On a standby: whether its WAL receiver is streaming now.
    pub streaming: Option<bool>,
    /// On a standby: how long ago the newest replayed transaction was committed on the primary; on an idle
    /// primary this grows without any loss, so it only counts while positions differ.
    pub replay_age: Option<Span>,
    /// On a standby: the primary's write position as its WAL receiver last heard it, and how long ago that was.
    pub heard: Option<(Lsn, Span)>,
    /// On a primary: whether its commits wait for every standby that streams from it, where known; unknown while none
    /// streams that they would wait for.
    pub synchronous: Option<bool>,
}
