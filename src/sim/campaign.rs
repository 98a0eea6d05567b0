//! A campaign: many seeds, what they covered, and what did not hold.

use std::{
    collections::BTreeMap,
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
};

use super::{
    coverage::Coverage,
    history::{self, Outcome},
    rule::Violation,
    scenario::{Scenario, Subject},
    trace::Trace,
    weakness::Weakness,
};
use crate::model::span::Span;

/// So many histories of each core wait to be counted.
const AHEAD: usize = 64;

/// What is played.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The first seed.
    pub from: u64,
    /// How many.
    pub seeds: u64,
    /// What the histories are about.
    pub subject: Subject,
    /// What a test has planted.
    pub weakness: Option<Weakness>,
}

/// A seed whose history broke rules.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The seed.
    pub seed: u64,
    /// What did not hold.
    pub violations: Vec<Violation>,
}

/// What came of a campaign.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many histories were played.
    pub histories: u64,
    /// How many things happened in them.
    pub events: u64,
    /// How long they were together.
    pub lasted: Span,
    /// What was seen.
    pub coverage: Coverage,
    /// How many runs ended in which way.
    pub ended: BTreeMap<&'static str, u64>,
    /// Histories that lost writes made after the outage began.
    pub lost_after_outage: u64,
    /// What did not hold.
    pub findings: Vec<Finding>,
}

impl Campaign {
    /// The scenario of one of its seeds.
    #[must_use]
    pub fn scenario(&self, seed: u64) -> Arc<Scenario> {
        let drawn = |services| Arc::new(Scenario::draw(seed, services, self.weakness));
        match &self.subject {
            Subject::Drawn => drawn(&[]),
            Subject::Documents(services) => drawn(services),
            Subject::Scripts(scripts) => {
                let place = usize::try_from(seed).unwrap_or(usize::MAX) % scripts.len().max(1);
                scripts[place].clone()
            }
        }
    }

    /// The history of one of its seeds.
    #[must_use]
    pub fn play(&self, seed: u64, trace: Trace) -> Outcome {
        history::play(self.scenario(seed), trace)
    }

    /// Plays all of it, or until `go_on` says that it is enough; that is asked after each history, in the order of the
    /// seeds, whatever core played it first.
    pub fn run(&self, mut go_on: impl FnMut(&Report) -> bool) -> Report {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let seeds = self.from..self.from.saturating_add(self.seeds);
        let (next, is_enough) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
        // Nobody runs far ahead of the one who counts.
        let (played, outcomes) = mpsc::sync_channel(AHEAD * cores);
        let mut report = Report::default();
        thread::scope(|scope| {
            for _ in 0..cores {
                let played = played.clone();
                scope.spawn(|| {
                    let played = played;
                    while !is_enough.load(Ordering::Relaxed) {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        let outcome = || self.play(seed, Trace::silent());
                        if seed >= seeds.end || played.send((seed, outcome())).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(played);
            let mut early = BTreeMap::new();
            let mut wanted = seeds.clone();
            for (seed, outcome) in outcomes {
                early.insert(seed, outcome);
                while let Some(outcome) = early.remove(&wanted.start) {
                    report.add(wanted.start, outcome);
                    wanted.start += 1;
                    if !go_on(&report) {
                        is_enough.store(true, Ordering::Relaxed);
                        return;
                    }
                }
            }
        });
        report
    }
}

impl Report {
    /// Takes in one more history.
    pub fn add(&mut self, seed: u64, outcome: Outcome) {
        self.histories += 1;
        self.events += outcome.events;
        self.lasted = self.lasted.saturating_add(outcome.lasted);
        self.coverage.add(&outcome.coverage);
        for (how, times) in &outcome.ended {
            *self.ended.entry(how).or_default() += times;
        }
        self.lost_after_outage += u64::from(outcome.lost_after_outage > 0);
        if !outcome.violations.is_empty() {
            self.findings.push(Finding {
                seed,
                violations: outcome.violations,
            });
        }
    }
}
