//! Flags of `failover switchover` and `failover failback`.

use clap::Args;

use super::{Failover, Identity, Kind};

/// `failover switchover` and `failover failback`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover switchover shop --reason 'new power supply at ams'\n  \
    failover failback shop --reason 'ams is repaired' --watch\n\n\
    Shows the plan and asks before it begins. Both sites must be well: writes stop, the standby gets the last of them, and\n\
    only then it takes over. See 'failover help switchover'.")]
pub struct Planned {
    /// Service.
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// Site to go to [default: the standby; for a failback the primary of the documents].
    #[arg(long, value_name = "SITE")]
    pub to: Option<String>,
    /// Why; goes into the journal.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Begin only if the plan still has this hash (its first 12 digits are enough).
    #[arg(long, value_name = "HASH")]
    pub plan: Option<String>,
    /// Do not ask before it begins.
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// Stay and show what happens until the run ends.
    #[arg(long, short = 'w')]
    pub watch: bool,
    /// Who you are.
    #[command(flatten)]
    pub identity: Identity,
}

impl Planned {
    /// The same as a run of this kind.
    #[must_use]
    pub fn of(self, kind: Kind) -> Failover {
        Failover {
            service: self.service,
            kind,
            to: self.to,
            reason: self.reason,
            plan: self.plan,
            yes: self.yes,
            watch: self.watch,
            identity: self.identity,
        }
    }
}
