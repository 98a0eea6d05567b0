//! Hours of patience, a standby that is scaled up before it is promoted, data that must stay in the country, and clients
//! who are told nothing because nothing concerns them.

use std::time::Duration;

use failover::{
    decide::{detect::Need, event::Command},
    model::{id::PersonName, verdict::Verdict},
};

use super::{PRIMARY, STANDBY, hook, is_done, is_well, keys, kill_of, names, pair, url, verdict};
use crate::stand::{
    bind::Bind,
    patience::until,
    postgres::Pair,
    rehearsal::{Rehearsal, Script},
    smtp::Exim,
    webhook::Receiver,
    website::Website,
};

#[test]
fn data_that_would_leave_the_country_is_refused() {
    let script = Script::of(
        "task-management",
        &[(
            "region: Western Cape, country: ZA",
            "region: Dublin, country: IE",
        )],
    );
    let loaded = script.load();
    assert!(!loaded.is_usable());
    let told: Vec<String> = loaded
        .diagnostics
        .iter()
        .map(|d| d.message.clone())
        .collect();
    let refusal = "`cape-town` stands in IE, where data may not be";
    assert!(told.contains(&refusal.to_owned()), "{told:#?}");
}

/// The two sites, and a controller that protects them.
struct Stage {
    pair: Pair,
    website: Website,
    authority: Bind,
    _resolver: Bind,
    exim: Exim,
    chat: Receiver,
    rehearsal: Rehearsal,
}

