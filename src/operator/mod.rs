//! The operator: the same controller in a cluster, on custom resources. Holds what is Kubernetes' own: the resources and
//! their schemas, who of several replicas leads, and what is written back into statuses. Decides nothing: resources are
//! compiled as files are (`spec/`), and driven by `driver/`.

pub mod approval;
pub mod bounds;
mod cluster;
pub mod crd;
pub mod definitions;
mod document;
mod event;
pub mod leader;
pub mod lease;
pub mod reach;
pub mod replica;
mod request;
pub mod resource;
pub mod revision;
mod rule;
mod secret;
mod standing;
