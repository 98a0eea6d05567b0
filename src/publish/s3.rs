//! `publish/s3`: the page in an S3-compatible bucket.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::{
    Attribute, Attributes, BackoffConfig, ClientOptions, CredentialProvider, ObjectStore as _,
    PutOptions, PutPayload, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder, AwsCredential},
    path::Path,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use url::Url;

use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        secret::SecretRef,
    },
    port::{
        kind::{self, Kind, Make, MakeError, Problem, Wiring},
        secret::SharedSecrets,
        target::{PageFile, SharedTarget, Target, WriteError},
    },
};

/// `publish/s3`.
pub const KIND: Kind = Kind::new::<S3With>(
    "publish/s3",
    "writes the status page into an S3-compatible bucket",
    "bucket: status-example-com
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
    /// The bucket.
    pub bucket: String,
    /// Folder within the bucket; none: its root.
    #[serde(default)]
    pub prefix: String,
    /// The region; default `us-east-1`, which most servers other than Amazon's take.
    #[serde(default = "default_region")]
    pub region: String,
    /// URL of the server, where it is not Amazon's.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Id of the access key. It needs `s3:PutObject` below the prefix and nothing else.
    pub access_key_id: SecretRef,
    /// The access key's secret.
    pub secret_access_key: SecretRef,
    /// Whether `http://` may be used, for a server in one's own network.
    #[serde(default)]
    pub allow_http: bool,
    /// Whether the bucket stands in the path (`https://server/bucket/…`) instead of the host name; default: yes with
    /// an endpoint, no with Amazon's.
    #[serde(default)]
    pub path_style: Option<bool>,
    /// Seconds that caches may keep a file without asking; default 10.
    #[serde(default = "default_cache")]
    pub max_age: u32,
}

fn default_region() -> String {
    "us-east-1".to_owned()
}

fn default_cache() -> u32 {
    10
}

impl kind::With for S3With {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.bucket.is_empty() || self.bucket.contains('/') {
            problems.push(
                Problem::new("bucket", "expected a bucket's name, without slashes")
                    .hint("a folder within the bucket goes into prefix"),
            );
        }
        if Path::parse(self.prefix.trim_matches('/')).is_err() {
            problems.push(Problem::new(
                "prefix",
                "expected a path such as status/shop",
            ));
        }
        if let Some(endpoint) = &self.endpoint {
            match Url::parse(endpoint) {
                Ok(url) if url.scheme() == "https" && url.has_host() => {}
                Ok(url) if url.scheme() == "http" && url.has_host() => {
                    if !self.allow_http {
                        problems.push(
                            Problem::new("endpoint", "http:// sends the page unprotected").hint(
                                "use https://, or set allowHttp: true for a server in your own network",
                            ),
                        );
                    }
                }
                Ok(_) | Err(_) => problems.push(Problem::new(
                    "endpoint",
                    "expected a URL such as https://s3.example.com",
                )),
            }
        }
        if self.max_age > 300 {
            problems.push(Problem::new(
                "maxAge",
                "readers would see an old page for more than five minutes",
            ));
        }
        problems
    }

    fn hosts(&self) -> Vec<String> {
        let host = match &self.endpoint {
            Some(endpoint) => Url::parse(endpoint)
                .ok()
                .and_then(|url| url.host_str().map(str::to_owned)),
            None => Some(format!("s3.{}.amazonaws.com", self.region)),
        };
        host.into_iter().collect()
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedTarget, MakeError> {
    let with: S3With = kind::read(with)?;
    Bucket::new(with, Arc::clone(&wiring.secrets))
        .map(|bucket| Arc::new(bucket) as SharedTarget)
        .map_err(|e| MakeError(format!("the bucket's client cannot be made: {e}")))
}

/// A bucket that the page is written into.
pub struct Bucket {
    store: AmazonS3,
    with: S3With,
    prefix: Path,
    /// SHA-256 of what this process put where: the same is not put again.
    put: Mutex<BTreeMap<String, [u8; 32]>>,
}

impl Bucket {
    /// A bucket whose credentials are read anew for every request.
    ///
    /// # Errors
    /// Where the settings make no client.
    pub fn new(with: S3With, secrets: SharedSecrets) -> Result<Self, object_store::Error> {
        let keys = Keys {
            secrets,
            id: with.access_key_id.clone(),
            secret: with.secret_access_key.clone(),
        };
        // The driver repeats a write that failed; one more try here spans a dropped connection.
        let retry = RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: 1,
            retry_timeout: Duration::from_secs(15),
        };
        let options = ClientOptions::new()
            .with_connect_timeout(Duration::from_secs(5))
            .with_timeout(Duration::from_secs(10))
            .with_allow_http(with.allow_http);
        let path_style = with.path_style.unwrap_or(with.endpoint.is_some());
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&with.bucket)
            .with_region(&with.region)
            .with_client_options(options)
            .with_retry(retry)
            .with_virtual_hosted_style_request(!path_style)
            .with_credentials(Arc::new(keys));
        if let Some(endpoint) = &with.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
        }
        Ok(Self {
            store: builder.build()?,
            prefix: Path::parse(with.prefix.trim_matches('/'))?,
            with,
            put: Mutex::new(BTreeMap::new()),
        })
    }

    fn target(&self) -> String {
        format!("bucket {}", self.with.bucket)
    }

    async fn put(&self, file: &PageFile) -> Result<(), object_store::Error> {
        let mut attributes = Attributes::new();
        attributes.insert(Attribute::ContentType, file.content_type.into());
        let cache = format!("public, max-age={}", self.with.max_age);
        attributes.insert(Attribute::CacheControl, cache.into());
        let place = Path::parse(format!("{}/{}", self.prefix, file.path).trim_start_matches('/'))?;
        let options = PutOptions {
            attributes,
            ..PutOptions::default()
        };
        self.store
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
                target: self.target(),
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
            Ok(()) => CheckItem::ok("publish/s3", format!("{} can be written", self.target())),
            Err(error) => CheckItem::bad(
                "publish/s3",
                CheckStatus::Fail,
                format!("{} cannot be written: {}", self.target(), in_full(&error)),
                "let the key put objects below the prefix (s3:PutObject), and check endpoint and region",
            ),
        };
        vec![item]
    }
}

