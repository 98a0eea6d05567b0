//! `backup/s3`: backups in an S3-compatible bucket.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

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

/// `backup/s3`.
pub const KIND: Kind = Kind::new::<S3With>(
    "backup/s3",
    "backups in an S3-compatible bucket, told by patterns of their names",
    "url: s3://backup-example-com/shop
region: eu-west-1
accessKeyId: { env: BACKUP_ACCESS_KEY_ID }
secretAccessKey: { env: BACKUP_SECRET_ACCESS_KEY }
full: [\"monthly/shop-%Y-%m-%d.dump.age\"]
decode: [age, --decrypt, --identity, /etc/failover/backup.key]
",
    Make::Backup(make),
)
.fetching();

/// Settings of `backup/s3`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct S3With {
    /// `s3://bucket/prefix`.
    pub url: String,
    /// Address of an S3-compatible service, such as `https://minio.example.net:9000`; Amazon's where it is left out.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Region of the bucket; `us-east-1` where it is left out, which most S3-compatible services take.
    #[serde(default)]
    pub region: Option<String>,
    /// The access key's id; left out, the machine's own role is used. It needs `s3:ListBucket` and `s3:GetObject`, and
    /// `s3:DeleteObject` for `failover backups prune` alone.
    #[serde(default)]
    pub access_key_id: Option<SecretRef>,
    /// The access key's secret.
    #[serde(default)]
    pub secret_access_key: Option<SecretRef>,
    /// Whether an `http://` endpoint may be used, which anybody on the way can read.
    #[serde(default)]
    pub allow_http: bool,
    /// Whether the bucket stands in the host's name instead of the path. Amazon takes both.
    #[serde(default)]
    pub virtual_host: bool,
    /// Patterns of full backups below the prefix: `*` within a name, `%Y %m %d %H %M %S` for the moment (UTC) at which it
    /// was taken, else that of its last change counts; a slash at the end: the whole folder is one backup.
    #[serde(default)]
    pub full: Vec<String>,
    /// Patterns of what changed since, such as archived WAL.
    #[serde(default)]
    pub log: Vec<String>,
    /// Whether the bucket encrypts; objects named *.age, *.gpg and *.pgp are known to be encrypted.
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

impl S3With {
    fn store(&self) -> StoreWith {
        StoreWith {
            url: self.url.clone(),
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            access_key_id: self.access_key_id.clone(),
            secret_access_key: self.secret_access_key.clone(),
            allow_http: self.allow_http,
            virtual_host: self.virtual_host,
        }
    }

    fn names(&self) -> Names {
        Names {
            full: self.full.clone(),
            log: self.log.clone(),
        }
    }
}

impl kind::With for S3With {
    fn program(&self) -> Option<&'static str> {
        self.decode.is_some().then_some("decode")
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = self.store().bucket_problems("backup/folder");
        problems.extend(self.names().problems());
        problems.extend(decode_problems(
            self.decode.as_ref(),
            self.identity.is_some(),
        ));
        problems
    }

    fn hosts(&self) -> Vec<String> {
        self.store().hosts()
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedBackups, MakeError> {
    let with: S3With = kind::read(with)?;
    let store = with
        .store()
        .open(&wiring.secrets)
        .map_err(|e| MakeError(cause::without_repeats(&e)))?;
    let settings = Settings {
        encrypted: with.encrypted,
        decode: with.decode.as_ref(),
        identity: with.identity.clone(),
        folder: None,
    };
    let objects = Objects::new(store, &with.names(), settings, &wiring.secrets)?;
    Ok(Arc::new(objects))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::kind::With as _;

    #[test]
    fn settings_are_checked() {
        let problems = |json: &str| -> Vec<String> {
            let with: S3With = serde_json::from_str(json).unwrap();
            with.problems().into_iter().map(|p| p.path).collect()
        };
        assert!(problems(r#"{"url": "s3://b/shop", "full": ["*.dump"]}"#).is_empty());
        assert_eq!(
            problems(r#"{"url": "file:///srv", "log": ["a//b"], "decode": []}"#),
            ["url", "log[0]", "decode"]
        );
        assert_eq!(problems(r#"{"url": "s3://b"}"#), ["full"]);
    }
}
