//! Guards as they run on two hosts: real processes, real PostgreSQL, the real wire. Each test has a network namespace of
//! its own.

use std::{
    process::Command,
    thread::{self, sleep},
    time::{Duration, Instant},
};

use failover::{
    guard::wire::Message,
    model::{
        guard::{Database, Report, ResyncOrder},
        id::Epoch,
        lease,
        span::Span,
    },
};
use nix::{
    sched::{CloneFlags, unshare},
    sys::signal::Signal,
};

use crate::stand::postgres::until;

mod action;
mod controller;
pub mod shop;
pub mod stage;
pub mod witness;

use stage::{Layout, Stage, terms};

/// Runs in a network namespace that goes with its thread and its children.
pub fn apart(test: fn()) {
    let thread = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let up = Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        assert!(up.unwrap().success());
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn wait_of(lease_ms: u64) -> Duration {
    lease::wait(Span::from_millis(lease_ms)).to_std()
}

#[test]
fn a_site_writes_under_grants_and_stops_by_itself_before_their_grantor_has_waited() {
    apart(|| {
        const LEASE: u64 = 1500;
        let stage = Stage::new();
        stage.controller.promote(&terms(1, "a", LEASE, None), true);
        stage.witness.until_written("a");
        let life = stage.a.life();
        sleep(Duration::from_millis(LEASE * 2));
        assert_eq!(stage.a.life(), life);

        stage.controller.mind().grants_leases = false;
        until("the database is gone", || !stage.a.runs());
        let granted = stage.controller.mind().last_grant.unwrap();
        let last = stage.witness.last("a").unwrap();
        assert!(last < granted + wait_of(LEASE), "{:?}", last - granted);
        sleep(wait_of(LEASE).saturating_sub(granted.elapsed()));
        sleep(Duration::from_millis(300));
        assert_eq!(stage.witness.last("a").unwrap(), last);

        // An end of a lease promises nothing: the same epoch goes on.
        stage.controller.mind().grants_leases = true;
        stage.witness.until_written("a");
        assert!(stage.witness.last("b").is_none());
    });
}

#[test]
fn a_guard_that_dies_or_stops_takes_its_database_along_unless_it_is_back_in_time() {
    apart(|| {
        const LEASE: u64 = 4000;
        let mut stage = Stage::new();
        stage.controller.promote(&terms(1, "a", LEASE, None), true);
        stage.witness.until_written("a");

        // Back in time: nobody notices.
        let (began, life) = (Instant::now(), stage.a.life());
        stage.a.kill();
        stage.a.start();
        until("it has its lease again", || {
            stage.a.status()["report"]["leased"] == true
        });
        sleep(Duration::from_millis(LEASE));
        stage.witness.until_written("a");
        stage.a.terminate();
        stage.a.start();
        sleep(Duration::from_millis(LEASE));
        stage.witness.until_written("a");
        assert_eq!(stage.a.life(), life);
        let gap = stage.witness.longest_gap("a", began);
        assert!(gap < Duration::from_secs(1), "{gap:?}");

        // Killed: it lives until its lease ends, and no longer.
        stage.a.kill();
        let killed = Instant::now();
        until("the database is gone", || !stage.a.runs());
        let granted = stage.controller.mind().last_grant.unwrap();
        let last = stage.witness.last("a").unwrap();
        assert!(last > killed, "it ended with its guard");
        assert!(last < granted + wait_of(LEASE), "{:?}", last - granted);
        stage.a.start();
        stage.witness.until_written("a");

        // Frozen: the kernel needs nobody.
        stage.a.signal(Signal::SIGSTOP);
        until("the database is gone", || !stage.a.runs());
        let granted = stage.controller.mind().last_grant.unwrap();
        let last = stage.witness.last("a").unwrap();
        assert!(last < granted + wait_of(LEASE), "{:?}", last - granted);
        stage.a.signal(Signal::SIGCONT);
        stage.witness.until_written("a");
    });
}

#[test]
fn a_fenced_site_never_writes_again_and_the_promoted_one_does() {
    apart(|| {
        const LEASE: u64 = 1500;
        let mut stage = Stage::new();
        let first = terms(1, "a", LEASE, Some("b"));
        stage.controller.promote(&first, true);
        stage.witness.until_written("a");

        // The deputy alone carries the lease, and its guard has promised the epoch that it was shown.
        stage.controller.mind().grants_leases = false;
        let (began, life) = (Instant::now(), stage.a.life());
        sleep(wait_of(LEASE) * 2);
        stage.witness.until_written("a");
        let gap = stage.witness.longest_gap("a", began);
        assert!(gap < Duration::from_secs(1), "{gap:?}");
        assert_eq!(stage.a.life(), life);
        assert_eq!(stage.b.status()["report"]["promise"]["epoch"], 1);
        stage.controller.mind().grants_leases = true;

        stage.controller.fence("a", 2);
        assert!(!stage.a.runs());
        let second = terms(2, "b", LEASE, None);
        stage.controller.promote(&second, true);
        stage.witness.until_written("b");
        // Old orders change nothing.
        stage.controller.order(&first, true);
        stage.a.terminate();
        stage.a.start();
        until("the guard is back", || {
            stage.a.status()["report"]["database"] == "gone"
        });
        stage.controller.order(&first, true);
        stage.witness.until_written("b");
        assert!(!stage.a.runs());
        stage.witness.never_both("a", "b");

        // By hand it comes up, and takes no writes.
        stage.a.cluster.restart();
        assert_eq!(stage.a.cluster.sql("SELECT pg_is_in_recovery()"), "t");
        stage.witness.until_written("b");
        stage.witness.never_both("a", "b");
        stage.a.cluster.stop_immediate();
    });
}

#[test]
fn a_guard_tells_unasked_what_becomes_of_its_database() {
    apart(|| {
        let stage = Stage::new();
        stage.controller.promote(&terms(1, "a", 4000, None), true);
        stage.witness.until_written("a");
        let told = |so: fn(&Report) -> bool| {
            let reports = &stage.controller.mind().reports;
            reports.get(&"a".into()).is_some_and(so)
        };
        until("it tells that it serves", || {
            told(|r| r.database == Some(Database::Writable))
        });
        stage.a.freeze_database();
        until("it tells that nobody answers", || told(|r| !r.answers));
        assert!(told(|r| r.database == Some(Database::Writable)));
        stage.a.kill_database();
        until("it tells that nobody is left", || {
            told(|r| r.database == Some(Database::Gone))
        });
        stage.witness.until_written("a");
        until("it tells that it serves again", || {
            told(|r| r.answers && r.database == Some(Database::Writable))
        });
    });
}

#[test]
fn the_death_of_a_database_is_told_when_it_dies_and_not_at_the_next_look() {
    apart(|| {
        const RENEWAL: Duration = Duration::from_secs(5);
        let stage = Stage::with(&Layout {
            renewal: "5s",
            lease: Span::from_secs(20),
            ..Layout::default()
        });
        stage.controller.promote(&terms(1, "a", 20_000, None), true);
        stage.witness.until_written("a");
        let told = |database| {
            let reports = &stage.controller.mind().reports;
            let report = reports.get(&"a".into());
            report.is_some_and(|r| r.database == Some(database))
        };
        until("it tells that it serves", || told(Database::Writable));
        // Once more in the middle of its sleep, and once of a server that stood still and was being asked.
        for is_frozen in [false, true] {
            if is_frozen {
                stage.a.freeze_database();
                sleep(RENEWAL);
            }
            let killed = Instant::now();
            stage.a.kill_database();
            until("it tells that nobody is left", || told(Database::Gone));
            let took = killed.elapsed();
            assert!(took < RENEWAL / 5, "{took:?}");
            until("it tells that it serves again", || told(Database::Writable));
            stage.witness.until_written("a");
        }
    });
}

#[test]
fn a_guard_that_the_controller_cannot_reach_holds_its_lease_by_way_of_the_other_one() {
    apart(|| {
        const LEASE: u64 = 1500;
        let mut stage = Stage::new();
        // Nobody but the controller grants.
        stage.controller.promote(&terms(1, "a", LEASE, None), true);
        stage.witness.until_written("a");
        let (began, life) = (Instant::now(), stage.a.life());
        stage.cut_off("a");
        sleep(wait_of(LEASE) * 3);
        stage.witness.until_written("a");
        let gap = stage.witness.longest_gap("a", began);
        assert!(gap < Duration::from_secs(1), "{gap:?}");
        assert_eq!(stage.a.life(), life);
        assert!(stage.b.status()["passed"].as_u64().unwrap() > 10);

        // What was granted by that way ends as it does by every other.
        stage.b.kill();
        until("the database is gone", || !stage.a.runs());
        let granted = stage.controller.mind().last_grant.unwrap();
        let last = stage.witness.last("a").unwrap();
        assert!(last < granted + wait_of(LEASE), "{:?}", last - granted);
        stage.b.start();
        stage.witness.until_written("a");
    });
}

#[test]
fn a_guard_tells_that_its_controller_is_silent_and_that_it_is_heard_again() {
    apart(|| {
        let told = tempfile::NamedTempFile::new().unwrap();
        let script =
            r#"echo "$FAILOVER_SERVICE $FAILOVER_SITE $FAILOVER_ACTION $FAILOVER_EVENT" >> "$0""#;
        let stage = Stage::with(&Layout {
            besides: serde_json::json!({
                "controllerSilence": "3s",
                "onSilence": "page",
                "actions": {"page": {"command": ["/bin/sh", "-c", script, told.path()], "timeout": "5s"}},
            }),
            ..Layout::default()
        });
        let of_b = || {
            let text = std::fs::read_to_string(told.path()).unwrap();
            let lines = text.lines().filter(|l| l.starts_with("shop b page "));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        until("it is told once", || !of_b().is_empty());
        assert_eq!(of_b(), ["shop b page controllerSilent"]);
        let silent: Span = serde_json::from_value(stage.b.status()["silent"].clone()).unwrap();
        assert!(silent >= Span::from_secs(3));
        sleep(Duration::from_secs(4));
        assert_eq!(of_b().len(), 1, "and only once");

        stage.controller.send("b", &Message::Look);
        until("that it is over is told too", || of_b().len() == 2);
        assert_eq!(of_b()[1], "shop b page controllerHeard");
        assert!(stage.b.status()["silent"].is_null());
    });
}

#[test]
fn a_fenced_site_says_where_its_log_ends_if_it_had_stopped_in_its_own_order() {
    apart(|| {
        let mut stage = Stage::new();
        stage.controller.promote(&terms(1, "a", 1500, None), true);
        stage.witness.until_written("a");
        // Killed by its fence: nobody knows without reading the log.
        stage.controller.fence("a", 2);
        assert_eq!(stage.controller.mind().acks.last().unwrap().lsn, None);

        stage.controller.promote(&terms(3, "a", 1500, None), true);
        stage.witness.until_written("a");
        stage.a.stop_database();
        stage.controller.mind().grants_leases = false;
        stage.a.start();
        until("the guard is back", || {
            stage.a.status()["report"]["database"] == "gone"
        });
        let checkpoint = stage.a.cluster.control("Latest checkpoint location");
        stage.controller.fence("a", 4);
        let told = stage.controller.mind().acks.last().unwrap().lsn;
        assert_eq!(told.map(|lsn| lsn.to_string()), Some(checkpoint));
    });
}

#[test]
fn a_resync_that_waits_for_a_site_that_is_dead_gives_way_to_a_promotion() {
    apart(|| {
        const LEASE: u64 = 4000;
        let stage = Stage::new();
        stage.controller.promote(&terms(1, "a", LEASE, None), true);
        stage.witness.until_written("a");
        stage.controller.fence("a", 2);
        stage.controller.promote(&terms(2, "b", LEASE, None), true);
        stage.witness.until_written("b");
        // Its kernel still takes connections, and nobody answers.
        stage.b.freeze_database();
        until("the data is being brought into line", || {
            let report = stage.controller.mind().reports.get(&"a".into()).cloned();
            if let Some(report) = report {
                let order = ResyncOrder {
                    epoch: Epoch(2),
                    boot: report.boot,
                };
                stage.controller.send("a", &Message::Resync(order));
            }
            stage.a.status()["report"]["resync"] == "underWay"
        });
        stage.controller.promote(&terms(3, "a", LEASE, None), true);
        let last = Instant::now();
        until("it takes writes", || stage.witness.last("a") > Some(last));
    });
}
