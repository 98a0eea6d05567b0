//! Planned work on real guards and real PostgreSQL: there and back without a lost write, and the way back after a crash.

use std::{fs, time::Duration};

use serde_json::{Value, json};

use crate::{
    guard_agent::{
        apart,
        shop::{Shop, Wanted},
    },
    stand::postgres::until,
};

fn asking() -> Wanted {
    Wanted {
        automatic: false,
        every: "200ms",
        // Nothing of this is about outages: a busy machine makes none.
        lease: "5s",
        failures: 25,
        ..Wanted::default()
    }
}

/// Numbers that were acknowledged at any site and are in no table of the one that serves now.
fn lost(shop: &Shop, serving: &str) -> Vec<i64> {
    let cluster = if serving == "a" {
        &shop.hosts.a.cluster
    } else {
        &shop.hosts.b.cluster
    };
    // What is acknowledged while the table is read may not be in it.
    let acknowledged = shop.witness.writes();
    let there: std::collections::BTreeSet<i64> = cluster
        .sql("SELECT number FROM witness")
        .lines()
        .map(|n| n.parse().unwrap())
        .collect();
    let mut lost: Vec<i64> = acknowledged
        .iter()
        .map(|w| w.number)
        .filter(|n| !there.contains(n))
        .collect();
    lost.sort_unstable();
    lost
}

fn outcome(shop: &Shop, step: &str) -> Value {
    let outcomes = shop.records("stepOutcome");
    let of = outcomes.iter().rev().find(|o| o["step"] == step);
    of.unwrap()["result"].clone()
}

/// A run of this kind, asked for and approved, to its end.
fn run(shop: &Shop, kind: &str) {
    let before = shop.records("runClosed").len();
    until(&format!("a {kind} is begun"), || {
        shop.act(&[kind, "shop", "--reason", "a test", "--yes"])
    });
    until("it is over", || {
        let status = shop.json(&["explain", "shop"]);
        if let Some(id) = status["asks"][0]["id"].as_str() {
            shop.act(&["approve", id, "--reason", "a test"]);
        }
        shop.records("runClosed").len() > before
    });
    let closed = shop.records("runClosed");
    assert_eq!(closed.last().unwrap()["outcome"], "done", "{closed:?}");
}

#[test]
fn a_switchover_goes_there_and_back_under_load_and_loses_nothing() {
    apart(|| {
        let rounds = if std::env::var_os("FAILOVER_NIGHTLY").is_some() {
            10
        } else {
            2
        };
        let shop = Shop::open(&asking());
        shop.until_ready();
        for round in 0..rounds {
            run(&shop, "switchover");
            shop.witness.until_written("b");
            assert_eq!(lost(&shop, "b"), Vec::<i64>::new(), "round {round}");
            until("the old primary follows", || {
                shop.hosts.a.status()["report"]["database"] == "following"
            });
            run(&shop, "failback");
            shop.witness.until_written("a");
            assert_eq!(lost(&shop, "a"), Vec::<i64>::new(), "round {round}");
            until("it follows", || {
                shop.hosts.b.status()["report"]["database"] == "following"
            });
        }
        let status = shop.json(&["status"]);
        assert_eq!(status["services"][0]["active"], "a");
        // Nobody has to be asked whether the site that was left may be trusted: it had everything.
        let kept = outcome(&shop, "follow");
        assert_eq!(kept["done"]["facts"]["salvage.commits"], "0", "{kept}");
    });
}

