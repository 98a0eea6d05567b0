//! A data centre is lost; the standby takes over with every acknowledged entry, and everybody hears where to go before
//! DNS has come round.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use failover::model::{announcement::Phase, record::RecordBody};

use super::{
    PRIMARY, STANDBY, hook, is_done, is_well, json, keys, kill_of, names, pair, url, words,
};
use crate::stand::{
    patience::until,
    postgres::PASSWORD,
    proxy::proxy_asking,
    rehearsal::{Rehearsal, Script},
    s3::S3,
    smtp::Exim,
    telegram::{Chat, Telegram},
    webhook::Receiver,
    website::Website,
    x::X,
};

const USERS: [&str; 3] = ["ada@example.com", "bob@example.com", "cy@example.com"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_standby_takes_over_with_every_acknowledged_entry() {
    let mut pair = pair();
    pair.primary
        .sql("CREATE TABLE entries (id bigint PRIMARY KEY)");
    pair.primary.set("synchronous_standby_names", "standby");
    pair.settle();
    let mut website = Website::start(10).await;
    let (authority, resolver) = names(
        "bookkeeping.example",
        &format!("www IN A {}\n", website.sites[PRIMARY].address),
    )
    .await;
    let (cloud, _) = proxy_asking(resolver.address).await;
    let (x, blog, exim, telegram, s3) = (
        X::start().await,
        Receiver::start().await,
        Exim::start().await,
        Telegram::start().await,
        S3::start(),
    );
    telegram.chat("-1001234567890", Chat::Open);
    let addresses = website.sites.each_ref().map(|s| s.address.to_string());
    let (name_server, asked) = (authority.address.to_string(), resolver.address.to_string());
    let script = Script::of(
        "bookkeeping",
        &[
            // Durations.
            ("every: 10s", "every: 1s"),
            ("patience: 2m", "patience: 2s"),
            ("ttl: 1m", "ttl: 1s"),
            // The two sites.
            ("192.0.2.10", &addresses[PRIMARY]),
            ("198.51.100.10", &addresses[STANDBY]),
            (
                "https://south.bookkeeping.example/",
                &url(&website, PRIMARY),
            ),
            (
                "https://north.bookkeeping.example/",
                &url(&website, STANDBY),
            ),
            (
                "\"https://www.bookkeeping.example/healthz\"",
                &format!(
                    "\"http://www.bookkeeping.example:{}/healthz\", resolver: \"{asked}\"",
                    website.port
                ),
            ),
            (
                "host=db.south.bookkeeping.example",
                &format!("host=127.0.0.1 port={}", pair.primary.port),
            ),
            (
                "host=db.north.bookkeeping.example",
                &format!("host=127.0.0.1 port={}", pair.standby.port),
            ),
            ("sslmode=verify-full", "sslmode=disable"),
            // What surely works, and the way of the second vantage point.
            (
                "host: one.one.one.one, port: 443",
                &format!("host: 127.0.0.1, port: {}", authority.address.port()),
            ),
            (
                "host: dns.google, port: 443",
                &format!("host: 127.0.0.1, port: {}", resolver.address.port()),
            ),
            ("203.0.113.7:1080", &cloud.address.to_string()),
            // DNS.
            ("203.0.113.53", &format!("\"{name_server}\"")),
            (
                "resolvers: [1.1.1.1, 8.8.8.8, 9.9.9.9]",
                &format!("resolvers: [\"{asked}\"]\n    authorities: [\"{name_server}\"]"),
            ),
            // Where customers and the team are told.
            (
                "url: s3://status-bookkeeping-example/",
                &format!(
                    "url: s3://copies/\n          endpoint: {}\n          allowHttp: true",
                    s3.endpoint()
                ),
            ),
            (
                "apiKey: {env: X_API_KEY}",
                &format!(
                    "apiKey: {{env: X_API_KEY}}\n          baseUrl: \"{}\"",
                    x.url
                ),
            ),
            (
                "\"https://blog.bookkeeping.example/hooks/announcement\"",
                &format!("\"{}\", allowPrivate: true", blog.url),
            ),
            (
                "host: mail.example.net",
                &format!(
                    "host: localhost, port: {}, ca: {}",
                    exim.port,
                    exim.ca().display()
                ),
            ),
            ("/var/lib/failover/users.csv", "FOLDER/users.csv"),
            (
                "chats: [\"-1001234567890\"]",
                &format!("chats: [\"-1001234567890\"], baseUrl: \"{}\"", telegram.url),
            ),
            ("/usr/local/sbin/", "FOLDER/"),
        ],
    );
    script.file("users.csv", &format!("email\n{}\n", USERS.join("\n")));
    script.program(
        "power",
        &format!(
            "case $1 in\noff) {}; touch FOLDER/off;;\nis-off) test -e FOLDER/off;;\nesac",
            kill_of(&pair.primary)
        ),
    );
    let rehearsal = Rehearsal::start(
        script,
        keys(&[
            ("FAILOVER_PROBE_PASSWORD", PASSWORD),
            ("FAILOVER_FENCE_PASSWORD", PASSWORD),
            ("FAILOVER_PROMOTE_PASSWORD", PASSWORD),
            ("/etc/failover/power.token", "a token"),
            ("STATUS_ACCESS_KEY_ID", "test-key"),
            ("STATUS_SECRET_ACCESS_KEY", "test-secret"),
            ("BLOG_WEBHOOK_SECRET", hook()),
        ]),
    )
    .await;
    rehearsal.green().await;
    rehearsal.until("everything is well", is_well).await;
    let acknowledged = writer(pair.primary.port);
    until("entries are made", || async {
        acknowledged.lock().unwrap().len() > 50
    })
    .await;

    website.sites[PRIMARY].off().await;
    pair.primary.crash();

    let core = rehearsal.until("the run is done", is_done).await;
    let state = core.state();
    assert_eq!(state.active.as_ref().unwrap().as_str(), "north");
    assert_eq!(state.epoch.0, 2);
    assert_eq!(rehearsal.script.deeds(), ["power off south-db"]);

    let kept = pair.standby.sql("SELECT id FROM entries");
    let kept: std::collections::BTreeSet<u64> = kept.lines().map(|l| l.parse().unwrap()).collect();
    let lost: Vec<u64> = acknowledged
        .lock()
        .unwrap()
        .iter()
        .copied()
        .filter(|id| !kept.contains(id))
        .collect();
    assert_eq!(lost, Vec::<u64>::new());
    pair.standby.sql("INSERT INTO entries VALUES (0)");

    let leads = format!("www.bookkeeping.example. 1 IN A {}", addresses[STANDBY]);
    assert!(authority.records("bookkeeping.example").contains(&leads));

    let fallback = url(&website, STANDBY);
    let posts = x.posts();
    assert!(posts.iter().any(|p| p.contains(&fallback)), "{posts:#?}");
    let taken = blog.seen.lock().unwrap().taken.clone();
    assert!(
        taken.iter().any(|t| t.to_string().contains(&fallback)),
        "{taken:#?}"
    );
    let mails = exim.mails(USERS.len()).await;
    for user in USERS {
        let theirs: Vec<&String> = mails.iter().filter(|m| m.contains(user)).collect();
        let [mail] = theirs[..] else {
            panic!("{user} got {} mails", theirs.len())
        };
        assert!(words(mail).contains(&fallback), "{mail}");
        assert!(words(mail).contains("may take up to a day"), "{mail}");
    }
    let page = || json(&s3.object("fallback.json").unwrap_or(b"null".to_vec()));
    until("the status page shows the address", || async {
        page()["url"] == fallback.as_str()
    })
    .await;

    told_after_it_was_seen(&rehearsal).await;
}

/// The address went out only once two vantage points had got a right answer from it.
async fn told_after_it_was_seen(rehearsal: &Rehearsal) {
    let records = rehearsal.records().await;
    let seen = records.iter().find_map(|r| {
        let RecordBody::StepOutcome { step, result, .. } = &r.body else {
            return None;
        };
        (step.as_str() == "fallback").then(|| (r.seq, serde_json::to_string(result).unwrap()))
    });
    let told = records.iter().find_map(|r| {
        let RecordBody::PhaseEntered { phase, .. } = &r.body else {
            return None;
        };
        (*phase == Phase::OnStandby).then_some(r.seq)
    });
    let ((seen, proof), told) = (seen.unwrap(), told.unwrap());
    assert!(seen < told);
    assert!(
        proof.contains("a right answer to 2 vantage points"),
        "{proof}"
    );
}

/// Makes entries for as long as the primary takes them; gives the ids that it acknowledged.
fn writer(port: u16) -> Arc<Mutex<Vec<u64>>> {
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let made = acknowledged.clone();
    tokio::spawn(async move {
        let conninfo = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres");
        let (client, connection) = tokio_postgres::connect(&conninfo, tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        for id in 1.. {
            let sql = format!("INSERT INTO entries VALUES ({id})");
            if client.batch_execute(&sql).await.is_err() {
                return;
            }
            made.lock().unwrap().push(id);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    acknowledged
}
