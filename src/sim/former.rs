//! The controller that was taken over from: whether it acts just now, and what it changes that it must not.

use super::{
    fault::{Away, By, Fault},
    line::{Letter, Message},
    network::Party,
    rule::Rule,
    world::World,
};
use crate::{
    guard::machine::Effect,
    model::{guard::Role, record::Record, span::Span},
};

/// A controller does not ask the journal's copy again for so long after that did not answer: ten seconds, and the time that
/// it waited.
const BELIEVED: Span = Span::from_secs(15);

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
        let reasons = [Away::CutOff, Away::WithPrimary];
        self.speaker == self.away()
            && self
                .faults()
                .any(|f| matches!(f, Fault::Succeeded(_, away) if reasons.contains(&away)))
    }

    /// From now on, for a while, that controller acts.
    pub fn speaks(&mut self, who: Party) {
        self.speaker = who;
        let is_other_journal = self.scenario.succession() == Some(By::Takeover);
        self.watchman.violations.aside = who == Party::Former && is_other_journal;
    }

    /// Another replica was elected; it leads once it has said so in the journal.
    pub fn elected(&mut self) {
        self.trace
            .note(self.now, 27, || "another controller is elected".to_owned());
        self.is_succeeded = true;
        self.is_led = false;
        self.take_effect();
    }

    /// Whoever was elected has said so in the journal.
    pub fn leads(&mut self) {
        self.is_led = true;
    }

    /// Whether another replica leads than the one before, by the journal that both of them write.
    #[must_use]
    pub fn is_led(&self) -> bool {
        self.is_led
    }

    /// Another controller has taken over, and its journal is what counts.
    pub fn succeeded(&mut self, records: &[Record]) {
        self.trace
            .note(self.now, 27, || "another controller takes over".to_owned());
        self.is_succeeded = true;
        self.watchman.goes_on_from(records, &self.sites, self.now);
        self.referee.goes_on_from(records, self.now);
        self.take_effect();
    }

    /// Somebody changes something: a controller that another one came after must not.
    pub(super) fn deposed(&mut self, found: impl FnOnce() -> String) {
        if self.speaker == Party::Former && self.is_told() {
            self.broken(Rule::DeposedIsIdle, found());
        }
    }

    /// Somebody changes something: a controller that was taken over from, lives, and is told by neither guards nor the copy
    /// is beyond every rule about two writers. The README says so.
    pub(super) fn doubted(&mut self) {
        let is_guarded = self.scenario.service.guards.is_some();
        if self.speaker == Party::Former && !self.is_told() && !is_guarded {
            self.watchman.lied = true;
        }
    }

    /// The network is about to be another one.
    pub(super) fn doubts_copy(&mut self) {
        if !self.network.is_sure(Party::Former, Party::Store) {
            self.unsure = Some(self.now);
        }
    }

    /// Whether the controller that was taken over from has been told so, or would be if it asked. A copy that does not
    /// answer holds nobody back, since its store may have gone down with the primary. A cluster that does not is waited for,
    /// and tells of whoever was elected from its first record on.
    fn is_told(&self) -> bool {
        if self.scenario.succession() == Some(By::Election) {
            return self.is_led;
        }
        let is_sure = self.network.is_sure(Party::Former, Party::Store);
        let since = self.unsure.map(|at| self.now.since(at));
        is_sure && since.is_none_or(|since| since > BELIEVED)
    }

    /// A guard does something on the word of a controller that was taken over from. It may fence: that takes nothing back
    /// that anybody was promised. It may go on with what the journal that counts has begun as well. Where the journal's copy
    /// does not answer it, it is held back from the first epoch on that its successor has brought to a guard.
    pub(super) fn changed_by_former(&mut self, n: usize, effect: &Effect) {
        if !self.is_told() && !self.referee.knows_successor() {
            return;
        }
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
            self.post(Letter::new(me, Party::Former, what.clone()), self.ways);
        }
        self.post(Letter::new(me, Party::Controller, what), self.ways);
    }
}
