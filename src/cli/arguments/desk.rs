//! Flags of `failover run` and `failover operator` for the web desk.

use std::path::PathBuf;

use clap::Args;

use super::Listen;

/// Flags of `failover run` and `failover operator` for the web desk.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "The desk")]
pub struct DeskListen {
    /// Address of the web desk and its API ('failover help desk'); 'off' for none.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "off")]
    pub desk_listen: Listen,
    /// PEM file with the certificate chain of that address.
    #[arg(long, value_name = "FILE", requires = "desk_key")]
    pub desk_cert: Option<PathBuf>,
    /// PEM file with the private key of that certificate.
    #[arg(long, value_name = "FILE", requires = "desk_cert")]
    pub desk_key: Option<PathBuf>,
}
