//! The controller dies by SIGKILL right after each record of a drill that copies and promotes a real standby, and is
//! started again. Then the drill is over, nothing of it is left, and the pair is as it was.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    panic::AssertUnwindSafe,
    path::Path,
    process::ExitStatus,
    time::{Duration, SystemTime},
};

use failover::{
    decide::event::Command as Wish,
    drill,
    driver::controller::Controller,
    journal::{file::JournalFile, verify},
    model::{
        drill::DrillOutcome,
        id::{Seq, ServiceName},
        record::{Record, RecordBody},
    },
};
use futures::{FutureExt, future::join_all};
use serde_json::Value;
use tempfile::TempDir;

use super::{documents::documents, postgres};
use crate::stand::{
    controller::Stand,
    life::{self, Orders},
    point::{Names, Point, Side},
    postgres::Pair,
};

/// Pairs that are drilled side by side: most of a story is waiting.
const AT_ONCE: usize = 3;
/// No life is longer; a controller whose test is gone ends by itself.
const LONGEST: Duration = Duration::from_mins(3);
const SIGKILL: i32 = 9;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drill_survives_sigkill_after_every_record() {
    // One after the other, by this thread: a pair goes with the thread that started it.
    let worlds: Vec<World> = (0..AT_ONCE).map(|_| World::new()).collect();
    let whole = Life::new(&worlds[0]).await;
    assert!(whole.live(None).await.success(), "{}", whole.log());
    let names: Vec<String> = whole.of_drill().into_iter().map(|(name, _)| name).collect();
    assert_eq!(whole.outcome(), DrillOutcome::Passed, "{}", whole.log());
    worlds[0].is_as_it_was();

    let share = |n: usize| names.iter().skip(n).step_by(AT_ONCE).cloned().collect();
    let told = worlds.iter().enumerate().map(|(n, w)| stories(w, share(n)));
    let told: Vec<Result<DrillOutcome, String>> =
        join_all(told).await.into_iter().flatten().collect();
    let failed: Vec<_> = told.iter().filter_map(|t| t.as_ref().err()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let passed = told.iter().filter(|t| **t == Ok(DrillOutcome::Passed));
    let kinds: BTreeSet<&str> = names.iter().filter_map(|n| n.split(' ').next()).collect();
    say(&format!(
        "killed after each of {} records of {} kinds; {} of these drills passed all the same",
        names.len(),
        kinds.len(),
        passed.count()
    ));
    // What is tried: its beginning, intents and outcomes, its verdict, what is taken back, its end.
    for kind in [
        "drillOpened",
        "stepIntent",
        "stepOutcome",
        "drillJudged",
        "drillClosed",
    ] {
        assert!(kinds.contains(kind), "{kind}: {names:?}");
    }
}

async fn stories(world: &World, points: Vec<String>) -> Vec<Result<DrillOutcome, String>> {
    let mut told = Vec::new();
    for point in points {
        // Which of many stories failed is worth as much as why.
        let story = AssertUnwindSafe(story(world, &point)).catch_unwind().await;
        told.push(story.map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            format!("killed after {point}: {}", text.unwrap_or_default())
        }));
    }
    told
}

/// Dies there, and lives on in a second life.
async fn story(world: &World, point: &str) -> DrillOutcome {
    let life = Life::new(world).await;
    let ended = life.live(Some(point)).await;
    assert_eq!(ended.signal(), Some(SIGKILL), "{ended} {}", life.log());
    let ended = life.live(None).await;
    assert!(ended.success(), "{ended} {}", life.log());
    let outcome = life.outcome();
    world.is_as_it_was();
    outcome
}

/// A pair, and what it was like before anybody drilled.
struct World {
    pair: Pair,
    before: Vec<String>,
    folder: TempDir,
}

impl World {
    fn new() -> Self {
        let pair = Pair::start();
        pair.primary.sql(
            "create table orders as select n as id, now() as at from generate_series(1, 1000) n",
        );
        pair.settle();
        // In memory where the system has a place for that: SIGKILL spares what was written, on a disk or not.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() {
            TempDir::new_in(memory).unwrap()
        } else {
            TempDir::new().unwrap()
        };
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        Self {
            before: production(&pair),
            pair,
            folder,
        }
    }

    /// No process, no folder, no mount of a drill; and the pair is what it was.
    fn is_as_it_was(&self) {
        postgres::nothing_is_left(self.folder.path());
        assert_eq!(production(&self.pair), self.before);
    }
}

impl Drop for World {
    /// A test that failed leaves nothing either.
    fn drop(&mut self) {
        let _ = drill::sweep(
            Some(self.folder.path()),
            &"shop".into(),
            None,
            SystemTime::now() + Duration::from_mins(1),
        );
    }
}

