//! What watching costs: 10,000 HTTP endpoints in one process, on one thread, by the very probes and the very watch
//! that a service uses. The endpoints are a process of their own.
//!
//! `cargo bench --bench probes` prints a table, and the same figures as one line of JSON.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on should say where"
)]
#![expect(clippy::print_stdout, reason = "the figures are the output")]
#![expect(
    clippy::cast_precision_loss,
    reason = "counts and times of a benchmark are far below 2^52"
)]

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use failover::{
    driver::{
        registry,
        watch::{Lookouts, Watch, WatchCounts, maker},
    },
    model::{
        id::ProbeId,
        observation::{Observation, Sight},
        service::Service,
        span::Span,
        time::Time,
    },
    port::{
        http,
        kind::Wiring,
        runtime::{Runtime, SharedRuntime},
        secret::HostSecrets,
    },
    probe::sockets,
};
use futures::{StreamExt, future::BoxFuture};
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Endpoints that are watched.
const ENDPOINTS: usize = 10_000;

/// Addresses that they are spread over, `127.1.0.1` and up.
const ADDRESSES: usize = 50;

/// The aims: CPU-seconds a thousand probes, and memory.
const AIM_CPU: f64 = 0.12;
const AIM_MB: f64 = 80.0;

fn main() {
    let role = env::args().nth(1).unwrap_or_default();
    sockets::raise_limit().unwrap();
    match role.as_str() {
        "target" => serve(),
        "prober" => watch(),
        _ => measure(),
    }
}

/// Runs each measurement in a prober of its own, so that its memory is its own.
fn measure() {
    let runs = [("10s", 31), ("1s", 10)].map(|(every, seconds)| {
        let (_target, port) = target();
        let run = prober(every, seconds, port);
        report(every, &run);
        run
    });
    let aims = json!({"cpuSPer1000": AIM_CPU, "rssMb": AIM_MB});
    println!(
        "{}",
        json!({"endpoints": ENDPOINTS, "aims": aims, "runs": runs})
    );
}

fn report(every: &str, run: &Value) {
    println!("{ENDPOINTS} HTTP endpoints every {every}, one process, one thread");
    for (name, unit) in [
        ("probes", ""),
        ("up", ""),
        ("onSchedule", "%"),
        ("missed", ""),
        ("overlapped", ""),
        ("worstGapMs", "ms between two answers of one endpoint"),
        ("worstLateMs", "ms after its due time"),
        ("cpuSPer1000", "CPU-s per 1,000 probes"),
        ("cores", "of a core"),
        ("rssMb", "MB at its highest"),
    ] {
        println!("  {name:12} {:>10} {unit}", run[name]);
    }
}

/// A child process that ends with this one.
struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn child(role: &str, arguments: &[&str]) -> Kept {
    let child = Command::new(env::current_exe().unwrap())
        .arg(role)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    Kept(child)
}

fn target() -> (Kept, u16) {
    let mut target = child("target", &[]);
    let mut line = String::new();
    BufReader::new(target.0.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    (target, line.trim().parse().unwrap())
}

fn prober(every: &str, seconds: u32, port: u16) -> Value {
    let mut prober = child("prober", &[every, &seconds.to_string(), &port.to_string()]);
    let mut out = String::new();
    let stdout = prober.0.stdout.as_mut().unwrap();
    stdout.read_to_string(&mut out).unwrap();
    serde_json::from_str(&out).unwrap()
}

/// Answers every request on all addresses until nobody reads its standard output any more.
#[tokio::main(flavor = "current_thread")]
async fn serve() {
    let mut port = 0;
    let mut tasks = Vec::new();
    for i in 0..ADDRESSES {
        let listener = TcpListener::bind((address(i), port)).await.unwrap();
        port = listener.local_addr().unwrap().port();
        tasks.push(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream));
            }
        }));
    }
    println!("{port}");
    std::io::stdout().flush().unwrap();
    // The other end closes when the benchmark ends, however it ends.
    tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]))
        .await
        .unwrap()
        .unwrap();
}

fn address(i: usize) -> String {
    format!("127.1.0.{}", i % ADDRESSES + 1)
}

async fn answer(mut stream: TcpStream) {
    let mut request = [0; 1024];
    let mut read = 0;
    while !request[..read].ends_with(b"\r\n\r\n") {
        match stream.read(&mut request[read..]).await {
            Ok(n) if n > 0 => read += n,
            Ok(_) | Err(_) => return,
        }
    }
    let _ = stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        .await;
}

/// The host's time and tasks, on the one thread of this process.
struct OneThread {
    wall: i64,
    start: Instant,
}

impl Runtime for OneThread {
    fn now(&self) -> Time {
        let passed = i64::try_from(self.start.elapsed().as_millis()).unwrap();
        Time::from_millis(self.wall + passed)
    }

    fn sleep_until(&self, at: Time) -> BoxFuture<'static, ()> {
        let until = u64::try_from(at.as_millis() - self.wall).unwrap_or(0);
        let until = self.start + Duration::from_millis(until);
        Box::pin(tokio::time::sleep_until(until.into()))
    }

    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }
}

