//! The journal in a cluster: each append is one object that never changes, named by its chain and its first sequence.
//!
//! Creating an object that exists is refused, which is the compare-and-swap: whoever appends behind sequence n creates
//! the object n + 1, and knows n only from having read everything before. What is appended together stands in one object,
//! so it is there as a whole or not at all. Objects are never changed and never removed: one that is gone would leave its
//! name to a controller that was stopped before it was written.
//!
//! An answer may be lost. What was then asked for is asked again until the server has answered, and where the object is
//! there already, it is read and compared: each append carries words that no other has.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use futures::{FutureExt, select_biased};
use kube::{
    Api, Client, CustomResource,
    api::{ApiResource, DynamicObject, ListParams, PostParams},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::chain::{self, Head};
use crate::{
    model::{
        id::{Seq, ServiceName, Term},
        record::{Record, RecordBody},
        span::Span,
    },
    port::{
        journal::{Draft, Journal, JournalError, Line, Lines, Rivals},
        kubernetes::next_page,
        runtime::SharedRuntime,
    },
};

/// Marks the entries of a chain.
pub const CHAIN: &str = "failover.rs/chain";
/// An entry's last sequence, where only its metadata is read.
const LAST: &str = "failover.rs/last";

/// Bytes of lines that are kept when all are listed together; of a larger journal each chain is listed by itself.
const STOCK: usize = 64 << 20;
/// Entries that are read at once.
const PAGE: u32 = 500;
/// The server has so long to answer before it is asked again.
const ANSWER: Span = Span::from_secs(10);
/// First wait before it is asked again; each further one is twice as long.
const WAIT: Span = Span::from_millis(100);
/// The longest wait.
const LONGEST_WAIT: Span = Span::from_secs(2);

/// What one append wrote.
#[derive(Clone, Debug, PartialEq, Eq, CustomResource, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "failover.rs",
    version = "v1alpha1",
    kind = "JournalEntry",
    plural = "journalentries",
    namespaced
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JournalEntrySpec {
    /// The chain: the service's name.
    pub chain: String,
    /// Sequence of its first record.
    pub first: i64,
    /// Sequence of its last record.
    pub last: i64,
    /// Hash of its last record.
    pub hash: String,
    /// Which append of which controller wrote it.
    pub writer: String,
    /// The records as canonical JSON: the bytes that were hashed.
    pub lines: Vec<String>,
}

/// A journal of objects in one namespace.
pub struct KubernetesJournal {
    entries: Api<JournalEntry>,
    /// The same, whatever they hold.
    objects: Api<DynamicObject>,
    namespace: String,
    /// Names the namespace in errors.
    place: String,
    /// Whoever appends.
    identity: String,
    runtime: SharedRuntime,
    /// Ends of the chains as they were last read or written.
    heads: Mutex<BTreeMap<ServiceName, Head>>,
    /// Chains that were listed together, until each is first read.
    stock: Mutex<BTreeMap<ServiceName, Vec<JournalEntrySpec>>>,
}

impl KubernetesJournal {
    /// The journal of a namespace. `identity` names this process and no other one.
    #[must_use]
    pub fn new(client: Client, namespace: &str, identity: &str, runtime: SharedRuntime) -> Self {
        Self {
            objects: Api::namespaced_with(
                client.clone(),
                namespace,
                &ApiResource::erase::<JournalEntry>(&()),
            ),
            entries: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            place: format!("in namespace {namespace}"),
            identity: identity.to_owned(),
            runtime,
            heads: Mutex::default(),
            stock: Mutex::default(),
        }
    }

    /// Lists every chain at once: as many services as there are begin after one list. The last term in which anybody
    /// led; 0 where nobody has.
    ///
    /// # Errors
    /// Where it cannot be listed.
    pub async fn take_stock(&self) -> Result<Term, JournalError> {
        let mut chains: BTreeMap<ServiceName, Vec<JournalEntrySpec>> = BTreeMap::new();
        // One entry that cannot be read concerns its own chain, which says so when it is read.
        let mut strange: BTreeSet<ServiceName> = BTreeSet::new();
        let (mut last, mut size) = (Term::default(), 0);
        self.each(&self.objects, CHAIN, |object| {
            let spec = object.data.get("spec").cloned().unwrap_or_default();
            let lines = spec["lines"].as_array().into_iter().flatten();
            let lines: Vec<&str> = lines.filter_map(Value::as_str).collect();
            let terms = lines.iter().filter_map(|text| term(text));
            last = terms.max().unwrap_or_default().max(last);
            size += lines.iter().map(|line| line.len()).sum::<usize>();
            let label = object.metadata.labels.unwrap_or_default().remove(CHAIN);
            match serde_json::from_value::<JournalEntrySpec>(spec) {
                Ok(_) if size > STOCK => chains.clear(),
                Ok(entry) => {
                    let chain = chains.entry(entry.chain.as_str().into());
                    chain.or_default().push(entry);
                }
                Err(error) => {
                    let chain = label.unwrap_or_default();
                    tracing::warn!(chain, %error, "an entry of the journal cannot be read");
                    strange.insert(chain.as_str().into());
                }
            }
        })
        .await?;
        chains.retain(|chain, _| !strange.contains(chain));
        *self.stock() = chains;
        Ok(last)
    }

    /// Forgets what was listed together: whoever wanted it has read it.
    pub fn clear_stock(&self) {
        self.stock().clear();
    }

    fn stock(&self) -> MutexGuard<'_, BTreeMap<ServiceName, Vec<JournalEntrySpec>>> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A chain of the stock, once, and only where nobody has written to it since.
    async fn stocked(&self, chain: &ServiceName) -> Option<Vec<JournalEntrySpec>> {
        let entries = self.stock().remove(chain)?;
        let last = entries.iter().map(|entry| entry.last).max()?;
        let next = name(chain, sequence(last).next());
        let next = self.asked(self.entries.get_opt(&next)).await;
        matches!(next, Ok(None)).then_some(entries)
    }

    fn heads(&self) -> MutexGuard<'_, BTreeMap<ServiceName, Head>> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn head(&self, chain: &ServiceName) -> Result<Head, JournalError> {
        let known = self.heads().get(chain).cloned();
        match known {
            Some(head) => Ok(head),
            None => self.read(chain, Seq(1)).await.map(|_| self.known(chain)),
        }
    }

    fn known(&self, chain: &ServiceName) -> Head {
        self.heads().get(chain).cloned().unwrap_or_default()
    }

    /// Every line of a chain, in order and unchecked.
    async fn every_line(&self, chain: &ServiceName) -> Result<Vec<Line>, JournalError> {
        let mut entries = self.stocked(chain).await.unwrap_or_default();
        if entries.is_empty() {
            let labels = format!("{CHAIN}={chain}");
            self.each(&self.entries, &labels, |entry| entries.push(entry.spec))
                .await?;
        }
        // Whoever removes a label does not take the entry out of its chain: the gap shows.
        entries.sort_by_key(|entry| entry.first);
        Ok(entries.iter().flat_map(lines).collect())
    }

    /// Takes in each entry with these labels, page by page.
    async fn each<K: Clone + Debug + DeserializeOwned>(
        &self,
        api: &Api<K>,
        labels: &str,
        mut take: impl FnMut(K) + Send,
    ) -> Result<(), JournalError> {
        let mut next = Some(ListParams::default().labels(labels).limit(PAGE));
        while let Some(page) = next {
            let listed = self.asked(api.list(&page)).await?;
            next = next_page(page, &listed.metadata);
            listed.items.into_iter().for_each(&mut take);
        }
        Ok(())
    }

    /// Creates an entry, and asks until it is known whether it is there.
    async fn create(&self, chain: &ServiceName, entry: &JournalEntry) -> Result<(), JournalError> {
        let mut wait = WAIT;
        loop {
            match self
                .in_time(self.entries.create(&PostParams::default(), entry))
                .await
            {
                Told::Yes(_) => return Ok(()),
                Told::Taken => match self.is_ours(entry).await {
                    Some(true) => return Ok(()),
                    Some(false) => {
                        return Err(JournalError::Conflict {
                            chain: chain.clone(),
                            seq: sequence(entry.spec.first),
                        });
                    }
                    None => {}
                },
                Told::No(error) => return Err(self.failed(error)),
                Told::Nothing(reason) => {
                    tracing::warn!(%chain, seq = entry.spec.first, reason, "the API server did not say whether a record is written: it is asked again");
                }
            }
            let now = self.runtime.now();
            self.runtime.sleep_until(now.after(wait)).await;
            wait = Span::from_millis(wait.as_millis() * 2).min(LONGEST_WAIT);
        }
    }

    /// Whether the entry that stands there is this very append; none where that cannot be told now.
    async fn is_ours(&self, entry: &JournalEntry) -> Option<bool> {
        let name = entry.metadata.name.as_deref().unwrap_or_default();
        match self.in_time(self.entries.get(name)).await {
            Told::Yes(there) => Some(there.spec == entry.spec),
            Told::Taken | Told::No(_) | Told::Nothing(_) => None,
        }
    }

    async fn in_time<T>(&self, asked: impl Future<Output = Result<T, kube::Error>>) -> Told<T> {
        let limit = self.runtime.now().after(ANSWER);
        let mut limit = self.runtime.sleep_until(limit).fuse();
        select_biased! {
            answer = Box::pin(asked).fuse() => Told::of(answer),
            () = limit => Told::Nothing(format!("no answer within {ANSWER}")),
        }
    }

    /// What may fail; a server that does not answer is not waited for without end.
    async fn asked<T>(
        &self,
        asked: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, JournalError> {
        let limit = self.runtime.now().after(ANSWER);
        let mut limit = self.runtime.sleep_until(limit).fuse();
        select_biased! {
            answer = Box::pin(asked).fuse() => answer.map_err(|e| self.failed(e)),
            () = limit => Err(JournalError::Io {
                place: self.place.clone(),
                source: format!("the API server has not answered within {ANSWER}").into(),
            }),
        }
    }

    fn failed(&self, error: kube::Error) -> JournalError {
        JournalError::Io {
            place: self.place.clone(),
            source: error.into(),
        }
    }
}

/// What the server said.
enum Told<T> {
    /// It is done.
    Yes(T),
    /// Something of that name is there.
    Taken,
    /// It is not done, and never will be.
    No(kube::Error),
    /// Whether it is done cannot be told, or it may be done later.
    Nothing(String),
}

impl<T> Told<T> {
    fn of(answer: Result<T, kube::Error>) -> Self {
        match answer {
            Ok(done) => Self::Yes(done),
            Err(kube::Error::Api(status)) if status.code == 409 => Self::Taken,
            // Below 500 the server decided; it wants to be asked later in two cases.
            Err(kube::Error::Api(status))
                if (400..500).contains(&status.code) && !matches!(status.code, 408 | 429) =>
            {
                Self::No(kube::Error::Api(status))
            }
            Err(error) => Self::Nothing(crate::port::cause::in_full(&error)),
        }
    }
}

fn name(chain: &ServiceName, first: Seq) -> String {
    format!("{chain}-{:010}", first.0)
}

fn number(seq: Seq) -> i64 {
    i64::try_from(seq.0).unwrap_or(i64::MAX)
}

fn sequence(number: i64) -> Seq {
    Seq(u64::try_from(number).unwrap_or_default())
}

/// The term that a record begins, where it does.
fn term(text: &str) -> Option<Term> {
    if !text.contains("leaderTaken") {
        return None;
    }
    let record: Record = serde_json::from_str(text).ok()?;
    if let RecordBody::LeaderTaken { term, .. } = record.body {
        Some(term)
    } else {
        None
    }
}

/// The lines of an entry. Their hashes are not kept one by one: the next line holds each, and the entry that of the last.
fn lines(entry: &JournalEntrySpec) -> Vec<Line> {
    let count = entry.lines.len();
    let each = entry.lines.iter().zip(0_u64..).enumerate();
    each.map(|(n, (text, offset))| Line {
        seq: Seq(sequence(entry.first).0.saturating_add(offset)),
        hash: if n + 1 == count {
            entry.hash.clone()
        } else {
            chain::hash(text)
        },
        text: text.clone(),
    })
    .collect()
}

#[async_trait]
impl Journal for KubernetesJournal {
    async fn append(
        &self,
        chain: &ServiceName,
        after: Seq,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Record>, JournalError> {
        let mut head = self.head(chain).await?;
        if head.seq != after {
            return Err(JournalError::Conflict {
                chain: chain.clone(),
                seq: after.next(),
            });
        }
        if drafts.is_empty() {
            return Ok(Vec::new());
        }
        let sealed = chain::seal(chain, &mut head, drafts).map_err(|e| JournalError::Io {
            place: self.place.clone(),
            source: e.into(),
        })?;
        let (records, lines): (Vec<Record>, Vec<Line>) = sealed.into_iter().unzip();
        let first = after.next();
        let spec = JournalEntrySpec {
            chain: chain.to_string(),
            first: number(first),
            last: number(head.seq),
            hash: head.hash.clone(),
            writer: format!("{}/{:016x}", self.identity, rand::random::<u64>()),
            lines: lines.into_iter().map(|line| line.text).collect(),
        };
        let mut entry = JournalEntry::new(&name(chain, first), spec);
        entry.metadata.labels = Some(BTreeMap::from([
            (CHAIN.to_owned(), chain.to_string()),
            (LAST.to_owned(), head.seq.0.to_string()),
        ]));
        self.create(chain, &entry).await?;
        self.heads().insert(chain.clone(), head);
        Ok(records)
    }

    async fn read(&self, chain: &ServiceName, from: Seq) -> Result<Vec<Record>, JournalError> {
        let lines = self.every_line(chain).await?;
        let mut records = chain::check(chain, Head::default(), &lines)?;
        let head = lines.last().map_or_else(Head::default, |line| Head {
            seq: line.seq,
            hash: line.hash.clone(),
        });
        let mut heads = self.heads();
        // What was appended while this was listed is not forgotten again.
        if heads.get(chain).is_none_or(|known| known.seq <= head.seq) {
            heads.insert(chain.clone(), head);
        }
        drop(heads);
        records.retain(|record| record.seq >= from);
        Ok(records)
    }

    async fn chains(&self) -> Result<Vec<ServiceName>, JournalError> {
        let heads = Lines::heads(self).await?;
        Ok(heads.into_iter().map(|(chain, _)| chain).collect())
    }

    fn remedies(&self) -> Vec<String> {
        vec![
            "kubectl get --raw='/readyz?verbose'".to_owned(),
            format!("kubectl get journalentries -n {}", self.namespace),
            format!("kubectl get resourcequotas -n {}", self.namespace),
        ]
    }
}

#[async_trait]
impl Rivals for KubernetesJournal {
    async fn overtaken(
        &self,
        chain: &ServiceName,
        after: Seq,
    ) -> Result<Option<Seq>, JournalError> {
        let mut next = after.next();
        loop {
            let there = self.asked(self.entries.get_opt(&name(chain, next))).await?;
            let Some(there) = there else {
                return Ok(None);
            };
            let writer = there.spec.writer.rsplit_once('/');
            if writer.is_none_or(|(who, _)| who != self.identity) {
                return Ok(Some(next));
            }
            // Its own, whose answer is still on the way.
            next = sequence(there.spec.last).next();
        }
    }
}

#[async_trait]
impl Lines for KubernetesJournal {
    async fn lines(
        &self,
        chain: &ServiceName,
        from: Seq,
        most: usize,
    ) -> Result<Vec<Line>, JournalError> {
        let lines = self.every_line(chain).await?;
        let wanted = lines.into_iter().filter(|line| line.seq >= from);
        Ok(wanted.take(most).collect())
    }

    async fn heads(&self) -> Result<Vec<(ServiceName, Seq)>, JournalError> {
        let mut heads: BTreeMap<ServiceName, Seq> = BTreeMap::new();
        let mut next = Some(ListParams::default().labels(CHAIN).limit(PAGE));
        while let Some(page) = next {
            let listed = self.asked(self.entries.list_metadata(&page)).await?;
            next = next_page(page, &listed.metadata);
            for entry in listed.items {
                let labels = entry.metadata.labels.unwrap_or_default();
                let last = labels.get(LAST).and_then(|last| last.parse().ok()).map(Seq);
                if let (Some(chain), Some(last)) = (labels.get(CHAIN), last) {
                    let head = heads.entry(chain.as_str().into()).or_insert(last);
                    *head = last.max(*head);
                }
            }
        }
        Ok(heads.into_iter().collect())
    }
}
