//! The demo as a newcomer runs it: what it says, what it ends with, and that nothing of it is left.

use std::{fs, time::Duration};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::stand::showing::{Showing, get};

/// The steps of the run with PostgreSQL.
const STEPS: [&str; 8] = [
    "stop-primary",
    "refuse-writers",
    "write-attempt",
    "promote",
    "repoint",
    "cutover",
    "verify",
    "fallback",
];

/// Plays a scenario to its end, which is to be the expected one.
fn play(scenario: &str) -> Value {
    play_with(scenario, &[]).0
}

/// The same with these further flags; with what was told.
fn play_with(scenario: &str, flags: &[&str]) -> (Value, String) {
    let showing = Showing::start(&[&["--scenario", scenario, "--output", "json"], flags].concat());
    let ended = showing.end();
    assert_eq!(ended.status, 0, "{}", ended.told);
    ended.leaves_nothing();
    quiet(&ended.told);
    let found: Value = serde_json::from_str(&ended.printed).unwrap();
    shape(&found);
    assert_eq!(found["scenario"], scenario);
    let database = found["database"].as_str();
    let is_without = flags.contains(&"--without-database");
    assert_eq!(
        database.is_some_and(|d| d.starts_with("PostgreSQL ")),
        !is_without
    );
    assert_eq!(found["journal_verified"], true);
    assert!(found["acknowledged_writes"].as_u64().unwrap() > 0);
    (found, ended.told)
}

/// Every field is there and is what it should be.
fn shape(found: &Value) {
    let number = |v: &Value| v.is_null() || v.as_f64().is_some_and(|n| n >= 0.0);
    for field in ["outcome", "scenario", "journal", "reason"] {
        assert!(found[field].is_string(), "{field}: {found}");
    }
    for field in [
        "downtime_s",
        "detection_s",
        "time_to_first_announcement_s",
        "lost_writes",
    ] {
        assert!(
            found.get(field).is_some_and(number),
            "{field} is a number or null: {found}"
        );
    }
    for field in ["database", "fallback_url"] {
        let value = &found[field];
        assert!(
            found.get(field).is_some() && (value.is_null() || value.is_string()),
            "{field}: {found}"
        );
    }
    for field in ["dns_before", "dns_after"] {
        let answers = found[field].as_array().unwrap();
        assert_eq!(answers.len(), 1, "{field}: {found}");
        assert!(answers[0].as_str().unwrap().starts_with("127."));
    }
    for channel in ["email", "telegram", "x"] {
        assert!(found["announcements"][channel].is_u64(), "{found}");
    }
    for step in found["steps"].as_array().unwrap() {
        assert!(
            step["id"].is_string() && step["outcome"].is_string(),
            "{step}"
        );
        assert!(
            step["expected_s"].as_f64().unwrap() > 0.0 && number(&step["took_s"]),
            "{step}"
        );
    }
    assert!(found["journal_verified"].is_boolean());
}

/// What libraries log of each query or packet is nothing that a newcomer should see.
fn quiet(told: &str) {
    for word in [" INFO ", " WARN ", " ERROR ", "hickory", "panicked"] {
        assert!(!told.contains(word), "{word}: {told}");
    }
}

fn outcomes(found: &Value) -> Vec<(&str, &str)> {
    let steps = found["steps"].as_array().unwrap().iter();
    steps
        .map(|s| (s["id"].as_str().unwrap(), s["outcome"].as_str().unwrap()))
        .collect()
}

fn reason(found: &Value) -> &str {
    found["reason"].as_str().unwrap()
}

