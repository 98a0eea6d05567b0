//! The ledger in a cluster: who was told what, in objects that the next leader finds.
//!
//! A mailing stands in chunks of a hundred recipients. Each is written under the version that was read, so that of two
//! who believe to lead one is refused, and takes on nobody whom the other one has: a message is sent only after the mark
//! before it is there. What waits while something is written is written together afterwards. An answer may be lost: what is
//! asked again then is refused, and is read and compared.
//!
//! Chunks hold addresses of customers. They are a kind of their own, so that no right to read Secrets or anything else
//! shows them, and encryption at rest can be told to cover them.

mod pages;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt, channel::oneshot, future::join_all, stream};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams},
};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex as Turn;

pub use pages::{LedgerChunk, LedgerChunkSpec};
use pages::{Page, Pages};

use crate::{
    model::{
        announcement::Tally,
        id::{ChannelName, ServiceName},
        span::Span,
        time::Time,
    },
    port::{
        cause,
        channel::Recipient,
        kubernetes::{ApiError, next_page},
        ledger::{Delivery, Ledger, LedgerError, Mailing},
        runtime::SharedRuntime,
    },
};

/// Marks the chunks of a mailing.
const MAILING: &str = "failover.rs/mailing";
/// Marks the chunks of a service.
const SERVICE: &str = "failover.rs/service";
/// The channel, where only metadata is read.
const CHANNEL: &str = "failover.rs/channel";
/// When the last message was accepted.
const SENT: &str = "failover.rs/sent";
/// When the first address was settled that is not forgotten yet.
const SETTLED: &str = "failover.rs/settled";

/// How often a mailing that somebody else has written is read anew.
const ROUNDS: usize = 3;
/// Chunks that are written at once.
const AT_ONCE: usize = 16;
/// Time between two looks for addresses to forget.
const FORGETS: Span = Span::from_secs(3600);
/// Mailings that are remembered between two calls.
const KEPT: usize = 32;
/// Chunks that are read at once.
const PAGE: u32 = 50;
/// Chunks of which only metadata is read at once.
const NAMES: u32 = 500;
/// The server has so long to answer before it is asked again.
const ANSWER: Duration = Duration::from_secs(5);
/// First wait before it is asked again; each further one is twice as long.
const WAIT: Span = Span::from_millis(100);
/// The status of a server that has too much to do: it is asked again.
const BUSY: u16 = 429;
/// It is asked again for so long.
const PATIENCE: Span = Span::from_secs(8);

/// Why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("another leader writes {0}")]
    Overtaken(String),
    #[error("it was given up while it was written")]
    GivenUp,
}

impl From<Fault> for LedgerError {
    fn from(fault: Fault) -> Self {
        Self(fault.into())
    }
}

/// The ledger of a namespace.
#[derive(Clone)]
pub struct KubernetesLedger(Arc<Shared>);

struct Shared {
    api: Api<LedgerChunk>,
    runtime: SharedRuntime,
    /// What is to be written next.
    waiting: Mutex<Vec<(Write, Answer)>>,
    book: Turn<Book>,
    /// When addresses were last forgotten.
    forgot: Mutex<Option<Time>>,
}

type Answer = oneshot::Sender<Result<(), String>>;

/// What this process knows the server to hold.
#[derive(Default)]
struct Book {
    mailings: BTreeMap<Mailing, Pages>,
    /// When each channel's last message was accepted.
    sent: BTreeMap<ServiceName, BTreeMap<ChannelName, Time>>,
}

enum Write {
    Enqueue(Mailing, Vec<Recipient>, Time),
    Mark(Mailing, Vec<(Recipient, Delivery, String)>, Time),
    Suppress(ServiceName, Recipient, String, Time),
}

impl Write {
    /// The mailing that is written to.
    fn mailing(&self) -> Mailing {
        match self {
            Self::Enqueue(mailing, ..) | Self::Mark(mailing, ..) => mailing.clone(),
            Self::Suppress(service, ..) => unwanted(service),
        }
    }
}

