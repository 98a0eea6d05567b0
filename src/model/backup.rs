//! Backups: what a policy asks for, what there is, and what was found by restoring it.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    id::{CopyId, PolicyName, SourceName},
    plan::Uses,
    site::Location,
    span::Span,
    taking::Take,
    time::Time,
};

/// What a copy holds.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum BackupKind {
    /// Everything: a dump, a base backup, a snapshot.
    Full,
    /// What changed since: archived WAL, an incremental backup.
    Log,
}

impl fmt::Display for BackupKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Full => "full",
            Self::Log => "log",
        })
    }
}

/// What is asked of a service's backups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupPolicy {
    /// Its name.
    pub name: PolicyName,
    /// Where backups are.
    pub sources: Vec<BackupSource>,
    /// Sources that hold a full backup which is young enough, at least.
    pub copies: usize,
    /// Regions that they stand in, at least.
    pub regions: usize,
    /// Providers that they stand at, at least.
    pub providers: usize,
    /// Continents that they stand on, at least.
    pub continents: usize,
    /// Countries in which backups may be; empty: anywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub residency: Vec<String>,
    /// Whether every copy must be encrypted.
    pub encrypted: bool,
    /// What is kept.
    pub retention: Retention,
    /// What is tried by restoring.
    pub verify: Option<Verify>,
    /// What is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub take: Option<Take>,
}

impl BackupPolicy {
    /// The source of that name.
    #[must_use]
    pub fn source(&self, name: &SourceName) -> Option<&BackupSource> {
        self.sources.iter().find(|s| &s.name == name)
    }
}

/// A place where backups are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupSource {
    /// Unique within the policy.
    pub name: SourceName,
    /// Where it stands.
    pub location: Location,
    /// What it must hold, each with the age that its newest copy may have; none: any age.
    pub keeps: BTreeMap<BackupKind, Option<Span>>,
    /// The adapter.
    pub action: Uses,
}

/// How long backups are kept, counted in days and months of UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// One full backup of each of so many days before today.
    pub daily: u32,
    /// One full backup of each of so many months before this one.
    pub monthly: u32,
    /// Nothing is expected from before this moment.
    pub since: Option<Time>,
}

/// What is tried by restoring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verify {
    /// How often a backup of each source is restored.
    pub every: Span,
    /// The sources.
    pub sources: Vec<SourceName>,
    /// What the restored database is asked.
    pub queries: Vec<VerifyQuery>,
    /// The database that is asked in a base backup.
    pub database: String,
    /// Longest time that one restore may take.
    pub timeout: Span,
    /// Where it is restored to; none: the host's folder for temporary files.
    pub folder: Option<String>,
    /// Mebibytes of that disk that stay free.
    pub keep_free: u64,
    /// Folder of PostgreSQL's programs; none: looked for.
    pub programs: Option<String>,
}

/// What a restored database is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyQuery {
    /// As it stands in the evidence.
    pub name: String,
    /// One statement; the first column of its first row is the answer.
    pub sql: String,
    /// The answer is a number, at least this one.
    pub at_least: Option<i64>,
}

/// A copy of the data, as its source lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupCopy {
    /// Unique within its source: a path, a label, a snapshot's id.
    pub id: CopyId,
    /// What it holds.
    pub kind: BackupKind,
    /// When it was taken.
    pub at: Time,
    /// Its size as it is stored, where the source knows.
    pub bytes: Option<u64>,
    /// Whether it is encrypted; none where nobody can tell.
    pub encrypted: Option<bool>,
}

impl BackupCopy {
    /// Whether it is known to hold nothing, as what a failed job leaves behind: it is no backup, whatever it is called.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        matches!(self.bytes, Some(0))
    }
}

/// What one source holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shelf {
    /// The source.
    pub source: SourceName,
    /// Its copies.
    pub listed: Listed,
}

/// What a source says that it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Listed {
    /// These, oldest first.
    Copies(Vec<BackupCopy>),
    /// It could not be asked, for this reason.
    Unknown(String),
}

impl Shelf {
    /// Its copies; none where they cannot be told.
    #[must_use]
    pub fn copies(&self) -> &[BackupCopy] {
        match &self.listed {
            Listed::Copies(copies) => copies,
            Listed::Unknown(_) => &[],
        }
    }
}

/// A rule of a policy that is broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Breach {
    /// Which, stable: `freshness/nightly/full`.
    pub rule: String,
    /// Whether it is known; else a source that cannot be listed might mend it.
    pub certain: bool,
    /// In one sentence.
    pub text: String,
    /// What to do.
    pub fix: String,
}

/// What a policy comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Judgement {
    /// What is broken.
    pub breaches: Vec<Breach>,
    /// When the next rule breaks if nothing is done, and what then.
    pub next: Option<(Time, String)>,
}

/// What restoring a backup came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// Where the backup is.
    pub source: SourceName,
    /// Which one.
    pub copy: CopyId,
    /// When it was taken.
    pub taken: Time,
    /// What it came to.
    pub outcome: Restored,
    /// What was fetched, in bytes.
    pub bytes: u64,
    /// From fetching it until the last answer.
    pub took: Span,
    /// What kind of backup it was found to be, such as `dump`.
    pub form: String,
    /// What the restored database answered, by the name of the question.
    pub answers: BTreeMap<String, String>,
}

/// What a base backup is called in [`Verification::form`], first of all.
pub const BASE: &str = "base backup";

impl Verification {
    /// Whether it proved a base backup: the only form that WAL can be replayed on.
    #[must_use]
    pub fn proves_base(&self) -> bool {
        self.outcome == Restored::Good && self.form.starts_with(BASE)
    }
}

/// What restoring a backup came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Restored {
    /// It was restored, and answered as it should.
    Good,
    /// It cannot be restored: it is no backup.
    Bad {
        /// Why.
        reason: String,
    },
    /// It was restored, and answers otherwise than it should: it counts for nothing, and is kept all the same, since the
    /// question may be the wrong one.
    Wrong {
        /// How.
        reason: String,
    },
    /// It could not be tried, or not to the end: nothing is known of it.
    Unknown {
        /// Why.
        reason: String,
    },
}