#[test]
fn a_live_drill_goes_there_and_back_under_load_and_loses_nothing() {
    apart(|| {
        let shop = Shop::open(&Wanted {
            drills: json!([{"name": "yearly", "depth": "live", "stay": "3s", "grace": "5m"}]),
            ..asking()
        });
        shop.until_ready();
        until("the drill is begun", || {
            shop.act(&["drill", "shop", "--reason", "a test", "--detach"])
        });
        assert!(shop.records("runOpened").is_empty(), "nobody approved it");
        shop.approve();
        shop.witness.until_written("b");
        until("the drill is over", || {
            !shop.records("drillClosed").is_empty()
        });
        let judged = shop.records("drillJudged");
        assert_eq!(judged[0]["outcome"], "passed", "{judged:?}");
        shop.witness.until_written("a");
        assert_eq!(lost(&shop, "a"), Vec::<i64>::new());
        let opened = shop.records("runOpened");
        let kinds: Vec<_> = opened.iter().map(|r| r["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["switchover", "failback"]);
        assert_eq!(shop.records("drillClosed")[0]["left"], json!([]));
        let report = shop.json(&["report", "shop"]);
        assert_eq!(report["depth"], "live");
        for leg in report["legs"].as_array().unwrap() {
            assert_eq!(leg["outcome"], "done", "{report:#}");
            assert!(leg["downtime"].is_string(), "{report:#}");
            assert_eq!(leg["lost"], 0, "{report:#}");
        }
        let parts = report["rto"]["parts"].as_array().unwrap();
        for name in ["fence", "promote", "verify"] {
            let part = parts.iter().find(|p| p["part"] == name).unwrap();
            assert!(part["measured"].is_string(), "{report:#}");
        }
        assert_eq!(shop.json(&["status"])["services"][0]["active"], "a");
    });
}

/// A primary that crashed, and what it had acknowledged that the site which serves now never got.
fn crashed() -> (Shop, Vec<i64>) {
    let mut shop = Shop::open(&asking());
    shop.until_ready();
    // What it acknowledges from now on, the other site never gets.
    let standby = &shop.hosts.b.cluster;
    standby.sql("ALTER SYSTEM SET primary_conninfo = ''");
    standby.sql("SELECT pg_reload_conf()");
    until("the stream ends", || !standby.streams());
    shop.witness.until_written("a");
    std::thread::sleep(Duration::from_millis(300));
    shop.hosts.a.lose();
    shop.approve();
    shop.witness.until_written("b");
    shop.until_closed("done");
    let lost = lost(&shop, "b");
    assert!(!lost.is_empty());
    assert!(shop.act(&["ack", "shop"]));

    let serving = &shop.hosts.b.cluster;
    serving.sql("ALTER SYSTEM RESET primary_conninfo");
    serving.sql("SELECT pg_reload_conf()");
    (shop, lost)
}

/// How often a person was asked what becomes of what was kept.
fn salvage_asked(shop: &Shop) -> usize {
    let asked = shop.records("askOpened");
    let is_salvage = |a: &&Value| !a["ask"]["subject"]["salvage"].is_null();
    asked.iter().filter(is_salvage).count()
}

/// What the site that came back kept: how many transactions, as its guard's folder says.
fn kept(shop: &Shop) -> Value {
    let salvage = shop.hosts.a.folder.join("salvage");
    let folders: Vec<_> = fs::read_dir(&salvage).unwrap().flatten().collect();
    assert_eq!(folders.len(), 1);
    let manifest = fs::read_to_string(folders[0].path().join("salvage.json")).unwrap();
    serde_json::from_str(&manifest).unwrap()
}

#[test]
fn writes_of_a_crashed_primary_are_kept_when_it_is_brought_back() {
    apart(|| {
        let (mut shop, lost_before) = crashed();
        shop.hosts.a.start();
        run(&shop, "failback");
        shop.witness.until_written("a");
        // They are in no table; they are in what was kept, each of them.
        assert_eq!(lost(&shop, "a"), lost_before);
        let measured = shop.records("lossMeasured");
        assert_eq!(measured.len(), 1);
        assert_eq!(salvage_asked(&shop), 1);
        let told = outcome(&shop, "return");
        let commits: usize = told["done"]["facts"]["salvage.commits"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!(
            commits >= lost_before.len(),
            "{commits} of {}",
            lost_before.len()
        );
        let manifest = kept(&shop);
        assert_eq!(manifest["commits"], commits);
        assert_eq!(measured[0]["commits"], commits);

        let out = shop.command(&["postmortem", "shop"]).output().unwrap();
        let draft = String::from_utf8(out.stdout).unwrap();
        for said in [
            "# Post-mortem: shop-i".to_owned(),
            "| promote |".to_owned(),
            format!("really left behind: {commits} committed transactions"),
            "ann approved the failover: a test".to_owned(),
            "what becomes of the transactions that were kept apart".to_owned(),
            "- The incident is not over.".to_owned(),
            "What the cause was".to_owned(),
        ] {
            assert!(draft.contains(&said), "{said}: {draft}");
        }
        let unknown = shop
            .command(&["postmortem", "shop-i9999"])
            .output()
            .unwrap();
        assert_eq!(unknown.status.code(), Some(2));
        assert!(!manifest["files"].as_array().unwrap().is_empty());
    });
}

#[test]
fn writes_of_a_crashed_primary_are_kept_though_it_was_started_by_hand_and_heard_of_the_new_history()
{
    apart(|| {
        let (mut shop, lost_before) = crashed();
        // As its guard left it, it is a standby that asks the other one for its log, and that has gone another way.
        let cluster = &mut shop.hosts.a.cluster;
        cluster.restart();
        let history = cluster.data().join("pg_wal/00000002.history");
        until("it hears of the new history", || history.exists());
        until("it sees that this is not its own", || {
            cluster
                .log()
                .contains("forked off current database system timeline")
        });
        cluster.stop_immediate();

        shop.hosts.a.start();
        run(&shop, "failback");
        shop.witness.until_written("a");
        assert_eq!(lost(&shop, "a"), lost_before);
        let commits = kept(&shop)["commits"].as_u64().unwrap();
        assert!(commits >= lost_before.len() as u64, "{commits}");
        assert_eq!(salvage_asked(&shop), 1);
    });
}

#[test]
fn what_was_kept_is_asked_about_again_where_nobody_settled_it_before_the_guard_was_started_anew() {
    apart(|| {
        let (mut shop, lost_before) = crashed();
        shop.hosts.a.start();
        until("a failback is begun", || {
            shop.act(&["failback", "shop", "--reason", "a test", "--yes"])
        });
        until("a person is asked, and says no", || {
            let status = shop.json(&["explain", "shop"]);
            let id = status["asks"][0]["id"].as_str();
            id.is_some_and(|id| shop.act(&["deny", id, "--reason", "a test"]))
        });
        assert_eq!(salvage_asked(&shop), 1);
        until("the failback is over", || {
            shop.records("runClosed").len() == 2
        });
        // It follows, so that it may be a deputy: that takes a new epoch, which its guard promises.
        let fenced_in = kept(&shop)["epoch"].as_u64().unwrap();
        until("a later epoch is promised", || {
            let promise = &shop.hosts.a.status()["report"]["promise"];
            promise["epoch"].as_u64() > Some(fenced_in)
        });
        shop.hosts.a.lose();
        shop.hosts.a.start();

        run(&shop, "failback");
        shop.witness.until_written("a");
        assert_eq!(lost(&shop, "a"), lost_before);
        assert_eq!(salvage_asked(&shop), 2);
        let told = outcome(&shop, "return");
        let told = &told["done"]["facts"]["salvage.commits"];
        assert_eq!(told.as_str().unwrap(), kept(&shop)["commits"].to_string());

        // Settled now: of what follows as it is nobody asks anything.
        run(&shop, "switchover");
        shop.witness.until_written("b");
        shop.hosts.a.kill();
        shop.hosts.a.start();
        run(&shop, "failback");
        assert_eq!(salvage_asked(&shop), 2);
    });
}
