//! Recovering a base backup into a data directory: fetched, proved, started in a PostgreSQL of its own that no network
//! reaches, the archived WAL replayed, ended in order. Only then does it take its place, in one step: whoever is killed on
//! the way leaves a folder beside it that the next attempt clears, and never half a database.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use futures::future::try_join_all;
use serde::{Deserialize, Serialize};

use super::{
    Fault, Stop,
    cluster::Cluster,
    form::{self, Form},
    programs::Programs,
    scratch::{Busy, Scratch},
    unfetched,
};
use crate::{
    backup::program,
    model::{
        backup::{BackupCopy, BackupKind},
        id::CopyId,
        time::Time,
        wal::{Segment, history_of_path},
    },
    port::{account::Account, backup::Backups},
};

/// What is left in a restored data directory, so that it is known again.
pub const MARK: &str = "failover-restored.json";
/// Segments that are fetched side by side.
const ABREAST: usize = 4;
/// Settings of the old server that would have the new one follow, or recover to somewhere.
const OF_RECOVERY: [&str; 4] = [
    "primary_conninfo",
    "primary_slot_name",
    "restore_command",
    "recovery_",
];

/// A base backup that is to become a database.
pub struct Recovery<'a> {
    /// Where it is.
    pub place: &'a dyn Backups,
    /// Which one.
    pub copy: &'a BackupCopy,
    /// Where archived WAL is; none: nothing but what the backup brings is replayed.
    pub archive: Option<&'a dyn Backups>,
    /// The moment that is restored; none: as late as there is.
    pub until: Option<Time>,
    /// The data directory: absent, or an empty folder.
    pub data: &'a Path,
    /// Settings of its own, put above those of the backup.
    pub settings: &'a BTreeMap<String, String>,
    /// Folder of PostgreSQL's programs; none: looked for.
    pub programs: Option<&'a Path>,
    /// Mebibytes of the disk that stay free.
    pub keep_free: u64,
    /// Names this effect: it stands in the data directory.
    pub key: &'a str,
}

/// What stands in a restored data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stamp {
    /// The effect that it came from.
    pub key: String,
    /// What came of it.
    #[serde(flatten)]
    pub recovered: Recovered,
}

/// What recovering came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recovered {
    /// Which backup.
    pub copy: CopyId,
    /// When it was taken.
    pub taken: Time,
    /// Archived segments that were fetched for it.
    pub segments: usize,
    /// When the last transaction was committed that was replayed, as PostgreSQL says it; none where none was.
    pub reached: Option<String>,
    /// The position that it goes on from.
    pub lsn: String,
    /// The timeline that it goes on with.
    pub timeline: String,
}

/// Why a backup was not recovered. The data directory is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// Another process is at it.
    #[error("{} is being restored already", .0.display())]
    Busy(PathBuf),
    /// There is something where it should go.
    #[error("{} is not empty: nothing is restored over what is there; move it away, or name another folder", .0.display())]
    Occupied(PathBuf),
    /// The folder above the data directory.
    #[error("{} cannot be used", .path.display())]
    Above {
        /// The data directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The backup cannot be used.
    #[error("the backup cannot be used: {0}")]
    Bad(String),
    /// Something else was in the way.
    #[error("{0}")]
    Unclear(String),
}

impl From<Stop> for RecoveryError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Busy(Busy(path)) => Self::Busy(path),
            Stop::Fault(fault) => fault.into(),
        }
    }
}

impl From<Fault> for RecoveryError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Bad(reason) | Fault::Wrong(reason) => Self::Bad(reason),
            Fault::Unclear(reason) => Self::Unclear(reason),
        }
    }
}

/// What stands in a data directory that was restored; none where it was not, or is none.
#[must_use]
pub fn stamp(data: &Path) -> Option<Stamp> {
    let text = fs::read_to_string(data.join(MARK)).ok()?;
    serde_json::from_str(&text).ok()
}

