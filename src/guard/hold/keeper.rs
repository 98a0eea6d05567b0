//! The hold itself: the parent of the namespace's init, with the dead-man on its own head. One thread, which waits; what
//! must happen when it cannot run is the kernel's to do.

use std::{
    env,
    fs::OpenOptions,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            fs::OpenOptionsExt,
            net::{UnixListener, UnixStream},
            process::CommandExt,
        },
    },
    process::{Child, Command, Stdio},
    thread::sleep,
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, unshare},
    sys::{
        prctl,
        signal::SigSet,
        socket::{getsockopt, sockopt::PeerCredentials},
    },
    unistd::{Uid, setsid},
};
use rustix::process::Signal;

use super::{
    boot_time::BootTime,
    folder::{Folder, FolderError, boot},
    message::{
        Answer, Channel, CommandSignal, Ended, Launch, News, Record, Request, Started, State, Turn,
        line,
    },
    process::{self, Identity, Process},
    timer::DeadMan,
};
use crate::port::{cause, lock::Lock};

/// What init may take to say that it is ready, and that the command runs.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to leave the kernel alone that has no descriptor or memory to give.
const PAUSE: Duration = Duration::from_millis(10);
/// The most connections at a time; the oldest makes room.
const CLIENTS: usize = 16;
/// The most bytes of a request.
const REQUEST: usize = 4096;

