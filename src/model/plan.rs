//! A plan: what a run will do, compiled from service, runbook and direction; hashed and then immutable.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    id::{ConfigHash, KindName, PlanHash, RunbookName, ServiceName, SiteName, StepId},
    span::Span,
    step::Rung,
};

/// The kind that fences a cluster's workloads.
pub const CLUSTER_FENCE: &str = "kubernetes/fence";
/// The kind of step that restores a backup.
pub const RESTORE: &str = "backup/restore";

/// An adapter by name, with what it needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Uses {
    /// The adapter's kind, such as `postgres/promote`.
    pub uses: KindName,
    /// Its settings, checked by `validate`; secrets are references.
    #[serde(default)]
    pub with: serde_json::Value,
}

/// What a run is for.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum RunKind {
    /// The standby takes over after the primary was lost.
    Failover,
    /// Traffic only: the application moves, the database stays.
    Redirect,
    /// Planned, without loss: the other site takes over from one that works.
    Switchover,
    /// Back to the site that was primary.
    Failback,
    /// An exercise.
    Drill,
}

impl RunKind {
    /// What a person asks for by name; a drill is asked for in its own way.
    pub const ASKED_FOR: [Self; 4] = [
        Self::Failover,
        Self::Redirect,
        Self::Switchover,
        Self::Failback,
    ];

    /// What a person asks for by that name; none where there is none.
    #[must_use]
    pub fn asked_for(name: &str) -> Option<Self> {
        let mut kinds = Self::ASKED_FOR.into_iter();
        kinds.find(|kind| kind.to_string() == name)
    }

    /// Whether people begin it at a time of their choice, while the service works.
    #[must_use]
    pub fn is_planned(self) -> bool {
        matches!(self, Self::Switchover | Self::Failback)
    }
}

impl fmt::Display for RunKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failover => "failover",
            Self::Redirect => "redirect",
            Self::Switchover => "switchover",
            Self::Failback => "failback",
            Self::Drill => "drill",
        })
    }
}

/// The part of a run that a step belongs to, in order.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum StepPhase {
    /// Readies the site that will serve, while the other one still does.
    Prepare,
    /// Proves that the old primary cannot write.
    Fence,
    /// Makes the standby take writes.
    Promote,
    /// Brings users to it.
    Traffic,
    /// Proves that it serves; the RTO ends when this is done.
    Verify,
    /// Has the site that was left follow, so that there is a standby again; outside the RTO.
    Protect,
    /// Publishes and tells; outside the RTO.
    Tell,
}

impl StepPhase {
    /// All phases in order.
    pub const ALL: [Self; 7] = [
        Self::Prepare,
        Self::Fence,
        Self::Promote,
        Self::Traffic,
        Self::Verify,
        Self::Protect,
        Self::Tell,
    ];

    /// Which of a run's two sites its steps act at.
    #[must_use]
    pub fn end(self) -> End {
        match self {
            Self::Fence | Self::Protect => End::From,
            Self::Prepare | Self::Promote | Self::Traffic | Self::Verify | Self::Tell => End::To,
        }
    }
}

/// One of the two sites of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The site that serves now.
    From,
    /// The site that will serve.
    To,
}

impl fmt::Display for StepPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prepare => "prepare",
            Self::Fence => "fence",
            Self::Promote => "promote",
            Self::Traffic => "traffic",
            Self::Verify => "verify",
            Self::Protect => "protect",
            Self::Tell => "tell",
        })
    }
}

/// How often a step that failed is performed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Retry {
    /// Attempts altogether, at least 1.
    pub attempts: u32,
    /// Wait before the second attempt; doubles each time, with jitter, up to 30 s.
    pub backoff: Span,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 3,
            backoff: Span::from_secs(1),
        }
    }
}

/// What happens when a step has failed for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnFailure {
    /// The run ends Stuck and people are paged.
    #[default]
    Stop,
    /// The run goes on; the failure is reported.
    Continue,
    /// People are asked whether to go on.
    Ask,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanStep {
    /// Unique within the plan.
    pub id: StepId,
    /// For people.
    pub name: String,
    /// The part of the run that it belongs to.
    pub phase: StepPhase,
    /// What it does.
    pub action: Action,
    /// Steps that must be done before.
    pub needs: Vec<StepId>,
    /// The step that it stands in for: it is performed only where that one has failed for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead_of: Option<StepId>,
    /// Time-out of one attempt.
    pub timeout: Span,
    /// Attempts and back-off.
    pub retry: Retry,
    /// When it has failed for good.
    pub on_failure: OnFailure,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// An adapter performs it.
    Adapter(Uses),
    /// A person does it and says so with `failover approve`.
    Manual {
        /// What to do.
        instructions: String,
    },
}

impl Action {
    /// Whether it restores a backup.
    #[must_use]
    pub fn restores(&self) -> bool {
        self.kind() == Some(RESTORE)
    }

    /// The kind of adapter that performs it; none where a person does.
    #[must_use]
    pub fn kind(&self) -> Option<&str> {
        match self {
            Self::Adapter(uses) => Some(uses.uses.as_str()),
            Self::Manual { .. } => None,
        }
    }
}

/// What a run will do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// For which service.
    pub service: ServiceName,
    /// What it is for.
    pub kind: RunKind,
    /// Which runbook it came from.
    pub runbook: RunbookName,
    /// The site that serves now.
    pub from: SiteName,
    /// The site that will serve.
    pub to: SiteName,
    /// The lowest rung of proof that lets it promote without asking; none where nothing is promoted.
    pub fencing: Option<Rung>,
    /// The steps; `needs` order them.
    pub steps: Vec<PlanStep>,
    /// The documents it came from.
    pub config: ConfigHash,
}

impl Plan {
    /// SHA-256 over its canonical JSON. Approvals are bound to it.
    #[must_use]
    pub fn hash(&self) -> PlanHash {
        let json = serde_json::to_string(self).unwrap_or_default();
        PlanHash::new(hex::encode(Sha256::digest(json.as_bytes())))
    }

    /// The step of that id.
    #[must_use]
    pub fn step(&self, id: &StepId) -> Option<&PlanStep> {
        self.steps.iter().find(|s| &s.id == id)
    }
}

impl PlanHash {
    /// The first twelve digits, for people.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}
