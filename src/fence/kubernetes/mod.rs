//! `kubernetes/fence`: the old site's workloads are scaled to zero in its own cluster. Proved once the kubelet of each of
//! their Pods has said that its containers have ended.
//!
//! That a Pod is gone proves nothing: whoever deletes one by force takes away the object, not the process. So which Pods
//! there are is written on the workload in the very change that scales it, and everything that the API server has seen of
//! them since is gone through, also by the next process.

mod identity;
mod pods;
mod with;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::{join, join_all};
use kube::Client;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use pods::{Following, Nodes, Pods, Reading};
use with::FenceWith;

use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        plan::{CLUSTER_FENCE, StepPhase},
        site::Site,
        step::{Presence, Proof, Rung, StepResult},
    },
    port::{
        action::{Action, SharedAction, StepContext},
        kind::{Kind, Make, MakeError, Wiring, read},
        kubernetes::{
            AGAIN, ApiError, CHECK, Cluster, Ending, Note, Owner, REPLICAS, SOON, Standing,
            Workload, answered, autoscalers, early, left, refused, rival, scalable,
        },
    },
};

/// How much longer than their Pods may take to end the nodes must have been Ready.
const MARGIN: Duration = Duration::from_secs(2);
/// What an error of the step itself begins with.
const NOTHING: &str = "nothing was fenced";
/// What an error of taking it back begins with.
const NOT_BACK: &str = "nothing was scaled back";

