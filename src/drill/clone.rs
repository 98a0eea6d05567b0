//! `drill/clone`: a copy of the standby in the run's own folder.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::{
    bubble,
    copy::{CopyError, Copying},
    folder::{self, FACT, Folder, blocking},
    original::Original,
    programs::Programs,
};
use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        id::{IdempotencyKey, RunId},
        observation::Lsn,
        plan::StepPhase,
        site::Site,
        span::Span,
        step::{Presence, Proof, StepResult},
        time::Time,
    },
    port::{
        account::Account,
        action::{Action, SharedAction, StepContext},
        cause, disk,
        kind::{Kind, Make, MakeError, Problem, Wiring, With, read},
        postgres::{Conninfo, Login, PostgresError, TlsMode},
        runtime::SharedRuntime,
    },
};

/// Under this name the run's folder tells what was cloned.
pub const MARK: &str = "cloned.json";
/// How long the standby may take to tell what it is.
const LOOK: Duration = Duration::from_secs(30);
/// Bytes besides the databases: the log of the copying time, and what is no database.
const MARGIN: u64 = 96 << 20;
/// Of the databases' size, what they may grow meanwhile.
const GROWTH: u64 = 10;

/// `drill/clone`.
pub const KIND: Kind = Kind::new::<CloneWith>(
    "drill/clone",
    "copies the PostgreSQL standby for a drill, no faster than asked and never without free disk",
    "connection: host=db-b.example.com user=failover_drill dbname=shop sslmode=require\n\
     password: {env: FAILOVER_DRILL_PASSWORD}\n\
     folder: /var/lib/failover-drills\n\
     maxRate: 32\n\
     keepFree: 4096\n",
    Make::Action(make),
)
.in_phase(StepPhase::Prepare);

/// Settings of `drill/clone`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CloneWith {
    /// How to connect to the standby itself. The role needs REPLICATION, a line of `pg_hba.conf` for the database
    /// `replication`, and the role `pg_monitor`, which tells how much there is to copy. `dbname` is the database that
    /// later steps of the drill ask unless they name another. libpq reads this too: `verify-ca` and `verify-full` need
    /// `sslrootcert`.
    pub connection: Conninfo,
    /// The role's password.
    #[serde(default)]
    pub password: Option<crate::model::secret::SecretRef>,
    /// Where the run's own folder is made; it must be there, and the database's account must be able to pass through.
    /// Default: the host's folder for temporary files.
    #[serde(default)]
    pub folder: Option<String>,
    /// Copy at most so many MiB a second, from 1 to 1024; default 32. The log that is written meanwhile comes on top.
    #[serde(default = "max_rate")]
    pub max_rate: u32,
    /// MiB of that disk that stay free; default 1024. A copy that would leave less is not begun, and one that comes to it
    /// is broken off.
    #[serde(default = "keep_free")]
    pub keep_free: u64,
    /// How the standby gets ready: `spread` (default) is gentle and may take minutes, `fast` writes all at once.
    #[serde(default)]
    pub checkpoint: Checkpoint,
    /// Folder of PostgreSQL's programs. Default: looked for, by the standby's version.
    #[serde(default)]
    pub programs: Option<String>,
    /// Whether a server that is no standby may be copied; default false, so that the primary never gets the load.
    #[serde(default)]
    pub any_role: bool,
}

/// How the standby gets ready for a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Checkpoint {
    /// Over minutes.
    #[default]
    Spread,
    /// At once.
    Fast,
}

impl Checkpoint {
    fn name(self) -> &'static str {
        match self {
            Self::Spread => "spread",
            Self::Fast => "fast",
        }
    }
}

fn max_rate() -> u32 {
    32
}

fn keep_free() -> u64 {
    1024
}

