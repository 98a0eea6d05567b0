//! The clusters of these tests are real ones, and leave nothing behind.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::stand::{
    kubernetes::{Cluster, Part, refused, succeeded},
    postgres::until,
};

const DEPLOYMENT: &str = r#"{
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "shop"},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "shop"}},
        "template": {
            "metadata": {"labels": {"app": "shop"}},
            "spec": {"containers": [{"name": "shop", "image": "registry.example/shop:1"}]}
        }
    }
}"#;

fn config_map(name: &str) -> String {
    format!(r#"{{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {{"name": "{name}"}}}}"#)
}

#[test]
fn a_deployment_becomes_ready_and_its_pods_end_only_by_a_kubelet() {
    let cluster = Cluster::with_nodes(2);
    cluster.apply(DEPLOYMENT);
    let path = "-o=jsonpath={.status.readyReplicas}";
    cluster.until("the Deployment is ready", || {
        cluster.kubectl(&["get", "deployment", "shop", path]) == "2"
    });

    cluster.freeze(Part::Kubelets);
    cluster.kubectl(&["scale", "deployment", "shop", "--replicas=0"]);
    let pods = || cluster.kubectl(&["get", "pods", "-o=name"]).lines().count();
    let ending = "-o=jsonpath={.items[*].metadata.deletionTimestamp}";
    cluster.until("both Pods are asked to end", || {
        let asked = cluster.kubectl(&["get", "pods", ending]);
        asked.split_whitespace().count() == 2
    });
    assert_eq!(pods(), 2, "nobody has said that they ended");

    cluster.thaw(Part::Kubelets);
    cluster.until("the Pods are gone", || pods() == 0);
}

#[test]
fn objects_outlive_the_api_server() {
    let cluster = Cluster::start();
    cluster.apply(&config_map("kept"));
    cluster.crash(Part::ApiServer);
    assert!(!cluster.finds("/readyz"), "it has ended");
    cluster.restart(Part::ApiServer);
    let found = cluster.kubectl(&["get", "configmap", "kept", "-o=name"]);
    assert_eq!(found.trim(), "configmap/kept");
}

#[test]
fn a_frozen_api_server_answers_nobody_until_it_is_thawed() {
    let cluster = Cluster::start();
    cluster.freeze(Part::ApiServer);
    assert!(!cluster.finds("/readyz"));
    cluster.thaw(Part::ApiServer);
    cluster.until("it answers again", || cluster.finds("/readyz"));
}

#[test]
fn two_clusters_know_nothing_of_each_other() {
    let (east, west) = (Cluster::start(), Cluster::start());
    east.apply(&config_map("only-east"));
    let looked = ["get", "configmap", "only-east"];
    east.kubectl(&looked);
    let told = refused(&west.kubectl_by(&west.kubeconfig(), &looked, ""));
    assert!(told.contains("not found"), "{told}");
}

#[test]
fn an_account_and_a_person_may_do_what_roles_say_and_are_written_down() {
    let cluster = Cluster::start();
    cluster.kubectl(&["create", "serviceaccount", "robot"]);
    let robot = cluster.of_service_account("default", "robot");
    let ann = cluster.of_user("ann@example.com", &["system:authenticated", "operators"]);
    let read = ["get", "configmaps"];
    for who in [&robot, &ann] {
        let told = refused(&cluster.kubectl_by(who, &read, ""));
        assert!(
            told.contains("cannot list resource \"configmaps\""),
            "{told}"
        );
    }
    cluster.kubectl(&[
        "create",
        "role",
        "reader",
        "--verb=list",
        "--resource=configmaps",
    ]);
    cluster.kubectl(&[
        "create",
        "rolebinding",
        "readers",
        "--role=reader",
        "--serviceaccount=default:robot",
        "--group=operators",
    ]);
    for who in [&robot, &ann] {
        cluster.until("the role holds", || {
            cluster.kubectl_by(who, &read, "").status.success()
        });
        let made = cluster.kubectl_by(who, &["apply", "-f", "-"], &config_map("more"));
        let told = refused(&made);
        assert!(told.contains("forbidden"), "{told}");
    }
    for user in ["system:serviceaccount:default:robot", "ann@example.com"] {
        let requests = cluster.requests_of(user);
        let codes: Vec<_> = requests
            .iter()
            .filter(|r| r["objectRef"]["resource"] == "configmaps" && r["verb"] == "list")
            .map(|r| r["responseStatus"]["code"].as_u64().unwrap())
            .collect();
        assert!(codes.contains(&403) && codes.ends_with(&[200]), "{codes:?}");
    }
    let who = cluster.kubectl_by(&ann, &["auth", "whoami", "-o=json"], "");
    assert!(succeeded(&who).contains("ann@example.com"));
}

/// Processes that work in a folder below this one.
fn at_work_in(folder: &Path) -> usize {
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    processes
        .filter(|entry| {
            let place = fs::read_link(entry.path().join("cwd"));
            place.is_ok_and(|place| place.starts_with(folder))
        })
        .count()
}

#[test]
fn a_killed_test_leaves_neither_processes_nor_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut test = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "operator::cluster::objects_outlive_the_api_server",
        ])
        .env("TMPDIR", folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let files = || fs::read_dir(folder.path()).unwrap().count();
    until("etcd and the API server run", || {
        assert!(test.try_wait().unwrap().is_none(), "it ended too early");
        at_work_in(folder.path()) == 2
    });
    assert!(files() > 0);
    test.kill().unwrap();
    test.wait().unwrap();
    let began = Instant::now();
    while files() + at_work_in(folder.path()) > 0 {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "something is left"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}
