//! The chart: linted, rendered, refused where its values are wrong, and installed into a real cluster.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use clap::{CommandFactory as _, Parser as _};
use failover::{
    cli::arguments::{self as cli, Arguments},
    operator::bounds::PREFIX,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::stand::{
    controller::Stand,
    kubernetes::{Cluster, refused, succeeded, tool},
};

/// Values that turn on all that can be.
const EVERYTHING: &str = "
image: {repository: registry.example/failover, tag: '1.2.3'}
imagePullSecrets: [{name: pull}]
secrets: {documents: [primary-kubeconfig], environment: [tokens], files: [keys]}
workloads:
  - namespace: shop
    deployments: [shop]
    statefulSets: [shop-db]
    cronJobs: [shop-mail]
    services: [shop]
    dnsEndpoints: [shop]
    custom: [{apiGroup: postgresql.cnpg.io, resource: clusters, names: [shop-db]}]
    fence: true
reach:
  guards: {enabled: true}
  vantage: {enabled: true, tlsSecret: vantage}
  statusPage: {enabled: true, service: {type: ClusterIP, annotations: {note: text}}}
  desk: {enabled: true, tlsSecret: desk, service: {type: LoadBalancer, loadBalancerSourceRanges: [192.0.2.0/24]}}
leaderElection: {leaseDuration: 30s, renewDeadline: 20s, retryPeriod: 4s}
metrics: {serviceMonitor: {enabled: true}, prometheusRule: {enabled: true}}
networkPolicy:
  metricsFrom: [{namespaceSelector: {matchLabels: {name: monitoring}}}]
  deskFrom: [{ipBlock: {cidr: 192.0.2.0/24}}]
  egress: [{to: [{ipBlock: {cidr: 192.0.2.0/24}}]}]
allowCommands: true
podLabels: {team: platform}
podAnnotations: {note: text}
priorityClassName: system-cluster-critical
nodeSelector: {kubernetes.io/os: linux}
tolerations: [{key: dr, operator: Exists}]
";

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/failover")
}

/// Runs helm without any cluster, with these values.
fn helm(arguments: &[&str], values: &str) -> Output {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("values.yaml");
    std::fs::write(&file, values).unwrap();
    Command::new(tool("helm"))
        .args(arguments)
        .arg("--values")
        .arg(&file)
        .env("HELM_CACHE_HOME", folder.path())
        .env("HELM_CONFIG_HOME", folder.path())
        .env("HELM_DATA_HOME", folder.path())
        .env("KUBECONFIG", "/dev/null")
        .output()
        .unwrap()
}

fn template(values: &str) -> Output {
    let chart = chart();
    let arguments = ["template", "dr", chart.to_str().unwrap(), "--namespace=ops"];
    helm(&arguments, values)
}

/// The objects that the chart makes of these values.
fn rendered(values: &str) -> Vec<Value> {
    let text = succeeded(&template(values));
    let objects = serde_saphyr::from_multiple::<Value>(&text);
    let mut objects = objects.unwrap_or_else(|e| panic!("{e}:\n{text}"));
    objects.retain(|object| !object.is_null());
    objects
}

fn one<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|o| o["kind"] == kind);
    let object = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "more than one {kind}");
    object
}

fn words(value: &Value) -> Vec<&str> {
    let all = value.as_array().into_iter().flatten();
    all.filter_map(Value::as_str).collect()
}

#[test]
fn helm_finds_nothing_wrong_with_it() {
    for values in ["", EVERYTHING] {
        let chart = chart();
        let said = succeeded(&helm(
            &["lint", "--strict", chart.to_str().unwrap()],
            values,
        ));
        assert!(said.contains("0 chart(s) failed"), "{said}");
    }
}

#[test]
fn no_role_has_a_wildcard_or_reads_every_secret() {
    for values in ["", EVERYTHING] {
        let objects = rendered(values);
        let mut rules = 0;
        for role in objects.iter().filter(|o| o["rules"].is_array()) {
            for rule in role["rules"].as_array().unwrap() {
                rules += 1;
                for part in ["apiGroups", "resources", "verbs", "resourceNames"] {
                    let named = words(&rule[part]);
                    assert!(!named.contains(&"*"), "{role}");
                    assert!(!named.is_empty() || part == "resourceNames", "{role}");
                }
                if words(&rule["resources"]).contains(&"secrets") {
                    // One that is named may be listed alone.
                    assert!(!words(&rule["resourceNames"]).is_empty(), "{role}");
                }
                let escalates = ["escalate", "bind", "impersonate"];
                assert!(words(&rule["verbs"]).iter().all(|v| !escalates.contains(v)));
            }
        }
        assert!(rules >= 8, "{rules}");
        for binding in objects.iter().filter(|o| o["roleRef"].is_object()) {
            let bound = &binding["roleRef"];
            let is_own =
                |o: &&Value| o["kind"] == bound["kind"] && o["metadata"]["name"] == bound["name"];
            assert!(objects.iter().any(|o| is_own(&o)), "{binding}");
        }
    }
}

