//! `guard/rejoin`: the guard of a site that was left keeps what only that site has, brings its data into line, and
//! follows.

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    model::{
        guard::{Boot, Database, Report, Resync, Role},
        id::SiteName,
        plan::StepPhase,
        span::Span,
        step::{Presence, Proof, StepResult},
    },
    port::{
        action::{Action, SharedAction, StepContext},
        guard::{AGAIN, Order, Pace, SharedGuards},
        kind::{Kind, Make, MakeError, Wiring, With, read},
        runtime::SharedRuntime,
    },
};

/// What was said longer ago says nothing of now.
const FRESH: Span = Span::from_secs(5);

/// `guard/rejoin`.
pub const KIND: Kind = Kind::new::<GuardRejoinWith>(
    "guard/rejoin",
    "has a site that was left keep what only it has, bring its data into line, and follow the site that serves",
    "{}",
    Make::Action(make),
)
.in_phase(StepPhase::Protect)
.both_ways();

/// Settings of `guard/rejoin`: how the data is brought into line, stands in the `guard.yaml` of the site.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GuardRejoinWith {}

impl With for GuardRejoinWith {}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedAction, MakeError> {
    let GuardRejoinWith {} = read(with)?;
    Ok(Arc::new(GuardRejoin {
        guards: wiring.guards()?,
        runtime: wiring.runtime.clone(),
    }))
}

struct GuardRejoin {
    guards: SharedGuards,
    runtime: SharedRuntime,
}

/// How a return stands.
enum Stands {
    Done(Proof),
    /// It has to be ordered.
    Before(String),
    /// The guard is at work on the data.
    UnderWay(String),
    /// It is not known, or not over, and nothing is to be ordered.
    Waits(String),
    Failed(String),
}

#[async_trait]
impl Action for GuardRejoin {
    async fn perform(&self, step: &StepContext) -> StepResult {
        let deadline = step.deadline(self.runtime.now());
        let site = &step.site.name;
        let mut pace = Pace::default();
        let mut began = None;
        loop {
            if pace.is_due(self.runtime.now()) {
                self.guards.order(site, Order::Look);
                if began.is_none() {
                    self.order(site);
                }
            }
            let reason = match self.stands(site) {
                Stands::Done(proof) => return StepResult::Done(proof),
                // What failed before this step began, or with the guard, is not its failure.
                Stands::Failed(reason) if began.is_some() && began == self.life(site) => {
                    return StepResult::failed(reason);
                }
                Stands::Waits(reason) => reason,
                // A guard that was started anew has to be told again.
                Stands::Before(reason) | Stands::Failed(reason) => {
                    began = None;
                    reason
                }
                Stands::UnderWay(reason) => {
                    began = self.life(site);
                    reason
                }
            };
            if self.runtime.now() >= deadline {
                return StepResult::indeterminate(reason);
            }
            self.guards.news(AGAIN.to_std()).await;
        }
    }

    async fn observe(&self, step: &StepContext) -> Presence {
        let deadline = step.deadline(self.runtime.now());
        let site = &step.site.name;
        let mut pace = Pace::default();
        loop {
            if pace.is_due(self.runtime.now()) {
                self.guards.order(site, Order::Look);
            }
            self.guards.news(AGAIN.to_std()).await;
            let reason = match self.stands(site) {
                Stands::Done(proof) => return Presence::InPlace(proof),
                Stands::Before(reason) | Stands::Failed(reason) => return Presence::absent(reason),
                Stands::UnderWay(reason) | Stands::Waits(reason) => reason,
            };
            if self.runtime.now() >= deadline {
                return Presence::unknown(reason);
            }
        }
    }
}

impl GuardRejoin {
    /// Which life of its guard was heard last.
    fn life(&self, site: &SiteName) -> Option<Boot> {
        self.guards.heard(site).map(|h| h.report.boot)
    }

    /// Whoever still believes in an epoch that is over is fenced first.
    fn order(&self, site: &SiteName) {
        let Some(terms) = self.guards.terms().filter(|t| t.site != *site) else {
            return;
        };
        let report = self.guards.heard(site).map(|h| h.report);
        let promise = report.and_then(|r| r.promise);
        match promise {
            Some(p) if p.role == Role::Fenced => self.guards.order(site, Order::Resync),
            Some(p) if p.role == Role::Standby => {}
            Some(_) | None => self.guards.order(site, Order::Fence(terms.epoch)),
        }
    }

    fn stands(&self, site: &SiteName) -> Stands {
        let Some(report) = self.guards.heard_within(site, FRESH) else {
            return Stands::Waits(format!("the guard of {site} does not answer"));
        };
        match report.resync {
            Some(Resync::UnderWay) => {
                return Stands::UnderWay(format!("the data at {site} is being brought into line"));
            }
            Some(Resync::Failed) => {
                return Stands::Failed(format!(
                    "the data at {site} could not be brought into line: see the guard's log there"
                ));
            }
            Some(Resync::HalfDone) => {
                return Stands::Failed(format!(
                    "pg_rewind was broken off at {site}: its data is neither the old nor the new; the next failback has the \
                     guard there make a new copy of the site that serves"
                ));
            }
            Some(Resync::Done(_)) | None => {}
        }
        match report.promise.as_ref().map(|p| p.role) {
            Some(Role::Standby) if report.database == Some(Database::Following) => {
                if self.has_caught_up(site, &report) {
                    Stands::Done(proof(site, &report))
                } else {
                    Stands::Waits(format!("{site} follows and has not caught up yet"))
                }
            }
            Some(Role::Standby) => {
                Stands::Waits(format!("the database at {site} does not follow yet"))
            }
            Some(Role::Fenced) => Stands::Before(format!("{site} is fenced")),
            Some(Role::Primary) | None => {
                Stands::Before(format!("{site} has no part in the newest epoch"))
            }
        }
    }

    /// Whether it has what the serving site had written when that was heard last, or nearly so.
    fn has_caught_up(&self, site: &SiteName, report: &Report) -> bool {
        /// What is written between two reports.
        const NEAR: u64 = 16 * 1024 * 1024;
        let Some(serving) = self.guards.terms().map(|t| t.site).filter(|s| s != site) else {
            return false;
        };
        let there = self.guards.heard_within(&serving, FRESH);
        let written = there.and_then(|r| r.seen.position);
        match (written, report.seen.position) {
            (Some(written), Some(has)) => written.0.saturating_sub(has.0) <= NEAR,
            (None, _) | (_, None) => false,
        }
    }
}

fn proof(site: &SiteName, report: &Report) -> Proof {
    let Some(Resync::Done(salvage)) = report.resync else {
        return Proof::new(format!("{site} follows"));
    };
    if salvage.is_whole {
        let summary = format!(
            "{site} follows as a new copy; its old data directory is kept beside it, and what that holds beyond the serving site's was not counted"
        );
        return Proof::new(summary).with("salvage.commits", "unknown");
    }
    if salvage.to <= salvage.from {
        let summary = format!("{site} follows; it had nothing that the serving site lacks");
        return Proof::new(summary).with("salvage.commits", "0");
    }
    let bytes = salvage.to.0 - salvage.from.0;
    Proof::new(format!(
        "{site} follows; {} committed transactions ({bytes} bytes of log) that the serving site never got are kept there",
        salvage.commits
    ))
    .with("salvage.commits", salvage.commits.to_string())
    .with("salvage.bytes", bytes.to_string())
    .with("salvage.from", salvage.from.to_string())
    .with("salvage.to", salvage.to.to_string())
}
