//! Real faults between real parts: two sites, the controller and clients, each on a host of its own, and everything that
//! can happen to them. What must hold in every run: no two sites take writes at once, and no acknowledged write is gone
//! that the journal's forecast and the time between fault and fence do not explain.

use std::{env, time::Instant};

use crate::guard_agent::{
    apart,
    shop::{Shop, Wanted},
};

mod account;
mod calm;
mod lost;
mod midway;

/// On hosts of their own, with nothing in between.
fn hosts() -> Wanted {
    Wanted {
        apart: Some(std::time::Duration::ZERO),
        ..Wanted::default()
    }
}

/// Plays it once, and often in the nightly run.
fn play(test: fn()) {
    let is_nightly = env::var_os("FAILOVER_NIGHTLY").is_some();
    for _ in 0..if is_nightly { 10 } else { 1 } {
        apart(test);
    }
}

/// Waits until `b` has replaced `a`, and accounts for every write.
fn replaced(shop: &Shop, fault: Instant, evidence: &str) {
    replaced_by(shop, fault, &[evidence]);
}

/// The same where what it rests on hangs on who is faster.
fn replaced_by(shop: &Shop, fault: Instant, evidence: &[&str]) {
    shop.witness.until_written("b");
    let writable = shop.witness.first("b").unwrap();
    shop.until_closed("done");
    let said = shop.evidence();
    assert!(evidence.contains(&said.as_str()), "{said}");
    assert_eq!(shop.records("epochRaised").len(), 1);
    shop.witness.never_both("a", "b");
    let lost = account::settle(shop);
    let ended = shop.witness.last("a").unwrap();
    tell(&format!(
        "{said}; last write at a {:?} after the fault, first at b after {:?}; lost: {lost}",
        ended.saturating_duration_since(fault),
        writable.saturating_duration_since(fault),
    ));
}

/// Says how long it took, or what it cost.
#[expect(
    clippy::print_stdout,
    reason = "the figures of a run are worth to be seen"
)]
fn tell(text: &str) {
    println!("{text}");
}

/// The old primary takes no writes, whoever starts it.
fn stays_out(shop: &mut Shop) {
    let before = shop.witness.last("a").unwrap();
    let database = || shop.hosts.a.status()["report"]["database"].clone();
    crate::stand::postgres::until("its guard is back", || database() == "gone");
    // The controller asks it every half a second.
    shop.witness.until_written("b");
    assert!(!shop.hosts.a.runs());

    // By hand it comes up, and takes no writes.
    let inside = shop.hosts.a.place.enter();
    shop.hosts.a.cluster.restart();
    assert_eq!(shop.hosts.a.cluster.sql("SELECT pg_is_in_recovery()"), "t");
    shop.witness.until_written("b");
    shop.hosts.a.cluster.stop_immediate();
    drop(inside);
    assert_eq!(shop.witness.last("a").unwrap(), before);
    assert_eq!(shop.records("epochRaised").len(), 1);
    account::settle(shop);
}
