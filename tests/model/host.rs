//! A site's host: the guard's process, its disk, the database and the kernel's timer.

use std::collections::VecDeque;

use failover::{
    guard::machine::{Clocks, Effect, Event, Machine, Resynced, Until, Weakness},
    model::{
        guard::{Boot, Database, Promise, Salvage},
        id::{Epoch, SiteName},
        observation::Lsn,
        span::Span,
        time::Time,
    },
};

/// Now, always: what passes is taken off the times of everything else.
pub const NOW: Clocks = Clocks {
    holder: Time::from_millis(0),
    grantor: Time::from_millis(0),
};

/// Nobody tells ages beyond this apart.
pub const HORIZON: Span = Span::from_millis(7);

/// A host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Host {
    pub site: SiteName,
    /// None while its process is not there.
    pub guard: Option<Machine>,
    /// A frozen process takes part in nothing.
    pub is_frozen: bool,
    /// What the guard's agent is doing, in order; it goes on for a while when the guard has died.
    pub under_way: VecDeque<(Effect, Epoch)>,
    pub disk: Option<Promise>,
    pub database: Database,
    /// In which epoch the database was opened.
    pub epoch: Epoch,
    pub timer: Option<Until>,
    /// The timer has fired; the kernel is still killing.
    pub is_dying: bool,
    boots: u64,
    /// Whether processes may die between two things that are under way.
    is_slow: bool,
    /// The kernel's timer is set later than it should.
    is_late: bool,
}

impl Host {
    pub fn new(site: &str, disk: Promise, is_slow: bool, is_late: bool) -> Self {
        Self {
            site: SiteName::new(site),
            guard: None,
            is_frozen: false,
            under_way: VecDeque::new(),
            disk: Some(disk),
            database: Database::Gone,
            epoch: Epoch(0),
            timer: None,
            is_dying: false,
            boots: 0,
            is_slow,
            is_late,
        }
    }

    pub fn may_write(&self) -> bool {
        self.database == Database::Writable
    }

    pub fn is_up(&self) -> bool {
        self.guard.is_some() && !self.is_frozen
    }

    /// Tells the guard; returns what it sends.
    pub fn tell(&mut self, event: Event) -> Vec<Effect> {
        let Some(guard) = self.guard.as_mut().filter(|_| !self.is_frozen) else {
            return Vec::new();
        };
        let mut sent = Vec::new();
        for effect in guard.step(event, NOW) {
            let epoch = guard.report().promise.map_or(Epoch(0), |p| p.epoch);
            match effect {
                Effect::Ask(_) | Effect::Grant(..) | Effect::Acknowledge(_) => sent.push(effect),
                Effect::Write(_)
                | Effect::Empty
                | Effect::Arm(_)
                | Effect::Start(_)
                | Effect::Promote
                | Effect::Follow
                | Effect::Drain
                | Effect::Resync => self.under_way.push_back((effect, epoch)),
                // What is being brought into line comes to nothing.
                Effect::BreakOff => {
                    for (effect, _) in &mut self.under_way {
                        if *effect == Effect::Resync {
                            *effect = Effect::BreakOff;
                        }
                    }
                }
            }
        }
        while self.is_first_at_once() {
            sent.extend(self.complete());
        }
        sent
    }

    /// Where nothing can come between, what is under way is done at once: a model of fewer states.
    fn is_first_at_once(&self) -> bool {
        let Some((effect, _)) = self.under_way.front() else {
            return false;
        };
        match effect {
            Effect::Write(_)
            | Effect::Start(_)
            | Effect::Promote
            | Effect::Drain
            | Effect::Resync
            | Effect::BreakOff => !self.is_slow,
            Effect::Follow
            | Effect::Arm(_)
            | Effect::Empty
            | Effect::Ask(_)
            | Effect::Grant(..)
            | Effect::Acknowledge(_) => true,
        }
    }

