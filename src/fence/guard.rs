//! `guard/fence`: the guard of the old primary stops its database for good and says so; where it does not answer, its
//! lease runs out, and the kernel of its host has ended the database before that.

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        guard::{Database, Lease, Role, STUCK, Terms},
        id::{Epoch, SiteName},
        plan::StepPhase,
        site::Site,
        span::Span,
        step::{Presence, Proof, Rung, StepResult},
    },
    port::{
        action::{Action, SharedAction, StepContext},
        guard::{AGAIN, Guards, Order, Pace, SharedGuards},
        kind::{Kind, Make, MakeError, Wiring, With, read},
        runtime::SharedRuntime,
    },
};

/// A guard that was not heard for so long is not reached.
const SILENCE: Span = Span::from_secs(5);

/// `guard/fence`.
pub const KIND: Kind = Kind::new::<GuardFenceWith>(
    "guard/fence",
    "has the old primary's guard stop it for good, or waits until its lease is surely over",
    "{}",
    Make::Action(make),
)
.in_phase(StepPhase::Fence)
.reaching(Rung::Acknowledged)
.both_ways();

/// Settings of `guard/fence`: which guard, stands in the service's `guards`.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GuardFenceWith {}

impl With for GuardFenceWith {}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedAction, MakeError> {
    let GuardFenceWith {} = read(with)?;
    Ok(Arc::new(GuardFence {
        guards: wiring.guards()?,
        runtime: wiring.runtime.clone(),
    }))
}

struct GuardFence {
    guards: SharedGuards,
    runtime: SharedRuntime,
}

#[async_trait]
impl Action for GuardFence {
    async fn perform(&self, step: &StepContext) -> StepResult {
        let deadline = step.deadline(self.runtime.now());
        let (site, epoch) = (&step.from.name, step.epoch.next());
        let order = if step.kind.is_planned() {
            Order::FenceDrained(epoch)
        } else {
            Order::Fence(epoch)
        };
        let mut pace = Pace::default();
        loop {
            if pace.is_due(self.runtime.now()) {
                self.guards.order(site, order);
            }
            if let Some(proof) = self.proof(step, epoch) {
                return StepResult::Done(proof);
            }
            if step.kind.is_planned()
                && let Some(reason) = self.serves_again(site)
            {
                return StepResult::failed(reason);
            }
            if self.runtime.now() >= deadline {
                return StepResult::indeterminate(self.account(step));
            }
            self.guards.news(AGAIN.to_std()).await;
        }
    }

    async fn observe(&self, step: &StepContext) -> Presence {
        let deadline = step.deadline(self.runtime.now());
        let (site, epoch) = (&step.from.name, step.epoch.next());
        let mut pace = Pace::default();
        loop {
            if pace.is_due(self.runtime.now()) {
                self.guards.order(site, Order::Look);
            }
            if let Some(proof) = self.proof(step, epoch) {
                return Presence::InPlace(proof);
            }
            self.guards.news(AGAIN.to_std()).await;
            let report = self.guards.heard_within(site, SILENCE);
            if report.is_some_and(|r| r.promise.is_some_and(|p| p.epoch < epoch)) {
                return Presence::absent(format!("the guard of {site} has not promised it"));
            }
            if self.runtime.now() >= deadline {
                return Presence::unknown(self.account(step));
            }
        }
    }

    /// Only a later epoch takes a fence back; the engine opens it, and this sees that the site holds it.
    async fn undo(&self, step: &StepContext) -> Option<StepResult> {
        let deadline = step.deadline(self.runtime.now());
        let site = &step.from.name;
        let mut pace = Pace::default();
        loop {
            if pace.is_due(self.runtime.now()) {
                self.guards.order(
                    site,
                    Order::Promote {
                        acknowledged: false,
                    },
                );
            }
            if let Some(epoch) = self.serves(site) {
                return Some(StepResult::done(format!(
                    "{site} takes writes, in epoch {epoch}"
                )));
            }
            if self.runtime.now() >= deadline {
                return Some(StepResult::indeterminate(format!(
                    "whether {site} takes writes again cannot be told"
                )));
            }
            self.guards.news(AGAIN.to_std()).await;
        }
    }

    async fn check(&self, from: &Site, _to: &Site) -> Vec<CheckItem> {
        vec![readiness(self.guards.as_ref(), &from.name)]
    }
}

impl GuardFence {
    /// The highest rung that is reached.
    fn proof(&self, step: &StepContext, epoch: Epoch) -> Option<Proof> {
        let site = &step.from.name;
        let acknowledged = self.guards.acknowledged(site).filter(|a| a.epoch >= epoch);
        if let Some(ack) = acknowledged {
            let said = format!(
                "the guard of {site} stopped the database for good and promised epoch {}",
                ack.epoch
            );
            let proof = match ack.lsn {
                Some(lsn) => Proof::new(format!(
                    "{said}; it had stopped in its own order, and its log ends with the checkpoint at {lsn}"
                ))
                .with("lsn", lsn.to_string()),
                None => Proof::new(said),
            };
            return Some(proof.reaching(Rung::Acknowledged));
        }
        // A lease that ran out does not tell that the other site has everything.
        if step.kind.is_planned() {
            return None;
        }
        self.guards.terms().filter(|t| t.site == *site)?;
        let is_over = self.guards.left(site) == Some(Span::ZERO);
        (is_over && self.stray_deputy(step).is_none()).then(|| {
            Proof::new(format!(
                "no lease of {site} can still run: the kernel ended its database before"
            ))
            .reaching(Rung::Lease)
        })
    }

