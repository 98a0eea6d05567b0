//! `kubernetes/scale`: a Deployment or `StatefulSet` gets so many replicas, and has them Ready.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{
    model::{
        check::CheckItem,
        secret::SecretRef,
        site::Site,
        step::{Presence, Proof, StepResult},
    },
    port::{
        action::{Action, SharedAction, StepContext},
        kind::{Kind, Make, MakeError, Problem, Wiring, With, read},
        kubernetes::{
            AGAIN, ApiError, CHECK, Cluster, Note, REPLICAS, SOON, Standing, Workload,
            WorkloadKind, answered, autoscalers, early, left, name_problem, refused, rival,
            scalable,
        },
    },
};

/// What an error of the step begins with.
const NOTHING: &str = "nothing was scaled";

/// `kubernetes/scale`.
pub const KIND: Kind = Kind::new::<ScaleWith>(
    "kubernetes/scale",
    "scales a Deployment or StatefulSet, and waits until its Pods are Ready",
    "namespace: shop\nkind: Deployment\nname: shop\nreplicas: 4\n",
    Make::Action(make),
);

/// Settings of `kubernetes/scale`. Taking it back scales to what was before, which stands in the workload's annotation
/// `failover.rs/scaled`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScaleWith {
    /// A kubeconfig, whole. Default: the service account of the Pod that this runs in. The account needs get and patch
    /// on the workload, and list on horizontalpodautoscalers for `failover check`.
    #[serde(default)]
    pub kubeconfig: Option<SecretRef>,
    /// The workload's namespace.
    pub namespace: String,
    /// What it is.
    pub kind: WorkloadKind,
    /// Its name.
    pub name: String,
    /// As many it gets, and must have Ready.
    pub replicas: u32,
    /// Takes the number from another field manager, such as kubectl or Helm. Default: false; the step then fails.
    #[serde(default)]
    pub force: bool,
}

