//! Two guarded sites, and a stand-in for the controller with the real grants and the real wire.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::PathBuf,
    process::{Child, Command},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle, sleep},
    time::{Duration, Instant},
};

use failover::{
    decide::grant::{Grants, Standing},
    guard::{
        clock,
        hold::{folder::Folder, process::Process},
        wire::{KeyPair, Message, Party, Way, Wire, relay},
    },
    model::{
        action::ActReport,
        guard::{FenceAck, FenceOrder, Lease, PromoteOrder, Report, Terms},
        id::{Epoch, ServiceName, SiteName},
        lease,
        public_key::PublicKey,
        span::Span,
    },
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use super::witness::Witness;
use crate::stand::{
    network::{Host, Inside},
    postgres::{Cluster, Pair, until},
};

/// What the controller is called.
pub const CONTROLLER: &str = "dr";

fn service() -> ServiceName {
    ServiceName::new("shop")
}

/// Where something stands: on a host of its own, or here.
#[derive(Clone, Default)]
pub struct Place(pub Option<Host>);

impl Place {
    pub fn address(&self) -> IpAddr {
        let host = self.0.as_ref();
        host.map_or(IpAddr::from(Ipv4Addr::LOCALHOST), |h| h.address)
    }

    /// What this thread starts while this lives is there.
    pub fn enter(&self) -> Option<Inside> {
        self.0.as_ref().map(|h| h.inside.enter())
    }
}

/// A site: a guard's process and the database that it guards.
pub struct Site {
    pub name: &'static str,
    pub cluster: Cluster,
    pub place: Place,
    pub guard: Option<Child>,
    pub folder: PathBuf,
    /// What its guard is started with from now on.
    pub env: Vec<(&'static str, String)>,
}

impl Site {
    fn document(&self) -> PathBuf {
        self.folder.join("guard.yaml")
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_failover"));
        command.args(["guard", verb, "-f"]).arg(self.document());
        command
    }

    /// The database, as those elsewhere reach it.
    pub fn database(&self) -> SocketAddr {
        SocketAddr::new(self.place.address(), self.cluster.port)
    }

    pub fn start(&mut self) {
        let _inside = self.place.enter();
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("guard.log"))
            .unwrap();
        let mut command = self.command("run");
        command.envs(self.env.iter().cloned()).stderr(log);
        self.guard = Some(command.spawn().unwrap());
    }

    /// Starts for the first time, on a host that kills in time: one that is too busy just now is measured again.
    fn start_proved(&mut self, lease: Span) {
        until("the host kills in time", || {
            self.start();
            until("the guard answers", || !self.status().is_null());
            let kill = serde_json::from_value(self.status()["report"]["kill"].clone());
            let is_proved = lease::is_enforced(kill.unwrap(), lease);
            if !is_proved {
                self.terminate();
                let _ = fs::remove_file(self.folder.join("run/proof.json"));
            }
            is_proved
        });
    }

    pub fn status(&self) -> serde_json::Value {
        let out = self
            .command("status")
            .args(["-o", "json"])
            .output()
            .unwrap();
        serde_json::from_slice(&out.stdout).unwrap_or_default()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = self.guard.as_ref().unwrap().id();
        kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
    }

    /// The process of the guard ends at once.
    pub fn kill(&mut self) {
        let mut guard = self.guard.take().unwrap();
        guard.kill().unwrap();
        guard.wait().unwrap();
    }

    /// The guard is told to end, and does.
    pub fn terminate(&mut self) {
        self.signal(Signal::SIGTERM);
        assert!(self.guard.take().unwrap().wait().unwrap().success());
    }

    /// The guard ends, and has stopped its database in its own order before.
    pub fn stop_database(&mut self) {
        self.kill();
        let _inside = self.place.enter();
        let mut command = self.command("run");
        let mut guard = command.arg("--stop-database").spawn().unwrap();
        until("it guards", || !self.status().is_null());
        let pid = i32::try_from(guard.id()).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
        assert!(guard.wait().unwrap().success());
    }

    /// Whether anything of the database runs.
    pub fn runs(&self) -> bool {
        let record = Folder::open(&self.folder.join("run")).unwrap();
        let record = record.and_then(|f| f.record().unwrap());
        record.is_some_and(|r| {
            let found = Process::find(r.init).unwrap();
            found.is_some_and(|p| !p.has_ended().unwrap())
        })
    }

    /// The process that the life of the database hangs on: another one means that it was started anew.
    pub fn life(&self) -> u32 {
        let record = Folder::open(&self.folder.join("run")).unwrap();
        record.unwrap().record().unwrap().unwrap().init.pid
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("guard.log")).unwrap_or_default()
    }
}

