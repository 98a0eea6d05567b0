//! What runs in Kubernetes, against real API servers.

mod account;
mod admission;
mod approvals;
mod chart;
mod cluster;
mod crossing;
mod desk;
mod external_dns;
mod fence;
mod image;
mod journal;
mod ledger;
mod programs;
mod reach;
mod replicas;
mod site;
mod versions;
