//! `guard/drain`: the guard of the site that is left stops its database in order, under its lease, and the other site
//! gets the last of the log. Nothing is promised yet: unless a fence follows, the guard starts it again by itself.

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        guard::{Database, Report},
        id::SiteName,
        observation::Lsn,
        plan::StepPhase,
        site::Site,
        span::Span,
        step::{Presence, Proof, StepResult},
    },
    port::{
        action::{Action, SharedAction, StepContext},
        guard::{AGAIN, Order, Pace, SharedGuards},
        kind::{Kind, Make, MakeError, Problem, Wiring, With, read},
        runtime::SharedRuntime,
    },
};

/// What was said longer ago says nothing of now.
const FRESH: Span = Span::from_secs(2);
/// A standby says how it stands every ten seconds at least.
const CONTACT: Span = Span::from_secs(15);
/// A standby that is further behind would keep writes stopped for long.
const NEAR: u64 = 64 * 1024 * 1024;

/// `guard/drain`.
pub const KIND: Kind = Kind::new::<GuardDrainWith>(
    "guard/drain",
    "has the guard of the site that is left stop its database in order, and waits until the other has all of its log",
    "hold: 10s",
    Make::Action(make),
)
.in_phase(StepPhase::Fence)
.both_ways();

/// Settings of `guard/drain`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GuardDrainWith {
    /// How long the database may stay stopped before the fence; then its guard starts it again. 1s to 5m.
    hold: Span,
}

impl Default for GuardDrainWith {
    fn default() -> Self {
        Self {
            hold: Span::from_secs(10),
        }
    }
}

impl With for GuardDrainWith {
    fn problems(&self) -> Vec<Problem> {
        let allowed = Span::from_secs(1)..=Span::from_secs(300);
        let is_bad = !allowed.contains(&self.hold);
        is_bad
            .then(|| Problem::new("hold", format!("{} is not between 1s and 5m", self.hold)))
            .into_iter()
            .collect()
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedAction, MakeError> {
    let GuardDrainWith { hold } = read(with)?;
    Ok(Arc::new(GuardDrain {
        guards: wiring.guards()?,
        runtime: wiring.runtime.clone(),
        hold,
    }))
}

struct GuardDrain {
    guards: SharedGuards,
    runtime: SharedRuntime,
    hold: Span,
}

#[async_trait]
impl Action for GuardDrain {
    async fn perform(&self, step: &StepContext) -> StepResult {
        if let Err(reason) = self.is_near(step) {
            return StepResult::failed(reason);
        }
        let deadline = step.deadline(self.runtime.now());
        let mut pace = Pace::default();
        loop {
            if pace.is_due(self.runtime.now()) {
                self.guards.order(&step.from.name, Order::Drain(self.hold));
                self.look(step);
            }
            let reason = match self.stands(step) {
                Ok(proof) => return StepResult::Done(proof),
                Err(reason) => reason,
            };
            if self.runtime.now() >= deadline {
                return StepResult::failed(format!("{reason}; its guard starts it again"));
            }
            self.guards.news(AGAIN.to_std()).await;
        }
    }

    async fn observe(&self, step: &StepContext) -> Presence {
        let deadline = step.deadline(self.runtime.now());
        let mut pace = Pace::default();
        loop {
            if pace.is_due(self.runtime.now()) {
                self.look(step);
            }
            self.guards.news(AGAIN.to_std()).await;
            let reason = match self.stands(step) {
                Ok(proof) => return Presence::InPlace(proof),
                Err(reason) => reason,
            };
            let from = self.report(&step.from.name);
            if from.is_some_and(|r| r.drained.is_none() && r.database == Some(Database::Writable)) {
                return Presence::absent(format!("{} takes writes", step.from.name));
            }
            if self.runtime.now() >= deadline {
                return Presence::unknown(reason);
            }
        }
    }

    async fn undo(&self, step: &StepContext) -> Option<StepResult> {
        let deadline = step.deadline(self.runtime.now());
        let site = &step.from.name;
        let mut pace = Pace::default();
        loop {
            if pace.is_due(self.runtime.now()) {
                self.guards.order(site, Order::Drain(Span::ZERO));
                self.guards.order(site, Order::Look);
            }
            let report = self.report(site);
            if report.is_some_and(|r| r.database == Some(Database::Writable)) {
                return Some(StepResult::done(format!("{site} takes writes again")));
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
        let name = format!("guard/{}", from.name);
        vec![match self.report(&from.name) {
            Some(_) => CheckItem::ok(name, format!("the guard of {} answers", from.name)),
            None => CheckItem::bad(
                name,
                CheckStatus::Fail,
                format!("the guard of {} does not answer", from.name),
                "start `failover guard run` there",
            ),
        }]
    }
}

impl GuardDrain {
    fn look(&self, step: &StepContext) {
        self.guards.order(&step.from.name, Order::Look);
        self.guards.order(&step.to.name, Order::Look);
    }

    fn report(&self, site: &SiteName) -> Option<Report> {
        self.guards.heard_within(site, FRESH)
    }

    /// Whether the other site follows closely enough: nothing is stopped for one that does not.
    fn is_near(&self, step: &StepContext) -> Result<(), String> {
        let (from, to) = (&step.from.name, &step.to.name);
        let report = |site| {
            let silent = || format!("the guard of {site} does not answer");
            self.report(site).ok_or_else(silent)
        };
        let (ahead, behind) = (report(from)?, report(to)?);
        if behind.database != Some(Database::Following) {
            return Err(format!("the database at {to} does not follow"));
        }
        // A standby of another history may be ahead in numbers: the primary itself must hear from it.
        if ahead.seen.contact.is_none_or(|ago| ago > CONTACT) {
            return Err(format!(
                "the database at {from} hears of no standby that follows it (the role of its guard needs pg_read_all_stats)"
            ));
        }
        let written = ahead.seen.position.or(ahead.drained);
        match (written, behind.seen.position) {
            (Some(Lsn(written)), Some(Lsn(has))) if written.saturating_sub(has) <= NEAR => Ok(()),
            (Some(Lsn(written)), Some(Lsn(has))) => Err(format!(
                "the database at {to} is {} bytes behind",
                written.saturating_sub(has)
            )),
            (None, _) | (_, None) => Err(format!("how far {to} is behind cannot be told")),
        }
    }

    fn stands(&self, step: &StepContext) -> Result<Proof, String> {
        let (from, to) = (&step.from.name, &step.to.name);
        let stopped = self.report(from).and_then(|r| r.drained);
        let end = stopped.ok_or_else(|| format!("the database at {from} has not stopped yet"))?;
        let has = self.report(to).and_then(|r| r.seen.position);
        // The log ends with the record that begins there.
        if has.is_none_or(|has| has <= end) {
            return Err(format!(
                "{to} has not got the log of {from} up to {end} yet"
            ));
        }
        let summary =
            format!("the database at {from} stopped in order, and {to} has its log up to {end}");
        Ok(Proof::new(summary).with("lsn", end.to_string()))
    }
}
