//! `drill/dns` against a real BIND: a name of the drill's own comes and goes, and nothing else is touched.

use failover::{
    driver::registry,
    model::{check::CheckStatus, step::Presence},
    port::kind::Make,
};
use serde_json::{Value, json};

use super::{World, done, failed};
use crate::stand::{
    bind::Bind,
    slow_dns::{Fate, Relay},
};

const NAME: &str = "shop-r1.drills.demo.test.";

fn drill() -> Value {
    json!({"under": "drills.demo.test", "maxWait": "2s"})
}

fn world(bind: &Bind) -> World {
    let mut world = World::new("demo.test");
    world.dns(|dns| dns.authorities = vec![bind.address.to_string()]);
    world.rfc2136(bind.address);
    world
}

/// What the zone holds, but for its serial number.
fn held(bind: &Bind) -> Vec<String> {
    let mut records = bind.records("demo.test");
    records.retain(|record| !record.contains(" SOA "));
    records
}

#[tokio::test]
async fn the_drills_own_name_is_given_by_every_server_and_removed_again() {
    let bind = Bind::start().await;
    let before = held(&bind);
    let world = world(&bind);
    let (drill, step) = (world.action("drill/dns", &drill()), world.step());
    assert!(matches!(
        drill.observe(&step).await,
        Presence::Absent { .. }
    ));
    let items = drill.check(&step.from, &step.to).await;
    assert!(
        items.iter().all(|i| i.status == CheckStatus::Ok),
        "{items:?}"
    );
    assert_eq!(held(&bind), before, "a check changes nothing");

    for _ in 0..2 {
        done(drill.perform(&step).await);
        let mut now = held(&bind);
        let own = now.iter().position(|record| record.starts_with(NAME));
        assert!(now.remove(own.unwrap()).ends_with("60 IN A 198.51.100.1"));
        assert_eq!(now, before);
        assert!(matches!(drill.observe(&step).await, Presence::InPlace(_)));
    }
    for _ in 0..2 {
        done(drill.undo(&step).await.unwrap());
        assert_eq!(held(&bind), before);
    }
}

#[tokio::test]
async fn a_server_that_does_not_give_it_fails_the_drill_and_it_is_removed_all_the_same() {
    let (bind, behind) = (Bind::start().await, Bind::start().await);
    let mut world = world(&bind);
    let before = held(&bind);
    world.dns(|dns| dns.authorities.push(behind.address.to_string()));
    let (drill, step) = (world.action("drill/dns", &drill()), world.step());
    let told = super::cutover::indeterminate(drill.perform(&step).await);
    assert!(told.contains(&behind.address.to_string()), "{told}");
    done(drill.undo(&step).await.unwrap());
    assert_eq!(held(&bind), before);
}

#[tokio::test]
async fn a_lost_answer_is_looked_into() {
    let bind = Bind::start().await;
    let relay = Relay::start(bind.address).await;
    let mut world = World::new("demo.test");
    world.dns(|dns| dns.authorities = vec![bind.address.to_string()]);
    world.rfc2136(relay.address);
    relay.updates(Fate::Swallow);
    let (drill, step) = (world.action("drill/dns", &drill()), world.step());
    done(drill.perform(&step).await);
    done(drill.undo(&step).await.unwrap());
    assert!(matches!(
        drill.observe(&step).await,
        Presence::Absent { .. }
    ));
}

#[tokio::test]
async fn what_somebody_else_put_there_is_left_alone() {
    let bind = Bind::start().await;
    let world = world(&bind);
    bind.change(&format!("update add {NAME} 60 A 203.0.113.7"));
    let before = held(&bind);
    let (drill, step) = (world.action("drill/dns", &drill()), world.step());
    for told in [
        failed(drill.perform(&step).await),
        failed(drill.undo(&step).await.unwrap()),
    ] {
        assert!(told.contains("this drill did not put there"), "{told}");
    }
    assert_eq!(held(&bind), before);
}

#[tokio::test]
async fn each_drill_has_a_name_of_its_own_in_the_zone() {
    let bind = Bind::start().await;
    let world = world(&bind);
    let before = held(&bind);
    let (drill, mut step) = (world.action("drill/dns", &json!({})), world.step());
    for run in ["shop-r7", "shop-r8"] {
        step.run = run.into();
        done(drill.perform(&step).await);
        assert!(
            held(&bind)
                .iter()
                .any(|r| r.starts_with(&format!("{run}.demo.test. ")))
        );
    }
    // One takes away its own alone.
    done(drill.undo(&step).await.unwrap());
    assert_eq!(held(&bind).len(), before.len() + 1);

    let kind = registry::kinds().get("drill/dns").unwrap();
    let Make::Action(make) = kind.make else {
        panic!("it is no step")
    };
    for (under, why) in [
        ("drill.example.net.", "does not lie in the zone"),
        ("two words", "is no domain name"),
    ] {
        let told = make(&json!({"under": under}), &world.wiring).err().unwrap();
        assert!(told.to_string().contains(why), "{under}: {told}");
    }
    assert_eq!((kind.check)(&json!({"maxWait": "0s"})).len(), 1);
}
