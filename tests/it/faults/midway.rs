//! The controller dies or stands still while it fails over: it goes on afterwards, and does nothing twice.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use super::{hosts, play, replaced_by};
use crate::{
    guard_agent::shop::{Shop, Wanted},
    stand::postgres::until,
};

/// What happens to the site `a`.
#[derive(Clone, Copy)]
enum Fault {
    Lost,
    Partitioned,
    HostFrozen,
    GuardFrozen,
    BothKilled,
    DatabaseFrozen,
}

impl Fault {
    fn strike(self, shop: &mut Shop) {
        let site = &mut shop.hosts.a;
        match self {
            Self::Lost => {
                shop.network().isolate("a");
                shop.hosts.a.cut_power();
            }
            Self::Partitioned => shop.network().isolate("a"),
            Self::HostFrozen => site.freeze_host(),
            Self::GuardFrozen => site.signal(Signal::SIGSTOP),
            Self::BothKilled => {
                site.kill();
                site.kill_database();
            }
            Self::DatabaseFrozen => site.freeze_database(),
        }
    }

    /// What may prove the fence: a guard that is alive may acknowledge it before its lease is over.
    fn evidence(self) -> &'static [&'static str] {
        match self {
            Self::DatabaseFrozen => &["fenced: rung acknowledged", "fenced: rung lease"],
            Self::Lost
            | Self::Partitioned
            | Self::HostFrozen
            | Self::GuardFrozen
            | Self::BothKilled => &["fenced: rung lease"],
        }
    }
}

/// It has happened, and the controller fences: it mostly waits for the end of a lease then. Where the database lived
/// on under its lease that wait is nearly over when the outage is seen.
fn midway(fault: Fault) -> (Shop, Instant) {
    // Long enough to die and to come back in.
    let mut shop = Shop::open(&Wanted {
        lease: "6s",
        ..hosts()
    });
    shop.until_ready();
    let struck = Instant::now();
    fault.strike(&mut shop);
    until("the fence has begun", || {
        !shop.records("stepIntent").is_empty()
    });
    (shop, struck)
}

/// The controller dies in it, and another time stands still.
fn controller_away(fault: Fault) {
    let (mut shop, struck) = midway(fault);
    shop.kill();
    sleep(Duration::from_secs(1));
    not_before_the_fence(&shop);
    shop.start();
    replaced_by(&shop, struck, fault.evidence());
    nothing_twice(&shop);
    drop(shop);

    let (shop, struck) = midway(fault);
    shop.signal(Signal::SIGSTOP);
    sleep(Duration::from_secs(8));
    not_before_the_fence(&shop);
    shop.signal(Signal::SIGCONT);
    replaced_by(&shop, struck, fault.evidence());
    nothing_twice(&shop);
}

/// Whoever stands in took writes after the fence was proved, however soon that was.
fn not_before_the_fence(shop: &Shop) {
    let is_written = shop.witness.first("b").is_some();
    assert!(!is_written || done(shop, "fence") == 1);
}

fn done(shop: &Shop, step: &str) -> usize {
    let steps = shop.records("stepOutcome");
    let done = steps
        .iter()
        .filter(|o| o["step"] == step && o["result"]["done"].is_object());
    done.count()
}

/// One promotion, of one epoch.
fn nothing_twice(shop: &Shop) {
    for step in ["fence", "promote"] {
        assert!(
            done(shop, step) <= 1,
            "{step}: {:?}",
            shop.records("stepOutcome")
        );
    }
    assert_eq!(shop.records("runOpened").len(), 1);
    // The first of them was opened when the guard of `a` promoted it.
    let timeline = "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)";
    assert_eq!(shop.hosts.b.cluster.sql(timeline), "00000003");
}

#[test]
fn a_controller_that_is_away_after_a_host_was_lost_goes_on() {
    play(|| controller_away(Fault::Lost));
}

#[test]
fn a_controller_that_is_away_after_a_host_was_cut_off_goes_on() {
    play(|| controller_away(Fault::Partitioned));
}

#[test]
fn a_controller_that_is_away_after_a_host_stood_still_goes_on() {
    play(|| controller_away(Fault::HostFrozen));
}

#[test]
fn a_controller_that_is_away_after_a_guard_stood_still_goes_on() {
    play(|| controller_away(Fault::GuardFrozen));
}

#[test]
fn a_controller_that_is_away_after_a_database_was_killed_with_its_guard_goes_on() {
    play(|| controller_away(Fault::BothKilled));
}

#[test]
fn a_controller_that_is_away_after_a_database_stood_still_goes_on() {
    play(|| controller_away(Fault::DatabaseFrozen));
}
