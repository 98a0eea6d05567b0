//! One controller a journal: a lock on a file beside it.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::port::journal::JournalError;

/// Held as long as it lives. The kernel lets go of it when the process ends, however it ends; the file stays and
/// names the last holder's process.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of a journal.
    ///
    /// # Errors
    /// `Locked` where another controller holds it, `Io` where the lock's file cannot be opened.
    pub fn take(journal: &Path) -> Result<Self, JournalError> {
        let io = |source: io::Error| JournalError::Io {
            place: journal.display().to_string(),
            source: source.into(),
        };
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .open(beside(journal))
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(JournalError::Locked {
                    place: journal.display().to_string(),
                });
            }
            Err(TryLockError::Error(e)) => return Err(io(e)),
        }
        // For people only: on a full disk the lock holds all the same.
        let _ = file
            .set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

fn beside(journal: &Path) -> PathBuf {
    let mut name = OsString::from(journal);
    name.push(".lock");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_held_by_one_and_free_again_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("journal.sqlite");
        let first = Lock::take(&journal).unwrap();
        assert!(matches!(
            Lock::take(&journal),
            Err(JournalError::Locked { .. })
        ));
        drop(first);
        assert!(Lock::take(&journal).is_ok());
    }
}
