//! `postgres/write-attempt`: tries a real write at the old primary.
//!
//! Success blocks the run until a later attempt is refused: silence after it takes nothing back. Only an *answer* that refuses strengthens the proof: read-only, shutting down, or a
//! connection that a living host refuses. Silence adds nothing, and neither does a server that is starting up: it
//! may take writes in a moment. No rung is reached either way; what proves is the fence before it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::server;
use crate::{
    model::{
        check::CheckItem,
        plan::StepPhase,
        secret::SecretRef,
        site::Site,
        span::Span,
        step::{Presence, Proof, StepResult, WRITE, WRITE_REFUSED, WRITE_UNANSWERED},
    },
    port::{
        action::{Action, SharedAction, StepContext},
        kind::{Kind, Make, MakeError, Problem, Wiring, With, read},
        postgres::{Answer, Conninfo, Login, PostgresError},
    },
};

/// How long the old primary is waited for unless documents say otherwise.
const WITHIN: Span = Span::from_secs(3);
/// Time before another try where a session was cut off: the next one tells more.
const AGAIN: Duration = Duration::from_millis(100);

/// `postgres/write-attempt`.
pub const KIND: Kind = Kind::new::<WriteAttemptWith>(
    "postgres/write-attempt",
    "tries a write at the old PostgreSQL primary: success blocks, an answered refusal strengthens the proof",
    "connection: host=db-a.example.com user=failover sslmode=verify-full\n\
     password: {env: FAILOVER_DB_PASSWORD}\n\
     within: 3s\n",
    Make::Action(make),
)
.in_phase(StepPhase::Fence);

/// Settings of `postgres/write-attempt`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WriteAttemptWith {
    /// How to connect to the old primary itself, never through a pooler or a name that moves. The role needs the
    /// right `TEMPORARY` in the database.
    pub connection: Conninfo,
    /// The role's password.
    #[serde(default)]
    pub password: Option<SecretRef>,
    /// How long an answer is waited for; silence beyond it adds nothing. Default: 3s.
    #[serde(default = "within")]
    pub within: Span,
}

fn within() -> Span {
    WITHIN
}

impl With for WriteAttemptWith {
    fn problems(&self) -> Vec<Problem> {
        if self.within == Span::ZERO {
            return vec![Problem::new("within", "expected a time above zero")];
        }
        Vec::new()
    }

    fn hosts(&self) -> Vec<String> {
        self.connection.hosts()
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedAction, MakeError> {
    let with: WriteAttemptWith = read(with)?;
    Ok(Arc::new(WriteAttempt {
        login: Login {
            conninfo: with.connection,
            password: with.password,
            secrets: Arc::clone(&wiring.secrets),
        },
        within: with.within.to_std(),
    }))
}

struct WriteAttempt {
    login: Login,
    within: Duration,
}

#[async_trait]
impl Action for WriteAttempt {
    async fn perform(&self, step: &StepContext) -> StepResult {
        let deadline = Instant::now() + self.within.min(step.limit());
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let error = match self.attempt(left).await {
                Ok(()) => {
                    return StepResult::failed(format!(
                        "{} still takes writes: stop it before anything is promoted",
                        self.login.conninfo.server()
                    ));
                }
                Err(e) => e,
            };
            let cut_off = error.answer() == Some(Answer::Ended)
                || matches!(error, PostgresError::Closed { .. });
            if !cut_off || deadline.saturating_duration_since(Instant::now()) <= AGAIN {
                return StepResult::Done(judged(&error));
            }
            sleep(AGAIN).await;
        }
    }

    /// A write leaves nothing to see, so the attempt is never in place: it is made again.
    async fn observe(&self, _step: &StepContext) -> Presence {
        Presence::absent("an attempt leaves nothing behind; it can be made again")
    }

    async fn check(&self, _from: &Site, _to: &Site) -> Vec<CheckItem> {
        server::write_attempt(&self.login).await
    }
}

impl WriteAttempt {
    async fn attempt(&self, within: Duration) -> Result<(), PostgresError> {
        self.login.open(within).await?.try_write().await
    }
}

fn judged(error: &PostgresError) -> Proof {
    let told = error.told();
    if refuses(error) {
        Proof::new(format!("a write was refused: {told}")).with(WRITE, WRITE_REFUSED)
    } else {
        Proof::new(format!(
            "a write attempt was not answered, which adds nothing: {told}"
        ))
        .with(WRITE, WRITE_UNANSWERED)
    }
}

fn refuses(error: &PostgresError) -> bool {
    match error.answer() {
        Some(Answer::ReadOnly | Answer::Stopping) => true,
        Some(
            Answer::Starting
            | Answer::Ended
            | Answer::Full
            | Answer::Denied
            | Answer::Forbidden
            | Answer::Cancelled
            | Answer::Statement
            | Answer::Trouble,
        ) => false,
        None => matches!(error, PostgresError::Refused { .. }),
    }
}
