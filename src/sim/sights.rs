//! Who got right answers, as the watchman goes by it.

use crate::model::time::Time;

/// Who got right answers, and since when.
#[derive(Clone, Debug, Default)]
pub struct Sights {
    /// Since when each vantage point has got right answers without a break.
    pub since: Vec<Option<Time>>,
    /// When each of them got one last.
    pub last: Vec<Option<Time>>,
}

impl Sights {
    /// Nothing has changed until now.
    pub fn until(&mut self, now: Time) {
        for (since, last) in self.since.iter().zip(&mut self.last) {
            if since.is_some() {
                *last = Some(now);
            }
        }
    }

    /// Something has changed: these get right answers now.
    pub fn look(&mut self, now: Time, well: &[bool]) {
        self.since.resize(well.len(), None);
        self.last.resize(well.len(), None);
        for ((since, last), well) in self.since.iter_mut().zip(&mut self.last).zip(well) {
            *since = well.then(|| since.unwrap_or(now));
            if *well {
                *last = Some(now);
            }
        }
    }
}
