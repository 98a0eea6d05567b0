//! What the operator writes into statuses, and the one resource that is not a document of the controller's: a request for
//! a run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The group of every resource.
pub const GROUP: &str = "failover.rs";
/// Their version.
pub const VERSION: &str = "v1alpha1";

/// What people ask for when they create a `FailoverRun`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailoverRunSpec {
    /// The service, by the name of its `ProtectedService`.
    pub service: String,
    /// What is asked for.
    pub kind: AskedRun,
    /// The site to go to. Default: the first standby; of a switchover and a failback, the other site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The drill of the service that is meant. Default: the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<String>,
    /// The plan that is meant, by its hash or the beginning of it: another plan is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Why; it stands in the journal.
    pub reason: String,
    /// Who asks.
    pub requester: String,
}

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AskedRun {
    /// The standby takes over from a primary that is lost.
    Failover,
    /// Traffic only: the application moves, the database stays.
    Redirect,
    /// The other site takes over in order, while both work.
    Switchover,
    /// Back to the primary site, once that one has what was written meanwhile.
    Failback,
    /// An exercise.
    Drill,
}

/// Where a request stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Progress {
    /// Nobody has taken it yet.
    #[default]
    Waiting,
    /// People have to approve it first.
    Asking,
    /// Its run is under way.
    Running,
    /// Its run has done all that it should.
    Done,
    /// What its run had begun was taken back; the old site serves.
    Unwound,
    /// Its run could not go on by itself.
    Stuck,
    /// A person stopped its run before the promotion.
    Aborted,
    /// It was not taken, or not approved: nothing was done.
    Refused,
}

impl Progress {
    /// Whether nothing more will come of it.
    #[must_use]
    pub const fn is_over(self) -> bool {
        match self {
            Self::Waiting | Self::Asking | Self::Running => false,
            Self::Done | Self::Unwound | Self::Stuck | Self::Aborted | Self::Refused => true,
        }
    }
}

/// How far a `FailoverRun` is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FailoverRunStatus {
    /// The generation that this is about.
    pub observed_generation: i64,
    /// Where it stands.
    pub progress: Progress,
    /// In one sentence.
    pub message: String,
    /// The question that people have to answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ask: Option<String>,
    /// The run in the service's journal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The steps that are settled, of all of them, such as `3/5`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<String>,
    /// When the run was opened, by the controller's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened: Option<String>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// `Complete`, `Succeeded`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// Where a `ProtectedService` stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceStatus {
    /// The generation that this is about.
    pub observed_generation: i64,
    /// The worst verdict of its components.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// The site whose data takes writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<String>,
    /// The site that users are served from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serving: Option<String>,
    /// The mode in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// The epoch in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// How far the standby was behind when it was last measured, to a power of two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<String>,
    /// The forecast of a failover against the RTO, such as `42s/5m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<String>,
    /// What the last readiness check still says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readiness: Option<String>,
    /// Where it stands, in one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headline: Option<String>,
    /// The open run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Open questions to people.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub asks: Vec<OpenAsk>,
    /// `Ready`, `PrimaryHealthy`, `StandbyReady`, `FailoverInProgress`, `AwaitingApproval`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// An open question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OpenAsk {
    /// Its id.
    pub id: String,
    /// What it is about.
    pub about: String,
    /// When it ends by itself.
    pub expires: String,
    /// The commands that answer it.
    pub commands: Vec<String>,
}

/// Where a `Runbook` or a `BackupPolicy` stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DocumentStatus {
    /// The generation that this is about.
    pub observed_generation: i64,
    /// `Valid`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Holds {
    /// It holds.
    True,
    /// It does not.
    False,
    /// That cannot be told.
    Unknown,
}

impl From<bool> for Holds {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// A condition in the standard form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: Holds,
    /// The generation that this is about.
    pub observed_generation: i64,
    /// Since when it holds, or does not.
    pub last_transition_time: String,
    /// In one word.
    pub reason: String,
    /// In a sentence.
    pub message: String,
}
