//! Clients that write all the time at both sites, and know what was acknowledged.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    thread::{self, JoinHandle, sleep},
    time::{Duration, Instant},
};

use tokio_postgres::error::SqlState;

use super::stage::{Place, Site};
use crate::stand::postgres::until;

/// How a client reaches a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// By TCP, on its host.
    Local,
    /// By the Unix socket.
    Socket,
    /// By TCP, from the clients' host.
    Remote,
}

/// A write that was acknowledged, or one that was not.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    /// What the row says.
    pub number: i64,
    pub site: &'static str,
    pub way: Way,
    pub at: Instant,
}

/// What became of writes.
#[derive(Default)]
struct Ledger {
    numbers: AtomicI64,
    acknowledged: Mutex<Vec<Write>>,
    refused: Mutex<Vec<Write>>,
}

impl Ledger {
    fn note(list: &Mutex<Vec<Write>>, number: i64, (site, way): (&'static str, Way)) {
        list.lock().unwrap().push(Write {
            number,
            site,
            way,
            at: Instant::now(),
        });
    }
}

/// Clients that write all the time, by TCP and by Unix socket, at both sites.
pub struct Witness {
    ledger: Arc<Ledger>,
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Witness {
    pub fn watch(sites: [&Site; 2]) -> Self {
        let mut witness = Self {
            ledger: Arc::default(),
            ends: Arc::default(),
            threads: Vec::new(),
        };
        for site in sites {
            let local = format!("host=127.0.0.1 port={} user=postgres", site.cluster.port);
            witness.add(site, &site.place, Way::Local, &local);
            witness.add(site, &site.place, Way::Socket, &site.cluster.superuser());
        }
        witness
    }

    /// One more client, on that host, which reaches the database of a site there.
    pub fn from(&mut self, site: &Site, place: &Place, database: SocketAddr) {
        let (host, port) = (database.ip(), database.port());
        let conninfo = format!("host={host} port={port} user=postgres");
        self.add(site, place, Way::Remote, &conninfo);
    }

    fn add(&mut self, site: &Site, place: &Place, way: Way, conninfo: &str) {
        // A standby turns them away all the time: its log has better to tell.
        let conninfo = format!("{conninfo} options='-c log_min_messages=fatal'");
        let (ledger, ends) = (Arc::clone(&self.ledger), Arc::clone(&self.ends));
        let at = (site.name, way);
        let _inside = place.enter();
        self.threads.push(thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            while !ends.load(Ordering::Relaxed) {
                runtime.block_on(write(&conninfo, &ends, &ledger, at));
                sleep(Duration::from_millis(10));
            }
        }));
    }

    pub fn writes(&self) -> Vec<Write> {
        self.ledger.acknowledged.lock().unwrap().clone()
    }

    /// Writes at a site that were not acknowledged since then.
    pub fn refused(&self, site: &str, since: Instant) -> Vec<Write> {
        let refused = self.ledger.refused.lock().unwrap();
        let of = refused.iter().filter(|w| w.site == site && w.at >= since);
        of.copied().collect()
    }

    /// When the last write at a site was acknowledged.
    pub fn last(&self, site: &str) -> Option<Instant> {
        let writes = self.writes();
        writes.iter().filter(|w| w.site == site).map(|w| w.at).max()
    }

    /// When the first one was.
    pub fn first(&self, site: &str) -> Option<Instant> {
        let writes = self.writes();
        writes.iter().filter(|w| w.site == site).map(|w| w.at).min()
    }

    /// Waits until writes of both clients on its host are acknowledged that began after now.
    pub fn until_written(&self, site: &str) {
        self.until_written_by(site, &[Way::Local, Way::Socket]);
    }

    /// The same of these clients.
    pub fn until_written_by(&self, site: &str, ways: &[Way]) {
        let now = Instant::now();
        until(&format!("writes at {site}"), || {
            ways.iter().copied().all(|way| {
                let mine = |w: &Write| w.site == site && w.way == way && w.at > now;
                self.writes().iter().any(mine)
            })
        });
    }

    /// The longest time between two writes at a site since then.
    pub fn longest_gap(&self, site: &str, since: Instant) -> Duration {
        let mut times: Vec<Instant> = self
            .writes()
            .into_iter()
            .filter(|w| w.site == site)
            .map(|w| w.at)
            .collect();
        times.retain(|at| *at >= since);
        times.sort_unstable();
        times
            .windows(2)
            .map(|w| w[1] - w[0])
            .max()
            .unwrap_or_default()
    }

    /// No write of `old` was acknowledged after the first one of `new`.
    pub fn never_both(&self, old: &str, new: &str) {
        let writes = self.writes();
        let last = writes.iter().filter(|w| w.site == old).map(|w| w.at).max();
        let first = writes.iter().filter(|w| w.site == new).map(|w| w.at).min();
        assert!(last.unwrap() < first.unwrap(), "both wrote");
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Writes until something fails. A server that takes no writes is asked again in the same session.
async fn write(conninfo: &str, ends: &AtomicBool, ledger: &Ledger, at: (&'static str, Way)) {
    let patience = Duration::from_secs(2);
    let connected = tokio::time::timeout(
        patience,
        tokio_postgres::connect(conninfo, tokio_postgres::NoTls),
    );
    let Ok(Ok((client, connection))) = connected.await else {
        Ledger::note(&ledger.refused, 0, at);
        return;
    };
    let task = tokio::spawn(connection);
    while !ends.load(Ordering::Relaxed) {
        let number = ledger.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        let insert = format!("INSERT INTO witness (number) VALUES ({number})");
        let insert = client.batch_execute(&insert);
        match tokio::time::timeout(patience, insert).await {
            Ok(Ok(())) => Ledger::note(&ledger.acknowledged, number, at),
            Ok(Err(error)) => {
                Ledger::note(&ledger.refused, number, at);
                if error.code() != Some(&SqlState::READ_ONLY_SQL_TRANSACTION) {
                    break;
                }
            }
            Err(_) => {
                Ledger::note(&ledger.refused, number, at);
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    task.abort();
}
