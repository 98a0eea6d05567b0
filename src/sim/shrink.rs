//! Shrinking: the fewest faults that still break the same rule.

use std::sync::Arc;

use super::{fault::Planned, history, rule::Rule, scenario::Scenario, trace::Trace};
use crate::model::span::Span;

/// Leaves out what is not needed: delta debugging (Zeller and Hildebrandt 2002) over the list of faults, then shorter
/// times.
#[must_use]
pub fn shrink(scenario: &Scenario, rule: Rule) -> Scenario {
    let mut least = scenario.clone();
    let mut parts = 2;
    while least.faults.len() > 1 && parts <= least.faults.len() {
        let size = least.faults.len().div_ceil(parts);
        let smaller = (0..least.faults.len()).step_by(size).find_map(|from| {
            let faults = without(&least.faults, from, size);
            breaks(&least, faults, rule)
        });
        if let Some(smaller) = smaller {
            least = smaller;
            parts = 2;
        } else if size == 1 {
            break;
        } else {
            parts = (parts * 2).min(least.faults.len());
        }
    }
    if least.faults.len() == 1
        && let Some(none) = breaks(&least, Vec::new(), rule)
    {
        return none;
    }
    shorter(least, rule)
}

fn shorter(mut least: Scenario, rule: Rule) -> Scenario {
    for n in 0..least.faults.len() {
        for _ in 0..4 {
            let mut faults = least.faults.clone();
            faults[n].lasts = Span::from_millis(faults[n].lasts.as_millis() / 2);
            match breaks(&least, faults, rule) {
                Some(smaller) => least = smaller,
                None => break,
            }
        }
    }
    least
}

fn without(faults: &[Planned], from: usize, many: usize) -> Vec<Planned> {
    let left_out = from..from + many;
    let kept = faults.iter().enumerate();
    kept.filter(|(n, _)| !left_out.contains(n))
        .map(|(_, f)| *f)
        .collect()
}

fn breaks(scenario: &Scenario, faults: Vec<Planned>, rule: Rule) -> Option<Scenario> {
    let smaller = Scenario {
        faults,
        ..scenario.clone()
    };
    let outcome = history::play(Arc::new(smaller.clone()), Trace::silent());
    let broken = outcome.violations.iter().any(|v| v.rule == rule);
    broken.then_some(smaller)
}
