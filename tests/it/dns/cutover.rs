//! What the world sees: `dns/cutover`, the live TTL, and readiness, against several real BINDs.

use std::net::SocketAddr;

use failover::{
    dns::{
        readiness,
        ttl::{self, TtlError},
    },
    model::{
        check::{CheckItem, CheckStatus},
        span::Span,
        step::Presence,
        time::Time,
    },
};
use serde_json::json;

use super::{A, APP, World, done, item, set};
use crate::stand::{
    bind::{Bind, free_port},
    slow_dns::{Fate, Relay},
};

const TO_WEST: &str = "update delete app.demo.test. A
update add app.demo.test. 60 A 198.51.100.1
update delete six.demo.test. AAAA
update add six.demo.test. 60 AAAA 2001:db8::2";

pub(super) fn indeterminate(result: failover::model::step::StepResult) -> String {
    let failover::model::step::StepResult::Indeterminate { reason } = result else {
        panic!("{result:?}");
    };
    reason
}

fn world(provider: SocketAddr, authorities: &[SocketAddr], resolvers: &[SocketAddr]) -> World {
    let text = |s: &[SocketAddr]| s.iter().map(ToString::to_string).collect();
    let mut world = World::new("demo.test");
    world.dns(|dns| {
        dns.authorities = text(authorities);
        dns.resolvers = text(resolvers);
    });
    world.rfc2136(provider);
    world
}

#[tokio::test]
async fn the_cut_over_waits_for_every_server_and_reports_what_resolvers_hold() {
    let (first, second) = (Bind::start().await, Bind::start().await);
    let resolver = Bind::resolver(first.address).await;
    let relay = Relay::start(second.address).await;
    let servers = [first.address, relay.address];
    let world = world(first.address, &servers, &[resolver.address]);
    let (cutover, mut step) = (world.action("dns/cutover", &json!({})), world.step());
    let Presence::Absent { reason } = cutover.observe(&step).await else {
        panic!("nothing has moved yet");
    };
    assert!(
        reason.contains("holds 192.0.2.1, 192.0.2.2 (TTL 300 s)"),
        "{reason}"
    );

    first.change(TO_WEST);
    step.facts.insert(
        "repoint.changedAt".into(),
        world.wiring.runtime.now().to_string(),
    );
    step.facts.insert("repoint.oldTtl".into(), "400".into());
    let waiting = tokio::spawn(async move { cutover.perform(&step).await });
    // Two records, two rounds.
    relay.questions_came(4).await;
    assert!(!waiting.is_finished(), "the second server has not followed");
    second.change(TO_WEST);
    let facts = done(waiting.await.unwrap());
    assert_eq!(facts["authorities"], "4/4");
    assert_eq!(facts["resolvers"], "0/1");
    let left: u32 = facts["oldTtlLeft"].parse().unwrap();
    assert!((380..=400).contains(&left), "{left}");

    let (cutover, step) = (world.action("dns/cutover", &json!({})), world.step());
    let Presence::InPlace(proof) = cutover.observe(&step).await else {
        panic!("everything has moved");
    };
    let left: u32 = proof.facts["oldTtlLeft"].parse().unwrap();
    assert!(
        (200..=300).contains(&left),
        "as the resolver still holds it: {left}"
    );
    assert!(
        proof
            .summary
            .contains("caches may hold the old values until"),
        "{}",
        proof.summary
    );
}

