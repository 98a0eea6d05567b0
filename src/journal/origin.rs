//! Where a journal was made: tells a copy on another host from the original.

use std::fs;

use serde::Serialize;
use sha2::{Digest, Sha256};

/// Where a journal was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// Drawn at random when the file was made: 32 hex digits.
    pub journal: String,
    /// The host on which it was made, as [`Origin::this_host`] names it.
    pub host: String,
}

impl Origin {
    /// A new journal's, made on this host.
    #[must_use]
    pub fn new() -> Self {
        Self {
            journal: format!("{:032x}", rand::random::<u128>()),
            host: Self::this_host(),
        }
    }

    /// Whether the journal was made on this host.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.host == Self::this_host()
    }

    /// Names this host: a hash of `/etc/machine-id` (machine-id(5) asks that the id itself is not shown), or of the
    /// host's name where there is none, as in most containers.
    #[must_use]
    pub fn this_host() -> String {
        let id = fs::read_to_string("/etc/machine-id").unwrap_or_default();
        let id = match id.trim() {
            "" | "uninitialized" => nix::unistd::gethostname()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
            id => id.to_owned(),
        };
        let digest = Sha256::digest(format!("failover journal {id}"));
        hex::encode(&digest[..16])
    }
}

impl Default for Origin {
    fn default() -> Self {
        Self::new()
    }
}
