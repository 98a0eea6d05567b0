//! The journal on SQLite: the embedded default.
//!
//! One thread writes. What waits for it when it turns to its inbox is committed together, so that several chains
//! share one fsync. Another thread reads. Neither ever holds up the caller's executor.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver, Sender},
    thread::{self, JoinHandle},
};

use async_trait::async_trait;
use futures::channel::oneshot;

use super::{
    chain::{self, Head},
    file::JournalFile,
    origin::Origin,
};
use crate::{
    model::{
        id::{Seq, ServiceName},
        record::Record,
    },
    port::{
        journal::{Draft, Journal, JournalError, Line, Lines},
        lock::Lock,
    },
};

/// The most appends that one commit takes in; bounds how long the first of them waits.
const GROUP: usize = 256;

/// A journal in an SQLite file that this process alone writes to.
#[derive(Debug)]
pub struct SqliteJournal {
    path: PathBuf,
    origin: Origin,
    appends: Option<Sender<Append>>,
    questions: Option<Sender<Question>>,
    threads: Vec<JoinHandle<()>>,
}

type Answer<T> = oneshot::Sender<Result<T, JournalError>>;

#[derive(Debug)]
struct Append {
    chain: ServiceName,
    after: Seq,
    drafts: Vec<Draft>,
    answer: Answer<Vec<Record>>,
}

#[derive(Debug)]
enum Question {
    Records(ServiceName, Seq, Answer<Vec<Record>>),
    Lines(ServiceName, Seq, usize, Answer<Vec<Line>>),
    Heads(Answer<Vec<(ServiceName, Seq)>>),
}

impl SqliteJournal {
    /// Opens the journal, and makes it where there is none.
    ///
    /// # Errors
    /// `Locked` where another controller has it, `Newer` where a newer version wrote it, `Full` or `Io` where it
    /// cannot be used.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let lock = lock(path)?;
        let file = JournalFile::open(path)?;
        let reader = JournalFile::open_to_read(path)?;
        let origin = file.origin()?;
        let (appends, inbox) = mpsc::channel();
        let (questions, asked) = mpsc::channel();
        let writer = Writer {
            file,
            heads: BTreeMap::new(),
            _lock: lock,
        };
        let threads = vec![
            start(path, "journal-write", move || writer.run(&inbox))?,
            start(path, "journal-read", move || answer(&reader, &asked))?,
        ];
        Ok(Self {
            path: path.to_owned(),
            origin,
            appends: Some(appends),
            questions: Some(questions),
            threads,
        })
    }

    /// Where it stands.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it was made: a copy on another host must not be led from before it is adopted.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    async fn ask<T>(
        &self,
        question: impl FnOnce(Answer<T>) -> Question,
    ) -> Result<T, JournalError> {
        let (answer, answered) = oneshot::channel();
        if let Some(questions) = &self.questions {
            // A thread that is gone shows in the answer that never comes.
            let _ = questions.send(question(answer));
        }
        answered.await.unwrap_or_else(|_| Err(self.gone()))
    }

    fn gone(&self) -> JournalError {
        JournalError::Io {
            place: self.path.display().to_string(),
            source: "the journal's thread has ended".into(),
        }
    }
}

