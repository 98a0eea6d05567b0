//! What a crash costs: how long a client goes without a write, and how many acknowledged writes are gone, against the
//! floor of the same machine in the same run, where nobody has to detect, fence or decide anything. Then the time from
//! a decision to its first effect.
//!
//! `cargo bench --bench downtime` prints a table, and the same figures as one line of JSON. It needs PostgreSQL 15.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on should say where"
)]
#![expect(clippy::print_stdout, reason = "the figures are the output")]

use std::{
    fs,
    path::Path,
    process::{Command as Process, Stdio},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use failover::{
    announce::ledger::SqliteLedger,
    decide::event::{Command, Reply},
    driver::{
        clock::HostRuntime,
        controller::{Controller, Means},
        metrics::Metrics,
        registry,
    },
    journal::sqlite::SqliteJournal,
    model::{id::ServiceName, plan::RunKind},
    port::{runtime::SharedRuntime, secret::HostSecrets},
    publish::listener::Pages,
    spec,
};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

#[path = "../it/stand/postgres.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod postgres;

/// Crashes of each kind; the medians are shown.
const CRASHES: usize = 5;
/// Decisions that are timed.
const DECISIONS: usize = 20;
/// A decision that has no effect by then has none.
const LONGEST: Duration = Duration::from_secs(10);
/// A client that is turned away tries again after this, like the demo's.
const AGAIN: Duration = Duration::from_millis(10);

fn main() {
    rustls::crypto::ring::default_provider()
        .install_default()
        .unwrap();
    let runtime = Runtime::new().unwrap();
    let floors: Vec<Crash> = (0..CRASHES).map(|_| runtime.block_on(floor())).collect();
    let demos: Vec<Demo> = (0..CRASHES).map(|_| demo()).collect();
    let decisions: Vec<f64> = (0..DECISIONS)
        .map(|_| runtime.block_on(decision()).as_secs_f64() * 1000.0)
        .collect();

    let bare = median(floors.iter().map(|c| c.downtime.as_secs_f64()));
    let whole = median(demos.iter().map(|d| d.downtime));
    let detection = median(demos.iter().map(|d| d.detection));
    let lost_bare: u64 = floors.iter().map(|c| c.lost).sum();
    let lost: u64 = demos.iter().map(|d| d.lost).sum();
    let acknowledged: u64 = demos.iter().map(|d| d.acknowledged).sum();
    let slowest = decisions.iter().copied().fold(0.0, f64::max);
    let typical = median(decisions.iter().copied());
    let rows = [
        ("floor: kill to next write, s", format!("{bare:.3}")),
        ("floor: acknowledged writes lost", lost_bare.to_string()),
        (
            "failover: last write to next write, s",
            format!("{whole:.3}"),
        ),
        (
            "  of that until it was called an outage, s",
            format!("{detection:.3}"),
        ),
        ("  of the floor", format!("{:.1}", whole / bare)),
        (
            "failover: acknowledged writes lost",
            format!("{lost} of {acknowledged}"),
        ),
        (
            "decision to first effect, median ms",
            format!("{typical:.1}"),
        ),
        (
            "decision to first effect, slowest ms",
            format!("{slowest:.1}"),
        ),
    ];
    for (what, figure) in rows {
        println!("{what:<44} {figure:>12}");
    }
    println!(
        "{}",
        json!({
            "crashes": CRASHES,
            "floor_s": bare,
            "floor_lost": lost_bare,
            "downtime_s": whole,
            "detection_s": detection,
            "ratio": whole / bare,
            "lost": lost,
            "acknowledged": acknowledged,
            "decision_ms_median": typical,
            "decision_ms_slowest": slowest,
        })
    );
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = figures.collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

struct Crash {
    downtime: Duration,
    lost: u64,
}

/// A pair whose primary is killed, and whose standby is promoted in the same moment by somebody who knew.
async fn floor() -> Crash {
    let mut pair = postgres::Pair::start();
    pair.primary
        .sql("CREATE TABLE orders (id bigserial PRIMARY KEY, at timestamptz DEFAULT now())");
    pair.settle();
    let primary = connect(&pair.primary.superuser()).await;
    let standby = connect(&pair.standby.superuser()).await;
    let mut acknowledged = Vec::new();
    let writing_ends = Instant::now() + Duration::from_secs(2);
    let mut served = Instant::now();
    while Instant::now() < writing_ends {
        acknowledged.push(order(&primary).await.unwrap());
        served = Instant::now();
        tokio::time::sleep(AGAIN).await;
    }
    pair.primary.crash();
    standby
        .execute("SELECT pg_promote(false)", &[])
        .await
        .unwrap();
    while order(&standby).await.is_err() {
        tokio::time::sleep(AGAIN).await;
    }
    let downtime = served.elapsed();
    let rows = standby.query("SELECT id FROM orders", &[]).await.unwrap();
    let kept: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    let lost = acknowledged.iter().filter(|id| !kept.contains(id)).count();
    Crash {
        downtime,
        lost: u64::try_from(lost).unwrap(),
    }
}

async fn connect(conninfo: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(conninfo, NoTls).await.unwrap();
    tokio::spawn(async move {
        // The killed server's connection ends with an error, which is what it was killed for.
        let _ = connection.await;
    });
    client
}

async fn order(client: &Client) -> Result<i64, tokio_postgres::Error> {
    let row = client
        .query_one("INSERT INTO orders DEFAULT VALUES RETURNING id", &[])
        .await?;
    Ok(row.get(0))
}

struct Demo {
    downtime: f64,
    detection: f64,
    lost: u64,
    acknowledged: u64,
}

/// The whole product on the same kind of pair.
fn demo() -> Demo {
    let out = Process::new(env!("CARGO_BIN_EXE_failover"))
        .args(["demo", "--immediate", "--output", "json"])
        .stderr(Stdio::null())
        .output()
        .unwrap();
    assert!(out.status.success(), "the demo failed");
    let figures: Value = serde_json::from_slice(&out.stdout).unwrap();
    Demo {
        downtime: figures["downtime_s"].as_f64().unwrap(),
        detection: figures["detection_s"].as_f64().unwrap(),
        lost: figures["lost_writes"].as_u64().unwrap(),
        acknowledged: figures["acknowledged_writes"].as_u64().unwrap(),
    }
}

/// From the moment a person's order reaches the controller to the moment the fence command runs: decided, two records
/// durable, a process started.
async fn decision() -> Duration {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let fenced = folder.path().join("fenced");
    let loaded = spec::read_text("bench.yaml", &documents(&fenced), registry::kinds());
    assert!(loaded.is_usable(), "{:?}", loaded.diagnostics);
    let runtime: SharedRuntime = Arc::new(HostRuntime::new());
    let means = Means {
        kinds: registry::kinds(),
        journal: Arc::new(SqliteJournal::open(&folder.path().join("journal.sqlite")).unwrap()),
        leader: None,
        copy: None,
        ledger: Arc::new(SqliteLedger::open(&folder.path().join("ledger.sqlite")).unwrap()),
        runtime: runtime.clone(),
        secrets: Arc::new(HostSecrets),
        state: folder.path().to_owned(),
        metrics: Arc::new(Metrics::new(runtime, "bench")),
        guards: None,
        pages: Pages::default(),
        upkeep: false,
    };
    let (controller, mut ends) = Controller::start(loaded.services, means).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let began = SystemTime::now();
    let open = Command::Open {
        kind: RunKind::Failover,
        to: None,
        plan: None,
        by: "ann".into(),
        reason: "benchmark".to_owned(),
    };
    let reply = controller
        .command(&ServiceName::new("bench"), open)
        .await
        .unwrap();
    let starts = matches!(&reply, Reply::Ok(text) if text.contains("begins"));
    assert!(starts, "{reply:?}");
    let effect = loop {
        if let Some(at) = moment(&fenced) {
            break at;
        }
        assert!(began.elapsed().unwrap() < LONGEST, "the step did not begin");
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    controller.stop();
    ends.next().await.unwrap().1.unwrap();
    effect.duration_since(began).unwrap()
}

/// The nanoseconds that the command wrote, once it has written them all.
fn moment(file: &Path) -> Option<SystemTime> {
    let text = fs::read_to_string(file).ok()?;
    let nanos = text.strip_suffix('\n')?.parse().ok()?;
    Some(UNIX_EPOCH + Duration::from_nanos(nanos))
}

fn documents(fenced: &Path) -> String {
    let fenced = fenced.display();
    format!(
        r#"
apiVersion: failover.rs/v1alpha1
kind: ProtectedService
metadata: {{name: bench}}
spec:
  title: Bench
  mode: ask
  objectives: {{rto: 5m, rpo: 1m}}
  sites:
    - {{name: a, role: primary, location: {{region: here, country: DE}}}}
    - {{name: b, role: standby, location: {{region: there, country: DE}}}}
  vantagePoints:
    - {{name: here, network: here}}
  components:
    - name: web
      kind: application
      probes:
        - {{id: a, uses: probe/tcp, site: a, every: 1s, timeout: 1s, with: {{host: 127.0.0.1, port: 1}}}}
        - {{id: b, uses: probe/tcp, site: b, cold: true, every: 1s, timeout: 1s, with: {{host: 127.0.0.1, port: 1}}}}
  trigger: {{manual: {{}}}}
  quorum: {{networks: 1}}
  team:
    people:
      - {{name: ann, tokenHash: "sha256:3e872b00389b0a41b472b00d8e12c94af1526ddfa6c9d452e2c48351e47a4cbe"}}
    channels:
      - name: pager
        uses: announce/webhook
        with: {{url: "http://127.0.0.1:1/", secret: {{env: PATH}}, allowPrivate: true}}
  approvals: {{required: 1, approvers: [ann]}}
  runbook: bench
---
apiVersion: failover.rs/v1alpha1
kind: Runbook
metadata: {{name: bench}}
spec:
  title: Bench
  steps:
    - id: stop
      uses: command/fence
      with: {{perform: [sh, -c, "date +%s%N >{fenced}"], observe: [test, -s, "{fenced}"]}}
    - {{id: verify, uses: service/verify}}
"#
    )
}
