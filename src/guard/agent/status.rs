//! How a guard stands, for people on its host: a socket in its state folder that says it to whoever connects.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    time::timeout,
};

use super::{Agent, AgentError};
use crate::{
    guard::{clock, machine::Until, wire::Counts},
    model::{guard::Report, span::Span},
};

const SOCKET: &str = "guard.sock";
/// What a guard may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// How a guard stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// What it tells the controller.
    pub report: Report,
    /// How long its lease still runs, the kill margin taken off; none where it has none, or one without an end.
    pub left: Option<Span>,
    /// Datagrams that it dropped, and why.
    pub dropped: Counts,
    /// How many it passed on between the controller and the other guard.
    #[serde(default)]
    pub passed: u64,
    /// How long the controller has been silent, where that is longer than it may be.
    #[serde(default)]
    pub silent: Option<Span>,
}

impl Agent {
    pub(super) fn status(&self) -> Status {
        let now = clock::now().holder;
        Status {
            report: self.machine.report(),
            left: match self.machine.lease() {
                Some(Until::At(at)) => Some(at.since(now)),
                Some(Until::Never) | None => None,
            },
            dropped: self.dropped.clone(),
            passed: self.passed,
            silent: self
                .silence
                .is_long()
                .then(|| self.silence.age(clock::grantor())),
        }
    }
}

/// Asks the guard of a state folder.
///
/// # Errors
/// Where none answers.
pub async fn ask(state: &Path) -> Result<Status, AgentError> {
    let path = path(state);
    let asked = async {
        let mut said = Vec::new();
        let mut stream = UnixStream::connect(&path).await?;
        stream.read_to_end(&mut said).await?;
        Ok(serde_json::from_slice(&said)?)
    };
    let answered: io::Result<Status> = timeout(ANSWER, asked)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    answered.map_err(|source| AgentError::Ask { path, source })
}

/// Listens, in place of a guard that is no more: the state's lock is held.
pub(super) fn listen(state: &Path) -> Result<UnixListener, AgentError> {
    remove(state);
    let path = path(state);
    UnixListener::bind(&path).map_err(|source| AgentError::Status { path, source })
}

pub(super) fn remove(state: &Path) {
    let _ = fs::remove_file(path(state));
}

pub(super) fn answer(mut stream: UnixStream, status: Status) {
    tokio::spawn(async move {
        if let Ok(text) = serde_json::to_vec(&status) {
            let _ = timeout(ANSWER, stream.write_all(&text)).await;
        }
    });
}

fn path(state: &Path) -> PathBuf {
    state.join(SOCKET)
}
