//! `dns/repoint` against a real BIND.

use std::sync::Arc;

use failover::model::{
    step::{Presence, StepResult},
    time::Time,
};
use serde_json::json;

use super::{World, done, failed};
use crate::stand::{
    bind::Bind,
    slow_dns::{Fate, Relay},
};

#[tokio::test]
async fn repoint_moves_all_records_and_back() {
    let bind = Bind::start().await;
    let before = bind.records("demo.test");
    let mut world = World::new("demo.test");
    world.rfc2136(bind.address);
    let (repoint, step) = (world.action("dns/repoint", &json!({})), world.step());
    assert!(matches!(
        repoint.observe(&step).await,
        Presence::Absent { .. }
    ));

    let facts = done(repoint.perform(&step).await);
    assert_eq!(
        facts["before"],
        "app.demo.test. A 192.0.2.1, 192.0.2.2; six.demo.test. AAAA 2001:db8::1"
    );
    assert_eq!(
        facts["after"],
        "app.demo.test. A 198.51.100.1; six.demo.test. AAAA 2001:db8::2"
    );
    assert_eq!(facts["oldTtl"], "300");
    assert!(Time::parse(&facts["changedAt"]).is_ok());
    assert!(matches!(repoint.observe(&step).await, Presence::InPlace(_)));

    let moved = bind.records("demo.test");
    let again = done(repoint.perform(&step).await);
    assert_eq!(again["after"], facts["after"]);
    assert!(!again.contains_key("before"));
    assert_eq!(bind.records("demo.test"), moved);

    done(repoint.undo(&step).await.unwrap());
    let values = |r: &[String]| -> Vec<String> {
        let mut same: Vec<_> = r.iter().map(|l| l.replace(" 60 IN ", " 300 IN ")).collect();
        same.sort();
        same
    };
    assert_eq!(values(&bind.records("demo.test")), before);
}

#[tokio::test]
async fn repoint_leaves_alone_what_somebody_else_set() {
    let bind = Bind::start().await;
    let mut world = World::new("demo.test");
    world.rfc2136(bind.address);
    bind.change("update delete app.demo.test. A\nupdate add app.demo.test. 60 A 203.0.113.7");
    let step = world.step();
    let told = failed(world.action("dns/repoint", &json!({})).perform(&step).await);
    assert!(
        told.contains("it holds 203.0.113.7 (TTL 60 s), which belongs to neither site"),
        "{told}"
    );
    assert!(
        told.contains("already leads to west: six.demo.test. AAAA 2001:db8::2"),
        "{told}"
    );

    let force = world.action("dns/repoint", &json!({"force": true}));
    let facts = done(force.perform(&step).await);
    assert_eq!(facts["before"], "app.demo.test. A 203.0.113.7");
}

#[tokio::test]
async fn repoint_sees_a_change_between_reading_and_swapping() {
    let bind = Bind::start().await;
    let relay = Relay::start(bind.address).await;
    let mut world = World::new("demo.test");
    world.dns(|dns| dns.records.truncate(1));
    world.rfc2136(relay.address);
    let go = Arc::new(tokio::sync::Notify::new());
    relay.updates(Fate::Hold(go.clone()));
    let (repoint, step) = (world.action("dns/repoint", &json!({})), world.step());
    let performing = tokio::spawn(async move { repoint.perform(&step).await });
    relay.update_came().await;
    bind.change("update add app.demo.test. 300 A 203.0.113.7");
    go.notify_one();
    let told = failed(performing.await.unwrap());
    assert!(told.contains("somebody else changed it"), "{told}");
    assert!(
        bind.records("demo.test")
            .contains(&"app.demo.test. 300 IN A 203.0.113.7".into())
    );
}

#[tokio::test]
async fn repoint_does_not_call_a_time_out_a_failure() {
    let bind = Bind::start().await;
    let relay = Relay::start(bind.address).await;
    let mut world = World::new("demo.test");
    world.rfc2136(relay.address);
    let (repoint, step) = (world.action("dns/repoint", &json!({})), world.step());
    relay.updates(Fate::Lose);
    assert!(matches!(
        repoint.perform(&step).await,
        StepResult::Indeterminate { .. }
    ));
    relay.queries(Fate::Lose);
    assert!(matches!(
        repoint.observe(&step).await,
        Presence::Unknown { .. }
    ));
    relay.queries(Fate::Pass);
    relay.updates(Fate::Pass);
    assert!(matches!(
        repoint.observe(&step).await,
        Presence::Absent { .. }
    ));
    done(repoint.perform(&step).await);
}
