//! A drill that begins by its schedule, beside a busy primary: nobody's write is lost or refused, and nothing is left.
//! How much slower writes are meanwhile is measured by `tests/bench/drill.rs`.

use std::{fs, os::unix::fs::PermissionsExt, time::SystemTime};

use failover::model::time::Time;
use jiff::{Timestamp, tz::TimeZone};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::{
    client::{Client, lost, p99},
    documents::documents,
    postgres::nothing_is_left,
};
use crate::stand::{
    controller::{Stand, until},
    postgres::Pair,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_drill_loses_no_write_of_a_busy_primary() {
    let pair = Pair::start();
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let client = Client::start(&pair.primary);
    let mut stand = Stand::new().await;
    // Due since this minute, and then tomorrow again.
    let due = Timestamp::now().to_zoned(TimeZone::UTC);
    let cron = format!("cron: \"{} {} * * *\"", due.minute(), due.hour());
    let text = documents(&stand, &pair, &folder)
        .replace("cron: \"0 3 1 * *\"", &cron)
        .replace("timeZone: Africa/Johannesburg", "timeZone: UTC")
        .replace("jitter: 30m", "grace: 30m");
    stand.write(&text);
    stand.start(&[]);
    until("its time comes, and it goes", || {
        stand.timeline().contains("nothing of the drill is left")
    });
    // It is closed by the record after that.
    until("it is closed", || {
        stand.json(&["report", "shop"])["closed"].is_string()
    });
    let report = stand.json(&["report", "shop"]);
    stand.signal(Signal::SIGTERM);
    stand.ended();
    let writes = client.end().await;
    assert_eq!(report["outcome"], "passed", "{report:#}");
    assert!(report["requester"].is_null(), "{report:#}");
    assert_eq!(report["reason"], "its schedule", "{report:#}");

    nothing_is_left(folder.path());
    let moment = |name: &str| -> SystemTime {
        let at = Time::parse(report[name].as_str().unwrap()).unwrap();
        let ms = u64::try_from(at.as_millis()).unwrap();
        SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(ms)
    };
    let (began, closed) = (moment("began"), moment("closed"));
    let (during, besides): (Vec<_>, Vec<_>) = writes
        .iter()
        .partition(|w| (began..=closed).contains(&w.at));
    assert!(during.len() > 100, "{} writes meanwhile", during.len());
    pair.settle();
    assert_eq!(lost(&writes, &pair.primary), 0);
    assert_eq!(lost(&writes, &pair.standby), 0);
    let (with, without) = (p99(during.into_iter()), p99(besides.into_iter()));
    say(&format!(
        "{} writes, none lost; the 99th percentile {with:.2} ms with the drill, {without:.2} ms without",
        writes.len()
    ));
}

#[expect(clippy::print_stdout, reason = "the figure is worth seeing")]
fn say(text: &str) {
    println!("{text}");
}
