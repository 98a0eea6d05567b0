//! Weakened rules: what tests plant, to see that some rule notices. Nothing else ever sets one.

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
}

impl Weakness {
    /// All of them.
    pub const ALL: [Self; 11] = [
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
    ];
}
