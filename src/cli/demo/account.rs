//! The account that PostgreSQL runs as: it refuses to run as root.

use std::{io, os::unix::process::CommandExt, path::Path, process::Command};

use nix::unistd::{self, User};
use serde::{Deserialize, Serialize};

/// An account that is not root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its user id.
    pub uid: u32,
    /// Its group id.
    pub gid: u32,
}

impl Account {
    /// The account for the database: none where this user will do.
    ///
    /// # Errors
    /// Where this is root and neither `postgres` nor `nobody` exists.
    pub fn for_database() -> io::Result<Option<Self>> {
        if !unistd::geteuid().is_root() {
            return Ok(None);
        }
        for name in ["postgres", "nobody"] {
            if let Some(user) = User::from_name(name)? {
                return Ok(Some(Self {
                    name: user.name,
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
    pub fn apply(account: Option<&Self>, command: &mut Command) {
        if let Some(account) = account {
            command.uid(account.uid).gid(account.gid);
        }
    }

    /// Makes a path this account's.
    ///
    /// # Errors
    /// Where it cannot be given away.
    pub fn own(account: Option<&Self>, path: &Path) -> io::Result<()> {
        match account {
            Some(account) => std::os::unix::fs::chown(path, Some(account.uid), Some(account.gid)),
            None => Ok(()),
        }
    }
}
