//! Fences: how the old primary is kept from writing, and the proof of it. Knows `port/` and `model/` only.
//!
//! A named person's attestation is no kind of this room: the engine asks for it where the fences' proof does not
//! reach the rung that a service requires.

use crate::port::kind::Kind;

mod command;
mod drain;
mod guard;
mod kubernetes;
mod postgres;
mod server;
mod webhook;
mod write_attempt;

/// The kinds of this room; a new one is a line here.
pub const KINDS: &[Kind] = &[
    command::KIND,
    command::DRAIN,
    drain::KIND,
    guard::KIND,
    kubernetes::KIND,
    webhook::KIND,
    postgres::KIND,
    write_attempt::KIND,
];
