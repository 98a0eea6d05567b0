//! The disk of the controller: its journal and its ledger. What was answered is durable; what was not may be.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use super::{
    election,
    fault::{By, JournalFault},
    network::Party,
    stagehand::{self, lock},
    weakness::Weakness,
    world::SharedWorld,
};
use crate::{
    journal::memory::MemoryJournal,
    model::{
        announcement::Tally,
        id::{Epoch, Seq, ServiceName},
        record::{Record, RecordBody},
        span::Span,
        time::Time,
    },
    port::{
        channel::Recipient,
        journal::{Draft, Journal, JournalError, Lines},
        ledger::{Delivery, Ledger, LedgerError, Mailing},
        runtime::SharedRuntime,
    },
};

/// While it hangs it is looked at again after this.
const HANGS: Span = Span::from_millis(250);
/// A weakened journal writes so long after it has answered.
const LATER: Span = Span::from_millis(400);

/// The journal on a disk that outlives processes, as one process of the controller sees it.
pub struct DiskJournal {
    /// What is durable.
    pub kept: std::sync::Arc<MemoryJournal>,
    /// What a weakened one has said to be.
    pub said: MemoryJournal,
    /// The world, which knows how the disk behaves.
    pub world: SharedWorld,
    /// Time of the process that writes.
    pub runtime: SharedRuntime,
}

impl DiskJournal {
    async fn sleep(&self, span: Span) {
        self.runtime
            .sleep_until(self.runtime.now().after(span))
            .await;
    }

    /// One way to the cluster that holds the journal, or back; a disk is always there.
    async fn way(&self, is_back: bool) -> Result<(), JournalError> {
        let arrives = {
            let mut world = lock(&self.world);
            if world.scenario.succession() != Some(By::Election) {
                return Ok(());
            }
            world.way_to_store(is_back)
        };
        self.sleep(arrives.unwrap_or(election::RETRY)).await;
        arrives.map(drop).ok_or_else(election::silent)
    }

    fn fault(&self) -> Option<JournalFault> {
        lock(&self.world).journal_fault()
    }

