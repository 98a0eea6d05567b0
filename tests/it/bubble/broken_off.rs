//! A drill that does not come to its end: cancelled, killed, out of disk, or left by a controller that is gone.

use std::{fs, time::Duration};

use failover::{
    drill,
    model::{
        id::{RunId, ServiceName},
        step::{Presence, StepResult},
    },
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::sleep};

use super::stage::{Stage, done, failed, later};
use crate::stand::{disk::SmallDisk, postgres::until, wiring::action};

/// A copy that takes half a minute.
fn slowly(stage: &Stage) -> Value {
    let mut with = stage.clone_with();
    with["maxRate"] = json!(1);
    with
}

/// Begins a copy, and returns once it is under way.
async fn begin(stage: &Stage, with: &Value) -> JoinHandle<StepResult> {
    let (action, step) = (
        action("drill/clone", with, &stage.wiring),
        stage.step("clone"),
    );
    let task = tokio::spawn(async move { action.perform(&step).await });
    until_async("the copy is under way", || {
        sends(stage) && !copiers().is_empty()
    })
    .await;
    task
}

async fn until_async(what: &str, so: impl Fn() -> bool) {
    for _ in 0..1200 {
        if so() {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {what}");
}

/// Whether the standby sends a copy.
fn sends(stage: &Stage) -> bool {
    let senders =
        "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'failover drill'";
    stage.pair.standby.sql(senders) != "0"
}

/// The processes of this test's copies.
fn copiers() -> Vec<i32> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.trim() == "pg_basebackup"
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_copy_ends_at_once_and_is_cleared() {
    let stage = Stage::new();
    let with = slowly(&stage);
    let task = begin(&stage, &with).await;
    task.abort();
    let _ = task.await;
    until("the copy ends", || stage.processes().is_empty());
    until("nothing is sent any more", || !sends(&stage));
    assert!(stage.run_folder().exists());
    let observed = stage.observe("clone", "drill/clone", &with).await;
    assert!(matches!(observed, Presence::Absent { .. }), "{observed:?}");
    for _ in 0..2 {
        done(&stage.undo("clone", "drill/clone", &with).await.unwrap());
        stage.nothing_is_left();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_killed_fails_and_is_cleared() {
    let mut stage = Stage::new();
    let with = slowly(&stage);
    let task = begin(&stage, &with).await;
    for pid in stage.processes() {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let reason = failed(&task.await.unwrap());
    assert!(reason.contains("pg_basebackup failed"), "{reason}");
    stage.nothing_is_left();
    done(
        &stage
            .perform("clone", "drill/clone", &stage.clone_with())
            .await,
    );
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_stops_before_the_disk_is_full() {
    let stage = Stage::new();
    let disk = SmallDisk::new(300 << 10);
    let mut with = slowly(&stage);
    with["folder"] = json!(disk.path());
    let task = begin(&stage, &with).await;
    let ballast = fs::File::create(disk.path().join("ballast")).unwrap();
    nix::fcntl::posix_fallocate(&ballast, 0, 240 << 20).unwrap();
    let reason = failed(&task.await.unwrap());
    assert!(
        reason.contains("was broken off") && reason.contains("64 MiB stay free"),
        "{reason}"
    );
    until("nothing is sent any more", || !sends(&stage));
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_ends_what_an_earlier_controller_left() {
    let mut stage = Stage::promoted().await;
    let serve = json!({
        "program": "python3",
        "args": ["-m", "http.server", "8080", "--bind", "127.0.0.1"],
        "url": "http://127.0.0.1:8080/",
    });
    done(&stage.perform("serve", "drill/serve", &serve).await);
    let orphans = stage.processes();
    assert!(orphans.len() > 3, "{orphans:?}");
    let (service, run) = (ServiceName::from("shop"), stage.run.clone());
    // The run that goes on, and another service's, stay.
    let at = stage.folder.path().to_owned();
    assert_eq!(
        drill::sweep(Some(&at), &service, Some(&run), later()).unwrap(),
        []
    );
    assert_eq!(
        drill::sweep(Some(&at), &"desk".into(), None, later()).unwrap(),
        []
    );
    assert_eq!(stage.ask("SELECT 1"), "1");

    // A later run of the same service does not end it either, until it is swept.
    stage.run = RunId::from("shop-r9");
    let observed = stage.observe("promote", "drill/promote", &json!({})).await;
    assert!(matches!(observed, Presence::Absent { .. }), "{observed:?}");
    let swept = tokio::task::spawn_blocking(move || {
        drill::sweep(Some(&at), &service, Some(&"shop-r9".into()), later())
    });
    assert_eq!(swept.await.unwrap().unwrap(), [run]);
    stage.nothing_is_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_ends_a_copy_that_is_under_way() {
    let stage = Stage::new();
    let with = slowly(&stage);
    let task = begin(&stage, &with).await;
    let at = stage.folder.path().to_owned();
    let swept =
        tokio::task::spawn_blocking(move || drill::sweep(Some(&at), &"shop".into(), None, later()));
    assert_eq!(
        swept.await.unwrap().unwrap(),
        std::slice::from_ref(&stage.run)
    );
    assert!(matches!(task.await.unwrap(), StepResult::Failed { .. }));
    stage.nothing_is_left();
}
