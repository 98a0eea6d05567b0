//! How long a process that was elected may be sure that it leads, and how it finds out once it may not.
//!
//! Whoever was frozen for a while does not know it, and what it had begun to do goes on where it stood. So before anything
//! is done to the outside, this is asked: within the time that its last renewal gave it, nobody else can lead; beyond that,
//! the journal says whether somebody else does, since a successor writes there before it does anything.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    model::{
        id::{Seq, ServiceName},
        span::Span,
        time::Time,
    },
    port::{cause, journal::Rivals, runtime::SharedRuntime},
};

/// The journal is asked again after this where it does not answer.
const AGAIN: Span = Span::from_secs(1);
/// An answer that took longer is not believed: whoever slept meanwhile has heard nothing.
const FRESH: Span = Span::from_secs(2);

/// Why a process does not lead any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Another one wrote to the chain.
    Overtaken(Seq),
    /// It was told so already.
    Known,
}

/// A moment by both clocks: one of them stands still while a machine sleeps, the other is set by people.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    now: Time,
    wall: Time,
}

impl Moment {
    /// Now.
    #[must_use]
    pub fn now(runtime: &SharedRuntime) -> Self {
        Self {
            now: runtime.now(),
            wall: runtime.wall(),
        }
    }

    /// Time since then, by the clock that says more.
    #[must_use]
    pub fn age(self, runtime: &SharedRuntime) -> Span {
        let now = runtime.now().since(self.now);
        now.max(runtime.wall().since(self.wall))
    }
}

/// The time in which a process leads for sure.
pub struct Tenure {
    rivals: Arc<dyn Rivals>,
    runtime: SharedRuntime,
    /// From each renewal on it lasts so long.
    lasts: Span,
    /// When the last renewal was asked for; none once it is over.
    renewed: Mutex<Option<Moment>>,
}

impl fmt::Debug for Tenure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenure")
            .field("renewed", &*self.lock())
            .finish_non_exhaustive()
    }
}

