//! The controller dies by SIGKILL right after each record of a drill that copies and promotes a real standby, and is
//! started again. Then the drill is over, nothing of it is left, and the pair is as it was.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use failover::{
    announce::ledger::SqliteLedger,
    decide::event::Command as Wish,
    drill,
    driver::{
        clock::HostRuntime,
        controller::{Controller, Means},
        metrics::Metrics,
        registry::kinds,
    },
    journal::{file::JournalFile, sqlite::SqliteJournal, verify},
    model::{
        drill::DrillOutcome,
        id::{Seq, ServiceName},
        record::{Record, RecordBody},
    },
    port::{
        journal::{Draft, Journal, JournalError},
        secret::HostSecrets,
    },
    publish::listener::Pages,
    spec,
};
use futures::{FutureExt, StreamExt, future::join_all};
use nix::{
    sys::signal::{Signal, kill},
    unistd::getpid,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{process::Command, sync::Mutex};

use super::{documents::documents, postgres};
use crate::{
    kill::point::Names,
    stand::{controller::Stand, postgres::Pair},
};

/// Pairs that are drilled side by side: most of a story is waiting.
const AT_ONCE: usize = 3;
/// The variable that holds the [`Orders`].
const ORDERS: &str = "FAILOVER_TEST_DRILL";
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
            die: die.map(ToOwned::to_owned),
        };
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.stand.path("log"))
            .unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "drill::killed::life", "--nocapture"])
            .env(ORDERS, serde_json::to_string(&orders).unwrap())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
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

/// What a life is to do.
#[derive(Debug, Serialize, Deserialize)]
struct Orders {
    documents: PathBuf,
    state: PathBuf,
    die: Option<String>,
}

/// Lives until its drill is over; or dies before. Without orders there is nothing to live for.
#[tokio::test]
async fn life() {
    let Ok(orders) = std::env::var(ORDERS) else {
        return;
    };
    let orders: Orders = serde_json::from_str(&orders).unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    tokio::time::timeout(LONGEST, live(orders))
        .await
        .expect("the drill does not come to its end");
}

async fn live(orders: Orders) {
    let loaded = spec::load(&[orders.documents], kinds());
    assert!(loaded.is_usable(), "{:#?}", loaded.diagnostics);
    let runtime = Arc::new(HostRuntime::new());
    let means = Means {
        kinds: kinds(),
        journal: Arc::new(Deadly {
            journal: SqliteJournal::open(&orders.state.join("journal.sqlite")).unwrap(),
            die: orders.die,
            names: Mutex::default(),
        }),
        leader: None,
        copy: None,
        ledger: Arc::new(SqliteLedger::open(&orders.state.join("ledger.sqlite")).unwrap()),
        runtime: runtime.clone(),
        secrets: Arc::new(HostSecrets),
        state: orders.state,
        metrics: Arc::new(Metrics::new(runtime, "test")),
        guards: None,
        pages: Pages::default(),
        upkeep: true,
    };
    let (controller, mut ends) = Controller::start(loaded.services, means).await.unwrap();
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
    controller.stop();
    let (_, end) = ends.next().await.unwrap();
    end.unwrap();
}

/// A journal that is the death of its process, right after a record is durable and before anybody is told.
struct Deadly {
    journal: SqliteJournal,
    die: Option<String>,
    names: Mutex<Names>,
}

#[async_trait]
impl Journal for Deadly {
    async fn append(
        &self,
        chain: &ServiceName,
        after: Seq,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Record>, JournalError> {
        let mut names = self.names.lock().await;
        let called: Vec<_> = drafts.iter().map(|d| name(&mut names, &d.body)).collect();
        drop(names);
        let appended = self.journal.append(chain, after, drafts).await;
        if self.die.is_some() && called.contains(&self.die) {
            kill(getpid(), Signal::SIGKILL).unwrap();
            unreachable!("SIGKILL cannot be survived");
        }
        appended
    }

    async fn read(&self, chain: &ServiceName, from: Seq) -> Result<Vec<Record>, JournalError> {
        self.journal.read(chain, from).await
    }

    async fn chains(&self) -> Result<Vec<ServiceName>, JournalError> {
        self.journal.chains().await
    }
}

#[expect(clippy::print_stdout, reason = "the count is what the test shows")]
fn say(text: &str) {
    println!("{text}");
}
