//! The network between the parties of a world: every way between two of them may be cut, slow or lossy, each direction
//! for itself.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::chance::Chance;
use crate::model::span::Span;

/// Who sends and receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Party {
    /// The controller's host.
    Controller,
    /// The host of the controller that was taken over from.
    Former,
    /// The object store in which the journal's copy stands.
    Store,
    /// A vantage point, by its place in the service's document.
    Vantage(usize),
    /// A site, by its place in the service's document.
    Site(usize),
    /// Whoever switches hosts on and off.
    Power,
    /// The name server.
    Names,
    /// Where announcements and pages go out.
    Outlets,
    /// Customers of one network.
    Customers(usize),
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Controller => f.write_str("controller"),
            Self::Former => f.write_str("former"),
            Self::Store => f.write_str("store"),
            Self::Vantage(n) => write!(f, "vantage-{n}"),
            Self::Site(n) => write!(f, "site-{n}"),
            Self::Power => f.write_str("power"),
            Self::Names => f.write_str("names"),
            Self::Outlets => f.write_str("outlets"),
            Self::Customers(n) => write!(f, "customers-{n}"),
        }
    }
}

/// One direction between two parties.
pub type Way = (Party, Party);

/// What ails the network just now.
#[derive(Clone, Debug, Default)]
pub struct Network {
    cut: BTreeMap<Way, u32>,
    slow: u32,
    lossy: u32,
    rough: u32,
    doubling: u32,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// When it arrives, from now; none where it is lost.
    pub arrives: Option<Span>,
    /// When it arrives a second time.
    pub again: Option<Span>,
}

impl Network {
    /// One more reason for which that way is cut, or one less.
    pub fn cut(&mut self, way: Way, begins: bool) {
        count(self.cut.entry(way).or_default(), begins);
    }

    /// Everything is slow, from now on or no longer.
    pub fn slow(&mut self, begins: bool) {
        count(&mut self.slow, begins);
    }

    /// Messages are lost, from now on or no longer.
    pub fn lossy(&mut self, begins: bool) {
        count(&mut self.lossy, begins);
    }

    /// One message in a hundred is lost, and each is up to 200 ms late, from now on or no longer.
    pub fn rough(&mut self, begins: bool) {
        count(&mut self.rough, begins);
    }

    /// Messages arrive twice, from now on or no longer.
    pub fn doubling(&mut self, begins: bool) {
        count(&mut self.doubling, begins);
    }

    /// Whether messages of that way arrive at all.
    #[must_use]
    pub fn is_open(&self, way: Way) -> bool {
        self.cut.get(&way).is_none_or(|reasons| *reasons == 0)
    }

    /// Whether questions and answers between the two arrive.
    #[must_use]
    pub fn is_open_both_ways(&self, one: Party, other: Party) -> bool {
        self.is_open((one, other)) && self.is_open((other, one))
    }

    /// Whether nothing is lost or late by chance just now.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        self.slow == 0 && self.lossy == 0
    }

    /// Whether every question between the two is answered, and soon.
    #[must_use]
    pub fn is_sure(&self, one: Party, other: Party) -> bool {
        self.is_open_both_ways(one, other) && self.is_calm() && self.rough == 0
    }

    /// Sends a message.
    pub fn send(&self, way: Way, chance: &mut Chance) -> Leg {
        let lost = !self.is_open(way)
            || (self.lossy > 0 && chance.percent(25))
            || (self.rough > 0 && chance.percent(1));
        let delay = self.delay(chance);
        let again = self.doubling > 0 && chance.percent(30);
        Leg {
            arrives: (!lost).then_some(delay),
            again: again.then(|| delay.saturating_add(chance.millis(1, 2000))),
        }
    }

    fn delay(&self, chance: &mut Chance) -> Span {
        if self.slow > 0 {
            chance.millis(50, 3000)
        } else if self.rough > 0 {
            chance.millis(1, 200)
        } else {
            chance.millis(1, 40)
        }
    }
}

fn count(reasons: &mut u32, begins: bool) {
    *reasons = if begins {
        *reasons + 1
    } else {
        reasons.saturating_sub(1)
    };
}
