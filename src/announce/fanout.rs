//! Drives one mailing to its end: every recipient is told once, or the ledger says why not.
//!
//! A recipient is marked as being sent to before anything leaves, and with the outcome after. Dropping the future at
//! any await loses nothing: the next run takes up what was queued, and settles what was under way.

use std::{collections::BTreeMap, error::Error};

use futures::{
    StreamExt,
    future::{Either, select},
    stream::FuturesUnordered,
};
use sha2::{Digest, Sha256};

use crate::{
    model::{announcement::Tally, id::IdempotencyKey, span::Span, time::Time},
    port::{
        channel::{Channel, Compiled, Recipient, RecipientsError, Sent},
        ledger::{Delivery, Ledger, LedgerError, Mailing},
        runtime::Runtime,
    },
};

/// After so many refusals of the whole channel with nothing accepted between them, people are to know: with ordinary
/// patience that is about half a minute.
const STALLED: u32 = 4;

/// How patient a fan-out is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// First wait before a recipient is tried again; it doubles each time.
    pub first: Span,
    /// Longest wait between two tries, unless the other side wants more.
    pub longest: Span,
    /// How long one sending may take before its outcome counts as unknown.
    pub sending: Span,
    /// After this, counted from the announcement, what is left is given up.
    pub total: Span,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            first: Span::from_secs(5),
            longest: Span::from_secs(10 * 60),
            sending: Span::from_secs(5 * 60),
            total: Span::from_secs(24 * 3600),
        }
    }
}

impl Patience {
    /// For pages to the team: one that is late is of no use, since the next is on its way.
    #[must_use]
    pub fn page() -> Self {
        Self {
            first: Span::from_secs(2),
            longest: Span::from_secs(60),
            sending: Span::from_secs(60),
            total: Span::from_secs(15 * 60),
        }
    }
}

/// What a mailing came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// How many recipients got what. Some are still queued where the channel is broken.
    pub tally: Tally,
    /// Why the channel cannot send at all: people are to be paged.
    pub broken: Option<String>,
    /// Why single recipients failed or are unknown, and how many in this run; no addresses.
    pub problems: BTreeMap<String, u64>,
}

/// Why a mailing could not be driven.
#[derive(Debug, thiserror::Error)]
pub enum FanoutError {
    /// There is no list.
    #[error("nobody can be told")]
    Recipients(#[source] RecipientsError),
    /// The ledger failed; a later run goes on where this one stopped.
    #[error("who was told what cannot be recorded")]
    Ledger(#[source] LedgerError),
}

/// One mailing and everything it needs.
pub struct Fanout<'a> {
    /// Time.
    pub runtime: &'a dyn Runtime,
    /// Who was told what.
    pub ledger: &'a dyn Ledger,
    /// Where it goes out.
    pub channel: &'a dyn Channel,
    /// Its name in the ledger.
    pub mailing: &'a Mailing,
    /// How patient to be.
    pub patience: Patience,
    /// When the message was made: patience counts from here.
    pub since: Time,
    /// Told why, once, when the whole channel has been refusing for a while; sending is still tried.
    pub stalled: Box<dyn Fn(&str) + Send + Sync + 'a>,
}

/// A recipient that is not settled yet.
struct Job {
    to: Recipient,
    key: IdempotencyKey,
    tries: u32,
    /// An earlier sending has an unknown outcome.
    unsure: bool,
}

/// Where one try has led.
enum Told {
    /// Nothing more to do.
    Settled,
    /// The other side has it.
    Accepted,
    /// Settled, but not as one would wish.
    Problem(String),
    /// To be tried again.
    Again {
        job: Job,
        after: Span,
        everyone: bool,
        reason: String,
    },
    /// The channel cannot send at all.
    Broken(String),
}

/// Who waits, and for what.
#[derive(Default)]
struct Queue {
    waiting: BTreeMap<(Time, Recipient), Job>,
    /// Nobody sends before this.
    pause: Time,
    /// How often the whole channel was slowed down since something was accepted.
    slowed: u32,
    /// Whether a stall was told.
    stalled: bool,
    /// Nothing new is begun.
    stopped: bool,
}

enum Next {
    Send(Job),
    Wait(Time),
    Done,
}

impl Fanout<'_> {
    /// Sends `message` to everybody who has not got it yet. What keeps it from being driven at all counts as broken.
    pub async fn drive(&self, message: &Compiled) -> Outcome {
        match self.run(message).await {
            Ok(outcome) => outcome,
            Err(e) => Outcome {
                tally: self.ledger.tally(self.mailing).await.unwrap_or_default(),
                broken: Some(match e.source() {
                    Some(cause) => format!("{e}: {cause}"),
                    None => e.to_string(),
                }),
                problems: BTreeMap::new(),
            },
        }
    }

