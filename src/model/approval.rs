//! Questions put to people, and who may answer them.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    id::{GroupName, PersonName, PlanHash, RunId, StepId, TelegramUser},
    loss::LossForecast,
    plan::RunKind,
    span::Span,
};

/// Who must approve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalPolicy {
    /// How many different people must approve.
    pub required: u32,
    /// Who may: people and the members of groups, by name.
    pub approvers: Vec<PersonName>,
    /// Who may approve alone in an emergency, with a reason.
    pub break_glass: Vec<PersonName>,
    /// A question nobody answered ends after this.
    pub expiry: Span,
    /// What then happens.
    pub on_timeout: OnTimeout,
}

/// What happens when nobody answers a question in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnTimeout {
    /// Nothing is done; people are paged again.
    #[default]
    Hold,
    /// It goes on as if approved; never where fencing is unproved.
    Proceed,
}

/// What a question is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AskSubject {
    /// May this run begin?
    Open {
        /// What for.
        kind: RunKind,
    },
    /// May this drill move production to its other site and back?
    Drill {
        /// The drill that waits.
        drill: RunId,
    },
    /// The fence is not proved as far as the policy wants: is the old primary surely unable to write?
    /// Whoever approves attests to it by name.
    Fence {
        /// The run that waits.
        run: RunId,
    },
    /// Transactions that only the returning site has were kept apart: has somebody settled what becomes of them?
    Salvage {
        /// The run that waits.
        run: RunId,
    },
    /// A manual step: is it done?
    Manual {
        /// The run that waits.
        run: RunId,
        /// The step.
        step: StepId,
    },
    /// A step has failed for good: go on without it?
    Failed {
        /// The run that waits.
        run: RunId,
        /// The step.
        step: StepId,
    },
}

/// A question put to people: everything the prompt shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ask {
    /// What it is about.
    pub subject: AskSubject,
    /// The plan that would run; any change of it voids the question.
    pub plan: PlanHash,
    /// Why this is asked, one sentence each.
    pub reasons: Vec<String>,
    /// What would be lost.
    pub loss: LossForecast,
    /// The forecast against the RTO, one sentence.
    pub forecast: String,
    /// How many different people must approve.
    pub required: u32,
    /// Who asked for the run, where a person did; cannot approve where two are required.
    pub requester: Option<PersonName>,
}

/// A person as documents name them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Person {
    /// Unique name.
    pub name: PersonName,
    /// `sha256:` and the hex digest of the personal token, as `failover token` prints it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_hash: Option<String>,
    /// The user that a cluster's API server knows the person as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<String>,
    /// The user that Telegram knows the person as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub telegram: Option<TelegramUser>,
    /// What the person may do; none: whatever the approvals leave to them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// For colleagues, where nothing else works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    /// Groups that the person belongs to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupName>,
}

impl Person {
    /// A person of whom nothing but the name is known.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            token_hash: None,
            kubernetes: None,
            telegram: None,
            role: None,
            phone: None,
            groups: Vec::new(),
        }
    }

    /// Whether the person's role goes so far; without one it does.
    #[must_use]
    pub fn may(&self, needed: Role) -> bool {
        self.role.is_none_or(|role| role >= needed)
    }

    /// Whether a front end can know who this is, so that an approval can be theirs.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.token_hash.is_some() || self.telegram.is_some()
    }
}

/// What a person may do; each role may do what the one before may.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Look.
    Viewer,
    /// Ask for runs and drills, pause, acknowledge, speak to customers, keep the timeline.
    Operator,
    /// Answer questions, where the approvals name the person.
    Approver,
    /// Lower the mode, and say that the service was moved by hand.
    Admin,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Approver => "approver",
            Self::Admin => "admin",
        })
    }
}

impl AskSubject {
    /// The run that waits for the answer.
    #[must_use]
    pub fn run(&self) -> Option<&RunId> {
        match self {
            Self::Open { .. } => None,
            Self::Drill { drill: run }
            | Self::Fence { run }
            | Self::Salvage { run }
            | Self::Manual { run, .. }
            | Self::Failed { run, .. } => Some(run),
        }
    }
}
