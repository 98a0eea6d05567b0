//! Who was told what, in a real cluster: the next leader goes on where the last one was, and of two only one writes.

use std::{collections::BTreeSet, sync::Arc};

use failover::{
    announce::kubernetes::KubernetesLedger,
    driver::clock::HostRuntime,
    model::{announcement::Tally, id::ServiceName, span::Span, time::Time},
    port::{
        channel::Recipient,
        ledger::{Delivery, Ledger, Mailing},
    },
};
use futures::{StreamExt, stream};
use kube::Client;

use super::journal::client;
use crate::stand::{kubernetes::Cluster, operator::define};

const NOW: Time = Time::from_millis(1_800_000_000_000);

/// The ledger of a leader that has just begun.
fn leader(client: &Client) -> Arc<KubernetesLedger> {
    let runtime = Arc::new(HostRuntime::new());
    Arc::new(KubernetesLedger::new(client.clone(), "default", runtime))
}

fn mailing(message: &str) -> Mailing {
    Mailing {
        service: "shop".into(),
        message: message.to_owned(),
        channel: "mail".into(),
    }
}

fn people(number: usize) -> Vec<Recipient> {
    let address = |n| Recipient(format!("customer-{n:05}@example.com"));
    (0..number).map(address).collect()
}

fn mark(to: &Recipient, state: Delivery) -> [(Recipient, Delivery, String); 1] {
    [(to.clone(), state, String::new())]
}