impl With for ScaleWith {
    fn problems(&self) -> Vec<Problem> {
        [("namespace", &self.namespace), ("name", &self.name)]
            .into_iter()
            .filter_map(|(path, name)| name_problem(path, name))
            .collect()
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedAction, MakeError> {
    let with: ScaleWith = read(with)?;
    Ok(Arc::new(Scale {
        cluster: Cluster::new(with.kubeconfig.clone(), wiring),
        with,
    }))
}

struct Scale {
    cluster: Cluster,
    with: ScaleWith,
}

#[async_trait]
impl Action for Scale {
    async fn perform(&self, step: &StepContext) -> StepResult {
        let deadline = Instant::now() + step.limit();
        let note = match self.begin(step, deadline).await {
            Ok(note) => note,
            Err(result) => return result,
        };
        self.until_ready(self.with.replicas, note.before, deadline)
            .await
    }

    /// What this step has asked for is waited for. What is not Ready by then is absent: asking again changes nothing, and
    /// people are asked in the end.
    async fn observe(&self, step: &StepContext) -> Presence {
        let deadline = Instant::now() + step.limit();
        loop {
            let standing = match self.look(left(deadline)).await {
                Ok((_, standing)) => standing,
                Err(e) => return Presence::unknown(format!("{}: {}", self.cluster, e.told())),
            };
            let told = format!("{} has {}", self.title(), standing.told());
            let own = standing.note.as_ref().filter(|note| note.key == step.key);
            if standing.has(self.with.replicas) {
                let proof = Proof::new(told);
                return Presence::InPlace(match own {
                    Some(note) => proof.with("before", note.before.to_string()),
                    None => proof,
                });
            }
            let is_asked = own.is_some() && standing.wanted == self.with.replicas;
            if !is_asked || left(deadline) <= AGAIN {
                return Presence::absent(told);
            }
            sleep(AGAIN).await;
        }
    }

    async fn undo(&self, step: &StepContext) -> Option<StepResult> {
        let deadline = Instant::now() + step.limit();
        Some(match self.back(step, deadline).await {
            Ok(before) => self.until_ready(before, before, deadline).await,
            Err(result) => result,
        })
    }

    async fn check(&self, _from: &Site, _to: &Site) -> Vec<CheckItem> {
        let name = format!(
            "kubernetes/scale/{}/{}",
            self.with.namespace, self.with.name
        );
        let (workload, standing) = match self.look(CHECK).await {
            Ok(seen) => seen,
            Err(e) => return vec![refused(&name, REPLICAS, &e)],
        };
        let replicas = self.with.replicas;
        let force = self.with.force;
        let mut items = vec![scalable(&name, &workload, &standing, replicas, force).await];
        if force {
            items.extend(rival(&name, REPLICAS, &standing.owners));
        }
        if let Ok(client) = self.cluster.client().await {
            items.extend(autoscalers(&client, &workload, replicas, CHECK).await);
        }
        items
    }
}

impl Scale {
    async fn look(&self, within: Duration) -> Result<(Workload, Standing), ApiError> {
        let client = self.cluster.client().await?;
        let with = &self.with;
        let workload = Workload::new(client, &with.namespace, with.kind, &with.name);
        let standing = workload.read(within).await?;
        Ok((workload, standing))
    }

    fn title(&self) -> String {
        let with = &self.with;
        format!("{} {}/{}", with.kind.word(), with.namespace, with.name)
    }

    /// Has the number wanted, with what was before noted in the same change; the error is the step's result.
    async fn begin(&self, step: &StepContext, deadline: Instant) -> Result<Note, StepResult> {
        let how = Workload::applying(self.with.force);
        loop {
            let (workload, standing) = self
                .look(left(deadline))
                .await
                .map_err(|e| early(NOTHING, &e))?;
            let own = standing.note.clone().filter(|note| note.key == step.key);
            if let Some(note) = &own
                && standing.wanted == self.with.replicas
            {
                return Ok(note.clone());
            }
            let note = own.unwrap_or(Note {
                key: step.key.clone(),
                before: standing.wanted,
                ending: None,
            });
            let asked = workload.scale(
                &standing,
                self.with.replicas,
                Some(&note),
                how.clone(),
                left(deadline),
            );
            match asked.await {
                Ok(()) => return Ok(note),
                Err(e) if e.is_overtaken() && left(deadline) > SOON => sleep(SOON).await,
                Err(e) => return Err(answered(NOTHING, REPLICAS, &standing.owners, &e)),
            }
        }
    }

    /// Has what was before wanted again, and returns it; the error is the step's result.
    async fn back(&self, step: &StepContext, deadline: Instant) -> Result<u32, StepResult> {
        let how = Workload::applying(self.with.force);
        loop {
            let (workload, standing) = self
                .look(left(deadline))
                .await
                .map_err(|e| early(NOTHING, &e))?;
            let before = match &standing.note {
                Some(note) if note.key == step.key && standing.wanted == self.with.replicas => {
                    note.before
                }
                Some(note) if note.key == step.key => {
                    return Err(StepResult::failed(format!(
                        "somebody else has scaled {workload} to {} since; nothing was changed",
                        standing.wanted
                    )));
                }
                Some(_) => {
                    return Err(StepResult::failed(format!(
                        "another step has scaled {workload} since; nothing was changed"
                    )));
                }
                None => match before(step) {
                    // It was taken back before, and this was not heard.
                    Some(before) if before == standing.wanted => return Ok(before),
                    Some(_) => {
                        return Err(StepResult::failed(format!(
                            "the note on {workload} is gone: somebody else has scaled it since; nothing was changed"
                        )));
                    }
                    None => {
                        return Err(StepResult::done(format!(
                            "{workload} was not scaled by this step; it has {}",
                            standing.told()
                        )));
                    }
                },
            };
            let asked = workload.scale(&standing, before, None, how.clone(), left(deadline));
            match asked.await {
                Ok(()) => return Ok(before),
                Err(e) if e.is_overtaken() && left(deadline) > SOON => sleep(SOON).await,
                Err(e) => return Err(answered(NOTHING, REPLICAS, &standing.owners, &e)),
            }
        }
    }

    /// Waits until there are as many, and all are Ready.
    async fn until_ready(&self, replicas: u32, before: u32, deadline: Instant) -> StepResult {
        let title = self.title();
        loop {
            let seen = match self.look(left(deadline)).await {
                Ok((_, standing)) if standing.has(replicas) => {
                    let told = format!("{title} has {}, and had {before} before", standing.told());
                    return StepResult::Done(Proof::new(told).with("before", before.to_string()));
                }
                Ok((_, standing)) if standing.wanted != replicas => {
                    return StepResult::indeterminate(format!(
                        "{title} was scaled to {replicas}, and somebody else has scaled it to {} since",
                        standing.wanted
                    ));
                }
                Ok((_, standing)) => format!("it has {}", standing.told()),
                Err(e) => e.told(),
            };
            if left(deadline) <= AGAIN {
                return StepResult::indeterminate(format!(
                    "{title} was scaled to {replicas}, but {seen}"
                ));
            }
            sleep(AGAIN).await;
        }
    }
}

/// What was before, as the run's journal has it.
fn before(step: &StepContext) -> Option<u32> {
    let fact = step.facts.get(&format!("{}.before", step.step))?;
    fact.parse().ok()
}
