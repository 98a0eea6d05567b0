//! The programs of one step: `perform`, `observe` and, where there is one, `undo`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Command, Context, Run, Verb, argv_problems, env_problems};
use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        id::ServiceName,
        secret::SecretRef,
        site::Site,
        span::Span,
        step::{Presence, StepResult},
    },
    port::{
        action::StepContext,
        kind::{Problem, With},
        secret::SharedSecrets,
    },
};

/// How long `failover check` waits for `observe`.
const CHECK: Duration = Duration::from_secs(30);

/// Settings of a step that runs programs of the user's own.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StepsWith {
    /// Program and arguments that make the effect. Exit status 0: done; 1: failed, nothing is left half-done;
    /// 75: it cannot tell; any other end: it may or may not have happened.
    pub perform: Vec<String>,
    /// Program and arguments that look whether the effect is in place, without changing anything. Exit status 0:
    /// in place; 1: not in place; any other end: it cannot tell.
    pub observe: Vec<String>,
    /// Program and arguments that take the effect back, with `perform`'s exit statuses.
    #[serde(default)]
    pub undo: Option<Vec<String>>,
    /// Secrets for the programs' environment, by the names they get there. What is no secret goes into the
    /// argument lists.
    #[serde(default)]
    pub env: BTreeMap<String, SecretRef>,
}

impl With for StepsWith {
    fn program(&self) -> Option<&'static str> {
        Some("perform")
    }

    fn problems(&self) -> Vec<Problem> {
        let mut all = argv_problems("perform", &self.perform);
        all.extend(argv_problems("observe", &self.observe));
        if let Some(undo) = &self.undo {
            all.extend(argv_problems("undo", undo));
        }
        all.extend(env_problems(&self.env));
        all
    }
}

/// The same where nothing may stay as it is when a run goes back.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UndoneWith {
    /// Program and arguments that make the effect. Exit status 0: done; 1: failed, nothing is left half-done;
    /// 75: it cannot tell; any other end: it may or may not have happened.
    pub perform: Vec<String>,
    /// Program and arguments that look whether the effect is in place, without changing anything. Exit status 0:
    /// in place; 1: not in place; any other end: it cannot tell.
    pub observe: Vec<String>,
    /// Program and arguments that take the effect back, with `perform`'s exit statuses: should a later step fail,
    /// the run goes back by it.
    pub undo: Vec<String>,
    /// Secrets for the programs' environment, by the names they get there. What is no secret goes into the
    /// argument lists.
    #[serde(default)]
    pub env: BTreeMap<String, SecretRef>,
}

impl With for UndoneWith {
    fn program(&self) -> Option<&'static str> {
        Some("perform")
    }

    fn problems(&self) -> Vec<Problem> {
        StepsWith::from(self.clone()).problems()
    }
}

impl From<UndoneWith> for StepsWith {
    fn from(with: UndoneWith) -> Self {
        Self {
            perform: with.perform,
            observe: with.observe,
            undo: Some(with.undo),
            env: with.env,
        }
    }
}

impl StepsWith {
    /// The programs, with what they need to run.
    #[must_use]
    pub fn steps(self, secrets: &SharedSecrets) -> Steps {
        Steps {
            perform: self.perform,
            observe: self.observe,
            undo: self.undo,
            env: self.env,
            secrets: Arc::clone(secrets),
        }
    }
}

/// The programs of one step.
#[derive(Clone)]
pub struct Steps {
    /// Makes the effect.
    pub perform: Vec<String>,
    /// Looks whether it is in place.
    pub observe: Vec<String>,
    /// Takes it back.
    pub undo: Option<Vec<String>>,
    /// Secrets for their environment.
    pub env: BTreeMap<String, SecretRef>,
    /// Where secrets come from.
    pub secrets: SharedSecrets,
}

impl Steps {
    /// Runs `perform` for at most `limit`.
    pub async fn perform(&self, step: &StepContext, limit: Duration) -> StepResult {
        let context = Context::of_step(Verb::Perform, step);
        self.run(&self.perform, &context, limit).await.result()
    }

    /// Runs `observe` for at most `limit`.
    pub async fn observe(&self, step: &StepContext, limit: Duration) -> Presence {
        let context = Context::of_step(Verb::Observe, step);
        self.run(&self.observe, &context, limit).await.presence()
    }

    /// Runs `undo` for at most `limit`; without one the effect stays.
    pub async fn undo(&self, step: &StepContext, limit: Duration) -> StepResult {
        let Some(undo) = &self.undo else {
            return StepResult::failed("no `undo` is set");
        };
        let context = Context::of_step(Verb::Undo, step);
        self.run(undo, &context, limit).await.result()
    }

    /// Runs `observe` outside any run: it must be able to answer, and the answer must be "not in place".
    pub async fn check(
        &self,
        name: &str,
        service: &ServiceName,
        from: &Site,
        to: &Site,
    ) -> CheckItem {
        let context = Context::of_check(service, from, to, Span::from(CHECK));
        let run = self.run(&self.observe, &context, CHECK).await;
        let told = run.told();
        match run.presence() {
            Presence::Absent { .. } => CheckItem::ok(
                name,
                format!("observe can be asked and says: not in place ({told})"),
            ),
            Presence::InPlace(_) => CheckItem::bad(
                name,
                CheckStatus::Fail,
                format!("observe says that it is in place although no run is under way ({told})"),
                "make observe answer 1 while nothing was done, or a failover will take nothing for a success",
            ),
            Presence::Unknown { .. } => CheckItem::bad(
                name,
                CheckStatus::Fail,
                format!("observe cannot tell ({told})"),
                "run it by hand with FAILOVER_VERB=check: it must end with 0 (in place) or 1 (not in place)",
            ),
        }
    }

    async fn run(&self, argv: &[String], context: &Context, limit: Duration) -> Run {
        let command = Command {
            argv: argv.to_vec(),
            env: self.env.clone(),
            secrets: Arc::clone(&self.secrets),
        };
        command.run(context, limit).await
    }
}
