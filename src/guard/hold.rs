//! The dead-man: a process between guard and database that the kernel kills when the lease ends, and the database with
//! it.
//!
//! The guard starts [`keeper`] by its own executable, in a session of its own, so that it outlives the guard. It has a
//! kernel timer on its own head ([`timer`]), and is the parent of [`init`], the first process of a PID namespace in which
//! the database runs. When hold dies, of whatever, the kernel kills init; when init dies, the kernel kills everything in
//! the namespace, stopped processes too, and init's own end is not told before all of them have ended. [`Hold`] is the
//! guard's end of it, and finds a living hold again when the guard was restarted.

use std::{
    io, os::fd::OwnedFd, os::unix::net::UnixStream as StdStream, path::Path, process::Stdio,
    time::Duration,
};

use rustix::process::Signal;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    process::{Child, Command},
    time::timeout,
};

pub mod boot_time;
pub mod folder;
pub mod init;
pub mod keeper;
pub mod message;
pub mod process;
pub mod timer;
pub mod tool;

pub use self::{
    boot_time::BootTime,
    message::{CommandSignal, Ended, Launch, State},
};
use self::{
    folder::{Folder, FolderError},
    message::{Answer, Record, Request, Started, Turn, line},
    process::Process,
};

/// What a start may take: hold itself gives up a little earlier.
const START: Duration = Duration::from_secs(30);
/// What an answer may take. A guard that cannot wait so long drops the request; see [`Hold::arm`].
const ANSWER: Duration = Duration::from_secs(5);

