//! Newtypes for everything that has a name or a number.

use std::{fmt, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        // Names are handed on far more often than made: a copy of one costs no memory.
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
        #[schemars(transparent)]
        pub struct $name(pub Arc<str>);

        impl $name {
            /// Makes the name from text, unchecked: documents are checked by `spec`.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into().into())
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from).map(Self::new)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // Names stand in columns.
                f.pad(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }
    };
}

name!(/// A protected service; also the name of its journal chain.
    ServiceName);
name!(/// A user as the API server of a cluster knows them.
    UserName);
name!(/// A site: a place where the service can run.
    SiteName);
name!(/// A part of a service that gets a verdict of its own.
    ComponentName);
name!(/// A vantage point: a place that probes look from.
    VantageName);
name!(/// A network; vantage points in one network are one voice.
    NetworkName);
name!(/// A probe of a component, unique within its service.
    ProbeId);
name!(/// A step of a runbook, unique within it.
    StepId);
name!(/// A runbook.
    RunbookName);
name!(/// A run (failover, redirect, switchover, …): `<service>-r<seq of its RunOpened record>`.
    RunId);
name!(/// An incident: `<service>-i<seq of its IncidentOpened record>`.
    IncidentId);
name!(/// A question put to people: `<service>-a<seq of its AskOpened record>`.
    AskId);
name!(/// A page to the team: `<service>-p<seq of its PageRaised record>`.
    PageId);
name!(/// One announcement to customers: `<incident>-<phase>`, with a counter for corrections.
    AnnouncementId);
name!(/// A channel that announcements or pages go out on.
    ChannelName);
/// A user of Telegram. User names change hands; this number does not.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct TelegramUser(pub i64);

impl fmt::Display for TelegramUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

name!(/// A person of the team, known by a personal token.
    PersonName);
name!(/// A group of people who may approve.
    GroupName);
name!(/// A group of services that fail over together.
    ServiceGroupName);
name!(/// An adapter kind as written in `uses`, such as `postgres/promote`.
    KindName);
name!(/// A drill of the documents, unique within its service.
    DrillName);
name!(/// A backup policy.
    PolicyName);
name!(/// A place where backups are, unique within its policy.
    SourceName);
name!(/// One copy in a source of backups: a path, a label, a snapshot's id.
    CopyId);
name!(/// Lower-case hex SHA-256 of a plan's canonical JSON.
    PlanHash);
name!(/// Lower-case hex SHA-256 of the documents that a service was compiled from.
    ConfigHash);
name!(/// Something that a guard's own document lets be done on its host.
    ActionName);
name!(/// The key that makes one effect recognisable at the other side, the same over every repeat of it.
    IdempotencyKey);

/// What stands before the name of a user of a cluster's API server where a person is named.
const OF_CLUSTER: &str = "kubernetes/";

impl UserName {
    /// The name that this user goes by where a person is named.
    #[must_use]
    pub fn person(&self) -> PersonName {
        PersonName::new(format!("{OF_CLUSTER}{self}"))
    }

    /// The user whom [`UserName::person`] named so.
    #[must_use]
    pub fn of(person: &PersonName) -> Option<Self> {
        person.as_str().strip_prefix(OF_CLUSTER).map(Self::from)
    }
}

/// Rises with each promotion; belongs to one site for ever (PROTOCOL.md, rule 1).
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
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How often replicas changed the leadership: the fencing token of a leader's records.
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
pub struct Term(pub u64);

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Place of a record in its chain, from 1.
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
pub struct Seq(pub u64);

impl Seq {
    /// The sequence after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How often a step was performed, from 1.
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
pub struct Attempt(pub u32);

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl RunId {
    /// The id of the run whose `RunOpened` record has this sequence.
    #[must_use]
    pub fn of(service: &ServiceName, seq: Seq) -> Self {
        Self::new(format!("{service}-r{seq}"))
    }
}

impl IncidentId {
    /// The id of the incident whose `IncidentOpened` record has this sequence.
    #[must_use]
    pub fn of(service: &ServiceName, seq: Seq) -> Self {
        Self::new(format!("{service}-i{seq}"))
    }
}

impl AskId {
    /// The id of the question whose `AskOpened` record has this sequence.
    #[must_use]
    pub fn of(service: &ServiceName, seq: Seq) -> Self {
        Self::new(format!("{service}-a{seq}"))
    }
}

impl PageId {
    /// The id of the page whose `PageRaised` record has this sequence.
    #[must_use]
    pub fn of(service: &ServiceName, seq: Seq) -> Self {
        Self::new(format!("{service}-p{seq}"))
    }
}

impl IdempotencyKey {
    /// Run, step, attempt and epoch name one effect.
    #[must_use]
    pub fn of(run: &RunId, step: &StepId, epoch: Epoch) -> Self {
        Self::new(format!("{run}.{step}.e{epoch}"))
    }
}
