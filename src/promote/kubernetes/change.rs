//! One field of one object is set, looked at and set back.

use std::{fmt, sync::Arc, time::Duration};

use kube::{
    Api,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
    discovery::{self, Scope},
};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::field::{Before, Field, whole};
use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        step::{Presence, Proof, StepResult},
    },
    port::{
        action::StepContext,
        kubernetes::{
            AGAIN, ApiError, CHECK, Cluster, MANAGER, Owner, SOON, answered, early, left, owned,
            owners, refused, rival,
        },
    },
};

/// What an error of the step begins with.
const NOTHING: &str = "nothing was changed";

/// An object of a cluster by its name.
#[derive(Clone, Debug)]
pub struct Target {
    /// Group and version, such as `postgresql.cnpg.io/v1`.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace, where its kind has them.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// What a field of it is to hold.
pub struct Change {
    /// Where it is.
    pub cluster: Arc<Cluster>,
    /// Which object.
    pub target: Target,
    /// Which field.
    pub field: Field,
    /// What it is to hold; null where it is to be taken away.
    pub value: Value,
    /// What it must hold before, where that is known.
    pub expected: Option<Value>,
    /// Which field says that it has taken effect, and what it holds then.
    pub until: Option<(String, Value)>,
    /// Whether it is taken from other field managers.
    pub force: bool,
}

/// Why a change was not made.
enum ChangeError {
    Api(ApiError),
    /// The field belongs to somebody else.
    Owned(Owner),
    /// It is not as it must be; nothing was asked for.
    Unfit(String),
}

impl From<ApiError> for ChangeError {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

struct Found {
    api: Api<DynamicObject>,
    object: DynamicObject,
    json: Value,
}

impl Change {
    /// Sets the field, and looks until it has taken effect.
    pub async fn perform(&self, step: &StepContext) -> StepResult {
        let deadline = Instant::now() + step.limit();
        let before = match self.begin(step, deadline).await {
            Ok(before) => before,
            Err(result) => return result,
        };
        loop {
            let seen = match self.seen(step, left(deadline)).await {
                Presence::InPlace(proof) => {
                    return StepResult::Done(proof.with("before", before.value.to_string()));
                }
                Presence::Absent { reason } | Presence::Unknown { reason } => reason,
            };
            if left(deadline) <= AGAIN {
                return StepResult::indeterminate(format!("the field was set, but {seen}"));
            }
            sleep(AGAIN).await;
        }
    }

    /// Looks whether it has taken effect. What this step has set, and has no effect yet, is waited for: it is neither in
    /// place nor absent.
    pub async fn observe(&self, step: &StepContext) -> Presence {
        let deadline = Instant::now() + step.limit();
        loop {
            let seen = self.seen(step, left(deadline)).await;
            if !matches!(seen, Presence::Unknown { .. }) || left(deadline) <= AGAIN {
                return seen;
            }
            sleep(AGAIN).await;
        }
    }

    async fn seen(&self, step: &StepContext, within: Duration) -> Presence {
        let found = match self.find(within).await {
            Ok(found) => found,
            Err(e) => return Presence::unknown(format!("{}: {}", self.cluster, e.told())),
        };
        let (target, pointer) = (&self.target, self.field.pointer());
        let held = self.field.held(&found.json);
        if held != self.value {
            return Presence::absent(format!("{pointer} of {target} is {held}"));
        }
        let annotations = found.object.metadata.annotations.as_ref();
        let own = self.field.before(annotations);
        let own = own.filter(|before| before.key == step.key);
        if let Some((until, wanted)) = &self.until {
            let held = found.json.pointer(until).unwrap_or(&Value::Null);
            if held != wanted {
                let told = format!("{until} of {target} is {held}, not {wanted} yet");
                return if own.is_some() {
                    Presence::unknown(told)
                } else {
                    Presence::absent(told)
                };
            }
        }
        let proof = Proof::new(format!("{pointer} of {target} is {held}"));
        Presence::InPlace(match own {
            Some(before) => proof.with("before", before.value.to_string()),
            None => proof,
        })
    }