impl Drop for Site {
    #[expect(
        clippy::print_stdout,
        reason = "a failed test shows what the guard said"
    )]
    fn drop(&mut self) {
        if thread::panicking() {
            println!("guard {}:\n{}", self.name, last_lines(&self.log()));
            let server = fs::read_to_string(self.folder.join("server.log"));
            println!(
                "server {}:\n{}",
                self.name,
                last_lines(&server.unwrap_or_default())
            );
        }
        self.lose();
        self.cluster.forget_memory();
    }
}

impl Site {
    /// The host is gone: guard, dead-man and database with everything in it.
    pub fn lose(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            let _ = guard.kill();
            let _ = guard.wait();
        }
        let record = Folder::open(&self.folder.join("run")).ok().flatten();
        if let Some(record) = record.and_then(|f| f.record().ok().flatten()) {
            for identity in [record.hold, record.init] {
                if let Some(process) = Process::find(identity).ok().flatten() {
                    let _ = process.signal(rustix::process::Signal::KILL);
                    until("it dies", || process.has_ended().unwrap());
                }
            }
        }
    }

    /// Every process of the host stands still, those of the dead-man too.
    pub fn freeze_host(&self) {
        self.place
            .0
            .as_ref()
            .unwrap()
            .inside
            .signal(Signal::SIGSTOP);
    }

    /// And goes on.
    pub fn thaw_host(&self) {
        self.place
            .0
            .as_ref()
            .unwrap()
            .inside
            .signal(Signal::SIGCONT);
    }

    /// Every process of the host ends, as when its power fails.
    pub fn cut_power(&mut self) {
        self.place.0.as_ref().unwrap().inside.empty();
        if let Some(mut guard) = self.guard.take() {
            let _ = guard.wait();
        }
        self.cluster.forget_memory();
    }

    /// The server ends, as when the kernel is out of memory; its guard lives.
    pub fn kill_database(&self) {
        let record = Folder::open(&self.folder.join("run")).unwrap().unwrap();
        let init = record.record().unwrap().unwrap().init.pid;
        for pid in below(init) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    /// Writes to the database's log until that finds no room any more, which ends the server.
    pub fn overflow(&self) {
        let piece = "SELECT pg_logical_emit_message(false, 'ballast', repeat('x', 1000000))";
        until("its log finds no room", || !self.cluster.takes(piece));
    }

    /// Every process of the database stands still.
    pub fn freeze_database(&self) {
        let record = Folder::open(&self.folder.join("run")).unwrap().unwrap();
        let init = record.record().unwrap().unwrap().init.pid;
        for pid in below(init) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGSTOP);
        }
    }
}

/// What a failed test shows of a log.
pub fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(150)..].join("\n")
}

/// The processes below one, at any depth.
fn below(parent: u32) -> Vec<i32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let children = fs::read_to_string(path).unwrap_or_default();
    let mut all = Vec::new();
    for child in children.split_whitespace() {
        all.push(child.parse().unwrap());
        all.extend(below(child.parse().unwrap()));
    }
    all
}

/// What the controller's stand-in knows.
pub struct Mind {
    grants: Grants,
    pub terms: Option<Terms>,
    pub grants_leases: bool,
    pub is_fencing: bool,
    pub last_grant: Option<Instant>,
    pub acks: Vec<FenceAck>,
    pub reports: BTreeMap<SiteName, Report>,
    pub acted: Vec<ActReport>,
}

/// The controller's stand-in.
pub struct Controller {
    mind: Arc<Mutex<Mind>>,
    wire: Arc<Wire>,
    socket: Arc<UdpSocket>,
    addresses: BTreeMap<SiteName, SocketAddr>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Controller {
    pub fn mind(&self) -> MutexGuard<'_, Mind> {
        self.mind.lock().unwrap()
    }

    pub fn send(&self, site: &str, message: &Message) {
        let site = SiteName::new(site);
        let datagram = self.wire.seal(&Party::Guard(site.clone()), message);
        let _ = self
            .socket
            .send_to(&datagram.unwrap(), self.addresses[&site]);
    }

