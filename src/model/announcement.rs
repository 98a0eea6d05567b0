//! What customers are told, by phase.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    id::{AnnouncementId, ChannelName, IncidentId},
    span::Span,
    time::Time,
};

/// The phases that customers hear of.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// Something is wrong and is looked into.
    Investigating,
    /// The standby is being brought up.
    FailingOver,
    /// The standby serves; the fallback URL works.
    OnStandby,
    /// Everything is as usual again.
    Recovered,
    /// What was said before was wrong.
    Correction,
    /// Planned work is under way; a short interruption is part of it.
    Maintenance,
    /// The planned work is done.
    MaintenanceOver,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 7] = [
        Self::Investigating,
        Self::FailingOver,
        Self::OnStandby,
        Self::Recovered,
        Self::Correction,
        Self::Maintenance,
        Self::MaintenanceOver,
    ];

    /// The phase of that word; none where there is none.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.word() == word)
    }

    /// As in commands and ids.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Investigating => "investigating",
            Self::FailingOver => "failing-over",
            Self::OnStandby => "on-standby",
            Self::Recovered => "recovered",
            Self::Correction => "correction",
            Self::Maintenance => "maintenance",
            Self::MaintenanceOver => "maintenance-over",
        }
    }

    /// Whether it is the last one of what it tells of.
    #[must_use]
    pub fn is_last(self) -> bool {
        matches!(self, Self::Recovered | Self::MaintenanceOver)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Investigating => "investigating",
            Self::FailingOver => "failing over",
            Self::OnStandby => "on standby",
            Self::Recovered => "recovered",
            Self::Correction => "correction",
            Self::Maintenance => "maintenance",
            Self::MaintenanceOver => "maintenance over",
        })
    }
}

/// One announcement: the facts that each channel's message is compiled from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Announcement {
    /// Unique.
    pub id: AnnouncementId,
    /// The incident it belongs to.
    pub incident: IncidentId,
    /// Which phase.
    pub phase: Phase,
    /// When the phase began.
    pub at: Time,
    /// When the outage began.
    pub started: Time,
    /// The service as customers know it.
    pub title: String,
    /// What customers see, in their words.
    pub symptom: String,
    /// The URL that works now; only after it was seen to work from two vantage points.
    pub fallback_url: Option<String>,
    /// What is known of data: said only where it is known.
    pub data_safety: Option<String>,
    /// When the next update comes; none with the last one.
    pub next_update: Option<Time>,
    /// How often updates come from now on, where that is less often than customers were told before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub less_often: Option<Span>,
    /// The status page.
    pub status_url: Option<String>,
    /// Whether this is an exercise: every message is marked `[DRILL]`.
    pub drill: bool,
    /// Text of a person instead of the template's (`failover announce --text`).
    pub text: Option<String>,
    /// The channels it goes out on.
    pub channels: Vec<ChannelName>,
}

/// How many recipients of one channel got what; addresses stay in the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Tally {
    /// Not yet tried.
    pub queued: u64,
    /// Accepted by the other side.
    pub sent: u64,
    /// Sent, but the answer was lost: not sent again.
    pub unknown: u64,
    /// Refused for good.
    pub failed: u64,
    /// On the suppression list.
    pub suppressed: u64,
}

/// Tally per channel.
pub type Tallies = BTreeMap<ChannelName, Tally>;
