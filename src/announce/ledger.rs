//! The ledger on SQLite: who was told what, in a file of its own, because it holds addresses.
//!
//! One thread writes: what waits for it when it turns to its inbox is committed together, so that the marks of many
//! workers share one fsync. Another thread reads what is committed. Addresses are compared without regard to case:
//! nobody who asked to be left alone is written to because of a capital letter.

use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver, Sender},
    thread::{self, JoinHandle},
    time::Duration,
};

use async_trait::async_trait;
use futures::channel::oneshot;
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};

use crate::{
    model::{
        announcement::Tally,
        id::{ChannelName, ServiceName},
        time::Time,
    },
    port::{
        channel::Recipient,
        ledger::{Delivery, Ledger, LedgerError, Mailing},
    },
};

/// Format of the file that this build writes (`PRAGMA user_version`). A newer one is refused.
const FILE_FORMAT: u32 = 1;

/// How long to wait for somebody who has the file open for writing with a tool.
const BUSY: Duration = Duration::from_secs(5);

/// The most calls that one commit takes in; bounds how long the first of them waits.
const GROUP: usize = 512;

const SCHEMA: &str = "
    CREATE TABLE mailing (
        id INTEGER PRIMARY KEY,
        service TEXT NOT NULL,
        message TEXT NOT NULL,
        channel TEXT NOT NULL,
        UNIQUE (service, message, channel)
    ) STRICT;
    CREATE TABLE delivery (
        id INTEGER PRIMARY KEY,
        mailing INTEGER NOT NULL REFERENCES mailing,
        recipient TEXT NOT NULL COLLATE NOCASE,
        state TEXT NOT NULL,
        detail TEXT NOT NULL,
        at TEXT NOT NULL,
        UNIQUE (mailing, recipient)
    ) STRICT;
    CREATE INDEX delivery_state ON delivery (mailing, state);
    CREATE INDEX delivery_at ON delivery (at);
    CREATE TABLE suppression (
        service TEXT NOT NULL,
        recipient TEXT NOT NULL COLLATE NOCASE,
        reason TEXT NOT NULL,
        at TEXT NOT NULL,
        PRIMARY KEY (service, recipient)
    ) STRICT, WITHOUT ROWID;
";

/// Why the file is of no use.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error(
        "the ledger has format {found}, this version knows up to {FILE_FORMAT}: use a newer failover"
    )]
    Newer { found: u32 },
    #[error("cannot make {file}")]
    Make {
        file: String,
        #[source]
        source: io::Error,
    },
    #[error("the ledger's thread has ended")]
    Gone,
}

impl From<FileError> for LedgerError {
    fn from(error: FileError) -> Self {
        Self(error.into())
    }
}

fn sqlite(error: rusqlite::Error) -> LedgerError {
    LedgerError(error.into())
}

/// A ledger in an SQLite file.
#[derive(Debug)]
pub struct SqliteLedger {
    writes: Option<Sender<(Write, Answer<()>)>>,
    questions: Option<Sender<Question>>,
    threads: Vec<JoinHandle<()>>,
}

type Answer<T> = oneshot::Sender<Result<T, LedgerError>>;

enum Write {
    Enqueue(Mailing, Vec<Recipient>, Time),
    Mark(Mailing, Vec<(Recipient, Delivery, String)>, Time),
    Suppress(ServiceName, Recipient, String, Time),
    Forget(Time),
}

enum Question {
    InState(Mailing, Delivery, usize, Answer<Vec<Recipient>>),
    Tally(Mailing, Answer<Tally>),
    Suppressed(ServiceName, Recipient, Answer<bool>),
    LastSent(ServiceName, ChannelName, Answer<Option<Time>>),
}

