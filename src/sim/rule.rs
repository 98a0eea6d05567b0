//! Rules: what must hold in every history, each with what it means in a plain sentence.

use std::fmt;

use crate::model::{span::Span, time::Time};

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Two sites never take customers' writes at the same time.
    OneWriter,
    /// An epoch rises only when the old primary can take no write any more.
    FencedBeforeEpoch,
    /// An effect is made only once its record is durable.
    RecordBeforeEffect,
    /// A promotion is asked for only on the required rung of proof.
    RungBeforePromotion,
    /// What is lost lies within what was forecast.
    LossWithinForecast,
    /// Epochs only rise, and each belongs to one site for ever.
    EpochsRise,
    /// Every run ends once faults have stopped.
    RunsEnd,
    /// No failover begins by itself while customers are served.
    NoFailoverWhileServed,
    /// A dead primary alone is taken over from within the RTO.
    ServesWithinRto,
    /// Nobody hears that all is well while it is not.
    RecoveredIsTrue,
    /// Nobody is told twice where that can be known.
    ToldOnce,
    /// A step that failed has left nothing behind.
    FailedLeavesNothing,
    /// Customers are led to a site only once it takes their writes.
    NamesAfterPromotion,
    /// The loop of a service goes on whatever comes in.
    LoopLives,
    /// What a guard promised it never takes back, unless its disk was lost.
    PromiseKept,
    /// A site that acknowledged a fence writes in no earlier epoch any more.
    FenceLasts,
    /// What a fence proves of a guarded site is so.
    ProofIsTrue,
    /// Leases are granted to the site of the newest epoch alone.
    GrantsInForce,
    /// Losing the controller alone stops no primary whose standby's guard answers.
    ControllerAlone,
    /// A controller that another one came after changes nothing any more, unless nothing tells it so.
    DeposedIsIdle,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::OneWriter,
        Self::FencedBeforeEpoch,
        Self::RecordBeforeEffect,
        Self::RungBeforePromotion,
        Self::LossWithinForecast,
        Self::EpochsRise,
        Self::RunsEnd,
        Self::NoFailoverWhileServed,
        Self::ServesWithinRto,
        Self::RecoveredIsTrue,
        Self::ToldOnce,
        Self::FailedLeavesNothing,
        Self::NamesAfterPromotion,
        Self::LoopLives,
        Self::PromiseKept,
        Self::FenceLasts,
        Self::ProofIsTrue,
        Self::GrantsInForce,
        Self::ControllerAlone,
        Self::DeposedIsIdle,
    ];

    /// As in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OneWriter => "oneWriter",
            Self::FencedBeforeEpoch => "fencedBeforeEpoch",
            Self::RecordBeforeEffect => "recordBeforeEffect",
            Self::RungBeforePromotion => "rungBeforePromotion",
            Self::LossWithinForecast => "lossWithinForecast",
            Self::EpochsRise => "epochsRise",
            Self::RunsEnd => "runsEnd",
            Self::NoFailoverWhileServed => "noFailoverWhileServed",
            Self::ServesWithinRto => "servesWithinRto",
            Self::RecoveredIsTrue => "recoveredIsTrue",
            Self::ToldOnce => "toldOnce",
            Self::FailedLeavesNothing => "failedLeavesNothing",
            Self::NamesAfterPromotion => "namesAfterPromotion",
            Self::LoopLives => "loopLives",
            Self::PromiseKept => "promiseKept",
            Self::FenceLasts => "fenceLasts",
            Self::ProofIsTrue => "proofIsTrue",
            Self::GrantsInForce => "grantsInForce",
            Self::ControllerAlone => "controllerAlone",
            Self::DeposedIsIdle => "deposedIsIdle",
        }
    }

    /// What it means.
    #[must_use]
    pub fn explanation(self) -> &'static str {
        match self {
            Self::OneWriter => {
                "after a promotion two sites took customers' writes, and no fence had lied about it"
            }
            Self::FencedBeforeEpoch => {
                "the epoch rose although the old primary could still take writes, or could again by itself"
            }
            Self::RecordBeforeEffect => {
                "an adapter was called although the record that says so was not durable"
            }
            Self::RungBeforePromotion => {
                "a promotion was asked for without the rung of proof that the plan requires"
            }
            Self::LossWithinForecast => {
                "writes were lost that the forecast of the run had said to be safe"
            }
            Self::EpochsRise => "an epoch did not rise, or was given to a second site",
            Self::RunsEnd => {
                "a run was still open long after the last fault, with people answering"
            }
            Self::NoFailoverWhileServed => {
                "a failover began to act by itself while a quorum of networks got right answers"
            }
            Self::ServesWithinRto => {
                "the primary died for good, nothing else was wrong, and the standby did not serve within the RTO"
            }
            Self::RecoveredIsTrue => {
                "customers were told that all is well while nobody got right answers"
            }
            Self::ToldOnce => {
                "somebody was told a second time although the ledger says that he was told"
            }
            Self::FailedLeavesNothing => {
                "a step said that it had failed, and its effect was in place"
            }
            Self::NamesAfterPromotion => {
                "customers were led to a site that could not take their writes"
            }
            Self::LoopLives => "the loop of the service ended or panicked, which it must not",
            Self::PromiseKept => {
                "a guard promised an earlier epoch than before, and its disk was not lost"
            }
            Self::FenceLasts => {
                "a site acknowledged a fence that was not in place, or wrote in an earlier epoch after it"
            }
            Self::ProofIsTrue => {
                "an epoch rose on what a fence had proved of a guarded site, and it was not so"
            }
            Self::GrantsInForce => {
                "the controller granted a lease to a site after the newest epoch was given to another"
            }
            Self::ControllerAlone => "nothing but the controller was away, and the primary stopped",
            Self::DeposedIsIdle => {
                "a controller that another one came after changed what guards, stores or the outside hold"
            }
        }
    }
}

/// A rule that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// When, from the beginning of the history.
    pub at: Span,
    /// What was found.
    pub found: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} ({}, after {})",
            self.rule.name(),
            self.rule.explanation(),
            self.found,
            self.at
        )
    }
}

/// The rules that did not hold, each once.
#[derive(Clone, Debug, Default)]
pub struct Violations {
    /// What did not hold.
    pub found: Vec<Violation>,
    /// A controller acts that was taken over from: what the journal that counts says does not speak of it.
    pub aside: bool,
}

impl Violations {
    /// Notes one; only the first of each rule is kept, what follows mostly follows from it.
    pub fn note(&mut self, rule: Rule, now: Time, found: String) {
        let counts = !self.aside || rule == Rule::DeposedIsIdle;
        if counts && self.found.iter().all(|v| v.rule != rule) {
            self.found.push(Violation {
                rule,
                at: now.since(super::world::BEGIN),
                found,
            });
        }
    }
}