#[test]
fn its_rights_are_in_namespaces_alone_but_for_the_nodes_of_a_fence() {
    for values in ["", EVERYTHING] {
        for object in rendered(values) {
            let kind = object["kind"].as_str().unwrap();
            let is_wide =
                kind.starts_with("ValidatingAdmissionPolicy") || kind.starts_with("Cluster");
            let place = object["metadata"]["namespace"].as_str();
            assert!(is_wide || place.is_some(), "{object}");
            assert!(
                !kind.starts_with("Cluster") || !values.is_empty(),
                "{object}"
            );
        }
    }
    let objects = rendered(EVERYTHING);
    let nodes = json!([
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["namespaces"], "resourceNames": ["kube-system"], "verbs": ["get"]},
    ]);
    assert_eq!(one(&objects, "ClusterRole")["rules"], nodes);
    let unfenced = EVERYTHING.replace("fence: true", "fence: false");
    let rules = rendered(&unfenced);
    let rules = rules.iter().filter_map(|o| o["rules"].as_array()).flatten();
    for rule in rules {
        for resource in words(&rule["resources"]) {
            assert!(!["pods", "nodes"].contains(&resource), "{rule}");
        }
    }
}

#[test]
fn its_pods_have_no_rights_on_their_node_and_stand_apart() {
    for values in ["", EVERYTHING] {
        let objects = rendered(values);
        let spec = &one(&objects, "Deployment")["spec"];
        assert_eq!(spec["replicas"], 2);
        let pod = &spec["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(
            pod["securityContext"]["seccompProfile"]["type"],
            "RuntimeDefault"
        );
        let context = &pod["containers"][0]["securityContext"];
        let expected = json!({
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "privileged": false,
            "readOnlyRootFilesystem": true,
        });
        assert_eq!(*context, expected);
        for unwanted in ["hostNetwork", "hostPID", "hostIPC"] {
            assert!(pod[unwanted].is_null(), "{unwanted}");
        }
        let volumes = pod["volumes"].as_array().unwrap();
        assert!(
            volumes.iter().all(|v| v["hostPath"].is_null()),
            "{volumes:?}"
        );
        assert!(pod["affinity"]["podAntiAffinity"].is_object());
        assert_eq!(
            one(&objects, "PodDisruptionBudget")["spec"]["maxUnavailable"],
            1
        );
    }
}

#[test]
fn the_program_takes_its_arguments_and_variables() {
    for values in ["", EVERYTHING] {
        let objects = rendered(values);
        let container = &one(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0];
        let typed = ["failover"].into_iter().chain(words(&container["args"]));
        let parsed = Arguments::try_parse_from(typed).unwrap_or_else(|e| panic!("{e}"));
        assert!(matches!(parsed.command, cli::Command::Operator(_)));

        let mut command = Arguments::command();
        command.build();
        let operator = command.find_subcommand("operator").unwrap();
        let read: BTreeSet<&str> = operator
            .get_arguments()
            .filter_map(|a| a.get_env()?.to_str())
            .collect();
        for variable in container["env"].as_array().unwrap() {
            let name = variable["name"].as_str().unwrap();
            assert!(read.contains(name), "{name} is none of {read:?}");
        }
    }
}

