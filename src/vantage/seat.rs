//! What the controller knows of one observer, and which of its reports it takes: pure, with the time given.
//!
//! The observer's clock is not trusted. A look carries its age, so its moment is the controller's own time less that
//! age. How long a report was on its way is bounded by the controller's own time too: the report names the answer that
//! it saw last and how long ago; where more time than that has gone by here, somebody held it up, or the observer's
//! clock stood still, and its looks are not used.

use std::collections::BTreeMap;

use super::message::{
    Hello, LookNumber, ObserverId, Refusal, Report, RequestNumber, Seen, SessionId, words,
};
use crate::model::{span::Span, time::Time};

/// Longest time that a report and the answer before it may be on their way together.
pub const TRANSIT: Span = Span::from_secs(5);

/// Answers whose time is remembered, so that one that was lost does no harm.
const ANSWERS: usize = 16;

/// One observer, as far as the controller knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seat {
    session: Option<Session>,
    /// The last look that was taken, and whose it was.
    last: Option<(ObserverId, LookNumber)>,
    heard: Option<Heard>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Session {
    id: SessionId,
    observer: ObserverId,
    number: RequestNumber,
    answered: BTreeMap<RequestNumber, Time>,
}

/// What the observer said of itself last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// When.
    pub at: Time,
    /// How far its clock on the wall is ahead, in milliseconds.
    pub ahead_ms: i64,
    /// Its program's version.
    pub version: String,
}

/// What becomes of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It counts, as seen at this moment.
    Counts(Time),
    /// It came before.
    Repeated,
    /// It is older than it may be.
    Stale,
    /// The report was too long on its way: how old it is cannot be told.
    HeldUp,
    /// Nobody asked for it.
    NotAssigned,
}

/// Two clocks of the controller.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// Now; never steps.
    pub now: Time,
    /// The clock on the wall.
    pub wall: Time,
}

impl Seat {
    /// What the observer said of itself last.
    #[must_use]
    pub fn heard(&self) -> Option<&Heard> {
        self.heard.as_ref()
    }

    /// Begins a session; the one before is over. Answers whether another observer had that one, and still used it
    /// a moment ago.
    pub fn begin(&mut self, id: SessionId, hello: &Hello, clocks: Clocks) -> bool {
        let rival = self.session.as_ref().is_some_and(|s| {
            let last = s.answered.values().max();
            s.observer != hello.observer && last.is_some_and(|at| clocks.now.since(*at) < TRANSIT)
        });
        self.session = Some(Session {
            id,
            observer: hello.observer.clone(),
            number: RequestNumber(0),
            answered: BTreeMap::from([(RequestNumber(0), clocks.now)]),
        });
        if self
            .last
            .as_ref()
            .is_some_and(|(of, _)| *of != hello.observer)
        {
            self.last = None;
        }
        self.heard = Some(Heard {
            at: clocks.now,
            ahead_ms: ahead(hello.wall, clocks.wall),
            version: words(&hello.version),
        });
        rival
    }

    /// Takes a report whose signature is proved; answers the fate of each look. `shelf_life` is how old a look may be,
    /// none where nobody asked for it.
    ///
    /// # Errors
    /// Where the session is not this one, or the number does not rise.
    pub fn admit(
        &mut self,
        session: &str,
        report: &Report,
        clocks: Clocks,
        shelf_life: impl Fn(&Seen) -> Option<Span>,
    ) -> Result<Vec<Fate>, Refusal> {
        let open = self.session.as_mut().filter(|s| s.id.0 == session);
        let open = open.ok_or(Refusal::Session)?;
        if report.number <= open.number {
            return Err(Refusal::Number);
        }
        open.number = report.number;
        let in_time = open.in_time(report, clocks.now);
        open.answered(report.number, clocks.now);
        if let Some(heard) = &mut self.heard {
            heard.at = clocks.now;
            heard.ahead_ms = ahead(report.wall, clocks.wall);
        }
        let observer = open.observer.clone();
        let mut last = self.last.as_ref().map_or(LookNumber(0), |(_, n)| *n);
        let fates = report.looks.iter().map(|seen| {
            if seen.number <= last {
                return Fate::Repeated;
            }
            last = seen.number;
            match shelf_life(seen) {
                _ if !in_time => Fate::HeldUp,
                None => Fate::NotAssigned,
                Some(life) if seen.age > life => Fate::Stale,
                Some(_) => Fate::Counts(clocks.now.before(seen.age)),
            }
        });
        let fates = fates.collect();
        self.last = Some((observer, last));
        Ok(fates)
    }
}

