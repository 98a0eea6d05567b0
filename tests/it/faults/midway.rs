//! The controller dies or stands still while it fails over: it goes on afterwards, and does nothing twice.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use super::{hosts, play, replaced};
use crate::{
    guard_agent::shop::{Shop, Wanted},
    stand::postgres::until,
};

/// A host is lost, and the controller waits for the end of its lease.
fn midway() -> (Shop, Instant) {
    // Long enough to die and to come back in.
    let mut shop = Shop::open(&Wanted {
        lease: "6s",
        ..hosts()
    });
    shop.until_ready();
    let fault = Instant::now();
    shop.network().isolate("a");
    shop.hosts.a.cut_power();
    until("the fence has begun", || {
        !shop.records("stepIntent").is_empty()
    });
    (shop, fault)
}

/// One promotion, of one epoch.
fn nothing_twice(shop: &Shop) {
    let steps: Vec<_> = shop.records("stepOutcome");
    for step in ["fence", "promote"] {
        let done = steps
            .iter()
            .filter(|o| o["step"] == step && o["result"]["done"].is_object());
        assert!(done.count() <= 1, "{step}: {steps:?}");
    }
    assert_eq!(shop.records("runOpened").len(), 1);
    // The first of them was opened when the guard of `a` promoted it.
    let timeline = "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)";
    assert_eq!(shop.hosts.b.cluster.sql(timeline), "00000003");
}

#[test]
fn a_controller_that_dies_in_a_failover_goes_on_with_it() {
    play(|| {
        let (mut shop, fault) = midway();
        shop.kill();
        sleep(Duration::from_secs(1));
        assert!(shop.witness.first("b").is_none());
        shop.start();
        replaced(&shop, fault, "fenced: rung lease");
        nothing_twice(&shop);
    });
}

#[test]
fn a_controller_that_stands_still_in_a_failover_goes_on_with_it() {
    play(|| {
        let (shop, fault) = midway();
        shop.signal(Signal::SIGSTOP);
        sleep(Duration::from_secs(8));
        assert!(shop.witness.first("b").is_none());
        shop.signal(Signal::SIGCONT);
        replaced(&shop, fault, "fenced: rung lease");
        nothing_twice(&shop);
    });
}
