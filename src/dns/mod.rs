//! DNS: providers, the live answers, the cut-over, and an embedded authoritative server. Knows `port/` and `model/` only.

use crate::port::kind::Kind;

/// The kinds of this room; a new one is a line here.
pub const KINDS: &[Kind] = &[];
