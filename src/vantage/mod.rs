//! The wire between the controller and observers elsewhere: keys, signatures, messages, sessions, what is kept while
//! the controller is away. Nothing here looks, and nothing here knows a service; `driver/` does both.

pub mod backlog;
pub mod certificate;
pub mod challenge;
pub mod client;
pub mod key;
pub mod message;
pub mod seat;
pub mod signature;
