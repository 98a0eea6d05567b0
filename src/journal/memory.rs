//! The journal in memory: for tests, simulations and whatever may be forgotten.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use super::chain::{self, Checker, Head};
use crate::{
    model::{
        id::{Seq, ServiceName},
        record::Record,
    },
    port::journal::{Draft, Journal, JournalError, Line, Lines},
};

/// A journal that is gone with the process. It behaves as the one on disk does otherwise.
#[derive(Debug, Default)]
pub struct MemoryJournal {
    chains: Mutex<BTreeMap<ServiceName, Vec<Line>>>,
}

impl MemoryJournal {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One with the lines of a copy.
    #[must_use]
    pub fn restored(chains: impl IntoIterator<Item = (ServiceName, Vec<Line>)>) -> Self {
        Self {
            chains: Mutex::new(chains.into_iter().collect()),
        }
    }

    fn chains(&self) -> MutexGuard<'_, BTreeMap<ServiceName, Vec<Line>>> {
        self.chains.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn append(
        &self,
        chain: &ServiceName,
        after: Seq,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Record>, JournalError> {
        let mut chains = self.chains();
        let lines = chains.entry(chain.clone()).or_default();
        let mut head = lines.last().map_or_else(Head::default, |line| Head {
            seq: line.seq,
            hash: line.hash.clone(),
        });
        if head.seq != after {
            return Err(JournalError::Conflict {
                chain: chain.clone(),
                seq: after.next(),
            });
        }
        let sealed = chain::seal(chain, &mut head, drafts).map_err(|e| JournalError::Io {
            place: "in memory".to_owned(),
            source: e.into(),
        })?;
        let (records, new): (_, Vec<Line>) = sealed.into_iter().unzip();
        lines.extend(new);
        Ok(records)
    }

    async fn read(&self, chain: &ServiceName, from: Seq) -> Result<Vec<Record>, JournalError> {
        let lines = self.chains().get(chain).cloned().unwrap_or_default();
        let mut checker = Checker::behind(chain.clone(), Head::default());
        let mut records = Vec::new();
        for line in &lines {
            let record = checker.next(line)?;
            if record.seq >= from {
                records.push(record);
            }
        }
        Ok(records)
    }

    async fn chains(&self) -> Result<Vec<ServiceName>, JournalError> {
        Ok(self.heads().await?.into_iter().map(|(c, _)| c).collect())
    }
}

#[async_trait]
impl Lines for MemoryJournal {
    async fn lines(
        &self,
        chain: &ServiceName,
        from: Seq,
        most: usize,
    ) -> Result<Vec<Line>, JournalError> {
        Ok(self
            .chains()
            .get(chain)
            .into_iter()
            .flatten()
            .filter(|line| line.seq >= from)
            .take(most)
            .cloned()
            .collect())
    }

    async fn heads(&self) -> Result<Vec<(ServiceName, Seq)>, JournalError> {
        Ok(self
            .chains()
            .iter()
            .filter_map(|(chain, lines)| lines.last().map(|l| (chain.clone(), l.seq)))
            .collect())
    }
}
