//! Time that passes only when nothing else can happen.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use failover::{
    model::{span::Span, time::Time},
    port::runtime::Runtime,
};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};

/// A runtime under virtual time, on the thread of the test.
#[derive(Default)]
pub struct VirtualTime {
    state: Mutex<State>,
    tasks: Mutex<FuturesUnordered<BoxFuture<'static, ()>>>,
}

#[derive(Default)]
struct State {
    now: Time,
    sleepers: Vec<(Time, Waker)>,
    spawned: Vec<BoxFuture<'static, ()>>,
}

impl VirtualTime {
    /// Stands at this time.
    pub fn at(now: Time) -> Arc<Self> {
        let time = Self::default();
        time.state.lock().unwrap().now = now;
        Arc::new(time)
    }

    /// Now.
    pub fn now(&self) -> Time {
        self.state.lock().unwrap().now
    }

    /// Lets all that is due within this span happen.
    pub fn pass(&self, span: Span) {
        let end = self.now().after(span);
        loop {
            self.settle();
            let mut state = self.state.lock().unwrap();
            let next = state.sleepers.iter().map(|s| s.0).min();
            match next {
                Some(next) if next <= end => {
                    state.now = state.now.max(next);
                    let now = state.now;
                    let due: Vec<_> = state.sleepers.extract_if(.., |s| s.0 <= now).collect();
                    drop(state);
                    for (_, waker) in due {
                        waker.wake();
                    }
                }
                Some(_) | None => {
                    state.now = end;
                    return;
                }
            }
        }
    }

    /// Runs all tasks until each of them waits.
    fn settle(&self) {
        let mut tasks = self.tasks.try_lock().unwrap();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        loop {
            tasks.extend(std::mem::take(&mut self.state.lock().unwrap().spawned));
            let ended = tasks.poll_next_unpin(&mut Context::from_waker(&waker));
            let spawned = !self.state.lock().unwrap().spawned.is_empty();
            // A set of tasks gives way now and then, and says by its waker that it has more to do.
            let more = woken.0.swap(false, Ordering::Relaxed);
            if !matches!(ended, Poll::Ready(Some(()))) && !spawned && !more {
                return;
            }
        }
    }
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Sleep {
    time: Arc<VirtualTime>,
    until: Time,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.time.state.lock().unwrap();
        if state.now >= self.until {
            return Poll::Ready(());
        }
        state.sleepers.push((self.until, cx.waker().clone()));
        Poll::Pending
    }
}

/// The runtime's port on it.
pub struct VirtualRuntime(pub Arc<VirtualTime>);

impl Runtime for VirtualRuntime {
    fn now(&self) -> Time {
        self.0.now()
    }

    fn sleep_until(&self, at: Time) -> BoxFuture<'static, ()> {
        Box::pin(Sleep {
            time: self.0.clone(),
            until: at,
        })
    }

    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) {
        self.0.state.lock().unwrap().spawned.push(task);
    }
}
