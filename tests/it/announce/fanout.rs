//! The fan-out: nobody is told twice, nobody is forgotten, whatever dies and whenever.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use failover::{
    announce::fanout::{Fanout, Outcome, Patience},
    driver::clock::HostRuntime,
    model::{
        announcement::Tally,
        check::CheckItem,
        id::{IdempotencyKey, ServiceName},
        span::Span,
        time::Time,
    },
    port::{
        channel::{Channel, Compiled, Notice, Recipient, RecipientsError, Sent},
        ledger::{Delivery, Ledger, LedgerError, Mailing},
        runtime::Runtime,
    },
};
use tokio::sync::Notify;

use super::{QUICK, ledger, mailing, to};
use crate::stand::virtual_time::{VirtualRuntime, VirtualTime};

/// The other side: whom it told, with which key.
#[derive(Default)]
struct Crowd {
    told: Mutex<Vec<(Recipient, IdempotencyKey)>>,
    /// What is answered to somebody in place of taking the message.
    answers: Mutex<BTreeMap<String, VecDeque<Sent>>>,
    people: Vec<&'static str>,
    workers: usize,
    /// Whether a repeat is recognised by its key.
    recognises: bool,
    /// Where the process may die.
    death: Option<Arc<Death>>,
    /// Whoever is told this never answers.
    mute: Option<&'static str>,
    /// Whether it is silent when it is asked what became of something.
    forgetful: bool,
}

impl Crowd {
    fn of(people: &[&'static str]) -> Self {
        Self {
            people: people.to_vec(),
            workers: 2,
            ..Self::default()
        }
    }

    fn answer(&self, to: &str, with: impl IntoIterator<Item = Sent>) {
        let mut answers = self.answers.lock().unwrap();
        answers.entry(to.to_owned()).or_default().extend(with);
    }

    /// How often each was told.
    fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for (to, _) in &*self.told.lock().unwrap() {
            *counts.entry(to.0.clone()).or_default() += 1;
        }
        counts
    }

    async fn take(&self, to: &Recipient, key: &IdempotencyKey) -> Sent {
        pass(self.death.as_ref()).await;
        let answer = self
            .answers
            .lock()
            .unwrap()
            .get_mut(&to.0)
            .and_then(VecDeque::pop_front);
        let sent = answer.unwrap_or_else(|| {
            let mut told = self.told.lock().unwrap();
            if !(self.recognises && told.iter().any(|(_, k)| k == key)) {
                told.push((to.clone(), key.clone()));
            }
            Sent::Accepted { reference: None }
        });
        if self.mute == Some(to.0.as_str()) {
            std::future::pending::<()>().await;
        }
        pass(self.death.as_ref()).await;
        sent
    }
}

#[async_trait]
impl Channel for Crowd {
    fn compile(&self, _notice: &Notice) -> Compiled {
        Compiled::default()
    }

    async fn recipients(&self) -> Result<Vec<Recipient>, RecipientsError> {
        if self.people.is_empty() {
            return Err(RecipientsError {
                reason: "there is no list".to_owned(),
            });
        }
        Ok(self.people.iter().map(|p| to(p)).collect())
    }

    async fn send(&self, _message: &Compiled, to: &Recipient, key: &IdempotencyKey) -> Sent {
        self.take(to, key).await
    }

    async fn resume(
        &self,
        _message: &Compiled,
        to: &Recipient,
        key: &IdempotencyKey,
    ) -> Option<Sent> {
        if self.forgetful {
            std::future::pending::<()>().await;
        }
        if self.recognises {
            Some(self.take(to, key).await)
        } else {
            None
        }
    }

    fn workers(&self) -> usize {
        self.workers
    }

    async fn check(&self) -> Vec<CheckItem> {
        Vec::new()
    }
}

/// Lets so many points of a run pass, and then no more: the process is dead there.
struct Death {
    left: AtomicUsize,
    came: Notify,
}

