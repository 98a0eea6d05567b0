//! `command/promote`: a program of the user's own makes the standby take over.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use crate::{
    model::{
        check::CheckItem,
        id::ServiceName,
        plan::StepPhase,
        site::Site,
        step::{Presence, StepResult},
    },
    port::{
        action::{Action, SharedAction, StepContext},
        command::{Steps, StepsWith},
        kind::{Kind, Make, MakeError, Wiring, read},
    },
};

/// `command/promote`.
pub const KIND: Kind = Kind::new::<StepsWith>(
    "command/promote",
    "runs a program that makes the standby take over; `observe` tells whether it has",
    "perform: [/usr/local/sbin/standby, promote]\n\
     observe: [/usr/local/sbin/standby, is-promoted]\n\
     env:\n  STANDBY_TOKEN: {file: /etc/failover/standby.token}\n",
    Make::Action(make),
)
.in_phase(StepPhase::Promote);

fn make(with: &Value, wiring: &Wiring) -> Result<SharedAction, MakeError> {
    Ok(Arc::new(CommandPromotion {
        steps: read::<StepsWith>(with)?.steps(&wiring.secrets),
        service: wiring.service.name.clone(),
    }))
}

struct CommandPromotion {
    steps: Steps,
    service: ServiceName,
}

#[async_trait]
impl Action for CommandPromotion {
    async fn perform(&self, step: &StepContext) -> StepResult {
        self.steps.perform(step, step.limit()).await
    }

    async fn observe(&self, step: &StepContext) -> Presence {
        self.steps.observe(step, step.limit()).await
    }

    async fn undo(&self, step: &StepContext) -> Option<StepResult> {
        Some(self.steps.undo(step, step.limit()).await)
    }

    async fn check(&self, from: &Site, to: &Site) -> Vec<CheckItem> {
        let name = "promote/command";
        vec![self.steps.check(name, &self.service, from, to).await]
    }
}
