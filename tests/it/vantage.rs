//! Observers elsewhere: two real processes, what reaches the verdicts, and what is refused on the wire.

use std::{fs, path::Path, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::stand::{
    controller::{Stand, until},
    host::ClosedPort,
    observer::{KEY, Paris},
};

mod wire;

/// The observer's last look through a probe: its sight and words, as the controller has them.
fn seen_from(stand: &Stand, vantage: &str, probe: &str) -> Option<(String, String)> {
    let report = stand.json(&["explain", "shop"]);
    let components = report["components"].as_array().unwrap();
    let witnesses = components
        .iter()
        .flat_map(|c| c["witnesses"].as_array().unwrap());
    let mut found = witnesses
        .filter(|w| w["vantage"] == vantage && w["probe"] == probe)
        .map(|w| {
            let text = |key: &str| w[key].as_str().unwrap().to_owned();
            (text("sight"), text("detail"))
        });
    found.next_back()
}

fn sight(stand: &Stand, vantage: &str, probe: &str) -> String {
    seen_from(stand, vantage, probe).map_or_else(String::new, |(sight, _)| sight)
}

fn verdict(stand: &Stand) -> String {
    let status = stand.json(&["status"]);
    status["services"][0]["components"][0]["verdict"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// The check's item of the observer: its status and words.
fn item(stand: &Stand) -> (String, String) {
    let output = stand.cli(&["check", "shop", "--output", "json"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = find(&answer, "vantage/paris/observer").unwrap_or_else(|| panic!("{answer:#}"));
    let text = |key: &str| found[key].as_str().unwrap().to_owned();
    (text("status"), text("detail"))
}

/// The object with that name, wherever it stands.
fn find<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Object(fields) if fields.get("name").is_some_and(|n| n == name) => Some(value),
        Value::Object(fields) => fields.values().find_map(|v| find(v, name)),
        Value::Array(items) => items.iter().find_map(|v| find(v, name)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// A figure by the beginning of its line.
async fn figure(stand: &Stand, series: &str) -> Option<f64> {
    let (_, text) = stand.figures("/metrics").await;
    let line = text.lines().find(|l| l.starts_with(series))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

async fn until_figure(stand: &Stand, series: &str, least: f64) {
    crate::stand::patience::until(series, async || {
        figure(stand, series).await.is_some_and(|n| n >= least)
    })
    .await;
}

/// Nothing that anybody printed, logged or wrote down holds the key.
fn no_leaks(stand: &Stand, paris: &Paris) {
    assert_eq!(stand.leaks(), [""; 0]);
    assert!(!paris.said().contains(KEY), "{}", paris.said());
    assert!(!stand.log().contains(KEY) && !stand.printed().contains(KEY));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_is_reached_with_an_observer_elsewhere() {
    let mut stand = Stand::new().await;
    let mut paris = Paris::of(&stand, "");
    paris.observe(&stand, &[]);
    paris.until_told("away", 1);
    // Two networks must see it work, and only the observer is in the second.
    paris.controller(&mut stand, "\"healthy\"");
    assert_eq!(paris.until_told("assigned", 1)["probes"], 2);

    until("the observer sees it work", || {
        sight(&stand, "paris", "app-east") == "up"
    });
    until("the check is green", || item(&stand).0 == "ok");
    let (_, detail) = item(&stand);
    assert!(
        detail.contains("last report") && detail.contains("version 0."),
        "{detail}"
    );
    let age = "failover_vantage_report_age_seconds{service=\"shop\",vantage=\"paris\"}";
    assert!(figure(&stand, age).await.unwrap() < 10.0);

    // Changed documents reach the observer by themselves.
    let document = Paris::document(&stand, "");
    let more = document.replacen("- {id: app-east,", "- {id: app-more, uses: probe/http, site: east, every: 500ms, with: {url: \"http://127.0.0.1:1/\"}, from: [paris]}\n        - {id: app-east,", 1);
    assert_ne!(more, document);
    stand.write(&more);
    assert_eq!(paris.until_told("assigned", 2)["probes"], 3);
    until("the new probe is looked through", || {
        sight(&stand, "paris", "app-more") == "down"
    });
    stand.write(&document);
    paris.until_told("assigned", 3);
    until("it is well again", || verdict(&stand) == "healthy");

    stand.east_is_up(false);
    until("both networks say down", || stand.question().is_some());
    assert_eq!(
        paris.end(Signal::SIGTERM).code(),
        Some(0),
        "{}",
        paris.said()
    );
    no_leaks(&stand, &paris);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observer_that_is_gone_does_not_count_and_one_network_never_fails_over() {
    let mut stand = Stand::new().await;
    let mut paris = Paris::of(&stand, "");
    paris.observe(&stand, &[]);
    paris.controller(&mut stand, "\"healthy\"");
    paris.end(Signal::SIGKILL);
    until("its looks are too old", || {
        sight(&stand, "paris", "app-east") == "unknown"
    });
    until("the check fails", || item(&stand).0 == "fail");

    stand.east_is_up(false);
    until("the controller's own network says down", || {
        sight(&stand, "here", "app-east") == "down"
    });
    let downs = "failover_probe_looks_total{service=\"shop\",probe=\"app-east\",vantage=\"here\",sight=\"down\"}";
    let before = figure(&stand, downs).await.unwrap();
    until_figure(&stand, downs, before + 10.0).await;
    assert_eq!(
        (verdict(&stand).as_str(), stand.question()),
        ("suspect", None)
    );

    paris.observe(&stand, &[]);
    until("it is back and says down too", || {
        stand.question().is_some()
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_is_started_again_is_found_and_stale_looks_do_not_count() {
    let mut stand = Stand::new().await;
    let mut paris = Paris::of(&stand, "");
    stand.program(
        "page",
        "echo \"$FAILOVER_VANTAGE $FAILOVER_EVENT\" >> page.told",
    );
    let page = stand.path("page").display().to_string();
    paris.observe(&stand, &["--silence", "6s", "--on-silence", &page]);
    paris.controller(&mut stand, "\"healthy\"");
    let before = |event: &str| {
        paris
            .events()
            .iter()
            .filter(|e| e["event"] == event)
            .count()
    };
    let [away, back, silent, heard] = ["away", "back", "silent", "heard"].map(before);
    stand.signal(Signal::SIGTERM);
    assert_eq!(stand.ended().code(), Some(0));
    paris.until_told("away", away + 1);

    // What the observer sees now is down, and too old (after 3 × 500 ms + 450 ms) when the controller is back.
    stand.east_is_up(false);
    tokio::time::sleep(Duration::from_secs(3)).await;
    stand.east_is_up(true);
    tokio::time::sleep(Duration::from_secs(3)).await;
    paris.until_told("silent", silent + 1);
    paris.controller(&mut stand, "\"healthy\"");
    paris.until_told("heard", heard + 1);
    until("people were told of both", || {
        let told = fs::read_to_string(stand.path("page.told")).unwrap_or_default();
        told.ends_with("paris controllerSilent\nparis controllerHeard\n")
    });
    let told = paris.until_told("back", back + 1);
    assert!(told["kept"].as_u64().unwrap() > 10, "{told}");
    until_figure(
        &stand,
        "failover_vantage_looks_dropped_total{vantage=\"paris\",reason=\"stale\"}",
        5.0,
    )
    .await;
    let taken =
        "failover_probe_looks_total{service=\"shop\",probe=\"app-east\",vantage=\"paris\",sight=";
    assert!(figure(&stand, &format!("{taken}\"up\"")).await.unwrap() >= 1.0);
    assert_eq!(figure(&stand, &format!("{taken}\"down\"")).await, None);
    assert_eq!(paris.end(Signal::SIGINT).code(), Some(0));
    no_leaks(&stand, &paris);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_refused_and_a_right_one_taken_without_a_restart() {
    let mut stand = Stand::new().await;
    let mut paris = Paris::of(&stand, "");
    paris.controller(&mut stand, "\"shop\"");
    let wrong = KEY.chars().rev().collect::<String>();
    stand.file("other-key", &wrong);
    let flag = format!("file:{}", stand.path("other-key").display());
    let ca = paris.ca();
    let url = paris.url();
    let args = [
        "vantage",
        "--controller",
        &url,
        "--name",
        "paris",
        "--key",
        &flag,
        "--ca",
        &ca,
    ];
    paris.spawn::<&str>(&stand, &[&args[..], &["--output", "json"]].concat(), &[]);
    assert_eq!(paris.until_told("away", 1)["code"], "FO-085");
    until_figure(
        &stand,
        "failover_vantage_refused_total{reason=\"signature\"}",
        2.0,
    )
    .await;
    assert_eq!(sight(&stand, "paris", "app-east"), "unknown");
    let refusals = stand.log().matches("was refused").count();
    assert_eq!(refusals, 1, "{}", stand.log());

    stand.file("other-key", KEY);
    paris.until_told("assigned", 1);
    until("it counts", || verdict(&stand) == "healthy");
    no_leaks(&stand, &paris);
    assert!(!paris.said().contains(&wrong));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_by_an_hour_changes_no_verdict() {
    const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
    assert!(Path::new(FAKETIME).exists(), "faketime is missing");
    let mut stand = Stand::new().await;
    let mut paris = Paris::of(&stand, "");
    let wrong = [("LD_PRELOAD", FAKETIME), ("FAKETIME", "+1h")];
    paris.observe_with(&stand, &[], &wrong);
    paris.controller(&mut stand, "\"healthy\"");
    until("the check warns", || item(&stand).0 == "warn");
    let (_, detail) = item(&stand);
    let hour = detail.contains("its clock is 1h") || detail.contains("its clock is 59m");
    assert!(hour && detail.contains("ahead"), "{detail}");
    let ahead = "failover_vantage_clock_ahead_seconds{service=\"shop\",vantage=\"paris\"}";
    let ahead = figure(&stand, ahead).await.unwrap();
    assert!((3_590.0..3_610.0).contains(&ahead), "{ahead}");

    stand.east_is_up(false);
    until("both networks say down", || stand.question().is_some());
    stand.east_is_up(true);
    until("it is seen to be well", || {
        sight(&stand, "paris", "app-east") == "up"
    });
    paris.end(Signal::SIGKILL);
    until("looks age all the same", || {
        sight(&stand, "paris", "app-east") == "unknown"
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observer_without_its_own_network_cannot_see() {
    let mut stand = Stand::new().await;
    let closed = ClosedPort::new();
    let sentinel = format!(
        ", sentinels: [{{uses: probe/tcp, with: {{host: 127.0.0.1, port: {}}}}}]",
        closed.address.port()
    );
    let mut paris = Paris::of(&stand, &sentinel);
    paris.observe(&stand, &[]);
    paris.controller(&mut stand, "\"healthy\"");
    stand.east_is_up(false);
    until("it says that it cannot see", || {
        seen_from(&stand, "paris", "app-east").is_some_and(|(sight, detail)| {
            sight == "unknown" && detail.contains("own network is gone")
        })
    });
    until("the other network says down", || {
        sight(&stand, "here", "app-east") == "down"
    });
    assert_eq!(stand.question(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_run_by_an_observer_that_allows_it_only() {
    let mut stand = Stand::new().await;
    let mut paris = Paris::of(&stand, "");
    let ran = stand.path("ran");
    let document = Paris::document(&stand, "").replacen(
        "- {id: app-east,",
        &format!("- {{id: own, uses: probe/command, every: 500ms, with: {{run: [/usr/bin/touch, \"{}\"]}}, from: [paris]}}\n        - {{id: app-east,", ran.display()),
        1,
    );
    stand.write(&document);
    paris.observe(&stand, &[]);
    paris.controller(&mut stand, "\"shop\"");
    until("it is refused", || {
        seen_from(&stand, "paris", "own").is_some_and(|(sight, detail)| {
            sight == "unknown" && detail.contains("--allow-commands")
        })
    });
    assert!(!ran.exists());
    paris.end(Signal::SIGTERM);
    paris.observe(&stand, &["--allow-commands"]);
    until("it is run", || sight(&stand, "paris", "own") == "up");
    assert!(ran.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readme_shows_what_works() {
    let readme =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let shown = |begin: &str| -> Vec<String> {
        let line = readme
            .lines()
            .find_map(|l| l.trim().strip_prefix(&format!("$ {begin} ")));
        let words = line.unwrap_or_else(|| panic!("the README does not show {begin}"));
        words.split_whitespace().map(ToOwned::to_owned).collect()
    };
    let mut stand = Stand::new().await;
    let yaml = readme
        .split("```yaml\n")
        .find(|b| b.starts_with("vantagePoints:"));
    let yaml = yaml.unwrap().split("```").next().unwrap();
    let block = yaml.trim_end().replace('\n', "\n  ");
    let document = stand.document();
    let (before, rest) = document.split_once("  vantagePoints:\n").unwrap();
    let (_, after) = rest.split_once("  quorum:").unwrap();
    stand.write(&format!("{before}  {block}\n  quorum:{after}"));
    stand.shows(&["validate", stand.documents().to_str().unwrap()]);

    let mut paris = Paris::of(&stand, "");
    let put = |words: Vec<String>, in_place: &[(&str, String)]| -> Vec<String> {
        let of = |w: String| {
            in_place
                .iter()
                .find(|(from, _)| *from == w)
                .map_or(w.clone(), |(_, to)| to.clone())
        };
        words.into_iter().map(of).collect()
    };
    let [_, address, _, chain, _, key] = paris.listen();
    let run = put(
        shown("failover run -f documents/ --vantage-listen"),
        &[
            ("0.0.0.0:8443", address),
            ("chain.pem", chain),
            ("key.pem", key),
        ],
    );
    let run: Vec<&str> = ["--vantage-listen"]
        .into_iter()
        .chain(run.iter().map(String::as_str))
        .collect();
    let observe = put(
        shown("failover vantage"),
        &[("https://dr.example.net:8443", paris.url())],
    );
    let ca = paris.ca();
    let observe: Vec<&str> = ["vantage"]
        .into_iter()
        .chain(observe.iter().map(String::as_str))
        .chain(["--ca", ca.as_str()])
        .collect();
    paris.spawn(&stand, &observe, &[("PARIS_KEY", KEY)]);
    stand.start(&run);
    until("the check is green", || item(&stand).0 == "ok");
    let output = stand.command(&["help", "vantage-points"]).output().unwrap();
    assert!(output.status.success());
    no_leaks(&stand, &paris);
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_is_spoken_where_a_proxy_stands_before_it() {
    let mut stand = Stand::new().await;
    let mut paris = Paris::of(&stand, "");
    let [_, address, ..] = paris.listen();
    let key = format!("file:{}", stand.path("paris-key").display());
    let variables = [
        ("FAILOVER_CONTROLLER", format!("http://{address}")),
        ("FAILOVER_VANTAGE", "paris".to_owned()),
        ("FAILOVER_VANTAGE_KEY", key),
    ];
    paris.spawn(&stand, &["vantage"], &variables);
    stand.start(&["--vantage-listen", &address, "--vantage-insecure"]);
    until("the check is green", || item(&stand).0 == "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_used_after_a_signal() {
    let mut stand = Stand::new().await;
    let mut paris = Paris::of(&stand, "");
    paris.controller(&mut stand, "\"shop\"");
    paris.renew(&stand);
    paris.observe(&stand, &[]);
    let told = paris.until_told("away", 1);
    assert!(
        told["reason"].as_str().unwrap().contains("certificate"),
        "{told}"
    );
    // A broken file changes nothing.
    let chain = fs::read(stand.path("chain.pem")).unwrap();
    stand.file("chain.pem", "no certificate");
    stand.signal(Signal::SIGHUP);
    until("the broken file is told", || stand.log().contains("FO-083"));
    fs::write(stand.path("chain.pem"), chain).unwrap();
    stand.signal(Signal::SIGHUP);
    paris.until_told("assigned", 1);
}