impl Death {
    fn after(points: usize) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicUsize::new(points),
            came: Notify::new(),
        })
    }

    async fn pass(&self) {
        let left = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        if left.is_err() {
            self.came.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

async fn pass(death: Option<&Arc<Death>>) {
    if let Some(death) = death {
        death.pass().await;
    }
}

/// A ledger before and after each of whose writes the process may die.
struct Mortal<L> {
    inner: L,
    death: Option<Arc<Death>>,
}

#[async_trait]
impl<L: Ledger> Ledger for Mortal<L> {
    async fn enqueue(
        &self,
        mailing: &Mailing,
        to: &[Recipient],
        at: Time,
    ) -> Result<(), LedgerError> {
        pass(self.death.as_ref()).await;
        let done = self.inner.enqueue(mailing, to, at).await;
        pass(self.death.as_ref()).await;
        done
    }

    async fn queued(&self, mailing: &Mailing, most: usize) -> Result<Vec<Recipient>, LedgerError> {
        self.inner.queued(mailing, most).await
    }

    async fn interrupted(&self, mailing: &Mailing) -> Result<Vec<Recipient>, LedgerError> {
        self.inner.interrupted(mailing).await
    }

    async fn mark(
        &self,
        mailing: &Mailing,
        marks: &[(Recipient, Delivery, String)],
        at: Time,
    ) -> Result<(), LedgerError> {
        pass(self.death.as_ref()).await;
        let done = self.inner.mark(mailing, marks, at).await;
        pass(self.death.as_ref()).await;
        done
    }

    async fn tally(&self, mailing: &Mailing) -> Result<Tally, LedgerError> {
        self.inner.tally(mailing).await
    }

    async fn suppress(
        &self,
        service: &ServiceName,
        to: &Recipient,
        why: &str,
        at: Time,
    ) -> Result<(), LedgerError> {
        pass(self.death.as_ref()).await;
        let done = self.inner.suppress(service, to, why, at).await;
        pass(self.death.as_ref()).await;
        done
    }

    async fn suppressed(&self, service: &ServiceName, to: &Recipient) -> Result<bool, LedgerError> {
        self.inner.suppressed(service, to).await
    }
}

const PEOPLE: [&str; 5] = ["ann", "bob", "cy", "dan", "gone"];

/// One life of the controller: until the mailing is through, or it dies.
async fn live(
    crowd: &Crowd,
    folder: &std::path::Path,
    death: Option<Arc<Death>>,
) -> Option<Outcome> {
    let ledger = Mortal {
        inner: super::SqliteLedger::open(&folder.join("ledger.sqlite")).unwrap(),
        death: death.clone(),
    };
    let runtime = HostRuntime::new();
    let mailing = mailing("m1");
    let fanout = Fanout {
        runtime: &runtime,
        ledger: &ledger,
        channel: crowd,
        mailing: &mailing,
        patience: Patience {
            first: Span::from_millis(1),
            longest: Span::from_millis(2),
            ..QUICK
        },
        since: runtime.now(),
        stalled: Box::new(|_| {}),
    };
    let message = Compiled::default();
    let dead = async {
        match &death {
            Some(death) => death.came.notified().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        outcome = fanout.run(&message) => Some(outcome.unwrap()),
        () = dead => None,
    }
}

/// Kills the controller at every point of a mailing in turn, starts it again, and looks at who was told.
async fn killed_everywhere(recognises: bool) -> usize {
    for points in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let death = Death::after(points);
        let mut crowd = Crowd {
            recognises,
            death: Some(death.clone()),
            ..Crowd::of(&PEOPLE)
        };
        let after = Span::from_millis(1);
        let later = |everyone| Sent::Later {
            after,
            everyone,
            reason: "not now".to_owned(),
        };
        crowd.answer("bob", [later(true)]);
        crowd.answer("cy", [later(false)]);
        let refused = Sent::Refused {
            reason: "no such mailbox".to_owned(),
            suppress: true,
        };
        crowd.answer("gone", std::iter::repeat_n(refused, 10));
        if recognises {
            crowd.answer(
                "dan",
                [Sent::Unsure {
                    after,
                    reason: "no answer".to_owned(),
                }],
            );
        }
        let first = live(&crowd, folder.path(), Some(death)).await;
        crowd.death = None;
        let second = live(&crowd, folder.path(), None).await.unwrap();
        examine(&crowd, &second.tally, points);
        if first.is_some() {
            return points;
        }
    }
    unreachable!()
}

fn examine(crowd: &Crowd, tally: &Tally, points: usize) {
    let counts = crowd.counts();
    assert!(
        counts.values().all(|n| *n == 1),
        "killed at {points}: {counts:?}"
    );
    let told = u64::try_from(counts.len()).unwrap();
    let all = tally.sent + tally.unknown + tally.failed + tally.suppressed;
    assert_eq!((all, tally.queued), (5, 0), "killed at {points}: {tally:?}");
    // Whoever is recorded as told was told; who is not recorded so is recorded as unknown or refused.
    assert!(
        tally.sent <= told && told <= tally.sent + tally.unknown,
        "killed at {points}: {tally:?} {counts:?}"
    );
    assert!(tally.unknown <= 2, "killed at {points}: {tally:?}");
    if crowd.recognises {
        let refused = tally.failed + tally.suppressed;
        assert_eq!(
            (tally.sent, tally.unknown, refused),
            (4, 0, 1),
            "killed at {points}"
        );
    }
}

#[tokio::test]
async fn a_controller_that_dies_anywhere_tells_nobody_twice_and_forgets_nobody() {
    let points = killed_everywhere(false).await;
    println!("killed at {points} points");
    assert!(points > 40, "{points}");
}

#[tokio::test]
async fn where_repeats_are_recognised_everybody_is_told_whenever_it_dies() {
    let points = killed_everywhere(true).await;
    println!("killed at {points} points");
    assert!(points > 40, "{points}");
}

/// A ledger in memory, for runs under virtual time.
#[derive(Default)]
struct Memory {
    rows: Mutex<BTreeMap<Recipient, Delivery>>,
    suppressed: Mutex<BTreeSet<Recipient>>,
}

impl Memory {
    fn at(&self, wanted: Delivery) -> Vec<Recipient> {
        let rows = self.rows.lock().unwrap();
        rows.iter()
            .filter(|(_, d)| **d == wanted)
            .map(|(r, _)| r.clone())
            .collect()
    }
}

#[async_trait]
impl Ledger for Memory {
    async fn enqueue(
        &self,
        _mailing: &Mailing,
        to: &[Recipient],
        _at: Time,
    ) -> Result<(), LedgerError> {
        let mut rows = self.rows.lock().unwrap();
        for to in to {
            rows.entry(to.clone()).or_insert(Delivery::Queued);
        }
        Ok(())
    }

    async fn queued(&self, _mailing: &Mailing, most: usize) -> Result<Vec<Recipient>, LedgerError> {
        Ok(self.at(Delivery::Queued).into_iter().take(most).collect())
    }

    async fn interrupted(&self, _mailing: &Mailing) -> Result<Vec<Recipient>, LedgerError> {
        Ok(self.at(Delivery::Sending))
    }

    async fn mark(
        &self,
        _mailing: &Mailing,
        marks: &[(Recipient, Delivery, String)],
        _at: Time,
    ) -> Result<(), LedgerError> {
        let mut rows = self.rows.lock().unwrap();
        rows.extend(marks.iter().map(|(r, d, _)| (r.clone(), *d)));
        Ok(())
    }

    async fn tally(&self, _mailing: &Mailing) -> Result<Tally, LedgerError> {
        let count = |d| u64::try_from(self.at(d).len()).unwrap();
        Ok(Tally {
            queued: count(Delivery::Queued) + count(Delivery::Sending),
            sent: count(Delivery::Sent),
            unknown: count(Delivery::Unknown),
            failed: count(Delivery::Failed),
            suppressed: count(Delivery::Suppressed),
        })
    }

    async fn suppress(
        &self,
        _service: &ServiceName,
        to: &Recipient,
        _why: &str,
        _at: Time,
    ) -> Result<(), LedgerError> {
        self.suppressed.lock().unwrap().insert(to.clone());
        Ok(())
    }

    async fn suppressed(
        &self,
        _service: &ServiceName,
        to: &Recipient,
    ) -> Result<bool, LedgerError> {
        Ok(self.suppressed.lock().unwrap().contains(to))
    }
}

/// A mailing under virtual time.
struct Virtual {
    time: Arc<VirtualTime>,
    outcome: Arc<Mutex<Option<Outcome>>>,
    crowd: Arc<Crowd>,
    ledger: Arc<Memory>,
    stalls: Arc<Mutex<Vec<String>>>,
}

fn begin(crowd: Crowd) -> Virtual {
    let time = VirtualTime::at(Time::parse("2026-11-21T14:00:00Z").unwrap());
    let begun = Virtual {
        time: time.clone(),
        outcome: Arc::default(),
        crowd: Arc::new(crowd),
        ledger: Arc::default(),
        stalls: Arc::default(),
    };
    let (outcome, crowd, ledger, stalls) = (
        begun.outcome.clone(),
        begun.crowd.clone(),
        begun.ledger.clone(),
        begun.stalls.clone(),
    );
    let runtime = Arc::new(VirtualRuntime(time));
    let task = {
        let runtime = runtime.clone();
        async move {
            let mailing = mailing("m1");
            let fanout = Fanout {
                runtime: &*runtime,
                ledger: &*ledger,
                channel: &*crowd,
                mailing: &mailing,
                patience: Patience::default(),
                since: runtime.now(),
                stalled: Box::new(|reason| stalls.lock().unwrap().push(reason.to_owned())),
            };
            *outcome.lock().unwrap() = Some(fanout.run(&Compiled::default()).await.unwrap());
        }
    };
    runtime.spawn("fan-out", Box::pin(task));
    begun
}

impl Virtual {
    fn outcome(&self) -> Option<Outcome> {
        self.outcome.lock().unwrap().clone()
    }
}

fn later(seconds: u64, everyone: bool) -> Sent {
    Sent::Later {
        after: Span::from_secs(seconds),
        everyone,
        reason: "not now".to_owned(),
    }
}

#[test]
fn when_everybody_has_to_wait_nobody_is_told_before() {
    let crowd = Crowd {
        workers: 1,
        ..Crowd::of(&["ann", "bob", "cy"])
    };
    crowd.answer("bob", [later(100, true)]);
    let run = begin(crowd);
    run.time.pass(Span::from_secs(99));
    assert_eq!(run.crowd.counts().len(), 1);
    run.time.pass(Span::from_secs(30));
    assert_eq!(run.crowd.counts().len(), 3);
    assert_eq!(run.outcome().unwrap().tally.sent, 3);
}

#[test]
fn one_who_has_to_wait_holds_nobody_up() {
    let crowd = Crowd {
        workers: 1,
        ..Crowd::of(&["ann", "bob", "cy"])
    };
    crowd.answer("ann", [later(100, false)]);
    let run = begin(crowd);
    run.time.pass(Span::from_secs(1));
    assert_eq!(run.crowd.counts().keys().collect::<Vec<_>>(), ["bob", "cy"]);
    assert_eq!(run.outcome(), None);
    run.time.pass(Span::from_secs(130));
    assert_eq!(run.outcome().unwrap().tally.sent, 3);
}

#[test]
fn one_that_never_answers_is_unknown_and_holds_nobody_up() {
    let run = begin(Crowd {
        mute: Some("bob"),
        ..Crowd::of(&["ann", "bob", "cy", "dan"])
    });
    run.time.pass(Span::from_secs(1));
    assert_eq!(run.crowd.counts().len(), 4);
    run.time.pass(Span::from_secs(400));
    let outcome = run.outcome().unwrap();
    assert_eq!((outcome.tally.sent, outcome.tally.unknown), (3, 1));
    assert_eq!(
        outcome.problems.into_keys().collect::<Vec<_>>(),
        ["no answer within 5m"]
    );
}

#[test]
fn one_that_cannot_say_what_became_of_it_blames_no_crash() {
    let crowd = Crowd {
        forgetful: true,
        ..Crowd::of(&["ann"])
    };
    let lost = Sent::Unsure {
        after: Span::from_secs(1),
        reason: "it hung up".to_owned(),
    };
    crowd.answer("ann", [lost]);
    let run = begin(crowd);
    run.time.pass(Span::from_secs(400));
    assert_eq!(
        run.outcome()
            .unwrap()
            .problems
            .into_keys()
            .collect::<Vec<_>>(),
        ["no answer within 5m"]
    );
}

#[test]
fn a_broken_channel_stops_at_once_and_keeps_the_rest_queued() {
    let crowd = Crowd {
        workers: 1,
        ..Crowd::of(&["ann", "bob", "cy"])
    };
    crowd.answer(
        "bob",
        [Sent::Broken {
            reason: "no credit".to_owned(),
        }],
    );
    let run = begin(crowd);
    run.time.pass(Span::from_secs(1));
    let outcome = run.outcome().unwrap();
    assert_eq!(outcome.broken.as_deref(), Some("no credit"));
    assert_eq!((outcome.tally.sent, outcome.tally.queued), (1, 2));
    assert_eq!(run.crowd.counts().len(), 1);
}

#[test]
fn what_cannot_be_told_in_a_day_is_given_up() {
    let crowd = Crowd::of(&["ann", "bob"]);
    crowd.answer("ann", std::iter::repeat_n(later(3600, false), 1000));
    let run = begin(crowd);
    run.time.pass(Span::from_secs(23 * 3600));
    assert_eq!(run.outcome(), None);
    run.time.pass(Span::from_secs(2 * 3600));
    let outcome = run.outcome().unwrap();
    assert_eq!((outcome.tally.sent, outcome.tally.failed), (1, 1));
    assert_eq!(
        outcome.problems.into_keys().collect::<Vec<_>>(),
        ["gave up after 1d"]
    );
}

#[test]
fn tries_come_less_and_less_often() {
    let crowd = Crowd::of(&["ann"]);
    crowd.answer("ann", std::iter::repeat_n(later(0, false), 1000));
    let run = begin(crowd);
    run.time.pass(Span::from_secs(3600));
    let left = run.crowd.answers.lock().unwrap()["ann"].len();
    let tries = 1000 - left;
    // 5 s doubling to 10 min: 7 tries in the first 10 minutes, then one every 10 to 12.5.
    assert!((10..=14).contains(&tries), "{tries}");
}

#[test]
fn a_channel_that_refuses_everybody_for_a_while_is_told_of_once() {
    let crowd = Crowd::of(&["ann"]);
    crowd.answer("ann", std::iter::repeat_n(later(0, true), 1000));
    let run = begin(crowd);
    run.time.pass(Span::from_secs(10));
    assert!(run.stalls.lock().unwrap().is_empty());
    run.time.pass(Span::from_secs(110));
    assert_eq!(*run.stalls.lock().unwrap(), ["not now"]);
    run.time.pass(Span::from_secs(3600));
    assert_eq!(run.stalls.lock().unwrap().len(), 1);
    assert_eq!(run.outcome(), None);
}

#[test]
fn one_recipient_who_is_put_off_is_no_stall() {
    let crowd = Crowd::of(&["ann"]);
    crowd.answer("ann", std::iter::repeat_n(later(0, false), 1000));
    let run = begin(crowd);
    run.time.pass(Span::from_secs(3600));
    assert!(run.stalls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn who_leaves_while_it_runs_is_not_told() {
    let folder = tempfile::tempdir().unwrap();
    let crowd = Crowd {
        workers: 1,
        ..Crowd::of(&["ann", "bob"])
    };
    let ledger = ledger(folder.path());
    let mailing = mailing("m1");
    ledger
        .enqueue(&mailing, &[to("ann"), to("bob")], Time::default())
        .await
        .unwrap();
    ledger
        .suppress(&"shop".into(), &to("bob"), "unsubscribed", Time::default())
        .await
        .unwrap();
    let outcome = super::tell(&crowd, &*ledger, &Compiled::default(), &mailing).await;
    assert_eq!((outcome.tally.sent, outcome.tally.suppressed), (1, 1));
    assert_eq!(crowd.counts().len(), 1);
}

#[tokio::test]
async fn a_mailing_that_has_begun_goes_on_without_its_list() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger(folder.path());
    let mailing = mailing("m1");
    let nobody = Crowd::of(&[]);
    let runtime = HostRuntime::new();
    let fanout = Fanout {
        runtime: &runtime,
        ledger: &*ledger,
        channel: &nobody,
        mailing: &mailing,
        patience: QUICK,
        since: runtime.now(),
        stalled: Box::new(|_| {}),
    };
    assert!(fanout.run(&Compiled::default()).await.is_err());
    ledger
        .enqueue(&mailing, &[to("ann")], Time::default())
        .await
        .unwrap();
    assert_eq!(
        fanout.run(&Compiled::default()).await.unwrap().tally.sent,
        1
    );
}
