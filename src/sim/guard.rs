//! A guard's host: the guard's process, its disk, its clocks, the kernel's timer, and the database that it alone starts.
//!
//! The machine is the real one; what is here makes its effects as the agent does: each takes its time, an answer that
//! something later has overtaken is dropped, and what is under way when the guard dies is done or not.

mod drain;
mod server;

use serde::{Deserialize, Serialize};

pub use self::server::{Forks, can_follow};
use super::{
    fault::{DiskFault, Fault},
    line::{Letter, Message},
    network::Party,
    rule::Rule,
    site::Life,
    weakness::Weakness,
    world::{Happening, World},
};
use crate::{
    driver::guards::{Said, Told},
    guard::{
        machine::{Clocks, Effect, Event, Machine, Resynced, Until},
        wire::Ways,
    },
    model::{
        guard::{Boot, Database, FirstHand, Promise, Role, Salvage},
        id::{Epoch, SiteName},
        observation::DatabaseRole,
        span::Span,
        time::Time,
    },
};

/// The least time between two ticks, as the agent has it.
const TICK: Span = Span::from_millis(10);
/// The least time that an opening in vain takes, as the agent has it.
const IN_VAIN: Span = Span::from_secs(1);
/// What the end of every process may take before it counts as unknown, as the agent has it.
const END: Span = Span::from_secs(10);
/// A frozen server is asked again after this.
const AGAIN: Span = Span::from_millis(500);
/// So many datagrams wait for a guard that is stopped.
const BUFFER: usize = 200;

/// A clock that gains or loses.
#[derive(Clone, Copy, Debug)]
pub struct Drifting {
    since: Time,
    shown: i64,
    ppm: i64,
}

impl Drifting {
    /// Shows that much now, and gains so much in a million from now on.
    #[must_use]
    pub fn new(since: Time, shown: i64, ppm: i64) -> Self {
        Self { since, shown, ppm }
    }

    /// What it shows.
    #[must_use]
    pub fn shows(self, now: Time) -> Time {
        let passed = now.as_millis() - self.since.as_millis();
        Time::from_millis(self.shown + passed * (1_000_000 + self.ppm) / 1_000_000)
    }

    /// When it shows that, or a little later, never sooner.
    fn reaches(self, shown: Time) -> Time {
        let left = (shown.as_millis() - self.shown).max(0);
        let mut at = self.since.as_millis() + left * 1_000_000 / (1_000_000 + self.ppm);
        while self.shows(Time::from_millis(at)) < shown {
            at += 1;
        }
        Time::from_millis(at)
    }

    /// From now on it gains so much.
    fn gains(&mut self, now: Time, ppm: i64) {
        *self = Self::new(now, self.shows(now).as_millis(), ppm);
    }
}

/// What a host is like, drawn before anything happens.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostPlan {
    /// How often its guard asks.
    pub renewal: Span,
    /// How long its kernel takes at most to end a database, where that was proved.
    pub kill: Option<Span>,
    /// What the clock gains that leases are held on, in a million.
    pub holder: i64,
    /// What the clock gains that grants are waited for on, in a million.
    pub grantor: i64,
}

/// A host.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "what is so of a host at a moment, each for itself"
)]
pub struct Host {
    site: SiteName,
    plan: HostPlan,
    /// None while its process is not there.
    guard: Option<Machine>,
    /// It has a SIGSTOP.
    is_stopped: bool,
    /// What came while it was stopped.
    waiting: Vec<Waiting>,
    /// What is on its disk; none where that was lost.
    kept: Option<Promise>,
    lives: u64,
    holder: Drifting,
    grantor: Drifting,
    wakes: Option<Time>,
    /// Counts what is begun at the database.
    turn: u64,
    /// The last turn that has to do with the processes that run.
    hold_turn: u64,
    opening: Option<u64>,
    is_emptying: bool,
    is_arming: bool,
    to_arm: Option<(Until, u64)>,
    has_looked: bool,
    /// The kernel's timer.
    timer: Option<Until>,
    timers: u64,
    /// The timer has fired; the kernel still kills.
    is_dying: bool,
    /// The database's last run was a primary's.
    was_primary: bool,
    /// In which epoch it was opened.
    epoch: Epoch,
    /// The server is being stopped in order, since this turn.
    draining: Option<u64>,
    /// When a standby was there last, as a primary knows it.
    contact: Option<Time>,
    /// What was kept before the data was brought into line, until the site serves again.
    salvage: Option<Salvage>,
    /// A resync was broken off: the data is neither the old nor the new.
    is_half_done: bool,
    /// Counts the resyncs that were begun or broken off.
    resyncs: u64,
}

