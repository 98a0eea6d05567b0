//! `guard/action`: a site's guard runs an action that its own document names, such as a larger machine for a small standby.
//!
//! The guard runs what it was asked for under one key once, and tells what became of it as often as it is asked. So a
//! repeat is harmless, and only an end that failed for certain is tried again.

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    model::{
        action::{ActEnd, ActState, NotRun},
        check::{CheckItem, CheckStatus},
        id::{ActionName, IdempotencyKey, SiteName},
        site::Site,
        span::Span,
        step::{Presence, Proof, StepResult},
        time::Time,
    },
    port::{
        action::{Action, SharedAction, StepContext},
        guard::{AGAIN, Act, Pace, SharedGuards},
        kind::{Kind, Make, MakeError, Problem, Wiring, With, read},
        runtime::SharedRuntime,
    },
};

/// How long `failover check` waits for the guard's answer.
const CHECK: Span = Span::from_secs(2);

/// `guard/action`.
pub const KIND: Kind = Kind::new::<GuardActionWith>(
    "guard/action",
    "has a site's guard run an action that its own guard.yaml names; no command crosses the wire",
    "site: milan\naction: scale-up\n",
    Make::Action(make),
);

/// Settings of `guard/action`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GuardActionWith {
    /// The site, one of the service's `guards`.
    pub site: String,
    /// The action, as it stands in the `actions` of that guard's document. Exit status 0: done; 1: failed, nothing is
    /// left half-done; any other end, and the time-out: it may or may not have happened.
    pub action: String,
    /// The action that takes it back; without one the effect stays.
    #[serde(default)]
    pub undo: Option<String>,
}

