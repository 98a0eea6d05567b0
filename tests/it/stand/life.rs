//! The life of a controller that may be killed: a process of its own, made of this test binary, with the product's
//! controller in it. Its journal sends SIGKILL to its own process where it was told to.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use failover::{
    announce::ledger::SqliteLedger,
    driver::{
        clock::HostRuntime,
        controller::{Controller, Ends, Means},
        metrics::Metrics,
        registry::kinds,
    },
    journal::sqlite::SqliteJournal,
    model::{
        id::{Seq, ServiceName},
        record::{Record, RecordBody},
    },
    port::{
        journal::{Draft, Journal, JournalError},
        secret::HostSecrets,
    },
    publish::listener::Pages,
    spec,
};
use futures::{StreamExt, poll};
use nix::{
    sys::signal::{Signal, kill},
    unistd::getpid,
};
use serde::{Deserialize, Serialize};
use tokio::{process::Command, sync::Mutex};

use super::point::{Names, Point, Side};

/// The variable that holds the [`Orders`].
const ORDERS: &str = "FAILOVER_TEST_ORDERS";

/// What a life is to do.
#[derive(Debug, Serialize, Deserialize)]
pub struct Orders {
    /// The documents that it runs with.
    pub documents: PathBuf,
    /// Its state folder.
    pub state: PathBuf,
    /// Where it dies.
    pub die: Option<Point>,
    /// Fetching this ends the primary, where that is part of the story.
    pub end_primary: Option<String>,
}

impl Orders {
    /// The process that lives by them: this test of this binary. What it says goes to a log.
    pub fn process(&self, test: &str, log: &Path) -> Command {
        let log = fs::File::options().create(true).append(true).open(log);
        let log = log.unwrap();
        let mut process = Command::new(std::env::current_exe().unwrap());
        process
            .args(["--exact", test, "--nocapture"])
            .env(ORDERS, serde_json::to_string(self).unwrap())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true);
        process
    }
}

/// Lives by the orders of this process; without any there is nothing to live for. No life is longer than this: a
/// controller whose test is gone ends by itself.
pub async fn live(longest: Duration, story: impl AsyncFnOnce(Orders)) {
    let Ok(orders) = std::env::var(ORDERS) else {
        return;
    };
    let orders: Orders = serde_json::from_str(&orders).unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    tokio::time::timeout(longest, story(orders))
        .await
        .expect("the story does not come to its end");
}

/// What a record is called; none where nobody dies at it.
pub type Naming = fn(&mut Names, &RecordBody) -> Option<String>;

/// A controller that lives.
pub struct Life {
    /// The controller.
    pub controller: Arc<Controller>,
    /// Its ledger.
    pub ledger: Arc<SqliteLedger>,
    ends: Ends,
}

impl Life {
    /// Starts it.
    pub async fn begin(orders: Orders, naming: Naming) -> Self {
        let loaded = spec::load(&[orders.documents], kinds());
        let wrong: Vec<&str> = loaded
            .diagnostics
            .iter()
            .map(|d| d.message.as_str())
            .collect();
        assert!(loaded.is_usable(), "{wrong:#?}");
        let runtime = Arc::new(HostRuntime::new());
        let journal = SqliteJournal::open(&orders.state.join("journal.sqlite")).unwrap();
        let ledger = SqliteLedger::open(&orders.state.join("ledger.sqlite")).unwrap();
        let ledger = Arc::new(ledger);
        let means = Means {
            kinds: kinds(),
            journal: Arc::new(Deadly {
                journal,
                die: orders.die,
                naming,
                names: Mutex::default(),
            }),
            leader: None,
            copy: None,
            ledger: ledger.clone(),
            runtime: runtime.clone(),
            secrets: Arc::new(HostSecrets),
            state: orders.state,
            metrics: Arc::new(Metrics::new(runtime, "test")),
            guards: None,
            pages: Pages::default(),
            upkeep: true,
        };
        let (controller, ends) = Controller::start(loaded.services, means).await.unwrap();
        Self {
            controller,
            ledger,
            ends,
        }
    }

    /// Stops it in order.
    pub async fn end(mut self) {
        self.controller.stop();
        let (_, end) = self.ends.next().await.unwrap();
        end.unwrap();
    }
}

/// A journal that is the death of its process.
struct Deadly {
    journal: SqliteJournal,
    die: Option<Point>,
    naming: Naming,
    names: Mutex<Names>,
}

impl Deadly {
    /// Where among these records it is time to die, if it is.
    async fn moment(&self, drafts: &[Draft]) -> Option<(usize, Side)> {
        let point = self.die.as_ref()?;
        let mut names = self.names.lock().await;
        let records: Vec<Option<String>> = drafts
            .iter()
            .map(|d| (self.naming)(&mut names, &d.body))
            .collect();
        let index = records
            .iter()
            .position(|r| r.as_ref() == Some(&point.record))?;
        Some((index, point.side))
    }
}

#[async_trait]
impl Journal for Deadly {
    async fn append(
        &self,
        chain: &ServiceName,
        after: Seq,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Record>, JournalError> {
        let moment = self.moment(&drafts).await;
        if let Some((0, Side::Before)) = moment {
            die();
        }
        let mut appending = self.journal.append(chain, after, drafts);
        if let Some((_, Side::Before)) = moment {
            // Records that are appended together are durable together: in between is in the middle of writing them.
            let _ = poll!(&mut appending);
            die();
        }
        let appended = appending.await;
        if moment.is_some() {
            die();
        }
        appended
    }

    async fn read(&self, chain: &ServiceName, from: Seq) -> Result<Vec<Record>, JournalError> {
        self.journal.read(chain, from).await
    }

    async fn chains(&self) -> Result<Vec<ServiceName>, JournalError> {
        self.journal.chains().await
    }
}

fn die() -> ! {
    kill(getpid(), Signal::SIGKILL).unwrap();
    unreachable!("SIGKILL cannot be survived");
}
