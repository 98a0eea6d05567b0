//! Real PostgreSQL clusters: a primary, and a standby that streams from it, under a temporary folder.
//!
//! PostgreSQL refuses to run as root, so a root test runs it as the user `postgres`. Whatever happens, nothing is
//! left: processes, shared memory and files go when the cluster is dropped, and with the test's own process.

use std::{
    fs,
    io::Write,
    net::{SocketAddr, TcpListener},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, Uid, User},
};
use tempfile::TempDir;

const BIN: &str = "/usr/lib/postgresql/15/bin";
/// What a server may take to start, on a machine that does ten things at once.
const PATIENCE: Duration = Duration::from_mins(1);

/// The role that the adapters log in as.
pub const USER: &str = "failover";
/// Its password.
pub const PASSWORD: &str = "only for tests";

/// One server.
pub struct Cluster {
    data: PathBuf,
    sockets: PathBuf,
    pub port: u16,
    server: Option<Child>,
    // Shared by both servers of a pair.
    folder: Arc<TempDir>,
}

/// A primary and a standby that streams from it through a slot.
pub struct Pair {
    pub primary: Cluster,
    pub standby: Cluster,
}

impl Pair {
    /// Starts both, and waits until the standby streams.
    pub fn start() -> Self {
        let primary = Cluster::start();
        let standby = primary.standby("standby");
        Self { primary, standby }
    }

    /// Waits until the standby has replayed everything.
    pub fn settle(&self) {
        let now = self.primary.sql("SELECT pg_current_wal_lsn()");
        until("the standby replays everything", || {
            self.standby
                .sql(&format!("SELECT pg_last_wal_replay_lsn() >= '{now}'"))
                == "t"
        });
        // A stream that was behind says so until the standby's next answer.
        until("no stream is behind", || {
            self.primary
                .sql("SELECT count(*) FROM pg_stat_replication WHERE state = 'catchup'")
                == "0"
        });
    }
}

impl Cluster {
    /// A primary of its own, with the role [`USER`], who may do nothing yet but log in.
    pub fn start() -> Self {
        let folder = folder();
        let data = folder.path().join("primary");
        run(as_user(&format!("{BIN}/initdb")).args([
            "--no-sync",
            "--auth=trust",
            "--username=postgres",
            "--data-checksums",
            "--pgdata",
            text(&data),
        ]));
        let hba = format!(
            "local all postgres trust\nlocal replication postgres trust\nhost replication postgres 127.0.0.1/32 trust\n\
             host all {USER} 127.0.0.1/32 scram-sha-256\nhost all postgres 127.0.0.1/32 trust\n\
             host all all 127.0.0.1/32 scram-sha-256\n"
        );
        fs::write(data.join("pg_hba.conf"), hba).unwrap();
        append(
            &data.join("postgresql.conf"),
            "listen_addresses = '127.0.0.1'\nfsync = off\nwal_level = replica\nmax_connections = 20\n\
             shared_buffers = '16MB'\nwal_retrieve_retry_interval = '100ms'\nlogging_collector = off\n\
             max_wal_senders = 5\ndynamic_shared_memory_type = mmap\n",
        );
        let mut cluster = Self {
            sockets: folder.path().to_owned(),
            data,
            port: 0,
            server: None,
            folder,
        };
        cluster.boot();
        cluster.sql(&format!("CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'"));
        cluster
    }

    /// Its data stands there from now on; it must not run.
    pub fn move_to(&mut self, place: &Path) {
        run(Command::new("cp")
            .arg("--archive")
            .arg(&self.data)
            .arg(place));
        fs::remove_dir_all(&self.data).unwrap();
        place.clone_into(&mut self.data);
    }

    /// A standby of this server, streaming.
    pub fn standby(&self, name: &str) -> Self {
        let data = self.sockets.join(name);
        run(as_user(&format!("{BIN}/pg_basebackup")).args([
            "--host",
            text(&self.sockets),
            "--port",
            &self.port.to_string(),
            "--username=postgres",
            "--checkpoint=fast",
            "--no-sync",
            "--create-slot",
            "--slot",
            name,
            "--pgdata",
            text(&data),
        ]));
        append(
            &data.join("postgresql.conf"),
            &format!(
                "primary_conninfo = 'host=127.0.0.1 port={} user=postgres application_name={name}'\n\
                 primary_slot_name = '{name}'\n",
                self.port
            ),
        );
        fs::write(data.join("standby.signal"), "").unwrap();
        let mut standby = Self {
            sockets: self.sockets.clone(),
            data,
            port: 0,
            server: None,
            folder: Arc::clone(&self.folder),
        };
        standby.boot();
        until("the standby streams", || standby.streams());
        standby
    }

    /// Whether its WAL receiver streams.
    pub fn streams(&self) -> bool {
        self.sql("SELECT status FROM pg_stat_wal_receiver") == "streaming"
    }

    /// Connection string of the superuser, over the Unix socket.
    pub fn superuser(&self) -> String {
        format!(
            "host={} port={} user=postgres",
            text(&self.sockets),
            self.port
        )
    }

