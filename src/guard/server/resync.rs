//! A site that was left follows again: what only it has is kept apart, then its data is brought into line with the site
//! that serves, by `pg_rewind` or, where that cannot be, by a new copy.
//!
//! Nothing that was acknowledged is destroyed: before the first byte is changed the log from the point where the two
//! sites part is copied and synced; where a new copy is made, the old data directory stays beside it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Output,
};

use sha2::{Digest, Sha256};

use super::{
    CallOff, Resting, ServerError, blocking,
    control::{self, Control, ControlError},
    files::{disk, make_folder, write_synced},
    fork::{self, Dump, Fork, Segment},
    place, rewinding,
    salvage::{Manifest, Store},
    settings::Settings,
    source::Source,
    tool,
};
use crate::{
    guard::{config, hold::Launch},
    model::{guard::Salvage, id::Epoch, observation::Lsn, secret::Secret},
    port::{cause, secret::SharedSecrets},
};

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
    #[error("the two histories do not tell where they part")]
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
    /// Breaks it off.
    pub off: &'a CallOff,
}

/// How the log of this site stands to the serving site's.
enum Log {
    /// All of it is there too: it follows as it is.
    Part,
    /// It goes no further, but the data has to be brought to an end first.
    Behind,
    /// It left it, and what is beyond was kept.
    Beyond,
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
        let source = self
            .off
            .unless(Source::open(resync, self.secrets, &own))
            .await??;
        let store = Store::new(&resync.salvage);
        let found = if rewinding::is_half_done(&self.database.data_dir) {
            Err(ResyncError::HalfDone.into())
        } else {
            self.keep(&source, &own, &store).await
        };
        let brought = match found {
            Ok(Log::Part) => {
                tracing::info!(
                    "the data is part of the serving site's history: it follows as it is"
                );
                return Ok(store.unsettled().unwrap_or_default());
            }
            // Only what was kept may be changed in its place.
            Ok(Log::Behind | Log::Beyond) => self.rewind(resync, password.as_ref()).await,
            Err(ServerError::Resync(error @ ResyncError::HalfDone)) => Err(error.into()),
            Err(ServerError::CalledOff) => return Err(ServerError::CalledOff),
            Err(error) => {
                tracing::warn!(error = %cause::in_full(&error), "what only this site has cannot be told apart");
                Err(ResyncError::Apart.into())
            }
        };
        if let Err(error) = brought {
            if matches!(error, ServerError::CalledOff) {
                return Err(error);
            }
            tracing::warn!(error = %cause::in_full(&error), "a new copy is made instead");
            // One that was broken off had kept before what was to be kept.
            let whole = matches!(error, ServerError::Resync(ResyncError::Apart))
                .then(|| Manifest::whole(self.epoch, own.timeline));
            self.copy_anew(resync, password.as_ref(), &store, whole)
                .await?;
        }
        rewinding::done(&self.database.data_dir)?;
        Ok(store.unsettled().unwrap_or_default())
    }

    fn resync(&self) -> Result<&config::Resync, ResyncError> {
        self.database
            .resync
            .as_ref()
            .ok_or(ResyncError::Undescribed)
    }

    /// Looks at every timeline that this site has log of, and keeps what leaves the serving site's.
    ///
    /// # Errors
    /// Where it cannot be told what the serving site lacks.
    async fn keep(
        &self,
        source: &Source,
        own: &Control,
        store: &Store,
    ) -> Result<Log, ServerError> {
        let wal = self.database.data_dir.join("pg_wal");
        let mut timelines = fork::timelines(&wal).map_err(disk("cannot read", &wal))?;
        timelines.insert(own.timeline);
        let mut log = if own.is_clean { Log::Part } else { Log::Behind };
        for timeline in timelines {
            // What goes on elsewhere after it went its own way has had both.
            let is_mixed = matches!(log, Log::Beyond);
            let fork = fork::of(timeline, &source.history).filter(|_| !is_mixed);
            let fork = fork.ok_or(ResyncError::Apart)?;
            if !fork::agrees(&own_history(&wal, timeline)?, &source.history) {
                return Err(ResyncError::Apart.into());
            }
            if timeline == source.timeline {
                if self.is_part(&wal, source, own).await? {
                    log = Log::Part;
                }
            } else if self.keep_after(fork, &wal, store).await? {
                log = Log::Beyond;
            }
        }
        Ok(log)
    }

    /// Whether the log of the timeline that the serving site writes is the beginning of that site's; not where there is
    /// none of it.
    ///
    /// # Errors
    /// Where it is not.
    async fn is_part(
        &self,
        wal: &Path,
        source: &Source,
        own: &Control,
    ) -> Result<bool, ServerError> {
        let is_known = own.timeline == source.timeline;
        let start = if is_known {
            Some(own.redo)
        } else {
            source.began()
        };
        let start = start.ok_or(ResyncError::Apart)?;
        let dumped = self.dump(wal, start, source.timeline).await?;
        let Some(dump) = dumped else {
            // Files that were made for it and hold nothing yet.
            return if is_known {
                Err(ResyncError::Apart.into())
            } else {
                Ok(false)
            };
        };
        let last = Fork {
            timeline: source.timeline,
            at: Lsn(dump.end.ok_or(ResyncError::Apart)?.0.saturating_sub(1)),
        };
        let segments = fork::segments(wal, last).map_err(disk("cannot read", wal))?;
        let segment = segments.first().filter(|s| s.begin <= last.at);
        let segment = segment.ok_or(ResyncError::Apart)?;
        let bytes = last.at.0 + 1 - segment.begin.0;
        let path = wal.join(&segment.name);
        let own = blocking(move || Ok(digest(&path, bytes)?)).await?;
        let theirs = source.digest(&segment.name, bytes);
        if self.off.unless(theirs).await?? == Some(own) {
            return Ok(true);
        }
        Err(ResyncError::Apart.into())
    }

    /// Copies the log from a fork on, where it holds anything, and counts what that is.
    async fn keep_after(&self, fork: Fork, wal: &Path, store: &Store) -> Result<bool, ServerError> {
        let segments = fork::segments(wal, fork).map_err(disk("cannot read", wal))?;
        if segments.is_empty() {
            return Ok(false);
        }
        let Some(dump) = self.dump(wal, fork.at, fork.timeline).await? else {
            return Ok(false);
        };
        let end = dump.end.filter(|end| *end > fork.at);
        let end = end.ok_or(ResyncError::Answer("the end of its own log"))?;
        let files = segments.iter().map(|s| s.name.clone()).collect();
        let (from, to) = (wal.to_owned(), store.folder(self.epoch));
        blocking(move || Ok(copy_log(&from, &to, &segments)?)).await?;
        store.keep(&Manifest {
            epoch: self.epoch,
            timeline: fork.timeline,
            from: fork.at.to_string(),
            to: end.to_string(),
            commits: dump.commits,
            bytes: end.0 - fork.at.0,
            is_whole: false,
            files,
        })?;
        tracing::warn!(
            folder = %store.folder(self.epoch).display(), commits = dump.commits, from = %fork.at, to = %end,
            "what the serving site never got is kept"
        );
        Ok(true)
    }

    /// What a timeline's log holds from there on; none where nothing begins there.
    async fn dump(
        &self,
        wal: &Path,
        start: Lsn,
        timeline: u32,
    ) -> Result<Option<Dump>, ServerError> {
        let args = vec![
            format!("--path={}", wal.display()),
            format!("--start={start}"),
            format!("--timeline={timeline}"),
            "--rmgr=Transaction".to_owned(),
        ];
        let out = self.tool("pg_waldump", args, None).await?;
        let said = String::from_utf8_lossy(&out.stderr);
        if said.contains(fork::NOTHING) {
            return Ok(None);
        }
        // Else it ends with an error at the end of the log, always.
        let dump = fork::dumped(&String::from_utf8_lossy(&out.stdout), &said);
        if dump.end.is_none() || !matches!(out.status.code(), Some(0 | 1)) {
            succeeded("pg_waldump", &out)?;
        }
        Ok(Some(dump))
    }

    async fn rewind(
        &self,
        resync: &config::Resync,
        password: Option<&Secret>,
    ) -> Result<(), ServerError> {
        let data = &self.database.data_dir;
        // Nothing was changed yet.
        self.off.check()?;
        let own_files = Settings::read(data)?;
        rewinding::begin(data, &own_files)?;
        let take = disk("cannot take standby.signal from", data);
        self.resting.take().map_err(take)?;
        let mut args = vec![
            "--target-pgdata".to_owned(),
            data.display().to_string(),
            "--source-server".to_owned(),
            resync.source.clone(),
        ];
        // Where the distribution keeps it elsewhere, as Debian does.
        if let Some(file) = config_file(&self.database.args) {
            args.extend(["--config-file".to_owned(), file.to_owned()]);
        }
        let rewound = self.tool("pg_rewind", args, password).await;
        let rewound = rewound.and_then(|out| Ok(succeeded("pg_rewind", &out)?));
        let put = disk("cannot put standby.signal into", data);
        self.resting.put().map_err(put)?;
        // It brings the other host's settings along.
        own_files.write(data, self.owner)?;
        rewound
    }

    /// A new copy beside the old one, which is kept; that is said where nothing else was kept of it.
    async fn copy_anew(
        &self,
        resync: &config::Resync,
        password: Option<&Secret>,
        store: &Store,
        whole: Option<Manifest>,
    ) -> Result<(), ServerError> {
        let data = &self.database.data_dir;
        let new = place::new_copy(data);
        let own_files = if rewinding::is_half_done(data) {
            rewinding::settings(data)?
        } else {
            Settings::read(data)?
        };
        if new.exists() {
            fs::remove_dir_all(&new).map_err(disk("cannot remove", &new))?;
        }
        let args = [
            "--pgdata",
            &new.display().to_string(),
            "--dbname",
            &resync.source,
            "--wal-method=stream",
            "--checkpoint=fast",
            "--no-password",
        ];
        let args = args.map(str::to_owned).to_vec();
        let copied = self.tool("pg_basebackup", args, password).await;
        let copied = copied.and_then(|out| Ok(succeeded("pg_basebackup", &out)?));
        match copied {
            Ok(()) => {}
            // Who called it off does not wait for that; the next copy removes it.
            Err(error @ ServerError::CalledOff) => return Err(error),
            Err(error) => {
                let _ = fs::remove_dir_all(&new);
                return Err(error);
            }
        }
        own_files.write(&new, self.owner)?;
        let resting = new.join("standby.signal");
        write_synced(&resting, b"")?;
        chown(&resting, Some(self.owner.0), Some(self.owner.1))
            .map_err(disk("cannot give away", &resting))?;
        if let Some(whole) = whole {
            store.keep(&whole)?;
        }
        let old = place::replace(data, self.epoch)?;
        tracing::warn!(old = %old.display(), "the old data directory is kept beside the new copy");
        Ok(())
    }

    /// Runs one of PostgreSQL's programs as its user. Called off, it has ended with everything that it started when this
    /// returns; it ends with the guard, too.
    async fn tool(
        &self,
        name: &str,
        args: Vec<String>,
        password: Option<&Secret>,
    ) -> Result<Output, ServerError> {
        let folder = self.database.program.parent().unwrap_or(Path::new("/"));
        let program = folder.join(name);
        let mut env = BTreeMap::from([
            ("PATH".to_owned(), super::PATH.to_owned()),
            ("LC_ALL".to_owned(), "C".to_owned()),
        ]);
        if let Some(password) = password {
            env.insert("PGPASSWORD".to_owned(), password.expose().to_owned());
        }
        let launch = Launch {
            program: program.clone(),
            args,
            env,
            uid: self.owner.0,
            gid: self.owner.1,
            groups: Vec::new(),
            folder: PathBuf::new(),
            log: None,
            exe: "/proc/self/exe".into(),
            armed: None,
        };
        let ran = tool::run(&launch, self.off).await?;
        Ok(ran.map_err(|source| ResyncError::Run { program, source })?)
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

/// What a site says of the timelines before one of its own.
fn own_history(wal: &Path, timeline: u32) -> Result<String, ResyncError> {
    if timeline <= 1 {
        return Ok(String::new());
    }
    let path = wal.join(format!("{timeline:08X}.history"));
    fs::read_to_string(&path).map_err(disk("cannot read", &path))
}

/// SHA-256 of the first bytes of a file, in hexadecimal digits.
fn digest(path: &Path, bytes: u64) -> Result<String, ResyncError> {
    let mut read = Vec::new();
    let done = File::open(path).and_then(|file| file.take(bytes).read_to_end(&mut read));
    done.map_err(disk("cannot read", path))?;
    Ok(hex::encode(Sha256::digest(&read)))
}

fn copy_log(wal: &Path, folder: &Path, segments: &[Segment]) -> Result<(), ResyncError> {
    make_folder(folder)?;
    for segment in segments {
        let (from, to) = (wal.join(&segment.name), folder.join(&segment.name));
        fs::copy(&from, &to).map_err(disk("cannot keep", &from))?;
        let synced = File::open(&to).and_then(|file| file.sync_all());
        synced.map_err(disk("cannot sync", &to))?;
    }
    let synced = File::open(folder).and_then(|file| file.sync_all());
    synced.map_err(disk("cannot sync", folder))
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
