//! The controller dies by SIGKILL at any moment of a failover, is started again, and brings it to its end. Then the
//! other side of every effect is asked what happened to it, and the journal is verified.
//!
//! | effect | how the other side recognises a repeat |
//! |---|---|
//! | fence by command | it does not; `observe` tells the truth, and is asked before it is performed again |
//! | promotion by HTTP | `Idempotency-Key`; here it is counted with every request, since `observe` comes first |
//! | DNS by RFC 2136 | the update's prerequisites: compare-and-swap |
//! | post on X | a text that stands on the timeline is refused |
//! | signed webhook, page to the team | `webhook-id` |
//! | mail, Telegram | not at all: what may have been sent is not sent again, and counts as unknown |
//! | status page | written anew from what the journal says |
//!
//! The story ends when the last announcement is settled; the incident stays open for another minute of quiet.

mod aftermath;
mod controller;
mod midway;
pub mod world;

use std::{os::unix::process::ExitStatusExt, panic::AssertUnwindSafe};

use futures::{FutureExt, StreamExt, stream};
use world::World;

use crate::stand::{
    bind::Bind,
    point::{Names, Point, Side},
};

/// How many stories are told at once: most of each is waiting for a look that is due.
const AT_ONCE: usize = 16;

const SIGKILL: i32 = 9;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_survives_sigkill_before_and_after_every_record() {
    let records = records_of_a_whole_life().await;
    let points: Vec<Point> = records
        .iter()
        .flat_map(|record| {
            [Side::Before, Side::After].map(|side| Point {
                record: record.clone(),
                side,
            })
        })
        .collect();
    let zones: Vec<String> = (0..points.len()).map(|n| format!("k{n}.test")).collect();
    let bind = Bind::with_zones(&zones).await;
    let stories = points
        .iter()
        .zip(&zones)
        .map(|(point, zone)| story(point, zone, &bind));
    let told: Vec<Result<(), String>> = stream::iter(stories)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let failed: Vec<String> = told.into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    say(&format!(
        "killed {} = 2 x {} records",
        points.len(),
        records.len()
    ));
}

/// The names of the records of a run in which nobody was killed.
async fn records_of_a_whole_life() -> Vec<String> {
    let bind = Bind::with_zones(&["whole.test".to_owned()]).await;
    let world = World::new(bind.address, "whole.test").await;
    let ended = world.live(None).await;
    assert!(ended.success(), "{}", world.log());
    aftermath::all_is_well(&world, &bind).await;
    let mut names = Names::default();
    aftermath::records(&world)
        .iter()
        .map(|record| names.of(&record.body))
        .collect()
}

/// Dies there, lives on in a second life; the error says what was wrong with it.
async fn story(point: &Point, zone: &str, bind: &Bind) -> Result<(), String> {
    let world = World::new(bind.address, zone).await;
    let telling = async {
        let ended = world.live(Some(point)).await;
        assert_eq!(ended.signal(), Some(SIGKILL), "it was not killed");
        // A journal of which nothing was written yet may not even be there.
        if world.journal().exists() {
            aftermath::records(&world);
        }
        let ended = world.live(None).await;
        assert!(ended.success(), "it did not come to the end: {ended}");
        aftermath::all_is_well(&world, bind).await;
    };
    // Which of many stories failed is worth as much as why.
    AssertUnwindSafe(telling)
        .catch_unwind()
        .await
        .map_err(|panic| {
            let why = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
                .unwrap_or_default();
            format!(
                "killed {:?} {}: {why}\n{}",
                point.side,
                point.record,
                world.log()
            )
        })
}

#[expect(clippy::print_stdout, reason = "the count is what the test shows")]
fn say(text: &str) {
    println!("{text}");
}
