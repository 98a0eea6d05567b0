//! Log lines that anybody could cause: one a minute of each sort, with how often it happened.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use crate::model::{span::Span, time::Time};

/// Least time between two lines of a sort.
const PAUSE: Span = Span::from_secs(60);

/// When each sort of line was written last, and how often it would have been since.
#[derive(Debug, Default)]
pub(super) struct Seldom(Mutex<BTreeMap<&'static str, (Time, u64)>>);

impl Seldom {
    /// Whether a line of this sort may be written now; how often it happened since the last one, this time too.
    pub(super) fn due(&self, sort: &'static str, now: Time) -> Option<u64> {
        let mut sorts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((last, kept)) = sorts.get_mut(sort) else {
            sorts.insert(sort, (now, 0));
            return Some(1);
        };
        *kept += 1;
        if now.since(*last) < PAUSE {
            return None;
        }
        *last = now;
        Some(std::mem::take(kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_line_a_minute() {
        let seldom = Seldom::default();
        let at = |s: i64| Time::from_millis(s * 1000);
        assert_eq!(seldom.due("a", at(0)), Some(1));
        for s in 1..60 {
            assert_eq!(seldom.due("a", at(s)), None);
        }
        assert_eq!(seldom.due("b", at(59)), Some(1));
        assert_eq!(seldom.due("a", at(60)), Some(60));
        assert_eq!(seldom.due("a", at(200)), Some(1));
    }
}
