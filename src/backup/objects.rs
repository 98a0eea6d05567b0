//! Backups as objects of a store, a folder or a bucket, told by the patterns of their names.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use object_store::buffered::BufWriter;
use object_store::{ObjectMeta, ObjectStoreExt, path::Path as ObjectPath};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::{fs::File, io::AsyncWriteExt, task::spawn_blocking};

use super::{
    age::{self, AgeError},
    pattern::Pattern,
};
use crate::{
    model::{
        backup::{BackupCopy, BackupKind},
        id::CopyId,
        secret::SecretRef,
        taking,
        time::Time,
    },
    port::{
        backup::{BackupError, Backups},
        cause,
        command::{self, Command},
        kind::{MakeError, Problem},
        secret::SharedSecrets,
        store::Store,
    },
};

/// Endings by which an encrypted file is known.
const ENCRYPTED: [&str; 3] = [".age", ".gpg", ".pgp"];

/// What backups are called, and what is to be known of them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Names {
    /// Patterns of full backups below the place: `*` within a name, `%Y %m %d %H %M %S` for the moment (UTC) at which it
    /// was taken, else that of its last change counts; a slash at the end: the whole folder is one backup.
    #[serde(default)]
    pub full: Vec<String>,
    /// Patterns of what changed since, such as archived WAL.
    #[serde(default)]
    pub log: Vec<String>,
}

impl Names {
    /// What is wrong with it.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (list, patterns) in [("full", &self.full), ("log", &self.log)] {
            for (n, text) in patterns.iter().enumerate() {
                if let Err(message) = Pattern::parse(text) {
                    problems.push(Problem::new(format!("{list}[{n}]"), message));
                }
            }
        }
        if self.full.is_empty() && self.log.is_empty() {
            problems.push(
                Problem::new("full", "no pattern says what a backup is called")
                    .hint("for example full: [\"nightly/shop-%Y-%m-%d.dump\"]"),
            );
        }
        problems
    }

    fn patterns(&self) -> Result<Vec<(BackupKind, Pattern)>, MakeError> {
        let full = self.full.iter().map(|p| (BackupKind::Full, p));
        let log = self.log.iter().map(|p| (BackupKind::Log, p));
        full.chain(log)
            .map(|(kind, text)| Ok((kind, Pattern::parse(text).map_err(MakeError)?)))
            .collect()
    }
}

/// What is wrong with a program that decodes, beside an identity that does so too.
pub fn decode_problems(decode: Option<&Vec<String>>, identity: bool) -> Vec<Problem> {
    let Some(argv) = decode else {
        return Vec::new();
    };
    let mut problems = command::argv_problems("decode", argv);
    if identity {
        let message = "either a program decrypts, or an `identity` does";
        problems.push(Problem::new("decode", message));
    }
    problems
}

/// Backups as objects.
pub struct Objects {
    store: Store,
    patterns: Vec<(BackupKind, Pattern)>,
    encrypted: Option<bool>,
    decode: Option<Command>,
    /// What opens those named *.age.
    identity: Option<(SecretRef, SharedSecrets)>,
    /// The folder that must be there, where it is one.
    folder: Option<PathBuf>,
}

/// What is set beside the names.
pub struct Settings<'a> {
    /// Whether the place encrypts.
    pub encrypted: Option<bool>,
    /// The program that decodes.
    pub decode: Option<&'a Vec<String>>,
    /// The identity of age.
    pub identity: Option<SecretRef>,
    /// The folder that must be there.
    pub folder: Option<PathBuf>,
}

impl Objects {
    /// Backups of these names in a store.
    ///
    /// # Errors
    /// Where a pattern is none.
    pub fn new(
        store: Store,
        names: &Names,
        settings: Settings<'_>,
        secrets: &SharedSecrets,
    ) -> Result<Self, MakeError> {
        Ok(Self {
            store,
            patterns: names.patterns()?,
            encrypted: settings.encrypted,
            decode: settings.decode.map(|argv| Command {
                argv: argv.clone(),
                env: BTreeMap::new(),
                secrets: secrets.clone(),
            }),
            identity: settings.identity.map(|at| (at, secrets.clone())),
            folder: settings.folder,
        })
    }

