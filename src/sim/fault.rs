//! Faults: what may go wrong, and the list of what does, drawn up front so that single faults can be left out again.

use std::fmt;

use super::{
    chance::Chance,
    network::{Party, Way},
};
use crate::model::{plan::StepPhase, span::Span};

/// What may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A site's host loses power. It comes back by itself at the end, with whatever ran on it.
    Crash(usize),
    /// A site's host burns down.
    Burns(usize),
    /// A site's database process dies and is started again at the end.
    DatabaseDies(usize),
    /// A site's database process is frozen.
    DatabaseFreezes(usize),
    /// A site's application dies and is started again at the end.
    ApplicationDies(usize),
    /// A site's application is frozen.
    ApplicationFreezes(usize),
    /// A way between two parties is cut, in one direction.
    Cut(Way),
    /// A site is cut off from everybody.
    CutOff(usize),
    /// A vantage point's own network is gone.
    Blind(usize),
    /// Messages are late.
    Slow,
    /// Messages are lost.
    Lossy,
    /// Messages arrive twice.
    Doubling,
    /// The controller is killed after so many more turns of its tasks, and started again at the end.
    ControllerDies(u32),
    /// The controller is frozen.
    ControllerFreezes,
    /// The next process of the controller begins with a clock that is wrong by so many milliseconds and gains so many
    /// in a million.
    ClockSteps(i64, i64),
    /// The journal behaves so.
    Journal(JournalFault),
    /// Steps of a phase behave so.
    Step(StepPhase, Mishap),
    /// What the fence says is not so: the one lie that nothing can be done about.
    FenceLies,
    /// Outlets behave so.
    Outlet(OutletFault),
    /// Looks of one vantage point say Down, whatever is the case.
    Slanders(usize),
}

/// What may go wrong with the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum JournalFault {
    /// No space: nothing is written.
    Full,
    /// An error: nothing is written.
    Fails,
    /// It does not answer until that is over.
    Hangs,
    /// It is written, but the answer says that it was not.
    LosesAnswer,
}

/// What may go wrong with a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mishap {
    /// It is refused.
    Refused,
    /// It is made, and the answer is lost.
    Unanswered,
    /// It is made long after nobody waits for it any more.
    Late,
    /// It is never made, and nobody says so.
    Swallowed,
}

/// What may go wrong where announcements and pages go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OutletFault {
    /// Not now.
    Later,
    /// The credential is broken.
    Broken,
    /// It is delivered, and the answer is lost.
    Unanswered,
}

/// What a fault's time is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Anchor {
    /// The beginning of the history.
    Beginning,
    /// The moment in which the first run is opened.
    Run,
}

/// A fault and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// What its time is counted from.
    pub from: Anchor,
    /// When it begins, from there.
    pub at: Span,
    /// How long it lasts.
    pub lasts: Span,
    /// What.
    pub fault: Fault,
}

impl Fault {
    /// How the journal behaves meanwhile.
    #[must_use]
    pub fn of_journal(self) -> Option<JournalFault> {
        if let Self::Journal(how) = self {
            Some(how)
        } else {
            None
        }
    }

    /// How outlets behave meanwhile.
    #[must_use]
    pub fn of_outlet(self) -> Option<OutletFault> {
        if let Self::Outlet(how) = self {
            Some(how)
        } else {
            None
        }
    }

    /// What happens to steps of this phase meanwhile.
    #[must_use]
    pub fn of_step(self, phase: StepPhase) -> Option<Mishap> {
        if let Self::Step(of, how) = self
            && of == phase
        {
            Some(how)
        } else {
            None
        }
    }

    /// What the clock of a process is wrong by that begins after it: offset in milliseconds, gain in a million.
    #[must_use]
    pub fn of_clock(self) -> Option<(i64, i64)> {
        if let Self::ClockSteps(offset, gains) = self {
            Some((offset, gains))
        } else {
            None
        }
    }

    /// The kind's name, the same for all parties.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Crash(_) => "crash",
            Self::Burns(_) => "burns",
            Self::DatabaseDies(_) => "database dies",
            Self::DatabaseFreezes(_) => "database freezes",
            Self::ApplicationDies(_) => "application dies",
            Self::ApplicationFreezes(_) => "application freezes",
            Self::Cut(_) => "cut",
            Self::CutOff(_) => "cut off",
            Self::Blind(_) => "blind",
            Self::Slow => "slow",
            Self::Lossy => "lossy",
            Self::Doubling => "doubling",
            Self::ControllerDies(_) => "controller dies",
            Self::ControllerFreezes => "controller freezes",
            Self::ClockSteps(..) => "clock steps",
            Self::Journal(_) => "journal",
            Self::Step(..) => "step",
            Self::FenceLies => "fence lies",
            Self::Outlet(_) => "outlet",
            Self::Slanders(_) => "slanders",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut((from, to)) => write!(f, "cut {from} -> {to}"),
            Self::Crash(n)
            | Self::Burns(n)
            | Self::DatabaseDies(n)
            | Self::DatabaseFreezes(n)
            | Self::ApplicationDies(n)
            | Self::ApplicationFreezes(n)
            | Self::CutOff(n) => write!(f, "{} site-{n}", self.kind()),
            Self::Blind(n) | Self::Slanders(n) => write!(f, "{} vantage-{n}", self.kind()),
            Self::ControllerDies(turns) => write!(f, "controller dies after {turns} turns"),
            Self::ClockSteps(by, gains) => write!(f, "clock steps {by} ms, gains {gains} ppm"),
            Self::Journal(what) => write!(f, "journal {what:?}"),
            Self::Step(phase, what) => write!(f, "{phase} {what:?}"),
            Self::Outlet(what) => write!(f, "outlet {what:?}"),
            Self::Slow
            | Self::Lossy
            | Self::Doubling
            | Self::ControllerFreezes
            | Self::FenceLies => f.write_str(self.kind()),
        }
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = match self.from {
            Anchor::Beginning => "at",
            Anchor::Run => "in the first run after",
        };
        write!(f, "{from} {} for {}: {}", self.at, self.lasts, self.fault)
    }
}