    fn stray_deputy(&self, step: &StepContext) -> Option<SiteName> {
        stray_deputy(self.guards.terms()?, &step.from.name, &step.to.name)
    }

    /// Why a planned fence cannot come any more: the database was stopped in order, and is not so now.
    fn serves_again(&self, site: &SiteName) -> Option<String> {
        let report = self.guards.heard_within(site, SILENCE)?;
        let serves = report.drained.is_none() && report.database == Some(Database::Writable);
        serves.then(|| {
            format!("{site} takes writes again: it was stopped in order for too short a time")
        })
    }

    /// What is known while nothing is proved.
    fn account(&self, step: &StepContext) -> String {
        let site = &step.from.name;
        let guard = match self.guards.heard(site) {
            None => format!("the guard of {site} was never heard"),
            Some(heard) => format!("the guard of {site} was last heard {} ago", heard.age),
        };
        if let Some(deputy) = self.stray_deputy(step) {
            return format!(
                "{guard}; the guard of {deputy} may grant its leases, and {} takes over, so nothing but its answer \
                 proves a fence",
                step.to.name
            );
        }
        match self.guards.left(site) {
            Some(left) => format!("{guard}; its lease may run for {left} more"),
            None => {
                format!("{guard}; its lease has no end, so nothing but its answer proves a fence")
            }
        }
    }

    /// The epoch that a site holds and takes writes in.
    fn serves(&self, site: &SiteName) -> Option<Epoch> {
        let report = self.guards.heard_within(site, SILENCE)?;
        let is_stuck = report.stuck().is_some();
        let promise = report.promise?;
        let is_newest = self
            .guards
            .terms()
            .is_some_and(|t| t.epoch == promise.epoch);
        let writes = promise.role == Role::Primary && report.database == Some(Database::Writable);
        // One that was told to end and has not yet ended takes writes for a moment only.
        (is_newest && writes && !is_stuck).then_some(promise.epoch)
    }
}

/// The site whose guard may still grant leases of the old primary, and is not the one that is promoted: only that one
/// waits for its own grants.
fn stray_deputy(terms: Terms, from: &SiteName, to: &SiteName) -> Option<SiteName> {
    let deputy = terms.deputy.filter(|_| terms.site == *from)?;
    (deputy != *to).then_some(deputy)
}

/// What there is to say of a site's guard before it is needed.
fn readiness(guards: &dyn Guards, site: &SiteName) -> CheckItem {
    let name = format!("guard/{site}");
    let Some(report) = guards.heard_within(site, SILENCE) else {
        return CheckItem::bad(
            name,
            CheckStatus::Fail,
            format!("the guard of {site} does not answer"),
            "start `failover guard run` there; see that UDP passes both ways and that the keys are those of the documents",
        );
    };
    if let Some(stuck) = report.stuck() {
        return CheckItem::bad(name, CheckStatus::Fail, stuck, STUCK);
    }
    let holds = report.promise.as_ref().is_some_and(|p| {
        p.role == Role::Primary && guards.terms().is_some_and(|t| t.epoch == p.epoch)
    });
    if !holds {
        return CheckItem::bad(
            name,
            CheckStatus::Unknown,
            format!("the guard of {site} does not hold the newest epoch yet"),
            "wait a moment; `failover explain` says what it waits for",
        );
    }
    let lease = guards.terms().map(|t| t.lease);
    match (lease, guards.left(site)) {
        (Some(Lease::Bounded(lease)), Some(_)) => CheckItem::ok(
            name,
            format!("the guard of {site} answers, and its leases of {lease} can be waited for"),
        ),
        (Some(Lease::Bounded(_)) | None, _) | (_, Some(_)) => CheckItem::bad(
            name,
            CheckStatus::Warn,
            format!("the guard of {site} has not asked for a lease yet"),
            "wait a moment",
        ),
        (Some(Lease::Unbounded), None) => CheckItem::bad(
            name,
            CheckStatus::Warn,
            format!(
                "the lease of {site} has no end: it is fenced only where its guard answers, else a person is asked"
            ),
            "give the standby a guard, and see `failover guard prove` on both hosts",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deputy_that_is_not_promoted_may_grant_on() {
        let of = |to: &str, site: &str| {
            let terms = Terms {
                service: "shop".into(),
                epoch: Epoch(2),
                site: site.into(),
                lease: Lease::Bounded(Span::from_secs(2)),
                deputy: Some("west".into()),
            };
            stray_deputy(terms, &"east".into(), &to.into())
        };
        assert_eq!(of("west", "east"), None);
        assert_eq!(of("north", "east"), Some("west".into()));
        assert_eq!(of("north", "north"), None, "an epoch of another site");
    }
}
