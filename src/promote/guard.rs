//! `guard/promote`: the guard of the new site promises the epoch, arms its dead-man and promotes its database.

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        guard::{Database, Report, Resync, Role, STUCK},
        id::{Epoch, SiteName},
        plan::StepPhase,
        site::Site,
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

/// A guard that was not heard for so long is not reached.
const SILENCE: Span = Span::from_secs(5);

/// `guard/promote`.
pub const KIND: Kind = Kind::new::<GuardPromoteWith>(
    "guard/promote",
    "has the new site's guard promote its database under a lease of the new epoch",
    "{}",
    Make::Action(make),
)
.in_phase(StepPhase::Promote)
.both_ways();

/// Settings of `guard/promote`: which guard, stands in the service's `guards`.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GuardPromoteWith {}

impl With for GuardPromoteWith {}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedAction, MakeError> {
    let GuardPromoteWith {} = read(with)?;
    Ok(Arc::new(GuardPromotion {
        guards: wiring.guards()?,
        runtime: wiring.runtime.clone(),
    }))
}

struct GuardPromotion {
    guards: SharedGuards,
    runtime: SharedRuntime,
}

#[async_trait]
impl Action for GuardPromotion {
    async fn perform(&self, step: &StepContext) -> StepResult {
        let deadline = step.deadline(self.runtime.now());
        let (site, epoch) = (&step.to.name, step.epoch);
        // Then the deputy's own grants need no waiting for.
        let fenced = self.guards.acknowledged(&step.from.name);
        let acknowledged = fenced.is_some_and(|a| a.epoch >= epoch);
        let mut pace = Pace::default();
        loop {
            if pace.is_due(self.runtime.now()) {
                self.guards.order(site, Order::Promote { acknowledged });
                self.guards.order(site, Order::Look);
            }
            let reason = match self.stands(site, epoch) {
                Stands::Done(proof) => return StepResult::Done(proof),
                Stands::Before(reason) | Stands::Unclear(reason) => reason,
            };
            if self.runtime.now() >= deadline {
                return StepResult::indeterminate(reason);
            }
            self.guards.news(AGAIN.to_std()).await;
        }
    }

    async fn observe(&self, step: &StepContext) -> Presence {
        let deadline = step.deadline(self.runtime.now());
        let (site, epoch) = (&step.to.name, step.epoch);
        let mut pace = Pace::default();
        loop {
            if pace.is_due(self.runtime.now()) {
                self.guards.order(site, Order::Look);
            }
            self.guards.news(AGAIN.to_std()).await;
            match self.stands(site, epoch) {
                Stands::Done(proof) => return Presence::InPlace(proof),
                // To order it again is harmless: the guard knows the epoch.
                Stands::Before(reason) => return Presence::absent(reason),
                Stands::Unclear(reason) if self.runtime.now() >= deadline => {
                    return Presence::unknown(reason);
                }
                Stands::Unclear(_) => {}
            }
        }
    }

    async fn undo(&self, _step: &StepContext) -> Option<StepResult> {
        Some(StepResult::failed("a promotion has no way back"))
    }

    async fn check(&self, _from: &Site, to: &Site) -> Vec<CheckItem> {
        let (site, name) = (&to.name, format!("guard/{}", to.name));
        let Some(report) = self.guards.heard_within(site, SILENCE) else {
            return vec![CheckItem::bad(
                name,
                CheckStatus::Fail,
                format!("the guard of {site} does not answer"),
                "start `failover guard run` there; see that UDP passes both ways and that the keys are those of the \
                 documents",
            )];
        };
        vec![readiness(name, site, &report)]
    }
}

/// How a promotion stands.
enum Stands {
    Done(Proof),
    /// The guard says that it has not promised it.
    Before(String),
    Unclear(String),
}

impl GuardPromotion {
    fn stands(&self, site: &SiteName, epoch: Epoch) -> Stands {
        let Some(report) = self.guards.heard_within(site, SILENCE) else {
            return Stands::Unclear(format!("the guard of {site} does not answer"));
        };
        let Some(promise) = &report.promise else {
            return Stands::Before(format!("the guard of {site} lost its state"));
        };
        if promise.epoch < epoch && report.resync == Some(Resync::HalfDone) {
            return Stands::Before(format!(
                "pg_rewind was broken off at {site}: its data is neither the old nor the new, and nobody may write to it; \
                 whole data is at the other site and in the backups"
            ));
        }
        if promise.epoch < epoch {
            return Stands::Before(format!(
                "the guard of {site} has not promised epoch {epoch}"
            ));
        }
        if promise.epoch > epoch || promise.role != Role::Primary {
            return Stands::Unclear(format!(
                "the guard of {site} has promised epoch {} and is no primary of {epoch}",
                promise.epoch
            ));
        }
        if let Some(stuck) = report.stuck() {
            return Stands::Unclear(stuck);
        }
        match report.database {
            Some(Database::Writable) => Stands::Done(Proof::new(format!(
                "the guard of {site} holds epoch {epoch}, and its database takes writes"
            ))),
            Some(Database::Following | Database::Gone) | None if !report.leased => Stands::Unclear(
                format!("{site} has promised epoch {epoch} and waits for its lease"),
            ),
            Some(Database::Following | Database::Gone) | None => Stands::Unclear(format!(
                "{site} has its lease in epoch {epoch}, and its database does not take writes yet"
            )),
        }
    }
}

fn readiness(name: String, site: &SiteName, report: &Report) -> CheckItem {
    let Some(promise) = &report.promise else {
        return CheckItem::bad(
            name,
            CheckStatus::Fail,
            format!("the guard of {site} lost its state and votes for nothing"),
            "resynchronise its database, then run `failover guard rejoin` there",
        );
    };
    if let Some(stuck) = report.stuck() {
        return CheckItem::bad(name, CheckStatus::Fail, stuck, STUCK);
    }
    if report.resync == Some(Resync::HalfDone) {
        return CheckItem::bad(
            name,
            CheckStatus::Fail,
            format!("pg_rewind was broken off at {site}: its data is neither the old nor the new"),
            "run `failover failback`: the guard there makes a new copy of the site that serves; or rebuild the data by hand, \
             then run `failover guard rejoin --rebuilt` there",
        );
    }
    if promise.role == Role::Fenced {
        return CheckItem::bad(
            name,
            CheckStatus::Fail,
            format!(
                "{site} was fenced in epoch {}, and its database stays stopped",
                promise.epoch
            ),
            "resynchronise its database, then run `failover guard rejoin` there",
        );
    }
    match report.database {
        Some(Database::Following) => CheckItem::ok(
            name,
            format!("the guard of {site} answers, and its database follows"),
        ),
        Some(Database::Gone) | None => CheckItem::bad(
            name,
            CheckStatus::Fail,
            format!("the guard of {site} answers, and its database does not run"),
            "see the guard's log there",
        ),
        Some(Database::Writable) => CheckItem::bad(
            name,
            CheckStatus::Fail,
            format!("the database at {site} takes writes"),
            "see `failover explain`: the journal may be an old one",
        ),
    }
}
