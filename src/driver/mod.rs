//! The loop: event, decide, journal, effects, whose results come back as events. Knows all rooms but the front ends.

pub mod metrics;
pub mod registry;
pub mod watch;