impl With for CloneWith {
    /// PostgreSQL's own, over settings that the data brings, which may name any other.
    fn program(&self) -> Option<&'static str> {
        Some("")
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if !(1..=1024).contains(&self.max_rate) {
            problems.push(Problem::new("maxRate", "expected 1 to 1024 (MiB a second)"));
        }
        if self.keep_free > 1 << 40 {
            problems.push(Problem::new(
                "keepFree",
                "expected MiB: this is more than any disk has",
            ));
        }
        for (name, path) in [("folder", &self.folder), ("programs", &self.programs)] {
            if path
                .as_ref()
                .is_some_and(|path| !Path::new(path).is_absolute())
            {
                problems.push(Problem::new(name, "expected an absolute path"));
            }
        }
        let verifies = matches!(self.connection.tls, TlsMode::VerifyCa | TlsMode::VerifyFull);
        if verifies && self.connection.root.is_none() {
            problems.push(
                Problem::new("connection", "pg_basebackup verifies no certificate without sslrootcert")
                    .hint("name the file of the authority: sslrootcert=/etc/ssl/certs/ca-certificates.crt"),
            );
        }
        problems
    }

    fn hosts(&self) -> Vec<String> {
        self.connection.hosts()
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedAction, MakeError> {
    let with: CloneWith = read(with)?;
    Ok(Arc::new(Cloning {
        login: Login {
            conninfo: with.connection.clone(),
            password: with.password.clone(),
            secrets: Arc::clone(&wiring.secrets),
        },
        with,
        runtime: Arc::clone(&wiring.runtime),
    }))
}

/// What stands in the run's folder once it is cloned.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cloned {
    /// Which effect it is.
    pub key: IdempotencyKey,
    /// What the original told.
    pub original: Original,
    /// The database that later steps ask.
    pub database: String,
    /// The programs' folder, as it was named.
    pub programs: Option<PathBuf>,
    /// Bytes of the clone.
    pub bytes: u64,
    /// How long it took.
    pub took: Span,
    /// Where it ends.
    pub lsn: Option<Lsn>,
    /// When it ended, by this host's clock.
    pub at: Time,
}

impl Cloned {
    /// What was cloned in this folder; none where nothing was, or not to the end.
    ///
    /// # Errors
    /// Where that cannot be told.
    pub fn of(folder: &Folder) -> io::Result<Option<Self>> {
        folder.read(MARK)
    }

    /// The same for a step that is nothing without it.
    ///
    /// # Errors
    /// Says that there is none.
    pub fn needed(folder: &Folder) -> Result<Self, StepResult> {
        match Self::of(folder) {
            Ok(Some(cloned)) => Ok(cloned),
            Ok(None) => Err(StepResult::failed(format!(
                "there is no clone of this run in {}: a step with drill/clone must be done before",
                folder.path().display()
            ))),
            Err(e) => Err(StepResult::failed(format!("the clone cannot be told: {e}"))),
        }
    }

    fn proof(&self, server: &str, named: Option<&str>) -> Proof {
        let mib = self.bytes >> 20;
        let mut proof = Proof::new(format!("{server} is cloned: {mib} MiB in {}", self.took))
            .with("bytes", self.bytes.to_string())
            .with("seconds", format!("{:.3}", self.took.as_secs_f64()))
            .with("clonedAt", self.at.to_string());
        if let Some(lsn) = self.lsn {
            proof = proof.with("lsn", lsn.to_string());
        }
        if let Some(named) = named {
            proof = proof.with(FACT, named);
        }
        proof
    }
}

struct Cloning {
    with: CloneWith,
    login: Login,
    runtime: SharedRuntime,
}

#[async_trait]
impl Action for Cloning {
    async fn perform(&self, step: &StepContext) -> StepResult {
        let folder = self.folder(&step.run, step);
        let limit = step.limit();
        // What is left of the time is for removing a copy that was broken off.
        let end = limit.saturating_sub(limit.min(Duration::from_secs(20)) / 4);
        let result = match timeout(end, self.clone_into(&folder, step)).await {
            Ok(Ok(cloned)) => {
                return StepResult::Done(cloned.proof(&self.server(), self.with.folder.as_deref()));
            }
            Ok(Err(result)) => result,
            Err(_) => StepResult::indeterminate(format!(
                "the clone was not done within {}, and was broken off",
                Span::from(end)
            )),
        };
        match remove(folder).await {
            Ok(()) => result,
            Err(e) => StepResult::indeterminate(format!(
                "{}; what it left is still there: {e}",
                told(&result)
            )),
        }
    }

    async fn observe(&self, step: &StepContext) -> Presence {
        let folder = self.folder(&step.run, step);
        match Cloned::of(&folder) {
            Ok(Some(cloned)) if cloned.key == step.key && folder.data().is_dir() => {
                Presence::InPlace(cloned.proof(&self.server(), self.with.folder.as_deref()))
            }
            Ok(Some(_)) => Presence::absent("what is there is no clone of this step"),
            Ok(None) if folder.path().exists() => {
                Presence::absent("a copy was begun and is not whole: the next attempt begins anew")
            }
            Ok(None) => Presence::absent("there is no clone"),
            Err(e) => Presence::unknown(format!("{}: {e}", folder.path().display())),
        }
    }

