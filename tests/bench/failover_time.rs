//! How long a database is away, fault by fault: from the fault until a database takes writes again, what a client with
//! both hosts in its connection string sees, and one that follows the public name, what they lose, and how long both sites
//! took writes. Each beside the floor of
//! the same run: somebody who polls every 50 ms and promotes at once, with no safety.
//!
//! `cargo bench --bench failover_time` prints a table, and the same figures as JSON; `-- --runs 5` takes fewer of each,
//! `-- --only frozen` one fault. It needs root, PostgreSQL 15 and nftables. The parties stand on hosts of their own, in
//! network namespaces; the profile is `lan`.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on should say where"
)]
#![expect(clippy::print_stdout, reason = "the figures are the output")]

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fmt::{self, Write as _},
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle, sleep},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::json;
use tokio::{runtime::Runtime, time::timeout};
use tokio_postgres::NoTls;

mod follower;
mod guarded;

use follower::{Asker, Names};
use guarded::{
    apart,
    shop::{Shop, Wanted},
    stage::{Place, Site},
    stand::{
        self,
        network::Network,
        postgres::{Cluster, Pair, until},
    },
    witness::Witness,
};

/// Runs of each fault.
const RUNS: usize = 20;
/// The client writes a row after this.
const PACE: Duration = Duration::from_millis(5);
/// A client that finds no primary tries again after this.
const AGAIN: Duration = Duration::from_millis(20);
/// What it gives one host to connect, as libpq does at the least, and one statement.
const CONNECT: Duration = Duration::from_secs(2);
const STATEMENT: Duration = Duration::from_secs(1);
/// The floor looks at the primary this often, and waits so long for an answer.
const POLL: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_millis(300);

/// What happens to the old primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// SIGKILL of the database.
    Killed,
    /// SIGKILL of database and guard.
    BothKilled,
    /// SIGSTOP of the database.
    Frozen,
    /// Every process of the host is gone, and so is its network.
    Lost,
    /// Nothing passes from or to its host.
    Parted,
    /// None: a switchover is asked for. The floor stops the database in order, and promotes when it is gone.
    Planned,
}

impl Fault {
    const ALL: [Self; 6] = [
        Self::Killed,
        Self::BothKilled,
        Self::Frozen,
        Self::Lost,
        Self::Parted,
        Self::Planned,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::BothKilled => "both-killed",
            Self::Frozen => "frozen",
            Self::Lost => "lost",
            Self::Parted => "parted",
            Self::Planned => "switchover",
        }
    }

    /// The aim from the fault to a database that takes writes; of a switchover what the client may miss.
    fn aim(self) -> f64 {
        match self {
            Self::Planned => 0.3,
            Self::Killed => 0.4,
            Self::Frozen => 1.0,
            Self::BothKilled | Self::Lost | Self::Parted => 1.5,
        }
    }
}

fn main() {
    rustls::crypto::ring::default_provider()
        .install_default()
        .unwrap();
    let args: Vec<String> = env::args().collect();
    let after = |flag: &str| {
        let at = args.iter().position(|a| a == flag)?;
        args.get(at + 1).cloned()
    };
    let runs = after("--runs").map_or(RUNS, |n| n.parse().unwrap());
    let only = after("--only");
    let faults = Fault::ALL.into_iter();
    let faults = faults.filter(|f| only.as_deref().is_none_or(|name| name == f.name()));
    let heads = [
        "fault",
        "writable s",
        "p95",
        "aim",
        "floor",
        "client s",
        "p95",
        "floor",
        "by name s",
        "p95",
        "floor",
        "lost",
        "of",
        "floor",
        "both ms",
        "floor",
    ];
    println!("{}", row(&heads.map(str::to_owned)));
    let mut figures = Vec::new();
    for fault in faults {
        let ours: Vec<Run> = (0..runs).map(|_| apart(move || product(fault))).collect();
        let floor: Vec<Run> = (0..runs).map(|_| apart(move || bare(fault))).collect();
        let (ours, floor) = (Figures::of(&ours), Figures::of(&floor));
        println!("{}", line(fault, &ours, &floor));
        figures.push(json!({"fault": fault.name(), "runs": runs, "failover": ours.json(), "floor": floor.json()}));
    }
    println!("{}", json!(figures));
}