    /// Opens an epoch at a site, and waits until its guard has promised it.
    pub fn promote(&self, terms: &Terms, acknowledged: bool) {
        {
            let mut mind = self.mind();
            mind.grants.opened(terms);
            mind.terms = Some(terms.clone());
            mind.is_fencing = false;
        }
        until("the guard promises the epoch", || {
            self.order(terms, acknowledged);
            self.send(terms.site.as_str(), &Message::Look);
            sleep(Duration::from_millis(50));
            let mind = self.mind();
            let promise = mind
                .reports
                .get(&terms.site)
                .and_then(|r| r.promise.clone());
            promise.is_some_and(|p| p.epoch == terms.epoch)
        });
    }

    /// Says it once.
    pub fn order(&self, terms: &Terms, acknowledged: bool) {
        let order = PromoteOrder {
            terms: terms.clone(),
            acknowledged,
            boot: None,
        };
        let proof = self.wire.certify(terms);
        self.send(terms.site.as_str(), &Message::Promote { order, proof });
    }

    /// Fences a site in favour of an epoch, and waits for the acknowledgement.
    pub fn fence(&self, site: &str, epoch: u64) {
        self.mind().is_fencing = true;
        let order = FenceOrder {
            epoch: Epoch(epoch),
            boot: None,
            drained: false,
        };
        until("the fence is acknowledged", || {
            self.send(site, &Message::Fence(order.clone()));
            sleep(Duration::from_millis(50));
            let mind = self.mind();
            let acked = |a: &FenceAck| a.site.as_str() == site && a.epoch == order.epoch;
            mind.acks.iter().any(acked)
        });
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

fn serve(
    mind: &Mutex<Mind>,
    wire: &Wire,
    socket: &UdpSocket,
    addresses: &BTreeMap<SiteName, SocketAddr>,
    ends: &AtomicBool,
) {
    let mut datagram = [0; 2000];
    while !ends.load(Ordering::Relaxed) {
        let Ok((length, _)) = socket.recv_from(&mut datagram) else {
            continue;
        };
        let Ok((Party::Guard(site), message, way)) = wire.open(&datagram[..length]) else {
            continue;
        };
        let mut mind = mind.lock().unwrap();
        match message {
            Message::Ask { request, .. } => {
                let Some(terms) = mind.terms.clone() else {
                    continue;
                };
                let standing = Standing {
                    terms: &terms,
                    is_fencing: mind.is_fencing,
                    leads: mind.grants_leases,
                };
                if let Ok(grant) = mind.grants.grant(standing, &request, clock::grantor()) {
                    mind.last_grant = Some(Instant::now());
                    let to = Party::Guard(site.clone());
                    let mut datagram = wire.seal(&to, &Message::Grant(grant)).unwrap();
                    let mut by = site;
                    if way == Way::Around {
                        relay::mark(&mut datagram);
                        by = addresses.keys().find(|s| **s != by).unwrap().clone();
                    }
                    let _ = socket.send_to(&datagram, addresses[&by]);
                }
            }
            Message::Fenced(ack) => mind.acks.push(ack),
            Message::Report { report, .. } => {
                mind.reports.insert(site, report);
            }
            Message::Acted { report, .. } => mind.acted.push(report),
            Message::Grant(_)
            | Message::Fence(_)
            | Message::Promote { .. }
            | Message::Drain(_)
            | Message::Resync(_)
            | Message::Act(_)
            | Message::Recall(_)
            | Message::Look => {}
        }
    }
}

/// How two sites are laid out.
pub struct Layout<'a> {
    pub places: [Place; 2],
    pub renewal: &'a str,
    /// How long a primary is silent before the standby gives it up.
    pub silence: &'a str,
    /// The shortest lease that is to be enforced.
    pub lease: Span,
    /// Where the guard of the first keeps its promise, where that is a place of its own.
    pub state: Option<PathBuf>,
    /// Where the database of the first stands, where that is a place of its own.
    pub data: Option<PathBuf>,
    /// What stands in the guards' documents besides.
    pub besides: serde_json::Value,
    /// Where others reach what listens there.
    pub way: &'a dyn Fn(Traffic, SocketAddr) -> SocketAddr,
}

/// What a way is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Datagrams of guards and of the controller.
    Guards,
    /// Sessions of a database.
    Sessions,
}

