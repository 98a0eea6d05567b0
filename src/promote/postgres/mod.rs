//! `postgres/promote`: makes a streaming standby the primary, and proves it by a write.

mod check;
mod state;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::Value;
use tokio::time::sleep;

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
use state::State;

/// Time between two looks while replay or promotion is awaited.
const AGAIN: Duration = Duration::from_millis(10);
/// How long a standby is left alone after its primary may have died. Promoted within 10 ms of that, PostgreSQL 15
/// sat out its `wal_retrieve_retry_interval` (5 s) in 11 of 28 tries, at 20 ms and more in none of 23.
const SETTLE: Duration = Duration::from_millis(30);
/// Part of the step's time that is kept for the promotion itself when replay lags, at most.
const RESERVE: Duration = Duration::from_secs(15);

/// `postgres/promote`.
pub const KIND: Kind = Kind::new::<ServerWith>(
    "postgres/promote",
    "promotes a PostgreSQL standby once it has replayed what it received, and proves it by a write",
    "connection: host=db-b.example.com user=failover sslmode=verify-full\n\
     password: {env: FAILOVER_DB_PASSWORD}\n",
    Make::Action(make),
)
.in_phase(StepPhase::Promote);

fn make(with: &Value, wiring: &Wiring) -> Result<SharedAction, MakeError> {
    let with: ServerWith = read(with)?;
    Ok(Arc::new(PostgresPromotion {
        login: with.login(wiring),
    }))
}

struct PostgresPromotion {
    login: Login,
}

#[async_trait]
impl Action for PostgresPromotion {
    async fn perform(&self, step: &StepContext) -> StepResult {
        let session = match self.login.open(step.limit()).await {
            Ok(session) => session,
            Err(e) => return before(&e),
        };
        self.promote(&session).await.unwrap_or_else(|result| result)
    }

    async fn observe(&self, step: &StepContext) -> Presence {
        match self.look(step).await {
            Ok(presence) => presence,
            Err(e) => Presence::unknown(e.told()),
        }
    }

    async fn check(&self, from: &Site, _to: &Site) -> Vec<CheckItem> {
        check::items(&self.login, from).await
    }
}

impl PostgresPromotion {
    /// Either way the step's result; `?` leaves early.
    async fn promote(&self, session: &Session) -> Result<StepResult, StepResult> {
        let state = State::of(session).await.map_err(|e| before(&e))?;
        if !state.recovery {
            return self.confirm(session, None).await;
        }
        let state = replayed(session, state).await?;
        if state.retry_interval > SETTLE {
            sleep(SETTLE).await;
        }
        match session.row("SELECT pg_promote(false) AS asked").await {
            Ok(_) => {}
            Err(e) if e.answer() == Some(Answer::Forbidden) => return Err(before(&e)),
            Err(e) => {
                return Err(StepResult::indeterminate(format!(
                    "promotion was asked for, but {}",
                    e.told()
                )));
            }
        }
        promoted(session).await?;
        self.confirm(session, Some(&state)).await
    }

    /// The server is no standby any more: does it take writes?
    async fn confirm(
        &self,
        session: &Session,
        before: Option<&State>,
    ) -> Result<StepResult, StepResult> {
        let lost = |e: &PostgresError| {
            StepResult::indeterminate(format!("it is promoted, but then {}", e.told()))
        };
        let written = match session.try_write().await {
            Ok(()) => "a write was made",
            Err(e) if e.answer() == Some(Answer::ReadOnly) => {
                return Err(StepResult::failed(read_only(&e.told())));
            }
            Err(e) if e.answer() == Some(Answer::Forbidden) => {
                "no write could be tried: the role may not make temporary tables"
            }
            Err(e) => return Err(lost(&e)),
        };
        let state = State::of(session).await.map_err(|e| lost(&e))?;
        let mut summary = match before {
            Some(_) => format!(
                "{} is the primary now; {written}",
                self.login.conninfo.server()
            ),
            None => format!(
                "{} was the primary already; {written}",
                self.login.conninfo.server()
            ),
        };
        if let Some(warning) = state.waits_for_standbys() {
            summary.push_str("; ");
            summary.push_str(&warning);
        }
        let received = before.and_then(|s| s.received);
        let mut proof = state.proof(summary);
        if let Some(received) = received {
            proof = proof.with("received", received.to_string());
        }
        Ok(StepResult::Done(proof))
    }

