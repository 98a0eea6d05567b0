//! Flags of `failover vantage`, and those of `failover run` for observers elsewhere.

use std::path::PathBuf;

use clap::Args;
use url::Url;

use super::Listen;
use crate::model::span::Span;

/// `failover vantage`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover vantage --controller https://dr.example.net:8443 --name paris --key env:PARIS_KEY\n  \
    failover vantage --controller https://dr.example.net:8443 --name paris --key file:/etc/failover/paris.key --ca ca.pem\n\n\
    The controller says what to look at; nothing else is configured here. Secrets of probes are read on this host.\n\
    While the controller is away the newest looks are kept for it. SIGTERM and Ctrl-C end cleanly.\n\
    See 'failover help vantage-points'.")]
pub struct Vantage {
    /// Where the controller listens for observers.
    #[arg(
        long,
        env = "FAILOVER_CONTROLLER",
        value_name = "URL",
        help = "Where the controller listens for observers: https://HOST:PORT"
    )]
    pub controller: Url,
    /// The vantage point that this is, as in the documents.
    #[arg(long, env = "FAILOVER_VANTAGE", value_name = "NAME")]
    pub name: String,
    /// Where the key is: `env:NAME` or `file:PATH`.
    #[arg(
        long,
        env = "FAILOVER_VANTAGE_KEY",
        hide_env_values = true,
        value_name = "env:NAME|file:PATH",
        help = "Where the key is, never the key itself"
    )]
    pub key: String,
    /// PEM file with the certificates to trust instead of the system's.
    #[arg(long, env = "FAILOVER_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Run the commands of probe/command that the controller sends; without it such a look is unknown.
    #[arg(long)]
    pub allow_commands: bool,
    /// How long the controller may be silent before that is an error.
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    pub silence: Span,
    /// Program that is run then, and again when the controller is heard ('failover help vantage-points').
    #[arg(long, value_name = "PROGRAM")]
    pub on_silence: Option<String>,
}

/// Flags of `failover run` for observers elsewhere.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Observers elsewhere")]
pub struct VantageListen {
    /// Address that observers report to ('failover vantage'); 'off' for none.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "off")]
    pub vantage_listen: Listen,
    /// PEM file with the certificate chain of that address.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the private key of that certificate.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Speak plain HTTP there, behind a proxy that speaks HTTPS.
    #[arg(long, conflicts_with = "tls_cert")]
    pub vantage_insecure: bool,
}
