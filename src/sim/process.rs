//! A process of the controller under virtual time: its tasks, its timers and its clock. Dropping its tasks is its death.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

use futures::future::BoxFuture;

use crate::{
    model::time::Time,
    port::runtime::{Runtime, SharedRuntime},
};

/// How a process's clock differs from the world's: by how much when it began, and by how much it gains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// What it was wrong by when the process began, in milliseconds.
    pub offset: i64,
    /// What it gains in a million milliseconds.
    pub gains: i64,
    /// When the process began.
    pub since: Time,
}

impl Clock {
    fn shows(self, at: Time) -> Time {
        let passed = at.as_millis() - self.since.as_millis();
        Time::from_millis(at.as_millis() + self.offset + passed * self.gains / 1_000_000)
    }

    /// When it shows that time, or a little later, never sooner.
    fn reaches(self, shown: Time) -> Time {
        let passed = shown.as_millis() - self.offset - self.since.as_millis();
        let passed = passed - passed * self.gains / 1_000_000;
        let mut at = Time::from_millis(self.since.as_millis() + passed);
        while self.shows(at) < shown {
            at = Time::from_millis(at.as_millis() + 1);
        }
        at
    }
}

type Task = BoxFuture<'static, ()>;

/// One process.
pub struct Process {
    clock: Clock,
    inner: Mutex<Inner>,
    ready: Arc<Ready>,
}

struct Inner {
    now: Time,
    tasks: BTreeMap<u64, (Task, Waker)>,
    spawned: Vec<Task>,
    timers: BTreeMap<(Time, u64), Waker>,
    next: u64,
}

#[derive(Default)]
struct Ready(Mutex<VecDeque<u64>>);

struct Turn {
    task: u64,
    ready: Arc<Ready>,
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        let mut ready = self.ready.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !ready.contains(&self.task) {
            ready.push_back(self.task);
        }
    }
}

impl Process {
    /// Nothing runs in it yet.
    #[must_use]
    pub fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            clock,
            inner: Mutex::new(Inner {
                now: clock.since,
                tasks: BTreeMap::new(),
                spawned: Vec::new(),
                timers: BTreeMap::new(),
                next: 0,
            }),
            ready: Arc::default(),
        })
    }

    /// Its time and tasks, as its code knows them.
    #[must_use]
    pub fn runtime(self: &Arc<Self>) -> SharedRuntime {
        Arc::new(Ticking(self.clone()))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_ready(&self) -> Option<u64> {
        let mut ready = self.ready.0.lock().unwrap_or_else(PoisonError::into_inner);
        ready.pop_front()
    }

    /// When its next timer is due.
    #[must_use]
    pub fn next_timer(&self) -> Option<Time> {
        self.inner().timers.keys().next().map(|k| k.0)
    }

    /// Tells it what time it is in the world, and wakes who waited for that.
    pub fn pass(&self, now: Time) {
        let mut inner = self.inner();
        inner.now = now;
        let mut due = Vec::new();
        while let Some(first) = inner.timers.first_entry()
            && first.key().0 <= now
        {
            due.push(first.remove());
        }
        drop(inner);
        for waker in due {
            waker.wake();
        }
    }

    /// Whether a task has something to do.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let ready = self.ready.0.lock();
        !ready.unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Lets one task go on as far as it can; `false` where all of them wait.
    pub fn turn(&self) -> bool {
        let mut inner = self.inner();
        self.take_spawned(&mut inner);
        let Some(id) = self.next_ready() else {
            return false;
        };
        let Some((mut task, waker)) = inner.tasks.remove(&id) else {
            return true;
        };
        drop(inner);
        let polled = task.as_mut().poll(&mut Context::from_waker(&waker));
        if polled.is_pending() {
            self.inner().tasks.insert(id, (task, waker));
        }
        true
    }

    fn take_spawned(&self, inner: &mut Inner) {
        for task in std::mem::take(&mut inner.spawned) {
            let id = inner.next;
            inner.next += 1;
            let waker = Waker::from(Arc::new(Turn {
                task: id,
                ready: self.ready.clone(),
            }));
            waker.wake_by_ref();
            inner.tasks.insert(id, (task, waker));
        }
    }

    /// Ends it: whatever its tasks were about to do is not done.
    pub fn kill(&self) {
        let mut inner = self.inner();
        let dead = (
            std::mem::take(&mut inner.tasks),
            std::mem::take(&mut inner.spawned),
        );
        inner.timers.clear();
        drop(inner);
        // Dropping a task may drop timers of it, which asks for the lock again.
        drop(dead);
    }
}

struct Ticking(Arc<Process>);

impl Runtime for Ticking {
    fn now(&self) -> Time {
        self.0.clock.shows(self.0.inner().now)
    }

    fn sleep_until(&self, at: Time) -> BoxFuture<'static, ()> {
        Box::pin(Sleep {
            due: self.0.clock.reaches(at),
            process: self.0.clone(),
            timer: None,
        })
    }

    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) {
        self.0.inner().spawned.push(task);
    }
}

struct Sleep {
    process: Arc<Process>,
    due: Time,
    timer: Option<(Time, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let process = self.process.clone();
        let mut inner = process.inner();
        if inner.now >= self.due {
            return Poll::Ready(());
        }
        let timer = self.timer.unwrap_or_else(|| {
            inner.next += 1;
            (self.due, inner.next)
        });
        self.timer = Some(timer);
        inner.timers.insert(timer, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            self.process.inner().timers.remove(&timer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::span::Span;

    #[test]
    fn a_clock_that_is_wrong_reaches_what_it_shows() {
        let since = Time::from_millis(1_000_000);
        for (offset, gains) in [(0, 0), (-5000, 300), (7000, -300)] {
            let clock = Clock {
                offset,
                gains,
                since,
            };
            let shown = clock.shows(since).after(Span::from_secs(600));
            let at = clock.reaches(shown);
            assert!(clock.shows(at) >= shown);
            assert!(clock.shows(Time::from_millis(at.as_millis() - 2)) < shown);
        }
    }

    #[test]
    fn tasks_run_when_their_time_comes_and_not_after_death() {
        let begin = Time::from_millis(0);
        let process = Process::new(Clock::default());
        let runtime = process.runtime();
        let (told, heard) = futures::channel::oneshot::channel();
        let sleep = runtime.sleep_until(begin.after(Span::from_secs(5)));
        runtime.spawn(
            "test",
            Box::pin(async move {
                sleep.await;
                told.send(()).ok();
            }),
        );
        while process.turn() {}
        assert_eq!(process.next_timer(), Some(begin.after(Span::from_secs(5))));
        process.kill();
        process.pass(begin.after(Span::from_secs(6)));
        while process.turn() {}
        assert!(futures::executor::block_on(heard).is_err());
    }
}
