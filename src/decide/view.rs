//! What was merely seen: never journaled, unknown after a restart.

use std::collections::{BTreeMap, BTreeSet, VecDeque, btree_map::Entry};

use super::{restore::Shelved, turn::Word};
use crate::model::{
    guard::{Boot, Report},
    id::{
        AnnouncementId, Attempt, Epoch, PageId, ProbeId, RunId, Seq, SiteName, SourceName, StepId,
        VantageName,
    },
    observation::{Facts, Lsn, Observation, Sight},
    service::Quorum,
    span::Span,
    time::Time,
};

/// Write positions that are remembered.
const POSITIONS: usize = 600;
/// Time between two of them at least.
const DENSEST: Span = Span::from_secs(1);

/// A step of one run: a drill may be open beside another run, and both may have a step of that name.
pub type StepOf = (RunId, StepId);

/// What was merely seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// The last looks of each vantage point through each probe.
    pub voices: BTreeMap<(VantageName, ProbeId), Voice>,
    /// Write positions of the active database, oldest first.
    pub positions: VecDeque<Position>,
    /// Whether commits wait for the standbys, as the active database last said, and when that was.
    pub synchronous: Option<(Time, bool)>,
    /// The newest timeline that the database of each standby was seen to follow: it does not tell well once nobody sends to it
    /// any more.
    pub timelines: BTreeMap<SiteName, u32>,
    /// Steps whose effect is under way in this process.
    pub under_way: BTreeSet<StepOf>,
    /// Intents that this process recorded: their effect has surely not been performed before.
    pub fresh: BTreeSet<(StepOf, Attempt)>,
    /// Before this moment a step is not tried or looked for again.
    pub not_before: BTreeMap<StepOf, Time>,
    /// How often each step was tried or looked for by this process.
    pub tries: BTreeMap<StepOf, u32>,
    /// Drills whose steps under way were broken off.
    pub broken: BTreeSet<RunId>,
    /// Announcements whose fan-out runs in this process.
    pub announcing: BTreeSet<AnnouncementId>,
    /// Announcements of which a channel could not send, and when that is tried again.
    pub announce_again: BTreeMap<AnnouncementId, Time>,
    /// Messages to the team that this process sent, or left to the one before.
    pub paged: BTreeSet<Seq>,
    /// Pages of which this process told that they are over.
    pub over: BTreeSet<PageId>,
    /// Since when everything has been well without a break.
    pub well_since: Option<Time>,
    /// Since when the run has waited for what is down to be seen, without a break.
    pub unseen_since: Option<Time>,
    /// What the group said last of whose turn it is, and when.
    pub turn: Option<(Word, Time)>,
    /// Since when it has waited for its turn without a break.
    pub waits_since: Option<Time>,
    /// When this process took up the chain.
    pub started: Option<Time>,
    /// What the guard of each site said last, in this life of the process.
    pub guards: BTreeMap<SiteName, Report>,
    /// Sites whose guard has said nothing for a while.
    pub silent: BTreeSet<SiteName>,
    /// What each source of backups was last seen to hold.
    pub shelved: BTreeMap<SourceName, Shelved>,
    /// The epoch in force when each guard that lost its state was first heard in its present life.
    pub lost: BTreeMap<SiteName, (Boot, Epoch)>,
}

/// A write position of the active database at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// When it had been written at the latest.
    pub at: Time,
    /// The position.
    pub lsn: Lsn,
    /// On this timeline, where the primary itself said it.
    pub timeline: Option<u32>,
}

/// The last looks of one vantage point through one probe, after hysteresis.
#[derive(Clone, Debug, PartialEq)]
pub struct Voice {
    /// What it says.
    pub says: Says,
    /// Looks in a row that said Down.
    pub failures: u32,
    /// Looks in a row that said Up.
    pub successes: u32,
    /// When the first look of the present row of Downs was.
    pub failing_since: Option<Time>,
    /// How long the last answers took, oldest first: as many as it takes to be believed.
    pub latencies: VecDeque<Span>,
    /// The last look.
    pub last: Observation,
}

/// What a voice says after hysteresis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Says {
    /// It works.
    Up,
    /// It worked, the last looks failed, not yet often enough.
    Failing,
    /// It does not work.
    Down,
    /// It cannot tell.
    Unknown,
}

impl Says {
    /// As evidence: failing is not yet down.
    #[must_use]
    pub fn sight(self) -> Sight {
        match self {
            Self::Up | Self::Failing => Sight::Up,
            Self::Down => Sight::Down,
            Self::Unknown => Sight::Unknown,
        }
    }
}

impl View {
    /// What was marked of a run that is over.
    pub fn forget(&mut self, run: &RunId) {
        self.under_way.retain(|(of, _)| of != run);
        self.fresh.retain(|((of, _), _)| of != run);
        self.not_before.retain(|(of, _), _| of != run);
        self.tries.retain(|(of, _), _| of != run);
        self.broken.remove(run);
    }

