//! A cluster as a site: workloads grow and shrink, fields are set and set back, `CronJobs` run, and probes look.

use std::path::Path;

use failover::{
    model::{
        check::{CheckItem, CheckStatus},
        observation::Sight,
        span::Span,
        step::{Presence, StepResult},
    },
    port::{action::SharedAction, kind::Wiring},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::chart::install;
use crate::stand::{
    kubernetes::{Cluster, Part, succeeded},
    wiring::{action, done, failed, look, probe, step, wiring},
};

const LONG: Span = Span::from_secs(60);
const SHORT: Span = Span::from_secs(2);

/// A workload of one container, applied as this field manager; where it does not say how many, it is one, and nobody
/// owns the number.
pub fn apply(cluster: &Cluster, kind: &str, replicas: Option<u32>, manager: &str) {
    let mut spec = json!({
        "selector": {"matchLabels": {"app": "shop"}},
        "template": {
            "metadata": {"labels": {"app": "shop"}},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "shop", "image": "registry.example/shop:1"}],
            },
        },
    });
    if let Some(replicas) = replicas {
        spec["replicas"] = json!(replicas);
    }
    if kind == "StatefulSet" {
        spec["serviceName"] = json!("shop");
    }
    let workload = json!({
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "shop", "namespace": "default"},
        "spec": spec,
    });
    apply_as(cluster, &workload, manager);
}

/// Applies an object as this field manager, whoever owned it.
pub fn apply_as(cluster: &Cluster, object: &Value, manager: &str) {
    let manager = format!("--field-manager={manager}");
    let arguments = [
        "apply",
        "--server-side",
        "--force-conflicts",
        &manager,
        "-f",
        "-",
    ];
    let output = cluster.kubectl_by(&cluster.kubeconfig(), &arguments, &object.to_string());
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The Service before the workload.
fn service() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "shop", "namespace": "default"},
        "spec": {"selector": {"app": "shop"}, "ports": [{"port": 80}]},
    })
}

/// What a cluster is known by.
pub fn uid(cluster: &Cluster) -> String {
    let path = "-o=jsonpath={.metadata.uid}";
    cluster.kubectl(&["get", "namespace", "kube-system", path])
}

/// As many replicas as are wanted and are Ready.
pub fn replicas(cluster: &Cluster, kind: &str) -> String {
    let path = "-o=jsonpath={.spec.replicas}/{.status.readyReplicas}";
    cluster.kubectl(&["get", kind, "shop", path])
}

/// A reference to a cluster's kubeconfig, as documents have it.
pub fn reference(kubeconfig: &Path) -> Value {
    json!({"file": kubeconfig})
}

struct Desk {
    cluster: Cluster,
    _folder: TempDir,
    wiring: Wiring,
}

impl Desk {
    fn new(cluster: Cluster) -> Self {
        let folder = TempDir::new().unwrap();
        Self {
            wiring: wiring(folder.path()),
            _folder: folder,
            cluster,
        }
    }

    /// These settings, with where the cluster is.
    fn with(&self, with: &Value) -> Value {
        let mut with = with.clone();
        with["namespace"] = json!("default");
        with["kubeconfig"] = reference(&self.cluster.kubeconfig());
        with
    }

    fn action(&self, kind: &str, with: &Value) -> SharedAction {
        action(kind, &self.with(with), &self.wiring)
    }

    fn scale(&self, replicas: u32, force: bool) -> SharedAction {
        self.action(
            "kubernetes/scale",
            &json!({"kind": "Deployment", "name": "shop", "replicas": replicas, "force": force}),
        )
    }

    async fn look(&self, with: &Value) -> (Sight, String) {
        let seen = probe("probe/kubernetes", &self.with(with), &self.wiring);
        let seen = seen.look(&look(Span::from_secs(10))).await;
        (seen.sight, seen.detail)
    }

    fn annotations(&self, kind: &str, name: &str) -> String {
        self.cluster
            .kubectl(&["get", kind, name, "-o=jsonpath={.metadata.annotations}"])
    }
}

/// What `failover check` says of a step.
pub async fn items(action: &SharedAction) -> Vec<CheckItem> {
    let context = step(SHORT);
    action.check(&context.from, &context.to).await
}

