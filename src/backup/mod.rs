//! Backups: where they are, and how one is tried by restoring it. Knows `port/` and `model/` only.

use crate::port::kind::Kind;

mod command;
mod folder;
mod objects;
mod pattern;
mod pgbackrest;
mod program;
mod restic;
pub mod restore;
mod s3;

/// The kinds of this room; a new one is a line here.
pub const KINDS: &[Kind] = &[
    command::KIND,
    folder::KIND,
    pgbackrest::KIND,
    restic::KIND,
    s3::KIND,
];
