//! What a guard decides: a synchronous function of what it knows, what happened, and the time.
//!
//! It holds a lease for its own site (`holder`), grants leases of the other site (`deputy`), and obeys orders
//! (`order`). It does no IO: the agent makes its effects and tells what came of them. At most one *job* is under way
//! at the database or at the disk; a fence goes before every other one.

mod deputy;
mod drain;
mod holder;
mod order;
#[cfg(feature = "weakened")]
mod rebase;
mod weakness;

use std::collections::BTreeMap;

pub use weakness::Weakness;

use crate::model::{
    guard::{
        Boot, Database, DrainOrder, FenceAck, FenceOrder, FirstHand, Grant, Grantor, Lease,
        LeaseRequest, Promise, PromoteOrder, Report, Resync, ResyncOrder, Role, Salvage, Starts,
        Terms,
    },
    id::{Epoch, SiteName},
    lease::{Granted, LONGEST},
    observation::Lsn,
    span::Span,
    time::Time,
};

/// Now, on the two clocks of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// `CLOCK_BOOTTIME`: what a holder counts its lease on, as the kernel's timer does.
    pub holder: Time,
    /// `CLOCK_MONOTONIC_RAW`: what a grantor waits on; nobody can slew it.
    pub grantor: Time,
}

/// Until when a lease runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Until {
    /// To this moment of `CLOCK_BOOTTIME`: the kill margin lies behind it.
    At(Time),
    /// For ever.
    Never,
}

impl Until {
    fn is_over(self, now: Clocks) -> bool {
        match self {
            Self::At(at) => now.holder >= at,
            Self::Never => false,
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "an event lives for one step, and requests are the most frequent"
)]
pub enum Event {
    /// Time passed.
    Tick,
    /// Another site's guard asks for a lease, and shows the terms of its epoch, proved to be the controller's.
    Asked(LeaseRequest, Option<Terms>),
    /// A request of this guard was granted.
    Granted(Grant),
    /// The controller orders a fence.
    Fence(FenceOrder),
    /// The controller orders a promotion.
    Promote(PromoteOrder),
    /// The controller has the database stopped in order.
    Drain(DrainOrder),
    /// It was stopped, and its log ends there; none where it did not end in order.
    Drained(Option<Lsn>),
    /// The controller has the data brought into line.
    Resync(ResyncOrder),
    /// That has ended.
    Resynced(Resynced),
    /// No process of the database is left, its sockets are destroyed; its log ends there, where that could be read.
    Emptied(Option<Lsn>),
    /// It could not be made sure that no process is left: it is tried again.
    NotEmptied,
    /// The promise is on disk.
    Written,
    /// It is not known whether it is.
    NotWritten,
    /// The kernel's timer is set to this moment.
    Armed(Until),
    /// The database does this now, as a look tells that followed no effect.
    Database(Database),
    /// The database runs, and did not answer a look.
    Silent,
    /// What a look told besides.
    Seen(FirstHand),
    /// The database was started or promoted, or could not be, and does this now.
    Opened(Database),
}

/// What the agent is to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(
    clippy::large_enum_variant,
    reason = "there are a few of them at a time, and each is taken apart at once"
)]
pub enum Effect {
    /// Ask the controller and the deputy for a lease.
    Ask(LeaseRequest),
    /// Grant a lease to the guard of that site.
    Grant(SiteName, Grant),
    /// Tell the controller that the site is fenced.
    Acknowledge(FenceAck),
    /// Put the promise on disk; answered by `Written` or `NotWritten`.
    Write(Promise),
    /// End every process of the database and destroy its sockets; answered by `Emptied` or `NotEmptied`.
    Empty,
    /// Set the kernel's timer; answered by `Armed`.
    Arm(Until),
    /// Start the database as a primary, under a timer that is armed before; answered by `Opened`.
    Start(Until),
    /// Promote the database that follows; answered by `Opened`.
    Promote,
    /// Start the database as a standby; answered by `Opened`.
    Follow,
    /// Stop the database in order; answered by `Drained`.
    Drain,
    /// Keep what only this site has, then bring its data into line with the other one's; answered by `Resynced`.
    Resync,
    /// End that before its time; answered by `Resynced`.
    BreakOff,
}

/// What came of bringing the data into line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resynced {
    /// It is in line, and this was kept before.
    Done(Salvage),
    /// It is what it was.
    Failed,
    /// It is neither what it was nor in line.
    HalfDone,
}