/// What failed between a guard and its hold.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// The runtime folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// This program's own executable cannot be run, or does not speak.
    #[error("cannot start hold")]
    Start(#[source] io::Error),
    /// Another hold has the folder: attach to it.
    #[error("another hold has this runtime folder")]
    Held,
    /// What an earlier hold left has not ended: attach to it, and wait.
    #[error("process {init} of an earlier hold has not ended yet")]
    Dying {
        /// The init of its namespace.
        init: u32,
    },
    /// The command was not started, and nothing is left of the attempt.
    #[error("the command was not started: {reason}")]
    Refused {
        /// What failed, and why.
        reason: String,
    },
    /// The processes cannot be looked at, killed or waited for.
    #[error("cannot reach the processes of hold")]
    Process(#[source] io::Error),
    /// Hold has ended, or went away before it answered.
    #[error("hold does not answer")]
    Gone(#[source] io::Error),
    /// Hold is there and says nothing: stopped, or the machine is out of breath. Whether it will obey is not known.
    #[error("hold said nothing for {} s", ANSWER.as_secs())]
    Silent,
    /// A later request was obeyed before.
    #[error("hold has obeyed a later request already")]
    Overtaken,
    /// There is no command to send a signal to.
    #[error("the command has ended")]
    NoCommand,
    /// Hold could not do it.
    #[error("hold could not do it: {reason}")]
    Failed {
        /// Why.
        reason: String,
    },
    /// Hold said what nobody asked.
    #[error("hold's answer is not understood")]
    Answer,
}

/// A hold that was started or found. Dropping it changes nothing: hold goes on.
#[derive(Debug)]
pub struct Hold {
    folder: Folder,
    record: Record,
    // None once it has ended.
    parent: Option<Process>,
    namespace: Option<Process>,
}

impl Hold {
    /// Starts the command. Returns once it runs, or has run; with `armed`, under a dead-man from before its start on.
    /// Where this is dropped before it returns, [`Hold::attach`] tells what came of it.
    ///
    /// # Errors
    /// Where it was not started: then nothing of it is left.
    pub async fn start(launch: &Launch) -> Result<Self, HoldError> {
        let folder = Folder::make(&launch.folder)?;
        let (ours, theirs) = StdStream::pair().map_err(HoldError::Start)?;
        let mut child = spawn(launch, theirs).map_err(HoldError::Start)?;
        let told = match timeout(START, negotiate(ours, launch)).await {
            Ok(told) => told,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        let refused = match told {
            Ok(Started::Running(record)) => return Self::of(folder, record),
            Ok(Started::Held) => HoldError::Held,
            Ok(Started::Dying { init }) => HoldError::Dying { init },
            Ok(Started::Failed { reason }) => HoldError::Refused { reason },
            Err(e) => HoldError::Start(e),
        };
        let own = child.id();
        child.kill().await.map_err(HoldError::Process)?;
        // What it started before it failed dies with it.
        if let Some(left) = Self::attach(&launch.folder)?
            && own == Some(left.record.hold.pid)
        {
            left.kill().await?;
        }
        Err(refused)
    }

    /// Finds the hold of a folder, which may be dying; none where nothing of one runs.
    ///
    /// # Errors
    /// Where that cannot be told.
    pub fn attach(folder: &Path) -> Result<Option<Self>, HoldError> {
        let Some(folder) = Folder::open(folder)? else {
            return Ok(None);
        };
        let Some(record) = folder.record()? else {
            return Ok(None);
        };
        let found = Self::of(folder, record)?;
        Ok((found.parent.is_some() || found.namespace.is_some()).then_some(found))
    }

    /// How the command of a folder's last hold ended; none where there was none since boot, or it runs.
    ///
    /// # Errors
    /// Where that cannot be told.
    pub fn last_end(folder: &Path) -> Result<Option<Ended>, HoldError> {
        let Some(opened) = Folder::open(folder)? else {
            return Ok(None);
        };
        if opened.record()?.is_none() || Self::attach(folder)?.is_some() {
            return Ok(None);
        }
        Ok(Some(opened.ended()?.unwrap_or(Ended::Cut)))
    }

    fn of(folder: Folder, record: Record) -> Result<Self, HoldError> {
        Ok(Self {
            parent: Process::find(record.hold).map_err(HoldError::Process)?,
            namespace: Process::find(record.init).map_err(HoldError::Process)?,
            folder,
            record,
        })
    }

    /// Sets the moment at which the kernel kills everything, in place of an earlier one. When this returns the kernel
    /// has taken it. Where it is dropped or fails, either moment may hold, until a later call returns.
    ///
    /// # Errors
    /// Where hold has ended, does not answer, or obeyed a later request.
    pub async fn arm(&self, until: BootTime) -> Result<(), HoldError> {
        let turn = Turn::next();
        self.order(&Request::Arm {
            until_ms: until,
            turn,
        })
        .await
    }

    /// Takes the moment of death away: for a standby, or an unbounded lease.
    ///
    /// # Errors
    /// As [`Hold::arm`].
    pub async fn disarm(&self) -> Result<(), HoldError> {
        let turn = Turn::next();
        self.order(&Request::Disarm { turn }).await
    }

    /// Sends the command itself a signal, for an orderly end.
    ///
    /// # Errors
    /// Where it has ended, or hold does not answer.
    pub async fn signal(&self, name: CommandSignal) -> Result<(), HoldError> {
        self.order(&Request::Signal { name }).await
    }

    /// How it stands.
    ///
    /// # Errors
    /// Where hold has ended or does not answer.
    pub async fn state(&self) -> Result<State, HoldError> {
        match self.ask(&Request::State).await? {
            Told::State(state) => Ok(state),
            Told::Done => Err(HoldError::Answer),
        }
    }

    /// Kills everything, and returns once nothing of it runs any more: not a process of the namespace, nor hold. Neither
    /// has to answer for that. Where a process hangs in the kernel this does not return, for then it may yet write: who
    /// stops waiting must not say that it was fenced.
    ///
    /// # Errors
    /// Where the kernel does not tell.
    pub async fn kill(&self) -> Result<(), HoldError> {
        for process in self.processes() {
            process.signal(Signal::KILL).map_err(HoldError::Process)?;
        }
        self.emptied().await
    }

    /// Waits until nothing of it runs any more, and tells how the command ended.
    ///
    /// # Errors
    /// Where the kernel does not tell.
    pub async fn ended(&self) -> Result<Ended, HoldError> {
        self.emptied().await?;
        Ok(self.folder.ended()?.unwrap_or(Ended::Cut))
    }

    /// Whether anything of it still runs.
    ///
    /// # Errors
    /// Where the kernel does not tell.
    pub fn runs(&self) -> Result<bool, HoldError> {
        for process in self.processes() {
            if !process.has_ended().map_err(HoldError::Process)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn emptied(&self) -> Result<(), HoldError> {
        for process in self.processes() {
            process.ended().await.map_err(HoldError::Process)?;
        }
        Ok(())
    }

    fn processes(&self) -> impl Iterator<Item = &Process> {
        self.parent.iter().chain(&self.namespace)
    }

    async fn order(&self, request: &Request) -> Result<(), HoldError> {
        match self.ask(request).await? {
            Told::Done => Ok(()),
            Told::State(_) => Err(HoldError::Answer),
        }
    }

    async fn ask(&self, request: &Request) -> Result<Told, HoldError> {
        let answer = match timeout(ANSWER, self.converse(request)).await {
            Ok(answer) => answer.map_err(HoldError::Gone)?,
            Err(_) => return Err(HoldError::Silent),
        };
        match answer {
            Answer::Done => Ok(Told::Done),
            Answer::State(state) => Ok(Told::State(state)),
            Answer::Overtaken => Err(HoldError::Overtaken),
            Answer::NoCommand => Err(HoldError::NoCommand),
            Answer::Failed { reason } => Err(HoldError::Failed { reason }),
        }
    }

    async fn converse(&self, request: &Request) -> io::Result<Answer> {
        let mut stream = UnixStream::connect(self.folder.socket()).await?;
        let listens = stream
            .peer_cred()?
            .pid()
            .and_then(|p| u32::try_from(p).ok());
        if listens != Some(self.record.hold.pid) {
            // A later hold has the folder, whose moment of death is not ours to move.
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        stream.write_all(&line(request)?).await?;
        hear(stream).await
    }
}

/// An answer that is no refusal.
enum Told {
    Done,
    State(State),
}

/// Starts hold, which reads what to do from its standard input. Its end of that socket is closed here, so that its death
/// is seen.
fn spawn(launch: &Launch, theirs: StdStream) -> io::Result<Child> {
    Command::new(&launch.exe)
        .args(["guard-part", "hold"])
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
}

async fn negotiate(ours: StdStream, launch: &Launch) -> io::Result<Started> {
    ours.set_nonblocking(true)?;
    let mut stream = UnixStream::from_std(ours)?;
    stream.write_all(&line(launch)?).await?;
    hear(stream).await
}

async fn hear<T: serde::de::DeserializeOwned>(stream: UnixStream) -> io::Result<T> {
    let mut said = String::new();
    BufReader::new(stream).read_line(&mut said).await?;
    if !said.ends_with('\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&said)?)
}