    async fn undo(&self, step: &StepContext) -> Option<StepResult> {
        let folder = self.folder(&step.run, step);
        let path = folder.path().display().to_string();
        Some(match remove(folder).await {
            Ok(()) => StepResult::done(format!("nothing of the drill is left in {path}")),
            Err(e) => StepResult::indeterminate(format!("the drill's folder is not removed: {e}")),
        })
    }

    async fn check(&self, _from: &Site, _to: &Site) -> Vec<CheckItem> {
        let mut items = self.check_standby().await;
        let possible = blocking(|| Ok(bubble::is_possible())).await;
        items.push(match possible {
            Ok(Ok(())) => CheckItem::ok(
                "drill/bubble",
                "this host gives drills a network of their own",
            ),
            Ok(Err(e)) => bad(
                "drill/bubble",
                CheckStatus::Fail,
                &cause::in_full(&e),
                "see the reason",
            ),
            Err(e) => bad(
                "drill/bubble",
                CheckStatus::Unknown,
                &e.to_string(),
                "look into the log",
            ),
        });
        items
    }
}

impl Cloning {
    fn folder(&self, run: &RunId, step: &StepContext) -> Folder {
        Folder::of(self.with.folder.as_deref(), &step.service, run)
    }

    fn server(&self) -> String {
        self.login.conninfo.server()
    }

    async fn clone_into(&self, folder: &Folder, step: &StepContext) -> Result<Cloned, StepResult> {
        let here = |what: &str| {
            let what = what.to_owned();
            move |e: io::Error| StepResult::failed(format!("nothing was cloned: {what}: {e}"))
        };
        // What an earlier attempt left may still be at work.
        remove(folder.clone())
            .await
            .map_err(here("what an earlier attempt left"))?;
        let original = self.ask(step.limit()).await.map_err(|e| unasked(&e))?;
        self.refuse(&original, folder)?;
        let (major, named) = (
            original.major,
            self.with.programs.clone().map(PathBuf::from),
        );
        let programs = {
            let named = named.clone();
            let found = blocking(move || Ok(Programs::of_version(major, named.as_deref()))).await;
            found
                .map_err(here("programs"))?
                .map_err(StepResult::failed)?
        };
        let account = Account::for_database().map_err(here("no account"))?;
        folder.make(account).map_err(here("its folder"))?;
        let password = self
            .login
            .password
            .as_ref()
            .map(|at| self.login.secrets.read(at))
            .transpose();
        let password = password.map_err(|e| {
            StepResult::failed(format!("nothing was cloned: {}", cause::in_full(&e)))
        })?;
        let copying = Copying {
            programs: &programs,
            from: &self.login.conninfo,
            password: password.as_ref(),
            original: &original,
            max_rate: self.with.max_rate,
            checkpoint: self.with.checkpoint.name(),
            keep_free: self.with.keep_free,
        };
        let begun = Instant::now();
        let lsn = copying.run(folder).await.map_err(|e| uncopied(&e))?;
        let took = Span::from(begun.elapsed());
        let at = self.runtime.wall();
        let given = folder.clone();
        let bytes = blocking(move || {
            for part in [given.data(), given.join("tablespaces")] {
                if part.exists() {
                    Account::own(account, &part)?;
                }
            }
            disk::size_of(given.path())
        });
        let cloned = Cloned {
            key: step.key.clone(),
            database: self.login.conninfo.database.clone(),
            original,
            programs: named,
            bytes: bytes.await.map_err(here("its files"))?,
            took,
            lsn,
            at,
        };
        // Last: what has this mark is whole.
        folder.write(MARK, &cloned).map_err(here("its mark"))?;
        Ok(cloned)
    }

    async fn ask(&self, limit: Duration) -> Result<Original, PostgresError> {
        let session = self.login.open(LOOK.min(limit)).await?;
        Original::of(&session).await
    }

    /// What speaks against a copy.
    fn refuse(&self, original: &Original, folder: &Folder) -> Result<(), StepResult> {
        let server = self.server();
        let refused = |why: String| Err(StepResult::failed(format!("nothing was cloned: {why}")));
        if !original.recovery && !self.with.any_role {
            return refused(format!(
                "{server} is no standby, and a copy would load the primary; connect to the standby, or set anyRole"
            ));
        }
        if !original.replication {
            return refused(format!(
                "the role {} of {server} may not copy it; run ALTER ROLE … REPLICATION there",
                self.login.conninfo.user
            ));
        }
        match self.room(original, folder.path()) {
            Ok(Room { missing: 0, .. }) => Ok(()),
            Ok(room) => refused(room.told(self.with.keep_free)),
            Err(why) => refused(why),
        }
    }

