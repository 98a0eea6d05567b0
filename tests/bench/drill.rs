//! What a drill costs the production that it is beside: the 99th percentile of a client's writes while an isolated drill
//! copies and promotes the standby, against the same client just before, round by round in the same run. The aim is at
//! most 1.5 times. No write is lost, or the benchmark fails.
//!
//! `cargo bench --bench drill` prints a table, and the same figures as one line of JSON; `-- --rounds 3` takes fewer. It
//! needs root and PostgreSQL 15. Controller, primary, standby, copy and client share this machine, as they should not.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on should say where"
)]
#![expect(clippy::print_stdout, reason = "the figures are the output")]

use std::{
    env,
    ops::Range,
    thread::sleep,
    time::{Duration, SystemTime},
};

use serde_json::json;
use tokio::runtime::Runtime;

#[path = "../it/drill/client.rs"]
mod client;
#[path = "../it/drill/documents.rs"]
mod documents;
mod drilled;
#[path = "../it/stand"]
#[expect(dead_code, reason = "the tests use more of it")]
mod stand {
    pub mod bind;
    pub mod controller;
    pub mod host;
    pub mod listener;
    pub mod postgres;
    pub mod webhook;
}

use client::{Client, lost, p99};
use drilled::Drilled;
use stand::postgres::Pair;

/// Drills, each after as long a rest.
const ROUNDS: usize = 10;
/// Rest before the first one, whose length is not known.
const FIRST: Duration = Duration::from_secs(5);
/// How much longer the 99th percentile may become.
const AIM: f64 = 1.5;

fn main() {
    let args: Vec<String> = env::args().collect();
    let rounds = args.iter().position(|a| a == "--rounds");
    let rounds = rounds.map_or(ROUNDS, |at| args[at + 1].parse().unwrap());
    let runtime = Runtime::new().unwrap();
    let _inside = runtime.enter();
    let pair = Pair::start();
    let client = Client::start(&pair.primary);
    let production = Drilled::start(&runtime, pair);
    production.drill();

    let (mut rests, mut drills) = (Vec::new(), Vec::new());
    let mut long = FIRST;
    for _ in 0..rounds {
        let began = SystemTime::now();
        sleep(long);
        let between = SystemTime::now();
        long = production.drill();
        rests.push(began..between);
        drills.push(between..SystemTime::now());
    }
    let writes = runtime.block_on(client.end());
    let pair = &production.pair;
    pair.settle();
    let missing = lost(&writes, &pair.primary) + lost(&writes, &pair.standby);
    assert_eq!(missing, 0, "writes are lost");

    let within = |spans: &[Range<SystemTime>]| {
        let spans = spans.to_vec();
        p99(writes
            .iter()
            .filter(move |w| spans.iter().any(|s| s.contains(&w.at))))
    };
    let (without, with) = (within(&rests), within(&drills));
    let ratio = with / without;
    for (what, figure) in [
        ("writes, of which none was lost", writes.len().to_string()),
        (
            "99th percentile without a drill, ms",
            format!("{without:.2}"),
        ),
        ("99th percentile with one, ms", format!("{with:.2}")),
        ("ratio", format!("{ratio:.2}")),
        ("aim", format!("at most {AIM}")),
    ] {
        println!("{what:<44} {figure:>12}");
    }
    println!(
        "{}",
        json!({
            "rounds": rounds,
            "writes": writes.len(),
            "lost": missing,
            "p99_without_ms": without,
            "p99_with_ms": with,
            "ratio": ratio,
            "aim": AIM,
        })
    );
}
