//! The database that a guard alone starts, and the kernel's timer that ends it.

use std::collections::BTreeMap;

use super::{AGAIN, IN_VAIN, Kind, Opening, Stir, Work};
use crate::{
    guard::machine::{Event, Until},
    model::{
        guard::{Database, FirstHand, Lease, Role},
        id::Epoch,
        lease::kill_margin,
        observation::DatabaseRole,
        span::Span,
    },
    sim::{fault::Fault, site::Life, weakness::Weakness, world::World},
};

impl World {
    pub(super) fn empty(&mut self, n: usize) {
        let Some(host) = self.host(n) else { return };
        let turn = host.next_turn();
        host.hold_turn = turn;
        host.is_emptying = true;
        host.to_arm = None;
        host.opening = None;
        host.draining = None;
        self.work(n, (5, 80), Work::Empty(turn));
    }

    pub(super) fn arm_next(&mut self, n: usize) {
        let Some(host) = self.host(n).filter(|h| !h.is_arming) else {
            return;
        };
        let Some((until, turn)) = host.to_arm.take() else {
            return;
        };
        host.is_arming = true;
        self.work(n, (1, 8), Work::Arm(until, turn));
    }

    pub(super) fn open(&mut self, n: usize, kind: Kind) {
        let Some(host) = self.host(n) else { return };
        let turn = host.next_turn();
        if kind != Kind::Promote {
            host.hold_turn = turn;
        }
        host.opening = Some(turn);
        host.draining = None;
        let epoch = host.guard.as_ref().and_then(|g| g.report().promise);
        let opening = Opening {
            turn,
            kind,
            epoch: epoch.map_or(Epoch(0), |p| p.epoch),
        };
        match kind {
            Kind::Promote => self.work(n, (100, 1_000), Work::Open(opening)),
            Kind::Start(_) | Kind::Follow => self.work(n, (20, 200), Work::Launch(opening)),
        }
    }

    pub(super) fn emptied(&mut self, n: usize, turn: u64, event: Event) {
        let Some(host) = self.host(n).filter(|h| h.hold_turn == turn) else {
            return;
        };
        host.is_emptying = false;
        host.next_turn();
        self.tell(n, event);
    }

    pub(super) fn armed(&mut self, n: usize, until: Until, turn: u64) {
        let is_there = self.database_of(n) != Database::Gone;
        let Some(host) = self.host(n) else { return };
        host.is_arming = false;
        let counts = turn == host.hold_turn && !host.is_emptying && !host.is_dying;
        if counts && is_there {
            host.timer = Some(until);
            self.set_timer(n);
            self.tell(n, Event::Armed(until));
        }
        self.arm_next(n);
    }

    /// Has the kernel's timer fire when it is due by the clock as that goes now.
    pub(super) fn set_timer(&mut self, n: usize) {
        let now = self.now;
        let late = match (self.scenario.weakness, &self.scenario.service.guards) {
            (Some(Weakness::LateTimer), Some(guards)) => kill_margin(guards.lease),
            (Some(_) | None, _) => Span::ZERO,
        };
        let Some(host) = self.host(n).filter(|h| !h.is_dying) else {
            return;
        };
        host.timers += 1;
        if let Some(Until::At(at)) = host.timer {
            let (fires, timer) = (host.holder.reaches(at.after(late)), host.timers);
            self.stir_after(n, fires.since(now), Stir::Fires(timer));
        }
    }

    pub(super) fn fires(&mut self, n: usize, timer: u64) {
        let weakness = self.scenario.weakness;
        let Some(host) = self.host(n).filter(|h| h.timers == timer) else {
            return;
        };
        if weakness == Some(Weakness::NoDeadMan) && !host.is_up() {
            return;
        }
        host.is_dying = true;
        let most = host.plan.kill.unwrap_or_default().as_millis();
        let after = self.chance.millis(0, most);
        self.stir_after(n, after, Stir::Killed(timer));
    }

