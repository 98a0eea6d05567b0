//! The one way to an object store: a folder, or a bucket of S3 or of a service that speaks as S3 does.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use object_store::{
    BackoffConfig, ClientOptions, CredentialProvider, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AwsCredential},
    local::LocalFileSystem,
    path::Path,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{kind::Problem, secret::SharedSecrets};
use crate::model::secret::SecretRef;

/// Where objects are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoreWith {
    /// `s3://bucket/prefix`, or `file:///folder`.
    pub url: String,
    /// Address of an S3-compatible service, such as `https://minio.example.net:9000`; Amazon's where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Region of the bucket; `us-east-1` where it is left out, which most S3-compatible services take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The access key's id; left out, the machine's own role is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<SecretRef>,
    /// The access key's secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<SecretRef>,
    /// Whether an `http://` endpoint may be used, which anybody on the way can read.
    #[serde(default)]
    pub allow_http: bool,
    /// Whether the bucket stands in the host's name instead of the path. Amazon takes both.
    #[serde(default)]
    pub virtual_host: bool,
}

/// A place in an object store.
#[derive(Clone, Debug)]
pub struct Store {
    /// The bucket or folder.
    pub objects: Arc<dyn ObjectStore>,
    /// Everything is kept below this.
    pub prefix: Path,
    /// As people know it, without secrets.
    pub name: String,
    /// Hosts that are connected to.
    pub hosts: Vec<String>,
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The settings do not fit together.
    #[error("{path}: {message}")]
    Settings {
        /// Field path.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// The folder is not there. It is never made: below the mount point of a disk that is missing it would hide that.
    #[error(
        "the folder {folder} cannot be used: it has to be there already, so make it, or mount its disk"
    )]
    Folder {
        /// Which.
        folder: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The client refuses the settings.
    #[error("cannot use the object store {name}")]
    Client {
        /// Which.
        name: String,
        /// The cause.
        #[source]
        source: object_store::Error,
    },
}

/// What a store's URL says.
enum Place {
    Folder(PathBuf),
    Bucket { bucket: String, prefix: String },
}

impl StoreWith {
    /// What the types cannot say.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = self.place().err().into_iter().collect();
        problems.extend(self.endpoint_problem());
        if self.access_key_id.is_some() != self.secret_access_key.is_some() {
            let missing = if self.access_key_id.is_some() {
                "secretAccessKey"
            } else {
                "accessKeyId"
            };
            problems.push(Problem::new(
                missing,
                "accessKeyId and secretAccessKey belong together",
            ));
        }
        problems
    }

    /// The same for a bucket alone; a folder has a kind of its own.
    pub fn bucket_problems(&self, for_folders: &str) -> Vec<Problem> {
        let mut problems = self.problems();
        if self.url.starts_with("file:") {
            problems.push(
                Problem::new("url", "a folder is no bucket: expected s3://bucket/prefix")
                    .hint(format!("use {for_folders} for a folder")),
            );
        }
        problems
    }

    /// The hosts that are connected to.
    pub fn hosts(&self) -> Vec<String> {
        match (&self.endpoint, self.place()) {
            (_, Err(_) | Ok(Place::Folder(_))) => Vec::new(),
            (Some(endpoint), Ok(Place::Bucket { .. })) => Url::parse(endpoint)
                .ok()
                .and_then(|url| url.host_str().map(str::to_owned))
                .into_iter()
                .collect(),
            (None, Ok(Place::Bucket { .. })) => {
                vec![format!("s3.{}.amazonaws.com", self.region())]
            }
        }
    }

    /// Opens it. Secrets are read again for each request; nothing is asked of the store yet.
    ///
    /// # Errors
    /// Where the settings cannot be used.
    pub fn open(&self, secrets: &SharedSecrets) -> Result<Store, StoreError> {
        if let Some(problem) = self.problems().into_iter().next() {
            return Err(StoreError::Settings {
                path: problem.path,
                message: problem.message,
            });
        }
        let name = self.url.clone();
        let (objects, prefix) = match self.place() {
            Ok(Place::Folder(folder)) => (open_folder(&name, &folder)?, Path::default()),
            Ok(Place::Bucket { bucket, prefix }) => {
                (self.open_bucket(&bucket, secrets)?, Path::from(prefix))
            }
            Err(problem) => {
                return Err(StoreError::Settings {
                    path: problem.path,
                    message: problem.message,
                });
            }
        };
        Ok(Store {
            objects,
            prefix,
            name,
            hosts: self.hosts(),
        })
    }

    fn region(&self) -> &str {
        self.region.as_deref().unwrap_or("us-east-1")
    }

    fn place(&self) -> Result<Place, Problem> {
        let wrong = || {
            Problem::new(
                "url",
                format!(
                    "{:?} names no place: expected s3://bucket/prefix or file:///folder",
                    self.url
                ),
            )
        };
        let url = Url::parse(&self.url).map_err(|_| wrong())?;
        match (url.scheme(), url.host_str()) {
            ("file", None) => url.to_file_path().map(Place::Folder).map_err(|()| wrong()),
            ("s3", Some(bucket)) if url.port().is_none() && url.username().is_empty() => {
                Ok(Place::Bucket {
                    bucket: bucket.to_owned(),
                    prefix: url.path().trim_matches('/').to_owned(),
                })
            }
            _ => Err(wrong()),
        }
    }

    fn endpoint_problem(&self) -> Option<Problem> {
        let endpoint = self.endpoint.as_ref()?;
        let url = Url::parse(endpoint)
            .ok()
            .filter(|url| url.host_str().is_some());
        match url.as_ref().map(Url::scheme) {
            Some("https") => None,
            Some("http") if self.allow_http => None,
            Some("http") => Some(
                Problem::new("endpoint", "the endpoint is plain http")
                    .hint("use https, or set allowHttp: true in a closed network"),
            ),
            Some(_) | None => Some(Problem::new(
                "endpoint",
                format!("{endpoint:?} is no address: expected https://host:port"),
            )),
        }
    }

    fn open_bucket(
        &self,
        bucket: &str,
        secrets: &SharedSecrets,
    ) -> Result<Arc<dyn ObjectStore>, StoreError> {
        let options = ClientOptions::new()
            .with_connect_timeout(Duration::from_secs(5))
            .with_timeout(Duration::from_secs(30))
            .with_allow_http(self.allow_http);
        let mut builder = match (&self.access_key_id, &self.secret_access_key) {
            (Some(id), Some(secret)) => {
                AmazonS3Builder::new().with_credentials(Arc::new(KeyReader {
                    secrets: secrets.clone(),
                    id: id.clone(),
                    secret: secret.clone(),
                }))
            }
            _ => AmazonS3Builder::from_env(),
        };
        builder = builder
            .with_bucket_name(bucket)
            .with_region(self.region())
            .with_virtual_hosted_style_request(self.virtual_host)
            .with_client_options(options)
            // Who waits for the store tries again in his own time.
            .with_retry(RetryConfig {
                backoff: BackoffConfig::default(),
                max_retries: 2,
                retry_timeout: Duration::from_secs(30),
            });
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        match builder.build() {
            Ok(store) => Ok(Arc::new(store)),
            Err(source) => Err(StoreError::Client {
                name: self.url.clone(),
                source,
            }),
        }
    }
}