/// Holds that nothing is to be said against it.
pub fn all_well(items: &[CheckItem]) {
    let is_well = items.iter().all(|item| item.status == CheckStatus::Ok);
    assert!(is_well, "{items:?}");
}

/// The one item that is not as it should be, in words.
async fn wrong(action: &SharedAction) -> String {
    let items = items(action).await;
    let bad: Vec<_> = items
        .iter()
        .filter(|i| i.status != CheckStatus::Ok)
        .collect();
    let [item] = bad[..] else { panic!("{items:?}") };
    assert_eq!(item.status, CheckStatus::Fail, "{item:?}");
    format!("{}; {}", item.detail, item.fix.as_deref().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_micro_standby_grows_and_goes_back() {
    let desk = Desk::new(Cluster::with_nodes(2));
    apply(&desk.cluster, "Deployment", Some(1), "kubectl");
    let micro = |seen: &str| replicas(&desk.cluster, "deployment") == seen;
    desk.cluster.until("the standby runs", || micro("1/1"));
    let context = step(LONG);

    // It belongs to somebody else.
    let told = failed(desk.scale(3, false).perform(&context).await);
    assert!(told.contains("spec.replicas belongs to kubectl"), "{told}");
    assert!(told.contains("force: true"), "{told}");
    assert!(wrong(&desk.scale(3, false)).await.contains("kubectl"));
    assert!(micro("1/1"), "nothing was changed");

    let scale = desk.scale(3, true);
    assert!(
        matches!(scale.observe(&context).await, Presence::Absent { reason } if reason.contains("1 of 1"))
    );
    all_well(&items(&scale).await);
    assert!(micro("1/1"), "a check changes nothing");

    let proof = done(scale.perform(&context).await);
    assert_eq!(proof.facts["before"], "1");
    assert!(micro("3/3"));
    assert!(
        desk.annotations("deployment", "shop")
            .contains("failover.rs/scaled")
    );
    // Neither a repeat nor another process forgets what was before.
    assert_eq!(done(scale.perform(&context).await).facts["before"], "1");
    let Presence::InPlace(seen) = desk.scale(3, true).observe(&context).await else {
        panic!("not seen")
    };
    assert_eq!(seen.facts["before"], "1");

    done(desk.scale(3, true).undo(&context).await.unwrap());
    desk.cluster.until("it is small again", || micro("1/1"));
    assert!(
        !desk
            .annotations("deployment", "shop")
            .contains("failover.rs/scaled")
    );
    let again = done(scale.undo(&context).await.unwrap());
    assert!(
        again.summary.contains("was not scaled by this step"),
        "{again:?}"
    );
    // failover owns the number by now.
    done(desk.scale(2, false).perform(&context).await);

    // Pods that do not become Ready are no end.
    desk.cluster.freeze(Part::Kubelets);
    let mut later = step(SHORT);
    later.key = "another".into();
    let unclear = desk.scale(4, false).perform(&later).await;
    assert!(
        matches!(&unclear, StepResult::Indeterminate { reason } if reason.contains("2 of 4 replicas Ready")),
        "{unclear:?}"
    );
    desk.cluster.thaw(Part::Kubelets);
    desk.cluster.until("they become Ready", || micro("4/4"));
    // An earlier step's effect is not its own any more.
    let told = failed(scale.undo(&context).await.unwrap());
    assert!(told.contains("another step"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_would_set_it_back_is_told_with_what_to_do() {
    let desk = Desk::new(Cluster::start());
    for (manager, told, fix) in [
        (
            "argocd-controller",
            "belongs to Argo CD (argocd-controller)",
            "ignoreDifferences",
        ),
        (
            "kustomize-controller",
            "belongs to Flux",
            "leave spec.replicas out of what is in Git",
        ),
    ] {
        apply(&desk.cluster, "Deployment", Some(1), manager);
        let said = wrong(&desk.scale(3, false)).await;
        assert!(said.contains(told) && said.contains(fix), "{said}");
        // Forced it would work, until it is set back.
        let forced = items(&desk.scale(3, true)).await;
        let warned = forced
            .iter()
            .find(|i| i.status == CheckStatus::Warn)
            .unwrap();
        assert!(warned.detail.contains("by force"), "{forced:?}");
        desk.cluster.kubectl(&["delete", "deployment", "shop"]);
    }

    apply(&desk.cluster, "Deployment", None, "kubectl");
    let scaler = |owner: &Value| {
        json!({
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "shop-hpa", "namespace": "default", "ownerReferences": owner},
            "spec": {
                "maxReplicas": 9,
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop"},
            },
        })
    };
    apply_as(&desk.cluster, &scaler(&json!([])), "kubectl");
    let said = wrong(&desk.scale(3, false)).await;
    assert!(
        said.contains("HorizontalPodAutoscaler shop-hpa") && said.contains("minReplicas"),
        "{said}"
    );
    let keda = json!([{"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "shop", "uid": "1"}]);
    apply_as(&desk.cluster, &scaler(&keda), "kubectl");
    let said = wrong(&desk.scale(3, false)).await;
    assert!(
        said.contains("KEDA") && said.contains("paused-replicas"),
        "{said}"
    );
    desk.cluster.kubectl(&["delete", "hpa", "shop-hpa"]);

    // What it may not do, and what is not there.
    desk.cluster.kubectl(&["create", "serviceaccount", "robot"]);
    let robot = desk.cluster.of_service_account("default", "robot");
    let mut with = desk.with(&json!({"kind": "Deployment", "name": "shop", "replicas": 3}));
    with["kubeconfig"] = reference(&robot);
    let said = wrong(&action("kubernetes/scale", &with, &desk.wiring)).await;
    assert!(
        said.contains("forbidden") && said.contains("rights"),
        "{said}"
    );
    let told = failed(
        action("kubernetes/scale", &with, &desk.wiring)
            .perform(&step(SHORT))
            .await,
    );
    assert!(told.contains("nothing was scaled"), "{told}");
    let none = desk.action(
        "kubernetes/scale",
        &json!({"kind": "StatefulSet", "name": "shop", "replicas": 3}),
    );
    assert!(wrong(&none).await.contains("not found"));

    // A server that does not answer may have taken an earlier attempt.
    desk.cluster.freeze(Part::ApiServer);
    let result = desk.scale(3, false).perform(&step(SHORT)).await;
    assert!(
        matches!(result, StepResult::Indeterminate { .. }),
        "{result:?}"
    );
    let seen = desk.scale(3, false).observe(&step(SHORT)).await;
    assert!(matches!(seen, Presence::Unknown { .. }), "{seen:?}");
    desk.cluster.thaw(Part::ApiServer);
}

/// What the chart gives to a controller whose steps work in its own cluster.
const RIGHTS: &str = "workloads:
  - {namespace: default, deployments: [shop], cronJobs: [mail], services: [shop], fence: true}
";

#[tokio::test(flavor = "multi_thread")]
async fn what_the_chart_grants_is_enough() {
    let desk = Desk::new(Cluster::with_nodes(2));
    succeeded(&install(&desk.cluster, "install", RIGHTS));
    apply(&desk.cluster, "Deployment", None, "kubectl");
    cron_job(&desk.cluster, "mail", "failover");
    apply_as(&desk.cluster, &service(), "kubectl");
    desk.cluster
        .until("it runs", || replicas(&desk.cluster, "deployment") == "1/1");
    let account = reference(&desk.cluster.of_service_account("ops", "dr-failover"));
    let own = |with: &Value| {
        let mut with = desk.with(with);
        with["kubeconfig"] = account.clone();
        with
    };
    for (kind, with) in [
        (
            "kubernetes/scale",
            json!({"kind": "Deployment", "name": "shop", "replicas": 2}),
        ),
        (
            "kubernetes/suspend",
            json!({"cronJobs": ["mail"], "suspend": true}),
        ),
        (
            "kubernetes/fence",
            json!({"workloads": [{"kind": "Deployment", "name": "shop"}], "cluster": uid(&desk.cluster)}),
        ),
    ] {
        let action = action(kind, &own(&with), &desk.wiring);
        let checked = items(&action).await;
        assert!(
            checked.iter().all(|i| i.status == CheckStatus::Ok),
            "{kind}: {checked:?}"
        );
        let mut context = step(LONG);
        context.key = kind.into();
        done(action.perform(&context).await);
        assert!(
            matches!(action.observe(&context).await, Presence::InPlace(_)),
            "{kind}"
        );
    }
    for kind in ["Deployment", "Service"] {
        let with = own(&json!({"kind": kind, "name": "shop"}));
        let seen = probe("probe/kubernetes", &with, &desk.wiring)
            .look(&look(SHORT))
            .await;
        assert_ne!(seen.sight, Sight::Unknown, "{seen:?}");
    }
}

/// As CloudNativePG has it, as far as a switch goes.
const CLUSTERS: &str = r#"{
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "clusters.postgresql.cnpg.io"},
    "spec": {
        "group": "postgresql.cnpg.io",
        "scope": "Namespaced",
        "names": {"kind": "Cluster", "plural": "clusters", "singular": "cluster"},
        "versions": [{
            "name": "v1", "served": true, "storage": true,
            "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}
        }]
    }
}"#;

fn say_phase(cluster: &Cluster, phase: &str) {
    let patch = format!("-p={}", json!({"status": {"phase": phase}}));
    cluster.kubectl(&[
        "patch",
        "cluster",
        "shop-db",
        "--subresource=status",
        "--type=merge",
        &patch,
    ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_of_another_operator_is_set_and_set_back() {
    let desk = Desk::new(Cluster::start());
    desk.cluster.apply(CLUSTERS);
    desk.cluster
        .kubectl(&["wait", "crd", "--all", "--for=condition=Established"]);
    let database = json!({
        "apiVersion": "postgresql.cnpg.io/v1",
        "kind": "Cluster",
        "metadata": {"name": "shop-db", "namespace": "default"},
        "spec": {"instances": 3, "replica": {"enabled": true, "source": "paris"}},
    });
    apply_as(&desk.cluster, &database, "kubectl");
    let switch = |more: &Value| {
        let mut with = json!({
            "apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster", "name": "shop-db",
            "field": "/spec/replica/enabled", "value": false, "before": true, "force": true,
            "until": {"field": "/status/phase", "value": "promoted"},
        });
        with.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        desk.action("kubernetes/patch", &with)
    };
    let held = |path: &str| {
        desk.cluster
            .kubectl(&["get", "cluster", "shop-db", &format!("-o=jsonpath={path}")])
    };

    let told = failed(switch(&json!({"force": false})).perform(&step(SHORT)).await);
    assert!(told.contains("belongs to kubectl"), "{told}");
    let told = failed(
        switch(&json!({"before": "yes"}))
            .perform(&step(SHORT))
            .await,
    );
    assert!(told.contains("must be \"yes\" before"), "{told}");
    assert!(
        wrong(&switch(&json!({"before": "yes"})))
            .await
            .contains("must be")
    );
    all_well(&items(&switch(&json!({}))).await);
    assert_eq!(held("{.spec.replica.enabled}"), "true");

    // Set, and not in effect yet.
    let unclear = switch(&json!({})).perform(&step(SHORT)).await;
    assert!(
        matches!(&unclear, StepResult::Indeterminate { reason } if reason.contains("not \"promoted\" yet")),
        "{unclear:?}"
    );
    let seen = switch(&json!({})).observe(&step(SHORT)).await;
    assert!(matches!(seen, Presence::Unknown { .. }), "{seen:?}");
    say_phase(&desk.cluster, "promoted");
    let proof = done(switch(&json!({})).perform(&step(SHORT)).await);
    assert_eq!(proof.facts["before"], "true");
    assert!(matches!(
        switch(&json!({})).observe(&step(SHORT)).await,
        Presence::InPlace(_)
    ));
    assert_eq!(
        held("{.spec.replica}"),
        r#"{"enabled":false,"source":"paris"}"#
    );

    done(switch(&json!({})).undo(&step(SHORT)).await.unwrap());
    assert_eq!(
        held("{.spec.replica}"),
        r#"{"enabled":true,"source":"paris"}"#
    );
    assert_eq!(held("{.metadata.annotations}"), "");

    // Zalando's switch: the section goes, and comes back whole.
    let away =
        switch(&json!({"field": "/spec/replica", "value": null, "before": null, "until": null}));
    done(away.perform(&step(SHORT)).await);
    assert_eq!(held("{.spec}"), r#"{"instances":3}"#);
    done(away.undo(&step(SHORT)).await.unwrap());
    assert_eq!(
        held("{.spec.replica}"),
        r#"{"enabled":true,"source":"paris"}"#
    );
    let unknown = switch(&json!({"kind": "Clutser"}));
    let told = failed(unknown.perform(&step(SHORT)).await);
    assert!(told.contains("Clutser"), "{told}");
}

fn cron_job(cluster: &Cluster, name: &str, manager: &str) {
    let job = json!({
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "schedule": "0 3 * * *",
            "suspend": false,
            "jobTemplate": {"spec": {"template": {"spec": {
                "restartPolicy": "Never",
                "containers": [{"name": "c", "image": "registry.example/c:1"}],
            }}}},
        },
    });
    apply_as(cluster, &job, manager);
}

#[tokio::test(flavor = "multi_thread")]
async fn cron_jobs_run_from_now_on_and_no_longer() {
    let desk = Desk::new(Cluster::start());
    for name in ["mail", "invoices"] {
        cron_job(&desk.cluster, name, "kubectl");
    }
    let suspended = || {
        desk.cluster
            .kubectl(&["get", "cronjobs", "-o=jsonpath={.items[*].spec.suspend}"])
    };
    desk.cluster.kubectl(&[
        "patch",
        "cronjob",
        "mail",
        "--field-manager=failover",
        r#"-p={"spec": {"suspend": true}}"#,
    ]);
    let jobs = |suspend: bool, force: bool| {
        desk.action(
            "kubernetes/suspend",
            &json!({"cronJobs": ["mail", "invoices"], "suspend": suspend, "force": force}),
        )
    };
    let resume = jobs(false, true);
    assert!(matches!(
        resume.observe(&step(SHORT)).await,
        Presence::Absent { .. }
    ));
    done(resume.perform(&step(SHORT)).await);
    assert_eq!(suspended(), "false false");
    assert!(matches!(
        resume.observe(&step(SHORT)).await,
        Presence::InPlace(_)
    ));
    done(resume.undo(&step(SHORT)).await.unwrap());
    assert_eq!(
        suspended(),
        "false true",
        "invoices were not suspended before"
    );
    done(jobs(true, true).perform(&step(SHORT)).await);
    assert_eq!(suspended(), "true true");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_tells_what_is_down_from_what_cannot_be_seen() {
    let desk = Desk::new(Cluster::with_nodes(1));
    apply(&desk.cluster, "Deployment", Some(2), "kubectl");
    apply_as(&desk.cluster, &service(), "kubectl");
    desk.cluster
        .until("it runs", || replicas(&desk.cluster, "deployment") == "2/2");
    let workload = json!({"kind": "Deployment", "name": "shop", "ready": 2});
    let endpoints = json!({"kind": "Service", "name": "shop", "ready": 2});
    assert_eq!(
        desk.look(&workload).await,
        (
            Sight::Up,
            "Deployment default/shop: 2 of 2 Ready".to_owned()
        )
    );
    for _ in 0..100 {
        if desk.look(&endpoints).await.0 == Sight::Up {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(
        desk.look(&endpoints).await,
        (Sight::Up, "Service default/shop: 2 of 2 Ready".to_owned())
    );

    let more = json!({"kind": "Deployment", "name": "shop", "ready": 3});
    assert_eq!(desk.look(&more).await.0, Sight::Down);
    let none = json!({"kind": "StatefulSet", "name": "shop"});
    assert_eq!(
        desk.look(&none).await,
        (
            Sight::Down,
            "there is no StatefulSet default/shop".to_owned()
        )
    );

    let mut stranger = desk.with(&workload);
    desk.cluster.kubectl(&["create", "serviceaccount", "robot"]);
    stranger["kubeconfig"] = reference(&desk.cluster.of_service_account("default", "robot"));
    let seen = probe("probe/kubernetes", &stranger, &desk.wiring)
        .look(&look(SHORT))
        .await;
    assert_eq!(seen.sight, Sight::Unknown, "{seen:?}");
    stranger["kubeconfig"] = json!({"file": "/dev/null"});
    let seen = probe("probe/kubernetes", &stranger, &desk.wiring)
        .look(&look(SHORT))
        .await;
    assert_eq!(seen.sight, Sight::Unknown, "{seen:?}");
    desk.cluster.freeze(Part::ApiServer);
    let seen = probe("probe/kubernetes", &desk.with(&workload), &desk.wiring)
        .look(&look(SHORT))
        .await;
    assert_eq!(seen.sight, Sight::Unknown, "{seen:?}");
    desk.cluster.thaw(Part::ApiServer);
}
