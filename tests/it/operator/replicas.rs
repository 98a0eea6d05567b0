//! Replicas of the operator: a request becomes a run and its status follows it, whoever leads, and whatever dies.

use std::time::{Duration, Instant};

use failover::{
    model::{
        id::Seq,
        page::PageTopic,
        record::{Record, RecordBody},
    },
    port::journal::Journal as _,
};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::journal::journal;
use crate::stand::{kubernetes::Part, operator::Operators, patience::until};

/// How long the API server is away: ten times a lease of these replicas.
const AWAY: Duration = Duration::from_secs(30);

/// The whole chain, checked.
async fn records(operators: &Operators) -> Vec<Record> {
    let journal = journal(&operators.cluster.kubeconfig(), "reader").await;
    journal.read(&"shop".into(), Seq(1)).await.unwrap()
}

fn leaders(records: &[Record]) -> Vec<(u64, String)> {
    let taken = records.iter().filter_map(|record| {
        let RecordBody::LeaderTaken { term, leader } = &record.body else {
            return None;
        };
        let (name, _) = leader.rsplit_once('-').unwrap();
        Some((term.0, name.to_owned()))
    });
    taken.collect()
}

fn count(records: &[Record], kind: &str) -> usize {
    records.iter().filter(|r| r.body.kind() == kind).count()
}

fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    let conditions = status["conditions"].as_array().unwrap();
    conditions.iter().find(|c| c["type"] == kind).unwrap()
}

/// A run is approved, and its fence does not end before the file `go` is there again.
fn until_midway(operators: &Operators) {
    std::fs::remove_file(operators.stand.path("go")).unwrap();
    operators.approved("move-1", "one");
    operators.cluster.until("the fence is under way", || {
        operators.stand.effects() == "stop"
    });
}

