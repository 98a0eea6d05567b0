//! The controller that was taken over from: whether it acts just now, and what it changes that it must not.

use super::{
    fault::{Away, Fault},
    line::{Letter, Message},
    network::Party,
    rule::Rule,
    world::World,
};
use crate::{
    guard::machine::Effect,
    model::{
        guard::Role,
        id::{Epoch, SiteName},
        record::{Record, RecordBody},
    },
};

impl World {
    /// The controller that is away while another takes over.
    pub(super) fn away(&self) -> Party {
        if self.is_succeeded {
            Party::Former
        } else {
            Party::Controller
        }
    }

    /// Whether the controller that acts just now reaches nobody.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.speaker == self.away() && self.has(Fault::Succeeded(Away::CutOff))
    }

    /// From now on, for a while, that controller acts.
    pub fn speaks(&mut self, who: Party) {
        self.speaker = who;
        self.watchman.violations.aside = who == Party::Former;
    }

    /// Another controller has taken over, and its journal is what counts.
    pub fn succeeded(&mut self, records: &[Record]) {
        self.trace
            .note(self.now, 27, || "another controller takes over".to_owned());
        self.is_succeeded = true;
        self.watchman.goes_on_from(records, &self.sites, self.now);
        self.referee.begins_anew();
        for record in records {
            if let Some((epoch, site)) = epoch_of(record) {
                self.referee.enters(epoch, site);
            }
        }
        self.take_effect();
    }

    /// Somebody changes something: a controller that was taken over from must not.
    pub(super) fn deposed(&mut self, found: impl FnOnce() -> String) {
        if self.speaker == Party::Former {
            self.broken(Rule::DeposedIsIdle, found());
        }
    }

    /// A guard does something on the word of a controller that was taken over from. It may fence: that takes nothing back
    /// that anybody was promised. It may go on with what the journal that counts has begun as well.
    pub(super) fn changed_by_former(&mut self, n: usize, effect: &Effect) {
        let found = match effect {
            Effect::Write(p) if p.role == Role::Primary && !self.referee.is_newest(p.epoch) => {
                format!("was promoted in epoch {}", p.epoch)
            }
            Effect::Drain if !self.watchman.is_doing("guard/drain") => "was drained".to_owned(),
            Effect::Resync if !self.watchman.is_doing("guard/rejoin") => "was resynced".to_owned(),
            Effect::Write(_)
            | Effect::Drain
            | Effect::Resync
            | Effect::BreakOff
            | Effect::Ask(_)
            | Effect::Grant(..)
            | Effect::Acknowledge(_)
            | Effect::Empty
            | Effect::Arm(_)
            | Effect::Start(_)
            | Effect::Promote
            | Effect::Follow => return,
        };
        self.broken(Rule::DeposedIsIdle, format!("site-{n} {found}"));
    }

    /// Tells the controller, and the one that was taken over from, whose address the guard may still have.
    pub(super) fn post_up(&mut self, n: usize, what: Message) {
        let me = Party::Site(n);
        if self.is_succeeded {
            self.post(Letter::new(me, Party::Former, what.clone()));
        }
        self.post(Letter::new(me, Party::Controller, what));
    }
}

/// The epoch that a record begins, and whose it is.
fn epoch_of(record: &Record) -> Option<(Epoch, &SiteName)> {
    if let RecordBody::EpochRaised { epoch, site, .. } | RecordBody::Moved { epoch, site, .. } =
        &record.body
    {
        return Some((*epoch, site));
    }
    if let RecordBody::EpochOpened { terms, .. } = &record.body {
        return Some((terms.epoch, &terms.site));
    }
    None
}
