//! Steps: what fences, promotions and the cut-over of a plan come to in the world, told as the real adapters tell it.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;

use super::{
    order::{Deed, Reply},
    site::Power,
    stagehand::{self, ask, lock},
    weakness::Weakness,
    world::{Happening, SharedWorld, World},
};
use crate::{
    model::{
        id::SiteName,
        observation::DatabaseRole,
        span::Span,
        step::{Presence, Proof, Rung, StepResult},
        time::Time,
    },
    port::{
        action::{Action, SharedAction, StepContext},
        kind::{MakeError, Wiring},
        runtime::SharedRuntime,
    },
};

/// What a simulated step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Switches the old primary's host off, and sees that it is.
    SwitchOff,
    /// Has the old primary refuse writers.
    RefuseWriters,
    /// Tries a write at the old primary.
    WriteAttempt,
    /// Promotes the standby.
    Promote,
    /// Waits until DNS answers with the standby.
    Cutover,
}

/// Time between two looks at the same thing.
const AGAIN: Span = Span::from_secs(1);
/// How long a write attempt waits.
const WITHIN: Span = Span::from_secs(3);

struct SimulatedStep {
    doing: Doing,
    world: SharedWorld,
    runtime: SharedRuntime,
}

/// Makes a step that does this.
///
/// # Errors
/// Where no simulation is on this thread.
pub fn make(doing: Doing, wiring: &Wiring) -> Result<SharedAction, MakeError> {
    Ok(Arc::new(SimulatedStep {
        doing,
        world: stagehand::world()?,
        runtime: wiring.runtime.clone(),
    }))
}

/// A real step whose calls the watchman sees.
struct Watched {
    real: SharedAction,
    promotes: bool,
    world: SharedWorld,
}

/// The real step, watched.
///
/// # Errors
/// Where no simulation is on this thread.
pub fn watched(real: SharedAction, promotes: bool) -> Result<SharedAction, MakeError> {
    Ok(Arc::new(Watched {
        real,
        promotes,
        world: stagehand::world()?,
    }))
}

#[async_trait]
impl Action for Watched {
    async fn perform(&self, step: &StepContext) -> StepResult {
        {
            let mut world = lock(&self.world);
            let now = world.now;
            world.watchman.performs(step, now);
            if self.promotes {
                world.watchman.promotes(step, now);
            }
        }
        self.real.perform(step).await
    }

    async fn observe(&self, step: &StepContext) -> Presence {
        self.real.observe(step).await
    }

    async fn undo(&self, step: &StepContext) -> Option<StepResult> {
        {
            let mut world = lock(&self.world);
            let now = world.now;
            world.watchman.undoes(step, now);
        }
        self.real.undo(step).await
    }
}

#[async_trait]
impl Action for SimulatedStep {
    async fn perform(&self, step: &StepContext) -> StepResult {
        let before = {
            let mut world = lock(&self.world);
            let now = world.now;
            world.watchman.performs(step, now);
            if self.doing == Doing::Promote {
                world.watchman.promotes(step, now);
            }
            world.has_effect(self.doing, step)
        };
        let until = self.runtime.now().after(Span::from(step.limit()));
        let result = match self.doing {
            Doing::SwitchOff => self.switch_off(step, until).await,
            Doing::RefuseWriters => self.refuse_writers(step, until).await,
            Doing::WriteAttempt => self.write_attempt(step, until).await,
            Doing::Promote => self.promote(step, until).await,
            Doing::Cutover => self.cutover(step, until).await,
        };
        let result = self.weakened(result);
        if let StepResult::Failed { .. } = &result {
            let mut world = lock(&self.world);
            let left = !before && world.has_effect(self.doing, step);
            let (now, is_sure) = (world.now, world.scenario.arrives_in_time());
            world.watchman.failed(step, left && is_sure, now);
        }
        result
    }

