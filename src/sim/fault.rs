//! Faults: what may go wrong, and the list of what does, drawn up front so that single faults can be left out again.

mod plot;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::plot::{lone, of_controller, succession};
use self::plot::{planned_work, plot, second_thoughts};
use super::{
    chance::Chance,
    network::{Party, Way},
};
use crate::model::{plan::StepPhase, span::Span};

/// What may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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
    /// One message in a hundred is lost, and each is up to 200 ms late: nothing that anybody would call a fault.
    Rough,
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
    /// A site and the customers of one network reach nobody but each other.
    Island(usize, usize),
    /// A site reaches other sites and the customers of one network, and nobody else.
    Severed(usize, usize),
    /// A site's guard is killed, and started again at the end.
    GuardDies(usize),
    /// A site's guard is stopped, and goes on at the end.
    GuardFreezes(usize),
    /// A site's guard is killed, its disk is lost, and it is started again at the end.
    GuardLosesState(usize),
    /// The disk of a site's guard behaves so.
    GuardDisk(usize, DiskFault),
    /// A guard cannot make sure that its database has ended.
    KillHangs(usize),
    /// The clock that a site's leases are held on gains so many in a million.
    Slews(usize, i64),
    /// The controller is away, and another one comes after it; then the first one is back.
    Succeeded(By, Away),
    /// No fault: a person wishes something.
    Wishes(Wish),
}

/// What may go wrong with the disk of a guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DiskFault {
    /// It says that it could not write; it may have.
    Fails,
    /// It says nothing any more.
    Hangs,
}

/// How one controller comes after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum By {
    /// A person restores the journal from its copy on another host, and takes it up there.
    Takeover,
    /// Another replica is elected, which writes the same journal.
    Election,
}

/// How the controller is away that another one comes after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Away {
    /// It is frozen.
    Frozen,
    /// It is dead. Then its supervisor starts it again.
    Dead,
    /// It is cut off from everybody, and goes on.
    CutOff,
    /// It and the first site, with the customers of one network, reach each other and nobody else.
    WithPrimary,
}

/// What a person wishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Wish {
    /// A failover to this site.
    Failover(usize),
    /// A switchover to this site, as planned work.
    Switchover(usize),
    /// That the service goes back to the primary of the documents.
    Failback,
    /// That the run is stopped.
    Abort,
}

/// What may go wrong with the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OutletFault {
    /// Not now.
    Later,
    /// The credential is broken.
    Broken,
    /// It is delivered, and the answer is lost.
    Unanswered,
}

/// What a fault's time is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Anchor {
    /// The beginning of the history.
    Beginning,
    /// The moment in which the first run is opened.
    Run,
    /// The moment in which the epoch rises in a run for the first time.
    Epoch,
    /// The moment in which a site's lease without an end is followed by one that has an end, for the first time.
    Bounded,
}

/// A fault and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
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

    /// How the disk of a site's guard behaves meanwhile.
    #[must_use]
    pub fn of_disk(self, site: usize) -> Option<DiskFault> {
        if let Self::GuardDisk(n, how) = self
            && n == site
        {
            Some(how)
        } else {
            None
        }
    }

    /// How another controller comes after the first.
    #[must_use]
    pub fn of_succession(self) -> Option<By> {
        if let Self::Succeeded(by, _) = self {
            Some(by)
        } else {
            None
        }
    }

    /// Whether it is of the controller alone.
    #[must_use]
    pub fn is_of_controller(self) -> bool {
        matches!(
            self,
            Self::ControllerDies(_)
                | Self::ControllerFreezes
                | Self::ClockSteps(..)
                | Self::Journal(_)
        )
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
            Self::Rough => "rough",
            Self::Doubling => "doubling",
            Self::ControllerDies(_) => "controller dies",
            Self::ControllerFreezes => "controller freezes",
            Self::ClockSteps(..) => "clock steps",
            Self::Journal(_) => "journal",
            Self::Step(..) => "step",
            Self::FenceLies => "fence lies",
            Self::Outlet(_) => "outlet",
            Self::Slanders(_) => "slanders",
            Self::Island(..) => "island",
            Self::Severed(..) => "severed",
            Self::GuardDies(_) => "guard dies",
            Self::GuardFreezes(_) => "guard freezes",
            Self::GuardLosesState(_) => "guard loses its state",
            Self::GuardDisk(..) => "guard's disk",
            Self::KillHangs(_) => "kill hangs",
            Self::Slews(..) => "slews",
            Self::Succeeded(..) => "succeeded",
            Self::Wishes(_) => "wishes",
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
            | Self::CutOff(n)
            | Self::GuardDies(n)
            | Self::GuardFreezes(n)
            | Self::GuardLosesState(n)
            | Self::KillHangs(n) => write!(f, "{} site-{n}", self.kind()),
            Self::Island(n, customer) | Self::Severed(n, customer) => {
                write!(f, "{} site-{n} with customers-{customer}", self.kind())
            }
            Self::GuardDisk(n, what) => write!(f, "{} {what:?} site-{n}", self.kind()),
            Self::Slews(n, ppm) => write!(f, "{} site-{n} by {ppm} ppm", self.kind()),
            Self::Succeeded(by, away) => write!(f, "controller {away}, another {by}"),
            Self::Wishes(what) => write!(f, "a person wishes {what:?}"),
            Self::Blind(n) | Self::Slanders(n) => write!(f, "{} vantage-{n}", self.kind()),
            Self::ControllerDies(turns) => write!(f, "controller dies after {turns} turns"),
            Self::ClockSteps(by, gains) => write!(f, "clock steps {by} ms, gains {gains} ppm"),
            Self::Journal(what) => write!(f, "journal {what:?}"),
            Self::Step(phase, what) => write!(f, "{phase} {what:?}"),
            Self::Outlet(what) => write!(f, "outlet {what:?}"),
            Self::Slow
            | Self::Lossy
            | Self::Rough
            | Self::Doubling
            | Self::ControllerFreezes
            | Self::FenceLies => f.write_str(self.kind()),
        }
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Takeover => "takes over",
            Self::Election => "is elected",
        })
    }
}

