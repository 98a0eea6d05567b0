//! Trying a backup by restoring it into a PostgreSQL of its own, which is gone afterwards.

mod cluster;
mod form;
mod programs;
mod recovery;
mod scratch;

use std::{collections::BTreeMap, io, path::Path, time::Instant};

use tokio::time::timeout;

use self::{cluster::Cluster, form::Form};
use super::program::ProgramError;
use crate::{
    model::{
        backup::{BackupCopy, Restored, Verification, Verify},
        id::{ServiceName, SourceName},
        span::Span,
    },
    port::{
        account::Account,
        backup::{BackupError, Backups},
        cause, disk,
    },
};

pub(super) use programs::Programs;
pub use recovery::{MARK, Recovered, Recovery, RecoveryError, Stamp, stamp};
pub use scratch::Busy;
pub(super) use scratch::Scratch;

/// A backup that is to be tried.
pub struct Trial<'a> {
    /// Whose.
    pub service: &'a ServiceName,
    /// Where it is.
    pub source: &'a SourceName,
    /// Which.
    pub copy: &'a BackupCopy,
    /// How it is tried.
    pub plan: &'a Verify,
}

/// What speaks against a backup, or against telling.
#[derive(Debug)]
pub(super) enum Fault {
    /// It is no backup.
    Bad(String),
    /// It answers otherwise than it should.
    Wrong(String),
    /// It cannot be told here and now.
    Unclear(String),
}

impl Fault {
    /// Something of this host's.
    pub(super) fn here(what: &str, error: &io::Error) -> Self {
        Self::Unclear(format!("{what}: {error}"))
    }

    /// A program that should work whatever the backup is.
    fn of_host(what: &str, error: &ProgramError) -> Self {
        Self::Unclear(format!("{what} {}", cause::in_full(error)))
    }
}

/// What was learned on the way; it stands in the result however the trial ends.
#[derive(Default)]
struct Findings {
    form: String,
    bytes: u64,
    answers: BTreeMap<String, String>,
}

/// Fetches a backup, restores it, asks it, and removes everything again. Dropping the future removes everything too.
///
/// # Errors
/// `Busy` where another process tries a backup of the same service.
pub async fn verify(trial: &Trial<'_>, place: &dyn Backups) -> Result<Verification, Busy> {
    let begun = Instant::now();
    let mut found = Findings {
        bytes: trial.copy.bytes.unwrap_or(0),
        ..Findings::default()
    };
    let outcome = match attempt(trial, place, &mut found).await {
        Ok(()) => Restored::Good,
        Err(Stop::Busy(busy)) => return Err(busy),
        Err(Stop::Fault(Fault::Bad(reason))) => Restored::Bad { reason },
        Err(Stop::Fault(Fault::Wrong(reason))) => Restored::Wrong { reason },
        Err(Stop::Fault(Fault::Unclear(reason))) => Restored::Unknown { reason },
    };
    Ok(Verification {
        source: trial.source.clone(),
        copy: trial.copy.id.clone(),
        taken: trial.copy.at,
        outcome,
        bytes: found.bytes,
        took: Span::from(begun.elapsed()),
        form: found.form,
        answers: found.answers,
    })
}

pub(super) enum Stop {
    Busy(Busy),
    Fault(Fault),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

async fn attempt(trial: &Trial<'_>, place: &dyn Backups, found: &mut Findings) -> Result<(), Stop> {
    let plan = trial.plan;
    let account = Account::for_database().map_err(|e| Fault::here("no account", &e))?;
    let scratch = Scratch::take(trial.service, plan.folder.as_deref(), account)?;
    scratch.has_room_for(trial.copy.bytes, plan.keep_free)?;
    let tried = async {
        tokio::select! {
            biased;
            full = scratch.runs_out(plan.keep_free) => Err(full),
            tried = restore(trial, place, &scratch, found) => tried,
        }
    };
    match timeout(plan.timeout.to_std(), tried).await {
        Ok(tried) => Ok(tried?),
        Err(_) => Err(Fault::Unclear(format!("it was not done within {}", plan.timeout)).into()),
    }
}

async fn restore(
    trial: &Trial<'_>,
    place: &dyn Backups,
    scratch: &Scratch,
    found: &mut Findings,
) -> Result<(), Fault> {
    let fetched = scratch.folder("fetched")?;
    let file = place
        .fetch(&trial.copy.id, &fetched)
        .await
        .map_err(|e| unfetched(&e))?;
    if trial.copy.bytes.is_none() {
        found.bytes = disk::size_of(&file).map_err(|e| Fault::here("what was fetched", &e))?;
    }
    let form = form::of(&file, scratch).await?;
    found.form = form.to_string();
    scratch.give_away()?;
    let named = trial.plan.programs.as_deref().map(Path::new);
    let (cluster, database) = match &form {
        Form::Base { data, .. } => {
            let programs = Programs::of_data(data, named)?;
            form::check_base(&form, &programs, scratch).await?;
            let cluster = Cluster::over(data, programs, scratch).await?;
            (cluster, trial.plan.database.as_str())
        }
        Form::Archive(archive) => {
            let programs = Programs::newest(named)?;
            form::read_whole(archive, &programs, scratch).await?;
            let cluster = Cluster::fresh(programs, scratch).await?;
            cluster.restore_archive(archive).await?;
            (cluster, cluster::DATABASE)
        }
        Form::Script(script) => {
            let cluster = Cluster::fresh(Programs::newest(named)?, scratch).await?;
            cluster.run_script(script).await?;
            (cluster, cluster::DATABASE)
        }
    };
    cluster
        .ask(database, &trial.plan.queries, &mut found.answers)
        .await
}

/// A backup that the place lists and does not have is none; a place that does not answer proves nothing.
fn unfetched(error: &BackupError) -> Fault {
    let text = format!("it could not be fetched: {}", cause::in_full(error));
    match error {
        BackupError::Gone { .. } | BackupError::Place { .. } | BackupError::Program { .. } => {
            Fault::Unclear(text)
        }
        BackupError::Damaged { reason, .. } => Fault::Bad(reason.clone()),
        BackupError::Unable(why) => Fault::Unclear((*why).to_owned()),
    }
}
