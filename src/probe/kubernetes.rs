//! `probe/kubernetes`: what a cluster says of a Deployment, a `StatefulSet` or a Service: how many Pods are Ready.
//!
//! The API server that cannot be asked is no workload that is down.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, api::ListParams};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        observation::{Evidence, Look, Sight},
        secret::SecretRef,
        span::Span,
    },
    port::{
        kind::{Kind, Make, MakeError, Problem, Wiring, With, read},
        kubernetes::{ApiError, Cluster, Workload, WorkloadKind, name_problem},
        probe::{LookContext, Probe, SharedProbe},
    },
};

/// The kind.
pub const KIND: Kind = Kind::new::<KubernetesWith>(
    "probe/kubernetes",
    "what a cluster says of a workload or a Service: how many of its Pods are Ready",
    "kubeconfig: {secretRef: {name: primary-kubeconfig, key: kubeconfig}}\nnamespace: shop\n\
     kind: Deployment\nname: shop\nready: 2\n",
    Make::Probe(make),
)
.giving(Evidence::Cluster);

/// Settings of `probe/kubernetes`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KubernetesWith {
    /// A kubeconfig, whole. Default: the service account of the Pod that this runs in. The account needs get on the
    /// workload; for a Service get on it and list on endpointslices.
    #[serde(default)]
    pub kubeconfig: Option<SecretRef>,
    /// The namespace.
    pub namespace: String,
    /// What is looked at.
    pub kind: Looked,
    /// Its name.
    pub name: String,
    /// As many Pods must be Ready. Default: 1.
    #[serde(default = "one")]
    pub ready: u32,
}

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Looked {
    /// A Deployment.
    Deployment,
    /// A `StatefulSet`.
    StatefulSet,
    /// A Service, by its endpoints.
    Service,
}

fn one() -> u32 {
    1
}

impl With for KubernetesWith {
    fn problems(&self) -> Vec<Problem> {
        let names = [("namespace", &self.namespace), ("name", &self.name)];
        let names = names.into_iter();
        let mut problems: Vec<Problem> = names.filter_map(|(p, n)| name_problem(p, n)).collect();
        if self.ready == 0 {
            problems.push(Problem::new("ready", "expected at least 1"));
        }
        problems
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedProbe, MakeError> {
    let with: KubernetesWith = read(with)?;
    Ok(Arc::new(KubernetesProbe {
        cluster: Cluster::new(with.kubeconfig.clone(), wiring),
        with,
    }))
}

struct KubernetesProbe {
    cluster: Cluster,
    with: KubernetesWith,
}

#[async_trait]
impl Probe for KubernetesProbe {
    async fn look(&self, context: &LookContext) -> Look {
        let began = Instant::now();
        let seen = self.seen(context.timeout).await;
        let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut look = self.judged(seen);
        look.latency = (look.sight != Sight::Unknown).then_some(Span::from_millis(took));
        look
    }

    async fn check(&self, context: &LookContext) -> Vec<CheckItem> {
        let name = format!(
            "probe/kubernetes/{}/{}",
            self.with.namespace, self.with.name
        );
        let look = self.judged(self.seen(context.timeout).await);
        vec![match look.sight {
            Sight::Up => CheckItem::ok(name, look.detail),
            Sight::Down => CheckItem::bad(
                name,
                CheckStatus::Warn,
                look.detail,
                "see why its Pods are not Ready: kubectl describe",
            ),
            Sight::Unknown => CheckItem::bad(
                name,
                CheckStatus::Unknown,
                look.detail,
                "make the API server reachable, and give the account the rights that the kind names",
            ),
        }]
    }
}

/// How many are Ready, of how many.
struct Count {
    ready: usize,
    all: usize,
}

impl KubernetesProbe {
    async fn seen(&self, within: Span) -> Result<Count, ApiError> {
        let limit = within.to_std();
        let client = self.cluster.client().await?;
        let kind = match self.with.kind {
            Looked::Deployment => WorkloadKind::Deployment,
            Looked::StatefulSet => WorkloadKind::StatefulSet,
            Looked::Service => {
                return ApiError::within(limit, self.endpoints(client)).await;
            }
        };
        let workload = Workload::new(client, &self.with.namespace, kind, &self.with.name);
        let standing = workload.read(limit).await?;
        let count = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        Ok(Count {
            ready: count(standing.ready),
            all: count(standing.wanted),
        })
    }

    /// The addresses behind a Service, each once.
    async fn endpoints(&self, client: kube::Client) -> Result<Count, kube::Error> {
        let (namespace, name) = (&self.with.namespace, &self.with.name);
        let services: Api<k8s_openapi::api::core::v1::Service> =
            Api::namespaced(client.clone(), namespace);
        services.get_metadata(name).await?;
        let slices: Api<EndpointSlice> = Api::namespaced(client, namespace);
        let label = format!("kubernetes.io/service-name={name}");
        let listed = slices.list(&ListParams::default().labels(&label)).await?;
        Ok(counted(&listed.items))
    }

    fn judged(&self, seen: Result<Count, ApiError>) -> Look {
        let with = &self.with;
        let title = format!("{:?} {}/{}", with.kind, with.namespace, with.name);
        match seen {
            Ok(Count { ready, all }) => {
                let enough = usize::try_from(with.ready).is_ok_and(|wanted| ready >= wanted);
                let sight = if enough { Sight::Up } else { Sight::Down };
                Look::new(sight, format!("{title}: {ready} of {all} Ready"))
            }
            Err(e) if e.code() == Some(404) => {
                Look::new(Sight::Down, format!("there is no {title}"))
            }
            Err(e) => Look::new(
                Sight::Unknown,
                format!("{} cannot be asked: {}", self.cluster, e.told()),
            ),
        }
    }
}

/// Dual-stack Services have a slice for each family, with the same Pods in both.
fn counted(slices: &[EndpointSlice]) -> Count {
    let families: std::collections::BTreeSet<&str> =
        slices.iter().map(|s| s.address_type.as_str()).collect();
    let of = |family: &str| {
        let own = slices.iter().filter(|s| s.address_type == family);
        let all: Vec<_> = own.flat_map(|s| s.endpoints.iter()).collect();
        let is_ready = |e: &&k8s_openapi::api::discovery::v1::Endpoint| {
            // Absent means ready, as the API has it.
            e.conditions.as_ref().and_then(|c| c.ready) != Some(false)
        };
        let ready = all.iter().copied().filter(is_ready).count();
        Count {
            ready,
            all: all.len(),
        }
    };
    let counts = families.into_iter().map(of);
    counts
        .max_by_key(|count| count.ready)
        .unwrap_or(Count { ready: 0, all: 0 })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slice(family: &str, ready: &[Value]) -> EndpointSlice {
        let endpoints: Vec<Value> = ready
            .iter()
            .map(|ready| json!({"addresses": ["192.0.2.1"], "conditions": {"ready": ready}}))
            .collect();
        serde_json::from_value(json!({"addressType": family, "endpoints": endpoints})).unwrap()
    }

    #[test]
    fn a_pod_of_two_families_counts_once() {
        let both = [
            slice("IPv4", &[json!(true), json!(false)]),
            slice("IPv6", &[json!(true), json!(false)]),
            slice("IPv4", &[json!(null)]),
        ];
        let Count { ready, all } = counted(&both);
        assert_eq!((ready, all), (2, 3));
        let Count { ready, all } = counted(&[]);
        assert_eq!((ready, all), (0, 0));
    }
}
