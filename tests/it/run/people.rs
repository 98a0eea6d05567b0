//! Commands of people to a controller that runs: who may, who may not, and what comes of it.

use super::{Command, Signal, Stand, Stdio, TOKENS, refused, text, until};
use std::io::{Read, Write};

/// Ann asks for a failover; the id of the question that it becomes.
fn asked(stand: &Stand) -> String {
    let args = ["failover", "shop", "--yes", "--reason", "east is on fire"];
    let output = stand.cli_as("ann", &args);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(
        text(&output).contains("must be approved first"),
        "{}",
        text(&output)
    );
    stand.question().unwrap()
}

/// The id of the run that is open or was last.
fn run(stand: &Stand) -> Option<(String, Option<String>)> {
    let status = stand.json(&["status"]);
    let run = &status["services"][0]["run"];
    let id = run["id"].as_str()?.to_owned();
    Some((id, run["outcome"].as_str().map(ToOwned::to_owned)))
}

fn ends(stand: &Stand, outcome: &str) -> String {
    until(&format!("the run ends {outcome}"), || {
        stand.timeline().contains(&format!("run ended {outcome}"))
    });
    stand.timeline()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_are_two_tokens() {
    let stand = Stand::running().await;
    let ask = ["failover", "shop", "--yes", "--reason", "east is on fire"];
    refused(&stand.cli(&ask), 1, "FO-020", &["FAILOVER_TOKEN"]);
    let wrong = stand.cli_with("FAILOVER_TOKEN", "fot_nobodys", &ask);
    refused(&wrong, 1, "FO-021", &["shop"]);
    let other_plan = [&ask[..], &["--plan", "0000deadbeef"]].concat();
    refused(
        &stand.cli_as("ann", &other_plan),
        1,
        "FO-023",
        &["not 0000deadbeef"],
    );
    let unconfirmed = ["failover", "shop", "--reason", "x"];
    refused(
        &stand.cli_as("ann", &unconfirmed),
        1,
        "FO-024",
        &["nothing was done"],
    );
    assert_eq!(stand.question(), None);

    let id = asked(&stand);
    let approve = ["approve", &id];
    refused(
        &stand.cli_as("ann", &approve),
        1,
        "FO-023",
        &["cannot approve what ann asked for"],
    );
    let wrong = stand.cli_with("FAILOVER_TOKEN", "fot_nobodys", &approve);
    refused(&wrong, 1, "FO-021", &["shop"]);
    refused(
        &stand.cli_as("ben", &["approve", "shop-a9999"]),
        1,
        "FO-023",
        &["no question"],
    );
    let first = stand.cli_with("FAILOVER_TOKEN", TOKENS[1].1, &approve);
    assert!(
        text(&first).contains("another person must approve"),
        "{}",
        text(&first)
    );
    refused(
        &stand.cli_as("ben", &approve),
        1,
        "FO-023",
        &["ben has already approved"],
    );
    assert_eq!(stand.effects(), "", "one person is not two");
    let glass = ["approve", &id, "--break-glass", "--reason", "x"];
    refused(
        &stand.cli_as("cleo", &glass),
        1,
        "FO-023",
        &["may not break the glass"],
    );

    let watched = stand.cli_as("cleo", &["approve", &id, "--watch"]);
    assert_eq!(watched.status.code(), Some(0), "{}", text(&watched));
    assert!(
        text(&watched).contains("promote done"),
        "{}",
        text(&watched)
    );
    assert_eq!(stand.effects(), "stop promote");
    let timeline = ends(&stand, "done");
    for line in [
        "ben approved",
        "cleo approved",
        "epoch 2 belongs to west",
        "west serves",
    ] {
        assert!(timeline.contains(line), "{line:?}: {timeline}");
    }
    let overview = stand.shows(&["status"]);
    assert!(overview.contains("epoch 2"), "{overview}");

    let again = stand.cli_as("ann", &["ack", "shop"]);
    assert_eq!(again.status.code(), Some(0), "{}", text(&again));
    assert!(
        stand
            .timeline()
            .contains("ann acknowledged the last failover")
    );
    refused(
        &stand.cli_as("ann", &["ack", "shop-p9999"]),
        1,
        "FO-023",
        &["shop-p9999", "'failover status shop'"],
    );
    assert!(stand.cli(&["journal", "verify"]).status.success());
    assert_eq!(stand.leaks(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_say_no() {
    let stand = Stand::running().await;
    let id = asked(&stand);
    let denied = stand.cli_as("ben", &["deny", &id, "--reason", "a drill next door"]);
    assert_eq!(denied.status.code(), Some(0), "{}", text(&denied));
    assert_eq!(stand.question(), None);
    refused(
        &stand.cli_as("cleo", &["approve", &id]),
        1,
        "FO-023",
        &["no question"],
    );

    // The brake needs no token, and works with one that is out of date; letting it go needs a right one.
    let pause = ["pause", "--reason", "work on the network"];
    let pause = stand.cli_with("FAILOVER_TOKEN", "of last year", &pause);
    assert_eq!(pause.status.code(), Some(0), "{}", text(&pause));
    assert!(stand.shows(&["status"]).contains("paused     by local/"));
    refused(&stand.cli(&["resume"]), 1, "FO-020", &[]);
    let resume = stand.cli_as("ann", &["resume", "shop"]);
    assert_eq!(resume.status.code(), Some(0), "{}", text(&resume));
    refused(
        &stand.cli_as("ann", &["resume"]),
        1,
        "FO-023",
        &["it is not paused"],
    );

    let up = ["mode", "shop", "automatic", "--reason", "trust"];
    refused(&stand.cli_as("ann", &up), 1, "FO-023", &["not raised"]);
    let down = stand.cli_as("ann", &["mode", "shop", "observe", "--reason", "rest"]);
    assert_eq!(down.status.code(), Some(0), "{}", text(&down));
    let ask = ["failover", "shop", "--yes", "--reason", "x"];
    let words = ["observe mode", "'failover explain shop'"];
    refused(&stand.cli_as("ann", &ask), 1, "FO-023", &words);
    // Nobody is shown a plan, or a message, to confirm what is refused.
    let unconfirmed = stand.cli_as("ann", &["failover", "shop", "--reason", "x"]);
    refused(&unconfirmed, 1, "FO-023", &words);
    assert!(!text(&unconfirmed).contains("Forecast"));
    refused(
        &stand.cli_as("ann", &["abort", "shop-r1", "--reason", "x"]),
        1,
        "FO-023",
        &["not in progress"],
    );
    assert_eq!(stand.effects(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_aborted_before_its_promotion() {
    let stand = Stand::running().await;
    std::fs::remove_file(stand.path("go")).unwrap();
    let id = asked(&stand);
    stand.cli_as("ben", &["approve", &id]);
    stand.cli_as("cleo", &["approve", &id]);
    until("the fence runs", || stand.effects() == "stop");
    let (run, _) = run(&stand).unwrap();
    let status = stand.shows(&["status"]);
    assert!(status.contains("of the RTO left"), "{status}");
    let abort = stand.cli_as("ann", &["abort", &run, "--reason", "east is back"]);
    assert_eq!(abort.status.code(), Some(0), "{}", text(&abort));
    stand.file("go", "");
    let timeline = ends(&stand, "aborted");
    assert!(timeline.contains("the run goes back by ann"), "{timeline}");
    assert_eq!(stand.effects(), "stop", "nothing was promoted");
    assert!(!stand.path("stopped").exists(), "the fence was taken back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_never_loosens_a_run_in_flight() {
    let mut stand = Stand::running().await;
    std::fs::remove_file(stand.path("go")).unwrap();
    let id = asked(&stand);
    stand.cli_as("ben", &["approve", &id]);
    stand.cli_as("cleo", &["approve", &id]);
    until("the fence runs", || stand.effects() == "stop");
    // Without a fence of its own worth the name, without a verification, and one person is enough.
    let loose = stand
        .document()
        .replace("required: 2", "required: 1")
        .replace("  objectives: {rto: 5m", "  objectives: {rto: 9m");
    let fence = format!("perform: [\"{}\"]", stand.path("stop").display());
    let loose = loose.replace(&fence, "perform: [\"/bin/true\"]");
    assert!(loose.contains("/bin/true"));
    stand.write(&loose);
    stand.signal(Signal::SIGHUP);
    until("the documents are read again", || {
        stand.timeline().contains("the documents changed")
    });
    assert_eq!(
        stand.effects(),
        "stop",
        "the fence is still being waited for"
    );
    assert!(!stand.path("promoted").exists());
    stand.file("go", "");
    let timeline = ends(&stand, "done");
    assert_eq!(stand.effects(), "stop promote");
    let fenced = timeline.find("stop done").unwrap();
    assert!(
        fenced < timeline.find("promote done").unwrap(),
        "{timeline}"
    );
    assert!(timeline.contains("verify done"), "{timeline}");
    stand.signal(Signal::SIGTERM);
    assert_eq!(stand.ended().code(), Some(0));
    assert!(stand.cli(&["journal", "verify"]).status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_becomes_a_question() {
    let stand = Stand::running().await;
    stand.east_is_up(false);
    until("the outage is asked about", || stand.question().is_some());
    let overview = stand.shows(&["status"]);
    let id = stand.question().unwrap();
    assert!(
        overview.contains(&format!("failover approve {id}")),
        "{overview}"
    );
    let explained = stand.shows(&["explain", "shop"]);
    assert!(explained.contains("app: down"), "{explained}");
    let send = ["announce", "send", "shop", "correction", "--yes"];
    refused(&stand.cli_as("ann", &send), 1, "FO-023", &["--text"]);
    let told = [&send[..], &["--text", "Orders of 14:03 are safe."]].concat();
    let told = stand.cli_as("ann", &told);
    assert_eq!(told.status.code(), Some(0), "{}", text(&told));
    until("customers hear it", || {
        let seen = stand.customers.seen.lock().unwrap();
        seen.taken.iter().any(|m| m.to_string().contains("14:03"))
    });
    assert_eq!(stand.effects(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_at_the_token_prompt_leaves_the_terminal_as_it_was() {
    let stand = Stand::running().await;
    let socket = stand.path("state/control/failover.sock");
    let line = format!(
        "stty sane; {} resume shop --socket {}; echo status $?; stty -a",
        super::PROGRAM,
        socket.display()
    );
    let mut child = Command::new("script")
        .args(["-qefc", &line, "/dev/null"])
        .env("TERM", "dumb")
        .env_remove("FAILOVER_TOKEN")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut seen = Vec::new();
    let mut interrupted = false;
    let mut chunk = [0; 4096];
    loop {
        let n = output.read(&mut chunk).unwrap();
        if n == 0 {
            break;
        }
        seen.extend_from_slice(&chunk[..n]);
        let prompts = String::from_utf8_lossy(&seen).contains("Personal token: ");
        if prompts && !interrupted {
            interrupted = true;
            input.write_all(b"fot_half\x03").unwrap();
        }
    }
    child.wait().unwrap();
    let seen = String::from_utf8_lossy(&seen).into_owned();
    assert!(interrupted && seen.contains("status 1"), "{seen}");
    assert!(!seen.contains("fot_half"), "{seen}");
    let settings: Vec<_> = seen.split_whitespace().collect();
    for word in ["echo", "icanon", "isig"] {
        assert!(settings.contains(&word), "{word}: {seen}");
    }
}
