//! The real controller between real guards: what it proves before it promotes, and what it promotes through.

use std::{
    fs,
    process::{Child, Command},
    time::{Duration, Instant},
};

use failover::{guard::wire::KeyPair, model::id::SiteName};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    apart,
    stage::{CONTROLLER, Hosts, Witness, free, last_lines},
};
use crate::stand::postgres::until;

const TOKEN: &str = "fot_token-of-ann-0123456789abcdef";

/// A controller over two guarded sites. Fields are dropped in this order.
struct Shop {
    witness: Witness,
    controller: Option<Child>,
    hosts: Hosts,
    folder: TempDir,
    guards: std::net::SocketAddr,
}

impl Shop {
    /// It runs, and `a` takes writes under its leases.
    fn open(lease: &str, manual: bool) -> Self {
        let folder = TempDir::with_prefix("failover-controller-").unwrap();
        let (pair, pem) = KeyPair::draw().unwrap();
        fs::write(folder.path().join("key"), pem.expose()).unwrap();
        fs::write(folder.path().join("token"), TOKEN).unwrap();
        let guards = free();
        let hosts = Hosts::new(guards, pair.public());
        let mut shop = Self {
            witness: Witness::watch([&hosts.a, &hosts.b]),
            controller: None,
            hosts,
            folder,
            guards,
        };
        fs::create_dir(shop.folder.path().join("documents")).unwrap();
        let path = shop.folder.path().join("documents/shop.yaml");
        fs::write(path, shop.documents(lease, manual)).unwrap();
        shop.start();
        shop.witness.until_written("a");
        shop
    }

    fn documents(&self, lease: &str, manual: bool) -> String {
        let guard = |site: &str| {
            let site = SiteName::new(site);
            json!({"address": self.hosts.addresses[&site], "publicKey": self.hosts.keys[&site]})
        };
        let tcp = |port: u16| format!("host=127.0.0.1 port={port} user=postgres dbname=postgres");
        let (a, b) = (
            tcp(self.hosts.a.cluster.port),
            tcp(self.hosts.b.cluster.port),
        );
        let probe = |id: &str, kind: &str, site: &str, with: Value| json!({"id": id, "uses": kind, "site": site, "every": "500ms", "timeout": "450ms", "with": with});
        let hash = ring::digest::digest(&ring::digest::SHA256, TOKEN.as_bytes());
        let service = json!({
            "apiVersion": "failover.rs/v1alpha1",
            "kind": "ProtectedService",
            "metadata": {"name": "shop"},
            "spec": {
                "mode": "ask",
                "objectives": {"rto": "2m", "rpo": "1m"},
                "sites": [{"name": "a", "role": "primary"}, {"name": "b", "role": "standby"}],
                "fencing": {"require": "lease"},
                "guards": {
                    "controller": CONTROLLER, "lease": lease, "key": {"file": self.folder.path().join("key")},
                    "sites": {"a": guard("a"), "b": guard("b")},
                },
                "quorum": {"failures": 2},
                "trigger": {"immediate": {}},
                "components": [{"name": "database", "kind": "database", "probes": [
                    probe("a-database", "probe/postgres", "a", json!({"connection": a})),
                    probe("a-guard", "probe/guard", "a", json!({"site": "a"})),
                    probe("b-stream", "probe/postgres-standby", "b", json!({"connection": b})),
                    probe("b-database", "probe/postgres", "b", json!({"connection": b})),
                ]}],
                "team": {"people": [{"name": "ann", "tokenHash": format!("sha256:{}", hex::encode(hash.as_ref()))}]},
                "runbook": "promote",
            },
        });
        let mut steps = vec![json!({"id": "fence", "uses": "guard/fence", "timeout": "30s"})];
        if manual {
            steps.push(json!({"id": "look", "phase": "fence", "manual": "Look at it.", "needs": ["fence"]}));
        }
        steps.extend([
            json!({"id": "promote", "uses": "guard/promote", "timeout": "1m"}),
            json!({"id": "verify", "uses": "service/verify"}),
        ]);
        let runbook = json!({
            "apiVersion": "failover.rs/v1alpha1",
            "kind": "Runbook",
            "metadata": {"name": "promote"},
            "spec": {"title": "Promote", "steps": steps},
        });
        format!("---\n{service}\n---\n{runbook}\n")
    }