/// What a drill must not change.
fn production(pair: &Pair) -> Vec<String> {
    let copies = "select count(*) from pg_stat_replication";
    crate::stand::postgres::until("no copy is under way any more", || {
        pair.standby.sql(copies) == "0"
    });
    vec![
        pair.primary.sql("select pg_is_in_recovery()"),
        pair.primary
            .sql("select timeline_id from pg_control_checkpoint()"),
        pair.primary
            .sql("select slot_name, slot_type, active from pg_replication_slots"),
        pair.primary
            .sql("select application_name, state from pg_stat_replication"),
        pair.primary.sql("select count(*) from orders"),
        pair.standby.sql("select pg_is_in_recovery()"),
        pair.standby
            .sql("select count(*) from pg_replication_slots"),
        pair.standby
            .sql("select status, received_tli from pg_stat_wal_receiver"),
    ]
}

/// A journal, and controllers that live on it one after the other.
struct Life {
    stand: Stand,
}

impl Life {
    async fn new(world: &World) -> Self {
        let stand = Stand::new().await;
        stand.write(&documents(&stand, &world.pair, &world.folder));
        fs::create_dir(stand.path("state")).unwrap();
        Self { stand }
    }

    async fn live(&self, die: Option<&str>) -> ExitStatus {
        let orders = Orders {
            documents: self.stand.documents(),
            state: self.stand.path("state"),
            die: die.map(|record| Point {
                record: record.to_owned(),
                side: Side::After,
            }),
            end_primary: None,
        };
        let mut process = orders.process("drill::killed::life", &self.stand.path("log"));
        let mut child = process.spawn().unwrap();
        let ended = tokio::time::timeout(LONGEST, child.wait()).await;
        ended.unwrap_or_else(|_| panic!("{}", self.log())).unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.stand.path("log")).unwrap_or_default()
    }

    /// The records of its only drill, with their names; the chain is whole.
    fn of_drill(&self) -> Vec<(String, Record)> {
        let file = JournalFile::open_to_read(&self.stand.path("state/journal.sqlite")).unwrap();
        for finding in verify::journal(&file).unwrap() {
            assert_eq!(finding.broken, None);
        }
        let mut names = Names::default();
        let records = file.records(&ServiceName::from("shop"), Seq(1)).unwrap();
        records
            .into_iter()
            .filter_map(|record| Some((name(&mut names, &record.body)?, record)))
            .collect()
    }

    /// What came of its drill, which is over, once, and left nothing.
    fn outcome(&self) -> DrillOutcome {
        let records = self.of_drill();
        let (mut opened, mut outcomes, mut ends) = (0, Vec::new(), Vec::new());
        for (_, record) in &records {
            if let RecordBody::DrillOpened { .. } = &record.body {
                opened += 1;
            } else if let RecordBody::DrillJudged { outcome, .. } = &record.body {
                outcomes.push(*outcome);
            } else if let RecordBody::DrillClosed { left, .. } = &record.body {
                ends.push(left.clone());
            }
        }
        let told: Vec<_> = records.iter().map(|(name, _)| name).collect();
        assert_eq!(
            (opened, outcomes.len(), ends),
            (1, 1, vec![Vec::<String>::new()]),
            "{told:?}"
        );
        outcomes[0]
    }
}

/// What a record is called; none where it is not the drill's.
fn name(names: &mut Names, body: &RecordBody) -> Option<String> {
    let value = serde_json::to_value(body).unwrap();
    let is_its = body.kind().starts_with("drill") || matches!(value["run"], Value::String(_));
    is_its.then(|| names.of(body))
}

/// Lives until its drill is over; or dies before.
#[tokio::test]
async fn life() {
    life::live(LONGEST, async |orders| {
        let life = life::Life::begin(orders, name).await;
        drilled(&life.controller).await;
        life.end().await;
    })
    .await;
}

async fn drilled(controller: &Controller) {
    let shop = ServiceName::from("shop");
    loop {
        let core = controller.show(&shop).await.unwrap();
        let drills = &core.state().drills;
        if drills.open.is_none() && !drills.ended.is_empty() {
            break;
        }
        if drills.open.is_none() {
            let drill = Wish::Drill {
                policy: None,
                by: "ann".into(),
                reason: "a test".to_owned(),
            };
            // Refused until everything was seen to be well.
            drop(controller.command(&shop, drill).await.unwrap());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[expect(clippy::print_stdout, reason = "the count is what the test shows")]
fn say(text: &str) {
    println!("{text}");
}
