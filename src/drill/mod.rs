//! Isolated drills: a copy of the standby is promoted in a bubble that has no way out, is asked, served and loaded there,
//! and is gone afterwards. Knows `port/` and `model/` only.
//!
//! A run has one folder, and everything that it starts is in its bubble or works in that folder. Nothing has to be
//! remembered to find it again: neither a crash of the controller nor a lost journal leaves anything that [`sweep`] and
//! the `undo` of `drill/clone` do not end.

use crate::port::kind::Kind;

mod bubble;
mod clone;
mod copy;
mod cover;
mod exchange;
mod folder;
mod load;
mod loopback;
mod original;
mod process;
mod programs;
mod promotion;
mod query;
mod serve;
mod server;

pub use folder::sweep;

/// The kinds of this room; a new one is a line here.
pub const KINDS: &[Kind] = &[
    clone::KIND,
    promotion::KIND,
    query::KIND,
    serve::KIND,
    load::KIND,
];
