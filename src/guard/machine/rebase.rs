//! The same guard at another time: a model that looks at every state tells two of them apart by ages, not by clocks.

use super::{Machine, Until};
use crate::model::{span::Span, time::Time};

impl Machine {
    /// The guard as if it were so much earlier. What is older than `horizon` at `now` makes no difference any more.
    pub fn rebase(&mut self, by: Span, now: Time, horizon: Span) {
        let oldest = now.before(horizon);
        self.granted.rebase(by, oldest);
        self.asked = self
            .asked
            .map(|at| at.before(by))
            .filter(|at| at.after(self.renewal) > now);
        self.again = self.again.map(|at| at.before(by)).filter(|at| *at > now);
        self.ends_again = self.ends_again.map(|at| at.before(by).max(now));
        if let Some(drained) = &mut self.drained {
            drained.until = drained.until.before(by).max(now);
            // Every order of a model is as young as the next.
            drained.asked = now;
        }
        // What it confirms only makes others grant less.
        self.heard.clear();
        for until in [&mut self.lease, &mut self.armed].into_iter().flatten() {
            if let Until::At(at) = until {
                *at = at.before(by).max(now);
            }
        }
    }
}
