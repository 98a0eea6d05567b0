//! `backup/pgbackrest`: what pgBackRest says of a stanza (`pgbackrest info --output=json`).

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

/// `backup/pgbackrest`.
pub const KIND: Kind = Kind::new::<PgBackRestWith>(
    "backup/pgbackrest",
    "backups of a stanza, as pgBackRest lists them; full, differential and incremental ones count alike",
    "stanza: shop
repo: 1
",
    Make::Backup(make),
);

/// No valid backups: what a stanza is before its first one.
const NONE_YET: i64 = 2;

/// Settings of `backup/pgbackrest`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PgBackRestWith {
    /// The stanza.
    pub stanza: String,
    /// Only this repository, by its number. A repository elsewhere is a source of its own.
    #[serde(default)]
    pub repo: Option<u32>,
    /// The program, with arguments before its command; default `[pgbackrest]`.
    #[serde(default = "program_name")]
    pub program: Vec<String>,
    /// Secrets for its environment.
    #[serde(default)]
    pub env: BTreeMap<String, SecretRef>,
}

fn program_name() -> Vec<String> {
    vec!["pgbackrest".to_owned()]
}

impl kind::With for PgBackRestWith {
    fn program(&self) -> Option<&'static str> {
        Some("program")
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = argv_problems("program", &self.program);
        problems.extend(env_problems(&self.env));
        if self.stanza.is_empty() || self.stanza.starts_with('-') {
            problems.push(Problem::new("stanza", "expected the name of a stanza"));
        }
        problems
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedBackups, MakeError> {
    let with: PgBackRestWith = kind::read(with)?;
    let mut argv = with.program;
    argv.extend([
        "info".into(),
        "--output=json".into(),
        format!("--stanza={}", with.stanza),
    ]);
    argv.extend(with.repo.map(|repo| format!("--repo={repo}")));
    Ok(Arc::new(PgBackRest {
        info: Command {
            argv,
            env: with.env,
            secrets: wiring.secrets.clone(),
        },
        stanza: with.stanza,
        repo: with.repo,
    }))
}

struct PgBackRest {
    info: Command,
    stanza: String,
    repo: Option<u32>,
}

#[async_trait]
impl Backups for PgBackRest {
    async fn list(&self) -> Result<Vec<BackupCopy>, BackupError> {
        let said = program::listing(&self.info).await?;
        read(&said, &self.stanza, self.repo).map_err(|reason| BackupError::Program {
            program: "pgbackrest".to_owned(),
            reason,
        })
    }

    async fn fetch(&self, _: &CopyId, _: &Path) -> Result<PathBuf, BackupError> {
        Err(BackupError::Unable(
            "backup/pgbackrest only lists: name pgBackRest's restore in a backup/command to verify",
        ))
    }