/// Whether it is a question whose answer goes back the way that it came.
fn answers(what: &Message) -> bool {
    match what {
        Message::Ask(..) => true,
        Message::Said(said) => matches!(**said, Said::Fence(_) | Said::Look),
        Message::Told(_) | Message::Pass(_) => false,
    }
}

/// What a stopped guard finds when it goes on.
#[derive(Debug)]
enum Waiting {
    Event(Box<Event>),
    Work(Work),
    Heard(Letter),
}

/// Something that happens at a host.
#[derive(Debug)]
pub enum Stir {
    /// The supervisor starts the guard.
    Starts,
    /// The guard of this life has something due.
    Wakes(u64),
    /// The guard of this life looks at the database.
    Looks(u64),
    /// What the guard of this life had under way is done.
    Done(u64, Work),
    /// The kernel's timer fires.
    Fires(u64),
    /// The kernel has killed.
    Killed(u64),
}

/// What takes time.
#[derive(Clone, Debug)]
pub enum Work {
    /// A promise is written.
    Write(Promise),
    /// The database is ended.
    Empty(u64),
    /// It is not known whether it was.
    NotEmptied(u64),
    /// The timer is set.
    Arm(Until, u64),
    /// The server is launched.
    Launch(Opening),
    /// It lets people in.
    Open(Opening),
    /// That is told.
    Opened(u64, Database),
    /// A look that began in this turn saw this.
    Looked(u64, Option<Database>, FirstHand),
    /// The server of this turn has come to its own end.
    Drain(u64),
    /// The data of this try is in line.
    Resync(u64),
    /// The try was broken off.
    BrokenOff(u64),
}

/// An opening under way.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    turn: u64,
    kind: Kind,
    epoch: Epoch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Start(Until),
    Promote,
    Follow,
}

impl Host {
    /// A host on which nothing runs yet.
    #[must_use]
    pub fn new(site: SiteName, plan: HostPlan, now: Time) -> Self {
        Self {
            site,
            plan,
            guard: None,
            is_stopped: false,
            waiting: Vec::new(),
            kept: Some(Promise::first()),
            lives: 0,
            holder: Drifting::new(now, 0, plan.holder),
            grantor: Drifting::new(now, 0, plan.grantor),
            wakes: None,
            turn: 0,
            hold_turn: 0,
            opening: None,
            is_emptying: false,
            is_arming: false,
            to_arm: None,
            has_looked: false,
            timer: None,
            timers: 0,
            is_dying: false,
            was_primary: false,
            epoch: Epoch(0),
            draining: None,
            contact: None,
            salvage: None,
            is_half_done: false,
            resyncs: 0,
        }
    }

    /// Now, on its clocks.
    #[must_use]
    pub fn clocks(&self, now: Time) -> Clocks {
        Clocks {
            holder: self.holder.shows(now),
            grantor: self.grantor.shows(now),
        }
    }

    /// What its disk promises.
    #[must_use]
    pub fn kept(&self) -> Option<&Promise> {
        self.kept.as_ref()
    }

    /// The life that its guard is in, as it names it.
    #[must_use]
    pub fn boot(&self) -> Boot {
        Boot(self.lives)
    }

    /// In which epoch its database was opened last.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether nothing would end its database by itself.
    #[must_use]
    pub fn is_endless(&self) -> bool {
        self.timer.is_none_or(|until| until == Until::Never)
    }

    fn is_up(&self) -> bool {
        self.guard.is_some() && !self.is_stopped
    }

    fn next_turn(&mut self) -> u64 {
        self.turn += 1;
        self.turn
    }
}

