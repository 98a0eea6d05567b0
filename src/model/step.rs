//! What a step's effect came to.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What performing an effect came to. A time-out is `Indeterminate`, never `Failed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum StepResult {
    /// It is done.
    Done(Proof),
    /// It was refused or did not work, and nothing is left half-done.
    Failed {
        /// In plain words, without secrets.
        reason: String,
    },
    /// It may or may not have happened.
    Indeterminate {
        /// In plain words, without secrets.
        reason: String,
    },
}

impl StepResult {
    /// Done, with one sentence as evidence.
    pub fn done(summary: impl Into<String>) -> Self {
        Self::Done(Proof::new(summary))
    }

    /// Failed, with its reason.
    pub fn failed(reason: impl Into<String>) -> Self {
        Self::Failed {
            reason: reason.into(),
        }
    }

    /// Indeterminate, with its reason.
    pub fn indeterminate(reason: impl Into<String>) -> Self {
        Self::Indeterminate {
            reason: reason.into(),
        }
    }
}

/// The evidence that an effect is in place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Proof {
    /// One sentence for people.
    pub summary: String,
    /// What later steps and the rejoin of the old primary need (`lsn`, `timeline`, …). No secrets, no addresses of people.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
    /// The fencing rung that this evidence reaches, where it is a fence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rung: Option<Rung>,
}

/// The fact of a write attempt.
pub const WRITE: &str = "write";
/// Its value where the server said no.
pub const WRITE_REFUSED: &str = "refused";
/// Its value where nobody answered.
pub const WRITE_UNANSWERED: &str = "unknown";

impl Proof {
    /// Whether it is of a write attempt that nobody answered, which proves nothing.
    #[must_use]
    pub fn is_silence(&self) -> bool {
        let write = self.facts.get(WRITE);
        write.is_some_and(|said| said == WRITE_UNANSWERED)
    }

    /// Evidence of one sentence.
    pub fn new(summary: impl Into<String>) -> Self {
        Self {
            summary: summary.into(),
            ..Self::default()
        }
    }

    /// The same with one more fact.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.facts.insert(key.to_owned(), value.into());
        self
    }

    /// The same with the rung that it reaches.
    #[must_use]
    pub fn reaching(mut self, rung: Rung) -> Self {
        self.rung = Some(rung);
        self
    }
}

/// What observing an effect came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Presence {
    /// The effect is in place.
    InPlace(Proof),
    /// It is not.
    Absent {
        /// In plain words.
        reason: String,
    },
    /// It cannot be told.
    Unknown {
        /// In plain words.
        reason: String,
    },
}

impl Presence {
    /// In place, with one sentence as evidence.
    pub fn in_place(summary: impl Into<String>) -> Self {
        Self::InPlace(Proof::new(summary))
    }

    /// Absent, with its reason.
    pub fn absent(reason: impl Into<String>) -> Self {
        Self::Absent {
            reason: reason.into(),
        }
    }

    /// Unknown, with its reason.
    pub fn unknown(reason: impl Into<String>) -> Self {
        Self::Unknown {
            reason: reason.into(),
        }
    }
}

/// How well it is proved that the old primary cannot write, from weakest to strongest (PROTOCOL.md).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Rung {
    /// A named person says so, with an expiry.
    Attested,
    /// Confirmed by its own observe: a stopped instance, a command's or webhook's positive answer.
    Infrastructure,
    /// The lease has run out, and the kernel stopped the database before that.
    Lease,
    /// The guard confirms that the database is stopped and will stay so.
    Acknowledged,
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attested => "attested",
            Self::Infrastructure => "infrastructure",
            Self::Lease => "lease",
            Self::Acknowledged => "acknowledged",
        })
    }
}
