//! The figure that is published is made of measured time; an outage within the patience is counted and nobody fails
//! over for it; a mistake is replicated, and no failover is offered for it.

use std::time::{Duration, Instant};

use failover::model::verdict::Verdict;
use serde_json::Value;

use super::{PRIMARY, STANDBY, is_well, json, keys, names, pair, url, verdict};
use crate::stand::{
    patience::until,
    proxy::proxy_asking,
    rehearsal::{Rehearsal, Script},
    smtp::Exim,
    webhook::Receiver,
    website::Website,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn measured_outages_are_published_and_a_bad_change_is_no_outage() {
    let pair = pair();
    pair.primary
        .sql("CREATE TABLE contacts AS SELECT 1 AS id, 'Ada' AS name");
    pair.settle();
    let mut website = Website::start(20).await;
    let (authority, resolver) = names(
        "crm.example",
        &format!(
            "www IN CNAME balancer.east\nbalancer.east IN A {}\nbalancer.west IN A {}\n",
            website.sites[PRIMARY].address, website.sites[STANDBY].address
        ),
    )
    .await;
    let (monitor, asked_for) = proxy_asking(resolver.address).await;
    let (exim, pager) = (Exim::start().await, Receiver::start().await);
    let addresses = website.sites.each_ref().map(|s| s.address.to_string());
    let (name_server, asked) = (authority.address.to_string(), resolver.address.to_string());
    let script = Script::of(
        "crm",
        &[
            ("every: 30s", "every: 1s"),
            ("ttl: 1m", "ttl: 1s"),
            ("192.0.2.20", &addresses[PRIMARY]),
            ("198.51.100.20", &addresses[STANDBY]),
            ("https://east.crm.example/", &url(&website, PRIMARY)),
            ("https://west.crm.example/", &url(&website, STANDBY)),
            (
                "\"https://www.crm.example/up\"",
                &format!(
                    "\"http://www.crm.example:{}/up\", resolver: \"{asked}\"",
                    website.port
                ),
            ),
            (
                "host=db.east.crm.example",
                &format!("host=127.0.0.1 port={}", pair.primary.port),
            ),
            (
                "host=db.west.crm.example",
                &format!("host=127.0.0.1 port={}", pair.standby.port),
            ),
            ("sslmode=verify-full", "sslmode=disable"),
            (
                "host: one.one.one.one, port: 443",
                &format!("host: 127.0.0.1, port: {}", authority.address.port()),
            ),
            ("203.0.113.9:3128", &monitor.address.to_string()),
            ("203.0.113.53", &format!("\"{name_server}\"")),
            (
                "resolvers: [1.1.1.1, 8.8.8.8]",
                &format!("resolvers: [\"{asked}\"]\n    authorities: [\"{name_server}\"]"),
            ),
            ("/srv/www/status", "FOLDER/page"),
            (
                "host: mail.example.net",
                &format!(
                    "host: localhost, port: {}, ca: {}",
                    exim.port,
                    exim.ca().display()
                ),
            ),
            ("/var/lib/failover/crm-users.csv", "FOLDER/users.csv"),
            (
                "\"https://pager.example.net/hooks/crm\"",
                &format!("\"{}\", allowPrivate: true", pager.url),
            ),
            ("/usr/local/sbin/", "FOLDER/"),
        ],
    );
    script.file("users.csv", "email\nada@example.com\n");
    script.program("cloud", "exit 1");
    let mut rehearsal = Rehearsal::start(script, keys(&[("PAGER_SECRET", super::hook())])).await;
    let began = Instant::now();
    rehearsal.until("everything is well", is_well).await;
    rehearsal.green().await;
    assert!(
        !asked_for.lock().unwrap().is_empty(),
        "nobody looked through the monitor"
    );

    website.sites[PRIMARY].off().await;
    let off = Instant::now();
    rehearsal
        .until("the application is down", |c| {
            verdict(c, "web") == Some(Verdict::Down)
        })
        .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    website.sites[PRIMARY].on().await.unwrap();
    let outage = off.elapsed().as_secs_f64();
    rehearsal.until("everything is well again", is_well).await;

    until("the page shows that it works", || async {
        page(&rehearsal)["components"][0]["status"] == "operational"
    })
    .await;
    let told = page(&rehearsal);
    let figure = &told["availability"][0];
    let down = figure["down_seconds"].as_f64().unwrap();
    // It is seen to begin at the next look, and to end after two good ones.
    assert!(
        down > outage - 1.5 && down < outage + 4.0,
        "{down} s of {outage} s: {figure}"
    );
    assert_eq!(figure["maintenance_seconds"], 0.0);
    assert_eq!(figure["objective_percent"], 99.99);
    is_what_it_is_made_of(figure);
    assert_eq!(told["components"][0]["availability"]["down_seconds"], down);
    assert_eq!(told["components"][1]["availability"]["down_seconds"], 0.0);

    rehearsal.restart(Duration::from_secs(3)).await;
    rehearsal
        .until("everything is well once more", is_well)
        .await;
    let asked = |told: &Value| {
        let part = |name: &str| told["availability"][0][name].as_f64().unwrap();
        part("up_seconds") + part("down_seconds")
    };
    let known = asked(&page(&rehearsal));
    assert!(
        known < began.elapsed().as_secs_f64() - 2.5,
        "what nobody saw was counted: {known}"
    );

    pair.primary.sql("UPDATE contacts SET name = 'Oops'");
    pair.settle();
    assert_eq!(pair.standby.sql("SELECT name FROM contacts"), "Oops");
    let report = rehearsal.explain().await;
    assert!(
        report
            .sentences
            .contains(&"It does not fail over because nothing is down by quorum.".to_owned()),
        "{report:#?}"
    );
    assert!(
        report.run.is_none() && report.asks.is_empty(),
        "{report:#?}"
    );
    let kinds = rehearsal.kinds().await;
    assert!(kinds.contains(&"incidentOpened".to_owned()));
    for kind in ["askOpened", "runOpened"] {
        assert!(!kinds.contains(&kind.to_owned()), "{kind} in {kinds:?}");
    }
    assert_eq!(exim.mails_now(), Vec::<String>::new());
}

fn page(rehearsal: &Rehearsal) -> Value {
    let file = std::fs::read(rehearsal.script.path("page/summary.json"));
    json(&file.unwrap_or(b"null".to_vec()))
}

/// The share of known time in which it worked, never rounded up.
fn is_what_it_is_made_of(figure: &Value) {
    let part = |name: &str| figure[name].as_f64().unwrap();
    let share = 100.0 * part("up_seconds") / (part("up_seconds") + part("down_seconds"));
    let percent = part("percent");
    assert!(
        percent <= share + 1e-6 && percent > share - 0.001,
        "{figure}"
    );
    assert!(percent < 100.0);
}