#[tokio::test]
async fn resolvers_are_waited_for_where_that_is_wanted() {
    let bind = Bind::start().await;
    let resolver = Bind::resolver(bind.address).await;
    bind.change("update delete app.demo.test. A\nupdate add app.demo.test. 3 A 192.0.2.1");
    let mut world = world(bind.address, &[bind.address], &[resolver.address]);
    world.dns(|dns| dns.records.truncate(1));
    let with = json!({"requireResolvers": 1});
    let (cutover, step) = (world.action("dns/cutover", &with), world.step());
    // The resolver remembers what this look makes it ask for.
    assert!(matches!(
        cutover.observe(&step).await,
        Presence::Absent { .. }
    ));
    bind.change("update delete app.demo.test. A\nupdate add app.demo.test. 3 A 198.51.100.1");
    let Presence::Absent { reason } = cutover.observe(&step).await else {
        panic!("the resolver still holds the old value");
    };
    assert!(
        reason.contains("0 of 1 resolvers give the new values"),
        "{reason}"
    );
    let facts = done(cutover.perform(&step).await);
    assert_eq!(facts["resolvers"], "1/1");
    assert!(!facts.contains_key("oldTtlLeft"));
}

#[tokio::test]
async fn servers_that_do_not_answer_are_named() {
    let bind = Bind::start().await;
    let relay = Relay::start(bind.address).await;
    bind.change(TO_WEST);
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let world = world(bind.address, &[nobody, relay.address], &[]);
    let with = json!({"maxWait": "1s"});
    let (cutover, step) = (world.action("dns/cutover", &with), world.step());
    relay.queries(Fate::Cut);
    let facts = done(cutover.perform(&step).await);
    assert_eq!(facts["authorities"], "2/4");
    assert!(
        facts["silent"].contains(&nobody.to_string()),
        "{}",
        facts["silent"]
    );
    assert!(
        relay.connections() >= 2,
        "cut answers are asked for again over TCP"
    );

    relay.queries(Fate::Lose);
    let told = indeterminate(cutover.perform(&step).await);
    assert!(
        told.contains("no authoritative server answers for app.demo.test. A"),
        "{told}"
    );
    assert!(told.contains(&relay.address.to_string()), "{told}");
    assert!(matches!(
        cutover.observe(&step).await,
        Presence::Unknown { .. }
    ));
}

#[tokio::test]
async fn a_server_that_never_follows_ends_the_wait_undecided() {
    let (first, second) = (Bind::start().await, Bind::start().await);
    first.change(TO_WEST);
    let world = world(first.address, &[first.address, second.address], &[]);
    let with = json!({"maxWait": "1s"});
    let (cutover, step) = (world.action("dns/cutover", &with), world.step());
    let told = indeterminate(cutover.perform(&step).await);
    assert!(
        told.contains("after 1s the world does not see west everywhere"),
        "{told}"
    );
    assert!(
        told.contains(&format!("{} holds 2001:db8::1", second.address)),
        "{told}"
    );
}

async fn live(world: &World) -> Vec<CheckItem> {
    let provider = world.wiring.dns.as_ref().unwrap();
    readiness::live(&world.wiring.service, provider, &world.step().from).await
}

async fn provider(world: &World) -> Vec<CheckItem> {
    let provider = world.wiring.dns.as_ref().unwrap();
    readiness::provider(&world.wiring.service, provider, &world.step().from).await
}

#[tokio::test]
async fn servers_are_found_through_ns_records() {
    let bind = Bind::start().await;
    let world = world(bind.address, &[], &[bind.address]);
    let items = live(&world).await;
    let found = item(&items, "dns/authorities/app.demo.test/A");
    // Its NS record names 127.0.0.1, port 53, where nothing of this test listens.
    assert!(found.detail.contains("ns.demo.test."), "{found:?}");

    let mut lost = World::new("demo.test");
    lost.rfc2136(bind.address);
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    lost.dns(|dns| dns.resolvers = vec![nobody.to_string()]);
    let items = live(&lost).await;
    let found = item(&items, "dns/authorities");
    assert_eq!(found.status, CheckStatus::Unknown);
    assert!(found.detail.contains("cannot be found"), "{found:?}");
}