    /// Sends `message` to everybody who has not got it yet. Ends when every recipient is settled, or the channel is
    /// broken.
    ///
    /// # Errors
    /// Where there is no list of recipients, or the ledger fails.
    pub async fn run(&self, message: &Compiled) -> Result<Outcome, FanoutError> {
        let mut queue = self.open().await?;
        let until = self.since.after(self.patience.total);
        let (mut outcome, mut failed) = (Outcome::default(), None);
        let mut flying = FuturesUnordered::new();
        loop {
            let next = queue.next(self.runtime.now(), until);
            let told = match next {
                Next::Send(job) if flying.len() < self.channel.workers().max(1) => {
                    flying.push(self.tell(job, message, until));
                    continue;
                }
                Next::Send(job) => {
                    queue.wait(Time::default(), job);
                    flying.next().await
                }
                Next::Done => flying.next().await,
                Next::Wait(at) if flying.is_empty() => {
                    self.runtime.sleep_until(at).await;
                    continue;
                }
                Next::Wait(at) => match select(flying.next(), self.runtime.sleep_until(at)).await {
                    Either::Left((told, _)) => told,
                    Either::Right(_) => continue,
                },
            };
            match told {
                None => break,
                Some(Ok(told)) => self.take_in(told, &mut queue, &mut outcome),
                Some(Err(e)) => {
                    queue.stopped = true;
                    failed = failed.or(Some(e));
                }
            }
        }
        if let Some(e) = failed {
            return Err(FanoutError::Ledger(e));
        }
        let tally = self.ledger.tally(self.mailing).await;
        outcome.tally = tally.map_err(FanoutError::Ledger)?;
        Ok(outcome)
    }

    /// Enqueues who is to be told, and lists who is not settled. A mailing that has begun goes on without its list.
    async fn open(&self) -> Result<Queue, FanoutError> {
        match self.channel.recipients().await {
            Ok(to) => self
                .ledger
                .enqueue(self.mailing, &to, self.runtime.now())
                .await
                .map_err(FanoutError::Ledger)?,
            Err(e) => {
                let tally = self.ledger.tally(self.mailing).await;
                if tally.map_err(FanoutError::Ledger)? == Tally::default() {
                    return Err(FanoutError::Recipients(e));
                }
            }
        }
        let interrupted = self.ledger.interrupted(self.mailing).await;
        let interrupted = interrupted.map_err(FanoutError::Ledger)?;
        let most = usize::try_from(u32::MAX).unwrap_or(usize::MAX);
        let queued = self.ledger.queued(self.mailing, most).await;
        let queued = queued.map_err(FanoutError::Ledger)?;
        let mut queue = Queue::default();
        for (to, unsure) in queued
            .into_iter()
            .map(|to| (to, false))
            .chain(interrupted.into_iter().map(|to| (to, true)))
        {
            let job = Job {
                key: self.mailing.key(&to),
                to,
                tries: 0,
                unsure,
            };
            queue.wait(Time::default(), job);
        }
        Ok(queue)
    }

    /// One try, from the mark before it to the mark after it.
    async fn tell(&self, job: Job, message: &Compiled, until: Time) -> Result<Told, LedgerError> {
        if self.runtime.now() >= until {
            return self.give_up(&job).await;
        }
        let service = &self.mailing.service;
        if !job.unsure && self.ledger.suppressed(service, &job.to).await? {
            self.mark(&job, Delivery::Suppressed, "").await?;
            return Ok(Told::Settled);
        }
        let sent = if job.unsure {
            self.in_time(self.channel.resume(message, &job.to, &job.key))
                .await
                .map_or_else(
                    || self.unanswered(),
                    |told| {
                        told.unwrap_or_else(|| Sent::Unknown {
                            reason: "the controller stopped before the answer came".to_owned(),
                        })
                    },
                )
        } else {
            self.mark(&job, Delivery::Sending, "").await?;
            self.in_time(self.channel.send(message, &job.to, &job.key))
                .await
                .unwrap_or_else(|| self.unanswered())
        };
        self.settle(job, sent).await
    }

    fn unanswered(&self) -> Sent {
        Sent::Unknown {
            reason: format!("no answer within {}", self.patience.sending),
        }
    }

    /// What a try came to; `None` where it came to nothing in time.
    async fn in_time<T>(&self, trying: impl Future<Output = T>) -> Option<T> {
        let limit = self.runtime.now().after(self.patience.sending);
        match select(Box::pin(trying), self.runtime.sleep_until(limit)).await {
            Either::Left((told, _)) => Some(told),
            Either::Right(_) => None,
        }
    }

