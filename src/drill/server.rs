//! The clone's own PostgreSQL: its own configuration, a Unix socket in the run's folder, and no way to its original.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use tokio::{
    process::{Child, Command},
    runtime::Handle,
};

use super::{
    bubble::{Bubble, BubbleError},
    clone::Cloned,
    folder::{Folder, blocking},
    programs::Programs,
};
use crate::port::{
    account::Account,
    postgres::{Conninfo, Login, PostgresError, Session, written},
    program::last_words,
    secret::SharedSecrets,
};

/// The port, in a network that is the bubble's alone.
pub const PORT: u16 = 5432;
/// What the server says.
const LOG: &str = "server.log";
/// Characters of what a program says that are shown.
pub const SHOWN: usize = 400;

/// What the data directory demands of its server: the name `pg_controldata` gives it, and the setting's.
const DEMANDED: [(&str, &str); 6] = [
    ("max_connections setting", "max_connections"),
    ("max_worker_processes setting", "max_worker_processes"),
    ("max_wal_senders setting", "max_wal_senders"),
    ("max_prepared_xacts setting", "max_prepared_transactions"),
    ("max_locks_per_xact setting", "max_locks_per_transaction"),
    ("track_commit_timestamp setting", "track_commit_timestamp"),
];

/// Why the clone does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// There is no bubble for it.
    #[error(transparent)]
    Bubble(#[from] BubbleError),
    /// Its programs.
    #[error("{0}")]
    Programs(String),
    /// A file, a folder or a program of this host.
    #[error("{0}")]
    Here(&'static str, #[source] io::Error),
}

/// What is kept of the original's shared memory and libraries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Libraries that this host does not have.
    pub libraries: Vec<String>,
    /// Whether nobody could read which libraries the original loads.
    pub unknown: bool,
    /// MiB of shared buffers that the original has beyond what the clone gets.
    pub buffers: u64,
}

impl Left {
    /// In one sentence; empty where nothing was left away.
    pub fn told(&self) -> String {
        let mut all = Vec::new();
        if !self.libraries.is_empty() {
            all.push(format!(
                "without the libraries {}, which this host does not have",
                self.libraries.join(", ")
            ));
        }
        if self.unknown {
            all.push(
                "without the original's libraries, which its role may not know (GRANT pg_read_all_settings)".to_owned(),
            );
        }
        if self.buffers > 0 {
            all.push(format!(
                "with {} MiB less of shared_buffers (`sharedBuffers`)",
                self.buffers
            ));
        }
        all.join("; ")
    }
}

/// Starts the server of a clone in its bubble. It blocks.
///
/// # Errors
/// Where it cannot be started; it may be that it ends at once all the same.
pub fn start(
    folder: &Folder,
    cloned: &Cloned,
    buffers: u64,
    handle: &Handle,
) -> Result<(Child, Left), ServerError> {
    let here = |what| move |e| ServerError::Here(what, e);
    let programs = Programs::of_version(cloned.original.major, cloned.programs.as_deref())
        .map_err(ServerError::Programs)?;
    let account = Account::for_database().map_err(here("there is no account for the database"))?;
    let (text, left) = configuration(folder, cloned, &programs, buffers)?;
    folder
        .give_sockets(account)
        .map_err(here("the socket's folder"))?;
    for (name, text) in [
        ("server.conf", text.as_str()),
        (
            "hba.conf",
            "local all all trust\nhost all all 127.0.0.1/32 trust\n",
        ),
        ("ident.conf", ""),
    ] {
        let path = folder.join(name);
        fs::write(&path, text)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o600)))
            .and_then(|()| Account::own(account, &path))
            .map_err(here("its configuration"))?;
    }
    let data = folder.data();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).map_err(here("its data"))?;
    let log = File::create(folder.join(LOG)).map_err(here("its log"))?;
    let mut command = Command::new(programs.path("postgres"));
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LC_ALL", "C")
        .current_dir(&data)
        .arg("-D")
        .arg(&data)
        .arg("-c")
        .arg(format!(
            "config_file={}",
            folder.join("server.conf").display()
        ));
    Account::apply(account, &mut command);
    let child = Bubble::start_server(folder, command, log, handle)?;
    Ok((child, left))
}

/// The last of what it said, in one line.
pub fn complaint(folder: &Folder) -> String {
    let text = fs::read_to_string(folder.join(LOG)).unwrap_or_default();
    last_words(&text, SHOWN)
}

/// A way in over the socket of a clone.
pub struct Door {
    login: Login,
}

impl Door {
    /// As this role (none: the cluster's owner) to this database (none: the one that the clone names).
    ///
    /// # Errors
    /// Where the folder's path cannot stand in a connection string.
    pub fn of(
        folder: &Folder,
        cloned: &Cloned,
        role: Option<&str>,
        database: Option<&str>,
        secrets: &SharedSecrets,
    ) -> Result<Self, String> {
        let keys = [
            ("host", folder.sockets().display().to_string()),
            ("port", PORT.to_string()),
            (
                "user",
                role.unwrap_or(&cloned.original.superuser).to_owned(),
            ),
            ("dbname", database.unwrap_or(&cloned.database).to_owned()),
            ("application_name", "failover drill".to_owned()),
        ];
        let text = written(&keys.map(|(key, value)| (key.to_owned(), value)).into());
        let conninfo: Conninfo = text
            .parse()
            .map_err(|e| format!("the clone's socket: {e}"))?;
        Ok(Self {
            login: Login {
                conninfo,
                password: None,
                secrets: Arc::clone(secrets),
            },
        })
    }