/// What one fault came to.
struct Run {
    /// From the fault until a database took writes that was not hit.
    writable: f64,
    /// The longest time that the client with both hosts went without an acknowledged write.
    client: f64,
    /// The same of the one that follows the public name.
    follower: f64,
    /// Acknowledged writes of both that are gone, and of how many.
    lost: usize,
    of: usize,
    /// How long both sites took writes.
    both: f64,
}

/// The whole product.
fn product(fault: Fault) -> Run {
    let mut shop = Shop::open(&Wanted {
        lease: "1s",
        renewal: "150ms",
        every: "100ms",
        silence: ["300ms", "600ms"],
        named: true,
        apart: Some(Duration::ZERO),
        ..Wanted::default()
    });
    shop.until_ready();
    let place = Place(Some(shop.network().host("client").clone()));
    let clients = Clients::start(
        &place,
        [&shop.hosts.a, &shop.hosts.b],
        Names::Served(shop.names),
    );
    let at = Instant::now();
    match fault {
        Fault::Killed => shop.hosts.a.kill_database(),
        Fault::BothKilled => {
            shop.hosts.a.kill();
            shop.hosts.a.kill_database();
        }
        Fault::Frozen => shop.hosts.a.freeze_database(),
        Fault::Lost => {
            shop.network().isolate("a");
            shop.hosts.a.cut_power();
        }
        Fault::Parted => shop.network().isolate("a"),
        Fault::Planned => {
            assert!(shop.act(&["switchover", "shop", "--reason", "a benchmark", "--yes"]));
        }
    }
    clients.until_written_after_pause(at);
    // A database that was only killed may be started again where it was, or be replaced.
    let settled = Instant::now() + Duration::from_secs(2);
    while Instant::now() < settled {
        sleep(POLL);
    }
    let served = if shop.witness.first("b").is_some() {
        &shop.hosts.b
    } else {
        &shop.hosts.a
    };
    measure(&shop.witness, clients, served, at)
}

/// Two databases that nobody guards, and somebody who promotes at once.
fn bare(fault: Fault) -> Run {
    let network = Network::of(&["a", "b", "dr", "client"]);
    let place = |name: &str| Place(Some(network.host(name).clone()));
    let Pair {
        mut primary,
        mut standby,
    } = Pair::start();
    primary.sql("CREATE TABLE witness (number bigint, at timestamptz DEFAULT now())");
    until("the table arrives", || {
        standby.sql("SELECT to_regclass('witness') IS NOT NULL") == "t"
    });
    standby.stop_immediate();
    primary.stop_immediate();
    for server in [&primary, &standby] {
        server.open_to("10.0.0.0/8");
    }
    let site = |name, cluster: Cluster| Site {
        name,
        folder: cluster.data().with_extension("guard"),
        cluster,
        place: place(name),
        guard: None,
        env: Vec::new(),
    };
    let (mut a, mut b) = (site("a", primary), site("b", standby));
    b.cluster.stream_from(a.database(), "600ms");
    for site in [&mut a, &mut b] {
        let _inside = site.place.enter();
        site.cluster.restart();
    }
    until("it streams", || b.cluster.streams());
    let witness = Witness::watch([&a, &b]);
    witness.until_written("a");
    let told = Arc::new(Mutex::new(a.database().ip()));
    let names = Names::Told(Arc::clone(&told));
    let clients = Clients::start(&place("client"), [&a, &b], names);
    let promoter = promoter(&place("dr"), &a, &b, told);
    sleep(POLL * 4);
    let at = Instant::now();
    match fault {
        Fault::Killed | Fault::BothKilled => a.cluster.crash(),
        Fault::Frozen => a.cluster.freeze(),
        Fault::Lost => {
            network.isolate("a");
            a.cut_power();
        }
        Fault::Parted => network.isolate("a"),
        Fault::Planned => a.cluster.end(Signal::SIGINT),
    }
    clients.until_written_after_pause(at);
    promoter.join().unwrap();
    sleep(Duration::from_secs(2));
    let run = measure(&witness, clients, &b, at);
    drop(witness);
    if !matches!(fault, Fault::Lost | Fault::Planned) {
        a.cluster.thaw();
    }
    run
}

