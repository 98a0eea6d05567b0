//! How far a look has come, so that a time-out can say what it was waiting for.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::fault::Fault;
use crate::model::{
    observation::{HttpTimes, Sight},
    span::Span,
    time::Time,
};

/// A time-out that fires this much late says that this host itself stood still (a paused virtual machine, a
/// starved process): the answer may have been there in time.
const STALL: Duration = Duration::from_millis(500);

/// What a look is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Resolving,
    Connecting,
    ReachingProxy,
    ProxyConnecting,
    Handshaking,
    Waiting,
    Reading,
    AwaitingBanner,
    AwaitingServer,
}

impl Stage {
    /// What silence in this stage says.
    pub(super) fn silence(self) -> Sight {
        match self {
            Self::Resolving | Self::ReachingProxy => Sight::Unknown,
            Self::Connecting
            | Self::ProxyConnecting
            | Self::Handshaking
            | Self::Waiting
            | Self::Reading
            | Self::AwaitingBanner
            | Self::AwaitingServer => Sight::Down,
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolving => "this host's resolver is silent",
            Self::Connecting => "connecting",
            Self::ReachingProxy => "the proxy is silent",
            Self::ProxyConnecting => "the proxy is still connecting",
            Self::Handshaking => "connected, TLS handshake begun",
            Self::Waiting => "connected, request sent",
            Self::Reading => "connected, answer begun",
            Self::AwaitingBanner => "connected, it has not said what is expected",
            Self::AwaitingServer => "question sent",
        })
    }
}

/// What is known of a look under way.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) stage: Stage,
    pub(super) times: HttpTimes,
    pub(super) certificate_expires: Option<Time>,
}

/// A look under way.
#[derive(Debug)]
pub(super) struct Progress {
    started: Instant,
    known: Mutex<Known>,
}

impl Progress {
    pub(super) fn start() -> Self {
        Self {
            started: Instant::now(),
            known: Mutex::new(Known {
                stage: Stage::Resolving,
                times: HttpTimes::default(),
                certificate_expires: None,
            }),
        }
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(&self, stage: Stage) {
        self.known().stage = stage;
    }

    pub(super) fn elapsed(&self) -> Span {
        Span::from(self.started.elapsed())
    }

    /// Runs `work` for at most `timeout` since the start.
    pub(super) async fn within<T>(
        &self,
        timeout: Span,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let deadline = tokio::time::Instant::from_std(self.started + timeout.to_std());
        let done = tokio::time::timeout_at(deadline, work).await;
        let done = done.unwrap_or_else(|_| {
            Err(Fault::Silent {
                timeout,
                stage: self.known().stage,
            })
        });
        match (done, self.stalled(timeout)) {
            (Err(fault), Some(stalled)) if fault.sight() == Sight::Down => Err(stalled),
            (done, _) => done,
        }
    }

    /// That this host stood still, where a look of at most `timeout` took far longer: the other side may have answered
    /// in time, and have hung up since.
    pub(super) fn stalled(&self, timeout: Span) -> Option<Fault> {
        let took = self.started.elapsed();
        (took > timeout.to_std() + STALL).then(|| Fault::Stalled(Span::from(took)))
    }
}

/// Whole microseconds since `begin`.
pub(super) fn micros(begin: Instant) -> u64 {
    u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn silence_names_what_was_awaited() {
        let progress = Progress::start();
        progress.enter(Stage::Waiting);
        let fault = progress
            .within(
                Span::from_millis(20),
                std::future::pending::<Result<(), _>>(),
            )
            .await
            .unwrap_err();
        assert_eq!(fault.sight(), Sight::Down);
        assert_eq!(
            fault.detail(),
            "no answer within 20 ms (connected, request sent)"
        );
    }

    #[tokio::test]
    async fn a_host_that_stood_still_accuses_nobody() {
        let progress = Progress {
            started: Instant::now().checked_sub(Duration::from_secs(3)).unwrap(),
            ..Progress::start()
        };
        progress.enter(Stage::Waiting);
        let fault = progress
            .within(Span::from_secs(1), std::future::pending::<Result<(), _>>())
            .await
            .unwrap_err();
        assert_eq!(fault.sight(), Sight::Unknown);
        let fault = progress
            .within(Span::from_secs(1), async { Err::<(), _>(Fault::Closed) })
            .await
            .unwrap_err();
        assert_eq!(fault.sight(), Sight::Unknown);
    }
}
