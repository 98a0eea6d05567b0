//! The account that PostgreSQL runs as: it refuses to run as root.

use std::{fs, io, os::unix::fs::lchown, path::Path};

use nix::unistd::{User, geteuid};
use tokio::process::Command;

/// An account that is not root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its user id.
    pub uid: u32,
    gid: u32,
}

impl Account {
    /// The account for the database: none where this user will do.
    ///
    /// # Errors
    /// Where this is root and neither `postgres` nor `nobody` exists.
    pub fn for_database() -> io::Result<Option<Self>> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        for name in ["postgres", "nobody"] {
            if let Some(user) = User::from_name(name)? {
                return Ok(Some(Self {
                    uid: user.uid.as_raw(),
                    gid: user.gid.as_raw(),
                }));
            }
        }
        Err(io::Error::other(
            "PostgreSQL does not run as root, and there is no user postgres or nobody",
        ))
    }

    /// Makes a command run as this account.
    pub fn apply(account: Option<Self>, command: &mut Command) {
        if let Some(account) = account {
            command.uid(account.uid).gid(account.gid);
        }
    }

    /// Makes a path and everything below it this account's.
    ///
    /// # Errors
    /// Where something cannot be given away.
    pub fn own(account: Option<Self>, path: &Path) -> io::Result<()> {
        let Some(account) = account else {
            return Ok(());
        };
        lchown(path, Some(account.uid), Some(account.gid))?;
        if fs::symlink_metadata(path)?.is_dir() {
            for entry in fs::read_dir(path)? {
                Self::own(Some(account), &entry?.path())?;
            }
        }
        Ok(())
    }
}