/// The list of those who want no messages of a service.
fn unwanted(service: &ServiceName) -> Mailing {
    Mailing {
        service: service.clone(),
        message: String::new(),
        channel: ChannelName::new(""),
    }
}

fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hex::encode(&hash.finalize()[..16])
}

fn of_mailing(mailing: &Mailing) -> String {
    digest(&[
        mailing.service.as_str(),
        &mailing.message,
        mailing.channel.as_str(),
    ])
}

fn of_service(service: &ServiceName) -> String {
    digest(&[service.as_str()])
}

fn time_of(meta: &ObjectMeta, name: &str) -> Option<Time> {
    Time::parse(meta.annotations.as_ref()?.get(name)?).ok()
}

impl KubernetesLedger {
    /// The ledger of a namespace.
    #[must_use]
    pub fn new(client: Client, namespace: &str, runtime: SharedRuntime) -> Self {
        Self(Arc::new(Shared {
            api: Api::namespaced(client, namespace),
            runtime,
            waiting: Mutex::default(),
            book: Turn::default(),
            forgot: Mutex::default(),
        }))
    }

    /// Beside the caller: what others wait for is not given up because one of them was.
    async fn write(&self, write: Write) -> Result<(), LedgerError> {
        let (answer, answered) = oneshot::channel();
        self.0.waiting().push((write, answer));
        let shared = Arc::clone(&self.0);
        tokio::spawn(async move {
            let mut book = shared.book.lock().await;
            let group = std::mem::take(&mut *shared.waiting());
            shared.commit(&mut book, group).await;
        });
        match answered.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(LedgerError(error.into())),
            Err(oneshot::Canceled) => Err(Fault::GivenUp.into()),
        }
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Vec<(Write, Answer)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn commit(&self, book: &mut Book, group: Vec<(Write, Answer)>) {
        let mut parts: BTreeMap<Mailing, Vec<(Write, Answer)>> = BTreeMap::new();
        for (write, answer) in group {
            parts
                .entry(write.mailing())
                .or_default()
                .push((write, answer));
        }
        for (mailing, part) in parts {
            let (writes, answers): (Vec<_>, Vec<_>) = part.into_iter().unzip();
            let done = self.commit_one(book, &mailing, &writes).await;
            for (answer, done) in answers.into_iter().zip(done) {
                // A caller who went away misses nothing.
                let _ = answer.send(done);
            }
        }
    }

    /// Writes to one mailing; what became of each. Where somebody else has written it since, it is read anew, and whatever
    /// still holds is written again.
    async fn commit_one(
        &self,
        book: &mut Book,
        mailing: &Mailing,
        writes: &[Write],
    ) -> Vec<Result<(), String>> {
        let mut refused: BTreeMap<usize, String> = BTreeMap::new();
        // Whom this very call has claimed: an answer may have been lost.
        let mut claimed = BTreeSet::new();
        let mut done = Err(Fault::GivenUp);
        for _ in 0..ROUNDS {
            done = self
                .try_commit(book, mailing, writes, &mut refused, &mut claimed)
                .await;
            if !matches!(done, Err(Fault::Overtaken(_))) {
                break;
            }
        }
        let done = done.map_err(|e| cause::in_full(&e));
        (0..writes.len())
            .map(|n| refused.remove(&n).map_or_else(|| done.clone(), Err))
            .collect()
    }

