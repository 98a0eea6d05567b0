//! Backups: asked what there is, held against their policy, and looked after on a schedule.

pub mod moment;
pub mod prune;
pub mod taking;

use std::sync::Weak;

use futures::{FutureExt, future::join_all, select_biased};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    controller::{CommandError, Controller},
    fitting::Fitting,
};
use crate::{
    backup::restore::{self, Busy, Trial},
    decide::{
        backups::{Backups, is_due, judge, to_try},
        core::Core,
        event::Event,
    },
    model::{
        backup::{
            BackupCopy, BackupKind, BackupPolicy, BackupSource, Judgement, Listed, Restored, Shelf,
            Verification,
        },
        check::{CheckItem, CheckStatus},
        id::{CopyId, KindName, PolicyName, ServiceName, SourceName},
        site::Location,
        span::Span,
        time::Time,
    },
    port::{cause, runtime::SharedRuntime},
};

/// Backups are held against their policy again after this.
pub const EVERY: Span = Span::from_secs(300);
/// A try that came to nothing is repeated after this.
const AGAIN: Span = Span::from_secs(3600);
/// Longest time that one place is given to say what it holds.
const LIST: Span = Span::from_secs(60);

/// What there is, and what the policy says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Survey {
    /// Whose backups.
    pub service: ServiceName,
    /// Their policy.
    pub policy: PolicyName,
    /// When it was looked.
    pub at: Time,
    /// Each place.
    pub sources: Vec<SourceView>,
    /// What breaks the policy.
    #[serde(flatten)]
    pub judgement: Judgement,
}

impl Survey {
    /// What each place holds.
    fn shelves(&self) -> Vec<Shelf> {
        let held = |s: &SourceView| Shelf {
            source: s.name.clone(),
            listed: match &s.unknown {
                Some(reason) => Listed::Unknown(reason.clone()),
                None => Listed::Copies(s.copies.iter().map(|c| c.copy.clone()).collect()),
            },
        };
        self.sources.iter().map(held).collect()
    }
}

/// A place of backups and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceView {
    /// Its name.
    pub name: SourceName,
    /// Its adapter.
    pub uses: KindName,
    /// Where it stands.
    pub location: Location,
    /// Why it could not be told what it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
    /// Its copies, oldest first.
    pub copies: Vec<CopyView>,
}

/// A copy, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CopyView {
    /// As its place lists it.
    #[serde(flatten)]
    pub copy: BackupCopy,
    /// What restoring it came to, where that was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<Restored>,
    /// When it was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried: Option<Time>,
}

/// Asks each place what it holds, all at once.
pub async fn shelves(policy: &BackupPolicy, fitting: &Fitting) -> Vec<Shelf> {
    join_all(policy.sources.iter().map(|s| shelf(s, fitting))).await
}

async fn shelf(source: &BackupSource, fitting: &Fitting) -> Shelf {
    let runtime = &fitting.wiring().runtime;
    let late = runtime.sleep_until(runtime.now().after(LIST));
    let ask = async {
        let place = fitting
            .backups(&source.action)
            .map_err(|e| cause::in_full(&e))?;
        place.list().await.map_err(|e| cause::in_full(&e))
    };
    let listed = select_biased! {
        listed = Box::pin(ask).fuse() => listed,
        () = late.fuse() => Err(format!("no answer within {LIST}")),
    };
    Shelf {
        source: source.name.clone(),
        listed: listed.map_or_else(Listed::Unknown, Listed::Copies),
    }
}

/// Asks each place, and holds what there is against the policy; none where the service has none.
pub async fn survey(core: &Core, fitting: &Fitting) -> Option<Survey> {
    let policy = core.service().backups.as_ref()?;
    let shelves = shelves(policy, fitting).await;
    let now = fitting.wiring().runtime.now();
    let known = &core.state().backups;
    let judgement = judge(policy, &shelves, known, now);
    let sources = policy.sources.iter().zip(shelves);
    Some(Survey {
        service: core.service().name.clone(),
        policy: policy.name.clone(),
        at: now,
        sources: sources.map(|(s, shelf)| view(s, shelf, known)).collect(),
        judgement,
    })
}

