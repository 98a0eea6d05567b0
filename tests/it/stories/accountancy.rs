//! The application servers die while the database is well: traffic moves, the database stays what and where it is, and
//! the telephone is redirected once.

use failover::{decide::event::Command, model::id::PersonName};

use super::{PRIMARY, STANDBY, is_done, json, keys, names, pair, url, verdict};
use crate::stand::{
    patience::until,
    postgres::Pair,
    rehearsal::{Rehearsal, Script},
    telegram::{Chat, Telegram},
    website::Website,
    x::X,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_go_on_elsewhere_and_the_database_stays() {
    let pair = pair();
    pair.primary.sql("CREATE TABLE books AS SELECT 1 AS id");
    pair.settle();
    let mut website = Website::start(30).await;
    // The temporary environment is only started when it is needed.
    website.sites[STANDBY].off().await;
    let (authority, resolver) = names(
        "accountancy.example",
        &format!("my IN A {}\n", website.sites[PRIMARY].address),
    )
    .await;
    let (x, telegram) = (X::start().await, Telegram::start().await);
    telegram.chat("-1001234567891", Chat::Open);
    let addresses = website.sites.each_ref().map(|s| s.address.to_string());
    let (name_server, asked) = (authority.address.to_string(), resolver.address.to_string());
    let script = Script::of(
        "accountancy",
        &[
            ("every: 10s", "every: 1s"),
            ("patience: 2m", "patience: 2s"),
            ("ttl: 2m", "ttl: 1s"),
            ("192.0.2.30", &addresses[PRIMARY]),
            ("198.51.100.30", &addresses[STANDBY]),
            (
                "https://london.accountancy.example/",
                &url(&website, PRIMARY),
            ),
            (
                "https://temporary.accountancy.example/",
                &url(&website, STANDBY),
            ),
            (
                "\"https://my.accountancy.example/healthz\"",
                &format!(
                    "\"http://my.accountancy.example:{}/healthz\", resolver: \"{asked}\"",
                    website.port
                ),
            ),
            (
                "host=db.london.accountancy.example",
                &format!("host=127.0.0.1 port={}", pair.primary.port),
            ),
            (
                "host=db.manchester.accountancy.example",
                &format!("host=127.0.0.1 port={}", pair.standby.port),
            ),
            ("sslmode=verify-full", "sslmode=disable"),
            ("203.0.113.53", &format!("\"{name_server}\"")),
            (
                "resolvers: [1.1.1.1, 8.8.8.8]",
                &format!("resolvers: [\"{asked}\"]\n    authorities: [\"{name_server}\"]"),
            ),
            ("/srv/www/status", "FOLDER/page"),
            (
                "apiKey: {env: X_API_KEY}",
                &format!(
                    "apiKey: {{env: X_API_KEY}}\n          baseUrl: \"{}\"",
                    x.url
                ),
            ),
            (
                "chats: [\"-1001234567891\"]",
                &format!("chats: [\"-1001234567891\"], baseUrl: \"{}\"", telegram.url),
            ),
            ("/usr/local/sbin/", "FOLDER/"),
        ],
    );
    script.program(
        "environment",
        "case $1 in\nstart) touch FOLDER/wanted; while ! test -e FOLDER/serving; do sleep 0.1; done;;\n\
         is-serving) test -e FOLDER/serving;;\nesac",
    );
    script.program(
        "telephone",
        "case $1 in\nredirect) touch FOLDER/redirected;;\nis-redirected) test -e FOLDER/redirected;;\nesac",
    );
    let before = identity(&pair);
    let rehearsal = Rehearsal::start(script, keys(&[])).await;
    rehearsal
        .until("the application and its data are seen", |c| {
            use failover::model::verdict::Verdict::Healthy;
            verdict(c, "application") == Some(Healthy) && verdict(c, "database") == Some(Healthy)
        })
        .await;

    website.sites[PRIMARY].off().await;

    rehearsal
        .until("people are asked", |c| !c.state().asks.is_empty())
        .await;
    until("the team is told how to answer", || async {
        let shown = telegram.shown();
        shown
            .iter()
            .any(|(_, text, _)| text.contains("failover approve"))
    })
    .await;
    assert_eq!(rehearsal.script.deeds(), Vec::<String>::new());
    approve(&rehearsal, "ben").await;
    assert!(
        rehearsal.core().await.state().run.is_none(),
        "one of two is not enough"
    );
    approve(&rehearsal, "cleo").await;
    until("the environment is started", || async {
        rehearsal.script.path("wanted").exists()
    })
    .await;
    website.sites[STANDBY].on().await.unwrap();
    rehearsal.script.file("serving", "");
    let core = rehearsal.until("the run is done", is_done).await;

    let state = core.state();
    assert_eq!(state.serving.as_ref().unwrap().as_str(), "manchester");
    assert_eq!(state.active.as_ref().unwrap().as_str(), "london");
    assert_eq!(state.epoch.0, 1, "nothing was promoted");
    assert_eq!(identity(&pair), before);
    pair.primary.sql("INSERT INTO books VALUES (2)");
    pair.settle();
    assert!(pair.standby.streams());

    let mut deeds = rehearsal.script.deeds();
    deeds.sort();
    assert_eq!(
        deeds,
        [
            "environment start manchester",
            "telephone redirect manchester"
        ]
    );
    let leads = format!("my.accountancy.example. 1 IN A {}", addresses[STANDBY]);
    assert!(authority.records("accountancy.example").contains(&leads));
    let temporary = url(&website, STANDBY);
    let posts = x.posts();
    assert!(posts.iter().any(|p| p.contains(&temporary)), "{posts:#?}");
    until("the status page leads there", || async {
        let file = std::fs::read(rehearsal.script.path("page/fallback.json"));
        json(&file.unwrap_or(b"null".to_vec()))["url"] == temporary.as_str()
    })
    .await;
}

async fn approve(rehearsal: &Rehearsal, by: &str) {
    rehearsal
        .command(Command::Approve {
            ask: None,
            by: PersonName::new(by),
            user: None,
            reason: None,
            break_glass: false,
        })
        .await;
}

/// Who takes writes, and which history each side is on.
fn identity(pair: &Pair) -> [String; 2] {
    let of = "SELECT pg_is_in_recovery(), s.system_identifier, c.timeline_id
              FROM pg_control_system() s, pg_control_checkpoint() c";
    [pair.primary.sql(of), pair.standby.sql(of)]
}
