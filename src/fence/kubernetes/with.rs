//! Settings of `kubernetes/fence`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    model::secret::SecretRef,
    port::{
        kind::{Problem, With},
        kubernetes::{WorkloadWith, name_problem},
    },
};

/// Settings of `kubernetes/fence`. Taking it back scales to what was before, which stands in the workloads' annotation
/// `failover.rs/scaled`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FenceWith {
    /// A kubeconfig of the old site's cluster, whole. Default: the service account of the Pod that this runs in. The
    /// account needs get and patch on the workloads, list and watch on Pods, list on nodes and on
    /// horizontalpodautoscalers, and get on the namespace kube-system.
    #[serde(default)]
    pub kubeconfig: Option<SecretRef>,
    /// The UID of the old site's cluster, which is that of its namespace kube-system (`kubectl get namespace
    /// kube-system -o jsonpath={.metadata.uid}`). No other cluster is touched.
    pub cluster: String,
    /// The workloads' namespace.
    pub namespace: String,
    /// Everything that writes.
    pub workloads: Vec<WorkloadWith>,
    /// Labels of the nodes that can run these workloads; each must be Ready for the proof. Default: every node.
    #[serde(default)]
    pub nodes: BTreeMap<String, String>,
    /// Takes the number of replicas from another field manager, such as kubectl or Helm. Default: false; the step then
    /// fails.
    #[serde(default)]
    pub force: bool,
}

impl With for FenceWith {
    fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = name_problem("namespace", &self.namespace)
            .into_iter()
            .collect();
        if self.cluster.is_empty() {
            problems.push(
                Problem::new("cluster", "expected the UID of the old site's cluster").hint(
                    "kubectl get namespace kube-system -o jsonpath={.metadata.uid}, asked of that cluster",
                ),
            );
        }
        if self.workloads.is_empty() {
            problems.push(
                Problem::new("workloads", "expected at least one workload")
                    .hint("[{kind: Deployment, name: shop}]"),
            );
        }
        let all = self.workloads.iter().enumerate();
        problems.extend(all.filter_map(|(n, w)| w.problems(&format!("workloads[{n}]."))));
        problems
    }
}