/// A guard, as it decides.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    site: SiteName,
    boot: Boot,
    renewal: Span,
    /// How long the kernel of this host takes to end a database, where that was proved.
    kill: Option<Span>,
    /// None where the state is lost.
    promise: Option<Promise>,
    job: Job,
    /// None before the first look.
    database: Option<Database>,
    /// Whether it answered the last look.
    answers: bool,
    seen: FirstHand,
    /// What was opened in vain is tried again then.
    again: Option<Time>,
    /// What was ended in vain is ended again then.
    ends_again: Option<Time>,
    /// The kernel was told to end the database, and it is not known whether it did.
    is_stuck: bool,
    lease: Option<Until>,
    armed: Option<Until>,
    /// When it asked last.
    asked: Option<Time>,
    /// The newest requests of this life that were granted.
    heard: BTreeMap<Grantor, Time>,
    /// How often the deputy of an epoch was started, at least.
    deputy_starts: Option<(Epoch, Starts)>,
    /// As a deputy.
    granted: Granted,
    /// Whether the old site acknowledged its fence when this one was promoted.
    acknowledged: bool,
    /// Where the database's log ended when it was fenced.
    lsn: Option<Lsn>,
    /// The database is to stay stopped until then.
    drained: Option<drain::Drained>,
    resync: Option<Resync>,
    #[cfg(feature = "weakened")]
    weakness: Option<Weakness>,
}

/// What is under way at the database or at the disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Job {
    /// Nothing.
    Idle,
    /// The database is being started or promoted.
    Opening,
    /// The database is being ended; then this is to be promised.
    Emptying(Option<Next>),
    /// The database is being stopped in order, under its lease.
    Draining,
    /// Its data is being brought into line.
    Resyncing,
    /// A promise is being written.
    Writing(Next),
    /// A write has no known end: the guard asks, grants and says nothing any more until it is started anew.
    Broken,
}

/// What is promised next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Next {
    promise: Promise,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Why {
    /// The controller ordered a fence, and waits for the acknowledgement.
    Fence,
    /// The other site showed the terms of a later epoch.
    Shown,
    /// The controller ordered a promotion.
    Promote { acknowledged: bool },
}

impl Machine {
    /// A guard that was just started. `kill`: how long its host's kernel takes
    /// to end a database, where that was proved. `kept` is what its disk holds, with its start counted and durable; none where
    /// the state is lost or an old one. It is told next what the database does.
    #[must_use]
    pub fn new(
        site: SiteName,
        boot: Boot,
        renewal: Span,
        kill: Option<Span>,
        kept: Option<Promise>,
        now: Clocks,
    ) -> Self {
        Self {
            site,
            boot,
            renewal,
            kill,
            granted: Granted::just_before(
                now.grantor,
                kept.as_ref().map_or(LONGEST, |p| p.longest),
            ),
            promise: kept,
            job: Job::Idle,
            database: None,
            answers: false,
            seen: FirstHand::default(),
            again: None,
            ends_again: None,
            is_stuck: false,
            lease: None,
            armed: None,
            asked: None,
            heard: BTreeMap::new(),
            deputy_starts: None,
            acknowledged: false,
            lsn: None,
            drained: None,
            resync: None,
            #[cfg(feature = "weakened")]
            weakness: None,
        }
    }

