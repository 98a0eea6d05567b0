//! What a failover would lose, as far as it can be known.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    id::{CopyId, SourceName},
    span::Span,
    time::Time,
};

/// How far the standby was behind when both sides were last seen. Stale lag is unknown, never zero.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LossForecast {
    /// Nothing to lose: no database is part of the plan.
    Stateless,
    /// Nothing: the standby is promoted once it has the last of a log that was ended in order.
    Drained,
    /// Known to be at most this.
    Known(Lag),
    /// A backup takes the place of the standby: everything after it and the archived WAL is lost.
    Restored(Reach),
    /// The last measurement is too old, or there is none.
    Unknown {
        /// In plain words.
        reason: String,
    },
}

/// How far a backup and the WAL that was archived since reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reach {
    /// Where the backup is.
    pub source: SourceName,
    /// Which one.
    pub copy: CopyId,
    /// When it was taken.
    pub taken: Time,
    /// When the newest archived WAL was written that follows it; none where none is replayed, or none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived: Option<Time>,
    /// From there to the outage: the writes of so long are lost.
    pub time: Span,
}

/// A measured replication lag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lag {
    /// Bytes of log that the standby had not received.
    pub bytes: u64,
    /// In time: how much of the last writes that is at most.
    pub time: Span,
    /// When this was measured.
    pub measured: Time,
}

impl fmt::Display for LossForecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stateless => f.write_str("nothing: no database is part of this plan"),
            Self::Drained => f.write_str(
                "nothing: writes stop first, and nothing is promoted before the standby has all of them",
            ),
            Self::Known(lag) if lag.bytes == 0 => {
                write!(
                    f,
                    "none known: the standby had everything when it was last compared, at {}",
                    lag.measured.clock()
                )?;
                // What the primary took after that nobody has seen.
                if lag.time > Span::ZERO {
                    write!(
                        f,
                        "; writes of the {} from then to the outage may be lost",
                        lag.time
                    )?;
                }
                Ok(())
            }
            Self::Known(lag) => write!(
                f,
                "up to {} bytes of log, the writes of at most {} (compared at {})",
                lag.bytes,
                lag.time,
                lag.measured.clock()
            ),
            Self::Restored(reach) => {
                write!(
                    f,
                    "the writes of {}: {} in {} was taken on {}",
                    reach.time,
                    reach.copy,
                    reach.source,
                    reach.taken.date()
                )?;
                match reach.archived {
                    Some(at) => write!(f, ", and archived WAL reaches to {}", at.date()),
                    None => f.write_str(", and no archived WAL is known that follows it"),
                }
            }
            Self::Unknown { reason } => write!(f, "unknown: {reason}"),
        }
    }
}
