//! A site that was left follows again: what only it has is kept apart, then its data is brought into line with the site
//! that serves, by `pg_rewind` or, where that cannot be, by a new copy.
//!
//! Nothing that was acknowledged is destroyed: before the first byte is changed the log from the point where the two
//! sites part is copied and synced; where a new copy is made, the old data directory stays beside it.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, chown},
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use serde::Serialize;
use tokio::process::Command;

use super::{
    Resting, ServerError, blocking,
    control::{self, Control, ControlError},
    fork::{self, Fork, Segment},
};
use crate::{
    guard::config,
    model::{guard::Salvage, id::Epoch, secret::Secret},
    port::{
        cause,
        postgres::{Login, Session},
        secret::SharedSecrets,
    },
};

/// How long the session with the serving site may live.
const SESSION: Duration = Duration::from_mins(30);
/// Between two looks at the serving site's control file.
const AGAIN: Duration = Duration::from_millis(200);
/// Marks a data directory that `pg_rewind` was at work on.
const AT_WORK: &str = "rewinding";
/// What is kept of a program's last words.
const LAST_WORDS: usize = 600;

/// Why the data was not brought into line.
#[derive(Debug, thiserror::Error)]
pub enum ResyncError {
    /// The document does not say how.
    #[error(
        "database.resync is missing in guard.yaml: it says where the serving site is, and where to keep what only this one has"
    )]
    Undescribed,
    /// The document says it wrongly.
    #[error("database.resync in guard.yaml cannot be used")]
    Document(#[from] config::ConfigError),
    /// The other site does not take writes.
    #[error("the server of database.resync.source takes no writes: it is no site that serves")]
    Standby,
    /// They are no copies of each other.
    #[error("the two sites are different clusters (system identifiers {own} and {other})")]
    Stranger {
        /// Of this one.
        own: u64,
        /// Of the other.
        other: u64,
    },
    /// The other site's answer.
    #[error("{0} cannot be told")]
    Answer(&'static str),
    /// A file or folder.
    #[error("{what} {path}", path = path.display())]
    Disk {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is not known what only this site has.
    #[error("the serving site's history does not tell where the two part")]
    Apart,
    /// `pg_rewind` was ended half-way.
    #[error("an earlier pg_rewind did not come to its end")]
    HalfDone,
    /// A program could not be run.
    #[error("{program} cannot be run", program = program.display())]
    Run {
        /// Which.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program failed.
    #[error("{program} failed: {words}")]
    Failed {
        /// Which.
        program: &'static str,
        /// What it said last.
        words: String,
    },
    /// The control file.
    #[error("the data directory cannot be understood")]
    Control(#[from] ControlError),
}

/// What is needed to bring one data directory into line.
pub struct Work<'a> {
    /// The database.
    pub database: &'a config::Database,
    /// Its user and group.
    pub owner: (u32, u32),
    /// Its resting state.
    pub resting: &'a Resting,
    /// Reads the password.
    pub secrets: &'a SharedSecrets,
    /// The epoch that the site was fenced in, for the name of what is kept.
    pub epoch: Epoch,
}

/// What stands beside the log that was kept.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    epoch: Epoch,
    timeline: u32,
    from: String,
    to: String,
    commits: u64,
    bytes: u64,
    files: Vec<String>,
}

impl Work<'_> {
    /// Keeps what only this site has, and brings its data into line. Nothing of the database may run.
    ///
    /// # Errors
    /// Where it could not be done; what was kept stays.
    pub async fn run(&self) -> Result<Salvage, ServerError> {
        let resync = self.resync()?;
        let password = match &resync.password {
            Some(at) => Some(
                self.secrets
                    .read(at)
                    .map_err(|source| ServerError::Secret {
                        at: at.to_string(),
                        source,
                    })?,
            ),
            None => None,
        };
        let own = control::read(&self.database.data_dir).map_err(ResyncError::from)?;
        let fork = self.fork(resync, &own).await?;
        let folder = folder(&resync.salvage, self.epoch);
        let half_done = folder.join(AT_WORK).exists();
        let salvage = match (fork::kept(&folder), fork) {
            // An earlier try kept it, and may have changed the data since.
            (Some(kept), _) => Some(kept),
            (None, _) if half_done => Some(Salvage::default()),
            (None, Some(fork)) => match self.keep(fork, &folder).await {
                Ok(salvage) => Some(salvage),
                Err(error) => {
                    tracing::warn!(error = %cause::in_full(&error), "what only this site has cannot be told apart");
                    None
                }
            },
            (None, None) => None,
        };
        let is_behind = salvage.is_some_and(|s| s.to <= s.from);
        if is_behind && own.is_clean && !half_done {
            tracing::info!("the data is part of the serving site's history: it follows as it is");
            return Ok(salvage.unwrap_or_default());
        }
        // Only what was kept may be changed in its place.
        let rewound = match salvage {
            None => Err(ResyncError::Apart),
            Some(_) if half_done => Err(ResyncError::HalfDone),
            Some(_) => self.rewind(resync, password.as_ref(), &folder).await,
        };
        let mut salvage = salvage.unwrap_or_default();
        if let Err(error) = rewound {
            tracing::warn!(error = %cause::in_full(&error), "a new copy is made instead");
            self.copy_anew(resync, password.as_ref()).await?;
            salvage.is_whole = matches!(error, ResyncError::Apart);
        }
        let _ = fs::remove_file(folder.join(AT_WORK));
        Ok(salvage)
    }

    fn resync(&self) -> Result<&config::Resync, ResyncError> {
        self.database
            .resync
            .as_ref()
            .ok_or(ResyncError::Undescribed)
    }

    /// Where this site's log leaves the serving site's; none where that one's history does not know this timeline.
    async fn fork(
        &self,
        resync: &config::Resync,
        own: &Control,
    ) -> Result<Option<Fork>, ServerError> {
        let login = Login {
            conninfo: resync.conninfo().map_err(ResyncError::from)?,
            password: resync.password.clone(),
            secrets: self.secrets.clone(),
        };
        let session = login.open(SESSION).await?;
        let row = session
            .row(
                "SELECT pg_is_in_recovery() AS standby, system_identifier AS system, \
                 CASE WHEN pg_is_in_recovery() THEN NULL ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END \
                 AS timeline FROM pg_control_system()",
            )
            .await?;
        if row.get("standby") != Some("f") {
            return Err(ResyncError::Standby.into());
        }
        let system = row.get("system").and_then(|s| s.parse().ok());
        let other: u64 = system.ok_or(ResyncError::Answer(
            "the system identifier of the serving site",
        ))?;
        if other != own.system {
            return Err(ResyncError::Stranger {
                own: own.system,
                other,
            }
            .into());
        }
        let timeline = row
            .get("timeline")
            .ok_or(ResyncError::Answer("the timeline of the serving site"))?;
        let number = u32::from_str_radix(timeline, 16);
        let number = number.map_err(|_| ResyncError::Answer("the timeline of the serving site"))?;
        let history = history(&session, timeline, number).await?;
        settled(&session, number).await?;
        // The control file may be older than the last change of timeline that this site saw.
        let own_timeline = fork::newest_timeline(&self.database.data_dir).max(own.timeline);
        Ok(fork::of(own_timeline, &history))
    }

    /// Copies the log from the fork on, and counts what it holds.
    async fn keep(&self, fork: Fork, folder: &Path) -> Result<Salvage, ServerError> {
        let (wal, to) = (self.database.data_dir.join("pg_wal"), folder.to_owned());
        let segments = blocking(move || Ok(copy_log(&wal, &to, fork)?)).await?;
        let mut salvage = Salvage {
            from: fork.at,
            to: fork.at,
            ..Salvage::default()
        };
        if segments.is_empty() {
            return Ok(salvage);
        }
        let out = self
            .tool("pg_waldump", |command| {
                command
                    .arg(format!("--path={}", folder.display()))
                    .arg(format!("--start={}", fork.at))
                    .arg(format!("--timeline={}", fork.timeline))
                    .arg("--rmgr=Transaction");
            })
            .await?;
        let said = String::from_utf8_lossy(&out.stderr);
        if said.contains(fork::NOTHING) {
            // Nothing but what the serving site has.
            let _ = fs::remove_dir_all(folder);
            return Ok(salvage);
        }
        // Else it ends with an error at the end of the log, always.
        let dump = fork::dumped(&String::from_utf8_lossy(&out.stdout), &said);
        let Some(end) = dump.end.filter(|end| *end > fork.at) else {
            succeeded("pg_waldump", &out)?;
            return Err(ResyncError::Answer("the end of its own log").into());
        };
        salvage.to = end;
        salvage.commits = dump.commits;
        let manifest = Manifest {
            epoch: self.epoch,
            timeline: fork.timeline,
            from: salvage.from.to_string(),
            to: salvage.to.to_string(),
            commits: salvage.commits,
            bytes: salvage.to.0 - salvage.from.0,
            files: segments.into_iter().map(|s| s.name).collect(),
        };
        let path = folder.join("salvage.json");
        write_synced(
            &path,
            &serde_json::to_vec_pretty(&manifest).unwrap_or_default(),
        )?;
        tracing::warn!(
            folder = %folder.display(), commits = salvage.commits, from = %salvage.from, to = %salvage.to,
            "what the serving site never got is kept"
        );
        Ok(salvage)
    }

    async fn rewind(
        &self,
        resync: &config::Resync,
        password: Option<&Secret>,
        folder: &Path,
    ) -> Result<(), ResyncError> {
        let data = &self.database.data_dir;
        make_folder(folder)?;
        write_synced(&folder.join(AT_WORK), b"")?;
        sync_parent(&folder.join(AT_WORK))?;
        sync_parent(folder)?;
        let own_files = Settings::read(data)?;
        let take = disk("cannot take standby.signal from", data);
        self.resting.take().map_err(take)?;
        let rewound = self
            .tool("pg_rewind", |command| {
                command
                    .arg("--target-pgdata")
                    .arg(data)
                    .arg("--source-server")
                    .arg(&resync.source);
                // Where the distribution keeps it elsewhere, as Debian does.
                if let Some(file) = config_file(&self.database.args) {
                    command.arg("--config-file").arg(file);
                }
                if let Some(password) = password {
                    command.env("PGPASSWORD", password.expose());
                }
            })
            .await
            .and_then(|out| succeeded("pg_rewind", &out));
        let put = disk("cannot put standby.signal into", data);
        self.resting.put().map_err(put)?;
        // It brings the other host's settings along.
        own_files.write(data, self.owner)?;
        rewound
    }

    /// A new copy beside the old one, which is kept.
    async fn copy_anew(
        &self,
        resync: &config::Resync,
        password: Option<&Secret>,
    ) -> Result<(), ResyncError> {
        let data = &self.database.data_dir;
        let new = beside(data, "new");
        let old = beside(data, &format!("epoch-{}", self.epoch.0));
        let own_files = Settings::read(data)?;
        if new.exists() {
            fs::remove_dir_all(&new).map_err(disk("cannot remove", &new))?;
        }
        let copied = self
            .tool("pg_basebackup", |command| {
                command
                    .arg("--pgdata")
                    .arg(&new)
                    .arg("--dbname")
                    .arg(&resync.source)
                    .args(["--wal-method=stream", "--checkpoint=fast", "--no-password"]);
                if let Some(password) = password {
                    command.env("PGPASSWORD", password.expose());
                }
            })
            .await
            .and_then(|out| succeeded("pg_basebackup", &out));
        if let Err(error) = copied {
            let _ = fs::remove_dir_all(&new);
            return Err(error);
        }
        own_files.write(&new, self.owner)?;
        let resting = new.join("standby.signal");
        write_synced(&resting, b"")?;
        chown(&resting, Some(self.owner.0), Some(self.owner.1))
            .map_err(disk("cannot give away", &resting))?;
        fs::rename(data, &old).map_err(disk("cannot put aside", data))?;
        fs::rename(&new, data).map_err(disk("cannot put into place", &new))?;
        sync_parent(data)?;
        tracing::warn!(old = %old.display(), "the old data directory is kept beside the new copy");
        Ok(())
    }

    /// Runs one of PostgreSQL's programs as its user; dropped, it is ended.
    async fn tool(
        &self,
        name: &str,
        dress: impl FnOnce(&mut Command),
    ) -> Result<Output, ResyncError> {
        let folder = self.database.program.parent().unwrap_or(Path::new("/"));
        let program = folder.join(name);
        let mut command = Command::new(&program);
        command
            .env_clear()
            .env("PATH", super::PATH)
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .uid(self.owner.0)
            .gid(self.owner.1);
        if name == "pg_waldump" {
            // What is kept belongs to whoever runs the guard.
            command.uid(nix::unistd::geteuid().as_raw());
            command.gid(nix::unistd::getegid().as_raw());
        }
        dress(&mut command);
        let ran = command.output().await;
        ran.map_err(|source| ResyncError::Run { program, source })
    }
}

/// The configuration file that a server is told of in its arguments.
fn config_file(args: &[String]) -> Option<&str> {
    let prefixes = [
        "config_file=",
        "--config-file=",
        "--config_file=",
        "-cconfig_file=",
    ];
    args.iter()
        .find_map(|arg| prefixes.iter().find_map(|prefix| arg.strip_prefix(prefix)))
}

/// Settings of this host that stand in the data directory.
struct Settings(Vec<(String, Vec<u8>)>);

impl Settings {
    fn read(data: &Path) -> Result<Self, ResyncError> {
        let mut files = Vec::new();
        let entries = fs::read_dir(data).map_err(disk("cannot read", data))?;
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_own = Path::new(&name).extension().is_some_and(|e| e == "conf");
            if is_own && entry.path().is_file() {
                let text = fs::read(entry.path()).map_err(disk("cannot read", &entry.path()))?;
                files.push((name, text));
            }
        }
        Ok(Self(files))
    }

    fn write(&self, data: &Path, owner: (u32, u32)) -> Result<(), ResyncError> {
        for (name, text) in &self.0 {
            let path = data.join(name);
            write_synced(&path, text)?;
            chown(&path, Some(owner.0), Some(owner.1)).map_err(disk("cannot give away", &path))?;
        }
        Ok(())
    }
}

