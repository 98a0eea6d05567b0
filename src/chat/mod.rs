//! Chats in which people command. Knows `port/` and `model/` only; what is said and understood is `bot/`'s.

use crate::port::kind::Kind;

pub mod telegram;

/// The kinds of this room; a new one is a line here.
pub const KINDS: &[Kind] = &[telegram::KIND];