/// How many kinds of faults there are to choose from.
const KINDS: u64 = 19;
/// Faults begin in this part of a history.
const FIRST: Span = Span::from_secs(20);

/// Draws the faults of a history. Each history knows only some kinds (swarm testing, Groce and others 2012): a rare
/// meeting of two kinds is found in histories that know nothing else. Most have a primary in trouble, and some faults
/// wait for the run that follows from it.
#[must_use]
pub fn draw(chance: &mut Chance, sites: usize, points: usize) -> Vec<Planned> {
    let kinds: Vec<u64> = (0..KINDS).filter(|_| chance.percent(35)).collect();
    let mut plan = Vec::new();
    if chance.percent(75) {
        let fault = *chance.pick(&[
            Fault::Crash(0),
            Fault::Burns(0),
            Fault::DatabaseDies(0),
            Fault::DatabaseFreezes(0),
            Fault::CutOff(0),
        ]);
        plan.push(Planned {
            from: Anchor::Beginning,
            at: chance.millis(FIRST.as_millis(), 60_000),
            lasts: chance.millis(20_000, 180_000),
            fault,
        });
    }
    let many = if kinds.is_empty() { 0 } else { chance.below(9) };
    let last = 40 + chance.below(120);
    for _ in 0..many {
        let kind = *chance.pick(&kinds);
        let fault = one(chance, kind, sites, points);
        let in_run = chance.percent(60);
        plan.push(Planned {
            from: if in_run {
                Anchor::Run
            } else {
                Anchor::Beginning
            },
            at: if in_run {
                chance.millis(0, 20_000)
            } else {
                chance.millis(FIRST.as_millis(), last * 1000)
            },
            lasts: match chance.below(10) {
                0..2 => chance.millis(100, 5_000),
                2..6 => chance.millis(5_000, 60_000),
                _ => chance.millis(60_000, 180_000),
            },
            fault,
        });
    }
    plan.sort_by_key(|p| (p.from, p.at, p.lasts, p.fault));
    plan
}

fn one(chance: &mut Chance, kind: u64, sites: usize, points: usize) -> Fault {
    // Mostly the primary: what happens to it matters most.
    let site = if chance.percent(75) {
        0
    } else {
        chance.index(sites)
    };
    let point = chance.index(points);
    match kind {
        0 => Fault::Crash(site),
        // Somebody has to be left to take over.
        1 => Fault::Burns(0),
        2 => Fault::DatabaseDies(site),
        3 => Fault::DatabaseFreezes(site),
        4 => Fault::ApplicationDies(site),
        5 => Fault::ApplicationFreezes(site),
        6 => Fault::CutOff(site),
        7 => Fault::Cut(way(chance, sites, points)),
        8 => Fault::Blind(point),
        9 => *chance.pick(&[Fault::Slow, Fault::Lossy]),
        10 => Fault::Doubling,
        11 | 12 => Fault::ControllerDies(u32::try_from(chance.below(40)).unwrap_or(0)),
        13 => Fault::ControllerFreezes,
        14 => Fault::ClockSteps(
            i64::try_from(chance.below(240_000)).unwrap_or(0) - 120_000,
            i64::try_from(chance.below(1000)).unwrap_or(0) - 500,
        ),
        15 => Fault::Journal(*chance.pick(&[
            JournalFault::Full,
            JournalFault::Fails,
            JournalFault::Hangs,
            JournalFault::LosesAnswer,
        ])),
        16 => Fault::Step(
            *chance.pick(&[StepPhase::Fence, StepPhase::Promote, StepPhase::Traffic]),
            *chance.pick(&[
                Mishap::Refused,
                Mishap::Unanswered,
                Mishap::Late,
                Mishap::Swallowed,
            ]),
        ),
        17 => Fault::Outlet(*chance.pick(&[
            OutletFault::Later,
            OutletFault::Broken,
            OutletFault::Unanswered,
        ])),
        _ if chance.percent(20) => Fault::FenceLies,
        _ => Fault::Slanders(point),
    }
}

fn way(chance: &mut Chance, sites: usize, points: usize) -> Way {
    let site = Party::Site(chance.index(sites));
    let other = match chance.below(6) {
        0 => Party::Controller,
        1 => Party::Vantage(chance.index(points)),
        2 => Party::Customers(chance.index(2)),
        3 => return shuffled(chance, (Party::Controller, Party::Power)),
        4 => return shuffled(chance, (Party::Controller, Party::Names)),
        _ => Party::Site(chance.index(sites)),
    };
    shuffled(chance, (site, other))
}

fn shuffled(chance: &mut Chance, (one, other): Way) -> Way {
    if chance.percent(50) {
        (one, other)
    } else {
        (other, one)
    }
}
