//! Time and tasks: the only way in which the driver waits, so that a simulator can stand in.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::model::time::Time;

/// Time and tasks.
pub trait Runtime: Send + Sync {
    /// Now. Never steps within one process.
    fn now(&self) -> Time;

    /// What the clock on the wall says: for signatures, which others compare with their own clocks. It may step.
    fn wall(&self) -> Time {
        self.now()
    }

    /// Ends at that moment, at once where it is past.
    fn sleep_until(&self, at: Time) -> BoxFuture<'static, ()>;

    /// Runs a task beside the caller. It ends when it ends, or with the process.
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>);
}

/// A shared runtime.
pub type SharedRuntime = Arc<dyn Runtime>;
