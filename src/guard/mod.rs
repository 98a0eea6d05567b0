//! What stands beside a database: what its guard decides, the dead-man that ends it when its lease does, and the gate
//! in front of it. Knows `port/` and `model/` only.
//!
//! [`machine`] decides who may write, purely; [`agent`] makes what it decides, with [`wire`], [`state`] and [`server`].
//! [`hold`] and [`gate`] carry out what they are told, and go on to enforce it when nobody is left to tell them;
//! [`proof`] shows whether they can on this host.

pub mod agent;
pub mod clock;
pub mod config;
pub mod gate;
pub mod hold;
pub mod machine;
pub mod proof;
pub mod runs;
pub mod server;
pub mod state;
pub mod wire;
