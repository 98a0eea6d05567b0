//! The journal: durable, chained, one writer, and what a full disk does to it.

use std::{path::Path, sync::Arc};

use failover::{
    journal::{file::JournalFile, memory::MemoryJournal, sqlite::SqliteJournal},
    model::{
        id::{Epoch, PersonName, Seq, ServiceName},
        record::{Record, RecordBody},
        time::Time,
    },
    port::journal::{Draft, Journal, JournalError, Lines},
};
use futures::future::join_all;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use rusqlite::Connection;

use crate::stand::{disk::SmallDisk, s3::S3};

fn shop() -> ServiceName {
    "shop".into()
}

fn note(text: impl Into<String>) -> Draft {
    Draft {
        epoch: Epoch(1),
        at: Time::from_millis(1_700_000_000_000),
        body: RecordBody::Note {
            by: PersonName::from("ana"),
            text: text.into(),
        },
    }
}

fn text(record: &Record) -> &str {
    let RecordBody::Note { text, .. } = &record.body else {
        panic!("a {} where only notes were written", record.body.kind());
    };
    text
}

fn texts(records: &[Record]) -> Vec<&str> {
    records.iter().map(text).collect()
}

async fn write(
    journal: &dyn Journal,
    after: u64,
    notes: &[&str],
) -> Result<Vec<Record>, JournalError> {
    let drafts = notes.iter().map(|t| note(*t)).collect();
    journal.append(&shop(), Seq(after), drafts).await
}

/// What every journal promises, whatever it is kept in.
async fn keeps_its_promises(journal: &dyn Journal, lines: &dyn Lines) {
    assert!(journal.read(&shop(), Seq(1)).await.unwrap().is_empty());
    let written = write(journal, 0, &["a", "b"]).await.unwrap();
    assert_eq!(written[1].seq, Seq(2));
    write(journal, 2, &["c"]).await.unwrap();

    let read = journal.read(&shop(), Seq(1)).await.unwrap();
    assert_eq!(texts(&read), ["a", "b", "c"]);
    assert_eq!(read[..2], written[..]);
    assert_eq!(texts(&journal.read(&shop(), Seq(3)).await.unwrap()), ["c"]);
    assert!(journal.read(&shop(), Seq(4)).await.unwrap().is_empty());
    assert!(journal.read(&shop(), Seq(9)).await.unwrap().is_empty());

    for stale in [0, 2, 4] {
        let refused = write(journal, stale, &["x", "y"]).await;
        assert!(
            matches!(refused, Err(JournalError::Conflict { .. })),
            "after {stale}: {refused:?}"
        );
    }
    assert_eq!(journal.read(&shop(), Seq(1)).await.unwrap().len(), 3);

    let bank = ServiceName::from("bank");
    journal
        .append(&bank, Seq(0), vec![note("z")])
        .await
        .unwrap();
    assert_eq!(journal.chains().await.unwrap(), [bank.clone(), shop()]);
    assert_eq!(
        lines.heads().await.unwrap(),
        [(bank, Seq(1)), (shop(), Seq(3))]
    );
    let two = lines.lines(&shop(), Seq(2), 2).await.unwrap();
    assert_eq!(
        two.iter().map(|l| l.seq).collect::<Vec<_>>(),
        [Seq(2), Seq(3)]
    );
    assert_eq!(two[0].text, serde_json::to_string(&read[1]).unwrap());
    assert_eq!(read[2].prev, two[0].hash);
}

#[tokio::test]
async fn sqlite_keeps_its_promises() {
    let folder = tempfile::tempdir().unwrap();
    let journal = SqliteJournal::open(&folder.path().join("journal.sqlite")).unwrap();
    keeps_its_promises(&journal, &journal).await;
}

#[tokio::test]
async fn memory_keeps_its_promises() {
    let journal = MemoryJournal::new();
    keeps_its_promises(&journal, &journal).await;
}

#[tokio::test]
async fn goes_on_where_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    let journal = SqliteJournal::open(&path).unwrap();
    write(&journal, 0, &["a", "b"]).await.unwrap();
    let origin = journal.origin().clone();
    drop(journal);

    let journal = SqliteJournal::open(&path).unwrap();
    assert_eq!(journal.origin(), &origin);
    assert!(journal.origin().is_here());
    write(&journal, 2, &["c"]).await.unwrap();
    let read = journal.read(&shop(), Seq(1)).await.unwrap();
    assert_eq!(texts(&read), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_second_controller_is_kept_out_and_a_reader_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    let journal = SqliteJournal::open(&path).unwrap();
    write(&journal, 0, &["a"]).await.unwrap();

    let second = SqliteJournal::open(&path);
    assert!(
        matches!(second, Err(JournalError::Locked { .. })),
        "{second:?}"
    );

    let reader = JournalFile::open_to_read(&path).unwrap();
    assert_eq!(reader.records(&shop(), Seq(1)).unwrap().len(), 1);
    write(&journal, 1, &["b"]).await.unwrap();
    assert_eq!(texts(&reader.records(&shop(), Seq(1)).unwrap()), ["a", "b"]);
}

