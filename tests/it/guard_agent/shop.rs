//! A service of two guarded sites, and the real controller that protects it.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::Duration,
};

use failover::{guard::wire::KeyPair, model::id::SiteName};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::stage::{CONTROLLER, Hosts, Layout, Place, Traffic, free, last_lines};
use super::witness::Witness;
use crate::stand::{network::Network, postgres::until, relay::Relays};

const TOKEN: &str = "fot_token-of-ann-0123456789abcdef";
const HOOK_SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// What shop a test wants.
pub struct Wanted {
    pub lease: &'static str,
    pub renewal: &'static str,
    /// Between two looks through a probe.
    pub every: &'static str,
    /// How long a primary is silent before the standby says so, and gives it up.
    pub silence: [&'static str; 2],
    /// So many looks in vain are believed.
    pub failures: u32,
    /// Whether it fails over by itself.
    pub automatic: bool,
    /// Whether a person looks between fence and promotion.
    pub manual: bool,
    /// Where the guard of `a` keeps its promise, where that is a place of its own.
    pub state: Option<PathBuf>,
    /// Where the database of `a` stands, where that is a place of its own.
    pub data: Option<PathBuf>,
    /// What stands in the guards' documents besides.
    pub besides: Value,
    /// The drills of its document.
    pub drills: Value,
    /// What the guard of `b` is asked to run before it promotes.
    pub action: Option<&'static str>,
    /// Whether a public name leads to the database that serves, by the controller's own DNS server and a TTL of 1 s.
    pub named: bool,
    /// Whether each party stands on a host of its own, and how long everything is on its way between them.
    pub apart: Option<Duration>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            lease: "2s",
            renewal: "100ms",
            every: "500ms",
            silence: ["1s", "2s"],
            failures: 2,
            automatic: true,
            manual: false,
            state: None,
            data: None,
            besides: json!({}),
            drills: json!([]),
            action: None,
            named: false,
            apart: None,
        }
    }
}

/// A controller over two guarded sites. Fields are dropped in this order.
pub struct Shop {
    pub witness: Witness,
    controller: Option<Child>,
    pub hosts: Hosts,
    folder: TempDir,
    guards: SocketAddr,
    /// What the controller is started with from now on.
    pub env: Vec<(&'static str, String)>,
    /// Where the controller answers for the public name, where there is one.
    pub names: SocketAddr,
    place: Place,
    relays: Option<Relays>,
    network: Option<Network>,
}

/// The hosts of a shop whose parties stand apart.
const PARTIES: [&str; 4] = ["a", "b", CONTROLLER, "client"];

impl Shop {
    /// It runs, and `a` takes writes under its leases.
    pub fn open(wanted: &Wanted) -> Self {
        let folder = TempDir::with_prefix("failover-controller-").unwrap();
        let (pair, pem) = KeyPair::draw().unwrap();
        fs::write(folder.path().join("key"), pem.expose()).unwrap();
        fs::write(folder.path().join("token"), TOKEN).unwrap();
        fs::write(folder.path().join("hook"), HOOK_SECRET).unwrap();
        let network = wanted.apart.map(|_| Network::of(&PARTIES));
        let place = |name| Place(network.as_ref().map(|n| n.host(name).clone()));
        let delay = wanted.apart.filter(|delay| !delay.is_zero());
        let relays = network.as_ref().zip(delay);
        let relays = relays.map(|(network, delay)| Relays::new(network, delay));
        let way = |traffic, address| match (&relays, traffic) {
            (None, _) => address,
            (Some(relays), Traffic::Guards) => relays.datagrams(address),
            (Some(relays), Traffic::Sessions) => relays.sessions(address),
        };
        let own = place(CONTROLLER);
        let guards = SocketAddr::new(own.address(), free().port());
        let names = SocketAddr::new(own.address(), free().port());
        let layout = Layout {
            places: [place("a"), place("b")],
            renewal: wanted.renewal,
            silence: wanted.silence[1],
            lease: wanted.lease.parse().unwrap(),
            state: wanted.state.clone(),
            data: wanted.data.clone(),
            besides: wanted.besides.clone(),
            way: &way,
        };
        let hosts = Hosts::new(way(Traffic::Guards, guards), pair.public(), &layout);
        let mut witness = Witness::watch([&hosts.a, &hosts.b]);
        if network.is_some() {
            for site in [&hosts.a, &hosts.b] {
                let database = way(Traffic::Sessions, site.database());
                witness.from(site, &place("client"), database);
            }
        }
        let databases = [&hosts.a, &hosts.b].map(|s| way(Traffic::Sessions, s.database()));
        let mut shop = Self {
            witness,
            controller: None,
            hosts,
            folder,
            guards,
            env: Vec::new(),
            names,
            place: own,
            relays: None,
            network: None,
        };
        let documents = shop.documents(wanted, databases);
        shop.relays = relays;
        shop.network = network;
        fs::create_dir(shop.folder.path().join("documents")).unwrap();
        let path = shop.folder.path().join("documents/shop.yaml");
        fs::write(path, documents).unwrap();
        shop.start();
        shop.witness.until_written("a");
        shop
    }

