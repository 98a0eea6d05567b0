//! Taking backups: what a policy asks for, and what came of it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    id::{CopyId, SourceName},
    schedule::Schedule,
    secret::SecretRef,
    span::Span,
    time::Time,
};

/// The ending of what is encrypted by age.
const SEALED: &str = ".age";

/// Whether a name says that what it names is encrypted by age.
#[must_use]
pub fn is_sealed(name: &str) -> bool {
    name.strip_suffix(SEALED).is_some()
}

/// How a backup is taken, and where it is put.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Take {
    /// When, as cron says it; none: only on demand.
    pub schedule: Option<Schedule>,
    /// Where it is taken from, as libpq says it.
    pub connection: String,
    /// The role's password.
    pub password: Option<SecretRef>,
    /// What is taken.
    pub form: TakeForm,
    /// How it is packed.
    pub compress: Packing,
    /// Public keys of age that can read it; none: it is not encrypted.
    pub encrypt: Vec<String>,
    /// Where it is put.
    pub to: Vec<SourceName>,
    /// Longest time that it may take.
    pub timeout: Span,
    /// The folder that it is made in; none: the host's folder for temporary files.
    pub folder: Option<String>,
    /// Mebibytes of that disk that stay free.
    pub keep_free: u64,
    /// Folder of PostgreSQL's programs; none: looked for.
    pub programs: Option<String>,
    /// Whether what the ladder lets go is deleted afterwards.
    pub prune: bool,
}

/// What is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TakeForm {
    /// A base backup of the whole cluster, that WAL can be replayed on.
    #[default]
    Base,
    /// A dump of the connection's database.
    Dump,
}

/// How a backup is packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Packing {
    /// By gzip.
    #[default]
    Gzip,
    /// By zstd; a base backup of PostgreSQL 15 or later, a dump of 16 or later.
    Zstd,
    /// Not at all.
    None,
}

/// What taking a backup came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Taken {
    /// When it was begun: its moment, which stands in its name.
    pub at: Time,
    /// What it is.
    pub form: TakeForm,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// Its size as it is stored.
    pub bytes: u64,
    /// From its beginning until it was everywhere.
    pub took: Span,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// What became of it in each place.
    pub places: BTreeMap<SourceName, Placed>,
}

/// What became of a backup in one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Placed {
    /// It is there.
    Stored {
        /// Under this name.
        copy: CopyId,
    },
    /// It is not.
    Failed {
        /// Why.
        reason: String,
    },
}

impl Taken {
    /// Whether there is one in any place.
    #[must_use]
    pub fn is_anywhere(&self) -> bool {
        let is_stored = |placed: &Placed| matches!(placed, Placed::Stored { .. });
        self.failed.is_none() && self.places.values().any(is_stored)
    }

    /// Why it is not what it should be: there is none, or not everywhere; none where all is well.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        if let Some(reason) = &self.failed {
            return Some(reason.clone());
        }
        let failed = self
            .places
            .iter()
            .filter_map(|(name, placed)| match placed {
                Placed::Stored { .. } => None,
                Placed::Failed { reason } => Some(format!("{name}: {reason}")),
            });
        let failed: Vec<_> = failed.collect();
        (!failed.is_empty()).then(|| format!("it was not put into {}", failed.join("; ")))
    }
}