impl fmt::Display for Away {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Frozen => "frozen",
            Self::Dead => "dead",
            Self::CutOff => "cut off",
            Self::WithPrimary => "cut off with the primary",
        })
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = match self.from {
            Anchor::Beginning => "at",
            Anchor::Run => "in the first run after",
            Anchor::Epoch => "from the first epoch that rises after",
            Anchor::Bounded => "once a lease without an end is left, after",
        };
        write!(f, "{from} {} for {}: {}", self.at, self.lasts, self.fault)
    }
}

/// How many kinds of faults there are to choose from.
const KINDS: u64 = 19;
/// And so many where guards stand beside databases.
const GUARDED: u64 = 30;
/// Of a hundred histories with guards so many are about planned work.
const PLANNED: u64 = 30;
/// Faults begin in this part of a history.
const FIRST: Span = Span::from_secs(20);

/// What a service has that faults can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Has {
    /// No guards.
    Nothing,
    /// Guards beside its databases.
    Guards,
    /// Guards, and steps for planned work.
    PlannedWork,
}

/// Draws the faults of a history. Each history knows only some kinds (swarm testing, Groce and others 2012): a rare
/// meeting of two kinds is found in histories that know nothing else. Most have a primary in trouble, and some faults
/// wait for the run that follows from it.
#[must_use]
pub fn draw(chance: &mut Chance, sites: usize, points: usize, has: Has) -> Vec<Planned> {
    let is_guarded = has != Has::Nothing;
    let all = if is_guarded { GUARDED } else { KINDS };
    let kinds: Vec<u64> = (0..all).filter(|_| chance.percent(35)).collect();
    let mut plan = Vec::new();
    if has == Has::PlannedWork && chance.percent(PLANNED) {
        plan.extend(planned_work(chance, sites));
    } else if is_guarded && chance.percent(60) {
        plan.extend(if chance.percent(10) {
            second_thoughts(chance)
        } else {
            plot(chance, sites)
        });
    } else if chance.percent(75) {
        let customer = chance.index(2);
        let fault = *chance.pick(&[
            Fault::Crash(0),
            Fault::Burns(0),
            Fault::DatabaseDies(0),
            Fault::DatabaseFreezes(0),
            Fault::CutOff(0),
            Fault::Island(0, customer),
        ]);
        plan.push(Planned {
            from: Anchor::Beginning,
            at: chance.millis(FIRST.as_millis(), 60_000),
            lasts: chance.millis(20_000, 180_000),
            fault,
        });
    }
    let most = if is_guarded { 13 } else { 9 };
    let many = if kinds.is_empty() {
        0
    } else {
        chance.below(most)
    };
    let last = 40 + chance.below(120);
    for _ in 0..many {
        let kind = *chance.pick(&kinds);
        let fault = one(chance, kind, sites, points);
        let in_run = chance.percent(60);
        let in_epoch = in_run && is_guarded && chance.percent(30);
        plan.push(Planned {
            from: match (in_run, in_epoch) {
                (_, true) => Anchor::Epoch,
                (true, false) => Anchor::Run,
                (false, false) => Anchor::Beginning,
            },
            at: if in_epoch {
                chance.millis(0, 5_000)
            } else if in_run {
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
        18 if chance.percent(20) => Fault::FenceLies,
        18 => Fault::Slanders(point),
        _ => of_guards(chance, kind, sites),
    }
}

fn of_guards(chance: &mut Chance, kind: u64, sites: usize) -> Fault {
    let site = if chance.percent(60) {
        0
    } else {
        chance.index(sites)
    };
    let customer = chance.index(2);
    match kind {
        19 | 20 => Fault::GuardDies(site),
        21 | 22 => Fault::GuardFreezes(site),
        23 => Fault::GuardLosesState(site),
        24 => Fault::GuardDisk(site, *chance.pick(&[DiskFault::Fails, DiskFault::Hangs])),
        25 => Fault::KillHangs(site),
        26 => Fault::Slews(site, *chance.pick(&[-100_000, -100_000, -20_000, 100_000])),
        27 => Fault::Island(site, customer),
        28 => Fault::Severed(site, customer),
        _ => Fault::Wishes(match chance.below(6) {
            0 | 1 => Wish::Abort,
            2 => Wish::Switchover(chance.index(sites)),
            3 => Wish::Failback,
            _ => Wish::Failover(1 + chance.index(sites - 1)),
        }),
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
