//! Drives one mailing: every recipient is told once, as far as the other side can tell; survives a crash.

use futures::{StreamExt, stream};

use crate::{
    model::{announcement::Tally, span::Span, time::Time},
    port::{
        channel::{Compiled, Recipient, Sent, SharedChannel},
        ledger::{Delivery, LedgerError, Mailing, SharedLedger},
        runtime::SharedRuntime,
    },
};

/// Recipients that are taken from the ledger at once.
const BATCH: usize = 200;
/// A mailing that is not through by then is given up.
const LONGEST: Span = Span::from_secs(24 * 3600);

/// What a mailing came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// How many got what.
    pub tally: Tally,
    /// Why the channel cannot send, where it cannot.
    pub broken: Option<String>,
}

/// Sends a message to everyone who has not got it yet. Ends when nothing is left to send.
pub async fn run(
    channel: &SharedChannel,
    message: &Compiled,
    mailing: &Mailing,
    ledger: &SharedLedger,
    runtime: &SharedRuntime,
) -> Outcome {
    let began = runtime.now();
    match drive(channel, message, mailing, ledger, runtime, began).await {
        Ok(broken) => Outcome {
            tally: ledger.tally(mailing).await.unwrap_or_default(),
            broken,
        },
        Err(error) => Outcome {
            tally: Tally::default(),
            broken: Some(error.to_string()),
        },
    }
}

async fn drive(
    channel: &SharedChannel,
    message: &Compiled,
    mailing: &Mailing,
    ledger: &SharedLedger,
    runtime: &SharedRuntime,
    began: Time,
) -> Result<Option<String>, LedgerError> {
    match channel.recipients().await {
        Ok(all) => ledger.enqueue(mailing, &all, began).await?,
        Err(error) => return Ok(Some(error.reason)),
    }
    for to in ledger.interrupted(mailing).await? {
        let key = mailing.key(&to);
        let sent = channel
            .resume(message, &to, &key)
            .await
            .unwrap_or(Sent::Unknown {
                reason: "interrupted".to_owned(),
            });
        if let Some(broken) = settle(mailing, ledger, runtime, to, sent).await? {
            return Ok(Some(broken));
        }
    }
    loop {
        let batch = ledger.queued(mailing, BATCH).await?;
        if batch.is_empty() || runtime.now().since(began) > LONGEST {
            return Ok(None);
        }
        let sends =
            stream::iter(batch).map(|to| one(channel, message, mailing, ledger, runtime, to));
        let results: Vec<_> = sends
            .buffer_unordered(channel.workers().max(1))
            .collect()
            .await;
        for result in results {
            if let Some(broken) = result? {
                return Ok(Some(broken));
            }
        }
    }
}

async fn one(
    channel: &SharedChannel,
    message: &Compiled,
    mailing: &Mailing,
    ledger: &SharedLedger,
    runtime: &SharedRuntime,
    to: Recipient,
) -> Result<Option<String>, LedgerError> {
    ledger
        .mark(
            mailing,
            &[(to.clone(), Delivery::Sending, String::new())],
            runtime.now(),
        )
        .await?;
    let sent = channel.send(message, &to, &mailing.key(&to)).await;
    settle(mailing, ledger, runtime, to, sent).await
}

async fn settle(
    mailing: &Mailing,
    ledger: &SharedLedger,
    runtime: &SharedRuntime,
    to: Recipient,
    sent: Sent,
) -> Result<Option<String>, LedgerError> {
    let now = runtime.now();
    let (delivery, note, wait, broken) = match sent {
        Sent::Accepted { reference } => (Delivery::Sent, reference.unwrap_or_default(), None, None),
        Sent::Unknown { reason } => (Delivery::Unknown, reason, None, None),
        Sent::Later { after, reason, .. } => (Delivery::Queued, reason, Some(after), None),
        Sent::Unsure { after, reason } => (Delivery::Unknown, reason, Some(after), None),
        Sent::Refused { reason, suppress } => {
            if suppress {
                ledger.suppress(&mailing.service, &to, &reason, now).await?;
            }
            (Delivery::Failed, reason, None, None)
        }
        Sent::Broken { reason } => (Delivery::Failed, reason.clone(), None, Some(reason)),
    };
    ledger.mark(mailing, &[(to, delivery, note)], now).await?;
    if let Some(wait) = wait {
        runtime.sleep_until(now.after(wait)).await;
    }
    Ok(broken)
}
