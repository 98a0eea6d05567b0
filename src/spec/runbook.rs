//! The `Runbook` document.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document::With;
use crate::model::{
    plan::{OnFailure, Retry, RunKind, StepPhase},
    span::Span,
};

/// The steps of a failover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunbookSpec {
    /// For people. Default: the document's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The steps. They run in the order that `needs` gives; steps that do not need each other run side by side.
    pub steps: Vec<StepSpec>,
}

/// A step: an adapter performs it (`uses`), or a person does (`manual`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-uses" = "step"))]
pub struct StepSpec {
    /// Unique in the runbook: lower-case letters, digits and dashes.
    pub id: String,
    /// For people. Default: made from the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The adapter that performs the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<String>,
    /// Settings of the adapter. A service may override them under its own `steps`.
    #[serde(default, skip_serializing_if = "With::is_empty")]
    pub with: With,
    /// What a person has to do, instead of `uses`; said to be done with `failover approve`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manual: Option<String>,
    /// The part of the run it belongs to. Default: the adapter's own; a manual step must say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<StepPhase>,
    /// Steps that must be done before. Default: all steps of the phase before this one; verify does not wait for
    /// traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<Vec<String>>,
    /// The step that this one stands in for: it is performed only where that one cannot be done, and what waits for that
    /// one then waits for it. Several steps may stand in for the same one, in the order of their `needs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead_of: Option<String>,
    /// Time-out of one attempt. Default by phase: prepare 1h, fence 30s, promote 1m, traffic 5m, verify 1m, protect 15m,
    /// tell 1m; manual 1h; of backup/restore 4h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// Attempts and the wait between them.
    #[serde(default)]
    pub retry: Retry,
    /// The kinds of run it takes part in. Default: prepare in a failback, fence and promote in a failover, protect in a
    /// switchover and a failback, all others in every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<Vec<Run>>,
    /// What happens when it has failed for good. Default: ask where a fence cannot be proved and after the promotion,
    /// stop for other fences and promotions, continue in the phase tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
}

/// The kinds of run that a step can take part in.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Run {
    /// The standby takes over after the primary was lost.
    Failover,
    /// Traffic only: the application moves, the database stays.
    Redirect,
    /// Planned, without loss: the other site takes over from one that works.
    Switchover,
    /// Back to the site that was primary, once it has what was written meanwhile.
    Failback,
    /// An exercise, apart from production.
    Drill,
}

impl Run {
    /// Every kind that acts on production.
    pub const ALL: [Self; 4] = [
        Self::Failover,
        Self::Redirect,
        Self::Switchover,
        Self::Failback,
    ];
}

impl From<Run> for RunKind {
    fn from(run: Run) -> Self {
        match run {
            Run::Failover => Self::Failover,
            Run::Redirect => Self::Redirect,
            Run::Switchover => Self::Switchover,
            Run::Failback => Self::Failback,
            Run::Drill => Self::Drill,
        }
    }
}

/// What a service changes in a step of its runbook.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StepOverride {
    /// Settings that are added to those of the runbook, key by key, or take their place.
    #[serde(default, skip_serializing_if = "With::is_empty")]
    pub with: With,
    /// Settings by the site that the step acts at, added in the same way: a fence and a protect step act at the site that
    /// is left, all others at the site that will serve. A step that has them for both sites leads either way.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sites: BTreeMap<String, With>,
    /// Time-out of one attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// Attempts and the wait between them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// What happens when it has failed for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
}