impl With for GuardActionWith {
    fn problems(&self) -> Vec<Problem> {
        let fields = [
            ("site", Some(&self.site), "expected the name of a site"),
            (
                "action",
                Some(&self.action),
                "expected the name of an action",
            ),
            ("undo", self.undo.as_ref(), "expected the name of an action"),
        ];
        fields
            .into_iter()
            .filter(|(_, said, _)| said.is_some_and(String::is_empty))
            .map(|(field, _, expected)| Problem::new(field, expected))
            .collect()
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedAction, MakeError> {
    let with: GuardActionWith = read(with)?;
    Ok(Arc::new(GuardAction {
        guards: wiring.guards()?,
        runtime: wiring.runtime.clone(),
        site: SiteName::new(with.site),
        action: ActionName::new(with.action),
        undo: with.undo.map(ActionName::new),
    }))
}

struct GuardAction {
    guards: SharedGuards,
    runtime: SharedRuntime,
    site: SiteName,
    action: ActionName,
    undo: Option<ActionName>,
}

#[async_trait]
impl Action for GuardAction {
    async fn perform(&self, step: &StepContext) -> StepResult {
        self.run(&self.action, &step.key, step).await
    }

    async fn observe(&self, step: &StepContext) -> Presence {
        let began = self.runtime.now();
        let (deadline, action) = (step.deadline(began), &self.action);
        let mut pace = Pace::default();
        loop {
            if pace.is_due(self.runtime.now()) {
                let key = &step.key;
                self.guards.act(&self.site, action, key, Act::Recall);
            }
            self.guards.news(AGAIN.to_std()).await;
            let reason = match self.state(&step.key, began) {
                Some(ActState::Ended(end)) if end.status == Some(0) => {
                    return Presence::InPlace(self.proof(action, &end));
                }
                Some(ActState::Ended(end)) if end.has_failed() => {
                    return Presence::absent(self.told(action, &end));
                }
                Some(ActState::Ended(end)) => return Presence::unknown(self.told(action, &end)),
                // To ask for it again is harmless: the guard knows the key by then.
                Some(ActState::NotRun(why)) => return Presence::absent(self.why(action, why)),
                Some(ActState::Lost) => return Presence::unknown(self.lost(action)),
                Some(ActState::Running) => self.runs(action),
                None => self.silent(),
            };
            if self.runtime.now() >= deadline {
                return Presence::unknown(reason);
            }
        }
    }

    async fn undo(&self, step: &StepContext) -> Option<StepResult> {
        let action = self.undo.as_ref()?;
        let key = IdempotencyKey::new(format!("{}.undo", step.key));
        Some(self.run(action, &key, step).await)
    }

    async fn check(&self, _from: &Site, _to: &Site) -> Vec<CheckItem> {
        let mut items = Vec::new();
        for action in [Some(&self.action), self.undo.as_ref()]
            .into_iter()
            .flatten()
        {
            items.push(self.is_named(action).await);
        }
        items
    }
}

impl GuardAction {
    async fn run(
        &self,
        action: &ActionName,
        key: &IdempotencyKey,
        step: &StepContext,
    ) -> StepResult {
        let began = self.runtime.now();
        let deadline = step.deadline(began);
        let (attempt, epoch) = (step.attempt, step.epoch);
        let mut pace = Pace::default();
        loop {
            if pace.is_due(self.runtime.now()) {
                let act = Act::Run { attempt, epoch };
                self.guards.act(&self.site, action, key, act);
            }
            self.guards.news(AGAIN.to_std()).await;
            let reason = match self.state(key, began) {
                // Of an attempt before this one: it is run again.
                Some(ActState::Ended(end)) if end.has_failed() && end.attempt < attempt => {
                    self.told(action, &end)
                }
                Some(ActState::Ended(end)) => return self.result(action, &end),
                Some(ActState::Lost) => return StepResult::indeterminate(self.lost(action)),
                // Neither changes in the life of a guard that this order is for.
                Some(ActState::NotRun(why @ (NotRun::Unnamed | NotRun::Epoch))) => {
                    return StepResult::failed(self.why(action, why));
                }
                Some(ActState::NotRun(why)) => self.why(action, why),
                Some(ActState::Running) => self.runs(action),
                None => self.silent(),
            };
            if self.runtime.now() >= deadline {
                return StepResult::indeterminate(reason);
            }
        }
    }

    /// What the guard said of it since then.
    fn state(&self, key: &IdempotencyKey, since: Time) -> Option<ActState> {
        let acted = self.guards.acted(&self.site, key)?;
        (acted.age <= self.runtime.now().since(since)).then_some(acted.state)
    }

    fn result(&self, action: &ActionName, end: &ActEnd) -> StepResult {
        match end.status {
            Some(0) => StepResult::Done(self.proof(action, end)),
            Some(1) => StepResult::failed(self.told(action, end)),
            Some(_) | None => StepResult::indeterminate(self.told(action, end)),
        }
    }

    fn proof(&self, action: &ActionName, end: &ActEnd) -> Proof {
        Proof::new(self.told(action, end))
    }

    fn told(&self, action: &ActionName, end: &ActEnd) -> String {
        format!("the action {action} at {}: {}", self.site, end.said)
    }

    fn runs(&self, action: &ActionName) -> String {
        format!("the action {action} still runs at {}", self.site)
    }

    fn lost(&self, action: &ActionName) -> String {
        let site = &self.site;
        format!(
            "the guard of {site} ended while the action {action} ran: how far it came is not known"
        )
    }

    fn silent(&self) -> String {
        format!("the guard of {} does not answer", self.site)
    }

    fn why(&self, action: &ActionName, why: NotRun) -> String {
        let site = &self.site;
        match why {
            NotRun::Unasked => format!("the guard of {site} was not asked for it"),
            NotRun::Unnamed => format!("the guard.yaml of {site} names no action {action}"),
            NotRun::Epoch => format!("the guard of {site} stands in a later epoch, or in none"),
            NotRun::Boot => format!("the guard of {site} was started anew"),
            NotRun::Busy => format!("the guard of {site} runs another action"),
            NotRun::Disk => format!("the guard of {site} cannot keep in mind what it runs"),
            NotRun::Full => format!(
                "the guard of {site} has run as many actions as it can keep in mind: start it anew"
            ),
        }
    }

    /// Whether the guard's document names it.
    async fn is_named(&self, action: &ActionName) -> CheckItem {
        let name = format!("guard/{}/{action}", self.site);
        let key = IdempotencyKey::new(format!("check.{action}"));
        let began = self.runtime.now();
        let mut pace = Pace::default();
        loop {
            if pace.is_due(self.runtime.now()) {
                self.guards.act(&self.site, action, &key, Act::Recall);
            }
            self.guards.news(AGAIN.to_std()).await;
            match self.state(&key, began) {
                Some(ActState::NotRun(NotRun::Unnamed)) => {
                    return CheckItem::bad(
                        name,
                        CheckStatus::Fail,
                        format!("the guard.yaml of {} names no action {action}", self.site),
                        "name it in its `actions`, and start the guard anew",
                    );
                }
                Some(_) => {
                    let detail = format!("the guard of {} names the action {action}", self.site);
                    return CheckItem::ok(name, detail);
                }
                None if self.runtime.now().since(began) >= CHECK => {
                    return CheckItem::bad(
                        name,
                        CheckStatus::Fail,
                        self.silent(),
                        "start `failover guard run` there; see that UDP passes both ways",
                    );
                }
                None => {}
            }
        }
    }
}
