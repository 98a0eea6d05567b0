//! `publish/s3`: the page in an S3-compatible bucket.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::{Attribute, Attributes, ObjectStore as _, PutOptions, PutPayload, path::Path};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        secret::SecretRef,
    },
    port::{
        cause,
        kind::{self, Kind, Make, MakeError, Problem, Wiring},
        secret::SharedSecrets,
        store::{Store, StoreError, StoreWith},
        target::{PageFile, SharedTarget, Target, WriteError},
    },
};

/// `publish/s3`.
pub const KIND: Kind = Kind::new::<S3With>(
    "publish/s3",
    "writes the status page into an S3-compatible bucket",
    "url: s3://status-example-com/shop
region: eu-west-1
accessKeyId: { env: STATUS_ACCESS_KEY_ID }
secretAccessKey: { env: STATUS_SECRET_ACCESS_KEY }
",
    Make::Target(make),
);

/// Files under way at once, `index.html` apart.
const TOGETHER: usize = 4;

/// The object that `check` writes; no reader asks for it.
const CHECK_OBJECT: &str = ".failover-check";

/// Settings of `publish/s3`.
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
    /// The access key's id; left out, the machine's own role is used. It needs `s3:PutObject` below the prefix and
    /// nothing else.
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
    /// Seconds that caches may keep a file without asking, at most 300; default 10.
    #[serde(default = "default_max_age")]
    pub max_age: u32,
}

fn default_max_age() -> u32 {
    10
}

impl S3With {
    /// The part that says where and how.
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
}

impl kind::With for S3With {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = self.store().bucket_problems("publish/folder");
        if self.max_age > 300 {
            problems.push(Problem::new(
                "maxAge",
                "readers would see an old page for more than five minutes: expected at most 300",
            ));
        }
        problems
    }

    fn hosts(&self) -> Vec<String> {
        self.store().hosts()
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedTarget, MakeError> {
    let with: S3With = kind::read(with)?;
    Bucket::open(&with, &wiring.secrets)
        .map(|bucket| Arc::new(bucket) as SharedTarget)
        .map_err(|e| MakeError(cause::without_repeats(&e)))
}

/// A bucket that the page is written into.
pub struct Bucket {
    store: Store,
    cache: String,
    /// SHA-256 of what this process put where: the same is not put again.
    put: Mutex<BTreeMap<String, [u8; 32]>>,
}

impl Bucket {
    /// Opens it; nothing is asked of it yet.
    ///
    /// # Errors
    /// Where the settings cannot be used.
    pub fn open(with: &S3With, secrets: &SharedSecrets) -> Result<Self, StoreError> {
        Ok(Self {
            store: with.store().open(secrets)?,
            cache: format!("public, max-age={}", with.max_age),
            put: Mutex::new(BTreeMap::new()),
        })
    }

    async fn put(&self, file: &PageFile) -> Result<(), object_store::Error> {
        let mut attributes = Attributes::new();
        attributes.insert(Attribute::ContentType, file.content_type.into());
        attributes.insert(Attribute::CacheControl, self.cache.clone().into());
        let place = format!("{}/{}", self.store.prefix, file.path);
        let place = Path::parse(place.trim_start_matches('/'))?;
        let options = PutOptions {
            attributes,
            ..PutOptions::default()
        };
        self.store
            .objects
            .put_opts(&place, PutPayload::from(file.bytes.clone()), options)
            .await
            .map(drop)
    }
}

#[async_trait]
impl Target for Bucket {
    async fn write(&self, files: &[PageFile]) -> Result<(), WriteError> {
        let mut known = self.put.lock().await;
        let changed: Vec<(PageFile, [u8; 32])> = files
            .iter()
            .map(|f| (f, Sha256::digest(&f.bytes).into()))
            .filter(|(f, digest)| known.get(&f.path) != Some(digest))
            .map(|(f, digest)| (f.clone(), digest))
            .collect();
        let (page, rest): (Vec<_>, Vec<_>) = changed
            .into_iter()
            .partition(|(f, _)| f.path == "index.html");
        for (files, together) in [(rest, TOGETHER), (page, 1)] {
            let mut puts =
                stream::iter(files)
                    .map(|(file, digest)| async move {
                        self.put(&file).await.map(|()| (file.path, digest))
                    })
                    .buffer_unordered(together);
            while let Some((path, digest)) = puts.try_next().await.map_err(|source| WriteError {
                target: self.store.name.clone(),
                source: Box::new(source),
            })? {
                known.insert(path, digest);
            }
        }
        Ok(())
    }

    async fn check(&self) -> Vec<CheckItem> {
        let file = PageFile {
            path: CHECK_OBJECT.to_owned(),
            content_type: "text/plain",
            bytes: b"written by failover check\n".to_vec(),
        };
        let item = match self.put(&file).await {
            Ok(()) => CheckItem::ok("publish/s3", format!("{} can be written", self.store.name)),
            Err(error) => CheckItem::bad(
                "publish/s3",
                CheckStatus::Fail,
                format!(
                    "{} cannot be written: {}",
                    self.store.name,
                    cause::without_repeats(&error)
                ),
                "let the key put objects below the prefix (s3:PutObject), and check endpoint and region",
            ),
        };
        vec![item]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::kind::With as _;

    fn problems(json: &str) -> Vec<String> {
        let with: S3With = serde_json::from_str(json).unwrap();
        with.problems().into_iter().map(|p| p.path).collect()
    }

    #[test]
    fn settings_are_checked() {
        assert!(problems(r#"{"url": "s3://status/shop"}"#).is_empty());
        assert_eq!(problems(r#"{"url": "file:///srv/status"}"#), ["url"]);
        assert_eq!(
            problems(r#"{"url": "s3://status", "endpoint": "http://x", "maxAge": 3600}"#),
            ["endpoint", "maxAge"]
        );
    }
}
