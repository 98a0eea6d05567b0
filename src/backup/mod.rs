//! Backups: where they are, how one is tried by restoring it, and how one becomes the database. Knows `port/` and `model/` only.

use crate::port::kind::Kind;

mod age;
mod command;
mod folder;
mod objects;
mod pattern;
mod pgbackrest;
mod program;
mod restic;
pub mod restore;
mod s3;
mod spare;
pub mod taking;

/// The kinds of this room; a new one is a line here.
pub const KINDS: &[Kind] = &[
    command::KIND,
    folder::KIND,
    pgbackrest::KIND,
    restic::KIND,
    s3::KIND,
    spare::KIND,
];