    /// The first thing under way is done; the guard hears of it where it lives.
    pub fn complete(&mut self) -> Vec<Effect> {
        let Some((effect, epoch)) = self.under_way.pop_front() else {
            return Vec::new();
        };
        match effect {
            Effect::Write(promise) => {
                self.disk = Some(promise);
                self.tell(Event::Written)
            }
            Effect::Empty => {
                self.end();
                self.tell(Event::Emptied(None))
            }
            Effect::Arm(until) => {
                if self.database != Database::Gone {
                    self.arm(until);
                }
                self.tell(Event::Armed(until))
            }
            Effect::Start(until) => {
                if self.database == Database::Gone && !is_over(until) {
                    self.open(epoch);
                    self.arm(until);
                }
                let mut sent = self.tell(Event::Armed(until));
                sent.extend(self.tell(Event::Opened(self.database)));
                sent
            }
            Effect::Promote => {
                if self.database == Database::Following {
                    self.open(epoch);
                }
                self.tell(Event::Opened(self.database))
            }
            Effect::Follow => {
                if self.database == Database::Gone {
                    self.database = Database::Following;
                }
                self.tell(Event::Opened(self.database))
            }
            Effect::Drain => {
                let end = (self.database == Database::Writable).then_some(Lsn(1));
                if end.is_some() {
                    self.end();
                }
                self.tell(Event::Drained(end))
            }
            Effect::Resync => {
                let is_done = self.database == Database::Gone;
                self.tell(Event::Resynced(if is_done {
                    Resynced::Done(Salvage::default())
                } else {
                    Resynced::Failed
                }))
            }
            Effect::BreakOff => self.tell(Event::Resynced(Resynced::Failed)),
            Effect::Ask(_) | Effect::Grant(..) | Effect::Acknowledge(_) => Vec::new(),
        }
    }

    fn open(&mut self, epoch: Epoch) {
        self.database = Database::Writable;
        self.epoch = epoch;
    }

    fn arm(&mut self, until: Until) {
        self.timer = Some(match until {
            Until::At(at) if self.is_late => Until::At(at.after(Span::from_millis(1))),
            Until::At(_) | Until::Never => until,
        });
    }

    /// No process of the database is left.
    pub fn end(&mut self) {
        self.database = Database::Gone;
        self.timer = None;
        self.is_dying = false;
    }

    /// The process of the guard is there again; what it knew is gone, its agent looks first.
    pub fn start(&mut self, weakness: Option<Weakness>) -> Vec<Effect> {
        self.boots += 1;
        self.under_way.clear();
        if let Some(promise) = &mut self.disk {
            promise.starts = promise.starts.next();
        }
        let guard = Machine::new(
            self.site.clone(),
            Boot(self.boots),
            Span::from_millis(1),
            Some(Span::ZERO),
            self.disk.clone(),
            NOW,
        );
        self.guard = Some(guard.weakened(weakness, NOW));
        self.is_frozen = false;
        let mut sent = Vec::new();
        if let Some(until) = self.timer {
            sent.extend(self.tell(Event::Armed(until)));
        }
        sent.extend(self.tell(Event::Database(self.database)));
        sent
    }

    pub fn boot(&self) -> Boot {
        Boot(self.boots)
    }

    /// One unit of time passes: a timer that is due fires, and by the next unit the kernel has killed.
    pub fn pass(&mut self, has_timer: bool) -> Vec<Effect> {
        let unit = Span::from_millis(1);
        if let Some(guard) = &mut self.guard {
            guard.rebase(unit, NOW.holder, HORIZON);
        }
        for (effect, _) in &mut self.under_way {
            if let Effect::Arm(until) | Effect::Start(until) = effect {
                *until = earlier(*until);
            }
        }
        self.timer = self.timer.map(earlier);
        let mut sent = Vec::new();
        if self.is_dying {
            self.end();
            sent.extend(self.tell(Event::Database(Database::Gone)));
        }
        let is_due = self.timer.is_some_and(is_over) && self.database != Database::Gone;
        if is_due && (has_timer || self.is_up()) {
            self.is_dying = true;
        }
        sent.extend(self.tell(Event::Tick));
        sent
    }
}

fn is_over(until: Until) -> bool {
    match until {
        Until::At(at) => at <= NOW.holder,
        Until::Never => false,
    }
}

fn earlier(until: Until) -> Until {
    match until {
        Until::At(at) => Until::At(at.before(Span::from_millis(1)).max(Time::from_millis(-1))),
        Until::Never => Until::Never,
    }
}
