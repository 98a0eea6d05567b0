//! A history: one seed played from its beginning to its end. The driver is the real one; nothing here decides.

mod succession;

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    panic::AssertUnwindSafe,
    path::PathBuf,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use futures::{
    FutureExt, StreamExt,
    channel::{mpsc, oneshot},
};

use self::succession::Succession;
use super::{
    coverage::Coverage,
    disk::{DiskJournal, DiskLedger},
    election::LEASE,
    errand::{Answer, Errand},
    fault::{By, Fault, Wish},
    kinds,
    line::{Blundering, Letter, Line},
    network::Party,
    process::Process,
    rule::{Rule, Violation},
    scenario::Scenario,
    stagehand::{OnStage, lock},
    trace::Trace,
    world::{BEGIN, Happening, SharedWorld, World},
};
use crate::{
    decide::{
        event::{Command, Event},
        state::Run,
    },
    driver::{
        fitting::Fitting,
        group::Board,
        guards::{Told, Ward},
        metrics::Metrics,
        perform::{Performer, Underway},
        publisher,
        service::{Input, LoopError, Parts, ServiceLoop},
        watch::{self, Lookouts, Watch},
    },
    journal::memory::MemoryJournal,
    model::{
        approval::AskSubject,
        check::{CheckItem, CheckStatus},
        plan::RunKind,
        service::Service,
        span::Span,
    },
    port::{
        cause,
        guard::SharedGuards,
        journal::{JournalError, SharedJournal},
        kind::Wiring,
        ledger::SharedLedger,
        runtime::SharedRuntime,
        secret::{SecretError, Secrets},
    },
};

/// The supervisor starts a controller that ended by itself again after this.
const AGAIN: Span = Span::from_secs(3);
/// Readiness is checked so long after a start, as the real controller does it.
const FIRST_CHECK: Span = Span::from_secs(5);
/// After the last fault a person looks after what is open, and again after each of these.
const LOOKS_AFTER: Span = Span::from_secs(45);
/// Guards are asked how their sites stand after this.
const ASKS: Span = Span::from_secs(1);
/// So many datagrams wait for a controller that is frozen.
const BUFFER: usize = 500;
/// A history in which nothing is open goes on so long after its last fault.
const QUIET: Span = Span::from_secs(90);
/// So long after the last fault every run has ended: the longest expiry of a question, and what comes after it.
const ENDED: Span = Span::from_secs(45 * 60);

/// What came of a history.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The same for the same history.
    pub print: u64,
    /// What did not hold.
    pub violations: Vec<Violation>,
    /// What was seen.
    pub coverage: Coverage,
    /// How many things happened.
    pub events: u64,
    /// How long it was.
    pub lasted: Span,
    /// How many runs ended in which way.
    pub ended: BTreeMap<&'static str, u64>,
    /// Acknowledged writes, made after the outage began, that a promotion lost.
    pub lost_after_outage: u64,
    /// What happened, where it was written.
    pub lines: Vec<String>,
}

/// Plays a scenario.
#[must_use]
pub fn play(scenario: Arc<Scenario>, trace: Trace) -> Outcome {
    let world = Arc::new(Mutex::new(World::new(&scenario, trace)));
    let _stage = OnStage::put(world.clone());
    let mut history = History::new(scenario, world);
    history.run();
    history.outcome()
}

struct History {
    scenario: Arc<Scenario>,
    world: SharedWorld,
    disk: Disk,
    controller: Option<Controller>,
    /// How many more turns of its tasks the controller has to live.
    doomed: Option<u32>,
    frozen: u32,
    /// What came while it was frozen.
    waiting: Vec<Letter>,
    succession: Succession,
}

/// What outlives a controller's processes.
#[derive(Clone)]
struct Disk {
    kept: Arc<MemoryJournal>,
    ledger: SharedLedger,
}

/// A living controller.
struct Controller {
    process: Arc<Process>,
    inbox: mpsc::UnboundedSender<Input>,
    end: Arc<Mutex<Option<Result<(), LoopError>>>>,
    ward: Option<Arc<Ward>>,
}

impl History {
    fn new(scenario: Arc<Scenario>, world: SharedWorld) -> Self {
        {
            let mut world = lock(&world);
            world.plan(Span::ZERO, Happening::Runs(Errand::Start));
            world.plan(LOOKS_AFTER, Happening::Runs(Errand::LookAfter));
        }
        Self {
            scenario,
            disk: Disk {
                kept: Arc::default(),
                ledger: Arc::new(DiskLedger::new(world.clone())),
            },
            world,
            controller: None,
            doomed: None,
            frozen: 0,
            waiting: Vec::new(),
            succession: Succession::default(),
        }
    }