/// A failover that cost no order, reached everybody, and was told with a URL that works.
fn failed_over(found: &Value) {
    assert_eq!(found["outcome"], "failedOver", "{found}");
    assert_eq!(found["lost_writes"], 0, "{found}");
    assert_eq!(found["standby_promoted"], true);
    assert_ne!(found["dns_before"], found["dns_after"]);
    let standby = found["dns_after"][0].as_str().unwrap();
    let url = found["fallback_url"].as_str().unwrap();
    assert!(url.starts_with(&format!("http://{standby}:")), "{url}");
    // Each mail and each post that names it; the posts before it was known do not.
    assert_eq!(
        found["announcements"],
        json!({"email": 25, "telegram": 2, "x": 2})
    );
    assert_eq!(
        found["fallback_checks"],
        json!({"messages": 27, "worked": 27})
    );
    let (detected, down) = (
        found["detection_s"].as_f64().unwrap(),
        found["downtime_s"].as_f64().unwrap(),
    );
    assert!(detected < down && down < 60.0, "{found}");
    let told = found["time_to_first_announcement_s"].as_f64().unwrap();
    assert!(detected < told, "{found}");
}

/// A question to a person, with everything left as it was.
fn asked(found: &Value) {
    assert_eq!(found["outcome"], "asked", "{found}");
    assert_eq!(found["standby_promoted"], false);
    assert_eq!(found["dns_before"], found["dns_after"]);
    assert_eq!(found["downtime_s"], Value::Null);
    assert_eq!(found["fallback_url"], Value::Null);
    assert_eq!(found["announcements"]["email"], 0);
}

/// A primary that cannot be proved dead: the fence stays unclear, nothing after it is begun, the primary is untouched.
fn unproved(found: &Value) {
    asked(found);
    let mut expected: Vec<_> = STEPS.iter().map(|step| (*step, "waiting")).collect();
    expected[0].1 = "unclear";
    assert_eq!(outcomes(found), expected);
    assert_eq!(found["lost_writes"], 0, "{found}");
    assert!(reason(found).contains("could not be proved"), "{found}");
    assert!(reason(found).contains("no guard stands beside"), "{found}");
}

#[test]
fn a_crash_ends_with_the_standby_serving_and_no_order_lost() {
    let found = play("crash");
    failed_over(&found);
    let mut expected: Vec<_> = STEPS.iter().map(|step| (*step, "done")).collect();
    // Nobody is left whose writes could be refused.
    expected[1].1 = "settled";
    assert_eq!(outcomes(&found), expected);
}

#[test]
fn a_primary_that_cannot_be_proved_dead_ends_in_a_question() {
    // Side by side: nearly all of it is waiting.
    std::thread::scope(|scope| {
        for scenario in ["freeze", "partition"] {
            scope.spawn(move || unproved(&play(scenario)));
        }
    });
}

#[test]
fn a_flapping_primary_goes_on_and_customers_hear_nothing() {
    let found = play("flapping");
    assert_eq!(found["outcome"], "stayed", "{found}");
    assert_eq!(found["lost_writes"], 0, "{found}");
    assert_eq!(found["standby_promoted"], false);
    assert_eq!(found["dns_before"], found["dns_after"]);
    assert_eq!(outcomes(&found), []);
    assert_eq!(
        found["announcements"],
        json!({"email": 0, "telegram": 0, "x": 0})
    );
    assert_eq!(found["time_to_first_announcement_s"], Value::Null);
    assert!(found["downtime_s"].as_f64().unwrap() > 0.0, "{found}");
}

#[test]
fn a_standby_that_lags_ends_in_a_question_with_the_loss_in_it() {
    let found = play("lagging");
    asked(&found);
    assert_eq!(outcomes(&found), []);
    assert!(reason(&found).contains("above the RPO of 3s"), "{found}");
    let forecast = found["loss_forecast"].as_str().unwrap();
    assert!(
        forecast.contains("bytes of log, the writes of at most"),
        "{found}"
    );
    // What the standby really lacks: 6 s of orders.
    let lacking = found["would_lose"].as_u64().unwrap();
    assert!(
        lacking > 0 && lacking < found["acknowledged_writes"].as_u64().unwrap(),
        "{found}"
    );
}

