//! The copy that follows a journal to an object store.
//!
//! Below the store's prefix each chain has a folder, and in it segments named `<first sequence>.jsonl` (20 digits, so
//! that they sort), each an export of the records from there up to the next segment. A segment is put there once and
//! never written again: the store is asked to refuse a name that is taken. Two writers can therefore not overwrite one
//! another, and a bucket whose objects are locked for ever will do. The journal never waits for its copy.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures::{
    TryStreamExt,
    future::{Either, select},
};
use object_store::{ObjectStoreExt, PutMode, PutOptions, PutPayload, path::Path};
use serde::{Deserialize, Serialize};

use super::{
    export::{self, Exported},
    succession::{self, Succession},
};
use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        id::{Seq, ServiceName},
        span::Span,
        time::Time,
    },
    port::{
        cause,
        journal::{JournalError, Line, SharedLines},
        runtime::SharedRuntime,
        store::Store,
    },
};

/// How often the journal is looked at for new records: what a lost disk costs at most, where the store answers.
const PERIOD: Span = Span::from_secs(1);

/// The longest wait between tries while the store does not answer.
const LONGEST_WAIT: Span = Span::from_secs(60);

/// Records that have waited for so long while the copy fails are more than an outage of its store.
const LATE: Span = Span::from_secs(300);

/// Whether another controller took the journal up is asked so often while there is nothing to copy.
const IDLE: Span = Span::from_secs(60);

/// Nobody takes a journal up and begins to act in less.
const FRESH: Span = Span::from_secs(10);

/// An effect waits so long for the store's word.
const WORD: Span = Span::from_secs(1);

/// The same after this process, or its host, stood still: its connections are gone.
const WORD_AFTER_SLEEP: Span = Span::from_secs(5);

/// The most records in a segment.
const SEGMENT_RECORDS: usize = 1000;

/// A segment takes no more records once it holds so many bytes.
const SEGMENT_BYTES: usize = 1 << 20;

/// Why the copy cannot follow.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The journal cannot be read.
    #[error("the journal cannot be read for its copy")]
    Journal(#[source] JournalError),
    /// The store does not answer, or refuses.
    #[error("the journal's copy at {store} cannot be reached")]
    Store {
        /// Which.
        store: String,
        /// The cause.
        #[source]
        source: object_store::Error,
    },
    /// What stands there is no segment.
    #[error("{object} in the journal's copy at {store} is no segment of a copy")]
    Segment {
        /// Which store.
        store: String,
        /// Which object.
        object: String,
    },
    /// What stands there was not made from this journal.
    #[error(
        "the copy at {store} holds another history of chain {chain}, from sequence {seq} on: give this journal another place for its copy, or restore it from there"
    )]
    Foreign {
        /// Which store.
        store: String,
        /// The chain.
        chain: ServiceName,
        /// The first sequence that is not this journal's.
        seq: Seq,
    },
    /// The copy follows another controller now.
    #[error("{0}: that controller leads, and this one may not act any more")]
    TakenOver(Succession),
    /// The copy went on without the takeover that this journal holds.
    #[error(
        "the copy at {store} of chain {chain} went on after this journal was taken over: the other controller still writes"
    )]
    StillWritten {
        /// Which store.
        store: String,
        /// The chain.
        chain: ServiceName,
    },
}

/// How far the copy is behind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CopyLag {
    /// Records that are not copied.
    pub records: u64,
    /// How long the oldest of them has stood in the journal.
    pub time: Span,
    /// Why the last try failed, with its causes; none where it did not.
    pub error: Option<String>,
}

/// What is told when a chain is copied up to a sequence.
type Told = Box<dyn Fn(&ServiceName, Seq) + Send + Sync>;

/// Follows a journal.
pub struct Copy {
    journal: SharedLines,
    store: Store,
    runtime: SharedRuntime,
    told: Told,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Where each chain's copy ends; a chain that is not here was not looked up yet.
    copied: BTreeMap<ServiceName, Seq>,
    /// What is waiting, as of the last look.
    waiting: BTreeMap<ServiceName, Waiting>,
    error: Option<String>,
    /// When the store did not answer last, or answered with an error.
    failed: Option<Moment>,
    /// When the store last took, or had, what only the leader's copy has.
    confirmed: BTreeMap<ServiceName, Moment>,
    /// Chains that another controller took up.
    lost: BTreeMap<ServiceName, Succession>,
}

