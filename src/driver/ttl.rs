//! The TTL is lowered ahead of need, and raised again when the documents no longer ask for it.

use futures::channel::{mpsc::UnboundedSender, oneshot};

use super::{fitting::Fitting, service::Input};
use crate::{
    decide::{
        core::Core,
        event::{Event, Trouble},
    },
    dns::ttl::{self, TtlChange, TtlError},
    port::cause,
};

/// Brings the TTL of a service's records to what its documents ask for. Values are never changed here. What is about
/// to be done is journaled first, with the TTL that it was; without that nothing is changed.
pub async fn keep(core: &Core, fitting: &Fitting, inbox: &UnboundedSender<Input>) {
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
                if !record(inbox, &change, false).await {
                    return;
                }
                let made = ttl::make(provider, &change).await;
                if made.is_ok() {
                    record(inbox, &change, true).await;
                }
                made
            }
            Err(error) => Err(error),
        };
        if let Err(error) = made {
            tracing::warn!(service = %core.service().name, error = %cause::in_full(&error), "the TTL stays as it is");
        }
    }
}

/// Whether it stands in the journal now.
async fn record(inbox: &UnboundedSender<Input>, change: &TtlChange, done: bool) -> bool {
    let event = Event::Trouble(Trouble::Ttl {
        name: change.record(),
        from: change.found.ttl,
        to: change.to,
        done,
    });
    let (answer, recorded) = oneshot::channel();
    inbox.unbounded_send(Input::Record(event, answer)).is_ok() && recorded.await.unwrap_or(false)
}