    fn place(
        &self,
        verb: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> BackupError {
        BackupError::Place {
            verb,
            place: self.store.name.clone(),
            source: source.into(),
        }
    }

    /// Its path below the place, and what a pattern finds in it.
    fn known(&self, object: &ObjectMeta) -> Option<(BackupKind, super::pattern::Found)> {
        let path = relative(&object.location, &self.store.prefix)?;
        self.patterns
            .iter()
            .find_map(|(kind, pattern)| Some((*kind, pattern.find(&path)?)))
    }

    fn is_encrypted(&self, path: &str) -> Option<bool> {
        let by_name = ENCRYPTED.iter().any(|e| path.ends_with(e));
        by_name.then_some(true).or(self.encrypted)
    }

    /// An empty list of a folder that is gone, such as one that is not mounted, would be a lie.
    fn is_there(&self) -> Result<(), BackupError> {
        match &self.folder {
            Some(folder) => std::fs::read_dir(folder)
                .map(drop)
                .map_err(|e| self.place("list", e)),
            None => Ok(()),
        }
    }

    async fn objects_of(&self, copy: &CopyId) -> Result<Vec<ObjectMeta>, BackupError> {
        self.is_there()?;
        // A single object is asked for by its name: an archive of WAL is long.
        if !copy.as_str().ends_with('/') {
            let path = format!("{}/{copy}", self.store.prefix);
            let path = ObjectPath::parse(path.trim_start_matches('/'));
            let path = path.map_err(|e| self.place("read", e))?;
            return match self.store.objects.head(&path).await {
                Ok(object) => Ok(vec![object]),
                Err(object_store::Error::NotFound { .. }) => Err(BackupError::Gone {
                    place: self.store.name.clone(),
                    copy: copy.clone(),
                }),
                Err(error) => Err(self.place("read", error)),
            };
        }
        let mut listed = self.store.objects.list(Some(&self.store.prefix));
        let mut own = Vec::new();
        while let Some(object) = listed.next().await {
            let object = object.map_err(|e| self.place("list", e))?;
            if self
                .known(&object)
                .is_some_and(|(_, found)| found.path == copy.as_str())
            {
                own.push(object);
            }
        }
        if own.is_empty() {
            return Err(BackupError::Gone {
                place: self.store.name.clone(),
                copy: copy.clone(),
            });
        }
        Ok(own)
    }

    async fn save(&self, object: &ObjectPath, file: &Path) -> Result<(), BackupError> {
        let read = |e: object_store::Error| self.place("read", e);
        let write = |e: std::io::Error| self.place("read", e);
        let mut bytes = self
            .store
            .objects
            .get(object)
            .await
            .map_err(read)?
            .into_stream();
        if let Some(above) = file.parent() {
            tokio::fs::create_dir_all(above).await.map_err(write)?;
        }
        let mut out = File::create_new(file).await.map_err(write)?;
        while let Some(chunk) = bytes.try_next().await.map_err(read)? {
            out.write_all(&chunk).await.map_err(write)?;
        }
        out.flush().await.map_err(write)
    }
}

#[async_trait]
impl Backups for Objects {
    async fn list(&self) -> Result<Vec<BackupCopy>, BackupError> {
        self.is_there()?;
        let mut copies: BTreeMap<String, BackupCopy> = BTreeMap::new();
        let mut listed = self.store.objects.list(Some(&self.store.prefix));
        while let Some(object) = listed.next().await {
            let object = object.map_err(|e| self.place("list", e))?;
            let Some((kind, found)) = self.known(&object) else {
                continue;
            };
            let changed = Time::from_millis(object.last_modified.timestamp_millis());
            let encrypted = self.is_encrypted(object.location.as_ref());
            let copy = copies
                .entry(found.path.clone())
                .or_insert_with(|| BackupCopy {
                    id: CopyId::new(found.path),
                    kind,
                    at: found.at.unwrap_or(changed),
                    bytes: Some(0),
                    encrypted,
                });
            copy.bytes = copy.bytes.map(|bytes| bytes + object.size);
            if found.at.is_none() {
                copy.at = copy.at.max(changed);
            }
            if encrypted != Some(true) && copy.encrypted == Some(true) {
                copy.encrypted = encrypted;
            }
        }
        let mut copies: Vec<_> = copies.into_values().collect();
        copies.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
        Ok(copies)
    }

