//! `dns/rfc2136` against a real BIND, and a relay before it for what goes wrong on the wire.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use failover::{
    dns::tsig::{Algorithm, Key},
    model::{check::CheckStatus, secret::Secret, service::RecordKind},
    port::dns::{RecordSet, Swap},
};
use hickory_proto::{
    op::{Message, OpCode, ResponseCode},
    rr::{DNSClass, Record, RecordType, TSigResponseContext},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{A, APP, World, east, item, reason, set, unknown, west, within};
use crate::stand::{
    bind::{Bind, SECRET, WRONG, free_port},
    slow_dns::{Fate, Relay},
};

#[tokio::test]
async fn bind_swaps_one_set_and_nothing_else() {
    let bind = Bind::start().await;
    for (transport, key, algorithm) in [
        ("tcp", "failover-key.", "hmac-sha256"),
        ("udp", "strong-key", "hmac-sha512"),
    ] {
        let mut world = World::new("demo.test");
        let dns = world.provider(
            "dns/rfc2136",
            &json!({"server": bind.address.to_string(), "transport": transport, "timeout": "2s",
                    "key": {"name": key, "algorithm": algorithm, "secret": {"env": "KEY"}}}),
        );
        let before = bind.records("demo.test");
        assert_eq!(dns.read(APP, A).await.unwrap(), east());
        assert_eq!(dns.swap(APP, A, &east(), &west()).await, Swap::Done);
        assert_eq!(dns.read(APP, A).await.unwrap(), west());

        let mut expected: Vec<String> = before
            .iter()
            .filter(|r| !r.starts_with("app.demo.test. 300 IN A "))
            .cloned()
            .collect();
        expected.push("app.demo.test. 60 IN A 198.51.100.1".into());
        expected.sort();
        assert_eq!(bind.records("demo.test"), expected);

        assert_eq!(dns.swap(APP, A, &west(), &east()).await, Swap::Done);
        assert_eq!(bind.records("demo.test"), before);
    }
}

#[tokio::test]
async fn bind_swaps_every_kind_from_and_to_nothing_and_the_ttl_alone() {
    let bind = Bind::start().await;
    let mut world = World::new("demo.test");
    let dns = world.rfc2136(bind.address);
    let (six, cname) = ("six.demo.test.", RecordKind::CNAME);
    let new = set(&["2001:db8::2", "2001:db8::3"], 60);
    let old = dns.read(six, RecordKind::AAAA).await.unwrap();
    assert_eq!(old, set(&["2001:db8::1"], 300));
    assert_eq!(
        dns.swap(six, RecordKind::AAAA, &old, &new).await,
        Swap::Done
    );

    let www = "www.demo.test.";
    let there = set(&["app.demo.test."], 300);
    assert_eq!(dns.read(www, cname).await.unwrap(), there);
    let elsewhere = set(&["standby.example.net."], 60);
    assert_eq!(dns.swap(www, cname, &there, &elsewhere).await, Swap::Done);

    let (fresh, none) = ("fresh.demo.test.", set(&[], 0));
    assert_eq!(dns.read(fresh, A).await.unwrap(), none);
    assert_eq!(dns.swap(fresh, A, &none, &west()).await, Swap::Done);
    assert_eq!(
        dns.swap(fresh, A, &none, &east()).await,
        Swap::Conflict { found: west() }
    );
    assert_eq!(dns.swap(fresh, A, &west(), &none).await, Swap::Done);
    assert_eq!(dns.read(fresh, A).await.unwrap(), none);

    let lowered = RecordSet { ttl: 30, ..east() };
    assert_eq!(dns.swap(APP, A, &east(), &lowered).await, Swap::Done);
    assert_eq!(dns.read(APP, A).await.unwrap(), lowered);
}

#[tokio::test]
async fn bind_refuses_what_is_no_longer_there() {
    let bind = Bind::start().await;
    let mut world = World::new("demo.test");
    let dns = world.rfc2136(bind.address);
    bind.change("update delete app.demo.test. A 192.0.2.2");
    let found = set(&["192.0.2.1"], 300);
    assert_eq!(
        dns.swap(APP, A, &east(), &west()).await,
        Swap::Conflict {
            found: found.clone()
        }
    );
    assert_eq!(dns.read(APP, A).await.unwrap(), found);
}

#[tokio::test]
async fn a_cname_that_stands_in_the_way_is_told() {
    let bind = Bind::start().await;
    let mut world = World::new("demo.test");
    let dns = world.rfc2136(bind.address);
    let swap = dns.swap("www.demo.test.", A, &set(&[], 0), &west()).await;
    assert!(reason(swap).contains("records of another type"));
    let swap = dns.swap("app.example.org.", A, &set(&[], 0), &west()).await;
    assert!(reason(swap).contains("does not lie in the zone demo.test."));
}

#[tokio::test]
async fn keys_and_clocks_that_do_not_fit_are_told_in_plain_words() {
    let bind = Bind::start().await;
    let before = bind.records("demo.test");
    let with = |name: &str, algorithm: &str| {
        json!({"server": bind.address.to_string(), "timeout": "2s",
               "key": {"name": name, "algorithm": algorithm, "secret": {"env": "KEY"}}})
    };
    let mut world = World::new("demo.test");
    let dns = world.provider("dns/rfc2136", &with("nobody-key", "hmac-sha256"));
    let told = reason(dns.swap(APP, A, &east(), &west()).await);
    assert!(told.contains("does not know key nobody-key."), "{told}");

    let dns = world.provider("dns/rfc2136", &with("failover-key", "hmac-sha512"));
    let told = reason(dns.swap(APP, A, &east(), &west()).await);
    assert!(told.contains("BADKEY"), "{told}");

    let dns = world.provider("dns/rfc2136", &with("failover-key", "hmac-sha256"));
    world.vault.put("KEY", WRONG);
    let told = reason(dns.swap(APP, A, &east(), &west()).await);
    assert!(
        told.contains("another secret for key failover-key."),
        "{told}"
    );
    world.vault.put("KEY", "no base64 !");
    let told = reason(dns.swap(APP, A, &east(), &west()).await);
    assert!(
        told.contains("no base64") && !told.contains("no base64 !"),
        "{told}"
    );
    world.vault.put("KEY", SECRET);
    assert_eq!(dns.swap(APP, A, &east(), &west()).await, Swap::Done);
    assert_eq!(dns.swap(APP, A, &west(), &east()).await, Swap::Done);

    let mut late = World::new("demo.test").clock(Duration::from_hours(1));
    let dns = late.rfc2136(bind.address);
    let told = reason(dns.swap(APP, A, &east(), &west()).await);
    assert!(
        told.contains("clock and ours differ by 1h")
            || told.contains("clock and ours differ by 59m59s"),
        "{told}"
    );
    let told = dns.read(APP, A).await.unwrap_err().reason;
    assert!(told.contains("clock and ours differ"), "{told}");
    assert_eq!(bind.records("demo.test"), before);
}

#[tokio::test]
async fn a_server_that_refuses_is_told() {
    let bind = Bind::start().await;
    let mut world = World::new("closed.test");
    let dns = world.rfc2136(bind.address);
    let told = reason(dns.swap("app.closed.test.", A, &east(), &west()).await);
    assert!(told.contains("refuses the update (REFUSED)"), "{told}");

    let mut world = World::new("absent.test");
    let dns = world.rfc2136(bind.address);
    let told = dns.read("app.absent.test.", A).await.unwrap_err().reason;
    assert!(
        told.contains("does not answer for app.absent.test."),
        "{told}"
    );

    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let dns = world.rfc2136(nobody);
    let told = reason(dns.swap("app.absent.test.", A, &east(), &west()).await);
    assert!(told.contains("cannot connect"), "{told}");
}

#[tokio::test]
async fn an_answer_that_is_lost_is_read_back() {
    let bind = Bind::start().await;
    let relay = Relay::start(bind.address).await;
    let mut world = World::new("demo.test");
    for transport in ["tcp", "udp"] {
        let dns = world.provider(
            "dns/rfc2136",
            &json!({"server": relay.address.to_string(), "transport": transport, "timeout": "500ms",
                    "key": {"name": "failover-key", "secret": {"env": "KEY"}}}),
        );
        relay.updates(Fate::Swallow);
        assert_eq!(dns.swap(APP, A, &east(), &west()).await, Swap::Done);

        relay.updates(Fate::Lose);
        let told = unknown(dns.swap(APP, A, &west(), &east()).await);
        assert!(told.contains("did not answer in time"), "{told}");
        assert!(told.contains("may yet arrive"), "{told}");
        assert_eq!(dns.read(APP, A).await.unwrap(), west());

        relay.queries(Fate::Lose);
        relay.updates(Fate::Swallow);
        let told = unknown(dns.swap(APP, A, &west(), &east()).await);
        assert!(told.contains("reading back failed as well"), "{told}");
        relay.queries(Fate::Pass);
        assert_eq!(dns.read(APP, A).await.unwrap(), east());

        relay.updates(Fate::Delay(Duration::from_millis(150)));
        relay.queries(Fate::Delay(Duration::from_millis(100)));
        assert_eq!(dns.swap(APP, A, &east(), &west()).await, Swap::Done);
        relay.updates(Fate::Pass);
        relay.queries(Fate::Pass);
        assert_eq!(dns.swap(APP, A, &west(), &east()).await, Swap::Done);
    }
}

#[tokio::test]
async fn an_update_that_comes_late_still_counts() {
    let bind = Bind::start().await;
    let relay = Relay::start(bind.address).await;
    let mut world = World::new("demo.test");
    let go = Arc::new(tokio::sync::Notify::new());
    relay.updates(Fate::Hold(go.clone()));
    let dns = world.rfc2136(relay.address);
    assert!(unknown(dns.swap(APP, A, &east(), &west()).await).contains("may yet arrive"));
    go.notify_one();
    within("the late update arrives", || async {
        dns.read(APP, A).await.unwrap() == west()
    })
    .await;
}

#[tokio::test]
async fn check_tries_the_key_without_changing_anything() {
    let bind = Bind::start().await;
    let relay = Relay::start(bind.address).await;
    let before = bind.records("demo.test");
    let mut world = World::new("demo.test");
    let dns = world.rfc2136(relay.address);
    let items = dns.check(APP, A).await;
    assert_eq!(
        item(&items, "dns/provider").status,
        CheckStatus::Ok,
        "{items:?}"
    );
    assert_eq!(relay.updates_seen(), 2);
    assert_eq!(bind.serial("demo.test"), 7);
    assert_eq!(bind.records("demo.test"), before);

    world.vault.put("KEY", WRONG);
    let items = dns.check(APP, A).await;
    assert_eq!(
        item(&items, "dns/provider").status,
        CheckStatus::Fail,
        "{items:?}"
    );

    let mut skewed = World::new("demo.test").clock(Duration::from_mins(2));
    let items = skewed.rfc2136(bind.address).check(APP, A).await;
    assert_eq!(
        item(&items, "dns/provider").status,
        CheckStatus::Warn,
        "{items:?}"
    );

    let mut closed = World::new("closed.test");
    let items = closed
        .rfc2136(bind.address)
        .check("app.closed.test.", A)
        .await;
    assert_eq!(
        item(&items, "dns/provider").status,
        CheckStatus::Fail,
        "{items:?}"
    );

    let mut policy = World::new("policy.test");
    let dns = policy.rfc2136(bind.address);
    let items = dns.check("app.policy.test.", A).await;
    assert_eq!(
        item(&items, "dns/provider").status,
        CheckStatus::Ok,
        "{items:?}"
    );
    let items = dns.check("other.policy.test.", A).await;
    assert_eq!(
        item(&items, "dns/provider").status,
        CheckStatus::Fail,
        "{items:?}"
    );
}

/// What the server says that looks at prerequisites before rights, as RFC 2136 §3 has it, and lets nobody update.
fn orderly(request: &Message) -> Vec<u8> {
    let mut answer = Message::response(request.id, request.op_code);
    answer.add_queries(request.queries.clone());
    if request.op_code == OpCode::Update {
        let never =
            |r: &Record| r.dns_class == DNSClass::NONE && r.record_type() == RecordType::ANY;
        answer.metadata.response_code = if request.answers.iter().any(never) {
            ResponseCode::YXDomain
        } else {
            ResponseCode::Refused
        };
    } else {
        answer.metadata.authoritative = true;
    }
    let secret = Secret::new(SECRET);
    let key = Key::new("failover-key.", Algorithm::HmacSha256, &secret).unwrap();
    let mac = request.signature().unwrap().data.mac.clone();
    let now = UNIX_EPOCH.elapsed().unwrap().as_secs();
    let context = TSigResponseContext::new(request.id, now, key.signer().clone(), mac, None);
    let unsigned = answer.to_vec().unwrap();
    answer.set_signature(context.sign(&unsigned).unwrap());
    answer.to_vec().unwrap()
}

#[tokio::test]
async fn a_key_that_may_not_update_is_found_whatever_is_looked_at_first() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut bytes).await.unwrap();
            let answer = orderly(&Message::from_vec(&bytes).unwrap());
            let length = u16::try_from(answer.len()).unwrap();
            stream.write_u16(length).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    });
    let items = World::new("demo.test").rfc2136(server).check(APP, A).await;
    let told = item(&items, "dns/provider");
    assert_eq!(told.status, CheckStatus::Fail, "{told:?}");
    assert!(told.detail.contains("REFUSED"), "{told:?}");
    serving.abort();
}

#[tokio::test]
async fn a_cut_answer_is_asked_for_again_over_tcp() {
    let bind = Bind::start().await;
    let relay = Relay::start(bind.address).await;
    relay.queries(Fate::Cut);
    let mut world = World::new("demo.test");
    let dns = world.provider(
        "dns/rfc2136",
        &json!({"server": relay.address.to_string(), "transport": "udp", "timeout": "2s",
                "key": {"name": "failover-key", "secret": {"env": "KEY"}}}),
    );
    assert_eq!(dns.read(APP, A).await.unwrap(), east());
    assert_eq!(relay.connections(), 1);
}