    /// Sets back what was before.
    pub async fn undo(&self, step: &StepContext) -> StepResult {
        let deadline = Instant::now() + step.limit();
        let (target, pointer) = (&self.target, self.field.pointer());
        loop {
            let found = match self.find(left(deadline)).await {
                Ok(found) => found,
                Err(e) => return early(NOTHING, &e),
            };
            let held = self.field.held(&found.json);
            let annotations = found.object.metadata.annotations.as_ref();
            let Some(before) = self.field.before(annotations) else {
                if held == self.value && step.facts.contains_key(&format!("{}.before", step.step)) {
                    return StepResult::failed(format!(
                        "{pointer} of {target} is {held}, and what it was before is noted there no more; nothing was changed"
                    ));
                }
                return StepResult::done(format!(
                    "{pointer} of {target} is {held}; this step's change is not there any more"
                ));
            };
            if before.key != step.key || held != self.value {
                return StepResult::failed(format!(
                    "{pointer} of {target} is {held}: somebody else has set it since; nothing was changed"
                ));
            }
            match self.send(&found, &before.value, None, left(deadline)).await {
                Ok(()) => {
                    return StepResult::done(format!(
                        "{pointer} of {target} is {} again",
                        before.value
                    ));
                }
                Err(ChangeError::Api(e)) if e.is_overtaken() && left(deadline) > SOON => {
                    sleep(SOON).await;
                }
                Err(e) => return self.answered(&e),
            }
        }
    }

    /// Whether it could be set.
    pub async fn check(&self) -> Vec<CheckItem> {
        let pointer = self.field.pointer();
        let namespace = self.target.namespace.as_deref().unwrap_or("-");
        let name = format!("kubernetes/field/{namespace}/{}{pointer}", self.target.name);
        let found = match self.find(CHECK).await {
            Ok(found) => found,
            Err(e) => return vec![refused(&name, pointer, &e)],
        };
        let owners = self.owners(&found);
        let params = PatchParams {
            dry_run: true,
            ..params()
        };
        let before = Before {
            key: "check".into(),
            value: self.field.held(&found.json),
        };
        let tried = match self.fits(&found, &before.value) {
            Ok(()) => {
                let asked = self.send_with(&found, &self.value, Some(&before), &params, CHECK);
                asked.await
            }
            Err(e) => Err(e),
        };
        let mut items = vec![match tried {
            Ok(()) => CheckItem::ok(
                &name,
                format!(
                    "{pointer} of {} is {}, and may be set to {}",
                    self.target, before.value, self.value
                ),
            ),
            Err(ChangeError::Api(e)) => refused(&name, pointer, &e),
            Err(ChangeError::Owned(owner)) => CheckItem::bad(
                &name,
                CheckStatus::Fail,
                format!("{pointer} of {} belongs to {}", self.target, owner.told()),
                owner.fix(pointer),
            ),
            Err(ChangeError::Unfit(why)) => CheckItem::bad(
                &name,
                CheckStatus::Fail,
                why,
                "correct the step's settings, or the object",
            ),
        }];
        if self.force {
            items.extend(rival(&name, pointer, &owners));
        }
        items
    }

    /// Sets the field, with what was before noted in the same change; the error is the step's result.
    async fn begin(&self, step: &StepContext, deadline: Instant) -> Result<Before, StepResult> {
        loop {
            let found = self
                .find(left(deadline))
                .await
                .map_err(|e| early(NOTHING, &e))?;
            let held = self.field.held(&found.json);
            let annotations = found.object.metadata.annotations.as_ref();
            let own = self.field.before(annotations);
            let own = own.filter(|before| before.key == step.key);
            if let Some(before) = &own
                && held == self.value
            {
                return Ok(before.clone());
            }
            self.fits(&found, &held).map_err(|e| self.answered(&e))?;
            let before = own.unwrap_or(Before {
                key: step.key.clone(),
                value: held,
            });
            let asked = self.send(&found, &self.value, Some(&before), left(deadline));
            match asked.await {
                Ok(()) => return Ok(before),
                Err(ChangeError::Api(e)) if e.is_overtaken() && left(deadline) > SOON => {
                    sleep(SOON).await;
                }
                Err(e) => return Err(self.answered(&e)),
            }
        }
    }

