//! What runs in Kubernetes, against real API servers.

mod account;
mod admission;
mod chart;
mod cluster;
mod crossing;
mod fence;
mod image;
mod journal;
mod replicas;
mod site;
