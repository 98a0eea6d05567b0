//! The control socket: how commands reach the running controller on this host.
//!
//! Its folder and itself are the owner's alone, and the peer's user is asked of the kernel. One request a line of JSON,
//! one answer a line, then, where it was asked for, one event a line.

pub mod client;
pub mod envelope;
pub mod server;
