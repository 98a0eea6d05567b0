//! `backup/restore`: a verified backup becomes the database of the site that takes over, on the host of the controller.
//!
//! The plan names the backup: whoever approved it approved this one. What was restored carries the key of the effect, so
//! that a repeat finds it and only starts it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use tokio::{process::Command as Process, time::sleep};

use super::{
    KINDS, program,
    restore::{Programs, Recovered, Recovery, RecoveryError, stamp},
};
use crate::{
    model::{
        backup::BackupPolicy,
        check::{CheckItem, CheckStatus},
        id::{CopyId, SourceName},
        plan::{RESTORE, StepPhase},
        secret::SecretRef,
        site::Site,
        step::{Presence, Proof, StepResult},
    },
    port::{
        account::Account,
        action::{Action, SharedAction, StepContext},
        backup::SharedBackups,
        cause,
        command::argv_problems,
        kind::{self, Kind, Make, MakeError, Problem, Wiring},
        postgres::{Answer, Conninfo, Login, PostgresError},
        program::last_words,
    },
};

/// `backup/restore`.
pub const KIND: Kind = Kind::new::<RestoreWith>(
    RESTORE,
    "restores the newest verified base backup on this host, replays archived WAL, and starts it as the primary",
    "data: /var/lib/postgresql/15/restored
wal: archive
settings: {port: \"5432\"}
connection: host=db-b.example.com user=failover sslmode=verify-full
password: {env: FAILOVER_DB_PASSWORD}
",
    Make::Action(make),
)
.in_phase(StepPhase::Promote);

/// Time between two looks at a server that starts.
const AGAIN: Duration = Duration::from_millis(200);
/// How long one look may take.
const LOOK: Duration = Duration::from_secs(10);

/// Settings of `backup/restore`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RestoreWith {
    /// The data directory that is made: absent, or an empty folder. Nothing is ever restored over what is there.
    pub data: String,
    /// The source of the policy that holds archived WAL. Without it, all that was written after the backup is lost.
    #[serde(default)]
    pub wal: Option<String>,
    /// Program and arguments that start the server. Default: `pg_ctl start` as PostgreSQL's user, which outlives the
    /// controller only where the service manager lets it.
    #[serde(default)]
    pub start: Option<Vec<String>>,
    /// Settings of PostgreSQL, put above those that the backup brings, such as the port.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// How to connect to the server once it runs: a write proves that it serves.
    pub connection: Conninfo,
    /// The role's password.
    #[serde(default)]
    pub password: Option<SecretRef>,
    /// Mebibytes of the disk that stay free, whatever happens.
    #[serde(default = "keep_free")]
    pub keep_free: u64,
    /// Folder of PostgreSQL's programs. Default: they are looked for.
    #[serde(default)]
    pub programs: Option<String>,
    /// The source of the backup. The plan says it: leave it out.
    #[serde(default)]
    pub source: Option<String>,
    /// Which backup. The plan says it: leave it out.
    #[serde(default)]
    pub copy: Option<String>,
}

const fn keep_free() -> u64 {
    1024
}

