//! What an operator costs that takes care of 1,000 services in a real cluster while nothing happens: memory, CPU, and
//! requests to the API server as its own audit log has them. Then, under that load, the time from the verdict on a
//! service to the first effect of its failover. The endpoints, the API server and etcd are processes of the same machine.
//!
//! `cargo bench --bench operator` prints a table for probes every hour and one for probes every minute, and the same
//! figures as one line of JSON. `cargo bench --bench operator -- 100` has 100 services.
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
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use failover::model::time::Time;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};

use self::stand::kubernetes::Cluster;

#[path = "../it/stand"]
#[expect(dead_code, reason = "the tests use more of it")]
mod stand {
    pub mod authority;
    pub mod bind;
    pub mod kubernetes;
}

/// Services, where nothing else is asked for.
const SERVICES: usize = 1_000;
/// Of these so many are looked at every second and fail over in the end.
const WATCHED: usize = 5;
/// How long rest is measured.
const REST: Duration = Duration::from_mins(1);
/// What a start may take until every service was checked.
const START: Duration = Duration::from_mins(15);
/// A verdict that has no effect by then has none.
const LONGEST: Duration = Duration::from_mins(1);
/// Ticks of a process's clock in a second, on every Linux.
const TICKS: f64 = 100.0;
/// Who the API server knows the operator as.
const ACCOUNT: &str = "system:serviceaccount:default:operator";
/// What receivers sign with.
const SECRET: &str = "whsec_c2VjcmV0LW9mLXRoZS1iZW5jaG1hcmstMDEyMzQ1Njc4OQ==";

/// The aims: memory, part of a core, requests a second.
const AIM_MB: f64 = 100.0;
const AIM_CORE: f64 = 0.05;
const AIM_REQUESTS: f64 = 1.0;

fn main() {
    let services = env::args().find_map(|word| word.parse().ok());
    let services = services.unwrap_or(SERVICES);
    let runtime = Runtime::new().unwrap();
    let rows: Vec<Value> = ["1h", "1m"]
        .into_iter()
        .map(|every| {
            let row = measure(&runtime, services, every);
            report(services, &row);
            row
        })
        .collect();
    let aims = json!({"rssMb": AIM_MB, "core": AIM_CORE, "requestsPerS": AIM_REQUESTS});
    println!(
        "{}",
        json!({"services": services, "aims": aims, "rows": rows})
    );
}

fn report(services: usize, row: &Value) {
    println!(
        "{services} services, two probes each from two vantage points every {}",
        row["every"].as_str().unwrap()
    );
    for (name, unit) in [
        ("startS", "s from the start until all were checked"),
        ("startRequests", "requests until then"),
        ("rssMb", "MB of memory at rest"),
        (
            "ownMb",
            "MB of that are its own, the rest is the program's file",
        ),
        ("peakMb", "MB at its highest"),
        ("core", "of a core at rest"),
        (
            "requestsPerS",
            "requests a second at rest, but for the Lease",
        ),
        ("effectMs", "ms from a verdict to the first effect, median"),
        ("slowestMs", "ms, slowest"),
    ] {
        println!("  {name:14} {:>10} {unit}", row[name]);
    }
    println!("  requests at rest: {}", row["requests"]);
}

fn measure(runtime: &Runtime, services: usize, every: &str) -> Value {
    let cluster = Cluster::start();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let endpoints = runtime.block_on(Endpoints::serve());
    prepare(&cluster);
    fs::write(folder.path().join("secret"), SECRET).unwrap();
    let all: Vec<Value> = (0..services)
        .flat_map(|n| documents(n, every, endpoints.port, folder.path()))
        .collect();
    for part in all.chunks(200) {
        cluster.apply(&json!({"apiVersion": "v1", "kind": "List", "items": part}).to_string());
    }

    let operator = Operator::start(&cluster, folder);
    let began = Instant::now();
    operator.until_checked(&cluster, services);
    let start = began.elapsed();
    Operator::until_calm(&cluster);
    let asked = requests(&cluster, "").len();
    let (cpu, since) = (operator.cpu(), Time::from_millis(now_ms()));
    let measured = Instant::now();
    std::thread::sleep(REST);
    let length = measured.elapsed().as_secs_f64();
    let core = (operator.cpu() - cpu) / length;
    let requests = requests(&cluster, &since.to_string());
    let effects: Vec<f64> = (0..WATCHED.min(services))
        .map(|n| {
            endpoints.fail(n);
            operator.effect(&cluster, n)
        })
        .collect();
    let round = |x: f64| (x * 1000.0).round() / 1000.0;
    json!({
        "every": every,
        "startS": round(start.as_secs_f64()),
        "startRequests": asked,
        "rssMb": round(operator.memory("VmRSS:")),
        "ownMb": round(operator.memory("RssAnon:")),
        "peakMb": round(operator.memory("VmHWM:")),
        "core": round(core),
        "requestsPerS": round(requests.len() as f64 / length),
        "requests": tally(&requests),
        "effectMs": median(&effects).round(),
        "slowestMs": effects.iter().copied().fold(0.0, f64::max).round(),
    })
}

