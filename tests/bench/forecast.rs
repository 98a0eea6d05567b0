//! How far forecasts are off: drill after drill on the same pair, what the steps were expected to take against what they
//! took, as the reports have it. The first drill knows nothing but time-outs, so its forecast does not count. The aim is
//! a median error below 20 %.
//!
//! `cargo bench --bench forecast` prints a table, and the same figures as one line of JSON; `-- --drills 5` makes fewer.
//! It needs root and PostgreSQL 15.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on should say where"
)]
#![expect(clippy::print_stdout, reason = "the figures are the output")]

use std::env;

use failover::model::span::Span;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

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

use drilled::Drilled;
use stand::postgres::Pair;

/// Drills whose forecast counts.
const DRILLS: usize = 20;
/// The median error, in percent of what was measured, is to be below this.
const AIM: f64 = 20.0;

fn main() {
    let args: Vec<String> = env::args().collect();
    let drills = args.iter().position(|a| a == "--drills");
    let drills = drills.map_or(DRILLS, |at| args[at + 1].parse().unwrap());
    let runtime = Runtime::new().unwrap();
    let _inside = runtime.enter();
    let pair = Pair::start();
    pair.primary
        .sql("CREATE TABLE orders AS SELECT n AS id, now() AS at FROM generate_series(1, 1000) n");
    pair.settle();
    let production = Drilled::start(&runtime, pair);
    for _ in 0..=drills {
        production.drill();
    }
    let standby = &production.pair.standby;
    assert_eq!(standby.sql("SELECT pg_is_in_recovery()"), "t");
    let history = production.stand.json(&["history", "shop"]);
    let all = history["drills"].as_array().unwrap();
    let mut errors: Vec<f64> = (all.iter().skip(1))
        .map(|drill| {
            let id = drill["drill"].as_str().unwrap();
            error(&production.stand.json(&["report", id]))
        })
        .collect();
    errors.sort_by(f64::total_cmp);
    let (median, worst) = (errors[errors.len() / 2], errors[errors.len() - 1]);
    for (what, figure) in [
        ("drills whose forecast counts", errors.len().to_string()),
        ("forecast off by, median", format!("{median:.1} %")),
        ("forecast off by, most", format!("{worst:.1} %")),
        ("aim", format!("median below {AIM} %")),
    ] {
        println!("{what:<36} {figure:>18}");
    }
    println!(
        "{}",
        json!({
            "drills": errors.len(),
            "error_median_percent": median,
            "error_worst_percent": worst,
            "aim_percent": AIM,
        })
    );
}

/// By how many percent of what was expected of them the steps took more or less; of those that were measured before.
fn error(report: &Value) -> f64 {
    let seconds = |span: &Value| {
        let span: Span = serde_json::from_value(span.clone()).unwrap();
        span.as_secs_f64()
    };
    let steps = report["steps"].as_array().unwrap().iter();
    let (mut expected, mut took) = (0.0, 0.0);
    for step in steps.filter(|s| s["known"] == true) {
        expected += seconds(&step["expected"]);
        took += seconds(&step["took"]);
    }
    assert!(
        took > 0.0,
        "no step of {} was measured before",
        report["drill"]
    );
    (expected - took).abs() / expected * 100.0
}
