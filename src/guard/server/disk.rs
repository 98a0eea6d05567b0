//! The disk that a database's data is on.

use std::{path::PathBuf, sync::Arc, time::Duration};

use nix::sys::statvfs::{FsFlags, statvfs};
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::timeout,
};

use crate::{
    guard::clock,
    model::guard::{FirstHand, Room},
};

/// A piece of PostgreSQL's log is so large unless the cluster was made otherwise.
const PIECE: u64 = 16 * 1024 * 1024;
/// What a look may take: a file system that hangs tells nothing.
const LOOK: Duration = Duration::from_millis(100);

/// The disk of a data directory. One that hangs is not asked again before it has answered.
#[derive(Debug)]
pub struct Disk {
    data: PathBuf,
    last: Arc<Mutex<FirstHand>>,
}

impl Disk {
    /// Of this directory.
    #[must_use]
    pub fn new(data: PathBuf) -> Self {
        Self {
            data,
            last: Arc::default(),
        }
    }

    /// Whether it is full or takes no writes, and what room there is; what it was last where it does not answer.
    pub async fn look(&self) -> FirstHand {
        let Ok(last) = Arc::clone(&self.last).try_lock_owned() else {
            return FirstHand::default();
        };
        let before = *last;
        let data = self.data.clone();
        let asked = tokio::task::spawn_blocking(move || ask(&data, last));
        match timeout(LOOK, asked).await {
            Ok(Ok(seen)) => seen,
            Ok(Err(_)) | Err(_) => before,
        }
    }
}

fn ask(data: &PathBuf, mut last: OwnedMutexGuard<FirstHand>) -> FirstHand {
    if let Ok(told) = statvfs(data) {
        let free = told.blocks_available() * told.fragment_size();
        *last = FirstHand {
            is_full: free < PIECE,
            is_read_only: told.flags().contains(FsFlags::ST_RDONLY),
            disk: Some(Room {
                free,
                size: told.blocks() * told.fragment_size(),
            }),
            wall: Some(clock::wall()),
            ..FirstHand::default()
        };
    }
    *last
}
