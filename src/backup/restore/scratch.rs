//! The folder in which a backup is tried: one a service, nobody else's, and gone afterwards. What an earlier process left
//! there when it was killed is cleared first.

use std::{
    env,
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use tokio::time;

use super::{Fault, Stop};
use crate::{
    model::id::ServiceName,
    port::{account::Account, disk, process},
};

/// Bytes that an empty cluster takes.
const CLUSTER: u64 = 128 << 20;
/// A packed dump grows by so much when it is restored with its indexes.
const GROWTH: u64 = 8;
/// How often the disk is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How long what an earlier process left running may take to end.
const END: Duration = Duration::from_secs(10);
/// A socket's path may not be longer.
const SOCKET: usize = 100;

/// Another process tries a backup of the same service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a backup of this service is being tried already, in {}", .0.display())]
pub struct Busy(pub PathBuf);

/// The folder in which a backup is tried.
pub struct Scratch {
    path: PathBuf,
    account: Option<Account>,
    /// Locked for as long as it is in use.
    _lock: File,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            let path = self.path.display();
            tracing::warn!(%path, %error, "a tried backup could not be removed; the next trial clears it");
        }
    }
}

impl Scratch {
    /// Takes the service's folder, and clears what is left in it.
    pub fn take(
        service: &ServiceName,
        above: Option<&str>,
        account: Option<Account>,
    ) -> Result<Self, Stop> {
        let above = above.map_or_else(env::temp_dir, PathBuf::from);
        let path = above.join(format!("failover-restore-{}-{service}", geteuid()));
        Self::at(path, account)
    }

    /// Takes a folder of this path, and clears what is left in it.
    pub fn at(path: PathBuf, account: Option<Account>) -> Result<Self, Stop> {
        let here = |e: io::Error| Fault::here(&path.display().to_string(), &e);
        if path.as_os_str().len() + "/run/.s.PGSQL.5432".len() > SOCKET {
            let text = format!(
                "{} is too long for a socket: name a shorter folder",
                path.display()
            );
            return Err(Fault::Unclear(text).into());
        }
        loop {
            // A database's account has to pass through, and sees nothing.
            let mode = if account.is_some() { 0o711 } else { 0o700 };
            match DirBuilder::new().mode(mode).create(&path) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(here(e).into()),
                Ok(()) | Err(_) => {}
            }
            let seen = fs::symlink_metadata(&path).map_err(here)?;
            if !seen.is_dir() || seen.uid() != geteuid().as_raw() {
                let text = format!("{} is not this user's folder", path.display());
                return Err(Fault::Unclear(text).into());
            }
            let lock = File::open(&path).map_err(here)?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(Stop::Busy(Busy(path))),
                Err(TryLockError::Error(e)) => return Err(here(e).into()),
            }
            // Whoever had it before may have removed it in the meantime.
            let same = |m: &fs::Metadata| (m.dev(), m.ino());
            let locked = lock.metadata().map_err(here)?;
            if fs::symlink_metadata(&path).is_ok_and(|m| same(&m) == same(&locked)) {
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(here)?;
                clear(&path).map_err(here)?;
                return Ok(Self {
                    path,
                    account,
                    _lock: lock,
                });
            }
        }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The account of the database.
    #[must_use]
    pub fn account(&self) -> Option<Account> {
        self.account
    }

    /// Makes a folder in it that is this user's alone.
    pub fn folder(&self, name: &str) -> Result<PathBuf, Fault> {
        let path = self.path.join(name);
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|e| Fault::here(&path.display().to_string(), &e))?;
        Ok(path)
    }

    /// Makes everything in it the database's.
    pub fn give_away(&self) -> Result<(), Fault> {
        let own = || -> io::Result<()> {
            for entry in fs::read_dir(&self.path)? {
                Account::own(self.account, &entry?.path())?;
            }
            Ok(())
        };
        own().map_err(|e| Fault::here(&self.path.display().to_string(), &e))
    }

    /// Whether the disk has room for a backup of this size.
    pub fn has_room_for(&self, bytes: Option<u64>, keep_free: u64) -> Result<(), Fault> {
        let needed = bytes.unwrap_or(0).saturating_mul(GROWTH) + CLUSTER;
        self.has_room(needed, keep_free)
    }

    /// Whether the disk has room for so many bytes.
    pub fn has_room(&self, bytes: u64, keep_free: u64) -> Result<(), Fault> {
        let free = self.free()?;
        let needed = bytes.saturating_add(keep_free << 20);
        if free < needed {
            return Err(Fault::Unclear(format!(
                "{} has {} MiB free, and restoring it may need {} MiB of which {keep_free} MiB stay free",
                self.path.display(),
                free >> 20,
                needed >> 20
            )));
        }
        Ok(())
    }

    /// Ends when less than this is free.
    pub async fn runs_out(&self, keep_free: u64) -> Fault {
        loop {
            time::sleep(LOOK).await;
            match self.free() {
                Ok(free) if free < keep_free << 20 => {
                    return Fault::Unclear(format!(
                        "it was broken off when {} had {} MiB left: {keep_free} MiB stay free",
                        self.path.display(),
                        free >> 20
                    ));
                }
                Ok(_) => {}
                Err(fault) => return fault,
            }
        }
    }

    fn free(&self) -> Result<u64, Fault> {
        disk::free(&self.path).map_err(|e| Fault::here(&self.path.display().to_string(), &e))
    }
}

/// Ends what runs in a folder, and removes what is in it.
fn clear(path: &Path) -> io::Result<()> {
    let until = Instant::now() + END;
    let mut signal = Signal::SIGQUIT;
    loop {
        let left = running_in(path)?;
        if left.is_empty() {
            break;
        }
        for pid in left {
            // A server that is asked so ends at once, and takes its shared memory with it.
            let _ = kill(pid, signal);
        }
        if Instant::now() > until {
            if signal == Signal::SIGKILL {
                return Err(io::Error::other("what runs in it does not end"));
            }
            signal = Signal::SIGKILL;
        }
        sleep(Duration::from_millis(50));
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The processes whose working folder lies in a folder.
fn running_in(path: &Path) -> io::Result<Vec<Pid>> {
    let path = path.canonicalize()?;
    let here = |pid: &i32| process::works_in(*pid).is_some_and(|cwd| cwd.starts_with(&path));
    Ok(process::all()?.filter(here).map(Pid::from_raw).collect())
}
