//! Weakened rules: what tests plant, to see that some rule notices. Nothing else ever sets one.

use super::fault::By;
use crate::guard::machine;

/// A rule of the controller's that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weakness {
    /// A fence says Done before anything is switched off.
    FenceAnswersEarly,
    /// A step that cannot be told counts as failed.
    TimeoutIsFailure,
    /// Effects are made before their records are durable: the journal answers first and writes later.
    EffectBeforeRecord,
    /// DNS leads to the standby before it is promoted.
    NamesBeforePromotion,
    /// Probes say Up once a failover has begun, so that customers hear too early that all is well.
    RosyProbes,
    /// Probes of all vantage points say Down while everything works.
    FalseAlarm,
    /// The standby says that it has received everything.
    RosyLag,
    /// The ledger forgets who was told.
    ForgetfulLedger,
    /// A restarted controller finds its journal without its last records.
    ForgetfulJournal,
    /// A promotion does not wait for the rung that the plan requires.
    NoRung,
    /// A step's effect never comes to an end for whoever waits for it.
    DeafSteps,
    /// A guard does not keep this rule: only builds with the feature `weakened` can break it.
    Guard(machine::Weakness),
    /// The kernel's timer ends no database whose guard is dead or stopped.
    NoDeadMan,
    /// The kernel's timer fires when the lease ends, and not before.
    LateTimer,
    /// A host that was a primary's starts its database when it has power again, without asking its guard.
    NoPermit,
    /// A grant does not start the controller's wait anew.
    WaitNotRestarted,
    /// The controller waits half of what it should.
    WaitTooShort,
    /// A controller that was started anew assumes that nobody has a lease.
    NewLeaderAssumesNothing,
    /// An acknowledgement of any epoch is taken for one of this.
    AnyAcknowledgement,
    /// The controller grants in an epoch that is over, and while it fences.
    GrantsOldEpoch,
    /// A lease without an end is taken for one that is over.
    EndlessForgotten,
    /// A deputy's grants are never sent.
    DeputySilent,
    /// A controller does not ask the journal's copy whether another one leads.
    DeafToSuccessor,
    /// The store of the journal's copy overwrites what it was asked only to create.
    CopyOverwrites,
    /// Whoever was elected takes its tenure to have no end: once frozen, it grants and acts unchecked.
    EndlessTenure,
    /// The journal takes records behind whatever stands there, from whoever has not seen that.
    JournalOverwrites,
    /// A failover gives the new site the epoch that the old one has.
    EpochOfTheOther,
    /// A lease without an end is waited for from the opening of the next epoch on, not from the guard's word that it holds it.
    SoloUnreported,
    /// A lease without an end is over as soon as its guard says that it holds the next epoch.
    SoloUnwaited,
    /// Where a switch-off is not answered, a write is tried, and one that nobody answers counts as refused.
    SilenceRefuses,
    /// The guard of a standby says that its database has everything.
    RosyPosition,
}

impl Weakness {
    /// Those of guards, and of the controller towards them.
    pub const GUARDED: [Self; 29] = [
        Self::Guard(machine::Weakness::LeaseFromReceipt),
        Self::Guard(machine::Weakness::GrantBelowPromise),
        Self::Guard(machine::Weakness::AcknowledgedBeforeWritten),
        Self::Guard(machine::Weakness::PermitFromDisk),
        Self::Guard(machine::Weakness::DeputyDoesNotWait),
        Self::Guard(machine::Weakness::DeputyForgetsAtStart),
        Self::Guard(machine::Weakness::DeputyGrantsBelowPromise),
        Self::Guard(machine::Weakness::LostStateVotes),
        Self::Guard(machine::Weakness::LapseAcknowledged),
        Self::Guard(machine::Weakness::PromotedBeforeLease),
        Self::Guard(machine::Weakness::LeaseKeptAtStart),
        Self::Guard(machine::Weakness::OldPromoteObeyed),
        Self::Guard(machine::Weakness::LeaseLengthened),
        Self::NoDeadMan,
        Self::LateTimer,
        Self::NoPermit,
        Self::WaitNotRestarted,
        Self::WaitTooShort,
        Self::NewLeaderAssumesNothing,
        Self::AnyAcknowledgement,
        Self::GrantsOldEpoch,
        Self::EndlessForgotten,
        Self::DeputySilent,
        Self::EndlessTenure,
        Self::JournalOverwrites,
        Self::EpochOfTheOther,
        Self::SoloUnreported,
        Self::SoloUnwaited,
        Self::RosyPosition,
    ];

    /// Whether only a service with guards can show it.
    #[must_use]
    pub fn is_guarded(self) -> bool {
        Self::GUARDED.contains(&self)
    }

    /// The rule that a guard does not keep.
    #[must_use]
    pub fn of_guard(self) -> Option<machine::Weakness> {
        if let Self::Guard(weakness) = self {
            Some(weakness)
        } else {
            None
        }
    }

    /// Only histories can show it in which another controller comes after the first in this way.
    #[must_use]
    pub fn of_succession(self) -> Option<By> {
        let takeover = [Self::DeafToSuccessor, Self::CopyOverwrites].contains(&self);
        let election = [Self::EndlessTenure, Self::JournalOverwrites].contains(&self);
        let election = election.then_some(By::Election);
        takeover.then_some(By::Takeover).or(election)
    }

    /// Only histories can show it in which a lone primary gets a standby again.
    #[must_use]
    pub fn is_of_solo(self) -> bool {
        [Self::SoloUnreported, Self::SoloUnwaited].contains(&self)
    }

    /// All others.
    pub const ALL: [Self; 14] = [
        Self::FenceAnswersEarly,
        Self::TimeoutIsFailure,
        Self::EffectBeforeRecord,
        Self::NamesBeforePromotion,
        Self::RosyProbes,
        Self::FalseAlarm,
        Self::RosyLag,
        Self::ForgetfulLedger,
        Self::ForgetfulJournal,
        Self::NoRung,
        Self::DeafSteps,
        Self::DeafToSuccessor,
        Self::CopyOverwrites,
        Self::SilenceRefuses,
    ];
}
