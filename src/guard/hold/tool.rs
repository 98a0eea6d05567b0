//! Between the guard and a program that works on the data directory: the parent of its namespace's init. The kernel ends
//! this process with the guard, init with this process, and with init all that the program has started.

use std::{io, process::Child};

use nix::{
    errno::Errno,
    sys::{prctl, signal::Signal},
    unistd::getppid,
};

use super::{
    keeper::{KeeperError, spawn_init},
    message::{Channel, Ended, Launch, News},
};

/// What failed on the way to the program.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It would outlive the guard.
    #[error("cannot ask the kernel for death with the parent")]
    DieWithParent(#[source] Errno),
    /// The guard died before the kernel knew.
    #[error("the guard is gone")]
    Orphan,
    /// It was not started by a guard, or that is gone.
    #[error("the guard does not say what to start")]
    Guard(#[source] serde_json::Error),
    /// Its namespace.
    #[error(transparent)]
    Init(#[from] KeeperError),
    /// Init does not speak.
    #[error("init does not say how it stands")]
    News(#[source] io::Error),
    /// The program.
    #[error("{0}")]
    Program(String),
    /// Its end is not known.
    #[error("cannot wait for init")]
    Wait(#[source] io::Error),
}

/// Runs what standard input tells, for the guard of that number, and gives the status to exit with.
///
/// # Errors
/// Where it was not started.
pub fn run(guard: u32) -> Result<u8, ToolError> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(ToolError::DieWithParent)?;
    if u32::try_from(getppid().as_raw()) != Ok(guard) {
        return Err(ToolError::Orphan);
    }
    let launch: Launch = serde_json::from_reader(io::stdin().lock()).map_err(ToolError::Guard)?;
    let (init, mut news) = spawn_init(&launch)?;
    told(&mut news, &launch)?;
    ended(init)
}

fn told(news: &mut Channel, launch: &Launch) -> Result<(), ToolError> {
    loop {
        match news.hear().map_err(ToolError::News)? {
            News::Ready => news.tell(launch).map_err(ToolError::News)?,
            News::Running(_) => return Ok(()),
            News::Failed(reason) => return Err(ToolError::Program(reason)),
            News::Ended(_) => return Err(ToolError::Program("it ended early".to_owned())),
        }
    }
}

fn ended(mut init: Child) -> Result<u8, ToolError> {
    let status = init.wait().map_err(ToolError::Wait)?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.unwrap_or_else(|| Ended::Cut.status()))
}