/// A moment by both clocks: one of them stands still while a machine sleeps, the other is set by people.
#[derive(Clone, Copy)]
struct Moment {
    now: Time,
    wall: Time,
}

#[derive(Clone, Copy)]
struct Waiting {
    records: u64,
    since: Time,
}

impl Copy {
    /// A copy that begins where the store's ends.
    pub fn new(journal: SharedLines, store: Store, runtime: SharedRuntime) -> Self {
        Self {
            journal,
            store,
            runtime,
            told: Box::new(|_, _| {}),
            state: Mutex::default(),
        }
    }

    /// The same, which tells of each segment up to where its chain is copied now.
    #[must_use]
    pub fn telling(mut self, told: impl Fn(&ServiceName, Seq) + Send + Sync + 'static) -> Self {
        self.told = Box::new(told);
        self
    }

    /// Follows until another controller has taken a chain up; any other trouble is shown in [`Copy::lag`] and tried again.
    pub async fn follow(&self) -> Succession {
        let mut wait = PERIOD;
        loop {
            match self.catch_up().await {
                Ok(()) => wait = PERIOD,
                Err(CopyError::TakenOver(succession)) => return succession,
                Err(e) => {
                    tracing::warn!(
                        error = cause::without_repeats(&e),
                        "the journal's copy is behind, it is tried again in {wait}"
                    );
                    wait = wait.saturating_mul(2).min(LONGEST_WAIT);
                }
            }
            self.runtime
                .sleep_until(self.runtime.now().after(wait))
                .await;
        }
    }

    /// Copies everything that stands in the journal now.
    ///
    /// # Errors
    /// Where the journal or the store cannot be used, or the store holds another journal's copy. Chains without such
    /// trouble are copied all the same.
    pub async fn catch_up(&self) -> Result<(), CopyError> {
        let caught_up = self.catch_up_all().await;
        self.state().error = caught_up.as_ref().err().map(|e| cause::without_repeats(e));
        caught_up
    }

    /// Whether this controller still leads a chain, as far as the store can tell within a second: what stands in the journal
    /// is copied first, and a copy that another controller leads takes nothing. A store that does not answer holds nothing
    /// back, since it may have gone down with the primary.
    ///
    /// # Errors
    /// Who took it over.
    pub async fn confirm(&self, chain: &ServiceName) -> Result<(), Succession> {
        if let Some(succession) = self.state().lost.get(chain) {
            return Err(succession.clone());
        }
        for limit in [WORD, WORD_AFTER_SLEEP] {
            if self.is_confirmed(chain) {
                return Ok(());
            }
            let asked = self.moment();
            let limit = self.runtime.sleep_until(self.runtime.now().after(limit));
            let word = pin!(self.catch_up_to_head(chain, FRESH));
            let trouble = match select(word, limit).await {
                Either::Left((Err(CopyError::TakenOver(succession)), _)) => return Err(succession),
                Either::Left((Ok(()), _)) => None,
                Either::Left((Err(error), _)) => Some(cause::without_repeats(&error)),
                Either::Right(_) => Some("it does not answer".to_owned()),
            };
            // Who slept meanwhile has heard nothing.
            if !self.is_within(asked, WORD.saturating_mul(3)) {
                continue;
            }
            if let Some(error) = trouble {
                self.state().failed = Some(asked);
                tracing::warn!(
                    error,
                    "the journal's copy does not say whether this controller still leads"
                );
            }
            return Ok(());
        }
        Ok(())
    }

    /// Whether the store has spoken, or failed to, not long ago.
    fn is_confirmed(&self, chain: &ServiceName) -> bool {
        let state = self.state();
        let moments = [state.confirmed.get(chain).copied(), state.failed];
        drop(state);
        let mut moments = moments.into_iter().flatten();
        moments.any(|moment| self.is_within(moment, FRESH))
    }

    async fn catch_up_to_head(&self, chain: &ServiceName, age: Span) -> Result<(), CopyError> {
        let heads = self.journal.heads().await.map_err(CopyError::Journal)?;
        match heads.into_iter().find(|(name, _)| name == chain) {
            Some((_, head)) => self.catch_up_chain(chain, head, age).await,
            None => Ok(()),
        }
    }

