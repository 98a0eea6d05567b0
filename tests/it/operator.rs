//! What runs in Kubernetes, against real API servers.

mod cluster;