impl Session {
    /// Whether the report cannot have been on its way for long.
    fn in_time(&self, report: &Report, now: Time) -> bool {
        let answered = self.answered.get(&report.answered);
        answered.is_some_and(|at| now.since(*at).saturating_sub(report.since) <= TRANSIT)
    }

    fn answered(&mut self, number: RequestNumber, now: Time) {
        self.answered.insert(number, now);
        while self.answered.len() > ANSWERS {
            self.answered.pop_first();
        }
    }
}

fn ahead(theirs: Time, ours: Time) -> i64 {
    theirs.as_millis().saturating_sub(ours.as_millis())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::observation::{Facts, Sight},
        vantage::message::Revision,
    };

    const START: Time = Time::from_millis(1_700_000_000_000);

    fn at(ms: u64) -> Clocks {
        let now = START.after(Span::from_millis(ms));
        Clocks { now, wall: now }
    }

    fn hello(observer: &str) -> Hello {
        Hello {
            observer: ObserverId(observer.into()),
            version: "1".into(),
            wall: START,
            commands: false,
        }
    }

    fn seat() -> Seat {
        let mut seat = Seat::default();
        seat.begin(SessionId("s1".into()), &hello("one"), at(0));
        seat
    }

    fn look(number: u64, age_ms: u64) -> Seen {
        Seen {
            number: LookNumber(number),
            age: Span::from_millis(age_ms),
            service: "shop".into(),
            probe: "web".into(),
            sight: Sight::Down,
            detail: String::new(),
            latency: None,
            facts: Facts::default(),
        }
    }

    fn report(number: u64, answered: u64, since_ms: u64, looks: Vec<Seen>) -> Report {
        Report {
            number: RequestNumber(number),
            answered: RequestNumber(answered),
            since: Span::from_millis(since_ms),
            revision: Revision("r".into()),
            wall: START,
            looks,
        }
    }

    fn life(seen: &Seen) -> Option<Span> {
        (seen.probe.as_str() == "web").then(|| Span::from_secs(30))
    }

    #[test]
    fn a_look_is_as_old_as_it_says() {
        let mut seat = seat();
        let mut foreign = look(3, 0);
        foreign.probe = "other".into();
        let report = report(1, 0, 9_900, vec![look(1, 31_000), look(2, 4_000), foreign]);
        let fates = seat.admit("s1", &report, at(10_000), life).unwrap();
        let seen = Fate::Counts(at(6_000).now);
        assert_eq!(fates, [Fate::Stale, seen, Fate::NotAssigned]);
    }

    #[test]
    fn a_look_counts_once_also_in_another_session() {
        let mut seat = seat();
        seat.admit("s1", &report(1, 0, 0, vec![look(1, 0)]), at(0), life)
            .unwrap();
        // Its answer was lost, so it is sent again.
        let again = report(2, 0, 1_000, vec![look(1, 1_000), look(2, 0)]);
        let fates = seat.admit("s1", &again, at(1_000), life).unwrap();
        assert_eq!(fates, [Fate::Repeated, Fate::Counts(at(1_000).now)]);
        seat.begin(SessionId("s2".into()), &hello("one"), at(2_000));
        let again = report(1, 0, 0, vec![look(2, 1_000), look(3, 0)]);
        let fates = seat.admit("s2", &again, at(2_000), life).unwrap();
        assert_eq!(fates, [Fate::Repeated, Fate::Counts(at(2_000).now)]);
        // A new observer counts anew.
        seat.begin(SessionId("s3".into()), &hello("two"), at(9_000));
        let first = report(1, 0, 0, vec![look(1, 0)]);
        let fates = seat.admit("s3", &first, at(9_000), life).unwrap();
        assert_eq!(fates, [Fate::Counts(at(9_000).now)]);
    }

    #[test]
    fn what_was_held_up_does_not_count_however_fresh_it_says_it_is() {
        let mut seat = seat();
        let held = report(1, 0, 2_000, vec![look(1, 0)]);
        let fates = seat.admit("s1", &held, at(60_000), life).unwrap();
        assert_eq!(fates, [Fate::HeldUp]);
        // The next one saw that answer, so it is on time again.
        let next = report(2, 1, 1_000, vec![look(2, 500)]);
        let fates = seat.admit("s1", &next, at(61_000), life).unwrap();
        assert_eq!(fates, [Fate::Counts(at(60_500).now)]);
        // An answer that was never given proves nothing.
        let odd = report(3, 9, 0, vec![look(3, 0)]);
        let fates = seat.admit("s1", &odd, at(62_000), life).unwrap();
        assert_eq!(fates, [Fate::HeldUp]);
    }

    #[test]
    fn the_clock_of_the_observer_is_measured_and_not_used() {
        let mut seat = seat();
        let mut wrong = report(1, 0, 1_000, vec![look(1, 0)]);
        wrong.wall = START.after(Span::from_secs(3_600));
        let fates = seat.admit("s1", &wrong, at(1_000), life).unwrap();
        assert_eq!(fates, [Fate::Counts(at(1_000).now)]);
        assert_eq!(seat.heard().unwrap().ahead_ms, 3_599_000);
    }

    #[test]
    fn a_rival_is_noticed_and_a_successor_is_none() {
        let mut seat = seat();
        assert!(seat.begin(SessionId("s2".into()), &hello("two"), at(1_000)));
        assert!(!seat.begin(SessionId("s3".into()), &hello("two"), at(2_000)));
        assert!(!seat.begin(SessionId("s4".into()), &hello("one"), at(60_000)));
    }

    proptest! {
        #[test]
        fn of_any_order_of_requests_only_rising_ones_are_taken(
            numbers in proptest::collection::vec(0_u64..20, 1..60),
        ) {
            let mut seat = seat();
            let mut highest = 0;
            for number in numbers {
                let taken = seat.admit("s1", &report(number, 0, 0, vec![]), at(0), life);
                prop_assert_eq!(taken.is_ok(), number > highest);
                if let Err(refusal) = taken {
                    prop_assert_eq!(refusal, Refusal::Number);
                }
                highest = highest.max(number);
            }
        }

        #[test]
        fn a_session_that_is_over_takes_nothing(session in ".*", number in 1_u64..) {
            let mut seat = seat();
            let name = session.clone();
            if session != "s1" {
                let taken = seat.admit(&name, &report(number, 0, 0, vec![]), at(0), life);
                prop_assert_eq!(taken, Err(Refusal::Session));
            }
            seat.begin(SessionId("s2".into()), &hello("one"), at(0));
            let taken = seat.admit("s1", &report(number, 0, 0, vec![]), at(0), life);
            prop_assert_eq!(taken, Err(Refusal::Session));
        }

        #[test]
        fn no_look_counts_as_younger_than_it_can_be(
            began in 0_u64..100_000, sent_after in 0_u64..100_000, age in 0_u64..40_000, transit in 0_u64..100_000,
        ) {
            // The look ended `age` before the report left; the report was `transit` on its way.
            let mut seat = Seat::default();
            seat.begin(SessionId("s1".into()), &hello("one"), at(began));
            let sent = began + sent_after;
            let arrived = at(sent + transit);
            let one = report(1, 0, sent_after, vec![look(1, age)]);
            let fates = seat.admit("s1", &one, arrived, life).unwrap();
            if let Fate::Counts(seen) = fates[0] {
                let truly = at(sent).now.before(Span::from_millis(age));
                prop_assert!(seen.since(truly) <= TRANSIT);
                prop_assert!(seen <= arrived.now);
            } else {
                prop_assert!(transit > TRANSIT.as_millis() || age > 30_000);
            }
        }
    }
}
