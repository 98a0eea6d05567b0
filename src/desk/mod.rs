//! What people at any front end see and say: the requests that a running controller answers, and who may ask them.
//!
//! The control socket, the web desk and the bot all come here; none of them decides or calls an adapter.

pub mod clerk;
pub mod line;
pub mod message;
pub mod plan;
pub mod preview;
pub mod speaker;
pub mod token;
