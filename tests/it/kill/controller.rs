//! The controller that is killed: a process of its own, made of this test binary, with the product's controller in it
//! and the people who work with it. Its journal sends SIGKILL to its own process where it was told to.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use failover::{
    announce::ledger::SqliteLedger,
    decide::{core::Core, event::Command},
    driver::{
        clock::HostRuntime,
        controller::{Controller, Means},
        metrics::Metrics,
        registry::kinds,
    },
    journal::sqlite::SqliteJournal,
    model::{
        announcement::Phase,
        id::{ChannelName, PageId, Seq, ServiceName},
        record::{Record, RunOutcome},
        verdict::Verdict,
    },
    port::{
        journal::{Draft, Journal, JournalError},
        ledger::{Ledger, Mailing},
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
use tokio::sync::Mutex;

use super::point::{Names, Point, Side};

/// The variable that holds the [`Orders`].
pub const ORDERS: &str = "FAILOVER_TEST_ORDERS";

/// No life is longer; a controller whose test is gone ends by itself.
const LONGEST: Duration = Duration::from_mins(1);

/// What this process is to do.
#[derive(Debug, Serialize, Deserialize)]
pub struct Orders {
    /// The documents that it runs with.
    pub documents: PathBuf,
    /// Its state folder.
    pub state: PathBuf,
    /// Fetching this ends the primary.
    pub end_primary: String,
    /// Where it dies.
    pub die: Option<Point>,
}

/// Lives until the outage is over, everybody was told, and the failover is acknowledged; or dies before. Tests start
/// it in a process of its own: without their orders there is nothing to live for.
#[tokio::test]
async fn life() {
    let Ok(orders) = std::env::var(ORDERS) else {
        return;
    };
    let orders: Orders = serde_json::from_str(&orders).unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    tokio::time::timeout(LONGEST, live(orders))
        .await
        .expect("the story does not come to its end");
}

async fn live(orders: Orders) {
    let loaded = spec::load(&[orders.documents], kinds());
    let wrong: Vec<&str> = loaded
        .diagnostics
        .iter()
        .map(|d| d.message.as_str())
        .collect();
    assert!(loaded.is_usable(), "{wrong:#?}");
    let runtime = Arc::new(HostRuntime::new());
    let journal = SqliteJournal::open(&orders.state.join("journal.sqlite")).unwrap();
    let ledger = Arc::new(SqliteLedger::open(&orders.state.join("ledger.sqlite")).unwrap());
    let means = Means {
        kinds: kinds(),
        journal: Arc::new(Deadly {
            journal,
            die: orders.die,
            names: Mutex::default(),
        }),
        leader: None,
        copy: None,
        ledger: ledger.clone(),
        runtime: runtime.clone(),
        secrets: Arc::new(HostSecrets),
        state: orders.state.clone(),
        metrics: Arc::new(Metrics::new(runtime, "test")),
        guards: None,
        pages: Pages::default(),
        upkeep: true,
    };
    let (controller, mut ends) = Controller::start(loaded.services, means).await.unwrap();
    People {
        controller: &controller,
        ledger: ledger.as_ref(),
        end_primary: &orders.end_primary,
    }
    .work()
    .await;
    controller.stop();
    let (_, end) = ends.next().await.unwrap();
    end.unwrap();
}

/// A journal that is the death of its process.
struct Deadly {
    journal: SqliteJournal,
    die: Option<Point>,
    names: Mutex<Names>,
}

impl Deadly {
    /// Where among these records it is time to die, if it is.
    async fn moment(&self, drafts: &[Draft]) -> Option<(usize, Side)> {
        let point = self.die.as_ref()?;
        let mut names = self.names.lock().await;
        let records: Vec<String> = drafts.iter().map(|d| names.of(&d.body)).collect();
        let index = records.iter().position(|r| *r == point.record)?;
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

/// The people of the service, and its fate: each does what is next, as soon as it can be seen to be next.
struct People<'a> {
    controller: &'a Controller,
    ledger: &'a SqliteLedger,
    end_primary: &'a str,
}

enum Deed {
    Wait,
    EndPrimary,
    Say(Command),
    GoHome,
}

impl People<'_> {
    async fn work(&self) {
        let shop = ServiceName::from("shop");
        loop {
            let core = self.controller.show(&shop).await.unwrap();
            match self.next(&core).await {
                Deed::Wait => tokio::time::sleep(Duration::from_millis(20)).await,
                Deed::EndPrimary => drop(reqwest::get(self.end_primary).await.unwrap()),
                Deed::Say(command) => drop(self.controller.command(&shop, command).await.unwrap()),
                Deed::GoHome => return,
            }
        }
    }

    async fn next(&self, core: &Core) -> Deed {
        let state = core.state();
        let healthy = core.service().components.iter().all(|c| {
            let verdict = state.verdicts.get(&c.name);
            verdict.is_some_and(|v| v.0 == Verdict::Healthy)
        });
        let asked = state.asks.values().any(|q| !q.granted);
        let told = state
            .announcements
            .values()
            .all(|told| told.settled.is_some());
        let ended = state.last_run.as_ref().and_then(|r| r.ended.as_ref());
        match (&state.incident, ended) {
            (None, None) if healthy && state.check.is_some() => Deed::EndPrimary,
            _ if asked && self.paged(core).await => Deed::Say(Command::Approve {
                ask: None,
                by: "ann".into(),
                reason: None,
                break_glass: false,
            }),
            (Some(incident), Some((RunOutcome::Done, _, _))) if healthy && told => {
                if state.unacknowledged.is_some() && self.paged(core).await {
                    Deed::Say(Command::Acknowledge {
                        page: None,
                        by: "ann".into(),
                    })
                } else if state.unacknowledged.is_some() {
                    Deed::Wait
                } else if incident.phase == Some(Phase::OnStandby) {
                    Deed::Say(Command::Announce {
                        phase: Phase::Recovered,
                        text: None,
                        by: "ann".into(),
                    })
                } else if self.paged(core).await {
                    Deed::GoHome
                } else {
                    Deed::Wait
                }
            }
            _ => Deed::Wait,
        }
    }

    /// Whether the team has been sent every page that is open: nobody answers before.
    async fn paged(&self, core: &Core) -> bool {
        for page in core.state().pages.keys() {
            if self.ledger.tally(&page_mailing(page)).await.unwrap().sent == 0 {
                return false;
            }
        }
        true
    }
}

/// How the ledger calls the first sending of a page.
pub fn page_mailing(page: &PageId) -> Mailing {
    Mailing {
        service: "shop/team".into(),
        message: format!("{page}-0"),
        channel: ChannelName::from("pager"),
    }
}
