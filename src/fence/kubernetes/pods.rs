//! Pods of a workload that is to end: which there are, and what becomes of each.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt, pin_mut};
use k8s_openapi::{
    api::core::v1::{ContainerStatus, Node, NodeCondition, Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client,
    api::{ListParams, WatchEvent, WatchParams},
    core::Selector,
};
use tokio::time::{Instant, timeout};

use crate::port::kubernetes::{ApiError, Ending, Workload};

/// How long one watch may say nothing before what there is to see is judged again.
const TURN: Duration = Duration::from_millis(500);

/// The Pods of a workload.
pub struct Pods {
    api: Api<Pod>,
    selector: Selector,
}

/// What is known of Pods that are to end.
pub struct Following {
    since: String,
    /// By their UIDs.
    pods: BTreeMap<String, Fate>,
    /// Whether some of what has been is not told any more.
    has_lost_history: bool,
}

/// What is known of one Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fate {
    /// Where it is, in words.
    place: String,
    /// Whether its kubelet has said that it ended.
    has_ended: bool,
    /// Whether the API server has it no more.
    is_gone: bool,
}

/// What all of it comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// All have ended.
    Ended,
    /// This one is there still.
    Left(String),
    /// This one is gone, and nobody said that it had ended.
    Vanished(String),
}

impl Pods {
    /// Those that a workload's selector chooses.
    pub fn new(client: &Client, workload: &Workload, selector: &Selector) -> Self {
        Self {
            api: Api::namespaced(client.clone(), &workload.namespace),
            selector: selector.clone(),
        }
    }

    /// Those that have not ended, by their UIDs, and the version of this list.
    pub async fn list(
        &self,
        within: Duration,
    ) -> Result<(String, BTreeMap<String, String>), ApiError> {
        let (since, pods) = self.all(within).await?;
        let open = pods.iter().filter(|pod| !has_ended(pod));
        let open = open.filter_map(|pod| Some((pod.metadata.uid.clone()?, place(pod))));
        Ok((since, open.collect()))
    }

    async fn all(&self, within: Duration) -> Result<(String, Vec<Pod>), ApiError> {
        let params = ListParams::default().labels_from(&self.selector);
        let list = ApiError::within(within, self.api.list(&params)).await?;
        let since = list.metadata.resource_version;
        let since = since.ok_or(ApiError::Shape("metadata.resourceVersion"))?;
        Ok((since, list.items))
    }

    /// Takes in what has become of them, until nothing is said for a while. Also where all are known to have ended:
    /// others may have been made since, and taken away by force.
    pub async fn follow(
        &self,
        following: &mut Following,
        within: Duration,
    ) -> Result<(), ApiError> {
        if following.has_vanished() {
            return Ok(());
        }
        let params = WatchParams::default().labels_from(&self.selector);
        let watch = self.api.watch(&params, &following.since);
        let watched = ApiError::within(within, watch).await;
        let events = match watched {
            Err(e) if e.code() == Some(410) => return self.relist(following, within).await,
            other => other?,
        };
        pin_mut!(events);
        let deadline = Instant::now() + within;
        loop {
            let turn = TURN.min(deadline.saturating_duration_since(Instant::now()));
            match timeout(turn, events.next()).await {
                Ok(Some(Ok(event))) => {
                    if !following.take(event) {
                        return self.relist(following, within).await;
                    }
                }
                Ok(Some(Err(e))) => return Err(e.into()),
                Ok(None) | Err(_) => return Ok(()),
            }
            if following.has_vanished() {
                return Ok(());
            }
        }
    }

    /// Takes in those that are there now.
    pub async fn join(&self, following: &mut Following, within: Duration) -> Result<(), ApiError> {
        let (_, pods) = self.all(within).await?;
        for pod in pods {
            following.see(&pod, false);
        }
        Ok(())
    }

    /// What has been is not told any more: whoever is not there now has vanished.
    async fn relist(&self, following: &mut Following, within: Duration) -> Result<(), ApiError> {
        let (since, pods) = self.all(within).await?;
        following.since = since;
        following.has_lost_history = true;
        for fate in following.pods.values_mut() {
            fate.is_gone = true;
        }
        for pod in pods {
            following.see(&pod, false);
        }
        Ok(())
    }
}

