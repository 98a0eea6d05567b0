//! The demo.

pub mod account;
pub mod address;
pub mod auditor;
pub mod customer;
pub mod fence;
pub mod host;
pub mod outside;
pub mod postgres;
pub mod process;
pub mod relay;
pub mod shop;

use super::{arguments::DemoPart, engine};
use crate::error::Error;

/// Runs a part of the demo in a process of its own.
///
/// # Errors
/// Where it cannot start.
pub async fn part(part: DemoPart) -> Result<(), Error> {
    let ended = match part {
        DemoPart::Host { settings } => match shop::read(&settings) {
            Ok(settings) => host::run(settings).await,
            Err(error) => Err(error),
        },
        DemoPart::Shop { settings } => match shop::read(&settings) {
            Ok(settings) => shop::run(settings).await,
            Err(error) => Err(error),
        },
        DemoPart::Fence { verb, agent } => fence::run(verb, agent).await,
    };
    ended.map_err(|e| engine::cannot_start(&e))
}
