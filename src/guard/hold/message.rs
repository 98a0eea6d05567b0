//! What guard, hold and init say to each other: JSON, one object a line.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, BufRead, BufReader, Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    path::PathBuf,
};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{boot_time::BootTime, process::Identity};

/// The most bytes of a line: environments are the longest.
const LINE: u64 = 1 << 20;

/// What is started, and as whom.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Launch {
    /// The program, by its whole path.
    pub program: PathBuf,
    /// Its arguments, without its name.
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
    /// The user it runs as.
    pub uid: u32,
    /// That user's group.
    pub gid: u32,
    /// The groups it is in besides: on Debian PostgreSQL reads its TLS key by one.
    pub groups: Vec<u32>,
    /// The runtime folder, for this command alone. Made where it is missing, for its owner alone.
    pub folder: PathBuf,
    /// The file that its output is appended to; none for where the guard's own goes.
    pub log: Option<PathBuf>,
    /// This program's own executable.
    pub exe: PathBuf,
    /// When the dead-man kills it, from before its start on; none for a standby, which may run for ever.
    pub armed: Option<BootTime>,
}

impl fmt::Debug for Launch {
    /// Environments hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch")
            .field("program", &self.program)
            .field("args", &self.args)
            .field("env", &self.env.keys())
            .field("uid", &self.uid)
            .field("gid", &self.gid)
            .field("groups", &self.groups)
            .field("folder", &self.folder)
            .field("log", &self.log)
            .field("exe", &self.exe)
            .field("armed", &self.armed)
            .finish()
    }
}

/// How a start ended, said by hold to the guard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Started {
    /// The command was started.
    Running(Record),
    /// Another hold has the folder.
    Held,
    /// What an earlier hold left is still dying.
    Dying {
        /// The init of its namespace.
        init: u32,
    },
    /// It was not started, and nothing is left of the attempt.
    Failed {
        /// What failed, and why.
        reason: String,
    },
}

/// Who a hold is, kept in its folder for guards to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The boot it belongs to: `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
    /// The hold.
    pub hold: Identity,
    /// The init of its namespace: while it has not ended, the namespace is not empty.
    pub init: Identity,
}

/// What hold is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Request {
    /// Moves the moment of death.
    Arm {
        /// When to kill: milliseconds of `CLOCK_BOOTTIME`.
        until_ms: BootTime,
        /// The order among those that move it.
        turn: Turn,
    },
    /// Takes the moment of death away.
    Disarm {
        /// The order among those that move it.
        turn: Turn,
    },
    /// Asks how it stands.
    State,
    /// Sends the command a signal.
    Signal {
        /// Which.
        name: CommandSignal,
    },
}

/// Orders the requests that move the moment of death: hold refuses one that is not above every one it obeyed. A request
/// that lay unread while hold was stopped then cannot undo what was asked, and answered, after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Turn(u64);

impl Turn {
    /// The next: nanoseconds of `CLOCK_BOOTTIME`, so that a guard's are above those of its earlier processes.
    #[must_use]
    pub fn next() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        let secs = u64::try_from(now.tv_sec).unwrap_or_default();
        let nanos = u64::try_from(now.tv_nsec).unwrap_or_default();
        Self(secs.saturating_mul(1_000_000_000).saturating_add(nanos))
    }
}

/// Signals for an orderly end, named as systems do. What PostgreSQL makes of each stands beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommandSignal {
    /// Smart shutdown: waits for clients to leave.
    #[serde(rename = "SIGTERM")]
    Term,
    /// Fast shutdown: clients are turned out, a checkpoint is written.
    #[serde(rename = "SIGINT")]
    Int,
    /// Immediate shutdown: recovery at the next start.
    #[serde(rename = "SIGQUIT")]
    Quit,
    /// Reads its settings again.
    #[serde(rename = "SIGHUP")]
    Hup,
}

