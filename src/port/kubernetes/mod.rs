//! Clusters as several adapters reach them: whose they are, what a workload is, who owns a field, and what was there
//! before a step changed it. Decides nothing of what a step comes to.

mod connection;
mod error;
mod note;
mod owner;
mod readiness;
mod workload;

pub use connection::{Cluster, name_problem};
pub use error::ApiError;
pub use note::{Ending, Note};
pub use owner::{MANAGER, Owner, owners};
pub use readiness::{autoscalers, refused, rival};
pub use workload::{Standing, Workload, WorkloadKind, WorkloadWith};