impl SqliteLedger {
    /// Opens the ledger, and makes it where there is none.
    ///
    /// # Errors
    /// Where the file cannot be used, or a newer version wrote it.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        // SQLite gives its own files beside it the same mode.
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| FileError::Make {
                file: path.display().to_string(),
                source,
            })?;
        let mut writer = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        prepare(&mut writer)?;
        let reader = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let (calls, inbox) = mpsc::channel();
        let (questions, asked) = mpsc::channel();
        let threads = vec![
            start(path, "ledger-write", move || write(&mut writer, &inbox))?,
            start(path, "ledger-read", move || answer(&reader, &asked))?,
        ];
        Ok(Self {
            writes: Some(calls),
            questions: Some(questions),
            threads,
        })
    }

    async fn write(&self, write: Write) -> Result<(), LedgerError> {
        let (answer, answered) = oneshot::channel();
        if let Some(writes) = &self.writes {
            // A thread that is gone shows in the answer that never comes.
            let _ = writes.send((write, answer));
        }
        answered.await.unwrap_or(Err(FileError::Gone.into()))
    }

    async fn ask<T>(&self, question: impl FnOnce(Answer<T>) -> Question) -> Result<T, LedgerError> {
        let (answer, answered) = oneshot::channel();
        if let Some(questions) = &self.questions {
            let _ = questions.send(question(answer));
        }
        answered.await.unwrap_or(Err(FileError::Gone.into()))
    }

    async fn in_state(
        &self,
        mailing: &Mailing,
        state: Delivery,
        most: usize,
    ) -> Result<Vec<Recipient>, LedgerError> {
        self.ask(|answer| Question::InState(mailing.clone(), state, most, answer))
            .await
    }
}

impl Drop for SqliteLedger {
    /// Returns when everything that was written is on disk.
    fn drop(&mut self) {
        self.writes = None;
        self.questions = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

#[async_trait]
impl Ledger for SqliteLedger {
    async fn enqueue(
        &self,
        mailing: &Mailing,
        to: &[Recipient],
        at: Time,
    ) -> Result<(), LedgerError> {
        self.write(Write::Enqueue(mailing.clone(), to.to_vec(), at))
            .await
    }

    async fn queued(&self, mailing: &Mailing, most: usize) -> Result<Vec<Recipient>, LedgerError> {
        self.in_state(mailing, Delivery::Queued, most).await
    }

    async fn interrupted(&self, mailing: &Mailing) -> Result<Vec<Recipient>, LedgerError> {
        self.in_state(mailing, Delivery::Sending, usize::MAX).await
    }

    async fn mark(
        &self,
        mailing: &Mailing,
        marks: &[(Recipient, Delivery, String)],
        at: Time,
    ) -> Result<(), LedgerError> {
        self.write(Write::Mark(mailing.clone(), marks.to_vec(), at))
            .await
    }

    async fn tally(&self, mailing: &Mailing) -> Result<Tally, LedgerError> {
        self.ask(|answer| Question::Tally(mailing.clone(), answer))
            .await
    }

    async fn suppress(
        &self,
        service: &ServiceName,
        to: &Recipient,
        reason: &str,
        at: Time,
    ) -> Result<(), LedgerError> {
        let write = Write::Suppress(service.clone(), to.clone(), reason.to_owned(), at);
        self.write(write).await
    }

    async fn forget(&self, before: Time) -> Result<(), LedgerError> {
        self.write(Write::Forget(before)).await
    }

    async fn last_sent(
        &self,
        service: &ServiceName,
        channel: &ChannelName,
    ) -> Result<Option<Time>, LedgerError> {
        self.ask(|answer| Question::LastSent(service.clone(), channel.clone(), answer))
            .await
    }

    async fn suppressed(&self, service: &ServiceName, to: &Recipient) -> Result<bool, LedgerError> {
        self.ask(|answer| Question::Suppressed(service.clone(), to.clone(), answer))
            .await
    }
}

fn connect(path: &Path, mode: OpenFlags) -> Result<Connection, LedgerError> {
    let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let file = Connection::open_with_flags(path, flags).map_err(sqlite)?;
    file.busy_timeout(BUSY).map_err(sqlite)?;
    Ok(file)
}

fn prepare(file: &mut Connection) -> Result<(), LedgerError> {
    let found: u32 = file
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(sqlite)?;
    if found > FILE_FORMAT {
        return Err(FileError::Newer { found }.into());
    }
    // With a log ahead, only FULL makes each commit durable.
    file.pragma_update(None, "journal_mode", "WAL")
        .and_then(|()| file.pragma_update(None, "synchronous", "FULL"))
        // What is forgotten is overwritten.
        .and_then(|()| file.pragma_update(None, "secure_delete", "ON"))
        .map_err(sqlite)?;
    if found == 0 {
        let make = file.transaction().map_err(sqlite)?;
        make.execute_batch(SCHEMA)
            .and_then(|()| make.pragma_update(None, "user_version", FILE_FORMAT))
            .and_then(|()| make.commit())
            .map_err(sqlite)?;
    }
    Ok(())
}

fn start(
    path: &Path,
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, LedgerError> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|source| {
            FileError::Make {
                file: PathBuf::from(path).display().to_string(),
                source,
            }
            .into()
        })
}

/// Writes until nobody can write any more: everything that waits at once; where that fails, each call by itself, so
/// that one that cannot be written takes no other with it.
fn write(file: &mut Connection, inbox: &Receiver<(Write, Answer<()>)>) {
    while let Ok(first) = inbox.recv() {
        let mut group = vec![first];
        group.extend(inbox.try_iter().take(GROUP - 1));
        let forgets = group
            .iter()
            .any(|(write, _)| matches!(write, Write::Forget(_)));
        let together =
            group.len() > 1 && commit(file, group.iter().map(|(write, _)| write)).is_ok();
        for (write, answer) in group {
            let written = if together {
                Ok(())
            } else {
                commit(file, [&write])
            };
            // A caller who went away misses nothing.
            if forgets {
                empty_log(file);
            }
            let _ = answer.send(written.map_err(sqlite));
        }
    }
}

/// The log still holds pages as they were before. A reader may keep it for now: the next forgetting empties it.
fn empty_log(file: &Connection) {
    if let Err(error) = file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
        tracing::debug!(%error, "the ledger's log could not be emptied");
    }
}

