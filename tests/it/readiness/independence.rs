//! Everything that a failover touches and that stands at the dead site is found, each by itself.

use std::path::PathBuf;

use failover::{
    driver::{
        independence::{self, Outside},
        registry::kinds,
    },
    model::check::{CheckItem, CheckStatus},
};
use serde_json::{Value, json};

use super::Desk;

/// The address of site `a`, and one of nobody's (RFC 5737).
const DEAD: &str = "192.0.2.1";
const OTHER: &str = "198.51.100.7";

fn uses(kind: &str, with: &Value) -> Value {
    json!({"uses": kind, "with": with})
}

/// What is found where the host is the dead site's; nothing is where it is another one.
async fn found(change: impl Fn(&mut Desk, &str) -> Vec<Value>) -> CheckItem {
    let mut items = Vec::new();
    for host in [OTHER, DEAD] {
        let mut desk = Desk::new();
        let steps = change(&mut desk, host);
        let plan = Desk::plan(&steps);
        items = independence::check(&desk.service, kinds(), &plan).await;
        let bad = items.iter().any(|i| i.status != CheckStatus::Ok);
        assert_eq!(bad, host == DEAD, "{items:#?}");
    }
    assert_eq!(items.len(), 1, "{items:#?}");
    items.remove(0)
}

#[track_caller]
fn fails(item: &CheckItem, what: &str) {
    assert_eq!(
        (item.name.as_str(), item.status),
        ("independence", CheckStatus::Fail),
        "{item:?}"
    );
    assert!(item.detail.contains(what), "{item:?}");
}

fn page(desk: &mut Desk, url: &Value, targets: &[Value]) {
    let publication = json!({"url": url, "targets": targets});
    desk.service.publication = Some(serde_json::from_value(publication).unwrap());
}

fn zone(desk: &mut Desk, server: &str, authorities: &[&str]) {
    let with = json!({"server": server, "key": {"name": "k", "secret": {"env": "K"}}});
    let dns = json!({
        "provider": uses("dns/rfc2136", &with), "zone": "shop.example.", "records": [], "ttl": "1m",
        "lowerAhead": false, "resolvers": [], "authorities": authorities,
    });
    desk.service.dns = Some(serde_json::from_value(dns).unwrap());
}

#[tokio::test]
async fn the_bucket_of_the_status_page() {
    let item = found(|desk, host| {
        let with = json!({"url": "s3://status", "endpoint": format!("https://{host}:9000")});
        page(desk, &Value::Null, &[uses("publish/s3", &with)]);
        Vec::new()
    });
    fails(&item.await, "the status page connects to 192.0.2.1");
}

#[tokio::test]
async fn the_url_of_the_status_page() {
    let item = found(|desk, host| {
        page(desk, &json!(format!("https://{host}/")), &[]);
        Vec::new()
    });
    fails(
        &item.await,
        "the status page, https://192.0.2.1/, is at the primary site a",
    );
}

#[tokio::test]
async fn the_address_of_the_site_that_takes_over() {
    let item = found(|desk, host| {
        desk.service.sites[1].url = Some(format!("https://{host}/b"));
        Vec::new()
    });
    fails(&item.await, "the address of the site that takes over");
}

#[tokio::test]
async fn the_server_that_takes_updates_of_the_zone() {
    let item = found(|desk, host| {
        zone(desk, host, &["203.0.113.53"]);
        Vec::new()
    });
    fails(&item.await, "the DNS provider connects to 192.0.2.1");
}

#[tokio::test]
async fn the_servers_that_answer_for_the_zone() {
    let item = found(|desk, host| {
        zone(desk, "203.0.113.53", &[host]);
        Vec::new()
    });
    fails(&item.await, "without it nobody can look the new address up");

    let mut desk = Desk::new();
    zone(&mut desk, "203.0.113.53", &[DEAD, OTHER]);
    let items = independence::check(&desk.service, kinds(), &Desk::plan(&[])).await;
    assert_eq!(
        items[0].status,
        CheckStatus::Warn,
        "another one answers: {items:?}"
    );
}

#[tokio::test]
async fn the_mail_server() {
    let item = found(|desk, host| {
        let with = json!({
            "smtp": {"host": host}, "from": "Shop <status@shop.example>", "list": {"addresses": ["ann@shop.example"]},
        });
        let channel =
            json!({"name": "mail", "action": uses("announce/email", &with), "phases": []});
        desk.service.announcements.channels = vec![serde_json::from_value(channel).unwrap()];
        Vec::new()
    });
    fails(&item.await, "channel mail connects to 192.0.2.1");
}

