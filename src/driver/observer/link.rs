//! How the observer stands with its controller: pure, with the time given.

use crate::{
    model::{span::Span, time::Time},
    vantage::message::{Begun, RequestNumber, Revision, SessionId},
};

/// The first pause after a request that failed; each further one is twice as long.
const FIRST: Span = Span::from_millis(500);
/// Longest pause: a controller that is back, or that knows this observer now, should be seen soon.
const LONGEST: Span = Span::from_secs(5);

/// How the observer stands with its controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// There is no session; one is begun after the pause.
    Closed(Pause),
    /// There is one.
    Open(Open),
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) session: SessionId,
    pub(super) revision: Revision,
    /// Of the last request.
    pub(super) number: RequestNumber,
    /// The last request whose answer arrived.
    pub(super) answered: RequestNumber,
    /// When it did.
    pub(super) answered_at: Time,
    /// After a request that failed.
    pub(super) pause: Option<Pause>,
}

/// No request before this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pause {
    pub(super) until: Time,
    next: Span,
}

impl Link {
    /// No session, and none was refused.
    pub(super) fn new(now: Time) -> Self {
        Self::Closed(Pause {
            until: now,
            next: FIRST,
        })
    }

    /// A request was answered.
    pub(super) fn answered(&mut self, number: RequestNumber, now: Time) {
        if let Self::Open(open) = self {
            open.answered = number;
            open.answered_at = now;
            open.pause = None;
        }
    }

    /// No session could be begun.
    pub(super) fn refused(&mut self, now: Time) {
        let next = match self {
            Self::Closed(pause) => pause.next,
            Self::Open(_) => FIRST,
        };
        *self = Self::Closed(Pause::of(now, next));
    }

    /// Whether the last report failed as well.
    pub(super) fn is_failing(&self) -> bool {
        matches!(self, Self::Open(open) if open.pause.is_some())
    }

    /// A report failed. The session may well live on, unless the controller itself refused.
    pub(super) fn failed(&mut self, now: Time, refused: bool) {
        let Self::Open(open) = self else {
            return;
        };
        let next = open.pause.as_ref().map_or(FIRST, |p| p.next);
        if refused {
            *self = Self::Closed(Pause::of(now, next));
        } else {
            open.pause = Some(Pause::of(now, next));
        }
    }
}

impl Open {
    /// A session that has just begun.
    pub(super) fn new(begun: Begun, now: Time) -> Self {
        Self {
            session: begun.session,
            revision: begun.revision,
            number: RequestNumber(0),
            answered: RequestNumber(0),
            answered_at: now,
            pause: None,
        }
    }
}

impl Pause {
    fn of(now: Time, pause: Span) -> Self {
        Self {
            until: now.after(pause),
            next: pause.saturating_mul(2).min(LONGEST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Time {
        Time::from_millis(ms)
    }

    fn open() -> Link {
        let begun = Begun {
            session: SessionId("s".into()),
            revision: Revision("r".into()),
            services: Vec::new(),
            ahead_ms: 0,
        };
        Link::Open(Open::new(begun, at(0)))
    }

    #[test]
    fn a_controller_that_is_away_is_asked_less_and_less_often_up_to_every_5_s() {
        let mut link = Link::new(at(0));
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..6 {
            link.refused(at(now));
            let Link::Closed(pause) = &link else {
                panic!("{link:?}")
            };
            pauses.push(pause.until.as_millis() - now);
            now = pause.until.as_millis();
        }
        assert_eq!(pauses, [500, 1_000, 2_000, 4_000, 5_000, 5_000]);
    }

    #[test]
    fn a_session_outlives_lost_requests_and_ends_with_a_refusal() {
        let mut link = open();
        link.failed(at(100), false);
        let Link::Open(still) = &link else {
            panic!("{link:?}")
        };
        assert_eq!(still.pause.as_ref().unwrap().until, at(600));
        link.answered(RequestNumber(2), at(700));
        let Link::Open(still) = &link else {
            panic!("{link:?}")
        };
        assert_eq!((still.answered.0, &still.pause), (2, &None));
        link.failed(at(800), true);
        assert!(matches!(link, Link::Closed(_)));
    }
}