#[tokio::test]
async fn a_crowd_on_one_chain_loses_nothing_and_writes_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Arc::new(SqliteJournal::open(&folder.path().join("journal.sqlite")).unwrap());
    let tries = (0..50).map(|n| {
        let journal = journal.clone();
        async move {
            let mut after = 0;
            while let Err(e) = write(&*journal, after, &[&format!("{n}a"), &format!("{n}b")]).await
            {
                assert!(matches!(e, JournalError::Conflict { .. }), "{e}");
                after = journal.read(&shop(), Seq(1)).await.unwrap().len() as u64;
            }
        }
    });
    join_all(tries).await;

    let read = journal.read(&shop(), Seq(1)).await.unwrap();
    let mut pairs: Vec<&str> = texts(&read)
        .chunks(2)
        .map(|pair| {
            let (a, b) = (
                pair[0].strip_suffix('a').unwrap(),
                pair[1].strip_suffix('b').unwrap(),
            );
            assert_eq!(a, b, "an append was torn");
            a
        })
        .collect();
    pairs.sort_unstable();
    pairs.dedup();
    assert_eq!(pairs.len(), 50);
}

/// Changes a journal's file as somebody with a tool could.
fn tamper(path: &Path, sql: &str) {
    let sqlite = Connection::open(path).unwrap();
    sqlite
        .execute_batch("DROP TRIGGER record_stays; DROP TRIGGER record_remains;")
        .unwrap();
    assert_eq!(sqlite.execute(sql, []).unwrap(), 1);
}

async fn three(path: &Path) {
    let journal = SqliteJournal::open(path).unwrap();
    write(&journal, 0, &["a", "b", "c"]).await.unwrap();
}

