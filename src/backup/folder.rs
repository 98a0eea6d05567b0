//! `backup/folder`: backups in a folder of this host, or one that is mounted there.

use std::{path::PathBuf, sync::Arc};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::objects::{Names, Objects, Settings, decode_problems};
use crate::{
    model::secret::SecretRef,
    port::{
        backup::SharedBackups,
        cause,
        kind::{self, Kind, Make, MakeError, Problem, Wiring},
        store::StoreWith,
    },
};

/// `backup/folder`.
pub const KIND: Kind = Kind::new::<FolderWith>(
    "backup/folder",
    "backups in a folder, told by patterns of their names",
    "folder: /srv/backup/shop
full: [\"nightly/shop-%Y-%m-%dT%H%M.dump\"]
log: [\"wal/*\"]
",
    Make::Backup(make),
)
.fetching();

/// Settings of `backup/folder`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FolderWith {
    /// The folder.
    pub folder: String,
    /// Patterns of full backups below it: `*` within a name, `%Y %m %d %H %M %S` for the moment (UTC) at which it was
    /// taken, else that of its last change counts; a slash at the end: the whole folder is one backup.
    #[serde(default)]
    pub full: Vec<String>,
    /// Patterns of what changed since, such as archived WAL.
    #[serde(default)]
    pub log: Vec<String>,
    /// Whether its disk encrypts; files named *.age, *.gpg and *.pgp are known to be encrypted.
    #[serde(default)]
    pub encrypted: Option<bool>,
    /// Program and arguments that decrypt a backup from standard input to standard output before it is restored. What is
    /// packed by gzip or zstd needs none.
    #[serde(default)]
    pub decode: Option<Vec<String>>,
    /// The identity of age (`AGE-SECRET-KEY-1…`, or the file that `age-keygen` writes) that opens what is named *.age
    /// before it is restored.
    #[serde(default)]
    pub identity: Option<SecretRef>,
}

impl FolderWith {
    fn names(&self) -> Names {
        Names {
            full: self.full.clone(),
            log: self.log.clone(),
        }
    }
}

impl kind::With for FolderWith {
    fn program(&self) -> Option<&'static str> {
        self.decode.is_some().then_some("decode")
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = self.names().problems();
        if !self.folder.starts_with('/') {
            problems.push(Problem::new("folder", "expected a path from /"));
        }
        problems.extend(decode_problems(
            self.decode.as_ref(),
            self.identity.is_some(),
        ));
        problems
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedBackups, MakeError> {
    let with: FolderWith = kind::read(with)?;
    let folder = PathBuf::from(&with.folder);
    let settings = Settings {
        encrypted: with.encrypted,
        decode: with.decode.as_ref(),
        identity: with.identity.clone(),
        folder: Some(folder.clone()),
    };
    let url = Url::from_file_path(&folder)
        .map_err(|()| MakeError(format!("{} is no path from /", with.folder)))?;
    let store = StoreWith {
        url: url.into(),
        endpoint: None,
        region: None,
        access_key_id: None,
        secret_access_key: None,
        allow_http: false,
        virtual_host: false,
    };
    let store = store
        .open(&wiring.secrets)
        .map_err(|e| MakeError(cause::without_repeats(&e)))?;
    let objects = Objects::new(store, &with.names(), settings, &wiring.secrets)?;
    Ok(Arc::new(objects))
}