impl World {
    fn host(&mut self, n: usize) -> Option<&mut Host> {
        self.hosts.get_mut(n)?.as_mut()
    }

    /// Whether a guard stands beside that site's database.
    #[must_use]
    pub fn is_guarded(&self, n: usize) -> bool {
        self.hosts.get(n).is_some_and(Option::is_some)
    }

    /// What its database does.
    #[must_use]
    pub fn database_of(&self, n: usize) -> Database {
        let database = self.sites[n].database.as_ref();
        match database.map(|d| (d.life, d.role)) {
            None | Some((Life::Gone, _)) => Database::Gone,
            Some((_, DatabaseRole::Standby)) => Database::Following,
            Some((_, DatabaseRole::Primary)) => Database::Writable,
        }
    }

    /// Something happens at a host.
    pub(super) fn stir(&mut self, n: usize, stir: Stir) {
        let Some(host) = self.host(n) else { return };
        let lives = host.lives;
        match stir {
            Stir::Starts => self.guard_starts(n),
            Stir::Wakes(life) => {
                let now = self.now;
                let Some(host) = self.host(n) else { return };
                if life == lives && host.wakes == Some(now) {
                    host.wakes = None;
                    self.tell(n, Event::Tick);
                }
            }
            Stir::Looks(life) => {
                if life == lives {
                    self.look_at_database(n);
                }
            }
            Stir::Done(life, work) => {
                let is_there = self.host(n).is_some_and(|h| h.guard.is_some());
                if life == lives && is_there {
                    self.done(n, work);
                } else if matches!(work, Work::Drain(_)) {
                    self.ends_alone(n, life, work);
                }
            }
            Stir::Fires(timer) => self.fires(n, timer),
            Stir::Killed(timer) => {
                if self.host(n).is_some_and(|h| h.timers == timer) {
                    self.trace
                        .note(self.now, 21, || format!("the kernel ends site-{n}"));
                    self.ended(n);
                }
            }
        }
    }

    fn stir_after(&mut self, n: usize, after: Span, stir: Stir) {
        self.plan(after, Happening::Stirs(n, stir));
    }

    /// What was begun is done after a while.
    fn work(&mut self, n: usize, (least, most): (u64, u64), work: Work) {
        let after = self.chance.millis(least, most);
        let life = self.hosts[n].as_ref().map_or(0, |h| h.lives);
        self.stir_after(n, after, Stir::Done(life, work));
    }

    /// The process of the guard is there; what an earlier life knew is gone.
    fn guard_starts(&mut self, n: usize) {
        let is_on = self.sites[n].is_on();
        let keeps_down = self
            .faults()
            .any(|f| matches!(f, Fault::GuardDies(s) | Fault::GuardLosesState(s) if s == n));
        let (now, weakness) = (self.now, self.scenario.weakness);
        let Some(host) = self.host(n) else { return };
        if !is_on || keeps_down || host.guard.is_some() {
            return;
        }
        host.lives += 1;
        host.waiting.clear();
        host.is_stopped = false;
        host.wakes = None;
        host.opening = None;
        host.is_emptying = false;
        host.is_arming = false;
        host.to_arm = None;
        host.has_looked = false;
        host.draining = None;
        host.next_turn();
        host.hold_turn = host.turn;
        if let Some(promise) = &mut host.kept {
            promise.starts = promise.starts.next();
        }
        let clocks = host.clocks(now);
        let mut machine = Machine::new(
            host.site.clone(),
            host.boot(),
            host.plan.renewal,
            host.plan.kill,
            host.kept.clone(),
            clocks,
        );
        if host.is_half_done {
            machine.recall(Resynced::HalfDone);
        }
        if let Some(salvage) = host.salvage {
            machine.recall(Resynced::Done(salvage));
        }
        host.guard = Some(weakened(machine, weakness, clocks));
        let life = host.lives;
        self.trace
            .note(now, 20, || format!("the guard of site-{n} starts"));
        self.stir_after(n, TICK, Stir::Looks(life));
        if self.has(Fault::GuardFreezes(n)) {
            self.guard_stops(n);
        }
    }

