//! The web desk: pages for people, and an API for programs.
//!
//! Nothing is decided here. Every request, of a page or of a program, goes to the clerk under the name of whoever
//! speaks; who that is comes from a personal token, and is asked anew each time.

pub mod api;
pub mod asset;
pub mod attempt;
pub mod caller;
pub mod course;
pub mod entry;
pub mod live;
pub mod order;
pub mod page;
pub mod picture;
pub mod policy;
pub mod problem;
pub mod room;
pub mod session;
