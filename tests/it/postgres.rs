//! PostgreSQL: probes, fences and promotions against real servers.

mod desk;
mod follow;
mod idle;

use std::{fs, time::Duration};

use failover::{
    model::{
        check::{CheckItem, CheckStatus},
        observation::{DatabaseRole, Sight},
        service::Via,
        span::Span,
        step::{Presence, Proof, StepResult},
    },
    port::{
        postgres::{Login, Session},
        probe::LookContext,
        secret::HostSecrets,
    },
    promote::{Grants, grants_sql},
};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::time::timeout;

use self::desk::Desk;
use crate::stand::{
    postgres::{Cluster, Pair, USER, until},
    wiring::{action, look, probe, step},
};

/// For what answers, or is meant to stay silent.
const SHORT: Span = Span::from_secs(2);
/// For what may take a while on a loaded machine.
const LONG: Span = Span::from_secs(30);

/// Everything that adapters need, by the SQL that `failover init` prints.
fn grant(cluster: &Cluster) {
    cluster.sql(&grants_sql(&Grants {
        role: USER,
        database: "postgres",
        promote: true,
        fence: true,
    }));
}

fn done(result: StepResult) -> Proof {
    match result {
        StepResult::Done(proof) => proof,
        other @ (StepResult::Failed { .. } | StepResult::Indeterminate { .. }) => {
            panic!("{other:?}")
        }
    }
}

#[track_caller]
fn failed(result: StepResult, text: &str) {
    let StepResult::Failed { reason } = result else {
        panic!("{result:?}")
    };
    assert!(reason.contains(text), "{reason}");
}

#[track_caller]
fn indeterminate(result: StepResult, text: &str) {
    let StepResult::Indeterminate { reason } = result else {
        panic!("{result:?}")
    };
    assert!(reason.contains(text), "{reason}");
}