/// Both sites here, each reached where it listens.
impl Default for Layout<'_> {
    fn default() -> Self {
        Self {
            places: Default::default(),
            renewal: "100ms",
            silence: "2s",
            lease: Span::from_millis(1500),
            state: None,
            data: None,
            besides: serde_json::json!({}),
            way: &|_, address| address,
        }
    }
}

/// Two sites whose guards run, and what their controller has to know.
pub struct Hosts {
    pub a: Site,
    pub b: Site,
    pub addresses: BTreeMap<SiteName, SocketAddr>,
    pub keys: BTreeMap<SiteName, PublicKey>,
    folder: TempDir,
}

impl Hosts {
    /// Both are enrolled and follow; nobody may write yet.
    pub fn new(controller: SocketAddr, key: PublicKey, layout: &Layout) -> Self {
        let folder = TempDir::with_prefix("failover-guard-").unwrap();
        let Pair {
            mut primary,
            mut standby,
        } = Pair::start();
        primary.sql("CREATE TABLE witness (number bigint, at timestamptz DEFAULT now())");
        for server in [&primary, &standby] {
            server.sql("ALTER SYSTEM SET restart_after_crash = off");
        }
        until("the table arrives", || {
            standby.sql("SELECT to_regclass('witness') IS NOT NULL") == "t"
        });
        standby.stop_immediate();
        primary.stop_immediate();
        if let Some(data) = &layout.data {
            primary.move_to(data);
        }
        let places = &layout.places;
        let here = |cluster: &Cluster| SocketAddr::from((Ipv4Addr::LOCALHOST, cluster.port));
        // Whoever is left follows the other; a slot of before the turn would keep its log for ever.
        primary.follow_on(here(&standby), layout.silence);
        standby.follow_on(here(&primary), layout.silence);
        if places[0].0.is_some() {
            let database = SocketAddr::new(places[0].address(), primary.port);
            standby.stream_from((layout.way)(Traffic::Sessions, database), layout.silence);
            let database = SocketAddr::new(places[1].address(), standby.port);
            primary.stream_from((layout.way)(Traffic::Sessions, database), layout.silence);
            for server in [&primary, &standby] {
                server.open_to("10.0.0.0/8");
            }
        }

        let ports: Vec<SocketAddr> = places
            .iter()
            .map(|place| SocketAddr::new(place.address(), free().port()))
            .collect();
        let reached: Vec<SocketAddr> = ports
            .iter()
            .map(|port| (layout.way)(Traffic::Guards, *port))
            .collect();
        let mut addresses = BTreeMap::new();
        let mut keys = BTreeMap::new();
        let mut sites = Vec::new();
        for (name, cluster) in [("a", primary), ("b", standby)] {
            let own = folder.path().join(name);
            fs::create_dir(&own).unwrap();
            let (pair, pem) = KeyPair::draw().unwrap();
            fs::write(own.join("key"), pem.expose()).unwrap();
            keys.insert(SiteName::new(name), pair.public());
            addresses.insert(SiteName::new(name), reached[sites.len()]);
            sites.push(Site {
                name,
                cluster,
                place: places[sites.len()].clone(),
                guard: None,
                folder: own,
                env: Vec::new(),
            });
        }
        for (index, site) in sites.iter().enumerate() {
            let other = &sites[1 - index];
            let (program, args) = site.cluster.command();
            let state = layout.state.clone().filter(|_| index == 0);
            let local = SocketAddr::from((Ipv4Addr::LOCALHOST, site.cluster.port));
            let mut document = serde_json::json!({
                "service": service(),
                "site": site.name,
                "listen": ports[index],
                "key": {"file": site.folder.join("key")},
                "controller": {"name": CONTROLLER, "address": controller, "publicKey": key},
                "peer": {
                    "site": other.name,
                    "address": reached[1 - index],
                    "publicKey": keys[&SiteName::new(other.name)],
                },
                "state": state.unwrap_or_else(|| site.folder.join("state")),
                "runtime": site.folder.join("run"),
                "renewal": layout.renewal,
                "database": {
                    "program": program, "args": args, "user": "postgres",
                    "env": {"LC_ALL": "C.UTF-8"},
                    "dataDir": site.cluster.data(),
                    "listen": BTreeSet::from([local, site.database()]),
                    "connection": site.cluster.superuser(),
                    "logFile": site.folder.join("server.log"),
                    "resync": {
                        "source": format!(
                            "host={} port={} user=postgres dbname=postgres",
                            other.place.address(), other.cluster.port
                        ),
                        "salvage": site.folder.join("salvage"),
                    },
                },
            });
            for (key, value) in layout.besides.as_object().unwrap() {
                document[key] = value.clone();
            }
            fs::write(site.document(), document.to_string()).unwrap();
            assert!(site.command("init").output().unwrap().status.success());
        }
        let mut sites = sites.into_iter();
        let (mut a, mut b) = (sites.next().unwrap(), sites.next().unwrap());
        // One after the other: each loads the machine to prove that it kills in time.
        for site in [&mut a, &mut b] {
            site.start_proved(layout.lease);
        }
        Self {
            a,
            b,
            addresses,
            keys,
            folder,
        }
    }
}

