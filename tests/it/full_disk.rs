//! The disk under the journal, and under everything else that the controller keeps, is full while the primary goes
//! down: nothing is done, the team is told, and nothing that was recorded is lost.

use std::sync::Arc;

use failover::{
    announce::ledger::SqliteLedger,
    decide::event::{Command, Reply},
    driver::{
        clock::HostRuntime,
        controller::{CommandError, Controller, Ends, Means},
        metrics::Metrics,
        registry::kinds,
    },
    journal::{file::JournalFile, sqlite::SqliteJournal, verify},
    model::{
        id::{Seq, ServiceName},
        observation::Sight,
        record::RecordBody,
        verdict::Verdict,
    },
    port::secret::HostSecrets,
    publish::listener::Pages,
};
use futures::StreamExt;

use crate::{
    kill::world::World,
    stand::{bind::Bind, disk::SmallDisk, patience::until},
};

fn shop() -> ServiceName {
    "shop".into()
}

async fn start(world: &World, disk: &SmallDisk) -> (Arc<Controller>, Ends) {
    let runtime = Arc::new(HostRuntime::new());
    let means = Means {
        kinds: kinds(),
        journal: Arc::new(SqliteJournal::open(&disk.path().join("journal.sqlite")).unwrap()),
        leader: None,
        copy: None,
        ledger: Arc::new(SqliteLedger::open(&disk.path().join("ledger.sqlite")).unwrap()),
        runtime: runtime.clone(),
        secrets: Arc::new(HostSecrets),
        state: disk.path().to_owned(),
        metrics: Arc::new(Metrics::new(runtime, "test")),
        guards: None,
        pages: Pages::default(),
        upkeep: false,
    };
    Controller::start(world.services(), means).await.unwrap()
}

async fn stop(controller: Arc<Controller>, mut ends: Ends) {
    controller.stop();
    let (_, end) = ends.next().await.unwrap();
    end.unwrap();
}

async fn note(controller: &Controller, text: &str) -> Result<Reply, CommandError> {
    let note = Command::Note {
        by: "ann".into(),
        text: text.to_owned(),
    };
    controller.command(&shop(), note).await
}

async fn verdict(controller: &Controller) -> Option<Verdict> {
    let core = controller.show(&shop()).await.unwrap();
    core.state().verdicts.get(&"app".into()).map(|v| v.0)
}

/// Whether every vantage point sees the primary down.
async fn seen_down(controller: &Controller) -> bool {
    let core = controller.show(&shop()).await.unwrap();
    let primary = "app-a".into();
    let mut says = core.view().voices_of(&primary).map(|v| v.says.sight());
    says.all(|sight| sight == Sight::Down)
}

fn titles(world: &World) -> Vec<String> {
    let taken = world.pager.seen.lock().unwrap().taken.clone();
    let titles = taken.iter().map(|page| page["data"]["title"].as_str());
    titles.map(|title| title.unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_nothing_is_done_but_telling_the_team() {
    let bind = Bind::with_zones(&["full.test".to_owned()]).await;
    let world = World::new(bind.address, "full.test").await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let disk = SmallDisk::new(4096);
    let (controller, ends) = start(&world, &disk).await;
    until("the primary is seen to be well", async || {
        verdict(&controller).await == Some(Verdict::Healthy)
    })
    .await;

    disk.fill();
    let mut kept = Vec::new();
    // What SQLite had reserved before is still used up.
    let refused = loop {
        let text = format!("note {}", kept.len());
        match note(&controller, &text).await {
            Ok(_) => kept.push(text),
            Err(refused) => break refused,
        }
    };
    assert!(
        matches!(&refused, CommandError::Journal(reason) if reason.contains("disk is full")),
        "{refused}"
    );
    until("the team is told", async || {
        titles(&world) == ["Shop: the journal cannot be written"]
    })
    .await;

    world.end_primary().await;
    until("the outage is seen", async || seen_down(&controller).await).await;
    // A loop that shows itself after that has decided on what was seen, and has done nothing.
    assert_eq!(verdict(&controller).await, Some(Verdict::Healthy));
    assert!(note(&controller, "after the outage").await.is_err());
    assert!(world.fences().is_empty() && world.promotions().is_empty());
    assert_eq!(world.x.asked(), 0);

    // One that is started again on a full disk loses nothing either, and goes on once there is room.
    stop(controller, ends).await;
    disk.free();
    let (controller, ends) = start(&world, &disk).await;
    until("a person is asked", async || {
        titles(&world)
            .iter()
            .any(|t| t.starts_with("Shop: your answer is needed"))
    })
    .await;
    stop(controller, ends).await;

    let file = JournalFile::open_to_read(&disk.path().join("journal.sqlite")).unwrap();
    let findings = verify::journal(&file).unwrap();
    assert!(findings.iter().all(|f| f.broken.is_none()), "{findings:?}");
    let records = file.records(&shop(), Seq(1)).unwrap();
    let notes: Vec<&str> = records
        .iter()
        .filter_map(|r| {
            let RecordBody::Note { text, .. } = &r.body else {
                return None;
            };
            Some(text.as_str())
        })
        .collect();
    assert_eq!(notes, kept);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_there_is_room_again_the_controller_goes_on_and_says_how_long_it_could_not() {
    let bind = Bind::with_zones(&["room.test".to_owned()]).await;
    let world = World::new(bind.address, "room.test").await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let disk = SmallDisk::new(4096);
    let (controller, ends) = start(&world, &disk).await;
    until("the primary is seen to be well", async || {
        verdict(&controller).await == Some(Verdict::Healthy)
    })
    .await;
    disk.fill();
    while note(&controller, "still room").await.is_ok() {}
    world.end_primary().await;
    until("the outage is seen", async || seen_down(&controller).await).await;

    disk.free();
    until("a person is asked", async || {
        titles(&world)
            .iter()
            .any(|t| t.starts_with("Shop: your answer is needed"))
    })
    .await;
    stop(controller, ends).await;
    let file = JournalFile::open_to_read(&disk.path().join("journal.sqlite")).unwrap();
    let records = file.records(&shop(), Seq(1)).unwrap();
    let kinds: Vec<&str> = records
        .iter()
        .map(|r| r.body.kind())
        .skip_while(|kind| *kind != "journalResumed")
        .collect();
    assert!(kinds.contains(&"incidentOpened"), "{kinds:?}");
    let RecordBody::JournalResumed { reason, .. } = &records[records.len() - kinds.len()].body
    else {
        panic!("{kinds:?}");
    };
    assert!(reason.contains("disk is full"), "{reason}");
}