#[tokio::test]
async fn the_way_to_the_team() {
    let item = found(|desk, host| {
        let with = json!({"url": format!("https://{host}/hook"), "secret": {"env": "K"}});
        let channel =
            json!({"name": "hook", "action": uses("announce/webhook", &with), "phases": []});
        desk.service.team.channels = vec![serde_json::from_value(channel).unwrap()];
        Vec::new()
    });
    fails(&item.await, "team channel hook connects to 192.0.2.1");
}

#[tokio::test]
async fn a_step_after_the_fence() {
    let item = found(|_, host| {
        let with = json!({
            "url": format!("https://{host}/promote"), "observe": {"url": format!("https://{host}/"), "status": [200]},
        });
        vec![json!({"id": "promote", "phase": "promote", "uses": "http/promote", "with": with})]
    });
    fails(&item.await, "step promote connects to 192.0.2.1");
}

/// The primary's database may stand at another address than its application.
#[tokio::test]
async fn the_host_of_the_primarys_database_is_the_primary() {
    let item = found(|desk, host| {
        let database = json!({"name": "db", "title": "Data", "kind": "database", "probes": [{
            "id": "a", "site": "a", "evidence": "database", "every": "1s", "timeout": "5s", "from": [],
            "action": uses("probe/postgres", &json!({"connection": "host=10.9.8.7 user=failover"})),
        }]});
        desk.service.components = vec![serde_json::from_value(database).unwrap()];
        let mail = if host == DEAD { "10.9.8.7" } else { OTHER };
        let with = json!({
            "smtp": {"host": mail}, "from": "Shop <status@shop.example>", "list": {"addresses": ["ann@shop.example"]},
        });
        let channel =
            json!({"name": "mail", "action": uses("announce/email", &with), "phases": []});
        desk.service.announcements.channels = vec![serde_json::from_value(channel).unwrap()];
        Vec::new()
    });
    fails(&item.await, "channel mail connects to 10.9.8.7");
}

/// What this process needs besides, with the dead site and with another one in its place.
async fn outside(of: impl Fn(&str) -> Outside) -> Vec<CheckItem> {
    let desk = Desk::new();
    let plan = Desk::plan(&[]);
    let elsewhere = independence::outside(&desk.service, &plan, &of(OTHER)).await;
    assert_eq!(elsewhere, [], "{elsewhere:#?}");
    independence::outside(&desk.service, &plan, &of(DEAD)).await
}

#[tokio::test]
async fn the_copy_of_the_journal() {
    let items = outside(|host| Outside {
        copy: Some(("s3://journal".to_owned(), vec![host.to_owned()])),
        ..Outside::default()
    });
    fails(
        &items.await[0],
        "the journal's copy s3://journal connects to 192.0.2.1",
    );
}

#[tokio::test]
async fn a_secret_on_a_file_system_of_the_dead_site() {
    let items = outside(|host| Outside {
        files: vec![(
            "the secret /srv/keys/token".to_owned(),
            PathBuf::from("/srv/keys/token"),
        )],
        mounts: format!(
            "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 22 0:40 / /srv rw shared:9 - nfs4 {host}:/export rw\n"
        ),
        ..Outside::default()
    });
    fails(
        &items.await[0],
        "the secret /srv/keys/token, on a file system that is mounted from",
    );
}

#[tokio::test]
async fn the_server_that_names_are_asked_of() {
    let items = outside(|host| Outside {
        resolvers: format!("search shop.example\nnameserver {host}\n"),
        ..Outside::default()
    });
    fails(&items.await[0], "this host asks 192.0.2.1 for names");
    let items = outside(|host| Outside {
        resolvers: format!("nameserver {host}\nnameserver {OTHER}\n"),
        ..Outside::default()
    });
    assert_eq!(items.await[0].status, CheckStatus::Warn);
}

#[test]
fn what_this_host_needs_is_gathered_from_the_documents() {
    let mut desk = Desk::new();
    page(
        &mut desk,
        &Value::Null,
        &[uses("publish/folder", &json!({"path": "/srv/status"}))],
    );
    let with = json!({"url": "https://hooks.example.net/", "secret": {"file": "/srv/keys/hook"}});
    let channel = json!({"name": "hook", "action": uses("announce/webhook", &with), "phases": []});
    desk.service.team.channels = vec![serde_json::from_value(channel).unwrap()];
    let hosts = [OTHER.to_owned()];
    let outside = Outside::of_host(&desk.service, desk.folder(), Some(("s3://journal", &hosts)));
    let files: Vec<_> = outside
        .files
        .iter()
        .map(|(_, path)| path.to_str().unwrap())
        .collect();
    assert_eq!(
        files,
        [
            "/srv/keys/hook",
            "/srv/status",
            desk.folder().to_str().unwrap()
        ]
    );
    assert!(outside.mounts.contains(" / "));
    assert_eq!(outside.copy.unwrap().1, hosts);
}
