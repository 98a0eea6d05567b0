//! What the ladder does not keep any more. Each place has a ladder of its own, so that none relies on another one.

use std::collections::{BTreeMap, BTreeSet};

use super::{Backups, judge};
use crate::model::{
    backup::{BackupCopy, BackupKind, BackupPolicy, Listed, Shelf},
    id::SourceName,
    time::Time,
};

/// Today and so many days before keep everything.
const UNTOUCHED: i64 = 1;

/// Why nothing may be deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unprunable {
    /// There is no ladder.
    #[error("the policy has no `retention`: everything is kept")]
    NoLadder,
    /// Who cannot see cannot choose.
    #[error("what {0} holds cannot be told: {1}")]
    Unseen(SourceName, String),
    /// Nothing is proved to be a backup.
    #[error("no backup is known here to have been restored with success: verify one first")]
    Unproved,
}

/// The full backups that may be deleted, oldest first. Kept are: the newest of each source, of those that were restored with
/// success the newest and the one that was last, everything of today and yesterday, the first of each day and of each month
/// as far as the ladder goes, and whatever the policy would be broken without. Logs are left alone.
///
/// # Errors
/// Where it cannot be said what may go.
pub fn prune(
    policy: &BackupPolicy,
    shelves: &[Shelf],
    known: &Backups,
    deleting: &BTreeSet<SourceName>,
    now: Time,
) -> Result<Vec<(SourceName, BackupCopy)>, Unprunable> {
    if policy.retention.daily == 0 && policy.retention.monthly == 0 {
        return Err(Unprunable::NoLadder);
    }
    for shelf in shelves {
        if let Listed::Unknown(reason) = &shelf.listed {
            return Err(Unprunable::Unseen(shelf.source.clone(), reason.clone()));
        }
    }
    let is_proved = |s: &Shelf| s.copies().iter().any(|c| known.is_proved(&s.source, c));
    if policy.verify.is_some() && !shelves.iter().any(is_proved) {
        return Err(Unprunable::Unproved);
    }
    let mut left = shelves.to_vec();
    let mut gone = Vec::new();
    for (n, shelf) in shelves.iter().enumerate() {
        if !deleting.contains(&shelf.source) {
            continue;
        }
        for copy in off_ladder(policy, shelf, known, now) {
            let without = without(&left[n], copy);
            let with = std::mem::replace(&mut left[n], without);
            let before = rules(policy, &swapped(&left, n, &with), known, now);
            if rules(policy, &left, known, now).is_subset(&before) {
                gone.push((shelf.source.clone(), copy.clone()));
            } else {
                left[n] = with;
            }
        }
    }
    gone.sort_by(|a, b| (a.1.at, &a.0, &a.1.id).cmp(&(b.1.at, &b.0, &b.1.id)));
    Ok(gone)
}

/// The full backups of a source that the ladder does not hold, oldest first.
fn off_ladder<'s>(
    policy: &BackupPolicy,
    shelf: &'s Shelf,
    known: &Backups,
    now: Time,
) -> Vec<&'s BackupCopy> {
    let mut full: Vec<_> = shelf
        .copies()
        .iter()
        .filter(|c| c.kind == BackupKind::Full)
        .collect();
    full.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
    let is_good = |c: &&&BackupCopy| !known.is_damaged(&shelf.source, c);
    let mut first_of_day: BTreeMap<i64, &BackupCopy> = BTreeMap::new();
    let mut first_of_month: BTreeMap<i64, &BackupCopy> = BTreeMap::new();
    for copy in full.iter().filter(is_good) {
        first_of_day.entry(copy.at.day()).or_insert(copy);
        first_of_month.entry(copy.at.month()).or_insert(copy);
    }
    let first_day = now.day() - i64::from(policy.retention.daily);
    let first_month = match policy.retention.monthly {
        0 => i64::MAX,
        months => now.month() - i64::from(months),
    };
    let newest = full.last().map(|c| &c.id);
    let newest_good = full.iter().rfind(is_good).map(|c| &c.id);
    let proved = || full.iter().filter(|c| known.is_proved(&shelf.source, c));
    let newest_proved = proved().next_back().map(|c| &c.id);
    let last_proved = proved()
        .max_by_key(|c| known.of(&shelf.source, c).map(|(at, _)| at))
        .map(|c| &c.id);
    let is_rung = |of: &BTreeMap<i64, &BackupCopy>, period: i64, first: i64, copy: &BackupCopy| {
        period >= first && of.get(&period).is_some_and(|c| c.id == copy.id)
    };
    full.iter()
        .filter(|c| {
            let kept = [newest, newest_good, newest_proved, last_proved].contains(&Some(&c.id))
                || c.at.day() >= now.day() - UNTOUCHED
                || is_rung(&first_of_day, c.at.day(), first_day, c)
                || is_rung(&first_of_month, c.at.month(), first_month, c);
            !kept
        })
        .copied()
        .collect()
}

fn without(shelf: &Shelf, copy: &BackupCopy) -> Shelf {
    let copies = shelf.copies().iter().filter(|c| c.id != copy.id);
    Shelf {
        source: shelf.source.clone(),
        listed: Listed::Copies(copies.cloned().collect()),
    }
}

fn swapped(shelves: &[Shelf], n: usize, with: &Shelf) -> Vec<Shelf> {
    let mut shelves = shelves.to_vec();
    shelves[n] = with.clone();
    shelves
}

/// What is broken, with what is said of it: a day more that is missing is a rule more.
fn rules(policy: &BackupPolicy, shelves: &[Shelf], known: &Backups, now: Time) -> BTreeSet<String> {
    let judged = judge(policy, shelves, known, now);
    let said = judged.breaches.into_iter().map(|b| {
        if b.rule.starts_with("encrypted/") {
            b.rule
        } else {
            format!("{} {}", b.rule, b.text)
        }
    });
    said.collect()
}
