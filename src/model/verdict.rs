//! What the evidence says of a component.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    id::{ComponentName, NetworkName, ProbeId, VantageName},
    observation::{Evidence, Sight},
    span::Span,
};

/// What the evidence, taken together, says of a component at its active site.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// A quorum sees it work.
    Healthy,
    /// It works, but too slowly or not from everywhere.
    Degraded,
    /// Something says Down, not yet enough of it or not long enough.
    Suspect,
    /// A quorum of voices and of kinds says Down.
    Down,
    /// Too few can see: nothing may be concluded.
    #[default]
    Inconclusive,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Inconclusive => "inconclusive",
        })
    }
}

/// What one vantage point last saw through one probe: the evidence behind a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Witness {
    /// Who looked.
    pub vantage: VantageName,
    /// From which network.
    pub network: NetworkName,
    /// Through which probe.
    pub probe: ProbeId,
    /// Of which component.
    pub component: ComponentName,
    /// What kind of evidence it is.
    pub evidence: Evidence,
    /// What it saw, after hysteresis and age were taken into account.
    pub sight: Sight,
    /// How old the observation was.
    pub age: Span,
    /// In a few words, what was seen.
    pub detail: String,
}
