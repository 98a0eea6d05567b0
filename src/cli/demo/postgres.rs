//! The database of the demo: PostgreSQL as it is found on this machine.

use std::{
    collections::BTreeSet,
    env, fs,
    io::{self, Read},
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use tokio::time;

use super::{account::Account, process};
use crate::{model::observation::Lsn, port::postgres::programs};

/// The oldest version that the demo can use: `wal_keep_size` and `pg_basebackup -C` with its slot.
const OLDEST: u32 = 13;
/// What the demo runs.
const NEEDED: [&str; 4] = ["postgres", "initdb", "pg_basebackup", "pg_controldata"];
/// How long a command under way may take to end by itself when the demo is stopped.
const END: Duration = Duration::from_secs(5);
/// How often it is asked whether it has ended.
const ASK: Duration = Duration::from_millis(20);

/// PostgreSQL's programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Programs {
    /// Their folder.
    pub folder: PathBuf,
    /// `15.18`, as they say themselves.
    pub version: String,
}

impl Programs {
    /// The newest that is found: in the folder that is named, else in PATH and the usual places.
    #[must_use]
    pub fn find(named: Option<&Path>) -> Option<Self> {
        let folders = match named {
            Some(folder) => vec![folder.to_owned()],
            None => usual_folders(),
        };
        folders
            .into_iter()
            .filter_map(Self::in_folder)
            .max_by_key(Self::major)
            .filter(|found| found.major() >= OLDEST)
    }

    fn in_folder(folder: PathBuf) -> Option<Self> {
        let version = programs::version(&folder, &NEEDED)?;
        Some(Self { folder, version })
    }

    /// `15`.
    #[must_use]
    pub fn major(&self) -> u32 {
        programs::major(&self.version).unwrap_or(0)
    }

    /// A command of theirs, under the account that the database runs as. Whoever runs it gives it a working folder within
    /// the demo's, by which it is found when everything is swept away.
    #[must_use]
    pub fn command(&self, name: &str, account: Option<&Account>) -> Command {
        let mut command = Command::new(self.folder.join(name));
        // Nothing of this user's own settings (PGHOST, PGSERVICE, …) shall reach the demo's database.
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C");
        Account::apply(account, &mut command);
        command
    }
}

/// A database of the demo.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// The programs.
    pub programs: Programs,
    /// The account that they run as; none: this user.
    pub account: Option<Account>,
    /// Its data.
    pub data: PathBuf,
    /// Where it listens.
    pub listen: SocketAddr,
    /// File with the superuser's password.
    pub password_file: PathBuf,
    /// What the server says.
    pub log: PathBuf,
}

/// The superuser of the demo's databases.
pub const SUPERUSER: &str = "demo";

impl Cluster {
    /// Makes an empty primary.
    ///
    /// # Errors
    /// Where `initdb` fails: its last words.
    pub async fn init(&self, allow: &str) -> io::Result<()> {
        let password = self.readable_password()?;
        let mut initdb = self.programs.command("initdb", self.account.as_ref());
        initdb
            .arg("--pgdata")
            .arg(&self.data)
            .args(["--username", SUPERUSER, "--encoding", "UTF8", "--no-locale"])
            .args(["--auth", "scram-sha-256", "--no-sync", "--pwfile"])
            .arg(&password)
            .current_dir(&self.data);
        let ended = finish(initdb).await;
        fs::remove_file(&password)?;
        ended?;
        // The account's own files: written through a copy, since this user may be another.
        self.append(
            "pg_hba.conf",
            &format!(
                "host all all {allow} scram-sha-256\nhost replication all {allow} scram-sha-256\n"
            ),
        )?;
        self.append("postgresql.conf", SETTINGS)
    }

    /// Makes a streaming standby of the primary at an address, over its network.
    ///
    /// # Errors
    /// Where `pg_basebackup` fails: its last words.
    pub async fn copy_of(&self, primary: SocketAddr) -> io::Result<()> {
        let mut copy = self
            .programs
            .command("pg_basebackup", self.account.as_ref());
        copy.arg("--pgdata")
            .arg(&self.data)
            .args(["--host", &primary.ip().to_string()])
            .args(["--port", &primary.port().to_string()])
            .args(["--username", SUPERUSER, "--write-recovery-conf"])
            .args(["--wal-method", "stream", "--checkpoint", "fast"])
            .args(["--create-slot", "--slot", "standby", "--no-sync"])
            .env("PGPASSWORD", self.password()?)
            .current_dir(&self.data);
        finish(copy).await
    }

    /// The command that runs the server in the foreground.
    ///
    /// # Errors
    /// Where its log cannot be made.
    pub fn server(&self) -> io::Result<Command> {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(&self.log)?;
        let mut server = self.programs.command("postgres", self.account.as_ref());
        server
            .arg("-D")
            .arg(&self.data)
            .args(["-c", &format!("listen_addresses={}", self.listen.ip())])
            .args(["-c", &format!("port={}", self.listen.port())])
            .current_dir(&self.data)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok(server)
    }

