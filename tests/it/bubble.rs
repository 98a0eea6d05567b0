//! Isolated drills on a real pair: the standby is copied, promoted in a bubble, asked, served and loaded there, and nothing
//! is left. Namespaces need root.

mod broken_off;
mod isolation;
mod load;
mod refusal;
pub mod stage;

use std::{fs, time::Duration};

use failover::model::{
    check::CheckStatus,
    step::{Presence, StepResult},
    time::Time,
};
use serde_json::json;

use stage::{Stage, done, failed, in_place};

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_beside_a_busy_primary_leaves_no_trace_of_itself() {
    let mut stage = Stage::new();
    let writer = stage.write();
    let before = stage.production();

    let cloned = done(
        &stage
            .perform("clone", "drill/clone", &stage.clone_with())
            .await,
    );
    assert!(
        cloned.facts["bytes"].parse::<u64>().unwrap() > 10 << 20,
        "{cloned:?}"
    );
    assert!(cloned.facts["lsn"].contains('/'), "{cloned:?}");
    stage.keep("clone", &cloned);
    in_place(
        &stage
            .observe("clone", "drill/clone", &stage.clone_with())
            .await,
    );

    let promote = json!({});
    let observed = stage.observe("promote", "drill/promote", &promote).await;
    assert!(matches!(observed, Presence::Absent { .. }), "{observed:?}");
    let promoted = done(&stage.perform("promote", "drill/promote", &promote).await);
    assert_eq!(promoted.facts["timeline"], "2", "{promoted:?}");
    assert_eq!(promoted.facts["port"], "5432");
    let newest = Time::parse(&promoted.facts["lastCommit"]).unwrap();
    let ended = Time::parse(&cloned.facts["clonedAt"]).unwrap();
    assert!(
        ended.since(newest).to_std() < Duration::from_secs(20),
        "{newest} {ended}"
    );
    stage.keep("promote", &promoted);
    in_place(&stage.observe("promote", "drill/promote", &promote).await);

    // It takes writes that nobody else sees.
    stage.ask("CREATE TABLE only_here AS SELECT 1 AS n");
    assert_eq!(stage.ask("SELECT count(*) FROM only_here"), "1");
    assert_eq!(stage.ask("SHOW restore_command"), "");
    assert_eq!(stage.ask("SHOW primary_conninfo"), "");
    assert_eq!(stage.ask("SHOW archive_mode"), "off");
    assert_eq!(stage.ask("SHOW max_connections"), "20");
    assert_eq!(stage.ask("SHOW shared_buffers"), "16MB");

    let questions = json!({"queries": [
        {"name": "orders", "sql": "SELECT count(*) FROM orders", "atLeast": 1},
        {"name": "recovers", "sql": "SELECT pg_is_in_recovery()", "equals": "f"},
        {"name": "newest", "sql": "SELECT max(at) FROM orders", "newest": true, "within": "20s"},
    ]});
    let asked = done(&stage.perform("query", "drill/query", &questions).await);
    assert!(
        asked.facts["rpoSeconds"].parse::<f64>().unwrap() < 20.0,
        "{asked:?}"
    );

    for (id, kind, with) in [
        ("promote", "drill/promote", &promote),
        ("clone", "drill/clone", &stage.clone_with()),
        // Again: nothing is there any more.
        ("promote", "drill/promote", &promote),
        ("clone", "drill/clone", &stage.clone_with()),
    ] {
        done(&stage.undo(id, kind, with).await.unwrap());
    }
    stage.nothing_is_left();
    let after = stage.production();
    assert_eq!(before, after);
    assert_eq!(
        stage
            .pair
            .standby
            .sql("SELECT to_regclass('only_here') IS NULL"),
        "t"
    );
    drop(writer);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_as_it_should_be_fails_the_drill() {
    let mut stage = Stage::promoted().await;
    for (question, expected) in [
        (
            json!({"name": "n", "sql": "SELECT 3", "atLeast": 4}),
            "n is 3, and should be at least 4",
        ),
        (
            json!({"name": "n", "sql": "SELECT 'a'", "equals": "b"}),
            "n is a, and should be b",
        ),
        (
            json!({"name": "n", "sql": "SELECT 1 WHERE false"}),
            "n has no row",
        ),
        (
            json!({"name": "n", "sql": "SELECT * FROM missing"}),
            "n cannot be asked",
        ),
        (
            json!({"name": "n", "sql": "SELECT 'never'", "newest": true}),
            "which is no moment",
        ),
        (
            json!({"name": "n", "sql": "SELECT now() - interval '1 hour'", "newest": true, "within": "1m"}),
            "and should be at most 1m",
        ),
    ] {
        let result = stage
            .perform("query", "drill/query", &json!({"queries": [question]}))
            .await;
        let reason = failed(&result);
        assert!(reason.contains(expected), "{reason}");
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_tells_beforehand_what_a_drill_would_fail_of() {
    let stage = Stage::new();
    let items = stage.check("drill/clone", &stage.clone_with()).await;
    let names: Vec<_> = items.iter().map(|i| (i.name.as_str(), i.status)).collect();
    let expected = [
        "drill/standby",
        "drill/disk",
        "drill/programs",
        "drill/bubble",
    ];
    assert_eq!(
        names,
        expected.map(|name| (name, CheckStatus::Ok)),
        "{items:?}"
    );

    let mut with = stage.clone_with();
    with["connection"] = json!(stage.pair.primary.superuser());
    with["keepFree"] = json!(1 << 30);
    with["programs"] = json!("/nowhere");
    let items = stage.check("drill/clone", &with).await;
    let bad: Vec<_> = items
        .iter()
        .filter(|i| i.status == CheckStatus::Fail)
        .map(|i| i.name.as_str())
        .collect();
    assert_eq!(
        bad,
        ["drill/standby", "drill/disk", "drill/programs"],
        "{items:?}"
    );
    stage.nothing_is_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_that_died_is_promoted_again() {
    let mut stage = Stage::promoted().await;
    stage.kill_bubble();
    let promote = json!({});
    let observed = stage.observe("promote", "drill/promote", &promote).await;
    assert!(matches!(observed, Presence::Absent { .. }), "{observed:?}");
    let result = stage
        .perform(
            "query",
            "drill/query",
            &json!({"queries": [{"name": "n", "sql": "SELECT 1"}]}),
        )
        .await;
    assert!(failed(&result).contains("there is no bubble"), "{result:?}");
    done(&stage.perform("promote", "drill/promote", &promote).await);
    assert_eq!(stage.ask("SELECT pg_is_in_recovery()"), "f");
    // The database alone dies, and its bubble goes on.
    stage.ask("SELECT pg_sleep(0)");
    stage.kill_server();
    let observed = stage.observe("promote", "drill/promote", &promote).await;
    assert!(matches!(observed, Presence::Absent { .. }), "{observed:?}");
    done(&stage.perform("promote", "drill/promote", &promote).await);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_that_cannot_start_says_why() {
    let mut stage = Stage::new();
    let cloned = done(
        &stage
            .perform("clone", "drill/clone", &stage.clone_with())
            .await,
    );
    stage.keep("clone", &cloned);
    fs::remove_file(stage.run_folder().join("data/PG_VERSION")).unwrap();
    let result = stage.perform("promote", "drill/promote", &json!({})).await;
    let reason = failed(&result);
    assert!(
        reason.contains("the clone does not run") && reason.contains("PG_VERSION"),
        "{reason}"
    );
    assert!(matches!(result, StepResult::Failed { .. }));
    stage.end().await;
}
