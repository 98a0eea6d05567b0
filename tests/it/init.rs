//! `failover init` on a real PostgreSQL pair and a real BIND, by the real binary.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::stand::{
    bind::Bind,
    postgres::{Cluster, PASSWORD, Pair, USER},
};

/// The folder that `init` writes to, and how it is run.
struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new() -> Self {
        Self {
            folder: TempDir::new().unwrap(),
        }
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("documents")
    }

    fn failover(&self, args: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_failover"));
        command
            .env_clear()
            .env("HOME", self.folder.path())
            .env("PATH", "/usr/bin:/bin")
            .env("USER", USER)
            .envs(environment.iter().copied())
            .args(args);
        command.output().unwrap()
    }

    fn init(&self, primary: &str, standby: &str, more: &[&str]) -> Output {
        self.init_as(primary, standby, more, &[])
    }

    fn init_as(
        &self,
        primary: &str,
        standby: &str,
        more: &[&str],
        environment: &[(&str, &str)],
    ) -> Output {
        let out = self.out();
        let out = out.to_str().unwrap();
        let args = [
            "init",
            "--primary",
            primary,
            "--standby",
            standby,
            "--out",
            out,
        ];
        self.failover(&[&args, more].concat(), environment)
    }

    fn document(&self) -> String {
        fs::read_to_string(self.out().join("service.yaml")).unwrap()
    }

    fn is_valid(&self) {
        let answer = self.failover(&["validate", self.out().to_str().unwrap()], &[]);
        assert!(
            answer.status.success(),
            "{}\n{}",
            text(&answer),
            self.document()
        );
    }

    fn wrote_nothing(&self) {
        assert!(!self.out().exists());
    }
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// As the superuser, by TCP.
fn admin(cluster: &Cluster) -> String {
    format!("host=127.0.0.1 port={} user=postgres", cluster.port)
}

fn succeeded(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", text(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// It says no with this code and these words.
fn refused(output: &Output, status: i32, code: &str, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{said}");
    assert!(output.stdout.is_empty(), "{}", text(output));
    assert!(said.starts_with(&format!("error[{code}]: ")), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is missing in: {said}");
    }
}

fn lines(value: &Value) -> String {
    let lines = value.as_array().unwrap().iter();
    let lines: Vec<_> = lines.map(|l| l.as_str().unwrap()).collect();
    lines.join("\n")
}

/// What `failover check` says of each item whose name begins so.
fn items(check: &Output, prefix: &str) -> Vec<(String, String)> {
    let value: Value =
        serde_json::from_slice(&check.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(check)));
    let mut found = Vec::new();
    collect(&value, prefix, &mut found);
    assert!(!found.is_empty(), "nothing begins with {prefix}: {value:#}");
    found
}

