//! The list of recipients: fetched ahead of need into a file of our own, because its source may be gone when it matters.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    address,
    source::{self, SourceError},
};
use crate::{
    model::{secret::SecretRef, span::Span, time::Time},
    port::{channel::Recipient, kind::Problem, postgres::Conninfo, secret::SharedSecrets},
};

/// Where addresses come from.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum ListWith {
    /// A CSV file: its column `email`, or the first one that holds addresses.
    Csv(String),
    /// The first column of a query.
    Sql(Box<SqlWith>),
    /// A command that prints one address a line; it is not run through a shell, and of the controller's environment
    /// it gets PATH, HOME, LANG and TZ only.
    Command(Vec<String>),
    /// These addresses, for a team.
    Addresses(Vec<String>),
}

/// A query for addresses. It runs in a read-only transaction.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SqlWith {
    /// Where the database is and as whom to log in, such as `host=db1 dbname=shop user=mailer sslmode=verify-full`.
    pub conninfo: Conninfo,
    /// The user's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretRef>,
    /// Path of a PEM file with the certificate authority of the server: `sslrootcert`, with `sslmode=verify-full`
    /// unless `verify-ca` or `disable` is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// The query; its first column holds the addresses.
    pub query: String,
}

impl ListWith {
    /// What the types cannot say.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        match self {
            Self::Csv(path) if path.is_empty() => {
                vec![Problem::new("list.csv", "is empty, expected a path")]
            }
            Self::Command(argv) if argv.first().is_none_or(String::is_empty) => {
                vec![Problem::new(
                    "list.command",
                    "is empty, expected a program and its arguments",
                )]
            }
            Self::Sql(sql) => source::problems(sql),
            Self::Addresses(all) if all.is_empty() => {
                vec![Problem::new("list.addresses", "is empty")]
            }
            Self::Addresses(all) => (all.iter().enumerate())
                .filter(|(_, text)| address::normal(text).is_none())
                .map(|(i, _)| Problem::new(format!("list.addresses[{i}]"), "is no email address"))
                .collect(),
            Self::Csv(_) | Self::Command(_) => Vec::new(),
        }
    }
}

/// The list and the file that keeps it.
#[derive(Clone, Debug)]
pub struct List {
    source: ListWith,
    /// The share of recipients, in percent, that a refresh may lose.
    may_lose: u8,
    file: PathBuf,
}

/// What is kept of the last refresh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kept {
    /// When it was fetched.
    pub at: Time,
    /// How many lines were no addresses.
    pub skipped: usize,
    /// Addresses, in order.
    pub recipients: BTreeSet<String>,
}

/// Why a list could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It could not be fetched.
    #[error("the list of recipients cannot be fetched")]
    Source(#[source] SourceError),
    /// There is nobody on it.
    #[error("the list of recipients is empty ({skipped} lines are no addresses)")]
    Empty {
        /// Lines that are no addresses.
        skipped: usize,
    },
    /// It lost too many.
    #[error(
        "the new list lacks {lost} of {before} recipients, more than {may_lose} %: the old one is kept; if this is \
         meant, delete {file} and refresh again"
    )]
    Shrunk {
        /// How many are gone.
        lost: usize,
        /// How many there were.
        before: usize,
        /// The share that may be lost.
        may_lose: u8,
        /// The kept list.
        file: String,
    },
    /// Nothing was ever fetched.
    #[error("no list of recipients was fetched yet: run failover check")]
    Missing,
    /// The file of our own cannot be used.
    #[error("the kept list {file} cannot be used")]
    File {
        /// The file.
        file: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl List {
    /// A list that is kept below `state`. Another source is another list.
    #[must_use]
    pub fn new(source: ListWith, may_lose: u8, state: &Path) -> Self {
        let named = serde_json::to_vec(&source).unwrap_or_default();
        let name = hex::encode(&Sha256::digest(named)[..8]);
        Self {
            source,
            may_lose,
            file: state.join("lists").join(format!("{name}.json")),
        }
    }

    /// Whether there is something to refresh.
    #[must_use]
    pub fn is_fetched(&self) -> bool {
        !matches!(self.source, ListWith::Addresses(_))
    }

    /// Who is on the list, from what was fetched last.
    ///
    /// # Errors
    /// Where nothing was fetched yet.
    pub fn recipients(&self) -> Result<Vec<Recipient>, ListError> {
        if let ListWith::Addresses(all) = &self.source {
            let all: BTreeSet<String> = all.iter().filter_map(|a| address::normal(a)).collect();
            return Ok(all.into_iter().map(Recipient).collect());
        }
        let kept = self.kept()?.ok_or(ListError::Missing)?;
        Ok(kept.recipients.into_iter().map(Recipient).collect())
    }

    /// What was fetched last.
    ///
    /// # Errors
    /// Where the file is there but cannot be read.
    pub fn kept(&self) -> Result<Option<Kept>, ListError> {
        let bytes = match fs::read(&self.file) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(self.failed(e)),
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| self.failed(io::Error::new(io::ErrorKind::InvalidData, e)))
    }

    /// Fetches the list anew and keeps it, unless it lost too many.
    ///
    /// # Errors
    /// Where the old list stays.
    pub async fn refresh(
        &self,
        secrets: &SharedSecrets,
        now: Time,
        timeout: Span,
    ) -> Result<Kept, ListError> {
        let lines = source::fetch(&self.source, secrets, timeout)
            .await
            .map_err(ListError::Source)?;
        // The same mailbox in capitals is the same mailbox; what is written is the first spelling.
        let (mut found, mut skipped) = (BTreeMap::new(), 0);
        for line in lines {
            match address::normal(&line) {
                Some(address) => _ = found.entry(address.to_lowercase()).or_insert(address),
                None => skipped += 1,
            }
        }
        let new = Kept {
            at: now,
            skipped,
            recipients: found.into_values().collect(),
        };
        if new.recipients.is_empty() {
            return Err(ListError::Empty {
                skipped: new.skipped,
            });
        }
        let list = self.clone();
        tokio::task::spawn_blocking(move || list.keep(new))
            .await
            .map_err(|e| self.failed(io::Error::other(e)))?
    }

    fn keep(&self, new: Kept) -> Result<Kept, ListError> {
        let old = match self.kept() {
            // The new list is the cure for an old one that nobody can read.
            Err(ListError::File { file, source })
                if source.kind() == io::ErrorKind::InvalidData =>
            {
                tracing::warn!(file, error = %source, "the kept list of recipients was of no use, and is replaced");
                None
            }
            old => old?,
        };
        if let Some(old) = old {
            let before = old.recipients.len();
            let lower = |kept: &Kept| -> BTreeSet<String> {
                kept.recipients.iter().map(|r| r.to_lowercase()).collect()
            };
            let lost = lower(&old).difference(&lower(&new)).count();
            if lost * 100 > before * usize::from(self.may_lose) {
                return Err(ListError::Shrunk {
                    lost,
                    before,
                    may_lose: self.may_lose,
                    file: self.file.display().to_string(),
                });
            }
        }
        self.write(&new).map_err(|e| self.failed(e))?;
        Ok(new)
    }

    /// The file is only ever whole, and only its owner reads it.
    fn write(&self, kept: &Kept) -> io::Result<()> {
        let folder = self.file.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let mut new = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(io::BufWriter::new(&mut new), kept)?;
        new.as_file().sync_all()?;
        new.persist(&self.file)?;
        fs::File::open(folder)?.sync_all()
    }

    fn failed(&self, source: io::Error) -> ListError {
        ListError::File {
            file: self.file.display().to_string(),
            source,
        }
    }
}
