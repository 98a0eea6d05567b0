//! The journal over a real API server: what two leaders, lost answers and a server that is away make of it.

use std::{path::Path, sync::Arc, time::Duration};

use failover::{
    driver::clock::HostRuntime,
    journal::kubernetes::KubernetesJournal,
    model::{
        id::{Epoch, PersonName, Seq, ServiceName, Term},
        record::{Record, RecordBody},
        time::Time,
    },
    port::journal::{Draft, Journal, JournalError, Lines, Rivals},
};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tokio::time;

use crate::stand::{
    kubernetes::{Cluster, Part, refused},
    operator::define,
};

/// A client of whoever has this kubeconfig.
pub async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    Client::try_from(config.unwrap()).unwrap()
}

/// The journal of a process of this name.
pub async fn journal(kubeconfig: &Path, identity: &str) -> Arc<KubernetesJournal> {
    let client = client(kubeconfig).await;
    let runtime = Arc::new(HostRuntime::new());
    Arc::new(KubernetesJournal::new(client, "default", identity, runtime))
}

fn shop() -> ServiceName {
    "shop".into()
}

fn notes(texts: &[&str]) -> Vec<Draft> {
    texts
        .iter()
        .map(|text| Draft {
            epoch: Epoch(1),
            at: Time::from_millis(1),
            body: RecordBody::Note {
                by: PersonName::from("ann"),
                text: (*text).to_owned(),
            },
        })
        .collect()
}