impl kind::With for RestoreWith {
    /// PostgreSQL's own, over settings that the data brings, which may name any other.
    fn program(&self) -> Option<&'static str> {
        Some("")
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let folders = [
            ("data", Some(&self.data)),
            ("programs", self.programs.as_ref()),
        ];
        for (field, folder) in folders {
            if folder.is_some_and(|f| !f.starts_with('/') || f.trim_matches('/').is_empty()) {
                problems.push(Problem::new(
                    field,
                    "expected a folder with its path from /",
                ));
            }
        }
        if let Some(start) = &self.start {
            problems.extend(argv_problems("start", start));
        }
        for name in self.settings.keys() {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.".contains(c);
            if name.is_empty() || !name.chars().all(plain) {
                problems.push(Problem::new(
                    format!("settings.{name}"),
                    "expected the name of a setting of PostgreSQL, in lower case",
                ));
            }
        }
        for (name, value) in &self.settings {
            if value.contains(['\n', '\r', '\\']) {
                problems.push(Problem::new(
                    format!("settings.{name}"),
                    "expected one line without a backslash",
                ));
            }
        }
        problems
    }

    fn hosts(&self) -> Vec<String> {
        self.connection.hosts()
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedAction, MakeError> {
    let with: RestoreWith = kind::read(with)?;
    let policy = wiring.service.backups.as_ref();
    let policy = policy.ok_or_else(|| MakeError("the service has no backup policy".to_owned()))?;
    let login = Login {
        conninfo: with.connection.clone(),
        password: with.password.clone(),
        secrets: wiring.secrets.clone(),
    };
    let archive = with.wal.as_ref();
    let archive = archive
        .map(|name| place(policy, name, wiring))
        .transpose()?;
    let source = with.source.as_ref();
    let source = source.map(|name| place(policy, name, wiring)).transpose()?;
    let backup = source.zip(with.copy.clone().map(CopyId::new));
    Ok(Arc::new(Spare {
        data: PathBuf::from(&with.data),
        backup,
        archive,
        login,
        with,
    }))
}

/// A source of the policy as an adapter.
fn place(policy: &BackupPolicy, name: &str, wiring: &Wiring) -> Result<SharedBackups, MakeError> {
    let none = || MakeError(format!("the policy {} has no source {name}", policy.name));
    let source = policy.source(&SourceName::new(name)).ok_or_else(none)?;
    let kind = KINDS.iter().find(|k| k.name == source.action.uses.as_str());
    match kind.map(|k| k.make) {
        Some(Make::Backup(make)) => make(&source.action.with, wiring),
        Some(
            Make::Probe(_)
            | Make::Action(_)
            | Make::Dns(_)
            | Make::Channel(_)
            | Make::Target(_)
            | Make::Chat(_),
        )
        | None => Err(MakeError(format!(
            "{} is no place of backups",
            source.action.uses
        ))),
    }
}

struct Spare {
    data: PathBuf,
    /// Where the backup is, and which one; none where no plan has named it yet.
    backup: Option<(SharedBackups, CopyId)>,
    archive: Option<SharedBackups>,
    login: Login,
    with: RestoreWith,
}

#[async_trait]
impl Action for Spare {
    async fn perform(&self, step: &StepContext) -> StepResult {
        let begun = Instant::now();
        let recovered = match self.restored(step.key.as_str()) {
            Some(recovered) => recovered,
            None => match self.recover(step).await {
                Ok(recovered) => recovered,
                Err(result) => return result,
            },
        };
        if let Err(reason) = self.start().await {
            return StepResult::failed(format!("it was restored, but not started: {reason}"));
        }
        let left = step.limit().saturating_sub(begun.elapsed());
        match self.serves(left).await {
            Ok(()) => StepResult::Done(self.proof(&recovered)),
            Err(e) => StepResult::indeterminate(format!(
                "it was restored and started, but then {}",
                e.told()
            )),
        }
    }

    async fn observe(&self, step: &StepContext) -> Presence {
        let Some(recovered) = self.restored(step.key.as_str()) else {
            return Presence::absent(format!("{} was not restored", self.data.display()));
        };
        match self.try_write().await {
            Ok(()) => Presence::InPlace(self.proof(&recovered)),
            Err(e) => Presence::absent(format!("it was restored and does not serve: {}", e.told())),
        }
    }

    async fn check(&self, _: &Site, _: &Site) -> Vec<CheckItem> {
        vec![self.room(), self.fits().await]
    }
}

impl Spare {
    /// What an earlier attempt of this effect restored.
    fn restored(&self, key: &str) -> Option<Recovered> {
        let stamp = stamp(&self.data)?;
        (stamp.key == key).then_some(stamp.recovered)
    }

    async fn recover(&self, step: &StepContext) -> Result<Recovered, StepResult> {
        let failed = |reason: String| StepResult::failed(format!("nothing was restored: {reason}"));
        let Some((place, id)) = &self.backup else {
            return Err(failed("the plan names no backup".to_owned()));
        };
        let listed = place.list().await;
        let listed = listed.map_err(|e| failed(cause::in_full(&e)))?;
        let copy = listed.iter().find(|c| &c.id == id);
        let copy = copy.ok_or_else(|| failed(format!("{id} is not there any more")))?;
        let recovery = Recovery {
            place: place.as_ref(),
            copy,
            archive: self.archive.as_deref(),
            until: None,
            data: &self.data,
            settings: &self.with.settings,
            programs: self.programs(),
            keep_free: self.with.keep_free,
            key: step.key.as_str(),
        };
        recovery.run().await.map_err(|e| {
            let told = cause::in_full(&e);
            match e {
                // It may come to its end.
                RecoveryError::Busy(_) => StepResult::indeterminate(told),
                RecoveryError::Occupied(_)
                | RecoveryError::Above { .. }
                | RecoveryError::Bad(_)
                | RecoveryError::Unclear(_) => failed(told),
            }
        })
    }

    fn programs(&self) -> Option<&Path> {
        self.with.programs.as_deref().map(Path::new)
    }

    /// Starts the server, unless it runs.
    async fn start(&self) -> Result<(), String> {
        if let Some(argv) = &self.with.start {
            let (name, arguments) = argv
                .split_first()
                .ok_or("there is no program to start it")?;
            let mut start = Process::new(name);
            start.args(arguments).stdin(std::process::Stdio::null());
            start.stdout(std::process::Stdio::null());
            return program::run(start)
                .await
                .map(drop)
                .map_err(|e| cause::in_full(&e));
        }
        let account = Account::for_database().map_err(|e| e.to_string())?;
        let programs = Programs::for_data(&self.data, self.programs())?;
        let log = self.data.join("restored.log");
        let pg_ctl = |verb: &str| {
            let mut command = Process::new(programs.path("pg_ctl"));
            command.arg(verb).arg("-D").arg(&self.data);
            command.env("LC_ALL", "C").current_dir(&self.data);
            command.stdin(std::process::Stdio::null());
            command.stdout(std::process::Stdio::null());
            Account::apply(account, &mut command);
            command
        };
        if program::run(pg_ctl("status")).await.is_ok() {
            return Ok(());
        }
        let mut start = pg_ctl("start");
        start.args(["--wait", "--silent", "--log"]).arg(&log);
        let started = program::run(start).await;
        started.map(drop).map_err(|e| {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            format!(
                "{}: {}",
                cause::in_full(&e),
                last_words(&said, program::SHOWN)
            )
        })
    }

    async fn try_write(&self) -> Result<(), PostgresError> {
        match self.login.open(LOOK).await?.try_write().await {
            // A role that may make no temporary table still saw a server that is no standby.
            Err(e) if e.answer() == Some(Answer::Forbidden) => Ok(()),
            other => other,
        }
    }

    /// Waits until it takes writes.
    async fn serves(&self, within: Duration) -> Result<(), PostgresError> {
        let begun = Instant::now();
        loop {
            match self.try_write().await {
                Err(_) if begun.elapsed() + AGAIN < within => sleep(AGAIN).await,
                tried => return tried,
            }
        }
    }

    fn proof(&self, recovered: &Recovered) -> Proof {
        let reached = match &recovered.reached {
            Some(at) => format!("its last transaction is of {at}"),
            None => "nothing was replayed on it".to_owned(),
        };
        let summary = format!(
            "{} serves {}, taken on {}, with {} archived segments: {reached}; a write was made",
            self.login.conninfo.server(),
            recovered.copy,
            recovered.taken.date(),
            recovered.segments,
        );
        let mut proof = Proof::new(summary)
            .with("copy", recovered.copy.as_str())
            .with("taken", recovered.taken.to_string())
            .with("lsn", &recovered.lsn)
            .with("timeline", &recovered.timeline);
        if let Some(at) = &recovered.reached {
            proof = proof.with("reached", at);
        }
        proof
    }

    fn room(&self) -> CheckItem {
        let (name, path) = ("promote/restore", self.data.display());
        let vacant = match std::fs::read_dir(&self.data) {
            Ok(mut entries) => entries.next().is_none(),
            Err(e) => e.kind() == std::io::ErrorKind::NotFound,
        };
        if !self.data.parent().is_some_and(Path::is_dir) {
            let text = format!("there is no folder above {path} on this host");
            let fix = "make it, or name another `data`";
            return CheckItem::bad(name, CheckStatus::Fail, text, fix);
        }
        if vacant {
            CheckItem::ok(name, format!("a backup can be restored to {path}"))
        } else {
            let text = format!("{path} is not empty, and nothing is restored over what is there");
            CheckItem::bad(
                name,
                CheckStatus::Fail,
                text,
                "move it away, or name another `data`",
            )
        }
    }

    /// Whether the backup that would be restored is there.
    async fn fits(&self) -> CheckItem {
        let name = "promote/backup";
        let Some((place, id)) = &self.backup else {
            let text = "no plan names a backup yet".to_owned();
            return CheckItem::bad(name, CheckStatus::Warn, text, "failover backups verify");
        };
        match place.list().await {
            Ok(copies) if copies.iter().any(|c| &c.id == id) => {
                CheckItem::ok(name, format!("{id} would be restored"))
            }
            Ok(_) => {
                let text = format!("{id}, which the plan names, is not there any more");
                CheckItem::bad(name, CheckStatus::Fail, text, "failover backups verify")
            }
            Err(e) => {
                let fix = "see that the place can be reached from here, and its credentials";
                CheckItem::bad(name, CheckStatus::Unknown, cause::in_full(&e), fix)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::kind::With as _;

    #[test]
    fn settings_are_checked() {
        let problems = |json: &str| -> Vec<String> {
            let with: RestoreWith = serde_json::from_str(json).unwrap();
            with.problems().into_iter().map(|p| p.path).collect()
        };
        let good =
            r#"{"data": "/srv/db", "connection": "host=h user=u", "settings": {"port": "5"}}"#;
        assert!(problems(good).is_empty());
        let bad = r#"{"data": "db", "connection": "host=h user=u", "settings": {"Port": "5", "x": "a\nb"},
                      "programs": "/", "start": []}"#;
        let found = problems(bad);
        assert_eq!(
            found,
            ["data", "programs", "start", "settings.Port", "settings.x"]
        );
    }
}
