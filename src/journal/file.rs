//! The journal's file: an SQLite database that anybody can open with `sqlite3`.
//!
//! One table, `record(chain, seq, line, hash)`, whose rows are never changed; `line` holds the very bytes that were
//! hashed. `user_version` is the format of the file, `origin` says where it was made.

use std::{
    ffi::OsString,
    fs::OpenOptions,
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::statvfs::{FsFlags, statvfs};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior, params};
use url::Url;

use super::{
    chain::{self, Checker, Head},
    origin::Origin,
};
use crate::{
    model::{
        id::{Seq, ServiceName},
        record::Record,
    },
    port::journal::{JournalError, Line},
};

/// Format of the file that this build writes (`PRAGMA user_version`). A newer one is refused.
pub const FILE_FORMAT: u32 = 1;

/// Tells a journal from any other SQLite database (`PRAGMA application_id`): "FOJ1".
const APPLICATION: i32 = 0x464f_4a31;

/// How long to wait for somebody who has the file open for writing with a tool.
const BUSY: Duration = Duration::from_secs(5);

const SCHEMA: &str = "
    CREATE TABLE record (
        chain TEXT NOT NULL,
        seq INTEGER NOT NULL,
        line TEXT NOT NULL,
        hash TEXT NOT NULL,
        PRIMARY KEY (chain, seq)
    ) STRICT, WITHOUT ROWID;
    CREATE TRIGGER record_stays BEFORE UPDATE ON record
        BEGIN SELECT RAISE(ABORT, 'records are never changed'); END;
    CREATE TRIGGER record_remains BEFORE DELETE ON record
        BEGIN SELECT RAISE(ABORT, 'records are never deleted'); END;
    CREATE TABLE origin (
        journal TEXT NOT NULL,
        host TEXT NOT NULL
    ) STRICT;
";

/// An open journal file.
#[derive(Debug)]
pub struct JournalFile {
    sqlite: Connection,
    path: PathBuf,
}

