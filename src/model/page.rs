//! Pages to the team: repeated until acknowledged.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    id::{AskId, ChannelName, ComponentName, DrillName, RunId},
    span::Span,
};

/// How urgent a page is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Somebody must look today.
    Warning,
    /// Somebody must act now.
    Critical,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        })
    }
}

/// What a page is about. The topic makes pages one: the same topic is not raised twice while open.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PageTopic {
    /// A question waits for an answer.
    Ask(AskId),
    /// A failover is held back by a gate.
    Hold,
    /// A run began, ended, or is stuck.
    Run(RunId),
    /// `observe` mode: what it would have done.
    WouldAct,
    /// Readiness turned bad.
    NotReady,
    /// A channel cannot send any more.
    ChannelBroken(String),
    /// The controller was restarted.
    Restarted,
    /// The controller took up another one's journal.
    TakenOver,
    /// The journal and the guards do not agree on where the service runs.
    Guards,
    /// The verdict changed for the worse, or came back.
    Incident,
    /// A component fails without being surely down, or cannot be seen.
    Doubt(ComponentName),
    /// A database takes writes at a site that is not the active one.
    TwoWriters,
    /// Customers were promised news by now.
    UpdateDue,
    /// The journal cannot be written: nothing is done until it can.
    Journal,
    /// The backups break their policy.
    Backups,
    /// A drill was not passed.
    Drill(DrillName),
    /// Documents changed on disk but cannot be used.
    Documents,
    /// A person decided alone.
    BreakGlass(AskId),
}

/// A page: what a person on call needs to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    /// What it is about.
    pub topic: PageTopic,
    /// How urgent.
    pub severity: Severity,
    /// One line.
    pub title: String,
    /// Reason, evidence, expected loss, what happens if nobody answers: a sentence each.
    pub body: Vec<String>,
    /// The exact next commands.
    pub commands: Vec<String>,
}

/// One level of an escalation: who is paged once a page has been open for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EscalationLevel {
    /// From the page's beginning, or from the beginning of a later round.
    pub after: Span,
    /// The least severe page that it hears of.
    pub severity: Severity,
    /// Who, as the documents name them: people, groups, channels.
    pub to: Vec<String>,
    /// The channels that reach them.
    pub channels: Vec<ChannelName>,
}
