//! What must lead to a failover, and what becomes of the old primary after it.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use super::{account, hosts, play, replaced, stays_out};
use crate::{
    guard_agent::shop::{Shop, Wanted},
    stand::{
        disk::{Sealed, SmallDisk},
        network::Network,
        postgres::until,
    },
};

const ACKNOWLEDGED: &str = "fenced: rung acknowledged";
const LEASE: &str = "fenced: rung lease";

fn ready(wanted: &Wanted) -> Shop {
    let shop = Shop::open(wanted);
    shop.until_ready();
    shop
}

#[test]
fn a_killed_database_is_started_again_and_a_guard_that_stays_dead_is_replaced() {
    play(|| {
        let mut shop = ready(&hosts());
        let fault = Instant::now();
        shop.hosts.a.kill_database();
        shop.witness.until_written("a");
        println!(
            "written again after {:?}",
            shop.witness
                .longest_gap("a", fault.checked_sub(Duration::from_secs(1)).unwrap())
        );
        account::whole(&shop);

        let (began, life) = (Instant::now(), shop.hosts.a.life());
        shop.hosts.a.kill();
        shop.hosts.a.start();
        until("it has its lease again", || {
            shop.hosts.a.status()["report"]["leased"] == true
        });
        sleep(Duration::from_secs(3));
        shop.witness.until_written("a");
        assert!(shop.witness.refused("a", began).is_empty());
        assert_eq!(shop.hosts.a.life(), life);
        assert!(shop.records("runOpened").is_empty());

        let fault = Instant::now();
        shop.hosts.a.kill();
        replaced(&shop, fault, LEASE);
        shop.hosts.a.start();
        stays_out(&mut shop);
    });
}

#[test]
fn a_database_that_dies_with_its_guard_is_replaced() {
    play(|| {
        let mut shop = ready(&hosts());
        let fault = Instant::now();
        shop.hosts.a.kill();
        shop.hosts.a.kill_database();
        replaced(&shop, fault, LEASE);
        shop.hosts.a.start();
        stays_out(&mut shop);
    });
}

#[test]
fn a_frozen_database_is_fenced_and_replaced() {
    play(|| {
        let mut shop = ready(&hosts());
        let fault = Instant::now();
        shop.hosts.a.freeze_database();
        replaced(&shop, fault, ACKNOWLEDGED);
        stays_out(&mut shop);
    });
}

#[test]
fn a_frozen_guard_takes_its_database_along() {
    play(|| {
        let mut shop = ready(&hosts());
        let fault = Instant::now();
        shop.hosts.a.signal(Signal::SIGSTOP);
        replaced(&shop, fault, LEASE);
        shop.hosts.a.signal(Signal::SIGCONT);
        stays_out(&mut shop);
    });
}

#[test]
fn a_host_that_stands_still_is_replaced_and_wakes_up_too_late() {
    play(|| {
        let mut shop = ready(&hosts());
        let fault = Instant::now();
        shop.hosts.a.freeze_host();
        replaced(&shop, fault, LEASE);
        shop.hosts.a.thaw_host();
        stays_out(&mut shop);
    });
}

#[test]
fn a_lost_host_is_replaced() {
    play(|| {
        let mut shop = ready(&hosts());
        let fault = Instant::now();
        shop.network().isolate("a");
        shop.hosts.a.cut_power();
        replaced(&shop, fault, LEASE);
        shop.network().heal();
        shop.hosts.a.start();
        stays_out(&mut shop);
    });
}

#[test]
fn a_host_that_nobody_reaches_stops_before_it_is_replaced() {
    play(|| {
        let mut shop = ready(&hosts());
        let fault = Instant::now();
        shop.network().isolate("a");
        replaced(&shop, fault, LEASE);
        // Its own clients wrote on under its last lease, and no longer.
        let last = shop.witness.last("a").unwrap();
        assert!(last > fault);
        shop.network().heal();
        stays_out(&mut shop);
    });
}

#[test]
fn a_full_disk_keeps_the_promise_that_was_acknowledged() {
    play(|| {
        let disk = SmallDisk::new(256);
        let mut shop = ready(&Wanted {
            state: Some(disk.path().join("state")),
            ..hosts()
        });
        disk.fill();
        let fault = Instant::now();
        shop.hosts.a.freeze_database();
        // It writes over what it had, which takes no room.
        replaced(&shop, fault, ACKNOWLEDGED);
        shop.hosts.a.kill();
        shop.hosts.a.start();
        stays_out(&mut shop);
        let promise = &shop.hosts.a.status()["report"]["promise"];
        assert_eq!(promise["epoch"], 3);
        assert_eq!(promise["role"], "fenced");
    });
}

#[test]
fn a_guard_that_cannot_write_its_promise_acknowledges_nothing() {
    play(|| {
        let disk = SmallDisk::new(256);
        let state = disk.path().join("state");
        let mut shop = ready(&Wanted {
            state: Some(state.clone()),
            ..hosts()
        });
        let sealed = ["promise.0", "promise.1"].map(|slot| Sealed::new(state.join(slot)));
        let fault = Instant::now();
        shop.hosts.a.freeze_database();
        replaced(&shop, fault, LEASE);
        let report = &shop.hosts.a.status()["report"];
        assert_eq!(report["promise"]["epoch"], 2);
        assert_eq!(report["canFence"], false);
        drop(sealed);
        shop.hosts.a.terminate();
        shop.hosts.a.start();
        stays_out(&mut shop);
    });
}

/// A host that hears everybody and is heard by nobody, and the other way round.
#[test]
fn a_host_that_is_cut_off_one_way_stops_before_it_is_replaced() {
    play(|| cut_off_one_way(Network::mute));
    play(|| cut_off_one_way(Network::deafen));
}

fn cut_off_one_way(cut: fn(&Network, &str)) {
    let mut shop = ready(&hosts());
    let fault = Instant::now();
    cut(shop.network(), "a");
    replaced(&shop, fault, LEASE);
    shop.network().heal();
    stays_out(&mut shop);
}

/// It ends where its log finds no room, and cannot start again.
#[test]
fn a_database_whose_disk_is_full_is_replaced() {
    play(|| {
        let disk = SmallDisk::new(300 << 10);
        let mut shop = ready(&Wanted {
            data: Some(disk.path().join("data")),
            ..hosts()
        });
        disk.fill();
        let fault = Instant::now();
        shop.hosts.a.overflow();
        replaced(&shop, fault, ACKNOWLEDGED);
        disk.free();
        stays_out(&mut shop);
    });
}
