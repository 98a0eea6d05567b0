//! The resting state of a data directory: `standby.signal` is there, so that a start by hand comes up read-only.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{OpenOptionsExt, fchown},
    path::PathBuf,
};

/// The file that makes PostgreSQL start as a standby.
const FILE: &str = "standby.signal";

/// The resting state of one data directory.
#[derive(Clone, Debug)]
pub struct Resting {
    data: PathBuf,
    uid: u32,
    gid: u32,
}

impl Resting {
    /// Of this directory, whose files belong to that user.
    #[must_use]
    pub fn new(data: PathBuf, uid: u32, gid: u32) -> Self {
        Self { data, uid, gid }
    }

    /// Puts it in place, durably; harmless where it is.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn put(&self) -> io::Result<()> {
        let path = self.data.join(FILE);
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        match made {
            Ok(file) => {
                fchown(&file, Some(self.uid), Some(self.gid))?;
                file.sync_all()?;
                File::open(&self.data)?.sync_all()
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Takes it away for the moment of a permitted start.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn take(&self) -> io::Result<()> {
        match fs::remove_file(self.data.join(FILE)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_put_and_taken_any_number_of_times() {
        let data = tempfile::tempdir().unwrap();
        let own = nix::unistd::Uid::effective().as_raw();
        let group = nix::unistd::Gid::effective().as_raw();
        let resting = Resting::new(data.path().to_owned(), own, group);
        let is_there = || data.path().join("standby.signal").exists();
        for _ in 0..2 {
            resting.put().unwrap();
            assert!(is_there());
        }
        for _ in 0..2 {
            resting.take().unwrap();
            assert!(!is_there());
        }
    }
}
