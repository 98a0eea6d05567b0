//! Flags of `failover announce`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::Identity;

/// `failover announce …`.
#[derive(Debug, Subcommand)]
pub enum Announce {
    /// Show the messages of each channel as they would go out; sends nothing.
    Preview(AnnouncePreview),
    /// Tell customers of a phase now.
    Send(AnnounceSend),
}

/// `failover announce preview`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover announce preview shop\n  \
    failover announce preview shop --phase on-standby\n  \
    failover announce preview shop -f documents/")]
pub struct AnnouncePreview {
    /// Service.
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// Only this phase.
    #[arg(long, value_enum, value_name = "PHASE")]
    pub phase: Option<PhaseName>,
    /// Compile from these documents, without a controller.
    #[arg(short = 'f', long = "file", value_name = "PATH")]
    pub file: Vec<PathBuf>,
}

/// `failover announce send`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover announce send shop recovered\n  \
    failover announce send shop correction --text 'Orders made at 14:03 UTC are safe.'\n\n\
    Shows the messages and asks before anything goes out.")]
pub struct AnnounceSend {
    /// Service.
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// The phase.
    #[arg(value_enum, value_name = "PHASE")]
    pub phase: PhaseName,
    /// Say this instead of the template's text.
    #[arg(long, value_name = "TEXT")]
    pub text: Option<String>,
    /// Do not ask before it goes out.
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// Who you are.
    #[command(flatten)]
    pub identity: Identity,
}

/// The phases that customers hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PhaseName {
    /// Something is wrong and is looked into.
    Investigating,
    /// The standby is being brought up.
    FailingOver,
    /// The standby serves; the fallback URL works.
    OnStandby,
    /// Everything is as usual again.
    Recovered,
    /// What was said before was wrong.
    Correction,
    /// Planned work is under way.
    Maintenance,
    /// The planned work is done.
    MaintenanceOver,
}
