//! `kubernetes/patch`: one named field of any object gets a value, such as the switch by which CloudNativePG or another
//! operator promotes.

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{
    change::{Change, Target},
    field::Field,
};
use crate::{
    model::{
        check::CheckItem,
        secret::SecretRef,
        site::Site,
        step::{Presence, StepResult},
    },
    port::{
        action::{Action, SharedAction, StepContext},
        kind::{Kind, Make, MakeError, Problem, Wiring, With, read},
        kubernetes::{Cluster, name_problem},
    },
};

/// `kubernetes/patch`.
pub const KIND: Kind = Kind::new::<PatchWith>(
    "kubernetes/patch",
    "sets one field of any object in a cluster, and looks until another field says that it has taken effect",
    "apiVersion: postgresql.cnpg.io/v1\nkind: Cluster\nnamespace: shop\nname: shop-db\n\
     field: /spec/replica/enabled\nvalue: false\nbefore: true\n\
     until: {field: /status/phase, value: Cluster in healthy state}\n",
    Make::Action(make),
);

/// Settings of `kubernetes/patch`. What the field held before stands in an annotation of the object,
/// `failover.rs/before-…`, and is set again when the step is taken back.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchWith {
    /// A kubeconfig, whole. Default: the service account of the Pod that this runs in. The account needs get and patch
    /// on the object.
    #[serde(default)]
    pub kubeconfig: Option<SecretRef>,
    /// Group and version, such as `postgresql.cnpg.io/v1`.
    pub api_version: String,
    /// The object's kind.
    pub kind: String,
    /// Its namespace; none for kinds that have none.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Which field, as a JSON Pointer such as `/spec/replica/enabled`; of the metadata a label or an annotation only.
    pub field: String,
    /// What it gets. Default: null, which takes the field away.
    #[serde(default)]
    pub value: Value,
    /// What it must hold before; the step fails where it holds anything else. Default: anything.
    #[serde(default)]
    pub before: Option<Value>,
    /// Which field says that it has taken effect. Default: it has as soon as it is set.
    #[serde(default)]
    pub until: Option<UntilWith>,
    /// Takes the field from another field manager, such as kubectl or Helm. Default: false; the step then fails.
    #[serde(default)]
    pub force: bool,
}

/// A field that says that a change has taken effect.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UntilWith {
    /// Which field, as a JSON Pointer such as `/status/phase`.
    pub field: String,
    /// What it holds then.
    pub value: Value,
}

impl With for PatchWith {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (path, word) in [("apiVersion", &self.api_version), ("kind", &self.kind)] {
            if word.is_empty() {
                problems.push(Problem::new(
                    path,
                    "expected a word of the object's own document",
                ));
            }
        }
        if self.kind == "Secret" {
            let why = "what a Secret holds would stand in the journal";
            problems.push(Problem::new("kind", why).hint("patch an object that names the Secret"));
        }
        let namespace = self.namespace.as_deref();
        problems.extend(namespace.and_then(|n| name_problem("namespace", n)));
        problems.extend(name_problem("name", &self.name));
        if let Err(why) = Field::new(&self.field) {
            problems.push(Problem::new("field", why).hint("such as /spec/replica/enabled"));
        }
        let until = self
            .until
            .as_ref()
            .filter(|until| !until.field.starts_with('/'));
        if until.is_some() {
            problems.push(
                Problem::new(
                    "until.field",
                    "expected a JSON Pointer, which begins with /",
                )
                .hint("such as /status/phase"),
            );
        }
        problems
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedAction, MakeError> {
    let with: PatchWith = read(with)?;
    Ok(Arc::new(FieldPatch(Change {
        cluster: Arc::new(Cluster::new(with.kubeconfig, wiring)),
        target: Target {
            api_version: with.api_version,
            kind: with.kind,
            namespace: with.namespace,
            name: with.name,
        },
        field: Field::new(&with.field).map_err(MakeError)?,
        value: with.value,
        expected: with.before,
        until: with.until.map(|until| (until.field, until.value)),
        force: with.force,
    })))
}

struct FieldPatch(Change);

#[async_trait]
impl Action for FieldPatch {
    async fn perform(&self, step: &StepContext) -> StepResult {
        self.0.perform(step).await
    }

    async fn observe(&self, step: &StepContext) -> Presence {
        self.0.observe(step).await
    }

    async fn undo(&self, step: &StepContext) -> Option<StepResult> {
        Some(self.0.undo(step).await)
    }

    async fn check(&self, _from: &Site, _to: &Site) -> Vec<CheckItem> {
        self.0.check().await
    }
}
