//! `backup/restic`: the snapshots of a restic repository (`restic snapshots --json`).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
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
        command::{Command, argv_problems, env_problems},
        kind::{self, Kind, Make, MakeError, Problem, Wiring},
    },
};

/// `backup/restic`.
pub const KIND: Kind = Kind::new::<ResticWith>(
    "backup/restic",
    "snapshots of a restic repository, which are encrypted always",
    "repository: s3:https://s3.example.net/backup
tags: [shop]
env:
  RESTIC_PASSWORD: { file: /etc/failover/restic-password }
",
    Make::Backup(make),
);

/// Settings of `backup/restic`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResticWith {
    /// The repository, as restic takes it; it must hold no password.
    pub repository: String,
    /// Only snapshots that have all of these tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Only snapshots of this host.
    #[serde(default)]
    pub host: Option<String>,
    /// The program, with arguments before its command; default `[restic]`.
    #[serde(default = "program_name")]
    pub program: Vec<String>,
    /// Secrets for its environment, such as `RESTIC_PASSWORD`.
    #[serde(default)]
    pub env: BTreeMap<String, SecretRef>,
}

fn program_name() -> Vec<String> {
    vec!["restic".to_owned()]
}

impl kind::With for ResticWith {
    fn program(&self) -> Option<&'static str> {
        Some("program")
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = argv_problems("program", &self.program);
        problems.extend(env_problems(&self.env));
        if self.repository.is_empty() {
            problems.push(Problem::new("repository", "expected a repository"));
        }
        problems
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedBackups, MakeError> {
    let with: ResticWith = kind::read(with)?;
    let mut argv = with.program;
    argv.extend(["--repo".into(), with.repository]);
    argv.extend(["snapshots", "--json", "--no-lock"].map(str::to_owned));
    if !with.tags.is_empty() {
        argv.extend(["--tag".into(), with.tags.join(",")]);
    }
    argv.extend(
        with.host
            .into_iter()
            .flat_map(|host| ["--host".into(), host]),
    );
    Ok(Arc::new(Restic {
        snapshots: Command {
            argv,
            env: with.env,
            secrets: wiring.secrets.clone(),
        },
    }))
}

struct Restic {
    snapshots: Command,
}

#[async_trait]
impl Backups for Restic {
    async fn list(&self) -> Result<Vec<BackupCopy>, BackupError> {
        let said = program::listing(&self.snapshots).await?;
        read(&said).map_err(|reason| BackupError::Program {
            program: "restic".to_owned(),
            reason,
        })
    }

    async fn fetch(&self, _: &CopyId, _: &Path) -> Result<PathBuf, BackupError> {
        Err(BackupError::Unable(
            "backup/restic only lists: name `restic restore` in a backup/command to verify",
        ))
    }

    async fn delete(&self, _: &CopyId) -> Result<(), BackupError> {
        Err(BackupError::Unable("restic forgets its snapshots itself"))
    }
}

#[derive(Deserialize)]
struct Snapshot {
    time: Time,
    id: String,
    #[serde(default)]
    summary: Option<Summary>,
}

#[derive(Deserialize)]
struct Summary {
    #[serde(default)]
    total_bytes_processed: Option<u64>,
}

/// Reads what `snapshots --json` prints.
fn read(said: &[u8]) -> Result<Vec<BackupCopy>, String> {
    // An empty repository says null.
    let snapshots: Option<Vec<Snapshot>> = serde_json::from_slice(said)
        .map_err(|e| format!("said what its documented JSON does not hold: {e}"))?;
    let mut copies: Vec<_> = snapshots
        .unwrap_or_default()
        .into_iter()
        .map(|s| BackupCopy {
            id: CopyId::new(s.id),
            kind: BackupKind::Full,
            at: s.time,
            bytes: s.summary.and_then(|s| s.total_bytes_processed),
            encrypted: Some(true),
        })
        .collect();
    copies.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
    Ok(copies)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After restic's manual, "Scripting", `snapshots --json`.
    const SNAPSHOTS: &str = r#"[
      {"time":"2026-11-02T03:00:01.123456789+02:00","parent":"aa","tree":"bb","paths":["/srv/backup"],"hostname":"db1",
       "username":"root","uid":0,"gid":0,"tags":["shop"],"program_version":"restic 0.17.3",
       "summary":{"backup_start":"2026-11-02T03:00:01+02:00","backup_end":"2026-11-02T03:01:00+02:00",
                  "total_files_processed":3,"total_bytes_processed":104857600},
       "id":"79766175ec2c0000000000000000000000000000000000000000000000000000","short_id":"79766175"},
      {"time":"2026-11-01T01:00:00Z","tree":"cc","paths":["/srv/backup"],"hostname":"db1","username":"root",
       "id":"bdbd3439ec2c0000000000000000000000000000000000000000000000000000","short_id":"bdbd3439"}]"#;

    #[test]
    fn snapshots_are_encrypted_full_copies() {
        let copies = read(SNAPSHOTS.as_bytes()).unwrap();
        assert_eq!(copies.len(), 2);
        assert_eq!(copies[1].at.date(), "2026-11-02 01:00 UTC");
        assert_eq!(copies[1].bytes, Some(104_857_600));
        assert_eq!((copies[0].bytes, copies[0].encrypted), (None, Some(true)));
    }

    #[test]
    fn an_empty_repository_is_empty_and_nonsense_is_not() {
        assert!(read(b"null").unwrap().is_empty());
        assert!(read(b"[]").unwrap().is_empty());
        assert!(read(b"Fatal: wrong password").is_err());
        assert!(read(b"").is_err());
    }
}
