//! Who does what in an incident.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a person does in an incident.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Duty {
    /// Leads: decides what is done, and by whom.
    Commander,
    /// Works on the systems; nobody else changes anything.
    Operations,
    /// Tells customers and colleagues.
    Communications,
    /// Writes down what happens.
    Scribe,
}

impl Duty {
    /// Every duty, in the order in which they are shown.
    pub const ALL: [Self; 4] = [
        Self::Commander,
        Self::Operations,
        Self::Communications,
        Self::Scribe,
    ];

    /// As people write it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Commander => "commander",
            Self::Operations => "operations",
            Self::Communications => "communications",
            Self::Scribe => "scribe",
        }
    }
}

impl fmt::Display for Duty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// There is no such duty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no duty: write commander, operations, communications or scribe")]
pub struct UnknownDuty(String);

impl FromStr for Duty {
    type Err = UnknownDuty;

    fn from_str(text: &str) -> Result<Self, UnknownDuty> {
        let known = Self::ALL.into_iter().find(|duty| duty.word() == text);
        known.ok_or_else(|| UnknownDuty(text.to_owned()))
    }
}