#[test]
fn documents_may_name_what_the_chart_gives_them() {
    let objects = rendered(EVERYTHING);
    let container = &one(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    let environment = json!([{"prefix": PREFIX, "secretRef": {"name": "tokens"}}]);
    assert_eq!(container["envFrom"], environment);
    let typed = ["failover"].into_iter().chain(words(&container["args"]));
    let cli::Command::Operator(operator) = Arguments::parse_from(typed).command else {
        panic!("another command");
    };
    let mounts = container["volumeMounts"].as_array().unwrap();
    let keys = mounts.iter().find(|m| m["name"] == "secret-0").unwrap();
    let path = operator.run.secrets.join("keys");
    assert_eq!(keys["mountPath"], path.to_str().unwrap());
}

#[test]
fn what_needs_the_prometheus_operator_is_there_only_on_demand() {
    let kinds =
        |values| -> Vec<Value> { rendered(values).iter().map(|o| o["kind"].clone()).collect() };
    for kind in ["ServiceMonitor", "PrometheusRule"] {
        assert!(!kinds("").contains(&json!(kind)));
        assert!(kinds(EVERYTHING).contains(&json!(kind)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_ask_for_figures_that_a_controller_has() {
    let objects = rendered(EVERYTHING);
    let rules = one(&objects, "PrometheusRule")["spec"].to_string();
    let asked: BTreeSet<&str> = rules
        .split(|c: char| !c.is_ascii_lowercase() && c != '_')
        .filter(|word| word.starts_with("failover_"))
        .collect();
    assert!(asked.len() >= 7, "{asked:?}");
    let controller = Stand::running().await;
    let (status, figures) = controller.figures("/metrics").await;
    assert_eq!(status, 200);
    for name in asked {
        assert!(
            figures.contains(&format!("# HELP {name} ")),
            "no {name} in {figures}"
        );
    }
}

#[test]
fn wrong_values_are_refused_where_they_stand() {
    for (values, told) in [
        ("replicas: 0", "/replicas"),
        ("replica: 3", "'replica' not allowed"),
        ("metrics: {port: 53}", "/metrics/port"),
        ("workloads: [{namespace: shop}]", "/workloads/0"),
        (
            "workloads: [{namespace: shop, deployments: ['*']}]",
            "/workloads/0/deployments/0",
        ),
        (
            "workloads: [{namespace: a, services: [b]}, {namespace: a, services: [c]}]",
            "workloads: name each namespace once",
        ),
        ("runAsUser: 0", "/runAsUser"),
        ("reach: {guards: {port: 53}}", "/reach/guards/port"),
        (
            "reach: {vantage: {enabled: true}}",
            "reach.vantage.tlsSecret: observers speak HTTPS",
        ),
        (
            "reach: {desk: {enabled: true}}",
            "reach.desk.tlsSecret: the desk is sent tokens",
        ),
        ("reach: {desk: {port: 443}}", "/reach/desk/port"),
        (
            "leaderElection: {retryPeriod: soon}",
            "/leaderElection/retryPeriod",
        ),
        (
            "serviceAccount: {create: false}",
            "serviceAccount.name: name the account",
        ),
    ] {
        let said = refused(&template(values));
        assert!(said.contains(told), "{values}: expected {told} in: {said}");
    }
}

/// A definition that takes anything, for what the chart makes and another product defines.
fn definition(group: &str, version: &str, kind: &str) -> Value {
    let plural = format!("{}s", kind.to_lowercase());
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
            "versions": [{
                "name": version,
                "served": true,
                "storage": true,
                "schema": {"openAPIV3Schema": schema},
            }],
        },
    })
}

/// Installs or upgrades the chart in the namespace `ops`, as the release `dr`.
pub fn install(cluster: &Cluster, verb: &str, values: &str) -> Output {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("values.yaml");
    std::fs::write(&file, values).unwrap();
    let chart = chart();
    cluster.helm(&[
        verb,
        "dr",
        chart.to_str().unwrap(),
        "--namespace=ops",
        "--create-namespace",
        "--values",
        file.to_str().unwrap(),
    ])
}

fn define(cluster: &Cluster, definitions: &[Value]) {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": definitions});
    cluster.apply(&list.to_string());
    for definition in definitions {
        let name = definition["metadata"]["name"].as_str().unwrap();
        cluster.kubectl(&["wait", "crd", name, "--for=condition=Established"]);
    }
}

#[test]
fn it_is_installed_changed_and_removed_without_a_trace() {
    let cluster = Cluster::with_nodes(2);
    let monitoring = "monitoring.coreos.com";
    define(
        &cluster,
        &["ServiceMonitor", "PrometheusRule"].map(|kind| definition(monitoring, "v1", kind)),
    );
    for namespace in ["shop", "books"] {
        cluster.kubectl(&["create", "namespace", namespace]);
    }
    succeeded(&install(&cluster, "install", ""));
    let ready = || {
        let path =
            "-o=jsonpath={.status.readyReplicas}/{.status.updatedReplicas}/{.status.replicas}";
        cluster.kubectl(&["get", "deployment", "dr-failover", "-n=ops", path]) == "2/2/2"
    };
    cluster.until("both replicas are ready", ready);
    let nodes = cluster.kubectl(&[
        "get",
        "pods",
        "-n=ops",
        "-o=jsonpath={.items[*].spec.nodeName}",
    ]);
    let mut nodes: Vec<&str> = nodes.split(' ').collect();
    nodes.sort_unstable();
    assert_eq!(nodes, ["node-0", "node-1"]);

    succeeded(&install(&cluster, "upgrade", EVERYTHING));
    cluster.until("both replicas are ready again", ready);
    let image = "-o=jsonpath={.spec.template.spec.containers[0].image}";
    let image = cluster.kubectl(&["get", "deployment", "dr-failover", "-n=ops", image]);
    assert_eq!(image, "registry.example/failover:1.2.3");

    succeeded(&cluster.helm(&["uninstall", "dr", "--namespace=ops", "--wait"]));
    let kinds = "deployments,services,endpointslices,roles,rolebindings,clusterroles,clusterrolebindings,networkpolicies,\
                 poddisruptionbudgets,serviceaccounts,servicemonitors,prometheusrules,\
                 validatingadmissionpolicies,validatingadmissionpolicybindings";
    let label = "-l=app.kubernetes.io/instance=dr";
    let left = cluster.kubectl(&["get", kinds, "-A", label, "-o=name"]);
    assert_eq!(left, "");
}

#[test]
fn every_object_is_taken_as_it_is_by_the_server() {
    let cluster = Cluster::start();
    let monitoring = "monitoring.coreos.com";
    define(
        &cluster,
        &["ServiceMonitor", "PrometheusRule"].map(|kind| definition(monitoring, "v1", kind)),
    );
    for namespace in ["ops", "shop", "books"] {
        cluster.kubectl(&["create", "namespace", namespace]);
    }
    for values in ["", EVERYTHING] {
        let manifests = succeeded(&template(values));
        // Strict: a field that the server does not know is an error.
        let arguments = ["apply", "--server-side", "--validate=strict", "-f", "-"];
        let said = cluster.kubectl_by(&cluster.kubeconfig(), &arguments, &manifests);
        let objects = rendered(values).len();
        assert_eq!(succeeded(&said).lines().count(), objects);
        assert_eq!(String::from_utf8_lossy(&said.stderr), "");
    }
}

#[test]
fn its_account_may_do_what_the_role_says_and_nothing_else() {
    let cluster = Cluster::start();
    define(
        &cluster,
        &["ServiceMonitor", "PrometheusRule"]
            .map(|kind| definition("monitoring.coreos.com", "v1", kind)),
    );
    for namespace in ["shop", "books"] {
        cluster.kubectl(&["create", "namespace", namespace]);
    }
    succeeded(&install(&cluster, "install", EVERYTHING));
    let account = cluster.of_service_account("ops", "dr-failover");
    for allowed in [
        "create failover.rs/journalentries ops",
        "patch failover.rs/servicerevisions ops",
        "patch failover.rs/approvals:status ops",
        "update coordination.k8s.io/leases/dr-failover ops",
        "watch failover.rs/protectedservices ops",
        "patch failover.rs/failoverruns:status ops",
        "create events.k8s.io/events ops",
        "patch apps/deployments/shop shop",
        "patch batch/cronjobs/shop-mail shop",
        "patch postgresql.cnpg.io/clusters/shop-db shop",
        "list /pods shop",
        "list /nodes default",
        "watch /secrets/primary-kubeconfig ops",
        "patch discovery.k8s.io/endpointslices/dr-failover-guards ops",
        "patch discovery.k8s.io/endpointslices/dr-failover-desk ops",
    ] {
        assert!(may(&cluster, &account, allowed), "refused: {allowed}");
    }
    for refused in [
        "delete failover.rs/journalentries ops",
        "patch failover.rs/journalentries ops",
        "create failover.rs/journalentries shop",
        "delete failover.rs/servicerevisions ops",
        "patch discovery.k8s.io/endpointslices/other ops",
        "create discovery.k8s.io/endpointslices ops",
        "update coordination.k8s.io/leases/other ops",
        "watch failover.rs/protectedservices shop",
        "create failover.rs/failoverruns ops",
        "create failover.rs/approvals ops",
        "patch failover.rs/failoverruns ops",
        "update failover.rs/protectedservices ops",
        "patch apps/deployments/other shop",
        "patch apps/deployments/shop books",
        "delete apps/deployments/shop shop",
        "watch apps/deployments/shop shop",
        "get /pods shop",
        "patch /services/shop shop",
        "list /secrets shop",
        "list /secrets ops",
        "get /secrets/tokens ops",
        "delete /pods shop",
        "create /pods ops",
        "get /nodes default",
        "create rbac.authorization.k8s.io/clusterrolebindings default",
        "impersonate /users default",
    ] {
        assert!(!may(&cluster, &account, refused), "allowed: {refused}");
    }
}

/// Whether somebody may do this: `VERB GROUP/RESOURCE[:SUBRESOURCE][/NAME] NAMESPACE`.
fn may(cluster: &Cluster, who: &Path, question: &str) -> bool {
    let mut words = question.split(' ');
    let mut next = || words.next().unwrap();
    let (verb, what, namespace) = (next(), next(), next());
    let mut what = what.split('/');
    let mut next = || what.next().unwrap_or_default();
    let (group, resource, name) = (next(), next(), next());
    let (resource, subresource) = resource.split_once(':').unwrap_or((resource, ""));
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {
            "verb": verb,
            "group": group,
            "resource": resource,
            "subresource": subresource,
            "name": name,
            "namespace": namespace,
        }},
    });
    let path = "--raw=/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let said = cluster.kubectl_by(who, &["create", path, "-f", "-"], &review.to_string());
    let answer: Value = serde_json::from_str(&succeeded(&said)).unwrap();
    answer["status"]["allowed"].as_bool().unwrap()
}