fn commit<'a>(
    file: &mut Connection,
    writes: impl IntoIterator<Item = &'a Write>,
) -> rusqlite::Result<()> {
    let group = file.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for write in writes {
        match write {
            Write::Enqueue(mailing, to, at) => enqueue(&group, mailing, to, *at)?,
            Write::Mark(mailing, marks, at) => mark(&group, mailing, marks, *at)?,
            Write::Suppress(service, to, reason, at) => {
                suppress(&group, service, to, reason, *at)?;
            }
            Write::Forget(before) => forget(&group, *before)?,
        }
    }
    group.commit()
}

fn enqueue(
    file: &Connection,
    mailing: &Mailing,
    to: &[Recipient],
    at: Time,
) -> rusqlite::Result<()> {
    let id = mailing_id(file, mailing)?;
    let mut insert = file.prepare_cached(
        "INSERT INTO delivery (mailing, recipient, state, detail, at)
         SELECT ?1, ?2, iif(s.recipient IS NULL, ?3, ?4), coalesce(s.reason, ''), ?5
         FROM (SELECT 1) LEFT JOIN suppression s ON s.service = ?6 AND s.recipient = ?2
         WHERE true ON CONFLICT DO NOTHING",
    )?;
    let at = at.to_string();
    for recipient in to {
        insert.execute(params![
            id,
            recipient.0,
            word(Delivery::Queued),
            word(Delivery::Suppressed),
            at,
            mailing.service.as_str(),
        ])?;
    }
    Ok(())
}

fn mark(
    file: &Connection,
    mailing: &Mailing,
    marks: &[(Recipient, Delivery, String)],
    at: Time,
) -> rusqlite::Result<()> {
    let id = mailing_id(file, mailing)?;
    let mut upsert = file.prepare_cached(
        "INSERT INTO delivery (mailing, recipient, state, detail, at) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO UPDATE SET state = excluded.state, detail = excluded.detail, at = excluded.at",
    )?;
    let at = at.to_string();
    for (recipient, state, detail) in marks {
        upsert.execute(params![id, recipient.0, word(*state), detail, at])?;
    }
    Ok(())
}

/// Also takes the address out of what is queued: a wish that comes in the middle of a fan-out counts.
fn suppress(
    file: &Connection,
    service: &ServiceName,
    to: &Recipient,
    reason: &str,
    at: Time,
) -> rusqlite::Result<()> {
    let at = at.to_string();
    file.prepare_cached(
        "INSERT INTO suppression (service, recipient, reason, at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO NOTHING",
    )?
    .execute(params![service.as_str(), to.0, reason, at])?;
    file.prepare_cached(
        "UPDATE delivery SET state = ?1, detail = ?2, at = ?3
         WHERE mailing IN (SELECT id FROM mailing WHERE service = ?4) AND recipient = ?5 AND state = ?6",
    )?
    .execute(params![
        word(Delivery::Suppressed),
        reason,
        at,
        service.as_str(),
        to.0,
        word(Delivery::Queued),
    ])?;
    Ok(())
}

