//! `dns/embedded` against BIND's own tools, and against our own client.

use std::{net::SocketAddr, path::Path, process::Command, time::Duration};

use failover::{model::check::CheckStatus, port::dns::Swap};
use serde_json::{Value, json};

use super::{A, APP, World, item, reason, set, west, within};
use crate::stand::bind::{self, SECRET, WRONG, free_port};

fn embedded_with(port: u16, file: &Path) -> Value {
    json!({"listen": format!("127.0.0.1:{port}"), "file": file,
           "nameServers": [{"name": "ns.demo.test.", "addresses": ["127.0.0.1"]}],
           "keys": [{"name": "failover-key", "secret": {"env": "KEY"}}]})
}

fn dig(port: u16, arguments: &[&str]) -> String {
    let port = port.to_string();
    let output = Command::new("dig")
        .args([
            "@127.0.0.1",
            "-p",
            &port,
            "+noall",
            "+answer",
            "+time=1",
            "+tries=5",
        ])
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<String> = text
        .lines()
        .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    lines.join("\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_server_answers_the_world_and_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (file, port) = (folder.path().join("zone"), free_port());
    let mut world = World::new("demo.test");
    let dns = world.provider("dns/embedded", &embedded_with(port, &file));
    let sixty = |values: &[&str]| set(values, 60);
    let east = sixty(&["192.0.2.1", "192.0.2.2"]);
    within("the server answers unasked", || async {
        dig(port, &["app.demo.test", "A"]).lines().count() == 2
    })
    .await;
    assert_eq!(dns.read(APP, A).await.unwrap(), east);
    assert_eq!(dns.swap(APP, A, &east, &west()).await, Swap::Done);
    let answer = "app.demo.test. 60 IN A 198.51.100.1";
    assert_eq!(dig(port, &["app.demo.test", "A"]), answer);
    assert_eq!(dig(port, &["+tcp", "app.demo.test", "A"]), answer);
    assert_eq!(
        dns.swap(APP, A, &east, &west()).await,
        Swap::Done,
        "the wanted set stands there"
    );

    let soa = dig(port, &["demo.test", "SOA"]);
    world.wiring.dns = None;
    drop(dns);
    within("the server is gone", || async {
        let address = ("127.0.0.1", port);
        std::net::UdpSocket::bind(address).is_ok() && std::net::TcpListener::bind(address).is_ok()
    })
    .await;
    let dns = world.provider("dns/embedded", &embedded_with(port, &file));
    assert_eq!(dns.read(APP, A).await.unwrap(), west());
    assert_eq!(dig(port, &["app.demo.test", "A"]), answer);
    assert_eq!(dig(port, &["demo.test", "SOA"]), soa);

    let items = dns.check(APP, A).await;
    assert_eq!(item(&items, "dns/provider").status, CheckStatus::Ok);
    assert_eq!(item(&items, "dns/single-point").status, CheckStatus::Warn);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_server_takes_updates_as_rfc_2136_has_them() {
    let folder = tempfile::tempdir().unwrap();
    let (file, port) = (folder.path().join("zone"), free_port());
    let mut world = World::new("demo.test");
    let dns = world.provider("dns/embedded", &embedded_with(port, &file));
    assert!(!dns.read(APP, A).await.unwrap().values.is_empty());
    let server = SocketAddr::from(([127, 0, 0, 1], port));
    let key = "hmac-sha256:failover-key";
    let update = |lines: &str| bind::nsupdate(server, key, SECRET, lines);
    let serial = || -> u32 {
        let soa = dig(port, &["demo.test", "SOA"]);
        soa.split(' ').nth(6).unwrap().parse().unwrap()
    };
    let first = serial();

    let told = update(
        "zone demo.test\nprereq yxrrset app.demo.test. A 192.0.2.1\nprereq yxrrset app.demo.test. A 192.0.2.2\nupdate delete app.demo.test. A\nupdate add app.demo.test. 30 A 198.51.100.7",
    );
    assert!(told.contains("NOERROR"), "{told}");
    assert_eq!(
        dig(port, &["app.demo.test", "A"]),
        "app.demo.test. 30 IN A 198.51.100.7"
    );
    assert_eq!(serial(), first + 1);

    let told = update(
        "zone demo.test\nprereq yxrrset app.demo.test. A 192.0.2.1\nupdate add app.demo.test. 30 A 192.0.2.66",
    );
    assert!(told.contains("NXRRSET"), "{told}");
    let told = update(
        "zone demo.test\nprereq nxrrset app.demo.test. A\nupdate add app.demo.test. 30 A 192.0.2.66",
    );
    assert!(told.contains("YXRRSET"), "{told}");
    let told = update(
        "zone demo.test\nprereq nxdomain app.demo.test.\nupdate add app.demo.test. 30 A 192.0.2.66",
    );
    assert!(told.contains("YXDOMAIN"), "{told}");
    let told = update(
        "zone demo.test\nupdate add app.demo.test. 30 A 192.0.2.66\nupdate add app.other.test. 30 A 192.0.2.66",
    );
    assert!(told.contains("NOTZONE"), "{told}");
    assert_eq!(
        dig(port, &["app.demo.test", "A"]),
        "app.demo.test. 30 IN A 198.51.100.7"
    );
    assert_eq!(serial(), first + 1);

    let told = update(
        "zone demo.test\nupdate add note.demo.test. 30 TXT \"a ; \\\"quoted\\\" text\" \"and more\"\nupdate add demo.test. 30 CAA 0 issue \"ca.example\"",
    );
    assert!(told.contains("NOERROR"), "{told}");
    let told = bind::nsupdate(
        server,
        key,
        WRONG,
        "zone demo.test\nupdate add x.demo.test. 30 A 192.0.2.66",
    );
    assert!(told.contains("BADSIG"), "{told}");
    let told = bind::nsupdate(
        server,
        "hmac-sha256:nobody",
        SECRET,
        "zone demo.test\nupdate add x.demo.test. 30 A 192.0.2.66",
    );
    assert!(told.contains("BADKEY"), "{told}");
    assert_eq!(dig(port, &["x.demo.test", "A"]), "");

    // What came from outside is kept as well.
    world.wiring.dns = None;
    drop(dns);
    within("the server is gone", || async {
        let address = ("127.0.0.1", port);
        std::net::UdpSocket::bind(address).is_ok() && std::net::TcpListener::bind(address).is_ok()
    })
    .await;
    let dns = world.provider("dns/embedded", &embedded_with(port, &file));
    assert_eq!(dns.read(APP, A).await.unwrap(), set(&["198.51.100.7"], 30));
    assert_eq!(
        dig(port, &["note.demo.test", "TXT"]),
        "note.demo.test. 30 IN TXT \"a ; \\\"quoted\\\" text\" \"and more\""
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_client_and_our_own_server_understand_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let (file, port) = (folder.path().join("zone"), free_port());
    let mut world = World::new("demo.test");
    let inside = world.provider("dns/embedded", &embedded_with(port, &file));
    let east = inside.read(APP, A).await.unwrap();
    let server = SocketAddr::from(([127, 0, 0, 1], port));
    let outside = world.rfc2136(server);
    assert_eq!(outside.read(APP, A).await.unwrap(), east);
    assert_eq!(outside.swap(APP, A, &east, &west()).await, Swap::Done);
    assert_eq!(inside.read(APP, A).await.unwrap(), west());
    assert_eq!(
        outside
            .swap(APP, A, &east, &set(&["203.0.113.1"], 60))
            .await,
        Swap::Conflict { found: west() }
    );
    let items = outside.check(APP, A).await;
    assert_eq!(
        item(&items, "dns/provider").status,
        CheckStatus::Ok,
        "{items:?}"
    );
    let mut late = World::new("demo.test").clock(Duration::from_hours(2));
    let told = reason(late.rfc2136(server).swap(APP, A, &west(), &east).await);
    assert!(told.contains("clock and ours differ by"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_beside_the_running_controller_asks_it() {
    let folder = tempfile::tempdir().unwrap();
    let (file, port) = (folder.path().join("zone"), free_port());
    let mut world = World::new("demo.test");
    let controller = world.provider("dns/embedded", &embedded_with(port, &file));
    let there = controller.read(APP, A).await.unwrap();
    // Another file stands for another process: the address is taken all the same.
    let mut other = World::new("demo.test");
    let check = other.provider(
        "dns/embedded",
        &embedded_with(port, &folder.path().join("other")),
    );
    assert_eq!(check.read(APP, A).await.unwrap(), there);
    let told = reason(check.swap(APP, A, &there, &west()).await);
    assert!(told.contains("cannot listen on"), "{told}");
    let items = check.check(APP, A).await;
    assert_eq!(
        item(&items, "dns/provider").status,
        CheckStatus::Ok,
        "{items:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_added_to_the_documents_is_served_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (file, port) = (folder.path().join("zone"), free_port());
    let mut world = World::new("demo.test");
    let before = world.provider("dns/embedded", &embedded_with(port, &file));
    let east = before.read(APP, A).await.unwrap();
    assert_eq!(before.swap(APP, A, &east, &west()).await, Swap::Done);
    world.dns(|dns| {
        let mut record = dns.records[0].clone();
        record.name = "shop.demo.test.".to_owned();
        dns.records.push(record);
    });
    // The one before is still held, as by a run under way.
    let after = world.provider("dns/embedded", &embedded_with(port, &file));
    within("the new record is served", || async {
        dig(port, &["shop.demo.test", "A"]).lines().count() == 2
    })
    .await;
    assert_eq!(after.read("shop.demo.test.", A).await.unwrap(), east);
    assert_eq!(after.read(APP, A).await.unwrap(), west());
    drop(before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_another_program_has_taken_serves_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let _stub = (
        std::net::UdpSocket::bind(("127.0.0.1", port)).unwrap(),
        std::net::TcpListener::bind(("127.0.0.1", port)).unwrap(),
    );
    let mut world = World::new("demo.test");
    let file = folder.path().join("zone");
    let dns = world.provider("dns/embedded", &embedded_with(port, &file));
    let items = dns.check(APP, A).await;
    let told = item(&items, "dns/provider");
    assert_eq!(told.status, CheckStatus::Fail, "{told:?}");
    assert!(told.detail.contains("nobody serves the zone"), "{told:?}");
}