    fn moment(&self) -> Moment {
        Moment {
            now: self.runtime.now(),
            wall: self.runtime.wall(),
        }
    }

    fn is_within(&self, then: Moment, span: Span) -> bool {
        let now = self.moment();
        now.now.since(then.now) < span
            && now.wall.since(then.wall) < span
            && then.wall.since(now.wall) < span
    }

    /// The store as people know it, and the hosts that it is reached at.
    #[must_use]
    pub fn place(&self) -> (&str, &[String]) {
        (&self.store.name, &self.store.hosts)
    }

    /// How far it is behind, as of the last try.
    pub fn lag(&self) -> CopyLag {
        let now = self.runtime.now();
        let state = self.state();
        let oldest = state.waiting.values().map(|w| w.since).min();
        CopyLag {
            records: state.waiting.values().map(|w| w.records).sum(),
            time: oldest.map_or(Span::ZERO, |since| now.since(since)),
            error: state.error.clone(),
        }
    }

    /// Whether a lost disk would cost no more than a moment: the store is as it has to be, and holds what it should.
    pub async fn check(&self) -> Vec<CheckItem> {
        vec![self.check_store().await, self.check_lag()]
    }

    /// Tries whether the store takes objects, and refuses to take one twice. Leaves one small object, `check`, behind.
    async fn check_store(&self) -> CheckItem {
        const NAME: &str = "journal/copy";
        let path = self.store.prefix.clone().join("check");
        let mut answer = Ok(false);
        for _ in 0..2 {
            if let Ok(false) = answer {
                answer = self
                    .create(&path, "failover journal copy\n".to_owned())
                    .await;
            }
        }
        match answer {
            Ok(true) => CheckItem::ok(
                NAME,
                format!("{} takes objects and overwrites none", self.store.name),
            ),
            Ok(false) => CheckItem::bad(
                NAME,
                CheckStatus::Fail,
                format!(
                    "{} overwrites objects although it is asked not to",
                    self.store.name
                ),
                "use a store that honours If-None-Match: * (S3, MinIO, Ceph, R2 and others do), or a folder",
            ),
            Err(e) => CheckItem::bad(
                NAME,
                CheckStatus::Fail,
                cause::without_repeats(&e),
                "check the address, and that the key may put, get and list objects there",
            ),
        }
    }

    /// One try that fails is an outage of the store; when records wait for long, somebody has to look.
    fn check_lag(&self) -> CheckItem {
        const NAME: &str = "journal/copy-lag";
        let lag = self.lag();
        let Some(error) = lag.error else {
            return CheckItem::ok(NAME, format!("{} records wait to be copied", lag.records));
        };
        let status = if lag.time < LATE {
            CheckStatus::Warn
        } else {
            CheckStatus::Fail
        };
        CheckItem::bad(
            NAME,
            status,
            format!(
                "{} records, the oldest of {} ago, are not copied: {error}",
                lag.records, lag.time
            ),
            "a disk that is lost now takes them with it: mend what the copy fails of",
        )
    }

    async fn catch_up_all(&self) -> Result<(), CopyError> {
        let mut trouble = Ok(());
        for (chain, head) in self.journal.heads().await.map_err(CopyError::Journal)? {
            match self.catch_up_chain(&chain, head, IDLE).await {
                Ok(()) => {}
                Err(e @ CopyError::TakenOver(_)) => return Err(e),
                Err(e) => trouble = Err(e),
            }
        }
        trouble
    }

    async fn catch_up_chain(
        &self,
        chain: &ServiceName,
        head: Seq,
        age: Span,
    ) -> Result<(), CopyError> {
        let known = self.state().copied.get(chain).copied();
        if known == Some(head) {
            return self.look_for_successor(chain, head, age).await;
        }
        let mut copied = known.unwrap_or_default();
        self.note_waiting(chain, copied, head).await?;
        if known.is_none() {
            let asked = self.moment();
            copied = self.find_end(chain, head).await?;
            self.note_copied(chain, copied, asked);
        }
        while copied < head {
            self.note_waiting(chain, copied, head).await?;
            let lines = self.next_segment(chain, copied.next()).await?;
            let Some(last) = lines.last().map(|line| line.seq) else {
                break;
            };
            let text = lines.iter().map(export::to_text).collect();
            let (asked, segment) = (self.moment(), self.segment(chain, copied.next()));
            if self.create(&segment, text).await? {
                // Ours after an answer that was lost, or somebody else's: what stands there tells.
                self.look_at(chain, &segment, lines.first()).await?;
                copied = self.find_end(chain, head).await?;
            } else {
                copied = last;
            }
            self.note_copied(chain, copied, asked);
        }
        self.note_waiting(chain, copied, head).await
    }