/// A number takes the place of the address, so that the tallies stay right.
fn forget(file: &Connection, before: Time) -> rusqlite::Result<()> {
    file.prepare_cached(
        "UPDATE delivery SET recipient = 'forgotten ' || id, detail = '', at = ''
         WHERE at < ?1 AND at <> '' AND state NOT IN (?2, ?3)",
    )?
    .execute(params![
        before.to_string(),
        word(Delivery::Queued),
        word(Delivery::Sending),
    ])?;
    Ok(())
}

fn mailing_id(file: &Connection, mailing: &Mailing) -> rusqlite::Result<i64> {
    if let Some(id) = find_mailing(file, mailing)? {
        return Ok(id);
    }
    file.prepare_cached("INSERT INTO mailing (service, message, channel) VALUES (?1, ?2, ?3)")?
        .insert(params![
            mailing.service.as_str(),
            mailing.message,
            mailing.channel.as_str(),
        ])
}

fn find_mailing(file: &Connection, mailing: &Mailing) -> rusqlite::Result<Option<i64>> {
    file.prepare_cached(
        "SELECT id FROM mailing WHERE service = ?1 AND message = ?2 AND channel = ?3",
    )?
    .query_row(
        params![
            mailing.service.as_str(),
            mailing.message,
            mailing.channel.as_str(),
        ],
        |row| row.get(0),
    )
    .optional()
}

/// Answers until nobody can ask any more. An asker who went away misses nothing.
fn answer(file: &Connection, asked: &Receiver<Question>) {
    for question in asked {
        match question {
            Question::InState(mailing, state, most, answer) => {
                let _ = answer.send(in_state(file, &mailing, state, most).map_err(sqlite));
            }
            Question::Tally(mailing, answer) => {
                let _ = answer.send(tally(file, &mailing).map_err(sqlite));
            }
            Question::Suppressed(service, to, answer) => {
                let _ = answer.send(suppressed(file, &service, &to).map_err(sqlite));
            }
            Question::LastSent(service, channel, answer) => {
                let _ = answer.send(last_sent(file, &service, &channel).map_err(sqlite));
            }
        }
    }
}

fn in_state(
    file: &Connection,
    mailing: &Mailing,
    state: Delivery,
    most: usize,
) -> rusqlite::Result<Vec<Recipient>> {
    let Some(id) = find_mailing(file, mailing)? else {
        return Ok(Vec::new());
    };
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    file.prepare_cached(
        "SELECT recipient FROM delivery WHERE mailing = ?1 AND state = ?2 ORDER BY id LIMIT ?3",
    )?
    .query_map(params![id, word(state), most], |row| {
        row.get(0).map(Recipient)
    })?
    .collect()
}

fn tally(file: &Connection, mailing: &Mailing) -> rusqlite::Result<Tally> {
    let mut tally = Tally::default();
    let Some(id) = find_mailing(file, mailing)? else {
        return Ok(tally);
    };
    let mut count =
        file.prepare_cached("SELECT count(*) FROM delivery WHERE mailing = ?1 AND state = ?2")?;
    for (state, field) in [
        (Delivery::Queued, &mut tally.queued),
        (Delivery::Sent, &mut tally.sent),
        (Delivery::Unknown, &mut tally.unknown),
        (Delivery::Failed, &mut tally.failed),
        (Delivery::Suppressed, &mut tally.suppressed),
    ] {
        *field = counted(&mut count, id, state)?;
    }
    tally.queued += counted(&mut count, id, Delivery::Sending)?;
    Ok(tally)
}

fn counted(
    count: &mut rusqlite::Statement<'_>,
    mailing: i64,
    state: Delivery,
) -> rusqlite::Result<u64> {
    count.query_row(params![mailing, word(state)], |row| {
        row.get::<_, i64>(0).map(i64::cast_unsigned)
    })
}

