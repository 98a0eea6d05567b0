//! How much may go wrong, and what the protocol is held against.

use super::action::Site;

/// How much may go wrong in one history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Faults {
    /// Epochs in all.
    pub epochs: u64,
    /// Guards that die.
    pub guard_deaths: u8,
    /// The only site whose guard does; none for both.
    pub mortal: Option<Site>,
    /// Whether a guard may die between two things that it does.
    pub is_slow: bool,
    /// Databases and hosts that die.
    pub deaths: u8,
    /// Guards that are frozen.
    pub freezes: u8,
    /// Guards that lose their state.
    pub losses: u8,
    /// Leaders that are frozen and deposed.
    pub takeovers: u8,
    /// Orders to stop the database for a while, and to bring a fenced site's data into line.
    pub drains: u8,
    /// Whether the first epoch's lease has no end.
    pub is_solo: bool,
    /// Whether the other site's guard hears requests.
    pub has_deputy: bool,
    /// Whether an epoch may go to the site of the one before.
    pub is_reopened: bool,
    /// Whether it begins with the standby promoted by the lease rung, the old primary never told.
    pub is_failed_over: bool,
}

impl Faults {
    pub const NONE: Self = Self {
        epochs: 2,
        guard_deaths: 0,
        mortal: None,
        is_slow: false,
        deaths: 0,
        freezes: 0,
        losses: 0,
        takeovers: 0,
        drains: 0,
        is_solo: false,
        has_deputy: false,
        is_reopened: false,
        is_failed_over: false,
    };
    pub const DEPUTY: Self = Self {
        has_deputy: true,
        ..Self::NONE
    };
    pub const HOLDER_DIES: Self = Self {
        guard_deaths: 1,
        mortal: Some(0),
        ..Self::NONE
    };
    pub const HOLDER_DIES_SLOWLY: Self = Self {
        guard_deaths: 1,
        mortal: Some(0),
        is_slow: true,
        ..Self::DEPUTY
    };
    pub const DEPUTY_DIES: Self = Self {
        guard_deaths: 1,
        mortal: Some(1),
        ..Self::DEPUTY
    };
    pub const ANY_DIES: Self = Self {
        guard_deaths: 1,
        is_slow: true,
        ..Self::DEPUTY
    };
    pub const FOUR: Self = Self {
        epochs: 4,
        ..Self::NONE
    };
    pub const REOPENED: Self = Self {
        epochs: 3,
        is_reopened: true,
        ..Self::NONE
    };
    pub const DEATH: Self = Self {
        deaths: 1,
        ..Self::NONE
    };
    pub const FREEZE: Self = Self {
        freezes: 1,
        ..Self::NONE
    };
    pub const HOLDER_DIES_TWICE: Self = Self {
        guard_deaths: 2,
        ..Self::HOLDER_DIES
    };
    pub const LOSS: Self = Self {
        losses: 1,
        is_failed_over: true,
        ..Self::DEPUTY_DIES
    };
    pub const TAKEOVER: Self = Self {
        takeovers: 1,
        ..Self::NONE
    };
    pub const SOLO: Self = Self {
        epochs: 3,
        is_solo: true,
        is_reopened: true,
        ..Self::NONE
    };
    pub const PLANNED: Self = Self {
        epochs: 3,
        drains: 3,
        is_reopened: true,
        ..Self::DEPUTY
    };
    pub const THREE: Self = Self {
        epochs: 3,
        ..Self::NONE
    };

    /// Everything.
    pub const ALL: Self = Self {
        epochs: 5,
        guard_deaths: 2,
        mortal: None,
        is_slow: true,
        deaths: 1,
        freezes: 1,
        losses: 1,
        takeovers: 1,
        drains: 3,
        is_solo: false,
        has_deputy: true,
        is_reopened: true,
        is_failed_over: false,
    };
    /// Everything, from an epoch without an end.
    pub const ALL_SOLO: Self = Self {
        is_solo: true,
        ..Self::ALL
    };

    /// What the protocol is held against, state by state.
    pub const EACH: [Self; 14] = [
        Self::NONE,
        Self::DEPUTY,
        Self::HOLDER_DIES,
        Self::DEPUTY_DIES,
        Self::ANY_DIES,
        Self::REOPENED,
        Self::FOUR,
        Self::DEATH,
        Self::FREEZE,
        Self::LOSS,
        Self::TAKEOVER,
        Self::SOLO,
        Self::PLANNED,
        Self::THREE,
    ];
}
