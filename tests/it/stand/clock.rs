//! A clock that a test turns by hand.

use std::sync::Arc;

use failover::{
    model::{span::Span, time::Time},
    port::runtime::Runtime,
};
use futures::future::BoxFuture;
use tokio::sync::watch;

/// Stands still until it is turned; who sleeps wakes up when it gets there.
pub struct HandClock {
    now: watch::Sender<Time>,
}

impl HandClock {
    /// Stands at this time.
    pub fn at(now: Time) -> Arc<Self> {
        Arc::new(Self {
            now: watch::Sender::new(now),
        })
    }

    /// Turns it forward.
    pub fn turn(&self, by: Span) {
        self.now.send_modify(|now| *now = now.after(by));
    }
}

impl Runtime for HandClock {
    fn now(&self) -> Time {
        *self.now.borrow()
    }

    fn sleep_until(&self, at: Time) -> BoxFuture<'static, ()> {
        let mut now = self.now.subscribe();
        Box::pin(async move {
            // A clock that is gone never gets there.
            if now.wait_for(|now| *now >= at).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }

    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }
}