fn view(source: &BackupSource, shelf: Shelf, known: &Backups) -> SourceView {
    let (unknown, copies) = match shelf.listed {
        Listed::Copies(copies) => (None, copies),
        Listed::Unknown(reason) => (Some(reason), Vec::new()),
    };
    let copies = copies.into_iter().map(|copy| {
        let tried = known.of(&source.name, &copy);
        CopyView {
            restored: tried.map(|(_, v)| v.outcome.clone()),
            tried: tried.map(|(at, _)| at),
            copy,
        }
    });
    SourceView {
        name: source.name.clone(),
        uses: source.action.uses.clone(),
        location: source.location.clone(),
        unknown,
        copies: copies.collect(),
    }
}

/// The items of `failover check`. A broken policy is a warning: a failover does not suffer from it, and `automatic` is
/// not lost because a backup is late. Besides, each place and whether it said what it holds.
pub async fn check(core: &Core, fitting: &Fitting) -> (Vec<CheckItem>, Vec<(SourceName, bool)>) {
    let Some(survey) = survey(core, fitting).await else {
        return (Vec::new(), Vec::new());
    };
    let broken = survey.judgement.breaches.iter().map(|b| {
        let name = format!("backups/{}", b.rule);
        CheckItem::bad(name, CheckStatus::Warn, b.text.clone(), b.fix.clone())
    });
    let mut items: Vec<_> = broken.collect();
    for source in survey.sources.iter().filter(|s| s.unknown.is_none()) {
        let name = format!("backups/{}", source.name);
        items.push(CheckItem::ok(name, summary(source, survey.at)));
    }
    let places = survey.sources.iter();
    let places = places.map(|s| (s.name.clone(), s.unknown.is_none()));
    (items, places.collect())
}

/// `30 full, the newest 3h old; 96 log, the newest 2m old`.
fn summary(source: &SourceView, now: Time) -> String {
    let kinds = [BackupKind::Full, BackupKind::Log]
        .into_iter()
        .filter_map(|kind| {
            let of_kind = || source.copies.iter().filter(|c| c.copy.kind == kind);
            let newest = of_kind().map(|c| c.copy.at).max()?;
            Some(format!(
                "{} {kind}, the newest {} old",
                of_kind().count(),
                rounded(now.since(newest))
            ))
        });
    let said: Vec<_> = kinds.collect();
    if said.is_empty() {
        "nothing yet".to_owned()
    } else {
        said.join("; ")
    }
}

/// An age as people say it: in its two largest units at most.
#[must_use]
pub fn rounded(age: Span) -> Span {
    let unit = match age.as_millis() {
        0..3_600_000 => 1000,
        3_600_000..172_800_000 => 60_000,
        _ => 3_600_000,
    };
    Span::from_millis(age.as_millis() / unit * unit)
}

/// Which backup is to be tried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Choice {
    /// In which source; none: the first that the policy has tried.
    pub source: Option<SourceName>,
    /// Which one; none: the newest full one that is not known to be bad.
    pub copy: Option<CopyId>,
}

/// Why no backup could be tried at all.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// There is no policy.
    #[error("{0} has no backup policy")]
    NoPolicy(ServiceName),
    /// The policy tries nothing.
    #[error("the backup policy of {0} has no `verify`")]
    NoVerify(ServiceName),
    /// The policy takes nothing.
    #[error("the backup policy of {0} has no `take`")]
    NoTake(ServiceName),
    /// No such source.
    #[error("there is no source {name}: {known}")]
    NoSource {
        /// What was asked for.
        name: SourceName,
        /// What there is.
        known: String,
    },
    /// The source cannot be used.
    #[error("{source_name} cannot be used: {reason}")]
    Source {
        /// Which.
        source_name: SourceName,
        /// Why.
        reason: String,
    },
    /// It holds nothing to try.
    #[error("{0} holds no such full backup")]
    Nothing(SourceName),
    /// Another process is at it.
    #[error(transparent)]
    Busy(#[from] Busy),
}