impl Recovery<'_> {
    /// Recovers it. Dropping the future ends what was begun, and leaves the data directory as it was.
    ///
    /// # Errors
    /// Where it did not come to a database; the data directory is then as it was.
    pub async fn run(&self) -> Result<Recovered, RecoveryError> {
        let above = |source| RecoveryError::Above {
            path: self.data.to_owned(),
            source,
        };
        let staging = staging(self.data).map_err(above)?;
        self.is_vacant()?;
        let account = Account::for_database().map_err(above)?;
        let scratch = Scratch::at(staging, account)?;
        // Whoever held the folder may have ended well in the meantime.
        self.is_vacant()?;
        let work = async {
            tokio::select! {
                biased;
                full = scratch.runs_out(self.keep_free) => Err(full),
                done = self.recover(&scratch) => done,
            }
        };
        let (data, recovered) = work.await?;
        self.settle(&data, account, &recovered).map_err(above)?;
        Ok(recovered)
    }

    fn is_vacant(&self) -> Result<(), RecoveryError> {
        match fs::read_dir(self.data) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(RecoveryError::Above {
                path: self.data.to_owned(),
                source,
            }),
            Ok(mut entries) => match entries.next() {
                None => Ok(()),
                Some(_) => Err(RecoveryError::Occupied(self.data.to_owned())),
            },
        }
    }

    async fn recover(&self, scratch: &Scratch) -> Result<(PathBuf, Recovered), Fault> {
        let archived = self.archived().await?;
        let logs: u64 = archived.iter().filter_map(|c| c.bytes).sum();
        let full = self.copy.bytes.unwrap_or(0);
        scratch.has_room(full.saturating_mul(2).saturating_add(logs), self.keep_free)?;
        let fetched = scratch.folder("fetched")?;
        let file = self.place.fetch(&self.copy.id, &fetched).await;
        let file = file.map_err(|e| unfetched(&e))?;
        let form = form::of(&file, scratch).await?;
        scratch.give_away()?;
        let Form::Base { data, .. } = &form else {
            return Err(Fault::Bad(format!(
                "it is a {form}: only a base backup becomes a data directory"
            )));
        };
        let programs = Programs::of_data(data, self.programs)?;
        let brings_wal = form::prove_base(&form, &programs, scratch).await?;
        if !brings_wal && archived.is_empty() {
            return Err(Fault::Unclear(
                "it does not bring the WAL that it needs, and none is archived".to_owned(),
            ));
        }
        if !data.starts_with(&fetched) {
            fs::remove_dir_all(&fetched).map_err(|e| Fault::here("what was fetched", &e))?;
        }
        let segments = self.fetch_wal(data, &archived, scratch).await?;
        let recovered = self.replay(data, &programs, segments, scratch).await?;
        sync(data, &programs, scratch).await?;
        Ok((data.clone(), recovered))
    }

    /// What is archived, as far as it has to do with WAL.
    async fn archived(&self) -> Result<Vec<BackupCopy>, Fault> {
        let Some(archive) = self.archive else {
            return Ok(Vec::new());
        };
        let all = archive.list().await.map_err(|e| unfetched(&e))?;
        let is_wal = |c: &BackupCopy| {
            let id = c.id.as_str();
            c.kind == BackupKind::Log
                && (Segment::of_path(id).is_some() || history_of_path(id).is_some())
        };
        Ok(all.into_iter().filter(is_wal).collect())
    }

    /// Fetches what is needed from the backup's beginning on, under the names that PostgreSQL asks for.
    async fn fetch_wal(
        &self,
        data: &Path,
        archived: &[BackupCopy],
        scratch: &Scratch,
    ) -> Result<usize, Fault> {
        let into = scratch.folder("wal")?;
        let Some(archive) = self.archive else {
            return Ok(0);
        };
        let first = first_segment(data)?;
        let wanted = archived.iter().filter_map(|c| {
            let id = c.id.as_str();
            match Segment::of_path(id) {
                Some(s) if (s.log, s.part) >= (first.log, first.part) => Some((c, s.name())),
                Some(_) => None,
                None => Some((c, history_of_path(id)?.to_owned())),
            }
        });
        let wanted: Vec<(&BackupCopy, String)> = wanted.collect();
        for (n, abreast) in wanted.chunks(ABREAST).enumerate() {
            let mut fetching = Vec::with_capacity(ABREAST);
            for (m, (copy, name)) in abreast.iter().enumerate() {
                let own = scratch.folder(&format!("segment-{n}-{m}"))?;
                fetching.push(segment(archive, &copy.id, own, into.join(name), scratch));
            }
            try_join_all(fetching).await?;
        }
        Ok(wanted.len())
    }

    async fn replay(
        &self,
        data: &Path,
        programs: &Programs,
        segments: usize,
        scratch: &Scratch,
    ) -> Result<Recovered, Fault> {
        let here = |e: io::Error| Fault::here("data", &e);
        for name in ["standby.signal", "postmaster.pid"] {
            forget(&data.join(name)).map_err(here)?;
        }
        let own = data.join("postgresql.auto.conf");
        let before = match fs::read_to_string(&own) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(here(e)),
        };
        forget(&own).map_err(here)?;
        fs::write(data.join("recovery.signal"), "").map_err(here)?;
        let wal = scratch.path().join("wal");
        let recovery = configuration(&wal, self.until);
        let cluster = Cluster::recovering(data, programs.clone(), scratch, &recovery).await;
        let cluster = cluster.map_err(short)?;
        let row = cluster
            .row(
                "select pg_last_xact_replay_timestamp()::text as reached, pg_current_wal_lsn()::text as lsn, \
                 substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) as timeline",
            )
            .await?;
        cluster.stop().await?;
        let cell = |name: &str| row.get(name).cloned().flatten();
        let recovered = Recovered {
            copy: self.copy.id.clone(),
            taken: self.copy.at,
            segments,
            reached: cell("reached"),
            lsn: cell("lsn").unwrap_or_default(),
            timeline: cell("timeline").map_or_else(String::new, |hex| decimal(&hex)),
        };
        fs::write(&own, settled(&before, self.settings)).map_err(here)?;
        let stamp = Stamp {
            key: self.key.to_owned(),
            recovered: recovered.clone(),
        };
        let text = serde_json::to_string_pretty(&stamp).unwrap_or_default();
        fs::write(data.join(MARK), text).map_err(here)?;
        scratch.give_away()?;
        Ok(recovered)
    }

    /// Puts the database in its place.
    fn settle(
        &self,
        data: &Path,
        account: Option<Account>,
        recovered: &Recovered,
    ) -> io::Result<()> {
        match fs::remove_dir(self.data) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            Ok(()) | Err(_) => {}
        }
        fs::rename(data, self.data)?;
        Account::own(account, self.data)?;
        if let Some(above) = self.data.parent() {
            File::open(above)?.sync_all()?;
        }
        tracing::info!(data = %self.data.display(), copy = %recovered.copy, "a backup was restored");
        Ok(())
    }
}