fn collect(value: &Value, prefix: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => {
            let field = |name: &str| map.get(name).and_then(Value::as_str);
            if let (Some(name), Some(status)) = (field("name"), field("status"))
                && name.starts_with(prefix)
            {
                found.push((name.to_owned(), format!("{status}: {:?}", field("detail"))));
            }
            map.values().for_each(|v| collect(v, prefix, found));
        }
        Value::Array(all) => all.iter().for_each(|v| collect(v, prefix, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn psql(cluster: &Cluster, database: &str, file: &Path) -> Output {
    Command::new("psql")
        .args(["-Xq", "-v", "ON_ERROR_STOP=1"])
        .arg(format!("{} dbname={database}", admin(cluster)))
        .arg("-f")
        .arg(file)
        .output()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_pair_and_a_zone_to_a_green_check() {
    let (pair, bind) = (Pair::start(), Bind::start().await);
    // The stand has it off, which a check rightly calls dangerous.
    pair.standby.set("fsync", "on");
    pair.primary.sql("CREATE DATABASE shop");
    pair.primary.sql("REVOKE ALL ON DATABASE shop FROM PUBLIC");
    pair.settle();
    let desk = Desk::new();
    let server = bind.address.to_string();
    let dns = ["--host", "app.demo.test", "--dns-server", &server];
    let more = [
        "--name",
        "shop",
        "--standby-address",
        "192.0.2.20",
        "-o",
        "json",
    ];
    let name = |cluster: &Cluster| format!("{} dbname=shop", admin(cluster));
    let answer = desk.init(
        &name(&pair.primary),
        &name(&pair.standby),
        &[&dns[..], &more].concat(),
    );
    let report = succeeded(&answer);
    let found = lines(&report["found"]);
    for seen in [
        "takes writes",
        "in recovery",
        "stream to standby: streaming, asynchronous, ",
        "slot standby: physical, active",
        "max_connections 20; wal_log_hints off; data_checksums on",
        "app.demo.test: 192.0.2.1, 192.0.2.2, TTL 300s",
        "zone demo.test: primary server ns.demo.test, name servers ns.demo.test",
    ] {
        assert!(found.contains(seen), "{seen:?} is missing in:\n{found}");
    }
    assert_eq!(lines(&report["remarks"]), "");
    desk.is_valid();
    let document = desk.document();
    assert!(document.contains("mode: observe"), "{document}");
    assert!(document.contains("user=failover"), "{document}");
    assert!(!document.contains("user=postgres"), "{document}");

    let out = desk.out();
    let check = || {
        desk.failover(
            &["check", "-f", out.to_str().unwrap(), "shop", "-o", "json"],
            &[
                ("FAILOVER_DB_PASSWORD", PASSWORD),
                ("FAILOVER_STATE", desk.folder.path().to_str().unwrap()),
            ],
        )
    };
    let of_database = [
        "vantage/local/probe/postgres",
        "step/promote/",
        "step/refuse-writers/",
        "step/write-attempt/",
        "lag",
    ];
    let before = check();
    assert!(
        items(&before, of_database[0])
            .iter()
            .all(|(_, s)| !s.starts_with("ok")),
        "{}",
        text(&before)
    );

    let file = out.join("grants.sql");
    let elsewhere = psql(&pair.primary, "postgres", &file);
    assert!(text(&elsewhere).contains("the database that the documents name"));
    for _ in 0..2 {
        let applied = psql(&pair.primary, "shop", &file);
        assert!(applied.status.success(), "{}", text(&applied));
    }
    pair.settle();
    let after = check();
    for prefix in of_database {
        for (name, status) in items(&after, prefix) {
            assert!(
                status.starts_with("ok") || status.starts_with("warn"),
                "{name} is {status}"
            );
        }
    }
    shown(&desk, &pair, &bind);
    let again = desk.init(&name(&pair.primary), &name(&pair.standby), &more[..2]);
    refused(&again, 1, "FO-036", &["grants.sql"]);
    assert_eq!(desk.document(), document);
}

/// What a person sees, and what is written.
fn shown(desk: &Desk, pair: &Pair, bind: &Bind) {
    let home = desk.folder.path().to_str().unwrap();
    let server = bind.address.to_string();
    let out = format!("{home}/shown");
    let name = |cluster: &Cluster| format!("{} dbname=shop", admin(cluster));
    let (primary, standby) = (name(&pair.primary), name(&pair.standby));
    let args = [
        "init",
        "--primary",
        &primary,
        "--standby",
        &standby,
        "--out",
        &out,
    ];
    let more = [
        "--name",
        "shop",
        "--host",
        "app.demo.test",
        "--dns-server",
        &server,
    ];
    let more = [&more[..], &["--standby-address", "192.0.2.20"]].concat();
    let answer = desk.failover(&[&args[..], &more].concat(), &[]);
    assert!(answer.status.success(), "{}", text(&answer));
    let written = |file: &str| fs::read_to_string(format!("{out}/{file}")).unwrap();
    let (first, second) = (pair.primary.port.to_string(), pair.standby.port.to_string());
    let filters = [
        (home, "[home]"),
        (&first, "5432"),
        (&second, "5433"),
        (&server, "127.0.0.1:53"),
        (r"system \d+", "system [number]"),
        (r"looked at .*", "looked at [time]"),
        (r", replay lag [\d.]+ s", ""),
        (r"\d+ bytes", "[n] bytes"),
        (r"PostgreSQL \d[\d.]*", "PostgreSQL 15"),
    ];
    insta::with_settings!({filters => filters}, {
        insta::assert_snapshot!("init-output", text(&answer));
        insta::assert_snapshot!("init-document", written("service.yaml"));
        insta::assert_snapshot!("init-grants", written("grants.sql"));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_what_it_could_not_see() {
    let (mut pair, bind) = (Pair::start(), Bind::start().await);
    let (primary, standby) = (admin(&pair.primary), admin(&pair.standby));
    let server = bind.address.to_string();

    // The wrong way round, through an alias.
    let desk = Desk::new();
    let alias = ["--host", "www.demo.test", "--dns-server", &server];
    let more = ["--standby-address", "south.example.net", "-o", "json"];
    let report = succeeded(&desk.init(&standby, &primary, &[&alias[..], &more].concat()));
    assert!(lines(&report["remarks"]).contains("wrong way round"));
    assert_eq!(report["service"], "www");
    desk.is_valid();
    let document = desk.document();
    assert!(document.contains("type: CNAME"), "{document}");
    assert!(
        document.contains(r#"addresses: ["app.demo.test"]"#),
        "{document}"
    );

    // Where users would be led is not known: both databases answer at the address of the primary.
    let desk = Desk::new();
    let host = [
        "--host",
        "app.demo.test",
        "--dns-server",
        &server,
        "-o",
        "json",
    ];
    let report = succeeded(&desk.init(&primary, &standby, &host));
    assert!(
        desk.document().contains("CHANGE: a guess"),
        "{}",
        lines(&report["remarks"])
    );
    desk.is_valid();

    // A login that may see next to nothing, and no public name.
    let desk = Desk::new();
    let secret = format!("password='{PASSWORD}' application_name=x");
    let plain = |cluster: &Cluster| format!("{} {secret}", cluster.conninfo());
    let answer = desk.init(
        &plain(&pair.primary),
        &plain(&pair.standby),
        &["--name", "shop"],
    );
    assert!(answer.status.success(), "{}", text(&answer));
    assert!(text(&answer).contains("may not see the state of replication"));
    assert!(!text(&answer).contains(PASSWORD));
    let written = [
        desk.document(),
        fs::read_to_string(desk.out().join("grants.sql")).unwrap(),
    ];
    assert!(!written.concat().contains(PASSWORD));
    assert!(
        written[0].contains("runbook: postgres-promote"),
        "{}",
        written[0]
    );
    desk.is_valid();

    // Only the primary is there.
    pair.standby.crash();
    let desk = Desk::new();
    let report = succeeded(&desk.init(&primary, &standby, &["--name", "shop", "-o", "json"]));
    let remarks = lines(&report["remarks"]);
    assert!(remarks.contains("the standby was not seen"), "{remarks}");
    assert!(
        remarks.contains("nobody streams through the slot standby"),
        "{remarks}"
    );
    desk.is_valid();

    // Only the standby is there.
    pair.standby.restart();
    pair.primary.crash();
    let desk = Desk::new();
    let answer = desk.init(&primary, &standby, &["--name", "shop"]);
    refused(
        &answer,
        1,
        "FO-060",
        &["the primary database", "refuses", "in recovery"],
    );
    desk.wrote_nothing();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_and_nothing_is_written() {
    let (pair, other, bind) = (Pair::start(), Cluster::start(), Bind::start().await);
    let (primary, standby, third) = (admin(&pair.primary), admin(&pair.standby), admin(&other));
    let desk = Desk::new();
    let name = ["--name", "shop"];
    let init = |one: &str, two: &str| desk.init(one, two, &name);

    let wrong = format!("{} password=hunter2", pair.primary.conninfo());
    let answer = init(&wrong, &standby);
    refused(
        &answer,
        1,
        "FO-060",
        &["the primary database", "password authentication failed"],
    );
    assert!(!text(&answer).contains("hunter2"));
    let answer = init(
        &primary,
        &format!("{} password=hunter2", pair.standby.conninfo()),
    );
    refused(
        &answer,
        1,
        "FO-060",
        &["the standby database", "password authentication failed"],
    );
    refused(
        &init(&primary, &third),
        1,
        "FO-061",
        &["both take writes", "two systems"],
    );
    refused(
        &init(&primary, &primary),
        1,
        "FO-061",
        &["both take writes", "one server"],
    );
    refused(
        &init(&standby, &standby),
        1,
        "FO-061",
        &["both in recovery"],
    );
    refused(
        &init(&third, &standby),
        1,
        "FO-061",
        &["system identifiers"],
    );
    refused(
        &init("primary", &standby),
        2,
        "FO-001",
        &["--primary", "connection string"],
    );
    refused(
        &init("host=a,b user=x", &standby),
        2,
        "FO-001",
        &["one server only"],
    );
    let answer = desk.init(&primary, &standby, &["--name", "The Shop"]);
    refused(&answer, 2, "FO-001", &["--name"]);

    let server = bind.address.to_string();
    let look = |host: &str| {
        let dns = ["--host", host, "--dns-server", &server];
        desk.init(&primary, &standby, &[&name[..], &dns].concat())
    };
    refused(
        &look("nobody.demo.test"),
        1,
        "FO-062",
        &["no such name (NXDOMAIN)"],
    );
    refused(
        &look("mail.demo.test.invalid"),
        1,
        "FO-062",
        &["Query Refused"],
    );
    refused(&look("demo.test"), 1, "FO-062", &["no A, AAAA or CNAME"]);
    desk.wrote_nothing();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_found_where_psql_finds_it() {
    let pair = Pair::start();
    let (primary, standby) = (pair.primary.conninfo(), pair.standby.conninfo());
    let more = ["--name", "shop"];
    let desk = Desk::new();
    let answer = desk.init_as(&primary, &standby, &more, &[("PGPASSWORD", PASSWORD)]);
    assert!(answer.status.success(), "{}", text(&answer));
    assert!(!desk.document().contains(PASSWORD));

    let desk = Desk::new();
    let file = desk.folder.path().join(".pgpass");
    fs::write(&file, format!("127.0.0.1:*:*:{USER}:{PASSWORD}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let answer = desk.init(&primary, &standby, &more);
    refused(&answer, 1, "FO-060", &["password"]);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let answer = desk.init(&primary, &standby, &more);
    assert!(answer.status.success(), "{}", text(&answer));
    assert!(!text(&answer).contains(PASSWORD));
}
