//! Flags of `failover journal`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Identity;

/// `failover journal …`.
#[derive(Debug, Subcommand)]
pub enum Journal {
    /// Show the records of a service.
    Show(JournalShow),
    /// Write records as JSON, one a line, with their hashes.
    Export(JournalExport),
    /// Prove that the chains are whole.
    Verify(JournalVerify),
    /// Make the journal anew from its copy in an object store.
    Restore(JournalRestore),
}

/// `failover journal restore`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover journal restore --from s3://backup/failover --state /var/lib/failover\n\n\
    For a host that takes the place of one that is gone. The controller that wrote the copy must be stopped for good: \
    nothing in this version keeps two controllers with the same journal from acting both. Records that it wrote after \
    its last copy are not in it; an effect that was under way is looked for before anything is done.")]
pub struct JournalRestore {
    /// The copy.
    #[arg(
        long,
        value_name = "URL",
        help = "The copy: s3://bucket/prefix or file:///folder, as given to 'run --journal-copy'"
    )]
    pub from: String,
    /// Do not ask whether the other controller is stopped.
    #[arg(long)]
    pub yes: bool,
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

/// `failover takeover`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover takeover --from s3://backup/failover --reason 'the host of the controller burnt down'\n  \
    failover takeover --reason 'the disk was moved to this machine'\n  \
    kubectl exec -it deploy/failover -- failover takeover shop --reason 'restored after the cluster was lost'\n\n\
    The other controller must never run again. Without --from the journal of the state folder is taken up, which was \
    made on another host or restored. Then start 'failover run': it opens a later epoch, looks for whatever was under \
    way, and asks before each run until somebody has acknowledged that the service runs where the journal says.\n\n\
    With SERVICE the controller that runs does so itself, in its own journal: where a guard has promised an epoch that \
    this journal does not know, as after objects of a cluster were restored from a backup.")]
pub struct Takeover {
    /// A service of the controller that runs.
    #[arg(value_name = "SERVICE", conflicts_with_all = ["from", "by"])]
    pub service: Option<String>,
    /// Where the copy of the journal is.
    #[arg(
        long,
        value_name = "URL",
        help = "Where the copy of the journal is: s3://bucket/prefix or file:///folder"
    )]
    pub from: Option<String>,
    /// Why; goes into the journal.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Who you are, for the journal [default: the user of this process].
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// Do not ask whether the other controller is stopped for good.
    #[arg(long)]
    pub yes: bool,
    /// Who you are, where a service is named.
    #[command(flatten)]
    pub identity: Identity,
}
