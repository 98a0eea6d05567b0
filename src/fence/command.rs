//! `command/fence` and `command/drain`: a program of the user's own stops the old primary, or its database in order, and
//! another one sees that it is stopped.

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
        command::{Steps, StepsWith, UndoneWith},
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

/// `command/drain`: without guards, how a planned move stops writes and loses none.
pub const DRAIN: Kind = Kind::new::<UndoneWith>(
    "command/drain",
    "runs a program that stops the database in order; done once `observe` says that the other site has all of its log",
    "perform: [/usr/local/sbin/stop-database, --in-order]\n\
     observe: [/usr/local/sbin/stop-database, --standby-has-all]\n\
     undo: [/usr/local/sbin/stop-database, --start-again]\n",
    Make::Action(make_drain),
)
.in_phase(StepPhase::Fence);

fn make(with: &Value, wiring: &Wiring) -> Result<SharedAction, MakeError> {
    let with = read::<StepsWith>(with)?;
    Ok(stop(with, wiring, Some(Rung::Infrastructure)))
}

fn make_drain(with: &Value, wiring: &Wiring) -> Result<SharedAction, MakeError> {
    let with = read::<UndoneWith>(with)?;
    Ok(stop(with.into(), wiring, None))
}

fn stop(with: StepsWith, wiring: &Wiring, rung: Option<Rung>) -> SharedAction {
    Arc::new(CommandStop {
        steps: with.steps(&wiring.secrets),
        service: wiring.service.name.clone(),
        rung,
    })
}

struct CommandStop {
    steps: Steps,
    service: ServiceName,
    /// What it proves: a database that was stopped in order may be started again by anybody.
    rung: Option<Rung>,
}

#[async_trait]
impl Action for CommandStop {
    async fn perform(&self, step: &StepContext) -> StepResult {
        let deadline = Instant::now() + step.limit();
        let done = match self.steps.perform(step, step.limit()).await {
            StepResult::Done(proof) => proof,
            // What is stopped already cannot be stopped again: what counts is whether it is stopped.
            other @ (StepResult::Failed { .. } | StepResult::Indeterminate { .. }) => {
                let left = deadline.saturating_duration_since(Instant::now());
                return match self.steps.observe(step, left).await {
                    Presence::InPlace(seen) => StepResult::Done(self.proof(seen)),
                    Presence::Absent { .. } | Presence::Unknown { .. } => other,
                };
            }
        };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let reason = match self.steps.observe(step, left).await {
                Presence::InPlace(seen) => return StepResult::Done(self.merged(done, seen)),
                Presence::Absent { reason } => format!("observe does not see it yet ({reason})"),
                Presence::Unknown { reason } => format!("observe cannot tell ({reason})"),
            };
            if deadline.saturating_duration_since(Instant::now()) <= AGAIN {
                return StepResult::indeterminate(format!(
                    "the command says that {} is stopped, but {reason}",
                    self.what()
                ));
            }
            sleep(AGAIN).await;
        }
    }

    async fn observe(&self, step: &StepContext) -> Presence {
        match self.steps.observe(step, step.limit()).await {
            Presence::InPlace(seen) => Presence::InPlace(self.proof(seen)),
            other @ (Presence::Absent { .. } | Presence::Unknown { .. }) => other,
        }
    }

    async fn undo(&self, step: &StepContext) -> Option<StepResult> {
        Some(self.steps.undo(step, step.limit()).await)
    }

    async fn check(&self, from: &Site, to: &Site) -> Vec<CheckItem> {
        let name = match self.rung {
            Some(_) => "fence/command",
            None => "drain/command",
        };
        vec![self.steps.check(name, &self.service, from, to).await]
    }
}

impl CommandStop {
    fn what(&self) -> &'static str {
        match self.rung {
            Some(_) => "the old primary",
            None => "the database",
        }
    }

    fn proof(&self, seen: Proof) -> Proof {
        Proof {
            rung: self.rung,
            ..seen
        }
    }

    /// What was seen is the evidence; what was said while it was done adds facts.
    fn merged(&self, done: Proof, seen: Proof) -> Proof {
        let mut facts = done.facts;
        facts.extend(seen.facts);
        self.proof(Proof {
            summary: format!("observe confirms it: {}", seen.summary),
            facts,
            rung: None,
        })
    }
}
