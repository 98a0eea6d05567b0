//! Fences: how the old primary is kept from writing, and the proof of it. Knows `port/` and `model/` only.

use crate::port::kind::Kind;

mod command;

/// The kinds of this room; a new one is a line here.
pub const KINDS: &[Kind] = &[command::KIND];
