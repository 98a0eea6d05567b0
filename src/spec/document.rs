//! The envelope that all documents share.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::{
    backup::BackupPolicySpec, group::ServiceGroupSpec, runbook::RunbookSpec,
    service::ProtectedServiceSpec,
};

/// The version of the document types that this build reads.
pub const API_VERSION: &str = "failover.rs/v1alpha1";

/// The kinds of documents.
pub const KINDS: [&str; 4] = [
    "ProtectedService",
    "Runbook",
    "BackupPolicy",
    "ServiceGroup",
];

/// A `ProtectedService`: a service that runs at a primary site and has a standby.
pub type ProtectedService = Document<ProtectedServiceSpec>;

/// A `Runbook`: the steps of a failover.
pub type RunbookDocument = Document<RunbookSpec>;

/// A `BackupPolicy`: where a service's backups are, and what is asked of them.
pub type BackupPolicyDocument = Document<BackupPolicySpec>;

/// A `ServiceGroup`: services that fail over together.
pub type ServiceGroupDocument = Document<ServiceGroupSpec>;

/// A document as Kubernetes writes them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document<S> {
    /// Always `failover.rs/v1alpha1`.
    pub api_version: String,
    /// What the document describes.
    pub kind: String,
    /// Its name and marks.
    pub metadata: Metadata,
    /// What it says.
    pub spec: S,
}

/// A document's name and marks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Unique among the documents of its kind: lower-case letters, digits and dashes.
    pub name: String,
    /// Namespace in Kubernetes; without meaning for files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Marks to select by; without meaning for the controller.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Notes of other programs; without meaning for the controller.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Settings of an adapter, checked by the adapter itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct With(pub serde_json::Map<String, serde_json::Value>);

impl JsonSchema for With {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "With".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "object",
            "description": "Settings of the adapter. Secrets are references: {env: NAME} or {file: /path}.",
            "x-kubernetes-preserve-unknown-fields": true,
        })
    }

    fn inline_schema() -> bool {
        true
    }
}

impl With {
    /// Whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As adapters read it; nothing where nothing is set.
    #[must_use]
    pub fn value(&self) -> serde_json::Value {
        if self.0.is_empty() {
            serde_json::Value::Null
        } else {
            serde_json::Value::Object(self.0.clone())
        }
    }
}
