//! Deployments and `StatefulSets`: how many replicas are wanted and are Ready, and setting the first.

use std::{fmt, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::{GroupVersionKind, Selector},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{ApiError, MANAGER, Note, Owner, name_problem, owners};
use crate::port::kind::Problem;

/// The field that is set.
pub const REPLICAS: &str = "spec.replicas";

/// What makes Pods and can be scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WorkloadKind {
    /// A Deployment.
    Deployment,
    /// A `StatefulSet`.
    StatefulSet,
}

impl WorkloadKind {
    /// As the API has it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
        }
    }

    fn resource(self) -> ApiResource {
        let gvk = GroupVersionKind::gvk("apps", "v1", self.word());
        let plural = match self {
            Self::Deployment => "deployments",
            Self::StatefulSet => "statefulsets",
        };
        ApiResource::from_gvk_with_plural(&gvk, plural)
    }
}

/// A workload by its name.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadWith {
    /// What it is.
    pub kind: WorkloadKind,
    /// Its name.
    pub name: String,
}

impl WorkloadWith {
    /// What is wrong with it, below this path.
    pub fn problems(&self, path: &str) -> Option<Problem> {
        name_problem(&format!("{path}name"), &self.name)
    }
}

/// A workload in its cluster.
pub struct Workload {
    api: Api<DynamicObject>,
    /// What it is.
    pub kind: WorkloadKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.word(), self.namespace, self.name)
    }
}

/// A workload as it stands.
#[derive(Clone, Debug)]
pub struct Standing {
    version: Option<String>,
    /// As many replicas are wanted.
    pub wanted: u32,
    /// As many there are.
    pub current: u32,
    /// As many of them are Ready.
    pub ready: u32,
    /// Whether its controller has seen what is wanted.
    pub is_seen: bool,
    /// Which Pods are its own.
    pub selector: Selector,
    /// What a step wrote on it.
    pub note: Option<Note>,
    /// Who else owns the number of replicas.
    pub owners: Vec<Owner>,
    /// How long its Pods may take to end.
    pub grace: Duration,
}

impl Standing {
    /// Whether there are as many as this, and all are Ready.
    #[must_use]
    pub fn has(&self, replicas: u32) -> bool {
        let is_done = if replicas == 0 {
            self.current == 0
        } else {
            self.ready >= replicas
        };
        self.is_seen && self.wanted == replicas && is_done
    }

    /// In a few words.
    #[must_use]
    pub fn told(&self) -> String {
        format!("{} of {} replicas Ready", self.ready, self.wanted)
    }
}

impl Workload {
    /// The one of that name.
    #[must_use]
    pub fn new(client: Client, namespace: &str, kind: WorkloadKind, name: &str) -> Self {
        Self {
            api: Api::namespaced_with(client, namespace, &kind.resource()),
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Looks at it.
    ///
    /// # Errors
    /// Where it is not there, or cannot be looked at.
    pub async fn read(&self, within: Duration) -> Result<Standing, ApiError> {
        let object = ApiError::within(within, self.api.get(&self.name)).await?;
        standing(object)
    }

    /// Has so many replicas wanted, with a note on what was before, as field manager of its own. Whatever happened to
    /// it since `seen` refuses this.
    ///
    /// # Errors
    /// Where another manager owns the number and `force` is not given, it is another one by now, or the server does
    /// not take it.
    pub async fn scale(
        &self,
        seen: &Standing,
        replicas: u32,
        note: Option<&Note>,
        how: PatchParams,
        within: Duration,
    ) -> Result<(), ApiError> {
        let mut metadata = json!({"name": self.name, "resourceVersion": seen.version});
        if let Some(note) = note {
            metadata["annotations"] = json!({Note::NAME: note.text()});
        }
        let body = json!({
            "apiVersion": "apps/v1",
            "kind": self.kind.word(),
            "metadata": metadata,
            "spec": {"replicas": replicas},
        });
        let patch = Patch::Apply(body);
        let asked = self.api.patch(&self.name, &how, &patch);
        ApiError::within(within, asked).await?;
        Ok(())
    }

    /// How [`Self::scale`] applies.
    #[must_use]
    pub fn applying(force: bool) -> PatchParams {
        let params = PatchParams::apply(MANAGER);
        if force { params.force() } else { params }
    }
}

fn standing(object: DynamicObject) -> Result<Standing, ApiError> {
    let (spec, status) = (&object.data["spec"], &object.data["status"]);
    let count = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
    let selector: LabelSelector = serde_json::from_value(spec["selector"].clone())
        .map_err(|_| ApiError::Shape("spec.selector"))?;
    let selector = Selector::try_from(selector).map_err(|_| ApiError::Shape("spec.selector"))?;
    // It would choose every Pod of the namespace.
    if selector.selects_all() {
        return Err(ApiError::Shape("spec.selector"));
    }
    let metadata = object.metadata;
    Ok(Standing {
        wanted: count(&spec["replicas"]).ok_or(ApiError::Shape("spec.replicas"))?,
        current: count(&status["replicas"]).unwrap_or(0),
        ready: count(&status["readyReplicas"]).unwrap_or(0),
        is_seen: status["observedGeneration"].as_i64() >= metadata.generation,
        selector,
        note: Note::read(metadata.annotations.as_ref()),
        owners: owners(metadata.managed_fields.as_ref(), &["spec", "replicas"]),
        version: metadata.resource_version,
        grace: Duration::from_secs(
            spec["template"]["spec"]["terminationGracePeriodSeconds"]
                .as_u64()
                .unwrap_or(30),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(generation: i64, spec: &Value, status: &Value) -> Result<Standing, ApiError> {
        let object = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "shop", "generation": generation},
            "spec": spec,
            "status": status,
        });
        standing(serde_json::from_value(object).unwrap())
    }

    fn spec(replicas: u32) -> Value {
        json!({"replicas": replicas, "selector": {"matchLabels": {"app": "shop"}}})
    }

    #[test]
    fn done_is_what_the_controller_has_seen_and_is_ready() {
        let status = |seen, current, ready| json!({"observedGeneration": seen, "replicas": current, "readyReplicas": ready});
        let has =
            |spec: Value, status: Value, wanted| deployment(2, &spec, &status).unwrap().has(wanted);
        assert!(has(spec(4), status(2, 4, 4), 4));
        assert!(
            has(spec(4), status(2, 5, 5), 4),
            "an update brings one more"
        );
        assert!(!has(spec(4), status(1, 4, 4), 4), "not seen yet");
        assert!(!has(spec(4), status(2, 4, 3), 4));
        assert!(!has(spec(3), status(2, 4, 4), 4));
        assert!(has(spec(0), status(2, 0, 0), 0));
        assert!(!has(spec(0), status(2, 1, 0), 0), "one is left");
        assert!(!has(spec(0), json!({}), 0), "its controller does not run");
    }

    #[test]
    fn a_workload_that_could_have_any_pod_is_none() {
        let all = json!({"replicas": 1, "selector": {}});
        assert!(matches!(
            deployment(1, &all, &json!({})),
            Err(ApiError::Shape("spec.selector"))
        ));
        let none = json!({"selector": {"matchLabels": {"app": "shop"}}});
        assert!(matches!(
            deployment(1, &none, &json!({})),
            Err(ApiError::Shape("spec.replicas"))
        ));
    }
}