fn texts(records: &[Record]) -> Vec<String> {
    let text = |record: &Record| {
        let RecordBody::Note { text, .. } = &record.body else {
            panic!("{record:?}")
        };
        text.clone()
    };
    records.iter().map(text).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_appended_together_is_one_object_that_nobody_changes() {
    let cluster = Cluster::start();
    define(&cluster);
    let journal = journal(&cluster.kubeconfig(), "one").await;
    journal
        .append(&shop(), Seq(0), notes(&["a"]))
        .await
        .unwrap();
    let appended = journal.append(&shop(), Seq(1), notes(&["b", "c"])).await;
    assert_eq!(appended.unwrap().last().unwrap().seq, Seq(3));
    let other: ServiceName = "shop-0000000001".into();
    journal.append(&other, Seq(0), notes(&["x"])).await.unwrap();

    let names = cluster.kubectl(&["get", "je", "-o=name", "-l=failover.rs/chain=shop"]);
    let names: Vec<_> = names
        .lines()
        .map(|n| n.rsplit('/').next().unwrap())
        .collect();
    assert_eq!(names, ["shop-0000000001", "shop-0000000002"]);
    let again = self::journal(&cluster.kubeconfig(), "two").await;
    let read = again.read(&shop(), Seq(2)).await.unwrap();
    assert_eq!(texts(&read), ["b", "c"]);
    let heads = Lines::heads(again.as_ref()).await.unwrap();
    assert_eq!(heads, [(shop(), Seq(3)), (other, Seq(1))]);

    let patch = r#"--patch={"spec": {"lines": ["{}"], "last": 1}}"#;
    let arguments = ["patch", "je", "shop-0000000001", "--type=merge", patch];
    let told = refused(&cluster.kubectl_by(&cluster.kubeconfig(), &arguments, ""));
    assert!(
        told.contains("what is in the journal is never changed"),
        "{told}"
    );

    // Whoever may remove an object can, but not without its being seen.
    cluster.kubectl(&["delete", "je", "shop-0000000001"]);
    let broken = again.read(&shop(), Seq(1)).await.unwrap_err().to_string();
    assert!(
        broken.contains("sequence 1: the record is missing"),
        "{broken}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_chain_is_read_with_one_list_and_none_of_its_ends_is_missed() {
    let cluster = Cluster::start();
    define(&cluster);
    let writer = journal(&cluster.kubeconfig(), "writer").await;
    let bank: ServiceName = "bank".into();
    let taken = |term| Draft {
        epoch: Epoch(1),
        at: Time::from_millis(1),
        body: RecordBody::LeaderTaken {
            term: Term(term),
            leader: "x".to_owned(),
        },
    };
    for (chain, term) in [(shop(), 7), (bank.clone(), 3)] {
        let drafts = [notes(&["a"]), vec![taken(term)]].concat();
        writer.append(&chain, Seq(0), drafts).await.unwrap();
    }

    let reader = journal(&cluster.kubeconfig(), "reader").await;
    // What is written after the list is not missed.
    reader.take_stock().await.unwrap();
    writer.append(&shop(), Seq(2), notes(&["b"])).await.unwrap();
    assert_eq!(reader.read(&shop(), Seq(1)).await.unwrap().len(), 3);

    assert_eq!(reader.take_stock().await.unwrap(), Term(7));
    let lists = || {
        let all = cluster.requests_of("admin");
        let is_list =
            |r: &&Value| r["verb"] == "list" && r["objectRef"]["resource"] == "journalentries";
        all.iter().filter(is_list).count()
    };
    let before = lists();
    assert!(before > 0);
    for (chain, records) in [(shop(), 3), (bank, 2)] {
        assert_eq!(reader.read(&chain, Seq(1)).await.unwrap().len(), records);
    }
    assert_eq!(lists(), before);
    reader.read(&shop(), Seq(1)).await.unwrap();
    assert_eq!(lists(), before + 1, "the stock is for the start alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_nobody_can_read_stops_its_own_chain_alone() {
    let cluster = Cluster::start();
    define(&cluster);
    let writer = journal(&cluster.kubeconfig(), "writer").await;
    writer.append(&shop(), Seq(0), notes(&["a"])).await.unwrap();
    // As a later version would have written it.
    let place = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    let patch = json!([{
        "op": "add",
        "path": format!("{place}/x-kubernetes-preserve-unknown-fields"),
        "value": true,
    }]);
    let patch = format!("--patch={patch}");
    let definition = ["crd", "journalentries.failover.rs", "--type=json"];
    cluster.kubectl(&[&["patch"], &definition[..], &[&patch]].concat());
    let entry = json!({
        "apiVersion": "failover.rs/v1alpha1",
        "kind": "JournalEntry",
        "metadata": {"name": "bank-0000000001", "labels": {"failover.rs/chain": "bank"}},
        "spec": {
            "chain": "bank", "first": 1, "last": 1, "hash": "x", "writer": "y/1", "lines": ["{}"],
            "later": true,
        },
    });
    cluster.until("the entry keeps what is not known of it", || {
        cluster.apply(&entry.to_string());
        let later = ["get", "je", "bank-0000000001", "-o=jsonpath={.spec.later}"];
        let is_kept = cluster.kubectl(&later) == "true";
        if !is_kept {
            cluster.kubectl(&["delete", "je", "bank-0000000001"]);
        }
        is_kept
    });

    let reader = journal(&cluster.kubeconfig(), "reader").await;
    reader.take_stock().await.unwrap();
    assert_eq!(reader.read(&shop(), Seq(1)).await.unwrap().len(), 1);
    let error = reader.read(&"bank".into(), Seq(1)).await.unwrap_err();
    assert!(matches!(error, JournalError::Io { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_behind_cannot_write_however_much_it_believes_to_lead() {
    let cluster = Cluster::start();
    define(&cluster);
    let old = journal(&cluster.kubeconfig(), "old").await;
    old.append(&shop(), Seq(0), notes(&["a", "b"]))
        .await
        .unwrap();
    let new = journal(&cluster.kubeconfig(), "new").await;
    new.read(&shop(), Seq(1)).await.unwrap();
    new.append(&shop(), Seq(2), notes(&["taken"]))
        .await
        .unwrap();

    // The very same words: what was asked for twice by one is not what two have asked for.
    for drafts in [notes(&["late"]), notes(&["taken"])] {
        let late = old.append(&shop(), Seq(2), drafts).await;
        assert!(
            matches!(late, Err(JournalError::Conflict { seq: Seq(3), .. })),
            "{late:?}"
        );
    }
    let read = new.read(&shop(), Seq(1)).await.unwrap();
    assert_eq!(texts(&read), ["a", "b", "taken"]);

    let overtaken = |journal: &Arc<KubernetesJournal>, after| {
        let journal = journal.clone();
        async move { journal.overtaken(&shop(), after).await.unwrap() }
    };
    assert_eq!(overtaken(&old, Seq(2)).await, Some(Seq(3)));
    assert_eq!(overtaken(&new, Seq(2)).await, None, "its own");
    assert_eq!(overtaken(&old, Seq(3)).await, None, "nothing is there");

    let bank: ServiceName = "bank".into();
    let (left, right) = tokio::join!(
        old.append(&bank, Seq(0), notes(&["left"])),
        new.append(&bank, Seq(0), notes(&["right"])),
    );
    assert_eq!(
        usize::from(left.is_ok()) + usize::from(right.is_ok()),
        1,
        "{left:?} {right:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_waits_for_a_server_that_is_away_and_is_written_once() {
    let cluster = Cluster::start();
    define(&cluster);
    let journal = journal(&cluster.kubeconfig(), "one").await;
    journal
        .append(&shop(), Seq(0), notes(&["before"]))
        .await
        .unwrap();

    cluster.crash(Part::ApiServer);
    let appending = {
        let journal = journal.clone();
        tokio::spawn(async move { journal.append(&shop(), Seq(1), notes(&["during"])).await })
    };
    time::sleep(Duration::from_millis(500)).await;
    assert!(!appending.is_finished(), "nobody can have taken it");
    cluster.restart(Part::ApiServer);
    let appended = appending.await.unwrap().unwrap();
    assert_eq!(appended[0].seq, Seq(2));

    // The server takes it, and the answer comes after whoever asked has asked again.
    cluster.freeze(Part::ApiServer);
    let appending = {
        let journal = journal.clone();
        tokio::spawn(async move { journal.append(&shop(), Seq(2), notes(&["frozen"])).await })
    };
    time::sleep(Duration::from_secs(12)).await;
    assert!(!appending.is_finished(), "nobody can have answered");
    cluster.thaw(Part::ApiServer);
    appending.await.unwrap().unwrap();
    let read = journal.read(&shop(), Seq(1)).await.unwrap();
    assert_eq!(texts(&read), ["before", "during", "frozen"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_while_it_appends_is_not_set_back() {
    let cluster = Cluster::start();
    define(&cluster);
    let journal = journal(&cluster.kubeconfig(), "one").await;
    let appending = {
        let journal = journal.clone();
        tokio::spawn(async move {
            for n in 0..50 {
                journal.append(&shop(), Seq(n), notes(&["x"])).await?;
            }
            Ok::<_, JournalError>(())
        })
    };
    while !appending.is_finished() {
        journal.read(&shop(), Seq(1)).await.unwrap();
    }
    appending.await.unwrap().unwrap();
    assert_eq!(journal.read(&shop(), Seq(1)).await.unwrap().len(), 50);
}