    /// What stands between the parties.
    pub fn network(&self) -> &Network {
        self.network.as_ref().unwrap()
    }

    fn documents(&self, wanted: &Wanted, databases: [SocketAddr; 2]) -> String {
        let guard = |site: &str| {
            let site = SiteName::new(site);
            json!({"address": self.hosts.addresses[&site], "publicKey": self.hosts.keys[&site]})
        };
        let [a, b] = databases.map(|at| {
            let (host, port) = (at.ip(), at.port());
            format!("host={host} port={port} user=postgres dbname=postgres")
        });
        let every = wanted.every;
        let probe = |id: &str, kind: &str, site: &str, with: Value| json!({"id": id, "uses": kind, "site": site, "every": every, "timeout": every, "with": with});
        let hash = ring::digest::digest(&ring::digest::SHA256, TOKEN.as_bytes());
        let pager = pager(&self.place);
        let mode = if wanted.automatic { "automatic" } else { "ask" };
        let mut service = json!({
            "apiVersion": "failover.rs/v1alpha1",
            "kind": "ProtectedService",
            "metadata": {"name": "shop"},
            "spec": {
                "mode": mode,
                "objectives": {"rto": "2m", "rpo": "1m"},
                "sites": [{"name": "a", "role": "primary"}, {"name": "b", "role": "standby"}],
                "vantagePoints": [{
                    "name": "here", "network": "here",
                    "sentinels": [{"uses": "probe/tcp", "with": {"host": pager.ip(), "port": pager.port()}}],
                }],
                "fencing": {"require": "lease"},
                "guards": {
                    "controller": CONTROLLER, "lease": wanted.lease,
                    "key": {"file": self.folder.path().join("key")},
                    "sites": {"a": guard("a"), "b": guard("b")},
                },
                "quorum": {"failures": wanted.failures},
                "trigger": {"immediate": {}},
                "components": [{"name": "database", "kind": "database", "probes": [
                    probe("a-database", "probe/postgres", "a", json!({"connection": a})),
                    probe("a-guard", "probe/guard", "a", json!({"site": "a"})),
                    probe("b-stream", "probe/postgres-standby", "b", json!({"connection": b, "heardWithin": wanted.silence[0]})),
                    probe("b-database", "probe/postgres", "b", json!({"connection": b})),
                    probe("b-guard", "probe/guard", "b", json!({"site": "b"})),
                    probe("a-stream", "probe/postgres-standby", "a", json!({"connection": a, "heardWithin": wanted.silence[0]})),
                ]}],
                "team": {
                    "people": [{"name": "ann", "tokenHash": format!("sha256:{}", hex::encode(hash.as_ref()))}],
                    "channels": [{"name": "pager", "uses": "announce/webhook", "with": {
                        "url": format!("http://{pager}/"), "allowPrivate": true,
                        "secret": {"file": self.folder.path().join("hook")},
                    }}],
                },
                "runbook": "promote",
                "drills": wanted.drills,
            },
        });
        if wanted.named {
            let names = self.names;
            for (n, at) in databases.iter().enumerate() {
                service["spec"]["sites"][n]["addresses"] = json!([at.ip()]);
            }
            service["spec"]["dns"] = json!({
                "provider": {"uses": "dns/embedded", "with": {
                    "listen": names, "nameServers": [{"name": "ns.demo.test.", "addresses": [names.ip()]}],
                }},
                "zone": "demo.test", "ttl": "1s", "records": [{"name": "shop.demo.test", "type": "A"}],
                "authorities": [names], "resolvers": [names],
            });
        }
        let planned = ["switchover", "failback"];
        let moves = ["failover", "switchover", "failback"];
        let mut steps = vec![
            json!({"id": "return", "uses": "guard/rejoin", "phase": "prepare"}),
            json!({"id": "drain", "uses": "guard/drain", "runs": planned}),
            json!({"id": "fence", "uses": "guard/fence", "timeout": "30s", "needs": ["drain"], "runs": moves}),
        ];
        if wanted.manual {
            steps.push(json!({"id": "look", "phase": "fence", "manual": "Look at it.", "needs": ["fence"]}));
        }
        if let Some(action) = wanted.action {
            steps.push(json!({"id": "grow", "phase": "promote", "uses": "guard/action", "with": {"site": "b", "action": action}, "needs": ["fence"]}));
        }
        steps.push(
            json!({"id": "promote", "uses": "guard/promote", "timeout": "1m", "runs": moves}),
        );
        if wanted.named {
            steps.push(json!({"id": "repoint", "uses": "dns/repoint"}));
        }
        steps.extend([
            json!({"id": "verify", "uses": "service/verify"}),
            json!({"id": "follow", "uses": "guard/rejoin", "timeout": "1m"}),
        ]);
        let runbook = json!({
            "apiVersion": "failover.rs/v1alpha1",
            "kind": "Runbook",
            "metadata": {"name": "promote"},
            "spec": {"title": "Promote", "steps": steps},
        });
        format!("---\n{service}\n---\n{runbook}\n")
    }

