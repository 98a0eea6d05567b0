//! A process that is meant, and no other that got its number later.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use serde::{Deserialize, Serialize};
use tokio::io::{Interest, unix::AsyncFd};

/// Names a process for as long as the machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Its number, which another may have after it.
    pub pid: u32,
    /// When it started, in clock ticks since boot: `starttime` of `/proc/PID/stat`.
    pub started: u64,
}

impl Identity {
    /// This process.
    ///
    /// # Errors
    /// Where `/proc` cannot be read.
    pub fn own() -> io::Result<Self> {
        let pid = std::process::id();
        Ok(Self {
            pid,
            started: started(&fs::read_to_string("/proc/self/stat")?)?,
        })
    }
}

/// A process, held by a descriptor: signals reach it or nobody.
#[derive(Debug)]
pub struct Process {
    identity: Identity,
    fd: OwnedFd,
}

impl Process {
    /// The process that has this number now; none where nobody has, or it has ended.
    ///
    /// # Errors
    /// Where the kernel or `/proc` does not tell.
    pub fn open(pid: u32) -> io::Result<Option<Self>> {
        let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let fd = match pidfd_open(raw, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(Errno::SRCH) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
        // Only if it still runs was that its own file.
        if has_ended(fd.as_fd())? {
            return Ok(None);
        }
        let started = started(&stat?)?;
        Ok(Some(Self {
            identity: Identity { pid, started },
            fd,
        }))
    }

    /// The process of that name; none where it has ended.
    ///
    /// # Errors
    /// As [`Process::open`].
    pub fn find(identity: Identity) -> io::Result<Option<Self>> {
        Ok(Self::open(identity.pid)?.filter(|p| p.identity == identity))
    }

    /// Who it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Sends it a signal; nothing happens where it has ended.
    ///
    /// # Errors
    /// Where this process may not.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.fd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Whether it has ended: nothing of it runs any more, though its parent may not have asked for its status yet. For
    /// the init of a PID namespace the kernel says so once everything in the namespace has ended
    /// (`zap_pid_ns_processes`).
    ///
    /// # Errors
    /// Where the kernel does not tell.
    pub fn has_ended(&self) -> io::Result<bool> {
        has_ended(self.fd.as_fd())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Where the kernel does not tell.
    #[expect(
        deprecated,
        reason = "what the unsafe form asks the caller to promise, an `OwnedFd` keeps by its type"
    )]
    pub async fn ended(&self) -> io::Result<()> {
        // A descriptor of its own: several may wait, and epoll takes each descriptor once.
        let fd = AsyncFd::with_interest(self.fd.try_clone()?, Interest::READABLE)?;
        // Readiness may be announced without being so.
        loop {
            let mut ready = fd.readable().await?;
            if self.has_ended()? {
                return Ok(());
            }
            ready.clear_ready();
        }
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The process that stands under `inner` in the PID namespace of which `init` is the first.
///
/// # Errors
/// Where `/proc` cannot be read.
pub fn in_namespace(init: u32, inner: u32) -> io::Result<Option<Process>> {
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        if !stands(pid, init, inner) {
            continue;
        }
        // Once it is held it keeps its number, so that a second look is at the same process.
        if let Some(process) = Process::open(pid)?
            && stands(pid, init, inner)
            && !process.has_ended()?
        {
            return Ok(Some(process));
        }
    }
    Ok(None)
}

/// Whether this is a child of `init`, and has that number in its namespace.
fn stands(pid: u32, init: u32, inner: u32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
        return false;
    };
    let last = |key: &str| -> Option<u32> {
        let line = status.lines().find_map(|l| l.strip_prefix(key))?;
        line.split_whitespace().last()?.parse().ok()
    };
    last("PPid:") == Some(init) && last("NSpid:") == Some(inner)
}

fn has_ended(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    Ok(poll(&mut fds, PollTimeout::ZERO)? > 0)
}

/// Field 22, counted from behind the name, which may hold anything.
fn started(stat: &str) -> io::Result<u64> {
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let field = fields.split(' ').nth(19).and_then(|f| f.parse().ok());
    field.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "no start time in /proc/PID/stat",
        )
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_number_that_another_process_has_is_not_it() {
        let own = Identity::own().unwrap();
        assert!(Process::find(own).unwrap().is_some());
        let earlier = Identity {
            started: own.started - 1,
            ..own
        };
        assert!(Process::find(earlier).unwrap().is_none());
    }

    #[tokio::test]
    async fn an_end_is_seen_before_anybody_asks_for_its_status() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let process = Process::open(child.id()).unwrap().unwrap();
        assert!(!process.has_ended().unwrap());
        process.signal(Signal::KILL).unwrap();
        process.ended().await.unwrap();
        assert!(process.has_ended().unwrap());
        assert!(Process::open(child.id()).unwrap().is_none());
        child.wait().unwrap();
        process.signal(Signal::KILL).unwrap();
    }

    #[test]
    fn a_name_with_brackets_hides_no_field() {
        let stat = "7 (a) b) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 0";
        assert_eq!(started(stat).unwrap(), 4711);
        assert!(started("7 (a) S 1").is_err());
    }
}
