//! A disaster-recovery failover controller.
//!
//! Five floors; an import goes down, never up or sideways (`tests/tidy.rs` checks it). ARCHITECTURE.md is the map.

pub mod announce;
pub mod backup;
pub mod bot;
pub mod chat;
pub mod cli;
pub mod decide;
pub mod desk;
pub mod dns;
pub mod drill;
pub mod driver;
pub mod error;
pub mod fence;
pub mod guard;
pub mod journal;
pub mod model;
pub mod operator;
pub mod port;
pub mod probe;
pub mod promote;
pub mod publish;
pub mod sim;
pub mod spec;
pub mod vantage;
pub mod web;
