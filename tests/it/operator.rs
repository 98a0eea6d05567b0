//! What runs in Kubernetes, against real API servers.

mod account;
mod admission;
mod chart;
mod cluster;
mod image;
mod journal;
mod replicas;
