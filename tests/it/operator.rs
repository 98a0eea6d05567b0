//! What runs in Kubernetes, against real API servers.

mod chart;
mod cluster;
mod image;