    /// No process of the database is left.
    pub(super) fn ended(&mut self, n: usize) {
        let was = self.database_of(n);
        self.notice();
        if let Some(database) = &mut self.sites[n].database {
            database.life = Life::Gone;
            // It refused writers while it came to its end.
            database.read_only = false;
        }
        if let Some(host) = self.host(n) {
            host.timer = None;
            host.timers += 1;
            host.is_dying = false;
        }
        self.look_around();
        if was == Database::Writable {
            self.trace
                .note(self.now, 24, || format!("the database of site-{n} ends"));
            self.stopped(n);
        }
    }

    pub(super) fn launch(&mut self, n: usize, opening: Opening) {
        let now = self.now;
        let cannot = !self.sites[n].is_on() || self.has(Fault::DatabaseDies(n));
        let Some(host) = self.host(n).filter(|h| h.opening == Some(opening.turn)) else {
            return;
        };
        let clock = host.clocks(now).holder;
        let is_over = matches!(opening.kind, Kind::Start(Until::At(at)) if at <= clock);
        // What was brought into line by half is nobody's data.
        let is_half_done = host.is_half_done;
        let runs = self.database_of(n) != Database::Gone;
        if cannot || is_over || is_half_done {
            self.in_vain(n, opening.turn);
            return;
        }
        if !(runs && opening.kind == Kind::Follow) {
            if runs {
                self.ended(n);
            }
            self.runs(n, DatabaseRole::Standby);
        }
        if let Kind::Start(until) = opening.kind {
            if let Some(host) = self.host(n) {
                host.timer = Some(until);
            }
            self.set_timer(n);
            let counts = self
                .host(n)
                .is_some_and(|h| h.hold_turn == opening.turn && !h.is_emptying);
            if counts {
                self.tell(n, Event::Armed(until));
            }
        } else if let Some(host) = self.host(n) {
            host.was_primary = false;
        }
        self.work(n, (100, 1_200), Work::Open(opening));
    }

    fn in_vain(&mut self, n: usize, turn: u64) {
        let seen = self.database_of(n);
        let life = self.hosts[n].as_ref().map_or(0, |h| h.lives);
        self.stir_after(n, IN_VAIN, Stir::Done(life, Work::Opened(turn, seen)));
    }

    fn runs(&mut self, n: usize, role: DatabaseRole) {
        let is_frozen = self.has(Fault::DatabaseFreezes(n));
        if let Some(database) = &mut self.sites[n].database {
            database.life = if is_frozen { Life::Frozen } else { Life::Runs };
            database.role = role;
        }
    }

    /// The server comes so far by itself, whatever became of the guard; not where it was called off.
    pub(super) fn let_in(&mut self, n: usize, opening: Opening) {
        let is_frozen = self.has(Fault::DatabaseFreezes(n));
        let Some(host) = self.host(n).filter(|h| h.opening == Some(opening.turn)) else {
            return;
        };
        let (life, was_primary) = (host.lives, host.was_primary);
        if is_frozen {
            self.stir_after(n, AGAIN, Stir::Done(life, Work::Open(opening)));
            return;
        }
        if self.database_of(n) == Database::Gone {
            self.in_vain(n, opening.turn);
            return;
        }
        match opening.kind {
            Kind::Follow => {}
            Kind::Start(_) if was_primary => self.opens(n, opening.epoch, false),
            Kind::Start(_) | Kind::Promote => self.opens(n, opening.epoch, true),
        }
        let seen = self.database_of(n);
        self.look_around();
        self.ship_all();
        self.done(n, Work::Opened(opening.turn, seen));
    }

    /// The database takes writes.
    fn opens(&mut self, n: usize, epoch: Epoch, is_promoted: bool) {
        if self.database_of(n) == Database::Writable {
            return;
        }
        self.notice();
        self.runs(n, DatabaseRole::Primary);
        if is_promoted {
            self.fork(n);
        }
        if let Some(host) = self.host(n) {
            host.was_primary = true;
            host.epoch = epoch;
        }
        self.trace.note(self.now, 25, || {
            format!("the database of site-{n} takes writes in epoch {epoch}")
        });
        self.opened_in(n, epoch);
    }