    /// Once. The mailing is in the book again where the server holds what it says.
    async fn try_commit(
        &self,
        book: &mut Book,
        mailing: &Mailing,
        writes: &[Write],
        refused: &mut BTreeMap<usize, String>,
        claimed: &mut BTreeSet<String>,
    ) -> Result<(), Fault> {
        let mut pages = self.take(book, mailing).await?;
        let mut claims = Vec::new();
        for (n, write) in writes.iter().enumerate() {
            if refused.contains_key(&n) {
                continue;
            }
            match write {
                Write::Enqueue(_, to, at) => {
                    let unwanted = self.see(book, &unwanted(&mailing.service)).await?;
                    for to in to {
                        if pages.of(to).is_some() {
                            continue;
                        }
                        match unwanted.of(to) {
                            Some(entry) => {
                                pages.put(to, Delivery::Suppressed, &entry.detail, *at);
                            }
                            None => pages.put(to, Delivery::Queued, "", *at),
                        }
                    }
                }
                Write::Mark(_, marks, at) => {
                    let is_anothers = |(to, state, _): &(Recipient, Delivery, String)| {
                        *state == Delivery::Sending
                            && !claimed.contains(&to.0)
                            && !pages.is_free(to)
                    };
                    if let Some((to, ..)) = marks.iter().find(|mark| is_anothers(mark)) {
                        let key = mailing.key(to);
                        refused.insert(n, format!("{key} was taken on by another leader"));
                        continue;
                    }
                    for (to, state, detail) in marks {
                        if *state == Delivery::Sending {
                            claims.push(to.clone());
                        }
                        pages.advance(to, *state, detail, *at);
                        if *state == Delivery::Sent
                            && let Some(sent) = book.sent.get_mut(&mailing.service)
                        {
                            let last = sent.entry(mailing.channel.clone()).or_insert(*at);
                            *last = (*at).max(*last);
                        }
                    }
                }
                Write::Suppress(_, to, reason, at) => {
                    if pages.of(to).is_none() {
                        pages.put(to, Delivery::Suppressed, reason, *at);
                    }
                }
            }
        }
        let written = self.put(&mut pages).await;
        for to in claims {
            if pages.is_written(&to) {
                claimed.insert(to.0);
            }
        }
        written?;
        if book.mailings.len() >= KEPT {
            let stays = |m: &Mailing, pages: &Pages| m.message.is_empty() || pages.is_open();
            book.mailings.retain(|m, pages| stays(m, pages));
        }
        book.mailings.insert(mailing.clone(), pages);
        Ok(())
    }

    /// A mailing of the book, which has it no more.
    async fn take(&self, book: &mut Book, mailing: &Mailing) -> Result<Pages, Fault> {
        match book.mailings.remove(mailing) {
            Some(pages) => Ok(pages),
            None => self.read(mailing).await,
        }
    }

