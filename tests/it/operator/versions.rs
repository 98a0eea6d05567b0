//! Upgrades and the way back: definitions of before, a journal that another version wrote, and a run in flight.

use std::{fs, path::Path};

use failover::journal::chain;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::stand::{
    kubernetes::{Cluster, refused},
    operator::{Operators, define},
};

/// The chart's definition of a service.
fn definition() -> Value {
    let file = "charts/failover/crds/protectedservices.yaml";
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

fn fields(definition: &mut Value) -> &mut Value {
    let version = &mut definition["spec"]["versions"][0];
    &mut version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
}

/// The definitions as they were before the chat and the roles, and every object as it is kept under them.
fn set_back(cluster: &Cluster) {
    let mut before = definition();
    let team = &mut fields(&mut before)["team"]["properties"];
    team.as_object_mut().unwrap().remove("chat").unwrap();
    let people = team["people"]["items"]["properties"].as_object_mut();
    let people = people.unwrap();
    for field in ["phone", "role", "telegram"] {
        people.remove(field).unwrap();
    }
    cluster.apply(&before.to_string());
    cluster.kubectl(&["delete", "crd", "ledgerchunks.failover.rs"]);
    until_unknown(cluster, "\"telegram\":");
    until_unknown(cluster, "LedgerChunk");
    for kind in ["ps", "rb", "fr", "sr"] {
        let kept = cluster.kubectl(&["get", kind, "-o=json"]);
        let replaced = cluster.kubectl_by(&cluster.kubeconfig(), &["replace", "-f", "-"], &kept);
        assert!(replaced.status.success(), "{kind}: {replaced:?}");
    }
}

/// Waits until the server publishes these words no more.
fn until_unknown(cluster: &Cluster, words: &str) {
    let published = ["get", "--raw=/openapi/v3/apis/failover.rs/v1alpha1"];
    cluster.until("it is published", || {
        !cluster.kubectl(&published).contains(words)
    });
}

/// Definitions as a later version would have them: one field more.
fn set_forward(cluster: &Cluster) {
    let mut after = definition();
    fields(&mut after)["later"] = json!({"type": "string"});
    cluster.apply(&after.to_string());
}

/// A run whose fence is under way while its leader is killed; the fence ends after it.
async fn killed_midway() -> Operators {
    let mut operators = Operators::running().await;
    fs::remove_file(operators.stand.path("go")).unwrap();
    operators.approved("move-1", "one");
    operators.cluster.until("the fence is under way", || {
        operators.stand.effects() == "stop"
    });
    operators.signal("one", Signal::SIGKILL);
    operators.ended("one");
    operators.stand.file("go", "");
    operators
}

fn until_done(operators: &Operators) {
    operators.until_run("move-1", "it is done", |status| {
        status["progress"] == "Done"
    });
    assert_eq!(operators.stand.effects(), "stop promote");
}

/// Every object of a kind as it is kept, without what the server adds.
fn kept(cluster: &Cluster, kind: &str) -> Vec<Value> {
    let listed: Value = serde_json::from_str(&cluster.kubectl(&["get", kind, "-o=json"])).unwrap();
    let items = listed["items"].as_array().unwrap();
    items.iter().map(|item| item["spec"].clone()).collect()
}

/// An entry behind the last one, with a record as another version would write it.
fn foreign(cluster: &Cluster, format: u32) -> String {
    let entries = kept(cluster, "je");
    let last = entries
        .iter()
        .max_by_key(|entry| entry["last"].as_i64())
        .unwrap();
    let seq = last["last"].as_i64().unwrap() + 1;
    let line = json!({
        "format": format, "chain": "shop", "seq": seq, "epoch": 1, "at": "2030-01-01T00:00:00.000Z",
        "prev": last["hash"], "body": {"type": "siteRetired", "site": "east"},
    })
    .to_string();
    let name = format!("shop-{seq:010}");
    let entry = json!({
        "apiVersion": "failover.rs/v1alpha1",
        "kind": "JournalEntry",
        "metadata": {"name": name, "labels": {
            "failover.rs/chain": "shop", "failover.rs/last": seq.to_string(),
        }},
        "spec": {
            "chain": "shop", "first": seq, "last": seq, "hash": chain::hash(&line),
            "writer": "later/1", "lines": [line],
        },
    });
    cluster.apply(&entry.to_string());
    name
}

fn valid(operators: &Operators) -> Value {
    let status = operators.status("ps", "shop");
    let conditions = status["conditions"].as_array().unwrap();
    let valid = conditions.iter().find(|c| c["type"] == "Valid");
    valid.unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_waits_for_its_definitions_and_goes_on_with_the_run_that_was_open() {
    let mut operators = killed_midway().await;
    set_back(&operators.cluster);
    let before = kept(&operators.cluster, "je");

    operators.start("two");
    let status = operators.ended("two");
    assert_eq!(status.code(), Some(1), "{}", operators.log("two"));
    for words in [
        "FO-094",
        "LedgerChunk",
        "ProtectedService.spec.team.people[].role",
        "failover operator crds | kubectl apply --server-side -f -",
    ] {
        let log = operators.log("two");
        assert!(log.contains(words), "{words}: {log}");
    }
    assert_eq!(operators.stand.effects(), "stop");
    assert_eq!(
        kept(&operators.cluster, "je"),
        before,
        "nothing is recorded"
    );

    define(&operators.cluster);
    operators.start("two");
    until_done(&operators);
    let after = kept(&operators.cluster, "je");
    assert!(before.iter().all(|entry| after.contains(entry)));
    let opened = after
        .iter()
        .filter(|entry| entry["lines"].to_string().contains("runOpened"));
    assert_eq!(opened.count(), 1, "one request, one run");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_is_missing_ends_a_replica_with_what_to_do() {
    let mut operators = Operators::new().await;
    operators
        .cluster
        .kubectl(&["delete", "crd", "journalentries.failover.rs"]);
    until_unknown(&operators.cluster, "JournalEntry");
    operators.start("one");
    let status = operators.ended("one");
    assert_eq!(status.code(), Some(1), "{}", operators.log("one"));
    let log = operators.log("one");
    assert!(
        log.contains("error[FO-094]") && log.contains("lack JournalEntry\n"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_of_a_later_version_is_not_overlooked_and_the_open_run_goes_on() {
    let mut operators = killed_midway().await;
    set_forward(&operators.cluster);
    let later = operators
        .stand
        .document()
        .replace("  mode: ask\n", "  mode: ask\n  later: something\n");
    operators.cluster.until("the field is kept", || {
        operators.cluster.apply(&later);
        let kept = ["get", "ps", "shop", "-o=jsonpath={.spec.later}"];
        operators.cluster.kubectl(&kept) == "something"
    });
    operators.start("two");
    until_done(&operators);
    operators.until_service("it says what it does not know", |status| {
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let mut valid = conditions.filter(|c| c["type"] == "Valid");
        valid.any(|c| c["status"] == "False" && c["message"].to_string().contains("later"))
    });
    let told = valid(&operators)["message"].to_string();
    assert!(told.contains("in force before stays in force"), "{told}");
    let kept = ["get", "ps", "shop", "-o=jsonpath={.spec.later}"];
    assert_eq!(operators.cluster.kubectl(&kept), "something");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_set_back_to_an_older_version_holds_where_it_cannot_read_and_says_so() {
    let mut operators = killed_midway().await;
    let run = operators.status("failoverrun", "move-1");
    let cases = [
        (1, "unknown variant `siteRetired`"),
        (2, "the journal has format 2, this version knows up to 1"),
    ];
    for (name, (format, words)) in ["two", "three"].into_iter().zip(cases) {
        let entry = foreign(&operators.cluster, format);
        let before = kept(&operators.cluster, "je");
        operators.start(name);
        operators.cluster.until("it says that it holds", || {
            let valid = valid(&operators);
            let told = valid["message"].to_string();
            valid["status"] == "False" && told.contains(words) && told.contains("failover")
        });
        operators.cluster.until("people see it", || {
            let events = operators.cluster.kubectl(&["get", "events"]);
            events.contains("NotProtected") && events.contains(words)
        });
        // Nothing of the run is done, and nothing is written over what is not understood.
        assert_eq!(operators.stand.effects(), "stop");
        assert_eq!(kept(&operators.cluster, "je"), before);
        let followed = operators.status("failoverrun", "move-1");
        assert_eq!(followed["progress"], run["progress"], "{followed}");
        operators.signal(name, Signal::SIGTERM);
        assert!(operators.ended(name).success());
        let patch = [
            "patch",
            "je",
            &entry,
            "--type=merge",
            "--patch={\"spec\":{\"last\":1}}",
        ];
        let admin = operators.cluster.kubeconfig();
        let told = refused(&operators.cluster.kubectl_by(&admin, &patch, ""));
        assert!(told.contains("never changed"), "{told}");
        // As if it had never been written: for the next case alone.
        operators.cluster.kubectl(&["delete", "je", &entry]);
    }
    operators.start("four");
    until_done(&operators);
}
