//! Promotions: how a standby is made to take writes. Knows `port/` and `model/` only.

use crate::port::kind::Kind;

mod action;
mod command;
mod follow;
mod grants;
mod guard;
mod http;
mod kubernetes;
mod postgres;
mod rejoin;

pub use grants::{Grants, grants_sql};

/// The kinds of this room; a new one is a line here.
pub const KINDS: &[Kind] = &[
    action::KIND,
    command::KIND,
    follow::KIND,
    guard::KIND,
    http::KIND,
    kubernetes::SCALE,
    kubernetes::PATCH,
    kubernetes::SUSPEND,
    postgres::KIND,
    rejoin::KIND,
];
