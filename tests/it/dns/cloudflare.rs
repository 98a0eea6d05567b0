//! `dns/cloudflare` against a stand-in on the wire.

use std::time::Duration;

use failover::{
    dns::readiness,
    model::{
        check::CheckStatus,
        service::RecordKind,
        span::Span,
        step::{Presence, StepResult},
        time::Time,
    },
    port::{
        dns::{SharedDns, Swap},
        upkeep::upkeep,
    },
};
use serde_json::json;

use super::{A, APP, World, done, east, item, reason, set, unknown, west, within};
use crate::stand::{
    clock::HandClock,
    cloudflare::{Cloudflare, Mood, READER, TOKEN, ZONE},
};

const WWW: &str = "www.demo.test.";

struct Setting {
    cloudflare: Cloudflare,
    world: World,
    dns: SharedDns,
}

async fn setting() -> Setting {
    let cloudflare = Cloudflare::start().await;
    let mut world = World::new("demo.test");
    world.vault.put("TOKEN", TOKEN);
    let with = json!({"token": {"env": "TOKEN"}, "apiUrl": cloudflare.url, "timeout": "500ms"});
    let dns = world.provider("dns/cloudflare", &with);
    Setting {
        cloudflare,
        world,
        dns,
    }
}

#[tokio::test]
async fn one_set_is_swapped_and_nothing_else() {
    let Setting {
        cloudflare, dns, ..
    } = setting().await;
    let before = cloudflare.records();
    assert_eq!(dns.read(APP, A).await.unwrap(), east());
    assert_eq!(dns.swap(APP, A, &east(), &west()).await, Swap::Done);
    assert_eq!(dns.read(APP, A).await.unwrap(), west());
    let mut expected: Vec<String> = before
        .iter()
        .filter(|r| !r.starts_with("A app.demo.test"))
        .cloned()
        .collect();
    expected.push("A app.demo.test 198.51.100.1 60".into());
    expected.sort();
    assert_eq!(cloudflare.records(), expected);
    assert_eq!(dns.swap(APP, A, &west(), &east()).await, Swap::Done);
    assert_eq!(cloudflare.records(), before);

    let none = set(&[], 0);
    let fresh = "fresh.demo.test.";
    assert_eq!(dns.swap(fresh, A, &none, &west()).await, Swap::Done);
    assert_eq!(dns.swap(fresh, A, &west(), &none).await, Swap::Done);
    assert_eq!(cloudflare.records(), before);

    let cname = RecordKind::CNAME;
    let there = dns.read(WWW, cname).await.unwrap();
    assert_eq!(there, set(&["app.demo.test."], 300));
    let to = set(&["standby.example.net."], 60);
    assert_eq!(dns.swap(WWW, cname, &there, &to).await, Swap::Done);
    assert!(
        cloudflare
            .records()
            .contains(&"CNAME www.demo.test standby.example.net 60".into())
    );
}

#[tokio::test]
async fn sets_beyond_one_page_are_read_whole() {
    let Setting {
        cloudflare, dns, ..
    } = setting().await;
    let many: Vec<String> = (0..250)
        .map(|i| format!("10.0.{}.{}", i / 200, i % 200))
        .collect();
    for value in &many {
        cloudflare.add("A", "many.demo.test", value, 120, false);
    }
    let values: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(
        dns.read("many.demo.test.", A).await.unwrap(),
        set(&values, 120)
    );
    let swap = dns
        .swap("many.demo.test.", A, &set(&values, 120), &west())
        .await;
    assert_eq!(swap, Swap::Done);
    let left = cloudflare
        .records()
        .iter()
        .filter(|r| r.contains("many.demo.test"))
        .count();
    assert_eq!(left, 1);
}

#[tokio::test]
async fn what_somebody_else_changed_is_seen() {
    let Setting {
        cloudflare, dns, ..
    } = setting().await;
    let stale = set(&["192.0.2.1"], 300);
    assert_eq!(
        dns.swap(APP, A, &stale, &west()).await,
        Swap::Conflict { found: east() }
    );
    // Between our reading and our writing: seen by reading back.
    cloudflare.add("A", "x.demo.test", "192.0.2.1", 300, false);
    cloudflare.add("A", "x.demo.test", "192.0.2.2", 300, false);
    cloudflare.meddle("192.0.2.99", "203.0.113.9");
    let both = set(&["192.0.2.1", "192.0.2.2"], 300);
    assert_eq!(
        dns.swap("x.demo.test.", A, &both, &west()).await,
        Swap::Done
    );
    assert!(
        cloudflare
            .records()
            .contains(&"A other.demo.test 203.0.113.9 300".into())
    );

    cloudflare.add("A", "y.demo.test", "192.0.2.77", 300, false);
    cloudflare.add("A", "y.demo.test", "192.0.2.78", 300, false);
    cloudflare.meddle("192.0.2.77", "198.51.100.1");
    let both = set(&["192.0.2.77", "192.0.2.78"], 300);
    let three = set(&["192.0.2.77", "198.51.100.1"], 300);
    let swap = dns.swap("y.demo.test.", A, &both, &three).await;
    // Its change collides with ours: Cloudflare answers 81058, and nothing is changed.
    assert_eq!(
        swap,
        Swap::Conflict {
            found: set(&["192.0.2.78", "198.51.100.1"], 300)
        }
    );
}

