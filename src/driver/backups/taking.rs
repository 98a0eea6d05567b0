//! Backups that are taken here: on a schedule, or because a person asks for one.

use std::sync::Weak;

use super::{AGAIN, EVERY, TrialError, look, prune};
use crate::{
    backup::taking::Taking,
    decide::{core::Core, event::Event},
    driver::{
        controller::{CommandError, Controller},
        fitting::Fitting,
    },
    model::{
        id::{ServiceName, SourceName},
        schedule::Schedule,
        taking::Taken,
        time::Time,
    },
    port::{backup::SharedBackups, cause, runtime::SharedRuntime},
};

/// Takes a backup as the policy says, and puts it everywhere. Nothing is recorded yet.
///
/// # Errors
/// Where there is nothing to be taken, or another process is at it.
pub async fn take(core: &Core, fitting: &Fitting) -> Result<Taken, TrialError> {
    let service = core.service();
    let none = || TrialError::NoPolicy(service.name.clone());
    let policy = service.backups.as_ref().ok_or_else(none)?;
    let nothing = || TrialError::NoTake(service.name.clone());
    let take = policy.take.as_ref().ok_or_else(nothing)?;
    let place = |name: &SourceName| -> (SourceName, Result<SharedBackups, String>) {
        let source = policy.source(name);
        let source = source.ok_or_else(|| "there is no such source".to_owned());
        let place = source.and_then(|s| {
            let made = fitting.backups(&s.action);
            made.map_err(|e| cause::in_full(&e))
        });
        (name.clone(), place)
    };
    let wiring = fitting.wiring();
    let taking = Taking {
        service: &service.name,
        take,
        places: take.to.iter().map(place).collect(),
        secrets: &wiring.secrets,
        at: wiring.runtime.now(),
    };
    Ok(taking.run().await?)
}

/// Whether a backup is to be taken: a moment of the schedule has come since the last one that is anywhere, and the last try
/// was a while ago. The first one of all is taken at the first moment after the documents began to ask for it. One that a
/// place does not have is not taken anew for it: that would load the primary and fill the other places each time.
fn is_due(schedule: &Schedule, last: Option<&Taken>, since: Time, now: Time) -> bool {
    let Some(moment) = schedule.until(now) else {
        return false;
    };
    let done = last.filter(|t| t.is_anywhere()).map_or(since, |t| t.at);
    let rested = last.is_none_or(|t| t.is_anywhere() || now.since(t.at) >= AGAIN);
    done < moment && rested
}

/// Takes a service's backups as its schedule says, for as long as it runs here. While it is in trouble none is taken: what
/// is lost of that is less than what it may cost.
pub(in super::super) async fn keep_taking(
    controller: Weak<Controller>,
    runtime: SharedRuntime,
    service: ServiceName,
) {
    let since = runtime.now();
    while let Some(controller) = controller.upgrade() {
        let Ok(next) = take_due(&controller, &runtime, &service, since).await else {
            return;
        };
        drop(controller);
        let latest = runtime.now().after(EVERY);
        runtime
            .sleep_until(next.map_or(latest, |at| at.min(latest)))
            .await;
    }
}

/// Takes one where that is due; answers with the schedule's next moment.
async fn take_due(
    controller: &Controller,
    runtime: &SharedRuntime,
    service: &ServiceName,
    since: Time,
) -> Result<Option<Time>, CommandError> {
    let core = controller.show(service).await?;
    let state = core.state();
    let policy = core.service().backups.as_ref();
    let Some(plan) = policy.and_then(|p| p.take.as_ref()) else {
        return Ok(None);
    };
    let schedule = plan.schedule.as_ref();
    let last = state.backups.taken.as_ref();
    let is_due = schedule.is_some_and(|s| is_due(s, last, since, runtime.now()));
    if is_due && state.run.is_none() && state.incident.is_none() && controller.leads() {
        let fitting = controller.fitting(service)?;
        match take(&core, &fitting).await {
            Ok(taken) => {
                let is_whole = taken.problem().is_none();
                controller.tell(service, Event::BackupTaken(Box::new(taken)))?;
                if is_whole && plan.prune {
                    thin_out(controller, service, &fitting).await?;
                }
                look(controller, service).await?;
            }
            Err(error) => {
                tracing::warn!(%service, error = %cause::in_full(&error), "no backup could be taken");
            }
        }
    }
    Ok(schedule.and_then(|s| s.after(runtime.now())))
}

/// Deletes what the ladder lets go.
async fn thin_out(
    controller: &Controller,
    service: &ServiceName,
    fitting: &Fitting,
) -> Result<(), CommandError> {
    let core = controller.show(service).await?;
    match prune::plan(&core, fitting).await {
        Ok(planned) => {
            for pruned in prune::apply(planned).await {
                tracing::info!(%service, source = %pruned.source, copy = %pruned.copy.id, deleted = pruned.deleted, "beyond the ladder");
            }
        }
        Err(error) => {
            tracing::warn!(%service, error = %cause::in_full(&error), "nothing was pruned");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        span::Span,
        taking::{Placed, TakeForm},
    };

    fn taken(at: Time, places: &[bool]) -> Taken {
        let put = |(n, there): (usize, &bool)| {
            let name = SourceName::new(format!("place-{n}"));
            let outcome = if *there {
                Placed::Stored { copy: "x".into() }
            } else {
                Placed::Failed {
                    reason: "the key has expired".to_owned(),
                }
            };
            (name, outcome)
        };
        Taken {
            at,
            form: TakeForm::Base,
            encrypted: false,
            bytes: 1,
            took: Span::from_secs(1),
            failed: None,
            places: places.iter().enumerate().map(put).collect(),
        }
    }

    #[test]
    fn one_that_a_place_does_not_have_is_not_taken_anew_for_it() {
        let nightly = Schedule::parse("0 2 * * *", "UTC").unwrap();
        let night = |day: i64, hour: i64| Time::from_millis((day * 24 + hour) * 3_600_000);
        let since = night(0, 0);
        let due = |last: Option<&Taken>, now| is_due(&nightly, last, since, now);
        assert!(!due(None, night(0, 1)));
        assert!(due(None, night(0, 3)));
        // Within the hour after a try that came to nothing nobody tries again.
        let nowhere = taken(night(0, 2), &[false, false]);
        assert!(!due(Some(&nowhere), night(0, 2)));
        assert!(due(Some(&nowhere), night(0, 3)));
        let partly = taken(night(0, 2), &[true, false]);
        assert!(!due(Some(&partly), night(0, 9)));
        assert!(due(Some(&partly), night(1, 2)));
    }
}
