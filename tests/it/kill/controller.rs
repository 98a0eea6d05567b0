//! The controller that is killed, and the people who work with it.

use std::time::Duration;

use failover::{
    announce::ledger::SqliteLedger,
    decide::{core::Core, event::Command},
    driver::controller::Controller,
    model::{
        announcement::Phase,
        id::{ChannelName, PageId, ServiceName},
        record::RunOutcome,
        verdict::Verdict,
    },
    port::ledger::{Ledger, Mailing},
};

use crate::stand::life::{self, Life};

/// No life is longer; a controller whose test is gone ends by itself.
const LONGEST: Duration = Duration::from_mins(1);

/// Lives until the outage is over, everybody was told, and the failover is acknowledged; or dies before. Tests start
/// it in a process of its own.
#[tokio::test]
async fn life() {
    life::live(LONGEST, async |orders| {
        let end_primary = orders.end_primary.clone().unwrap();
        let life = Life::begin(orders, |names, body| Some(names.of(body))).await;
        People {
            controller: &life.controller,
            ledger: life.ledger.as_ref(),
            end_primary: &end_primary,
        }
        .work()
        .await;
        life.end().await;
    })
    .await;
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
                user: None,
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
