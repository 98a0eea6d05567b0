//! The second branch of a plan: where the standby cannot be promoted, the newest verified backup is restored in its place,
//! and the WAL that was archived since is replayed.
//!
//! A step says that it stands in for another one (`insteadOf`). Which way a plan goes is settled when it is made, as far as
//! it can be known then:
//!
//! - the standby can be promoted: the plan holds both, and the second is begun only after the first has failed for good
//!   and people have approved what restoring loses;
//! - every look at the standby's database says that it is down: the plan holds the second alone. A promotion of a server
//!   that does not answer could never be told from one that may have happened, and the second would never be reached.
//!
//! Either way the plan names the backup: one that was restored before to try it, and answered as it should. A restore is a
//! promotion in everything that fencing is about.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    detect,
    gate::{Answer, Says},
    lag,
    state::{Run, State, Step},
    view::View,
};
use crate::model::{
    backup::{BackupCopy, BackupKind, BackupPolicy, Listed, Shelf},
    id::{CopyId, SiteName, SourceName, StepId},
    loss::{LossForecast, Reach},
    observation::{Evidence, Sight},
    plan::{Action, Plan, PlanStep, RunKind},
    record::Settlement,
    service::{ComponentKind, RunbookStep, Service},
    site::Site,
    time::Time,
    wal::Segment,
};

/// A backup that may be restored: it was before, to try it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Where it is.
    pub source: SourceName,
    /// Which one.
    pub copy: CopyId,
    /// When it was taken.
    pub taken: Time,
    /// When it was restored to try it.
    pub verified: Time,
}

/// Which way a plan goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// The standby is promoted; where that fails for good, this backup is restored.
    Promote(Option<Candidate>),
    /// This backup is restored.
    Restore(Candidate),
}

/// What was last seen of a source of backups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shelved {
    /// Its full backups, and when each was taken.
    pub full: BTreeMap<CopyId, Time>,
    /// Archived WAL without a gap: when the first and the last segment of each stretch came, in the order of the log.
    pub stretches: Vec<(Time, Time)>,
}

/// What is remembered of what the sources hold; a source that could not be asked is not in it.
#[must_use]
pub fn shelved(shelves: &[Shelf]) -> BTreeMap<SourceName, Shelved> {
    let told = |shelf: &&Shelf| matches!(shelf.listed, Listed::Copies(_));
    let known = shelves.iter().filter(told).map(|shelf| {
        let copies = shelf.copies();
        let full = copies
            .iter()
            .filter(|c| c.kind == BackupKind::Full && !c.is_empty());
        let what = Shelved {
            full: full.map(|c| (c.id.clone(), c.at)).collect(),
            stretches: stretches(copies),
        };
        (shelf.source.clone(), what)
    });
    known.collect()
}

/// Archived WAL, cut where a segment is missing.
#[must_use]
pub fn stretches(copies: &[BackupCopy]) -> Vec<(Time, Time)> {
    let logs = copies
        .iter()
        .filter(|c| c.kind == BackupKind::Log && !c.is_empty());
    let mut segments: Vec<(Segment, Time)> = logs
        .filter_map(|c| Some((Segment::of_path(c.id.as_str())?, c.at)))
        .collect();
    segments.sort_unstable();
    let mut out: Vec<(Time, Time)> = Vec::new();
    let mut last: Option<Segment> = None;
    for (segment, at) in segments {
        match (out.last_mut(), last) {
            (Some(stretch), Some(before)) if before.leads_to(segment) => {
                stretch.1 = stretch.1.max(at);
            }
            (Some(_) | None, _) => out.push((at, at)),
        }
        last = Some(segment);
    }
    out
}

/// When the newest WAL came that can be replayed on a backup of this moment; none where none follows it.
#[must_use]
pub fn archived(stretches: &[(Time, Time)], taken: Time) -> Option<Time> {
    let after = stretches.iter().find(|(_, to)| *to >= taken)?;
    Some(after.1)
}

/// The newest backup that was restored to try it and answered as it should, and that WAL can be replayed on. One that its
/// source does not list any more is left out, and so is one whose name another one has by now.
#[must_use]
pub fn candidate(policy: &BackupPolicy, state: &State, view: &View) -> Option<Candidate> {
    let good = state
        .backups
        .tried
        .iter()
        .filter(|((source, copy), (_, v))| {
            let is_there = view
                .shelved
                .get(source)
                .is_none_or(|s| s.full.get(copy) == Some(&v.taken));
            v.proves_base() && policy.source(source).is_some() && is_there
        });
    let newest = good.max_by_key(|((source, copy), (at, v))| (v.taken, *at, source, copy));
    newest.map(|((source, copy), (at, v))| Candidate {
        source: source.clone(),
        copy: copy.clone(),
        taken: v.taken,
        verified: *at,
    })
}