    async fn observe(&self, step: &StepContext) -> Presence {
        let until = self.runtime.now().after(Span::from(step.limit()));
        let deed = match self.doing {
            Doing::SwitchOff => Deed::IsOff(self.index(&step.from.name)),
            Doing::RefuseWriters => Deed::Refuses(self.index(&step.from.name)),
            Doing::WriteAttempt => return Presence::absent("an attempt leaves nothing behind"),
            Doing::Promote => Deed::IsPrimary(self.index(&step.to.name)),
            Doing::Cutover => {
                return match self.leads(step, until).await {
                    Some(true) => Presence::in_place("all servers agree"),
                    Some(false) => Presence::absent("not all servers agree"),
                    None => Presence::unknown("no server answers"),
                };
            }
        };
        match self.weakness() {
            Some(Weakness::DeafSteps) if self.doing == Doing::Promote => {
                return Presence::unknown("no answer");
            }
            Some(Weakness::FenceAnswersEarly | Weakness::NoRung)
                if self.doing == Doing::SwitchOff =>
            {
                return Presence::InPlace(self.proof("the host is off", &[]));
            }
            Some(_) | None => {}
        }
        match self.ask(deed, until).await {
            Some(Reply::Yes(words, facts)) => Presence::InPlace(self.proof(&words, &facts)),
            Some(Reply::No(words)) => Presence::absent(words),
            Some(Reply::Closed) => Presence::unknown("connection refused"),
            Some(Reply::Zone(_) | Reply::Conflict(_)) | None => Presence::unknown("no answer"),
        }
    }

    async fn undo(&self, step: &StepContext) -> Option<StepResult> {
        let from = self.index(&step.from.name);
        let deed = match self.doing {
            Doing::SwitchOff => Deed::SwitchOn(from),
            Doing::RefuseWriters => Deed::TakeWriters(from),
            Doing::WriteAttempt | Doing::Promote | Doing::Cutover => return None,
        };
        {
            let mut world = lock(&self.world);
            let now = world.now;
            world.watchman.undoes(step, now);
        }
        let until = self.runtime.now().after(Span::from(step.limit()));
        Some(match self.ask(deed, until).await {
            Some(Reply::Yes(words, _)) => StepResult::done(words),
            Some(Reply::No(words)) => StepResult::failed(words),
            Some(Reply::Closed) => StepResult::failed("connection refused"),
            Some(Reply::Zone(_) | Reply::Conflict(_)) | None => silent(),
        })
    }
}

impl SimulatedStep {
    fn index(&self, name: &SiteName) -> usize {
        let world = lock(&self.world);
        let mut sites = world.scenario.service.sites.iter();
        sites.position(|s| &s.name == name).unwrap_or(0)
    }

    fn weakness(&self) -> Option<Weakness> {
        lock(&self.world).scenario.weakness
    }

    async fn ask(&self, deed: Deed, until: Time) -> Option<Reply> {
        ask(&self.world, &self.runtime, deed, until).await
    }

