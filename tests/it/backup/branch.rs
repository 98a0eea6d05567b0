//! The second branch of a plan on a real PostgreSQL: the primary is lost, the standby cannot be promoted, and the newest
//! verified backup becomes the database, with the WAL that was archived since.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::PathBuf,
    process::Command,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::policy;
use crate::stand::{
    bind::free_port,
    controller::{Stand, text, until},
    postgres::{Cluster, PASSWORD, USER, other_user},
};

const BIN: &str = "/usr/lib/postgresql/15/bin";

/// A primary that archives its WAL, a service with a runbook of two branches, and a host on which nothing runs yet.
pub struct Desk {
    pub stand: Stand,
    pub primary: Cluster,
    pub host: TempDir,
    port: u16,
}

impl Drop for Desk {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            let _ = kill(pid, Signal::SIGQUIT);
            until("the restored server ends", || kill(pid, None).is_err());
        }
    }
}

impl Desk {
    pub async fn new() -> Self {
        let host = TempDir::with_prefix("failover-host-").unwrap();
        let archive = host.path().join("archive");
        fs::create_dir(&archive).unwrap();
        fs::set_permissions(host.path(), fs::Permissions::from_mode(0o755)).unwrap();
        if let Some(user) = other_user() {
            for path in [host.path(), &archive] {
                chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
            }
        }
        let mut primary = Cluster::start();
        let command = format!("test ! -f {0}/%f && cp %p {0}/%f", archive.display());
        primary.sql("alter system set archive_mode = on");
        primary.sql(&format!("alter system set archive_command = '{command}'"));
        // One of the vantage points looks from another address.
        primary.open_to("127.0.0.0/8");
        primary.end(Signal::SIGINT);
        primary.restart();
        primary.sql("create table orders as select n as id from generate_series(1, 1000) n");
        primary.sql(&format!("grant all on orders to {USER}"));
        let desk = Self {
            stand: Stand::new().await,
            primary,
            host,
            port: free_port(),
        };
        fs::create_dir(desk.stand.path("base")).unwrap();
        desk.stand.file("db-password", PASSWORD);
        desk
    }

    /// The policy: base backups in one place, archived WAL in another.
    pub fn policy(&self, country: &str) {
        let source = |name: &str, with: Value, keeps: &str| {
            json!({
                "name": name, "location": {"country": country}, "keeps": [keeps],
                "uses": "backup/folder", "with": with,
            })
        };
        let base = json!({"folder": self.stand.path("base"), "full": ["base-*/"]});
        let wal = json!({"folder": self.host.path().join("archive"), "log": ["*"]});
        policy(
            &self.stand,
            &json!({
                "service": "shop",
                "sources": [source("base", base, "full"), source("archive", wal, "log")],
                "residency": {"countries": ["ZA", "DE"]},
                "verify": {
                    "every": "7d", "timeout": "2m", "keepFree": 16, "folder": self.host.path(),
                    "queries": [{"name": "orders", "sql": "select count(*) from orders", "atLeast": 1000}],
                },
            }),
        );
    }

    fn connection(&self, port: u16) -> String {
        let password = self.stand.reference("db-password");
        format!(
            "{{connection: \"host=127.0.0.1 port={port} user={USER} dbname=postgres\", password: {password}}}"
        )
    }

    /// The documents: `standby` says what is known of the standby's database and how it would be promoted.
    fn documents(&self, standby: &str, promote: &str) {
        let primary = self.connection(self.primary.port);
        let database = format!(
            "    - name: database\n      kind: database\n      probes:\n        \
             - {{id: db-east, uses: probe/postgres, site: east, every: 500ms, timeout: 450ms, with: {primary}}}\n{standby}  \
             dns:\n"
        );
        let settings = format!(
            "{{port: \"{}\", unix_socket_directories: \"\", fsync: \"off\"}}",
            self.port
        );
        let connection = self.connection(self.port);
        let connection = connection.trim_matches(['{', '}']);
        let branch = format!(
            "{promote}    - id: restore\n      name: Restore the newest backup\n      uses: backup/restore\n      \
             insteadOf: promote\n      with: {{data: \"{}\", wal: archive, keepFree: 16, settings: {settings}, {connection}}}}}\n    \
             - {{id: repoint",
            self.data().display()
        );
        let whole = self.stand.document();
        let begin = whole.find("    - id: promote\n").unwrap();
        let end = whole.find("    - {id: repoint").unwrap();
        let old = &whole[begin..end + "    - {id: repoint".len()];
        let text = whole
            .replace("  dns:\n", &database)
            .replace(old, &branch)
            .replace("required: 2", "required: 1")
            .replace("rpo: 0s", "rpo: 1h")
            .replace("mode: ask", "mode: ask\n  residency: {countries: [ZA]}")
            .replace("role: primary,", "role: primary, location: {country: ZA},")
            .replace("role: standby,", "role: standby, location: {country: ZA},");
        self.stand.write(&text);
    }

