//! `failover check` of documents, by the real binary.

use std::{fs, process::Command};

use failover::promote::{Grants, grants_sql};
use serde_json::Value;
use tempfile::TempDir;

use crate::stand::postgres::{PASSWORD, Pair, USER};

/// Documents of a pair; `readiness` is the section of that name.
fn documents(pair: &Pair, readiness: &str) -> String {
    let (a, b) = (pair.primary.conninfo(), pair.standby.conninfo());
    format!(
        "apiVersion: failover.rs/v1alpha1
kind: ProtectedService
metadata: {{name: shop}}
spec:
  objectives: {{rto: 15m, rpo: 1m}}
  sites:
    - {{name: east, role: primary, addresses: [192.0.2.1]}}
    - {{name: west, role: standby, addresses: [192.0.2.2]}}
  components:
    - name: db
      kind: database
      probes:
        - {{id: east, uses: probe/postgres, site: east, with: {{connection: \"{a}\", password: {{env: DB}}}}}}
        - {{id: west, uses: probe/postgres-standby, site: west, with: {{connection: \"{b}\", password: {{env: DB}}}}}}
  team:
    channels:
      - {{name: hook, uses: announce/webhook, with: {{url: \"http://127.0.0.1:9/\", allowPrivate: true, secret: {{env: NOT_GIVEN}}}}}}
  runbook: promote
  readiness:
{readiness}
---
apiVersion: failover.rs/v1alpha1
kind: Runbook
metadata: {{name: promote}}
spec:
  title: Promote
  steps:
    - {{id: fence, name: Stop, uses: command/fence, runs: [failover], with: {{perform: [\"true\"], observe: [\"false\"]}}}}
    - {{id: promote, name: Promote, uses: postgres/promote, runs: [failover, switchover], with: {{connection: \"{b}\", password: {{env: DB}}}}}}
    - {{id: drain, name: Drain, uses: command/drain, runs: [switchover], with: {{perform: [\"true\"], observe: [sh, -c, exit 9], undo: [\"true\"]}}}}
    - {{id: verify, name: Verify, uses: service/verify}}
"
    )
}

fn failover(folder: &TempDir, args: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_failover"))
        .env_clear()
        .env("HOME", folder.path())
        .env("PATH", "/usr/bin:/bin")
        .env("DB", PASSWORD)
        .args(args)
        .output()
        .unwrap()
}

#[test]
fn a_check_shows_drift_comparisons_secrets_proofs_and_the_drill() {
    let pair = Pair::start();
    pair.primary.sql(&grants_sql(&Grants {
        role: USER,
        database: "postgres",
        promote: true,
        fence: true,
    }));
    pair.primary.set("TimeZone", "Europe/Berlin");
    pair.settle();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("shop.yaml");
    let readiness = "    drill: {maxAge: 90d}
    compare:
      - name: build
        sites:
          east: {command: {run: [echo, \"7\"]}}
          west: {command: {run: [echo, \"8\"]}}
";
    fs::write(&file, documents(&pair, readiness)).unwrap();
    let state = folder.path().join("state");
    let args = [
        "check",
        "-f",
        file.to_str().unwrap(),
        "--state",
        state.to_str().unwrap(),
        "-o",
        "json",
    ];
    let answer = failover(&folder, &args);
    assert_eq!(answer.status.code(), Some(1), "{answer:?}");
    let shown: Value = serde_json::from_slice(&answer.stdout).unwrap();
    let service = &shown["services"][0];
    assert_eq!(service["green"], false);
    let status = |name: &str| {
        let items = service["items"].as_array().unwrap();
        let item = items.iter().find(|i| i["name"] == name);
        item.unwrap_or_else(|| panic!("no {name} in {shown:#}"))["status"].clone()
    };
    assert_eq!(status("drift/TimeZone"), "warn");
    assert_eq!(status("drift/version"), "ok");
    assert_eq!(status("drift/collations"), "ok");
    assert_eq!(status("compare/build"), "fail");
    assert_eq!(status("secret/NOT_GIVEN"), "fail");
    assert_eq!(status("proof/page/hook"), "warn");
    assert_eq!(status("drill"), "fail");
    assert_eq!(status("clock/east/database"), "ok");
    assert_eq!(status("disk/west"), "unknown");
    // The steps of planned moves are tried too, and a failover does not hang on them.
    assert_eq!(status("switchover/step/drain/drain/command"), "warn");
}

#[test]
fn wrong_readiness_is_refused_with_the_place() {
    let pair = Pair::start();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("shop.yaml");
    for (section, words) in [
        ("    every: 10s", &["spec.readiness.every", "too often"][..]),
        (
            "    {every: 1h, maxAge: 2h}",
            &["spec.readiness.maxAge", "3h"],
        ),
        ("    drill: {maxAge: 0s}", &["spec.readiness.drill.maxAge"]),
        (
            "    compare: [{name: v, sites: {east: {command: {run: [echo]}}, north: {command: {run: [echo]}}}}]",
            &["there is no site `north`"],
        ),
        (
            "    compare: [{name: v, sites: {east: {command: {run: [echo]}}}}]",
            &["nothing to be held against"],
        ),
        (
            "    compare: [{name: v, sites: {east: {http: {url: \"ftp://x/\"}}}, rule: {atLeast: 1}}]",
            &["http.url", "expected https"],
        ),
        (
            "    compare: [{name: v, sites: {east: {http: {url: \"http://x/\", headers: {a: {env: T}}}}}, rule: {atLeast: 1}}]",
            &["is not encrypted"],
        ),
        (
            "    compare: [{name: v, sites: {east: {sql: {connection: \"port=1\", query: SELECT 1}}}, rule: {atMost: 1}}]",
            &["sql.connection"],
        ),
        (
            "    compare: [{name: v, sites: {east: {http: {url: \"https://x/\", pointer: version}}}, rule: {atMost: 1}}]",
            &["is no JSON pointer"],
        ),
    ] {
        fs::write(&file, documents(&pair, section)).unwrap();
        let answer = failover(&folder, &["validate", file.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&answer.stderr).into_owned()
            + &String::from_utf8_lossy(&answer.stdout);
        assert_eq!(answer.status.code(), Some(1), "{section}: {said}");
        for word in words {
            assert!(
                said.contains(word),
                "{word:?} is missing for {section}: {said}"
            );
        }
    }
}