    fn run(&mut self) {
        let quiet = QUIET.saturating_add(self.scenario.patience());
        loop {
            self.turn();
            self.turn_former();
            match self.pass(quiet) {
                ControlFlow::Continue(happened) => self.react(happened),
                ControlFlow::Break(()) => break,
            }
        }
        self.conclude();
    }

    /// Lets the world go on until something concerns the controller, or the history is over.
    fn pass(&self, quiet: Span) -> ControlFlow<(), Option<Happening>> {
        let controller = self.controller.as_ref().filter(|_| self.frozen == 0);
        let former = self.succession.awake();
        let processes = [controller, former].map(|c| c.map(|c| &c.process));
        let timer = processes.iter().flatten().filter_map(|p| p.next_timer());
        let timer = timer.min();
        let mut held = lock(&self.world);
        let world = &mut *held;
        loop {
            let last = world.calm.after(ENDED);
            let is_quiet = world.now >= world.calm.after(quiet) && !world.watchman.is_busy();
            if world.now >= last || is_quiet {
                return ControlFlow::Break(());
            }
            let next = world.next_at().into_iter().chain(timer).min();
            let happened = world.pass(next.unwrap_or(BEGIN).min(last));
            world.watchman.look(&world.sites, world.now);
            let is_due = timer.is_some_and(|at| at <= world.now);
            let is_ready = processes.iter().flatten().any(|p| p.is_ready());
            if happened.is_some() || is_due || is_ready {
                return ControlFlow::Continue(happened);
            }
        }
    }

    fn react(&mut self, happened: Option<Happening>) {
        match happened {
            Some(Happening::Begins(n)) => self.fault(n, true),
            Some(Happening::Ends(n)) => self.fault(n, false),
            Some(Happening::Runs(errand)) => self.errand(errand),
            Some(Happening::Letter(letter)) => self.hear(*letter),
            Some(
                Happening::Stirs(..)
                | Happening::Writes(_)
                | Happening::Ships(..)
                | Happening::Arrives(_)
                | Happening::Answers(..),
            )
            | None => {}
        }
        if let Some(controller) = self.controller.as_ref().filter(|_| self.frozen == 0) {
            controller.process.pass(lock(&self.world).now);
        }
        if let Some(former) = self.succession.awake() {
            former.process.pass(lock(&self.world).now);
        }
    }

    fn fault(&mut self, n: usize, begins: bool) {
        let fault = self.scenario.faults[n].fault;
        if let Fault::ControllerDies(turns) = fault {
            if begins {
                self.doomed = Some(turns);
            } else {
                self.die();
                self.start();
            }
        }
        if fault == Fault::ControllerFreezes {
            self.freezes(begins);
        }
        if let Fault::Succeeded(by, away) = fault {
            self.succeeds(by, away, begins);
        }
        if let (Fault::Wishes(wish), true) = (fault, begins) {
            self.wish(wish);
        }
    }

    /// What came while the controller was frozen reaches it once nothing freezes it any more, in no order.
    fn freezes(&mut self, begins: bool) {
        self.frozen = if begins {
            self.frozen + 1
        } else {
            self.frozen.saturating_sub(1)
        };
        if self.frozen > 0 {
            return;
        }
        let mut world = lock(&self.world);
        for letter in std::mem::take(&mut self.waiting) {
            let after = world.chance.millis(0, 5);
            world.plan(after, Happening::Letter(Box::new(letter)));
        }
    }

    /// The controller hears a guard, or passes on what one says to another.
    fn hear(&mut self, letter: Letter) {
        if letter.to == Party::Former {
            self.former_hears(letter);
            return;
        }
        let Some(ward) = self.controller.as_ref().and_then(|c| c.ward.clone()) else {
            return;
        };
        if self.frozen > 0 {
            if self.waiting.len() < BUFFER {
                self.waiting.push(letter);
            }
            return;
        }
        let opened = lock(&self.world).reads(Party::Controller, letter);
        let Some((n, told, way)) = opened else {
            return;
        };
        if let Told::Ask(request) = &told {
            lock(&self.world).grant_blindly(n, request);
        }
        let site = self.scenario.service.sites[n].name.clone();
        ward.hear(&site, told, way);
    }

