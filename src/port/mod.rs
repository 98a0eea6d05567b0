//! The small traits at the edge, and the wires that several adapters share.
//!
//! Adapters know this room and `model/`, nothing else. The kinds that documents may name in `uses` are declared
//! with [`kind::Kind`], one `const` beside each adapter, and listed once in `driver/registry.rs`.

pub mod account;
pub mod action;
pub mod backup;
pub mod cause;
pub mod channel;
pub mod chat;
pub mod command;
pub mod connection;
pub mod disk;
pub mod dns;
pub mod endpoint;
pub mod guard;
pub mod http;
pub mod journal;
pub mod kind;
pub mod kubernetes;
pub mod ledger;
pub mod lenient;
pub mod lock;
pub mod lookout;
pub mod postgres;
pub mod probe;
pub mod process;
pub mod program;
pub mod request;
pub mod runtime;
pub mod secret;
pub mod store;
pub mod supervisor;
pub mod target;
pub mod telegram;
pub mod trust;
pub mod upkeep;
pub mod webhook;
