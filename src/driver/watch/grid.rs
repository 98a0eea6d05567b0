//! When each look is due: a fixed grid a look, so that it never drifts, with phases that spread the looks.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::model::{span::Span, time::Time};

/// The due times of many looks, each named by its index.
#[derive(Debug)]
pub(super) struct Grid {
    lines: Vec<Line>,
    due: BinaryHeap<Reverse<(Time, usize)>>,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    /// Milliseconds after each multiple of `every` since 1970.
    phase: i64,
    /// Milliseconds between two looks.
    every: i64,
}

/// A look that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// Which look.
    pub(super) index: usize,
    /// When it was due.
    pub(super) at: Time,
    /// Grid points that have gone by since without a look.
    pub(super) missed: u64,
}

impl Grid {
    /// One line for each key and interval. All looks are due once at `start`, then each on its own grid.
    pub(super) fn new(looks: impl IntoIterator<Item = (u64, Span)>, start: Time) -> Self {
        let lines: Vec<Line> = looks
            .into_iter()
            .map(|(key, every)| {
                let every = every.as_millis().max(1);
                Line {
                    phase: i64::try_from(key % every).unwrap_or_default(),
                    every: i64::try_from(every).unwrap_or(i64::MAX),
                }
            })
            .collect();
        let due = (0..lines.len()).map(|i| Reverse((start, i))).collect();
        Self { lines, due }
    }

    /// When the next look is due.
    pub(super) fn next(&self) -> Option<Time> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    /// A look that is due now, if there is one; its next time is the first grid point that still lies ahead.
    pub(super) fn pop(&mut self, now: Time) -> Option<Due> {
        let mut head = self.due.peek_mut()?;
        let Reverse((at, index)) = *head;
        if at > now {
            return None;
        }
        let line = self.lines[index];
        let next = line.after(now);
        let missed = next.since(line.after(at)).as_millis() / line.every.unsigned_abs();
        *head = Reverse((next, index));
        Some(Due { index, at, missed })
    }
}

impl Line {
    /// The first grid point after `now`.
    fn after(self, now: Time) -> Time {
        let past = (now.as_millis() - self.phase).rem_euclid(self.every);
        Time::from_millis(now.as_millis().saturating_add(self.every - past))
    }
}

/// A number that is the same for the same words, well spread over all numbers (FNV-1a, then a finalizer, since
/// phases are taken modulo small numbers).
pub(super) fn key(seed: u64, words: [&str; 2]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ seed;
    for word in words {
        for byte in word.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(grid: &mut Grid, from: i64, to: i64) -> Vec<(i64, usize)> {
        let mut seen = Vec::new();
        for now in from..to {
            while let Some(due) = grid.pop(Time::from_millis(now)) {
                assert_eq!(due.missed, 0);
                seen.push((now, due.index));
            }
        }
        seen
    }

    #[test]
    fn every_look_is_due_at_the_start_and_then_on_its_grid() {
        let looks = [(3, Span::from_millis(10)), (17, Span::from_millis(20))];
        let mut grid = Grid::new(looks, Time::from_millis(100));
        assert_eq!(
            times(&mut grid, 100, 140),
            [
                (100, 0),
                (100, 1),
                (103, 0),
                (113, 0),
                (117, 1),
                (123, 0),
                (133, 0),
                (137, 1)
            ]
        );
    }

    #[test]
    fn a_late_pop_neither_drifts_nor_catches_up() {
        let mut grid = Grid::new([(0, Span::from_millis(10))], Time::from_millis(100));
        grid.pop(Time::from_millis(100));
        let due = grid.pop(Time::from_millis(134));
        assert_eq!(
            due,
            Some(Due {
                index: 0,
                at: Time::from_millis(110),
                missed: 2
            })
        );
        assert_eq!(grid.next(), Some(Time::from_millis(140)));
    }

    #[test]
    fn the_grid_outlives_a_restart() {
        let mut one = Grid::new([(4, Span::from_millis(10))], Time::from_millis(100));
        let mut two = Grid::new([(4, Span::from_millis(10))], Time::from_millis(5007));
        one.pop(Time::from_millis(100));
        two.pop(Time::from_millis(5007));
        assert_eq!(one.next(), Some(Time::from_millis(104)));
        assert_eq!(two.next(), Some(Time::from_millis(5014)));
    }

    #[test]
    fn phases_are_spread() {
        let mut buckets = [0; 10];
        for i in 0..10_000 {
            let key = key(7, [&format!("probe-{i}"), "here"]) % 10_000;
            buckets[usize::try_from(key / 1000).unwrap()] += 1;
        }
        assert!(
            buckets.iter().all(|n| (800..1200).contains(n)),
            "{buckets:?}"
        );
    }
}