/// An address that nobody has just now.
pub fn free() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

/// Everything. Fields are dropped in this order.
pub struct Stage {
    pub witness: Witness,
    pub controller: Controller,
    pub a: Site,
    pub b: Site,
    _folder: TempDir,
}

impl Stage {
    /// Both sites are enrolled and follow; nobody may write yet.
    pub fn new() -> Self {
        Self::with(&Layout::default())
    }

    /// The same, laid out in another way.
    pub fn with(layout: &Layout) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let (own, _) = KeyPair::draw().unwrap();
        let hosts = Hosts::new(socket.local_addr().unwrap(), own.public(), layout);
        let keys = hosts.keys.into_iter();
        let others = keys.map(|(site, key)| (Party::Guard(site), key)).collect();
        Self {
            witness: Witness::watch([&hosts.a, &hosts.b]),
            controller: controller(own, socket, others, hosts.addresses),
            a: hosts.a,
            b: hosts.b,
            _folder: hosts.folder,
        }
    }
}

impl Stage {
    /// Nothing passes straight between the controller and the guard of a site any more.
    pub fn cut_off(&self, site: &str) {
        let controller = self.controller.socket.local_addr().unwrap().port();
        let guard = self.controller.addresses[&SiteName::new(site)].port();
        let nft = |rule: &str| {
            let done = Command::new("nft").arg(rule).status();
            assert!(done.unwrap().success());
        };
        nft("add table inet cut");
        nft("add chain inet cut way { type filter hook output priority 0; }");
        for (from, to) in [(controller, guard), (guard, controller)] {
            nft(&format!(
                "add rule inet cut way udp sport {from} udp dport {to} drop"
            ));
        }
    }
}

fn controller(
    key: KeyPair,
    socket: UdpSocket,
    others: Vec<(Party, PublicKey)>,
    addresses: BTreeMap<SiteName, SocketAddr>,
) -> Controller {
    let own = Party::Controller(CONTROLLER.to_owned());
    let mut controller = Controller {
        mind: Arc::new(Mutex::new(Mind {
            grants: Grants::new(clock::grantor(), Span::ZERO),
            terms: None,
            grants_leases: true,
            is_fencing: false,
            last_grant: None,
            acks: Vec::new(),
            reports: BTreeMap::new(),
            acted: Vec::new(),
        })),
        wire: Arc::new(Wire::new(own, service(), key, others)),
        socket: Arc::new(socket),
        addresses,
        ends: Arc::default(),
        thread: None,
    };
    let (mind, wire, socket) = (
        Arc::clone(&controller.mind),
        Arc::clone(&controller.wire),
        Arc::clone(&controller.socket),
    );
    let (addresses, ends) = (controller.addresses.clone(), Arc::clone(&controller.ends));
    controller.thread = Some(thread::spawn(move || {
        serve(&mind, &wire, &socket, &addresses, &ends);
    }));
    controller
}

/// Terms of an epoch at a site, with the other one's guard as the deputy where that is wanted.
pub fn terms(epoch: u64, site: &str, lease_ms: u64, deputy: Option<&str>) -> Terms {
    Terms {
        service: service(),
        epoch: Epoch(epoch),
        site: site.into(),
        lease: Lease::Bounded(Span::from_millis(lease_ms)),
        deputy: deputy.map(SiteName::from),
    }
}
