//! The fencing protocol, explored state by state: the guards' own machines and the controller's own grants, between a
//! network that keeps every message, disks that are lost, and processes that die and freeze at every point.
#![expect(clippy::print_stdout, reason = "what was explored is told")]
#![expect(
    clippy::struct_excessive_bools,
    reason = "each says what may happen, apart from the others"
)]

mod action;
mod controller;
mod faults;
mod host;
mod network;
mod walk;
mod world;

use std::time::Instant;

use stateright::{Checker, Expectation, HasDiscoveries, Model};

use self::{
    faults::Faults,
    walk::walk,
    world::{Plan, Rule},
};

/// Histories that are drawn at random.
const SEEDS: u64 = 2_000;

/// What came of exploring a plan.
struct Explored {
    states: usize,
    /// What may never be and was, with the steps that it takes.
    broken: Option<(&'static str, usize)>,
}

/// Explores a plan, breadth first.
fn explore(plan: Plan, states: usize) -> Explored {
    let started = Instant::now();
    let never: Vec<&str> = plan
        .properties()
        .iter()
        .filter(|p| matches!(p.expectation, Expectation::Always))
        .map(|p| p.name)
        .collect();
    let checker = plan
        .checker()
        .target_state_count(states)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let found = checker.discoveries();
    let broken = never.into_iter().find_map(|name| {
        let path = found.get(name)?.clone();
        Some((name, path.into_actions().len()))
    });
    let states = checker.unique_state_count();
    let took = started.elapsed().as_secs_f64();
    println!("{plan:?}: {states} states in {took:.1} s: {broken:?}");
    Explored { states, broken }
}

/// As long as every rule is kept nothing is found that may never be.
#[test]
fn no_fault_makes_two_writers() {
    for faults in Faults::EACH {
        let explored = explore(Plan::new(None, faults), 100_000);
        assert!(explored.states > 1_000, "{faults:?}: {}", explored.states);
        assert_eq!(explored.broken, None, "{faults:?}");
    }
}

/// Long histories with everything that may go wrong, drawn at random.
#[test]
fn no_history_makes_two_writers() {
    for faults in [Faults::ALL, Faults::ALL_SOLO] {
        let plan = Plan::new(None, faults);
        for seed in 0..SEEDS / 4 {
            assert_eq!(walk(plan, seed), None, "seed {seed}: {faults:?}");
        }
    }
}

/// Each broken rule is seen by what it leads to.
#[test]
fn every_weakened_rule_is_caught() {
    let missed: Vec<_> = Rule::each()
        .into_iter()
        .filter(|(rule, faults)| {
            let plan = Plan::new(Some(*rule), *faults);
            explore(plan, 800_000).broken.is_none() && !is_caught_by_chance(plan)
        })
        .collect();
    assert!(missed.is_empty(), "{missed:?}");
}

/// What takes many steps to be seen is looked for in long histories.
fn is_caught_by_chance(plan: Plan) -> bool {
    let caught = (0..SEEDS).find_map(|seed| Some((seed, walk(plan, seed)?)));
    println!("  by chance: {caught:?}");
    caught.is_some()
}
