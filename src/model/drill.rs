//! Drills: what is exercised, when, and what came of it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    fault::Fault,
    id::DrillName,
    schedule::Schedule,
    service::{Runbook, Window},
    span::Span,
};

/// How far a drill goes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Depth {
    /// Plan, gates and forecast are worked out; nothing is touched.
    Paper,
    /// A clone of the standby is promoted where nothing else can reach it; production is not touched.
    Isolated,
    /// Production is moved to its other site and back, once people have approved it.
    Live,
}

impl fmt::Display for Depth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Paper => "paper",
            Self::Isolated => "isolated",
            Self::Live => "live",
        })
    }
}

/// What came of a drill.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum DrillOutcome {
    /// Everything that was exercised worked, within the objectives.
    Passed,
    /// Something did not.
    Failed,
    /// It was stopped before its end: by a person, or by an outage.
    BrokenOff,
}

impl fmt::Display for DrillOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::BrokenOff => "broken off",
        })
    }
}

/// A drill as the documents ask for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrillPolicy {
    /// Unique within the service.
    pub name: DrillName,
    /// How far it goes.
    pub depth: Depth,
    /// What is done in an isolated one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runbook: Option<Runbook>,
    /// When it begins by itself; none: only on command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// It begins so much later at most, each time by another part of it.
    pub jitter: Span,
    /// How long it waits for what stands in its way, before it is left out; of a live one, also its way back.
    pub grace: Span,
    /// How long a live one stays at the other site.
    pub stay: Span,
    /// Windows in which it does not begin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked: Vec<Window>,
    /// What it injects to see that nothing happens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inject: Vec<Fault>,
}
