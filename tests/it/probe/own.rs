//! What lies on the looker's own side: no network, no sockets left. Both are made in a process of their own.

use std::{env, fs::File, os::unix::process::CommandExt, process::Command};

use failover::model::observation::Sight::Unknown;
use serde_json::json;

use super::{look, probe, seen};

/// Set in the process that has lost what the test takes away.
const INSIDE: &str = "FAILOVER_TEST_INSIDE";

/// Runs one test of this binary again under another program, and gives what it printed.
fn again_under(program: &[&str], test: &str) -> String {
    let out = Command::new(program[0])
        .args(&program[1..])
        .arg(env::current_exe().unwrap())
        .args(["--exact", "--nocapture", test])
        .env(INSIDE, "1")
        .process_group(0)
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&out.stdout).into_owned();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{printed}{errors}");
    printed
}

fn inside() -> bool {
    env::var_os(INSIDE).is_some()
}

#[tokio::test]
async fn without_any_network_everything_is_unknown() {
    if !inside() {
        let test = "probe::own::without_any_network_everything_is_unknown";
        let root = nix::unistd::geteuid().is_root();
        let unshare: &[&str] = if root {
            &["unshare", "--net"]
        } else {
            &["unshare", "--user", "--net"]
        };
        let printed = again_under(unshare, test);
        assert!(printed.contains("1 passed"), "{printed}");
        return;
    }
    for (kind, with) in [
        ("probe/http", json!({"url": "http://192.0.2.1/"})),
        (
            "probe/http",
            json!({"url": "http://shop.example/", "resolver": "192.0.2.1"}),
        ),
        ("probe/tcp", json!({"host": "192.0.2.1", "port": 9})),
        (
            "probe/dns",
            json!({"name": "shop.example", "server": "192.0.2.1"}),
        ),
    ] {
        let look = look(&probe(kind, &with)).await;
        let detail = seen(&look, Unknown);
        println!("{kind}: {detail}");
    }
}

#[tokio::test]
async fn without_sockets_left_everything_is_unknown() {
    if !inside() {
        let test = "probe::own::without_sockets_left_everything_is_unknown";
        let printed = again_under(&["prlimit", "--nofile=64:64"], test);
        assert!(printed.contains("1 passed"), "{printed}");
        return;
    }
    let probes = [
        ("probe/http", json!({"url": "http://127.0.0.1:9/"})),
        ("probe/tcp", json!({"host": "127.0.0.1", "port": 9})),
        (
            "probe/dns",
            json!({"name": "shop.example", "server": "127.0.0.1"}),
        ),
    ]
    .map(|(kind, with)| (kind, probe(kind, &with)));
    let mut hoard = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        hoard.push(file);
    }
    for (kind, made) in probes {
        let look = look(&made).await;
        assert!(
            seen(&look, Unknown).starts_with("this host has run out of sockets"),
            "{kind}: {look:?}"
        );
    }
}
