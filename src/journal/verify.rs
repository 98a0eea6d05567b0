//! Verifying: is each chain whole, and where does it break first?
//!
//! A hash chain proves that nothing within it was changed, put in or taken out. That its last records are not missing
//! can only be told by somebody who knows how far it went: the copy in the object store.

use std::{collections::BTreeMap, io::BufRead};

use serde::Serialize;

use super::{
    chain::{Checker, Head},
    export::{self, ExportError, Exported},
    file::JournalFile,
};
use crate::{
    model::{
        id::{Epoch, Seq, ServiceName},
        record::Record,
        time::Time,
    },
    port::journal::JournalError,
};

/// What verifying a chain found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The chain.
    pub chain: ServiceName,
    /// How many records from the first one on are as they were written.
    pub records: u64,
    /// Hash of the last of them; it stands for all of them.
    pub hash: String,
    /// Wall time of the last of them.
    pub last: Option<Time>,
    /// The highest epoch among them.
    pub epoch: Epoch,
    /// Where the chain breaks; none where it is whole.
    pub broken: Option<Break>,
}

/// Where and how a chain breaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Break {
    /// The first record that does not fit.
    pub seq: Seq,
    /// In one sentence.
    pub reason: String,
}

impl Finding {
    fn new(chain: ServiceName) -> Self {
        let start = Head::default();
        Self {
            chain,
            records: 0,
            hash: start.hash,
            last: None,
            epoch: Epoch(0),
            broken: None,
        }
    }

    fn take(&mut self, record: &Record, hash: String) {
        self.records += 1;
        self.hash = hash;
        self.last = Some(record.at);
        self.epoch = self.epoch.max(record.epoch);
    }

    /// Takes note of a break; any other error is handed back.
    fn note(&mut self, error: JournalError) -> Result<(), JournalError> {
        match error {
            JournalError::Broken { seq, reason, .. } => {
                self.broken = Some(Break { seq, reason });
                Ok(())
            }
            JournalError::Full { .. }
            | JournalError::Conflict { .. }
            | JournalError::Locked { .. }
            | JournalError::Newer { .. }
            | JournalError::Unread { .. }
            | JournalError::Io { .. } => Err(error),
        }
    }
}

/// Verifies every chain of a journal.
///
/// # Errors
/// Where it cannot be read, or was written by a newer version.
pub fn journal(file: &JournalFile) -> Result<Vec<Finding>, JournalError> {
    file.heads()?
        .into_iter()
        .map(|(chain, _)| {
            let mut finding = Finding::new(chain.clone());
            let walked = file.each_record(&chain, Seq(1), |record, line| {
                finding.take(&record, line.hash);
                Ok(())
            });
            walked.or_else(|e| finding.note(e))?;
            Ok(finding)
        })
        .collect()
}

/// Verifies every chain of an export.
///
/// # Errors
/// Where it cannot be read, is no export, or was written by a newer version.
pub fn export(text: &mut dyn BufRead) -> Result<Vec<Finding>, ExportError> {
    let mut chains = Chains::default();
    export::read(text, |exported| {
        chains.take(&exported).map_err(ExportError::Journal)
    })?;
    Ok(chains.findings())
}

/// Several chains whose lines come in any mixture.
#[derive(Debug, Default)]
struct Chains(BTreeMap<ServiceName, (Checker, Finding)>);

impl Chains {
    fn take(&mut self, exported: &Exported) -> Result<(), JournalError> {
        let chain = &exported.chain;
        let (checker, finding) = self.0.entry(chain.clone()).or_insert_with(|| {
            (
                Checker::behind(chain.clone(), Head::default()),
                Finding::new(chain.clone()),
            )
        });
        if finding.broken.is_some() {
            return Ok(());
        }
        match checker.next(&exported.line) {
            Ok(record) => {
                finding.take(&record, exported.line.hash.clone());
                Ok(())
            }
            Err(e) => finding.note(e),
        }
    }

    fn findings(self) -> Vec<Finding> {
        self.0.into_values().map(|(_, finding)| finding).collect()
    }
}
