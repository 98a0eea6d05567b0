//! The words of the product as types: ids, time, services, sites, observations, plans, records.
//!
//! This floor knows nothing of the floors above it, does no IO, reads no clock and draws no random numbers.

pub mod action;
pub mod announcement;
pub mod approval;
pub mod backup;
pub mod check;
pub mod drill;
pub mod duty;
pub mod fault;
pub mod group;
pub mod guard;
pub mod id;
pub mod lease;
pub mod loss;
pub mod observation;
pub mod page;
pub mod plan;
pub mod public_key;
pub mod readiness;
pub mod record;
pub mod schedule;
pub mod secret;
pub mod service;
pub mod silence;
pub mod site;
pub mod span;
pub mod step;
pub mod taking;
pub mod time;
pub mod verdict;
pub mod wal;
