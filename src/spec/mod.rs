//! Documents: read with places and paths, validated into `model::service` types. Knows `port/` and `model/` only.
//!
//! A text becomes a `tree` that knows its places; the tree a value; the value a document ([`service`],
//! [`runbook`]), with every misfit found at once (`mend`); documents together become services (`compile`).
//! Everything wrong is a complaint about a path until [`load`] looks its place up and makes a [`Diagnostic`] of it.

pub mod backup;
mod branch;
pub mod code;
mod compile;
mod complaint;
mod diagnostic;
pub mod document;
pub mod draft;
mod drill;
mod escalation;
pub mod fault;
mod fit;
pub mod group;
mod guards;
mod leak;
mod load;
mod mend;
mod misfit;
mod names;
mod nearest;
mod outline;
mod path;
mod people;
mod place;
pub mod readiness;
mod ready;
pub mod runbook;
mod scalar;
mod schedule;
mod schema;
mod scope;
pub mod service;
mod settings;
mod take;
mod tell;
mod template;
mod tree;
mod watch;

pub use code::{Code, CodePage, Severity};
pub use diagnostic::{Diagnostic, Look, Related};
pub use load::{Loaded, Source, load, read, read_text};
pub use ready::{RUNBOOKS, ReadyMade, ReadyStep};
pub use schema::{adapters, schema};
