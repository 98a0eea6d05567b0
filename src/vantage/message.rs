//! What observer and controller say to each other, as JSON. Fields that one side does not know are left alone, so that
//! the two may be of different versions.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{
    id::{ProbeId, ServiceName},
    observation::{Facts, Look, Sight},
    plan::Uses,
    span::Span,
    time::Time,
};

/// Where a challenge is asked for, with `GET` and without a signature.
pub const CHALLENGE: &str = "/vantage/v1/challenge";
/// Where a session begins, with `POST` and a challenge in the session's place.
pub const SESSION: &str = "/vantage/v1/session";
/// Where looks are reported, with `POST`.
pub const REPORT: &str = "/vantage/v1/report";

/// The header with the vantage point's name.
pub const VANTAGE_HEADER: &str = "failover-vantage";
/// The header with the session, or the challenge where one begins.
pub const SESSION_HEADER: &str = "failover-session";
/// The header with the signature of a request or an answer.
pub const SIGNATURE_HEADER: &str = "failover-signature";

/// Largest body of a request, bytes: a report of the most looks with the longest words fits (2.4 KB a look).
pub const BODY: usize = 512 * 1024;
/// Most looks of one report.
pub const LOOKS: usize = 200;
/// Most characters of what is said for people.
const WORDS: usize = 400;

/// One running observer: random, the same for the life of its process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ObserverId(pub String);

/// A session: random, given by the controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub String);

/// Hash of an assignment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub String);

/// The number of a request within its session; the session's beginning is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestNumber(pub u64);

/// The number of a look within the life of an observer, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LookNumber(pub u64);

/// What makes the beginning of a session fresh: only what is signed over it begins one, and only once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// Opaque.
    pub challenge: String,
}

/// An observer begins a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// Which process.
    pub observer: ObserverId,
    /// Its program's version.
    pub version: String,
    /// What its clock on the wall says; measured, never used.
    pub wall: Time,
    /// Whether it runs `probe/command`.
    pub commands: bool,
}

/// A session and what is to be looked at in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Begun {
    /// The session.
    pub session: SessionId,
    /// Hash of the assignment.
    pub revision: Revision,
    /// The assignment.
    pub services: Vec<Assignment>,
    /// How far the observer's clock on the wall is ahead, in milliseconds; below zero where it is behind.
    pub ahead_ms: i64,
}

/// What is to be looked at for one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    /// The service.
    pub service: ServiceName,
    /// What is surely up.
    pub sentinels: Vec<Uses>,
    /// What is looked through.
    pub probes: Vec<AssignedProbe>,
}

/// A probe of an assignment. Secrets in it are references, for the observer's own host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AssignedProbe {
    /// Unique within the service.
    pub id: ProbeId,
    /// The adapter. The text of a command is left out unless the observer runs commands.
    pub action: Uses,
    /// Time between two looks.
    pub every: Span,
    /// Time-out of one look.
    pub timeout: Span,
}

/// What was seen since the last report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Rises strictly within a session.
    pub number: RequestNumber,
    /// The last request of this session whose answer arrived.
    pub answered: RequestNumber,
    /// How long ago that answer arrived.
    pub since: Span,
    /// The assignment that was followed.
    pub revision: Revision,
    /// What the observer's clock on the wall says; measured, never used.
    pub wall: Time,
    /// The looks, oldest first.
    pub looks: Vec<Seen>,
}

/// One look of an observer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// Rises strictly over all looks of the observer.
    pub number: LookNumber,
    /// How long ago it ended when the report was made.
    pub age: Span,
    /// Of which service.
    pub service: ServiceName,
    /// Through which probe.
    pub probe: ProbeId,
    /// What was seen.
    pub sight: Sight,
    /// In a few words, for people.
    pub detail: String,
    /// How long the answer took, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Span>,
    /// What else the probe learned.
    #[serde(default)]
    pub facts: Facts,
}

impl Seen {
    /// The look itself.
    #[must_use]
    pub fn look(&self) -> Look {
        Look {
            sight: self.sight,
            detail: words(&self.detail),
            latency: self.latency,
            facts: self.facts.clone(),
        }
    }
}

/// What is said for people, cut to what they read, without what a terminal would obey.
#[must_use]
pub fn words(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(WORDS)
        .collect()
}

/// A report has arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// Looks that count.
    pub taken: usize,
    /// Whether there is another assignment: a new session brings it.
    pub changed: bool,
}

/// A request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Why.
    pub refused: Refusal,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Refusal {
    /// It is not signed by a vantage point that reports here.
    Signature,
    /// The session is none, or not the newest; or the challenge is used up or too old.
    Session,
    /// Its number is not above all before it: it was replayed, or overtaken.
    Number,
    /// It is signed, but no message.
    Shape,
}

impl Refusal {
    /// The HTTP status.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Signature => 401,
            Self::Session | Self::Number => 409,
            Self::Shape => 400,
        }
    }

    /// As a metric's label and in logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Signature => "signature",
            Self::Session => "session",
            Self::Number => "number",
            Self::Shape => "shape",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signature => "the signature is not that of a vantage point that reports here",
            Self::Session => "the session is over",
            Self::Number => "the request was overtaken",
            Self::Shape => "the message is not understood",
        })
    }
}
