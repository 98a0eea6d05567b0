//! A showing of the demo: the program itself, in a home and a folder for temporary files of its own, and everything that
//! it ever started or mapped, so that what is left of it is found.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, Permissions},
    io::{Read, Write},
    net::TcpStream,
    os::unix::{fs::PermissionsExt, fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::{Pid, Uid, User},
};
use tempfile::TempDir;

/// Longer than any showing takes on a machine that does ten things at once.
const PATIENCE: Duration = Duration::from_mins(4);
/// How often the showing is looked at.
const LOOK: Duration = Duration::from_millis(100);

const PROGRAM: &str = env!("CARGO_BIN_EXE_failover");

/// A running showing.
pub struct Showing {
    child: Child,
    folder: TempDir,
    seen: Seen,
}

/// What became of it.
pub struct Ended {
    /// The exit status.
    pub status: i32,
    /// Standard output.
    pub printed: String,
    /// Standard error.
    pub told: String,
    folder: TempDir,
    seen: Seen,
}

/// Everything that was ever seen of it.
#[derive(Default)]
struct Seen {
    /// Processes, each with the moment of its start, since numbers are used again.
    processes: BTreeMap<i32, String>,
    /// Ids of System V shared memory.
    segments: BTreeSet<String>,
    /// Files of POSIX shared memory.
    shared: BTreeSet<PathBuf>,
}

impl Showing {
    /// Starts it as this user.
    pub fn start(args: &[&str]) -> Self {
        Self::spawn(Command::new(PROGRAM), None, args)
    }

    /// Starts it as a user who may do nothing.
    pub fn start_as_nobody(args: &[&str]) -> Self {
        if !Uid::effective().is_root() {
            return Self::start(args);
        }
        let nobody = User::from_name("nobody").unwrap().unwrap();
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--reuid={}", nobody.uid))
            .arg(format!("--regid={}", nobody.gid))
            .args(["--clear-groups", "--no-new-privs"])
            .arg(PROGRAM);
        Self::spawn(command, Some(&nobody), args)
    }

    fn spawn(mut command: Command, user: Option<&User>, args: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        for name in ["home", "tmp"] {
            let path = folder.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
            if let Some(user) = user {
                chown(&path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
            }
        }
        let child = command
            .arg("demo")
            .args(args)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", folder.path().join("home"))
            .env("TMPDIR", folder.path().join("tmp"))
            .current_dir(folder.path().join("home"))
            .stdin(std::process::Stdio::null())
            .stdout(File::create(folder.path().join("stdout")).unwrap())
            .stderr(File::create(folder.path().join("stderr")).unwrap())
            // A terminal's Ctrl-C goes to the whole group.
            .process_group(0)
            .spawn()
            .unwrap();
        Self {
            child,
            folder,
            seen: Seen::default(),
        }
    }

    /// What it has printed so far.
    pub fn printed(&self) -> String {
        fs::read_to_string(self.folder.path().join("stdout")).unwrap()
    }

    fn told(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).unwrap()
    }

    /// Waits until it has told something, wherever to.
    pub fn until_told(&mut self, text: &str) {
        self.until(text, |showing| {
            showing.printed().contains(text) || showing.told().contains(text)
        });
    }

    /// Waits until a path is there in the demo's own folder.
    pub fn until_there(&mut self, path: &str) {
        let tmp = self.folder.path().join("tmp");
        self.until(path, |_| {
            let demos = fs::read_dir(&tmp).unwrap().flatten();
            demos.into_iter().any(|d| d.path().join(path).exists())
        });
    }

    fn until(&mut self, what: &str, so: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !so(self) {
            let running = self.child.try_wait().unwrap().is_none();
            assert!(
                running && Instant::now() < end,
                "waited in vain for {what:?}: {}",
                self.told()
            );
            self.look();
        }
    }

    /// What it said of something at last.
    pub fn fact(&self, name: &str) -> String {
        let told = self.told();
        let line = told
            .lines()
            .rev()
            .find_map(|line| line.trim().strip_prefix(name));
        line.unwrap().trim().to_owned()
    }

    /// Sees that it does not end by itself.
    pub fn goes_on_for(&mut self, span: Duration) {
        let end = Instant::now() + span;
        while Instant::now() < end {
            assert_eq!(self.child.try_wait().unwrap(), None, "{}", self.told());
            self.look();
        }
    }

    /// Sends a signal: to the whole group as a terminal does, or to the program alone.
    pub fn stop(mut self, signal: Signal) -> Ended {
        self.look();
        let pid = Pid::from_raw(self.child.id().try_into().unwrap());
        let sent = if signal == Signal::SIGINT {
            killpg(pid, signal)
        } else {
            kill(pid, signal)
        };
        sent.unwrap();
        self.end()
    }

