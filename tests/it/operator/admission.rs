//! What the API server refuses by itself, and what only the controller can tell.

use serde_json::{Value, json};

use crate::stand::{
    kubernetes::{Cluster, refused},
    operator::{Operators, define},
};

fn service() -> Value {
    json!({
        "apiVersion": "failover.rs/v1alpha1",
        "kind": "ProtectedService",
        "metadata": {"name": "books"},
        "spec": {
            "objectives": {"rto": "5m", "rpo": "1m"},
            "sites": [
                {"name": "east", "role": "primary", "addresses": ["192.0.2.1"]},
                {"name": "west", "role": "standby", "addresses": ["198.51.100.1"]},
            ],
            "components": [{
                "name": "app",
                "kind": "application",
                "probes": [{"uses": "probe/tcp", "site": "east", "with": {"host": "127.0.0.1", "port": 1}}],
            }],
            "runbook": "redirect",
        },
    })
}

fn runbook() -> Value {
    json!({
        "apiVersion": "failover.rs/v1alpha1",
        "kind": "Runbook",
        "metadata": {"name": "move"},
        "spec": {"steps": [
            {"id": "stop", "uses": "command/fence", "with": {"perform": ["/bin/true"], "observe": ["/bin/true"]}},
            {"id": "call", "manual": "Call the shop.", "phase": "tell", "needs": ["stop"]},
        ]},
    })
}

fn run() -> Value {
    json!({
        "apiVersion": "failover.rs/v1alpha1",
        "kind": "FailoverRun",
        "metadata": {"name": "move-1"},
        "spec": {"service": "shop", "kind": "switchover", "reason": "a test", "requester": "ann"},
    })
}

/// The object with something else in one place.
fn with(mut object: Value, place: &str, value: Value) -> Value {
    *object.pointer_mut(place).unwrap() = value;
    object
}

#[test]
fn what_an_object_alone_shows_is_refused_with_what_is_wrong() {
    let cluster = Cluster::start();
    define(&cluster);
    for good in [service(), runbook(), run()] {
        cluster.apply(&good.to_string());
    }
    let wrong = [
        (
            with(service(), "/spec/sites/1/role", json!("primary")),
            "exactly one site must have the role primary",
        ),
        (
            with(service(), "/spec/sites/1/name", json!("east")),
            "duplicate entries for key",
        ),
        (
            with(service(), "/spec/objectives/rto", json!("soon")),
            "spec.objectives.rto",
        ),
        (
            with(
                service(),
                "/spec/components/0/probes/0/uses",
                json!("probe/magic"),
            ),
            "Unsupported value: \"probe/magic\"",
        ),
        (
            with(
                service(),
                "/spec/components/0/probes/0/site",
                json!("north"),
            ),
            "a probe names a site that is not in spec.sites",
        ),
        (
            with(runbook(), "/spec/steps/1/needs/0", json!("stopp")),
            "a step needs one that is not in this runbook",
        ),
        (
            with(
                runbook(),
                "/spec/steps/1",
                json!({"id": "call", "uses": "service/verify", "manual": "Call.", "phase": "tell"}),
            ),
            "a step has either uses or manual",
        ),
        (
            with(run(), "/spec/kind", json!("drill")),
            "a request is not changed once it was made",
        ),
    ];
    for (object, words) in wrong {
        let applied = cluster.kubectl_by(
            &cluster.kubeconfig(),
            &["apply", "--server-side", "-f", "-"],
            &object.to_string(),
        );
        let told = refused(&applied);
        assert!(told.contains(words), "{words:?} is missing in: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_controller_can_tell_stands_in_the_condition() {
    let operators = Operators::running().await;
    let cluster = &operators.cluster;
    let valid = |status: &Value| {
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        conditions
            .into_iter()
            .find(|c| c["type"] == "Valid")
            .unwrap_or_default()
    };
    let says = |words: &'static str| {
        move |status: &Value| {
            let valid = valid(status);
            let message = valid["message"].as_str().unwrap_or_default();
            valid["status"] == "False" && message.contains(words)
        }
    };

    cluster.apply(&with(service(), "/spec/runbook", json!("redirekt")).to_string());
    operators
        .cluster
        .until("the condition names the runbook", || {
            says("spec.runbook: ")(&operators.status("protectedservice", "books"))
        });
    operators.cluster.until("people are told", || {
        cluster.kubectl(&["get", "events"]).contains("NotProtected")
    });

    // Whoever may write documents is not to have the operator's own account.
    let token = "/var/run/secrets/kubernetes.io/serviceaccount/token";
    let probe = json!({
        "uses": "probe/http",
        "site": "east",
        "with": {"url": "https://192.0.2.1/", "headers": {"authorization": {"secret": {"file": token}}}},
    });
    let look = json!({
        "apiVersion": "failover.rs/v1alpha1",
        "kind": "Runbook",
        "metadata": {"name": "look"},
        "spec": {"steps": [{"id": "verify", "uses": "service/verify"}]},
    });
    cluster.apply(&look.to_string());
    let books = with(service(), "/spec/runbook", json!("look"));
    cluster.apply(&with(books, "/spec/components/0/probes/0", probe).to_string());
    operators
        .cluster
        .until("the condition names what is out of bounds", || {
            says("components[0].probes[0].with.headers.authorization.secret: /var/run/secrets/kubernetes.io")(
                &operators.status("protectedservice", "books"),
            )
        });
    let status = operators.status("protectedservice", "books");
    let message = valid(&status)["message"].clone();
    assert!(
        message.as_str().unwrap().contains("mount it there"),
        "{message}"
    );

    let listed = cluster.kubectl(&["get", "protected"]);
    let shop = listed
        .lines()
        .find(|line| line.starts_with("shop"))
        .unwrap();
    for word in ["healthy", "east", "ask"] {
        assert!(shop.contains(word), "{word:?}: {listed}");
    }

    // A document that cannot be used any more changes nothing of what is in force.
    operators.break_document();
    let status = operators.status("protectedservice", "shop");
    assert_eq!(status["active"], "east", "{status}");
    assert_eq!(status["verdict"], "healthy", "{status}");
    cluster.apply(&operators.stand.document());
    operators.until_service("it is valid again", |status| {
        valid(status)["status"] == "True"
    });
}
