//! The host's time and tasks. The only file in this room that knows tokio's timers.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;
use tracing::Instrument;

use crate::{
    model::{span::Span, time::Time},
    port::runtime::Runtime,
};

/// Wall time at the start of the process, carried on by a monotonic clock: it never steps while the process lives.
#[derive(Clone, Copy, Debug)]
pub struct HostRuntime {
    wall: Time,
    began: Instant,
}

impl HostRuntime {
    /// Reads the wall clock once.
    #[must_use]
    pub fn new() -> Self {
        Self {
            wall: wall(),
            began: Instant::now(),
        }
    }
}

fn wall() -> Time {
    let wall = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Time::from_millis(i64::try_from(wall.as_millis()).unwrap_or(i64::MAX))
}

impl Default for HostRuntime {
    fn default() -> Self {
        Self::new()
    }
}

impl Runtime for HostRuntime {
    fn now(&self) -> Time {
        self.wall.after(Span::from(self.began.elapsed()))
    }

    fn wall(&self) -> Time {
        wall()
    }

    fn sleep_until(&self, at: Time) -> BoxFuture<'static, ()> {
        let wait = at.since(self.now()).to_std();
        Box::pin(tokio::time::sleep(wait))
    }

    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        tokio::spawn(task.instrument(tracing::info_span!("task", name)));
    }
}
