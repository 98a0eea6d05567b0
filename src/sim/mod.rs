//! The simulator: the real driver and the real decisions under virtual time, in a world that a seed decides.
//!
//! One seed gives one history, bit for bit. `scenario` draws what is protected and what goes wrong; `world` is a pure
//! loop over what happens next (`site`, `network`, `customer`, `order`, `fault`, `errand`); `process` runs the
//! controller's tasks and can be killed between any two turns of them; `looks`, `deeds`, `names`, `outlets` and `disk`
//! stand behind the ports; `guard` is a host with a real guard on it, `line` what guards and controller say to each other;
//! `watchman` and `referee` know what is so and what the journal says, and hold both against the rules.
//!
//! Nothing here reads a clock, draws a random number but from `chance`, or walks a map without order.

mod bucket;
pub mod campaign;
pub mod chance;
pub mod coverage;
mod customer;
mod deeds;
mod disk;
mod election;
mod errand;
pub mod fault;
mod former;
mod guard;
pub mod history;
pub mod kinds;
mod line;
mod looks;
mod names;
pub mod network;
mod order;
mod outlets;
mod process;
mod referee;
pub mod rule;
pub mod scenario;
pub mod shrink;
mod sights;
mod site;
mod stagehand;
pub mod trace;
mod watchman;
pub mod weakness;
mod world;