/// `kubernetes/fence`.
pub const KIND: Kind = Kind::new::<FenceWith>(
    CLUSTER_FENCE,
    "scales the old site's workloads to zero; proved once live kubelets said that every Pod of them has ended",
    "kubeconfig: {secretRef: {name: primary-kubeconfig, key: kubeconfig}}\ncluster: 5f0c3f0e-6a58-4c8e-9d5c-0d2b1f6f7a31\nnamespace: shop\n\
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

/// A workload whose Pods have ended.
struct Followed {
    /// In words.
    told: String,
    /// What is known of them.
    following: Following,
}

#[async_trait]
impl Action for KubernetesFence {
    async fn perform(&self, step: &StepContext) -> StepResult {
        let deadline = Instant::now() + step.limit();
        let client = match self.client(left(deadline)).await {
            Ok(client) => client,
            Err(e) => return self.early(NOTHING, &e),
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
        loop {
            let ended = match self.ended(&client, &open, deadline).await {
                Ok(ended) => ended,
                Err(why) => {
                    unclear.push(why);
                    return StepResult::indeterminate(unclear.join("; "));
                }
            };
            if !unclear.is_empty() {
                return StepResult::indeterminate(unclear.join("; "));
            }
            match self.still(&client, &open, ended, deadline).await {
                Ok(ended) => {
                    for ((workload, note), one) in open.iter().zip(&ended) {
                        self.write_ended(workload, note, one, true, deadline).await;
                    }
                    return StepResult::Done(self.proof(&open, &ended));
                }
                Err(why) if left(deadline) <= AGAIN => return StepResult::indeterminate(why),
                Err(_) => sleep(AGAIN).await,
            }
        }
    }

    async fn observe(&self, step: &StepContext) -> Presence {
        let deadline = Instant::now() + step.limit();
        let client = match self.client(left(deadline)).await {
            Ok(client) => client,
            Err(e) => return Presence::unknown(format!("{}: {}", self.cluster, e.told())),
        };
        let each = self.workloads(&client);
        let open = match self.noted(&client, &each, step, deadline).await {
            Ok(open) => open,
            Err(presence) => return presence,
        };
        let seen = match self.ended(&client, &open, deadline).await {
            Ok(ended) => self.still(&client, &open, ended, deadline).await,
            Err(why) => Err(why),
        };
        match seen {
            Ok(ended) => Presence::InPlace(self.proof(&open, &ended)),
            Err(why) => Presence::unknown(why),
        }
    }

    async fn undo(&self, step: &StepContext) -> Option<StepResult> {
        let deadline = Instant::now() + step.limit();
        let client = match self.client(left(deadline)).await {
            Ok(client) => client,
            Err(e) => return Some(self.early(NOT_BACK, &e)),
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
        let client = match self.client(CHECK).await {
            Ok(client) => client,
            Err(e) => return vec![refused("kubernetes/fence", REPLICAS, &e)],
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
    /// A client of the cluster that the step names, and of no other.
    async fn client(&self, within: Duration) -> Result<Client, ApiError> {
        let client = self.cluster.client().await?;
        let found = identity::uid(&client, within).await?;
        if found == self.with.cluster {
            return Ok(client);
        }
        Err(ApiError::Settings(format!(
            "it leads to the cluster {found}, and the step's `cluster` is {}",
            self.with.cluster
        )))
    }

    /// An error before anything was asked for.
    fn early(&self, nothing: &str, error: &ApiError) -> StepResult {
        early(&format!("{nothing}: {}", self.cluster), error)
    }

    fn workloads(&self, client: &Client) -> Vec<Workload> {
        let each = self.with.workloads.iter();
        let namespace = &self.with.namespace;
        each.map(|with| Workload::new(client.clone(), namespace, with.kind, &with.name))
            .collect()
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
            let early = |e: ApiError| self.early(NOTHING, &e);
            let standing = match workload.read(left(deadline)).await {
                Ok(standing) => standing,
                Err(e) if !e.is_certain() && left(deadline) > AGAIN => {
                    sleep(AGAIN).await;
                    continue;
                }
                Err(e) => return Err(early(e)),
            };
            let noted = standing.note.clone();
            let own = noted.clone().filter(|note| note.key == step.key);
            let is_begun = own.is_some();
            // What an earlier fence scaled to zero had more before, and who insisted then may insist still.
            let stands = noted.clone().filter(|note| {
                note.key == step.key || (note.ending.is_some() && standing.wanted == 0)
            });
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
                    is_settled: false,
                    rivals: Vec::new(),
                });
            ending.pods.extend(listed);
            ending.is_settled = false;
            let rivals = standing
                .owners
                .iter()
                .filter(|owner| insists_at_zero(owner));
            let earlier = stands.iter().flat_map(|note| &note.ending);
            let earlier = earlier.flat_map(|ending| ending.rivals.clone());
            ending.rivals = rivals.map(Owner::told).chain(earlier).collect();
            ending.rivals.dedup();
            let note = Note {
                key: step.key.clone(),
                before: stands.map_or(standing.wanted, |note| note.before),
                ending: Some(ending),
            };
            let how = Workload::applying(self.with.force);
            let asked = workload.scale(&standing, 0, Some(&note), how, left(deadline));
            match asked.await {
                Ok(()) => return Ok(note),
                Err(e) if e.is_overtaken() && left(deadline) > SOON => sleep(SOON).await,
                Err(e) if !e.is_certain() && left(deadline) > AGAIN => sleep(AGAIN).await,
                Err(e) => {
                    let result = refusal(workload, &standing, &e);
                    return Err(match result {
                        // What an earlier attempt did stands.
                        StepResult::Failed { reason } if is_begun => {
                            StepResult::indeterminate(reason)
                        }
                        StepResult::Failed { .. }
                        | StepResult::Indeterminate { .. }
                        | StepResult::Done(_) => result,
                    });
                }
            }
        }
    }

    /// What is noted of each workload by this step; the error is what was observed at once. It is absent only where no
    /// part of it stands: what stands in part is neither done nor undone.
    async fn noted<'w>(
        &self,
        client: &Client,
        each: &'w [Workload],
        step: &StepContext,
        deadline: Instant,
    ) -> Result<Vec<(&'w Workload, Note)>, Presence> {
        let unknown = |e: ApiError| Presence::unknown(format!("{}: {}", self.cluster, e.told()));
        let (mut open, mut missing) = (Vec::new(), Vec::new());
        let mut has_part = false;
        for workload in each {
            let standing = workload.read(left(deadline)).await.map_err(unknown)?;
            let note = standing.note.clone().filter(|note| note.key == step.key);
            has_part |= note.is_some();
            match note.filter(|note| note.ending.is_some()) {
                Some(_) | None if standing.wanted != 0 => {
                    missing.push(format!("{workload} wants {} replicas", standing.wanted));
                }
                Some(note) => {
                    let pods = Pods::new(client, workload, &standing.selector);
                    let (_, listed) = pods.list(left(deadline)).await.map_err(unknown)?;
                    if let Some(one) = listed.values().next() {
                        let count = listed.len();
                        missing.push(format!(
                            "{count} Pods of {workload} have not ended, such as {one}"
                        ));
                    }
                    open.push((workload, note));
                }
                None => missing.push(format!("{workload} was not scaled to zero by this step")),
            }
        }
        if missing.is_empty() {
            return Ok(open);
        }
        let told = missing.join("; ");
        Err(if has_part {
            Presence::unknown(told)
        } else {
            Presence::absent(told)
        })
    }

    /// Waits until every Pod has ended, and until whatever was deleted by force beforehand has had its time to end.
    async fn ended(
        &self,
        client: &Client,
        each: &[(&Workload, Note)],
        deadline: Instant,
    ) -> Result<Vec<Followed>, String> {
        let followed = each
            .iter()
            .map(|(workload, note)| self.followed(client, workload, note, deadline));
        let settled = self.settled(client, each, deadline, false);
        let (followed, mut settled) = join(join_all(followed), settled).await;
        let is_lost = |one: &Followed| one.following.has_lost_history();
        if settled.is_ok() && followed.iter().flatten().any(is_lost) {
            settled = self.settled(client, each, deadline, true).await;
        }
        let (mut ended, mut open) = (Vec::new(), Vec::new());
        for one in followed {
            match one {
                Ok(one) => ended.push(one),
                Err(why) => open.push(why),
            }
        }
        open.extend(settled.err());
        if open.is_empty() {
            Ok(ended)
        } else {
            Err(open.join("; "))
        }
    }

    /// Waits until the same nodes have been Ready for longer than a Pod may take to end: one that was deleted by force
    /// before the fence is on no list, and runs until its kubelet has ended it.
    async fn settled(
        &self,
        client: &Client,
        each: &[(&Workload, Note)],
        deadline: Instant,
        is_anew: bool,
    ) -> Result<(), String> {
        let mut quiet = Duration::ZERO;
        for (workload, note) in each {
            if is_anew || !note.ending.as_ref().is_some_and(|e| e.is_settled) {
                let standing = workload.read(left(deadline)).await;
                let standing = standing.map_err(|e| unseen(&e))?;
                quiet = quiet.max(standing.grace + MARGIN);
            }
        }
        let mut heard: Option<(Nodes, Instant)> = None;
        loop {
            let why = match pods::nodes(client, &self.with.nodes, left(deadline)).await {
                Err(e) => {
                    heard = None;
                    unseen(&e)
                }
                Ok(nodes) => {
                    let silent = silent(&nodes);
                    let since = match &heard {
                        Some((same, since)) if *same == nodes => *since,
                        Some(_) | None => Instant::now(),
                    };
                    if silent.is_none() && since.elapsed() >= quiet {
                        return Ok(());
                    }
                    heard = silent.is_none().then_some((nodes, since));
                    silent.unwrap_or_else(|| {
                        format!(
                            "the nodes have not been Ready for {} s yet: a Pod that was taken away by force beforehand \
                             may run so long",
                            quiet.as_secs()
                        )
                    })
                }
            };
            if left(deadline) <= AGAIN {
                return Err(why);
            }
            sleep(AGAIN).await;
        }
    }

    /// Writes down that the Pods have ended, and whether the nodes had their time, for the next process: what the API
    /// server has seen is told for some minutes only. The proof is here, whether that can be written or not.
    async fn write_ended(
        &self,
        workload: &Workload,
        note: &Note,
        followed: &Followed,
        is_settled: bool,
        deadline: Instant,
    ) {
        let mut proved = note.clone();
        if let Some(ending) = &mut proved.ending {
            ending.pods.clear();
            followed.following.since().clone_into(&mut ending.since);
            ending.is_settled = is_settled;
        }
        while let Ok(standing) = workload.read(left(deadline)).await {
            if standing.wanted != 0 || standing.note.as_ref().is_none_or(|n| n.key != note.key) {
                return;
            }
            let how = Workload::applying(self.with.force);
            let asked = workload.scale(&standing, 0, Some(&proved), how, left(deadline));
            match asked.await {
                Err(e) if e.is_overtaken() && left(deadline) > SOON => sleep(SOON).await,
                Ok(()) | Err(_) => return,
            }
        }
    }

    /// Reads everything once more, after all of it has ended: the parts of a proof are of one moment. The error says
    /// what is otherwise.
    async fn still(
        &self,
        client: &Client,
        each: &[(&Workload, Note)],
        ended: Vec<Followed>,
        deadline: Instant,
    ) -> Result<Vec<Followed>, String> {
        let nodes = self.nodes_unheard(client, left(deadline)).await;
        if let Some(why) = nodes.map_err(|e| unseen(&e))? {
            return Err(why);
        }
        let looks = each
            .iter()
            .zip(ended)
            .map(|((workload, note), mut followed)| async move {
                let rivals = note.ending.iter().flat_map(|e| &e.rivals);
                if let Some(rival) = rivals.into_iter().next() {
                    return Err(set_back(workload, rival));
                }
                if let Some(item) = autoscalers(client, workload, 0, left(deadline)).await {
                    return Err(item.detail);
                }
                let had_lost = followed.following.has_lost_history();
                let turn = self.turn(client, workload, &mut followed.following, deadline);
                match turn.await {
                    Ok(None) if followed.following.has_lost_history() != had_lost => {
                        return Err(format!(
                            "what became of the Pods of {workload} meanwhile is not told any more"
                        ));
                    }
                    Ok(None) => {}
                    Ok(Some(why)) => return Err(why),
                    Err(e) => return Err(unseen(&e)),
                }
                let standing = workload.read(left(deadline)).await;
                let standing = standing.map_err(|e| unseen(&e))?;
                if let Some(owner) = standing.owners.iter().find(|o| insists_at_zero(o)) {
                    return Err(set_back(workload, &owner.told()));
                }
                if !standing.has(0) || standing.note.as_ref().is_none_or(|n| n.key != note.key) {
                    return Err(format!(
                        "somebody has changed {workload}: it has {}",
                        standing.told()
                    ));
                }
                Ok(followed)
            });
        join_all(looks).await.into_iter().collect()
    }

    /// Goes through what becomes of the Pods, until all have ended and the controller makes no more; the error says why
    /// that is not proved.
    async fn followed(
        &self,
        client: &Client,
        workload: &Workload,
        note: &Note,
        deadline: Instant,
    ) -> Result<Followed, String> {
        let Some(ending) = &note.ending else {
            return Err(format!("it is not known which Pods {workload} had"));
        };
        let mut following = Following::new(ending);
        loop {
            let turn = self.turn(client, workload, &mut following, deadline);
            let why = match turn.await {
                Ok(None) => {
                    let told = match ending.pods.len() {
                        0 => format!("{workload} has no Pods"),
                        n => format!("{n} Pods of {workload} have ended, as their kubelets say"),
                    };
                    let followed = Followed { told, following };
                    if !ending.pods.is_empty() {
                        self.write_ended(workload, note, &followed, false, deadline)
                            .await;
                    }
                    return Ok(followed);
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
        let nodes = pods::nodes(client, &self.with.nodes, within).await?;
        Ok(silent(&nodes))
    }

    fn proof(&self, each: &[(&Workload, Note)], ended: &[Followed]) -> Proof {
        let told: Vec<_> = ended.iter().map(|one| one.told.as_str()).collect();
        let heard = if self.with.nodes.is_empty() {
            "every node is Ready"
        } else {
            "every node with the step's labels is Ready"
        };
        let proof = Proof::new(format!("{}; {heard}", told.join("; ")))
            .with("cluster", self.with.cluster.clone());
        let noted = each.iter().fold(proof, |proof, (workload, note)| {
            proof.with(
                &format!("before.{}", workload.name),
                note.before.to_string(),
            )
        });
        noted.reaching(Rung::Infrastructure)
    }

    async fn back(&self, workload: &Workload, step: &StepContext, deadline: Instant) -> StepResult {
        loop {
            let standing = match workload.read(left(deadline)).await {
                Ok(standing) => standing,
                Err(e) => return self.early(NOT_BACK, &e),
            };
            let before = match &standing.note {
                Some(note) if note.key == step.key && standing.wanted == 0 => note.before,
                // Somebody else scaled it meanwhile.
                Some(note) if note.key == step.key && standing.wanted != note.before => {
                    return StepResult::indeterminate(format!(
                        "{workload} wants {} replicas, not {} as before: scale it by hand",
                        standing.wanted, note.before
                    ));
                }
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
                Ok(()) => {
                    return StepResult::done(format!("{workload} wants {before} replicas again"));
                }
                Err(e) if e.is_overtaken() && left(deadline) > SOON => sleep(SOON).await,
                Err(e) => return refusal(workload, &standing, &e),
            }
        }
    }

    /// Asks the server whether it would take the change.
    async fn tried(&self, client: &Client, workload: &Workload) -> Vec<CheckItem> {
        let name = format!("kubernetes/fence/{}/{}", workload.namespace, workload.name);
        let standing = match workload.read(CHECK).await {
            Ok(standing) => standing,
            Err(e) => return vec![refused(&name, REPLICAS, &e)],
        };
        let pods = Pods::new(client, workload, &standing.selector);
        if let Err(e) = pods.list(CHECK).await {
            return vec![refused(&name, REPLICAS, &e)];
        }
        let force = self.with.force;
        let mut items = vec![scalable(&name, workload, &standing, 0, force).await];
        let noted = standing.note.iter().flat_map(|note| &note.ending);
        if let Some(pod) = noted.flat_map(|ending| ending.pods.values()).next() {
            items.push(CheckItem::bad(
                &name,
                CheckStatus::Warn,
                format!("the fence would not be proved: nobody saw the Pod {pod} end after an earlier fence"),
                format!(
                    "see to it that it does not run, then remove the annotation {} of {workload}",
                    Note::NAME
                ),
            ));
        }
        if force {
            items.extend(rival(&name, REPLICAS, &standing.owners));
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

/// Whether it scales up again what has none. The autoscalers that are there are asked for; what one left behind as the
/// owner of a number does nothing.
fn insists_at_zero(owner: &Owner) -> bool {
    match owner {
        Owner::Argo(_) | Owner::Flux(_) => true,
        Owner::Autoscaler(_) | Owner::Tool(_) => false,
    }
}

fn silent(nodes: &Nodes) -> Option<String> {
    let first = nodes.silent.first()?;
    Some(format!(
        "{} nodes are not Ready, such as {first}: a Pod that was taken away by force may run there; switch the node \
         off and delete it from the cluster",
        nodes.silent.len()
    ))
}

/// An error of the change itself.
fn refusal(workload: &Workload, standing: &Standing, error: &ApiError) -> StepResult {
    let nothing = format!("{workload} was not changed");
    answered(&nothing, REPLICAS, &standing.owners, error)
}

fn set_back(workload: &Workload, rival: &str) -> String {
    format!("{workload} was taken from {rival}, which may scale it up again: that proves nothing")
}

fn unseen(error: &ApiError) -> String {
    format!(
        "whether everything has ended cannot be seen: {}",
        error.told()
    )
}
