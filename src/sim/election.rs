//! Elections: which replica leads, as far as the one Lease of a cluster says, and what a replica does to keep it.

use std::sync::Arc;

use async_trait::async_trait;
use futures::channel::mpsc;

use super::{
    stagehand::lock,
    weakness::Weakness,
    world::{SharedWorld, World},
};
use crate::{
    driver::{
        service::{Input, Leader},
        tenure::{Moment, Tenure},
    },
    journal::memory::MemoryJournal,
    model::{
        id::{Seq, ServiceName, Term},
        record::RecordBody,
        span::Span,
    },
    port::{
        journal::{Journal, JournalError, Rivals},
        runtime::SharedRuntime,
    },
};

/// A Lease that was not renewed for so long is taken: the times are those of the operator.
pub const LEASE: Span = Span::from_secs(15);
/// A renewal has to succeed within this.
const RENEW: Span = Span::from_secs(10);
/// Time between two attempts, and for one.
pub const RETRY: Span = Span::from_secs(2);
/// Longer than any history.
const ENDLESS: Span = Span::from_secs(1_000_000);

/// The cluster, as one elected replica reaches it.
pub struct Cluster {
    kept: Arc<MemoryJournal>,
    world: SharedWorld,
    runtime: SharedRuntime,
    term: Term,
}

impl Cluster {
    /// Begins a term of the process that has this runtime.
    #[must_use]
    pub fn won(kept: &Arc<MemoryJournal>, world: &SharedWorld, runtime: &SharedRuntime) -> Self {
        Self {
            kept: kept.clone(),
            world: world.clone(),
            runtime: runtime.clone(),
            term: lock(world).begins_term(),
        }
    }

    /// What leads from now on, and for how long it may be sure of that. `yields` where it stops once it cannot renew, as one
    /// that grants leases to guards does.
    #[must_use]
    pub fn leader(self, yields: bool, inbox: &mpsc::UnboundedSender<Input>) -> Leader {
        let (runtime, term) = (self.runtime.clone(), self.term);
        let is_endless = lock(&self.world).scenario.weakness == Some(Weakness::EndlessTenure);
        let lasts = if is_endless { ENDLESS } else { RENEW };
        let asked = Moment::now(&runtime);
        let own = Arc::new(self);
        let tenure = Arc::new(Tenure::new(asked, lasts, own.clone(), runtime.clone()));
        let (kept, inbox) = (tenure.clone(), inbox.clone());
        let keeps = async move {
            own.keep(&kept, asked, yields).await;
            if !is_endless {
                kept.end();
                drop(inbox.unbounded_send(Input::Stop));
            }
        };
        runtime.spawn("lease", Box::pin(keeps));
        Leader {
            term,
            name: format!("replica-{term}"),
            tenure,
        }
    }

    /// Renews the Lease until it is lost.
    async fn keep(&self, tenure: &Tenure, won: Moment, yields: bool) {
        let mut renewed = won;
        loop {
            self.sleep(RETRY).await;
            let asked = Moment::now(&self.runtime);
            match self.renew().await {
                Ok(true) => {
                    renewed = asked;
                    tenure.renew(asked);
                }
                Ok(false) => return,
                Err(_) if yields && renewed.age(&self.runtime) >= RENEW => return,
                Err(_) => {}
            }
        }
    }

    async fn renew(&self) -> Result<bool, JournalError> {
        self.way(false).await?;
        let is_mine = lock(&self.world).renews(self.term);
        self.way(true).await?;
        Ok(is_mine)
    }

    async fn sleep(&self, span: Span) {
        let until = self.runtime.now().after(span);
        self.runtime.sleep_until(until).await;
    }

    async fn way(&self, is_back: bool) -> Result<(), JournalError> {
        let arrives = lock(&self.world).way_to_store(is_back);
        self.sleep(arrives.unwrap_or(RETRY)).await;
        arrives.map(drop).ok_or_else(silent)
    }
}

/// The cluster does not answer.
#[must_use]
pub fn silent() -> JournalError {
    JournalError::Io {
        place: "in the simulated cluster".to_owned(),
        source: "no answer in time".into(),
    }
}

#[async_trait]
impl Rivals for Cluster {
    async fn overtaken(
        &self,
        chain: &ServiceName,
        after: Seq,
    ) -> Result<Option<Seq>, JournalError> {
        self.way(false).await?;
        let behind = self.kept.read(chain, after.next()).await?;
        self.way(true).await?;
        // It is what whoever is elected writes first.
        let mut behind = behind.iter();
        let theirs = behind
            .find(|r| matches!(r.body, RecordBody::LeaderTaken { term, .. } if term > self.term));
        Ok(theirs.map(|r| r.seq))
    }
}

impl World {
    /// The next term begins.
    fn begins_term(&mut self) -> Term {
        let term = Term(self.lease.map_or(1, |(term, _)| term.0 + 1));
        self.lease = Some((term, self.now));
        term
    }

    /// The replica of this term renews the Lease, where it is still its own.
    fn renews(&mut self, by: Term) -> bool {
        let own = self.lease.as_mut().filter(|(term, _)| *term == by);
        let is_mine = own.is_some();
        if let Some((_, renewed)) = own {
            *renewed = self.now;
        }
        is_mine
    }

    /// Whether another replica may take the Lease.
    #[must_use]
    pub fn lease_is_over(&self) -> bool {
        let renewed = self.lease.map(|(_, renewed)| renewed);
        renewed.is_none_or(|at| self.now.since(at) >= LEASE)
    }
}