#[track_caller]
fn item<'a>(items: &'a [CheckItem], name: &str) -> &'a CheckItem {
    items
        .iter()
        .find(|i| i.name == name)
        .unwrap_or_else(|| panic!("no {name} in {items:#?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_tells_whether_commits_wait_for_its_standby() {
    let desk = Desk::new();
    let mut pair = Pair::start();
    grant(&pair.primary);
    pair.settle();
    let primary = desk.with(&pair.primary);
    let sender = |what: &str| {
        pair.primary
            .sql(&format!("SELECT {what} FROM pg_stat_replication"))
    };
    let named = |names: &str| {
        pair.primary.set("synchronous_standby_names", names);
        until("the names are in force", || {
            pair.primary.sql("SHOW synchronous_standby_names") == names
        });
    };
    let waits = async || {
        let seen = desk.look("probe/postgres", &primary, SHORT).await;
        seen.facts.database.unwrap().synchronous
    };

    assert_eq!(waits().await, Some(false));
    named("standby");
    until("it is waited for", || sender("sync_state") == "sync");
    assert_eq!(waits().await, Some(true));
    named("FIRST 1 (standby, other)");
    assert_eq!(waits().await, Some(false));

    named("standby");
    pair.standby.crash();
    until("nobody streams", || sender("count(*)") == "0");
    assert_eq!(waits().await, None);
    named("");
    assert_eq!(waits().await, Some(false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_primary_is_replaced() {
    let desk = Desk::new();
    let mut pair = Pair::start();
    grant(&pair.primary);
    pair.primary
        .sql("CREATE TABLE orders AS SELECT generate_series(1, 1000) AS id");
    pair.settle();
    let (primary, standby) = (desk.with(&pair.primary), desk.with(&pair.standby));

    let seen = desk.look("probe/postgres", &primary, SHORT).await;
    assert_eq!(seen.sight, Sight::Up, "{}", seen.detail);
    let database = seen.facts.database.unwrap();
    assert_eq!(database.role, DatabaseRole::Primary);
    assert_eq!(database.timeline, Some(1));
    assert_eq!(database.synchronous, Some(false));
    let heard = desk.look("probe/postgres-standby", &standby, SHORT).await;
    assert_eq!(heard.sight, Sight::Up, "{}", heard.detail);
    let facts = heard.facts.database.unwrap();
    assert_eq!(facts.received, facts.replayed);
    assert_eq!(facts.streaming, Some(true));
    assert_eq!(facts.timeline, Some(1));
    assert!(facts.received >= database.current, "{facts:?}");
    assert!(facts.heard.unwrap().1 < LONG);

    pair.primary.crash();
    let seen = desk.look("probe/postgres", &primary, SHORT).await;
    assert_eq!(seen.sight, Sight::Down, "{}", seen.detail);
    assert!(
        seen.detail.contains("connection refused"),
        "{}",
        seen.detail
    );
    until("the stream breaks", || !pair.standby.streams());
    let heard = desk.look("probe/postgres-standby", &standby, SHORT).await;
    assert_eq!(heard.sight, Sight::Down, "{}", heard.detail);
    let attempt = done(desk.perform("postgres/write-attempt", &primary, LONG).await);
    assert_eq!(attempt.facts["write"], "refused");
    assert_eq!(attempt.rung, None);

    let before = desk.observe("postgres/promote", &standby).await;
    assert!(matches!(before, Presence::Absent { .. }), "{before:?}");
    let proof = done(desk.perform("postgres/promote", &standby, LONG).await);
    assert_eq!(proof.facts["timeline"], "2");
    let history = fs::read_to_string(pair.standby.data().join("pg_wal/00000002.history")).unwrap();
    assert_eq!(
        history.split_whitespace().nth(1),
        Some(proof.facts["lsn"].as_str())
    );
    let system = pair
        .standby
        .sql("SELECT system_identifier FROM pg_control_system()");
    assert_eq!(proof.facts["systemIdentifier"], system);
    assert_eq!(pair.standby.sql("SELECT count(*) FROM orders"), "1000");
    pair.standby.sql("INSERT INTO orders VALUES (1001)");

    let again = done(desk.perform("postgres/promote", &standby, LONG).await);
    assert!(again.summary.contains("already"), "{}", again.summary);
    assert_eq!(again.facts["lsn"], proof.facts["lsn"]);
    assert_eq!(again.facts["timeline"], "2");
    let Presence::InPlace(seen) = desk.observe("postgres/promote", &standby).await else {
        panic!("not in place")
    };
    assert_eq!(seen.facts["lsn"], proof.facts["lsn"]);
    let heard = desk.look("probe/postgres-standby", &standby, SHORT).await;
    assert_eq!(heard.sight, Sight::Unknown, "{}", heard.detail);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_primary_is_down_and_proves_nothing() {
    let desk = Desk::new();
    let primary = Cluster::start();
    grant(&primary);
    let with = desk.with(&primary);

    primary.freeze();
    let seen = desk.look("probe/postgres", &with, SHORT).await;
    assert_eq!(seen.sight, Sight::Down, "{}", seen.detail);
    assert!(
        seen.detail.contains("did not speak within"),
        "{}",
        seen.detail
    );
    let fenced = desk.perform("postgres/fence", &with, SHORT).await;
    indeterminate(fenced, "nothing was fenced");
    let unknown = desk.observe("postgres/fence", &with);
    assert!(
        timeout(SHORT.to_std(), unknown).await.is_err(),
        "a frozen server answered"
    );
    let attempt = done(desk.perform("postgres/write-attempt", &with, SHORT).await);
    assert_eq!(attempt.facts["write"], "unknown");

    primary.thaw();
    let seen = desk.look("probe/postgres", &with, LONG).await;
    assert_eq!(seen.sight, Sight::Up, "{}", seen.detail);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_tells_silence_from_a_broken_stream() {
    let desk = Desk::new();
    let pair = Pair::start();
    grant(&pair.primary);
    pair.standby.set("wal_receiver_timeout", "1s");
    pair.settle();
    let mut with = desk.with(&pair.standby);
    with["heardWithin"] = json!("200ms");

    pair.primary.freeze();
    until("silence", || {
        let silent =
            "SELECT clock_timestamp() - last_msg_receipt_time > '250ms' FROM pg_stat_wal_receiver";
        pair.standby.sql(silent) != "f"
    });
    let seen = desk.look("probe/postgres-standby", &with, LONG).await;
    assert_ne!(seen.sight, Sight::Up, "{}", seen.detail);
    until("the receiver gives up", || !pair.standby.streams());
    let seen = desk.look("probe/postgres-standby", &with, LONG).await;
    assert_eq!(seen.sight, Sight::Down, "{}", seen.detail);
    pair.primary.thaw();

    until("it streams again", || pair.standby.streams());
    with["sender"] = json!("db-a.example.com");
    let seen = desk.look("probe/postgres-standby", &with, LONG).await;
    assert_eq!(seen.sight, Sight::Unknown, "{}", seen.detail);
    assert!(
        seen.detail.contains("not from db-a.example.com"),
        "{}",
        seen.detail
    );

    pair.standby.freeze();
    let seen = desk.look("probe/postgres-standby", &with, SHORT).await;
    assert_eq!(seen.sight, Sight::Unknown, "{}", seen.detail);
    let promoted = desk
        .perform("postgres/promote", &desk.with(&pair.standby), SHORT)
        .await;
    indeterminate(promoted, "did not speak within");
    pair.standby.thaw();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_standby_is_not_promoted() {
    let desk = Desk::new();
    let mut pair = Pair::start();
    let with = desk.with(&pair.standby);
    pair.standby.stop_immediate();
    failed(
        desk.perform("postgres/promote", &with, LONG).await,
        "nothing was promoted",
    );
    let seen = desk.observe("postgres/promote", &with).await;
    assert!(matches!(seen, Presence::Unknown { .. }), "{seen:?}");
    let heard = desk.look("probe/postgres-standby", &with, SHORT).await;
    assert_eq!(heard.sight, Sight::Unknown, "{}", heard.detail);
    let items = desk.check("postgres/promote", &with).await;
    assert_eq!(item(&items, "promote/login").status, CheckStatus::Fail);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_received_is_replayed_first() {
    let desk = Desk::new();
    let mut pair = Pair::start();
    grant(&pair.primary);
    pair.primary.sql("CREATE TABLE orders (id int)");
    let with = desk.with(&pair.standby);
    pair.standby.set("max_standby_streaming_delay", "-1");
    pair.settle();

    // A reader of the standby holds up the replay of a change that locks what it reads.
    let login = Login {
        conninfo: pair.standby.superuser().parse().unwrap(),
        password: None,
        secrets: std::sync::Arc::new(HostSecrets),
    };
    let reader: Session = login.open(Duration::from_mins(1)).await.unwrap();
    reader
        .rows("BEGIN; SELECT count(*) FROM orders")
        .await
        .unwrap();
    pair.primary
        .sql("ALTER TABLE orders ADD COLUMN amount int; INSERT INTO orders VALUES (1, 2)");
    let end = pair.primary.sql("SELECT pg_current_wal_flush_lsn()");
    until("everything is received", || {
        pair.standby
            .sql(&format!("SELECT pg_last_wal_receive_lsn() >= '{end}'"))
            == "t"
    });
    pair.primary.crash();
    let stuck = desk.perform("postgres/promote", &with, SHORT).await;
    failed(stuck, "replay stands still");
    assert_eq!(pair.standby.sql("SELECT pg_is_in_recovery()"), "t");
    drop(reader);

    pair.standby.sql("SELECT pg_wal_replay_pause()");
    until("replay is paused", || {
        pair.standby.sql("SELECT pg_get_wal_replay_pause_state()") == "paused"
    });
    let paused = desk.perform("postgres/promote", &with, LONG).await;
    failed(paused, "pg_wal_replay_resume()");
    let items = desk.check("postgres/promote", &with).await;
    assert_eq!(item(&items, "promote/replay").status, CheckStatus::Fail);
    assert_eq!(item(&items, "promote/stream").status, CheckStatus::Fail);
    assert_eq!(pair.standby.sql("SELECT pg_is_in_recovery()"), "t");

    pair.standby.sql("SELECT pg_wal_replay_resume()");
    done(desk.perform("postgres/promote", &with, LONG).await);
    assert_eq!(pair.standby.sql("SELECT amount FROM orders"), "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_that_was_cut_off_is_seen_and_repeated() {
    let desk = Desk::new();
    let mut pair = Pair::start();
    grant(&pair.primary);
    pair.settle();
    pair.primary.stop_immediate();
    let with = desk.with(&pair.standby);

    // The process that would end the recovery stands still: asked, but not done.
    pair.standby.startup(Signal::SIGSTOP);
    let cut = desk.perform("postgres/promote", &with, SHORT).await;
    indeterminate(cut, "under way");
    let seen = desk.observe("postgres/promote", &with).await;
    assert!(matches!(seen, Presence::Absent { .. }), "{seen:?}");
    let dropped = timeout(
        Duration::from_millis(300),
        desk.perform("postgres/promote", &with, LONG),
    );
    assert!(dropped.await.is_err());

    // The server dies in the middle of it, and comes back.
    pair.standby.crash();
    let seen = desk.observe("postgres/promote", &with).await;
    assert!(matches!(seen, Presence::Unknown { .. }), "{seen:?}");
    pair.standby.restart();
    done(desk.perform("postgres/promote", &with, LONG).await);
    let Presence::InPlace(proof) = desk.observe("postgres/promote", &with).await else {
        panic!("not in place")
    };
    assert_eq!(proof.facts["timeline"], "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fence_over_the_wire_ends_writers_and_can_be_taken_back() {
    let desk = Desk::new();
    let pair = Pair::start();
    grant(&pair.primary);
    pair.settle();
    let with = desk.with(&pair.primary);
    let fence = action("postgres/fence", &with, &desk.wiring);
    let temporary = "SELECT count(*) FROM pg_class WHERE relname LIKE 'failover%'";

    let items = desk.check("postgres/fence", &with).await;
    assert_eq!(
        item(&items, "fence/postgres").status,
        CheckStatus::Ok,
        "{items:?}"
    );
    let items = desk.check("postgres/write-attempt", &with).await;
    assert_eq!(
        item(&items, "fence/write-attempt").status,
        CheckStatus::Ok,
        "{items:?}"
    );
    let attempt = desk.perform("postgres/write-attempt", &with, LONG).await;
    failed(attempt, "still takes writes");
    assert_eq!(pair.primary.sql(temporary), "0");
    let seen = fence.observe(&step(LONG)).await;
    assert!(matches!(seen, Presence::Absent { .. }), "{seen:?}");

    let login = Login {
        conninfo: pair.primary.conninfo().parse().unwrap(),
        password: Some(serde_json::from_value(with["password"].clone()).unwrap()),
        secrets: std::sync::Arc::new(HostSecrets),
    };
    let writer = login.open(Duration::from_mins(1)).await.unwrap();
    writer.try_write().await.unwrap();

    let proof = done(fence.perform(&step(LONG)).await);
    assert_eq!(proof.rung, None);
    assert_eq!(proof.facts["sessionsEnded"], "1");
    assert_eq!(proof.facts["sessionsLeft"], "0");
    assert!(writer.try_write().await.is_err());
    let attempt = done(desk.perform("postgres/write-attempt", &with, LONG).await);
    assert_eq!(attempt.facts["write"], "refused");
    assert!(attempt.summary.contains("25006"), "{}", attempt.summary);
    let seen = fence.observe(&step(LONG)).await;
    assert!(matches!(seen, Presence::InPlace(_)), "{seen:?}");
    done(fence.perform(&step(LONG)).await);
    assert!(pair.standby.streams());
    let seen = desk.look("probe/postgres", &with, LONG).await;
    assert_eq!(seen.sight, Sight::Up, "{}", seen.detail);

    done(fence.undo(&step(LONG)).await.unwrap());
    until("writes are taken again", || {
        pair.primary.sql("SHOW default_transaction_read_only") == "off"
    });
    let attempt = desk.perform("postgres/write-attempt", &with, LONG).await;
    failed(attempt, "still takes writes");

    // A standby is not touched: what is set there would come into force with its promotion.
    let standby = desk.with(&pair.standby);
    let proof = done(desk.perform("postgres/fence", &standby, LONG).await);
    assert_eq!(proof.facts["role"], "standby");
    assert_eq!(
        pair.standby.sql("SHOW default_transaction_read_only"),
        "off"
    );
    let items = desk.check("postgres/fence", &standby).await;
    assert_eq!(item(&items, "fence/postgres").status, CheckStatus::Fail);
    let attempt = done(desk.perform("postgres/write-attempt", &standby, LONG).await);
    assert_eq!(attempt.facts["write"], "refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_answers_so() {
    let desk = Desk::new();
    let mut primary = Cluster::start();
    grant(&primary);
    let with = desk.with(&primary);
    let login = Login {
        conninfo: primary.superuser().parse().unwrap(),
        password: None,
        secrets: std::sync::Arc::new(HostSecrets),
    };
    let last = login.open(Duration::from_mins(1)).await.unwrap();
    primary.stop_smart();
    let seen = loop {
        let seen = desk.look("probe/postgres", &with, LONG).await;
        if seen.sight == Sight::Down {
            break seen;
        }
    };
    assert!(seen.detail.contains("shutting down"), "{}", seen.detail);
    let attempt = done(desk.perform("postgres/write-attempt", &with, LONG).await);
    assert_eq!(attempt.facts["write"], "refused", "{}", attempt.summary);
    failed(
        desk.perform("postgres/fence", &with, LONG).await,
        "shutting down",
    );
    drop(last);
    primary.stop_immediate();
    let seen = desk.look("probe/postgres", &with, SHORT).await;
    assert_eq!(seen.sight, Sight::Down, "{}", seen.detail);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_cannot_be_asked_is_down_and_fails_the_check() {
    let desk = Desk::new();
    let mut pair = Pair::start();
    grant(&pair.primary);
    pair.settle();
    pair.standby.set("hot_standby", "off");
    pair.standby.stop_immediate();
    pair.standby.launch_blind();
    let mut with = desk.with(&pair.standby);
    let items = loop {
        let items = desk.check("postgres/promote", &with).await;
        // Right after the start nobody listens yet.
        if !item(&items, "promote/login").detail.contains("refuses") {
            break items;
        }
    };
    let login = item(&items, "promote/login");
    assert_eq!(login.status, CheckStatus::Fail);
    assert!(
        login.fix.as_deref().unwrap().contains("hot_standby"),
        "{login:?}"
    );
    let attempt = done(desk.perform("postgres/write-attempt", &with, LONG).await);
    assert_eq!(attempt.facts["write"], "unknown", "{}", attempt.summary);
    with["role"] = json!("standby");
    let seen = desk.look("probe/postgres", &with, LONG).await;
    assert_eq!(seen.sight, Sight::Down, "{}", seen.detail);
    assert!(seen.detail.contains("57P03"), "{}", seen.detail);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_faults_accuse_nobody() {
    let desk = Desk::new();
    let primary = Cluster::start();
    let with = desk.with(&primary);

    let wrong = desk.folder.path().join("wrong");
    fs::write(&wrong, "hunter2").unwrap();
    let mut denied = with.clone();
    denied["password"] = json!({"file": wrong});
    let seen = desk.look("probe/postgres", &denied, SHORT).await;
    assert_eq!(seen.sight, Sight::Unknown, "{}", seen.detail);
    assert!(
        seen.detail.contains("check user, password"),
        "{}",
        seen.detail
    );
    assert!(!seen.detail.contains("hunter2"), "{}", seen.detail);
    let refused = desk.perform("postgres/promote", &denied, SHORT).await;
    failed(refused, "check user, password");
    let attempt = done(desk.perform("postgres/write-attempt", &denied, SHORT).await);
    assert_eq!(attempt.facts["write"], "unknown");

    let mut missing = with.clone();
    missing["password"] = json!({"file": "/nonexistent/password"});
    let seen = desk.look("probe/postgres", &missing, SHORT).await;
    assert_eq!(seen.sight, Sight::Unknown, "{}", seen.detail);
    let mut none = with.clone();
    none.as_object_mut().unwrap().remove("password");
    let seen = desk.look("probe/postgres", &none, SHORT).await;
    assert_eq!(seen.sight, Sight::Unknown, "{}", seen.detail);

    let elsewhere = LookContext {
        via: Via::SourceAddress([127, 0, 0, 2].into()),
        timeout: SHORT,
    };
    let seen = probe("probe/postgres", &with, &desk.wiring)
        .look(&elsewhere)
        .await;
    assert_eq!(seen.sight, Sight::Unknown, "{}", seen.detail);
    assert!(seen.detail.contains("\"127.0.0.2\""), "{}", seen.detail);

    let mut nowhere = with.clone();
    nowhere["connection"] = json!(format!("{} dbname=missing", primary.conninfo()));
    let seen = desk.look("probe/postgres", &nowhere, SHORT).await;
    assert_eq!(seen.sight, Sight::Unknown, "{}", seen.detail);
    nowhere["connection"] = json!(format!("{} sslmode=require", primary.conninfo()));
    let seen = desk.look("probe/postgres", &nowhere, SHORT).await;
    assert_eq!(seen.sight, Sight::Unknown, "{}", seen.detail);

    let mut query = with.clone();
    query["query"] = json!("SELECT * FROM missing");
    let seen = desk.look("probe/postgres", &query, SHORT).await;
    assert_eq!(seen.sight, Sight::Unknown, "{}", seen.detail);
    query["query"] = json!("CREATE TABLE t ()");
    let seen = desk.look("probe/postgres", &query, SHORT).await;
    assert_eq!(seen.sight, Sight::Down, "{}", seen.detail);
    query["query"] = json!("SELECT 1 -- with a remark");
    let seen = desk.look("probe/postgres", &query, SHORT).await;
    assert_eq!(seen.sight, Sight::Up, "{}", seen.detail);
    query["role"] = json!("standby");
    let seen = desk.look("probe/postgres", &query, SHORT).await;
    assert_eq!(seen.sight, Sight::Down, "{}", seen.detail);

    let socket = json!({"connection": primary.superuser()});
    let seen = desk.look("probe/postgres", &socket, SHORT).await;
    assert_eq!(seen.sight, Sight::Up, "{}", seen.detail);
}

/// One thread, so that what blocks it stops everything here, as a paused virtual machine does.
#[tokio::test]
async fn a_host_that_stood_still_does_not_accuse_the_database() {
    let desk = Desk::new();
    for hangs_up in [false, true] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            std::thread::sleep(Duration::from_millis(700));
            if !hangs_up {
                std::thread::sleep(Duration::from_secs(5));
            }
            drop(stream);
        });
        let with = json!({
            "connection": format!("hostaddr=127.0.0.1 port={port} user=failover sslmode=disable")
        });
        let paused = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            std::thread::sleep(Duration::from_millis(2500));
        };
        let look = desk.look("probe/postgres", &with, Span::from_secs(1));
        let (seen, ()) = tokio::join!(look, paused);
        assert_eq!(seen.sight, Sight::Unknown, "{}", seen.detail);
        assert!(seen.detail.contains("stood still"), "{}", seen.detail);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_is_alive() {
    let desk = Desk::new();
    let primary = Cluster::start();
    grant(&primary);
    let with = desk.with(&primary);
    let login = Login {
        conninfo: primary.conninfo().parse().unwrap(),
        password: Some(serde_json::from_value(with["password"].clone()).unwrap()),
        secrets: std::sync::Arc::new(HostSecrets),
    };
    let mut crowd = Vec::new();
    while let Ok(session) = login.open(Duration::from_mins(1)).await {
        crowd.push(session);
    }
    assert!(crowd.len() > 10, "{}", crowd.len());
    let seen = desk.look("probe/postgres", &with, LONG).await;
    assert_eq!(seen.sight, Sight::Up, "{}", seen.detail);
    assert!(seen.detail.contains("53300"), "{}", seen.detail);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_grant_is_found_before_it_is_needed() {
    let desk = Desk::new();
    let mut pair = Pair::start();
    pair.primary
        .sql("REVOKE TEMPORARY ON DATABASE postgres FROM PUBLIC");
    pair.settle();
    let with = desk.with(&pair.standby);
    let items = desk.check("postgres/promote", &with).await;
    let grants = item(&items, "promote/grants");
    assert_eq!(grants.status, CheckStatus::Fail);
    for right in ["pg_promote", "TEMPORARY", "pg_monitor"] {
        assert!(grants.detail.contains(right), "{}", grants.detail);
    }
    assert_eq!(item(&items, "promote/stream").status, CheckStatus::Unknown);
    let items = desk
        .check("postgres/fence", &desk.with(&pair.primary))
        .await;
    let fence = item(&items, "fence/postgres");
    assert!(fence.detail.contains("pg_signal_backend"), "{fence:?}");
    let refused = desk
        .perform("postgres/fence", &desk.with(&pair.primary), LONG)
        .await;
    failed(refused, "nothing was fenced");
    assert_eq!(
        pair.primary.sql("SHOW default_transaction_read_only"),
        "off"
    );
    let heard = desk.look("probe/postgres-standby", &with, LONG).await;
    assert_eq!(heard.sight, Sight::Unknown, "{}", heard.detail);
    assert!(heard.detail.contains("pg_monitor"), "{}", heard.detail);
    failed(
        desk.perform("postgres/promote", &with, LONG).await,
        "permission denied",
    );
    assert_eq!(pair.standby.sql("SELECT pg_is_in_recovery()"), "t");

    grant(&pair.primary);
    pair.settle();
    let items = desk.check("postgres/promote", &with).await;
    let bad: Vec<_> = items
        .iter()
        .filter(|i| i.status != CheckStatus::Ok)
        .map(|i| i.name.as_str())
        .collect();
    // The fixture leaves the one at its default, and turns the other off to be quick.
    assert_eq!(bad, ["promote/wal_receiver_timeout", "promote/fsync"]);
    let mut primary = desk.with(&pair.primary);
    primary["role"] = json!("any");
    let items = probe("probe/postgres", &primary, &desk.wiring)
        .check(&look(LONG))
        .await;
    assert_eq!(items[0].status, CheckStatus::Ok, "{items:?}");
    let items = probe("probe/postgres-standby", &with, &desk.wiring)
        .check(&look(LONG))
        .await;
    assert_eq!(items[0].status, CheckStatus::Ok, "{items:?}");
    pair.primary.crash();
    done(desk.perform("postgres/promote", &with, LONG).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_that_was_written_but_not_loaded_is_not_nothing() {
    let desk = Desk::new();
    let primary = Cluster::start();
    primary.sql(&format!(
        "GRANT pg_monitor TO {USER}; \
         GRANT ALTER SYSTEM ON PARAMETER default_transaction_read_only TO {USER}"
    ));
    let fence = action("postgres/fence", &desk.with(&primary), &desk.wiring);
    let written = || {
        primary.sql(
            "SELECT count(*) FROM pg_file_settings WHERE name = 'default_transaction_read_only'",
        )
    };
    let fenced = fence.perform(&step(LONG)).await;
    assert_eq!(written(), "1");
    indeterminate(fenced, "it was begun");
    let undone = fence.undo(&step(LONG)).await.unwrap();
    assert_eq!(written(), "0");
    indeterminate(undone, "from its next reload on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_would_hurt_a_promotion_are_named() {
    let desk = Desk::new();
    let mut pair = Pair::start();
    grant(&pair.primary);
    for (name, value) in [
        ("wal_retrieve_retry_interval", "5s"),
        ("recovery_min_apply_delay", "1h"),
        ("max_standby_streaming_delay", "-1"),
        ("wal_receiver_timeout", "0"),
        ("synchronous_standby_names", "elsewhere"),
        ("restore_command", "false 192.0.2.1:/archive/%f %p"),
        ("recovery_end_command", "true"),
        ("default_transaction_read_only", "on"),
        ("primary_slot_name", ""),
    ] {
        pair.standby.set(name, value);
    }
    let with = desk.with(&pair.standby);
    let items = desk.check("postgres/promote", &with).await;
    for (name, status) in [
        ("promote/wal_retrieve_retry_interval", CheckStatus::Warn),
        ("promote/recovery_min_apply_delay", CheckStatus::Warn),
        ("promote/max_standby_streaming_delay", CheckStatus::Warn),
        ("promote/wal_receiver_timeout", CheckStatus::Warn),
        ("promote/synchronous_standby_names", CheckStatus::Warn),
        ("promote/restore_command", CheckStatus::Fail),
        ("promote/recovery_end_command", CheckStatus::Warn),
        ("promote/default_transaction_read_only", CheckStatus::Fail),
        ("promote/primary_slot_name", CheckStatus::Warn),
        ("promote/fsync", CheckStatus::Fail),
    ] {
        let found = item(&items, name);
        assert_eq!(found.status, status, "{found:?}");
        assert!(found.fix.is_some(), "{found:?}");
    }
    let items = desk
        .check("postgres/promote", &desk.with(&pair.primary))
        .await;
    assert_eq!(item(&items, "promote/role").status, CheckStatus::Fail);

    // What the primary wrote within the last hour is replayed at once, and a promoted server that takes no writes
    // is no success.
    pair.primary.sql("CREATE TABLE late ()");
    let end = pair.primary.sql("SELECT pg_current_wal_flush_lsn()");
    until("everything is received", || {
        pair.standby
            .sql(&format!("SELECT pg_last_wal_receive_lsn() >= '{end}'"))
            == "t"
    });
    pair.standby.reset("restore_command");
    pair.primary.crash();
    let promoted = desk.perform("postgres/promote", &with, LONG).await;
    failed(promoted, "ALTER SYSTEM RESET default_transaction_read_only");
    assert_eq!(pair.standby.sql("SELECT count(*) FROM late"), "0");
    let seen = desk.observe("postgres/promote", &with).await;
    assert!(matches!(seen, Presence::Absent { .. }), "{seen:?}");
    pair.standby.reset("default_transaction_read_only");
    let proof = done(desk.perform("postgres/promote", &with, LONG).await);
    assert!(
        proof.summary.contains("RESET synchronous_standby_names"),
        "{}",
        proof.summary
    );
}
