//! Probes: how components are looked at, one file a kind. Knows `port/` and `model/` only.
//!
//! Whatever keeps a probe from an answer is a `fault`, which says whose side it lies on: a refusal, silence and a
//! wrong answer are Down; what the looker lacks (a route, a resolver, sockets, a proxy) is Unknown.

pub mod command;
mod dial;
pub mod dns;
mod fault;
mod guard;
pub mod http;
mod kubernetes;
mod postgres;
mod postgres_standby;
mod progress;
mod proxy;
mod readiness;
mod resolve;
pub mod sockets;
pub mod tcp;
pub mod tls;

use crate::port::kind::Kind;

/// The kinds of this room; a new one is a line here.
pub const KINDS: &[Kind] = &[
    http::KIND,
    tcp::KIND,
    dns::KIND,
    command::KIND,
    postgres::KIND,
    postgres_standby::KIND,
    guard::KIND,
    kubernetes::KIND,
];