/// An error with its causes in one line; neither holds a secret, as keys are never part of a request's URL.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        let part = e.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        cause = e.source();
    }
    text
}

/// The access key, read when a request is signed.
struct Keys {
    secrets: SharedSecrets,
    id: SecretRef,
    secret: SecretRef,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({}, {})", self.id, self.secret)
    }
}

#[async_trait]
impl CredentialProvider for Keys {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let read = |at| {
            self.secrets
                .read(at)
                .map_err(|source| object_store::Error::Generic {
                    store: "S3",
                    source: Box::new(source),
                })
        };
        Ok(Arc::new(AwsCredential {
            key_id: read(&self.id)?.expose().to_owned(),
            secret_key: read(&self.secret)?.expose().to_owned(),
            token: None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::kind::With as _;

    fn with(more: &str) -> S3With {
        let json = format!(
            r#"{{"bucket": "status", "accessKeyId": {{"env": "A"}}, "secretAccessKey": {{"env": "B"}}{more}}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn settings_are_checked() {
        assert_eq!(with("").problems(), []);
        assert_eq!(with("").hosts(), ["s3.us-east-1.amazonaws.com"]);
        let http = with(r#", "endpoint": "http://10.0.0.5:9000""#);
        assert_eq!(http.problems()[0].path, "endpoint");
        assert_eq!(http.hosts(), ["10.0.0.5"]);
        let allowed = with(r#", "endpoint": "http://10.0.0.5:9000", "allowHttp": true"#);
        assert_eq!(allowed.problems(), []);
        assert_eq!(
            with(r#", "endpoint": "minio:9000""#).problems()[0].path,
            "endpoint"
        );
        assert_eq!(with(r#", "prefix": "a//b""#).problems()[0].path, "prefix");
        assert_eq!(with(r#", "maxAge": 3600"#).problems()[0].path, "maxAge");
        let mut slash = with("");
        slash.bucket = "a/b".into();
        assert_eq!(slash.problems()[0].path, "bucket");
    }
}