/// The definitions, and an account that may do everything.
fn prepare(cluster: &Cluster) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/failover/crds");
    cluster.kubectl(&["apply", "--server-side", "-f", folder.to_str().unwrap()]);
    cluster.kubectl(&["wait", "crd", "--all", "--for=condition=Established"]);
    cluster.kubectl(&["create", "serviceaccount", "operator"]);
    cluster.kubectl(&[
        "create",
        "clusterrolebinding",
        "operator",
        "--clusterrole=cluster-admin",
        "--serviceaccount=default:operator",
    ]);
}

fn name(n: usize) -> String {
    format!("service-{n:04}")
}

/// A service that fails over by itself, and its runbook. The first few are looked at every second.
fn documents(n: usize, every: &str, port: u16, folder: &Path) -> [Value; 2] {
    let (every, timeout) = if n < WATCHED {
        ("1s", "800ms")
    } else {
        (every, "5s")
    };
    let name = name(n);
    let file = |what: &str| folder.join(format!("{name}.{what}")).display().to_string();
    let look = |site: &str| {
        json!({
            "id": format!("at-{site}"), "uses": "probe/http", "site": site, "every": every, "timeout": timeout,
            "with": {"url": format!("http://127.0.0.1:{port}/{site}/{name}")},
        })
    };
    let site = |name: &str, role: &str| {
        json!({
            "name": name, "role": role, "location": {"region": name, "country": "DE"},
            "url": format!("http://127.0.0.1:{port}/{name}"),
        })
    };
    let service = json!({
        "apiVersion": "failover.rs/v1alpha1",
        "kind": "ProtectedService",
        "metadata": {"name": name},
        "spec": {
            "title": format!("Service {n}"),
            "mode": "automatic",
            "objectives": {"rto": "24h", "rpo": "1m"},
            "sites": [site("east", "primary"), site("west", "standby")],
            "vantagePoints": [
                {"name": "here", "network": "here"},
                {"name": "there", "network": "there", "via": {"sourceAddress": "127.0.0.2"}},
            ],
            "quorum": {"failures": 2},
            "trigger": {"immediate": {}},
            "components": [{"name": "web", "kind": "application", "probes": [look("east"), look("west")]}],
            "team": {
                "people": [{"name": "ann", "tokenHash": format!("sha256:{}", "0".repeat(64))}],
                "channels": [{
                    "name": "pager",
                    "uses": "announce/webhook",
                    "with": {
                        "url": format!("http://127.0.0.1:{port}/pager"),
                        "secret": {"file": folder.join("secret").display().to_string()},
                        "allowPrivate": true,
                    },
                }],
            },
            "approvals": {"required": 1, "approvers": ["ann"]},
            "runbook": name,
        },
    });
    let (fenced, promoted) = (file("fenced"), file("promoted"));
    let script = |text: String| json!(["sh", "-c", text]);
    let runbook = json!({
        "apiVersion": "failover.rs/v1alpha1",
        "kind": "Runbook",
        "metadata": {"name": name},
        "spec": {"title": "Bench", "steps": [
            {"id": "stop", "uses": "command/fence", "with": {
                "perform": script(format!("date +%s%N >{fenced}")), "observe": ["test", "-s", fenced],
            }},
            {"id": "promote", "uses": "command/promote", "with": {
                "perform": ["touch", promoted], "observe": ["test", "-e", promoted],
            }},
            {"id": "verify", "uses": "service/verify"},
        ]},
    });
    [runbook, service]
}

/// The operator's process.
struct Operator {
    folder: TempDir,
    child: Child,
}

