//! Whom a database runs as.

use std::ffi::CString;

use nix::unistd::{Gid, Group, User, getgrouplist};

use crate::guard::config::Database;

/// Why a user or group is of no use.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The user is not known on this host.
    #[error("there is no user {0:?} on this host")]
    User(String),
    /// PostgreSQL would refuse.
    #[error("the database cannot run as {0:?}, who is root")]
    Root(String),
    /// The group is not known on this host.
    #[error("there is no group {0:?} on this host")]
    Group(String),
    /// The system does not tell.
    #[error("users and groups cannot be looked up")]
    Look(#[source] nix::errno::Errno),
}

/// User, group and further groups of a database.
///
/// # Errors
/// Where one is not known.
pub fn of(database: &Database) -> Result<(u32, u32, Vec<u32>), IdentityError> {
    let name = &database.user;
    let user = User::from_name(name)
        .map_err(IdentityError::Look)?
        .ok_or_else(|| IdentityError::User(name.clone()))?;
    if user.uid.is_root() {
        return Err(IdentityError::Root(name.clone()));
    }
    let gid = match &database.group {
        Some(group) => group_of(group)?,
        None => user.gid,
    };
    let groups = if let Some(groups) = &database.groups {
        let groups = groups.iter().map(|g| group_of(g));
        groups.collect::<Result<Vec<_>, _>>()?
    } else {
        let name = CString::new(name.as_str()).map_err(|_| IdentityError::User(name.clone()))?;
        getgrouplist(&name, gid).map_err(IdentityError::Look)?
    };
    let groups = groups.into_iter().map(Gid::as_raw).collect();
    Ok((user.uid.as_raw(), gid.as_raw(), groups))
}

fn group_of(name: &str) -> Result<Gid, IdentityError> {
    Group::from_name(name)
        .map_err(IdentityError::Look)?
        .map(|group| group.gid)
        .ok_or_else(|| IdentityError::Group(name.to_owned()))
}