/// Nothing happened to production, and customers heard nothing.
fn untouched(found: &Value) {
    assert_eq!(found["lost_writes"], 0, "{found}");
    assert_eq!(found["standby_promoted"], false);
    assert_eq!(found["dns_before"], found["dns_after"]);
    assert_eq!(
        found["announcements"],
        json!({"email": 0, "telegram": 0, "x": 0})
    );
}

#[test]
fn a_drill_promotes_a_copy_of_the_standby_while_customers_order() {
    let kept = tempfile::tempdir().unwrap();
    let page = kept.path().join("drill.html");
    let page = page.to_str().unwrap();
    let (found, told) = play_with("drill", &["--report", page]);
    assert_eq!(found["outcome"], "drilled", "{found}");
    untouched(&found);
    let drill = &found["drill"];
    assert_eq!(drill["outcome"], "passed", "{drill}");
    assert_eq!(drill["depth"], "isolated");
    assert_eq!(drill["left"], json!([]));
    let steps: Vec<_> = (drill["steps"].as_array().unwrap().iter())
        .map(|s| (s["id"].as_str().unwrap(), s["result"].as_str().unwrap()))
        .collect();
    assert_eq!(
        steps,
        [("clone", "done"), ("promote", "done"), ("query", "done")]
    );
    assert!(drill["rpo"]["measured"].is_string(), "{drill}");
    // Orders went on all the time.
    assert!(found["downtime_s"].as_f64().unwrap() < 5.0, "{found}");
    assert_eq!(found["report"], page);
    let written = fs::read_to_string(page).unwrap();
    assert!(written.contains("<svg") && written.contains("Recovery time"));
    assert!(told.contains("# Drill copy of shop: passed"), "{told}");
    assert!(told.contains(page), "{told}");
}

#[test]
fn a_drill_without_a_database_is_one_on_paper_and_says_so() {
    let kept = tempfile::tempdir().unwrap();
    let report = kept.path().join("drill.md");
    let report = report.to_str().unwrap();
    let (found, told) = play_with("drill", &["--without-database", "--report", report]);
    assert_eq!(found["outcome"], "drilled", "{found}");
    untouched(&found);
    assert_eq!(found["drill"]["depth"], "paper");
    assert_eq!(found["drill"]["outcome"], "passed", "{found}");
    assert!(told.contains("on paper"), "{told}");
    let written = fs::read_to_string(report).unwrap();
    assert!(
        written.contains("# Drill paper of shop: passed"),
        "{written}"
    );
}

#[test]
fn a_switchover_moves_the_shop_in_order_and_loses_nothing() {
    let (found, told) = play_with("switchover", &[]);
    assert_eq!(found["outcome"], "switchedOver", "{found}");
    assert_eq!(found["lost_writes"], 0, "{found}");
    assert_eq!(found["standby_promoted"], true);
    assert_ne!(found["dns_before"], found["dns_after"]);
    let downtime = found["downtime_s"].as_f64().unwrap();
    assert!(downtime > 0.0 && downtime < 60.0, "{found}");
    // The site that was left follows the new one.
    let steps = [
        "drain",
        "stop-primary",
        "write-attempt",
        "promote",
        "repoint",
        "cutover",
        "verify",
        "follow",
    ];
    assert_eq!(outcomes(&found), steps.map(|step| (step, "done")));
    assert_eq!(found["detection_s"], Value::Null, "{found}");
    assert!(told.contains("the standby has its log up to"), "{told}");
}

