//! Where a journal was made: tells a copy on another host from the original.

use std::fs;

use serde::Serialize;
use sha2::{Digest, Sha256};

/// The host of a journal that was restored and that nobody adopted yet.
pub const NOWHERE: &str = "restored";

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

    /// Whether a controller on this host may lead from the journal: it was made here, or adopted. A host that has no
    /// name of its own, as in most containers, cannot be told from another.
    #[must_use]
    pub fn is_here(&self) -> bool {
        let here = Self::this_host();
        self.host == here || (self.host != NOWHERE && (here.is_empty() || self.host.is_empty()))
    }

    /// Names this host: a hash of `/etc/machine-id` (machine-id(5) asks that the id itself is not shown); nothing where
    /// there is none.
    #[must_use]
    pub fn this_host() -> String {
        let id = fs::read_to_string("/etc/machine-id").unwrap_or_default();
        match id.trim() {
            "" | "uninitialized" => String::new(),
            id => {
                let digest = Sha256::digest(format!("failover journal {id}"));
                hex::encode(&digest[..16])
            }
        }
    }
}

impl Default for Origin {
    fn default() -> Self {
        Self::new()
    }
}