impl JournalFile {
    /// Opens a journal for writing, and makes it where there is none.
    ///
    /// # Errors
    /// `Newer`, `Full`, or `Io` where the file is no journal or cannot be used.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        // SQLite gives its own files beside it the same mode.
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .map_err(|e| trouble(path, e.into()))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut file = Self::connect(path, flags)?;
        if file.is_empty()? {
            file.create().map_err(|e| sqlite_trouble(path, e))?;
        }
        file.check_format()?;
        file.set_durable().map_err(|e| sqlite_trouble(path, e))?;
        Ok(file)
    }

    /// Opens a journal to look at it, also while a controller writes to it, and also where nothing can be written.
    ///
    /// # Errors
    /// `Newer`, or `Io` where the file is no journal or cannot be read.
    pub fn open_to_read(path: &Path) -> Result<Self, JournalError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let file = Self::connect(path, flags)?;
        match file.check_format() {
            Err(JournalError::Io { .. }) if !log_of(path).exists() => {
                // Readers too keep their place in shared memory beside the file, and there may be no room for that:
                // a read-only disk, somebody else's folder. A file that has no log is whole without it.
                let file = Self::connect_unchanging(path, flags)?;
                file.check_format().map(|()| file)
            }
            checked => checked.map(|()| file),
        }
    }

    fn connect_unchanging(path: &Path, flags: OpenFlags) -> Result<Self, JournalError> {
        let absolute = path.canonicalize().map_err(|e| trouble(path, e.into()))?;
        let mut uri = Url::from_file_path(&absolute)
            .map_err(|()| trouble(path, "the path is no absolute one".into()))?;
        uri.set_query(Some("immutable=1"));
        let uri = PathBuf::from(uri.as_str());
        let file = Self::connect(&uri, flags | OpenFlags::SQLITE_OPEN_URI)?;
        Ok(Self {
            path: path.to_owned(),
            ..file
        })
    }

    fn connect(path: &Path, flags: OpenFlags) -> Result<Self, JournalError> {
        let sqlite = Connection::open_with_flags(path, flags)
            .and_then(|c| c.busy_timeout(BUSY).map(|()| c))
            .map_err(|e| sqlite_trouble(path, e))?;
        Ok(Self {
            sqlite,
            path: path.to_owned(),
        })
    }

    fn is_empty(&self) -> Result<bool, JournalError> {
        self.sqlite
            .query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| {
                row.get(0)
            })
            .map_err(|e| sqlite_trouble(&self.path, e))
    }

    /// With a log ahead, only `synchronous = FULL` makes each commit durable.
    fn set_durable(&self) -> rusqlite::Result<()> {
        self.sqlite.pragma_update(None, "journal_mode", "WAL")?;
        self.sqlite.pragma_update(None, "synchronous", "FULL")
    }

    fn create(&mut self) -> rusqlite::Result<()> {
        self.set_durable()?;
        let origin = Origin::new();
        let make = self
            .sqlite
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        make.execute_batch(SCHEMA)?;
        make.execute(
            "INSERT INTO origin (journal, host) VALUES (?1, ?2)",
            params![origin.journal, origin.host],
        )?;
        make.pragma_update(None, "application_id", APPLICATION)?;
        make.pragma_update(None, "user_version", FILE_FORMAT)?;
        make.commit()
    }

    fn check_format(&self) -> Result<(), JournalError> {
        let application: i32 = self.pragma("application_id")?;
        if application != APPLICATION {
            return Err(trouble(
                &self.path,
                "the file is an SQLite database, but no journal of failover".into(),
            ));
        }
        let found: u32 = self.pragma("user_version")?;
        if found > FILE_FORMAT {
            return Err(JournalError::Newer {
                found,
                known: FILE_FORMAT,
            });
        }
        Ok(())
    }

    fn pragma<T: rusqlite::types::FromSql>(&self, name: &str) -> Result<T, JournalError> {
        self.sqlite
            .pragma_query_value(None, name, |row| row.get(0))
            .map_err(|e| sqlite_trouble(&self.path, e))
    }

    /// Where the file stands.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Notes on which host it may be led from.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn settle(&self, host: &str) -> Result<(), JournalError> {
        let settled = self
            .sqlite
            .execute("UPDATE origin SET host = ?1", params![host]);
        settled.map(drop).map_err(|e| sqlite_trouble(&self.path, e))
    }

    /// Where the journal was made.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn origin(&self) -> Result<Origin, JournalError> {
        self.sqlite
            .query_row("SELECT journal, host FROM origin", [], |row| {
                Ok(Origin {
                    journal: row.get(0)?,
                    host: row.get(1)?,
                })
            })
            .map_err(|e| sqlite_trouble(&self.path, e))
    }

    /// The chains, each with its last sequence.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn heads(&self) -> Result<Vec<(ServiceName, Seq)>, JournalError> {
        // Hops from one chain to the next by the index; GROUP BY would read every record.
        let sql = "
            WITH RECURSIVE hop(chain) AS (
                SELECT min(chain) FROM record
                UNION ALL
                SELECT (SELECT min(chain) FROM record WHERE chain > hop.chain)
                FROM hop WHERE hop.chain IS NOT NULL
            )
            SELECT chain, (SELECT max(seq) FROM record r WHERE r.chain = hop.chain)
            FROM hop WHERE chain IS NOT NULL";
        self.sqlite
            .prepare_cached(sql)
            .and_then(|mut query| {
                query
                    .query_map([], |row| {
                        Ok((
                            ServiceName::new(row.get::<_, String>(0)?),
                            sequence(row, 1)?,
                        ))
                    })?
                    .collect()
            })
            .map_err(|e| sqlite_trouble(&self.path, e))
    }

    /// At most `most` lines of a chain from `from` on, unchecked.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn lines(
        &self,
        chain: &ServiceName,
        from: Seq,
        most: usize,
    ) -> Result<Vec<Line>, JournalError> {
        let mut lines = Vec::new();
        self.each_line(chain, from, most, |line| {
            lines.push(line);
            Ok(())
        })?;
        Ok(lines)
    }

    /// The records from `from` on, checked against the hash chain.
    ///
    /// # Errors
    /// `Broken` or `Newer` where the chain cannot be followed.
    pub fn records(&self, chain: &ServiceName, from: Seq) -> Result<Vec<Record>, JournalError> {
        let before = Seq(from.0.saturating_sub(1));
        match self.head_at(chain, before)? {
            Some(head) => chain::check(chain, head, &self.lines(chain, before.next(), usize::MAX)?),
            None => Ok(Vec::new()),
        }
    }

    /// Hands over one record after the other from `from` on, each checked against the hash chain, and its line.
    ///
    /// # Errors
    /// `Broken` or `Newer` where the chain cannot be followed any further, and what `take` returns.
    pub fn each_record(
        &self,
        chain: &ServiceName,
        from: Seq,
        mut take: impl FnMut(Record, Line) -> Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        let before = Seq(from.0.saturating_sub(1));
        let Some(head) = self.head_at(chain, before)? else {
            return Ok(());
        };
        let mut checker = Checker::behind(chain.clone(), head);
        self.each_line(chain, before.next(), usize::MAX, |line| {
            let record = checker.next(&line)?;
            take(record, line)
        })
    }

    /// The last record's place and hash.
    ///
    /// # Errors
    /// `Broken` where the last record does not have the hash that it is kept with.
    pub fn head(&self, chain: &ServiceName) -> Result<Head, JournalError> {
        let last: Option<Line> = self
            .sqlite
            .prepare_cached(
                "SELECT seq, line, hash FROM record WHERE chain = ?1 ORDER BY seq DESC LIMIT 1",
            )
            .and_then(|mut query| query.query_row([chain.as_str()], line).optional())
            .map_err(|e| sqlite_trouble(&self.path, e))?;
        match last {
            Some(line) => end_of(chain, &line),
            None => Ok(Head::default()),
        }
    }

    /// Appends lines that were sealed, all or none of them, durably.
    ///
    /// # Errors
    /// `Full` or `Io`; nothing was written then.
    pub fn append<'a>(
        &mut self,
        lines: impl IntoIterator<Item = (&'a ServiceName, &'a Line)>,
    ) -> Result<(), JournalError> {
        let path = self.path.clone();
        self.insert(lines).map_err(|e| sqlite_trouble(&path, e))
    }

    fn insert<'a>(
        &mut self,
        lines: impl IntoIterator<Item = (&'a ServiceName, &'a Line)>,
    ) -> rusqlite::Result<()> {
        let group = self
            .sqlite
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut insert = group.prepare_cached(
                "INSERT INTO record (chain, seq, line, hash) VALUES (?1, ?2, ?3, ?4)",
            )?;
            for (chain, line) in lines {
                insert.execute(params![
                    chain.as_str(),
                    line.seq.0.cast_signed(),
                    line.text,
                    line.hash
                ])?;
            }
        }
        group.commit()
    }

    /// The chain's end as it was at `seq`; none where the chain does not go that far.
    fn head_at(&self, chain: &ServiceName, seq: Seq) -> Result<Option<Head>, JournalError> {
        if seq == Seq(0) {
            return Ok(Some(Head::default()));
        }
        match self.lines(chain, seq, 1)?.first() {
            Some(line) if line.seq == seq => end_of(chain, line).map(Some),
            Some(_) => Err(JournalError::Broken {
                chain: chain.clone(),
                seq,
                reason: "the record is missing".to_owned(),
            }),
            None => Ok(None),
        }
    }

    /// Hands over one line after the other, at most `most`, unchecked.
    ///
    /// # Errors
    /// Where the file cannot be read, and what `take` returns.
    pub fn each_line(
        &self,
        chain: &ServiceName,
        from: Seq,
        most: usize,
        mut take: impl FnMut(Line) -> Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        let read = |e| sqlite_trouble(&self.path, e);
        let mut query = self
            .sqlite
            .prepare_cached(
                "SELECT seq, line, hash FROM record WHERE chain = ?1 AND seq >= ?2
                 ORDER BY seq LIMIT ?3",
            )
            .map_err(read)?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let mut rows = query
            .query(params![chain.as_str(), from.0.cast_signed(), most])
            .map_err(read)?;
        while let Some(row) = rows.next().map_err(read)? {
            take(line(row).map_err(read)?)?;
        }
        Ok(())
    }
}

