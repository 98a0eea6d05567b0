//! The application and its load, within the bubble.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use failover::model::{
    check::CheckStatus,
    span::Span,
    step::{Presence, StepResult},
};
use serde_json::{Value, json};

use super::stage::{BIN, Stage, done, failed, in_place};
use crate::stand::{
    host::{Host, http},
    wiring::action,
};

/// Answers at once, after 300 ms, with an error, or with what the clone says; and starts a child that leaves its group.
const SHOP: &str = r#"
import http.server, os, subprocess, sys, time
subprocess.Popen(["sleep", "1000"], start_new_session=True, cwd="/")
class Shop(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/slow": time.sleep(0.3)
        body = b"ok"
        if self.path == "/orders":
            sql = "SELECT count(*) > 0, current_user FROM orders"
            body = subprocess.run([sys.argv[1], "-XAtc", sql], capture_output=True).stdout
        if self.path == "/env":
            body = "\n".join(f"{k}={v}" for k, v in sorted(os.environ.items())).encode()
        self.send_response(500 if self.path == "/broken" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Shop).serve_forever()
"#;

fn shop(stage: &Stage) -> Value {
    let program = stage.folder.path().join("state/shop.py");
    fs::write(&program, SHOP).unwrap();
    for path in [&program, &stage.folder.path().join("state")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    json!({
        "program": "python3",
        "args": [program, format!("{BIN}/psql")],
        "env": {"SHOP_COLOUR": "blue"},
        "url": "http://127.0.0.1:8080/orders",
        "body": {"contains": ["t|postgres"]},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_application_is_served_and_loaded_within() {
    let mut stage = Stage::promoted().await;
    let with = shop(&stage);
    let observed = stage.observe("serve", "drill/serve", &with).await;
    assert!(matches!(observed, Presence::Absent { .. }), "{observed:?}");
    done(&stage.perform("serve", "drill/serve", &with).await);
    in_place(&stage.observe("serve", "drill/serve", &with).await);
    // Performed again, as after a lost record: there is one application all the same.
    done(&stage.perform("serve", "drill/serve", &with).await);

    let mut told = with.clone();
    told["url"] = json!("http://127.0.0.1:8080/env");
    told["body"] = json!({
        "contains": [
            "DATABASE_URL=postgresql://postgres@127.0.0.1:5432/postgres", "FAILOVER_DRILL=1", "PGHOST=127.0.0.1",
            "SHOP_COLOUR=blue",
        ],
        "notContains": ["CARGO"],
    });
    in_place(&stage.observe("serve", "drill/serve", &told).await);

    // Nobody outside hears it.
    assert!(std::net::TcpStream::connect("127.0.0.1:8080").is_err());

    let load = json!({"url": "http://127.0.0.1:8080/", "rate": 50, "for": "3s", "within": "2s", "percentile": 99});
    let loaded = done(&stage.perform("load", "drill/load", &load).await);
    assert_eq!(
        (
            loaded.facts["requests"].as_str(),
            loaded.facts["errors"].as_str()
        ),
        ("150", "0")
    );
    let ms = |fact: &str| loaded.facts[fact].parse::<f64>().unwrap();
    assert!(
        ms("p50Ms") <= ms("p95Ms") && ms("p95Ms") <= ms("p99Ms") && ms("p50Ms") > 0.0,
        "{loaded:?}"
    );

    for _ in 0..2 {
        done(&stage.undo("serve", "drill/serve", &with).await.unwrap());
        let observed = stage.observe("serve", "drill/serve", &with).await;
        assert!(matches!(observed, Presence::Absent { .. }), "{observed:?}");
    }
    // The child that left its group went too; the database is still there.
    assert_eq!(stage.inside("pgrep -c sleep || true").trim(), "1");
    assert_eq!(stage.ask("SELECT 1"), "1");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missed_objective_fails_with_its_numbers() {
    let mut stage = Stage::promoted().await;
    let with = shop(&stage);
    done(&stage.perform("serve", "drill/serve", &with).await);
    let load = |path: &str| json!({"url": format!("http://127.0.0.1:8080{path}"), "rate": 20, "for": "2s"});

    let reason = failed(&stage.perform("load", "drill/load", &load("/slow")).await);
    assert!(
        reason.contains("95th percentile is 3") && reason.contains("within 250ms"),
        "{reason}"
    );
    assert!(
        reason.contains("40 requests at 20.0 a second, 0 errors"),
        "{reason}"
    );

    let reason = failed(&stage.perform("load", "drill/load", &load("/broken")).await);
    assert!(
        reason.contains("40 of 40 requests failed") && reason.contains("the answer is 500"),
        "{reason}"
    );

    // Nobody listens there.
    let nowhere = json!({"url": "http://127.0.0.1:9/", "rate": 10, "for": "1s"});
    let reason = failed(&stage.perform("load", "drill/load", &nowhere).await);
    assert!(reason.contains("10 of 10 requests failed"), "{reason}");

    // More than may be under way is not sent, and counts.
    let mut crowded = load("/slow");
    crowded["atOnce"] = json!(1);
    crowded["within"] = json!("5s");
    let reason = failed(&stage.perform("load", "drill/load", &crowded).await);
    assert!(reason.contains("of them not sent"), "{reason}");

    // So many errors may be.
    crowded["maxErrors"] = json!(99);
    done(&stage.perform("load", "drill/load", &crowded).await);

    let mut step = stage.step("load");
    step.timeout = Span::from_secs(5);
    let short = action("drill/load", &load("/"), &stage.wiring)
        .perform(&step)
        .await;
    assert!(failed(&short).contains("timeout"), "{short:?}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_primarys_own_rate_is_sent() {
    let mut stage = Stage::promoted().await;
    // It rises by 20 between two looks, which are a second apart, or more on a busy machine.
    let looks = AtomicU32::new(0);
    let metrics = Host::answering(move |_| {
        let orders = looks.fetch_add(1, Ordering::Relaxed) * 20;
        http(
            "200 OK",
            "",
            &format!("orders_total{{shop=\"a\"}} {orders}\norders_total{{shop=\"b\"}} 7\n"),
        )
    })
    .await;
    let mut load = json!({
        "sql": "INSERT INTO orders DEFAULT VALUES",
        "rateFrom": {"url": metrics.url(), "metric": "orders_total", "labels": {"shop": "a"}, "over": "1s"},
        "factor": 2, "for": "2s", "within": "5s",
    });
    let before: u64 = stage.ask("SELECT count(*) FROM orders").parse().unwrap();
    let begun = Instant::now();
    let loaded = done(&stage.perform("load", "drill/load", &load).await);
    let rate: f64 = loaded.facts["rate"].parse().unwrap();
    let least = 39.9 / begun.elapsed().as_secs_f64();
    assert!((least..=40.0).contains(&rate), "{loaded:?}");
    let sent: u64 = loaded.facts["requests"].parse().unwrap();
    let after: u64 = stage.ask("SELECT count(*) FROM orders").parse().unwrap();
    assert_eq!(after - before, sent);

    load["atMost"] = json!(10);
    let reason = failed(&stage.perform("load", "drill/load", &load).await);
    assert!(reason.contains("atMost"), "{reason}");
    load["rateFrom"]["labels"] = json!({"shop": "b"});
    let reason = failed(&stage.perform("load", "drill/load", &load).await);
    assert!(reason.contains("a counter that rises"), "{reason}");
    let items = stage.check("drill/load", &load).await;
    assert!(
        items.iter().all(|i| i.status == CheckStatus::Ok),
        "{items:?}"
    );
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_does_not_come_up_is_told_apart() {
    let mut stage = Stage::promoted().await;
    let mut with = shop(&stage);
    with["program"] = json!("sh");
    with["args"] = json!(["-c", "echo the colour is missing >&2; exit 3"]);
    let reason = failed(&stage.perform("serve", "drill/serve", &with).await);
    assert!(
        reason.contains("exit status: 3") && reason.contains("the colour is missing"),
        "{reason}"
    );

    with["args"] = json!(["-c", "exec sleep 1000"]);
    let mut step = stage.step("serve");
    step.timeout = Span::from_secs(2);
    let serve = action("drill/serve", &with, &stage.wiring);
    let result = serve.perform(&step).await;
    assert!(
        matches!(result, StepResult::Indeterminate { .. }),
        "{result:?}"
    );
    let observed = serve.observe(&step).await;
    assert!(matches!(observed, Presence::Unknown { .. }), "{observed:?}");
    done(&serve.undo(&step).await.unwrap());
    let observed = serve.observe(&step).await;
    assert!(matches!(observed, Presence::Absent { .. }), "{observed:?}");

    with["account"] = json!("toor");
    let reason = failed(&stage.perform("serve", "drill/serve", &with).await);
    assert!(reason.contains("no account toor"), "{reason}");
    with["account"] = json!("nobody");
    with["program"] = json!("/nowhere/shop");
    let reason = failed(&stage.perform("serve", "drill/serve", &with).await);
    assert!(
        reason.contains("/nowhere/shop cannot be started"),
        "{reason}"
    );
    stage.end().await;
}

/// What a cancelled step began is found and ended by its undo.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_start_is_found_again() {
    let mut stage = Stage::promoted().await;
    let mut with = shop(&stage);
    with["url"] = json!("http://127.0.0.1:9/never");
    let (serve, step) = (
        action("drill/serve", &with, &stage.wiring),
        stage.step("serve"),
    );
    let task = tokio::spawn(async move { serve.perform(&step).await });
    tokio::time::sleep(Duration::from_secs(2)).await;
    task.abort();
    let _ = task.await;
    let found = stage.observe("serve", "drill/serve", &with).await;
    assert!(matches!(found, Presence::Unknown { .. }), "{found:?}");
    done(&stage.undo("serve", "drill/serve", &with).await.unwrap());
    let found = stage.observe("serve", "drill/serve", &with).await;
    assert!(matches!(found, Presence::Absent { .. }), "{found:?}");
    let facts: BTreeMap<_, _> = stage.step("serve").facts;
    assert!(facts.contains_key("clone.drillFolder"));
    stage.end().await;
}