impl Fate {
    fn of(place: String) -> Self {
        Self {
            place,
            has_ended: false,
            is_gone: false,
        }
    }
}

impl Following {
    /// Those that an annotation names.
    pub fn new(ending: &Ending) -> Self {
        let pods = ending.pods.iter();
        let pods = pods.map(|(uid, place)| (uid.clone(), Fate::of(place.clone())));
        Self {
            since: ending.since.clone(),
            pods: pods.collect(),
            has_lost_history: false,
        }
    }

    /// What all of it comes to.
    pub fn reading(&self) -> Reading {
        let vanished = self.pods.values().find(|f| f.is_gone && !f.has_ended);
        if let Some(fate) = vanished {
            return Reading::Vanished(fate.place.clone());
        }
        match self.pods.values().find(|f| !f.has_ended) {
            Some(fate) => Reading::Left(fate.place.clone()),
            None => Reading::Ended,
        }
    }

    /// Whether the API server does not tell any more what has been: others may have been made, and taken away by force.
    pub fn has_lost_history(&self) -> bool {
        self.has_lost_history
    }

    /// The version up to which everything is taken in.
    pub fn since(&self) -> &str {
        &self.since
    }

    fn has_vanished(&self) -> bool {
        match self.reading() {
            Reading::Vanished(_) => true,
            Reading::Ended | Reading::Left(_) => false,
        }
    }

    /// Whether this could be taken in: the server forgets what is long ago.
    fn take(&mut self, event: WatchEvent<Pod>) -> bool {
        let (pod, is_gone) = match event {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => (pod, false),
            WatchEvent::Deleted(pod) => (pod, true),
            WatchEvent::Bookmark(mark) => {
                self.since = mark.metadata.resource_version;
                return true;
            }
            WatchEvent::Error(_) => return false,
        };
        if let Some(version) = pod.metadata.resource_version.clone() {
            self.since = version;
        }
        self.see(&pod, is_gone);
        true
    }

    fn see(&mut self, pod: &Pod, is_gone: bool) {
        let Some(uid) = pod.metadata.uid.clone() else {
            return;
        };
        let fate = self.pods.entry(uid).or_insert(Fate::of(String::new()));
        fate.place = place(pod);
        fate.has_ended |= has_ended(pod) || (is_gone && node(pod).is_none());
        fate.is_gone = is_gone;
    }
}

fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

fn place(pod: &Pod) -> String {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    match node(pod) {
        Some(node) => format!("{name} on {node}"),
        None => format!("{name}, which has no node"),
    }
}

/// Whether its kubelet said that it ended for good: a container that ended may be started again until the Pod's own phase
/// is a last one, which others can set for a Pod whose kubelet is silent, but not what became of the containers.
fn has_ended(pod: &Pod) -> bool {
    let Some(status) = &pod.status else {
        return false;
    };
    let is_last = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let containers = pod.spec.as_ref().map_or(usize::MAX, |s| s.containers.len());
    let main = status.container_statuses.as_deref().unwrap_or_default();
    let others = [
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    let others = others.into_iter().flatten().flatten();
    is_last && main.len() >= containers && main.iter().chain(others).all(is_terminated)
}

fn is_terminated(container: &ContainerStatus) -> bool {
    let state = container.state.as_ref();
    state.is_some_and(|state| state.terminated.is_some())
}

/// Nodes, and since when each is what it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nodes {
    /// Those whose kubelet is not known to work.
    pub silent: Vec<String>,
    /// Those that are Ready: name, UID, and since when.
    ready: Vec<(Option<String>, Option<String>, Option<Time>)>,
}

/// Nodes with these labels.
pub async fn nodes(
    client: &Client,
    labels: &BTreeMap<String, String>,
    within: Duration,
) -> Result<Nodes, ApiError> {
    let selector: Selector = labels.clone().into_iter().collect();
    let params = ListParams::default().labels_from(&selector);
    let api: Api<Node> = Api::all(client.clone());
    let nodes = ApiError::within(within, api.list(&params)).await?;
    if nodes.items.is_empty() {
        return Err(ApiError::Shape("node with the labels that the step names"));
    }
    let mut all = Nodes::default();
    for node in nodes.items {
        match ready(&node) {
            Some(condition) => {
                let since = condition.last_transition_time.clone();
                all.ready
                    .push((node.metadata.name, node.metadata.uid, since));
            }
            None => all.silent.push(node.metadata.name.unwrap_or_default()),
        }
    }
    all.ready.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(all)
}

