//! Taking up a journal that another controller wrote, and what keeps that one from beginning again.

use std::pin::pin;

use futures::future::{Either, select};

use crate::{
    decide::state::State,
    journal::copy::{Copy, CopyError},
    model::{
        id::{PersonName, Seq, ServiceName},
        record::RecordBody,
        span::Span,
        time::Time,
    },
    port::{
        cause,
        journal::{Draft, Journal, JournalError},
        runtime::SharedRuntime,
    },
};

/// At a start the journal's copy has so long to say whether another controller leads.
const WORD: Span = Span::from_secs(5);

/// Whether a controller may begin: one that was taken over from may not, nor one that took over while the other still
/// writes. A copy that cannot be asked keeps nobody from it, since its store may have gone down with the primary.
///
/// # Errors
/// `TakenOver` and `StillWritten`.
pub async fn leads(copy: &Copy, runtime: &SharedRuntime) -> Result<(), CopyError> {
    let word = pin!(copy.catch_up());
    let limit = runtime.sleep_until(runtime.now().after(WORD));
    match select(word, limit).await {
        Either::Left((
            Err(error @ (CopyError::TakenOver(_) | CopyError::StillWritten { .. })),
            _,
        )) => Err(error),
        Either::Left((Err(error), _)) => {
            let error = cause::in_full(&error);
            tracing::warn!(%error, "the journal's copy does not say whether this controller still leads");
            Ok(())
        }
        Either::Left((Ok(()), _)) => Ok(()),
        Either::Right(_) => {
            tracing::warn!(
                "the journal's copy does not answer whether this controller still leads"
            );
            Ok(())
        }
    }
}

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
    let epoch = state.after_takeover();
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
