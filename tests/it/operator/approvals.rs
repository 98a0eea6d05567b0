//! Two people approve by kubectl, each as who the API server knows them.

use serde_json::json;

use super::account::{asked, installed};
use crate::stand::kubernetes::{Cluster, refused, succeeded};

fn run(requester: &str) -> String {
    json!({
        "apiVersion": "failover.rs/v1alpha1",
        "kind": "FailoverRun",
        "metadata": {"name": "move-1", "namespace": "ops"},
        "spec": {"service": "shop", "kind": "failover", "reason": "a test", "requester": requester},
    })
    .to_string()
}

/// A person creates an object, as `NAME@example.com`.
fn create(cluster: &Cluster, person: &str, object: &str) -> std::process::Output {
    let user = format!("{person}@example.com");
    let kubeconfig = cluster.of_user(&user, &["system:authenticated"]);
    cluster.kubectl_by(&kubeconfig, &["create", "-f", "-"], object)
}

fn approval(name: &str, ask: &str, approver: &str) -> String {
    json!({
        "apiVersion": "failover.rs/v1alpha1",
        "kind": "Approval",
        "metadata": {"name": name, "namespace": "ops"},
        "spec": {
            "service": "shop",
            "ask": ask,
            "answer": "approve",
            "approver": format!("{approver}@example.com"),
        },
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_approve_what_a_third_one_asked_for() {
    let (stand, cluster, _replica) = installed().await;
    for role in ["operate", "approve"] {
        let role_name = format!("--role=dr-failover-{role}");
        let people = ["ann", "ben", "cleo"].map(|name| format!("--user={name}@example.com"));
        let mut bind = vec!["create", "rolebinding", role, "-n=ops", &role_name];
        bind.extend(people.iter().map(String::as_str));
        cluster.kubectl(&bind);
    }
    cluster.until("the policy is in force", || {
        let ben = cluster.of_user("ben@example.com", &["system:authenticated"]);
        let trial = ["create", "--dry-run=server", "-f", "-"];
        let tried = cluster.kubectl_by(&ben, &trial, &run("nobody@example.com"));
        !tried.status.success()
    });
    succeeded(&create(&cluster, "ann", &run("ann@example.com")));
    cluster.until("people are asked", || {
        asked(&cluster, "failoverrun", "move-1", ".status.progress") == "Asking"
    });
    let ask = asked(&cluster, "failoverrun", "move-1", ".status.ask");
    let received = |name: &str, reception: &str| {
        cluster.until(&format!("{name} is {reception}"), || {
            asked(&cluster, "approval", name, ".status.reception") == reception
        });
    };

    // Who asked is the same person there and here.
    succeeded(&create(&cluster, "ann", &approval("own", &ask, "ann")));
    received("own", "Refused");
    let told = asked(&cluster, "approval", "own", ".status.message");
    assert!(told.contains("kubernetes/ann@example.com asked"), "{told}");
    let signed = approval("forged", &ask, "cleo");
    let told = refused(&create(&cluster, "ben", &signed));
    assert!(told.contains("expected ben@example.com"), "{told}");

    succeeded(&create(&cluster, "ben", &approval("one", &ask, "ben")));
    received("one", "Taken");
    assert_eq!(asked(&cluster, "approval", "one", ".status.person"), "ben");
    assert_eq!(stand.effects(), "", "one is not enough");
    succeeded(&create(&cluster, "cleo", &approval("two", &ask, "cleo")));
    received("two", "Taken");
    cluster.until("it is done", || {
        asked(&cluster, "failoverrun", "move-1", ".status.progress") == "Done"
    });
    assert_eq!(stand.effects(), "stop promote");
}
