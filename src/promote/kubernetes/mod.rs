//! Promotions in a cluster: workloads scaled, fields set, `CronJobs` resumed. Each writes on the object what was before,
//! in the change itself, and refuses to take a field from whoever sets it back.

mod change;
mod field;
mod patch;
mod scale;
mod suspend;

pub use self::{patch::KIND as PATCH, scale::KIND as SCALE, suspend::KIND as SUSPEND};