#[tokio::test]
async fn readiness_sees_ttl_records_and_the_other_family() {
    let bind = Bind::start().await;
    let mut world = world(bind.address, &[bind.address], &[]);
    let items = live(&world).await;
    assert_eq!(
        item(&items, "dns/authorities/app.demo.test/A").status,
        CheckStatus::Ok
    );
    let ttl = item(&items, "dns/ttl/app.demo.test/A");
    assert_eq!(ttl.status, CheckStatus::Warn);
    assert!(
        ttl.detail
            .contains("for 5m, 4m longer than the document has it"),
        "{ttl:?}"
    );
    assert!(
        !items.iter().any(|i| i.name.starts_with("dns/other-family")),
        "{items:?}"
    );

    let mut service = (*world.wiring.service).clone();
    service.objectives.rto = Span::from_secs(200);
    world.wiring.service = std::sync::Arc::new(service);
    bind.change("update add app.demo.test. 60 AAAA 2001:db8::77");
    let items = live(&world).await;
    assert_eq!(
        item(&items, "dns/ttl/app.demo.test/A").status,
        CheckStatus::Fail
    );
    let family = item(&items, "dns/other-family/app.demo.test/A");
    assert_eq!(family.status, CheckStatus::Fail);
    assert!(family.detail.contains("2001:db8::77"), "{family:?}");

    let before = bind.records("demo.test");
    let items = provider(&world).await;
    assert_eq!(item(&items, "dns/provider").status, CheckStatus::Ok);
    assert_eq!(
        item(&items, "dns/records/app.demo.test/A").status,
        CheckStatus::Ok
    );
    assert_eq!(bind.records("demo.test"), before);
    bind.change("update add app.demo.test. 300 A 203.0.113.7");
    let items = provider(&world).await;
    let holds = item(&items, "dns/records/app.demo.test/A");
    assert_eq!(holds.status, CheckStatus::Fail);
    assert!(
        holds
            .detail
            .contains("a repointing would refuse to touch it"),
        "{holds:?}"
    );
    let items = live(&world).await;
    assert_eq!(
        item(&items, "dns/authorities/app.demo.test/A").status,
        CheckStatus::Fail
    );
}

#[tokio::test]
async fn the_ttl_is_lowered_ahead_and_raised_again() {
    let bind = Bind::start().await;
    let mut world = World::new("demo.test");
    let provider = world.rfc2136(bind.address);
    let dns = world.wiring.service.dns.clone().unwrap();
    let before = bind.records("demo.test");

    let changes: Vec<_> = ttl::to_lower(&dns, &provider)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(changes.len(), 2);
    assert_eq!((changes[0].found.ttl, changes[0].to), (300, 60));
    assert_eq!(
        bind.records("demo.test"),
        before,
        "finding out changes nothing"
    );
    for change in &changes {
        ttl::make(&provider, change).await.unwrap();
    }
    assert_eq!(
        provider.read(APP, A).await.unwrap(),
        set(&["192.0.2.1", "192.0.2.2"], 60)
    );
    assert!(ttl::to_lower(&dns, &provider).await.is_empty());

    let back = ttl::to_raise(&dns, &provider, 300).await;
    bind.change("update delete six.demo.test. AAAA\nupdate add six.demo.test. 60 AAAA 2001:db8::9");
    let mut results = Vec::new();
    for change in back {
        results.push(ttl::make(&provider, &change.unwrap()).await);
    }
    assert_eq!(results[0], Ok(()));
    assert!(
        matches!(&results[1], Err(TtlError::Refused { reason, .. }) if reason.contains("2001:db8::9")),
        "{results:?}"
    );
    assert_eq!(provider.read(APP, A).await.unwrap().ttl, 300);
}

#[tokio::test]
async fn what_is_left_of_the_old_ttl_runs_out() {
    let bind = Bind::start().await;
    bind.change(TO_WEST);
    let world = world(bind.address, &[bind.address], &[]);
    let (cutover, mut step) = (world.action("dns/cutover", &json!({})), world.step());
    let long_ago = Time::from_millis(world.wiring.runtime.now().as_millis() - 600_000);
    step.facts
        .insert("r.changedAt".into(), long_ago.to_string());
    step.facts.insert("r.oldTtl".into(), "300".into());
    assert_eq!(done(cutover.perform(&step).await)["oldTtlLeft"], "0");
}