#[test]
fn what_a_scenario_needs_is_said_before_anything_starts() {
    let nothing = tempfile::tempdir().unwrap();
    let folder = nothing.path().to_str().unwrap();
    let far = |name: &str| format!("{folder}/nobody/{name}");
    for (flags, status, said) in [
        (
            ["--scenario", "switchover", "--postgres", folder].as_slice(),
            1,
            "no PostgreSQL 13 or newer was found",
        ),
        (&["--postgres", folder], 1, "which --postgres names"),
        (&["--journal", &far("journal")], 1, "cannot write"),
        (&["--journal", folder], 1, "exists already"),
        (
            &["--scenario", "drill", "--report", &far("drill.html")],
            1,
            "cannot write",
        ),
        (
            &["--scenario", "switchover", "--without-database"],
            2,
            "leave --without-database out",
        ),
        (&["--report", "drill.html"], 2, "add --scenario drill"),
        (
            &["--scenario", "drill", "--report", "drill.pdf"],
            2,
            "told by the ending",
        ),
    ] {
        let ended = Showing::start(flags).end();
        assert_eq!(ended.status, status, "{}", ended.told);
        assert!(ended.told.contains(said), "{}", ended.told);
        assert_eq!(ended.printed, "");
    }
}

#[test]
fn without_postgresql_the_shop_alone_is_protected() {
    let ended = Showing::start(&["--without-database", "--output", "json"]).end();
    assert_eq!(ended.status, 0, "{}", ended.told);
    ended.leaves_nothing();
    quiet(&ended.told);
    assert!(
        ended.told.contains("none: the shop is stateless"),
        "{}",
        ended.told
    );
    let found: Value = serde_json::from_str(&ended.printed).unwrap();
    shape(&found);
    assert_eq!(found["database"], Value::Null);
    failed_over(&found);
    let done = [
        "stop-primary",
        "promote",
        "repoint",
        "cutover",
        "verify",
        "fallback",
    ];
    assert_eq!(outcomes(&found), done.map(|step| (step, "done")));
}

#[test]
fn who_does_not_have_root_sees_it_too_and_keeps_it_until_ctrl_c() {
    let mut showing = Showing::start_as_nobody(&["--keep", "--output", "json"]);
    showing.until_told("It goes on until Ctrl-C");
    let found: Value = serde_json::from_str(&showing.printed()).unwrap();
    shape(&found);
    failed_over(&found);
    let page = get(found["fallback_url"].as_str().unwrap());
    assert!(page.contains("The shop is open"), "{page}");
    let status = showing.fact("status page");
    assert!(get(&status).contains("standby site"), "{status}");
    let desk = showing.fact("desk");
    let desk = desk.split(',').next().unwrap();
    assert!(
        get(&format!("{desk}login")).contains("Personal token"),
        "{desk}"
    );
    showing.goes_on_for(Duration::from_secs(2));
    let ended = showing.stop(Signal::SIGINT);
    assert_eq!(ended.status, 0, "{}", ended.told);
    ended.leaves_nothing();
}

#[test]
fn ctrl_c_while_a_database_is_made_leaves_nothing() {
    for made in ["east/data/base", "west/data/base"] {
        let mut showing = Showing::start(&[]);
        showing.until_there(made);
        let ended = showing.stop(Signal::SIGINT);
        assert_eq!(ended.status, 130, "{}", ended.told);
        ended.leaves_nothing();
    }
}

#[test]
fn ctrl_c_before_the_outage_leaves_nothing() {
    let mut showing = Showing::start(&["--scenario", "lagging"]);
    showing.until_told("orders acknowledged so far");
    let ended = showing.stop(Signal::SIGINT);
    assert_eq!(ended.status, 130, "{}", ended.told);
    ended.leaves_nothing();
}

#[test]
fn ctrl_c_after_the_kill_leaves_nothing() {
    let mut showing = Showing::start(&[]);
    showing.until_told("The outage");
    let ended = showing.stop(Signal::SIGINT);
    assert_eq!(ended.status, 130, "{}", ended.told);
    ended.leaves_nothing();
}

#[test]
fn sigterm_while_the_primary_is_frozen_leaves_nothing() {
    let mut showing = Showing::start(&["--scenario", "freeze"]);
    showing.until_told("  incident ");
    let ended = showing.stop(Signal::SIGTERM);
    assert_eq!(ended.status, 143, "{}", ended.told);
    ended.leaves_nothing();
}