    /// Takes in one look. After a gap as long as `shelf_life` a voice begins anew: what it said before is no reason to
    /// doubt what it sees now.
    pub fn observe(&mut self, seen: Observation, quorum: &Quorum, shelf_life: Span) {
        match self
            .voices
            .entry((seen.vantage.clone(), seen.probe.clone()))
        {
            Entry::Occupied(mut known) if seen.at.since(known.get().last.at) <= shelf_life => {
                known.get_mut().hear(seen, quorum);
            }
            Entry::Occupied(mut known) => {
                known.insert(Voice::first(seen, quorum));
            }
            Entry::Vacant(new) => {
                new.insert(Voice::first(seen, quorum));
            }
        }
    }

    /// Takes in what a guard says, in the epoch that is in force.
    pub fn guard(&mut self, report: Report, epoch: Epoch) {
        let is_known = self
            .lost
            .get(&report.site)
            .is_some_and(|l| l.0 == report.boot);
        if report.promise.is_none() && !is_known {
            self.lost.insert(report.site.clone(), (report.boot, epoch));
        }
        self.silent.remove(&report.site);
        self.guards.insert(report.site.clone(), report);
    }

    /// Whether the guard of a site lost its state, and no epoch was opened since: it takes part in none that it may have
    /// had a part in before.
    #[must_use]
    pub fn is_lost(&self, site: &SiteName, epoch: Epoch) -> bool {
        let lost = self.lost.get(site).is_some_and(|l| l.1 >= epoch);
        lost && self.guards.get(site).is_some_and(|r| r.promise.is_none())
    }

    /// The timeline that the active database writes, as it last said.
    #[must_use]
    pub fn written_timeline(&self) -> Option<u32> {
        self.positions.iter().rev().find_map(|p| p.timeline)
    }

    /// Remembers the timeline that a standby follows. One that was made anew follows an earlier one again.
    pub fn follows(&mut self, site: SiteName, timeline: u32) {
        let is_right = self.written_timeline() == Some(timeline);
        let newest = self.timelines.entry(site).or_default();
        if is_right || timeline > *newest {
            *newest = timeline;
        }
    }

    /// Remembers a write position: one a second, and the older they are the fewer, so that a standby that is hours
    /// behind can be placed as well.
    pub fn position(&mut self, position: Position) {
        if self
            .positions
            .back()
            .is_some_and(|last| last.lsn >= position.lsn && last.at >= position.at)
        {
            return;
        }
        let before = self.positions.iter().rev().nth(1);
        if before.is_some_and(|p| position.at.since(p.at) < DENSEST) {
            self.positions.pop_back();
        }
        self.positions.push_back(position);
        if self.positions.len() > POSITIONS {
            let mut nth = 0;
            self.positions.retain(|_| {
                nth += 1;
                nth > POSITIONS / 2 || nth % 2 == 1
            });
        }
    }

    /// What each vantage point that has looked says through a probe.
    pub fn voices_of<'a>(&'a self, probe: &'a ProbeId) -> impl Iterator<Item = &'a Voice> {
        let through = self.voices.iter().filter(move |((_, p), _)| p == probe);
        through.map(|(_, voice)| voice)
    }

    /// The facts of the newest look through a probe, by any vantage point.
    #[must_use]
    pub fn newest<'a>(&'a self, probe: &'a ProbeId) -> Option<(&'a Observation, &'a Facts)> {
        self.voices_of(probe)
            .map(|v| &v.last)
            .max_by_key(|o| o.at)
            .map(|o| (o, &o.facts))
    }
}

impl Voice {
    fn first(seen: Observation, quorum: &Quorum) -> Self {
        let mut voice = Self {
            says: Says::Unknown,
            failures: 0,
            successes: 0,
            failing_since: None,
            latencies: VecDeque::new(),
            last: seen.clone(),
        };
        voice.hear(seen, quorum);
        voice
    }

    fn hear(&mut self, seen: Observation, quorum: &Quorum) {
        match seen.sight {
            Sight::Up => {
                self.failures = 0;
                self.failing_since = None;
                self.successes = self.successes.saturating_add(1);
                self.answered(seen.latency, quorum);
                if self.says != Says::Down || self.successes >= quorum.successes {
                    self.says = Says::Up;
                }
            }
            Sight::Down => {
                self.successes = 0;
                self.failures = self.failures.saturating_add(1);
                self.failing_since.get_or_insert(seen.at);
                self.says = match self.says {
                    _ if self.failures >= quorum.failures => Says::Down,
                    Says::Up | Says::Failing => Says::Failing,
                    Says::Down => Says::Down,
                    Says::Unknown => Says::Unknown,
                };
            }
            Sight::Unknown => {
                self.failures = 0;
                self.successes = 0;
                self.failing_since = None;
                self.says = Says::Unknown;
            }
        }
        self.last = seen;
    }

    fn answered(&mut self, took: Option<Span>, quorum: &Quorum) {
        self.latencies.extend(took);
        while self.latencies.len() > believed(quorum) {
            self.latencies.pop_front();
        }
    }

    /// The quickest of the last answers, once there are enough to be believed: one slow answer is no slow service.
    #[must_use]
    pub fn latency(&self, quorum: &Quorum) -> Option<Span> {
        (self.latencies.len() >= believed(quorum))
            .then(|| self.latencies.iter().min().copied())
            .flatten()
    }
}

/// How many slow answers in a row are believed: as many as failures.
fn believed(quorum: &Quorum) -> usize {
    usize::try_from(quorum.failures)
        .unwrap_or(usize::MAX)
        .max(1)
}