    /// Takes in what happened; returns what is to be done, in this order.
    #[must_use]
    pub fn step(&mut self, event: Event, now: Clocks) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Tick => {}
            Event::Asked(request, terms) => self.asked_by(&request, terms, now, &mut effects),
            Event::Granted(grant) => self.granted_by(&grant, now, &mut effects),
            Event::Fence(order) => self.fence(&order, &mut effects),
            Event::Promote(order) => self.promote(order, &mut effects),
            Event::Drain(order) => self.drain(&order, now, &mut effects),
            Event::Drained(lsn) => self.was_drained(lsn),
            Event::Resync(order) => self.resync(&order, &mut effects),
            Event::Resynced(came) => self.resynced(came, &mut effects),
            Event::Emptied(lsn) => self.emptied(lsn, &mut effects),
            Event::NotEmptied => self.not_emptied(now),
            Event::NotWritten => {
                self.job = Job::Broken;
                self.lease = None;
            }
            Event::Written => self.written(now, &mut effects),
            Event::Armed(until) => self.armed = Some(until),
            Event::Database(database) => self.database_is(database),
            Event::Silent => self.answers = false,
            Event::Seen(seen) => self.seen = seen,
            Event::Opened(database) => self.opened(database, now),
        }
        self.settle(now, &mut effects);
        effects
    }

    /// When `Tick` is due at the latest, on the holder's clock: the next request, or the end of the lease.
    #[must_use]
    pub fn wake(&self, now: Clocks) -> Time {
        let ask = self.asked.map_or(now.holder, |at| at.after(self.renewal));
        let ask = self.drained.as_ref().map_or(ask, |d| ask.min(d.until));
        match self.lease {
            Some(Until::At(at)) => ask.min(at),
            Some(Until::Never) | None => ask,
        }
        .max(now.holder)
    }

    /// What it sees at first hand.
    #[must_use]
    pub fn report(&self) -> Report {
        let drained = self.drained.as_ref().and_then(|d| d.lsn);
        // Where a log ends is all there is to say of its position.
        let seen = FirstHand {
            position: self.seen.position.filter(|_| drained.is_none()),
            contact: self.seen.contact.filter(|_| drained.is_none()),
            ..self.seen
        };
        Report {
            site: self.site.clone(),
            boot: self.boot,
            promise: self.promise.clone(),
            database: self.database,
            answers: self.answers,
            seen,
            can_fence: self.job != Job::Broken && !self.is_stuck,
            kill: self.kill,
            leased: self.lease.is_some(),
            drained,
            resync: self.resync,
        }
    }

    /// Until when its lease runs; none where it has none.
    #[must_use]
    pub fn lease(&self) -> Option<Until> {
        self.lease
    }

    /// How long ago it granted last as a deputy, as far as anybody may still rely on it.
    #[must_use]
    pub fn since_granted(&self, now: Clocks) -> Span {
        self.granted.age(now.grantor)
    }

    fn is_primary(&self) -> bool {
        self.role() == Some(Role::Primary)
    }

    fn role(&self) -> Option<Role> {
        self.promise.as_ref().map(|p| p.role)
    }

    fn epoch(&self) -> Option<Epoch> {
        self.promise.as_ref().map(|p| p.epoch)
    }

    fn terms(&self) -> Option<&Terms> {
        self.promise.as_ref().and_then(|p| p.terms.as_ref())
    }

    fn database_is(&mut self, database: Database) {
        self.database = Some(database);
        self.answers = database != Database::Gone;
        if database == Database::Gone {
            self.armed = None;
        }
    }

    fn opened(&mut self, database: Database, now: Clocks) {
        self.database_is(database);
        if self.job == Job::Opening {
            self.job = Job::Idle;
        }
        let is_open = match self.role() {
            Some(Role::Primary) => database == Database::Writable,
            Some(Role::Standby | Role::Fenced) | None => database == Database::Following,
        };
        self.again = (!is_open).then(|| now.holder.after(self.renewal));
    }

    /// What follows from how things stand, whatever happened.
    fn settle(&mut self, now: Clocks, effects: &mut Vec<Effect>) {
        if self.lease.is_some_and(|until| until.is_over(now)) {
            self.lease = None;
        }
        self.end_of_drain(now, effects);
        if self.weak(Weakness::LeaseKeptAtStart)
            && let Some(until) = self.lease.filter(|until| self.armed < Some(*until))
        {
            effects.push(Effect::Arm(until));
        }
        // A lease that has an end now, over a timer that has none yet: said again until the timer is set.
        if self.job == Job::Idle
            && self.database == Some(Database::Writable)
            && let (Some(until @ Until::At(_)), Some(Until::Never)) = (self.lease, self.armed)
            && !effects.contains(&Effect::Arm(until))
        {
            effects.push(Effect::Arm(until));
        }
        if self.must_stop(now) {
            self.job = Job::Emptying(None);
            effects.push(Effect::Empty);
        }
        self.end_again(now, effects);
        self.open(now, effects);
        self.ask(now, effects);
    }

    /// Whether the database may write, or is about to, with no right to.
    fn must_stop(&self, now: Clocks) -> bool {
        let opening = match self.job {
            Job::Idle | Job::Draining | Job::Resyncing => false,
            Job::Opening => self.is_primary(),
            Job::Emptying(_) | Job::Writing(_) | Job::Broken => return false,
        };
        let may_write = opening || self.database == Some(Database::Writable);
        // After a start of the guard the kernel's timer still runs for the lease of its life before.
        let is_timed = match self.armed {
            Some(until @ Until::At(_)) => !until.is_over(now),
            Some(Until::Never) => {
                let is_weak =
                    self.weak(Weakness::PermitFromDisk) || self.weak(Weakness::PromotedBeforeLease);
                is_weak || self.terms().is_none_or(|t| t.lease == Lease::Unbounded)
            }
            None => false,
        };
        may_write && !(self.is_primary() && (self.lease.is_some() || is_timed))
    }
}

#[cfg(test)]
mod tests;
