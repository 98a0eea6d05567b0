//! Readiness: every kind of drift between real servers, and everything of a failover that stands at the dead site.

mod comparisons;
mod drift;
mod independence;
mod program;

use std::{fs, path::Path};

use failover::{
    driver::{fitting::Fitting, registry::kinds},
    model::{
        check::{CheckItem, CheckStatus},
        plan::Plan,
        service::Service,
    },
    port::kind::Wiring,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::stand::{
    postgres::{Cluster, PASSWORD},
    wiring::{service, wiring},
};

/// A service with the sites `a` and `b`, and what its adapters are made with.
struct Desk {
    folder: TempDir,
    service: Service,
}

impl Desk {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("password"), PASSWORD).unwrap();
        let mut service = service();
        for site in &mut service.sites {
            site.url = None;
        }
        Self { folder, service }
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The settings of an adapter at that server.
    fn with(&self, cluster: &Cluster) -> Value {
        json!({
            "connection": cluster.conninfo(),
            "password": {"file": self.folder().join("password")},
        })
    }

    fn wiring(&self) -> Wiring {
        Wiring {
            service: self.service.clone().into(),
            ..wiring(self.folder())
        }
    }

    fn fitting(&self) -> Fitting {
        Fitting::over(kinds(), self.wiring()).unwrap()
    }

    /// A plan from `a` to `b`, with these steps.
    fn plan(steps: &[Value]) -> Plan {
        let steps: Vec<_> = steps
            .iter()
            .map(|step| {
                json!({
                    "id": step["id"], "name": "Step", "phase": step["phase"], "needs": [], "timeout": "1m",
                    "action": {"adapter": {"uses": step["uses"], "with": step["with"]}},
                    "retry": {}, "onFailure": "stop",
                })
            })
            .collect();
        let plan = json!({
            "service": "shop", "kind": "failover", "runbook": "shop", "from": "a", "to": "b",
            "fencing": "infrastructure", "config": "0", "steps": steps,
        });
        serde_json::from_value(plan).unwrap()
    }
}

/// The state of the item of that name.
#[track_caller]
fn status(items: &[CheckItem], name: &str) -> CheckStatus {
    item(items, name).status
}

#[track_caller]
fn item<'a>(items: &'a [CheckItem], name: &str) -> &'a CheckItem {
    let found = items.iter().find(|i| i.name == name);
    found.unwrap_or_else(|| panic!("no {name} in {items:#?}"))
}
