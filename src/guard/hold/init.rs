//! The first process of the namespace. It stays root, since the kernel forgets what kills it with its parent when a
//! process changes its user, and starts the command by way of [`command`], which does change it.

use std::{
    convert::Infallible,
    io,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{
        prctl,
        signal::Signal,
        wait::{WaitStatus, wait},
    },
    unistd::{Gid, Uid, setgid, setgroups, setuid},
};

use super::message::{Channel, Ended, Launch, News};
use crate::port::cause;

/// What failed on the way to a running command.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// It was not started by hold, or hold is gone.
    #[error("hold does not say what to start")]
    Hold(#[source] io::Error),
    /// It would outlive hold.
    #[error("cannot ask the kernel for death with the parent")]
    DieWithParent(#[source] Errno),
    /// The namespace's own `/proc`.
    #[error("cannot mount the namespace's own /proc")]
    Proc(#[source] Errno),
    /// The process that becomes the command.
    #[error("cannot start a process for the command")]
    Spawn(#[source] io::Error),
    /// What init may ask of its children.
    #[error("cannot wait for children")]
    Wait(#[source] Errno),
    /// The database's user.
    #[error("cannot become user {uid} with group {gid}")]
    User {
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
        /// Why.
        source: Errno,
    },
    /// The command itself.
    #[error("cannot run {program}")]
    Exec {
        /// Which.
        program: String,
        /// Why.
        source: io::Error,
    },
}

/// Runs as the namespace's init until the command has ended, and gives the status to exit with. With its exit the kernel
/// kills whatever is left in the namespace.
///
/// # Errors
/// Where hold is gone. What else fails is told to hold, and ends in status 1.
pub fn run() -> Result<u8, InitError> {
    // Before anything else. Hold starts nothing before it has heard that this is done: if it dies before, its end of the
    // socket closes; if after, the kernel kills this process.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(InitError::DieWithParent)?;
    let _ = prctl::set_name(c"failover-init");
    let mut hold = Channel::inherited().map_err(InitError::Hold)?;
    hold.tell(&News::Ready).map_err(InitError::Hold)?;
    let launch: Launch = hold.hear().map_err(InitError::Hold)?;
    let child = match own_proc().and_then(|()| spawn(&launch)) {
        Ok(child) => child,
        Err(e) => {
            hold.tell(&News::Failed(cause::in_full(&e)))
                .map_err(InitError::Hold)?;
            return Ok(1);
        }
    };
    hold.tell(&News::Running(child.id()))
        .map_err(InitError::Hold)?;
    let ended = reap_until(&child)?;
    hold.tell(&News::Ended(ended)).map_err(InitError::Hold)?;
    Ok(ended.status())
}

/// PostgreSQL's tools look for their servers under the numbers of this namespace. Mounts made on the host later still
/// come in, and this one does not go out.
fn own_proc() -> Result<(), InitError> {
    const NONE: Option<&str> = None;
    let made = || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("proc"), "/proc", Some("proc"), flags, NONE)
    };
    made().map_err(InitError::Proc)
}

fn spawn(launch: &Launch) -> Result<Child, InitError> {
    let made = || {
        let mut child = Command::new("/proc/self/exe")
            .arg0("failover")
            .args(["guard-part", "command"])
            .env_clear()
            .stdin(Stdio::piped())
            .spawn()?;
        // Closed behind it, which tells the child that this was all.
        if let Some(stdin) = child.stdin.take() {
            serde_json::to_writer(stdin, launch)?;
        }
        Ok(child)
    };
    made().map_err(InitError::Spawn)
}

/// Reaps all orphans of the namespace until the command ends.
fn reap_until(child: &Child) -> Result<Ended, InitError> {
    let ours = |pid: nix::unistd::Pid| u32::try_from(pid.as_raw()).is_ok_and(|p| p == child.id());
    loop {
        match wait() {
            Ok(WaitStatus::Exited(pid, status)) if ours(pid) => return Ok(Ended::Exited(status)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if ours(pid) => {
                return Ok(Ended::Signalled(signal as i32));
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(InitError::Wait(e)),
        }
    }
}

/// Becomes the command: reads from standard input what it is, changes the user, and runs it.
///
/// # Errors
/// Where that cannot be; there is no other way to return.
pub fn command() -> Result<Infallible, InitError> {
    let launch: Launch =
        serde_json::from_reader(io::stdin().lock()).map_err(|e| InitError::Hold(e.into()))?;
    drop_rights(&launch).map_err(|source| InitError::User {
        uid: launch.uid,
        gid: launch.gid,
        source,
    })?;
    let failed = Command::new(&launch.program)
        .args(&launch.args)
        .env_clear()
        .envs(&launch.env)
        .stdin(Stdio::null())
        .exec();
    Err(InitError::Exec {
        program: launch.program.display().to_string(),
        source: failed,
    })
}

fn drop_rights(launch: &Launch) -> Result<(), Errno> {
    let groups: Vec<Gid> = launch.groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups)?;
    setgid(Gid::from_raw(launch.gid))?;
    setuid(Uid::from_raw(launch.uid))
}
