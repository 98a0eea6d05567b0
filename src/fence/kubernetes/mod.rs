//! `kubernetes/fence`: the old site's workloads are scaled to zero in its own cluster. Proved once the kubelet of each of
//! their Pods has said that its containers have ended.
//!
//! That a Pod is gone proves nothing: whoever deletes one by force takes away the object, not the process. So which Pods
//! there are is written on the workload in the very change that scales it, and everything that the API server has seen of
//! them since is gone through, also by the next process.

mod pods;
mod with;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::join_all;
use kube::Client;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use pods::{Following, Pods, Reading};
use with::FenceWith;

use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        plan::StepPhase,
        site::Site,
        step::{Presence, Proof, Rung, StepResult},
    },
    port::{
        action::{Action, SharedAction, StepContext},
        kind::{Kind, Make, MakeError, Wiring, read},
        kubernetes::{
            ApiError, Cluster, Ending, Note, Owner, Workload, WorkloadWith, autoscalers, refused,
            rival,
        },
    },
};

/// Time between two looks while nothing is told.
const AGAIN: Duration = Duration::from_millis(500);
/// Time before an object that somebody changed meanwhile is changed again.
const SOON: Duration = Duration::from_millis(100);
/// How long `failover check` waits for an answer.
const CHECK: Duration = Duration::from_secs(10);
/// How long a look goes through what has been; everything of it is there at once.
const REPLAY: Duration = Duration::from_secs(5);
/// What is set.
const FIELD: &str = "spec.replicas";

/// `kubernetes/fence`.
pub const KIND: Kind = Kind::new::<FenceWith>(
    "kubernetes/fence",
    "scales the old site's workloads to zero; proved once live kubelets said that every Pod of them has ended",
    "kubeconfig: {secretRef: {name: primary-kubeconfig, key: kubeconfig}}\nnamespace: shop\n\
     workloads:\n  - {kind: Deployment, name: shop}\n  - {kind: StatefulSet, name: shop-db}\n",
    Make::Action(make),
)
.in_phase(StepPhase::Fence)
.reaching(Rung::Infrastructure);

fn make(with: &Value, wiring: &Wiring) -> Result<SharedAction, MakeError> {
    let with: FenceWith = read(with)?;
    Ok(Arc::new(KubernetesFence {
        cluster: Cluster::new(with.kubeconfig.clone(), wiring),
        with,
    }))
}

struct KubernetesFence {
    cluster: Cluster,
    with: FenceWith,
}

/// How far the end of one workload's Pods is proved.
enum Ended {
    /// All of them have.
    All {
        /// In words.
        told: String,
        /// As many replicas were wanted before.
        before: u32,
    },
    /// Not yet, or nobody can tell any more.
    NotProved(String),
}

#[async_trait]
impl Action for KubernetesFence {
    async fn perform(&self, step: &StepContext) -> StepResult {
        let deadline = Instant::now() + step.limit();
        let client = match self.cluster.client().await {
            Ok(client) => client,
            Err(e) => return early(&self.cluster, &e),
        };
        let each = self.workloads(&client);
        let begun = each.iter().map(|w| self.begin(&client, w, step, deadline));
        let (mut open, mut failed, mut unclear) = (Vec::new(), Vec::new(), Vec::new());
        for (workload, begun) in each.iter().zip(join_all(begun).await) {
            match begun {
                Ok(note) => open.push((workload, note)),
                Err(StepResult::Failed { reason }) => failed.push(reason),
                Err(StepResult::Indeterminate { reason }) => unclear.push(reason),
                Err(StepResult::Done(proof)) => unclear.push(proof.summary),
            }
        }
        if open.is_empty() && unclear.is_empty() {
            return StepResult::failed(failed.join("; "));
        }
        unclear.append(&mut failed);
        let following = open
            .iter()
            .map(|(w, note)| self.until_ended(&client, w, note, deadline));
        let mut ended = Vec::new();
        for one in join_all(following).await {
            match one {
                Ended::All { told, before } => ended.push((told, before)),
                Ended::NotProved(why) => unclear.push(why),
            }
        }
        if !unclear.is_empty() {
            return StepResult::indeterminate(unclear.join("; "));
        }
        loop {
            match self.nodes_unheard(&client, left(deadline)).await {
                Ok(None) => return StepResult::Done(self.proof(&ended)),
                Ok(Some(why)) if left(deadline) <= AGAIN => {
                    return StepResult::indeterminate(why);
                }
                Err(e) if e.is_certain() || left(deadline) <= AGAIN => {
                    return StepResult::indeterminate(unseen(&e));
                }
                Ok(Some(_)) | Err(_) => sleep(AGAIN).await,
            }
        }
    }