#[tokio::test]
async fn an_identical_record_counts_as_done() {
    let Setting {
        cloudflare, dns, ..
    } = setting().await;
    cloudflare.add("A", "z.demo.test", "192.0.2.50", 60, false);
    cloudflare.meddle("192.0.2.50", "198.51.100.1");
    // Somebody else puts exactly what we want there, right after we have read.
    let swap = dns
        .swap("z.demo.test.", A, &set(&["192.0.2.50"], 60), &west())
        .await;
    assert_eq!(swap, Swap::Done);
    // And a new record that exists already.
    cloudflare.add("A", "w.demo.test", "192.0.2.51", 60, false);
    cloudflare.meddle("192.0.2.51", "198.51.100.2");
    let both = set(&["192.0.2.51", "198.51.100.2"], 60);
    let swap = dns
        .swap("w.demo.test.", A, &set(&["192.0.2.51"], 60), &both)
        .await;
    assert_eq!(
        swap,
        Swap::Conflict {
            found: set(&["198.51.100.2"], 60)
        }
    );
}

#[tokio::test]
async fn refusals_are_told_in_plain_words() {
    let Setting {
        cloudflare,
        world,
        dns,
    } = setting().await;
    let before = cloudflare.records();
    let none = set(&[], 0);
    let told = reason(dns.swap(WWW, A, &none, &west()).await);
    assert!(
        told.contains("records of another type stand at www.demo.test.") && told.contains("81054"),
        "{told}"
    );
    let to = set(&["b.example."], 60);
    let told = reason(dns.swap(APP, RecordKind::CNAME, &none, &to).await);
    assert!(told.contains("81053"), "{told}");
    let told = reason(dns.swap(APP, A, &east(), &set(&["192.0.2.9"], 30)).await);
    assert!(told.contains("TTLs from 60 to 86400 s, not 30 s"), "{told}");
    assert_eq!(dns.shortest_ttl(), 60);

    world.vault.put("TOKEN", READER);
    let told = reason(dns.swap(APP, A, &east(), &west()).await);
    assert!(
        told.contains("may not edit DNS records of demo.test.") && told.contains("Zone.DNS:Edit"),
        "{told}"
    );
    for token in ["no-such-token", "with\nbreak"] {
        world.vault.put("TOKEN", token);
        let told = dns.read(APP, A).await.unwrap_err().reason;
        assert!(
            !told.contains(token) && told.contains("Cloudflare"),
            "{told}"
        );
    }
    assert_eq!(cloudflare.records(), before);
}

#[tokio::test]
async fn a_ttl_that_only_enterprise_has_is_refused_there() {
    let cloudflare = Cloudflare::start().await;
    let mut world = World::new("demo.test");
    world.vault.put("TOKEN", TOKEN);
    let with = json!({"token": {"env": "TOKEN"}, "apiUrl": cloudflare.url, "enterprise": true, "zoneId": ZONE});
    let dns = world.provider("dns/cloudflare", &with);
    assert_eq!(dns.shortest_ttl(), 30);
    let told = reason(dns.swap(APP, A, &east(), &set(&["192.0.2.9"], 30)).await);
    assert!(told.contains("error 9021"), "{told}");
    assert_eq!(dns.read(APP, A).await.unwrap(), east());
}

#[tokio::test]
async fn a_lost_answer_is_read_back() {
    let Setting {
        cloudflare, dns, ..
    } = setting().await;
    cloudflare.mood(Mood::SilentAfter);
    assert_eq!(dns.swap(APP, A, &east(), &west()).await, Swap::Done);
    cloudflare.mood(Mood::BadGatewayAfter);
    assert_eq!(dns.swap(APP, A, &west(), &east()).await, Swap::Done);
    cloudflare.mood(Mood::SilentBefore);
    let told = unknown(dns.swap(APP, A, &east(), &west()).await);
    assert!(
        told.contains("did not answer in time") && told.contains("may yet be made"),
        "{told}"
    );
    assert_eq!(dns.read(APP, A).await.unwrap(), east());
}