/// What failed on the way to a running command.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// Its folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Its lock.
    #[error("cannot lock the runtime folder")]
    Lock(#[source] io::Error),
    /// Another hold has the folder.
    #[error("another hold has this runtime folder")]
    Held,
    /// What an earlier hold left has not ended.
    #[error("process {init} of an earlier hold has not ended yet")]
    Dying {
        /// The init of its namespace.
        init: u32,
    },
    /// A session of its own.
    #[error("cannot leave the guard's session")]
    Session(#[source] Errno),
    /// Signals that are not for it.
    #[error("cannot block signals")]
    Signals(#[source] Errno),
    /// The dead-man.
    #[error("cannot make or set a timer on CLOCK_BOOTTIME")]
    Timer(#[source] Errno),
    /// The socket.
    #[error("cannot listen for commands")]
    Listen(#[source] io::Error),
    /// The log.
    #[error("cannot write {path}")]
    Log {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The namespace.
    #[error("cannot make a PID namespace, which takes root or CAP_SYS_ADMIN")]
    Namespace(#[source] Errno),
    /// Its first process.
    #[error("cannot start the namespace's init")]
    Init(#[source] io::Error),
    /// What that could not do.
    #[error("{0}")]
    Command(String),
    /// Where `/proc` does not tell.
    #[error("cannot tell who this process is")]
    Identity(#[source] io::Error),
}

/// Runs as hold until its command has ended, and gives the status to exit with.
///
/// # Errors
/// Where no guard started it. Another failure to start is told to the guard, and ends in status 1.
pub fn run() -> io::Result<u8> {
    let mut guard = Channel::inherited()?;
    let launch: Launch = guard.hear()?;
    let (started, keeper) = match Keeper::start(&launch) {
        Ok(keeper) => (Started::Running(keeper.record.clone()), Some(keeper)),
        Err(KeeperError::Held) => (Started::Held, None),
        Err(KeeperError::Dying { init }) => (Started::Dying { init }, None),
        Err(other) => {
            let reason = cause::in_full(&other);
            (Started::Failed { reason }, None)
        }
    };
    // The guard may have died meanwhile; another will find the record.
    let _ = guard.tell(&started);
    drop(guard);
    Ok(keeper.map_or(1, Keeper::keep))
}

struct Keeper {
    folder: Folder,
    record: Record,
    dead_man: DeadMan,
    listener: UnixListener,
    clients: Vec<Client>,
    init: Child,
    namespace: Process,
    news: Option<Channel>,
    command: Option<Process>,
    ended: Option<Ended>,
    obeyed: Turn,
    // Last, so that it is freed last.
    _lock: Lock,
}

impl Keeper {
    fn start(launch: &Launch) -> Result<Self, KeeperError> {
        let folder = Folder::make(&launch.folder)?;
        let lock = Lock::take(&folder.lock())
            .map_err(KeeperError::Lock)?
            .ok_or(KeeperError::Held)?;
        leftover(&folder)?;
        folder.sweep()?;

        setsid().map_err(KeeperError::Session)?;
        SigSet::all().thread_block().map_err(KeeperError::Signals)?;
        let _ = prctl::set_name(c"failover-hold");
        let mut dead_man = DeadMan::new().map_err(KeeperError::Timer)?;
        if let Some(until) = launch.armed {
            dead_man.arm(until).map_err(KeeperError::Timer)?;
        }
        let listener = listen(&folder).map_err(KeeperError::Listen)?;

        let (init, mut news) = spawn_init(launch)?;
        let namespace = open(&init)?;
        let record = Record {
            boot: boot()?,
            hold: Identity::own().map_err(KeeperError::Identity)?,
            init: namespace.identity(),
        };
        // Whoever comes later must find it, so nothing is started before this is written.
        folder.write_record(&record)?;
        let command = go(&mut news, launch, &namespace)?;
        Ok(Self {
            folder,
            record,
            dead_man,
            listener,
            clients: Vec::new(),
            init,
            namespace,
            news: Some(news),
            command,
            ended: None,
            obeyed: Turn::default(),
            _lock: lock,
        })
    }

    /// Serves until the namespace is empty.
    fn keep(mut self) -> u8 {
        while !self.namespace.has_ended().unwrap_or(false) {
            if self.wait().is_err() {
                sleep(PAUSE);
            }
            self.hear_news();
            self.take_in();
            self.serve();
        }
        self.hear_news();
        let _ = self.init.wait();
        let ended = self.ended.unwrap_or(Ended::Cut);
        // What cannot be written reads as a cut, which claims least.
        let _ = self.folder.write_ended(ended);
        ended.status()
    }

    /// Waits until somebody has something to say.
    fn wait(&self) -> Result<(), Errno> {
        let mut fds = vec![
            PollFd::new(self.namespace.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
        ];
        let news = self.news.iter().map(|news| news.stream().as_fd());
        let clients = self.clients.iter().map(|client| client.stream.as_fd());
        fds.extend(
            news.chain(clients)
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN)),
        );
        poll(&mut fds, PollTimeout::NONE).map(drop)
    }

    /// Hears how the command ended. Init says so in one line, and nothing else any more.
    fn hear_news(&mut self) {
        let Some(news) = &mut self.news else { return };
        let mut fds = [PollFd::new(news.stream().as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::ZERO) == Ok(0) {
            return;
        }
        if let Ok(News::Ended(ended)) = news.hear() {
            self.ended = Some(ended);
        }
        self.news = None;
    }

    fn take_in(&mut self) {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    if is_ours(&stream) && stream.set_nonblocking(true).is_ok() {
                        self.clients.push(Client::new(stream));
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    sleep(PAUSE);
                    break;
                }
            }
            if self.clients.len() > CLIENTS {
                self.clients.remove(0);
            }
        }
    }

    fn serve(&mut self) {
        let mut clients = std::mem::take(&mut self.clients);
        clients.retain_mut(|client| client.serve(|request| self.obey(request)).is_ok());
        self.clients = clients;
    }

    fn obey(&mut self, request: &Request) -> Answer {
        match request {
            Request::Arm { until_ms, turn } => {
                self.in_turn(*turn, |dead_man| dead_man.arm(*until_ms))
            }
            Request::Disarm { turn } => self.in_turn(*turn, DeadMan::disarm),
            Request::State => Answer::State(self.state()),
            Request::Signal { name } => match self.running() {
                None => Answer::NoCommand,
                Some(command) => match command.signal(number(*name)) {
                    Ok(()) => Answer::Done,
                    Err(e) => failed(&e),
                },
            },
        }
    }

    fn in_turn(
        &mut self,
        turn: Turn,
        set: impl FnOnce(&mut DeadMan) -> Result<(), Errno>,
    ) -> Answer {
        if turn <= self.obeyed {
            return Answer::Overtaken;
        }
        match set(&mut self.dead_man) {
            Ok(()) => {
                self.obeyed = turn;
                Answer::Done
            }
            Err(e) => failed(&e),
        }
    }

    fn state(&self) -> State {
        State {
            hold: self.record.hold.pid,
            init: self.record.init.pid,
            command: self.running().map(|command| command.identity().pid),
            armed: self.dead_man.armed(),
            now: BootTime::now(),
        }
    }

    fn running(&self) -> Option<&Process> {
        let command = self.command.as_ref()?;
        (!command.has_ended().ok()?).then_some(command)
    }
}

/// One connection.
struct Client {
    stream: UnixStream,
    heard: Vec<u8>,
}

impl Client {
    fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            heard: Vec::new(),
        }
    }

    /// Answers what has been asked by now; an error where the connection is over.
    fn serve(&mut self, mut obey: impl FnMut(&Request) -> Answer) -> io::Result<()> {
        let mut some = [0; REQUEST];
        match self.stream.read(&mut some) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => self.heard.extend_from_slice(&some[..n]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        }
        while let Some(end) = self.heard.iter().position(|b| *b == b'\n') {
            let asked: Vec<u8> = self.heard.drain(..=end).collect();
            let answer = match serde_json::from_slice(&asked) {
                Ok(request) => obey(&request),
                Err(e) => failed(&e),
            };
            // An answer is far smaller than a socket's buffer: who does not read is not waited for.
            self.stream.write_all(&line(&answer)?)?;
        }
        if self.heard.len() > REQUEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(())
    }
}

/// What an earlier hold left may still be writing, if it hangs in the kernel.
fn leftover(folder: &Folder) -> Result<(), KeeperError> {
    if let Some(record) = folder.record()?
        && let Some(init) = Process::find(record.init).map_err(KeeperError::Identity)?
    {
        return Err(KeeperError::Dying {
            init: init.identity().pid,
        });
    }
    Ok(())
}

fn listen(folder: &Folder) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(folder.socket())?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Starts the init of a new PID namespace, which every later child of this process is in, too. The IPC namespace stays the
/// host's: System V shared memory is what keeps a second postmaster off a data directory in use.
pub(super) fn spawn_init(launch: &Launch) -> Result<(Child, Channel), KeeperError> {
    let mut command = Command::new("/proc/self/exe");
    if let Some(path) = &launch.log {
        let written = |source| KeeperError::Log {
            path: path.display().to_string(),
            source,
        };
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .map_err(written)?;
        command
            .stdout(log.try_clone().map_err(written)?)
            .stderr(log);
    }
    let (ours, theirs) = UnixStream::pair().map_err(KeeperError::Init)?;
    ours.set_read_timeout(Some(PATIENCE))
        .map_err(KeeperError::Init)?;
    env::set_current_dir("/").map_err(KeeperError::Init)?;
    unshare(CloneFlags::CLONE_NEWPID).map_err(KeeperError::Namespace)?;
    let init = command
        .arg0("failover")
        .args(["guard-part", "init"])
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .map_err(KeeperError::Init)?;
    Ok((init, Channel::new(ours)))
}

fn open(init: &Child) -> Result<Process, KeeperError> {
    match Process::open(init.id()) {
        Ok(Some(process)) => Ok(process),
        Ok(None) => Err(KeeperError::Init(io::ErrorKind::UnexpectedEof.into())),
        Err(e) => Err(KeeperError::Identity(e)),
    }
}

/// Lets init start the command once init is bound to die with this process; none where the command has ended already.
fn go(news: &mut Channel, launch: &Launch, init: &Process) -> Result<Option<Process>, KeeperError> {
    match news.hear().map_err(KeeperError::Init)? {
        News::Ready => {}
        other @ (News::Running(_) | News::Failed(_) | News::Ended(_)) => {
            return Err(unexpected(other));
        }
    }
    news.tell(launch).map_err(KeeperError::Init)?;
    match news.hear().map_err(KeeperError::Init)? {
        News::Running(inner) => {
            process::in_namespace(init.identity().pid, inner).map_err(KeeperError::Identity)
        }
        other @ (News::Ready | News::Failed(_) | News::Ended(_)) => Err(unexpected(other)),
    }
}

fn unexpected(news: News) -> KeeperError {
    match news {
        News::Failed(reason) => KeeperError::Command(reason),
        News::Ready | News::Running(_) | News::Ended(_) => {
            KeeperError::Init(io::ErrorKind::InvalidData.into())
        }
    }
}

/// Whether root or this user is at the other end.
fn is_ours(stream: &UnixStream) -> bool {
    getsockopt(stream, PeerCredentials)
        .is_ok_and(|peer| peer.uid() == 0 || peer.uid() == Uid::effective().as_raw())
}

fn number(name: CommandSignal) -> Signal {
    match name {
        CommandSignal::Term => Signal::TERM,
        CommandSignal::Int => Signal::INT,
        CommandSignal::Quit => Signal::QUIT,
        CommandSignal::Hup => Signal::HUP,
    }
}

fn failed(error: &dyn std::error::Error) -> Answer {
    Answer::Failed {
        reason: cause::in_full(error),
    }
}
