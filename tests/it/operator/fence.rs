//! The old site's cluster is fenced: what proves it, and what does not.

use failover::{
    model::{
        check::CheckStatus,
        span::Span,
        step::{Presence, Rung, StepResult},
    },
    port::{action::SharedAction, kind::Wiring},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::site::{all_well, apply, items, reference, replicas, uid};
use crate::stand::{
    kubernetes::{Cluster, Part},
    wiring::{action, done, step, unclear, wiring},
};

const LONG: Span = Span::from_secs(60);
const SHORT: Span = Span::from_secs(6);

struct Fenced {
    cluster: Cluster,
    _folder: TempDir,
    wiring: Wiring,
    kind: &'static str,
    uid: String,
}

impl Fenced {
    /// A cluster of two nodes, with a workload of two Pods that run.
    fn new(kind: &'static str) -> Self {
        let cluster = Cluster::with_nodes(2);
        apply(&cluster, kind, Some(2), "kubectl");
        cluster.until("it runs", || replicas(&cluster, kind) == "2/2");
        let folder = TempDir::new().unwrap();
        Self {
            wiring: wiring(folder.path()),
            _folder: folder,
            uid: uid(&cluster),
            cluster,
            kind,
        }
    }

    /// As a process that has just been started would do it.
    fn action(&self, more: &Value) -> SharedAction {
        let mut with = json!({
            "kubeconfig": reference(&self.cluster.kubeconfig()),
            "cluster": self.uid,
            "namespace": "default",
            "workloads": [{"kind": self.kind, "name": "shop"}],
            "force": true,
        });
        let fields = more.as_object().unwrap().clone();
        with.as_object_mut().unwrap().extend(fields);
        action("kubernetes/fence", &with, &self.wiring)
    }

    async fn perform(&self, within: Span) -> StepResult {
        self.action(&json!({})).perform(&step(within)).await
    }

    async fn observe(&self) -> Presence {
        self.action(&json!({})).observe(&step(SHORT)).await
    }

    /// Has a node that no kubelet says is well.
    fn silent_node(&self) {
        self.cluster.freeze(Part::Kubelets);
        self.cluster
            .apply(r#"{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "silent"}}"#);
        let status = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
        let patch = format!("-p={status}");
        let arguments = [
            "patch",
            "node",
            "silent",
            "--subresource=status",
            "--type=merge",
            &patch,
        ];
        self.cluster.kubectl(&arguments);
    }

    fn pods(&self) -> Vec<String> {
        let pods = self.cluster.kubectl(&["get", "pods", "-o=name"]);
        pods.lines().map(str::to_owned).collect()
    }

    fn has(&self, wanted: &str) {
        self.cluster
            .until(wanted, || replicas(&self.cluster, self.kind) == wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_proved_once_every_kubelet_has_said_so_and_taken_back() {
    for kind in ["Deployment", "StatefulSet"] {
        let site = Fenced::new(kind);
        assert!(matches!(site.observe().await, Presence::Absent { .. }));
        all_well(&items(&site.action(&json!({}))).await);
        site.has("2/2");

        // While no kubelet answers nothing is proved, and nobody forgets what was before.
        site.cluster.freeze(Part::Kubelets);
        let told = unclear(site.perform(SHORT).await);
        assert!(told.contains("has not ended"), "{told}");
        // Half done is not undone.
        assert!(matches!(site.observe().await, Presence::Unknown { .. }));
        site.cluster.thaw(Part::Kubelets);
        site.cluster
            .until("the Pods are gone", || site.pods().is_empty());
        // Nobody was there to see it: the API server has.
        let Presence::InPlace(seen) = site.observe().await else {
            panic!("{:?}", site.observe().await)
        };
        assert_eq!(seen.rung, Some(Rung::Infrastructure));
        let proof = done(site.perform(LONG).await);
        assert_eq!(proof.rung, Some(Rung::Infrastructure));
        assert_eq!(proof.facts["before.shop"], "2");
        assert!(matches!(site.observe().await, Presence::InPlace(_)));

        done(site.action(&json!({})).undo(&step(LONG)).await.unwrap());
        site.has("2/2");
        assert!(matches!(site.observe().await, Presence::Absent { .. }));
        // All at once, while it is watched.
        let proof = done(site.perform(LONG).await);
        assert!(proof.summary.contains("2 Pods of"), "{proof:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_was_deleted_by_force_is_no_proof_for_anybody() {
    let site = Fenced::new("Deployment");
    site.cluster.freeze(Part::Kubelets);
    let told = unclear(site.perform(SHORT).await);
    assert!(told.contains("has not ended"), "{told}");
    for pod in site.pods() {
        site.cluster
            .kubectl(&["delete", &pod, "--force", "--grace-period=0"]);
    }
    assert!(site.pods().is_empty());
    let told = unclear(site.perform(SHORT).await);
    assert!(told.contains("it may run still"), "{told}");
    let seen = site.observe().await;
    assert!(
        matches!(&seen, Presence::Unknown { reason } if reason.contains("it may run still")),
        "{seen:?}"
    );
    // Neither does the next run begin with a clean slate.
    let mut later = step(SHORT);
    later.key = "another".into();
    let told = unclear(site.action(&json!({})).perform(&later).await);
    assert!(told.contains("it may run still"), "{told}");
    site.cluster.thaw(Part::Kubelets);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_not_heard_may_run_what_nobody_sees() {
    let site = Fenced::new("Deployment");
    done(site.perform(LONG).await);
    site.silent_node();

    let context = step(SHORT);
    let told = unclear(site.perform(SHORT).await);
    assert!(told.contains("such as silent"), "{told}");
    let seen = site.observe().await;
    assert!(
        matches!(&seen, Presence::Unknown { reason } if reason.contains("silent")),
        "{seen:?}"
    );
    let items = items(&site.action(&json!({}))).await;
    let warned = items
        .iter()
        .find(|i| i.status == CheckStatus::Warn)
        .unwrap();
    assert!(warned.detail.contains("silent"), "{items:?}");
    // It is none of those that can run the workload.
    let own = json!({"nodes": {"kubernetes.io/os": "linux"}});
    done(site.action(&own).perform(&context).await);
    let none = json!({"nodes": {"kubernetes.io/os": "plan9"}});
    unclear(site.action(&none).perform(&context).await);
    site.cluster.thaw(Part::Kubelets);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_scaled_up_while_a_node_is_waited_for_is_not_fenced() {
    let site = Fenced::new("Deployment");
    done(site.perform(LONG).await);
    site.silent_node();
    let fence = site.action(&json!({}));
    let waiting = tokio::spawn(async move { fence.perform(&step(Span::from_secs(12))).await });
    // It has looked at the workload by now, and waits for the node.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert!(!waiting.is_finished());
    let scaled = ["scale", "deployment", "shop", "--replicas=4"];
    site.cluster.kubectl(&scaled);
    site.cluster.kubectl(&["delete", "node", "silent"]);
    let told = unclear(waiting.await.unwrap());
    assert!(told.contains("shop"), "{told}");
    site.cluster.thaw(Part::Kubelets);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_is_left_alone() {
    let site = Fenced::new("Deployment");
    let wrong = site.action(&json!({"cluster": "another"}));
    let context = step(SHORT);
    let StepResult::Failed { reason } = wrong.perform(&context).await else {
        panic!("it is not the one that is meant")
    };
    assert!(reason.contains(&site.uid), "{reason}");
    let seen = wrong.observe(&context).await;
    assert!(matches!(seen, Presence::Unknown { .. }), "{seen:?}");
    let undone = wrong.undo(&context).await;
    assert!(
        matches!(undone, Some(StepResult::Failed { .. })),
        "{undone:?}"
    );
    let items = items(&wrong).await;
    assert!(
        matches!(&items[..], [one] if one.status == CheckStatus::Fail && one.detail.contains(&site.uid)),
        "{items:?}"
    );
    site.has("2/2");
    let proof = done(site.perform(LONG).await);
    assert_eq!(proof.facts["cluster"], site.uid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_reached_fences_nothing() {
    let site = Fenced::new("Deployment");
    site.cluster.freeze(Part::ApiServer);
    unclear(site.perform(SHORT).await);
    assert!(matches!(site.observe().await, Presence::Unknown { .. }));
    site.cluster.thaw(Part::ApiServer);
    site.cluster.crash(Part::ApiServer);
    unclear(site.perform(SHORT).await);
    assert!(matches!(site.observe().await, Presence::Unknown { .. }));
    let items = items(&site.action(&json!({}))).await;
    assert!(
        items.iter().any(|i| i.status == CheckStatus::Unknown),
        "{items:?}"
    );
    site.cluster.restart(Part::ApiServer);
    site.has("2/2");
}
