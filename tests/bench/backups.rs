//! What trying a backup costs beside restoring it: the same dump by `failover backups verify` and by `pg_restore` into a
//! server that runs already, one after the other, in the same run. The difference is a cluster of its own (made, started,
//! removed), the dump read from end to end first, and the questions.
//!
//! `cargo bench --bench backups -- [--rows 2000000] [--runs 3]` prints a table, and the same figures as one line of JSON.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on should say where"
)]
#![expect(clippy::print_stdout, reason = "the figures are the output")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::unistd::{Uid, User};
use serde_json::json;

const BIN: &str = "/usr/lib/postgresql/15/bin";
const PROGRAM: &str = env!("CARGO_BIN_EXE_failover");

fn main() {
    let rows = flag("--rows", 2_000_000);
    let runs = flag("--runs", 3);
    let stand = Stand::start();
    stand.sql("postgres", &format!(
        "create table orders as select n as id, md5(n::text) as what, n % 97 as kind from generate_series(1, {rows}) n; \
         alter table orders add primary key (id); create index on orders (kind)"
    ));
    let dump = stand.path("nightly/shop.dump");
    fs::create_dir(stand.path("nightly")).unwrap();
    let mut take = stand.program("pg_dump");
    take.args(["-Fc", "-d", "postgres", "-f"])
        .arg(stand.path("shop.dump"));
    ran(&mut take);
    fs::rename(stand.path("shop.dump"), &dump).unwrap();
    stand.documents(rows);
    let (mut plain, mut tried) = (Vec::new(), Vec::new());
    for n in 0..runs {
        // Turn about, so that neither always finds the disk warm.
        if n % 2 == 0 {
            plain.push(stand.restore(&dump));
            tried.push(stand.verify());
        } else {
            tried.push(stand.verify());
            plain.push(stand.restore(&dump));
        }
    }
    let (plain, tried) = (median(&mut plain), median(&mut tried));
    let ratio = tried.as_secs_f64() / plain.as_secs_f64();
    let bytes = fs::metadata(&dump).unwrap().len();
    println!("dump of {rows} rows, MiB             {}", bytes >> 20);
    println!(
        "pg_restore, s, median of {runs}       {:.2}",
        plain.as_secs_f64()
    );
    println!(
        "backups verify, s, median of {runs}   {:.2}",
        tried.as_secs_f64()
    );
    println!("  of pg_restore                  {ratio:.2}");
    println!(
        "{}",
        json!({"rows": rows, "bytes": bytes, "pgRestore": plain.as_secs_f64(),
               "verify": tried.as_secs_f64(), "ratio": ratio})
    );
}

fn flag(name: &str, default: u32) -> u32 {
    let args: Vec<String> = env::args().collect();
    let at = args.iter().position(|a| a == name);
    at.map_or(default, |n| args[n + 1].parse().unwrap())
}

fn median(all: &mut [Duration]) -> Duration {
    all.sort_unstable();
    all[all.len() / 2]
}

fn ran(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
}

/// A server that runs, and a folder for everything.
struct Stand {
    folder: tempfile::TempDir,
    server: std::process::Child,
}

impl Drop for Stand {
    fn drop(&mut self) {
        let mut stop = as_database(&format!("{BIN}/pg_ctl"));
        stop.args(["stop", "-m", "immediate", "-D"])
            .arg(self.path("data"));
        let _ = stop.output();
        let _ = self.server.wait();
    }
}