    async fn settle(&self, job: Job, sent: Sent) -> Result<Told, LedgerError> {
        match sent {
            Sent::Accepted { reference } => {
                let reference = reference.unwrap_or_default();
                self.mark(&job, Delivery::Sent, &reference).await?;
                Ok(Told::Accepted)
            }
            Sent::Unknown { reason } => {
                self.mark(&job, Delivery::Unknown, &reason).await?;
                Ok(Told::Problem(reason))
            }
            Sent::Unsure { after, reason } => Ok(Told::Again {
                job: Job {
                    unsure: true,
                    ..job
                },
                after,
                everyone: false,
                reason,
            }),
            Sent::Later {
                after,
                everyone,
                reason,
            } => {
                if !job.unsure {
                    self.mark(&job, Delivery::Queued, &reason).await?;
                }
                Ok(Told::Again {
                    job,
                    after,
                    everyone,
                    reason,
                })
            }
            Sent::Refused { reason, suppress } => {
                if suppress {
                    let (service, now) = (&self.mailing.service, self.runtime.now());
                    self.ledger.suppress(service, &job.to, &reason, now).await?;
                }
                self.mark(&job, Delivery::Failed, &reason).await?;
                Ok(Told::Problem(reason))
            }
            Sent::Broken { reason } => {
                if !job.unsure {
                    self.mark(&job, Delivery::Queued, &reason).await?;
                }
                Ok(Told::Broken(reason))
            }
        }
    }

    async fn give_up(&self, job: &Job) -> Result<Told, LedgerError> {
        let reason = format!("gave up after {}", self.patience.total);
        let delivery = if job.unsure {
            Delivery::Unknown
        } else {
            Delivery::Failed
        };
        self.mark(job, delivery, &reason).await?;
        Ok(Told::Problem(reason))
    }

    async fn mark(&self, job: &Job, delivery: Delivery, why: &str) -> Result<(), LedgerError> {
        let mark = (job.to.clone(), delivery, why.to_owned());
        self.ledger
            .mark(self.mailing, &[mark], self.runtime.now())
            .await
    }

    fn take_in(&self, told: Told, queue: &mut Queue, outcome: &mut Outcome) {
        let now = self.runtime.now();
        match told {
            Told::Settled => {}
            Told::Accepted => queue.slowed = 0,
            Told::Problem(reason) => *outcome.problems.entry(reason).or_default() += 1,
            Told::Broken(reason) => {
                queue.stopped = true;
                outcome.broken.get_or_insert(reason);
            }
            Told::Again {
                mut job,
                after,
                everyone,
                reason,
            } => {
                if everyone {
                    // Sendings that hit the same limit at once count as one.
                    let wait = self.back_off(queue.slowed).max(after);
                    queue.slowed += u32::from(now >= queue.pause);
                    queue.pause = queue.pause.max(now.after(wait));
                    if queue.slowed >= STALLED && !queue.stalled {
                        queue.stalled = true;
                        (self.stalled)(&reason);
                    }
                }
                let wait = self.back_off(job.tries).max(after);
                let wait = wait.saturating_add(jitter(wait, &job.key, job.tries));
                job.tries += 1;
                queue.wait(now.after(wait), job);
            }
        }
    }

    fn back_off(&self, tries: u32) -> Span {
        self.patience
            .first
            .saturating_mul(1 << tries.min(20))
            .min(self.patience.longest)
    }
}

impl Queue {
    fn wait(&mut self, due: Time, job: Job) {
        self.waiting.insert((due, job.to.clone()), job);
    }

    fn next(&mut self, now: Time, until: Time) -> Next {
        if self.stopped {
            return Next::Done;
        }
        let Some(entry) = self.waiting.first_entry() else {
            return Next::Done;
        };
        let due = entry.key().0.max(self.pause).min(until);
        if due > now {
            return Next::Wait(due);
        }
        Next::Send(entry.remove())
    }
}

/// Up to a quarter of the wait, the same for the same key and try: spreads the recipients without randomness.
fn jitter(wait: Span, key: &IdempotencyKey, tries: u32) -> Span {
    let digest = Sha256::digest(format!("{key}.{tries}").as_bytes());
    let part = u64::from(digest[0]);
    Span::from_millis(wait.as_millis().min(3_600_000) / 4 * part / 255)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn jitter_is_at_most_a_quarter_and_differs() {
        let key = |n: u32| IdempotencyKey::new(format!("shop-i7.mail.{n}"));
        let wait = Span::from_secs(60);
        let spread: BTreeSet<Span> = (0..50).map(|n| jitter(wait, &key(n), 0)).collect();
        assert!(spread.len() > 25);
        assert!(spread.iter().all(|j| *j <= Span::from_secs(15)));
        assert_eq!(jitter(wait, &key(1), 3), jitter(wait, &key(1), 3));
    }
}
