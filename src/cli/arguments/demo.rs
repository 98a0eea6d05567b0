//! Flags of `failover demo`, and of the processes that it starts.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Subcommand, ValueEnum};

/// `failover demo`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover demo                        the primary crashes; the standby takes over\n  \
    failover demo --scenario partition   the primary cannot be proved dead: it asks\n  \
    failover demo --scenario switchover  planned work: the shop moves while customers order\n  \
    failover demo --scenario drill       a copy of the standby is promoted apart from everything\n  \
    failover demo --keep                 leave it running and look around\n  \
    failover demo --output json | jq .downtime_s\n\n\
    With PostgreSQL 13 or newer on this machine the demo uses a real primary and standby; without it a stateless shop.\n\
    Ctrl-C leaves nothing behind.")]
pub struct Demo {
    /// Which outage to make, or which planned work to do.
    #[arg(long, value_enum, default_value_t)]
    pub scenario: Scenario,
    /// Fail over as soon as the outage is certain, without the patience in which a primary may come back by itself.
    #[arg(long)]
    pub immediate: bool,
    /// Leave everything running until Ctrl-C.
    #[arg(long)]
    pub keep: bool,
    /// Export the journal to this file, so that it outlives the demo.
    #[arg(long, value_name = "PATH")]
    pub journal: Option<PathBuf>,
    /// Where the report of the drill is written; its ending says how: html, json, md or xml (`JUnit`).
    #[arg(
        long,
        value_name = "FILE",
        help = "Where the report of the drill is written; its ending says how [default: failover-drill.html]"
    )]
    pub report: Option<PathBuf>,
    /// Protect the stateless shop even where PostgreSQL is found.
    #[arg(long)]
    pub without_database: bool,
    /// Folder with PostgreSQL's programs [default: PATH, then the usual places].
    #[arg(long, value_name = "DIR")]
    pub postgres: Option<PathBuf>,
}

/// What the demo shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Database and shop at the primary are killed; their host can still prove it.
    #[default]
    Crash,
    /// Every process at the primary stops answering but is still there.
    Freeze,
    /// The network drops everything to and from the primary.
    Partition,
    /// The primary goes down and comes back several times.
    Flapping,
    /// The primary is killed while the standby is behind by more than the RPO.
    Lagging,
    /// No outage: a drill exercises the recovery beside the service; without PostgreSQL on paper only.
    Drill,
    /// No outage: the service is moved to the standby site in order.
    Switchover,
}

/// The demo's child processes.
#[derive(Debug, Subcommand)]
pub enum DemoPart {
    /// A host of the demo: its database, its shop and its agent.
    Host {
        /// Settings as JSON.
        #[arg(long)]
        settings: PathBuf,
    },
    /// A site's shop.
    Shop {
        /// Settings as JSON.
        #[arg(long)]
        settings: PathBuf,
    },
    /// Asks a host's agent to stop its database for good, or whether it did.
    Fence {
        /// What is asked.
        verb: PartVerb,
        /// The agent's address.
        #[arg(long)]
        agent: SocketAddr,
    },
    /// Asks a host's agent to stop its database in order, and waits until the standby has all of its log.
    Drain {
        /// What is asked.
        verb: PartVerb,
        /// The agent's address.
        #[arg(long)]
        agent: SocketAddr,
        /// The address of the standby's agent.
        #[arg(long)]
        standby: SocketAddr,
    },
    /// Asks a host's agent to have its database follow another one.
    Follow {
        /// What is asked.
        verb: PartVerb,
        /// The agent's address.
        #[arg(long)]
        agent: SocketAddr,
        /// The address of the database that is the primary now.
        #[arg(long)]
        primary: SocketAddr,
    },
}

/// What a step of the demo is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PartVerb {
    /// Do it.
    Perform,
    /// Is it done?
    Observe,
    /// Take it back.
    Undo,
}