impl Stand {
    fn start() -> Self {
        let folder = tempfile::TempDir::with_prefix("failover-bench-").unwrap();
        let open: fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(folder.path(), open).unwrap();
        let data = folder.path().join("data");
        ran(as_database(&format!("{BIN}/initdb"))
            .args(["--no-sync", "--auth=trust", "--username=postgres", "-D"])
            .arg(&data));
        // The same settings as the server that a backup is tried in.
        let server = as_database(&format!("{BIN}/postgres"))
            .arg("-D")
            .arg(&data)
            .args([
                "-c",
                "listen_addresses=",
                "-c",
                "fsync=off",
                "-c",
                "full_page_writes=off",
            ])
            .args([
                "-c",
                "synchronous_commit=off",
                "-c",
                "wal_level=minimal",
                "-c",
                "max_wal_senders=0",
            ])
            .args([
                "-c",
                "autovacuum=off",
                "-c",
                "shared_buffers=64MB",
                "-c",
                "maintenance_work_mem=128MB",
            ])
            .arg("-c")
            .arg(format!(
                "unix_socket_directories={}",
                folder.path().display()
            ))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stand = Self { folder, server };
        let answers = || {
            let mut ask = stand.program("psql");
            let asked = ask.args(["-d", "postgres", "-c", "select 1"]).output();
            asked.is_ok_and(|o| o.status.success())
        };
        while !answers() {
            sleep(Duration::from_millis(50));
        }
        stand
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn program(&self, name: &str) -> Command {
        let mut command = as_database(&format!("{BIN}/{name}"));
        command
            .args(["-U", "postgres", "-h"])
            .arg(self.folder.path());
        command
    }

    fn sql(&self, database: &str, sql: &str) {
        let mut ask = self.program("psql");
        ran(ask.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql]));
    }

    fn restore(&self, dump: &Path) -> Duration {
        self.sql("postgres", "drop database if exists plain");
        let begun = Instant::now();
        self.sql("postgres", "create database plain");
        ran(self
            .program("pg_restore")
            .args(["--exit-on-error", "-d", "plain"])
            .arg(dump));
        self.sql("plain", "select count(*) from orders");
        begun.elapsed()
    }

    fn verify(&self) -> Duration {
        let begun = Instant::now();
        ran(Command::new(PROGRAM)
            .args(["backups", "verify", "shop", "-f"])
            .arg(self.path("documents"))
            .env("FAILOVER_STATE", self.path("state")));
        begun.elapsed()
    }

    fn documents(&self, rows: u32) {
        fs::create_dir(self.path("documents")).unwrap();
        let site = |name: &str, role: &str| json!({"name": name, "role": role, "url": format!("https://{name}.example.com")});
        let service = json!({
            "apiVersion": "failover.rs/v1alpha1", "kind": "ProtectedService", "metadata": {"name": "shop"},
            "spec": {
                "objectives": {"rto": "5m", "rpo": "0s"}, "runbook": "bench",
                "sites": [site("east", "primary"), site("west", "standby")],
                "components": [{"name": "app", "kind": "application", "probes": [
                    {"id": "app", "uses": "probe/tcp", "with": {"host": "east.example.com", "port": 443}},
                ]}],
            },
        });
        let runbook = json!({
            "apiVersion": "failover.rs/v1alpha1", "kind": "Runbook", "metadata": {"name": "bench"},
            "spec": {"steps": [{"id": "verify", "uses": "service/verify"}]},
        });
        let policy = json!({
            "apiVersion": "failover.rs/v1alpha1", "kind": "BackupPolicy", "metadata": {"name": "shop"},
            "spec": {
                "service": "shop",
                "sources": [{"name": "nightly", "uses": "backup/folder",
                             "with": {"folder": self.path("nightly"), "full": ["*.dump"]}}],
                "verify": {"keepFree": 64, "folder": self.folder.path(), "queries": [
                    {"name": "orders", "sql": "select count(*) from orders", "atLeast": rows},
                ]},
            },
        });
        for (name, document) in [("shop", service), ("runbook", runbook), ("backups", policy)] {
            let text = serde_json::to_string_pretty(&document).unwrap();
            fs::write(self.path(&format!("documents/{name}.yaml")), text).unwrap();
        }
    }
}

/// A program as the user that PostgreSQL runs as.
fn as_database(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if Uid::effective().is_root() {
        let user = User::from_name("postgres").unwrap().unwrap();
        command.args([
            format!("--reuid={}", user.uid),
            format!("--regid={}", user.gid),
        ]);
        command.arg("--clear-groups");
    }
    command.arg(program).current_dir("/");
    command
}
