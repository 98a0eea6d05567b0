//! The TTL is lowered ahead of need, and raised again when the documents no longer ask for it.

use super::fitting::Fitting;
use crate::{
    decide::{core::Core, event::Trouble},
    dns::ttl::{self, TtlChange, TtlError},
    port::cause,
};

/// Brings the TTL of a service's records to what its documents ask for. Values are never changed here. What is
/// about to be done is told to `note` first, then what was done.
pub async fn keep(core: &Core, fitting: &Fitting, note: impl Fn(Trouble)) {
    let (Some(dns), Some(provider)) = (&core.service().dns, &fitting.wiring().dns) else {
        return;
    };
    if core.state().run.is_some() {
        return;
    }
    let mut changes: Vec<Result<TtlChange, TtlError>> = Vec::new();
    if dns.lower_ahead {
        changes = ttl::to_lower(dns, provider).await;
    } else {
        // Only what this controller lowered is raised, and only to what it was before.
        for (record, before) in &core.state().ttl_before {
            let raised = ttl::to_raise(dns, provider, *before).await;
            changes.extend(
                raised
                    .into_iter()
                    .filter(|c| !matches!(c, Ok(c) if &c.record() != record)),
            );
        }
    }
    for change in changes {
        let made = match change {
            Ok(change) => {
                note(told(&change, false));
                ttl::make(provider, &change)
                    .await
                    .map(|()| note(told(&change, true)))
            }
            Err(error) => Err(error),
        };
        if let Err(error) = made {
            tracing::warn!(service = %core.service().name, error = %cause::in_full(&error), "the TTL stays as it is");
        }
    }
}

fn told(change: &TtlChange, done: bool) -> Trouble {
    Trouble::Ttl {
        name: change.record(),
        from: change.found.ttl,
        to: change.to,
        done,
    }
}
