//! Flags of `failover backups`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `failover backups`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:\n  \
    failover backups                       ask the running controller about all its services\n  \
    failover backups shop -f documents/    from here, without a controller\n  \
    failover backups shop --all            every copy, not only the newest of each place\n  \
    failover backups verify shop           restore the newest one to try it\n  \
    failover backups prune shop -f documents/    what the ladder does not keep any more\n  \
    failover backups --output json | jq '.services[].breaches'\n\n\
    Exit status: 0 the policy is kept, 1 it is broken or that cannot be told, 2 used wrongly.\n\
    See 'failover help backups' for the rules of a policy.")]
pub struct Backups {
    /// What else to do with them.
    #[command(subcommand)]
    pub command: Option<BackupsCommand>,
    /// Service; all that have a backup policy where none is named.
    #[arg(value_name = "SERVICE")]
    pub service: Option<String>,
    /// Look from here with these documents, without a controller.
    #[arg(short = 'f', long = "file", value_name = "PATH")]
    pub file: Vec<PathBuf>,
    /// Show every copy.
    #[arg(long)]
    pub all: bool,
}

/// `failover backups …`.
#[derive(Debug, Subcommand)]
pub enum BackupsCommand {
    /// Restore a backup into a PostgreSQL of its own, ask it, and remove it again.
    Verify(BackupsVerify),
    /// Delete what the retention ladder does not keep any more.
    Prune(BackupsPrune),
}

/// `failover backups verify`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover backups verify shop                     the running controller does it, on its host\n  \
    failover backups verify shop -f documents/       here\n  \
    failover backups verify shop --source nightly --copy shop-2026-11-02.dump\n\n\
    What came of it is recorded: by the controller, or in the journal of the state folder where none runs.\n\
    Exit status: 0 it was restored and answers as it should, 1 it did not or that cannot be told, 2 used wrongly.")]
pub struct BackupsVerify {
    /// Service.
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// Source [default: the first that the policy has verified].
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// Which backup, as 'failover backups --all' names it [default: the newest].
    #[arg(long, value_name = "ID")]
    pub copy: Option<String>,
    /// Do it here with these documents, without a controller.
    #[arg(short = 'f', long = "file", value_name = "PATH")]
    pub file: Vec<PathBuf>,
}

/// `failover backups prune`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover backups prune shop -f documents/            only shows what would be deleted\n  \
    failover backups prune shop -f documents/ --apply    deletes it\n\n\
    Only full backups in backup/folder and backup/s3. Kept are, in each source: the newest, the newest that was\n\
    restored with success, everything of today and yesterday, the first of each day and month of the ladder, and\n\
    whatever the policy would be broken without. Nothing is deleted while a source cannot be listed.")]
pub struct BackupsPrune {
    /// Service.
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// Delete.
    #[arg(long)]
    pub apply: bool,
    /// The documents.
    #[arg(short = 'f', long = "file", value_name = "PATH", required = true)]
    pub file: Vec<PathBuf>,
}
