//! What a bubble keeps in.

use std::{env, fs, net::TcpListener, os::unix::net::UnixListener, process::Command};

use failover::model::step::Presence;
use serde_json::json;

use super::stage::{BIN, Stage, done, failed};
use crate::stand::postgres::other_user;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_this_host_is_reached_from_within() {
    let mut stage = Stage::promoted().await;
    let primary = &stage.pair.primary;
    let psql = |connection: &str| {
        format!("{BIN}/psql -XAtc \"SELECT 'got ' || 'in'\" \"{connection} connect_timeout=2\"")
    };
    // The bubble's own server is reached, so that the program itself is not what fails.
    let own = stage.inside(&psql("host=127.0.0.1 port=5432 user=postgres"));
    assert_eq!(own, "got in");
    for server in [primary, &stage.pair.standby] {
        for connection in [
            format!("host=127.0.0.1 port={} user=postgres", server.port),
            server.superuser(),
        ] {
            let outside = Command::new("sh")
                .arg("-c")
                .arg(psql(&connection))
                .output()
                .unwrap();
            assert_eq!(String::from_utf8_lossy(&outside.stdout).trim(), "got in");
            let inside = stage.inside(&psql(&connection));
            assert!(
                inside.contains("failed") && !inside.contains("got in"),
                "{inside}"
            );
        }
    }
    // Neither through a socket that came later, in a folder that was covered.
    let late = UnixListener::bind("/run/failover-test-late.sock");
    if let Ok(late) = late {
        let seen = stage.inside("ls /run");
        assert!(!seen.contains("late"), "{seen}");
        drop(late);
        fs::remove_file("/run/failover-test-late.sock").unwrap();
    }
    // Nor the processes of this host.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let processes = stage.inside("ls /proc | grep -c \"^[0-9]\"");
    assert!(processes.parse::<u32>().unwrap() < 30, "{processes}");
    let own = std::process::id();
    assert!(
        stage
            .inside(&format!("kill -0 {own}"))
            .to_lowercase()
            .contains("no such process")
    );
    drop(listener);
    // It has a loopback, and nothing else.
    let links = stage.inside("cat /proc/net/dev | cut -d: -f1 | tail -n +3");
    assert_eq!(links.trim(), "lo");
    // What it starts gains no rights.
    assert!(
        stage
            .inside("grep NoNewPrivs /proc/self/status")
            .ends_with('1')
    );
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bubble_that_is_open_is_not_served_in() {
    let mut stage = Stage::promoted().await;
    // Somebody who may do everything gives it a way out.
    let init = super::stage::processes_below(&stage.run_folder().join("init"))[0];
    let added = Command::new("nsenter")
        .args([
            &format!("--net=/proc/{init}/ns/net"),
            "ip",
            "link",
            "add",
            "out0",
            "type",
            "veth",
            "peer",
            "name",
            "out1",
        ])
        .output()
        .unwrap();
    assert!(
        added.status.success(),
        "{}",
        String::from_utf8_lossy(&added.stderr)
    );
    let question = json!({"queries": [{"name": "n", "sql": "SELECT 1"}]});
    let reason = failed(&stage.perform("query", "drill/query", &question).await);
    assert!(reason.contains("out0"), "{reason}");
    let observed = stage.observe("promote", "drill/promote", &json!({})).await;
    assert!(matches!(observed, Presence::Unknown { .. }), "{observed:?}");
    stage.end().await;
}

/// Set in the process that has no rights.
const FOLDER: &str = "FAILOVER_TEST_DRILL_FOLDER";

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_rights_gets_a_bubble_for_the_database_alone() {
    if let Ok(folder) = env::var(FOLDER) {
        return without_rights(&folder).await;
    }
    let Some(user) = other_user() else {
        return;
    };
    let stage = Stage::new();
    let folder = stage.folder.path().join("own");
    fs::create_dir(&folder).unwrap();
    std::os::unix::fs::chown(&folder, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    // The test's program may lie where that user cannot read.
    let program = folder.join("test");
    fs::copy(env::current_exe().unwrap(), &program).unwrap();
    for apart in [true, false] {
        // In a network of its own no socket of this host is seen, though the standby's is there all the same.
        let mut command = Command::new(if apart { "unshare" } else { "env" });
        if apart {
            command.arg("--net");
        }
        let out = command
            .args(["setpriv", "--clear-groups"])
            .arg(format!("--reuid={}", user.uid))
            .arg(format!("--regid={}", user.gid))
            .arg(&program)
            .args(["--exact", "--nocapture"])
            .arg("bubble::isolation::a_user_without_rights_gets_a_bubble_for_the_database_alone")
            .env(FOLDER, &folder)
            .env(
                "FAILOVER_TEST_DRILL_STANDBY",
                stage.pair.standby.superuser(),
            )
            .env("FAILOVER_TEST_DRILL_APART", if apart { "1" } else { "" })
            .env_remove("TMPDIR")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stdout);
        assert!(
            out.status.success(),
            "{said}{}",
            String::from_utf8_lossy(&out.stderr)
        );
        assert!(said.contains("1 passed"), "{said}");
    }
    let left: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, ["test"]);
    assert_eq!(super::stage::processes_below(&folder), Vec::<i32>::new());
}

/// A drill from within a process without rights.
async fn without_rights(folder: &str) {
    use failover::model::step::StepResult;

    use crate::stand::wiring::{action, step, wiring};
    let apart = env::var("FAILOVER_TEST_DRILL_APART").is_ok_and(|apart| !apart.is_empty());
    let wiring = wiring(std::path::Path::new(folder));
    let with = json!({
        "connection": env::var("FAILOVER_TEST_DRILL_STANDBY").unwrap(),
        "folder": folder, "checkpoint": "fast", "maxRate": 1024, "keepFree": 64,
    });
    let at = |id: &str| {
        let mut step = step(failover::model::span::Span::from_secs(100));
        step.step = id.into();
        step.facts = [("clone.drillFolder".to_owned(), folder.to_owned())].into();
        step
    };
    done(
        &action("drill/clone", &with, &wiring)
            .perform(&at("clone"))
            .await,
    );
    let promoted = action("drill/promote", &json!({}), &wiring)
        .perform(&at("promote"))
        .await;
    if apart {
        done(&promoted);
        let question =
            json!({"queries": [{"name": "n", "sql": "SELECT count(*) FROM orders", "atLeast": 1}]});
        done(
            &action("drill/query", &question, &wiring)
                .perform(&at("query"))
                .await,
        );
        let load = json!({"sql": "SELECT 1", "rate": 50, "for": "1s", "within": "5s"});
        done(
            &action("drill/load", &load, &wiring)
                .perform(&at("load"))
                .await,
        );
        let serve = json!({"program": "true", "url": "http://127.0.0.1:8080/"});
        let served = action("drill/serve", &serve, &wiring)
            .perform(&at("serve"))
            .await;
        assert!(failed(&served).contains("takes root"), "{served:?}");
    } else {
        // The primary's own socket would be there for it.
        assert!(
            failed(&promoted).contains("only root can hide"),
            "{promoted:?}"
        );
    }
    let undone = action("drill/clone", &with, &wiring)
        .undo(&at("clone"))
        .await
        .unwrap();
    assert!(matches!(undone, StepResult::Done(_)), "{undone:?}");
}
