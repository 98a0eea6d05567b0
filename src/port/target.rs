//! Targets: where the status page is written to.

use std::sync::Arc;

use async_trait::async_trait;

use crate::model::check::CheckItem;

/// One file of the status page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageFile {
    /// Path below the target, such as `index.html`.
    pub path: String,
    /// Media type.
    pub content_type: &'static str,
    /// Content.
    pub bytes: Vec<u8>,
}

/// Why a page could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the status page to {target}")]
pub struct WriteError {
    /// Which target, without secrets.
    pub target: String,
    /// The cause.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// A place for the status page.
#[async_trait]
pub trait Target: Send + Sync {
    /// Writes the files so that a reader never sees half of one; `index.html` comes last.
    ///
    /// # Errors
    /// Where it could not be written; what stood there before still stands.
    async fn write(&self, files: &[PageFile]) -> Result<(), WriteError>;

    /// Tries the place without changing the page.
    async fn check(&self) -> Vec<CheckItem>;
}

/// A shared target.
pub type SharedTarget = Arc<dyn Target>;
