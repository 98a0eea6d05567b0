//! The real binary: what it prints and how it ends, alone and against a controller that runs.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::stand::{
    controller::{PROGRAM, Stand, TOKENS, text, until},
    json_schema,
};

mod alone;
mod people;
mod succession;
mod unsubscribe;

/// What a command said when it was refused: nothing on standard output, and this code and these words.
fn refused(output: &std::process::Output, status: i32, code: &str, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{}", text(output));
    assert!(output.stdout.is_empty(), "{}", text(output));
    assert!(said.contains(&format!("error[{code}]: ")), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is missing in: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_controller_shows_itself() {
    let stand = Stand::running().await;

    let status = stand.json(&["status"]);
    let shop = &status["services"][0];
    assert_eq!(shop["service"], "shop");
    assert_eq!(shop["mode"], "ask");
    assert_eq!(shop["components"][0]["verdict"], "healthy");
    let overview = stand.shows(&["status", "shop"]);
    assert!(overview.contains("mode       ask, epoch 1"), "{overview}");
    assert!(overview.contains("app        healthy"), "{overview}");

    let explained = stand.json(&["explain", "shop"]);
    let modes = stand.shows(&["help", "modes"]);
    for gate in explained["gates"].as_array().unwrap() {
        let name = gate["gate"].as_str().unwrap();
        let listed = format!("\n  {name} ");
        assert!(
            modes.contains(&listed),
            "'help modes' does not know the gate {name}"
        );
    }
    let explained = stand.shows(&["explain", "shop"]);
    for part in [
        "What is seen",
        "app-east",
        "What the gates say",
        "the mode is ask",
    ] {
        assert!(explained.contains(part), "{part:?}: {explained}");
    }

    let plan = stand.json(&["plan", "shop"]);
    let steps: Vec<_> = plan["plan"]["steps"].as_array().unwrap().iter().collect();
    let ids: Vec<_> = steps.iter().map(|s| s["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["stop", "promote", "repoint", "cutover", "verify"]);
    let shown = stand.shows(&["plan", "shop"]);
    assert!(shown.contains(plan["hash"].as_str().unwrap()), "{shown}");
    assert!(shown.contains("BEYOND the RTO of 5m"), "{shown}");
    let documents = stand.documents();
    let alone = stand.json(&["plan", "shop", "-f", documents.to_str().unwrap()]);
    assert_eq!(alone["hash"], plan["hash"]);

    let preview = stand.json(&["announce", "preview", "shop", "--phase", "on-standby"]);
    let message = &preview["messages"][0];
    assert_eq!(message["channel"], "hook");
    let preview = stand.shows(&["announce", "preview", "shop"]);
    assert_eq!(preview.matches("== ").count(), 4, "{preview}");
    assert!(preview.contains("Orders cannot be placed."), "{preview}");

    refused(
        &stand.cli(&["explain", "shopp"]),
        1,
        "FO-003",
        &["known are shop"],
    );
    refused(
        &stand.cli(&["plan", "shop", "--to", "nowhere"]),
        1,
        "FO-050",
        &["there is no site nowhere; known are "],
    );
    assert!(stand.customers.seen.lock().unwrap().taken.is_empty());
    assert_eq!(stand.leaks(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_is_read_while_it_is_written() {
    let stand = Stand::running().await;
    let timeline = stand.timeline();
    assert!(
        timeline.contains("takes up the service, mode ask"),
        "{timeline}"
    );
    let last = stand.shows(&["timeline", "shop", "--last", "1"]);
    assert_eq!(last.lines().count(), 1, "{last}");
    let lines = stand.shows(&["timeline", "shop", "-o", "json"]);
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["text"].is_string() && line["seq"].is_u64(), "{line}");
    }
    let shown = stand.shows(&["journal", "show", "shop", "-o", "json"]);
    let records: Vec<Value> = shown
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let seqs: Vec<_> = records.iter().map(|r| r["seq"].as_u64().unwrap()).collect();
    assert!(seqs.iter().zip(1..).all(|(seq, n)| *seq == n), "{seqs:?}");
    let from = stand.shows(&["journal", "show", "shop", "--from", "2"]);
    assert!(
        from.lines()
            .next()
            .unwrap()
            .trim_start()
            .starts_with("2  e1"),
        "{from}"
    );

    let export = stand.path("journal.jsonl");
    let to = export.to_str().unwrap();
    stand.shows(&["journal", "export", "--to", to]);
    refused(
        &stand.cli(&["journal", "export", "--to", to]),
        1,
        "FO-036",
        &[to],
    );
    let verified = stand.shows(&["journal", "verify", "--from", to]);
    assert!(verified.contains("shop"), "{verified}");
    assert!(
        stand
            .cli(&["journal", "verify", "-o", "json"])
            .status
            .success()
    );
    let whole = fs::read_to_string(&export).unwrap();
    let forged = whole.replacen("\"ask\"", "\"automatic\"", 1);
    assert_ne!(forged, whole);
    fs::write(&export, forged).unwrap();
    let broken = stand.cli(&["journal", "verify", "--from", to]);
    assert_eq!(broken.status.code(), Some(1), "{}", text(&broken));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_controller_and_its_owner_alone() {
    let stand = Stand::running().await;
    let mode = |name: &str| fs::metadata(stand.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("state"), 0o700);
    assert_eq!(mode("state/control"), 0o700);
    assert_eq!(mode("state/control/failover.sock"), 0o600);
    let documents = stand.documents();
    let second = [
        "run",
        "-f",
        documents.to_str().unwrap(),
        "--listen",
        "off",
        "--metrics",
        "off",
    ];
    refused(
        &stand.cli(&second),
        1,
        "FO-013",
        &["a controller runs already"],
    );
    let socket = stand.path("other/failover.sock");
    let other = [&second[..], &["--socket", socket.to_str().unwrap()]].concat();
    refused(&stand.cli(&other), 1, "FO-031", &[]);
    assert!(
        stand.cli(&["status"]).status.success(),
        "the first one goes on"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_are_what_prometheus_reads() {
    let stand = Stand::running().await;
    assert_eq!(stand.figures("/healthz").await, (200, "ok\n".to_owned()));
    let (status, why) = stand.figures("/readyz").await;
    assert!(
        status == 200 || (status == 503 && !why.is_empty()),
        "{status} {why}"
    );
    let (status, text) = stand.figures("/metrics").await;
    assert_eq!(status, 200);
    assert!(text.ends_with("# EOF\n"), "{text}");
    let mut types = std::collections::BTreeMap::new();
    let mut samples = 0;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(types.insert(name, kind).is_none(), "{name} has two types");
            continue;
        }
        if line.starts_with('#') {
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let name = series.split('{').next().unwrap();
        assert!(
            types.keys().any(|t| name.starts_with(t)),
            "{name} has no type"
        );
        assert!(
            name.starts_with("failover_") || name.starts_with("process_"),
            "{name}"
        );
        if let Some(labels) = series.strip_prefix(name).filter(|l| !l.is_empty()) {
            assert!(labels.starts_with('{') && labels.ends_with('}'), "{line}");
        }
        samples += 1;
    }
    assert!(samples > 10, "{text}");
    assert!(text.contains("service=\"shop\""), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journals_copy_is_watched() {
    let mut stand = Stand::new().await;
    let copy = stand.path("copy");
    std::fs::create_dir(&copy).unwrap();
    let url = format!("file://{}", copy.display());
    stand.start(&["--journal-copy", &url]);
    until("the copy holds the chain", || copy.join("shop").exists());
    let (_, figures) = stand.figures("/metrics").await;
    let lag = "failover_journal_copy_lag_records{chain=\"shop\"} ";
    assert!(figures.contains(lag), "{figures}");
    let checked = text(&stand.cli(&["check", "shop"]));
    for item in ["journal/copy ", "journal/copy-lag "] {
        assert!(checked.contains(item), "{item}: {checked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_never_made_where_its_disk_may_be_missing() {
    let stand = Stand::new().await;
    let (disk, state) = (stand.path("disk"), stand.path("elsewhere"));
    let url = format!("file://{}/copy", disk.display());
    let ended = |args: &[&str]| {
        let mut command = stand.command(args);
        command.env("FAILOVER_STATE", &state).output().unwrap()
    };
    let words = [disk.to_str().unwrap(), "mount its disk"];
    let takeover = ended(&["takeover", "--from", &url, "--reason", "it burnt", "--yes"]);
    refused(&takeover, 1, "FO-039", &words);
    assert!(!state.exists());
    let documents = stand.documents();
    let run = [
        "run",
        "-f",
        documents.to_str().unwrap(),
        "--journal-copy",
        &url,
    ];
    refused(&ended(&run), 1, "FO-082", &words);
    assert!(!disk.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_journal_is_restored_from_its_copy() {
    let mut stand = Stand::new().await;
    std::fs::create_dir(stand.path("copy")).unwrap();
    let url = format!("file://{}", stand.path("copy").display());
    stand.start(&["--journal-copy", &url]);
    until("the copy holds the chain", || {
        stand.path("copy/shop").exists()
    });
    stand.signal(Signal::SIGTERM);
    assert_eq!(stand.ended().code(), Some(0), "{}", stand.log());
    let before = stand.timeline();
    let restore = ["journal", "restore", "--from", &url, "--yes"];
    refused(&stand.cli(&restore), 1, "FO-039", &["is there already"]);
    let unconfirmed = stand.cli(&["journal", "restore", "--from", &url]);
    refused(&unconfirmed, 1, "FO-024", &[]);

    let journal = stand.path("state/journal.sqlite");
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{end}", journal.display()));
    }
    let restored = stand.cli(&restore);
    assert!(restored.status.success(), "{}", text(&restored));
    assert!(
        text(&restored).contains("shop: whole"),
        "{}",
        text(&restored)
    );
    let after = stand.timeline();
    assert!(!after.is_empty() && before.starts_with(&after), "{after}");

    // A copy that nobody took over leads nothing.
    let documents = stand.documents();
    let unadopted = stand.cli(&["run", "-f", documents.to_str().unwrap()]);
    refused(&unadopted, 1, "FO-088", &["takeover"]);
    let takeover = ["takeover", "--reason", "a fire", "--by", "ann"];
    refused(&stand.cli(&takeover), 1, "FO-024", &[]);
    let taken = stand.cli(&[&takeover[..], &["--yes"]].concat());
    assert!(taken.status.success(), "{}", text(&taken));
    stand.start(&["--journal-copy", &url]);
    assert!(stand.cli(&["journal", "verify"]).status.success());
    let timeline = stand.timeline();
    assert!(
        timeline.contains("epoch 2: ann had this controller take over: a fire"),
        "{timeline}"
    );
    until("the team is paged", || {
        let shown = stand.json(&["explain", "shop"]);
        shown["pages"].to_string().contains("took over")
    });
    assert!(stand.cli_as("ann", &["ack", "shop"]).status.success());
    until("it is acknowledged", || {
        let shown = stand.json(&["explain", "shop"]);
        !shown["pages"].to_string().contains("took over")
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_cleanly_and_goes_on_where_it_stopped() {
    let mut stand = Stand::new().await;
    stand.start(&["--log-format", "json", "--log", "debug", "--output", "json"]);
    stand.signal(Signal::SIGTERM);
    assert_eq!(stand.ended().code(), Some(0), "{}", stand.log());
    assert!(!stand.path("state/control/failover.sock").exists());
    for line in stand.log().lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(
            line["level"].is_string() && line["timestamp"].is_string(),
            "{line}"
        );
    }
    assert!(
        stand.log().contains("protecting shop (ask)"),
        "{}",
        stand.log()
    );
    for line in stand.printed().lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert_eq!(line["service"], "shop");
    }
    assert!(stand.cli(&["journal", "verify"]).status.success());
    refused(
        &stand.cli(&["status"]),
        1,
        "FO-012",
        &["failover run -f DIR"],
    );
    let before = stand.timeline().lines().count();

    stand.start(&[]);
    assert!(stand.timeline().lines().count() > before);
    stand.signal(Signal::SIGINT);
    assert_eq!(stand.ended().code(), Some(0), "{}", stand.log());
    assert!(stand.cli(&["journal", "verify"]).status.success());
    assert_eq!(stand.leaks(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_documents_are_taken_and_broken_ones_are_not() {
    let mut stand = Stand::new().await;
    stand.start(&["--log-format", "json"]);
    let rto = |stand: &Stand| stand.json(&["plan", "shop"])["rto"].clone();
    let before = rto(&stand);
    let document = stand.document();

    // By itself, when the file changes.
    stand.write(&document.replace("rto: 5m", "rto: 6m"));
    until("the changed document is used", || rto(&stand) != before);
    assert!(stand.timeline().contains("the documents changed"));

    // A broken one changes nothing, and says so.
    let after = rto(&stand);
    stand.write(&document.replace("rto: 5m", "rto: 7 parsecs"));
    until("the broken document is told", || {
        stand.log().contains("the old ones stay in force")
    });
    assert!(stand.log().contains("shop.yaml:7"), "{}", stand.log());
    assert_eq!(rto(&stand), after);
    let (_, text) = stand.figures("/metrics").await;
    assert!(text.contains("documents"), "{text}");

    // By SIGHUP, where the change itself is not seen: here the file lies elsewhere.
    let elsewhere = stand.path("elsewhere.yaml");
    fs::write(&elsewhere, &document).unwrap();
    let link = stand.documents().join("shop.yaml");
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
    until("the linked document is used", || rto(&stand) == before);
    fs::write(&elsewhere, document.replace("rto: 5m", "rto: 8m")).unwrap();
    stand.signal(Signal::SIGHUP);
    until("SIGHUP is heard", || rto(&stand) != before);
    stand.signal(Signal::SIGTERM);
    assert_eq!(stand.ended().code(), Some(0));
}