    /// A mailing of the book, as it is.
    async fn see<'b>(&self, book: &'b mut Book, mailing: &Mailing) -> Result<&'b Pages, Fault> {
        if !book.mailings.contains_key(mailing) {
            let pages = self.read(mailing).await?;
            book.mailings.insert(mailing.clone(), pages);
        }
        book.mailings.get(mailing).ok_or(Fault::GivenUp)
    }

    async fn read(&self, mailing: &Mailing) -> Result<Pages, Fault> {
        let of = format!("{MAILING}={}", of_mailing(mailing));
        let mut next = Some(ListParams::default().labels(&of).limit(PAGE));
        let mut pages = Vec::new();
        while let Some(page) = next {
            let listed = within(self.api.list(&page)).await?;
            next = next_page(page, &listed.metadata);
            pages.extend(listed.items.into_iter().map(|chunk| Page {
                version: chunk.resource_version(),
                before: Some(chunk.spec.clone()),
                spec: chunk.spec,
                is_changed: false,
            }));
        }
        Ok(Pages::new(mailing, pages))
    }

    /// Writes what was changed.
    async fn put(&self, pages: &mut Pages) -> Result<(), Fault> {
        let changed = pages.pages_mut().iter().enumerate();
        let changed: Vec<(usize, Page)> = changed
            .filter(|(_, page)| page.is_changed)
            .map(|(n, page)| {
                let mut page = page.clone();
                page.spec.writer = format!("{:016x}", rand::random::<u64>());
                (n, page)
            })
            .collect();
        let writing = stream::iter(changed).map(|(n, page)| self.put_numbered(n, page));
        let mut writing = writing.buffer_unordered(AT_ONCE);
        let mut written = Ok(());
        while let Some((n, answer)) = writing.next().await {
            match answer {
                Ok(page) => pages.pages_mut()[n] = page,
                Err(error) => written = Err(error),
            }
        }
        written
    }

    async fn put_numbered(&self, n: usize, mut page: Page) -> (usize, Result<Page, Fault>) {
        let written = self.put_one(&page).await.map(|version| {
            page.version = version;
            page.before = Some(page.spec.clone());
            page.is_changed = false;
            page
        });
        (n, written)
    }

    /// Asks until the server has answered; its version of the chunk.
    async fn put_one(&self, page: &Page) -> Result<Option<String>, Fault> {
        let mut chunk = chunk(page);
        let name = chunk.name_any();
        let until = self.runtime.now().after(PATIENCE);
        let mut wait = WAIT;
        loop {
            let params = PostParams::default();
            let asked = async {
                match chunk.metadata.resource_version {
                    None => self.api.create(&params, &chunk).await,
                    Some(_) => self.api.replace(&name, &params, &chunk).await,
                }
            };
            let error = match within(asked).await {
                Ok(written) => return Ok(written.resource_version()),
                Err(error) => error,
            };
            if error.is_overtaken() {
                let found = within(self.api.get(&name)).await?;
                // An answer may have been lost.
                if found.spec == chunk.spec {
                    return Ok(found.resource_version());
                }
                // Somebody has changed what is around it.
                if page.before.as_ref() != Some(&found.spec) {
                    return Err(Fault::Overtaken(name));
                }
                chunk.metadata.resource_version = found.resource_version();
            } else if error.is_certain() && error.code() != Some(BUSY) {
                return Err(error.into());
            }
            let next = self.runtime.now().after(wait);
            if next >= until {
                return Err(error.into());
            }
            self.runtime.sleep_until(next).await;
            wait = wait.saturating_mul(2);
        }
    }

    /// When each channel of a service was last used, by metadata alone.
    async fn used(&self, service: &ServiceName) -> Result<BTreeMap<ChannelName, Time>, Fault> {
        let of = format!("{SERVICE}={}", of_service(service));
        let mut used = BTreeMap::new();
        for meta in self.metadata(&of).await? {
            let channel = meta.annotations.as_ref().and_then(|a| a.get(CHANNEL));
            if let (Some(channel), Some(at)) = (channel, time_of(&meta, SENT)) {
                let last = used
                    .entry(ChannelName::from(channel.as_str()))
                    .or_insert(at);
                *last = at.max(*last);
            }
        }
        Ok(used)
    }

    async fn metadata(&self, labels: &str) -> Result<Vec<ObjectMeta>, Fault> {
        let mut next = Some(ListParams::default().labels(labels).limit(NAMES));
        let mut all = Vec::new();
        while let Some(page) = next {
            let listed = within(self.api.list_metadata(&page)).await?;
            next = next_page(page, &listed.metadata);
            all.extend(listed.items.into_iter().map(|one| one.metadata));
        }
        Ok(all)
    }

    /// Once an hour, however many services ask.
    fn may_forget(&self) -> bool {
        let now = self.runtime.now();
        let mut forgot = self.forgot.lock().unwrap_or_else(PoisonError::into_inner);
        if forgot.is_some_and(|at| now.since(at) < FORGETS) {
            return false;
        }
        *forgot = Some(now);
        true
    }

    /// Forgets the addresses of one mailing that were settled before this.
    async fn forget_in(
        &self,
        book: &mut Book,
        mailing: &Mailing,
        before: Time,
    ) -> Result<(), Fault> {
        let mut pages = self.take(book, mailing).await?;
        let gone = pages.forget(before);
        self.put(&mut pages).await?;
        let removed = gone.iter().filter(|page| page.version.is_some());
        let removed = removed.map(|page| async {
            let name = chunk(page).name_any();
            let params = DeleteParams::default();
            // The first one stands for it, whatever becomes of this.
            let _ = within(self.api.delete(&name, &params)).await;
        });
        join_all(removed).await;
        Ok(())
    }
}

