//! Actions: what a step of a plan does to the world.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::model::{
    check::CheckItem,
    id::{Attempt, Epoch, IdempotencyKey, RunId, ServiceName, StepId},
    plan::RunKind,
    site::Site,
    span::Span,
    step::{Presence, StepResult},
    time::Time,
};

/// What an action is told about the step that it performs.
#[derive(Clone, Debug)]
pub struct StepContext {
    /// For which service.
    pub service: ServiceName,
    /// In which run.
    pub run: RunId,
    /// What the run is for.
    pub kind: RunKind,
    /// As which step.
    pub step: StepId,
    /// Which attempt.
    pub attempt: Attempt,
    /// The epoch that the effect carries.
    pub epoch: Epoch,
    /// Recognises the effect at the other side; the same over every repeat.
    pub key: IdempotencyKey,
    /// The one of the two that the step acts at.
    pub site: Site,
    /// The site that served.
    pub from: Site,
    /// The site that will serve.
    pub to: Site,
    /// Facts of steps that are done, as `<step id>.<fact>`.
    pub facts: BTreeMap<String, String>,
    /// Time-out of this attempt; the driver enforces it too, as Indeterminate.
    pub timeout: Span,
}

/// How much earlier than the driver an adapter gives up: what it has to say is worth more than "no end in time".
const ACCOUNT: Duration = Duration::from_millis(250);

impl StepContext {
    /// How long the adapter may take: a little less than `timeout`.
    #[must_use]
    pub fn limit(&self) -> Duration {
        let timeout = self.timeout.to_std();
        timeout.saturating_sub(ACCOUNT.min(timeout / 10))
    }

    /// The same from now on, for adapters that wait by the driver's own time.
    #[must_use]
    pub fn deadline(&self, now: Time) -> Time {
        let limit = u64::try_from(self.limit().as_millis()).unwrap_or(u64::MAX);
        now.after(Span::from_millis(limit))
    }
}

/// An adapter that a step performs. Every method may be cancelled at any await point.
#[async_trait]
pub trait Action: Send + Sync {
    /// Makes the effect. Repeating it with the same key must be harmless where the other side can tell.
    async fn perform(&self, step: &StepContext) -> StepResult;

    /// Looks whether the effect is in place, without changing anything.
    async fn observe(&self, step: &StepContext) -> Presence;

    /// Takes the effect back; `None` where it changes nothing that could be taken back.
    async fn undo(&self, _step: &StepContext) -> Option<StepResult> {
        None
    }

    /// Tries credentials and settings without changing anything, for `failover check`. `from` and `to` are the
    /// sites of the failover that would be performed.
    async fn check(&self, _from: &Site, _to: &Site) -> Vec<CheckItem> {
        Vec::new()
    }
}

/// A shared action.
pub type SharedAction = Arc<dyn Action>;
