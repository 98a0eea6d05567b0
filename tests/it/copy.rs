//! The journal's copy on a real S3 server and in a folder: it follows, is restored, and is overwritten by nobody.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use failover::{
    journal::{
        copy::{Copy, CopyError},
        export,
        file::JournalFile,
        restore::{self, RestoreError},
        sqlite::SqliteJournal,
        verify,
    },
    model::{
        check::CheckStatus,
        id::{Epoch, PersonName, Seq, ServiceName},
        record::RecordBody,
        span::Span,
        time::Time,
    },
    port::{
        journal::{Draft, Journal, JournalError},
        store::{Store, StoreWith},
    },
};

use crate::stand::{clock::HandClock, s3::S3};

const NOON: Time = Time::from_millis(1_700_000_000_000);

/// A journal, the clock that its records' times come from, and the folder it lives in.
struct Desk {
    folder: tempfile::TempDir,
    journal: Arc<SqliteJournal>,
    clock: Arc<HandClock>,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let journal = SqliteJournal::open(&folder.path().join("journal.sqlite")).unwrap();
        Self {
            folder,
            journal: Arc::new(journal),
            clock: HandClock::at(NOON),
        }
    }

    async fn write(&self, chain: &str, notes: impl IntoIterator<Item = String>) {
        let chain = ServiceName::from(chain);
        let after = self.journal.read(&chain, Seq(1)).await.unwrap().len();
        let drafts = notes
            .into_iter()
            .map(|text| Draft {
                epoch: Epoch(1),
                at: failover::port::runtime::Runtime::now(&*self.clock),
                body: RecordBody::Note {
                    by: PersonName::from("ana"),
                    text,
                },
            })
            .collect();
        self.journal
            .append(&chain, Seq(after as u64), drafts)
            .await
            .unwrap();
    }

    fn copy(&self, store: &Store) -> Copy {
        Copy::new(self.journal.clone(), store.clone(), self.clock.clone())
    }

    fn new_file(&self) -> std::path::PathBuf {
        self.folder.path().join("restored.sqlite")
    }
}

fn notes(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("note {n}"))
}

/// The copy's place on the server.
fn bucket(s3: &S3) -> Store {
    s3.with("journal").open(&S3::secrets()).unwrap()
}

fn folder_store(folder: &Path) -> Store {
    let with = StoreWith {
        url: format!("file://{}", folder.display()),
        endpoint: None,
        region: None,
        access_key_id: None,
        secret_access_key: None,
        allow_http: false,
        virtual_host: false,
    };
    with.open(&S3::secrets()).unwrap()
}

async fn follows_and_restores(store: &Store) {
    let desk = Desk::new();
    let copy = desk.copy(store);
    copy.catch_up().await.unwrap();

    desk.write("shop", notes(2500)).await;
    desk.write("bank", notes(1)).await;
    copy.catch_up().await.unwrap();
    desk.write("shop", notes(3)).await;
    copy.catch_up().await.unwrap();
    copy.catch_up().await.unwrap();

    // Another process takes up where this one ends.
    let copy = desk.copy(store);
    desk.write("shop", notes(2)).await;
    copy.catch_up().await.unwrap();
    assert_eq!(copy.lag().records, 0);

    let findings = restore::restore(store, &desk.new_file()).await.unwrap();
    let original = JournalFile::open_to_read(desk.journal.path()).unwrap();
    assert_eq!(findings, verify::journal(&original).unwrap());
    assert_eq!(findings[1].records, 2505);
    let restored = SqliteJournal::open(&desk.new_file()).unwrap();
    for chain in ["bank", "shop"].map(ServiceName::from) {
        assert_eq!(
            restored.read(&chain, Seq(1)).await.unwrap(),
            desk.journal.read(&chain, Seq(1)).await.unwrap()
        );
    }
    assert_ne!(restored.origin(), desk.journal.origin());

    let again = restore::restore(store, &desk.new_file()).await;
    assert!(
        matches!(again, Err(RestoreError::There { .. })),
        "{again:?}"
    );
}

#[tokio::test]
async fn a_bucket_follows_and_gives_the_journal_back() {
    let s3 = S3::start();
    follows_and_restores(&bucket(&s3)).await;
}

#[tokio::test]
async fn a_folder_follows_and_gives_the_journal_back() {
    let folder = tempfile::tempdir().unwrap();
    follows_and_restores(&folder_store(folder.path())).await;
}