fn ready(node: &Node) -> Option<&NodeCondition> {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    conditions.find(|c| c.type_ == "Ready" && c.status == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(phase: &str, states: &[Value]) -> Pod {
        let statuses = states.iter().map(|state| {
            json!({"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state})
        });
        let pod = json!({
            "metadata": {"name": "shop-a", "uid": "u1", "resourceVersion": "9"},
            "spec": {"nodeName": "node-0", "containers": [{"name": "c"}, {"name": "d"}]},
            "status": {"phase": phase, "containerStatuses": statuses.collect::<Vec<_>>()},
        });
        serde_json::from_value(pod).unwrap()
    }

    fn terminated() -> Value {
        json!({"terminated": {"exitCode": 0}})
    }

    fn following() -> Following {
        Following::new(&Ending {
            since: "1".to_owned(),
            pods: [("u1".to_owned(), "shop-a on node-0".to_owned())].into(),
            is_settled: false,
            rivals: Vec::new(),
        })
    }

    #[test]
    fn a_pod_has_ended_once_its_phase_is_a_last_one_and_no_container_is_left() {
        let running = || json!({"running": {}});
        let waiting = || json!({"waiting": {"reason": "CrashLoopBackOff"}});
        assert!(has_ended(&pod("Failed", &[terminated(), terminated()])));
        // It would be started again.
        assert!(!has_ended(&pod("Running", &[terminated(), terminated()])));
        // The garbage collector sets the phase of a Pod whose node is silent.
        assert!(!has_ended(&pod("Failed", &[terminated(), running()])));
        assert!(!has_ended(&pod("Failed", &[terminated(), waiting()])));
        assert!(!has_ended(&pod("Failed", &[terminated()])));
        assert!(!has_ended(&pod("Failed", &[])));
    }

    #[test]
    fn one_that_is_gone_without_a_word_has_vanished_for_ever() {
        let mut all = following();
        assert_eq!(all.reading(), Reading::Left("shop-a on node-0".to_owned()));
        let running = pod("Running", &[json!({"running": {}}), terminated()]);
        assert!(all.take(WatchEvent::Deleted(running)));
        assert_eq!(
            all.reading(),
            Reading::Vanished("shop-a on node-0".to_owned())
        );

        let mut all = following();
        let ended = pod("Succeeded", &[terminated(), terminated()]);
        assert!(all.take(WatchEvent::Modified(ended)));
        // One that its kubelet evicted stays as it is.
        assert_eq!(all.reading(), Reading::Ended);
        let running = pod("Running", &[json!({"running": {}}), terminated()]);
        assert!(all.take(WatchEvent::Deleted(running)));
        assert_eq!(all.reading(), Reading::Ended);
        assert_eq!(all.since, "9");
    }

    #[test]
    fn one_that_is_made_meanwhile_is_to_end_too() {
        let mut all = following();
        let mut late = pod("Pending", &[]);
        late.metadata.uid = Some("u2".to_owned());
        assert!(all.take(WatchEvent::Added(late.clone())));
        let ended = pod("Succeeded", &[terminated(), terminated()]);
        assert!(all.take(WatchEvent::Deleted(ended)));
        assert!(matches!(all.reading(), Reading::Left(_)));
        // No node has ever had it.
        late.spec.as_mut().unwrap().node_name = None;
        assert!(all.take(WatchEvent::Deleted(late)));
        assert_eq!(all.reading(), Reading::Ended);
    }

    #[test]
    fn a_node_is_heard_only_where_it_says_so() {
        let node = |status: &str| -> Node {
            let conditions = json!([{"type": "Ready", "status": status}]);
            serde_json::from_value(
                json!({"metadata": {"name": "n"}, "status": {"conditions": conditions}}),
            )
            .unwrap()
        };
        assert!(ready(&node("True")).is_some());
        assert!(ready(&node("False")).is_none() && ready(&node("Unknown")).is_none());
        assert!(ready(&Node::default()).is_none());
    }
}
