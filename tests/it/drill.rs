//! Drills by the real binary: what is done, taken back, reported and kept in the journal.

mod client;
mod documents;
mod killed;
mod postgres;
mod scheduled;

use std::{fs, process::Output, thread::sleep, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::stand::controller::{Stand, text, until};

/// The service with a drill whose steps are programs.
fn exercised(stand: &Stand, settings: &str) -> String {
    let program = |name: &str| stand.path(name).display().to_string();
    stand.program(
        "clone",
        "case $FAILOVER_VERB in\nperform) echo clone >> drilled; while [ -e hold ]; do sleep 0.05; done; touch cloned;;\n\
         undo) echo unclone >> drilled; rm -f cloned;;\n*) [ -e cloned ];;\nesac",
    );
    stand.program(
        "rehearse",
        "case $FAILOVER_VERB in\nperform) echo rehearse >> drilled; [ ! -e broken ] && touch rehearsed;;\n\
         undo) echo unrehearse >> drilled; [ ! -e sticky ] && rm -f rehearsed;;\n*) [ -e rehearsed ];;\nesac",
    );
    // Steps that were never measured count as their time-outs.
    let service = stand.document().replacen("rto: 5m", "rto: 1h", 1);
    let service = service.replacen(
        "  runbook: move\n",
        &format!(
            "  runbook: move\n  drills:\n    - name: weekly\n      depth: isolated\n      runbook: rehearsal\n{settings}"
        ),
        1,
    );
    let step = |id: &str, rest: &str| {
        let path = program(id);
        format!(
            "    - {{id: {id}, uses: command/promote, runs: [drill], timeout: 20s, retry: {{attempts: 1}}{rest}, \
             with: {{perform: [\"{path}\"], observe: [\"{path}\"], undo: [\"{path}\"]}}}}\n"
        )
    };
    format!(
        "{service}---\napiVersion: failover.rs/v1alpha1\nkind: Runbook\nmetadata: {{name: rehearsal}}\nspec:\n  \
         title: Rehearsal\n  steps:\n{}{}",
        step("clone", ""),
        step("rehearse", ", needs: [clone]"),
    )
}

fn drilled(stand: &Stand) -> String {
    let text = fs::read_to_string(stand.path("drilled")).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn drill(stand: &Stand, more: &[&str]) -> Output {
    let drill = ["drill", "shop", "--reason", "a test"];
    stand.cli_as("ann", &[&drill, more].concat())
}

async fn running(settings: &str) -> Stand {
    let mut stand = Stand::new().await;
    stand.write(&exercised(&stand, settings));
    stand.start(&[]);
    stand
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_is_done_taken_back_and_reported() {
    let stand = running("").await;
    let page = stand.path("report.html");
    let output = drill(&stand, &["--report", page.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(drilled(&stand), "clone rehearse unrehearse unclone");
    assert_eq!(stand.effects(), "", "production was touched");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("# Drill weekly of shop: passed"), "{said}");

    let report = stand.json(&["report", "shop"]);
    assert_eq!(report["outcome"], "passed");
    assert_eq!(report["steps"][1]["result"], "done");
    assert!(report["sha256"].as_str().unwrap().len() == 64);
    let parts = report["rto"]["parts"].as_array().unwrap();
    let of = |name: &str| parts.iter().find(|p| p["part"] == name).unwrap();
    assert!(of("promote")["measured"].is_string(), "{report}");
    assert!(of("fence")["measured"].is_null(), "{report}");
    let left_out: Vec<_> = report["notExercised"].as_array().unwrap().iter().collect();
    assert!(left_out.iter().any(|s| s["id"] == "stop"), "{report}");

    let page = fs::read_to_string(page).unwrap();
    for part in [
        "<svg",
        "Recovery time",
        "Not exercised",
        "prefers-color-scheme",
        "@media print",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("http"), "the page needs nothing else");
    let junit = stand.shows(&["report", "shop", "--format", "junit"]);
    assert!(junit.contains("<testsuite name=\"shop-r"), "{junit}");
    assert!(junit.contains("failures=\"0\""), "{junit}");

    let plan = stand.shows(&["plan", "shop"]);
    let promote = plan.lines().find(|l| l.starts_with("  promote "));
    assert!(promote.unwrap().ends_with("measured in drills"), "{plan}");

    // The second one knows what to expect.
    assert_eq!(drill(&stand, &[]).status.code(), Some(0));
    let history = stand.json(&["history", "shop"]);
    assert_eq!(history["drills"].as_array().unwrap().len(), 2);
    assert!(
        history["drills"][1]["forecastError"].is_number(),
        "{history}"
    );
    let shown = stand.shows(&["history", "shop"]);
    assert!(shown.contains("weekly (isolated)"), "{shown}");
    let status = stand.json(&["status"]);
    let known = &status["services"][0]["drills"][0];
    assert_eq!(known["name"], "weekly");
    assert_eq!(known["last"]["outcome"], "passed");
    assert_eq!(status["services"][0]["active"], "east");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_that_fails_says_so_everywhere() {
    let stand = running("").await;
    stand.file("broken", "");
    let output = drill(&stand, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_eq!(drilled(&stand), "clone rehearse unrehearse unclone");
    let report = stand.json(&["report", "shop"]);
    assert_eq!(report["outcome"], "failed");
    let reason = report["reasons"][0].as_str().unwrap();
    assert!(
        reason.starts_with("step rehearse (Rehearse) failed"),
        "{reason}"
    );
    let junit = stand.shows(&["report", "shop", "--format", "junit"]);
    assert!(!junit.contains("failures=\"0\""), "{junit}");
    let paged = || stand.timeline().contains("drill weekly failed");
    until("the team is paged", paged);

    // What cannot be taken back is said, and paged.
    fs::remove_file(stand.path("broken")).unwrap();
    stand.file("sticky", "");
    assert_eq!(drill(&stand, &[]).status.code(), Some(1));
    let report = stand.json(&["report", "shop"]);
    assert_eq!(report["outcome"], "passed");
    let left = report["left"][0].as_str().unwrap();
    assert!(
        left.contains("step rehearse could not be taken back"),
        "{left}"
    );
    until("that is paged", || {
        stand.timeline().contains("left something behind")
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_breaks_a_drill_off_and_does_not_wait_for_it() {
    let stand = running("").await;
    stand.file("hold", "");
    let begun = drill(&stand, &["--detach"]);
    assert_eq!(begun.status.code(), Some(0), "{}", text(&begun));
    until("the clone is under way", || drilled(&stand) == "clone");
    // Documents that come anew meanwhile change nothing of that.
    let text = exercised(&stand, "").replace("title: The shop", "title: Our shop");
    stand.write(&text);
    until("the new documents are in force", || {
        stand.timeline().contains("documents")
    });
    stand.east_is_up(false);
    // The program still runs: nobody waits for it.
    until("it is broken off", || {
        stand
            .timeline()
            .contains("the drill was broken off: an outage began")
    });
    until("everything is taken back", || {
        drilled(&stand) == "clone unclone"
    });
    // Production has its own course meanwhile: here it gives the primary its patience.
    let explained = stand.json(&["explain", "shop"]);
    assert!(explained["incident"].is_string(), "{explained}");
    until("it is closed", || {
        stand.timeline().contains("nothing of the drill is left")
    });
    fs::remove_file(stand.path("hold")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_outlives_its_controller() {
    let mut stand = running("").await;
    stand.file("hold", "");
    assert_eq!(drill(&stand, &["--detach"]).status.code(), Some(0));
    until("the clone is under way", || drilled(&stand) == "clone");
    stand.signal(Signal::SIGKILL);
    stand.ended();
    fs::remove_file(stand.path("hold")).unwrap();
    sleep(Duration::from_millis(200));
    stand.start(&[]);
    until("it is closed", || {
        stand.timeline().contains("nothing of the drill is left")
    });
    let report: Value = stand.json(&["report", "shop"]);
    assert_eq!(report["outcome"], "passed", "{report}");
    assert!(!stand.path("cloned").exists() && !stand.path("rehearsed").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_drill_left_that_no_journal_knows_is_removed_at_the_start() {
    let mut stand = Stand::new().await;
    let clones = stand.path("clones");
    let user = nix::unistd::geteuid();
    let of = |service: &str| clones.join(format!("failover-drill-{user}-{service}"));
    let (left, other) = (of("shop").join("shop-r99"), of("desk").join("desk-r1"));
    for folder in [&left, &other] {
        fs::create_dir_all(folder.join("data")).unwrap();
        fs::write(folder.join("data/PG_VERSION"), "15\n").unwrap();
    }
    let drill = format!(
        "  runbook: move\n  drills:\n    - name: monthly\n      depth: isolated\n      runbook: postgres-drill\n      \
         steps:\n        clone: {{with: {{connection: host=127.0.0.1 user=drill, folder: \"{}\"}}}}\n        \
         query: {{with: {{queries: [{{name: orders, sql: select 1}}]}}}}\n",
        clones.display(),
    );
    stand.write(&stand.document().replacen("  runbook: move\n", &drill, 1));
    stand.start(&[]);
    until("it is removed", || !of("shop").exists());
    assert!(other.join("data/PG_VERSION").exists(), "another service's");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_way_of_a_drill_is_said() {
    let stand = running("").await;
    let paper = stand.cli_as("ann", &["drill", "shop", "--name", "paper"]);
    assert_eq!(paper.status.code(), Some(1), "{}", text(&paper));
    let said = String::from_utf8_lossy(&paper.stdout).into_owned();
    assert!(said.contains("`failover check shop` was not run"), "{said}");
    let unknown = stand.cli_as("ann", &["drill", "shop", "--name", "daily"]);
    assert!(
        text(&unknown).contains("known are weekly, paper"),
        "{}",
        text(&unknown)
    );
    assert_eq!(
        stand
            .cli_as("ann", &["pause", "shop", "--reason", "sale"])
            .status
            .code(),
        Some(0)
    );
    let blocked = drill(&stand, &[]);
    assert_eq!(blocked.status.code(), Some(1));
    assert!(
        text(&blocked).contains("ann paused it: sale"),
        "{}",
        text(&blocked)
    );
    assert_eq!(drilled(&stand), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_lead_to_a_failover_is_injected_and_reported() {
    // The documents' patience outlasts the one and not the other: the RTO is an hour, the patience two minutes.
    let faults = "      inject: [{vantageBlind: {vantage: there}}, {stall: {for: 10s}}, {stall: {for: 4m}}]\n";
    let stand = running(faults).await;
    let output = drill(&stand, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_eq!(drilled(&stand), "clone rehearse unrehearse unclone");
    assert_eq!(stand.effects(), "", "production was touched");
    let report = stand.json(&["report", "shop"]);
    assert_eq!(report["outcome"], "failed");
    let injected = report["injected"].as_array().unwrap();
    assert!(injected[0]["wrong"].is_null(), "{report:#}");
    assert!(injected[1]["wrong"].is_null(), "{report:#}");
    assert_eq!(injected[1]["verdicts"][0]["component"], "app");
    let wrong = injected[2]["wrong"].as_str().unwrap();
    assert!(
        wrong.starts_with("a failover to west was asked for"),
        "{wrong}"
    );
    let reason = report["reasons"][0].as_str().unwrap();
    assert_eq!(
        reason,
        format!("everything that serves stalls for 4m: {wrong}")
    );
    let junit = stand.shows(&["report", "shop", "--format", "junit"]);
    assert!(
        junit.contains("no failover: vantage point there is blind for 5m"),
        "{junit}"
    );
    assert!(junit.contains("failures=\"2\""), "{junit}");
    for format in ["html", "markdown"] {
        let told = stand.shows(&["report", "shop", "--format", format]);
        for part in ["What must not lead to a failover", "as it should", "wrong"] {
            assert!(told.contains(part), "{format}: {part}");
        }
    }
    // Production heard nothing of it.
    let explained = stand.json(&["explain", "shop"]);
    assert!(explained["incident"].is_null(), "{explained}");
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_of_drills_are_checked() {
    let stand = Stand::new().await;
    let wrong = "      schedule: {cron: \"0 3 31 2 *\", timeZone: Europe/Berlin}\n";
    let text_of = |document: String| {
        stand.write(&document);
        let documents = stand.documents();
        let output = stand.cli(&["validate", documents.to_str().unwrap()]);
        assert_ne!(output.status.code(), Some(0), "{}", text(&output));
        text(&output)
    };
    let said = text_of(exercised(&stand, wrong));
    assert!(said.contains("`0 3 31 2 *` never comes true"), "{said}");
    let zone = "      schedule: {cron: \"0 3 * * 6\", timeZone: Europe/Berlinn}\n";
    let said = text_of(exercised(&stand, zone));
    assert!(said.contains("no time zone `Europe/Berlinn`"), "{said}");
    let unfit = exercised(&stand, "").replace("runbook: rehearsal", "runbook: move");
    let said = text_of(unfit);
    assert!(said.contains("`move` has no step for a drill"), "{said}");
    let dns = exercised(&stand, "").replacen(
        "uses: command/promote, runs: [drill]",
        "uses: dns/repoint, runs: [drill]",
        1,
    );
    let said = text_of(dns);
    assert!(said.contains("which acts on production"), "{said}");
    let unknown = "      inject: [{vantageBlind: {vantage: nowhere}}, {stall: {component: ap}}]\n";
    let said = text_of(exercised(&stand, unknown));
    assert!(
        said.contains("there is no vantage point `nowhere`"),
        "{said}"
    );
    assert!(said.contains("there is no component `ap`"), "{said}");
    let many = format!("      inject: [{}]\n", ["{stall: {for: 5s}}"; 9].join(", "));
    let said = text_of(exercised(&stand, &many));
    assert!(said.contains("9 faults are injected"), "{said}");
    let endless = "      inject: [{stall: {for: 1h}}, {standbyLag: {by: 5m}}]\n";
    let said = text_of(exercised(&stand, endless));
    assert!(said.contains("a fault cannot last 1h"), "{said}");
    assert!(said.contains("no component is a database"), "{said}");
}
