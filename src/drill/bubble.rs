//! The bubble: namespaces of the run's own. Its network has a loopback and nothing else, it does not see the folders in
//! which sockets of this host lie, its processes see none but themselves, and all of them end with its first one.
//!
//! As root that first process holds everything, and threads of this one enter. A user without rights gets a network of
//! its own by way of a user namespace, for the database alone: nobody can enter that.

use std::{
    fs::{self, File},
    future::Future,
    io,
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::prctl,
    unistd::geteuid,
};
use tokio::{
    process::{Child, Command},
    runtime::{Builder, Handle},
    sync::oneshot,
};

use super::{cover, folder::Folder, loopback, process};

/// What the first process may take to be ready.
const PATIENCE: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(5);
/// The first process shows the bubble's own processes to the others, says that it did, and then does nothing but to take
/// leave of those that lost their parents.
const INIT: [&str; 3] = [
    "sh",
    "-c",
    "mount -t proc proc /proc && : > ready && while :; do sleep 3600; done",
];
/// How it says so, in its folder.
const READY: &str = "ready";
/// How a user without rights gets a network of its own.
const UNSHARE: [&str; 6] = [
    "unshare",
    "--user",
    "--map-current-user",
    "--net",
    "--ipc",
    "--",
];
/// A PostgreSQL's socket, by the beginning of its name.
const SOCKET: &str = ".s.PGSQL.";