/// Fetches an archived segment into a folder of its own, and puts it where PostgreSQL asks for it.
async fn segment(
    archive: &dyn Backups,
    id: &CopyId,
    own: PathBuf,
    target: PathBuf,
    scratch: &Scratch,
) -> Result<(), Fault> {
    let file = archive.fetch(id, &own).await.map_err(|e| unfetched(&e))?;
    let file = form::unpack(&file, &own.join("unpacked"), scratch).await?;
    let put = fs::rename(&file, &target).and_then(|()| fs::remove_dir_all(&own));
    put.map_err(|e| Fault::here("a segment", &e))
}

/// The folder beside a data directory in which it is made.
fn staging(data: &Path) -> io::Result<PathBuf> {
    let wrong = || io::Error::other("expected a path from / to a folder that is to be made");
    let name = data.file_name().ok_or_else(wrong)?;
    let above = data
        .parent()
        .filter(|p| p.is_absolute())
        .ok_or_else(wrong)?;
    let above = above.canonicalize()?;
    Ok(above.join(format!(".{}.restoring", name.to_string_lossy())))
}

/// The segment that a base backup begins in.
fn first_segment(data: &Path) -> Result<Segment, Fault> {
    let label = fs::read_to_string(data.join("backup_label"))
        .map_err(|e| Fault::Bad(format!("its backup_label cannot be read: {e}")))?;
    let found = label.lines().find_map(|line| {
        let rest = line.strip_prefix("START WAL LOCATION:")?;
        let name = rest.split("(file ").nth(1)?;
        Segment::of_path(name.trim_end().trim_end_matches(')'))
    });
    found.ok_or_else(|| Fault::Bad("its backup_label does not say where it begins".to_owned()))
}

