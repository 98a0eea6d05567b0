//! What is not cloned.

use failover::model::step::StepResult;
use serde_json::json;

use super::stage::{Stage, failed};
use crate::stand::{
    disk::SmallDisk,
    postgres::{PASSWORD, USER},
};

#[tokio::test(flavor = "multi_thread")]
async fn without_free_disk_nothing_is_cloned() {
    let stage = Stage::new();
    let disk = SmallDisk::new(64 << 10);
    let mut with = stage.clone_with();
    with["folder"] = json!(disk.path());
    let reason = failed(&stage.perform("clone", "drill/clone", &with).await);
    assert!(
        reason.contains("MiB free") && reason.contains("stay free"),
        "{reason}"
    );
    assert_eq!(std::fs::read_dir(disk.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_primary_is_not_cloned_unless_it_is_asked_for() {
    let mut stage = Stage::new();
    let mut with = stage.clone_with();
    with["connection"] = json!(stage.pair.primary.superuser());
    let reason = failed(&stage.perform("clone", "drill/clone", &with).await);
    assert!(reason.contains("is no standby"), "{reason}");
    stage.nothing_is_left();
    with["anyRole"] = json!(true);
    let result = stage.perform("clone", "drill/clone", &with).await;
    assert!(matches!(result, StepResult::Done(_)), "{result:?}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_the_rights_is_told_which() {
    let stage = Stage::new();
    let mut with = stage.clone_with();
    std::fs::write(stage.wiring.state.join("password"), PASSWORD).unwrap();
    with["connection"] = json!(stage.pair.standby.conninfo());
    with["password"] = json!({"file": stage.wiring.state.join("password")});
    let reason = failed(&stage.perform("clone", "drill/clone", &with).await);
    assert!(reason.contains("REPLICATION"), "{reason}");
    stage
        .pair
        .primary
        .sql(&format!("ALTER ROLE {USER} REPLICATION"));
    stage.pair.settle();
    let reason = failed(&stage.perform("clone", "drill/clone", &with).await);
    assert!(reason.contains("pg_monitor"), "{reason}");
    stage
        .pair
        .primary
        .sql(&format!("GRANT pg_monitor TO {USER}"));
    stage.pair.settle();
    // What is left is the line of pg_hba.conf, which only the copy itself comes upon.
    let reason = failed(&stage.perform("clone", "drill/clone", &with).await);
    assert!(
        reason.contains("pg_basebackup") && reason.contains("pg_hba.conf"),
        "{reason}"
    );
    assert!(!reason.contains(PASSWORD), "{reason}");
    stage.nothing_is_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn later_steps_need_the_clone() {
    let stage = Stage::new();
    for (kind, with) in [
        ("drill/promote", json!({})),
        (
            "drill/query",
            json!({"queries": [{"name": "n", "sql": "SELECT 1"}]}),
        ),
        (
            "drill/serve",
            json!({"program": "true", "url": "http://127.0.0.1:8080/"}),
        ),
        ("drill/load", json!({"sql": "SELECT 1", "rate": 1})),
    ] {
        let reason = failed(&stage.perform("later", kind, &with).await);
        assert!(reason.contains("there is no clone"), "{kind}: {reason}");
    }
    stage.nothing_is_left();
}