/// Restores a backup to try it. Nothing is recorded yet.
///
/// # Errors
/// Where there is nothing that could be tried.
pub async fn verify(
    core: &Core,
    fitting: &Fitting,
    choice: &Choice,
) -> Result<Verification, TrialError> {
    let service = core.service();
    let none = || TrialError::NoPolicy(service.name.clone());
    let policy = service.backups.as_ref().ok_or_else(none)?;
    let no_verify = || TrialError::NoVerify(service.name.clone());
    let plan = policy.verify.as_ref().ok_or_else(no_verify)?;
    let first = plan.sources.first().ok_or_else(no_verify)?;
    let name = choice.source.as_ref().unwrap_or(first);
    let source = policy.source(name).ok_or_else(|| {
        let known: Vec<_> = policy.sources.iter().map(|s| s.name.as_str()).collect();
        TrialError::NoSource {
            name: name.clone(),
            known: known.join(", "),
        }
    })?;
    let unusable = |reason: String| TrialError::Source {
        source_name: name.clone(),
        reason,
    };
    let place = fitting
        .backups(&source.action)
        .map_err(|e| unusable(cause::in_full(&e)))?;
    let shelf = shelf(source, fitting).await;
    if let Listed::Unknown(reason) = shelf.listed {
        return Err(unusable(reason));
    }
    let copy = match &choice.copy {
        Some(id) => shelf
            .copies()
            .iter()
            .find(|c| &c.id == id && c.kind == BackupKind::Full),
        None => to_try(&shelf, &core.state().backups),
    };
    let trial = Trial {
        service: &service.name,
        source: name,
        copy: copy.ok_or_else(|| TrialError::Nothing(name.clone()))?,
        plan,
    };
    Ok(restore::verify(&trial, place.as_ref()).await?)
}

/// Restores a backup to try it, and records what came of it and what that means for the policy.
///
/// # Errors
/// Where the service does not run here; within, where there is nothing that could be tried.
pub async fn try_one(
    controller: &Controller,
    service: &ServiceName,
    choice: &Choice,
) -> Result<Result<Verification, TrialError>, CommandError> {
    let core = controller.show(service).await?;
    let result = match verify(&core, &controller.fitting(service)?, choice).await {
        Ok(result) => result,
        Err(error) => return Ok(Err(error)),
    };
    controller.tell(service, Event::BackupVerified(Box::new(result.clone())))?;
    look(controller, service).await?;
    Ok(Ok(result))
}

/// Tries a service's backups as often as its policy says, for as long as it runs here. While it is in trouble nothing is
/// tried: the host has better things to do.
pub(super) async fn keep_trying(
    controller: Weak<Controller>,
    runtime: SharedRuntime,
    service: ServiceName,
) {
    while let Some(controller) = controller.upgrade()
        && try_due(&controller, &runtime, &service).await.is_ok()
    {
        drop(controller);
        runtime.sleep_until(runtime.now().after(EVERY)).await;
    }
}

async fn try_due(
    controller: &Controller,
    runtime: &SharedRuntime,
    service: &ServiceName,
) -> Result<(), CommandError> {
    let core = controller.show(service).await?;
    let state = core.state();
    let plan = core
        .service()
        .backups
        .as_ref()
        .and_then(|p| p.verify.as_ref());
    let Some(plan) = plan.filter(|_| state.run.is_none() && state.incident.is_none()) else {
        return Ok(());
    };
    for source in &plan.sources {
        let listed = core.view().shelved.get(source).map(|s| &s.full);
        if !is_due(
            plan.every,
            AGAIN,
            source,
            &state.backups,
            listed,
            runtime.now(),
        ) {
            continue;
        }
        let choice = Choice {
            source: Some(source.clone()),
            copy: None,
        };
        match try_one(controller, service, &choice).await? {
            Ok(result) => {
                tracing::info!(%service, copy = %result.copy, outcome = ?result.outcome, "a backup was tried");
            }
            Err(error) => {
                tracing::warn!(%service, %source, error = %cause::in_full(&error), "no backup could be tried");
            }
        }
    }
    Ok(())
}

/// Looks after a service's backups for as long as it runs here.
pub(super) async fn keep(
    controller: Weak<Controller>,
    runtime: SharedRuntime,
    service: ServiceName,
) {
    while let Some(controller) = controller.upgrade()
        && look(&controller, &service).await.is_ok()
    {
        drop(controller);
        runtime.sleep_until(runtime.now().after(EVERY)).await;
    }
}

/// What there is, and what breaks the policy, which is recorded where it is news.
///
/// # Errors
/// Where the service does not run here.
pub async fn look(
    controller: &Controller,
    service: &ServiceName,
) -> Result<Option<Survey>, CommandError> {
    let core = controller.show(service).await?;
    let survey = survey(&core, &controller.fitting(service)?).await;
    let breaches = survey.as_ref().map(|s| s.judgement.breaches.clone());
    let judged = Event::BackupsJudged {
        breaches: breaches.unwrap_or_default(),
        shelves: survey.as_ref().map(Survey::shelves).unwrap_or_default(),
    };
    controller.tell(service, judged)?;
    Ok(survey)
}
