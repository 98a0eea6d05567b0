//! Lock files that a server left empty.
//!
//! A server makes its lock files and writes into them a moment later. One that is killed in between leaves an empty file,
//! which the next server takes for another one that is just starting: it refuses to start, now and for ever.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::port::postgres::{Conninfo, Host};

/// A server writes into what it has just made in much less.
const MOMENT: Duration = Duration::from_secs(1);

/// Where a server has its lock files.
#[derive(Clone, Debug)]
pub struct Locks(Vec<PathBuf>);

impl Locks {
    /// Those of the data directory, and of the Unix socket that the guard connects to.
    pub fn new(data: &Path, connection: &Conninfo) -> Self {
        let socket = match &connection.host {
            Host::Socket(folder) => Some(folder.join(format!(".s.PGSQL.{}.lock", connection.port))),
            Host::Address(..) | Host::Name(_) => None,
        };
        Self(
            std::iter::once(data.join("postmaster.pid"))
                .chain(socket)
                .collect(),
        )
    }

    /// Removes those that are empty and not quite new. Nothing of the server may run.
    pub fn sweep(&self) {
        for lock in self.0.iter().filter(|lock| was_left_empty(lock)) {
            match fs::remove_file(lock) {
                Ok(()) => {
                    tracing::warn!(lock = %lock.display(), "removed: a server that was killed left it empty");
                }
                Err(error) => {
                    tracing::error!(lock = %lock.display(), %error, "an empty lock file cannot be removed: no server will start");
                }
            }
        }
    }
}

fn was_left_empty(lock: &Path) -> bool {
    let Ok(found) = fs::symlink_metadata(lock) else {
        return false;
    };
    let now = SystemTime::now();
    // In either direction: the clock may have been set since.
    let is_new = found.modified().is_ok_and(|at| {
        let away = now.duration_since(at).or_else(|_| at.duration_since(now));
        away.is_ok_and(|away| away < MOMENT)
    });
    found.is_file() && found.len() == 0 && !is_new
}

#[cfg(test)]
mod tests {
    use super::*;

    fn old(file: &Path, content: &str) {
        fs::write(file, content).unwrap();
        let at = SystemTime::now() - Duration::from_secs(5);
        let file = fs::File::options().write(true).open(file).unwrap();
        file.set_modified(at).unwrap();
    }

    #[test]
    fn what_a_killed_server_left_empty_goes_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let connection = format!("host={} port=5433 user=guard", folder.path().display());
        let locks = Locks::new(folder.path(), &connection.parse().unwrap());
        old(&at("postmaster.pid"), "4711\n");
        old(&at(".s.PGSQL.5432.lock"), "");
        old(&at(".s.PGSQL.5433.lock"), "");
        locks.sweep();
        assert!(at("postmaster.pid").exists(), "it says whose it is");
        assert!(at(".s.PGSQL.5432.lock").exists(), "another server's");
        assert!(!at(".s.PGSQL.5433.lock").exists());

        old(&at("postmaster.pid"), "");
        fs::write(at(".s.PGSQL.5433.lock"), "").unwrap();
        locks.sweep();
        assert!(!at("postmaster.pid").exists());
        assert!(at(".s.PGSQL.5433.lock").exists(), "it may just be starting");
    }
}
