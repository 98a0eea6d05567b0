//! The pure core: no async, no IO, no clock, no randomness. Knows `model/` only.
//!
//! [`core::Core::step`] takes an event and the time and returns records to be made durable, effects that are
//! already backed by records, and when to be called again. State changes only in [`state::State::apply`], over
//! new and recovered records alike; what was merely seen lives in [`view::View`] and begins as Unknown.

pub mod approve;
pub mod backups;
pub mod budget;
pub mod command;
pub mod compile;
pub mod core;
pub mod detect;
pub mod drill;
pub mod duty;
pub mod escalation;
pub mod event;
pub mod explain;
pub mod gate;
pub mod grant;
pub mod group;
pub mod incident;
pub mod lag;
pub mod lint;
pub mod page;
pub mod phase;
pub mod quorum;
pub mod readiness;
pub mod restore;
pub mod right;
pub mod run;
pub mod salvage;
pub mod schedule;
pub mod state;
pub mod terms;
pub mod turn;
pub mod view;

#[cfg(test)]
mod script;