    fn start(&mut self) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .unwrap();
        let mut command = self.command(&["run", "--listen", "off", "--metrics", "off"]);
        command.args(["--guard-listen", &self.guards.to_string(), "--file"]);
        command
            .arg(self.folder.path().join("documents"))
            .stderr(log);
        self.controller = Some(command.spawn().unwrap());
    }

    fn kill(&mut self) {
        let mut child = self.controller.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.controller.as_ref().unwrap().id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_failover"));
        command
            .args(args)
            .arg("--state")
            .arg(self.folder.path().join("state"));
        command
    }

    fn json(&self, args: &[&str]) -> Value {
        let out = self.command(args).args(["-o", "json"]).output().unwrap();
        serde_json::from_slice(&out.stdout).unwrap_or_default()
    }

    /// Approves whatever is asked first.
    fn approve(&self) {
        until("a failover is asked for", || {
            let status = self.json(&["explain", "shop"]);
            let Some(id) = status["asks"][0]["id"].as_str().map(str::to_owned) else {
                return false;
            };
            self.act(&["approve", &id, "--reason", "a test"])
        });
    }

    /// Whether a person's command was taken.
    fn act(&self, args: &[&str]) -> bool {
        let token = self.folder.path().join("token").display().to_string();
        let args = [args, &["--token-file", &token]].concat();
        self.command(&args).output().unwrap().status.success()
    }

    /// The bodies of the journal's records of that type.
    fn records(&self, kind: &str) -> Vec<Value> {
        let out = self
            .command(&["journal", "export", "shop"])
            .output()
            .unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        text.lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["record"]["body"].clone())
            .filter(|body| body["type"] == kind)
            .collect()
    }

    fn until_closed(&self, outcome: &str) {
        until("the run is closed", || {
            let closed = self.records("runClosed");
            closed.last().is_some_and(|c| c["outcome"] == outcome)
        });
    }

    /// The evidence that the promotion rested on.
    fn evidence(&self) -> String {
        let raised = self.records("epochRaised");
        raised.last().unwrap()["evidence"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

impl Drop for Shop {
    #[expect(
        clippy::print_stdout,
        reason = "a failed test shows what the controller said"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("log"));
            println!("controller:\n{}", last_lines(&log.unwrap_or_default()));
        }
        if let Some(mut child) = self.controller.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_frozen_database_is_fenced_by_its_guard_and_replaced() {
    apart(|| {
        let shop = Shop::open("2s", false);
        shop.hosts.a.freeze_database();
        shop.approve();
        shop.witness.until_written("b");
        shop.until_closed("done");
        assert_eq!(shop.evidence(), "fenced: rung acknowledged");
        assert!(!shop.hosts.a.runs());
        shop.witness.never_both("a", "b");
        assert_eq!(shop.hosts.a.status()["report"]["promise"]["role"], "fenced");
        // Nobody could replace it now: its lease has no end, and the controller may die.
        let raised = shop.records("epochRaised");
        assert_eq!(raised[0]["terms"]["lease"], "unbounded");
    });
}

#[test]
fn a_lost_host_is_replaced_when_its_lease_is_surely_over() {
    apart(|| {
        let mut shop = Shop::open("2s", false);
        until("the epoch is held", || {
            !shop.records("epochHeld").is_empty()
        });
        shop.hosts.a.lose();
        let lost = Instant::now();
        shop.approve();
        shop.witness.until_written("b");
        shop.until_closed("done");
        assert_eq!(shop.evidence(), "fenced: rung lease");
        shop.witness.never_both("a", "b");
        assert!(lost.elapsed() > Duration::from_secs(2));
    });
}

#[test]
fn a_controller_that_dies_or_stands_still_stops_nobody_and_opens_no_second_epoch() {
    apart(|| {
        let mut shop = Shop::open("2s", false);
        let began = Instant::now();
        let life = shop.hosts.a.life();
        until("the deputy has promised the epoch", || {
            shop.hosts.b.status()["report"]["promise"]["epoch"] == 2
        });
        shop.kill();
        std::thread::sleep(Duration::from_secs(5));
        shop.start();
        shop.witness.until_written("a");
        shop.signal(Signal::SIGSTOP);
        std::thread::sleep(Duration::from_secs(5));
        shop.signal(Signal::SIGCONT);
        shop.witness.until_written("a");
        assert_eq!(shop.hosts.a.life(), life);
        let gap = shop.witness.longest_gap("a", began);
        assert!(gap < Duration::from_secs(2), "{gap:?}");
        assert_eq!(shop.records("epochOpened").len(), 1);
    });
}

#[test]
fn a_run_that_is_aborted_after_the_fence_gives_the_site_back_in_a_later_epoch() {
    apart(|| {
        let shop = Shop::open("2s", true);
        shop.hosts.a.freeze_database();
        shop.approve();
        until("it is fenced", || {
            let done = shop.records("stepOutcome");
            done.iter().any(|o| o["step"] == "fence")
        });
        let run = shop.json(&["explain", "shop"])["run"]["id"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(shop.act(&["abort", &run, "--reason", "a test"]));
        shop.until_closed("aborted");
        shop.witness.until_written("a");
        assert!(shop.witness.last("b").is_none());
        let opened = shop.records("epochOpened");
        let epochs: Vec<_> = opened.iter().map(|o| &o["terms"]["epoch"]).collect();
        assert_eq!(epochs, [2, 4]);
        assert_eq!(shop.json(&["status"])["services"][0]["active"], "a");
    });
}