    fn proof(&self, words: &str, facts: &[(&'static str, String)]) -> Proof {
        let proof = facts
            .iter()
            .fold(Proof::new(words), |p, (key, value)| p.with(key, value));
        match self.doing {
            Doing::SwitchOff => proof.reaching(Rung::Infrastructure),
            Doing::RefuseWriters | Doing::WriteAttempt | Doing::Promote | Doing::Cutover => proof,
        }
    }

    /// As `command/fence` does: what counts is whether it is seen to be off.
    async fn switch_off(&self, step: &StepContext, until: Time) -> StepResult {
        let from = self.index(&step.from.name);
        if self.weakness() == Some(Weakness::FenceAnswersEarly) {
            let mut world = lock(&self.world);
            world.plan(Span::from_secs(10), Happening::late(Deed::SwitchOff(from)));
            return StepResult::Done(self.proof("the host is off", &[]));
        }
        let said = self.ask(Deed::SwitchOff(from), until).await;
        loop {
            let left = until.since(self.runtime.now());
            match self.ask(Deed::IsOff(from), until).await {
                Some(Reply::Yes(words, facts)) => {
                    return StepResult::Done(self.proof(&words, &facts));
                }
                Some(Reply::No(_)) if matches!(said, Some(Reply::Yes(..))) && left > AGAIN => {}
                Some(_) | None => break,
            }
            self.runtime
                .sleep_until(self.runtime.now().after(AGAIN))
                .await;
        }
        if self.weakness() == Some(Weakness::SilenceRefuses) && !self.takes_writes(from).await {
            return StepResult::Done(self.proof("the host refuses writes", &[]));
        }
        match said {
            Some(Reply::No(words)) => StepResult::failed(words),
            Some(_) | None => silent(),
        }
    }

    /// Whether a write attempt succeeds; one that nobody answers does not.
    async fn takes_writes(&self, from: usize) -> bool {
        let until = self.runtime.now().after(WITHIN);
        let said = self.ask(Deed::TryWrite(from), until).await;
        matches!(said, Some(Reply::Yes(..)))
    }

    async fn refuse_writers(&self, step: &StepContext, until: Time) -> StepResult {
        let from = self.index(&step.from.name);
        match self.ask(Deed::RefuseWriters(from), until).await {
            Some(Reply::Yes(words, facts)) => StepResult::Done(self.proof(&words, &facts)),
            Some(Reply::No(words)) => StepResult::failed(words),
            Some(Reply::Closed) => StepResult::failed("nothing was fenced: connection refused"),
            Some(Reply::Zone(_) | Reply::Conflict(_)) | None => silent(),
        }
    }

    async fn write_attempt(&self, step: &StepContext, until: Time) -> StepResult {
        let from = self.index(&step.from.name);
        let until = until.min(self.runtime.now().after(WITHIN));
        match self.ask(Deed::TryWrite(from), until).await {
            Some(Reply::Yes(..)) => StepResult::failed("it still takes writes"),
            Some(Reply::No(words)) => StepResult::done(words),
            Some(Reply::Closed | Reply::Zone(_) | Reply::Conflict(_)) | None => {
                StepResult::done("a write attempt was not answered, which adds nothing")
            }
        }
    }

    async fn promote(&self, step: &StepContext, until: Time) -> StepResult {
        if self.weakness() == Some(Weakness::DeafSteps) {
            return futures::future::pending().await;
        }
        let to = self.index(&step.to.name);
        match self.ask(Deed::Promote(to), until).await {
            Some(Reply::Yes(words, facts)) => StepResult::Done(self.proof(&words, &facts)),
            Some(Reply::No(words)) => StepResult::failed(words),
            Some(Reply::Closed) => StepResult::failed("nothing was promoted: connection refused"),
            Some(Reply::Zone(_) | Reply::Conflict(_)) | None => silent(),
        }
    }

    async fn cutover(&self, step: &StepContext, until: Time) -> StepResult {
        loop {
            let leads = self.leads(step, until).await;
            if leads == Some(true) {
                return StepResult::done("all servers agree");
            }
            if until.since(self.runtime.now()) <= AGAIN {
                return StepResult::failed("not all servers agree");
            }
            self.runtime
                .sleep_until(self.runtime.now().after(AGAIN))
                .await;
        }
    }

    /// Whether the name server leads to the new site; none where it does not answer.
    async fn leads(&self, step: &StepContext, until: Time) -> Option<bool> {
        let service = lock(&self.world).scenario.service.clone();
        for record in service.dns.iter().flat_map(|d| &d.records) {
            let wanted = record.values.get(&step.to.name);
            let wanted: BTreeSet<String> = wanted.into_iter().flatten().cloned().collect();
            let deed = Deed::ReadZone(record.name.clone(), record.kind);
            match self.ask(deed, until).await? {
                Reply::Zone(held) if held.values == wanted => {}
                Reply::Zone(_)
                | Reply::Yes(..)
                | Reply::No(_)
                | Reply::Conflict(_)
                | Reply::Closed => return Some(false),
            }
        }
        Some(true)
    }

    fn weakened(&self, result: StepResult) -> StepResult {
        match (self.weakness(), result) {
            (Some(Weakness::TimeoutIsFailure), StepResult::Indeterminate { reason }) => {
                StepResult::Failed { reason }
            }
            (
                Some(Weakness::NoRung),
                StepResult::Failed { .. } | StepResult::Indeterminate { .. },
            ) if self.doing == Doing::SwitchOff => StepResult::Done(self.proof("never mind", &[])),
            (_, result) => result,
        }
    }
}

fn silent() -> StepResult {
    StepResult::indeterminate("no answer in time")
}

impl World {
    /// Whether what a step is to bring about is the case.
    fn has_effect(&self, doing: Doing, step: &StepContext) -> bool {
        let sites = &self.scenario.service.sites;
        let index = |name| sites.iter().position(|s| &s.name == name).unwrap_or(0);
        let (from, to) = (
            &self.sites[index(&step.from.name)],
            &self.sites[index(&step.to.name)],
        );
        match doing {
            Doing::SwitchOff => from.power == Power::Off,
            Doing::RefuseWriters => from.database.as_ref().is_some_and(|d| d.read_only),
            Doing::Promote => to
                .database
                .as_ref()
                .is_some_and(|d| d.role == DatabaseRole::Primary),
            Doing::WriteAttempt | Doing::Cutover => false,
        }
    }
}
