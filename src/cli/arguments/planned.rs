//! Flags of `failover switchover` and `failover failback`.

use clap::Args;

use super::{Begin, Failover, Kind};

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
    /// How it is begun.
    #[command(flatten)]
    pub begin: Begin,
}

impl Planned {
    /// The same as a run of this kind.
    #[must_use]
    pub fn of(self, kind: Kind) -> Failover {
        Failover {
            service: self.service,
            kind,
            to: self.to,
            begin: self.begin,
        }
    }
}
