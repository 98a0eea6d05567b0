//! Whether what is done now is upkeep, which gives way: an adapter with a scarce means keeps enough of it for runs.
//!
//! It goes with the task, since checks and runs reach an adapter by the same ways. What says nothing does not give way.

use tokio::task_local;

task_local! {
    static UPKEEP: ();
}

/// Does something as upkeep. What it spawns does not count as such.
pub async fn upkeep<T>(task: impl Future<Output = T>) -> T {
    UPKEEP.scope((), task).await
}

/// Whether this is done as upkeep.
#[must_use]
pub fn is_upkeep() -> bool {
    UPKEEP.try_with(|()| ()).is_ok()
}