    async fn observe(&self, step: &StepContext) -> Presence {
        let deadline = Instant::now() + step.limit();
        let client = match self.cluster.client().await {
            Ok(client) => client,
            Err(e) => return Presence::unknown(format!("{}: {}", self.cluster, e.told())),
        };
        let mut ended = Vec::new();
        for workload in self.workloads(&client) {
            match self.seen(&client, &workload, step, deadline).await {
                Ok(Ended::All { told, before }) => ended.push((told, before)),
                Ok(Ended::NotProved(why)) => return Presence::unknown(why),
                Err(presence) => return presence,
            }
        }
        match self.nodes_unheard(&client, left(deadline)).await {
            Ok(None) => Presence::InPlace(self.proof(&ended)),
            Ok(Some(why)) => Presence::unknown(why),
            Err(e) => Presence::unknown(unseen(&e)),
        }
    }

    async fn undo(&self, step: &StepContext) -> Option<StepResult> {
        let deadline = Instant::now() + step.limit();
        let client = match self.cluster.client().await {
            Ok(client) => client,
            Err(e) => return Some(early(&self.cluster, &e)),
        };
        let each = self.workloads(&client);
        let (mut done, mut failed, mut unclear) = (Vec::new(), Vec::new(), Vec::new());
        for result in join_all(each.iter().map(|w| self.back(w, step, deadline))).await {
            match result {
                StepResult::Done(proof) => done.push(proof.summary),
                StepResult::Failed { reason } => failed.push(reason),
                StepResult::Indeterminate { reason } => unclear.push(reason),
            }
        }
        Some(if failed.is_empty() && unclear.is_empty() {
            StepResult::done(done.join("; "))
        } else if done.is_empty() && unclear.is_empty() {
            StepResult::failed(failed.join("; "))
        } else {
            StepResult::indeterminate([failed, unclear, done].concat().join("; "))
        })
    }

    async fn check(&self, _from: &Site, _to: &Site) -> Vec<CheckItem> {
        let client = match self.cluster.client().await {
            Ok(client) => client,
            Err(e) => return vec![refused("kubernetes/fence", FIELD, &e)],
        };
        let each = self.workloads(&client);
        let mut items = join_all(each.iter().map(|w| self.tried(&client, w)))
            .await
            .concat();
        items.push(self.nodes_item(&client).await);
        items
    }
}

impl KubernetesFence {
    fn workloads(&self, client: &Client) -> Vec<Workload> {
        let each = self.with.workloads.iter();
        let one = |with: &WorkloadWith| Workload::new(client.clone(), &self.with.namespace, with);
        each.map(one).collect()
    }

    /// Has none wanted, with the Pods that are there noted in the same change; the error is the step's result.
    async fn begin(
        &self,
        client: &Client,
        workload: &Workload,
        step: &StepContext,
        deadline: Instant,
    ) -> Result<Note, StepResult> {
        loop {
            let early = |e: ApiError| early(&self.cluster, &e);
            let standing = workload.read(left(deadline)).await.map_err(early)?;
            let noted = standing.note.clone();
            let own = noted.clone().filter(|note| note.key == step.key);
            if let Some(note) = own.clone().filter(|n| n.ending.is_some())
                && standing.wanted == 0
            {
                return Ok(note);
            }
            let pods = Pods::new(client, workload, &standing.selector);
            let (since, listed) = pods.list(left(deadline)).await.map_err(early)?;
            // Those whose end nobody has seen since an earlier fence may run still.
            let earlier = noted.and_then(|note| note.ending);
            let mut ending = earlier
                .filter(|ending| !ending.pods.is_empty())
                .unwrap_or(Ending {
                    since,
                    pods: BTreeMap::new(),
                });
            ending.pods.extend(listed);
            let note = Note {
                key: step.key.clone(),
                before: own.map_or(standing.wanted, |note| note.before),
                ending: Some(ending),
            };
            let how = Workload::applying(self.with.force);
            let asked = workload.scale(&standing, 0, Some(&note), how, left(deadline));
            match asked.await {
                Ok(_) => return Ok(note),
                Err(e) if e.is_overtaken() && left(deadline) > SOON => sleep(SOON).await,
                Err(e) => return Err(answered(workload, &e)),
            }
        }
    }