fn chunks(cluster: &Cluster) -> usize {
    let names = cluster.kubectl(&["get", "ledgerchunks", "-o=name"]);
    names.lines().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_leader_goes_on_and_the_last_one_writes_no_more() {
    let cluster = Cluster::start();
    define(&cluster);
    let client = client(&cluster.kubeconfig()).await;
    let (one, mail, all) = (leader(&client), mailing("shop-i4-onStandby"), people(250));
    one.enqueue(&mail, &all, NOW).await.unwrap();
    one.enqueue(&mail, &all[..9], NOW).await.unwrap();
    assert_eq!(chunks(&cluster), 3);
    one.mark(&mail, &mark(&all[0], Delivery::Sending), NOW)
        .await
        .unwrap();
    one.mark(&mail, &mark(&all[0], Delivery::Sent), NOW)
        .await
        .unwrap();
    one.mark(&mail, &mark(&all[1], Delivery::Sending), NOW)
        .await
        .unwrap();

    // One that knows nothing but what is there.
    let two = leader(&client);
    assert_eq!(two.interrupted(&mail).await.unwrap(), [all[1].clone()]);
    let queued = two.queued(&mail, 10_000).await.unwrap();
    assert_eq!(queued, all[2..]);
    assert_eq!(
        two.last_sent(&"shop".into(), &"mail".into()).await.unwrap(),
        Some(NOW)
    );
    two.mark(&mail, &mark(&all[1], Delivery::Unknown), NOW)
        .await
        .unwrap();

    // Whoever was frozen meanwhile believes to lead still: neither takes on whom the other one has.
    let refused = one
        .mark(&mail, &mark(&all[1], Delivery::Sending), NOW)
        .await;
    let told = failover::port::cause::in_full(&refused.unwrap_err());
    assert!(told.contains("was taken on by another leader"), "{told}");
    one.mark(&mail, &mark(&all[2], Delivery::Sending), NOW)
        .await
        .unwrap();
    let refused = two
        .mark(&mail, &mark(&all[2], Delivery::Sending), NOW)
        .await;
    assert!(refused.is_err());
    // And nobody takes back what is known.
    one.mark(&mail, &mark(&all[1], Delivery::Queued), NOW)
        .await
        .unwrap();
    assert_eq!(two.queued(&mail, 1).await.unwrap(), [all[3].clone()]);
    // What a person changes around a chunk stops nobody.
    let all_chunks = ["label", "ledgerchunks", "--all", "seen=yes"];
    cluster.kubectl(&all_chunks);
    two.mark(&mail, &mark(&all[249], Delivery::Sending), NOW)
        .await
        .unwrap();
    let tally = Tally {
        queued: 248,
        sent: 1,
        unknown: 1,
        ..Tally::default()
    };
    assert_eq!(two.tally(&mail).await.unwrap(), tally);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_no_messages_gets_none_from_any_leader() {
    let cluster = Cluster::start();
    define(&cluster);
    let client = client(&cluster.kubeconfig()).await;
    let (service, all) = (ServiceName::from("shop"), people(3));
    let one = leader(&client);
    one.enqueue(&mailing("first"), &all, NOW).await.unwrap();
    one.suppress(&service, &all[1], "unsubscribed", NOW)
        .await
        .unwrap();
    assert_eq!(
        one.queued(&mailing("first"), 9).await.unwrap(),
        [all[0].clone(), all[2].clone()]
    );

    let two = leader(&client);
    assert!(two.suppressed(&service, &all[1]).await.unwrap());
    let loud = Recipient(all[1].0.to_uppercase());
    assert!(two.suppressed(&service, &loud).await.unwrap());
    assert!(!two.suppressed(&"blog".into(), &all[1]).await.unwrap());
    two.enqueue(&mailing("second"), &all, NOW).await.unwrap();
    let tally = Tally {
        queued: 2,
        suppressed: 1,
        ..Tally::default()
    };
    assert_eq!(two.tally(&mailing("second")).await.unwrap(), tally);
    // They are never forgotten.
    two.forget(NOW.after(Span::from_secs(1))).await.unwrap();
    assert!(leader(&client).suppressed(&service, &all[1]).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_forgotten_and_what_is_left_of_a_mailing_is_one_object() {
    let cluster = Cluster::start();
    define(&cluster);
    let client = client(&cluster.kubeconfig()).await;
    let (one, mail, all) = (leader(&client), mailing("old"), people(250));
    one.enqueue(&mail, &all, NOW).await.unwrap();
    let sent: Vec<_> = all.iter().flat_map(|to| mark(to, Delivery::Sent)).collect();
    one.mark(&mail, &sent[1..], NOW).await.unwrap();
    let later = NOW.after(Span::from_secs(1));
    one.forget(later).await.unwrap();
    let left = cluster.kubectl(&["get", "ledgerchunks", "-o=yaml"]);
    assert!(
        left.contains(&all[0].0),
        "nobody knows yet what became of it"
    );
    one.mark(&mail, &sent[..1], NOW).await.unwrap();
    leader(&client).forget(later).await.unwrap();
    let left = cluster.kubectl(&["get", "ledgerchunks", "-o=yaml"]);
    assert!(!left.contains("@example.com"), "{left}");
    assert_eq!(chunks(&cluster), 1);
    let tally = Tally {
        sent: 250,
        ..Tally::default()
    };
    assert_eq!(leader(&client).tally(&mail).await.unwrap(), tally);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_are_told_once_over_a_change_of_leaders() {
    let cluster = Cluster::start();
    define(&cluster);
    let client = client(&cluster.kubeconfig()).await;
    let (mail, all) = (mailing("shop-i4-onStandby"), people(2_000));
    let one = leader(&client);
    one.enqueue(&mail, &all, NOW).await.unwrap();
    // Some twenty are on their way at once, as over so many connections.
    let tell = |ledger: Arc<KubernetesLedger>, to: Vec<Recipient>| {
        let mail = mail.clone();
        stream::iter(to)
            .map(move |to| {
                let (ledger, mail) = (ledger.clone(), mail.clone());
                async move {
                    ledger
                        .mark(&mail, &mark(&to, Delivery::Sending), NOW)
                        .await
                        .ok()?;
                    let handed = to.clone();
                    ledger
                        .mark(&mail, &mark(&to, Delivery::Sent), NOW)
                        .await
                        .ok();
                    Some(handed)
                }
            })
            .buffer_unordered(20)
            .filter_map(std::future::ready)
            .collect::<Vec<_>>()
    };
    let first = one.queued(&mail, 1_000).await.unwrap();
    let mut handed = tell(one.clone(), first).await;
    assert_eq!(handed.len(), 1_000);
    let two = leader(&client);
    let rest = two.queued(&mail, 10_000).await.unwrap();
    assert_eq!(rest.len(), 1_000);
    // Both believe to lead, and begin with the same ones.
    let (by_two, by_one) = futures::join!(
        tell(two.clone(), rest.clone()),
        tell(one, rest[..200].to_vec())
    );
    handed.extend(by_two);
    handed.extend(by_one);
    let told_once: BTreeSet<_> = handed.iter().map(|to| to.0.clone()).collect();
    assert_eq!(told_once.len(), handed.len(), "somebody was told twice");
    // Whom the quarrel left out is told in the next round.
    let three = leader(&client);
    let unsure = three.interrupted(&mail).await.unwrap();
    let rest = three.queued(&mail, 10_000).await.unwrap();
    let told: BTreeSet<_> = told_once
        .iter()
        .chain(unsure.iter().chain(&rest).map(|to| &to.0))
        .collect();
    assert_eq!(told.len(), 2_000, "nobody is missing");
    assert!(rest.iter().all(|to| !told_once.contains(&to.0)));
}
