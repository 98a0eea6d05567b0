//! Another controller takes over, from the journal's copy, while the one before is away and then comes back.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, PoisonError},
};

use futures::{FutureExt, channel::mpsc};
use object_store::memory::InMemory;

use super::{BUFFER, Controller, History};
use crate::{
    driver::{
        service::{Input, LoopError},
        takeover::take_up,
    },
    guard::wire::Way,
    journal::{copy::Copy, memory::MemoryJournal, restore},
    model::{
        id::{PersonName, Seq},
        span::Span,
    },
    port::{
        journal::{Journal, JournalError},
        runtime::SharedRuntime,
    },
    sim::{
        bucket::{Bucket, at_once},
        disk::DiskLedger,
        errand::Errand,
        fault::Away,
        line::{Letter, Message},
        network::Party,
        process::Process,
        rule::Rule,
        stagehand::lock,
        weakness::Weakness,
        world::Happening,
    },
};

/// A person finds out within this that the controller is away, and restores its journal on another host.
const RESTORES: (u64, u64) = (3_000, 9_000);
/// From the restore until the takeover is put into the copy.
const CLAIMS: (u64, u64) = (50, 3_000);
/// A takeover that the copy refused is tried again after this, with what stands there by then.
const AGAIN: Span = Span::from_secs(5);
/// So often at most.
const TRIES: u32 = 4;

/// Who came after whom.
#[derive(Default)]
pub(super) struct Succession {
    objects: Arc<InMemory>,
    /// What was restored, and is not claimed yet.
    restored: Option<Arc<MemoryJournal>>,
    tries: u32,
    /// The controller is away just now, or was when another one took over.
    away: Option<Away>,
    former: Option<Controller>,
    waiting: Vec<Letter>,
    taken: u64,
    back: u64,
}

impl Succession {
    /// The controller that was taken over from, if it runs.
    pub(super) fn awake(&self) -> Option<&Controller> {
        let is_frozen = self.away == Some(Away::Frozen);
        self.former.as_ref().filter(|_| !is_frozen)
    }

    /// The same, whether it runs or is frozen.
    pub(super) fn former(&self) -> Option<&Controller> {
        self.former.as_ref()
    }

    /// How often another controller took over, and how often the one before came back.
    pub(super) fn count(&self) -> (u64, u64) {
        (self.taken, self.back)
    }
}

impl History {
    /// The controller is away, or back.
    pub(super) fn succeeds(&mut self, how: Away, begins: bool) {
        let is_taken = lock(&self.world).is_succeeded;
        self.succession.away = begins.then_some(how);
        if !is_taken && how == Away::Frozen {
            self.frozen = if begins {
                self.frozen + 1
            } else {
                self.frozen.saturating_sub(1)
            };
            self.thaw();
        }
        if begins && !is_taken {
            let mut world = lock(&self.world);
            let after = world.chance.millis(RESTORES.0, RESTORES.1);
            world.plan(after, Happening::Runs(Errand::Restore));
        }
        if !begins && self.succession.former.is_some() {
            self.succession.back += 1;
            let waiting = std::mem::take(&mut self.succession.waiting);
            self.arrive_late(waiting, Party::Former);
        }
    }

    fn arrive_late(&self, letters: Vec<Letter>, to: Party) {
        let mut world = lock(&self.world);
        for letter in letters {
            let after = world.chance.millis(0, 5);
            let letter = Letter { to, ..letter };
            world.plan(after, Happening::Letter(Box::new(letter)));
        }
    }

    /// The copy of a process's journal, where another one will take over from it; who hears of a successor is deposed.
    pub(super) fn copy(
        &self,
        runtime: &SharedRuntime,
        inbox: &mpsc::UnboundedSender<Input>,
    ) -> Option<Arc<Copy>> {
        if !self.scenario.is_succeeded() {
            return None;
        }
        let objects = &self.succession.objects;
        let store = Bucket::store(objects, &self.world, Some(runtime.clone()));
        let copy = Arc::new(Copy::new(self.kept.clone(), store, runtime.clone()));
        let (following, inbox) = (copy.clone(), inbox.clone());
        let is_deaf = self.scenario.weakness == Some(Weakness::DeafToSuccessor);
        let follows = async move {
            let succession = following.follow().await;
            if !is_deaf {
                drop(inbox.unbounded_send(Input::Deposed(succession)));
            }
        };
        runtime.spawn("copy", follows.boxed());
        (!is_deaf).then_some(copy)
    }

