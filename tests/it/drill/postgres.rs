//! A whole drill of a real pair, by the controller: copied, promoted, asked, reported and removed.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use tempfile::TempDir;

use super::documents::documents;
use crate::{
    bubble::stage::processes_below,
    stand::{
        controller::{Stand, text, until},
        postgres::Pair,
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn a_real_standby_is_copied_promoted_asked_and_left_as_it_was() {
    let pair = Pair::start();
    pair.primary
        .sql("create table orders as select n as id, now() as at from generate_series(1, 1000) n");
    pair.settle();
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let mut stand = Stand::new().await;
    stand.write(&documents(&stand, &pair, &folder));
    stand.start(&[]);
    let mut said = String::new();
    until("the lag is known and the drill is passed", || {
        let drill = ["drill", "shop", "--reason", "a test"];
        let output = stand.cli_as("ann", &drill);
        said = text(&output);
        let passed = output.status.code() == Some(0);
        assert!(passed || said.contains("no drill now"), "{said}");
        passed
    });
    let report = stand.json(&["report", "shop"]);
    assert_eq!(report["outcome"], "passed", "{report:#}");
    for (n, step) in ["clone", "promote", "query"].iter().enumerate() {
        assert_eq!(report["steps"][n]["id"], *step);
        assert_eq!(report["steps"][n]["result"], "done", "{report:#}");
    }
    assert!(report["rpo"]["measured"].is_string(), "{report:#}");
    let parts = report["rto"]["parts"].as_array().unwrap();
    let promote = parts.iter().find(|p| p["part"] == "promote").unwrap();
    assert!(promote["measured"].is_string(), "{report:#}");

    // Production is as it was, and nothing of the drill is left.
    assert_eq!(pair.standby.sql("select pg_is_in_recovery()"), "t");
    assert_eq!(
        pair.primary
            .sql("select count(*) from pg_replication_slots where not active"),
        "0"
    );
    nothing_is_left(folder.path());
    // To be looked at.
    let page = Path::new(env!("CARGO_TARGET_TMPDIR")).join("drill.html");
    stand.shows(&["report", "shop", "--out", page.to_str().unwrap()]);

    let status = stand.json(&["status"]);
    let known = &status["services"][0]["drills"][0];
    assert!(known["next"].is_string(), "{known}");
}

/// No folder of a run, no process that works in one, no mount.
pub fn nothing_is_left(folder: &Path) {
    let left: Vec<_> = fs::read_dir(folder).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(processes_below(folder), Vec::<i32>::new());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let name = folder.to_str().unwrap();
    let mounted: Vec<_> = mounts.lines().filter(|l| l.contains(name)).collect();
    assert!(mounted.is_empty(), "{mounted:?}");
}