    async fn fetch(&self, copy: &CopyId, into: &Path) -> Result<PathBuf, BackupError> {
        let objects = self.objects_of(copy).await?;
        let whole = copy.as_str().trim_end_matches('/');
        let name = whole.rsplit('/').next().unwrap_or(whole);
        let target = into.join(name);
        for object in &objects {
            let path = relative(&object.location, &self.store.prefix).unwrap_or_default();
            let file = match path
                .strip_prefix(whole)
                .map(|rest| rest.trim_start_matches('/'))
            {
                Some("") | None => target.clone(),
                Some(rest) => target.join(rest),
            };
            self.save(&object.location, &file).await?;
        }
        if let Some((at, secrets)) = &self.identity
            && target.is_file()
            && let Some(plain) = name.strip_suffix(".age")
        {
            return open(copy, at, secrets, target.clone(), into.join(plain)).await;
        }
        match &self.decode {
            Some(decode) if target.is_file() => {
                super::program::decode(decode, &target, &into.join("decoded")).await
            }
            Some(_) | None => Ok(target),
        }
    }

    async fn delete(&self, copy: &CopyId) -> Result<(), BackupError> {
        for object in self.objects_of(copy).await? {
            match self.store.objects.delete(&object.location).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(self.place("delete in", error)),
            }
        }
        Ok(())
    }

    async fn put(&self, at: Time, file: &Path, sealed: bool) -> Result<CopyId, BackupError> {
        self.is_there()?;
        let full = self.patterns.iter().filter(|(k, _)| *k == BackupKind::Full);
        let mut names = full.filter_map(|(_, pattern)| pattern.name(at));
        let name = names.find(|name| taking::is_sealed(name) == sealed);
        let name = name.ok_or(BackupError::Unable(
            "no pattern of full backups says what one that is taken here is called",
        ))?;
        let path = format!("{}/{name}", self.store.prefix);
        let path = ObjectPath::parse(path.trim_start_matches('/'));
        let path = path.map_err(|e| self.place("write to", e))?;
        match self.store.objects.head(&path).await {
            Err(object_store::Error::NotFound { .. }) => {}
            Err(e) => return Err(self.place("write to", e)),
            Ok(_) => {
                return Err(BackupError::Unable(
                    "there is a backup of this moment already",
                ));
            }
        }
        let write = |e: std::io::Error| self.place("write to", e);
        let mut from = File::open(file).await.map_err(write)?;
        let mut to = BufWriter::new(self.store.objects.clone(), path);
        match tokio::io::copy(&mut from, &mut to).await {
            Ok(_) => to.shutdown().await.map_err(write)?,
            Err(e) => {
                drop(to.abort().await);
                return Err(write(e));
            }
        }
        Ok(CopyId::new(name))
    }

    fn deletes(&self) -> bool {
        true
    }
}

/// Opens what is encrypted by age.
async fn open(
    copy: &CopyId,
    at: &SecretRef,
    secrets: &SharedSecrets,
    from: PathBuf,
    to: PathBuf,
) -> Result<PathBuf, BackupError> {
    let failed = |reason: String| BackupError::Program {
        program: "age".to_owned(),
        reason,
    };
    let identity = secrets.read(at).map_err(|e| failed(cause::in_full(&e)))?;
    let plain = to.clone();
    let done = spawn_blocking(move || age::decrypt(&from, &to, &identity)).await;
    match done.map_err(|e| failed(cause::in_full(&e)))? {
        Ok(()) => Ok(plain),
        Err(AgeError::Damaged(reason)) => Err(BackupError::Damaged {
            copy: copy.clone(),
            reason: format!("it cannot be decrypted to its end: {reason}"),
        }),
        Err(
            e @ (AgeError::Recipient(_)
            | AgeError::Identity
            | AgeError::OtherKeys
            | AgeError::File(_)),
        ) => Err(failed(format!("cannot open it: {}", cause::in_full(&e)))),
    }
}

/// A path below the place; none where it leads out of it.
fn relative(object: &ObjectPath, prefix: &ObjectPath) -> Option<String> {
    let parts: Vec<_> = object
        .prefix_match(prefix)?
        .map(|part| part.as_ref().to_owned())
        .collect();
    (!parts.iter().any(|p| p == "..")).then(|| parts.join("/"))
}