fn until_done(operators: &Operators) {
    operators.until_run("move-1", "it is done", |status| {
        status["progress"] == "Done"
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_becomes_a_run_and_its_status_follows_it() {
    let mut operators = Operators::running().await;
    assert_eq!(
        condition(&operators.status("ps", "shop"), "Valid")["status"],
        "True"
    );
    operators.approved("move-1", "one");
    until_done(&operators);

    let run = operators.status("failoverrun", "move-1");
    assert_eq!(run["steps"], "5/5", "{run}");
    assert_eq!(condition(&run, "Complete")["status"], "True", "{run}");
    assert_eq!(condition(&run, "Succeeded")["status"], "True", "{run}");
    operators.until_service("it is served from the standby", |status| {
        status["active"] == "west" && status["run"].is_null()
    });
    assert_eq!(operators.stand.effects(), "stop promote");
    let records = records(&operators).await;
    assert_eq!(leaders(&records), [(1, "one".to_owned())]);
    assert_eq!(records[0].body.kind(), "leaderTaken");
    assert_eq!(count(&records, "runOpened"), 1);
    operators.cluster.until("people see it", || {
        let events = operators.cluster.kubectl(&["get", "events"]);
        ["RunOpened", "RunClosed", "ApprovalNeeded"]
            .iter()
            .all(|reason| events.contains(reason))
    });

    operators.signal("one", Signal::SIGTERM);
    assert!(operators.ended("one").success(), "{}", operators.log("one"));
    operators.start("two");
    operators
        .cluster
        .until("a lease that was given up is taken at once", || {
            operators.log("two").contains("this replica leads term=2")
        });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_told_and_asked_about_and_failed_over_on_approval() {
    let operators = Operators::running().await;
    operators.stand.east_is_up(false);
    operators.until_service("people are asked", |status| {
        status["verdict"] == "down" && status["asks"][0]["id"].is_string()
    });
    let status = operators.status("ps", "shop");
    assert_eq!(condition(&status, "PrimaryHealthy")["status"], "False");
    let asked = condition(&status, "AwaitingApproval");
    assert_eq!(asked["status"], "True", "{status}");
    let id = status["asks"][0]["id"].as_str().unwrap();
    assert!(asked["message"].as_str().unwrap().contains(id), "{status}");

    // What is asked already is not asked twice.
    operators.ask("again", "failover");
    operators.until_run("again", "it is refused", |status| {
        let message = status["message"].as_str().unwrap_or_default();
        status["progress"] == "Refused" && message.contains("is open already")
    });
    for person in ["ann", "ben"] {
        operators.says("one", person, &["approve", id]);
    }
    operators.until_service("it is served from the standby", |status| {
        status["active"] == "west" && status["run"].is_null()
    });
    assert_eq!(operators.stand.effects(), "stop promote");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_killed_midway_is_succeeded_and_nothing_happens_twice() {
    let mut operators = Operators::running().await;
    until_midway(&operators);
    operators.until_run("move-1", "it runs", |status| {
        status["progress"] == "Running"
    });
    operators.signal("one", Signal::SIGKILL);
    operators.ended("one");
    // The fence that was under way ends after its controller.
    operators.stand.file("go", "");
    operators.start("two");
    until_done(&operators);
    assert_eq!(operators.stand.effects(), "stop promote");
    let records = records(&operators).await;
    assert_eq!(
        leaders(&records),
        [(1, "one".to_owned()), (2, "two".to_owned())]
    );
    assert_eq!(count(&records, "runOpened"), 1, "one request, one run");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_was_broken_leaves_its_service_protected_whoever_leads() {
    let mut operators = Operators::running().await;
    operators.break_document();
    operators.signal("one", Signal::SIGKILL);
    operators.ended("one");
    operators.start("two");
    operators.approved("move-1", "two");
    until_done(&operators);
    assert_eq!(operators.stand.effects(), "stop promote");
    let status = operators.status("ps", "shop");
    assert_eq!(condition(&status, "Valid")["status"], "False", "{status}");
    let records = self::records(&operators).await;
    let paged = records.iter().filter(|record| {
        matches!(&record.body, RecordBody::PageRaised { page } if page.topic == PageTopic::Documents)
    });
    assert_eq!(paged.count(), 1, "the team hears of it, once");

    operators.cluster.apply(&operators.stand.document());
    operators.until_service("it is valid again", |status| {
        condition(status, "Valid")["status"] == "True"
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_slept_through_its_lease_changes_nothing() {
    let mut operators = Operators::running().await;
    operators.start("two");
    operators.signal("one", Signal::SIGSTOP);
    until("the other one leads, and has written so", async || {
        leaders(&records(&operators).await).len() == 2
    })
    .await;
    let before = records(&operators).await.len();
    operators.signal("one", Signal::SIGCONT);
    let status = operators.ended("one");
    assert_eq!(status.code(), Some(1), "{}", operators.log("one"));
    assert!(
        operators.log("one").contains("FO-093"),
        "{}",
        operators.log("one")
    );
    let records = records(&operators).await;
    let after = &records[before..];
    assert!(leaders(after).is_empty(), "{after:?}");
    operators.approved("move-1", "two");
    until_done(&operators);
    assert_eq!(operators.stand.effects(), "stop promote");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_was_removed_begins_no_term_anew() {
    let mut operators = Operators::running().await;
    operators.cluster.kubectl(&["delete", "lease", "failover"]);
    let status = operators.ended("one");
    assert_eq!(status.code(), Some(1), "{}", operators.log("one"));
    operators.start("two");
    operators.cluster.until("the term goes on", || {
        operators.log("two").contains("this replica leads term=2")
    });
    operators.approved("move-1", "two");
    until_done(&operators);
    assert_eq!(
        leaders(&records(&operators).await),
        [(1, "one".to_owned()), (2, "two".to_owned())]
    );
    let path = "-o=jsonpath={.spec.leaseTransitions}";
    let term = operators
        .cluster
        .kubectl(&["get", "lease", "failover", path]);
    assert_eq!(term, "2");
}

/// Brings the API server back after so long, by `back`, while `meanwhile` holds what must be so all the time.
async fn away(operators: &Operators, back: impl Fn(), meanwhile: impl Fn()) {
    let began = Instant::now();
    while began.elapsed() < AWAY {
        meanwhile();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    back();
    operators.cluster.until("the leader renews", || {
        operators.log("one").contains("this replica still leads")
    });
}

/// Pages that the journal cannot be written.
fn pages_of_the_journal(operators: &Operators) -> Vec<Value> {
    let paged = operators.stand.paged();
    let told = |page: &&Value| page.to_string().contains("the journal cannot be written");
    paged.iter().filter(told).cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_away_during_detection_fails_nothing_over_and_asks_once_it_is_back() {
    let operators = Operators::running().await;
    operators.cluster.crash(Part::ApiServer);
    operators.stand.east_is_up(false);
    let back = || operators.cluster.restart(Part::ApiServer);
    away(&operators, back, || {
        assert_eq!(operators.stand.effects(), "");
    })
    .await;
    operators.until_service("people are asked", |status| {
        status["verdict"] == "down" && status["asks"][0]["id"].is_string()
    });
    assert_eq!(operators.stand.effects(), "");
    let records = records(&operators).await;
    assert_eq!(count(&records, "incidentOpened"), 1);
    assert_eq!(count(&records, "journalResumed"), 1);
    assert_eq!(count(&records, "runOpened"), 0);
    assert_eq!(leaders(&records), [(1, "one".to_owned())]);
    let pages = pages_of_the_journal(&operators);
    assert_eq!(pages.len(), 1, "{pages:?}");
    let told = pages[0].to_string();
    assert!(
        told.contains("kubectl get journalentries -n default"),
        "{told}"
    );
    assert!(!told.contains("df -h"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_hangs_while_all_is_well_fails_nothing_over() {
    let operators = Operators::running().await;
    operators.cluster.freeze(Part::ApiServer);
    let back = || operators.cluster.thaw(Part::ApiServer);
    away(&operators, back, || {
        assert_eq!(operators.stand.effects(), "");
    })
    .await;
    let records = records(&operators).await;
    assert_eq!(count(&records, "incidentOpened"), 0);
    assert_eq!(leaders(&records), [(1, "one".to_owned())]);
    operators.until_service("it is healthy", |status| status["verdict"] == "healthy");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_waits_for_an_api_server_that_is_away_and_goes_on_after() {
    let operators = Operators::running().await;
    until_midway(&operators);
    operators.cluster.crash(Part::ApiServer);
    operators.stand.file("go", "");
    let back = || operators.cluster.restart(Part::ApiServer);
    away(&operators, back, || {
        assert_eq!(
            operators.stand.effects(),
            "stop",
            "nothing is done that cannot be recorded"
        );
    })
    .await;
    until_done(&operators);
    assert_eq!(operators.stand.effects(), "stop promote");
    let records = records(&operators).await;
    assert_eq!(leaders(&records).len(), 1);
    assert_eq!(count(&records, "journalResumed"), 1);
    assert_eq!(pages_of_the_journal(&operators).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_not_let_go_while_a_run_is_open() {
    let operators = Operators::running().await;
    until_midway(&operators);
    operators
        .cluster
        .kubectl(&["delete", "ps", "shop", "--wait=false"]);
    operators.until_run("move-1", "it still runs", |status| {
        status["progress"] == "Running"
    });
    operators.stand.file("go", "");
    until_done(&operators);
    operators.cluster.until("the service goes", || {
        operators
            .cluster
            .kubectl(&["get", "ps", "-o=name"])
            .is_empty()
    });
    assert_eq!(operators.stand.effects(), "stop promote");
    assert!(records(&operators).await.len() > 5, "its journal stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_to_go_is_kept_by_the_next_leader_until_its_run_has_ended() {
    let mut operators = Operators::running().await;
    until_midway(&operators);
    operators
        .cluster
        .kubectl(&["delete", "ps", "shop", "--wait=false"]);
    operators.signal("one", Signal::SIGKILL);
    operators.ended("one");
    operators.stand.file("go", "");
    operators.start("two");
    until_done(&operators);
    assert_eq!(operators.stand.effects(), "stop promote");
    operators.cluster.until("the service goes", || {
        operators
            .cluster
            .kubectl(&["get", "ps", "-o=name"])
            .is_empty()
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_frozen_midway_finds_its_run_finished_and_does_nothing_again() {
    let mut operators = Operators::running().await;
    operators.start("two");
    until_midway(&operators);
    operators.signal("one", Signal::SIGSTOP);
    // The fence that was under way ends, and its controller does not hear of it.
    operators.stand.file("go", "");
    operators.cluster.until("the other one promotes", || {
        operators.stand.effects() == "stop promote"
    });

    // Until now it holds the address of the embedded DNS server, which the other one waits for.
    operators.signal("one", Signal::SIGCONT);
    let status = operators.ended("one");
    assert_eq!(status.code(), Some(1), "{}", operators.log("one"));
    until_done(&operators);
    assert_eq!(operators.stand.effects(), "stop promote");
    let records = records(&operators).await;
    assert_eq!(
        leaders(&records),
        [(1, "one".to_owned()), (2, "two".to_owned())]
    );
    assert_eq!(count(&records, "runOpened"), 1, "one request, one run");
}
