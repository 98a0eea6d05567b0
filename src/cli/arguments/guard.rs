//! Flags of `failover guard`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `failover guard`.
#[derive(Debug, Subcommand)]
pub enum Guard {
    /// Guard the database, until SIGTERM or Ctrl-C.
    Run(GuardRun),
    /// Enrol this host, once: write the guard's first promise.
    Init(GuardDocument),
    /// Let a fenced site follow again, once its data was resynchronised; its guard must be stopped.
    Rejoin(GuardRejoin),
    /// Show how the running guard's site stands.
    Status(GuardDocument),
    /// Draw a key pair: write the private key, print the public one.
    Keygen(GuardKeygen),
    /// Try dead-man and gate on this host; nothing of the database is touched.
    Prove(GuardDocument),
}

/// The document of this host.
#[derive(Clone, Debug, Args)]
pub struct GuardDocument {
    /// The guard's document.
    #[arg(short = 'f', long = "file", value_name = "PATH")]
    pub file: PathBuf,
}

/// `failover guard run`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover guard keygen --key /etc/failover/guard.key\n  \
    failover guard init -f /etc/failover/guard.yaml\n  \
    failover guard run -f /etc/failover/guard.yaml\n\n\
    guard.yaml:\n  \
    service: shop\n  \
    site: paris\n  \
    listen: 10.0.0.1:7400            # UDP\n  \
    key: {file: /etc/failover/guard.key}\n  \
    controller: {name: dr, address: '10.0.0.9:7400', publicKey: …}\n  \
    peer: {site: milan, address: '10.0.1.1:7400', publicKey: …}   # the other site's guard, if any\n  \
    state: /var/lib/failover/guard   # has to outlive a reboot\n  \
    renewal: 150ms\n  \
    controllerSilence: 5m            # then onSilence is run, and when it is over\n  \
    onSilence: page                  # one of the actions, as are those of guard/action\n  \
    actions: {page: {command: [/usr/local/bin/page, dr], timeout: 60s}}\n  \
    database:\n    \
    program: /usr/lib/postgresql/15/bin/postgres   # stays in the foreground\n    \
    args: [-D, /var/lib/postgresql/15/main]\n    \
    user: postgres                 # group, groups: those of the user\n    \
    dataDir: /var/lib/postgresql/15/main\n    \
    listen: ['10.0.0.1:5432', '127.0.0.1:5432']    # every address, for the gate\n    \
    connection: host=/run/postgresql user=failover # password: {file: …}\n    \
    logFile: /var/log/postgresql/guarded.log\n\n\
    The guard alone starts and stops PostgreSQL: disable its unit. Set restart_after_crash = off.\n\
    SIGTERM leaves the database running: a primary until its lease ends, unless the guard is started again.")]
pub struct GuardRun {
    /// The guard's document.
    #[command(flatten)]
    pub document: GuardDocument,
    /// Stop the database in its own order when the guard is told to end.
    #[arg(long)]
    pub stop_database: bool,
}

/// `failover guard rejoin`.
#[derive(Debug, Args)]
pub struct GuardRejoin {
    /// The guard's document.
    #[command(flatten)]
    pub document: GuardDocument,
    /// The data directory was made anew, after `pg_rewind` had been broken off in it.
    #[arg(long)]
    pub rebuilt: bool,
}

/// `failover guard keygen`.
#[derive(Debug, Args)]
pub struct GuardKeygen {
    /// File that the private key is written to, for its owner alone; it must not be there yet.
    #[arg(long, value_name = "PATH")]
    pub key: PathBuf,
}
