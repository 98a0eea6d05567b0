//! Backups of a real PostgreSQL, restored to try them: whole ones, damaged ones, and trials that are broken off.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{folder, policy, rules};
use crate::stand::{
    controller::{Stand, text, until},
    postgres::Cluster,
};

const BIN: &str = "/usr/lib/postgresql/15/bin";

/// A database with 5,000 orders, a service, and an empty folder for trials.
struct Desk {
    stand: Stand,
    cluster: Cluster,
    scratch: TempDir,
}

impl Desk {
    async fn new() -> Self {
        let cluster = Cluster::start();
        cluster.sql("create role shop");
        cluster.sql(
            "create table orders as select n as id, md5(n::text) as what from generate_series(1, 5000) n",
        );
        cluster.sql("alter table orders owner to shop; grant select on orders to public");
        let scratch = TempDir::with_prefix("failover-try-").unwrap();
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let desk = Self {
            stand: Stand::new().await,
            cluster,
            scratch,
        };
        fs::create_dir(desk.stand.path("nightly")).unwrap();
        desk.ask(&json!({}));
        desk
    }

    /// A policy with these differences in `verify`.
    fn ask(&self, differences: &Value) {
        let mut verify = json!({
            "every": "7d", "timeout": "2m", "keepFree": 16, "folder": self.scratch.path(),
            "queries": [
                {"name": "orders", "sql": "select count(*) from orders", "atLeast": 5000},
                {"name": "first", "sql": "select what from orders where id = 1"},
            ],
        });
        let differences = differences.as_object().unwrap().clone();
        verify.as_object_mut().unwrap().extend(differences);
        let mut source = folder(&self.stand, "nightly", "jnb");
        source["with"]["full"] = json!([
            "*.dump", "*.sql", "*.gz", "*.zst", "*.tar", "base*/", "dir*/"
        ]);
        let spec = json!({"service": "shop", "sources": [source], "verify": verify});
        policy(&self.stand, &spec);
    }

    fn backup(&self, name: &str) -> PathBuf {
        self.stand.path("nightly").join(name)
    }

    /// Runs a program of PostgreSQL against the database, with `OUT` as the backup of that name.
    fn take(&self, name: &str, program: &str, args: &[&str]) {
        let conninfo = format!("{} dbname=postgres", self.cluster.superuser());
        let out = self.backup(name);
        let args = args.iter().map(|a| a.replace("OUT", out.to_str().unwrap()));
        let output = Command::new(format!("{BIN}/{program}"))
            .args(args)
            .args(["-d", &conninfo])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }

    /// Tries one backup here: the exit status and the result.
    fn verify(&self, copy: &str) -> (i32, Value) {
        let documents = self.stand.documents();
        let args = [
            "backups", "verify", "shop", "-o", "json", "--copy", copy, "-f",
        ];
        let output = self
            .stand
            .cli(&[&args[..], &[documents.to_str().unwrap()]].concat());
        let result = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("{e}: {}", text(&output)));
        (output.status.code().unwrap(), result)
    }

    fn command(&self) -> Command {
        let documents = self.stand.documents();
        let mut command = self.stand.command(&["backups", "verify", "shop", "-f"]);
        command
            .arg(documents)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// What lies in the folder for trials.
    fn left(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.scratch.path()).unwrap();
        entries.map(|e| e.unwrap().path()).collect()
    }

    /// The processes that work below it.
    fn running(&self) -> usize {
        running_in(self.scratch.path())
    }

    fn is_clean(&self) {
        assert_eq!((self.left(), self.running()), (Vec::new(), 0));
    }
}

fn running_in(folder: &Path) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter(|e| fs::read_link(e.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder)))
        .count()
}

fn pack(program: &str, file: &Path) {
    let packed = Command::new(program).arg("-q").arg(file).status().unwrap();
    assert!(packed.success());
    if program == "zstd" {
        fs::remove_file(file).unwrap();
    }
}