    /// Opens a session.
    ///
    /// # Errors
    /// Where the clone does not let anybody in.
    pub async fn open(&self, within: Duration) -> Result<Session, PostgresError> {
        self.login.open(within).await
    }
}

fn configuration(
    folder: &Folder,
    cloned: &Cloned,
    programs: &Programs,
    buffers: u64,
) -> Result<(String, Left), ServerError> {
    let original = &cloned.original;
    let mut left = Left::default();
    let mut settings = demanded(programs, &folder.data())
        .map_err(|e| ServerError::Here("pg_controldata cannot tell what the clone demands", e))?;
    let kept = original
        .settings
        .iter()
        .filter(|(name, _)| *name != "shared_buffers");
    settings.extend(kept.map(|(name, value)| (name.clone(), value.clone())));
    // In PostgreSQL's own unit, pages of 8 kB.
    let pages = original
        .settings
        .get("shared_buffers")
        .and_then(|v| v.parse::<u64>().ok());
    let most = buffers * 128;
    left.buffers = pages.unwrap_or_default().saturating_sub(most) / 128;
    settings.push((
        "shared_buffers".to_owned(),
        pages.unwrap_or(most).min(most).to_string(),
    ));
    left.unknown = original.preload.is_none();
    let (loaded, absent) = original
        .preload
        .iter()
        .flatten()
        .cloned()
        .partition(|library| programs.loads(library));
    left.libraries = absent;
    let loaded: Vec<String> = loaded;
    settings.push(("shared_preload_libraries".to_owned(), loaded.join(",")));
    let path = |name: &str| folder.join(name).display().to_string();
    let listens = if nix::unistd::geteuid().is_root() {
        "127.0.0.1"
    } else {
        ""
    };
    let own = [
        ("listen_addresses", listens.to_owned()),
        ("port", PORT.to_string()),
        (
            "unix_socket_directories",
            folder.sockets().display().to_string(),
        ),
        ("unix_socket_permissions", "0700".to_owned()),
        ("hba_file", path("hba.conf")),
        ("ident_file", path("ident.conf")),
        ("external_pid_file", String::new()),
        ("cluster_name", "failover drill".to_owned()),
        ("hot_standby", "on".to_owned()),
        ("wal_level", "replica".to_owned()),
        // Nothing of the way to the primary and to the archive.
        ("primary_conninfo", String::new()),
        ("primary_slot_name", String::new()),
        ("restore_command", String::new()),
        ("archive_mode", "off".to_owned()),
        ("archive_command", String::new()),
        ("archive_cleanup_command", String::new()),
        ("recovery_end_command", String::new()),
        ("synchronous_standby_names", String::new()),
        ("wal_retrieve_retry_interval", "100ms".to_owned()),
        ("ssl", "off".to_owned()),
        // Files in the data directory, which go with it, instead of the host's shared memory.
        ("dynamic_shared_memory_type", "mmap".to_owned()),
        ("huge_pages", "off".to_owned()),
        ("logging_collector", "off".to_owned()),
        ("log_destination", "stderr".to_owned()),
    ];
    settings.extend(own.map(|(name, value)| (name.to_owned(), value)));
    let mut text = String::new();
    for (name, value) in settings {
        let value = value.replace('\\', "\\\\").replace('\'', "''");
        let _ = writeln!(text, "{name} = '{value}'");
    }
    Ok((text, left))
}

/// The settings that the data directory demands of a hot standby, as its control file tells.
fn demanded(programs: &Programs, data: &Path) -> io::Result<Vec<(String, String)>> {
    let out = std::process::Command::new(programs.path("pg_controldata"))
        .env_clear()
        .env("LC_ALL", "C")
        .arg(data)
        .stdin(Stdio::null())
        .output()?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
        return Err(io::Error::other(said));
    }
    Ok(read_control(&String::from_utf8_lossy(&out.stdout)))
}

fn read_control(said: &str) -> Vec<(String, String)> {
    let value = |name: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.strip_prefix(':')?.trim().to_owned())
    };
    DEMANDED
        .iter()
        .filter_map(|(name, setting)| Some(((*setting).to_owned(), value(name)?)))
        .collect()
}

/// Starts it beside the tasks.
///
/// # Errors
/// As [`start`].
pub async fn started(
    folder: &Folder,
    cloned: Cloned,
    buffers: u64,
) -> Result<(Child, Left), ServerError> {
    let (folder, handle) = (folder.clone(), Handle::current());
    let started = blocking(move || Ok(start(&folder, &cloned, buffers, &handle))).await;
    started.map_err(|e| ServerError::Here("it cannot be started", e))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_clone_demands_is_read_from_its_control_file() {
        let said = "wal_level setting:                    replica\n\
                    max_connections setting:              100\n\
                    max_prepared_xacts setting:           7\n\
                    track_commit_timestamp setting:       off\n";
        let read = read_control(said);
        let expected = [
            ("max_connections", "100"),
            ("max_prepared_transactions", "7"),
            ("track_commit_timestamp", "off"),
        ];
        assert_eq!(read, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn what_is_left_away_is_said() {
        assert_eq!(Left::default().told(), "");
        let left = Left {
            libraries: vec!["pg_cron".to_owned()],
            unknown: false,
            buffers: 512,
        };
        assert_eq!(
            left.told(),
            "without the libraries pg_cron, which this host does not have; with 512 MiB less of shared_buffers \
             (`sharedBuffers`)"
        );
    }
}