    /// A person restores the journal on another host, and takes it up there.
    pub(super) fn restore(&mut self) {
        self.succession.tries += 1;
        let store = Bucket::store(&self.succession.objects, &self.world, None);
        let read = at_once(restore::read_back(&store)).and_then(Result::ok);
        let chains = read.unwrap_or_default();
        if chains.is_empty() {
            self.again();
            return;
        }
        let journal = MemoryJournal::restored(chains.into_iter().map(|c| (c.chain, c.lines)));
        let by = self.scenario.service.approvals.approvers.first().cloned();
        let by = by.unwrap_or_else(|| PersonName::new("somebody".to_owned()));
        let (chain, now) = (&self.scenario.service.name, lock(&self.world).now);
        let taken = at_once(take_up(&journal, chain, &by, "it is away", now));
        if !matches!(taken, Some(Ok(()))) {
            self.again();
            return;
        }
        self.succession.restored = Some(Arc::new(journal));
        let mut world = lock(&self.world);
        let after = world.chance.millis(CLAIMS.0, CLAIMS.1);
        world.plan(after, Happening::Runs(Errand::Claim));
    }

    fn again(&self) {
        if self.succession.tries < TRIES {
            lock(&self.world).plan(AGAIN, Happening::Runs(Errand::Restore));
        }
    }

    /// The copy takes one successor alone, and none while another controller writes there.
    pub(super) fn claim(&mut self) {
        let Some(journal) = self.succession.restored.take() else {
            return;
        };
        let clock = lock(&self.world).clock();
        let runtime = Process::new(clock).runtime();
        let store = Bucket::store(&self.succession.objects, &self.world, None);
        let copy = Copy::new(journal.clone(), store, runtime);
        if !matches!(at_once(copy.claim()), Some(Ok(()))) {
            self.again();
            return;
        }
        let chain = &self.scenario.service.name;
        let records = at_once(journal.read(chain, Seq(1))).and_then(Result::ok);
        self.succession.taken += 1;
        self.succession.former = self.controller.take();
        self.succession.waiting = std::mem::take(&mut self.waiting);
        self.frozen = 0;
        self.doomed = None;
        self.kept = journal;
        self.ledger = Arc::new(DiskLedger::new(self.world.clone()));
        lock(&self.world).succeeded(&records.unwrap_or_default());
        self.start();
    }

    /// Lets the controller that was taken over from do what it can do now.
    pub(super) fn turn_former(&mut self) {
        let Some(former) = self.succession.awake() else {
            return;
        };
        let (process, end) = (former.process.clone(), former.end.clone());
        lock(&self.world).speaks(Party::Former);
        let turned = std::panic::catch_unwind(AssertUnwindSafe(|| while process.turn() {}));
        lock(&self.world).speaks(Party::Controller);
        let ended = end.lock().unwrap_or_else(PoisonError::into_inner).take();
        let is_lawful = match &ended {
            None => turned.is_ok(),
            Some(Err(LoopError::TakenOver(_))) => true,
            Some(Err(LoopError::Deposed { source, .. })) => {
                matches!(source, JournalError::Conflict { .. })
            }
            Some(Ok(()) | Err(LoopError::Replay { .. } | LoopError::Panicked { .. })) => false,
        };
        if !is_lawful {
            let found = "the loop of the controller that was taken over from".to_owned();
            self.violated(Rule::LoopLives, found);
        }
        if ended.is_some() || turned.is_err() {
            process.kill();
            self.succession.former = None;
        }
    }

    /// The controller that was taken over from hears a guard.
    pub(super) fn former_hears(&mut self, letter: Letter) {
        let Some(former) = &self.succession.former else {
            return;
        };
        if self.succession.away == Some(Away::Frozen) {
            if self.succession.waiting.len() < BUFFER {
                self.succession.waiting.push(letter);
            }
            return;
        }
        let (Party::Site(n), Message::Told(told)) = (letter.from, letter.what) else {
            return;
        };
        let Some(ward) = former.ward.clone() else {
            return;
        };
        let site = self.scenario.service.sites[n].name.clone();
        lock(&self.world).speaks(Party::Former);
        ward.hear(&site, *told, Way::Straight);
        lock(&self.world).speaks(Party::Controller);
    }
}
