//! Flags of `failover journal`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `failover journal …`.
#[derive(Debug, Subcommand)]
pub enum Journal {
    /// Show the records of a service.
    Show(JournalShow),
    /// Write records as JSON, one a line, with their hashes.
    Export(JournalExport),
    /// Prove that the chains are whole.
    Verify(JournalVerify),
}

/// `failover journal show`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover journal show shop\n  \
    failover journal show shop --from 120 --output json")]
pub struct JournalShow {
    /// Service.
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// First sequence.
    #[arg(long, default_value_t = 1, value_name = "SEQ")]
    pub from: u64,
}

/// `failover journal export`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover journal export > journal.jsonl\n  \
    failover journal export shop --to shop.jsonl")]
pub struct JournalExport {
    /// Service; every one where none is named.
    #[arg(value_name = "SERVICE")]
    pub service: Option<String>,
    /// File to write; it must not exist [default: standard output].
    #[arg(long, value_name = "PATH")]
    pub to: Option<PathBuf>,
}

/// `failover journal verify`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover journal verify\n  \
    failover journal verify --from journal.jsonl    an exported journal\n\n\
    Exit status: 0 every chain is whole, 1 one is not, 2 used wrongly.")]
pub struct JournalVerify {
    /// An exported file instead of the state folder's journal.
    #[arg(long, value_name = "PATH")]
    pub from: Option<PathBuf>,
}
