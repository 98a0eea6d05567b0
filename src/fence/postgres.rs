//! `postgres/fence`: has the old primary refuse writers, where it can be reached.
//!
//! New sessions are read-only by default, and those that were there are ended. That stops applications; it stops
//! nobody who sets his session to read-write again, and proves nothing about tomorrow: no rung is reached.

use std::{fmt::Write, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::Value;
use tokio::time::sleep;

use super::server;
use crate::{
    model::{
        check::CheckItem,
        plan::StepPhase,
        site::Site,
        step::{Presence, Proof, StepResult},
    },
    port::{
        action::{Action, SharedAction, StepContext},
        kind::{Kind, Make, MakeError, Wiring, read},
        postgres::{Answer, Login, PostgresError, ServerWith, Session},
    },
};

/// Time between two looks while settings are read and sessions end.
const AGAIN: Duration = Duration::from_millis(50);
/// Part of the step's time that is kept for the answer when sessions do not end, at most.
const RESERVE: Duration = Duration::from_secs(2);

/// `postgres/fence`.
pub const KIND: Kind = Kind::new::<ServerWith>(
    "postgres/fence",
    "has a reachable PostgreSQL primary refuse writers and ends their sessions; proves nothing by itself",
    "connection: host=db-a.example.com user=failover sslmode=verify-full\n\
     password: {env: FAILOVER_DB_PASSWORD}\n",
    Make::Action(make),
)
.in_phase(StepPhase::Fence);

fn make(with: &Value, wiring: &Wiring) -> Result<SharedAction, MakeError> {
    let with: ServerWith = read(with)?;
    Ok(Arc::new(PostgresFence {
        login: with.login(wiring),
    }))
}

struct PostgresFence {
    login: Login,
}

const LOOK: &str = "
SELECT pg_is_in_recovery() AS recovery, pg_conf_load_time() AS loaded, setting = 'on' AS read_only
FROM pg_settings WHERE name = 'default_transaction_read_only'";

#[async_trait]
impl Action for PostgresFence {
    async fn perform(&self, step: &StepContext) -> StepResult {
        let session = match self.login.open(step.limit()).await {
            Ok(session) => session,
            Err(e) => return early(&e),
        };
        self.fence(&session).await.unwrap_or_else(|result| result)
    }

    async fn observe(&self, step: &StepContext) -> Presence {
        match self.look(step.limit()).await {
            Ok(presence) => presence,
            Err(e) => Presence::unknown(e.told()),
        }
    }

    async fn undo(&self, step: &StepContext) -> Option<StepResult> {
        let opened = self.open_again(step.limit()).await;
        Some(opened.unwrap_or_else(|result| result))
    }

    async fn check(&self, _from: &Site, _to: &Site) -> Vec<CheckItem> {
        server::fence(&self.login).await
    }
}

impl PostgresFence {
    /// Either way the step's result; `?` leaves early.
    async fn fence(&self, session: &Session) -> Result<StepResult, StepResult> {
        let server = self.login.conninfo.server();
        let look = session.row(LOOK).await.map_err(|e| early(&e))?;
        if look.get("recovery") == Some("t") {
            // Its setting would come into force with its promotion.
            return Ok(StepResult::Done(
                Proof::new(format!(
                    "{server} is a standby and takes no writes; nothing was changed"
                ))
                .with("role", "standby"),
            ));
        }
        let loaded = look.get("loaded").unwrap_or_default().to_owned();
        let half = |e: PostgresError| half("it was begun", &e);
        session
            .rows("ALTER SYSTEM SET default_transaction_read_only = on")
            .await
            .map_err(|e| match e.answer() {
                Some(Answer::Forbidden) => early(&e),
                _ => half(e),
            })?;
        let reload = "SELECT pg_reload_conf()";
        session.rows(reload).await.map_err(half)?;
        let since = self.reloaded(session, &loaded).await.map_err(half)?;
        let ended = end_sessions(session, &since).await.map_err(half)?;
        let mut summary = format!(
            "{server} refuses writes by default; {} sessions were ended",
            ended.ended
        );
        if ended.left > 0 {
            let _ = write!(
                summary,
                "; {} did not end and may still write (superusers' sessions can be ended by a superuser only)",
                ended.left
            );
        }
        Ok(StepResult::Done(
            Proof::new(summary)
                .with("sessionsEnded", ended.ended.to_string())
                .with("sessionsLeft", ended.left.to_string()),
        ))
    }

    /// Waits until a new session has the setting, and returns since when.
    async fn reloaded(&self, session: &Session, before: &str) -> Result<String, PostgresError> {
        loop {
            let fresh = self.login.open(session.left()).await?;
            let look = fresh.row(LOOK).await?;
            match look.get("loaded") {
                Some(loaded) if loaded != before => return Ok(loaded.to_owned()),
                Some(_) | None => sleep(AGAIN).await,
            }
        }
    }

    async fn look(&self, within: Duration) -> Result<Presence, PostgresError> {
        let session = self.login.open(within).await?;
        let look = session.row(LOOK).await?;
        let server = self.login.conninfo.server();
        Ok(if look.get("recovery") == Some("t") {
            Presence::in_place(format!("{server} is a standby and takes no writes"))
        } else if look.get("read_only") == Some("t") {
            Presence::in_place(format!("{server} refuses writes by default"))
        } else {
            Presence::absent(format!("{server} takes writes"))
        })
    }

    /// Either way the step's result; `?` leaves early.
    async fn open_again(&self, within: Duration) -> Result<StepResult, StepResult> {
        let session = self.login.open(within).await.map_err(|e| kept(&e))?;
        let reset = "ALTER SYSTEM RESET default_transaction_read_only";
        session.rows(reset).await.map_err(|e| kept(&e))?;
        let reload = session.rows("SELECT pg_reload_conf()").await;
        reload.map_err(|e| half("writes are allowed again from its next reload on", &e))?;
        Ok(StepResult::done(format!(
            "{} takes writes again by default",
            self.login.conninfo.server()
        )))
    }
}

/// How many sessions of clients were ended, and how many are left.
struct Ended {
    ended: usize,
    left: usize,
}

/// Ends every client's session that began before `since`. The replication stream is no client.
async fn end_sessions(session: &Session, since: &str) -> Result<Ended, PostgresError> {
    let older = format!(
        "FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() \
         AND backend_start <= '{since}'"
    );
    // A role that is no superuser may not end a superuser's session, and asking is an error.
    let end = format!(
        "SELECT pg_terminate_backend(pid) AS asked {older} AND \
         (current_setting('is_superuser') = 'on' OR usesysid NOT IN (SELECT oid FROM pg_roles WHERE rolsuper))"
    );
    let count = format!("SELECT count(*) AS left {older}");
    let mut ended = 0;
    loop {
        let asked = session.rows(&end).await?.len();
        ended = ended.max(asked);
        let row = session.row(&count).await?;
        let left = row.get("left").and_then(|n| n.parse().ok()).unwrap_or(0);
        let reserve = RESERVE.min(session.left() / 2);
        if left == 0 || asked == 0 || session.left() <= reserve {
            return Ok(Ended { ended, left });
        }
        sleep(AGAIN).await;
    }
}

/// An error after something was changed, or perhaps was.
fn half(done: &str, error: &PostgresError) -> StepResult {
    let fix = error.fix().map(|fix| format!("; {fix}"));
    StepResult::indeterminate(format!(
        "{done}, but then {}{}",
        error.told(),
        fix.unwrap_or_default()
    ))
}

/// An error when the setting was to be taken back. Where the connection broke after the question, it may be.
fn kept(error: &PostgresError) -> StepResult {
    if error.is_timeout() || matches!(error, PostgresError::Closed { .. }) {
        StepResult::indeterminate(error.told())
    } else {
        StepResult::failed(error.told())
    }
}

/// An error before anything was changed. A time-out is never a failure: an earlier attempt may be under way.
fn early(error: &PostgresError) -> StepResult {
    let text = match error.fix() {
        Some(fix) => format!("nothing was fenced: {}; {fix}", error.told()),
        None => format!("nothing was fenced: {}", error.told()),
    };
    if error.is_timeout() {
        StepResult::indeterminate(text)
    } else {
        StepResult::failed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_breaks_may_have_taken_the_fence_back() {
        let server = || "db-a:5432".to_owned();
        let broken = PostgresError::Closed {
            server: server(),
            source: None,
        };
        assert!(matches!(kept(&broken), StepResult::Indeterminate { .. }));
        let refused = PostgresError::Refused {
            server: server(),
            source: std::io::ErrorKind::ConnectionRefused.into(),
        };
        assert!(matches!(kept(&refused), StepResult::Failed { .. }));
    }
}
