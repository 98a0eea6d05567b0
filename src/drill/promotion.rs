//! `drill/promote`: the clone is started as a standby in a bubble, and promoted there.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{process::Child, time::sleep};

use super::{
    bubble::{self, Bubble, BubbleError},
    clone::Cloned,
    folder::{Folder, blocking},
    process,
    server::{self, Door, Left, PORT},
};
use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        plan::StepPhase,
        site::Site,
        span::Span,
        step::{Presence, Proof, StepResult},
    },
    port::{
        action::{Action, SharedAction, StepContext},
        cause,
        kind::{Kind, Make, MakeError, Problem, Wiring, With, read},
        postgres::{Answer, PostgresError, Session},
        secret::SharedSecrets,
    },
};

/// Under this name the run's folder tells how the promotion went.
const MARK: &str = "promoted.json";
/// Between two looks.
const AGAIN: Duration = Duration::from_millis(50);
/// How long one try to get in may take.
const TRY: Duration = Duration::from_secs(2);

/// `drill/promote`.
pub const KIND: Kind = Kind::new::<PromoteWith>(
    "drill/promote",
    "starts a drill's clone in a network of its own without a way out, promotes it, and proves it by a write",
    "sharedBuffers: 256\n",
    Make::Action(make),
)
.in_phase(StepPhase::Promote);

/// Settings of `drill/promote`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PromoteWith {
    /// MiB of shared buffers that the clone gets at most; default 256. It gets no more than its original has.
    #[serde(default = "shared_buffers")]
    pub shared_buffers: u64,
}

fn shared_buffers() -> u64 {
    256
}

impl With for PromoteWith {
    /// PostgreSQL's own, over settings that the data brings, which may name any other.
    fn program(&self) -> Option<&'static str> {
        Some("")
    }

    fn problems(&self) -> Vec<Problem> {
        let fits = (1..=1 << 20).contains(&self.shared_buffers);
        let problem = || Problem::new("sharedBuffers", "expected MiB, 1 to 1048576");
        (!fits).then(problem).into_iter().collect()
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedAction, MakeError> {
    Ok(Arc::new(Promotion {
        with: read(with)?,
        secrets: Arc::clone(&wiring.secrets),
    }))
}

struct Promotion {
    with: PromoteWith,
    secrets: SharedSecrets,
}

/// How the promotion went.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Times {
    /// From the start until it let somebody in.
    recovery: Span,
    /// From the asking until it took writes.
    promotion: Span,
}

#[async_trait]
impl Action for Promotion {
    async fn perform(&self, step: &StepContext) -> StepResult {
        self.promote(step).await.unwrap_or_else(|result| result)
    }

    async fn observe(&self, step: &StepContext) -> Presence {
        let folder = Folder::of_step(step);
        let cloned = match Cloned::of(&folder) {
            Ok(Some(cloned)) => cloned,
            Ok(None) => return Presence::absent("there is no clone"),
            Err(e) => return Presence::unknown(format!("the clone cannot be told: {e}")),
        };
        match find(&folder).await {
            Ok(Some(_)) => {}
            Ok(None) => return Presence::absent("no clone runs"),
            Err(e) => return Presence::unknown(cause::in_full(&e)),
        }
        let door = match Door::of(&folder, &cloned, None, None, &self.secrets) {
            Ok(door) => door,
            Err(why) => return Presence::unknown(why),
        };
        match self.look(&door, &folder, step.limit()).await {
            Ok(presence) => presence,
            Err(PostgresError::Refused { .. }) => {
                Presence::absent("the clone does not run, or not yet")
            }
            Err(e) => Presence::unknown(e.told()),
        }
    }

    async fn undo(&self, step: &StepContext) -> Option<StepResult> {
        let folder = Folder::of_step(step);
        let ended = blocking(move || {
            if folder.path().exists() {
                process::end_all(folder.path())?;
                folder.forget(MARK)?;
            }
            Ok(())
        });
        Some(match ended.await {
            Ok(()) => StepResult::done("nothing runs in the bubble, and it is gone"),
            Err(e) => StepResult::indeterminate(format!("the bubble is not empty: {e}")),
        })
    }

    async fn check(&self, _from: &Site, _to: &Site) -> Vec<CheckItem> {
        let entered = nix::unistd::geteuid().is_root();
        vec![match blocking(|| Ok(bubble::is_possible())).await {
            Ok(Ok(())) if entered => CheckItem::ok(
                "drill/promote",
                "a clone can run apart from this host's network",
            ),
            Ok(Ok(())) => CheckItem::ok(
                "drill/promote",
                "a clone can run apart from this host's network; drill/serve and drill/load with a url need root",
            ),
            Ok(Err(e)) => CheckItem::bad(
                "drill/promote",
                CheckStatus::Fail,
                cause::in_full(&e),
                "run the controller as root, or allow user namespaces",
            ),
            Err(e) => CheckItem::bad(
                "drill/promote",
                CheckStatus::Unknown,
                e.to_string(),
                "look into the log",
            ),
        }]
    }
}

