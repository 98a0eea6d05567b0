//! A failover from one cluster to another: fenced there by a kubeconfig that is a Secret, grown here.

use std::fs;

use serde_json::json;

use super::site::{apply, replicas, uid};
use crate::stand::{kubernetes::Cluster, operator::Operators};

/// The runbook's steps that fence and promote, in the place of programs.
const STEPS: &str = "    - id: fence
      uses: kubernetes/fence
      timeout: 60s
      with:
        kubeconfig: {secretRef: {name: east, key: kubeconfig}}
        cluster: EAST
        namespace: default
        workloads: [{kind: Deployment, name: shop}]
        force: true
    - id: grow
      phase: promote
      uses: kubernetes/scale
      timeout: 60s
      with:
        kubeconfig: {secretRef: {name: west, key: kubeconfig}}
        namespace: default
        kind: Deployment
        name: shop
        replicas: 3
";

/// A probe of the cluster that serves, beside those from outside.
const PROBE: &str = "        - id: pods-east
          uses: probe/kubernetes
          site: east
          every: 2s
          timeout: 1500ms
          with: {kubeconfig: {secretRef: {name: east, key: kubeconfig}}, namespace: default, kind: Deployment, name: shop}
";

fn in_clusters(document: &str) -> String {
    let (head, rest) = document.split_once("    - id: stop\n").unwrap();
    let (_, tail) = rest.split_once("    - {id: repoint").unwrap();
    let (before, after) = head.split_once("  dns:\n").unwrap();
    format!("{before}{PROBE}  dns:\n{after}{STEPS}    - {{id: repoint{tail}")
}

/// A kubeconfig as a Secret of the operator's namespace.
fn secret(cluster: &Cluster, name: &str, of: &Cluster) {
    let kubeconfig = fs::read_to_string(of.kubeconfig()).unwrap();
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": "default"},
        "stringData": {"kubeconfig": kubeconfig},
    });
    cluster.apply(&secret.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_moves_from_one_cluster_to_the_other() {
    let (east, west) = (Cluster::with_nodes(1), Cluster::with_nodes(1));
    apply(&east, "Deployment", Some(2), "kubectl");
    apply(&west, "Deployment", None, "kubectl");
    secret(&west, "east", &east);
    secret(&west, "west", &west);
    let mut operators = Operators::of(west, |document| {
        in_clusters(&document).replace("EAST", &uid(&east))
    })
    .await;
    east.until("it runs", || replicas(&east, "deployment") == "2/2");
    operators.run();
    operators.approved("move-1", "one");
    operators.until_run("move-1", "it is done", |status| {
        status["progress"] == "Done"
    });

    assert_eq!(replicas(&operators.cluster, "deployment"), "3/3");
    assert_eq!(replicas(&east, "deployment"), "0/");
    assert_eq!(east.kubectl(&["get", "pods", "-o=name"]), "");
    assert_eq!(operators.stand.effects(), "", "no program had a part in it");
    operators.until_service("it is served from the standby", |status| {
        status["active"] == "west" && status["run"].is_null()
    });
}
