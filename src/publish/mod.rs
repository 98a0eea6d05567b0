//! The status page: what it shows, how it is rendered, where it is written to. Knows `port/` and `model/` only.

use crate::port::kind::Kind;

/// The kinds of this room; a new one is a line here.
pub const KINDS: &[Kind] = &[];