#[test]
fn who_asks_for_a_run_is_who_the_server_knows() {
    let cluster = Cluster::start();
    succeeded(&install(&cluster, "install", ""));
    cluster.kubectl(&[
        "create",
        "rolebinding",
        "operators",
        "-n=ops",
        "--role=dr-failover-operate",
        "--user=ann",
        "--serviceaccount=ops:dr-failover",
    ]);
    let ann = cluster.of_user("ann", &["system:authenticated"]);
    let controller = cluster.of_service_account("ops", "dr-failover");
    let run = |name: &str, requester: &str| {
        json!({
            "apiVersion": "failover.rs/v1alpha1",
            "kind": "FailoverRun",
            "metadata": {"name": name, "namespace": "ops"},
            "spec": {"service": "shop", "kind": "failover", "reason": "a test", "requester": requester},
        })
        .to_string()
    };
    let create = ["create", "-f", "-"];
    cluster.until("the policy is in force", || {
        let trial = ["create", "--dry-run=server", "-f", "-"];
        !cluster
            .kubectl_by(&ann, &trial, &run("a", "ben"))
            .status
            .success()
    });
    let told = refused(&cluster.kubectl_by(&ann, &create, &run("a", "ben")));
    assert!(
        told.contains("spec.requester: expected ann, who asks"),
        "{told}"
    );
    succeeded(&cluster.kubectl_by(&ann, &create, &run("a", "ann")));
    succeeded(&cluster.kubectl_by(&controller, &create, &run("b", "ben")));

    // Nor does anybody answer for somebody else, not even whoever may do everything.
    cluster.kubectl(&[
        "create",
        "rolebinding",
        "approvers",
        "-n=ops",
        "--role=dr-failover-approve",
        "--user=ann",
    ]);
    let approval = |name: &str, approver: &str| {
        json!({
            "apiVersion": "failover.rs/v1alpha1",
            "kind": "Approval",
            "metadata": {"name": name, "namespace": "ops"},
            "spec": {"service": "shop", "ask": "shop-a3", "answer": "approve", "approver": approver},
        })
        .to_string()
    };
    for (who, other) in [(&ann, "ben"), (&cluster.kubeconfig(), "ann")] {
        let told = refused(&cluster.kubectl_by(who, &create, &approval("a", other)));
        assert!(told.contains("spec.approver: expected "), "{told}");
    }
    let told = refused(&cluster.kubectl_by(&controller, &create, &approval("a", "ben")));
    assert!(told.contains("cannot create resource"), "{told}");
    succeeded(&cluster.kubectl_by(&ann, &create, &approval("a", "ann")));

    let admin = cluster.kubeconfig();
    let signed = r#"--patch={"spec": {"requester": "admin"}}"#;
    let change = [
        "patch",
        "failoverrun",
        "a",
        "-n=ops",
        "--type=merge",
        signed,
    ];
    let told = refused(&cluster.kubectl_by(&admin, &change, ""));
    assert!(told.contains("create another one"), "{told}");
    let labelled = ["label", "failoverrun", "a", "-n=ops", "seen=yes"];
    succeeded(&cluster.kubectl_by(&admin, &labelled, ""));
}