#[tokio::test]
async fn an_outage_shows_as_lag_and_is_made_up_for() {
    let s3 = S3::start();
    let desk = Desk::new();
    let copy = desk.copy(&bucket(&s3));
    desk.write("shop", notes(1)).await;
    copy.catch_up().await.unwrap();

    s3.begin_outage();
    desk.write("shop", notes(2)).await;
    desk.clock.turn(Span::from_secs(40));
    desk.write("shop", notes(3)).await;
    assert!(matches!(
        copy.catch_up().await,
        Err(CopyError::Store { .. })
    ));
    desk.clock.turn(Span::from_secs(2));
    let lag = copy.lag();
    assert_eq!((lag.records, lag.time), (5, Span::from_secs(42)));
    assert!(lag.error.unwrap().contains("cannot be reached"));

    s3.end_outage();
    copy.catch_up().await.unwrap();
    assert_eq!(copy.lag(), failover::journal::copy::CopyLag::default());
}

#[tokio::test]
async fn a_copy_that_fails_for_long_is_found_by_the_check() {
    let s3 = S3::start();
    let desk = Desk::new();
    let told = Arc::<Mutex<Vec<(ServiceName, Seq)>>>::default();
    let heard = told.clone();
    let copy = desk.copy(&bucket(&s3)).telling(move |chain, up_to| {
        heard.lock().unwrap().push((chain.clone(), up_to));
    });
    desk.write("shop", notes(2)).await;
    copy.catch_up().await.unwrap();
    assert_eq!(told.lock().unwrap().last(), Some(&("shop".into(), Seq(2))));
    let found = async || {
        let items = copy.check().await;
        let lag = items.into_iter().find(|i| i.name == "journal/copy-lag");
        lag.unwrap()
    };
    assert_eq!(found().await.status, CheckStatus::Ok);

    // The key was revoked, or the bucket is gone: that is not over after a while.
    s3.begin_outage();
    desk.write("shop", notes(3)).await;
    copy.catch_up().await.unwrap_err();
    assert_eq!(found().await.status, CheckStatus::Warn);
    desk.clock.turn(Span::from_secs(301));
    let late = found().await;
    assert_eq!(late.status, CheckStatus::Fail);
    assert!(late.detail.starts_with("3 records"), "{}", late.detail);

    s3.end_outage();
    copy.catch_up().await.unwrap();
    assert_eq!(found().await.status, CheckStatus::Ok);
    assert_eq!(told.lock().unwrap().last(), Some(&("shop".into(), Seq(5))));
}

#[tokio::test]
async fn an_answer_that_was_lost_costs_nothing() {
    let s3 = S3::start();
    let store = bucket(&s3);
    let desk = Desk::new();
    desk.write("shop", notes(1)).await;
    let (one, two) = (desk.copy(&store), desk.copy(&store));
    one.catch_up().await.unwrap();
    two.catch_up().await.unwrap();

    // Segment 2 is in place, and `two` does not know of it.
    desk.write("shop", notes(1)).await;
    one.catch_up().await.unwrap();
    desk.write("shop", notes(1)).await;
    two.catch_up().await.unwrap();
    assert_eq!(two.lag().records, 0);
    let chains = restore::read_back(&store).await.unwrap();
    assert_eq!(chains[0].lines.len(), 3);
}

#[tokio::test]
async fn another_journal_cannot_write_into_a_copy() {
    let s3 = S3::start();
    let store = bucket(&s3);
    let (desk, other) = (Desk::new(), Desk::new());
    // Three records in common, then each goes its own way while both follow.
    desk.write("shop", notes(3)).await;
    other.write("shop", notes(3)).await;
    let (copy, intruder) = (desk.copy(&store), other.copy(&store));
    copy.catch_up().await.unwrap();
    intruder.catch_up().await.unwrap();

    desk.write("shop", ["ours".to_owned()]).await;
    other.write("shop", ["theirs".to_owned()]).await;
    copy.catch_up().await.unwrap();
    for intruder in [intruder, other.copy(&store)] {
        let refused = intruder.catch_up().await;
        assert!(
            matches!(refused, Err(CopyError::Foreign { seq: Seq(4), .. })),
            "{refused:?}"
        );
    }

    // A journal that was lost and begun anew is another journal too.
    let empty = Desk::new();
    empty.write("shop", ["first".to_owned()]).await;
    let refused = empty.copy(&store).catch_up().await;
    assert!(
        matches!(refused, Err(CopyError::Foreign { .. })),
        "{refused:?}"
    );

    desk.write("shop", notes(1)).await;
    copy.catch_up().await.unwrap();
    let chains = restore::read_back(&store).await.unwrap();
    assert_eq!(chains[0].lines.len(), 5);
    assert!(chains[0].lines[3].text.contains("ours"));
}

