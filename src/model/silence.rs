//! Whether somebody who speaks often has been silent for too long: told once, and once more when it is heard again.

use super::{span::Span, time::Time};

/// What became of a silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silent {
    /// It has lasted longer than it may.
    Since(Span),
    /// It is over, after so long.
    Over(Span),
}

/// Listens. Times are of a clock that nobody sets, and that stands still while the host sleeps.
#[derive(Clone, Debug)]
pub struct Silence {
    limit: Span,
    heard: Time,
    is_told: bool,
}

impl Silence {
    /// From now on; nothing was missed before.
    #[must_use]
    pub fn new(limit: Span, now: Time) -> Self {
        Self {
            limit,
            heard: now,
            is_told: false,
        }
    }

    /// Something was heard.
    pub fn hear(&mut self, now: Time) -> Option<Silent> {
        let lasted = self.age(now);
        self.heard = now;
        std::mem::take(&mut self.is_told).then_some(Silent::Over(lasted))
    }

    /// Time has passed.
    pub fn look(&mut self, now: Time) -> Option<Silent> {
        let lasted = self.age(now);
        if self.is_told || lasted <= self.limit {
            return None;
        }
        self.is_told = true;
        Some(Silent::Since(lasted))
    }

    /// How long nothing was heard, or since the start.
    #[must_use]
    pub fn age(&self, now: Time) -> Span {
        now.since(self.heard)
    }

    /// Whether that is too long.
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.is_told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_is_told_once_and_so_is_its_end() {
        let at = |s| Time::from_millis(9_000_000).after(Span::from_secs(s));
        let mut silence = Silence::new(Span::from_secs(300), at(0));
        assert_eq!(silence.look(at(300)), None);
        assert_eq!(silence.hear(at(300)), None);
        assert_eq!(silence.look(at(600)), None);
        assert_eq!(
            silence.look(at(601)),
            Some(Silent::Since(Span::from_secs(301)))
        );
        assert!(silence.is_long());
        assert_eq!(silence.look(at(4_000)), None);
        assert_eq!(
            silence.hear(at(4_000)),
            Some(Silent::Over(Span::from_secs(3_700)))
        );
        assert_eq!(silence.hear(at(4_001)), None);
        assert!(!silence.is_long());
        assert!(silence.look(at(4_400)).is_some());
    }
}