    async fn look(&self, step: &StepContext) -> Result<Presence, PostgresError> {
        let session = self.login.open(step.limit()).await?;
        let state = State::of(&session).await?;
        let server = self.login.conninfo.server();
        Ok(if state.recovery {
            Presence::absent(format!("{server} is still a standby"))
        } else if state.read_only {
            Presence::absent(read_only(&format!("{server} is promoted")))
        } else {
            let proof: Proof = state.proof(format!("{server} is the primary"));
            Presence::InPlace(proof)
        })
    }
}

fn read_only(what: &str) -> String {
    format!(
        "{what}, but it takes no writes: default_transaction_read_only is on; run ALTER SYSTEM RESET \
         default_transaction_read_only; SELECT pg_reload_conf() there"
    )
}

/// An error before anything was asked for. A time-out is never a failure: an earlier attempt may be under way.
fn before(error: &PostgresError) -> StepResult {
    let mut text = format!("nothing was promoted: {}", error.told());
    if let Some(fix) = error.fix() {
        text.push_str("; ");
        text.push_str(fix);
    }
    if error.is_timeout() {
        StepResult::indeterminate(text)
    } else {
        StepResult::failed(text)
    }
}

/// Waits until everything that had been received at the beginning is replayed. `pg_promote` would do so too, but
/// without an end and without a word.
async fn replayed(session: &Session, first: State) -> Result<State, StepResult> {
    if first.paused {
        return Err(StepResult::failed(
            "nothing was promoted: replay is paused on the standby, by a person, by a recovery target, or because \
             a setting such as max_connections is lower than on the primary; look into its log, then run SELECT \
             pg_wal_replay_resume() there",
        ));
    }
    // A standby that is delayed on purpose replays the rest at once when it is promoted.
    let target = match first.received {
        Some(received) if !first.delayed => received,
        Some(_) | None => return Ok(first),
    };
    let reserve = RESERVE.min(session.left() / 3);
    let mut state = first.clone();
    while state.replayed.is_none_or(|replayed| replayed < target) {
        if session.left() <= reserve {
            return Err(StepResult::failed(lagging(&first, &state)));
        }
        sleep(AGAIN).await;
        state = State::of(session).await.map_err(|e| before(&e))?;
        if state.paused {
            return Err(StepResult::failed(
                "nothing was promoted: replay was paused on the standby just now",
            ));
        }
    }
    Ok(state)
}

fn lagging(first: &State, now: &State) -> String {
    let position = |s: &State| s.replayed.unwrap_or_default();
    let left = now
        .received
        .unwrap_or_default()
        .0
        .saturating_sub(position(now).0);
    let moved = position(now).0.saturating_sub(position(first).0);
    let how = if moved == 0 {
        "replay stands still: a query on the standby may hold it up (max_standby_streaming_delay), or its disk"
            .to_owned()
    } else {
        format!("{moved} bytes were replayed meanwhile: give the step a longer timeout")
    };
    format!(
        "nothing was promoted: {left} bytes that the standby received are not replayed yet; {how}"
    )
}

async fn promoted(session: &Session) -> Result<(), StepResult> {
    loop {
        match session.row("SELECT pg_is_in_recovery() AS recovery").await {
            Ok(row) if row.get("recovery") == Some("f") => return Ok(()),
            Ok(_) => sleep(AGAIN).await,
            Err(e) => {
                return Err(StepResult::indeterminate(format!(
                    "promotion was asked for and is under way, but {}",
                    e.told()
                )));
            }
        }
    }
}