    /// The host starts its database as it was, as no host with a guard may.
    pub(super) fn opens_unasked(&mut self, n: usize) {
        let known = self.hosts[n].as_ref().filter(|h| h.was_primary);
        if let Some(epoch) = known.map(|h| h.epoch) {
            self.opens(n, epoch, false);
        }
    }

    /// A promotion begins a timeline.
    fn fork(&mut self, n: usize) {
        let timeline = self.highest_timeline() + 1;
        if let Some(database) = &mut self.sites[n].database {
            self.forks
                .insert(timeline, (database.timeline, database.log.len()));
            database.timeline = timeline;
            database.read_only = false;
        }
    }

    pub(super) fn look_at_database(&mut self, n: usize) {
        let is_frozen = self.has(Fault::DatabaseFreezes(n));
        let is_late = self.chance.percent(20);
        let seen = self.database_of(n);
        let seen = (seen == Database::Gone || !is_frozen).then_some(seen);
        let besides = self.besides(n, seen);
        let Some(host) = self.host(n).filter(|h| h.guard.is_some()) else {
            return;
        };
        let (life, turn, renewal) = (host.lives, host.turn, host.plan.renewal);
        let is_stopped = host.is_stopped;
        self.stir_after(n, renewal, Stir::Looks(life));
        if is_stopped {
            return;
        }
        if is_late {
            self.work(n, (1, 20), Work::Looked(turn, seen, besides));
        } else {
            self.done(n, Work::Looked(turn, seen, besides));
        }
    }

    /// A look counts where nothing was begun or ended at the database since it began.
    pub(super) fn looked(
        &mut self,
        n: usize,
        turn: u64,
        seen: Option<Database>,
        besides: FirstHand,
    ) {
        let Some(host) = self.host(n) else { return };
        if host.opening.is_some() || host.is_emptying || turn != host.turn {
            return;
        }
        // Before any step: one may begin to end what runs, in a turn of its own.
        let known = host.guard.as_ref().and_then(|g| g.report().database);
        if seen == Some(Database::Gone) && known != Some(Database::Gone) {
            host.hold_turn = host.next_turn();
        }
        self.tell(n, Event::Seen(besides));
        let Some(host) = self.host(n) else { return };
        let Some(database) = seen else {
            self.tell(n, Event::Silent);
            return;
        };
        if !std::mem::replace(&mut host.has_looked, true) {
            self.found(n, database);
        }
        self.tell(n, Event::Database(database));
    }

    /// The first look of a life: what an earlier one armed goes on.
    fn found(&mut self, n: usize, database: Database) {
        let Some(host) = self.host(n) else { return };
        let is_endless = host.kept.as_ref().is_some_and(|p| {
            p.role == Role::Primary && p.terms.as_ref().map(|t| t.lease) == Some(Lease::Unbounded)
        });
        match (database, host.timer) {
            (Database::Following | Database::Writable, Some(until @ Until::At(_))) => {
                self.tell(n, Event::Armed(until));
            }
            (Database::Writable, None | Some(Until::Never)) if is_endless => {
                self.tell(n, Event::Armed(Until::Never));
            }
            (Database::Gone | Database::Following | Database::Writable, _) => {}
        }
    }
}

/// The timelines that were begun: from which, and where on it.
pub type Forks = BTreeMap<u32, (u32, usize)>;

/// Whether a standby with so much of its timeline can follow a primary on that one.
#[must_use]
pub fn can_follow(forks: &Forks, (own, length): (u32, usize), mut on: u32) -> bool {
    while on != own {
        match forks.get(&on) {
            Some((parent, at)) if length <= *at => on = *parent,
            Some(_) | None => return false,
        }
    }
    true
}
