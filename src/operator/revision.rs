//! The documents of each service that were last put in force, kept in the cluster: what a new leader uses where those of
//! now cannot be used.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, Client, CustomResource,
    api::{ListParams, Patch, PatchParams},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time;

use crate::{
    model::id::ServiceName,
    port::{
        cause,
        kubernetes::{MANAGER, next_page},
    },
};

/// How long one request may take.
const ANSWER: Duration = Duration::from_secs(5);
/// Revisions that are read at once.
const PAGE: u32 = 100;

/// The documents of a service that were last put in force. Written by the controller, and by nobody else.
#[derive(Clone, Debug, PartialEq, Eq, CustomResource, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "failover.rs",
    version = "v1alpha1",
    kind = "ServiceRevision",
    plural = "servicerevisions",
    namespaced
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceRevisionSpec {
    /// The `ProtectedService`, its runbooks and its backup policies, each as JSON.
    pub documents: Vec<String>,
}

/// What is kept of one service.
struct Kept {
    /// The service that it is of, as the server calls it: one that was made anew has none.
    owner: String,
    documents: Vec<String>,
}

/// Every revision of a namespace.
pub struct Revisions {
    api: Api<ServiceRevision>,
    /// None until they were read.
    kept: Option<BTreeMap<ServiceName, Kept>>,
}

impl Revisions {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            kept: None,
        }
    }

    /// Whether they were read: only their writer changes them.
    #[must_use]
    pub const fn are_read(&self) -> bool {
        self.kept.is_some()
    }

    /// Reads them, once.
    pub async fn read(&mut self) {
        if self.are_read() {
            return;
        }
        match time::timeout(ANSWER, self.list()).await {
            Ok(Ok(kept)) => self.kept = Some(kept),
            Ok(Err(error)) => {
                tracing::warn!(error = %cause::in_full(&error), "the documents that were last in force cannot be read; trying again");
            }
            Err(_) => tracing::warn!("the API server does not answer; trying again"),
        }
    }

    async fn list(&self) -> Result<BTreeMap<ServiceName, Kept>, kube::Error> {
        let mut kept = BTreeMap::new();
        let mut next = Some(ListParams::default().limit(PAGE));
        while let Some(page) = next {
            let listed = self.api.list(&page).await?;
            next = next_page(page, &listed.metadata);
            for revision in listed.items {
                let meta = revision.metadata;
                let owners = meta.owner_references.unwrap_or_default();
                if let (Some(name), [owner]) = (meta.name, owners.as_slice()) {
                    let one = Kept {
                        owner: owner.uid.clone(),
                        documents: revision.spec.documents,
                    };
                    kept.insert(name.as_str().into(), one);
                }
            }
        }
        Ok(kept)
    }

    /// What was last in force of a service that the server calls so.
    #[must_use]
    pub fn of(&self, service: &ServiceName, owner: &str) -> Option<&[String]> {
        let kept = self.kept.as_ref()?.get(service)?;
        (kept.owner == owner).then_some(kept.documents.as_slice())
    }

    /// Keeps what is in force now. Whether it is kept.
    pub async fn keep(
        &mut self,
        service: &ServiceName,
        owner: OwnerReference,
        documents: &[String],
    ) -> bool {
        if self.of(service, &owner.uid) == Some(documents) {
            return true;
        }
        let uid = owner.uid.clone();
        let mut revision = ServiceRevision::new(
            service.as_str(),
            ServiceRevisionSpec {
                documents: documents.to_vec(),
            },
        );
        revision.metadata.owner_references = Some(vec![owner]);
        let params = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(&revision);
        let written = self.api.patch(service.as_str(), &params, &patch);
        match time::timeout(ANSWER, written).await {
            Ok(Ok(_)) => {
                if let Some(kept) = &mut self.kept {
                    let one = Kept {
                        owner: uid,
                        documents: revision.spec.documents,
                    };
                    kept.insert(service.clone(), one);
                }
                true
            }
            Ok(Err(error)) => {
                tracing::warn!(%service, error = %cause::in_full(&error), "the documents in force cannot be kept; trying again");
                false
            }
            Err(_) => {
                tracing::warn!(%service, "the API server does not answer; trying again");
                false
            }
        }
    }
}