/// The object of a chunk.
fn chunk(page: &Page) -> LedgerChunk {
    let spec = page.spec.clone();
    let mailing = spec.mailing();
    let id = of_mailing(&mailing);
    let mut annotations = BTreeMap::from([(CHANNEL.to_owned(), spec.channel.clone())]);
    for (name, at) in [(SENT, spec.sent()), (SETTLED, spec.settled())] {
        annotations.extend(at.map(|at| (name.to_owned(), at.to_string())));
    }
    let mut chunk = LedgerChunk::new(&format!("l{id}-{}", spec.number), spec);
    chunk.metadata.resource_version.clone_from(&page.version);
    chunk.metadata.annotations = Some(annotations);
    chunk.metadata.labels = Some(BTreeMap::from([
        (MAILING.to_owned(), id),
        (SERVICE.to_owned(), of_service(&mailing.service)),
    ]));
    chunk
}

async fn within<T>(asked: impl Future<Output = Result<T, kube::Error>>) -> Result<T, ApiError> {
    ApiError::within(ANSWER, asked).await
}

#[async_trait]
impl Ledger for KubernetesLedger {
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
        let mut book = self.0.book.lock().await;
        let pages = self.0.see(&mut book, mailing).await?;
        Ok(pages.in_state(Delivery::Queued, most))
    }

    async fn interrupted(&self, mailing: &Mailing) -> Result<Vec<Recipient>, LedgerError> {
        let mut book = self.0.book.lock().await;
        let pages = self.0.see(&mut book, mailing).await?;
        Ok(pages.in_state(Delivery::Sending, usize::MAX))
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
        let mut book = self.0.book.lock().await;
        Ok(self.0.see(&mut book, mailing).await?.tally())
    }

    async fn suppress(
        &self,
        service: &ServiceName,
        to: &Recipient,
        reason: &str,
        at: Time,
    ) -> Result<(), LedgerError> {
        let write = Write::Suppress(service.clone(), to.clone(), reason.to_owned(), at);
        self.write(write).await?;
        // A wish that comes in the middle of a fan-out counts.
        let queued: Vec<Mailing> = {
            let book = self.0.book.lock().await;
            let own = book.mailings.iter().filter(|(m, _)| m.service == *service);
            own.filter(|(m, pages)| !m.message.is_empty() && is_queued(pages, to))
                .map(|(mailing, _)| mailing.clone())
                .collect()
        };
        for mailing in queued {
            let mark = (to.clone(), Delivery::Suppressed, reason.to_owned());
            self.mark(&mailing, &[mark], at).await?;
        }
        Ok(())
    }

    async fn forget(&self, before: Time) -> Result<(), LedgerError> {
        if !self.0.may_forget() {
            return Ok(());
        }
        let is_due = |meta: &ObjectMeta| time_of(meta, SETTLED).is_some_and(|at| at < before);
        let due = self.0.metadata("").await?.into_iter().filter(is_due);
        let mut seen = BTreeSet::new();
        for meta in due {
            let id = meta.labels.as_ref().and_then(|labels| labels.get(MAILING));
            let (Some(id), Some(name)) = (id, &meta.name) else {
                continue;
            };
            if !seen.insert(id.clone()) {
                continue;
            }
            let mailing = within(self.0.api.get(name))
                .await
                .map_err(Fault::from)?
                .spec
                .mailing();
            // One at a time: what is to be sent does not wait for all of them.
            let mut book = self.0.book.lock().await;
            self.0.forget_in(&mut book, &mailing, before).await?;
        }
        Ok(())
    }

    async fn last_sent(
        &self,
        service: &ServiceName,
        channel: &ChannelName,
    ) -> Result<Option<Time>, LedgerError> {
        let mut book = self.0.book.lock().await;
        if !book.sent.contains_key(service) {
            let used = self.0.used(service).await?;
            book.sent.insert(service.clone(), used);
        }
        let sent = book.sent.get(service);
        Ok(sent.and_then(|sent| sent.get(channel)).copied())
    }

    async fn suppressed(&self, service: &ServiceName, to: &Recipient) -> Result<bool, LedgerError> {
        let mut book = self.0.book.lock().await;
        let unwanted = self.0.see(&mut book, &unwanted(service)).await?;
        Ok(unwanted.of(to).is_some())
    }
}

fn is_queued(pages: &Pages, to: &Recipient) -> bool {
    let entry = pages.of(to);
    entry.is_some_and(|entry| entry.state == Delivery::Queued)
}