    /// The standby's database is looked at where the restored one will be, and nothing runs there.
    pub fn with_dead_standby(&self) {
        let west = self.connection(self.port);
        let standby = format!(
            "        - {{id: db-west, uses: probe/postgres, site: west, every: 500ms, timeout: 450ms, with: {west}}}\n"
        );
        let promote = format!("    - {{id: promote, uses: postgres/promote, with: {west}}}\n");
        self.documents(&standby, &promote);
    }

    /// There is no standby: the ready-made runbook restores a backup.
    fn without_standby(&self) {
        self.documents("", "");
        let stop = self.stand.path("stop");
        let primary = self.connection(self.primary.port);
        let restored = self.connection(self.port);
        let restored = restored.trim_matches(['{', '}']);
        let steps = format!(
            "  runbook: postgres-restore
  steps:
    stop-primary: {{with: {{perform: [\"{stop}\"], observe: [\"{stop}\"], undo: [\"{stop}\"], env: {{FENCE_TOKEN: {token}}}}}}}
    refuse-writers: {{with: {primary}}}
    write-attempt: {{with: {primary}}}
    restore: {{with: {{data: \"{data}\", wal: archive, keepFree: 16, settings: {{port: \"{port}\", unix_socket_directories: \"\"}}, {restored}}}}}}}
",
            stop = stop.display(),
            token = self.stand.reference("fence-secret"),
            data = self.data().display(),
            port = self.port,
        );
        let whole = fs::read_to_string(self.stand.documents().join("shop.yaml")).unwrap();
        let begin = whole.find("  runbook: move").unwrap();
        self.stand.write(&format!("{}{steps}", &whole[..begin]));
    }

    pub fn data(&self) -> PathBuf {
        self.host.path().join("restored")
    }

    /// Takes a base backup of that name.
    pub fn take(&self, name: &str) {
        let out = self.stand.path("base").join(name);
        let output = Command::new(format!("{BIN}/pg_basebackup"))
            .args(["-Ft", "-X", "stream", "-c", "fast", "-D"])
            .arg(out)
            .args(["-d", &self.primary.superuser()])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }

    /// Has the controller restore one to try it.
    pub fn verify(&self, copy: &str) -> Option<i32> {
        let args = ["backups", "verify", "shop", "--copy", copy];
        self.stand.cli(&args).status.code()
    }

    /// Writes rows that no backup has, and waits until their WAL is archived.
    pub fn write_on(&self, from: u32, to: u32) {
        self.primary.sql(&format!(
            "insert into orders select n from generate_series({from}, {to}) n"
        ));
        let segment = self.primary.sql("select pg_walfile_name(pg_switch_wal())");
        let file = self.host.path().join("archive").join(segment);
        until("the segment is archived", || file.exists());
    }

    /// Asks the restored server.
    pub fn ask(&self, sql: &str) -> String {
        let conninfo = format!("host=127.0.0.1 port={} user=postgres", self.port);
        let output = Command::new(format!("{BIN}/psql"))
            .args(["-XAtq", "-d", &conninfo, "-c", sql])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn pid(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        text.lines().next()?.parse().ok().map(Pid::from_raw)
    }

    fn lose_primary(&mut self) {
        self.primary.crash();
        self.stand.east_is_up(false);
    }

    fn question(&self) -> Value {
        until("a question is asked", || self.stand.question().is_some());
        self.stand.json(&["status"])["services"][0]["asks"][0].clone()
    }

    fn approve(&self, id: &str) {
        let said = self.stand.cli_as("ann", &["approve", id, "--reason", "go"]);
        assert_eq!(said.status.code(), Some(0), "{}", text(&said));
    }

    fn ends(&self) {
        until("the run ends", || {
            let timeline = self.stand.timeline();
            assert!(
                !timeline.contains("stuck"),
                "{timeline}\n{}",
                self.stand.log()
            );
            timeline.contains("the service runs at west")
        });
    }
}

/// Turns some bytes of the middle over.
fn damage(file: PathBuf) {
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    for byte in &mut bytes[middle..middle + 64] {
        *byte = !*byte;
    }
    fs::write(file, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_standby_is_dead_the_newest_good_backup_takes_over_with_all_archived_wal() {
    let mut desk = Desk::new().await;
    desk.policy("ZA");
    desk.with_dead_standby();
    desk.take("base-1");
    desk.stand.start(&[]);
    assert_eq!(desk.verify("base-1/"), Some(0));
    desk.write_on(1001, 1500);
    // Newer, and damaged: it was tried and is not used.
    desk.take("base-2");
    damage(desk.stand.path("base/base-2/base.tar"));
    assert_eq!(desk.verify("base-2/"), Some(1));
    desk.write_on(1501, 1600);
    // The controller looks at what there is.
    desk.stand.cli(&["backups", "shop"]);
    let plan = desk.stand.json(&["plan", "shop"]).to_string();
    assert!(plan.contains("backup/restore"), "{plan}");
    assert!(!plan.contains("postgres/promote"), "{plan}");
    desk.lose_primary();
    let ask = desk.question();
    let said = ask.to_string();
    for words in ["base-1/ in base", "all that was written after it"] {
        assert!(said.contains(words), "{words}: {ask:#}");
    }
    assert!(!said.contains("base-2"), "{ask:#}");
    assert!(said.contains("archived WAL reaches to"), "{ask:#}");
    assert!(
        !desk.data().exists(),
        "it was begun before anybody approved"
    );
    desk.approve(ask["id"].as_str().unwrap());
    // The fence's proof is asked for first, as before any promotion.
    desk.ends();
    assert!(desk.stand.effects().starts_with("stop"));
    assert_eq!(desk.ask("select count(*) from orders"), "1600");
    desk.ask("insert into orders values (1601)");
    assert_eq!(desk.ask("select pg_is_in_recovery()"), "f");
    let timeline = desk.stand.timeline();
    assert!(timeline.contains("serves base-1/"), "{timeline}");
    assert!(!timeline.contains("base-2/ is"), "{timeline}");
    assert!(!desk.host.path().join(".restored.restoring").exists());
    desk.stand.shows(&["journal", "verify"]);
    assert_eq!(desk.stand.leaks(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_standby_the_ready_made_runbook_restores_the_newest_backup() {
    let mut desk = Desk::new().await;
    desk.policy("ZA");
    desk.without_standby();
    desk.take("base-1");
    desk.stand.start(&[]);
    assert_eq!(desk.verify("base-1/"), Some(0));
    desk.write_on(1001, 1100);
    desk.stand.cli(&["backups", "shop"]);
    desk.lose_primary();
    let ask = desk.question();
    assert!(ask.to_string().contains("base-1/ in base"), "{ask:#}");
    assert!(!desk.data().exists());
    desk.approve(ask["id"].as_str().unwrap());
    desk.ends();
    assert_eq!(desk.ask("select count(*) from orders"), "1100");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_that_fails_leads_to_the_second_branch_once_people_have_seen_its_loss() {
    let mut desk = Desk::new().await;
    desk.policy("ZA");
    desk.stand.program("promote", "echo no >&2; exit 1");
    let program = desk.stand.path("promote");
    let promote = format!(
        "    - {{id: promote, uses: command/promote, retry: {{attempts: 1}}, with: {{perform: [\"{0}\"], observe: [\"{0}\"]}}}}\n",
        program.display()
    );
    desk.documents("", &promote);
    desk.take("base-1");
    desk.stand.start(&[]);
    assert_eq!(desk.verify("base-1/"), Some(0));
    desk.write_on(1001, 1200);
    desk.stand.cli(&["backups", "shop"]);
    desk.lose_primary();
    let begun = desk.stand.cli_as(
        "ann",
        &["failover", "shop", "--yes", "--reason", "the hall burns"],
    );
    assert_eq!(begun.status.code(), Some(0), "{}", text(&begun));
    let first = desk.question();
    let id = first["id"].as_str().unwrap().to_owned();
    let said = desk
        .stand
        .cli_as("ben", &["approve", &id, "--reason", "go"]);
    assert_eq!(said.status.code(), Some(0), "{}", text(&said));
    until("the second branch is asked for", || {
        desk.stand
            .json(&["status"])
            .to_string()
            .contains("second branch")
    });
    let ask = desk.question();
    assert!(
        ask.to_string().contains("archived WAL reaches to"),
        "{ask:#}"
    );
    assert!(ask.to_string().contains("base-1/ in base"), "{ask:#}");
    assert!(!desk.data().exists());
    let id = ask["id"].as_str().unwrap().to_owned();
    let said = desk
        .stand
        .cli_as("ben", &["approve", &id, "--reason", "go"]);
    assert_eq!(said.status.code(), Some(0), "{}", text(&said));
    desk.ends();
    assert_eq!(desk.ask("select count(*) from orders"), "1200");
    desk.ask("insert into orders values (1201)");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_killed_midway_is_done_again_from_its_beginning() {
    let mut desk = Desk::new().await;
    desk.policy("ZA");
    desk.with_dead_standby();
    desk.take("base-1");
    desk.stand.start(&[]);
    assert_eq!(desk.verify("base-1/"), Some(0));
    for n in 0..4 {
        desk.write_on(1001 + n * 100, 1100 + n * 100);
    }
    desk.lose_primary();
    let ask = desk.question();
    desk.approve(ask["id"].as_str().unwrap());
    let staging = desk.host.path().join(".restored.restoring");
    let is_at_work = || staging.join("wal").exists() || staging.join("data").exists();
    let begun = std::time::Instant::now();
    while !is_at_work() {
        assert!(begun.elapsed().as_secs() < 60, "{}", desk.stand.timeline());
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    desk.stand.signal(Signal::SIGKILL);
    desk.stand.ended();
    assert!(!desk.data().exists(), "half a database took its place");
    desk.stand.start_until("\"services\"", &[]);
    desk.ends();
    assert_eq!(desk.ask("select count(*) from orders"), "1400");
    assert!(!staging.exists());

    // What was done is known again: nothing is restored twice.
    let timeline = desk.stand.timeline();
    assert_eq!(timeline.matches("serves base-1/").count(), 1, "{timeline}");
}
