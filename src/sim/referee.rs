//! The referee: knows what guards promised and what was granted, and notes where a rule between them does not hold.

use std::collections::{BTreeMap, BTreeSet};

use super::{fault::By, network::Party, rule::Rule, site::Power, world::World};
use crate::{
    driver::guards::Said,
    guard::machine::Until,
    model::{
        guard::{Boot, Database, Grant, Lease, Promise, Role, Terms},
        id::{Epoch, RunId, SiteName},
        lease::kill_margin,
        record::{Record, RecordBody},
        step::Rung,
        time::Time,
    },
};

/// A record begins an epoch.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Which.
    pub epoch: Epoch,
    /// Whose.
    pub site: &'a SiteName,
    /// Its terms, where a guard stands there.
    pub terms: Option<&'a Terms>,
}

impl<'a> Entry<'a> {
    /// Of a record; none where it begins no epoch.
    #[must_use]
    pub fn of(body: &'a RecordBody) -> Option<Self> {
        let (epoch, site, terms) = if let RecordBody::EpochRaised {
            epoch, site, terms, ..
        }
        | RecordBody::Moved {
            epoch, site, terms, ..
        } = body
        {
            (*epoch, site, terms.as_ref())
        } else if let RecordBody::EpochOpened { terms, .. } = body {
            (terms.epoch, &terms.site, Some(terms))
        } else {
            return None;
        };
        Some(Self { epoch, site, terms })
    }
}

/// What guards did, as they cannot deny it.
#[expect(
    clippy::struct_excessive_bools,
    reason = "what is so of the newest epoch, each for itself"
)]
#[derive(Clone, Debug, Default)]
pub struct Referee {
    /// The newest epoch of the journal, and whose it is.
    newest: Option<(Epoch, SiteName)>,
    /// Since when it stands there.
    entered: Time,
    /// The terms before it gave its site a lease without an end.
    left_solo: bool,
    is_solo: bool,
    /// An epoch was begun since the journal that counts is another one.
    is_raised: bool,
    knows_successor: bool,
    /// Until when the controller's grants let a life of each site's guard write, by that host's clock.
    granted: BTreeMap<(usize, Boot), Until>,
    /// The last life of each site's guard that ended with its kernel: what is granted to it afterwards means nothing.
    over: BTreeMap<usize, Boot>,
    /// Sites that the controller's process of now has granted to.
    by_this_process: BTreeSet<usize>,
    /// The site that was primary of each epoch.
    primaries: BTreeMap<Epoch, usize>,
    /// The highest fence that each site acknowledged.
    acknowledged: BTreeMap<usize, Epoch>,
    /// What each disk promised last; not where it was lost.
    promised: BTreeMap<usize, Epoch>,
    /// The highest epoch that a database took writes in, and where.
    written: Option<(Epoch, usize)>,
}

impl Referee {
    /// A disk is lost with all that it promised.
    pub fn loses(&mut self, n: usize) {
        self.promised.remove(&n);
    }

    /// A host loses its power: what ran on it has ended, and its clocks begin anew.
    pub fn powers_down(&mut self, n: usize, life: Boot) {
        self.granted.retain(|(site, _), _| *site != n);
        self.over.insert(n, life);
    }

    /// A process of the controller begins.
    pub fn controller_starts(&mut self) {
        self.by_this_process.clear();
    }

    /// Whether the controller's process of now has granted to a site.
    #[must_use]
    pub fn has_granted(&self, n: usize) -> bool {
        self.by_this_process.contains(&n)
    }

    /// Since when the newest epoch stands in the journal.
    #[must_use]
    pub fn entered(&self) -> Time {
        self.entered
    }

    /// Whether the newest epoch follows on one at the same site whose lease had no end.
    #[must_use]
    pub fn left_solo(&self) -> bool {
        self.left_solo
    }

    /// The journal that counts is another one now, which holds these epochs already.
    pub fn goes_on_from(&mut self, records: &[Record], now: Time) {
        self.newest = None;
        for record in records {
            if let Some(entry) = Entry::of(&record.body) {
                self.enters(entry, now);
            }
        }
        self.is_raised = false;
    }

    /// Whether a guard has promised an epoch that whoever took over has opened.
    #[must_use]
    pub fn knows_successor(&self) -> bool {
        self.knows_successor
    }

