//! Probes: how components are looked at, one file a kind. Knows `port/` and `model/` only.

use crate::port::kind::Kind;

/// The kinds of this room; a new one is a line here.
pub const KINDS: &[Kind] = &[];
