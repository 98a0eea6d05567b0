//! How long it takes to bring the old primary's data into line after a crash: a database of 1 GB with 1 % diverged, by the
//! step of a failback that has its guard keep what only it has, run `pg_rewind` and follow; against the floor of the same
//! run, `pg_rewind` alone, by hand, on a copy of the same data directory.
//!
//! `cargo bench --bench failback` prints a table, and the same figures as one line of JSON; `-- --megabytes 100` takes a
//! smaller database, `-- --percent 5` has more of it diverge. It needs root, PostgreSQL 15 and nftables, and three times
//! the database's size on the disk of temporary files.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on should say where"
)]
#![expect(clippy::print_stdout, reason = "the figures are the output")]

use std::{
    env, fs,
    os::unix::process::CommandExt,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use failover::model::time::Time;
use nix::unistd::User;
use serde_json::{Value, json};

mod guarded;

use guarded::{
    apart,
    shop::{Shop, Wanted},
    stand,
};

/// Size of the table, and how much of it the old primary changed that nobody else has.
const MEGABYTES: u64 = 1024;
const PERCENT: u64 = 1;
/// Rows of a megabyte.
const ROWS: u64 = 1000;
const BIN: &str = "/usr/lib/postgresql/15/bin";
/// How long anything may take.
const LONGEST: Duration = Duration::from_mins(15);

fn main() {
    let args: Vec<String> = env::args().collect();
    let after = |flag: &str, usual: u64| {
        let at = args.iter().position(|a| a == flag);
        at.map_or(usual, |at| args[at + 1].parse().unwrap())
    };
    let (megabytes, percent) = (after("--megabytes", MEGABYTES), after("--percent", PERCENT));
    let (floor, ours) = apart(move || measured(megabytes, percent));
    let ratio = ours / floor;
    for (what, figure) in [
        ("database, MB", megabytes.to_string()),
        ("diverged, %", percent.to_string()),
        ("floor: pg_rewind by hand, s", format!("{floor:.2}")),
        (
            "step return: kept, wound back, following, s",
            format!("{ours:.2}"),
        ),
        ("of the floor", format!("{ratio:.2}")),
    ] {
        println!("{what:<46} {figure:>10}");
    }
    println!(
        "{}",
        json!({
            "megabytes": megabytes,
            "percent": percent,
            "floor_s": floor,
            "return_s": ours,
            "ratio": ratio,
        })
    );
}

/// Seconds of the floor, and of the product's step.
fn measured(megabytes: u64, percent: u64) -> (f64, f64) {
    let mut shop = Shop::open(&Wanted {
        automatic: false,
        every: "200ms",
        lease: "5s",
        failures: 25,
        ..Wanted::default()
    });
    shop.until_ready();
    diverge(&shop, megabytes * ROWS, percent);
    shop.hosts.a.lose();
    shop.approve();
    wait("the other site serves", || {
        closed(&shop).last().is_some_and(|c| c["outcome"] == "done")
    });
    assert!(shop.act(&["ack", "shop"]));
    let standby = &shop.hosts.b.cluster;
    standby.sql("ALTER SYSTEM RESET primary_conninfo");
    standby.sql("SELECT pg_reload_conf()");
    let floor = by_hand(&shop);

    shop.hosts.a.start();
    wait("a failback is begun", || {
        shop.act(&["failback", "shop", "--reason", "a benchmark", "--yes"])
    });
    wait("it is over", || {
        let status = shop.json(&["explain", "shop"]);
        if let Some(id) = status["asks"][0]["id"].as_str() {
            shop.act(&["approve", id, "--reason", "a benchmark"]);
        }
        closed(&shop).len() > 1
    });
    let ended = closed(&shop);
    assert_eq!(ended[1]["outcome"], "done", "{ended:?}");
    (floor, took(&shop, "return"))
}

fn closed(shop: &Shop) -> Vec<Value> {
    shop.records("runClosed")
}

/// Fills the primary, and has it change a part that its standby never gets.
fn diverge(shop: &Shop, rows: u64, percent: u64) {
    let (a, b) = (&shop.hosts.a.cluster, &shop.hosts.b.cluster);
    a.sql(&format!(
        "CREATE TABLE bulk AS SELECT n AS id, repeat(md5(n::text), 30) AS filler FROM generate_series(1, {rows}) n"
    ));
    // What has to be compared begins at the last checkpoint that both have.
    a.sql("CHECKPOINT");
    let end = a.sql("SELECT pg_current_wal_lsn()");
    wait("the standby has everything", || {
        b.sql(&format!("SELECT pg_last_wal_replay_lsn() >= '{end}'")) == "t"
    });
    b.sql("ALTER SYSTEM SET primary_conninfo = ''");
    b.sql("SELECT pg_reload_conf()");
    wait("the stream ends", || !b.streams());
    a.sql(&format!(
        "UPDATE bulk SET filler = reverse(filler) WHERE id <= {}",
        rows * percent / 100
    ));
}

/// `pg_rewind` on a copy of the old primary's data, with the new primary as its source. Seconds.
fn by_hand(shop: &Shop) -> f64 {
    let data = shop.hosts.a.cluster.data();
    let copy = data.with_extension("floor");
    let copied = Command::new("cp").arg("-a").arg(data).arg(&copy).status();
    assert!(copied.unwrap().success());
    // The number in the first was given in a namespace that is gone: here it may be anybody's. With the second, which a
    // guard lays there, the server would not recover by itself.
    for name in ["postmaster.pid", "standby.signal"] {
        let _ = fs::remove_file(copy.join(name));
    }
    let account = User::from_name("postgres").unwrap().unwrap();
    let source = shop.hosts.b.database();
    let mut rewind = Command::new(format!("{BIN}/pg_rewind"));
    rewind
        .arg("--target-pgdata")
        .arg(&copy)
        .arg("--source-server")
        .arg(format!(
            "host={} port={} user=postgres dbname=postgres",
            source.ip(),
            source.port()
        ))
        .current_dir(&copy)
        .uid(account.uid.as_raw())
        .gid(account.gid.as_raw());
    let began = Instant::now();
    let output = rewind.output().unwrap();
    let seconds = began.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    fs::remove_dir_all(copy).unwrap();
    seconds
}

/// How long a step took, from its last intent to its outcome, in seconds.
fn took(shop: &Shop, step: &str) -> f64 {
    let output = shop.command(&["journal", "export", "shop"]).output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let at = |kind: &str| -> Time {
        let record = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["record"].clone())
            .rfind(|r| r["body"]["type"] == kind && r["body"]["step"] == step);
        serde_json::from_value(record.unwrap()["at"].clone()).unwrap()
    };
    at("stepOutcome").since(at("stepIntent")).as_secs_f64()
}

fn wait(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < LONGEST, "never: {what}");
        sleep(Duration::from_millis(100));
    }
}
