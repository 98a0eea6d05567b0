//! The real controller between real guards: what it proves before it promotes, and what it promotes through.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{
    apart,
    shop::{Shop, Wanted},
    stage::CONTROLLER,
};
use crate::stand::postgres::until;

/// It asks before it fails over.
fn asking() -> Wanted {
    Wanted {
        automatic: false,
        ..Wanted::default()
    }
}

#[test]
fn a_frozen_database_is_fenced_by_its_guard_and_replaced() {
    apart(|| {
        let shop = Shop::open(&asking());
        shop.hosts.a.freeze_database();
        shop.approve();
        shop.witness.until_written("b");
        shop.until_closed("done");
        assert_eq!(shop.evidence(), "fenced: rung acknowledged");
        assert!(!shop.hosts.a.runs());
        shop.witness.never_both("a", "b");
        assert_eq!(shop.hosts.a.status()["report"]["promise"]["role"], "fenced");
        // Nobody could replace it now: its lease has no end, and the controller may die.
        let raised = shop.records("epochRaised");
        assert_eq!(raised[0]["terms"]["lease"], "unbounded");
    });
}

#[test]
fn a_lost_host_is_replaced_when_its_lease_is_surely_over() {
    apart(|| {
        let mut shop = Shop::open(&asking());
        until("the epoch is held", || {
            !shop.records("epochHeld").is_empty()
        });
        shop.hosts.a.lose();
        let lost = Instant::now();
        shop.approve();
        shop.witness.until_written("b");
        shop.until_closed("done");
        assert_eq!(shop.evidence(), "fenced: rung lease");
        shop.witness.never_both("a", "b");
        assert!(lost.elapsed() > Duration::from_secs(2));
    });
}

#[test]
fn a_controller_that_dies_or_stands_still_stops_nobody_and_opens_no_second_epoch() {
    apart(|| {
        let mut shop = Shop::open(&asking());
        let began = Instant::now();
        let life = shop.hosts.a.life();
        until("the deputy has promised the epoch", || {
            shop.hosts.b.status()["report"]["promise"]["epoch"] == 2
        });
        shop.kill();
        std::thread::sleep(Duration::from_secs(5));
        shop.start();
        shop.witness.until_written("a");
        shop.signal(Signal::SIGSTOP);
        std::thread::sleep(Duration::from_secs(5));
        shop.signal(Signal::SIGCONT);
        shop.witness.until_written("a");
        assert_eq!(shop.hosts.a.life(), life);
        let gap = shop.witness.longest_gap("a", began);
        assert!(gap < Duration::from_secs(2), "{gap:?}");
        assert_eq!(shop.records("epochOpened").len(), 1);
    });
}

#[test]
fn a_run_that_is_aborted_after_the_fence_gives_the_site_back_in_a_later_epoch() {
    apart(|| {
        let shop = Shop::open(&Wanted {
            manual: true,
            ..asking()
        });
        shop.hosts.a.freeze_database();
        shop.approve();
        until("it is fenced", || {
            let done = shop.records("stepOutcome");
            done.iter().any(|o| o["step"] == "fence")
        });
        let run = shop.json(&["explain", "shop"])["run"]["id"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(shop.act(&["abort", &run, "--reason", "a test"]));
        shop.until_closed("aborted");
        shop.witness.until_written("a");
        assert!(shop.witness.last("b").is_none());
        let opened = shop.records("epochOpened");
        let epochs: Vec<_> = opened.iter().map(|o| &o["terms"]["epoch"]).collect();
        assert_eq!(epochs, [2, 4]);
        assert_eq!(shop.json(&["status"])["services"][0]["active"], "a");
    });
}

#[test]
fn a_journal_that_was_set_back_counts_again_once_a_person_takes_over() {
    apart(|| {
        let mut shop = Shop::open(&Wanted {
            manual: true,
            ..asking()
        });
        until("the epoch is held", || {
            !shop.records("epochHeld").is_empty()
        });
        let takeover = ["takeover", "shop", "--reason", "restored", "--yes"];
        assert!(!shop.act(&takeover), "nobody else has led");
        shop.kill();
        shop.keep();
        shop.start();
        shop.hosts.a.freeze_database();
        shop.approve();
        until("it is fenced", || {
            let done = shop.records("stepOutcome");
            done.iter().any(|o| o["step"] == "fence")
        });
        let run = shop.json(&["explain", "shop"])["run"]["id"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(shop.act(&["abort", &run, "--reason", "a test"]));
        shop.until_closed("aborted");
        until("it serves in a later epoch", || {
            shop.hosts.a.status()["report"]["promise"]["epoch"] == 4
        });
        shop.kill();
        shop.set_back();
        shop.start();

        let unnamed = shop.command(&takeover).output().unwrap();
        assert!(!unnamed.status.success(), "a person answers for it");
        assert_eq!(shop.records("epochOpened").len(), 1);
        until("it has heard what it does not know", || shop.act(&takeover));
        let taken = shop.records("takenOver");
        assert_eq!(taken.len(), 1);
        assert_eq!(
            (&taken[0]["by"], &taken[0]["reason"]),
            (&"ann".into(), &"restored".into())
        );
        until("an epoch behind all others is in force", || {
            shop.hosts.a.status()["report"]["promise"]["epoch"] == 5
        });
        shop.witness.until_written("a");
        assert!(!shop.act(&takeover), "once");
    });
}

#[test]
fn a_primary_that_only_the_other_guard_reaches_is_seen_granted_and_fenced_by_way_of_it() {
    apart(|| {
        let shop = Shop::open(&Wanted {
            apart: Some(Duration::ZERO),
            ..asking()
        });
        shop.until_ready();
        shop.network().part("a", CONTROLLER);
        let (began, life) = (Instant::now(), shop.hosts.a.life());
        std::thread::sleep(Duration::from_secs(8));
        shop.witness.until_written("a");
        assert_eq!(shop.hosts.a.life(), life);
        let gap = shop.witness.longest_gap("a", began);
        assert!(gap < Duration::from_secs(1), "{gap:?}");
        // Its own probe finds nobody; what the guard says comes in.
        assert!(shop.records("runOpened").is_empty());
        let seen = shop.json(&["explain", "shop"]).to_string();
        assert!(
            seen.contains("its guard says that it takes writes"),
            "{seen}"
        );

        // And where it is lost indeed, it is fenced at once by its own word.
        shop.hosts.a.freeze_database();
        shop.approve();
        shop.witness.until_written("b");
        shop.until_closed("done");
        assert_eq!(shop.evidence(), "fenced: rung acknowledged");
        shop.witness.never_both("a", "b");
    });
}
