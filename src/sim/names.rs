//! The DNS provider: whoever keeps the zone of the world.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    order::{Deed, Reply},
    stagehand::{self, ask},
    world::SharedWorld,
};
use crate::{
    model::{check::CheckItem, service::RecordKind, span::Span},
    port::{
        dns::{DnsProvider, ReadError, RecordSet, SharedDns, Swap},
        kind::{MakeError, Wiring},
        runtime::SharedRuntime,
    },
};

/// How long a provider is waited for, as the real ones are.
const WITHIN: Span = Span::from_secs(5);

struct SimulatedProvider {
    world: SharedWorld,
    runtime: SharedRuntime,
}

/// Makes the provider.
///
/// # Errors
/// Where no simulation is on this thread.
pub fn make(wiring: &Wiring) -> Result<SharedDns, MakeError> {
    Ok(Arc::new(SimulatedProvider {
        world: stagehand::world()?,
        runtime: wiring.runtime.clone(),
    }))
}

impl SimulatedProvider {
    async fn ask(&self, deed: Deed) -> Option<Reply> {
        let until = self.runtime.now().after(WITHIN);
        ask(&self.world, &self.runtime, deed, until).await
    }
}

#[async_trait]
impl DnsProvider for SimulatedProvider {
    async fn read(&self, name: &str, kind: RecordKind) -> Result<RecordSet, ReadError> {
        match self.ask(Deed::ReadZone(name.to_owned(), kind)).await {
            Some(Reply::Zone(held)) => Ok(held),
            Some(Reply::Yes(..) | Reply::No(_) | Reply::Conflict(_) | Reply::Closed) | None => {
                Err(ReadError {
                    reason: "no answer in time".to_owned(),
                })
            }
        }
    }

    async fn swap(
        &self,
        name: &str,
        kind: RecordKind,
        expect: &RecordSet,
        want: &RecordSet,
    ) -> Swap {
        let deed = Deed::SwapZone {
            name: name.to_owned(),
            kind,
            expect: expect.clone(),
            want: want.clone(),
        };
        match self.ask(deed).await {
            Some(Reply::Yes(..)) => Swap::Done,
            Some(Reply::No(reason)) => Swap::Refused { reason },
            Some(Reply::Conflict(found)) => Swap::Conflict { found },
            Some(Reply::Zone(_) | Reply::Closed) | None => Swap::Unknown {
                reason: "no answer in time".to_owned(),
            },
        }
    }

    async fn check(&self, _name: &str, _kind: RecordKind) -> Vec<CheckItem> {
        Vec::new()
    }
}
