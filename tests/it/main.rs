//! Black-box tests, one integration-test binary. Each asserts outcomes at the boundary.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod announce;
mod backup;
mod bot;
mod bubble;
mod command;
mod copy;
mod demo;
mod dns;
mod drill;
mod driver;
mod faults;
mod full_disk;
mod group;
mod guard_agent;
mod guard_gate;
mod guard_hold;
mod init;
mod journal;
mod kill;
mod operator;
mod paging;
mod planned;
mod postgres;
mod postgres_tls;
mod probe;
mod promote;
mod publish;
mod publisher;
mod readiness;
mod readme;
mod run;
mod simulate;
mod spec;
mod stand;
mod stories;
mod systemd;
mod vantage;
mod web;
mod webhook_fence;
