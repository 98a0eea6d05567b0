//! Adapters made for a cluster, and asked.

use std::fs;

use failover::{
    model::{
        check::CheckItem,
        observation::Look,
        span::Span,
        step::{Presence, StepResult},
    },
    port::kind::Wiring,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::LONG;
use crate::stand::{
    postgres::{Cluster, PASSWORD},
    wiring::{action, look, probe, step, wiring},
};

/// What adapters are made with, and a file with the password.
pub struct Desk {
    pub folder: TempDir,
    pub wiring: Wiring,
}

impl Desk {
    pub fn new() -> Self {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("password"), PASSWORD).unwrap();
        let wiring = wiring(folder.path());
        Self { folder, wiring }
    }

    pub fn with(&self, cluster: &Cluster) -> Value {
        json!({
            "connection": cluster.conninfo(),
            "password": {"file": self.folder.path().join("password")},
        })
    }

    pub async fn look(&self, kind: &str, with: &Value, timeout: Span) -> Look {
        probe(kind, with, &self.wiring).look(&look(timeout)).await
    }

    pub async fn perform(&self, kind: &str, with: &Value, timeout: Span) -> StepResult {
        action(kind, with, &self.wiring)
            .perform(&step(timeout))
            .await
    }

    pub async fn observe(&self, kind: &str, with: &Value) -> Presence {
        action(kind, with, &self.wiring).observe(&step(LONG)).await
    }

    pub async fn check(&self, kind: &str, with: &Value) -> Vec<CheckItem> {
        let step = step(LONG);
        action(kind, with, &self.wiring)
            .check(&step.from, &step.to)
            .await
    }
}