    /// A person wishes something of the controller.
    fn wish(&self, wish: Wish) {
        let service = &self.scenario.service;
        let Some(by) = service.approvals.approvers.first().cloned() else {
            return;
        };
        let reason = "it seems right".to_owned();
        let site = |n: usize| service.sites.get(n).map(|s| s.name.clone());
        let (kind, to) = match wish {
            Wish::Abort => {
                self.say(Command::Abort { by, reason });
                return;
            }
            Wish::Failover(to) => (RunKind::Failover, site(to)),
            Wish::Switchover(to) => (RunKind::Switchover, site(to)),
            Wish::Failback => (RunKind::Failback, None),
        };
        self.say(Command::Open {
            kind,
            to,
            plan: None,
            by,
            reason,
        });
    }

    /// Lets the controller do what it can do now.
    fn turn(&mut self) {
        if self.frozen > 0 {
            return;
        }
        let mut has_turned = false;
        while let Some(controller) = &self.controller {
            if self.doomed == Some(0) {
                self.die();
                return;
            }
            let process = controller.process.clone();
            match std::panic::catch_unwind(AssertUnwindSafe(|| process.turn())) {
                Ok(true) => {
                    has_turned = true;
                    self.doomed = self.doomed.map(|turns| turns.saturating_sub(1));
                }
                Ok(false) => break,
                Err(_) => {
                    self.violated(Rule::LoopLives, "a task panicked".to_owned());
                    self.die();
                    return;
                }
            }
        }
        if has_turned {
            self.ended();
        }
    }

    /// Notices that the loop has ended by itself: only whoever was deposed may.
    fn ended(&mut self) {
        let Some(controller) = &self.controller else {
            return;
        };
        let end = controller.end.lock();
        let Some(end) = end.unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        if let Err(LoopError::Deposed { source, .. }) = &end
            && let JournalError::Conflict { .. } = source
        {
            self.die();
            let start = Happening::Runs(Errand::Start);
            lock(&self.world).plan(AGAIN, start);
            return;
        }
        // It could not renew its Lease. It waits to be elected again, like any other.
        if end.is_ok() && self.scenario.succession() == Some(By::Election) {
            self.die();
            lock(&self.world).plan(LEASE, Happening::Runs(Errand::Start));
            return;
        }
        let how = end
            .err()
            .map_or("cleanly".to_owned(), |e| cause::in_full(&e));
        self.violated(Rule::LoopLives, format!("it ended: {how}"));
        self.die();
    }

    fn violated(&self, rule: Rule, found: String) {
        let mut world = lock(&self.world);
        let now = world.now;
        world.watchman.violations.note(rule, now, found);
    }

    fn die(&mut self) {
        self.doomed = None;
        if let Some(controller) = self.controller.take() {
            controller.process.kill();
            let mut world = lock(&self.world);
            let now = world.now;
            world
                .trace
                .note(now, 10, || "the controller dies".to_owned());
        }
    }

    fn start(&mut self) {
        if self.succession.is_dead() && !lock(&self.world).is_succeeded {
            return;
        }
        self.die();
        let begun = self.begin(&self.disk);
        match begun {
            Ok(controller) => self.controller = Some(controller),
            Err(problem) => self.violated(Rule::LoopLives, problem),
        }
    }

