//! Who leads after us: a takeover that stands in the journal's copy, where the controller that it took over from finds it.

use std::fmt;

use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::copy::{CopyError, read_segment};
use crate::{
    model::{
        id::{Epoch, PersonName, Seq, ServiceName},
        record::{Record, RecordBody},
        time::Time,
    },
    port::{journal::Line, store::Store},
};

/// Another controller took this journal up, and the copy follows that one now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Succession {
    /// The chain that was taken up.
    pub chain: ServiceName,
    /// The epoch that it goes on in.
    pub epoch: Epoch,
    /// Who took it up.
    pub by: PersonName,
    /// Why.
    pub reason: String,
    /// When, by the clock of that host.
    pub at: Time,
}

impl fmt::Display for Succession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} was taken over by {} on {} ({}), in epoch {}",
            self.chain,
            self.by,
            self.at.date(),
            self.reason,
            self.epoch
        )
    }
}

/// The takeover in segments of a copy with which they part from ours: it is what a successor writes first.
///
/// # Errors
/// Where a segment cannot be read.
pub(super) async fn find(
    store: &Store,
    chain: &ServiceName,
    segments: &[Path],
    from: Seq,
) -> Result<Option<Succession>, CopyError> {
    for segment in segments {
        let exported = read_segment(store, segment).await?;
        let mut theirs = exported.iter().map(|e| &e.line);
        if let Some(line) = theirs.find(|l| l.seq == from) {
            return Ok(of(chain, line));
        }
    }
    Ok(None)
}

/// The takeover that a line records, if it does.
pub(super) fn of(chain: &ServiceName, line: &Line) -> Option<Succession> {
    // A takeover of nothing is none.
    let record = serde_json::from_str::<Record>(&line.text).ok();
    let record = record.filter(|r| r.seq > Seq(1))?;
    if let RecordBody::TakenOver { epoch, by, reason } = record.body {
        return Some(Succession {
            chain: chain.clone(),
            epoch,
            by,
            reason,
            at: record.at,
        });
    }
    None
}