    /// Everything is copied: a successor's first segment would begin right after it.
    async fn look_for_successor(
        &self,
        chain: &ServiceName,
        head: Seq,
        age: Span,
    ) -> Result<(), CopyError> {
        let confirmed = self.state().confirmed.get(chain).copied();
        if confirmed.is_some_and(|moment| self.is_within(moment, age)) {
            return Ok(());
        }
        let (asked, next) = (self.moment(), self.segment(chain, head.next()));
        match self.store.objects.head(&next).await {
            Ok(_) => {
                self.look_at(chain, &next, None).await?;
                self.find_end(chain, head).await.map(drop)
            }
            Err(object_store::Error::NotFound { .. }) => {
                self.note_copied(chain, head, asked);
                Ok(())
            }
            Err(e) => Err(self.unreachable(e)),
        }
    }

    /// A segment that somebody else may have written where ours would begin: a takeover is known by one look.
    async fn look_at(
        &self,
        chain: &ServiceName,
        segment: &Path,
        ours: Option<&Line>,
    ) -> Result<(), CopyError> {
        let lines = self.segment_lines(segment).await?;
        let theirs = lines.first().filter(|theirs| Some(*theirs) != ours);
        match theirs.and_then(|line| succession::of(chain, line)) {
            Some(succession) => Err(self.lose(succession)),
            None => Ok(()),
        }
    }

    fn lose(&self, succession: Succession) -> CopyError {
        let chain = succession.chain.clone();
        self.state().lost.insert(chain, succession.clone());
        CopyError::TakenOver(succession)
    }

    /// Puts a takeover into the copy. Every chain is looked at before the first is written.
    ///
    /// # Errors
    /// As [`Copy::catch_up`].
    pub async fn claim(&self) -> Result<(), CopyError> {
        for (chain, head) in self.journal.heads().await.map_err(CopyError::Journal)? {
            self.find_end(&chain, head).await?;
        }
        self.catch_up().await
    }

    async fn next_segment(&self, chain: &ServiceName, from: Seq) -> Result<Vec<Line>, CopyError> {
        let mut lines = self.lines(chain, from, SEGMENT_RECORDS).await?;
        let mut bytes = 0;
        let fit = lines
            .iter()
            .take_while(|line| {
                let room = bytes < SEGMENT_BYTES;
                bytes += line.text.len();
                room
            })
            .count();
        lines.truncate(fit);
        Ok(lines)
    }

    /// The last sequence of a chain that is copied, after a look at whether the copy is this journal's.
    async fn find_end(&self, chain: &ServiceName, head: Seq) -> Result<Seq, CopyError> {
        let folder = self.folder(chain);
        let listed = self.store.objects.list(Some(&folder));
        let mut segments: Vec<Path> = listed
            .map_ok(|object| object.location)
            .try_collect()
            .await
            .map_err(|e| self.unreachable(e))?;
        segments.sort();
        let Some(object) = segments.last() else {
            return Ok(Seq(0));
        };
        let lines = self.segment_lines(object).await?;
        let Some(end) = lines.last() else {
            return Err(not_a_segment(&self.store, object));
        };
        let ours = self.lines(chain, end.seq, 1).await?;
        if end.seq <= head && ours.first() == Some(end) {
            return Ok(end.seq);
        }
        Err(self.foreign(chain, &segments).await?)
    }