/// Promotes `b` as soon as `a` does not answer once, and has the public name lead there.
fn promoter(place: &Place, a: &Site, b: &Site, told: Arc<Mutex<IpAddr>>) -> JoinHandle<()> {
    let other = b.database().ip();
    let conninfo = |site: &Site| {
        let at = site.database();
        format!("host={} port={} user=postgres", at.ip(), at.port())
    };
    let (a, b) = (conninfo(a), conninfo(b));
    let _inside = place.enter();
    thread::spawn(move || {
        Runtime::new().unwrap().block_on(async {
            let standby = connect(&b).await.unwrap();
            loop {
                let asked = async { connect(&a).await?.batch_execute("SELECT 1").await };
                let Ok(Ok(())) = timeout(PATIENCE, asked).await else {
                    let promoted = standby.batch_execute("SELECT pg_promote(false)").await;
                    *told.lock().unwrap() = other;
                    return promoted.unwrap();
                };
                tokio::time::sleep(POLL).await;
            }
        });
    })
}

async fn connect(conninfo: &str) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(conninfo, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn measure(witness: &Witness, clients: Clients, served: &Site, at: Instant) -> Run {
    let first = witness.first("b");
    let both = witness.last("a").zip(first).map_or(0.0, |(last, first)| {
        last.saturating_duration_since(first).as_secs_f64() * 1000.0
    });
    let [writes, followed] = clients.0.map(Client::end);
    let rows = served
        .cluster
        .sql("SELECT number FROM witness WHERE number < 0");
    let kept: BTreeSet<i64> = rows.lines().map(|r| r.parse().unwrap()).collect();
    let all = || writes.iter().chain(&followed);
    let lost = all().filter(|(n, _)| !kept.contains(n)).count();
    let again = first.unwrap_or_else(|| {
        pause(
            &witness.writes().iter().map(|w| w.at).collect::<Vec<_>>(),
            at,
        )
        .1
    });
    let without = |writes: &[(i64, Instant)]| {
        let (before, after) = pause(&writes.iter().map(|w| w.1).collect::<Vec<_>>(), at);
        (after - before).as_secs_f64()
    };
    Run {
        writable: again.saturating_duration_since(at).as_secs_f64(),
        client: without(&writes),
        follower: without(&followed),
        lost,
        of: all().count(),
        both,
    }
}

/// The longest time between two of these moments, of which the second lies after the fault.
fn pause(moments: &[Instant], at: Instant) -> (Instant, Instant) {
    let mut moments = moments.to_vec();
    moments.sort_unstable();
    let pairs = moments.windows(2).filter(|w| w[1] > at);
    let longest = pairs.max_by_key(|w| w[1] - w[0]).unwrap();
    (longest[0], longest[1])
}

/// Two clients: one writes wherever it may, as with `host=a,b target_session_attrs=read-write`; the other follows the
/// public name.
struct Clients([Client; 2]);

impl Clients {
    /// Both write steadily.
    fn start(place: &Place, sites: [&Site; 2], names: Names) -> Self {
        let hosts: BTreeMap<IpAddr, String> = (sites.into_iter())
            .map(|site| {
                let at = site.database();
                let (host, port) = (at.ip(), at.port());
                let conninfo = format!(
                    "host={host} port={port} user=postgres target_session_attrs=read-write"
                );
                (host, conninfo)
            })
            .collect();
        let clients = Self([
            Client::start(place, 0, hosts.clone(), None),
            Client::start(place, FOLLOWER, hosts, Some(names)),
        ]);
        for client in &clients.0 {
            client.until_steady();
        }
        clients
    }

    fn until_written_after_pause(&self, at: Instant) {
        for client in &self.0 {
            client.until_written_after_pause(at);
        }
    }
}

/// The second client's rows have smaller numbers than any of the first one.
const FOLLOWER: i64 = -1_000_000_000;

/// How a client finds where to write: by a name, else everywhere in turn.
struct Finds {
    hosts: BTreeMap<IpAddr, String>,
    name: Option<Asker>,
}

impl Finds {
    async fn next(&mut self) -> Vec<String> {
        let Some(name) = &mut self.name else {
            return self.hosts.values().cloned().collect();
        };
        let address = name.address().await;
        let host = address.and_then(|a| self.hosts.get(&a));
        host.cloned().into_iter().collect()
    }
}

struct Client {
    writes: Arc<Mutex<Vec<(i64, Instant)>>>,
    ends: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Client {
    fn start(
        place: &Place,
        first: i64,
        hosts: BTreeMap<IpAddr, String>,
        names: Option<Names>,
    ) -> Self {
        let writes = Arc::new(Mutex::new(Vec::new()));
        let ends = Arc::new(AtomicBool::new(false));
        let (list, end) = (Arc::clone(&writes), Arc::clone(&ends));
        let _inside = place.enter();
        let thread = thread::spawn(move || {
            Runtime::new().unwrap().block_on(async {
                let mut number = first;
                let name = names.as_ref().map(Names::asker);
                let mut finds = Finds { hosts, name };
                while !end.load(Ordering::Relaxed) {
                    // libpq gives each host so long, the first steps of the session included.
                    for host in &finds.next().await {
                        let Ok(Ok(client)) = timeout(CONNECT, connect(host)).await else {
                            continue;
                        };
                        while !end.load(Ordering::Relaxed) {
                            number -= 1;
                            let insert = format!("INSERT INTO witness (number) VALUES ({number})");
                            let Ok(Ok(())) =
                                timeout(STATEMENT, client.batch_execute(&insert)).await
                            else {
                                break;
                            };
                            list.lock().unwrap().push((number, Instant::now()));
                            tokio::time::sleep(PACE).await;
                        }
                        break;
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            });
        });
        Self {
            writes,
            ends,
            thread,
        }
    }

    fn until_steady(&self) {
        until("the client writes", || {
            self.writes.lock().unwrap().len() > 50
        });
    }

    /// It wrote on, and at least a second later.
    fn until_written_after_pause(&self, at: Instant) {
        until("the client writes again", || {
            let writes = self.writes.lock().unwrap();
            writes.last().is_some_and(|w| w.1 > at + STATEMENT)
        });
    }

    fn end(self) -> Vec<(i64, Instant)> {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        std::mem::take(&mut *self.writes.lock().unwrap())
    }
}

/// What the runs of a fault came to.
struct Figures {
    writable: Spread,
    client: Spread,
    follower: Spread,
    lost: usize,
    of: usize,
    both: f64,
}

/// Of a figure: in the middle, the 95th of a hundred, and the worst.
struct Spread {
    median: f64,
    p95: f64,
    worst: f64,
}

impl Spread {
    fn of(mut all: Vec<f64>) -> Self {
        all.sort_by(f64::total_cmp);
        Self {
            median: all[all.len() / 2],
            p95: all[(all.len() * 95).div_ceil(100) - 1],
            worst: all[all.len() - 1],
        }
    }
}

impl Figures {
    fn of(runs: &[Run]) -> Self {
        Self {
            writable: Spread::of(runs.iter().map(|r| r.writable).collect()),
            client: Spread::of(runs.iter().map(|r| r.client).collect()),
            follower: Spread::of(runs.iter().map(|r| r.follower).collect()),
            lost: runs.iter().map(|r| r.lost).sum(),
            of: runs.iter().map(|r| r.of).sum(),
            both: runs.iter().map(|r| r.both).fold(0.0, f64::max),
        }
    }

    fn json(&self) -> serde_json::Value {
        let spread = |s: &Spread| json!({"median": s.median, "p95": s.p95, "worst": s.worst});
        json!({
            "writable_s": spread(&self.writable),
            "client_s": spread(&self.client),
            "follower_s": spread(&self.follower),
            "lost": self.lost,
            "of": self.of,
            "both_ms": self.both,
        })
    }
}

fn line(fault: Fault, ours: &Figures, floor: &Figures) -> String {
    let seconds = |s: f64| format!("{s:.3}");
    let count = |n: usize| n.to_string();
    row(&[
        fault.name().to_owned(),
        seconds(ours.writable.median),
        seconds(ours.writable.p95),
        seconds(fault.aim()),
        seconds(floor.writable.median),
        seconds(ours.client.median),
        seconds(ours.client.p95),
        seconds(floor.client.median),
        seconds(ours.follower.median),
        seconds(ours.follower.p95),
        seconds(floor.follower.median),
        count(ours.lost),
        count(ours.of),
        count(floor.lost),
        format!("{:.0}", ours.both),
        format!("{:.0}", floor.both),
    ])
}

fn row(cells: &[String; 16]) -> String {
    let mut out = String::new();
    for cell in cells {
        let _: fmt::Result = write!(out, "{cell:>11}");
    }
    out
}
