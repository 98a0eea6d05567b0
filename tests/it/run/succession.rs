//! A controller that was frozen, and wakes up when another one leads.

use std::{fs, thread::sleep, time::Duration};

use super::{Signal, Stand, refused, text, until};

/// Longer than a word of the store is believed.
const FROZEN: Duration = Duration::from_secs(11);

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_controller_that_was_taken_over_does_nothing_when_it_wakes() {
    let mut stand = Stand::new().await;
    fs::create_dir(stand.path("copy")).unwrap();
    let url = format!("file://{}", stand.path("copy").display());
    let flags = ["--journal-copy", &url];
    stand.start(&flags);

    // It freezes in the middle of a failover: the fence is under way, the promotion comes next.
    fs::remove_file(stand.path("go")).unwrap();
    let ask = ["failover", "shop", "--yes", "--reason", "east is on fire"];
    let asked = stand.cli_as("ann", &ask);
    assert!(asked.status.success(), "{}", text(&asked));
    let question = stand.question().unwrap();
    for person in ["ben", "cleo"] {
        let approved = stand.cli_as(person, &["approve", &question]);
        assert!(approved.status.success(), "{}", text(&approved));
    }
    until("it fences", || stand.effects() == "stop");
    while !is_copied(&stand).await {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stand.signal(Signal::SIGSTOP);

    let takeover = [
        "takeover", "--from", &url, "--reason", "it hangs", "--by", "ann", "--yes",
    ];
    let mut elsewhere = stand.command(&takeover);
    let taken = elsewhere
        .env("FAILOVER_STATE", stand.path("elsewhere"))
        .output()
        .unwrap();
    assert!(taken.status.success(), "{}", text(&taken));
    stand.file("go", "");
    sleep(FROZEN);
    stand.signal(Signal::SIGCONT);

    assert_eq!(stand.ended().code(), Some(3), "{}", stand.log());
    assert!(stand.log().contains("error[FO-089]"), "{}", stand.log());
    assert!(stand.log().contains("taken over by ann"), "{}", stand.log());
    assert_eq!(stand.effects(), "stop", "nothing more was done");

    // Nor does it begin again, whatever its service manager thinks.
    let documents = stand.documents();
    let run = ["run", "-f", documents.to_str().unwrap(), flags[0], flags[1]];
    refused(&stand.cli(&run), 3, "FO-089", &["it hangs"]);
    assert_eq!(stand.effects(), "stop");
}

async fn is_copied(stand: &Stand) -> bool {
    let (_, figures) = stand.figures("/metrics").await;
    let lag = "failover_journal_copy_lag_records{chain=\"shop\"} ";
    let found = figures.lines().find_map(|line| line.strip_prefix(lag));
    found.is_some_and(|records| records.starts_with('0'))
}