impl Tenure {
    /// Begins with an election that was asked for at `won`. `lasts` ends well before anybody else can be elected.
    #[must_use]
    pub fn new(won: Moment, lasts: Span, rivals: Arc<dyn Rivals>, runtime: SharedRuntime) -> Self {
        Self {
            rivals,
            runtime,
            lasts,
            renewed: Mutex::new(Some(won)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Moment>> {
        self.renewed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It was renewed; `asked` is when that was asked for, not when the answer came.
    pub fn renew(&self, asked: Moment) {
        if let Some(renewed) = &mut *self.lock() {
            *renewed = asked;
        }
    }

    /// Another process leads.
    pub fn end(&self) {
        *self.lock() = None;
    }

    /// Whether nobody else can lead now.
    #[must_use]
    pub fn lasts(&self) -> bool {
        let renewed = *self.lock();
        renewed.is_some_and(|renewed| renewed.age(&self.runtime) < self.lasts)
    }

    /// Returns once it is sure that nobody else has begun to act on a chain behind `after`, or that somebody has. Where
    /// neither can be told, it waits: what is done then could not be recorded either.
    ///
    /// # Errors
    /// Where this process may not act any more.
    pub async fn confirm(&self, chain: &ServiceName, after: Seq) -> Result<(), Ended> {
        loop {
            if self.lock().is_none() {
                return Err(Ended::Known);
            }
            if self.lasts() {
                return Ok(());
            }
            let asked = Moment::now(&self.runtime);
            match self.rivals.overtaken(chain, after).await {
                Ok(Some(seq)) => return Err(Ended::Overtaken(seq)),
                Ok(None) if asked.age(&self.runtime) <= FRESH => return Ok(()),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%chain, error = %cause::in_full(&error), "it cannot be told whether this replica still leads: nothing is done until it can");
                }
            }
            let again = self.runtime.now().after(AGAIN);
            self.runtime.sleep_until(again).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        sync::atomic::{AtomicI64, Ordering},
    };

    use async_trait::async_trait;
    use futures::future::BoxFuture;

    use super::*;
    use crate::port::{journal::JournalError, runtime::Runtime};

    /// A clock that whoever sleeps sets forward.
    #[derive(Default)]
    struct Clock(Arc<AtomicI64>);

    impl Runtime for Clock {
        fn now(&self) -> Time {
            Time::from_millis(self.0.load(Ordering::SeqCst))
        }

        fn sleep_until(&self, at: Time) -> BoxFuture<'static, ()> {
            self.0.fetch_max(at.as_millis(), Ordering::SeqCst);
            Box::pin(std::future::ready(()))
        }

        fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) {
            drop(task);
        }
    }

    /// How long an answer takes, and what it is.
    type Answer = (i64, Result<Option<Seq>, ()>);

    /// What the journal says, one answer after the other.
    struct Answers {
        clock: Arc<AtomicI64>,
        left: Mutex<VecDeque<Answer>>,
    }

    #[async_trait]
    impl Rivals for Answers {
        async fn overtaken(
            &self,
            chain: &ServiceName,
            _after: Seq,
        ) -> Result<Option<Seq>, JournalError> {
            let (took, answer) = self.left.lock().unwrap().pop_front().unwrap();
            self.clock.fetch_add(took, Ordering::SeqCst);
            answer.map_err(|()| JournalError::Locked {
                place: chain.to_string(),
            })
        }
    }

    fn tenure(answers: &[Answer]) -> (Tenure, Arc<AtomicI64>) {
        let clock = Arc::new(AtomicI64::new(0));
        let runtime: SharedRuntime = Arc::new(Clock(clock.clone()));
        let rivals = Arc::new(Answers {
            clock: clock.clone(),
            left: Mutex::new(answers.iter().copied().collect()),
        });
        let won = Moment::now(&runtime);
        (
            Tenure::new(won, Span::from_secs(10), rivals, runtime),
            clock,
        )
    }

    fn confirm(tenure: &Tenure) -> Result<(), Ended> {
        futures::executor::block_on(tenure.confirm(&"shop".into(), Seq(7)))
    }

    #[test]
    fn within_its_time_nobody_is_asked() {
        let (tenure, clock) = tenure(&[]);
        clock.store(9_999, Ordering::SeqCst);
        assert!(tenure.lasts());
        assert_eq!(confirm(&tenure), Ok(()));
    }

    #[test]
    fn after_its_time_the_journal_says_whether_somebody_else_leads() {
        let (tenure, clock) = tenure(&[(0, Ok(None)), (0, Ok(Some(Seq(8))))]);
        clock.store(10_000, Ordering::SeqCst);
        assert!(!tenure.lasts());
        assert_eq!(confirm(&tenure), Ok(()));
        assert_eq!(confirm(&tenure), Err(Ended::Overtaken(Seq(8))));
    }

    #[test]
    fn nothing_is_concluded_from_silence_or_from_an_answer_that_was_slept_through() {
        let (tenure, clock) = tenure(&[(0, Err(())), (3_000, Ok(None)), (0, Ok(Some(Seq(8))))]);
        clock.store(10_000, Ordering::SeqCst);
        assert_eq!(confirm(&tenure), Err(Ended::Overtaken(Seq(8))));
    }

    #[test]
    fn a_renewal_counts_from_when_it_was_asked_for_and_none_counts_after_the_end() {
        let (tenure, clock) = tenure(&[]);
        clock.store(8_000, Ordering::SeqCst);
        let asked = Moment::now(&tenure.runtime);
        clock.store(17_000, Ordering::SeqCst);
        tenure.renew(asked);
        assert!(tenure.lasts());
        clock.store(18_000, Ordering::SeqCst);
        assert!(!tenure.lasts());
        tenure.end();
        tenure.renew(Moment::now(&tenure.runtime));
        assert!(!tenure.lasts());
        assert_eq!(confirm(&tenure), Err(Ended::Known));
    }
}
