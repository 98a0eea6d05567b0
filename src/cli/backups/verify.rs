//! `failover backups verify`: restores a backup to try it, and records what came of it.

use std::fmt::Write as _;

use tokio::signal::unix::{SignalKind, signal};

use super::{
    super::{
        arguments, client::Client, look::unexpected, offline::Offline, output::Output, place::Place,
    },
    size,
};
use crate::{
    desk::message::{Answer, Request},
    driver::{backups::Choice, clock::HostRuntime},
    error::Error,
    journal::sqlite::SqliteJournal,
    model::{
        backup::{Restored, Verification},
        id::{Epoch, Seq, ServiceName},
        record::RecordBody,
    },
    port::{
        journal::{Draft, Journal},
        runtime::Runtime,
    },
};

/// Restores a backup to try it.
///
/// # Errors
/// Where it is bad, could not be tried, or what came of it cannot be recorded.
pub async fn verify(
    args: &arguments::BackupsVerify,
    place: &Place,
    output: Output,
) -> Result<(), Error> {
    let service = ServiceName::from(args.service.as_str());
    let choice = Choice {
        source: args.source.as_deref().map(Into::into),
        copy: args.copy.as_deref().map(Into::into),
    };
    let result = if args.file.is_empty() {
        let mut client = Client::connect(place).await?;
        let request = Request::VerifyBackup { service, choice };
        let Answer::BackupVerified(result) = client.ask(request, None).await? else {
            return Err(unexpected());
        };
        *result
    } else {
        let offline = Offline::new(&args.file, &service, place, output)?;
        let result = unless_stopped(offline.try_backup(&choice)).await??;
        let request = Request::BackupVerified {
            service: service.clone(),
            result: Box::new(result.clone()),
        };
        let body = RecordBody::BackupVerified {
            result: Box::new(result.clone()),
        };
        recorded(&service, request, body, place, output).await?;
        result
    };
    if output.json() {
        output.value(&result)?;
    } else {
        output.text(&text(&result))?;
    }
    match &result.outcome {
        Restored::Good => Ok(()),
        Restored::Bad { reason } => Err(Error::BadBackup {
            reason: format!("{} in {} is bad: {reason}", result.copy, result.source),
        }),
        Restored::Wrong { reason } => Err(Error::BadBackup {
            reason: format!(
                "{} in {} was restored, and answers otherwise than it should: {reason}",
                result.copy, result.source
            ),
        }),
        Restored::Unknown { reason } => Err(Error::BadBackup {
            reason: format!(
                "{} in {} could not be tried to the end: {reason}",
                result.copy, result.source
            ),
        }),
    }
}

/// Ends early when somebody stops the command, so that nothing is left behind.
pub async fn unless_stopped<T>(work: impl Future<Output = T>) -> Result<T, Error> {
    let caught = |kind| signal(kind).map_err(Error::Output);
    let mut interrupt = caught(SignalKind::interrupt())?;
    let mut terminate = caught(SignalKind::terminate())?;
    let number = tokio::select! {
        done = work => return Ok(done),
        _ = interrupt.recv() => 2,
        _ = terminate.recv() => 15,
    };
    Err(Error::DemoStopped { signal: number })
}

/// Hands the result to the controller that runs; where none does, it goes into the journal itself.
pub async fn recorded(
    service: &ServiceName,
    request: Request,
    body: RecordBody,
    place: &Place,
    output: Output,
) -> Result<(), Error> {
    match Client::connect(place).await {
        Ok(mut client) => return client.ask(request, None).await.map(drop),
        Err(Error::NoController { .. }) => {}
        Err(error) => return Err(error),
    }
    let path = place.journal();
    if !path.exists() {
        output.note("not recorded: there is no journal in the state folder");
        return Ok(());
    }
    let journal = SqliteJournal::open(&path)?;
    let records = journal.read(service, Seq(1)).await?;
    let last = records.last();
    let draft = Draft {
        epoch: last.map_or(Epoch(1), |r| r.epoch),
        at: HostRuntime::new().now(),
        body,
    };
    let after = last.map_or(Seq(0), |r| r.seq);
    journal.append(service, after, vec![draft]).await?;
    Ok(())
}

fn text(result: &Verification) -> String {
    let mut text = format!(
        "{} in {}, taken {}\n  {}, {} in {}\n",
        result.copy,
        result.source,
        result.taken.date(),
        if result.form.is_empty() {
            "form unknown"
        } else {
            &result.form
        },
        size(Some(result.bytes)),
        result.took,
    );
    for (name, answer) in &result.answers {
        let _ = writeln!(text, "  {name}: {answer}");
    }
    if result.outcome == Restored::Good {
        text.push_str("  restored, and it answers as it should\n");
    }
    text
}
