//! Announcements and pages: channels, their compilers, the fan-out and its ledger. Knows `port/` and `model/` only.

use crate::port::kind::Kind;

mod cut;
pub mod fanout;
pub mod ledger;
pub mod message;
#[cfg(test)]
mod sample;
pub mod template;

/// The kinds of this room; a new one is a line here.
pub const KINDS: &[Kind] = &[];
