//! A pair, and a drill of its standby.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime},
};

use failover::{
    drill,
    model::{
        check::CheckItem,
        id::{Epoch, IdempotencyKey, RunId, StepId},
        plan::RunKind,
        span::Span,
        step::{Presence, Proof, StepResult},
    },
    port::{action::StepContext, kind::Wiring},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::stand::{
    postgres::{Pair, until},
    wiring::{action, service, step, wiring},
};

pub const BIN: &str = "/usr/lib/postgresql/15/bin";

/// A pair, and a drill of its standby.
pub struct Stage {
    pub pair: Pair,
    pub folder: TempDir,
    pub wiring: Wiring,
    pub run: RunId,
    facts: BTreeMap<String, String>,
}

/// Writes rows into the primary until it is dropped.
pub struct Writer(Child);

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Stage {
    pub fn new() -> Self {
        let pair = Pair::start();
        pair.primary.sql(
            "CREATE TABLE orders (n bigserial, at timestamptz DEFAULT clock_timestamp());
             INSERT INTO orders DEFAULT VALUES",
        );
        pair.settle();
        let folder = TempDir::new().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let state = folder.path().join("state");
        fs::create_dir(&state).unwrap();
        Self {
            wiring: wiring(&state),
            pair,
            folder,
            run: RunId::from("shop-r7"),
            facts: BTreeMap::new(),
        }
    }

    /// One whose clone is promoted.
    pub async fn promoted() -> Self {
        let mut stage = Self::new();
        let cloned = done(
            &stage
                .perform("clone", "drill/clone", &stage.clone_with())
                .await,
        );
        stage.keep("clone", &cloned);
        let promoted = done(&stage.perform("promote", "drill/promote", &json!({})).await);
        stage.keep("promote", &promoted);
        stage
    }

    pub fn clone_with(&self) -> Value {
        json!({
            "connection": self.pair.standby.superuser(),
            "folder": self.folder.path(),
            "checkpoint": "fast",
            "maxRate": 1024,
            "keepFree": 64,
        })
    }

    /// Rows come in all the time.
    pub fn write(&self) -> Writer {
        let child = Command::new(format!("{BIN}/psql"))
            .args(["-Xq", &self.pair.primary.superuser(), "-c"])
            .arg(
                "DO $$ BEGIN LOOP INSERT INTO orders DEFAULT VALUES; COMMIT; PERFORM pg_sleep(0.005); END LOOP; END $$",
            )
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let rows = || self.pair.primary.sql("SELECT count(*) > 20 FROM orders") == "t";
        until("rows come in", rows);
        Writer(child)
    }

    /// What a drill must not change.
    pub fn production(&self) -> Vec<String> {
        let (primary, standby) = (&self.pair.primary, &self.pair.standby);
        until("no copy is under way any more", || {
            standby.sql("SELECT count(*) FROM pg_stat_replication") == "0"
        });
        vec![
            primary.sql("SELECT timeline_id FROM pg_control_checkpoint()"),
            primary.sql("SELECT slot_name, slot_type, temporary FROM pg_replication_slots"),
            primary.sql("SELECT application_name, state FROM pg_stat_replication"),
            primary.sql("SELECT pg_is_in_recovery()"),
            standby.sql("SELECT pg_is_in_recovery()"),
            standby.sql("SELECT count(*) FROM pg_replication_slots"),
            standby.sql("SELECT status FROM pg_stat_wal_receiver"),
            standby.sql("SELECT received_tli FROM pg_stat_wal_receiver"),
        ]
    }

    pub fn step(&self, id: &str) -> StepContext {
        let step = step(Span::from_secs(100));
        let id = StepId::from(id);
        StepContext {
            key: IdempotencyKey::of(&self.run, &id, Epoch(2)),
            run: self.run.clone(),
            kind: RunKind::Drill,
            step: id,
            facts: self.facts.clone(),
            ..step
        }
    }

    /// Later steps know these facts.
    pub fn keep(&mut self, id: &str, proof: &Proof) {
        for (name, value) in &proof.facts {
            self.facts.insert(format!("{id}.{name}"), value.clone());
        }
    }

    pub async fn perform(&self, id: &str, kind: &str, with: &Value) -> StepResult {
        action(kind, with, &self.wiring)
            .perform(&self.step(id))
            .await
    }

    pub async fn observe(&self, id: &str, kind: &str, with: &Value) -> Presence {
        action(kind, with, &self.wiring)
            .observe(&self.step(id))
            .await
    }

    pub async fn undo(&self, id: &str, kind: &str, with: &Value) -> Option<StepResult> {
        action(kind, with, &self.wiring).undo(&self.step(id)).await
    }

    pub async fn check(&self, kind: &str, with: &Value) -> Vec<CheckItem> {
        let service = service();
        action(kind, with, &self.wiring)
            .check(&service.sites[0], &service.sites[1])
            .await
    }

    /// The folder of the run.
    pub fn run_folder(&self) -> PathBuf {
        let own = format!("failover-drill-{}-shop", nix::unistd::geteuid());
        self.folder.path().join(own).join(self.run.as_str())
    }

    /// Asks the clone, as somebody who may enter its folder.
    pub fn ask(&self, sql: &str) -> String {
        let out = Command::new(format!("{BIN}/psql"))
            .args([
                "-XAtq",
                "-v",
                "ON_ERROR_STOP=1",
                "-p",
                "5432",
                "-U",
                "postgres",
                "-d",
                "postgres",
                "-h",
            ])
            .arg(self.run_folder().join("run"))
            .args(["-c", sql])
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{sql}: {told}");
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    /// What a program says that the clone starts: it is in the bubble.
    pub fn inside(&self, program: &str) -> String {
        let program = program.replace('\'', "''");
        self.ask(&format!(
            "CREATE TEMP TABLE said (line text); COPY said FROM PROGRAM '({program}) 2>&1 || true' (FORMAT csv, DELIMITER E'\x01', QUOTE E'\x02'); \
             SELECT string_agg(line, ' / ') FROM said"
        ))
    }

    /// The processes that work in the folder.
    pub fn processes(&self) -> Vec<i32> {
        processes_below(self.folder.path())
    }

    /// The first process of the bubble dies.
    pub fn kill_bubble(&self) {
        let init = self.run_folder().join("init");
        for pid in processes_below(&init) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        until("the bubble ends", || self.processes().is_empty());
    }

    /// The database dies.
    pub fn kill_server(&self) {
        let data = self.run_folder().join("data");
        for pid in processes_below(&data) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        until("the database ends", || processes_below(&data).is_empty());
    }

    /// The drill is over.
    pub async fn end(&mut self) {
        done(
            &self
                .undo("clone", "drill/clone", &self.clone_with())
                .await
                .unwrap(),
        );
        self.nothing_is_left();
    }

    pub fn nothing_is_left(&self) {
        assert_eq!(self.processes(), Vec::<i32>::new());
        let left: Vec<_> = fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .filter(|name| name != "state" && name != "own")
            .collect();
        assert!(left.is_empty(), "{left:?}");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let folder = self.folder.path().to_str().unwrap();
        assert!(
            !mounts.lines().any(|line| line.contains(folder)),
            "{mounts}"
        );
    }
}

impl Drop for Stage {
    /// A test that failed leaves nothing either.
    fn drop(&mut self) {
        let _ = drill::sweep(Some(self.folder.path()), &"shop".into(), None, later());
    }
}

/// The processes whose working folder is this one, or lies below it.
pub fn processes_below(folder: &Path) -> Vec<i32> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
        })
        .collect()
}

pub fn done(result: &StepResult) -> Proof {
    match result {
        StepResult::Done(proof) => proof.clone(),
        StepResult::Failed { .. } | StepResult::Indeterminate { .. } => panic!("{result:?}"),
    }
}

pub fn failed(result: &StepResult) -> String {
    match result {
        StepResult::Failed { reason } => reason.clone(),
        StepResult::Done(_) | StepResult::Indeterminate { .. } => panic!("{result:?}"),
    }
}

pub fn in_place(presence: &Presence) -> Proof {
    match presence {
        Presence::InPlace(proof) => proof.clone(),
        Presence::Absent { .. } | Presence::Unknown { .. } => panic!("{presence:?}"),
    }
}

/// After everything that a test has made.
pub fn later() -> SystemTime {
    SystemTime::now() + Duration::from_mins(1)
}
