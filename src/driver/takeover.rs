//! Taking up a journal that another controller wrote.

use crate::{
    decide::state::State,
    model::{
        id::{PersonName, Seq, ServiceName},
        record::RecordBody,
        time::Time,
    },
    port::journal::{Draft, Journal, JournalError},
};

/// Writes behind the last record of a chain who took it up, which begins a later epoch.
///
/// # Errors
/// Where the journal cannot be read or written.
pub async fn take_up(
    journal: &dyn Journal,
    chain: &ServiceName,
    by: &PersonName,
    reason: &str,
    at: Time,
) -> Result<(), JournalError> {
    let mut state = State::default();
    for record in journal.read(chain, Seq(1)).await? {
        state.apply(&record);
    }
    // A promotion that was promised goes on in its epoch. Each takeover begins a later one: whoever took over before may still
    // grant leases in its own.
    let is_forward = state.run.as_ref().is_some_and(|run| run.epoch.is_some());
    let epoch = if is_forward {
        state.epoch
    } else {
        state.epoch.next()
    };
    let draft = Draft {
        epoch,
        at,
        body: RecordBody::TakenOver {
            epoch,
            by: by.clone(),
            reason: reason.to_owned(),
        },
    };
    journal
        .append(chain, state.seq, vec![draft])
        .await
        .map(drop)
}