    async fn write(
        &self,
        chain: &ServiceName,
        after: Seq,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Record>, JournalError> {
        let weakness = lock(&self.world).scenario.weakness;
        let drafts = weakened(drafts, weakness);
        let mut after = after;
        if weakness == Some(Weakness::JournalOverwrites) {
            let heads = self.kept.heads().await?;
            let head = heads.into_iter().find(|(name, _)| name == chain);
            after = head.map_or(after, |(_, head)| head);
        }
        let records = self.kept.append(chain, after, drafts).await?;
        let mut world = lock(&self.world);
        for record in &records {
            stagehand::recorded(&mut world, record);
        }
        Ok(records)
    }

    /// Answers first and writes later.
    async fn write_later(
        &self,
        chain: &ServiceName,
        after: Seq,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Record>, JournalError> {
        let records = self.said.append(chain, after, drafts.clone()).await?;
        let later = Self {
            kept: self.kept.clone(),
            said: MemoryJournal::new(),
            world: self.world.clone(),
            runtime: self.runtime.clone(),
        };
        let chain = chain.clone();
        let task = async move {
            later.sleep(LATER).await;
            drop(later.write(&chain, after, drafts).await);
        };
        self.runtime.spawn("write", Box::pin(task));
        Ok(records)
    }

    /// What this process believes to be durable.
    async fn believe(&self, chain: &ServiceName, records: &[Record]) -> Result<(), JournalError> {
        let drafts = records.iter().map(|r| Draft {
            epoch: r.epoch,
            at: r.at,
            body: r.body.clone(),
        });
        let drafts: Vec<_> = drafts.collect();
        if !drafts.is_empty() {
            self.said.append(chain, Seq(0), drafts).await?;
        }
        Ok(())
    }
}

/// What a controller writes that does not keep its rules.
fn weakened(mut drafts: Vec<Draft>, weakness: Option<Weakness>) -> Vec<Draft> {
    if weakness == Some(Weakness::EpochOfTheOther) {
        for draft in &mut drafts {
            if let RecordBody::EpochRaised { epoch, terms, .. } = &mut draft.body {
                *epoch = Epoch(epoch.0 - 1);
                if let Some(terms) = terms {
                    terms.epoch = *epoch;
                }
            }
        }
    }
    drafts
}

#[async_trait]
impl Journal for DiskJournal {
    async fn append(
        &self,
        chain: &ServiceName,
        after: Seq,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Record>, JournalError> {
        let place = || "on the simulated disk".to_owned();
        let failed = |what: &'static str| JournalError::Io {
            place: place(),
            source: what.into(),
        };
        let (before, behind, weakness) = {
            let mut world = lock(&self.world);
            let spans = (world.chance.millis(1, 4), world.chance.millis(0, 3));
            (spans.0, spans.1, world.scenario.weakness)
        };
        self.sleep(before).await;
        self.way(false).await?;
        while self.fault() == Some(JournalFault::Hangs) {
            self.sleep(HANGS).await;
        }
        let records = match (self.fault(), weakness) {
            (Some(JournalFault::Full), _) => return Err(JournalError::Full { place: place() }),
            (Some(JournalFault::Fails), _) => return Err(failed("it was not written")),
            (Some(JournalFault::LosesAnswer), _) => {
                self.write(chain, after, drafts).await?;
                return Err(failed("the answer was lost"));
            }
            (_, Some(Weakness::EffectBeforeRecord)) => {
                self.write_later(chain, after, drafts).await?
            }
            (Some(JournalFault::Hangs) | None, _) => self.write(chain, after, drafts).await?,
        };
        self.sleep(behind).await;
        self.way(true).await?;
        Ok(records)
    }

    async fn read(&self, chain: &ServiceName, from: Seq) -> Result<Vec<Record>, JournalError> {
        let mut records = self.kept.read(chain, from).await?;
        let weakness = lock(&self.world).scenario.weakness;
        if weakness == Some(Weakness::ForgetfulJournal) {
            records.truncate(records.len().saturating_sub(2));
        }
        if weakness == Some(Weakness::EffectBeforeRecord) {
            self.believe(chain, &records).await?;
        }
        Ok(records)
    }

    async fn chains(&self) -> Result<Vec<ServiceName>, JournalError> {
        self.kept.chains().await
    }
}

/// The ledger on the same disk.
pub struct DiskLedger {
    told: Mutex<BTreeMap<(Mailing, Recipient), Delivery>>,
    suppressed: Mutex<BTreeSet<(ServiceName, Recipient)>>,
    world: SharedWorld,
}

fn open<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl DiskLedger {
    /// An empty one.
    #[must_use]
    pub fn new(world: SharedWorld) -> Self {
        Self {
            told: Mutex::default(),
            suppressed: Mutex::default(),
            world,
        }
    }

    fn standing(&self, mailing: &Mailing, at: Delivery) -> Vec<Recipient> {
        let told = open(&self.told);
        let own = told.iter().filter(|((m, _), d)| m == mailing && **d == at);
        own.map(|((_, to), _)| to.clone()).collect()
    }

    /// In a cluster two may believe to lead: the ledger there lets nobody take on whom another one has, and goes back from
    /// nothing that is settled.
    fn advance(
        &self,
        mailing: &Mailing,
        to: &Recipient,
        delivery: Delivery,
    ) -> Result<(), LedgerError> {
        let is_shared = lock(&self.world).scenario.succession() == Some(By::Election);
        let mut told = open(&self.told);
        let entry = told.entry((mailing.clone(), to.clone()));
        let known = entry.or_insert(Delivery::Queued);
        if is_shared && delivery == Delivery::Sending && *known != Delivery::Queued {
            let taken = format!("{} was taken on by another leader", mailing.key(to));
            return Err(LedgerError(taken.into()));
        }
        if !(is_shared && known.is_settled() && !delivery.is_settled()) {
            *known = delivery;
        }
        Ok(())
    }

    fn is_forgetful(&self) -> bool {
        lock(&self.world).scenario.weakness == Some(Weakness::ForgetfulLedger)
    }
}

#[async_trait]
impl Ledger for DiskLedger {
    async fn enqueue(
        &self,
        mailing: &Mailing,
        to: &[Recipient],
        _at: Time,
    ) -> Result<(), LedgerError> {
        let forgets = self.is_forgetful();
        let mut told = open(&self.told);
        for to in to {
            let entry = told.entry((mailing.clone(), to.clone()));
            let delivery = entry.or_insert(Delivery::Queued);
            if forgets {
                *delivery = Delivery::Queued;
            }
        }
        Ok(())
    }

    async fn queued(&self, mailing: &Mailing, most: usize) -> Result<Vec<Recipient>, LedgerError> {
        let mut queued = self.standing(mailing, Delivery::Queued);
        queued.truncate(most);
        Ok(queued)
    }

    async fn interrupted(&self, mailing: &Mailing) -> Result<Vec<Recipient>, LedgerError> {
        Ok(self.standing(mailing, Delivery::Sending))
    }

    async fn mark(
        &self,
        mailing: &Mailing,
        marks: &[(Recipient, Delivery, String)],
        _at: Time,
    ) -> Result<(), LedgerError> {
        for (to, delivery, _) in marks {
            self.advance(mailing, to, *delivery)?;
            let mut world = lock(&self.world);
            let counts =
                world.speaker != Party::Former || world.scenario.succession() == Some(By::Election);
            if matches!(delivery, Delivery::Sent | Delivery::Unknown) && counts {
                world.watchman.settled(mailing.key(to));
            }
        }
        Ok(())
    }

    async fn tally(&self, mailing: &Mailing) -> Result<Tally, LedgerError> {
        let count = |at| self.standing(mailing, at).len() as u64;
        Ok(Tally {
            queued: count(Delivery::Queued) + count(Delivery::Sending),
            sent: count(Delivery::Sent),
            unknown: count(Delivery::Unknown),
            failed: count(Delivery::Failed),
            suppressed: count(Delivery::Suppressed),
        })
    }

    async fn suppress(
        &self,
        service: &ServiceName,
        to: &Recipient,
        _reason: &str,
        _at: Time,
    ) -> Result<(), LedgerError> {
        open(&self.suppressed).insert((service.clone(), to.clone()));
        Ok(())
    }

    async fn suppressed(&self, service: &ServiceName, to: &Recipient) -> Result<bool, LedgerError> {
        Ok(open(&self.suppressed).contains(&(service.clone(), to.clone())))
    }
}
