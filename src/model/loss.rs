//! What a failover would lose, as far as it can be known.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{span::Span, time::Time};

/// How far the standby was behind when both sides were last seen. Stale lag is unknown, never zero.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LossForecast {
    /// Nothing to lose: no database is part of the plan.
    Stateless,
    /// Known to be at most this.
    Known(Lag),
    /// The last measurement is too old, or there is none.
    Unknown {
        /// In plain words.
        reason: String,
    },
}

/// A measured replication lag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
            Self::Unknown { reason } => write!(f, "unknown: {reason}"),
        }
    }
}