fn open_folder(name: &str, folder: &PathBuf) -> Result<Arc<dyn ObjectStore>, StoreError> {
    std::fs::read_dir(folder).map_err(|source| StoreError::Folder {
        folder: folder.display().to_string(),
        source,
    })?;
    match LocalFileSystem::new_with_prefix(folder) {
        Ok(store) => Ok(Arc::new(store.with_fsync(true))),
        Err(source) => Err(StoreError::Client {
            name: name.to_owned(),
            source,
        }),
    }
}

/// Reads the access key each time a request is signed, so that a changed key is taken up at once.
struct KeyReader {
    secrets: SharedSecrets,
    id: SecretRef,
    secret: SecretRef,
}

impl fmt::Debug for KeyReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyReader").finish_non_exhaustive()
    }
}

#[async_trait]
impl CredentialProvider for KeyReader {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let read = |at| {
            self.secrets
                .read(at)
                .map_err(|e| object_store::Error::Generic {
                    store: "S3",
                    source: e.into(),
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

    fn with(yaml: &str) -> StoreWith {
        serde_saphyr::from_str(yaml).unwrap()
    }

    fn wrong(yaml: &str) -> Vec<String> {
        with(yaml)
            .problems()
            .into_iter()
            .map(|p| format!("{}: {}", p.path, p.message))
            .collect()
    }

    #[test]
    fn takes_buckets_and_folders() {
        assert!(wrong("url: s3://copies/shop").is_empty());
        assert!(wrong("url: file:///var/lib/failover/copy").is_empty());
        assert!(wrong("{url: s3://c, endpoint: 'http://[::1]:9000', allowHttp: true}").is_empty());
    }

    #[test]
    fn names_each_problem() {
        assert_eq!(
            wrong("{url: 'https://x', endpoint: 'http://x', accessKeyId: {env: A}}"),
            [
                "url: \"https://x\" names no place: expected s3://bucket/prefix or file:///folder",
                "endpoint: the endpoint is plain http",
                "secretAccessKey: accessKeyId and secretAccessKey belong together",
            ]
        );
        assert_eq!(
            wrong("{url: s3://c, endpoint: somewhere}"),
            ["endpoint: \"somewhere\" is no address: expected https://host:port"]
        );
    }

    #[test]
    fn tells_the_hosts() {
        assert_eq!(with("url: s3://c").hosts(), ["s3.us-east-1.amazonaws.com"]);
        assert_eq!(
            with("{url: s3://c, endpoint: 'https://minio.example.net:9000'}").hosts(),
            ["minio.example.net"]
        );
        assert!(with("url: file:///srv").hosts().is_empty());
    }
}
