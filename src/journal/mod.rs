//! The journal: one hash chain a service, on disk or in memory, its export, and the copy that follows it to an object
//! store. Knows `port/` and `model/` only.

pub mod chain;
pub mod copy;
pub mod export;
pub mod file;
pub mod kubernetes;
pub mod memory;
pub mod origin;
pub mod restore;
pub mod sqlite;
pub mod succession;
pub mod verify;