#[tokio::test]
async fn a_copy_that_was_tampered_with_is_not_restored() {
    let second = "journal/shop/00000000000000000003.jsonl";
    for (forged, breaks_at) in [(Some("nope 1"), 4), (None, 3)] {
        let s3 = S3::start();
        let store = bucket(&s3);
        let desk = Desk::new();
        let copy = desk.copy(&store);
        for _ in 0..3 {
            desk.write("shop", notes(2)).await;
            copy.catch_up().await.unwrap();
        }
        let text = String::from_utf8(s3.object(second).unwrap()).unwrap();
        match forged {
            Some(note) => s3.put(second, text.replace("note 1", note).as_bytes()),
            None => s3.remove(second),
        }
        match restore::restore(&store, &desk.new_file()).await {
            Err(RestoreError::Chain {
                source: JournalError::Broken { seq, .. },
                ..
            }) => assert_eq!(seq, Seq(breaks_at), "{forged:?}"),
            other => panic!("{other:?}"),
        }
        assert!(!desk.new_file().exists());
    }
}

#[tokio::test]
async fn check_tells_a_store_that_works_from_one_that_does_not() {
    let s3 = S3::start();
    let desk = Desk::new();
    let right = desk.copy(&bucket(&s3));
    for _ in 0..2 {
        assert_eq!(right.check().await[0].status, CheckStatus::Ok);
    }
    let wrong = desk.copy(&s3.with("journal").open(&S3::wrong_secrets()).unwrap());
    let items = wrong.check().await;
    assert_eq!(items[0].status, CheckStatus::Fail);
    assert!(
        !items[0].detail.contains("another-secret"),
        "{}",
        items[0].detail
    );
    assert!(restore::read_back(&bucket(&s3)).await.unwrap().is_empty());
}

#[tokio::test]
async fn follows_by_itself_through_an_outage() {
    let s3 = S3::start();
    let store = bucket(&s3);
    let desk = Desk::new();
    let copy = Arc::new(desk.copy(&store));
    let following = tokio::spawn({
        let copy = copy.clone();
        async move { copy.follow().await }
    });
    s3.begin_outage();
    desk.write("shop", notes(4)).await;
    turn_until(&desk.clock, || copy.lag().error.is_some()).await;
    s3.end_outage();
    turn_until(&desk.clock, || {
        s3.object("journal/shop/00000000000000000001.jsonl")
            .is_some()
            && copy.lag().records == 0
    })
    .await;
    following.abort();
    assert_eq!(restore::read_back(&store).await.unwrap()[0].lines.len(), 4);
}

/// A journal that was restored from the copy elsewhere, and taken over.
async fn taken_over(desk: &Desk, store: &Store, reason: &str) -> Arc<SqliteJournal> {
    let file = desk.folder.path().join("elsewhere.sqlite");
    restore::restore(store, &file).await.unwrap();
    let journal = Arc::new(SqliteJournal::open(&file).unwrap());
    let shop = ServiceName::from("shop");
    let after = journal.read(&shop, Seq(1)).await.unwrap().len();
    let draft = Draft {
        epoch: Epoch(2),
        at: NOON,
        body: RecordBody::TakenOver {
            epoch: Epoch(2),
            by: PersonName::from("ann"),
            reason: reason.to_owned(),
        },
    };
    journal
        .append(&shop, Seq(after as u64), vec![draft])
        .await
        .unwrap();
    journal
}

#[tokio::test]
async fn a_copy_that_was_taken_over_lets_the_old_controller_do_nothing() {
    let s3 = S3::start();
    let store = bucket(&s3);
    let desk = Desk::new();
    let shop = ServiceName::from("shop");
    let (old, idle) = (desk.copy(&store), desk.copy(&store));
    desk.write("shop", notes(3)).await;
    old.catch_up().await.unwrap();
    idle.catch_up().await.unwrap();
    old.confirm(&shop).await.unwrap();

    let journal = taken_over(&desk, &store, "a fire").await;
    let new = Copy::new(journal, store.clone(), desk.clock.clone());
    new.catch_up().await.unwrap();
    new.confirm(&shop).await.unwrap();

    // Nobody takes over and acts within a moment; after that the store is asked, also where nothing new was written.
    old.confirm(&shop).await.unwrap();
    desk.clock.turn(Span::from_secs(11));
    let quiet = desk.copy(&store);
    assert!(
        quiet.confirm(&shop).await.is_err(),
        "nothing of it was copied by itself"
    );
    desk.clock.turn(Span::from_secs(50));
    let succession = idle.follow().await;
    assert_eq!(succession.epoch, Epoch(2));
    assert_eq!(succession.by, PersonName::from("ann"));
    assert!(succession.to_string().contains("a fire"), "{succession}");

    desk.write("shop", ["an intent".to_owned()]).await;
    assert_eq!(old.confirm(&shop).await, Err(succession.clone()));
    // It stays so, whether the store answers or not.
    s3.begin_outage();
    assert_eq!(old.confirm(&shop).await, Err(succession.clone()));
    s3.end_outage();
    let restarted = desk.copy(&store).catch_up().await;
    assert!(
        matches!(&restarted, Err(CopyError::TakenOver(found)) if *found == succession),
        "{restarted:?}"
    );
    assert!(!desk.new_file().exists());
    restore::restore(&store, &desk.new_file()).await.unwrap();
}