    /// Follows the Pods until all have ended, and writes down that they have.
    async fn until_ended(
        &self,
        client: &Client,
        workload: &Workload,
        note: &Note,
        deadline: Instant,
    ) -> Ended {
        let told = match self.followed(client, workload, note, deadline).await {
            Ok(told) => told,
            Err(why) => return Ended::NotProved(why),
        };
        let mut proved = note.clone();
        if let Some(ending) = &mut proved.ending {
            ending.pods.clear();
        }
        let how = || Workload::applying(self.with.force);
        // The proof is here, whether that can be written or not.
        while let Ok(standing) = workload.read(left(deadline)).await {
            if standing.wanted != 0 {
                let wanted = standing.wanted;
                return Ended::NotProved(format!(
                    "somebody has scaled {workload} to {wanted} again"
                ));
            }
            let asked = workload.scale(&standing, 0, Some(&proved), how(), left(deadline));
            match asked.await {
                Err(e) if e.is_overtaken() && left(deadline) > SOON => sleep(SOON).await,
                Ok(_) | Err(_) => break,
            }
        }
        Ended::All {
            told,
            before: note.before,
        }
    }

    /// What is known of one workload; the error is what was observed at once.
    async fn seen(
        &self,
        client: &Client,
        workload: &Workload,
        step: &StepContext,
        deadline: Instant,
    ) -> Result<Ended, Presence> {
        let unknown = |e: ApiError| Presence::unknown(format!("{}: {}", self.cluster, e.told()));
        let standing = workload.read(left(deadline)).await.map_err(unknown)?;
        if standing.wanted != 0 {
            let wanted = standing.wanted;
            return Err(Presence::absent(format!(
                "{workload} wants {wanted} replicas"
            )));
        }
        let note = standing.note.clone().filter(|note| note.key == step.key);
        let Some(note) = note.filter(|note| note.ending.is_some()) else {
            return Err(Presence::absent(format!(
                "{workload} was not scaled to zero by this step"
            )));
        };
        let pods = Pods::new(client, workload, &standing.selector);
        let (_, listed) = pods.list(left(deadline)).await.map_err(unknown)?;
        if let Some(one) = listed.values().next() {
            let count = listed.len();
            return Err(Presence::absent(format!(
                "{count} Pods of {workload} have not ended, such as {one}"
            )));
        }
        let until = deadline.min(Instant::now() + REPLAY);
        Ok(match self.followed(client, workload, &note, until).await {
            Ok(told) => Ended::All {
                told,
                before: note.before,
            },
            Err(why) => Ended::NotProved(why),
        })
    }

    /// Goes through what becomes of the Pods, until all have ended and the controller makes no more; the error says why
    /// that is not proved.
    async fn followed(
        &self,
        client: &Client,
        workload: &Workload,
        note: &Note,
        deadline: Instant,
    ) -> Result<String, String> {
        let Some(ending) = &note.ending else {
            return Err(format!("it is not known which Pods {workload} had"));
        };
        let mut following = Following::new(ending);
        loop {
            let turn = self.turn(client, workload, &mut following, deadline);
            let why = match turn.await {
                Ok(None) => {
                    return Ok(match ending.pods.len() {
                        0 => format!("{workload} has no Pods"),
                        n => format!("{n} Pods of {workload} have ended, as their kubelets say"),
                    });
                }
                Ok(Some(why)) => why,
                Err(e) => unseen(&e),
            };
            if let Reading::Vanished(pod) = following.reading() {
                return Err(format!(
                    "the Pod {pod} was taken away before its kubelet said that it had ended: it may run still"
                ));
            }
            if left(deadline) <= AGAIN {
                return Err(why);
            }
            sleep(SOON).await;
        }
    }

    /// Looks once more at the Pods; what is left, where something is.
    async fn turn(
        &self,
        client: &Client,
        workload: &Workload,
        following: &mut Following,
        deadline: Instant,
    ) -> Result<Option<String>, ApiError> {
        let standing = workload.read(left(deadline)).await?;
        let pods = Pods::new(client, workload, &standing.selector);
        pods.follow(following, left(deadline)).await?;
        match following.reading() {
            Reading::Vanished(pod) | Reading::Left(pod) => {
                return Ok(Some(format!("the Pod {pod} has not ended")));
            }
            Reading::Ended => {}
        }
        let standing = workload.read(left(deadline)).await?;
        if !standing.has(0) {
            return Ok(Some(format!("{workload} has {}", standing.told())));
        }
        // One may have been made while its controller had not heard of it yet.
        pods.join(following, left(deadline)).await?;
        Ok(match following.reading() {
            Reading::Vanished(pod) | Reading::Left(pod) => {
                Some(format!("the Pod {pod} has not ended"))
            }
            Reading::Ended => None,
        })
    }

    /// Nodes that could run what nobody sees; none where every kubelet is heard.
    async fn nodes_unheard(
        &self,
        client: &Client,
        within: Duration,
    ) -> Result<Option<String>, ApiError> {
        let silent = pods::silent_nodes(client, &self.with.nodes, within).await?;
        let Some(first) = silent.first() else {
            return Ok(None);
        };
        Ok(Some(format!(
            "{} nodes are not Ready, such as {first}: a Pod that was taken away by force may run there; switch the \
             node off and delete it from the cluster",
            silent.len()
        )))
    }

