//! How many calls a token may make: Cloudflare blocks every call for 5 minutes after too many, those of a failover too.
//!
//! One window for each credential, shared by all services of the process. Upkeep has a part of it, so that the checks of
//! many services never use up what their runs need.

use std::collections::VecDeque;

use crate::model::{span::Span, time::Time};

/// Calls are counted over so long (Cloudflare: 1,200 calls in 5 minutes).
pub const WINDOW: Span = Span::from_secs(300);

/// As many calls Cloudflare allows.
pub const ALLOWED: usize = 1_200;

/// As many are made. Cloudflare counts a user's other tokens and the dashboard too, and its clock is not ours.
pub const CALLS: usize = 1_000;

/// As many have been made when upkeep waits.
pub const UPKEEP: usize = 600;

/// The calls of one credential.
#[derive(Debug, Default)]
pub struct Window {
    made: VecDeque<Time>,
}

impl Window {
    /// Counts a call that is made now.
    ///
    /// # Errors
    /// When to ask again, where it would be one too many.
    pub fn admit(&mut self, is_upkeep: bool, now: Time) -> Result<(), Time> {
        let most = if is_upkeep { UPKEEP } else { CALLS };
        let used = self.used(now);
        if used < most {
            self.made.push_back(now);
            return Ok(());
        }
        // The one that has to leave the window before there is room.
        Err(self.made[used - most].after(WINDOW))
    }

    /// Calls within the window.
    pub fn used(&mut self, now: Time) -> usize {
        // A clock that was set back must not keep calls in it for longer than the window is.
        let is_over = |made: Time| now.since(made) >= WINDOW || made > now.after(WINDOW);
        while self.made.front().is_some_and(|made| is_over(*made)) {
            self.made.pop_front();
        }
        self.made.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_millis(1_700_000_000_000).after(Span::from_secs(seconds))
    }

    #[test]
    fn upkeep_leaves_room_for_runs_and_nobody_goes_beyond_the_limit() {
        let mut window = Window::default();
        let upkeep = (0..1_400).filter(|_| window.admit(true, at(0)).is_ok());
        assert_eq!(upkeep.count(), UPKEEP);
        assert_eq!(window.admit(true, at(1)), Err(at(300)));
        let runs = (0..1_400).filter(|_| window.admit(false, at(10)).is_ok());
        assert_eq!(runs.count(), CALLS - UPKEEP);
        assert_eq!(window.admit(false, at(20)), Err(at(300)));
        // What the runs made stands in the way of upkeep for longer.
        assert_eq!(window.admit(true, at(20)), Err(at(300)));
        assert_eq!(window.admit(false, at(299)), Err(at(300)));
        assert_eq!(window.admit(true, at(300)), Ok(()));
        assert_eq!(window.used(at(300)), CALLS - UPKEEP + 1);
        assert_eq!(window.used(at(310)), 1);
    }

    #[test]
    fn upkeep_waits_for_the_call_that_makes_room_for_it() {
        let mut window = Window::default();
        for _ in 0..CALLS - UPKEEP {
            assert_eq!(window.admit(false, at(0)), Ok(()));
        }
        for _ in 0..UPKEEP {
            assert_eq!(window.admit(false, at(40)), Ok(()));
        }
        assert_eq!(window.admit(true, at(100)), Err(at(340)));
        assert_eq!(window.admit(false, at(100)), Err(at(300)));
    }
}