fn suppressed(file: &Connection, service: &ServiceName, to: &Recipient) -> rusqlite::Result<bool> {
    file.prepare_cached("SELECT 1 FROM suppression WHERE service = ?1 AND recipient = ?2")?
        .exists(params![service.as_str(), to.0])
}

fn last_sent(
    file: &Connection,
    service: &ServiceName,
    channel: &ChannelName,
) -> rusqlite::Result<Option<Time>> {
    let at: Option<String> = file
        .prepare_cached(
            "SELECT max(at) FROM delivery JOIN mailing ON mailing.id = delivery.mailing \
             WHERE service = ?1 AND channel = ?2 AND state = ?3",
        )?
        .query_row(
            params![service.as_str(), channel.as_str(), word(Delivery::Sent)],
            |row| row.get(0),
        )?;
    Ok(at.and_then(|at| Time::parse(&at).ok()))
}

/// How a state is spelled in the file.
fn word(state: Delivery) -> &'static str {
    match state {
        Delivery::Queued => "queued",
        Delivery::Sending => "sending",
        Delivery::Sent => "sent",
        Delivery::Unknown => "unknown",
        Delivery::Failed => "failed",
        Delivery::Suppressed => "suppressed",
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use tempfile::TempDir;

    use super::*;

    const NOW: Time = Time::from_millis(1_700_000_000_000);

    fn open(folder: &TempDir) -> SqliteLedger {
        SqliteLedger::open(&folder.path().join("ledger.sqlite")).unwrap()
    }

    fn mail(service: &str) -> Mailing {
        Mailing {
            service: service.into(),
            message: format!("{service}-i4-onStandby"),
            channel: "mail".into(),
        }
    }

    fn people(names: &[&str]) -> Vec<Recipient> {
        names
            .iter()
            .map(|n| Recipient(format!("{n}@example.com")))
            .collect()
    }

    fn marks(names: &[&str], state: Delivery) -> Vec<(Recipient, Delivery, String)> {
        people(names)
            .into_iter()
            .map(|to| (to, state, String::new()))
            .collect()
    }

    #[tokio::test]
    async fn tells_each_recipient_once() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = open(&folder);
        let shop = mail("shop");
        ledger
            .enqueue(&shop, &people(&["zoe", "ana", "bob"]), NOW)
            .await
            .unwrap();
        assert_eq!(
            ledger.queued(&shop, 2).await.unwrap(),
            people(&["zoe", "ana"])
        );

        ledger
            .mark(&shop, &marks(&["zoe"], Delivery::Sent), NOW)
            .await
            .unwrap();
        ledger
            .mark(&shop, &marks(&["ana"], Delivery::Unknown), NOW)
            .await
            .unwrap();
        // The list is read again after a restart, with one who is new.
        ledger
            .enqueue(&shop, &people(&["zoe", "ANA", "bob", "cid"]), NOW)
            .await
            .unwrap();
        assert_eq!(
            ledger.queued(&shop, 9).await.unwrap(),
            people(&["bob", "cid"])
        );
        let tally = ledger.tally(&shop).await.unwrap();
        assert_eq!((tally.sent, tally.unknown, tally.queued), (1, 1, 2));
    }

    #[tokio::test]
    async fn what_was_being_sent_in_a_crash_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let shop = mail("shop");
        let ledger = open(&folder);
        ledger
            .enqueue(&shop, &people(&["ana", "bob"]), NOW)
            .await
            .unwrap();
        ledger
            .mark(&shop, &marks(&["ana"], Delivery::Sending), NOW)
            .await
            .unwrap();
        drop(ledger);

        let ledger = open(&folder);
        assert_eq!(ledger.interrupted(&shop).await.unwrap(), people(&["ana"]));
        assert_eq!(ledger.queued(&shop, 9).await.unwrap(), people(&["bob"]));
        assert_eq!(ledger.tally(&shop).await.unwrap().queued, 2);
    }

    #[tokio::test]
    async fn who_wants_no_mail_gets_none() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = open(&folder);
        let (shop, bank) = (mail("shop"), mail("bank"));
        let [ana, bob] = [people(&["ana"]).remove(0), people(&["Bob"]).remove(0)];
        ledger
            .suppress(&shop.service, &ana, "unsubscribed", NOW)
            .await
            .unwrap();
        ledger
            .enqueue(&shop, &people(&["Ana", "bob", "cid"]), NOW)
            .await
            .unwrap();
        ledger.enqueue(&bank, &people(&["ana"]), NOW).await.unwrap();
        assert_eq!(
            ledger.queued(&shop, 9).await.unwrap(),
            people(&["bob", "cid"])
        );
        assert_eq!(ledger.queued(&bank, 9).await.unwrap(), people(&["ana"]));

        ledger
            .suppress(&shop.service, &bob, "unsubscribed", NOW)
            .await
            .unwrap();
        assert_eq!(ledger.queued(&shop, 9).await.unwrap(), people(&["cid"]));
        assert_eq!(ledger.tally(&shop).await.unwrap().suppressed, 2);
        assert!(ledger.suppressed(&shop.service, &ana).await.unwrap());
        assert!(!ledger.suppressed(&bank.service, &ana).await.unwrap());
    }

    #[tokio::test]
    async fn what_was_sent_stays_sent_when_the_recipient_unsubscribes() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = open(&folder);
        let shop = mail("shop");
        ledger
            .mark(&shop, &marks(&["ana"], Delivery::Sent), NOW)
            .await
            .unwrap();
        let ana = people(&["ana"]).remove(0);
        ledger
            .suppress(&shop.service, &ana, "unsubscribed", NOW)
            .await
            .unwrap();
        assert_eq!(ledger.tally(&shop).await.unwrap().sent, 1);
    }

    #[tokio::test]
    async fn many_workers_mark_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = open(&folder);
        let shop = mail("shop");
        let all: Vec<Recipient> = (0..1000)
            .map(|n| Recipient(format!("u{n}@example.com")))
            .collect();
        ledger.enqueue(&shop, &all, NOW).await.unwrap();
        join_all(all.iter().map(|to| async {
            let mark = [(to.clone(), Delivery::Sent, "250 ok".to_owned())];
            ledger.mark(&shop, &mark, NOW).await.unwrap();
        }))
        .await;
        assert_eq!(ledger.tally(&shop).await.unwrap().sent, 1000);
        assert!(ledger.queued(&shop, 1).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn old_addresses_are_forgotten_and_still_counted() {
        let folder = TempDir::new().unwrap();
        let (ledger, mailing) = (open(&folder), mail("shop"));
        let (old, new) = (Time::from_millis(1_000), Time::from_millis(9_000));
        ledger
            .enqueue(&mailing, &people(&["ann@x", "bob@x", "cy@x", "dan@x"]), old)
            .await
            .unwrap();
        let sent = marks(&["ann@x", "bob@x"], Delivery::Sent);
        ledger.mark(&mailing, &sent, old).await.unwrap();
        let late = marks(&["cy@x"], Delivery::Failed);
        ledger.mark(&mailing, &late, new).await.unwrap();
        ledger
            .suppress(&"shop".into(), &Recipient("eve@x".into()), "asked", old)
            .await
            .unwrap();
        for _ in 0..2 {
            ledger.forget(Time::from_millis(5_000)).await.unwrap();
            let tally = ledger.tally(&mailing).await.unwrap();
            assert_eq!((tally.sent, tally.failed, tally.queued), (2, 1, 1));
        }
        let eve = Recipient("eve@x".into());
        assert!(ledger.suppressed(&"shop".into(), &eve).await.unwrap());
        assert_eq!(
            ledger.queued(&mailing, 9).await.unwrap(),
            people(&["dan@x"])
        );
        drop(ledger);
        let mut kept = Vec::new();
        for file in std::fs::read_dir(folder.path()).unwrap() {
            kept.extend(std::fs::read(file.unwrap().path()).unwrap());
        }
        let holds = |address: &str| kept.windows(address.len()).any(|w| w == address.as_bytes());
        assert!(!holds("ann@x") && !holds("bob@x"));
        assert!(holds("cy@x") && holds("dan@x"));
    }

    #[test]
    fn the_file_is_for_its_owner_and_for_no_older_version() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.sqlite");
        drop(open(&folder));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let file = Connection::open(&path).unwrap();
        file.pragma_update(None, "user_version", 9).unwrap();
        let error = SqliteLedger::open(&path).unwrap_err();
        assert!(error.0.to_string().contains("format 9"), "{}", error.0);
    }
}