    fn proof(&self, ended: &[(String, u32)]) -> Proof {
        let told: Vec<&str> = ended.iter().map(|(told, _)| told.as_str()).collect();
        let proof = Proof::new(format!("{}; every node is Ready", told.join("; ")));
        let names = self.with.workloads.iter().map(|w| &w.name);
        let noted = names.zip(ended).fold(proof, |proof, (name, (_, before))| {
            proof.with(&format!("before.{name}"), before.to_string())
        });
        noted.reaching(Rung::Infrastructure)
    }

    async fn back(&self, workload: &Workload, step: &StepContext, deadline: Instant) -> StepResult {
        loop {
            let standing = match workload.read(left(deadline)).await {
                Ok(standing) => standing,
                Err(e) => return early(&self.cluster, &e),
            };
            let before = match &standing.note {
                Some(note) if note.key == step.key && standing.wanted == 0 => note.before,
                Some(_) | None if standing.wanted != 0 => {
                    return StepResult::done(format!(
                        "{workload} wants {} replicas",
                        standing.wanted
                    ));
                }
                Some(_) | None => {
                    return StepResult::failed(format!(
                        "{workload} was not scaled to zero by this step; nothing was changed"
                    ));
                }
            };
            let how = Workload::applying(self.with.force);
            let asked = workload.scale(&standing, before, None, how, left(deadline));
            match asked.await {
                Ok(_) => {
                    return StepResult::done(format!("{workload} wants {before} replicas again"));
                }
                Err(e) if e.is_overtaken() && left(deadline) > SOON => sleep(SOON).await,
                Err(e) => return answered(workload, &e),
            }
        }
    }

    /// Asks the server whether it would take the change.
    async fn tried(&self, client: &Client, workload: &Workload) -> Vec<CheckItem> {
        let name = format!("kubernetes/fence/{}/{}", workload.namespace, workload.name);
        let standing = match workload.read(CHECK).await {
            Ok(standing) => standing,
            Err(e) => return vec![refused(&name, FIELD, &e)],
        };
        let pods = Pods::new(client, workload, &standing.selector);
        if let Err(e) = pods.list(CHECK).await {
            return vec![refused(&name, FIELD, &e)];
        }
        let note = Note {
            key: "check".into(),
            before: standing.wanted,
            ending: None,
        };
        let how = Workload::applying(self.with.force).dry_run();
        let mut items = vec![
            match workload.scale(&standing, 0, Some(&note), how, CHECK).await {
                Ok(_) => CheckItem::ok(
                    &name,
                    format!(
                        "{workload} has {}, and may be scaled to zero",
                        standing.told()
                    ),
                ),
                Err(e) => refused(&name, FIELD, &e),
            },
        ];
        if self.with.force {
            items.extend(rival(&name, FIELD, &standing.owners));
        }
        items.extend(autoscalers(client, workload, 0, CHECK).await);
        items
    }

    async fn nodes_item(&self, client: &Client) -> CheckItem {
        let name = "kubernetes/nodes";
        match self.nodes_unheard(client, CHECK).await {
            Ok(None) => CheckItem::ok(name, "every node is Ready"),
            Ok(Some(why)) => CheckItem::bad(
                name,
                CheckStatus::Warn,
                format!("the fence would not be proved: {why}"),
                "repair these nodes, or delete them from the cluster once they are off",
            ),
            Err(e) => CheckItem::bad(
                name,
                CheckStatus::Fail,
                format!("the fence would not be proved: {}", unseen(&e)),
                "allow the account of the kubeconfig to list nodes in that cluster",
            ),
        }
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

fn unseen(error: &ApiError) -> String {
    format!(
        "whether everything has ended cannot be seen: {}",
        error.told()
    )
}

/// An error before anything was asked for. A time-out is never a failure: an earlier attempt may be under way.
fn early(cluster: &Cluster, error: &ApiError) -> StepResult {
    let text = format!("nothing was fenced: {cluster}: {}", error.told());
    if error.is_certain() {
        StepResult::failed(text)
    } else {
        StepResult::indeterminate(text)
    }
}

/// An error of the change itself.
fn answered(workload: &Workload, error: &ApiError) -> StepResult {
    if let Some(first) = error.rivals().first() {
        let owner = Owner::new(first, None);
        return StepResult::failed(format!(
            "{workload} was not fenced: {FIELD} belongs to {}; {}",
            owner.told(),
            owner.fix(FIELD)
        ));
    }
    if error.is_certain() {
        return StepResult::failed(format!("{workload} was not fenced: {}", error.told()));
    }
    StepResult::indeterminate(error.told())
}
