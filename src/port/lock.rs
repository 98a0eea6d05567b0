//! A file that one process holds at a time.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Held as long as it lives. The kernel lets go of it when the process ends, however it ends; the file stays and
/// names the last holder's process.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock; none where another holds it.
    ///
    /// # Errors
    /// Where the file cannot be opened or locked.
    pub fn take(path: &Path) -> io::Result<Option<Self>> {
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(e),
        }
        // For people only: on a full disk the lock holds all the same.
        let _ = file
            .set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Some(Self { file }))
    }
}

impl Drop for Lock {
    /// Closing alone would not free it while a child that was just forked, and has not yet become its program, holds a
    /// copy of the file.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_held_by_one_and_free_again_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.lock");
        let first = Lock::take(&path).unwrap().unwrap();
        assert!(Lock::take(&path).unwrap().is_none());
        // As a child has it between fork and exec.
        let copy = first.file.try_clone().unwrap();
        drop(first);
        assert!(Lock::take(&path).unwrap().is_some());
        drop(copy);
    }
}