    /// Where the log of a server ends that was stopped in order: its last record begins there.
    ///
    /// # Errors
    /// Where that cannot be told, or it was not stopped in order.
    pub fn end_of_log(&self) -> io::Result<Lsn> {
        let mut look = self
            .programs
            .command("pg_controldata", self.account.as_ref());
        let said = look.arg(&self.data).current_dir(&self.data).output()?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let of = |name: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::trim)
        };
        match of("Database cluster state:") {
            Some("shut down") => {}
            state => {
                let state = state.unwrap_or("not known");
                return Err(io::Error::other(format!(
                    "the database was not stopped in order: its state is {state}"
                )));
            }
        }
        of("Latest checkpoint location:")
            .and_then(Lsn::parse)
            .ok_or_else(|| io::Error::other("pg_controldata does not tell where the log ends"))
    }

    /// Makes a server that was stopped in order a standby of the one at an address, from its next start on.
    ///
    /// # Errors
    /// Where its files cannot be written.
    pub fn follow(&self, primary: SocketAddr) -> io::Result<()> {
        // Later lines win. A password of ours has no quotes in it.
        self.append(
            "postgresql.auto.conf",
            &format!(
                "primary_conninfo = 'host={} port={} user={SUPERUSER} password={}'\nprimary_slot_name = ''\n",
                primary.ip(),
                primary.port(),
                self.password()?
            ),
        )?;
        let signal = self.data.join("standby.signal");
        fs::write(&signal, b"")?;
        Account::own(self.account.as_ref(), &signal)
    }

    /// How the superuser connects, at this address or another.
    ///
    /// # Errors
    /// Where the password cannot be read.
    pub fn superuser(&self, at: SocketAddr) -> io::Result<tokio_postgres::Config> {
        let mut config = tokio_postgres::Config::new();
        config
            .host(at.ip().to_string())
            .port(at.port())
            .user(SUPERUSER)
            .password(self.password()?)
            .dbname("postgres")
            .connect_timeout(std::time::Duration::from_secs(5));
        Ok(config)
    }

    fn password(&self) -> io::Result<String> {
        Ok(fs::read_to_string(&self.password_file)?.trim().to_owned())
    }

    /// A copy of the password's file that the account may read.
    fn readable_password(&self) -> io::Result<PathBuf> {
        let folder = self.data.parent().unwrap_or(&self.data);
        let copy = folder.join("initdb-password");
        fs::copy(&self.password_file, &copy)?;
        Account::own(self.account.as_ref(), &copy)?;
        Ok(copy)
    }

    fn append(&self, name: &str, text: &str) -> io::Result<()> {
        use io::Write;
        fs::File::options()
            .append(true)
            .open(self.data.join(name))?
            .write_all(text.as_bytes())
    }
}

/// Small, quick to start, and as durable as ever: an order that was acknowledged is on the disk.
const SETTINGS: &str = "
max_connections = 40
shared_buffers = 16MB
unix_socket_directories = ''
# In files of its own, which go with its folder even when it is killed.
dynamic_shared_memory_type = mmap
wal_level = replica
max_wal_senders = 5
wal_keep_size = 64MB
hot_standby = on
# A promotion right after the primary's death would otherwise wait for up to 5 s.
wal_retrieve_retry_interval = 100ms
wal_receiver_status_interval = 1s
# A standby that hears nothing asks after half of this; unanswered, the primary counts as silent.
wal_receiver_timeout = 10s
autovacuum = off
";

fn usual_folders() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&path).collect();
    // Debian, Red Hat, Homebrew on either processor, Postgres.app.
    for (parent, below) in [
        ("/usr/lib/postgresql", "bin"),
        ("/usr", "bin"),
        ("/opt/homebrew/opt", "bin"),
        ("/usr/local/opt", "bin"),
        ("/Applications/Postgres.app/Contents/Versions", "bin"),
    ] {
        let Ok(entries) = fs::read_dir(parent) else {
            continue;
        };
        folders.extend(
            entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .map(|folder| folder.join(below)),
        );
    }
    folders
}

/// Gives back what the kernel keeps of a database that was killed: System V shared memory outlives its processes.
pub fn release(data: &Path) {
    let Ok(text) = fs::read_to_string(data.join("postmaster.pid")) else {
        return;
    };
    // Its seventh line: the segment's key and its id.
    let id = text
        .lines()
        .nth(6)
        .and_then(|line| line.split_whitespace().nth(1));
    if let Some(id) = id {
        // Without ipcrm 56 bytes stay until the machine is started again.
        let _ = Command::new("ipcrm").args(["-m", id]).output();
    }
}

/// Runs a command to its end; its last words are the error.
async fn finish(mut command: Command) -> io::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // Its own group: a terminal's Ctrl-C ends the demo, which waits for this.
        .process_group(0)
        .spawn()?;
    let mut running = Running(child);
    let status = loop {
        match running.0.try_wait()? {
            Some(status) => break status,
            None => time::sleep(ASK).await,
        }
    };
    if status.success() {
        return Ok(());
    }
    let mut said = String::new();
    if let Some(mut stderr) = running.0.stderr.take() {
        stderr.read_to_string(&mut said)?;
    }
    let words = said.trim().lines().last().unwrap_or("no message");
    Err(io::Error::other(format!("{name}: {words}")))
}

/// The files of POSIX shared memory that PostgreSQL's processes have: `initdb` takes it however the server is set.
fn shared_memory(pids: &[u32]) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for pid in pids {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        found.extend(
            maps.lines()
                .filter_map(|line| line.split_whitespace().nth(5))
                .filter(|path| path.starts_with("/dev/shm/PostgreSQL."))
                .map(PathBuf::from),
        );
    }
    found
}

/// A command under way. Where nobody asks for its end any more it is let come to it, since a killed `initdb` leaves shared
/// memory behind; one that does not end soon is killed, and what it left is removed.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let deadline = Instant::now() + END;
        while self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            if Instant::now() >= deadline {
                let all = process::tree(self.0.id());
                // Stopped first, so that nothing more is made between the look and the kill.
                process::signal_all(&all, Signal::SIGSTOP);
                let memory = shared_memory(&process::tree(self.0.id()));
                process::kill_tree(self.0.id());
                let _ = self.0.wait();
                for file in memory {
                    let _ = fs::remove_file(file);
                }
                return;
            }
            thread::sleep(ASK);
        }
    }
}