    /// Waits until the controller may fail over: the epoch has an end, both guards hold it, and the check is green.
    pub fn until_ready(&self) {
        until("the epoch is held", || {
            !self.records("epochHeld").is_empty()
        });
        until("the deputy has promised it", || {
            self.hosts.b.status()["report"]["promise"]["epoch"] == 2
        });
        until("the check is green", || {
            let out = self.command(&["check", "shop"]).output().unwrap();
            out.status.success()
        });
    }

    pub fn start(&mut self) {
        let _inside = self.place.enter();
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .unwrap();
        let mut command = self.command(&["run", "--listen", "off", "--metrics", "off"]);
        command.args(["--guard-listen", &self.guards.to_string(), "--file"]);
        command
            .arg(self.folder.path().join("documents"))
            .envs(self.env.iter().cloned())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.controller = Some(command.spawn().unwrap());
    }

    pub fn kill(&mut self) {
        let mut child = self.controller.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Keeps the state of a controller that does not run, as a backup would.
    pub fn keep(&self) {
        copy(
            &self.folder.path().join("state"),
            &self.folder.path().join("kept"),
        );
    }

    /// Puts back what was kept.
    pub fn set_back(&self) {
        fs::remove_dir_all(self.folder.path().join("state")).unwrap();
        copy(
            &self.folder.path().join("kept"),
            &self.folder.path().join("state"),
        );
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.controller.as_ref().unwrap().id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_failover"));
        command
            .args(args)
            .arg("--state")
            .arg(self.folder.path().join("state"));
        command
    }

    pub fn json(&self, args: &[&str]) -> Value {
        let out = self.command(args).args(["-o", "json"]).output().unwrap();
        serde_json::from_slice(&out.stdout).unwrap_or_default()
    }

    /// Approves whatever is asked first.
    pub fn approve(&self) {
        until("a failover is asked for", || {
            let status = self.json(&["explain", "shop"]);
            let Some(id) = status["asks"][0]["id"].as_str().map(str::to_owned) else {
                return false;
            };
            self.act(&["approve", &id, "--reason", "a test"])
        });
    }

    /// Whether a person's command was taken.
    pub fn act(&self, args: &[&str]) -> bool {
        let token = self.folder.path().join("token").display().to_string();
        let args = [args, &["--token-file", &token]].concat();
        self.command(&args).output().unwrap().status.success()
    }

    /// The bodies of the journal's records of that type.
    pub fn records(&self, kind: &str) -> Vec<Value> {
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

    pub fn until_closed(&self, outcome: &str) {
        until("the run is closed", || {
            let closed = self.records("runClosed");
            closed.last().is_some_and(|c| c["outcome"] == outcome)
        });
    }

    /// The evidence that the promotion rested on.
    pub fn evidence(&self) -> String {
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

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success());
}

/// Takes every page for as long as the test's process lives.
fn pager(place: &Place) -> SocketAddr {
    let _inside = place.enter();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
        }
    });
    address
}