    /// Where the copy goes another way than this journal, and whether a takeover did that.
    async fn foreign(
        &self,
        chain: &ServiceName,
        segments: &[Path],
    ) -> Result<CopyError, CopyError> {
        // The last segment that begins as this journal has it: chains that part never meet again.
        let (mut ours, mut theirs) = (0, segments.len());
        let mut seq = Seq(1);
        while ours < theirs {
            let middle = usize::midpoint(ours, theirs);
            let lines = self.segment_lines(&segments[middle]).await?;
            let Some(first) = lines.first().map(|line| line.seq) else {
                return Err(not_a_segment(&self.store, &segments[middle]));
            };
            let here = self.lines(chain, first, lines.len()).await?;
            let same = lines.iter().zip(&here).take_while(|(a, b)| a == b).count();
            if same == 0 {
                theirs = middle;
            } else {
                ours = middle + 1;
                seq = Seq(first.0 + same as u64);
            }
        }
        let from = ours.saturating_sub(1);
        let until = segments.len().min(from + 2);
        let found = succession::find(&self.store, chain, &segments[from..until], seq).await?;
        if let Some(succession) = found {
            return Ok(self.lose(succession));
        }
        let store = self.store.name.clone();
        let here = self.lines(chain, seq, 1).await?;
        let is_ours = here.first().and_then(|line| succession::of(chain, line));
        let chain = chain.clone();
        Ok(match is_ours {
            Some(_) => CopyError::StillWritten { store, chain },
            None => CopyError::Foreign { store, chain, seq },
        })
    }

    async fn segment_lines(&self, object: &Path) -> Result<Vec<Line>, CopyError> {
        let exported = read_segment(&self.store, object).await?;
        Ok(exported.into_iter().map(|exported| exported.line).collect())
    }

    /// Puts an object where there is none; tells whether there was one.
    async fn create(&self, path: &Path, text: String) -> Result<bool, CopyError> {
        let put = self
            .store
            .objects
            .put_opts(
                path,
                PutPayload::from(text),
                PutOptions::from(PutMode::Create),
            )
            .await;
        match put {
            Ok(_) => Ok(false),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(true),
            Err(e) => Err(self.unreachable(e)),
        }
    }

    async fn lines(
        &self,
        chain: &ServiceName,
        from: Seq,
        most: usize,
    ) -> Result<Vec<Line>, CopyError> {
        self.journal
            .lines(chain, from, most)
            .await
            .map_err(CopyError::Journal)
    }

    /// The store said so when it was asked: what happened since it has not said.
    fn note_copied(&self, chain: &ServiceName, copied: Seq, asked: Moment) {
        {
            let mut state = self.state();
            state.copied.insert(chain.clone(), copied);
            state.confirmed.insert(chain.clone(), asked);
        }
        (self.told)(chain, copied);
    }

    async fn note_waiting(
        &self,
        chain: &ServiceName,
        copied: Seq,
        head: Seq,
    ) -> Result<(), CopyError> {
        if copied >= head {
            self.state().waiting.remove(chain);
            return Ok(());
        }
        let oldest = self.lines(chain, copied.next(), 1).await?;
        let waiting = Waiting {
            records: head.0 - copied.0,
            since: oldest
                .first()
                .and_then(written_at)
                .unwrap_or_else(|| self.runtime.now()),
        };
        self.state().waiting.insert(chain.clone(), waiting);
        Ok(())
    }

    fn segment(&self, chain: &ServiceName, first: Seq) -> Path {
        self.folder(chain).join(format!("{:020}.jsonl", first.0))
    }

    fn folder(&self, chain: &ServiceName) -> Path {
        self.store.prefix.clone().join(chain.as_str())
    }

    fn unreachable(&self, source: object_store::Error) -> CopyError {
        unreachable_store(&self.store, source)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a segment, unchecked.
pub(super) async fn read_segment(store: &Store, object: &Path) -> Result<Vec<Exported>, CopyError> {
    let bytes = async { store.objects.get(object).await?.bytes().await }
        .await
        .map_err(|e| unreachable_store(store, e))?;
    let mut lines = Vec::new();
    export::read(&mut &bytes[..], |exported| {
        lines.push(exported);
        Ok(())
    })
    .map_err(|_| not_a_segment(store, object))?;
    Ok(lines)
}

pub(super) fn unreachable_store(store: &Store, source: object_store::Error) -> CopyError {
    CopyError::Store {
        store: store.name.clone(),
        source,
    }
}

fn not_a_segment(store: &Store, object: &Path) -> CopyError {
    CopyError::Segment {
        store: store.name.clone(),
        object: object.to_string(),
    }
}

fn written_at(line: &Line) -> Option<Time> {
    #[derive(Deserialize)]
    struct Written {
        at: Time,
    }
    serde_json::from_str(&line.text)
        .ok()
        .map(|written: Written| written.at)
}
