//! What must not lead to a failover, and what came of it where a drill injected it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    id::{ComponentName, VantageName},
    span::Span,
    verdict::Verdict,
};

/// What a drill injects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Fault {
    /// A vantage point sees nothing: with sentinels it knows that it does not, without them it calls everything down.
    VantageBlind {
        /// Which.
        vantage: VantageName,
        /// How long.
        #[serde(rename = "for")]
        lasts: Span,
    },
    /// What serves does not answer for a while.
    Stall {
        /// Which component; none: all of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        component: Option<ComponentName>,
        /// How long.
        #[serde(rename = "for")]
        lasts: Span,
    },
    /// The primary is lost while every standby lags.
    StandbyLag {
        /// By how much, in time.
        by: Span,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VantageBlind { vantage, lasts } => {
                write!(f, "vantage point {vantage} is blind for {lasts}")
            }
            Self::Stall {
                component: Some(component),
                lasts,
            } => write!(f, "{component} stalls for {lasts}"),
            Self::Stall {
                component: None,
                lasts,
            } => write!(f, "everything that serves stalls for {lasts}"),
            Self::StandbyLag { by } => {
                write!(f, "the primary is lost while the standby lags by {by}")
            }
        }
    }
}

/// What came of an injected fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Injected {
    /// What was injected.
    pub fault: Fault,
    /// The verdicts that it turned, in their order.
    pub verdicts: Vec<Turned>,
    /// What followed, in one sentence.
    pub came: String,
    /// What happened although it must not; none where nothing did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrong: Option<String>,
}

/// A verdict that a fault turned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Turned {
    /// Of which component.
    pub component: ComponentName,
    /// To what.
    pub to: Verdict,
    /// How long after the fault began.
    pub after: Span,
}
