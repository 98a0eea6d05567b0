//! `command/fence`: a program of the user's own stops the old primary, and another one sees that it is stopped.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{
    model::{
        check::CheckItem,
        id::ServiceName,
        plan::StepPhase,
        site::Site,
        step::{Presence, Proof, Rung, StepResult},
    },
    port::{
        action::{Action, SharedAction, StepContext},
        command::{Steps, StepsWith},
        kind::{Kind, Make, MakeError, Wiring, read},
    },
};

/// Time between two looks while the effect is not seen yet: a cloud takes a while to stop an instance.
const AGAIN: Duration = Duration::from_secs(1);

/// `command/fence`.
pub const KIND: Kind = Kind::new::<StepsWith>(
    "command/fence",
    "runs a program that stops the old primary; proved once `observe` says that it is stopped",
    "perform: [/usr/local/sbin/stop-primary, --now]\n\
     observe: [/usr/local/sbin/stop-primary, --is-stopped]\n\
     undo: [/usr/local/sbin/stop-primary, --start-again]\n\
     env:\n  CLOUD_TOKEN: {env: FENCE_TOKEN}\n",
    Make::Action(make),
)
.in_phase(StepPhase::Fence)
.reaching(Rung::Infrastructure);

fn make(with: &Value, wiring: &Wiring) -> Result<SharedAction, MakeError> {
    Ok(Arc::new(CommandFence {
        steps: read::<StepsWith>(with)?.steps(&wiring.secrets),
        service: wiring.service.name.clone(),
    }))
}

struct CommandFence {
    steps: Steps,
    service: ServiceName,
}

#[async_trait]
impl Action for CommandFence {
    async fn perform(&self, step: &StepContext) -> StepResult {
        let deadline = Instant::now() + step.limit();
        let done = match self.steps.perform(step, step.limit()).await {
            StepResult::Done(proof) => proof,
            // What is stopped already cannot be stopped again: what counts is whether it is stopped.
            other @ (StepResult::Failed { .. } | StepResult::Indeterminate { .. }) => {
                let left = deadline.saturating_duration_since(Instant::now());
                return match self.steps.observe(step, left).await {
                    Presence::InPlace(seen) => {
                        StepResult::Done(seen.reaching(Rung::Infrastructure))
                    }
                    Presence::Absent { .. } | Presence::Unknown { .. } => other,
                };
            }
        };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let reason = match self.steps.observe(step, left).await {
                Presence::InPlace(seen) => return StepResult::Done(merged(done, seen)),
                Presence::Absent { reason } => format!("observe does not see it yet ({reason})"),
                Presence::Unknown { reason } => format!("observe cannot tell ({reason})"),
            };
            if deadline.saturating_duration_since(Instant::now()) <= AGAIN {
                return StepResult::indeterminate(format!(
                    "the command says that the old primary is stopped, but {reason}"
                ));
            }
            sleep(AGAIN).await;
        }
    }

    async fn observe(&self, step: &StepContext) -> Presence {
        match self.steps.observe(step, step.limit()).await {
            Presence::InPlace(seen) => Presence::InPlace(seen.reaching(Rung::Infrastructure)),
            other @ (Presence::Absent { .. } | Presence::Unknown { .. }) => other,
        }
    }

    async fn undo(&self, step: &StepContext) -> Option<StepResult> {
        Some(self.steps.undo(step, step.limit()).await)
    }

    async fn check(&self, from: &Site, to: &Site) -> Vec<CheckItem> {
        let name = "fence/command";
        vec![self.steps.check(name, &self.service, from, to).await]
    }
}

/// What was seen is the evidence; what was said while it was done adds facts.
fn merged(done: Proof, seen: Proof) -> Proof {
    let mut facts = done.facts;
    facts.extend(seen.facts);
    Proof {
        summary: format!("observe confirms it: {}", seen.summary),
        facts,
        rung: Some(Rung::Infrastructure),
    }
}