impl Operator {
    fn start(cluster: &Cluster, folder: TempDir) -> Self {
        let kubeconfig = cluster.of_service_account("default", "operator");
        let path = |name: &str| -> PathBuf { folder.path().join(name) };
        let log = fs::File::create(path("log")).unwrap();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_failover")])
            .args(["operator", "--allow-commands", "--metrics=off"])
            .arg("--secrets")
            .arg(folder.path())
            .arg("--state")
            .arg(path("state"))
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .env("FAILOVER_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { folder, child }
    }

    /// Waits until every service was found ready for its failover, and so may fail over by itself.
    fn until_checked(&self, cluster: &Cluster, services: usize) {
        let began = Instant::now();
        loop {
            let modes = cluster.kubectl(&["get", "ps", "-o=jsonpath={.items[*].status.mode}"]);
            let ready = modes.split(' ').filter(|mode| *mode == "automatic").count();
            if ready == services {
                return;
            }
            let log = || fs::read_to_string(self.folder.path().join("log")).unwrap();
            assert!(began.elapsed() < START, "{ready} are ready\n{}", log());
            std::thread::sleep(Duration::from_secs(2));
        }
    }

    /// Waits until what came of the start is written.
    fn until_calm(cluster: &Cluster) {
        let began = Instant::now();
        let mut before = requests(cluster, "").len();
        loop {
            std::thread::sleep(Duration::from_secs(35));
            let count = requests(cluster, "").len();
            // Whatever never rests is what is measured.
            if count - before < 70 || began.elapsed() > Duration::from_mins(4) {
                return;
            }
            before = count;
        }
    }

    /// Seconds of CPU until now, with those of programs that have ended.
    fn cpu(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let fields: Vec<&str> = fields.split(' ').collect();
        let ticks: f64 = fields[11..15]
            .iter()
            .map(|f| f.parse::<f64>().unwrap())
            .sum();
        ticks / TICKS
    }

    /// Memory in MB.
    fn memory(&self, field: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib * 1024.0 / 1e6
    }

    /// Milliseconds from the verdict, as the journal has it, to the moment at which the fence ran.
    fn effect(&self, cluster: &Cluster, n: usize) -> f64 {
        let file = self.folder.path().join(format!("{}.fenced", name(n)));
        let began = Instant::now();
        let effect = loop {
            let text = fs::read_to_string(&file).unwrap_or_default();
            if let Some(nanos) = text.strip_suffix('\n') {
                break nanos.parse::<f64>().unwrap() / 1e6;
            }
            assert!(began.elapsed() < LONGEST, "no fence of {}", name(n));
            std::thread::sleep(Duration::from_millis(10));
        };
        let label = format!("-l=failover.rs/chain={}", name(n));
        let entries = cluster.kubectl(&["get", "je", &label, "-o=json"]);
        let entries: Value = serde_json::from_str(&entries).unwrap();
        let lines = entries["items"].as_array().unwrap().iter();
        let lines = lines.flat_map(|entry| entry["spec"]["lines"].as_array().unwrap());
        let mut records =
            lines.map(|line| serde_json::from_str::<Value>(line.as_str().unwrap()).unwrap());
        let down = records.find(|record| {
            record["body"]["type"] == "verdictChanged" && record["body"]["to"] == "down"
        });
        let at: Time = serde_json::from_value(down.unwrap()["at"].clone()).unwrap();
        effect - at.as_millis() as f64
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.unwrap().as_millis()).unwrap()
}

/// What the operator asked since then, each request once, without the Lease.
fn requests(cluster: &Cluster, since: &str) -> Vec<Value> {
    let mut seen = BTreeSet::new();
    let mut all = cluster.requests_of(ACCOUNT);
    all.retain(|entry| {
        entry["requestReceivedTimestamp"].as_str().unwrap() >= since
            && entry["objectRef"]["resource"] != "leases"
            && seen.insert(entry["auditID"].to_string())
    });
    all
}

/// How often it asked what.
fn tally(requests: &[Value]) -> Value {
    let mut counts = serde_json::Map::new();
    for request in requests {
        let object = &request["objectRef"];
        let part = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
        let what = format!(
            "{} {} {}",
            request["verb"].as_str().unwrap_or_default(),
            part("resource"),
            part("subresource")
        );
        let count = counts.entry(what.trim().to_owned()).or_insert(json!(0));
        *count = json!(count.as_u64().unwrap() + 1);
    }
    counts.into()
}

fn median(figures: &[f64]) -> f64 {
    let mut all = figures.to_vec();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// Every site of every service, and the pager.
struct Endpoints {
    port: u16,
    failed: Arc<Mutex<BTreeSet<String>>>,
}

impl Endpoints {
    async fn serve() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let failed = Arc::new(Mutex::new(BTreeSet::new()));
        let known = failed.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, known.clone()));
            }
        });
        Self { port, failed }
    }

    fn fail(&self, n: usize) {
        let mut failed = self.failed.lock().unwrap();
        failed.insert(format!("/east/{}", name(n)));
    }
}

async fn answer(mut stream: TcpStream, failed: Arc<Mutex<BTreeSet<String>>>) {
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    while !is_whole(&text) {
        match stream.read(&mut buffer).await {
            Ok(n) if n > 0 => text.extend_from_slice(&buffer[..n]),
            Ok(_) | Err(_) => return,
        }
    }
    let text = String::from_utf8_lossy(&text);
    let path = text.split(' ').nth(1).unwrap_or_default();
    let status = if failed.lock().unwrap().contains(path) {
        "503 Service Unavailable"
    } else {
        "200 OK"
    };
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
    // Whoever asked may be gone.
    let _ = stream.write_all(answer.as_bytes()).await;
}

/// Whether a request is there with its body.
fn is_whole(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.map_or(0, |n| n.trim().parse().unwrap_or(0));
    body.len() >= length
}
