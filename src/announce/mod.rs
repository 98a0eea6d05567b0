//! Announcements and pages: channels, their compilers, the fan-out and its ledger. Knows `port/` and `model/` only.

use crate::port::kind::Kind;

mod address;
pub mod alertmanager;
mod answer;
mod cut;
pub mod email;
pub mod fanout;
pub mod kubernetes;
pub mod ledger;
pub mod message;
pub mod pagerduty;
pub mod sms;
pub mod telegram;
pub mod template;
pub mod webhook;
pub mod weight;
pub mod x;

#[cfg(test)]
mod sample;

/// The kinds of this room; a new one is a line here.
pub const KINDS: &[Kind] = &[
    alertmanager::KIND,
    email::KIND,
    pagerduty::KIND,
    sms::KIND,
    telegram::KIND,
    webhook::KIND,
    x::KIND,
];