#[tokio::test]
async fn a_changed_or_deleted_record_is_found() {
    for (sql, at) in [
        (
            "UPDATE record SET line = replace(line, '\"b\"', '\"B\"') WHERE seq = 2",
            2,
        ),
        (
            "UPDATE record SET hash = replace(hash, 'a', 'b') WHERE seq = 2",
            2,
        ),
        ("DELETE FROM record WHERE seq = 2", 2),
        ("DELETE FROM record WHERE seq = 1", 1),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.sqlite");
        three(&path).await;
        tamper(&path, sql);
        let journal = SqliteJournal::open(&path).unwrap();
        match journal.read(&shop(), Seq(1)).await {
            Err(JournalError::Broken { seq, .. }) => assert_eq!(seq, Seq(at), "{sql}"),
            other => panic!("{sql}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn nothing_is_appended_behind_a_record_that_was_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    three(&path).await;
    tamper(
        &path,
        "UPDATE record SET line = replace(line, '\"c\"', '\"C\"') WHERE seq = 3",
    );
    let journal = SqliteJournal::open(&path).unwrap();
    let refused = write(&journal, 3, &["d"]).await;
    assert!(
        matches!(refused, Err(JournalError::Broken { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn records_cannot_be_changed_by_accident() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    three(&path).await;
    let sqlite = Connection::open(&path).unwrap();
    assert!(
        sqlite
            .execute("UPDATE record SET seq = 9 WHERE seq = 3", [])
            .is_err()
    );
    assert!(sqlite.execute("DELETE FROM record", []).is_err());
}

#[tokio::test]
async fn a_newer_file_is_refused_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    three(&path).await;
    Connection::open(&path)
        .unwrap()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    let refused = SqliteJournal::open(&path);
    assert!(
        matches!(refused, Err(JournalError::Newer { found: 99, .. })),
        "{refused:?}"
    );
    let refused = JournalFile::open_to_read(&path);
    assert!(
        matches!(refused, Err(JournalError::Newer { found: 99, .. })),
        "{refused:?}"
    );
}

#[test]
fn a_file_that_is_no_journal_is_refused_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    std::fs::write(
        &path,
        "not a database, and long enough to be looked at as one",
    )
    .unwrap();
    assert!(matches!(
        SqliteJournal::open(&path),
        Err(JournalError::Io { .. })
    ));
    assert!(
        std::fs::read_to_string(&path)
            .unwrap()
            .starts_with("not a database")
    );

    let other = folder.path().join("other.sqlite");
    Connection::open(&other)
        .unwrap()
        .execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1);")
        .unwrap();
    assert!(matches!(
        SqliteJournal::open(&other),
        Err(JournalError::Io { .. })
    ));
    let rows: i64 = Connection::open(&other)
        .unwrap()
        .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 1);
}

/// Appends one note after another until the disk is full; how many were written in the end.
async fn write_until_full(journal: &SqliteJournal, mut after: u64) -> u64 {
    loop {
        match write(journal, after, &[&"x".repeat(1000)]).await {
            Ok(_) => after += 1,
            Err(JournalError::Full { .. }) => return after,
            Err(e) => panic!("after {after}: {e:?}"),
        }
    }
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_the_journal_goes_on_when_there_is_room() {
    let disk = SmallDisk::new(4096);
    let path = disk.path().join("journal.sqlite");
    let journal = SqliteJournal::open(&path).unwrap();
    write(&journal, 0, &["a"]).await.unwrap();
    disk.fill();
    let written = write_until_full(&journal, 1).await;
    for _ in 0..3 {
        let refused = write(&journal, written, &["y", "z"]).await;
        assert!(
            matches!(refused, Err(JournalError::Full { .. })),
            "{refused:?}"
        );
    }
    let read = journal.read(&shop(), Seq(1)).await.unwrap();
    assert_eq!(read.len() as u64, written);

    disk.free();
    write(&journal, written, &["b"]).await.unwrap();
    disk.fill();
    let written = write_until_full(&journal, written + 1).await;
    drop(journal);

    disk.free();
    let journal = SqliteJournal::open(&path).unwrap();
    let read = journal.read(&shop(), Seq(1)).await.unwrap();
    assert_eq!(read.len() as u64, written);
    write(&journal, written, &["c"]).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_under_a_start_is_called_by_its_name() {
    let disk = SmallDisk::new(1024);
    disk.fill();
    let path = disk.path().join("journal.sqlite");
    let refused = SqliteJournal::open(&path);
    assert!(
        matches!(refused, Err(JournalError::Full { .. })),
        "{refused:?}"
    );

    disk.free();
    let journal = SqliteJournal::open(&path).unwrap();
    write(&journal, 0, &["a"]).await.unwrap();
    drop(journal);
    disk.fill();
    match SqliteJournal::open(&path) {
        Err(JournalError::Full { .. }) => {}
        Err(e) => panic!("{e:?}"),
        Ok(journal) => {
            let read = journal.read(&shop(), Seq(1)).await.unwrap();
            assert_eq!(texts(&read), ["a"]);
            write_until_full(&journal, 1).await;
        }
    }
    disk.free();
    let journal = SqliteJournal::open(&path).unwrap();
    assert!(!journal.read(&shop(), Seq(1)).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_journal_on_a_read_only_disk_can_be_looked_at() {
    let disk = SmallDisk::new(1024);
    let path = disk.path().join("journal of ?100%.sqlite");
    three(&path).await;
    disk.make_read_only();
    let file = JournalFile::open_to_read(&path).unwrap();
    assert_eq!(
        texts(&file.records(&shop(), Seq(1)).unwrap()),
        ["a", "b", "c"]
    );
    assert!(matches!(
        SqliteJournal::open(&path),
        Err(JournalError::Io { .. })
    ));
}

#[tokio::test]
async fn a_bucket_takes_an_object_once_and_only_with_the_right_key() {
    let s3 = S3::start();
    let store = s3.with("shop").open(&S3::secrets()).unwrap();
    let path = store.prefix.clone().join("1.jsonl");
    let create = || PutOptions::from(PutMode::Create);
    let put = |text: &'static str| {
        store
            .objects
            .put_opts(&path, PutPayload::from_static(text.as_bytes()), create())
    };
    put("one").await.unwrap();
    let again = put("two").await;
    assert!(
        matches!(again, Err(object_store::Error::AlreadyExists { .. })),
        "{again:?}"
    );
    assert_eq!(s3.object("shop/1.jsonl").unwrap(), b"one");

    s3.begin_outage();
    assert!(store.objects.get(&path).await.is_err());
    s3.end_outage();
    s3.put("shop/1.jsonl", b"three");
    assert_eq!(
        store
            .objects
            .get(&path)
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap(),
        "three"
    );
    s3.remove("shop/1.jsonl");
    let gone = store.objects.get(&path).await;
    assert!(
        matches!(gone, Err(object_store::Error::NotFound { .. })),
        "{gone:?}"
    );

    let stranger = s3.with("shop").open(&S3::wrong_secrets()).unwrap();
    assert!(stranger.objects.get(&path).await.is_err());
}
