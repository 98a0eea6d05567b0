//! `backup/command`: programs of the user's own list backups and fetch one.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::program;
use crate::{
    model::{
        backup::{BackupCopy, BackupKind},
        id::CopyId,
        secret::SecretRef,
        time::Time,
    },
    port::{
        backup::{BackupError, Backups, SharedBackups},
        command::{Command, Context, Ending, argv_problems, env_problems},
        kind::{self, Kind, Make, MakeError, Problem, Wiring},
    },
};

/// `backup/command`.
pub const KIND: Kind = Kind::new::<CommandWith>(
    "backup/command",
    "backups that a program of yours lists as JSON, and fetches",
    "list: [/usr/local/bin/backups, list]
fetch: [/usr/local/bin/backups, fetch]
env:
  BACKUP_PASSWORD: { file: /etc/failover/backup-password }
",
    Make::Backup(make),
)
.fetching();

/// Whoever wants a copy sets the time for it.
const FETCH: Duration = Duration::from_hours(48);

/// Settings of `backup/command`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CommandWith {
    /// Prints a JSON list of `{"id": …, "at": RFC 3339, "kind": "full" | "log", "bytes": …, "encrypted": true | false}`;
    /// `kind`, `bytes` and `encrypted` may be left out.
    pub list: Vec<String>,
    /// Gets an id and an empty folder as its last two arguments, and puts that backup there.
    #[serde(default)]
    pub fetch: Option<Vec<String>>,
    /// Secrets for the environment of both.
    #[serde(default)]
    pub env: BTreeMap<String, SecretRef>,
}

impl kind::With for CommandWith {
    fn program(&self) -> Option<&'static str> {
        Some("list")
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = argv_problems("list", &self.list);
        if let Some(fetch) = &self.fetch {
            problems.extend(argv_problems("fetch", fetch));
        }
        problems.extend(env_problems(&self.env));
        problems
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedBackups, MakeError> {
    let with: CommandWith = kind::read(with)?;
    let command = |argv| Command {
        argv,
        env: with.env.clone(),
        secrets: wiring.secrets.clone(),
    };
    Ok(Arc::new(Programs {
        list: command(with.list),
        fetch: with.fetch.map(command),
    }))
}

struct Programs {
    list: Command,
    fetch: Option<Command>,
}

/// A backup as a program prints it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    id: String,
    at: Time,
    #[serde(default = "full")]
    kind: BackupKind,
    #[serde(default)]
    bytes: Option<u64>,
    #[serde(default)]
    encrypted: Option<bool>,
}

fn full() -> BackupKind {
    BackupKind::Full
}

fn read(said: &[u8]) -> Result<Vec<BackupCopy>, String> {
    let told: Vec<Told> = serde_json::from_slice(said)
        .map_err(|e| format!("did not print a list of backups as JSON: {e}"))?;
    let mut copies: Vec<_> = told
        .into_iter()
        .map(|t| BackupCopy {
            id: CopyId::new(t.id),
            kind: t.kind,
            at: t.at,
            bytes: t.bytes,
            encrypted: t.encrypted,
        })
        .collect();
    copies.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
    Ok(copies)
}

#[async_trait]
impl Backups for Programs {
    async fn list(&self) -> Result<Vec<BackupCopy>, BackupError> {
        let said = program::listing(&self.list).await?;
        read(&said).map_err(|reason| BackupError::Program {
            program: self.list.argv[0].clone(),
            reason,
        })
    }

    async fn fetch(&self, copy: &CopyId, into: &Path) -> Result<PathBuf, BackupError> {
        let Some(fetch) = &self.fetch else {
            return Err(BackupError::Unable("its `fetch` names no program"));
        };
        let mut fetch = fetch.clone();
        fetch
            .argv
            .extend([copy.to_string(), into.display().to_string()]);
        let run = fetch.run(&Context::default(), FETCH).await;
        if run.ending != Ending::Exited(0) {
            return Err(program::failed(&fetch, &run));
        }
        program::only_entry(into).map_err(|source| BackupError::Place {
            verb: "read",
            place: into.display().to_string(),
            source: source.into(),
        })
    }

    async fn delete(&self, _: &CopyId) -> Result<(), BackupError> {
        Err(BackupError::Unable("backup/command deletes nothing"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_and_anything_else_is_refused() {
        let copies = read(
            br#"[{"id": "b", "at": "2026-11-02T00:00:00Z"},
                 {"id": "a", "at": "2026-11-01T00:00:00+01:00", "kind": "log", "bytes": 5, "encrypted": false}]"#,
        )
        .unwrap();
        assert_eq!(copies[0].id.as_str(), "a");
        assert_eq!(
            (copies[0].kind, copies[0].encrypted),
            (BackupKind::Log, Some(false))
        );
        assert_eq!(
            (copies[1].kind, copies[1].encrypted),
            (BackupKind::Full, None)
        );
        for wrong in [
            "",
            "{}",
            r#"[{"id": "a"}]"#,
            r#"[{"id": "a", "at": "2026-11-01T00:00:00Z", "age": 1}]"#,
        ] {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