#[tokio::test]
async fn a_blocked_credential_rests_in_the_whole_process() {
    let cloudflare = Cloudflare::start().await;
    let clock = HandClock::at(Time::parse("2026-11-21T14:00:00Z").unwrap());
    let with = json!({"token": {"env": "TOKEN"}, "apiUrl": cloudflare.url, "timeout": "2s"});
    let provider = || {
        let mut world = World::new("demo.test");
        world.wiring.runtime = clock.clone();
        world.vault.put("TOKEN", TOKEN);
        let dns = world.provider("dns/cloudflare", &with);
        (world, dns)
    };
    let ((world, first), (_other, second)) = (provider(), provider());
    assert_eq!(first.read(APP, A).await.unwrap(), east());

    cloudflare.block(120);
    let told = reason(first.swap(APP, A, &east(), &west()).await);
    assert!(
        told.contains("blocks this token until 14:02:00 UTC"),
        "{told}"
    );
    let calls = cloudflare.calls();
    for dns in [&first, &second] {
        assert!(dns.read(APP, A).await.is_err());
        assert!(matches!(
            dns.swap(APP, A, &east(), &west()).await,
            Swap::Refused { .. }
        ));
        let items = dns.check(APP, A).await;
        assert!(
            items.iter().all(|i| i.status != CheckStatus::Ok),
            "{items:?}"
        );
    }
    assert_eq!(
        cloudflare.calls(),
        calls,
        "nobody calls before the block ends"
    );

    world.vault.put("TOKEN", READER);
    cloudflare.unblock();
    assert_eq!(
        first.read(APP, A).await.unwrap(),
        east(),
        "another credential is not blocked"
    );
    world.vault.put("TOKEN", TOKEN);
    clock.turn(Span::from_secs(119));
    assert!(first.read(APP, A).await.is_err());
    clock.turn(Span::from_secs(1));
    assert_eq!(first.swap(APP, A, &east(), &west()).await, Swap::Done);
}

#[tokio::test]
async fn a_proxied_record_is_verified_at_the_provider() {
    let Setting {
        cloudflare,
        mut world,
        dns,
    } = setting().await;
    cloudflare.add("A", "front.demo.test", "192.0.2.1", 1, true);
    let front = "front.demo.test.";
    assert_eq!(dns.read(front, A).await.unwrap(), set(&["192.0.2.1"], 300));
    assert!(
        dns.fronted(front, A)
            .await
            .unwrap()
            .contains("behind Cloudflare's proxy")
    );
    assert_eq!(dns.fronted(APP, A).await, None);
    assert!(dns.fronted("demo.test.", RecordKind::CNAME).await.is_some());

    world.dns(|dns| {
        dns.records.truncate(1);
        dns.records[0].name = front.to_owned();
        dns.records[0]
            .values
            .insert("east".into(), vec!["192.0.2.1".into()]);
        // Nobody is there: who looks at the authorities for a proxied name is wrong.
        dns.authorities = vec!["127.0.0.1:9".into()];
        dns.resolvers = vec!["127.0.0.1:9".into()];
    });
    let step = world.step();
    let cutover = world.action("dns/cutover", &json!({"maxWait": "1s"}));
    assert!(matches!(
        cutover.observe(&step).await,
        Presence::Absent { .. }
    ));
    done(world.action("dns/repoint", &json!({})).perform(&step).await);
    assert!(
        cloudflare
            .records()
            .contains(&"A front.demo.test 198.51.100.1 1".into())
    );
    let facts = done(cutover.perform(&step).await);
    assert_eq!(facts["resolvers"], "0/0");
    // Who wants the word of resolvers does not get it from nobody.
    let strict = world.action(
        "dns/cutover",
        &json!({"maxWait": "1s", "requireResolvers": 1}),
    );
    let items = strict.check(&step.from, &step.to).await;
    assert_eq!(item(&items, "dns/cutover").status, CheckStatus::Fail);
    let strict = strict.perform(&step).await;
    assert!(
        matches!(strict, StepResult::Indeterminate { .. }),
        "{strict:?}"
    );
    let provider = world.wiring.dns.as_ref().unwrap();
    let items = readiness::live(&world.wiring.service, provider, &step.to).await;
    let told = item(&items, "dns/authorities/front.demo.test/A");
    assert_eq!(told.status, CheckStatus::Warn, "{told:?}");
    assert!(
        told.detail.contains("resolvers see Cloudflare's addresses"),
        "{told:?}"
    );
}

