//! What runs in Kubernetes, against real API servers.

mod account;
mod chart;
mod cluster;
mod image;