    /// Connection string for the adapters, by TCP and with the password apart.
    pub fn conninfo(&self) -> String {
        format!("host=127.0.0.1 port={} user={USER}", self.port)
    }

    /// Runs statements as the superuser, and returns the rows as `psql` prints them without decoration.
    pub fn sql(&self, sql: &str) -> String {
        let out = self.psql(sql);
        let told = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{sql}: {told}");
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    /// Whether it runs statements of the superuser to their end.
    pub fn takes(&self, sql: &str) -> bool {
        self.psql(sql).status.success()
    }

    fn psql(&self, sql: &str) -> std::process::Output {
        Command::new(format!("{BIN}/psql"))
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-h", text(&self.sockets)])
            .args([
                "-p",
                &self.port.to_string(),
                "-U",
                "postgres",
                "-d",
                "postgres",
            ])
            .args(["-c", sql])
            .env("PGCONNECT_TIMEOUT", "10")
            .output()
            .unwrap()
    }

    /// Sets a server setting, and waits until new sessions have it.
    pub fn set(&self, name: &str, value: &str) {
        self.alter(&format!("ALTER SYSTEM SET {name} = '{value}'"));
    }

    /// Takes a setting back, and waits until new sessions see that.
    pub fn reset(&self, name: &str) {
        self.alter(&format!("ALTER SYSTEM RESET {name}"));
    }

    fn alter(&self, sql: &str) {
        let before = self.sql("SELECT pg_conf_load_time()");
        self.sql(sql);
        self.sql("SELECT pg_reload_conf()");
        let later = format!("SELECT pg_conf_load_time() > '{before}'");
        until("the settings are read", || self.sql(&later) == "t");
    }

    /// Puts a file into the data directory as the server wants its own: readable for itself alone.
    pub fn put(&self, name: &str, content: &str) {
        let file = self.data.join(name);
        fs::write(&file, content).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        if let Some(user) = other_user() {
            chown(&file, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
        }
    }

    /// From its next start on it listens at every address and lets a whole network in.
    pub fn open_to(&self, network: &str) {
        append(
            &self.data.join("postgresql.conf"),
            "listen_addresses = '*'\n",
        );
        append(
            &self.data.join("pg_hba.conf"),
            &format!("host all all {network} trust\nhost replication all {network} trust\n"),
        );
    }

    /// From its next start on a standby streams from there, and gives up a primary that is silent for so long.
    pub fn stream_from(&self, primary: SocketAddr, silence: &str) {
        let (host, port) = (primary.ip(), primary.port());
        append(
            &self.data.join("postgresql.conf"),
            &format!(
                "primary_conninfo = 'host={host} port={port} user=postgres application_name=standby'\n\
                 wal_receiver_timeout = '{silence}'\n"
            ),
        );
    }

    /// From its next start on it can be brought into line with the server there, and follow it, without a slot.
    pub fn follow_on(&self, primary: SocketAddr, silence: &str) {
        self.stream_from(primary, silence);
        append(
            &self.data.join("postgresql.conf"),
            "primary_slot_name = ''\nwal_keep_size = '256MB'\nwal_log_hints = on\n",
        );
    }

    /// SIGKILL for the postmaster; its children see that and go.
    pub fn crash(&mut self) {
        self.end(Signal::SIGKILL);
    }

    /// Stops without a checkpoint, and without telling anybody.
    pub fn stop_immediate(&mut self) {
        self.end(Signal::SIGQUIT);
    }

    /// Asks it to stop once the last client has left; new ones are turned away from now on.
    pub fn stop_smart(&self) {
        signal_to(self.pid(), Signal::SIGTERM);
    }

    /// Has it end by a signal, and waits until it has.
    pub fn end(&mut self, signal: Signal) {
        if let Some(mut server) = self.server.take() {
            let children = children(server.id());
            signal_to(server.id(), signal);
            server.wait().unwrap();
            for child in &children {
                // A stopped process would not see that its postmaster is gone.
                signal_to(*child, Signal::SIGCONT);
            }
            self.forget_memory();
            until("the server's processes end", || {
                children.iter().all(|pid| !runs_postgres(*pid))
            });
        }
    }

    /// Starts again after an end, on the same port.
    pub fn restart(&mut self) {
        self.server = Some(self.launch());
        until("the server starts again", || {
            self.psql("SELECT 1").status.success()
        });
    }

    /// Starts again without waiting for it to take anybody in.
    pub fn launch_blind(&mut self) {
        self.server = Some(self.launch());
    }

    /// SIGSTOP for every process: the kernel still takes connections, nobody answers.
    pub fn freeze(&self) {
        self.all(Signal::SIGSTOP);
    }

    /// SIGCONT for every process.
    pub fn thaw(&self) {
        self.all(Signal::SIGCONT);
    }

    /// Stops or continues the one process that replays the log.
    pub fn startup(&self, signal: Signal) {
        let mine = children(self.pid()).into_iter();
        for pid in mine.filter(|pid| title(*pid).contains("startup")) {
            signal_to(pid, signal);
        }
    }

    fn pid(&self) -> u32 {
        self.server.as_ref().unwrap().id()
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    fn all(&self, signal: Signal) {
        if let Some(server) = &self.server {
            // The postmaster first: it starts no more children then.
            signal_to(server.id(), signal);
            for child in children(server.id()) {
                signal_to(child, signal);
            }
        }
    }

    /// Starts on a free port. Between finding it and binding it somebody else may take it, so several are tried.
    fn boot(&mut self) {
        let began = Instant::now();
        loop {
            self.port = free_port();
            let mut server = self.launch();
            while server.try_wait().unwrap().is_none() {
                if self.psql("SELECT 1").status.success() {
                    self.server = Some(server);
                    return;
                }
                assert!(began.elapsed() < PATIENCE, "{}", self.log());
                sleep(Duration::from_millis(20));
            }
            assert!(began.elapsed() < PATIENCE, "{}", self.log());
        }
    }

    fn launch(&self) -> Child {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.data.with_extension("log"))
            .unwrap();
        let (program, args) = self.command();
        as_user(text(&program))
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    /// What the server wrote into its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.data.with_extension("log")).unwrap_or_default()
    }

    /// Whether it lets anybody in.
    pub fn answers(&self) -> bool {
        self.psql("SELECT 1").status.success()
    }

    /// The program and its arguments that start it, for whoever else is to be its parent.
    pub fn command(&self) -> (PathBuf, Vec<String>) {
        let args = [
            "-D",
            text(&self.data),
            "-k",
            text(&self.sockets),
            "-p",
            &self.port.to_string(),
        ];
        (
            PathBuf::from(format!("{BIN}/postgres")),
            args.map(str::to_owned).to_vec(),
        )
    }

    /// What `pg_controldata` says of that, in a data directory whose server may be stopped.
    pub fn control(&self, name: &str) -> String {
        let out = Command::new(format!("{BIN}/pg_controldata"))
            .env("LC_ALL", "C")
            .arg(&self.data)
            .output()
            .unwrap();
        let said = String::from_utf8(out.stdout).unwrap();
        let mut values = said.lines().filter_map(|l| l.split_once(':'));
        let (_, value) = values.find(|(key, _)| *key == name).unwrap();
        value.trim().to_owned()
    }

    /// A killed postmaster leaves its System V segment; its id is the last number in `postmaster.pid`.
    pub fn forget_memory(&self) {
        let file = self.data.join("postmaster.pid");
        let Ok(text) = fs::read_to_string(file) else {
            return;
        };
        let line = text.lines().nth(6).unwrap_or_default();
        if let Some(id) = line.split_whitespace().nth(1) {
            let _ = Command::new("ipcrm").args(["-m", id]).output();
        }
    }
}

impl Drop for Cluster {
    #[expect(
        clippy::print_stdout,
        reason = "a failed test shows what the server said"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}:\n{}", self.data.display(), self.log());
        }
        if let Some(mut server) = self.server.take() {
            let all = children(server.id());
            for pid in std::iter::once(server.id()).chain(all) {
                signal_to(pid, Signal::SIGKILL);
            }
            let _ = server.wait();
            self.forget_memory();
        }
    }
}