/// Everything is well, and readiness is green.
async fn stage() -> Stage {
    let pair = pair();
    pair.primary.sql(
        "CREATE TABLE clients (email text, on_premises bool);
         INSERT INTO clients VALUES ('hosted@example.com', false), ('also@example.com', false),
                                    ('own-premises@example.com', true);
         GRANT SELECT ON clients TO failover",
    );
    pair.settle();
    let website = Website::start(40).await;
    let (authority, resolver) = names(
        "tasks.example",
        &format!("app IN A {}\n", website.sites[PRIMARY].address),
    )
    .await;
    let (exim, chat) = (Exim::start().await, Receiver::start().await);
    let addresses = website.sites.each_ref().map(|s| s.address.to_string());
    let (name_server, asked) = (authority.address.to_string(), resolver.address.to_string());
    let script = Script::of(
        "task-management",
        &[
            ("every: 1m", "every: 1s"),
            ("patience: 30m", "patience: 20s"),
            ("ttl: 5m", "ttl: 1s"),
            ("192.0.2.40", &addresses[PRIMARY]),
            ("198.51.100.40", &addresses[STANDBY]),
            ("https://jnb.tasks.example/", &url(&website, PRIMARY)),
            ("https://cpt.tasks.example/", &url(&website, STANDBY)),
            (
                "\"https://app.tasks.example/healthz\"",
                &format!(
                    "\"http://app.tasks.example:{}/healthz\", resolver: \"{asked}\"",
                    website.port
                ),
            ),
            (
                "host=db.jnb.tasks.example",
                &format!("host=127.0.0.1 port={}", pair.primary.port),
            ),
            (
                "host=db.cpt.tasks.example",
                &format!("host=127.0.0.1 port={}", pair.standby.port),
            ),
            ("sslmode=verify-full", "sslmode=disable"),
            ("203.0.113.53", &format!("\"{name_server}\"")),
            (
                "resolvers: [1.1.1.1, 8.8.8.8]",
                &format!("resolvers: [\"{asked}\"]\n    authorities: [\"{name_server}\"]"),
            ),
            (
                "host: mail.example.net",
                &format!(
                    "host: localhost, port: {}, ca: {}",
                    exim.port,
                    exim.ca().display()
                ),
            ),
            (
                "\"https://chat.tasks.example/hooks/operations\"",
                &format!("\"{}\", allowPrivate: true", chat.url),
            ),
            ("/usr/local/sbin/", "FOLDER/"),
        ],
    );
    script.program(
        "cloud-one",
        &format!(
            "case $1 in\nstop) {}; touch FOLDER/stopped;;\nis-stopped) test -e FOLDER/stopped;;\nesac",
            kill_of(&pair.primary)
        ),
    );
    script.program(
        "cloud-two",
        "case $1 in\nresize) echo $3 > FOLDER/size;;\nhas-size) test \"$(cat FOLDER/size)\" = $3;;\nesac",
    );
    let rehearsal = Rehearsal::start(script, keys(&[("CHAT_SECRET", hook())])).await;
    rehearsal.until("everything is well", is_well).await;
    // The list of clients is fetched by then.
    rehearsal.green().await;
    Stage {
        pair,
        website,
        authority,
        _resolver: resolver,
        exim,
        chat,
        rehearsal,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_outage_is_waited_out_and_a_long_one_scales_the_standby_up() {
    let Stage {
        mut pair,
        mut website,
        authority,
        _resolver,
        exim,
        chat,
        rehearsal,
    } = stage().await;

    pair.primary.crash();
    rehearsal
        .until("the database is down", |c| {
            verdict(c, "database") == Some(Verdict::Down)
        })
        .await;
    pair.primary.restart();
    rehearsal.until("everything is well again", is_well).await;
    let asked = |kinds: &[String]| kinds.iter().any(|k| k == "askOpened" || k == "runOpened");
    assert!(!asked(&rehearsal.kinds().await), "it did not wait");
    assert_eq!(rehearsal.script.deeds(), Vec::<String>::new());
    assert_eq!(exim.mails_now(), Vec::<String>::new());

    pair.primary.crash();
    website.sites[PRIMARY].off().await;
    let core = rehearsal
        .until("the database is down once more", |c| {
            verdict(c, "database") == Some(Verdict::Down)
        })
        .await;
    let need = failover::decide::detect::need(core.service(), &core.state().verdicts);
    assert_eq!(need, Need::Failover);
    assert!(
        core.state().asks.is_empty(),
        "nobody is asked within the patience"
    );
    let core = rehearsal
        .until("people are asked", |c| !c.state().asks.is_empty())
        .await;
    let waited = core
        .state()
        .at
        .since(core.state().incident.as_ref().unwrap().outage);
    assert!(waited.to_std() >= Duration::from_secs(20), "{waited}");
    paged(&chat, "failover approve").await;
    rehearsal
        .command(Command::Approve {
            ask: None,
            by: PersonName::new("ann"),
            user: None,
            reason: None,
            break_glass: false,
        })
        .await;
    rehearsal.until("the run is done", is_done).await;

    assert_eq!(
        rehearsal.script.deeds(),
        [
            "cloud-one stop tasks-db",
            "cloud-two resize tasks-standby large"
        ]
    );
    let done = rehearsal.done().await;
    let at = |step: &str| done.iter().position(|s| s == step).unwrap();
    assert!(at("scale-up") < at("promote"), "{done:?}");
    assert_eq!(pair.standby.sql("SELECT pg_is_in_recovery()"), "f");
    let leads = format!(
        "app.tasks.example. 1 IN A {}",
        website.sites[STANDBY].address
    );
    assert!(authority.records("tasks.example").contains(&leads));
    let mails = exim.mails(2).await;
    let of = |user: &str| mails.iter().filter(|m| m.contains(user)).count();
    assert_eq!(
        [
            "hosted@example.com",
            "also@example.com",
            "own-premises@example.com"
        ]
        .map(of),
        [1, 1, 0]
    );
}

/// Waits until the administrators have read that.
async fn paged(chat: &Receiver, text: &str) {
    until("administrators are told of it", || async {
        let taken = chat.seen.lock().unwrap().taken.clone();
        taken.iter().any(|t| t.to_string().contains(text))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_dead_standby_nothing_is_done() {
    let mut stage = stage().await;
    let (pair, rehearsal) = (&mut stage.pair, &stage.rehearsal);

    pair.standby.crash();
    pair.primary.crash();
    rehearsal
        .until("the database is suspected", |c| {
            verdict(c, "database") == Some(Verdict::Suspect)
        })
        .await;
    assert_eq!(rehearsal.script.deeds(), Vec::<String>::new());
    assert_eq!(stage.exim.mails_now(), Vec::<String>::new());

    pair.standby.restart();
    rehearsal
        .until("people are asked", |c| !c.state().asks.is_empty())
        .await;
    assert_eq!(rehearsal.script.deeds(), Vec::<String>::new());
}
