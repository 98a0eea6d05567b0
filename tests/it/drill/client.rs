//! A client that writes all the time, and remembers each write that was acknowledged and how long it took.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use tokio::{task::JoinHandle, time::sleep};
use tokio_postgres::NoTls;

use crate::stand::postgres::Cluster;

/// Its pause between two writes.
const PACE: Duration = Duration::from_millis(5);

/// A write that was acknowledged.
pub struct Write {
    /// Its row.
    pub id: i64,
    /// When it was begun.
    pub at: SystemTime,
    /// How long it took.
    pub took: Duration,
}

/// A client at work.
pub struct Client {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Vec<Write>>,
}

impl Client {
    /// Makes the table `orders` with a thousand rows, and writes to it from now on. A write that fails ends the client.
    pub fn start(primary: &Cluster) -> Self {
        primary.sql(
            "CREATE TABLE orders (id bigserial PRIMARY KEY, at timestamptz DEFAULT clock_timestamp());
             INSERT INTO orders SELECT FROM generate_series(1, 1000)",
        );
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(work(primary.superuser(), stop.clone()));
        Self { stop, task }
    }

    /// What was acknowledged.
    pub async fn end(self) -> Vec<Write> {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap()
    }
}

async fn work(conninfo: String, stop: Arc<AtomicBool>) -> Vec<Write> {
    let (client, connection) = tokio_postgres::connect(&conninfo, NoTls).await.unwrap();
    tokio::spawn(connection);
    let insert = "INSERT INTO orders DEFAULT VALUES RETURNING id";
    let insert = client.prepare(insert).await.unwrap();
    let mut writes = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let (at, began) = (SystemTime::now(), Instant::now());
        let row = client.query_one(&insert, &[]).await.unwrap();
        writes.push(Write {
            id: row.get(0),
            at,
            took: began.elapsed(),
        });
        sleep(PACE).await;
    }
    writes
}

/// How many of the writes are not in a database.
pub fn lost(writes: &[Write], cluster: &Cluster) -> usize {
    let there: BTreeSet<i64> = cluster
        .sql("SELECT id FROM orders")
        .lines()
        .map(|id| id.parse().unwrap())
        .collect();
    writes.iter().filter(|w| !there.contains(&w.id)).count()
}

/// The 99th percentile of what writes took, in milliseconds.
pub fn p99<'a>(writes: impl Iterator<Item = &'a Write>) -> f64 {
    let mut all: Vec<Duration> = writes.map(|w| w.took).collect();
    all.sort();
    let at = (all.len() * 99 / 100).min(all.len().saturating_sub(1));
    all[at].as_secs_f64() * 1000.0
}
