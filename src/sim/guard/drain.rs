//! Planned work at a host: the server comes to its own end, and the data of a site that was left is brought into line.

use super::{AGAIN, Stir, Work};
use crate::{
    guard::machine::{Event, Resynced},
    model::{
        guard::{Database, FirstHand, Salvage},
        observation::DatabaseRole,
    },
    sim::{
        fault::Fault,
        network::Party,
        site::{CHECKPOINT, Write, lsn},
        weakness::Weakness,
        world::World,
    },
};

impl World {
    /// What a look tells besides what the database does.
    pub(super) fn besides(&mut self, n: usize, seen: Option<Database>) -> FirstHand {
        let Some(own) = &self.sites[n].database else {
            return FirstHand::default();
        };
        let is_rosy = self.scenario.weakness == Some(Weakness::RosyPosition);
        let length = if is_rosy && own.role == DatabaseRole::Standby {
            let all = self.sites.iter().filter_map(|s| s.database.as_ref());
            all.map(|d| d.log.len()).max().unwrap_or(0)
        } else {
            own.log.len()
        };
        let answers = matches!(seen, Some(Database::Following | Database::Writable));
        let is_followed = (0..self.sites.len()).any(|s| self.streams(s) == Some(n));
        let now = self.now;
        let Some(host) = self.host(n).filter(|_| answers) else {
            return FirstHand::default();
        };
        if is_followed {
            host.contact = Some(now);
        }
        let contact = host.contact.filter(|_| seen == Some(Database::Writable));
        FirstHand {
            position: Some(lsn(length)),
            contact: contact.map(|at| now.since(at)),
            ..FirstHand::default()
        }
    }

    /// The server takes no writes from now on, and ends once its log is closed and its standbys have all of it.
    pub(super) fn drain(&mut self, n: usize) {
        self.notice();
        // One that has ended meanwhile hears of it no more.
        let is_there = self.database_of(n) == Database::Writable;
        if let Some(database) = self.sites[n].database.as_mut().filter(|_| is_there) {
            database.read_only = true;
        }
        self.look_around();
        let Some(host) = self.host(n) else { return };
        let turn = host.next_turn();
        host.draining = Some(turn);
        self.work(n, (50, 4_000), Work::Drain(turn));
    }

    /// It has come to its end, unless something else ended it before.
    pub(super) fn drained(&mut self, n: usize, turn: u64) {
        let is_frozen = self.has(Fault::DatabaseFreezes(n));
        let Some(host) = self.host(n).filter(|h| h.draining == Some(turn)) else {
            return;
        };
        let life = host.lives;
        let is_there = self.database_of(n) == Database::Writable;
        if is_there && is_frozen {
            self.stir_after(n, AGAIN, Stir::Done(life, Work::Drain(turn)));
            return;
        }
        let end = is_there.then(|| self.close_log(n));
        if is_there {
            self.ended(n);
        }
        let Some(host) = self.host(n) else { return };
        host.draining = None;
        host.hold_turn = host.next_turn();
        self.tell(n, Event::Drained(end));
    }

    /// A server that was told to come to its own end does so without the guard that told it, too.
    pub(super) fn ends_alone(&mut self, n: usize, life: u64, work: Work) {
        let database = self.sites[n].database.as_ref();
        let is_draining = database.is_some_and(|d| d.read_only && d.role == DatabaseRole::Primary);
        if !is_draining || self.database_of(n) != Database::Writable {
            return;
        }
        if self.has(Fault::DatabaseFreezes(n)) {
            self.stir_after(n, AGAIN, Stir::Done(life, work));
            return;
        }
        self.close_log(n);
        self.ended(n);
    }

    /// The last record of a log, sent to whoever streams; where it begins.
    fn close_log(&mut self, n: usize) -> crate::model::observation::Lsn {
        let Some(database) = &mut self.sites[n].database else {
            return lsn(0);
        };
        let end = lsn(database.log.len());
        database.log.push(CHECKPOINT);
        let (length, timeline) = (database.log.len(), database.timeline);
        for standby in 0..self.sites.len() {
            if self.streams(standby) == Some(n) {
                self.ship(standby, length, timeline);
            }
        }
        end
    }

    /// Keeps what only this site has, and takes the log of the site that serves.
    pub(super) fn resync(&mut self, n: usize, turn: u64) {
        if self.host(n).is_none_or(|h| h.resyncs != turn) {
            return;
        }
        let source = (0..self.sites.len()).find(|s| {
            let answers = self.sites[*s].answering();
            answers.is_some_and(|d| d.role == DatabaseRole::Primary)
                && self
                    .network
                    .is_open_both_ways(Party::Site(n), Party::Site(*s))
        });
        let source = source.and_then(|s| self.sites[s].database.clone());
        let (Some(source), Some(own)) = (source, &mut self.sites[n].database) else {
            self.broken_off(n, turn);
            return;
        };
        let found = salvage(&own.log, &source.log);
        own.log = source.log;
        own.timeline = source.timeline;
        own.role = DatabaseRole::Standby;
        own.heard = (self.now, own.log.len());
        let mut salvage = found;
        if let Some(host) = self.host(n) {
            host.was_primary = false;
            host.is_half_done = false;
            // What was kept before is still to be asked about.
            let kept = (found.to > found.from).then_some(found);
            host.salvage = kept.into_iter().chain(host.salvage).reduce(Salvage::with);
            salvage = host.salvage.unwrap_or(found);
        }
        self.trace.note(self.now, 27, || {
            format!("the data of site-{n} is in line: {salvage:?}")
        });
        self.tell(n, Event::Resynced(Resynced::Done(salvage)));
    }

    /// A number for what begins or ends now.
    pub(super) fn next_resync(&mut self, n: usize) -> u64 {
        self.host(n).map_or(0, |host| {
            host.resyncs += 1;
            host.resyncs
        })
    }

    /// A resync came to nothing.
    pub(super) fn broken_off(&mut self, n: usize, turn: u64) {
        let Some(host) = self.host(n).filter(|h| h.resyncs == turn) else {
            return;
        };
        let came = if host.is_half_done {
            Resynced::HalfDone
        } else {
            Resynced::Failed
        };
        self.tell(n, Event::Resynced(came));
    }

    /// A resync that was broken off has changed something, or not.
    pub(super) fn breaks_off(&mut self, n: usize) {
        let has_begun = self.chance.percent(50);
        if let Some(host) = self.host(n) {
            host.is_half_done |= has_begun;
        }
    }
}

/// What only the first of two logs has.
fn salvage(own: &[Write], source: &[Write]) -> Salvage {
    let common = own.iter().zip(source).take_while(|(a, b)| a == b).count();
    let left = &own[common..];
    Salvage {
        from: lsn(common),
        to: lsn(own.len()),
        commits: left.iter().filter(|w| **w != CHECKPOINT).count() as u64,
        is_whole: false,
    }
}
