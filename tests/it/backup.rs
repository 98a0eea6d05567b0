//! Backups: what there is in folders, buckets and other programs' lists, and what breaks the policy.
//!
//! pgBackRest and restic are not on this machine: programs stand in for them that print what their manuals document.

mod branch;
mod restore;
mod taking;

use std::{fs, os::unix::fs::PermissionsExt, process::Output};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::stand::{
    controller::{Stand, text, until},
    s3::S3,
};

/// A moment so many minutes ago, as it stands in names.
fn ago(minutes: i64) -> String {
    let at = Timestamp::now() - SignedDuration::from_mins(minutes);
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// Minutes of a day.
const DAY: i64 = 1440;

const NAMES: &str = "shop-%Y%m%dT%H%M%SZ.dump.age";

fn name(minutes: i64) -> String {
    format!("shop-{}.dump.age", ago(minutes))
}

fn put(stand: &Stand, file: &str, text: &str) {
    let path = stand.path(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn policy(stand: &Stand, spec: &Value) {
    let document = json!({
        "apiVersion": "failover.rs/v1alpha1",
        "kind": "BackupPolicy",
        "metadata": {"name": "shop-backups"},
        "spec": spec,
    });
    let text = serde_json::to_string_pretty(&document).unwrap();
    fs::write(stand.path("documents/backups.yaml"), text).unwrap();
}

fn folder(stand: &Stand, name: &str, region: &str) -> Value {
    json!({
        "name": name,
        "location": {"region": region, "country": "ZA", "continent": "AF", "provider": region},
        "uses": "backup/folder",
        "with": {"folder": stand.path(name), "full": [NAMES]},
    })
}

/// `failover backups` without a controller: its exit status and its one service.
fn look(stand: &Stand) -> (i32, Value) {
    let documents = stand.documents();
    let output = stand.cli(&["backups", "-o", "json", "-f", documents.to_str().unwrap()]);
    let code = output.status.code().unwrap();
    let shown: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output)));
    (code, shown["services"][0].clone())
}