/// Polls until it is so.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        sleep(Duration::from_millis(20));
    }
}

fn folder() -> Arc<TempDir> {
    let folder = TempDir::with_prefix("failover-pg-").unwrap();
    // Servers and clients may be different users.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    if let Some(user) = other_user() {
        chown(
            folder.path(),
            Some(user.uid.as_raw()),
            Some(user.gid.as_raw()),
        )
        .unwrap();
    }
    Arc::new(folder)
}

/// Whom PostgreSQL runs as, where that is not ourselves.
pub fn other_user() -> Option<User> {
    Uid::effective().is_root().then(|| {
        User::from_name("postgres")
            .unwrap()
            .expect("a user postgres")
    })
}

/// A command as that user, which dies with us.
fn as_user(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if let Some(user) = other_user() {
        command.args([
            format!("--reuid={}", user.uid),
            format!("--regid={}", user.gid),
            "--clear-groups".to_owned(),
        ]);
    }
    command
        .arg(program)
        .env("LC_ALL", "C.UTF-8")
        .current_dir("/");
    command
}

fn run(command: &mut Command) {
    let out = command.output().unwrap();
    let told = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?}: {told}");
}

fn append(path: &Path, text: &str) {
    let mut file = fs::File::options().append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn signal_to(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal);
}

/// The processes whose parent is this one. Each of PostgreSQL's has a session of its own, so that no group helps.
fn children(parent: u32) -> Vec<u32> {
    let wanted = parent.to_string();
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // Field 4, behind the name in brackets and the state.
            let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
            rest.split(' ').nth(1) == Some(wanted.as_str())
        })
        .collect()
}

/// What a process calls itself.
fn title(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

fn runs_postgres(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.contains("(postgres)") && !stat.contains(") Z "))
}