/// A moment that no transaction in the archive comes after cannot be told from one that is missing.
fn short(fault: Fault) -> Fault {
    match fault {
        Fault::Bad(text) if text.contains("before configured recovery target was reached") => {
            Fault::Unclear(
                "archived WAL holds no transaction after that moment: without a moment all of it is replayed"
                    .to_owned(),
            )
        }
        fault @ (Fault::Bad(_) | Fault::Wrong(_) | Fault::Unclear(_)) => fault,
    }
}

/// A number in the digits of a segment's name, as people say it.
fn decimal(hex: &str) -> String {
    u32::from_str_radix(hex, 16).map_or_else(|_| hex.to_owned(), |n| n.to_string())
}

fn forget(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// What the server that recovers is told beside the usual. It archives nothing, and remembers what the one that takes over
/// has to archive: the history of its timeline too.
fn configuration(wal: &Path, until: Option<Time>) -> String {
    let path = wal.display().to_string();
    let shell = path.replace('%', "%%").replace('\'', "'\\''");
    let command = format!("cp '{shell}/%f' \"%p\"").replace('\'', "''");
    let mut text = format!(
        "restore_command = '{command}'\n\
         recovery_target_timeline = 'latest'\n\
         recovery_target_action = 'promote'\n\
         wal_level = replica\n\
         archive_mode = on\n\
         archive_command = ''\n\
         full_page_writes = on\n\
         timezone = 'UTC'\n"
    );
    if let Some(until) = until {
        // A file of settings is read before names of time zones are known, `Z` among them.
        let moment = until.to_string().replace('T', " ").replace('Z', "+00");
        let _ = writeln!(text, "recovery_target_time = '{moment}'");
    }
    text
}

/// The settings that `ALTER SYSTEM` left, without those of recovery, and with one's own.
fn settled(before: &str, own: &BTreeMap<String, String>) -> String {
    let key = |line: &str| {
        let name = line.split(['=', ' ']).next().unwrap_or_default();
        name.trim().to_ascii_lowercase()
    };
    let stays = |line: &&str| {
        let key = key(line);
        !OF_RECOVERY.iter().any(|r| key.starts_with(r)) && !own.contains_key(&key)
    };
    let mut text = String::new();
    for line in before.lines().filter(stays) {
        text.push_str(line);
        text.push('\n');
    }
    for (name, value) in own {
        let _ = writeln!(text, "{name} = '{}'", value.replace('\'', "''"));
    }
    text
}

/// Has the disk hold all of it: it was written without waiting for that.
async fn sync(data: &Path, programs: &Programs, scratch: &Scratch) -> Result<(), Fault> {
    let mut sync = tokio::process::Command::new(programs.path("initdb"));
    sync.args(["--sync-only", "--pgdata"])
        .arg(data)
        .env("LC_ALL", "C")
        .current_dir(scratch.path())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null());
    Account::apply(scratch.account(), &mut sync);
    let synced = program::run(sync).await;
    synced
        .map(drop)
        .map_err(|e| Fault::of_host("initdb --sync-only", &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_old_server_that_lead_back_to_it_are_left_out() {
        let before = "# Do not edit\nshared_buffers = '1GB'\nprimary_conninfo = 'host=old'\nport = '5432'\n\
                      recovery_target_time = 'x'\nrestore_command = 'y'\n";
        let own = BTreeMap::from([("port".to_owned(), "it's".to_owned())]);
        let after = "# Do not edit\nshared_buffers = '1GB'\nport = 'it''s'\n";
        assert_eq!(settled(before, &own), after);
    }

    #[test]
    fn a_moment_is_written_as_a_file_of_settings_takes_it() {
        let moment = Time::parse("2026-11-22T21:47:36.185Z").unwrap();
        let text = configuration(Path::new("/srv"), Some(moment));
        assert!(text.contains("= '2026-11-22 21:47:36.185+00'"), "{text}");
    }

    #[test]
    fn a_path_with_strange_letters_stays_one_word() {
        let text = configuration(Path::new("/srv/it's 5%"), None);
        let line = text.lines().next().unwrap();
        assert_eq!(
            line,
            r#"restore_command = 'cp ''/srv/it''\''''s 5%%/%f'' "%p"'"#
        );
    }
}
