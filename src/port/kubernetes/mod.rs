//! Clusters as several adapters reach them: whose they are, what a workload is, who owns a field, what was there before a
//! step changed it, and what an error comes to.

mod asking;
mod connection;
mod error;
mod note;
mod owner;
mod page;
mod readiness;
mod workload;

pub use asking::{AGAIN, CHECK, SOON, answered, early, left, owned};
pub use connection::{Cluster, name_problem};
pub use error::ApiError;
pub use note::{Ending, Note};
pub use owner::{MANAGER, Owner, owners};
pub use page::next_page;
pub use readiness::{autoscalers, refused, rival, scalable};
pub use workload::{REPLICAS, Standing, Workload, WorkloadKind, WorkloadWith};