fn service(every: Span, port: u16) -> Service {
    let probes: Vec<Value> = (0..ENDPOINTS)
        .map(|i| {
            let url = format!("http://{}:{port}/endpoint/{i}", address(i));
            json!({
                "id": format!("endpoint-{i}"),
                "action": {"uses": "probe/http", "with": {"url": url}},
                "site": null, "evidence": "outside",
                "every": every, "timeout": "3s", "from": [],
            })
        })
        .collect();
    serde_json::from_value(json!({
        "name": "bench", "title": "Bench", "mode": "observe",
        "objectives": {"rto": "15m", "rpo": "0s", "availability": null, "responseTime": null},
        "sites": [], "residency": [],
        "vantagePoints": [{"name": "here", "network": "here", "via": "direct", "sentinels": []}],
        "quorum": {"networks": 1, "failures": 1, "successes": 1},
        "components": [{"name": "web", "title": "Web", "kind": "application", "probes": probes}],
        "trigger": "manual",
        "gates": {"maxLagAge": "30s", "overRpo": "ask", "maintenance": []},
        "fencing": "attested", "dns": null, "publication": null,
        "announcements": {"channels": [], "templates": {}, "symptom": "", "cadence": "20m"},
        "team": {"people": [], "channels": [], "repeat": "5m"},
        "approvals": {"required": 1, "approvers": [], "breakGlass": [], "expiry": "10m", "onTimeout": "hold"},
        "runbook": {"name": "none", "title": "None", "steps": []},
        "config": "",
    }))
    .unwrap()
}

/// Watches all endpoints for a while and prints the figures as JSON.
#[tokio::main(flavor = "current_thread")]
async fn watch() {
    let arguments: Vec<String> = env::args().skip(2).collect();
    let every: Span = arguments[0].parse().unwrap();
    let length = Span::from_secs(arguments[1].parse().unwrap());
    let port = arguments[2].parse().unwrap();
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let runtime: SharedRuntime = Arc::new(OneThread {
        wall: i64::try_from(since.as_millis()).unwrap(),
        start: Instant::now(),
    });
    rustls::crypto::ring::default_provider()
        .install_default()
        .unwrap();
    let service = service(every, port);
    let wiring = Wiring {
        secrets: Arc::new(HostSecrets),
        runtime: runtime.clone(),
        http: http::client(Duration::from_secs(1)).unwrap(),
        service: Arc::new(service.clone()),
        state: PathBuf::new(),
        dns: None,
        lookouts: None,
        guards: None,
    };
    let maker = maker(registry::kinds(), &wiring);
    let lookouts = Arc::new(Lookouts::new(&service, &runtime, maker).unwrap());
    let mut watch = Watch::new(&service, &lookouts, &runtime, 1);

    // Everything at once, then one round on the grid: after that it is under way.
    let mut tally = Tally::default();
    tally
        .follow(&mut watch, &runtime, every.saturating_mul(2))
        .await;
    let (before, cpu) = (watch.counts(), cpu());
    let mut tally = Tally::default();
    tally.follow(&mut watch, &runtime, length).await;
    let cpu = self::cpu() - cpu;
    println!(
        "{}",
        figures(&tally, every, length, before, watch.counts(), cpu)
    );
}

#[derive(Default)]
struct Tally {
    up: u64,
    seen: BTreeMap<ProbeId, Vec<Time>>,
}

impl Tally {
    async fn follow(&mut self, watch: &mut Watch, runtime: &SharedRuntime, length: Span) {
        let end = runtime.now().after(length);
        let mut over = runtime.sleep_until(end);
        loop {
            tokio::select! {
                biased;
                () = &mut over => return,
                observation = watch.next() => self.take(observation.unwrap()),
            }
        }
    }

    fn take(&mut self, observation: Observation) {
        self.up += u64::from(observation.sight == Sight::Up);
        let times = self.seen.entry(observation.probe).or_default();
        times.push(observation.at);
    }
}

/// The processor time of this process so far, in seconds.
fn cpu() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|t| t.tv_sec() as f64 + t.tv_usec() as f64 / 1e6)
        .sum()
}

fn figures(
    tally: &Tally,
    every: Span,
    length: Span,
    before: WatchCounts,
    after: WatchCounts,
    cpu: f64,
) -> Value {
    let probes: usize = tally.seen.values().map(Vec::len).sum();
    let due = length.as_millis() / every.as_millis();
    let on_schedule = tally
        .seen
        .values()
        .filter(|times| times.len() as u64 >= due)
        .count();
    let gaps = tally.seen.values().flat_map(|t| t.windows(2));
    let worst = gaps.map(|w| w[1].since(w[0]).as_millis()).max();
    let round = |x: f64| (x * 1000.0).round() / 1000.0;
    json!({
        "every": every,
        "probes": probes,
        "up": tally.up,
        "onSchedule": round(on_schedule as f64 / ENDPOINTS as f64 * 100.0),
        "missed": after.missed - before.missed,
        "overlapped": after.overlapped - before.overlapped,
        "worstGapMs": worst,
        "worstLateMs": after.max_late.as_millis(),
        "cpuSPer1000": round(cpu / probes as f64 * 1000.0),
        "cores": round(cpu / length.as_secs_f64()),
        "rssMb": round(highest_memory()),
    })
}

/// The most memory that this process ever held, in MB.
fn highest_memory() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    let kb: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kb * 1024.0 / 1e6
}
