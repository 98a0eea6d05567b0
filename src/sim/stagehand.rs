//! What all simulated adapters share: the world of this thread, and orders that somebody waits for.

use std::{
    cell::RefCell,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures::{FutureExt, select_biased};

use super::{
    errand::{self, Errand},
    fault::{Anchor, By},
    network::Party,
    order::{Deed, Reply},
    referee::Entry,
    world::{Happening, SharedWorld, World},
};
use crate::{
    model::{
        record::{Record, RecordBody},
        time::Time,
    },
    port::{kind::MakeError, runtime::SharedRuntime},
};

thread_local! {
    /// Makers of adapters are plain functions: they find the world here. A history lives on one thread.
    static WORLD: RefCell<Option<SharedWorld>> = const { RefCell::new(None) };
}

/// Puts a world on this thread's stage until it is dropped.
pub struct OnStage(());

impl OnStage {
    /// From now on adapters made on this thread belong to that world.
    #[must_use]
    pub fn put(world: SharedWorld) -> Self {
        WORLD.set(Some(world));
        Self(())
    }
}

impl Drop for OnStage {
    fn drop(&mut self) {
        WORLD.set(None);
    }
}

/// The world on this thread's stage.
///
/// # Errors
/// Where there is none.
pub fn world() -> Result<SharedWorld, MakeError> {
    WORLD
        .with_borrow(Clone::clone)
        .ok_or_else(|| MakeError("no simulation is on this thread".to_owned()))
}

/// The world, for a moment.
pub fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Orders something and waits for the answer until then; none where none comes.
pub async fn ask(
    world: &SharedWorld,
    runtime: &SharedRuntime,
    deed: Deed,
    until: Time,
) -> Option<Reply> {
    let answered = lock(world).order(deed);
    // Whoever is not answered is not told so either.
    let answered = async {
        match answered.await {
            Ok(reply) => reply,
            Err(_) => futures::future::pending().await,
        }
    };
    select_biased! {
        reply = Box::pin(answered).fuse() => Some(reply),
        () = runtime.sleep_until(until).fuse() => None,
    }
}

/// A record has become durable.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "most records begin nothing in the world"
)]
pub fn recorded(world: &mut World, record: &Record) {
    let now = world.now;
    world.trace.mix(record.prev.as_bytes());
    world.trace.note(now, 7, || {
        format!("record {}: {}", record.seq, words(record))
    });
    if world.speaker == Party::Former {
        // What it writes to a journal that nobody goes on from counts for nobody.
        if world.scenario.succession() == Some(By::Takeover) {
            return;
        }
        if world.is_led() {
            world.deposed(|| format!("it wrote record {}", record.seq));
        }
    } else if world.is_succeeded && matches!(record.body, RecordBody::LeaderTaken { .. }) {
        world.leads();
    }
    world.watchman.recorded(record, &world.sites, now);
    if let Some(entry) = Entry::of(&record.body) {
        world.referee.enters(entry, now);
        if world.referee.left_solo() {
            world.anchor(Anchor::Bounded);
        }
    }
    match &record.body {
        RecordBody::RunOpened { .. } => world.anchor(Anchor::Run),
        RecordBody::EpochRaised { run, .. } => {
            world.anchor(Anchor::Epoch);
            if let Some(from) = world.watchman.left_by(run) {
                world.raised(run, &from);
            }
        }
        _ => {}
    }
    if let RecordBody::AskOpened { ask, .. } = &record.body {
        let id = crate::model::id::AskId::of(&record.chain, record.seq);
        for (after, answer) in errand::answers(world, &id, &ask.subject) {
            world.plan(after, Happening::Runs(Errand::Answer(answer)));
        }
    }
}

fn words(record: &Record) -> String {
    let kind = record.body.kind();
    match &record.body {
        RecordBody::VerdictChanged {
            component,
            to,
            reason,
            ..
        } => format!("{kind} {component} {to}: {reason}"),
        RecordBody::IncidentOpened { reason, loss, .. } => format!("{kind}: {reason}; loss {loss}"),
        RecordBody::Held { reasons, .. } => format!("{kind}: {}", reasons.join("; ")),
        RecordBody::AskOpened { ask, .. } => format!("{kind}: {}", ask.reasons.join("; ")),
        RecordBody::AskClosed { outcome, .. } => format!("{kind}: {outcome:?}"),
        RecordBody::RunOpened {
            kind: what,
            plan,
            loss,
            reason,
            ..
        } => format!(
            "{kind}: {what} {} -> {}; loss {loss}; {reason}",
            plan.from, plan.to
        ),
        RecordBody::EpochRaised {
            epoch,
            site,
            evidence,
            ..
        } => format!("{kind} {epoch} of {site}: {evidence}"),
        RecordBody::EpochOpened { terms, reason } => {
            format!("{kind} {} of {}: {reason}", terms.epoch, terms.site)
        }
        RecordBody::TakenOver { epoch, by, reason } => {
            format!("{kind} {epoch} by {by}: {reason}")
        }
        RecordBody::EpochHeld { site, epoch } => format!("{kind} {epoch} by {site}"),
        RecordBody::StepIntent { step, attempt, .. } => format!("{kind} {step} {}", attempt.0),
        RecordBody::StepOutcome { step, result, .. } => format!("{kind} {step}: {result:?}"),
        RecordBody::StepObserved { step, presence, .. } => format!("{kind} {step}: {presence:?}"),
        RecordBody::StepSettled { step, how, .. } => format!("{kind} {step}: {how:?}"),
        RecordBody::RunClosed {
            outcome, reason, ..
        } => format!("{kind} {outcome:?}: {reason}"),
        RecordBody::PhaseEntered { phase, .. } => format!("{kind} {phase}"),
        RecordBody::Unwinding { reason, .. } => format!("{kind}: {reason}"),
        RecordBody::PageRaised { page } => format!("{kind}: {}", page.title),
        RecordBody::Attested { by, statement, .. } => format!("{kind} by {by}: {statement}"),
        RecordBody::ControllerStarted { .. }
        | RecordBody::LeaderTaken { .. }
        | RecordBody::DocumentsChanged { .. }
        | RecordBody::ModeChanged { .. }
        | RecordBody::Checked { .. }
        | RecordBody::IncidentClosed { .. }
        | RecordBody::WouldAct { .. }
        | RecordBody::Approved { .. }
        | RecordBody::Verified { .. }
        | RecordBody::AnnouncementSettled { .. }
        | RecordBody::TeamPaged { .. }
        | RecordBody::PageClosed { .. }
        | RecordBody::Paused { .. }
        | RecordBody::Resumed { .. }
        | RecordBody::FailoverAcknowledged { .. }
        | RecordBody::Moved { .. }
        | RecordBody::TtlChanged { .. }
        | RecordBody::BackupVerified { .. }
        | RecordBody::DrillOpened { .. }
        | RecordBody::DrillJudged { .. }
        | RecordBody::DrillClosed { .. }
        | RecordBody::DrillSkipped { .. }
        | RecordBody::BackupTaken { .. }
        | RecordBody::BackupsJudged { .. }
        | RecordBody::ReadinessTurned { .. }
        | RecordBody::JournalResumed { .. }
        | RecordBody::Group(_)
        | RecordBody::LossMeasured { .. }
        | RecordBody::Refused { .. }
        | RecordBody::Declared { .. }
        | RecordBody::Resolved { .. }
        | RecordBody::DutyTaken { .. }
        | RecordBody::HandOverOffered { .. }
        | RecordBody::Note { .. } => kind.to_owned(),
    }
}