    /// Waits until it has ended.
    pub fn end(mut self) -> Ended {
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                Instant::now() < end,
                "it does not end: {}{}",
                self.printed(),
                self.told()
            );
            self.look();
        };
        Ended {
            status: status.code().unwrap_or_default(),
            printed: self.printed(),
            told: self.told(),
            folder: std::mem::replace(&mut self.folder, TempDir::new().unwrap()),
            seen: std::mem::take(&mut self.seen),
        }
    }

    fn look(&mut self) {
        self.seen.look(self.child.id().try_into().unwrap());
        sleep(LOOK);
    }
}

impl Drop for Showing {
    /// Whatever a test that failed leaves running.
    fn drop(&mut self) {
        self.seen.look(self.child.id().try_into().unwrap());
        for (pid, started) in &self.seen.processes {
            if start_of(*pid).as_ref() == Some(started) {
                let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
            }
        }
        let _ = self.child.wait();
    }
}

impl Ended {
    /// No process, no file, no mount, no shared memory.
    pub fn leaves_nothing(&self) {
        assert!(
            self.seen.processes.len() > 2,
            "nothing was ever seen of it: {:?}",
            self.seen.processes
        );
        let mut left: Vec<String> = Vec::new();
        for (pid, started) in &self.seen.processes {
            if start_of(*pid).as_ref() == Some(started) {
                left.push(format!("process {pid}: {}", words(*pid)));
            }
        }
        let own = self.folder.path();
        left.extend(
            pids()
                .filter(|pid| is_of(*pid, own))
                .map(|pid| format!("process {pid}: {}", words(pid))),
        );
        for name in ["home", "tmp"] {
            let entries = fs::read_dir(own.join(name)).unwrap().flatten();
            left.extend(entries.map(|e| format!("file {}", e.path().display())));
        }
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let mounted = mounts
            .lines()
            .filter(|l| l.contains(own.to_str().unwrap()))
            .map(|l| format!("mount {l}"));
        left.extend(mounted);
        let memory = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
        let segments = memory
            .lines()
            .filter_map(|l| l.split_whitespace().nth(1))
            .filter(|id| self.seen.segments.contains(*id))
            .map(|id| format!("shared memory {id}"));
        left.extend(segments);
        let shared = self.seen.shared.iter().filter(|path| path.exists());
        left.extend(shared.map(|path| format!("shared memory {}", path.display())));
        assert!(left.is_empty(), "left behind: {left:#?}\n{}", self.told);
    }
}

impl Seen {
    /// Notes the process, what is below it, and the shared memory that they map.
    fn look(&mut self, root: i32) {
        let parents: Vec<(i32, i32)> = pids().filter_map(|pid| Some((pid, stat(pid)?.1))).collect();
        let mut below = vec![root];
        let mut next = 0;
        while let Some(parent) = below.get(next).copied() {
            below.extend(parents.iter().filter(|(_, p)| *p == parent).map(|(c, _)| c));
            next += 1;
        }
        for pid in below {
            if let Some(started) = start_of(pid) {
                self.processes.insert(pid, started);
            }
            self.memory(pid);
        }
    }

    /// The kernel tells a segment's id as the inode of its mapping.
    fn memory(&mut self, pid: i32) {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        for line in maps.lines() {
            let fields: Vec<_> = line.split_whitespace().collect();
            let Some(path) = fields.get(5) else { continue };
            if path.starts_with("/SYSV") {
                self.segments.insert(fields[4].to_owned());
            } else if path.starts_with("/dev/shm/PostgreSQL") {
                self.shared.insert(PathBuf::from(path));
            }
        }
    }
}

fn pids() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// State, parent and start of a process that has not ended.
fn stat(pid: i32) -> Option<(String, i32, String)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<_> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let (state, parent, start) = (fields.first()?, fields.get(1)?, fields.get(19)?);
    let lives = *state != "Z" && *state != "X";
    lives.then_some((
        (*state).to_owned(),
        parent.parse().ok()?,
        (*start).to_owned(),
    ))
}

fn start_of(pid: i32) -> Option<String> {
    Some(stat(pid)?.2)
}

fn words(pid: i32) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).replace('\0', " ")
}

/// Whether a process works in the folder, or was started with a path in it.
fn is_of(pid: i32, folder: &Path) -> bool {
    let path = folder.to_str().unwrap();
    let names = |file: &str| {
        let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).contains(path)
    };
    let cwd = fs::read_link(format!("/proc/{pid}/cwd"));
    stat(pid).is_some()
        && (cwd.is_ok_and(|cwd| cwd.starts_with(folder)) || names("cmdline") || names("environ"))
}

/// Fetches a page of plain HTTP.
pub fn get(url: &str) -> String {
    let (host, path) = url
        .strip_prefix("http://")
        .and_then(|rest| rest.split_once('/'))
        .unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    write!(
        stream,
        "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    page
}
