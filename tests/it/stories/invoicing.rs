//! Many places look; slow answers are told as such and fail nothing over; planned maintenance stands apart from outages.

use std::time::Duration;

use failover::{
    decide::event::Command,
    model::{id::PersonName, verdict::Verdict},
};
use serde_json::Value;

use super::{PRIMARY, STANDBY, hook, is_well, json, keys, names, pair, url, verdict};
use crate::stand::{
    cloudflare::{Cloudflare, TOKEN},
    patience::until,
    proxy::proxy_asking,
    rehearsal::{Rehearsal, Script},
    s3::S3,
    smtp::Exim,
    webhook::Receiver,
    website::Website,
    x::X,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_is_degraded_and_maintenance_is_planned() {
    let pair = pair();
    pair.settle();
    let mut website = Website::start(50).await;
    let addresses = website.sites.each_ref().map(|s| s.address.to_string());
    let (authority, resolver) = names(
        "invoicing.example",
        &format!(
            "www IN A {}\nwww IN AAAA 2001:db8:1::50\n",
            addresses[PRIMARY]
        ),
    )
    .await;
    let cloudflare = Cloudflare::with_zone("invoicing.example").await;
    for (kind, content) in [
        ("A", addresses[PRIMARY].as_str()),
        ("AAAA", "2001:db8:1::50"),
    ] {
        cloudflare.add(kind, "www.invoicing.example", content, 60, false);
    }
    let (x, sms, exim, s3) = (
        X::start().await,
        Receiver::start().await,
        Exim::start().await,
        S3::start(),
    );
    let mut proxies = Vec::new();
    for _ in 0..5 {
        proxies.push(proxy_asking(resolver.address).await);
    }
    let ways: Vec<String> = proxies.iter().map(|p| p.0.address.to_string()).collect();
    let (name_server, asked) = (authority.address.to_string(), resolver.address.to_string());
    let script = Script::of(
        "invoicing",
        &[
            ("every: 1m", "every: 1s"),
            ("every: 20s", "every: 1s"),
            ("patience: 3m", "patience: 1s"),
            ("192.0.2.50", &addresses[PRIMARY]),
            ("198.51.100.50", &addresses[STANDBY]),
            ("https://fra.invoicing.example/", &url(&website, PRIMARY)),
            ("https://sin.invoicing.example/", &url(&website, STANDBY)),
            (
                "\"https://www.invoicing.example/healthz\"",
                &format!(
                    "\"http://www.invoicing.example:{}/healthz\", resolver: \"{asked}\"",
                    website.port
                ),
            ),
            (
                "host=db.fra.invoicing.example",
                &format!("host=127.0.0.1 port={}", pair.primary.port),
            ),
            (
                "host=db.sin.invoicing.example",
                &format!("host=127.0.0.1 port={}", pair.standby.port),
            ),
            ("sslmode=verify-full", "sslmode=disable"),
            (
                "host: one.one.one.one, port: 443",
                &format!("host: 127.0.0.1, port: {}", authority.address.port()),
            ),
            ("203.0.113.11:1080", &ways[0]),
            ("203.0.113.12:1080", &ways[1]),
            ("203.0.113.13:1080", &ways[2]),
            ("203.0.113.14:1080", &ways[3]),
            ("203.0.113.15:1080", &ways[4]),
            (
                "token: {env: CLOUDFLARE_TOKEN}",
                &format!(
                    "token: {{env: CLOUDFLARE_TOKEN}}, apiUrl: \"{}\"",
                    cloudflare.url
                ),
            ),
            (
                "resolvers: [1.1.1.1, 8.8.8.8, 9.9.9.9]",
                &format!("resolvers: [\"{asked}\"]\n    authorities: [\"{name_server}\"]"),
            ),
            (
                "url: s3://status-invoicing-example/",
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
                "\"https://sms.example.net/hooks/invoicing\"",
                &format!("\"{}\", allowPrivate: true", sms.url),
            ),
            (
                "host: mail.example.net, login: {user: pages",
                &format!(
                    "host: localhost, port: {}, ca: {}, login: {{user: status",
                    exim.port,
                    exim.ca().display()
                ),
            ),
            (
                "[ann@invoicing.example, ben@invoicing.example]",
                "[ann@example.com, ben@example.com]",
            ),
            ("/usr/local/sbin/", "FOLDER/"),
        ],
    );
    script.program("cloud", "case $1 in\nis-stopped) exit 1;;\nesac");
    let rehearsal = Rehearsal::start(
        script,
        keys(&[
            ("CLOUDFLARE_TOKEN", TOKEN),
            ("SMS_SECRET", hook()),
            ("STATUS_ACCESS_KEY_ID", "test-key"),
            ("STATUS_SECRET_ACCESS_KEY", "test-secret"),
        ]),
    )
    .await;
    rehearsal.green().await;
    let core = rehearsal.until("everything is well", is_well).await;
    let voices = core
        .view()
        .voices
        .keys()
        .filter(|v| v.1.as_str() == "web")
        .count();
    assert_eq!(voices, 6);
    for (_, seen) in &proxies {
        let public = format!("www.invoicing.example:{}", website.port);
        assert!(
            seen.lock().unwrap().contains(&public),
            "a place did not look"
        );
    }
    let web = |core: &failover::decide::core::Core| verdict(core, "web");
    rehearsal
        .until("it is quick enough", |c| web(c) == Some(Verdict::Healthy))
        .await;

    website.sites[PRIMARY].slow(Duration::from_millis(500));
    rehearsal
        .until("it is degraded", |c| web(c) == Some(Verdict::Degraded))
        .await;
    until("the page says so", || async {
        page(&s3)["components"][0]["status"] == "degraded_performance"
    })
    .await;
    let report = rehearsal.explain().await;
    let reason = &report.components[0].reason;
    assert!(reason.contains("above its objective of 250ms"), "{reason}");
    website.sites[PRIMARY].slow(Duration::ZERO);
    rehearsal
        .until("it is quick again", |c| web(c) == Some(Verdict::Healthy))
        .await;

    maintained(&rehearsal, &mut website, &s3, &sms).await;
    let kinds = rehearsal.kinds().await;
    for kind in ["askOpened", "runOpened"] {
        assert!(!kinds.contains(&kind.to_owned()), "{kind} in {kinds:?}");
    }
    assert_eq!(rehearsal.script.deeds(), Vec::<String>::new());
    assert_eq!(x.posts(), Vec::<String>::new());
}

/// A planned outage, longer than the patience: nothing is failed over, and the page tells it from an outage.
async fn maintained(rehearsal: &Rehearsal, website: &mut Website, s3: &S3, sms: &Receiver) {
    rehearsal
        .command(Command::Pause {
            by: PersonName::new("ann"),
            reason: "database upgrade".to_owned(),
        })
        .await;
    website.sites[PRIMARY].off().await;
    rehearsal
        .until("it is held back", |c| {
            let incident = c.state().incident.as_ref();
            incident.is_some_and(|i| {
                c.state().at.since(i.outage).to_std() > Duration::from_secs(1)
                    && i.held
                        .iter()
                        .any(|h| h.contains("ann paused it: database upgrade"))
            })
        })
        .await;
    until("the team hears that it is held back", || async {
        let taken = sms.seen.lock().unwrap().taken.clone();
        taken
            .iter()
            .any(|t| t.to_string().contains("database upgrade"))
    })
    .await;
    until("the page speaks of maintenance", || async {
        page(s3)["components"][0]["status"] == "under_maintenance"
    })
    .await;
    assert_eq!(page(s3)["status"]["indicator"], "maintenance");
    website.sites[PRIMARY].on().await.unwrap();
    rehearsal.until("everything is well again", is_well).await;
    rehearsal
        .command(Command::Resume {
            by: PersonName::new("ann"),
        })
        .await;
    until("the page shows that it works", || async {
        page(s3)["components"][0]["status"] == "operational"
    })
    .await;
    let figure = page(s3)["availability"][0].clone();
    assert_eq!(figure["down_seconds"], 0.0, "{figure}");
    assert_eq!(figure["percent"], 100.0, "{figure}");
    assert!(
        figure["maintenance_seconds"].as_f64().unwrap() > 1.0,
        "{figure}"
    );
}

fn page(s3: &S3) -> Value {
    json(&s3.object("summary.json").unwrap_or(b"null".to_vec()))
}
