//! Flags of `failover simulate`.

use std::path::PathBuf;

use clap::Args;

/// `failover simulate`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover simulate                        a thousand histories of services of its own\n  \
    failover simulate -f documents/          of your services, in a world that obeys their documents\n  \
    failover simulate --from 4711 --seeds 1  one history again, every event of it\n  \
    failover simulate --save broken/             what broke a rule, shrunk, as files\n  \
    failover simulate --script broken/*.json     those histories again, as a test of the mend plays them\n  \
    failover simulate --output json | jq .violations\n\n\
    Exit status: 0 every rule held, 1 one did not or --cover missed something, 2 used wrongly.\n\
    See 'failover help simulation'.")]
pub struct Simulate {
    /// Files, or folders whose *.yaml and *.yml are read; without, services are drawn from the seeds.
    #[arg(short = 'f', long = "file", value_name = "PATH")]
    pub file: Vec<PathBuf>,
    /// Files of histories that broke a rule, as --save writes them: nothing is drawn.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["file", "from", "seeds", "cover"])]
    pub script: Vec<PathBuf>,
    /// Writes the first histories that break a rule into this folder, shrunk to what it takes, one file each.
    #[arg(long, value_name = "FOLDER")]
    pub save: Option<PathBuf>,
    /// How many histories.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// The first seed; one alone is played with every event printed.
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub from: u64,
    /// Goes on, to this many histories at most, until all that can be reached was seen; fails where it was not.
    #[arg(long, value_name = "N", conflicts_with = "file")]
    pub cover: Option<u64>,
}
