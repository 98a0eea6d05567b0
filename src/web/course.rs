//! How latency and lag went of late: a bounded memory, filled at an interval, that ends with the process.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use crate::{
    decide::{core::Core, incident, lag, view::Says},
    desk::clerk::Clerk,
    model::{
        id::{ProbeId, ServiceName, VantageName},
        loss::LossForecast,
        span::Span,
        time::Time,
    },
};

/// Time between two points.
const EVERY: Span = Span::from_secs(5);
/// Points of a line: 20 minutes.
pub const POINTS: usize = 240;

/// A value that was measured, oldest first; none where nothing was.
pub type Line = VecDeque<Option<f64>>;

/// How things went at each service.
#[derive(Debug, Default)]
pub struct Courses(Mutex<BTreeMap<ServiceName, Course>>);

/// How things went at a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Course {
    /// Milliseconds that an answer took, as each vantage point saw it through each probe.
    pub latency: BTreeMap<(VantageName, ProbeId), Line>,
    /// Seconds of writes that the standby lacked.
    pub lag: Option<Line>,
}

impl Courses {
    /// Measures for ever.
    pub async fn keep(&self, clerk: &Clerk) {
        loop {
            self.measure(clerk).await;
            let now = clerk.runtime.now();
            clerk.runtime.sleep_until(now.after(EVERY)).await;
        }
    }

    async fn measure(&self, clerk: &Clerk) {
        let services = clerk.controller.services();
        for service in &services {
            // One that has just ended has nothing to be measured.
            if let Ok(core) = clerk.controller.show(&service.name).await {
                let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let course = all.entry(service.name.clone()).or_default();
                course.measure(&core, clerk.runtime.now());
            }
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|name, _| services.iter().any(|s| s.name == *name));
    }

    /// How things went at a service.
    #[must_use]
    pub fn of(&self, service: &ServiceName) -> Course {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(service).cloned().unwrap_or_default()
    }
}

impl Course {
    fn measure(&mut self, core: &Core, now: Time) {
        let voices = &core.view().voices;
        self.latency.retain(|key, _| voices.contains_key(key));
        for (key, voice) in voices {
            let answered = matches!(voice.says, Says::Up | Says::Failing);
            let latency = voice.last.latency.filter(|_| answered);
            let line = self.latency.entry(key.clone()).or_default();
            add(line, latency.map(|took| took.as_secs_f64() * 1000.0));
        }
        match behind(core, now) {
            Behind::Nothing => self.lag = None,
            Behind::Unknown => add(self.lag.get_or_insert_default(), None),
            Behind::By(span) => add(self.lag.get_or_insert_default(), Some(span.as_secs_f64())),
        }
    }
}

fn add(line: &mut Line, value: Option<f64>) {
    if line.len() >= POINTS {
        line.pop_front();
    }
    line.push_back(value);
}

enum Behind {
    /// There is no database.
    Nothing,
    Unknown,
    By(Span),
}

fn behind(core: &Core, now: Time) -> Behind {
    let (service, state, view) = (core.service(), core.state(), core.view());
    let active = state.active.as_ref();
    let Some(to) = active.and_then(|active| incident::target(service, active)) else {
        return Behind::Unknown;
    };
    match lag::forecast(service, state, view, &to, now, now) {
        LossForecast::Stateless => Behind::Nothing,
        // The time since they were compared is no lag.
        LossForecast::Known(lag) if lag.bytes == 0 => Behind::By(Span::ZERO),
        LossForecast::Known(lag) => Behind::By(lag.time),
        LossForecast::Drained | LossForecast::Restored(_) | LossForecast::Unknown { .. } => {
            Behind::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_keeps_the_newest_points() {
        let mut line = Line::new();
        for n in 0..=POINTS {
            add(&mut line, (n % 2 == 0).then_some(1.0));
        }
        assert_eq!(line.len(), POINTS);
        assert_eq!((line[0], line[POINTS - 1]), (None, Some(1.0)));
    }
}
