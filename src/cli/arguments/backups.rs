//! Flags of `failover backups`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::model::time::Time;

/// `failover backups`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:\n  \
    failover backups                       ask the running controller about all its services\n  \
    failover backups shop -f documents/    from here, without a controller\n  \
    failover backups shop --all            every copy, not only the newest of each place\n  \
    failover backups take shop -f documents/     take one now\n  \
    failover backups verify shop           restore the newest one to try it\n  \
    failover backups prune shop -f documents/    what the ladder does not keep any more\n  \
    failover backups restore shop -f documents/  the moments that can be brought back\n  \
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
    /// Take a backup as the policy says, and put it into each of its places.
    Take(BackupsTake),
    /// Restore a backup into a PostgreSQL of its own, ask it, and remove it again.
    Verify(BackupsVerify),
    /// Delete what the retention ladder does not keep any more.
    Prune(BackupsPrune),
    /// Bring a backup back into a folder of its own, to a moment where archived WAL allows it.
    Restore(BackupsRestore),
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

/// `failover backups take`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover backups take shop -f documents/\n\n\
    As `take` of the policy says: a base backup or a dump, packed, encrypted by age, put into each of its places. What\n\
    came of it is recorded: by the controller, or in the journal of the state folder where none runs.\n\
    Exit status: 0 it is everywhere, 1 it is not, 2 used wrongly.")]
pub struct BackupsTake {
    /// Service.
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// The documents.
    #[arg(short = 'f', long = "file", value_name = "PATH", required = true)]
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

/// `failover backups restore`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover backups restore shop -f documents/                          the moments that can be brought back\n  \
    failover backups restore shop -f documents/ --to /srv/before         as late as there is\n  \
    failover backups restore shop -f documents/ --to /srv/before --at 2026-11-21T13:59:30Z\n\n\
    It says first what it will do. Only base backups: WAL cannot be replayed on a dump. Nothing that runs is touched; the\n\
    folder must be absent or empty, and appears when everything is in it. What is there then is a database that was\n\
    stopped in order, with a timeline of its own and archive_mode off; take from it what the bad change destroyed.\n\
    Exit status: 0 it was restored, 1 it was not, 2 used wrongly.")]
pub struct BackupsRestore {
    /// Service.
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// The data directory that is made: absent, or an empty folder. Without it nothing is restored.
    #[arg(long, value_name = "FOLDER")]
    pub to: Option<PathBuf>,
    /// The moment to go back to, in RFC 3339 [default: as late as there is].
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub at: Option<Time>,
    /// The backup to begin with [default: the newest one before the moment, of those that were tried].
    #[arg(long, value_name = "ID")]
    pub copy: Option<String>,
    /// The source of archived WAL [default: the first that keeps logs].
    #[arg(long, value_name = "NAME")]
    pub wal: Option<String>,
    /// Folder of PostgreSQL's programs [default: they are looked for].
    #[arg(long, value_name = "FOLDER")]
    pub programs: Option<PathBuf>,
    /// Only say what would be done.
    #[arg(long)]
    pub dry_run: bool,
    /// The documents.
    #[arg(short = 'f', long = "file", value_name = "PATH", required = true)]
    pub file: Vec<PathBuf>,
}

fn moment(text: &str) -> Result<Time, String> {
    Time::parse(text).map_err(|_| "expected a moment such as 2026-11-21T13:59:30Z".to_owned())
}