fn steps(service: &Service, kind: RunKind) -> impl Iterator<Item = &RunbookStep> {
    let all = service.runbook.steps.iter();
    all.filter(move |s| s.on.contains(&kind) && s.action.restores())
}

/// Which way a plan of this kind goes now.
///
/// # Errors
/// In one sentence, where the runbook restores and nothing else, and there is nothing to restore.
pub fn way(
    service: &Service,
    state: &State,
    view: &View,
    kind: RunKind,
    to: &SiteName,
    now: Time,
) -> Result<Way, String> {
    if steps(service, kind).next().is_none() {
        return Ok(Way::Promote(None));
    }
    let policy = service.backups.as_ref();
    let found = policy.and_then(|p| candidate(p, state, view));
    let is_only = steps(service, kind).any(|s| s.instead_of.is_none());
    match found {
        None if is_only => Err(NOTHING.to_owned()),
        Some(found) if is_only || is_down(service, view, to, now) => Ok(Way::Restore(found)),
        found => Ok(Way::Promote(found)),
    }
}

const NOTHING: &str = "there is no backup to restore: no base backup was ever restored to try it and answered as it \
                       should (`failover backups verify`)";

/// Whether the database of a site is down: somebody sees that, everybody has looked, and nobody sees it work.
fn is_down(service: &Service, view: &View, site: &SiteName, now: Time) -> bool {
    if !detect::sees_all(service, view, now) || lag::standby(service, view, site, now).is_some() {
        return false;
    }
    let databases = service.components.iter();
    let probes = databases
        .filter(|c| c.kind == ComponentKind::Database)
        .flat_map(|c| &c.probes)
        .filter(|p| p.site.as_ref() == Some(site) && p.evidence != Evidence::Stream);
    let sights: BTreeSet<Sight> = probes
        .flat_map(|p| {
            let fresh =
                move |v: &&super::view::Voice| now.since(v.last.at) <= detect::shelf_life(p);
            view.voices_of(&p.id).filter(fresh)
        })
        .map(|v| v.says.sight())
        .collect();
    sights.contains(&Sight::Down) && !sights.contains(&Sight::Up)
}

/// What restoring this backup loses, for an outage that began at `since`.
#[must_use]
pub fn loss(plan: &Plan, view: &View, found: &Candidate, since: Time) -> LossForecast {
    let archive = plan.steps.iter().find_map(|s| setting(s, "wal"));
    let stretches = archive.and_then(|name| view.shelved.get(&SourceName::new(name)));
    let archived = stretches.and_then(|s| archived(&s.stretches, found.taken));
    LossForecast::Restored(Reach {
        source: found.source.clone(),
        copy: found.copy.clone(),
        taken: found.taken,
        archived,
        time: since.since(archived.unwrap_or(found.taken)),
    })
}

/// A setting of a step that restores.
fn setting<'p>(step: &'p PlanStep, name: &str) -> Option<&'p str> {
    match &step.action {
        Action::Adapter(uses) if step.action.restores() => uses.with.get(name)?.as_str(),
        Action::Adapter(_) | Action::Manual { .. } => None,
    }
}

/// The same action with the backup that it restores.
#[must_use]
pub fn named(action: Action, found: Option<&Candidate>) -> Action {
    let (Action::Adapter(mut uses), true, Some(found)) = (action.clone(), action.restores(), found)
    else {
        return action;
    };
    if uses.with.is_null() {
        uses.with = Value::Object(serde_json::Map::new());
    }
    if let Some(with) = uses.with.as_object_mut() {
        with.insert("source".to_owned(), found.source.as_str().into());
        with.insert("copy".to_owned(), found.copy.as_str().into());
    }
    Action::Adapter(uses)
}

/// The backup that a plan restores, whichever branch does.
fn chosen(plan: &Plan, state: &State) -> Option<Candidate> {
    let step = plan.steps.iter().find(|s| s.action.restores())?;
    let source = SourceName::new(setting(step, "source")?);
    let copy = CopyId::new(setting(step, "copy")?);
    let (verified, result) = state.backups.tried.get(&(source.clone(), copy.clone()))?;
    Some(Candidate {
        taken: result.taken,
        verified: *verified,
        source,
        copy,
    })
}

/// Whether a plan promotes nothing and restores a backup instead.
#[must_use]
pub fn replaces_standby(plan: &Plan) -> bool {
    let mut steps = plan.steps.iter();
    steps.any(|s| s.action.restores() && s.instead_of.is_none())
}

