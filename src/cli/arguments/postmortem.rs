//! Flags of `failover postmortem`.

use clap::Args;

/// `failover postmortem`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover postmortem shop-i12 > postmortem.md\n  \
    failover postmortem shop       the newest incident of the service\n\n\
    A draft in Markdown, from the journal alone: it works whether or not a controller runs. What the journal cannot\n\
    know is left to be written.")]
pub struct Postmortem {
    /// An incident, such as shop-i12, or a service.
    #[arg(value_name = "INCIDENT|SERVICE")]
    pub id: String,
}