    async fn delete(&self, _: &CopyId) -> Result<(), BackupError> {
        Err(BackupError::Unable("pgBackRest expires its backups itself"))
    }
}

#[derive(Deserialize)]
struct Stanza {
    name: String,
    status: Status,
    #[serde(default)]
    cipher: Option<String>,
    #[serde(default)]
    repo: Vec<Repo>,
    #[serde(default)]
    backup: Vec<Backup>,
}

#[derive(Deserialize)]
struct Status {
    code: i64,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Repo {
    key: u32,
    #[serde(default)]
    cipher: Option<String>,
    status: Status,
}

#[derive(Deserialize)]
struct Backup {
    label: String,
    timestamp: Timestamp,
    #[serde(default)]
    database: Option<Database>,
    #[serde(default)]
    error: Option<bool>,
    #[serde(default)]
    info: Option<Info>,
}

#[derive(Deserialize)]
struct Timestamp {
    stop: i64,
}

#[derive(Deserialize)]
struct Database {
    #[serde(default, rename = "repo-key")]
    repo: Option<u32>,
}

#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    repository: Option<Size>,
}

#[derive(Deserialize)]
struct Size {
    #[serde(default)]
    delta: Option<u64>,
}

/// Reads what `info --output=json` prints. A backup in which pgBackRest found broken pages does not count.
fn read(said: &[u8], stanza: &str, repo: Option<u32>) -> Result<Vec<BackupCopy>, String> {
    let stanzas: Vec<Stanza> = serde_json::from_slice(said)
        .map_err(|e| format!("said what its documented JSON does not hold: {e}"))?;
    let found = stanzas
        .into_iter()
        .find(|s| s.name == stanza)
        .ok_or_else(|| format!("knows no stanza {stanza}"))?;
    let statuses = found
        .repo
        .iter()
        .filter(|r| repo.is_none_or(|key| r.key == key))
        .map(|r| &r.status);
    let bad = statuses
        .chain(found.repo.is_empty().then_some(&found.status))
        .find(|s| !matches!(s.code, 0 | NONE_YET));
    if let Some(bad) = bad {
        return Err(format!(
            "says of {stanza}: {} (code {})",
            bad.message, bad.code
        ));
    }
    let cipher = |key: Option<u32>| {
        let of_repo = found.repo.iter().find(|r| Some(r.key) == key);
        of_repo
            .and_then(|r| r.cipher.as_deref())
            .or(found.cipher.as_deref())
            .filter(|c| *c != "mixed")
            .map(|c| c != "none")
    };
    let mut copies: Vec<_> = found
        .backup
        .iter()
        .filter(|b| b.error != Some(true))
        .filter_map(|b| {
            let key = b.database.as_ref().and_then(|d| d.repo);
            (repo.is_none() || key.is_none() || key == repo).then(|| BackupCopy {
                id: CopyId::new(match (repo, key) {
                    (None, Some(key)) => format!("repo{key}:{}", b.label),
                    (Some(_), _) | (None, None) => b.label.clone(),
                }),
                kind: BackupKind::Full,
                at: Time::from_millis(b.timestamp.stop.saturating_mul(1000)),
                bytes: b.info.as_ref().and_then(|i| i.repository.as_ref()?.delta),
                encrypted: cipher(key.or(repo)),
            })
        })
        .collect();
    copies.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
    Ok(copies)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After the user guide of pgBackRest 2.x, `info --output=json`.
    const INFO: &str = r#"[{"archive":[{"database":{"id":1,"repo-key":1},"id":"15-1",
      "max":"000000010000000000000007","min":"000000010000000000000001"}],
      "backup":[
        {"archive":{"start":"000000010000000000000002","stop":"000000010000000000000002"},
         "backrest":{"format":5,"version":"2.50"},"database":{"id":1,"repo-key":1},"error":false,
         "info":{"delta":23153344,"repository":{"delta":3050321,"size":3050321},"size":23153344},
         "label":"20261101-020000F","lsn":{"start":"0/2000028","stop":"0/2000138"},"prior":null,"reference":null,
         "timestamp":{"start":1793498400,"stop":1793498700},"type":"full"},
        {"backrest":{"format":5,"version":"2.50"},"database":{"id":1,"repo-key":2},"error":false,
         "info":{"delta":8428,"repository":{"delta":436},"size":23153344},
         "label":"20261101-020000F_20261102-020000I","prior":"20261101-020000F","reference":["20261101-020000F"],
         "timestamp":{"start":1793584800,"stop":1793584810},"type":"incr"},
        {"database":{"id":1,"repo-key":1},"error":true,"label":"20261103-020000F",
         "timestamp":{"start":1793671200,"stop":1793671300},"type":"full"}],
      "cipher":"mixed","db":[{"id":1,"repo-key":1,"system-id":7123456789012345678,"version":"15"}],"name":"shop",
      "repo":[{"cipher":"aes-256-cbc","key":1,"status":{"code":0,"message":"ok"}},
              {"cipher":"none","key":2,"status":{"code":0,"message":"ok"}}],
      "status":{"code":0,"lock":{"backup":{"held":false}},"message":"ok"}}]"#;

    #[test]
    fn each_repository_has_its_own_backups() {
        let all = read(INFO.as_bytes(), "shop", None).unwrap();
        let ids: Vec<_> = all.iter().map(|c| c.id.as_str()).collect();
        assert_eq!(
            ids,
            [
                "repo1:20261101-020000F",
                "repo2:20261101-020000F_20261102-020000I"
            ]
        );
        assert_eq!(all[0].at, Time::parse("2026-11-01T02:05:00Z").unwrap());
        assert_eq!(
            (all[0].bytes, all[0].encrypted),
            (Some(3_050_321), Some(true))
        );
        let second = read(INFO.as_bytes(), "shop", Some(2)).unwrap();
        assert_eq!(second.len(), 1);
        assert_eq!(second[0].encrypted, Some(false));
    }

    #[test]
    fn what_it_cannot_tell_is_no_empty_list() {
        assert!(
            read(INFO.as_bytes(), "other", None)
                .unwrap_err()
                .contains("no stanza")
        );
        assert!(read(b"{}", "shop", None).is_err());
        let broken = r#"[{"name":"shop","status":{"code":99,"message":"other"},"backup":[]}]"#;
        assert!(
            read(broken.as_bytes(), "shop", None)
                .unwrap_err()
                .contains("code 99")
        );
        let fresh =
            r#"[{"name":"shop","status":{"code":2,"message":"no valid backups"},"backup":[]}]"#;
        assert!(read(fresh.as_bytes(), "shop", None).unwrap().is_empty());
    }
}