fn words(found: &Candidate, site: &SiteName) -> String {
    format!(
        "{} in {}, taken on {} and restored to try it on {}, is restored at {site}",
        found.copy,
        found.source,
        found.taken.date(),
        found.verified.date()
    )
}

/// What a plan that restores a backup needs of people: to go back in time is theirs to decide, whatever the mode.
#[must_use]
pub fn answer(state: &State, plan: &Plan) -> Answer {
    let reason = match chosen(plan, state) {
        Some(found) => format!(
            "the standby at {} is down: {}; all that was written after it and the archived WAL is lost",
            plan.to,
            words(&found, &plan.to)
        ),
        None => "the backup that the plan restores was never restored to try it".to_owned(),
    };
    Answer {
        gate: "restore",
        says: Says::Ask,
        reason,
    }
}

/// Whether each place that data would come from and go to is one where it may be; none where nothing is restored, or data
/// may be anywhere.
#[must_use]
pub fn residency(service: &Service, plan: &Plan, site: &Site) -> Option<Answer> {
    let step = plan.steps.iter().find(|s| s.action.restores())?;
    let policy = service.backups.as_ref()?;
    let answer = |says, reason| Answer {
        gate: "backupResidency",
        says,
        reason,
    };
    let mut places = Vec::new();
    let named = [setting(step, "source"), setting(step, "wal")];
    for name in named.into_iter().flatten() {
        let source = policy.source(&SourceName::new(name));
        places.extend(source.map(|s| (s.name.as_str(), &s.location.country, &policy.residency)));
    }
    places.push((
        site.name.as_str(),
        &site.location.country,
        &service.residency,
    ));
    let bad: Vec<String> = places
        .iter()
        .filter(|(_, _, allowed)| !allowed.is_empty())
        .filter_map(|(name, country, allowed)| match country {
            Some(c) if allowed.contains(c) => None,
            Some(c) => Some(format!("{name} is in {c}")),
            None => Some(format!("the country of {name} is not known")),
        })
        .collect();
    Some(if bad.is_empty() {
        let all = places.iter().map(|(name, country, _)| match country {
            Some(c) => format!("{name} in {c}"),
            None => (*name).to_owned(),
        });
        let text = all.collect::<Vec<_>>().join(", ");
        answer(Says::Allow, format!("the backup may go from and to {text}"))
    } else {
        answer(
            Says::Hold,
            format!("{}: the backup may not go there", bad.join(", ")),
        )
    })
}

/// The steps that stand in for one.
fn stand_ins<'r>(run: &'r Run, step: &'r StepId) -> impl Iterator<Item = &'r PlanStep> {
    let all = run.plan.steps.iter();
    all.filter(move |s| s.instead_of.as_ref() == Some(step))
}

/// What people are asked before a branch is begun, and what it loses; none where nothing stands in for the step.
#[must_use]
pub fn instead(
    state: &State,
    view: &View,
    run: &Run,
    step: &PlanStep,
) -> Option<(String, LossForecast)> {
    stand_ins(run, &step.id).next()?;
    let (what, loss) = if let Some(found) = chosen(&run.plan, state) {
        let loss = loss(&run.plan, view, &found, run.since);
        (words(&found, &run.plan.to), loss)
    } else {
        let names: Vec<_> = stand_ins(run, &step.id).map(|s| s.name.as_str()).collect();
        (names.join(", "), run.loss.clone())
    };
    Some((format!("go on with the plan's second branch: {what}"), loss))
}

fn is_done(at: Option<&Step>) -> bool {
    matches!(
        at,
        Some(Step::Done(_) | Step::Settled(Settlement::Manual { .. }))
    )
}

/// Why a step that stands in for another one is not needed; none where it is, or stands in for nothing.
#[must_use]
pub fn needless(run: &Run, step: &PlanStep) -> Option<String> {
    let first = step.instead_of.as_ref()?;
    is_done(run.steps.get(first)).then(|| format!("not needed: {first} is done"))
}

/// Whether a step of the phases promote and verify has done its part: itself, or what stands in for it, or what it stands
/// in for. What was left out otherwise proves nothing.
#[must_use]
pub fn is_achieved(run: &Run, step: &PlanStep) -> bool {
    let done = |id: &StepId| is_done(run.steps.get(id));
    let mut others = stand_ins(run, &step.id).peekable();
    done(&step.id)
        || step.instead_of.as_ref().is_some_and(done)
        || (others.peek().is_some() && others.all(|s| done(&s.id)))
}

#[cfg(test)]
mod tests;
