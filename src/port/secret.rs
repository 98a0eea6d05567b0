//! Reading secrets, each time they are used.

use std::{fs, sync::Arc};

use crate::model::secret::{Secret, SecretRef};

/// Why a secret could not be read. The value never shows.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The environment variable is not set or is no text.
    #[error("environment variable {0} is not set")]
    Env(String),
    /// The file cannot be read.
    #[error("cannot read the secret's file {path}")]
    File {
        /// The path.
        path: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Kubernetes secrets are read by the operator only.
    #[error("secretRef {0} can only be read by the operator: use env or file here")]
    NoCluster(String),
    /// The cluster has no such key.
    #[error("there is no key {key} in the Secret {secret} of the operator's namespace")]
    NoKey {
        /// The Secret.
        secret: String,
        /// The key.
        key: String,
    },
    /// Documents may name the files of one folder.
    #[error(
        "{path} is not below {folder}, and documents may name no other file: mount it there (secrets.files of the chart)"
    )]
    Outside {
        /// The path.
        path: String,
        /// The folder.
        folder: String,
    },
    /// Documents may name the variables that are meant for them.
    #[error(
        "documents are given no variable {name}: set {variable} for the operator (secrets.environment of the chart)"
    )]
    NotGiven {
        /// As documents name it.
        name: String,
        /// As the operator has it.
        variable: String,
    },
    /// It is there, but empty.
    #[error("the {0} is empty")]
    Empty(String),
}

/// Where secrets come from.
pub trait Secrets: Send + Sync {
    /// Reads a secret now.
    ///
    /// # Errors
    /// Where it cannot be read or is empty.
    fn read(&self, at: &SecretRef) -> Result<Secret, SecretError>;
}

/// A shared source.
pub type SharedSecrets = Arc<dyn Secrets>;

/// Environment variables and files of this host.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostSecrets;

impl Secrets for HostSecrets {
    fn read(&self, at: &SecretRef) -> Result<Secret, SecretError> {
        let value = match at {
            SecretRef::Env(name) => {
                std::env::var(name).map_err(|_| SecretError::Env(name.clone()))?
            }
            SecretRef::File(path) => {
                let text = fs::read_to_string(path).map_err(|source| SecretError::File {
                    path: path.clone(),
                    source,
                })?;
                let text = text.strip_suffix('\n').unwrap_or(&text);
                text.strip_suffix('\r').unwrap_or(text).to_owned()
            }
            SecretRef::SecretRef(k) => {
                return Err(SecretError::NoCluster(format!("{}/{}", k.name, k.key)));
            }
        };
        if value.is_empty() {
            return Err(SecretError::Empty(at.to_string()));
        }
        Ok(Secret::new(value))
    }
}
