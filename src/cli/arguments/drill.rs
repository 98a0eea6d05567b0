//! Flags of `failover drill`, `failover report` and `failover history`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Identity;

/// `failover drill`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover drill shop --reason 'before the holidays'\n  \
    failover drill shop --name monthly --report monthly.html\n\n\
    Stays until nothing of the drill is left; the exit status is 0 where it was passed. 'failover abort ID' breaks it off,\n\
    and a real outage does so by itself. See 'failover help drill'.")]
pub struct Drill {
    /// Service.
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// Which of its drills [default: the only one; 'paper' works for every service].
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Why; goes into the journal.
    #[arg(long, value_name = "TEXT", default_value = "asked for")]
    pub reason: String,
    /// Write the report to this file; its ending says how: html, json, md or xml (`JUnit`).
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Return as soon as it has begun.
    #[arg(long, conflicts_with = "report")]
    pub detach: bool,
    /// Who you are.
    #[command(flatten)]
    pub identity: Identity,
}

/// `failover report`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover report shop-r41\n  \
    failover report shop --format html --out report.html\n  \
    failover report shop --format junit > drill.xml\n\n\
    From the journal alone: it works whether or not a controller runs. The journal holds the report's SHA-256, and the\n\
    report is held against it.")]
pub struct Report {
    /// A drill, such as shop-r41, or a service for its newest one.
    #[arg(value_name = "DRILL|SERVICE")]
    pub id: String,
    /// How it is written.
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<ReportFormat>,
    /// Write it to this file [default: standard output]; without --format its ending says how.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For a terminal.
    Text,
    /// One page that needs nothing else, and prints well.
    Html,
    /// For programs.
    Json,
    /// `JUnit` XML, as CI systems show it.
    Junit,
    /// For wikis.
    Markdown,
}

/// `failover history`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover history shop\n  \
    failover history shop --output json")]
pub struct History {
    /// Service.
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// Only so many of the newest.
    #[arg(long, value_name = "N")]
    pub last: Option<usize>,
}
