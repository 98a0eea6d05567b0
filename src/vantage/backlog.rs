//! Looks that wait to be reported: the newest, while the controller is away.

use std::collections::VecDeque;

use super::message::{LOOKS, LookNumber, Seen, words};
use crate::model::{id::ServiceName, observation::Observation, time::Time};

/// Looks that are kept; a hundred probes every second fill it in 40 s, and older looks would count for little.
const MOST: usize = 4096;

/// Looks that wait, oldest first.
#[derive(Debug, Default)]
pub struct Backlog {
    waiting: VecDeque<Waiting>,
    numbered: LookNumber,
    dropped: u64,
}

#[derive(Clone, Debug)]
struct Waiting {
    number: LookNumber,
    service: ServiceName,
    seen: Observation,
}

impl Backlog {
    /// Keeps a look; the oldest goes where there are too many.
    pub fn push(&mut self, service: ServiceName, seen: Observation) {
        self.numbered = LookNumber(self.numbered.0 + 1);
        self.waiting.push_back(Waiting {
            number: self.numbered,
            service,
            seen,
        });
        if self.waiting.len() > MOST {
            self.waiting.pop_front();
            self.dropped += 1;
        }
    }

    /// The oldest looks, as many as fit into a report made now. They stay until `reported`.
    #[must_use]
    pub fn batch(&self, now: Time) -> Vec<Seen> {
        let oldest = self.waiting.iter().take(LOOKS);
        oldest.map(|w| w.seen(now)).collect()
    }

    /// The looks up to this one have arrived.
    pub fn reported(&mut self, up_to: LookNumber) {
        while self.waiting.front().is_some_and(|w| w.number <= up_to) {
            self.waiting.pop_front();
        }
    }

    /// Forgets all that waits; answers how many looks that were.
    pub fn clear(&mut self) -> usize {
        let all = self.waiting.len();
        self.waiting.clear();
        all
    }

    /// When the oldest look ended.
    #[must_use]
    pub fn oldest(&self) -> Option<Time> {
        self.waiting.front().map(|w| w.seen.at)
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many were dropped since the last asking.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

impl Waiting {
    fn seen(&self, now: Time) -> Seen {
        let seen = &self.seen;
        Seen {
            number: self.number,
            age: now.since(seen.at),
            service: self.service.clone(),
            probe: seen.probe.clone(),
            sight: seen.sight,
            detail: words(&seen.detail),
            latency: seen.latency,
            facts: seen.facts.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::observation::{Facts, Sight};

    fn at(ms: i64) -> Time {
        Time::from_millis(ms)
    }

    fn seen(ms: i64) -> Observation {
        Observation {
            at: at(ms),
            vantage: "paris".into(),
            probe: "web".into(),
            sight: Sight::Up,
            detail: String::new(),
            latency: None,
            facts: Facts::default(),
        }
    }

    #[test]
    fn what_has_not_arrived_is_sent_again_and_older() {
        let mut backlog = Backlog::default();
        backlog.push("shop".into(), seen(100));
        backlog.push("shop".into(), seen(200));
        let first = backlog.batch(at(250));
        let ages = |batch: &[Seen]| -> Vec<_> {
            batch
                .iter()
                .map(|s| (s.number.0, s.age.as_millis()))
                .collect()
        };
        assert_eq!(ages(&first), [(1, 150), (2, 50)]);
        backlog.push("shop".into(), seen(300));
        assert_eq!(ages(&backlog.batch(at(300))), [(1, 200), (2, 100), (3, 0)]);
        backlog.reported(LookNumber(2));
        assert_eq!(ages(&backlog.batch(at(400))), [(3, 100)]);
        assert_eq!(backlog.oldest(), Some(at(300)));
    }

    #[test]
    fn the_newest_are_kept_and_the_rest_is_counted() {
        let mut backlog = Backlog::default();
        for ms in 0..5_000 {
            backlog.push("shop".into(), seen(ms));
        }
        assert_eq!((backlog.len(), backlog.take_dropped()), (MOST, 904));
        assert_eq!(backlog.take_dropped(), 0);
        assert_eq!(backlog.batch(at(5_000)).len(), LOOKS);
        assert_eq!(backlog.batch(at(5_000))[0].number, LookNumber(905));
        assert_eq!(backlog.clear(), MOST);
        assert!(backlog.is_empty());
    }
}
