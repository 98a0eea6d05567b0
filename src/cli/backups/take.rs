//! `failover backups take`: takes a backup as the policy says, and puts it everywhere.

use std::fmt::Write as _;

use super::{
    super::{arguments, offline::Offline, output::Output, place::Place},
    size,
    verify::{recorded, unless_stopped},
};
use crate::{
    desk::message::Request,
    error::Error,
    model::{
        id::ServiceName,
        record::RecordBody,
        taking::{Placed, Taken},
    },
};

/// Takes a backup.
///
/// # Errors
/// Where there is none afterwards, or not everywhere.
pub async fn take(
    args: &arguments::BackupsTake,
    place: &Place,
    output: Output,
) -> Result<(), Error> {
    let service = ServiceName::from(args.service.as_str());
    let offline = Offline::new(&args.file, &service, place, output)?;
    let taken = unless_stopped(offline.take_backup()).await??;
    let request = Request::BackupTaken {
        service: service.clone(),
        result: Box::new(taken.clone()),
    };
    let body = RecordBody::BackupTaken {
        result: Box::new(taken.clone()),
    };
    recorded(&service, request, body, place, output).await?;
    if output.json() {
        output.value(&taken)?;
    } else {
        output.text(&text(&taken))?;
    }
    match taken.problem() {
        None => Ok(()),
        Some(reason) => Err(Error::BadBackup {
            reason: format!("the backup was not taken as it should be: {reason}"),
        }),
    }
}

fn text(taken: &Taken) -> String {
    let sealed = if taken.encrypted {
        "encrypted"
    } else {
        "not encrypted"
    };
    let mut text = format!(
        "taken at {}, {} in {}, {sealed}\n",
        taken.at.date(),
        size(Some(taken.bytes)),
        taken.took
    );
    for (name, placed) in &taken.places {
        let _ = match placed {
            Placed::Stored { copy } => writeln!(text, "  {name}: {copy}"),
            Placed::Failed { reason } => writeln!(text, "  {name}: NOT there: {reason}"),
        };
    }
    text
}