/// Turns some bytes of the middle over.
fn damage(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    for byte in &mut bytes[middle..middle + 64] {
        *byte = !*byte;
    }
    fs::write(file, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_a_backup_is_restored_and_asked() {
    let desk = Desk::new().await;
    desk.take("custom.dump", "pg_dump", &["-Fc", "-f", "OUT"]);
    desk.take("dir-1", "pg_dump", &["-Fd", "-f", "OUT"]);
    desk.take("packed.dump", "pg_dump", &["-Fc", "-Z0", "-f", "OUT"]);
    pack("zstd", &desk.backup("packed.dump"));
    desk.take("archive.tar", "pg_dump", &["-Ft", "-f", "OUT"]);
    desk.take("plain.sql", "pg_dump", &["-Fp", "-f", "OUT"]);
    pack("gzip", &desk.backup("plain.sql"));
    desk.take(
        "base-tar",
        "pg_basebackup",
        &["-Ft", "-z", "-X", "stream", "-c", "fast", "-D", "OUT"],
    );
    // With -R it would begin as a standby of the real primary.
    desk.take(
        "base-plain",
        "pg_basebackup",
        &["-Fp", "-R", "-X", "fetch", "-c", "fast", "-D", "OUT"],
    );
    for (copy, form) in [
        ("custom.dump", "archive of pg_dump"),
        ("dir-1/", "archive of pg_dump"),
        ("packed.dump.zst", "archive of pg_dump"),
        ("archive.tar", "archive of pg_dump"),
        ("plain.sql.gz", "dump as text"),
        ("base-tar/", "base backup with manifest"),
        ("base-plain/", "base backup with manifest"),
    ] {
        let (code, result) = desk.verify(copy);
        assert_eq!(code, 0, "{copy}: {result:#}");
        assert_eq!(result["outcome"], "good", "{copy}");
        assert_eq!(result["form"], form, "{copy}");
        assert_eq!(result["answers"]["orders"], "5000", "{copy}");
        assert_eq!(result["answers"]["tables"], "1", "{copy}");
        assert_eq!(
            result["answers"]["first"],
            "c4ca4238a0b923820dcc509a6f75849b"
        );
        assert!(result["bytes"].as_u64().unwrap() > 1000, "{copy}");
        desk.is_clean();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_backup_is_found_and_called_bad() {
    let desk = Desk::new().await;
    let found = |word: &str, copy: &str, why: &str| {
        let (code, result) = desk.verify(copy);
        let reason = result["outcome"][word]["reason"].as_str();
        let reason = reason.unwrap_or_else(|| panic!("{copy}: {result:#}"));
        assert!(reason.contains(why), "{copy}: {reason}");
        assert_eq!(code, 1, "{copy}");
        desk.is_clean();
    };
    let bad = |copy: &str, why: &str| found("bad", copy, why);
    desk.take("turned.dump", "pg_dump", &["-Fc", "-f", "OUT"]);
    damage(&desk.backup("turned.dump"));
    bad("turned.dump", "pg_restore cannot read it");

    desk.take("cut.dump", "pg_dump", &["-Fc", "-f", "OUT"]);
    let whole = fs::read(desk.backup("cut.dump")).unwrap();
    fs::write(desk.backup("cut.dump"), &whole[..whole.len() - 2000]).unwrap();
    bad("cut.dump", "pg_restore cannot read it");

    desk.take("cut.sql", "pg_dump", &["-Fp", "-f", "OUT"]);
    let whole = fs::read_to_string(desk.backup("cut.sql")).unwrap();
    let middle = whole.find("\n2500\t").unwrap();
    fs::write(desk.backup("cut.sql"), &whole[..middle]).unwrap();
    bad("cut.sql", "cut off");

    desk.take(
        "base-turned",
        "pg_basebackup",
        &["-Ft", "-X", "stream", "-c", "fast", "-D", "OUT"],
    );
    damage(&desk.backup("base-turned/base.tar"));
    bad("base-turned/", "");

    fs::write(desk.backup("no.dump"), "not a dump").unwrap();
    bad("no.dump", "neither an archive");

    desk.cluster.sql("delete from orders where id > 4999");
    desk.take("fewer.dump", "pg_dump", &["-Fc", "-f", "OUT"]);
    found(
        "wrong",
        "fewer.dump",
        "orders is 4999, and should be at least 5000",
    );
    desk.cluster.sql("alter table orders rename to sales");
    desk.take("renamed.dump", "pg_dump", &["-Fc", "-f", "OUT"]);
    found("wrong", "renamed.dump", "orders cannot be asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_tried_to_the_end_is_not_called_bad() {
    let desk = Desk::new().await;
    desk.take("a.dump", "pg_dump", &["-Fc", "-f", "OUT"]);
    let unknown = |why: &str| {
        let (code, result) = desk.verify("a.dump");
        let reason = result["outcome"]["unknown"]["reason"].as_str();
        let reason = reason.unwrap_or_else(|| panic!("{result:#}"));
        assert!(reason.contains(why), "{reason}");
        assert_eq!(code, 1);
        desk.is_clean();
    };
    desk.ask(&json!({"keepFree": 1_000_000_000}));
    unknown("MiB free, and restoring it may need");
    desk.ask(&json!({"programs": "/usr/nowhere"}));
    unknown("are not on this host");
    desk.ask(
        &json!({"timeout": "3s", "queries": [{"name": "slow", "sql": "select pg_sleep(60)"}]}),
    );
    unknown("it was not done within 3s");

    desk.take(
        "base-alone",
        "pg_basebackup",
        &["-Fp", "-X", "none", "-c", "fast", "-D", "OUT"],
    );
    desk.ask(&json!({}));
    let (code, result) = desk.verify("base-alone/");
    let reason = result["outcome"]["unknown"]["reason"]
        .as_str()
        .unwrap_or_default();
    assert!(
        code == 1 && reason.contains("does not bring the WAL"),
        "{result:#}"
    );
    desk.is_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_that_is_stopped_leaves_nothing_and_one_that_is_killed_is_cleared_by_the_next() {
    let desk = Desk::new().await;
    desk.take("a.dump", "pg_dump", &["-Fc", "-f", "OUT"]);
    desk.ask(&json!({"queries": [{"name": "slow", "sql": "select pg_sleep(120)"}]}));
    let waits = || {
        until("the restored server is asked", || {
            // The server, its helpers and the session that sleeps.
            desk.running() >= 2
                && fs::read_dir(desk.scratch.path())
                    .unwrap()
                    .flatten()
                    .any(|e| e.path().join("run/.s.PGSQL.5432").exists())
        });
    };
    let mut stopped = desk.command().spawn().unwrap();
    waits();
    let pid = Pid::from_raw(stopped.id().try_into().unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(stopped.wait().unwrap().code(), Some(128 + 15));
    desk.is_clean();

    let mut killed = desk.command().spawn().unwrap();
    waits();
    let second = desk.command().stderr(Stdio::piped()).output().unwrap();
    assert!(
        text(&second).contains("is being tried already"),
        "{}",
        text(&second)
    );
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(desk.running() > 0 && desk.left().len() == 1);
    desk.ask(&json!({}));
    assert_eq!(desk.verify("a.dump").0, 0);
    desk.is_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_tries_backups_by_itself_and_remembers_what_came_of_it() {
    let mut desk = Desk::new().await;
    desk.take("a.dump", "pg_dump", &["-Fc", "-f", "OUT"]);
    desk.stand.start(&[]);
    until("the backup was tried", || {
        desk.stand
            .timeline()
            .contains("a.dump in nightly was restored in")
    });
    let shown = |desk: &Desk| {
        let output = desk.stand.cli(&["backups", "shop", "-o", "json"]);
        let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
        shown["services"][0].clone()
    };
    assert_eq!(rules(&shown(&desk)), Vec::<String>::new());
    assert_eq!(shown(&desk)["sources"][0]["copies"][0]["restored"], "good");

    desk.take("b.dump", "pg_dump", &["-Fc", "-f", "OUT"]);
    damage(&desk.backup("b.dump"));
    let output = desk.stand.cli(&["backups", "verify", "shop"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("FO-042"), "{}", text(&output));
    assert_eq!(rules(&shown(&desk)), ["bad/nightly/full"]);
    until("the team is paged", || {
        let status = desk.stand.json(&["status"])["services"][0]["pages"].to_string();
        status.contains("the backups break their policy")
    });
    assert!(
        desk.stand
            .timeline()
            .contains("b.dump, cannot be used: pg_restore cannot read it")
    );

    // What another process finds is told to the controller, which remembers it when it starts again.
    desk.take("c.dump", "pg_dump", &["-Fc", "-f", "OUT"]);
    assert_eq!(desk.verify("c.dump").0, 0);
    desk.stand.signal(Signal::SIGTERM);
    desk.stand.ended();
    desk.take("d.dump", "pg_dump", &["-Fc", "-f", "OUT"]);
    assert_eq!(desk.verify("d.dump").0, 0);
    desk.stand.start(&[]);
    let copies = shown(&desk)["sources"][0]["copies"].clone();
    let outcomes: Vec<_> = (0..4).map(|n| copies[n]["restored"].clone()).collect();
    assert_eq!(outcomes[0], "good");
    assert!(outcomes[1]["bad"].is_object());
    assert_eq!([&outcomes[2], &outcomes[3]], ["good", "good"]);
    assert_eq!(rules(&shown(&desk)), Vec::<String>::new());
    let whole = desk.stand.shows(&["journal", "verify"]);
    assert!(!whole.is_empty());
    desk.is_clean();
}