/// The rules that are broken; those that cannot be told with a question mark.
fn rules(shown: &Value) -> Vec<String> {
    let breaches = shown["breaches"].as_array().unwrap().iter();
    breaches
        .map(|b| {
            let unsure = if b["certain"] == true { "" } else { "?" };
            format!("{}{unsure}", b["rule"].as_str().unwrap())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_and_buckets_are_held_against_the_policy() {
    let stand = Stand::new().await;
    let s3 = S3::start();
    stand.file("key-id", "test-key");
    stand.file("key-secret", "test-secret");
    let bucket = json!({
        "name": "bucket",
        "location": {"region": "cpt", "country": "ZA", "continent": "AF", "provider": "two"},
        "keeps": ["full", "log"],
        "uses": "backup/s3",
        "with": {
            "url": "s3://copies/shop", "endpoint": s3.endpoint(), "allowHttp": true,
            "accessKeyId": {"file": stand.path("key-id")}, "secretAccessKey": {"file": stand.path("key-secret")},
            "full": [format!("full/{}", NAMES.replace(".dump.age", "/"))], "log": ["wal/*"],
        },
    });
    policy(
        &stand,
        &json!({
            "service": "shop", "sources": [folder(&stand, "nightly", "jnb"), bucket],
            "freshness": {"full": "1d", "log": "15m"}, "copies": 2, "regions": 2, "providers": 2,
            "encrypted": "required",
        }),
    );
    put(&stand, &format!("nightly/{}", name(1500)), "old");
    put(&stand, &format!("nightly/{}", name(30)), "dump");
    put(&stand, "nightly/README", "no backup");
    let base = format!("shop/full/shop-{}", ago(60));
    s3.put(&format!("{base}/base.tar.age"), b"base");
    s3.put(&format!("{base}/pg_wal/1.age"), b"wal");
    s3.put("shop/wal/0001.age", b"log");
    let (code, shown) = look(&stand);
    assert_eq!((code, rules(&shown)), (0, vec![]), "{shown:#}");
    let copies = |n: usize| shown["sources"][n]["copies"].as_array().unwrap().clone();
    assert_eq!(copies(0).len(), 2);
    assert_eq!(copies(0)[1]["bytes"], 4);
    assert_eq!(copies(1).len(), 2);
    assert_eq!(copies(1)[0]["bytes"], 7);
    assert_eq!(copies(1)[0]["kind"], "full");
    assert!(
        shown["next"][1]
            .as_str()
            .unwrap()
            .contains("log backup in bucket")
    );

    s3.put("shop/wal/0002", b"open");
    s3.put(&format!("{base}/backup_manifest"), b"open");
    fs::remove_file(stand.path(&format!("nightly/{}", name(30)))).ok();
    for entry in fs::read_dir(stand.path("nightly")).unwrap() {
        let path = entry.unwrap().path();
        if fs::read(&path).unwrap() == b"dump" {
            fs::remove_file(path).unwrap();
        }
    }
    let (code, shown) = look(&stand);
    assert_eq!(code, 1);
    let broken = [
        "freshness/nightly/full",
        "copies",
        "regions",
        "providers",
        "encrypted/bucket?",
    ];
    assert_eq!(rules(&shown), broken);

    s3.begin_outage();
    fs::remove_dir_all(stand.path("nightly")).unwrap();
    let (code, shown) = look(&stand);
    assert_eq!(code, 1);
    let unsure = [
        "list/nightly?",
        "list/bucket?",
        "copies?",
        "regions?",
        "providers?",
    ];
    assert_eq!(rules(&shown), unsure, "{shown:#}");
    assert!(
        !stand.path("nightly").exists(),
        "a place that is not there was made"
    );
    s3.end_outage();
    assert_eq!(stand.leaks(), Vec::<String>::new());
}

fn program(stand: &Stand, name: &str, body: &str) {
    let path = stand.path(name);
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_other_programs_list_is_asked_for_as_their_manuals_say() {
    let stand = Stand::new().await;
    stand.file("password", "hunter2-of-restic");
    let now = Timestamp::now();
    let printed = json!([{
        "name": "shop", "cipher": "none", "status": {"code": 0, "message": "ok"},
        "repo": [{"key": 2, "cipher": "aes-256-cbc", "status": {"code": 0, "message": "ok"}}],
        "backup": [{
            "label": "20261101-020000F", "type": "full", "error": false, "database": {"id": 1, "repo-key": 2},
            "info": {"repository": {"delta": 5, "size": 5}},
            "timestamp": {"start": now.as_second() - 20, "stop": now.as_second() - 10},
        }],
    }]);
    let snapshots = json!([{"time": now.to_string(), "id": "ab".repeat(32), "short_id": "abababab", "paths": ["/srv"]}]);
    let folder = stand.path("").display().to_string();
    program(
        &stand,
        "pgbackrest",
        &format!("echo \"$@\" > {folder}/asked-pgbackrest\ncat <<'END'\n{printed}\nEND"),
    );
    program(
        &stand,
        "restic",
        &format!(
            "echo \"$@\" > {folder}/asked-restic\n[ \"$RESTIC_PASSWORD\" = hunter2-of-restic ] || {{ echo \"wrong $RESTIC_PASSWORD\" >&2; exit 1; }}\ncat <<'END'\n{snapshots}\nEND"
        ),
    );
    let own = json!([{"id": "a", "at": now.to_string(), "encrypted": true}]);
    program(&stand, "own", &format!("cat <<'END'\n{own}\nEND"));
    let with = |secret: &str| {
        policy(
            &stand,
            &json!({
                "service": "shop", "copies": 3, "encrypted": "required", "freshness": {"full": "1h"},
                "sources": [
                    {"name": "stanza", "uses": "backup/pgbackrest",
                     "with": {"stanza": "shop", "repo": 2, "program": [stand.path("pgbackrest")]}},
                    {"name": "snapshots", "uses": "backup/restic",
                     "with": {"repository": "sftp:backup:/srv", "tags": ["shop", "db"], "program": [stand.path("restic")],
                              "env": {"RESTIC_PASSWORD": {"file": stand.path(secret)}}}},
                    {"name": "own", "uses": "backup/command", "with": {"list": [stand.path("own")]}},
                ],
            }),
        );
    };
    with("password");
    let (code, shown) = look(&stand);
    assert_eq!((code, rules(&shown)), (0, vec![]), "{shown:#}");
    let asked = |name: &str| fs::read_to_string(stand.path(name)).unwrap();
    assert_eq!(
        asked("asked-pgbackrest"),
        "info --output=json --stanza=shop --repo=2\n"
    );
    assert_eq!(
        asked("asked-restic"),
        "--repo sftp:backup:/srv snapshots --json --no-lock --tag shop,db\n"
    );

    stand.file("wrong", "hunter2-but-wrong");
    with("wrong");
    program(&stand, "own", "echo '{}'");
    program(&stand, "pgbackrest", "exit 3");
    let (code, shown) = look(&stand);
    assert_eq!(code, 1);
    assert_eq!(
        rules(&shown),
        ["list/stanza?", "list/snapshots?", "list/own?", "copies?"]
    );
    let said = shown.to_string();
    assert!(
        !said.contains("hunter2") && said.contains("wrong ***"),
        "{said}"
    );
}

/// The item of `failover check` of that name.
fn item(output: &Output, name: &str) -> Option<Value> {
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    let items = shown["services"][0]["items"].as_array().unwrap().clone();
    items.into_iter().find(|i| i["name"] == name)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_controller_pages_while_the_policy_is_broken() {
    let mut stand = Stand::new().await;
    policy(
        &stand,
        &json!({"service": "shop", "sources": [folder(&stand, "nightly", "jnb")], "freshness": {"full": "1d"}}),
    );
    put(&stand, &format!("nightly/{}", name(3000)), "old");
    stand.start(&[]);
    let pages = |stand: &Stand| stand.json(&["status"])["services"][0]["pages"].to_string();
    until("the team is paged", || {
        pages(&stand).contains("the backups break their policy")
    });
    let check = stand.cli(&["check", "shop", "-o", "json"]);
    let late = item(&check, "backups/freshness/nightly/full").unwrap();
    assert_eq!(late["status"], "warn");
    assert!(
        stand
            .timeline()
            .contains("the newest full backup in nightly is of")
    );

    put(&stand, &format!("nightly/{}", name(1)), "new");
    let kept = stand.cli(&["backups", "shop"]);
    assert_eq!(kept.status.code(), Some(0), "{}", text(&kept));
    assert!(
        text(&kept).contains("the policy is kept"),
        "{}",
        text(&kept)
    );
    until("the page is closed", || !pages(&stand).contains("backups"));
    let check = stand.cli(&["check", "shop", "-o", "json"]);
    assert_eq!(item(&check, "backups/nightly").unwrap()["status"], "ok");
    assert!(stand.timeline().contains("the backups keep their policy"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_off_the_ladder_is_deleted_and_only_on_demand() {
    let stand = Stand::new().await;
    let s3 = S3::start();
    stand.file("key-id", "test-key");
    stand.file("key-secret", "test-secret");
    let mut bucket = folder(&stand, "bucket", "cpt");
    bucket["uses"] = json!("backup/s3");
    bucket["with"] = json!({
        "url": "s3://copies/shop", "endpoint": s3.endpoint(), "allowHttp": true,
        "accessKeyId": {"file": stand.path("key-id")}, "secretAccessKey": {"file": stand.path("key-secret")},
        "full": ["base-%Y%m%dT%H%M%SZ/"],
    });
    policy(
        &stand,
        &json!({
            "service": "shop", "sources": [folder(&stand, "nightly", "jnb"), bucket],
            "retention": {"daily": "2d"},
        }),
    );
    let old = name(9 * DAY);
    for minutes in [1, DAY, 2 * DAY, 3 * DAY] {
        put(&stand, &format!("nightly/{}", name(minutes)), "kept or not");
    }
    put(&stand, &format!("nightly/{old}"), "off the ladder");
    put(&stand, "nightly/README", "no backup");
    for minutes in [1, 20 * DAY] {
        s3.put(&format!("shop/base-{}/base.tar", ago(minutes)), b"base");
        s3.put(&format!("shop/base-{}/pg_wal.tar", ago(minutes)), b"wal");
    }
    let names = || -> usize { fs::read_dir(stand.path("nightly")).unwrap().count() };
    let documents = stand.documents();
    let prune = |flags: &[&str]| -> Vec<Value> {
        let args = [
            "backups",
            "prune",
            "shop",
            "-f",
            documents.to_str().unwrap(),
        ];
        let shown = stand.json(&[&args[..], flags].concat());
        shown["copies"].as_array().unwrap().clone()
    };
    let planned = prune(&[]);
    let sources: Vec<_> = planned
        .iter()
        .map(|p| p["source"].as_str().unwrap())
        .collect();
    assert_eq!(sources, ["bucket", "nightly", "nightly"]);
    assert!(planned.iter().all(|p| p["deleted"] == false));
    assert_eq!(names(), 6);
    let before = look(&stand).1;

    let deleted = prune(&["--apply"]);
    assert!(deleted.iter().all(|p| p["deleted"] == true), "{deleted:?}");
    assert_eq!(names(), 4);
    assert!(stand.path("nightly/README").exists() && !stand.path("nightly").join(&old).exists());
    let after = look(&stand).1;
    assert_eq!(rules(&before), rules(&after));
    assert_eq!(after["sources"][1]["copies"].as_array().unwrap().len(), 1);
    assert_eq!(prune(&["--apply"]), Vec::<Value>::new());

    s3.begin_outage();
    let refused = stand.cli(&[
        "backups",
        "prune",
        "shop",
        "--apply",
        "-f",
        documents.to_str().unwrap(),
    ]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused).contains("cannot be told"),
        "{}",
        text(&refused)
    );
    assert_eq!(names(), 4);
    s3.end_outage();
}
