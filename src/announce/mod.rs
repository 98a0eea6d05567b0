//! Announcements and pages: channels, their compilers, the fan-out and its ledger. Knows `port/` and `model/` only.

pub mod ledger;

use crate::port::kind::Kind;

/// The kinds of this room; a new one is a line here.
pub const KINDS: &[Kind] = &[];
