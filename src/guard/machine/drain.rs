//! Planned work: the database is stopped in order under its lease, and a site that was left brings its data into line.
//! Neither promises anything: the controller's fence and the promise that follows do.

use super::{Clocks, Effect, Job, Machine, Next, Resynced, Why};
use crate::model::{
    guard::{Database, DrainOrder, Promise, Resync, ResyncOrder, Role},
    observation::Lsn,
    time::Time,
};

/// A database that is to stay stopped for a while.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Drained {
    /// Then it is started again.
    pub(super) until: Time,
    /// The order that said so counts from this request; an earlier one says nothing any more.
    pub(super) asked: Time,
    /// Where its log ends; none before it has stopped.
    pub(super) lsn: Option<Lsn>,
}

impl Machine {
    /// Stops the database in order, or keeps it stopped for longer.
    pub(super) fn drain(&mut self, order: &DrainOrder, now: Clocks, effects: &mut Vec<Effect>) {
        let is_mine = order.boot == self.boot
            && self.epoch() == Some(order.epoch)
            && self.is_primary()
            && order.asked <= now.holder;
        let until = order.asked.after(order.hold);
        if !is_mine {
            return;
        }
        match (&mut self.drained, &self.job) {
            (Some(drained), _) if order.asked < drained.asked => {}
            (Some(drained), _) => {
                drained.until = until;
                drained.asked = order.asked;
            }
            (None, Job::Idle)
                if self.database == Some(Database::Writable) && until > now.holder =>
            {
                self.drained = Some(Drained {
                    until,
                    asked: order.asked,
                    lsn: None,
                });
                self.job = Job::Draining;
                effects.push(Effect::Drain);
            }
            (None, _) => {}
        }
    }

    /// It has stopped. What did not end in order is started again at once.
    pub(super) fn was_drained(&mut self, lsn: Option<Lsn>) {
        if self.job != Job::Draining {
            return;
        }
        self.job = Job::Idle;
        if lsn.is_none() {
            // What it does now, the next look tells.
            self.drained = None;
        } else if let Some(drained) = &mut self.drained {
            drained.lsn = lsn;
            self.database_is(Database::Gone);
        }
    }

    /// What does not stop in its time is ended, and started again.
    pub(super) fn end_of_drain(&mut self, now: Clocks, effects: &mut Vec<Effect>) {
        let is_over = self.drained.as_ref().is_some_and(|d| now.holder >= d.until);
        match self.job {
            Job::Idle if is_over || !self.is_primary() => self.drained = None,
            Job::Draining if is_over => {
                self.drained = None;
                self.job = Job::Emptying(None);
                effects.push(Effect::Empty);
            }
            Job::Idle
            | Job::Opening
            | Job::Emptying(_)
            | Job::Draining
            | Job::Resyncing
            | Job::Writing(_)
            | Job::Broken => {}
        }
    }

    /// Where the log ends of a database that is stopped in order and stays so.
    pub(super) fn is_drained(&self) -> Option<Lsn> {
        let is_still = self.job == Job::Idle && self.database == Some(Database::Gone);
        self.drained.as_ref().filter(|_| is_still)?.lsn
    }

    /// What came of a resync in an earlier life of the guard.
    pub fn recall(&mut self, came: Resynced) {
        let counts = match came {
            // It was told when the site that follows now did not yet.
            Resynced::Done(_) => self.role() == Some(Role::Standby),
            Resynced::HalfDone => true,
            Resynced::Failed => false,
        };
        if counts && self.resync.is_none() {
            self.resync = Some(said(came));
        }
    }

    /// Brings the data of a fenced site into line.
    pub(super) fn resync(&mut self, order: &ResyncOrder, effects: &mut Vec<Effect>) {
        let is_mine = order.boot == self.boot
            && self.epoch() == Some(order.epoch)
            && self.role() == Some(Role::Fenced);
        if is_mine && self.job == Job::Idle && self.database == Some(Database::Gone) {
            self.job = Job::Resyncing;
            self.resync = Some(Resync::UnderWay);
            effects.push(Effect::Resync);
        }
    }

    /// It follows from now on, or stays fenced.
    pub(super) fn resynced(&mut self, came: Resynced, effects: &mut Vec<Effect>) {
        if self.job != Job::Resyncing {
            return;
        }
        self.job = Job::Idle;
        self.resync = Some(said(came));
        let fenced = self.promise.clone().filter(|p| p.role == Role::Fenced);
        if let (Some(fenced), Resynced::Done(_)) = (fenced, came) {
            let next = Next {
                promise: Promise {
                    role: Role::Standby,
                    ..fenced
                },
                why: Why::Shown,
            };
            effects.push(Effect::Write(next.promise.clone()));
            self.job = Job::Writing(next);
        }
    }
}

fn said(came: Resynced) -> Resync {
    match came {
        Resynced::Done(salvage) => Resync::Done(salvage),
        Resynced::Failed => Resync::Failed,
        Resynced::HalfDone => Resync::HalfDone,
    }
}
