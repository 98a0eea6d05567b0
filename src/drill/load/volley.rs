//! A load that does not wait for answers: each request is due at its own moment, and its time counts from there.

use std::{future::Future, time::Duration};

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until};

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub struct Volley {
    /// Requests a second.
    pub rate: f64,
    /// For how long.
    pub lasts: Duration,
    /// Requests that may be under way at a time.
    pub at_once: usize,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests that were due.
    pub requests: u64,
    /// Those that failed, or were not sent.
    pub errors: u64,
    /// Those that were not sent, since too many were under way.
    pub held_back: u64,
    /// The first failure.
    pub first_error: Option<String>,
    /// Microseconds of each that went well.
    took: Vec<u32>,
}

impl Volley {
    /// Sends it, and waits for the last answer.
    pub async fn send<F>(&self, shoot: impl Fn() -> F) -> Tally
    where
        F: Future<Output = Result<(), String>>,
    {
        let begun = Instant::now();
        let mut tally = Tally::default();
        let mut under_way = FuturesUnordered::new();
        let mut due = begun;
        let end = begun + self.lasts;
        loop {
            tokio::select! {
                Some((since, done)) = under_way.next(), if !under_way.is_empty() => tally.note(since, done),
                () = sleep_until(due), if due < end => {
                    // The timer is coarse: everything that is due by now is sent.
                    while due <= Instant::now() && due < end {
                        let since = due;
                        tally.requests += 1;
                        if under_way.len() < self.at_once {
                            under_way.push(shoot().map(move |done| (since, done)));
                        } else {
                            tally.held_back += 1;
                            tally.errors += 1;
                        }
                        due = begun + self.moment(tally.requests);
                    }
                }
                else => break,
            }
        }
        tally.took.sort_unstable();
        tally
    }

    /// When a request is due, from the beginning.
    #[expect(
        clippy::cast_precision_loss,
        reason = "so many requests are never sent"
    )]
    fn moment(&self, number: u64) -> Duration {
        Duration::from_secs_f64(number as f64 / self.rate)
    }
}

impl Tally {
    fn note(&mut self, since: Instant, done: Result<(), String>) {
        match done {
            Ok(()) => {
                let took = since.elapsed().as_micros();
                self.took.push(u32::try_from(took).unwrap_or(u32::MAX));
            }
            Err(why) => {
                self.errors += 1;
                self.first_error.get_or_insert(why);
            }
        }
    }

    /// The time within which so many of a hundred answers came; none where nothing went well.
    pub fn percentile(&self, percent: usize) -> Option<Duration> {
        let rank = (self.took.len() * percent).div_ceil(100).max(1);
        let micros = self.took.get(rank - 1)?;
        Some(Duration::from_micros(u64::from(*micros)))
    }

    /// Of a hundred requests, so many failed.
    #[expect(
        clippy::cast_precision_loss,
        reason = "so many requests are never sent"
    )]
    pub fn failed_percent(&self) -> f64 {
        if self.requests == 0 {
            return 0.0;
        }
        self.errors as f64 * 100.0 / self.requests as f64
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const VOLLEY: Volley = Volley {
        rate: 100.0,
        lasts: Duration::from_secs(1),
        at_once: 5,
    };

    #[tokio::test]
    async fn the_rate_is_kept_whatever_the_answers_take() {
        // Room for what comes due while a busy machine lets this process wait.
        let volley = Volley {
            at_once: 100,
            ..VOLLEY
        };
        let tally = volley
            .send(|| async {
                tokio::time::sleep(Duration::from_millis(30)).await;
                Ok(())
            })
            .await;
        assert_eq!((tally.requests, tally.errors), (100, 0));
        let p99 = tally.percentile(99).unwrap();
        // The machine may be busy: what counts is that no answer was waited for.
        assert!((30..500).contains(&p99.as_millis()), "{p99:?}");
    }

    #[tokio::test]
    async fn what_cannot_be_sent_is_an_error_and_not_forgotten() {
        let tally = VOLLEY
            .send(|| async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Ok(())
            })
            .await;
        // Five at a time, each for 100 ms and more: at most 55 are sent in a second.
        assert_eq!(tally.requests, 100);
        assert!((45..100).contains(&tally.held_back), "{}", tally.held_back);
        assert_eq!(tally.errors, tally.held_back);
        assert!(tally.failed_percent() >= 45.0);
    }

    #[tokio::test]
    async fn failures_are_counted_and_the_first_is_told() {
        let sent = AtomicU64::new(0);
        let tally = VOLLEY
            .send(|| {
                let n = sent.fetch_add(1, Ordering::Relaxed);
                async move {
                    if n % 4 == 3 {
                        Err(format!("no {n}"))
                    } else {
                        Ok(())
                    }
                }
            })
            .await;
        assert_eq!((tally.requests, tally.errors), (100, 25));
        assert_eq!(tally.first_error.as_deref(), Some("no 3"));
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let tally = Tally {
            took: (1..=200).map(|n| n * 1000).collect(),
            ..Tally::default()
        };
        let at = |percent| tally.percentile(percent).unwrap().as_millis();
        assert_eq!((at(50), at(95), at(99), at(100)), (100, 190, 198, 200));
        assert_eq!(Tally::default().percentile(99), None);
    }
}