#[tokio::test]
async fn who_takes_over_while_the_other_still_writes_is_refused() {
    let store_folder = tempfile::tempdir().unwrap();
    let store = folder_store(store_folder.path());
    let desk = Desk::new();
    let old = desk.copy(&store);
    desk.write("shop", notes(3)).await;
    old.catch_up().await.unwrap();
    let journal = taken_over(&desk, &store, "a mistake").await;
    desk.write("shop", notes(1)).await;
    old.catch_up().await.unwrap();

    let new = Copy::new(journal, store.clone(), desk.clock.clone());
    let refused = new.claim().await;
    assert!(
        matches!(refused, Err(CopyError::StillWritten { .. })),
        "{refused:?}"
    );
    desk.clock.turn(Span::from_secs(61));
    old.confirm(&ServiceName::from("shop")).await.unwrap();
}

#[tokio::test]
async fn a_store_that_does_not_answer_holds_nothing_back() {
    let s3 = S3::start();
    let desk = Desk::new();
    let copy = desk.copy(&bucket(&s3));
    desk.write("shop", notes(3)).await;
    copy.catch_up().await.unwrap();
    s3.begin_outage();
    desk.write("shop", notes(1)).await;
    desk.clock.turn(Span::from_secs(61));
    let shop = ServiceName::from("shop");
    let asked = copy.confirm(&shop);
    let passing = async {
        loop {
            desk.clock.turn(Span::from_millis(100));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        confirmed = asked => confirmed.unwrap(),
        () = passing => unreachable!("time passes for ever"),
    }
}

/// Lets time pass until something is seen, at most ten real seconds.
async fn turn_until(clock: &HandClock, seen: impl Fn() -> bool) {
    let patience = tokio::time::timeout(Duration::from_secs(10), async {
        while !seen() {
            clock.turn(Span::from_secs(1));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    patience.await.expect("it was never seen");
}

#[tokio::test]
async fn an_export_proves_itself() {
    let desk = Desk::new();
    desk.write("shop", notes(4)).await;
    desk.write("bank", notes(2)).await;
    let file = JournalFile::open_to_read(desk.journal.path()).unwrap();
    let mut text = Vec::new();
    let chains = ["shop", "bank"].map(ServiceName::from);
    assert_eq!(export::write(&file, &chains, &mut text).unwrap(), 6);

    let findings = verify::export(&mut &text[..]).unwrap();
    assert_eq!(findings, verify::journal(&file).unwrap());
    assert!(findings.iter().all(|f| f.broken.is_none()));
    assert_eq!(findings[1].records, 4);

    let text = String::from_utf8(text).unwrap();
    let forged = text.replacen("note 2", "note 9", 1);
    let findings = verify::export(&mut forged.as_bytes()).unwrap();
    assert_eq!(findings[1].records, 2);
    assert_eq!(findings[1].broken.as_ref().unwrap().seq, Seq(3));
    assert!(findings[0].broken.is_none());
}

#[tokio::test]
async fn a_broken_journal_is_verified_up_to_its_break_and_still_exported() {
    let desk = Desk::new();
    desk.write("shop", notes(4)).await;
    let changed = desk.folder.path().join("changed.sqlite");
    fs::write(&changed, []).unwrap();
    let original = JournalFile::open_to_read(desk.journal.path()).unwrap();
    let mut lines = original.lines(&"shop".into(), Seq(1), 9).unwrap();
    lines[2].text = lines[2].text.replace("note 2", "note 9");
    let shop = ServiceName::from("shop");
    let mut file = JournalFile::open(&changed).unwrap();
    file.append(lines.iter().map(|l| (&shop, l))).unwrap();

    let findings = verify::journal(&file).unwrap();
    assert_eq!(findings[0].records, 2);
    assert_eq!(findings[0].broken.as_ref().unwrap().seq, Seq(3));
    let mut text = Vec::new();
    assert_eq!(export::write(&file, &[shop], &mut text).unwrap(), 4);
}