    async fn find(&self, within: Duration) -> Result<Found, ApiError> {
        let client = self.cluster.client().await?;
        let target = &self.target;
        let (group, version) = match target.api_version.split_once('/') {
            Some((group, version)) => (group, version),
            None => ("", target.api_version.as_str()),
        };
        let gvk = GroupVersionKind::gvk(group, version, &target.kind);
        let asked = discovery::pinned_kind(&client, &gvk);
        let known = ApiError::within(within, asked).await;
        let (resource, known): (ApiResource, _) = known.map_err(|e| self.unknown(e))?;
        let api: Api<DynamicObject> = match (&target.namespace, known.scope) {
            (Some(namespace), Scope::Namespaced) => {
                Api::namespaced_with(client, namespace, &resource)
            }
            (None, Scope::Namespaced) => return Err(ApiError::Shape("namespace: give one")),
            (_, Scope::Cluster) => Api::all_with(client, &resource),
        };
        let object = ApiError::within(within, api.get(&target.name)).await?;
        let json = whole(&object);
        Ok(Found { api, object, json })
    }

    fn unknown(&self, error: ApiError) -> ApiError {
        let target = &self.target;
        if let ApiError::Broken(kube::Error::Discovery(_)) = &error {
            return ApiError::NoKind(format!("{} of {}", target.kind, target.api_version));
        }
        error
    }

    fn owners(&self, found: &Found) -> Vec<Owner> {
        let managed = found.object.metadata.managed_fields.as_ref();
        owners(managed, &self.field.segments())
    }

    /// Whether it may be set where it holds this.
    fn fits(&self, found: &Found, held: &Value) -> Result<(), ChangeError> {
        if *held == self.value {
            return Ok(());
        }
        let (target, pointer) = (&self.target, self.field.pointer());
        if let Some(expected) = self.expected.as_ref().filter(|expected| *expected != held) {
            return Err(ChangeError::Unfit(format!(
                "{pointer} of {target} is {held}, and must be {expected} before this step"
            )));
        }
        match self.owners(found).into_iter().next() {
            Some(owner) if !self.force => Err(ChangeError::Owned(owner)),
            Some(_) | None => Ok(()),
        }
    }

    async fn send(
        &self,
        found: &Found,
        value: &Value,
        before: Option<&Before>,
        within: Duration,
    ) -> Result<(), ChangeError> {
        self.send_with(found, value, before, &params(), within)
            .await
    }

    async fn send_with(
        &self,
        found: &Found,
        value: &Value,
        before: Option<&Before>,
        params: &PatchParams,
        within: Duration,
    ) -> Result<(), ChangeError> {
        let patch = self.field.patch(&found.json, value, before);
        let patch = patch.map_err(|why| ChangeError::Unfit(format!("{}: {why}", self.target)))?;
        let unfit = |e: serde_json::Error| ChangeError::Unfit(format!("{}: {e}", self.target));
        let patch: Patch<()> = Patch::Json(serde_json::from_value(patch).map_err(unfit)?);
        let asked = found.api.patch(&self.target.name, params, &patch);
        ApiError::within(within, asked).await?;
        Ok(())
    }

    fn answered(&self, error: &ChangeError) -> StepResult {
        let pointer = self.field.pointer();
        match error {
            ChangeError::Api(e) => answered(NOTHING, pointer, &[], e),
            ChangeError::Owned(owner) => owned(NOTHING, pointer, owner),
            ChangeError::Unfit(why) => StepResult::failed(format!("{NOTHING}: {why}")),
        }
    }
}

fn params() -> PatchParams {
    PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    }
}