fn line(row: &rusqlite::Row<'_>) -> rusqlite::Result<Line> {
    Ok(Line {
        seq: sequence(row, 0)?,
        text: row.get(1)?,
        hash: row.get(2)?,
    })
}

fn sequence(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Seq> {
    Ok(Seq(row.get::<_, i64>(column)?.cast_unsigned()))
}

fn end_of(chain: &ServiceName, line: &Line) -> Result<Head, JournalError> {
    let hash = chain::hash(&line.text);
    if hash == line.hash {
        Ok(Head {
            seq: line.seq,
            hash,
        })
    } else {
        Err(JournalError::Broken {
            chain: chain.clone(),
            seq: line.seq,
            reason: format!(
                "the record was changed: it is kept as {}, its content has {hash}",
                line.hash
            ),
        })
    }
}

fn log_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push("-wal");
    PathBuf::from(name)
}

/// What a failure of SQLite means for the journal.
fn sqlite_trouble(path: &Path, error: rusqlite::Error) -> JournalError {
    if error.sqlite_error_code() == Some(ErrorCode::DiskFull) {
        return full(path);
    }
    trouble(path, error.into())
}

/// What a failure means for the journal. SQLite says "I/O error" or "cannot open" where its shared memory or the
/// log beside the file could not grow, so the file system is asked whether it has room.
fn trouble(path: &Path, source: Box<dyn std::error::Error + Send + Sync>) -> JournalError {
    let quota = source.downcast_ref::<io::Error>().is_some_and(|e| {
        matches!(
            e.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    });
    if quota || has_no_room(path) {
        return full(path);
    }
    JournalError::Io {
        place: path.display().to_string(),
        source,
    }
}

fn full(path: &Path) -> JournalError {
    let folder = path.parent().unwrap_or(path);
    JournalError::Full {
        place: folder.display().to_string(),
    }
}

fn has_no_room(path: &Path) -> bool {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    statvfs(folder.unwrap_or(Path::new(".")))
        .is_ok_and(|fs| fs.blocks_available() == 0 && !fs.flags().contains(FsFlags::ST_RDONLY))
}