impl Promotion {
    async fn promote(&self, step: &StepContext) -> Result<StepResult, StepResult> {
        let begun = Instant::now();
        let folder = Folder::of_step(step);
        let cloned = Cloned::needed(&folder)?;
        let door =
            Door::of(&folder, &cloned, None, None, &self.secrets).map_err(StepResult::failed)?;
        let end = begun + step.limit();
        let (mut child, left) = self.start(&folder, &cloned).await?;
        let session = enter(&door, &folder, &mut child, end).await?;
        let recovery = Span::from(begun.elapsed());
        // Whatever it may do by itself: before it takes writes it is proved to be apart.
        match find(&folder).await {
            Ok(Some(_)) => {}
            Ok(None) => {
                return Err(StepResult::indeterminate(
                    "the clone runs, and cannot be found",
                ));
            }
            Err(e) => {
                let text = cause::in_full(&e);
                let _ = end_all(&folder).await;
                return Err(StepResult::failed(format!(
                    "the clone was not promoted, and is stopped: {text}"
                )));
            }
        }
        let asked = Instant::now();
        let state = session
            .row("SELECT pg_is_in_recovery() AS r")
            .await
            .map_err(|e| lost(&e))?;
        if state.get("r") == Some("t") {
            session
                .row("SELECT pg_promote(false)")
                .await
                .map_err(|e| lost(&e))?;
        }
        loop {
            let row = session
                .row("SELECT pg_is_in_recovery() AS r")
                .await
                .map_err(|e| lost(&e))?;
            if row.get("r") == Some("f") {
                break;
            }
            sleep(AGAIN).await;
        }
        session.try_write().await.map_err(|e| match e.answer() {
            Some(Answer::ReadOnly) => {
                StepResult::failed(format!("the clone takes no writes: {}", e.told()))
            }
            Some(_) | None => lost(&e),
        })?;
        let times = Times {
            recovery,
            promotion: Span::from(asked.elapsed()),
        };
        folder
            .write(MARK, &times)
            .map_err(|e| StepResult::indeterminate(format!("promoted, but not noted: {e}")))?;
        let mut proof = proof(&session, &folder, Some(times))
            .await
            .map_err(|e| lost(&e))?;
        let left = left.told();
        if !left.is_empty() {
            proof.summary = format!("{}; {left}", proof.summary);
        }
        Ok(StepResult::Done(proof))
    }

    /// Starts the clone anew: of an earlier attempt nothing counts.
    async fn start(&self, folder: &Folder, cloned: &Cloned) -> Result<(Child, Left), StepResult> {
        let failed = |text: String| StepResult::failed(format!("the clone is not started: {text}"));
        end_all(folder).await.map_err(|e| failed(e.to_string()))?;
        let started = server::started(folder, cloned.clone(), self.with.shared_buffers).await;
        match started {
            Ok(started) => Ok(started),
            Err(e) => {
                let text = cause::in_full(&e);
                let ended = end_all(folder).await;
                Err(ended.map_or_else(
                    |e| {
                        StepResult::indeterminate(format!(
                            "{text}; what was begun is still there: {e}"
                        ))
                    },
                    |()| failed(text.clone()),
                ))
            }
        }
    }

    async fn look(
        &self,
        door: &Door,
        folder: &Folder,
        limit: Duration,
    ) -> Result<Presence, PostgresError> {
        let session = door.open(limit).await?;
        let row = session.row("SELECT pg_is_in_recovery() AS r").await?;
        if row.get("r") != Some("f") {
            return Ok(Presence::absent("the clone runs, and is not promoted yet"));
        }
        session.try_write().await?;
        let times = folder.read(MARK).ok().flatten();
        Ok(Presence::InPlace(proof(&session, folder, times).await?))
    }
}

/// Waits until the clone lets somebody in.
async fn enter(
    door: &Door,
    folder: &Folder,
    child: &mut Child,
    end: Instant,
) -> Result<Session, StepResult> {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match door.open(left).await {
            Ok(session) => return Ok(session),
            Err(e) if left < TRY / 4 => {
                return Err(StepResult::indeterminate(format!(
                    "the clone recovers, and lets nobody in yet: {}; give the step a longer timeout",
                    e.told()
                )));
            }
            Err(_) => {}
        }
        if let Ok(Some(status)) = child.try_wait() {
            let said = server::complaint(folder);
            let _ = end_all(folder).await;
            return Err(StepResult::failed(format!(
                "the clone does not run ({status}): {said}"
            )));
        }
        sleep(AGAIN).await;
    }
}

async fn end_all(folder: &Folder) -> std::io::Result<()> {
    let folder = folder.clone();
    blocking(move || process::end_all(folder.path())).await
}

async fn find(folder: &Folder) -> Result<Option<Bubble>, BubbleError> {
    let folder = folder.clone();
    let found = blocking(move || Ok(Bubble::find(&folder))).await;
    found.map_err(|e| BubbleError::Io("the bubble cannot be looked for".to_owned(), e))?
}

/// What is told of the clone that takes writes.
async fn proof(
    session: &Session,
    folder: &Folder,
    times: Option<Times>,
) -> Result<Proof, PostgresError> {
    let row = session
        .row(
            "SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int AS timeline, \
             pg_last_wal_replay_lsn() AS replayed, \
             to_char(pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') AS newest",
        )
        .await?;
    let mut proof = Proof::new("the clone takes writes, apart from every network")
        .with("socket", folder.sockets().display().to_string())
        .with("port", PORT.to_string());
    for (fact, column) in [
        ("timeline", "timeline"),
        ("lsn", "replayed"),
        ("lastCommit", "newest"),
    ] {
        if let Some(value) = row.get(column) {
            proof = proof.with(fact, value);
        }
    }
    if let Some(times) = times {
        proof.summary = format!(
            "{}: recovered in {}, promoted in {}",
            proof.summary, times.recovery, times.promotion
        );
        for (fact, span) in [
            ("recoverySeconds", times.recovery),
            ("promotionSeconds", times.promotion),
        ] {
            proof = proof.with(fact, format!("{:.3}", span.as_secs_f64()));
        }
    }
    Ok(proof)
}

/// The clone ran, and then did not answer.
fn lost(error: &PostgresError) -> StepResult {
    StepResult::indeterminate(format!("the clone runs, but {}", error.told()))
}