impl Drop for SqliteJournal {
    /// Returns when everything that was appended is on disk and the lock is free again.
    fn drop(&mut self) {
        self.appends = None;
        self.questions = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

#[async_trait]
impl Journal for SqliteJournal {
    /// A caller that stops waiting does not stop the append.
    async fn append(
        &self,
        chain: &ServiceName,
        after: Seq,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Record>, JournalError> {
        let (answer, answered) = oneshot::channel();
        if let Some(appends) = &self.appends {
            let _ = appends.send(Append {
                chain: chain.clone(),
                after,
                drafts,
                answer,
            });
        }
        answered.await.unwrap_or_else(|_| Err(self.gone()))
    }

    async fn read(&self, chain: &ServiceName, from: Seq) -> Result<Vec<Record>, JournalError> {
        self.ask(|answer| Question::Records(chain.clone(), from, answer))
            .await
    }

    async fn chains(&self) -> Result<Vec<ServiceName>, JournalError> {
        let heads = self.ask(Question::Heads).await?;
        Ok(heads.into_iter().map(|(chain, _)| chain).collect())
    }

    fn remedies(&self) -> Vec<String> {
        vec!["df -h".to_owned(), "failover journal verify".to_owned()]
    }
}

#[async_trait]
impl Lines for SqliteJournal {
    async fn lines(
        &self,
        chain: &ServiceName,
        from: Seq,
        most: usize,
    ) -> Result<Vec<Line>, JournalError> {
        self.ask(|answer| Question::Lines(chain.clone(), from, most, answer))
            .await
    }

    async fn heads(&self) -> Result<Vec<(ServiceName, Seq)>, JournalError> {
        self.ask(Question::Heads).await
    }
}

/// One controller a journal.
fn lock(path: &Path) -> Result<Lock, JournalError> {
    let place = || path.display().to_string();
    let mut beside = OsString::from(path);
    beside.push(".lock");
    match Lock::take(Path::new(&beside)) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(JournalError::Locked { place: place() }),
        Err(e) => Err(JournalError::Io {
            place: place(),
            source: e.into(),
        }),
    }
}

fn start(
    path: &Path,
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, JournalError> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|e| JournalError::Io {
            place: path.display().to_string(),
            source: e.into(),
        })
}

/// Answers until nobody can ask any more. An asker who went away misses nothing.
fn answer(file: &JournalFile, asked: &Receiver<Question>) {
    for question in asked {
        match question {
            Question::Records(chain, from, answer) => {
                let _ = answer.send(file.records(&chain, from));
            }
            Question::Lines(chain, from, most, answer) => {
                let _ = answer.send(file.lines(&chain, from, most));
            }
            Question::Heads(answer) => {
                let _ = answer.send(file.heads());
            }
        }
    }
}

/// The one that writes. Fields are dropped in order: the file is closed before the lock is free.
struct Writer {
    file: JournalFile,
    /// Ends of the chains as they are on disk; read from the file when a chain is first appended to.
    heads: BTreeMap<ServiceName, Head>,
    _lock: Lock,
}

/// An append that has its place, if everything before it in its chain is written.
struct Sealed {
    chain: ServiceName,
    after: Seq,
    head: Head,
    records: Vec<Record>,
    lines: Vec<Line>,
    answer: Answer<Vec<Record>>,
}

impl Writer {
    fn run(mut self, inbox: &Receiver<Append>) {
        while let Ok(first) = inbox.recv() {
            let mut group = vec![first];
            group.extend(inbox.try_iter().take(GROUP - 1));
            let sealed = self.seal(group);
            self.commit(sealed);
        }
    }

    /// Gives each append its place; answers those that have none.
    fn seal(&mut self, group: Vec<Append>) -> Vec<Sealed> {
        let mut ends: BTreeMap<ServiceName, Head> = BTreeMap::new();
        let mut sealed = Vec::with_capacity(group.len());
        for append in group {
            let end = match ends.get(&append.chain) {
                Some(end) => Ok(end.clone()),
                None => self.head(&append.chain),
            };
            let end = end.and_then(|end| expect(&append.chain, append.after, end));
            match end.and_then(|end| self.place(&append.chain, end, append.drafts)) {
                Ok((head, records, lines)) => {
                    ends.insert(append.chain.clone(), head.clone());
                    sealed.push(Sealed {
                        chain: append.chain,
                        after: append.after,
                        head,
                        records,
                        lines,
                        answer: append.answer,
                    });
                }
                Err(e) => {
                    let _ = append.answer.send(Err(e));
                }
            }
        }
        sealed
    }

    fn place(
        &self,
        chain: &ServiceName,
        mut head: Head,
        drafts: Vec<Draft>,
    ) -> Result<(Head, Vec<Record>, Vec<Line>), JournalError> {
        let sealed = chain::seal(chain, &mut head, drafts).map_err(|e| JournalError::Io {
            place: self.file.path().display().to_string(),
            source: e.into(),
        })?;
        let (records, lines) = sealed.into_iter().unzip();
        Ok((head, records, lines))
    }

    fn head(&mut self, chain: &ServiceName) -> Result<Head, JournalError> {
        if let Some(head) = self.heads.get(chain) {
            return Ok(head.clone());
        }
        let head = self.file.head(chain)?;
        self.heads.insert(chain.clone(), head.clone());
        Ok(head)
    }

    /// Writes the whole group at once; where that fails, each append by itself, so that one that cannot be written
    /// takes no other with it.
    fn commit(&mut self, group: Vec<Sealed>) {
        let together = group.len() > 1 && {
            let lines = group
                .iter()
                .flat_map(|s| s.lines.iter().map(|line| (&s.chain, line)));
            self.file.append(lines).is_ok()
        };
        for one in group {
            if together {
                self.written(one);
            } else {
                self.commit_alone(one);
            }
        }
    }

    fn commit_alone(&mut self, one: Sealed) {
        let fits = self
            .head(&one.chain)
            .and_then(|end| expect(&one.chain, one.after, end));
        let written =
            fits.and_then(|_| self.file.append(one.lines.iter().map(|l| (&one.chain, l))));
        match written {
            Ok(()) => self.written(one),
            Err(e) => {
                let _ = one.answer.send(Err(e));
            }
        }
    }

    fn written(&mut self, one: Sealed) {
        self.heads.insert(one.chain, one.head);
        let _ = one.answer.send(Ok(one.records));
    }
}

/// The compare of compare-and-swap.
fn expect(chain: &ServiceName, after: Seq, end: Head) -> Result<Head, JournalError> {
    if end.seq == after {
        Ok(end)
    } else {
        Err(JournalError::Conflict {
            chain: chain.clone(),
            seq: after.next(),
        })
    }
}
