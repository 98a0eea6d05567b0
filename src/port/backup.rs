//! Backups: where they are, and how one is fetched or deleted.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;

use crate::model::{backup::BackupCopy, id::CopyId, time::Time};

/// Why a place of backups did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It cannot be reached, or refuses.
    #[error("cannot {verb} {place}")]
    Place {
        /// `list`, `read`, `delete in`.
        verb: &'static str,
        /// The place as people know it, without secrets.
        place: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A program said something that cannot be understood, or failed.
    #[error("{program} {reason}")]
    Program {
        /// Which.
        program: String,
        /// Why, in words that follow its name.
        reason: String,
    },
    /// There is no such copy.
    #[error("{place} holds no {copy}")]
    Gone {
        /// The place.
        place: String,
        /// Which copy.
        copy: CopyId,
    },
    /// It is not what was once put there.
    #[error("{copy} is damaged: {reason}")]
    Damaged {
        /// Which copy.
        copy: CopyId,
        /// How that is seen.
        reason: String,
    },
    /// It cannot do that at all.
    #[error("{0}")]
    Unable(&'static str),
}

/// A place where backups are.
#[async_trait]
pub trait Backups: Send + Sync {
    /// What there is, oldest first.
    ///
    /// # Errors
    /// Where it cannot be told; that is never an empty list.
    async fn list(&self) -> Result<Vec<BackupCopy>, BackupError>;

    /// Puts a copy into an empty folder; answers with the file or the folder that it is.
    ///
    /// # Errors
    /// Where it cannot be had.
    async fn fetch(&self, copy: &CopyId, into: &Path) -> Result<PathBuf, BackupError>;

    /// Deletes a copy for good.
    ///
    /// # Errors
    /// Where it is not certain that all of it is gone.
    async fn delete(&self, copy: &CopyId) -> Result<(), BackupError>;

    /// Puts a backup of this moment there, under the name that the place gives it; answers with that. What is there
    /// already stays.
    ///
    /// # Errors
    /// Where it is not certain that all of it is there.
    async fn put(&self, _at: Time, _file: &Path, _sealed: bool) -> Result<CopyId, BackupError> {
        Err(BackupError::Unable("nothing can be put there"))
    }

    /// Whether it can delete.
    fn deletes(&self) -> bool {
        false
    }
}

/// A shared place of backups.
pub type SharedBackups = Arc<dyn Backups>;