/// Why there is no bubble.
#[derive(Debug, thiserror::Error)]
pub enum BubbleError {
    /// The kernel makes no namespaces for this process.
    #[error(
        "this host gives no network of its own to a drill ({0}): run the controller as root, or allow user namespaces"
    )]
    Namespace(String),
    /// The loopback.
    #[error("the loopback of the bubble cannot be brought up")]
    Loopback(#[source] io::Error),
    /// The folders of sockets.
    #[error("sockets of this host cannot be hidden from the bubble")]
    Cover(#[source] io::Error),
    /// Sockets that only root can hide.
    #[error(
        "a PostgreSQL of this host has its socket at {0}, which only root can hide from a drill: run the controller as root"
    )]
    Visible(String),
    /// Its first process.
    #[error("the bubble's first process does not start")]
    Init(#[source] io::Error),
    /// It is not what it should be.
    #[error("the bubble is not apart: {0}")]
    Open(String),
    /// It cannot be entered.
    #[error("the bubble cannot be entered: that takes root")]
    Closed,
    /// There is none.
    #[error("there is no bubble: the clone is not promoted, or it has ended")]
    None,
    /// What `/proc` does not tell, or what could not be started in it.
    #[error("{0}")]
    Io(String, #[source] io::Error),
}

/// A bubble that is there.
#[derive(Clone, Copy, Debug)]
pub struct Bubble {
    /// A process in it: the first one, or the database where nobody can enter.
    holder: i32,
    enters: bool,
}

impl Bubble {
    /// The bubble of a run, proved to be apart; none where nothing of it runs.
    ///
    /// # Errors
    /// Where there is one that is not apart, or that cannot be told.
    pub fn find(folder: &Folder) -> Result<Option<Self>, BubbleError> {
        let at = |path: &Path| {
            let found = process::at(path);
            found.map_err(|e| BubbleError::Io("processes cannot be listed".to_owned(), e))
        };
        let holder = at(&folder.init())?.first().copied();
        let bubble = match holder {
            Some(holder) => Self {
                holder,
                enters: true,
            },
            None => match at(&folder.data())?.first().copied() {
                Some(holder) => Self {
                    holder,
                    enters: false,
                },
                None => return Ok(None),
            },
        };
        bubble.prove()?;
        Ok(Some(bubble))
    }

    /// The bubble of a run.
    ///
    /// # Errors
    /// `None` where there is none; as [`Bubble::find`] besides.
    pub fn of(folder: &Folder) -> Result<Self, BubbleError> {
        Self::find(folder)?.ok_or(BubbleError::None)
    }

    /// Whether something on this side can do something on that side.
    pub fn can_be_entered(self) -> bool {
        self.enters
    }

    /// Its network is not this process's, and has no way out.
    fn prove(self) -> Result<(), BubbleError> {
        let unknown = |e| BubbleError::Io("the bubble's network cannot be looked at".to_owned(), e);
        let own = process::namespace("self", "net").map_err(unknown)?;
        let inside = process::namespace(&self.holder.to_string(), "net").map_err(unknown)?;
        if own == inside {
            return Err(BubbleError::Open("it has this host's network".to_owned()));
        }
        let links =
            fs::read_to_string(format!("/proc/{}/net/dev", self.holder)).map_err(unknown)?;
        let others: Vec<&str> = links
            .lines()
            .skip(2)
            .filter_map(|line| Some(line.split_once(':')?.0.trim()))
            .filter(|link| *link != "lo")
            .collect();
        if others.is_empty() {
            Ok(())
        } else {
            let text = format!("its network has {}", others.join(", "));
            Err(BubbleError::Open(text))
        }
    }

    /// Makes what the run has not got yet: as root the namespaces with their first process. It blocks.
    ///
    /// # Errors
    /// Where it cannot be made; nothing is left of it then.
    fn make(folder: &Folder, handle: &Handle) -> Result<Self, BubbleError> {
        let init = folder.init();
        // Of an earlier one nothing counts.
        let _ = fs::remove_dir_all(&init);
        fs::create_dir_all(&init).map_err(BubbleError::Init)?;
        let (own, handle) = (folder.clone(), handle.clone());
        let made = on_a_thread(move || {
            let sockets = cover::sockets().map_err(BubbleError::Cover)?;
            unshare(kinds()).map_err(|e| BubbleError::Namespace(e.to_string()))?;
            cover::cover(&sockets, own.path()).map_err(BubbleError::Cover)?;
            loopback::up().map_err(BubbleError::Loopback)?;
            gain_nothing()?;
            let log = File::create(own.join("init.log")).map_err(BubbleError::Init)?;
            let mut command = Command::new(INIT[0]);
            command.args(&INIT[1..]).current_dir(&init).env_clear();
            command.env("PATH", path());
            start(command, log, &handle).map_err(BubbleError::Init)
        })?;
        let holder = ready(made, folder).map_err(BubbleError::Init)?;
        Ok(Self {
            holder,
            enters: true,
        })
    }

    /// Starts the database of a run in its bubble, which is made. It blocks.
    ///
    /// # Errors
    /// Where there cannot be a bubble; nothing runs then.
    pub fn start_server(
        folder: &Folder,
        command: Command,
        log: File,
        handle: &Handle,
    ) -> Result<Child, BubbleError> {
        let cannot = |e| BubbleError::Io("postgres cannot be started".to_owned(), e);
        if !geteuid().is_root() {
            let sockets = cover::sockets().map_err(BubbleError::Cover)?;
            let other = sockets.iter().find(|path| {
                let name = path.file_name().and_then(|n| n.to_str());
                name.is_some_and(|n| n.starts_with(SOCKET)) && !path.starts_with(folder.path())
            });
            if let Some(other) = other {
                return Err(BubbleError::Visible(other.display().to_string()));
            }
            return start(unshared(&command), log, handle).map_err(cannot);
        }
        let bubble = Self::make(folder, handle)?;
        bubble.prove()?;
        bubble.start(command, log, handle)
    }

    /// Starts a program in the bubble. It blocks.
    ///
    /// # Errors
    /// Where nobody can enter, or it cannot be started.
    pub fn start(self, command: Command, log: File, handle: &Handle) -> Result<Child, BubbleError> {
        if !self.enters {
            return Err(BubbleError::Closed);
        }
        let (holder, handle) = (self.holder, handle.clone());
        on_a_thread(move || {
            let program = command
                .as_std()
                .get_program()
                .to_string_lossy()
                .into_owned();
            enter(holder)?;
            gain_nothing()?;
            let cannot = |e| BubbleError::Io(format!("{program} cannot be started"), e);
            start(command, log, &handle).map_err(cannot)
        })
    }

    /// Does something in the bubble's network, on a thread of its own. Dropping this ends it.
    ///
    /// # Errors
    /// Where nobody can enter.
    pub async fn inside<T, F>(
        self,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> Result<T, BubbleError>
    where
        T: Send + 'static,
        F: Future<Output = T>,
    {
        if !self.enters {
            return Err(BubbleError::Closed);
        }
        let cannot = |e| BubbleError::Io("the bubble's network cannot be entered".to_owned(), e);
        let network = File::open(format!("/proc/{}/ns/net", self.holder)).map_err(cannot)?;
        let (mut tell, told) = oneshot::channel();
        let work = move || {
            let runtime = setns(&network, CloneFlags::CLONE_NEWNET)
                .map_err(io::Error::from)
                .and_then(|()| Builder::new_current_thread().enable_all().build());
            let done = runtime.map(|runtime| {
                runtime.block_on(async {
                    tokio::select! {
                        done = work() => Some(done),
                        () = tell.closed() => None,
                    }
                })
            });
            // Nobody may wait for it any more.
            let _ = tell.send(done);
        };
        let spawned = thread::Builder::new().name("bubble".to_owned()).spawn(work);
        spawned.map_err(cannot)?;
        match told.await {
            Ok(Ok(Some(done))) => Ok(done),
            Ok(Err(e)) => Err(cannot(e)),
            Ok(Ok(None)) | Err(_) => Err(cannot(io::Error::other("its thread ended"))),
        }
    }

    /// The processes in it that were started with this variable.
    ///
    /// # Errors
    /// Where they cannot be listed.
    pub fn marked(self, variable: &str) -> io::Result<Vec<i32>> {
        let inside = process::namespace(&self.holder.to_string(), "pid")?;
        process::marked(inside, variable)
    }
}

/// Whether this host gives a bubble at all, without leaving anything of it. It blocks.
///
/// # Errors
/// Where it does not.
pub fn is_possible() -> Result<(), BubbleError> {
    if geteuid().is_root() {
        return on_a_thread(|| {
            unshare(kinds()).map_err(|e| BubbleError::Namespace(e.to_string()))?;
            loopback::up().map_err(BubbleError::Loopback)
        });
    }
    let tried = std::process::Command::new(UNSHARE[0])
        .args(&UNSHARE[1..])
        .arg("true")
        .stdin(Stdio::null())
        .output();
    match tried {
        Ok(out) if out.status.success() => Ok(()),
        Ok(out) => {
            let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
            Err(BubbleError::Namespace(said))
        }
        Err(e) => Err(BubbleError::Namespace(format!("unshare: {e}"))),
    }
}

/// A network, System V memory, mounts and process numbers of its own.
fn kinds() -> CloneFlags {
    CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
}

/// Has the calling thread enter, for what it starts.
fn enter(holder: i32) -> Result<(), BubbleError> {
    let cannot = |e| BubbleError::Io("the bubble cannot be entered".to_owned(), e);
    let open = |which: &str| File::open(format!("/proc/{holder}/ns/{which}"));
    let all = [
        (open("net"), CloneFlags::CLONE_NEWNET),
        (open("ipc"), CloneFlags::CLONE_NEWIPC),
        (open("pid"), CloneFlags::CLONE_NEWPID),
        (open("mnt"), CloneFlags::CLONE_NEWNS),
    ];
    // The other threads keep their root and working folder.
    unshare(CloneFlags::CLONE_FS).map_err(|e| cannot(e.into()))?;
    for (file, kind) in all {
        setns(file.map_err(cannot)?, kind).map_err(|e| cannot(e.into()))?;
    }
    Ok(())
}

/// What the calling thread starts gets no rights by running another program, such as sudo.
fn gain_nothing() -> Result<(), BubbleError> {
    let cannot =
        |e: nix::errno::Errno| BubbleError::Io("no_new_privs cannot be set".to_owned(), e.into());
    prctl::set_no_new_privs().map_err(cannot)
}

/// The same command without rights and with a network of its own.
fn unshared(command: &Command) -> Command {
    let inner = command.as_std();
    let mut outer = Command::new(UNSHARE[0]);
    outer
        .args(&UNSHARE[1..])
        .arg(inner.get_program())
        .args(inner.get_args())
        .env_clear();
    for (name, value) in inner.get_envs() {
        if let Some(value) = value {
            outer.env(name, value);
        }
    }
    if let Some(folder) = inner.get_current_dir() {
        outer.current_dir(folder);
    }
    outer
}

/// Waits until the first process does nothing any more, and says which it is.
fn ready(mut init: Child, folder: &Folder) -> io::Result<i32> {
    let until = Instant::now() + PATIENCE;
    let pid = init.id().and_then(|pid| i32::try_from(pid).ok());
    let pid = pid.ok_or_else(|| io::Error::other("it has no number"))?;
    loop {
        let said = || fs::read_to_string(folder.join("init.log")).unwrap_or_default();
        if let Some(status) = init.try_wait()? {
            return Err(io::Error::other(format!("{status}: {}", said().trim())));
        }
        if folder.init().join(READY).exists() {
            return Ok(pid);
        }
        if Instant::now() > until {
            let _ = init.start_kill();
            return Err(io::ErrorKind::TimedOut.into());
        }
        thread::sleep(AGAIN);
    }
}

/// Starts a program that outlives this one, in a group of its own.
fn start(mut command: Command, log: File, handle: &Handle) -> io::Result<Child> {
    let _runtime = handle.enter();
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
}

/// Runs this on a thread of its own: what is done to its namespaces ends with it.
fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BubbleError> + Send + 'static,
) -> Result<T, BubbleError> {
    let spawned = thread::Builder::new().name("bubble".to_owned()).spawn(work);
    let cannot = |e| BubbleError::Io("no thread can be started".to_owned(), e);
    match spawned.map_err(cannot)?.join() {
        Ok(done) => done,
        Err(_) => Err(cannot(io::Error::other("it broke"))),
    }
}

fn path() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into())
}
