//! An embedded authoritative server for one zone, and the provider `dns/embedded` that repoints through it.
//!
//! For the demo, for tests, and for small users who delegate one name to the controller's host. It is a single point:
//! while the host is down nobody can look the name up, so `check` warns of it.
//!
//! `content` holds a zone's records and changes them as RFC 2136 §3 has it, without IO. `file` keeps them. `server`
//! answers the world, `provider` is the adapter.

pub mod content;
pub mod file;
pub mod provider;
pub mod server;

pub use provider::KIND;
pub use server::{Config, Keyring, Server, StartError};