    /// What there is and what it takes.
    fn room(&self, original: &Original, path: &Path) -> Result<Room, String> {
        let Some(bytes) = original.bytes else {
            return Err(format!(
                "the role {} may not know how large the databases of {} are; run GRANT pg_monitor TO that role on the \
                 primary",
                self.login.conninfo.user,
                self.server()
            ));
        };
        let free = folder::free(path).map_err(|e| format!("the free disk cannot be told: {e}"))?;
        let needed = bytes + bytes / GROWTH + MARGIN;
        Ok(Room {
            path: path.to_owned(),
            free,
            needed,
            missing: (needed + (self.with.keep_free << 20)).saturating_sub(free),
        })
    }

    async fn check_standby(&self) -> Vec<CheckItem> {
        let original = match self.ask(LOOK).await {
            Ok(original) => original,
            Err(e) => {
                let status = if e.is_timeout() {
                    CheckStatus::Unknown
                } else {
                    CheckStatus::Fail
                };
                let fix = e.fix().unwrap_or("see that the standby answers");
                return vec![bad("drill/standby", status, &e.told(), fix)];
            }
        };
        let path = Folder::of(self.with.folder.as_deref(), &"x".into(), &"x".into());
        let above = path
            .path()
            .parent()
            .and_then(Path::parent)
            .unwrap_or(path.path());
        let mut items = vec![match self.refuse_role(&original) {
            None => CheckItem::ok("drill/standby", format!("{} can be copied", self.server())),
            Some((why, fix)) => bad("drill/standby", CheckStatus::Fail, &why, fix),
        }];
        items.push(match self.room(&original, above) {
            Ok(room) if room.missing == 0 => CheckItem::ok("drill/disk", room.enough()),
            Ok(room) => bad(
                "drill/disk",
                CheckStatus::Fail,
                &room.told(self.with.keep_free),
                "free some, or set `folder` to a larger disk",
            ),
            Err(why) => bad("drill/disk", CheckStatus::Fail, &why, "grant that"),
        });
        let (major, named) = (
            original.major,
            self.with.programs.clone().map(PathBuf::from),
        );
        let programs = blocking(move || Ok(Programs::of_version(major, named.as_deref()))).await;
        items.push(match programs {
            Ok(Ok(_)) => CheckItem::ok(
                "drill/programs",
                format!("PostgreSQL {major} is on this host"),
            ),
            Ok(Err(why)) => bad("drill/programs", CheckStatus::Fail, &why, "install them"),
            Err(e) => bad(
                "drill/programs",
                CheckStatus::Unknown,
                &e.to_string(),
                "look into the log",
            ),
        });
        items
    }

    fn refuse_role(&self, original: &Original) -> Option<(String, &'static str)> {
        if !original.recovery && !self.with.any_role {
            let why = format!("{} is no standby", self.server());
            return Some((why, "connect to the standby, or set anyRole"));
        }
        (!original.replication).then(|| {
            let why = format!(
                "the role {} may not copy {}",
                self.login.conninfo.user,
                self.server()
            );
            (why, "run ALTER ROLE … REPLICATION on the primary")
        })
    }
}

/// A disk, and what a clone takes of it.
struct Room {
    path: PathBuf,
    free: u64,
    needed: u64,
    missing: u64,
}

impl Room {
    fn enough(&self) -> String {
        let path = self.path.display();
        format!(
            "{path} has {} MiB free, a clone takes {} MiB",
            self.free >> 20,
            self.needed >> 20
        )
    }

    fn told(&self, keep_free: u64) -> String {
        format!(
            "{}, and {keep_free} MiB stay free (`keepFree`)",
            self.enough()
        )
    }
}

fn bad(name: &str, status: CheckStatus, detail: &str, fix: &str) -> CheckItem {
    CheckItem::bad(name, status, detail, fix)
}

fn unasked(error: &PostgresError) -> StepResult {
    let fix = error
        .fix()
        .map(|fix| format!("; {fix}"))
        .unwrap_or_default();
    let text = format!("nothing was cloned: {}{fix}", error.told());
    if error.is_timeout() {
        StepResult::indeterminate(text)
    } else {
        StepResult::failed(text)
    }
}

fn uncopied(error: &CopyError) -> StepResult {
    StepResult::failed(format!("nothing was cloned: {}", cause::in_full(error)))
}

fn told(result: &StepResult) -> &str {
    match result {
        StepResult::Done(proof) => &proof.summary,
        StepResult::Failed { reason } | StepResult::Indeterminate { reason } => reason,
    }
}

async fn remove(folder: Folder) -> io::Result<()> {
    blocking(move || folder.remove()).await
}
