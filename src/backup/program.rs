//! Programs of others: what they list, and what they turn one file into.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::process::Command as Process;

use crate::port::{
    backup::BackupError,
    command::{Command, Ending, Run},
    program::{self, last_words},
};

/// Longest time that a list may take.
const LIST: Duration = Duration::from_mins(1);
/// Bytes that a list may have.
const MOST: u64 = 64 << 20;
/// Bytes of a program's complaint that are kept: its end.
const SAID: usize = 2000;
/// Characters of it that are shown.
pub const SHOWN: usize = 300;

/// What a program lists on standard output.
///
/// # Errors
/// Where it fails or does not end.
pub async fn listing(command: &Command) -> Result<Vec<u8>, BackupError> {
    let (run, bytes) = command.collect(LIST, MOST).await;
    if run.ending == Ending::Exited(0) {
        Ok(bytes)
    } else {
        Err(failed(command, &run))
    }
}

/// A program that failed, as an error.
pub fn failed(command: &Command, run: &Run) -> BackupError {
    BackupError::Program {
        program: command.argv.first().cloned().unwrap_or_default(),
        reason: format!("did not do it: {}", run.told()),
    }
}

/// The only entry of a folder; the folder itself where there are several.
///
/// # Errors
/// Where there is none, or the folder cannot be read.
pub fn only_entry(folder: &Path) -> io::Result<PathBuf> {
    let entries: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    match entries.as_slice() {
        [] => Err(io::Error::other("nothing was put into the folder")),
        [only] => Ok(only.path()),
        _ => Ok(folder.to_owned()),
    }
}

/// Has a user's program turn a file into another one.
///
/// # Errors
/// Where it fails; what it was given stays.
pub async fn decode(command: &Command, from: &Path, to: &Path) -> Result<PathBuf, BackupError> {
    let (name, arguments) = command.argv.split_first().ok_or(BackupError::Unable(
        "the list of a program and its arguments is empty",
    ))?;
    let mut process = Process::new(name);
    process.args(arguments);
    filter(process, from, to)
        .await
        .map_err(|e| BackupError::Program {
            program: name.clone(),
            reason: e.to_string(),
        })?;
    Ok(to.to_owned())
}

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It cannot be started, or its files cannot be had.
    #[error("cannot be run")]
    Run(#[source] io::Error),
    /// It said no.
    #[error("failed ({status}): {said}")]
    Failed {
        /// How it ended.
        status: String,
        /// The last of what it said.
        said: String,
    },
}

/// Runs a program from one file to another.
///
/// # Errors
/// Where it fails.
pub async fn filter(mut process: Process, from: &Path, to: &Path) -> Result<(), ProgramError> {
    let input = File::open(from).map_err(ProgramError::Run)?;
    let output = File::create_new(to).map_err(ProgramError::Run)?;
    process.stdin(input).stdout(output);
    run(process).await.map(drop)
}

/// Runs a program to its end, and gives the last of what it said; dropping the future kills its whole group.
///
/// # Errors
/// Where it cannot be run or fails.
pub async fn run(mut process: Process) -> Result<String, ProgramError> {
    let ended = program::run(&mut process, SAID).await;
    let ended = ended.map_err(ProgramError::Run)?;
    let said = last_words(&ended.said, SHOWN);
    if ended.status.success() {
        Ok(said)
    } else {
        Err(ProgramError::Failed {
            status: ended.status.to_string(),
            said,
        })
    }
}