    /// The journal has a new epoch.
    pub fn enters(&mut self, entry: Entry<'_>, now: Time) {
        let stays = self.newest.as_ref().is_some_and(|(_, s)| s == entry.site);
        let is_solo = entry.terms.is_some_and(|t| t.lease == Lease::Unbounded);
        self.left_solo = stays && self.is_solo && !is_solo;
        self.is_solo = is_solo;
        self.entered = now;
        self.is_raised = true;
        self.newest = Some((entry.epoch, entry.site.clone()));
    }

    /// Whether it is the newest epoch of the journal that counts.
    #[must_use]
    pub fn is_newest(&self, epoch: Epoch) -> bool {
        self.newest.as_ref().is_some_and(|(e, _)| *e == epoch)
    }

    fn grants(&mut self, n: usize, grant: &Grant) {
        let until = match grant.lease {
            Lease::Unbounded => Until::Never,
            Lease::Bounded(lease) => {
                Until::At(grant.sent.after(lease.saturating_sub(kill_margin(lease))))
            }
        };
        self.by_this_process.insert(n);
        if self.over.get(&n).is_some_and(|life| grant.boot <= *life) {
            return;
        }
        let known = self.granted.entry((n, grant.boot)).or_insert(until);
        *known = match (*known, until) {
            // What had no end is bound by the next epoch, which the guard itself has said that it holds.
            (Until::Never, bounded) => bounded,
            (known, new) => known.max(new),
        };
    }

    /// Whether a lease that the controller granted to the guard of now may still run.
    fn may_run(&self, n: usize, boot: Boot, now: Time) -> bool {
        // A guard that was started anew takes no grant of its life before, and the kernel's timer runs on.
        let own = self.granted.iter().filter(|((site, _), _)| *site == n);
        let mut own = own.filter(|((_, life), _)| *life == boot || life.0 + 1 == boot.0);
        own.any(|(_, until)| match until {
            Until::At(at) => *at > now,
            Until::Never => false,
        })
    }
}

impl World {
    /// The controller says something to the guard of a site.
    pub(super) fn says(&mut self, n: usize, what: &Said) {
        if self.speaker == Party::Former {
            // Where its journal is another one than counts, what it grants has to be waited for all the same.
            if let Said::Grant(grant) = what {
                self.referee.grants(n, grant);
                if self.is_led() {
                    self.deposed(|| format!("it granted site-{n} a lease in {}", grant.epoch));
                }
            }
            if self.scenario.succession() == Some(By::Takeover) {
                return;
            }
        }
        match what {
            Said::Grant(grant) => {
                self.referee.grants(n, grant);
                let site = &self.scenario.service.sites[n].name;
                let newest = self.referee.newest.clone();
                if newest.as_ref().is_some_and(|(_, s)| s != site) {
                    let found = format!(
                        "{site} was granted a lease in epoch {}, and the newest one is {newest:?}",
                        grant.epoch
                    );
                    self.broken(Rule::GrantsInForce, found);
                }
            }
            Said::Promote(order) => {
                let terms = &order.terms;
                let is_newest = self.referee.newest.as_ref().is_some_and(|(e, s)| {
                    *e >= terms.epoch && (*e > terms.epoch || *s == terms.site)
                });
                if !is_newest {
                    let found =
                        format!("{} was to be promoted in epoch {}", terms.site, terms.epoch);
                    self.broken(Rule::RecordBeforeEffect, found);
                }
            }
            Said::Fence(order) => {
                let newest = self.referee.newest.as_ref().map_or(Epoch(0), |(e, _)| *e);
                let is_intended = self.watchman.intends("guard/fence");
                // Whoever believes in an epoch that is over is told so without a step.
                if order.epoch > newest {
                    self.watchman.acts(self.now);
                }
                if order.epoch > newest && !is_intended {
                    let found = format!("site-{n} was to be fenced in {}", order.epoch);
                    self.broken(Rule::RecordBeforeEffect, found);
                }
            }
            Said::Drain(_) => self.must_intend(n, "guard/drain"),
            Said::Resync(_) => self.must_intend(n, "guard/rejoin"),
            Said::Act(_) | Said::Recall(_) | Said::Look => {}
        }
    }

    fn must_intend(&mut self, n: usize, kind: &str) {
        if !self.watchman.intends(kind) {
            let found = format!("site-{n} was told to {kind}");
            self.broken(Rule::RecordBeforeEffect, found);
        }
    }

