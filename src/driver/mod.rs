//! The loop: event, decide, journal, effects, whose results come back as events. Knows all rooms but the front ends.

pub mod availability;
pub mod backups;
pub mod clock;
pub mod controller;
pub mod drills;
pub mod engine;
pub mod fitting;
pub mod group;
pub mod guards;
pub mod history;
pub mod independence;
pub mod metrics;
pub mod observer;
pub mod perform;
pub mod publisher;
pub mod readiness;
pub mod registry;
pub mod service;
pub mod takeover;
pub mod tenure;
pub mod ttl;
pub mod vantage;
pub mod verify;
pub mod watch;