/// What hold answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// The kernel has taken it.
    Done,
    /// How it stands.
    State(State),
    /// A later request has been obeyed already.
    Overtaken,
    /// The command has ended.
    NoCommand,
    /// It could not be done, and nothing has changed.
    Failed {
        /// Why.
        reason: String,
    },
}

/// How a hold stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The hold's process.
    pub hold: u32,
    /// The init of the namespace.
    pub init: u32,
    /// The command's process, as the host numbers it; none once it has ended.
    pub command: Option<u32>,
    /// When the kernel kills it; none where it is not armed.
    pub armed: Option<BootTime>,
    /// Hold's clock.
    pub now: BootTime,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ended {
    /// By itself, with this status. 127 means that it could not be started: the log says why.
    Exited(i32),
    /// By this signal, which was not sent to the whole namespace.
    Signalled(i32),
    /// With its whole namespace: its time ran out, it was killed by the guard, or somebody killed hold or init.
    Cut,
}

impl Ended {
    /// As shells tell it: the status, or 128 and the signal.
    #[must_use]
    pub fn status(self) -> u8 {
        let status = match self {
            Self::Exited(status) => status,
            Self::Signalled(signal) => 128 + signal,
            Self::Cut => 128 + nix::sys::signal::Signal::SIGKILL as i32,
        };
        u8::try_from(status).unwrap_or(u8::MAX)
    }
}

/// What init says to hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum News {
    /// It dies with hold from now on.
    Ready,
    /// The command runs, under this number in the namespace.
    Running(u32),
    /// The command could not be started: what failed, and why.
    Failed(String),
    /// The command has ended.
    Ended(Ended),
}

/// A stream of such lines, read and written by one who waits.
#[derive(Debug)]
pub struct Channel {
    read: BufReader<UnixStream>,
}

impl Channel {
    /// Of a connected socket.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        Self {
            read: BufReader::new(stream),
        }
    }

    /// Of the socket that whoever started this process gave it as standard input.
    ///
    /// # Errors
    /// Where it has none.
    pub fn inherited() -> io::Result<Self> {
        let socket = io::stdin().as_fd().try_clone_to_owned()?;
        Ok(Self::new(UnixStream::from(socket)))
    }

    /// The socket, to be waited for.
    #[must_use]
    pub fn stream(&self) -> &UnixStream {
        self.read.get_ref()
    }

    /// Writes a line.
    ///
    /// # Errors
    /// Where the other end is gone.
    pub fn tell(&self, message: &impl Serialize) -> io::Result<()> {
        let mut stream = self.read.get_ref();
        stream.write_all(&line(message)?)
    }

    /// Reads a line.
    ///
    /// # Errors
    /// Where the other end is gone, says nothing in time, or says what is not understood.
    pub fn hear<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let mut line = String::new();
        self.read.by_ref().take(LINE).read_line(&mut line)?;
        if !line.ends_with('\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&line)?)
    }
}

/// A message as it is sent.
///
/// # Errors
/// Where it has no form in JSON.
pub fn line(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_written_as_the_protocol_says() {
        let arm = Request::Arm {
            until_ms: BootTime::from_millis(7),
            turn: Turn(1),
        };
        let text = |r: &Request| serde_json::to_string(r).unwrap();
        assert_eq!(text(&arm), r#"{"arm":{"untilMs":7,"turn":1}}"#);
        assert_eq!(text(&Request::State), r#""state""#);
        let signal = Request::Signal {
            name: CommandSignal::Int,
        };
        assert_eq!(text(&signal), r#"{"signal":{"name":"SIGINT"}}"#);
    }

    #[test]
    fn a_half_line_is_no_message() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (&ours).write_all(b"{\"exited\":0}").unwrap();
        drop(ours);
        let heard = Channel::new(theirs).hear::<Ended>().unwrap_err();
        assert_eq!(heard.kind(), io::ErrorKind::UnexpectedEof);
    }
}