    fn begin(&self, disk: &Disk) -> Result<Controller, String> {
        let clock = {
            let mut world = lock(&self.world);
            let (now, clock) = (world.now, world.clock());
            world
                .trace
                .note(now, 11, || "the controller starts".to_owned());
            clock
        };
        let process = Process::new(clock);
        let runtime = process.runtime();
        let service = self.scenario.service.clone();
        let (inbox, received) = mpsc::unbounded();
        let guards = service.guards.is_some().then(|| self.guards(&runtime));
        let mut wiring = wiring(&service, &runtime);
        wiring.guards = guards.as_ref().map(|(_, guards)| guards.clone());
        let ward = guards.map(|(ward, _)| ward);
        let fitting = Fitting::over(kinds::kinds(), wiring).map_err(|e| cause::in_full(&e))?;
        let maker = watch::maker(kinds::kinds(), fitting.wiring());
        let lookouts = Lookouts::new(&service, &runtime, maker).map_err(|e| cause::in_full(&e))?;
        let lookouts = Arc::new(lookouts);
        let fitting = fitting.with_lookouts(lookouts.clone());
        let channels = |of| {
            let made = fitting.channels(of).map_err(|e| cause::in_full(&e))?;
            Ok::<_, String>(Arc::new(made.into_iter().collect::<BTreeMap<_, _>>()))
        };
        let copied = self.copied(disk, &runtime, &inbox);
        let leader = self.leader(&runtime, &inbox);
        let metrics = Arc::new(Metrics::new(runtime.clone(), "simulated"));
        let performer = Performer {
            customers: channels(&service.announcements.channels)?,
            team: channels(&service.team.channels)?,
            fitting: fitting.clone(),
            ledger: disk.ledger.clone(),
            runtime: runtime.clone(),
            results: inbox.clone(),
            metrics: metrics.clone(),
            running: Underway::default(),
            copy: copied.as_ref().map(|c| c.copy.clone()),
            tenure: leader.as_ref().map(|l| l.tenure.clone()),
        };
        let (shown, _rung) = publisher::slot();
        let parts = Parts {
            service: service.clone(),
            journal: self.journal(disk, &runtime),
            runtime: runtime.clone(),
            performer,
            ward: ward.clone(),
            metrics,
            inbox: received,
            observations: Watch::new(&service, &lookouts, &runtime, 0).boxed(),
            shown,
            leader,
            board: Board::default(),
            version: "simulated",
        };
        let end = Arc::new(Mutex::new(None));
        let told = end.clone();
        let task = async move {
            let came = async {
                if let Some(copied) = copied {
                    copied.begin(&parts.service.name).await?;
                }
                Box::pin(ServiceLoop::new(parts).await?.run()).await
            };
            let came = Box::pin(came).await;
            *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(came);
        };
        runtime.spawn("service", task.boxed());
        let checking = check(
            &runtime,
            inbox.clone(),
            &service,
            self.scenario.checks_green,
        );
        runtime.spawn("check", checking.boxed());
        Ok(Controller {
            process,
            inbox,
            end,
            ward,
        })
    }

    /// The guards as this process speaks to them, and as its adapters reach them.
    fn guards(&self, runtime: &SharedRuntime) -> (Arc<Ward>, SharedGuards) {
        let line = Arc::new(Line::new(&self.world));
        let ward = Arc::new(Ward::new(line.clone(), runtime.clone()));
        let (asking, sleeping) = (ward.clone(), runtime.clone());
        let asks = async move {
            loop {
                asking.ask();
                sleeping.sleep_until(sleeping.now().after(ASKS)).await;
            }
        };
        runtime.spawn("guards", asks.boxed());
        (ward.clone(), Arc::new(Blundering::new(ward, line)))
    }

    fn journal(&self, disk: &Disk, runtime: &SharedRuntime) -> SharedJournal {
        Arc::new(DiskJournal {
            kept: disk.kept.clone(),
            said: MemoryJournal::new(),
            world: self.world.clone(),
            runtime: runtime.clone(),
        })
    }

    fn errand(&mut self, errand: Errand) {
        match errand {
            // Somebody else may have started it meanwhile.
            Errand::Start if self.controller.is_some() => {}
            Errand::Start => self.start(),
            Errand::Elect => self.elect(),
            Errand::Return => self.returns(),
            Errand::Restore => self.restore(),
            Errand::Claim => self.claim(),
            Errand::Answer(answer) => self.answer(answer),
            Errand::LookAfter => {
                if lock(&self.world).is_calm() {
                    self.look_after();
                }
                let again = Happening::Runs(Errand::LookAfter);
                lock(&self.world).plan(LOOKS_AFTER, again);
            }
        }
    }

    fn say(&self, command: Command) {
        if let Some(controller) = &self.controller {
            say(&controller.inbox, command);
        }
    }

    fn answer(&self, answer: Answer) {
        if self.controller.is_none() {
            return;
        }
        let command = answer.command(&mut lock(&self.world));
        self.say(command);
    }