    /// A fence is acknowledged: from now on nothing of an earlier epoch is ever written there.
    pub(super) fn acknowledged(&mut self, n: usize, epoch: Epoch) {
        self.trace
            .note(self.now, 26, || format!("site-{n} acknowledges {epoch}"));
        let known = self.referee.acknowledged.entry(n).or_insert(epoch);
        *known = (*known).max(epoch);
        let writes = self.database_of(n) == Database::Writable;
        let host = self.hosts[n].as_ref();
        let (kept, written) =
            host.map_or((None, Epoch(0)), |h| (h.kept().map(|p| p.epoch), h.epoch()));
        if kept < Some(epoch) {
            let found = format!("site-{n} acknowledged epoch {epoch}, and its disk holds {kept:?}");
            self.broken(Rule::FenceLasts, found);
        } else if writes && written < epoch {
            let found =
                format!("site-{n} acknowledged epoch {epoch} and takes writes in {written}");
            self.broken(Rule::FenceLasts, found);
        }
    }

    /// A promise is on disk.
    pub(super) fn promised(&mut self, n: usize, promise: &Promise) {
        let epoch = promise.epoch;
        let before = self.referee.promised.insert(n, epoch);
        let is_successors = self.referee.is_raised && self.referee.is_newest(epoch);
        self.referee.knows_successor |= self.is_succeeded && is_successors;
        if before > Some(epoch) {
            let found = format!("site-{n} went from {before:?} to {epoch}");
            self.broken(Rule::PromiseKept, found);
        }
        if promise.role == Role::Primary {
            self.is_primary_of(n, epoch);
        }
    }

    fn is_primary_of(&mut self, n: usize, epoch: Epoch) {
        let whose = *self.referee.primaries.entry(epoch).or_insert(n);
        if whose != n {
            let found = format!("epoch {epoch} is site-{whose}'s and site-{n}'s");
            self.broken(Rule::EpochsRise, found);
        }
    }

    /// A database takes writes.
    pub(super) fn opened_in(&mut self, n: usize, epoch: Epoch) {
        self.is_primary_of(n, epoch);
        let acknowledged = self.referee.acknowledged.get(&n).copied();
        if acknowledged > Some(epoch) {
            let found = format!(
                "site-{n} takes writes in epoch {epoch} after it acknowledged {acknowledged:?}"
            );
            self.broken(Rule::FenceLasts, found);
        }
        let before = self.referee.written;
        if let Some((written, at)) = before
            && written > epoch
        {
            let found =
                format!("site-{n} takes writes in {epoch} after site-{at} did in {written}");
            self.broken(Rule::EpochsRise, found);
        }
        if before.is_none_or(|(written, _)| written <= epoch) {
            self.referee.written = Some((epoch, n));
        }
        if before.is_some_and(|(_, at)| at != n) {
            self.watchman
                .promoted_at(n, Some(epoch), &self.sites, &self.customers, self.now);
        }
    }

    /// A database that took writes does so no more.
    pub(super) fn stopped(&mut self, n: usize) {
        if self.scenario.alone && self.referee.written.is_some_and(|(_, at)| at == n) {
            let found = format!("the database of site-{n} ended");
            self.broken(Rule::ControllerAlone, found);
        }
    }

    /// An epoch rises in a run: what its fences claim must be so.
    pub(super) fn raised(&mut self, run: &RunId, from: &SiteName) {
        let n = self.site_named(from);
        if !self.is_guarded(n) {
            return;
        }
        let claimed = self.watchman.claims(run);
        for rung in claimed {
            if let Some(found) = self.is_false(n, rung) {
                self.broken(Rule::ProofIsTrue, format!("rung {rung}: {found}"));
            }
        }
    }

    fn is_false(&self, n: usize, rung: Rung) -> Option<String> {
        let host = self.hosts[n].as_ref()?;
        let epoch = self.referee.newest.as_ref().map_or(Epoch(0), |(e, _)| *e);
        let now = host.clocks(self.now).holder;
        match rung {
            Rung::Acknowledged => {
                let known = self.referee.acknowledged.get(&n).copied();
                (known < Some(epoch))
                    .then(|| format!("site-{n} acknowledged {known:?}, and the epoch is {epoch}"))
            }
            Rung::Lease => {
                let writes = self.database_of(n) == Database::Writable;
                if self.referee.may_run(n, host.boot(), now) && self.sites[n].is_on() {
                    Some(format!("a lease of site-{n} still runs"))
                } else {
                    (writes && host.is_endless())
                        .then(|| format!("the database of site-{n} runs without an end"))
                }
            }
            Rung::Infrastructure => (self.sites[n].power != Power::Off)
                .then(|| format!("the host of site-{n} is {:?}", self.sites[n].power)),
            Rung::Attested => None,
        }
    }
}
