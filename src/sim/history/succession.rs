//! Another controller comes after the one before, while that is away and then comes back: a person takes over, from the
//! journal's copy, or a replica is elected that writes the same journal.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, PoisonError},
};

use futures::{FutureExt, channel::mpsc};
use object_store::memory::InMemory;

use super::{AGAIN, BUFFER, Controller, Disk, History};
use crate::{
    driver::{
        service::{Input, Leader, LoopError},
        takeover::{self, take_up},
    },
    journal::{
        copy::{Copy, CopyError},
        memory::MemoryJournal,
        restore,
    },
    model::{
        id::{PersonName, Seq, ServiceName},
        span::Span,
    },
    port::{
        journal::{Journal, JournalError},
        runtime::SharedRuntime,
    },
    sim::{
        bucket::{Bucket, at_once},
        coverage::{Handover, Met, Situation},
        disk::DiskLedger,
        election::{Cluster, LEASE, RETRY},
        errand::Errand,
        fault::{Away, By},
        line::Letter,
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
const RETAKES: Span = Span::from_secs(5);
/// So often at most.
const TRIES: u32 = 4;
/// So often the supervisor starts a controller again that was taken over from.
const RETURNS: u32 = 3;

/// Who came after whom.
#[derive(Default)]
pub(super) struct Succession {
    objects: Arc<InMemory>,
    /// What was restored, and is not claimed yet.
    restored: Option<Arc<MemoryJournal>>,
    tries: u32,
    /// The controller is away just now, or was when another one came after it.
    away: Option<Away>,
    /// The one that was taken over from, and what its host keeps.
    former: Option<Controller>,
    left: Option<Disk>,
    returns: u32,
    waiting: Vec<Letter>,
}

/// What a process has of the journal's copy.
pub(super) struct Copied {
    /// What it asks.
    pub(super) copy: Arc<Copy>,
    runtime: SharedRuntime,
    inbox: mpsc::UnboundedSender<Input>,
}

impl Copied {
    /// Asks whether the process may begin, and has the copy follow its journal from then on.
    pub(super) async fn begin(self, service: &ServiceName) -> Result<(), LoopError> {
        match takeover::leads(&self.copy, &self.runtime).await {
            Ok(()) => {}
            Err(CopyError::TakenOver(succession)) => return Err(LoopError::TakenOver(succession)),
            Err(error) => {
                return Err(LoopError::Replay {
                    service: service.to_string(),
                    source: JournalError::Io {
                        place: "in the journal's copy".to_owned(),
                        source: error.into(),
                    },
                });
            }
        }
        let (copy, inbox) = (self.copy, self.inbox);
        let follows = async move {
            let succession = copy.follow().await;
            drop(inbox.unbounded_send(Input::Deposed(succession)));
        };
        self.runtime.spawn("copy", follows.boxed());
        Ok(())
    }
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

    /// Whether the controller's host is down.
    pub(super) fn is_dead(&self) -> bool {
        self.away == Some(Away::Dead)
    }
}

impl History {
    fn is_succeeded(&self) -> bool {
        lock(&self.world).is_succeeded
    }

    /// The controller is away, or back.
    pub(super) fn succeeds(&mut self, by: By, away: Away, begins: bool) {
        let is_taken = self.is_succeeded();
        self.succession.away = begins.then_some(away);
        match away {
            Away::Frozen if !is_taken => self.freezes(begins),
            Away::Dead if begins => self.die(),
            Away::Dead if !is_taken && self.controller.is_none() => self.start(),
            Away::Frozen | Away::Dead | Away::CutOff | Away::WithPrimary => {}
        }
        if begins && !is_taken {
            let mut world = lock(&self.world);
            let (after, errand) = match by {
                By::Takeover => (world.chance.millis(RESTORES.0, RESTORES.1), Errand::Restore),
                By::Election => (LEASE, Errand::Elect),
            };
            world.plan(after, Happening::Runs(errand));
        }
        if !begins && is_taken {
            self.comes_back(by, away);
        }
    }

    fn comes_back(&mut self, by: By, away: Away) {
        if away == Away::Dead {
            self.returns();
        }
        if self.succession.former.is_some() {
            self.meets(by, away, Met::Back);
        }
        let mut world = lock(&self.world);
        for letter in std::mem::take(&mut self.succession.waiting) {
            let after = world.chance.millis(0, 5);
            let to = Party::Former;
            let letter = Letter { to, ..letter };
            world.plan(after, Happening::Letter(Box::new(letter)));
        }
    }

    fn meets(&self, by: By, away: Away, met: Met) {
        let handover = Handover { by, away, met };
        let mut world = lock(&self.world);
        let coverage = &mut world.watchman.coverage;
        coverage.see(Situation::Handover(handover));
    }

    /// Another controller leads from now on.
    fn hands_over(&mut self) {
        self.succession.left = Some(self.disk.clone());
        self.succession.former = self.controller.take();
        self.succession.waiting = std::mem::take(&mut self.waiting);
        self.frozen = 0;
        self.doomed = None;
    }

    /// It has begun to.
    fn handed_over(&mut self, by: By) {
        let is_busy = lock(&self.world).watchman.is_busy();
        let met = if is_busy { Met::InRun } else { Met::Quiet };
        if let Some(away) = self.succession.away {
            self.meets(by, away, met);
        }
        self.start();
    }

    /// The journal's copy, where another controller will take over from it.
    pub(super) fn copied(
        &self,
        disk: &Disk,
        runtime: &SharedRuntime,
        inbox: &mpsc::UnboundedSender<Input>,
    ) -> Option<Copied> {
        let is_deaf = self.scenario.weakness == Some(Weakness::DeafToSuccessor);
        let is_copied = self.scenario.succession() == Some(By::Takeover);
        // A deaf one copies before it is taken over from, and asks nobody afterwards.
        if !is_copied || is_deaf && self.is_succeeded() {
            return None;
        }
        let objects = &self.succession.objects;
        let store = Bucket::store(objects, &self.world, Some(runtime.clone()));
        let copy = Arc::new(Copy::new(disk.kept.clone(), store, runtime.clone()));
        if is_deaf {
            let following = copy.clone();
            let follows = async move { drop(following.follow().await) };
            runtime.spawn("copy", follows.boxed());
            return None;
        }
        let (runtime, inbox) = (runtime.clone(), inbox.clone());
        Some(Copied {
            copy,
            runtime,
            inbox,
        })
    }

    /// How a process comes to lead, where replicas are elected.
    pub(super) fn leader(
        &self,
        runtime: &SharedRuntime,
        inbox: &mpsc::UnboundedSender<Input>,
    ) -> Option<Leader> {
        if self.scenario.succession() != Some(By::Election) {
            return None;
        }
        let yields = self.scenario.service.guards.is_some();
        let cluster = Cluster::won(&self.disk.kept, &self.world, runtime);
        Some(cluster.leader(yields, inbox))
    }

    /// A replica takes the Lease once that is over.
    pub(super) fn elect(&mut self) {
        let is_over = {
            let world = lock(&self.world);
            if world.is_succeeded {
                return;
            }
            world.lease_is_over()
        };
        if !is_over {
            if self.succession.away.is_some() || self.controller.is_none() {
                lock(&self.world).plan(RETRY, Happening::Runs(Errand::Elect));
            }
            return;
        }
        self.hands_over();
        lock(&self.world).elected();
        self.handed_over(By::Election);
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
            lock(&self.world).plan(RETAKES, Happening::Runs(Errand::Restore));
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
        self.hands_over();
        self.disk = Disk {
            kept: journal,
            ledger: Arc::new(DiskLedger::new(self.world.clone())),
        };
        lock(&self.world).succeeded(&records.unwrap_or_default());
        self.handed_over(By::Takeover);
    }

    /// The supervisor of the controller that was taken over from starts it again, on its own disk.
    pub(super) fn returns(&mut self) {
        let is_over = self.succession.returns >= RETURNS || self.succession.is_dead();
        let Some(disk) = self.succession.left.clone().filter(|_| !is_over) else {
            return;
        };
        if self.succession.former.is_some() {
            return;
        }
        self.succession.returns += 1;
        lock(&self.world).speaks(Party::Former);
        let begun = self.begin(&disk);
        lock(&self.world).speaks(Party::Controller);
        match begun {
            Ok(controller) => self.succession.former = Some(controller),
            Err(problem) => self.violated(Rule::LoopLives, problem),
        }
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
        let is_elected = self.scenario.succession() == Some(By::Election);
        let is_lawful = match &ended {
            None => turned.is_ok(),
            Some(Err(LoopError::TakenOver(_))) => true,
            Some(Err(LoopError::Deposed { source, .. })) => {
                matches!(source, JournalError::Conflict { .. })
            }
            Some(Ok(())) => is_elected,
            Some(Err(LoopError::Replay { .. } | LoopError::Panicked { .. })) => false,
        };
        if !is_lawful {
            let found = "the loop of the controller that was taken over from".to_owned();
            self.violated(Rule::LoopLives, found);
        }
        if ended.is_some() || turned.is_err() {
            process.kill();
            self.succession.former = None;
            // A replica that ended waits to be elected again.
            if !is_elected {
                lock(&self.world).plan(AGAIN, Happening::Runs(Errand::Return));
            }
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
        let opened = lock(&self.world).reads(Party::Former, letter);
        let Some((n, told, way)) = opened else {
            return;
        };
        let Some(ward) = former.ward.clone() else {
            return;
        };
        let site = self.scenario.service.sites[n].name.clone();
        lock(&self.world).speaks(Party::Former);
        ward.hear(&site, told, way);
        lock(&self.world).speaks(Party::Controller);
    }
}