    /// A person looks at what is open, answers all of it with yes, and acknowledges.
    fn look_after(&self) {
        let Some(controller) = &self.controller else {
            return;
        };
        let (show, shown) = oneshot::channel();
        if controller.inbox.unbounded_send(Input::Show(show)).is_err() {
            return;
        }
        let (inbox, world) = (controller.inbox.clone(), self.world.clone());
        let task = async move {
            let Ok(core) = shown.await else {
                return;
            };
            let people = &core.service().approvals.approvers;
            for (ask, question) in &core.state().asks {
                for by in people {
                    let answer = Answer {
                        ask: ask.clone(),
                        by: by.clone(),
                        yes: true,
                        attests: matches!(question.ask.subject, AskSubject::Fence { .. }),
                    };
                    let command = answer.command(&mut lock(&world));
                    say(&inbox, command);
                }
            }
            if let Some(by) = people.first() {
                let by = by.clone();
                let run = core.state().run.as_ref();
                let is_lost = |run: &Run| {
                    let world = lock(&world);
                    let is_unclear = run.unclear_promotion(world.now).is_some();
                    is_unclear && world.is_burnt(world.site_named(&run.plan.to))
                };
                if run.is_some_and(is_lost) {
                    let by = by.clone();
                    let reason = "its host is lost".to_owned();
                    say(&inbox, Command::Abort { by, reason });
                }
                say(&inbox, Command::Acknowledge { page: None, by });
            }
        };
        controller.process.runtime().spawn("person", task.boxed());
    }

    /// What can only be told at the end.
    fn conclude(&self) {
        let mut world = lock(&self.world);
        let (now, calm) = (world.now, world.calm);
        let World {
            watchman, scenario, ..
        } = &mut *world;
        if watchman.is_busy() && now >= calm.after(ENDED) {
            let found = format!("{} after the last fault", now.since(calm));
            watchman.violations.note(Rule::RunsEnd, now, found);
        }
        if scenario.clean {
            let died = scenario.faults.first().map_or(BEGIN, |p| BEGIN.after(p.at));
            let rto = scenario.service.objectives.rto;
            let serves = watchman.verified.map(|at| at.since(died));
            if serves.is_none_or(|took| took > rto) {
                let found = match serves {
                    Some(took) => format!("it took {took}"),
                    None => "it never did".to_owned(),
                };
                watchman.violations.note(Rule::ServesWithinRto, now, found);
            }
        }
    }

    fn outcome(self) -> Outcome {
        for controller in self.controller.iter().chain(self.succession.former()) {
            controller.process.kill();
        }
        let mut world = lock(&self.world);
        let now = world.now;
        world.trace.note(now, 12, || "the end".to_owned());
        Outcome {
            print: world.trace.print(),
            violations: world.watchman.violations.found.clone(),
            coverage: world.watchman.coverage.clone(),
            events: world.trace.events,
            lasted: now.since(BEGIN),
            ended: world.watchman.ended.clone(),
            lost_after_outage: world.watchman.lost_after_outage,
            lines: world.trace.lines().to_vec(),
        }
    }
}

fn say(inbox: &mpsc::UnboundedSender<Input>, command: Command) {
    let (answer, _nobody_listens) = oneshot::channel();
    drop(inbox.unbounded_send(Input::Command(command, answer)));
}

/// Readiness as the controller would find it: a check of hosts and credentials is not simulated, what it says is.
fn check(
    runtime: &SharedRuntime,
    inbox: mpsc::UnboundedSender<Input>,
    service: &Service,
    is_green: bool,
) -> impl Future<Output = ()> + Send + 'static {
    let first = runtime.sleep_until(runtime.now().after(FIRST_CHECK));
    let config = service.config.clone();
    let item = if is_green {
        CheckItem::ok("simulated", "as it should be")
    } else {
        CheckItem::bad("simulated", CheckStatus::Fail, "it is not ready", "nothing")
    };
    async move {
        first.await;
        let items = vec![item];
        let checked = Event::Checked {
            config,
            plan: None,
            items,
        };
        drop(inbox.unbounded_send(Input::Event(checked)));
    }
}

struct NoSecrets;

impl Secrets for NoSecrets {
    fn read(
        &self,
        at: &crate::model::secret::SecretRef,
    ) -> Result<crate::model::secret::Secret, SecretError> {
        Err(SecretError::Env(at.to_string()))
    }
}

/// Nothing is ever sent with it: it is there because adapters may hold one.
static HTTP: LazyLock<Option<reqwest::Client>> = LazyLock::new(|| {
    // The only failure is that a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    crate::port::http::client(Duration::from_secs(1)).ok()
});

fn wiring(service: &Arc<Service>, runtime: &SharedRuntime) -> Wiring {
    Wiring {
        secrets: Arc::new(NoSecrets),
        runtime: runtime.clone(),
        http: HTTP.clone().unwrap_or_default(),
        service: service.clone(),
        state: PathBuf::new(),
        dns: None,
        lookouts: None,
        guards: None,
    }
}