/// Waits until the serving site's control file knows the timeline that it writes: `pg_rewind` goes by that file, and
/// after a promotion the first checkpoint brings it up to date.
async fn settled(session: &Session, number: u32) -> Result<(), ServerError> {
    // Whoever may not order one waits for the one that the promotion began.
    if let Err(error) = session.rows("CHECKPOINT").await {
        tracing::debug!(error = %cause::in_full(&error), "no checkpoint can be ordered");
    }
    loop {
        let row = session
            .row("SELECT timeline_id FROM pg_control_checkpoint()")
            .await?;
        if row.get("timeline_id").and_then(|t| t.parse().ok()) == Some(number) {
            return Ok(());
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// The lines of a timeline's history; the first timeline has none.
async fn history(session: &Session, timeline: &str, number: u32) -> Result<String, ServerError> {
    let own = format!("{number}\tFFFFFFFF/FFFFFFFF\n");
    if number <= 1 {
        return Ok(own);
    }
    // Only hexadecimal digits came from the server.
    let sql = format!("SELECT pg_read_file('pg_wal/{timeline}.history') AS history");
    let row = session.row(&sql).await?;
    let text = row.get("history").unwrap_or_default();
    Ok(format!("{text}\n{own}"))
}

fn copy_log(wal: &Path, folder: &Path, fork: Fork) -> Result<Vec<Segment>, ResyncError> {
    let segments = fork::segments(wal, fork).map_err(disk("cannot read", wal))?;
    if segments.is_empty() {
        return Ok(segments);
    }
    make_folder(folder)?;
    for segment in &segments {
        let (from, to) = (wal.join(&segment.name), folder.join(&segment.name));
        fs::copy(&from, &to).map_err(disk("cannot keep", &from))?;
        let synced = File::open(&to).and_then(|file| file.sync_all());
        synced.map_err(disk("cannot sync", &to))?;
    }
    let synced = File::open(folder).and_then(|file| file.sync_all());
    synced.map_err(disk("cannot sync", folder))?;
    Ok(segments)
}

/// Where what only a site has is kept when it was fenced in that epoch.
fn folder(salvage: &Path, epoch: Epoch) -> PathBuf {
    salvage.join(format!("epoch-{}", epoch.0))
}

/// What was kept when a site was fenced in that epoch; none where nothing was.
#[must_use]
pub fn kept(salvage: &Path, epoch: Epoch) -> Option<Salvage> {
    fork::kept(&folder(salvage, epoch))
}

/// Whether `pg_rewind` was broken off here: then the data is neither the old nor the new, and only another resync may touch
/// it.
#[must_use]
pub fn is_half_done(salvage: &Path) -> bool {
    let folders = fs::read_dir(salvage).into_iter().flatten().flatten();
    folders
        .map(|folder| folder.path())
        .any(|folder| folder.join(AT_WORK).exists())
}

fn make_folder(folder: &Path) -> Result<(), ResyncError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(disk("cannot make", folder))
}

fn write_synced(path: &Path, text: &[u8]) -> Result<(), ResyncError> {
    let written = fs::write(path, text).and_then(|()| File::open(path)?.sync_all());
    written.map_err(disk("cannot write", path))
}

fn sync_parent(path: &Path) -> Result<(), ResyncError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let synced = File::open(parent).and_then(|file| file.sync_all());
    synced.map_err(disk("cannot sync", parent))
}

fn disk(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ResyncError {
    let path = path.to_owned();
    move |source| ResyncError::Disk { what, path, source }
}

fn beside(data: &Path, suffix: &str) -> PathBuf {
    let mut name = data.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{suffix}"));
    data.with_file_name(name)
}

fn succeeded(program: &'static str, out: &Output) -> Result<(), ResyncError> {
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr);
    let mut words = said.trim().replace('\n', "; ");
    if words.len() > LAST_WORDS {
        let from = words.len() - LAST_WORDS;
        let from = (from..words.len()).find(|n| words.is_char_boundary(*n));
        words = words.split_off(from.unwrap_or_default());
    }
    Err(ResyncError::Failed { program, words })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_that_a_rewind_was_broken_off_at_is_known_whatever_the_epoch() {
        let salvage = tempfile::tempdir().unwrap();
        assert!(!is_half_done(&salvage.path().join("none")));
        let folder = folder(salvage.path(), Epoch(7));
        make_folder(&folder).unwrap();
        assert!(!is_half_done(salvage.path()));
        fs::write(folder.join(AT_WORK), b"").unwrap();
        assert!(is_half_done(salvage.path()));
    }

    #[test]
    fn the_configuration_is_found_in_the_arguments() {
        let found = |args: &[&str]| {
            let args: Vec<_> = args.iter().map(ToString::to_string).collect();
            config_file(&args).map(str::to_owned)
        };
        let debian = "/etc/postgresql/15/main/postgresql.conf";
        assert_eq!(
            found(&["-D", "/data", "-c", &format!("config_file={debian}")]).as_deref(),
            Some(debian)
        );
        assert_eq!(
            found(&[&format!("--config-file={debian}")]).as_deref(),
            Some(debian)
        );
        assert_eq!(found(&["-D", "/data"]), None);
    }
}