#[tokio::test]
async fn check_tries_the_token_without_changing_anything() {
    let Setting {
        cloudflare,
        world,
        dns,
    } = setting().await;
    let before = cloudflare.records();
    let items = dns.check(APP, A).await;
    assert_eq!(items.len(), 1, "{items:?}");
    assert_eq!(
        item(&items, "dns/provider").status,
        CheckStatus::Ok,
        "{items:?}"
    );

    let soon = world.wiring.runtime.now().after(Span::from_secs(86_400));
    cloudflare.expires(&soon.to_string());
    let items = dns.check(APP, A).await;
    assert_eq!(
        item(&items, "dns/token").status,
        CheckStatus::Warn,
        "{items:?}"
    );

    for token in [READER, "no-such-token"] {
        world.vault.put("TOKEN", token);
        let items = dns.check(APP, A).await;
        assert_eq!(
            item(&items, "dns/provider").status,
            CheckStatus::Fail,
            "{items:?}"
        );
        assert!(!format!("{items:?}").contains(token));
    }
    assert_eq!(cloudflare.records(), before);

    let mut elsewhere = World::new("absent.test");
    elsewhere.vault.put("TOKEN", TOKEN);
    let with = json!({"token": {"env": "TOKEN"}, "apiUrl": cloudflare.url});
    let items = elsewhere
        .provider("dns/cloudflare", &with)
        .check("a.absent.test.", A)
        .await;
    let told = item(&items, "dns/provider");
    assert!(
        told.detail.contains("sees no zone absent.test."),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_cloudflare_that_is_gone_refuses_or_is_unknown() {
    let mut world = World::new("demo.test");
    world.vault.put("TOKEN", TOKEN);
    let port = crate::stand::bind::free_port();
    let with = json!({"token": {"env": "TOKEN"}, "apiUrl": format!("http://127.0.0.1:{port}"), "zoneId": ZONE});
    let dns = world.provider("dns/cloudflare", &with);
    let started = tokio::time::Instant::now();
    let told = reason(dns.swap(APP, A, &east(), &west()).await);
    assert!(told.contains("cannot connect"), "{told}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

/// 200 services with one token: as many looks as many services make, in five minutes each.
#[tokio::test]
async fn many_services_share_what_one_token_may_call() {
    const SERVICES: usize = 200;
    const TURN: Span = Span::from_secs(300);
    let cloudflare = Cloudflare::start().await;
    let clock = HandClock::at(Time::parse("2026-11-21T14:00:00Z").unwrap());
    let mut world = World::new("demo.test");
    world.wiring.runtime = clock.clone();
    world.vault.put("TOKEN", TOKEN);
    let with = json!({"token": {"env": "TOKEN"}, "apiUrl": cloudflare.url, "zoneId": ZONE});
    let mut made = Vec::new();
    for n in 0..SERVICES {
        cloudflare.add("A", &format!("s{n}.demo.test"), "192.0.2.1", 300, false);
        made.push(world.provider("dns/cloudflare", &with));
    }
    let name = |n: usize| format!("s{n}.demo.test.");
    let stand = &cloudflare;
    let calls = |most: usize| move || async move { stand.calls() >= most };

    // Every service is looked after at once, which takes four calls each.
    let checks = made.iter().cloned().enumerate();
    let checks: Vec<_> = checks
        .map(|(n, dns)| tokio::spawn(upkeep(async move { dns.check(&name(n), A).await })))
        .collect();
    within("checks use up their part", calls(600)).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(cloudflare.calls(), 600, "the rest is for runs");

    // Their site dies: runs go on at once, and stop before Cloudflare would block the token.
    let old = set(&["192.0.2.1"], 300);
    let swaps = made.iter().cloned().enumerate();
    let swaps: Vec<_> = swaps
        .map(|(n, dns)| {
            let old = old.clone();
            tokio::spawn(async move { dns.swap(&name(n), A, &old, &west()).await })
        })
        .collect();
    within("runs use up the rest", calls(1_000)).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(cloudflare.calls(), 1_000);

    let mut before = cloudflare.calls();
    let is_done = || {
        swaps.iter().all(tokio::task::JoinHandle::is_finished)
            && checks.iter().all(tokio::task::JoinHandle::is_finished)
    };
    while !is_done() {
        clock.turn(TURN);
        within("calls go on", || async {
            cloudflare.calls() > before || is_done()
        })
        .await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = cloudflare.calls();
        assert!(now - before <= 1_000, "{}", now - before);
        before = now;
    }
    for swap in swaps {
        assert_eq!(swap.await.unwrap(), Swap::Done);
    }
    let told = checks
        .into_iter()
        .map(|check| async { check.await.unwrap() });
    let told = futures::future::join_all(told).await;
    let limit = told.iter().flatten().find(|i| i.name == "dns/limit");
    assert_eq!(limit.unwrap().status, CheckStatus::Warn);
    let moved = cloudflare.records();
    let moved = moved
        .iter()
        .filter(|r| r.contains(" s") && r.ends_with("198.51.100.1 60"));
    assert_eq!(moved.count(), SERVICES);
}