    fn guard_dies(&mut self, n: usize) {
        let Some(host) = self.host(n) else { return };
        host.guard = None;
        host.is_stopped = false;
        host.waiting.clear();
        self.trace
            .note(self.now, 22, || format!("the guard of site-{n} dies"));
    }

    fn guard_stops(&mut self, n: usize) {
        if let Some(host) = self.host(n).filter(|h| h.guard.is_some()) {
            host.is_stopped = true;
        }
    }

    fn guard_goes_on(&mut self, n: usize) {
        let ticks_first = self.chance.percent(50);
        let Some(host) = self.host(n).filter(|h| h.is_stopped) else {
            return;
        };
        host.is_stopped = false;
        let waiting = std::mem::take(&mut host.waiting);
        if ticks_first {
            self.tell(n, Event::Tick);
        }
        for waited in waiting {
            match waited {
                Waiting::Event(event) => self.tell(n, *event),
                Waiting::Work(work) => self.done(n, work),
                Waiting::Heard(letter) => self.hears(n, letter),
            }
        }
        self.tell(n, Event::Tick);
    }

    /// What a fault that begins or ends means for guards and what they guard.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "most faults are none of a host's"
    )]
    pub(super) fn stir_up(&mut self, fault: Fault, begins: bool) {
        match fault {
            Fault::GuardDies(n) if begins => self.guard_dies(n),
            Fault::GuardLosesState(n) if begins => {
                self.guard_dies(n);
                if let Some(host) = self.host(n) {
                    host.kept = None;
                }
                self.referee.loses(n);
            }
            Fault::GuardDies(n) | Fault::GuardLosesState(n) => {
                let after = self.chance.millis(100, 2_000);
                self.stir_after(n, after, Stir::Starts);
            }
            Fault::GuardFreezes(n) if begins => self.guard_stops(n),
            Fault::GuardFreezes(n) => self.guard_goes_on(n),
            Fault::Slews(n, ppm) => {
                let now = self.now;
                let Some(host) = self.host(n) else { return };
                let ppm = if begins { ppm } else { host.plan.holder };
                host.holder.gains(now, ppm);
                self.set_timer(n);
                self.tell(n, Event::Tick);
            }
            Fault::DatabaseDies(n) if begins && self.is_guarded(n) => self.ended(n),
            Fault::DatabaseFreezes(n) if self.is_guarded(n) => {
                let life = if begins { Life::Frozen } else { Life::Runs };
                if let Some(database) = &mut self.sites[n].database
                    && database.life != Life::Gone
                {
                    database.life = life;
                }
                self.look_around();
                self.ship_all();
            }
            _ => {}
        }
    }

    /// A host lost its power, or has it again.
    pub(super) fn powered(&mut self, n: usize, is_on: bool) {
        if !self.is_guarded(n) {
            return;
        }
        let up = i64::try_from(self.chance.below(1_000_000)).unwrap_or(0);
        let now = self.now;
        if is_on {
            if let Some(host) = self.host(n) {
                // Both clocks of a kernel begin with it.
                host.holder = Drifting::new(now, up / 100, host.plan.holder);
                host.grantor = Drifting::new(now, up / 100, host.plan.grantor);
            }
            if self.scenario.weakness == Some(Weakness::NoPermit) {
                self.opens_unasked(n);
            }
            let after = self.chance.millis(500, 5_000);
            self.stir_after(n, after, Stir::Starts);
        } else {
            self.guard_dies(n);
            if let Some(host) = self.host(n) {
                let life = host.boot();
                host.lives += 1;
                self.referee.powers_down(n, life);
            }
            self.ended(n);
        }
    }

    /// Tells the guard, and makes what it wants.
    fn tell(&mut self, n: usize, event: Event) {
        let now = self.now;
        let Some(host) = self.host(n) else { return };
        let clocks = host.clocks(now);
        let Some(guard) = &mut host.guard else { return };
        if host.is_stopped {
            host.waiting.push(Waiting::Event(Box::new(event)));
            return;
        }
        let effects = guard.step(event, clocks);
        let Some(guard) = &host.guard else { return };
        let pause = guard.wake(clocks).since(clocks.holder);
        let pause = pause.clamp(TICK, host.plan.renewal.max(TICK));
        let wakes = host.holder.reaches(clocks.holder.after(pause));
        let life = host.lives;
        if host.wakes.is_none_or(|at| wakes < at || at < now) {
            host.wakes = Some(wakes);
            self.stir_after(n, wakes.since(now), Stir::Wakes(life));
        }
        for effect in effects {
            self.make(n, effect);
        }
    }

    fn make(&mut self, n: usize, effect: Effect) {
        let me = Party::Site(n);
        if self.word_of == Some(Party::Former) {
            self.changed_by_former(n, &effect);
        }
        match effect {
            Effect::Ask(request) => {
                let shown = request
                    .report
                    .promise
                    .as_ref()
                    .and_then(|p| p.terms.clone());
                let deputy = shown.as_ref().and_then(|t| t.deputy.clone());
                if let Some(deputy) = deputy {
                    let what = Message::Ask(Box::new(request.clone()), shown.map(Box::new));
                    let to = Party::Site(self.site_named(&deputy));
                    self.post(Letter::new(me, to, what), self.ways);
                }
                let what = Message::Told(Box::new(Told::Ask(request)));
                self.post_up(n, what);
            }
            Effect::Grant(..) if self.scenario.weakness == Some(Weakness::DeputySilent) => {}
            Effect::Grant(site, grant) => {
                let to = Party::Site(self.site_named(&site));
                let what = Message::Said(Box::new(Said::Grant(grant)));
                self.post(Letter::new(me, to, what), self.ways);
            }
            Effect::Acknowledge(ack) => {
                self.acknowledged(n, ack.epoch);
                let what = Message::Told(Box::new(Told::Fenced(ack)));
                self.post_up(n, what);
            }
            Effect::Write(promise) => self.work(n, (1, 30), Work::Write(promise)),
            Effect::Empty => self.empty(n),
            Effect::Arm(until) => {
                if let Some(host) = self.host(n) {
                    host.to_arm = Some((until, host.hold_turn));
                }
                self.arm_next(n);
            }
            Effect::Start(until) => self.open(n, Kind::Start(until)),
            Effect::Promote => self.open(n, Kind::Promote),
            Effect::Follow => self.open(n, Kind::Follow),
            Effect::Drain => self.drain(n),
            Effect::Resync => {
                let turn = self.next_resync(n);
                self.work(n, (500, 20_000), Work::Resync(turn));
            }
            Effect::BreakOff => {
                let turn = self.next_resync(n);
                self.breaks_off(n);
                self.work(n, (1, 1_000), Work::BrokenOff(turn));
            }
        }
    }

    /// The place of a site in the service's document.
    pub(super) fn site_named(&self, name: &SiteName) -> usize {
        let mut sites = self.scenario.service.sites.iter();
        sites.position(|s| &s.name == name).unwrap_or(0)
    }

    /// Something under way is done, as far as it is not the guard's own doing that is missing.
    fn done(&mut self, n: usize, work: Work) {
        let Some(host) = self.host(n) else { return };
        // What the kernel or the server does goes on without the guard; the rest is done or not when it dies.
        let is_own = matches!(
            work,
            Work::Empty(_)
                | Work::Arm(..)
                | Work::Launch(_)
                | Work::Opened(..)
                | Work::Looked(..)
                | Work::Resync(_)
                | Work::BrokenOff(_)
        );
        if is_own && host.is_stopped {
            host.waiting.push(Waiting::Work(work));
            return;
        }
        if host.guard.is_none() && self.chance.percent(50) {
            if matches!(work, Work::Resync(_)) {
                self.breaks_off(n);
            }
            return;
        }
        match work {
            Work::Write(promise) => self.write_promise(n, promise),
            Work::Empty(turn) => {
                if self.has(Fault::KillHangs(n)) {
                    let life = self.hosts[n].as_ref().map_or(0, |h| h.lives);
                    self.stir_after(n, END, Stir::Done(life, Work::NotEmptied(turn)));
                    return;
                }
                self.ended(n);
                self.emptied(n, turn, Event::Emptied(None));
            }
            Work::NotEmptied(turn) => self.emptied(n, turn, Event::NotEmptied),
            Work::Arm(until, turn) => self.armed(n, until, turn),
            Work::Launch(opening) => self.launch(n, opening),
            Work::Open(opening) => self.let_in(n, opening),
            Work::Opened(turn, database) => {
                let Some(host) = self.host(n).filter(|h| h.opening == Some(turn)) else {
                    return;
                };
                host.opening = None;
                host.next_turn();
                self.tell(n, Event::Opened(database));
            }
            Work::Looked(turn, seen, besides) => self.looked(n, turn, seen, besides),
            Work::Drain(turn) => self.drained(n, turn),
            Work::Resync(turn) => self.resync(n, turn),
            Work::BrokenOff(turn) => self.broken_off(n, turn),
        }
    }

    fn write_promise(&mut self, n: usize, promise: Promise) {
        let fault = self.faults().find_map(|f| f.of_disk(n));
        let is_kept = match fault {
            None => true,
            Some(DiskFault::Hangs) => false,
            Some(DiskFault::Fails) => self.chance.percent(50),
        };
        if is_kept {
            self.promised(n, &promise);
            let epoch = promise.epoch;
            let role = promise.role;
            self.trace.note(self.now, 23, || {
                format!("site-{n} promises epoch {epoch}: {role:?}")
            });
            if let Some(host) = self.host(n) {
                if role == Role::Primary {
                    host.salvage = None;
                }
                host.kept = Some(promise);
            }
        }
        match fault {
            None => self.tell(n, Event::Written),
            Some(DiskFault::Hangs) => {}
            Some(DiskFault::Fails) => self.tell(n, Event::NotWritten),
        }
    }

    /// Something arrives at a guard.
    pub(super) fn hears(&mut self, n: usize, letter: Letter) {
        let is_on = self.sites[n].is_on();
        let Some(host) = self.host(n).filter(|h| is_on && h.guard.is_some()) else {
            return;
        };
        if host.is_stopped {
            if host.waiting.len() < BUFFER {
                host.waiting.push(Waiting::Heard(letter));
            }
            return;
        }
        self.word_of = Some(letter.from);
        self.heeds(n, letter);
        self.word_of = None;
        self.ways = Ways::Both;
    }

    fn heeds(&mut self, n: usize, letter: Letter) {
        let (now, from) = (self.now, letter.from);
        if answers(&letter.what) {
            self.ways = Ways::Only(letter.way);
        }
        let Some(host) = self.host(n) else { return };
        match letter.what {
            Message::Pass(letter) => self.carry(Party::Site(n), *letter),
            Message::Ask(request, shown) => {
                self.tell(n, Event::Asked(*request, shown.map(|t| *t)));
            }
            Message::Said(said) => match *said {
                Said::Grant(grant) => self.tell(n, Event::Granted(grant)),
                Said::Fence(order) => self.tell(n, Event::Fence(order)),
                Said::Promote(order) => self.tell(n, Event::Promote(order)),
                Said::Drain(order) => self.tell(n, Event::Drain(order)),
                Said::Resync(order) => self.tell(n, Event::Resync(order)),
                // No document of a simulation names actions.
                Said::Act(_) | Said::Recall(_) => {}
                Said::Look => {
                    let Some(report) = host.guard.as_ref().map(Machine::report) else {
                        return;
                    };
                    let at = host.clocks(now).holder;
                    let what = Message::Told(Box::new(Told::Report(at, report)));
                    self.post(Letter::new(Party::Site(n), from, what), self.ways);
                }
            },
            // Nobody who means it tells guards these.
            Message::Told(_) => {}
        }
    }

    /// Notes a rule between guards that did not hold.
    pub(super) fn broken(&mut self, rule: Rule, found: String) {
        if !self.watchman.lied {
            self.watchman.violations.note(rule, self.now, found);
        }
    }
}

#[cfg(feature = "weakened")]
fn weakened(machine: Machine, weakness: Option<Weakness>, now: Clocks) -> Machine {
    machine.weakened(weakness.and_then(Weakness::of_guard), now)
}

#[cfg(not(feature = "weakened"))]
fn weakened(machine: Machine, _: Option<Weakness>, _: Clocks) -> Machine {
    machine
}
