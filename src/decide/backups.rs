//! Backups: what the journal knows of them, and what a policy says of what there is.

mod prune;

use std::collections::{BTreeMap, BTreeSet};

pub use prune::{Unprunable, prune};

use crate::model::{
    backup::{
        BackupCopy, BackupKind, BackupPolicy, BackupSource, Breach, Judgement, Listed, Restored,
        Shelf, Verification,
    },
    id::{CopyId, SourceName},
    site::Location,
    span::Span,
    taking::Taken,
    time::Time,
};

/// Results of restores that are remembered.
const REMEMBERED: usize = 500;
/// Days and months that a sentence names.
const NAMED: usize = 3;

/// What the journal knows of a service's backups.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Backups {
    /// The newest result of restoring each copy, and when it was had. One that could not be tried to the end does not
    /// take the place of one that was.
    pub tried: BTreeMap<(SourceName, CopyId), (Time, Verification)>,
    /// What was broken when it was looked at last.
    pub breaches: Vec<Breach>,
    /// What taking one came to last.
    pub taken: Option<Taken>,
}

impl Backups {
    /// Takes in what restoring a backup came to.
    pub fn verified(&mut self, result: &Verification, at: Time) {
        let key = (result.source.clone(), result.copy.clone());
        let is_settled = |v: &Verification| !matches!(v.outcome, Restored::Unknown { .. });
        let is_same = |v: &Verification| v.taken == result.taken;
        let before = self.tried.get(&key);
        let known = before.is_some_and(|(_, v)| is_settled(v) && is_same(v));
        if known && !is_settled(result) {
            return;
        }
        self.tried.insert(key, (at, result.clone()));
        if self.tried.len() > REMEMBERED {
            let oldest = self.tried.iter().min_by_key(|(_, (at, _))| *at);
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                self.tried.remove(&key);
            }
        }
    }

    /// Takes in what is broken.
    pub fn judged(&mut self, breaches: &[Breach]) {
        self.breaches = breaches.to_vec();
    }

    /// When a copy was tried last, and what restoring it came to. What was found of an earlier copy of the same name says
    /// nothing of this one.
    #[must_use]
    pub fn of(&self, source: &SourceName, copy: &BackupCopy) -> Option<(Time, &Verification)> {
        let (at, tried) = self.tried.get(&(source.clone(), copy.id.clone()))?;
        (tried.taken == copy.at).then_some((*at, tried))
    }

    /// Whether a copy was restored and answered as it should.
    #[must_use]
    pub fn is_proved(&self, source: &SourceName, copy: &BackupCopy) -> bool {
        self.proves(source, &copy.id, copy.at)
    }

    /// The same of the copy of that name and moment.
    fn proves(&self, source: &SourceName, id: &CopyId, taken: Time) -> bool {
        let tried = self.tried.get(&(source.clone(), id.clone()));
        tried.is_some_and(|(_, v)| v.taken == taken && v.outcome == Restored::Good)
    }

    /// Why a copy is no backup, where that was found.
    #[must_use]
    pub fn bad(&self, source: &SourceName, copy: &BackupCopy) -> Option<&str> {
        if copy.is_empty() {
            return Some("it is empty");
        }
        match &self.of(source, copy)?.1.outcome {
            Restored::Bad { reason } | Restored::Wrong { reason } => Some(reason),
            Restored::Good | Restored::Unknown { .. } => None,
        }
    }

    /// Whether a backup cannot be restored. One that answers otherwise than it should may yet be needed.
    #[must_use]
    pub fn is_damaged(&self, source: &SourceName, copy: &BackupCopy) -> bool {
        let tried = self.of(source, copy);
        copy.is_empty() || tried.is_some_and(|(_, v)| matches!(v.outcome, Restored::Bad { .. }))
    }

    /// When a backup of a source was last restored and answered as it should, and which.
    #[must_use]
    pub fn last_good(&self, source: &SourceName) -> Option<(Time, &CopyId)> {
        self.tried
            .iter()
            .filter(|((s, _), (_, v))| s == source && v.outcome == Restored::Good)
            .map(|((_, copy), (at, _))| (*at, copy))
            .max()
    }

    /// When a source was last tried, whatever came of it.
    #[must_use]
    pub fn last_try(&self, source: &SourceName) -> Option<Time> {
        let own = self.tried.iter().filter(|((s, _), _)| s == source);
        own.map(|(_, (at, _))| *at).max()
    }
}

/// Whether two judgements break the same rules.
#[must_use]
pub fn same_rules(a: &[Breach], b: &[Breach]) -> bool {
    let rules = |breaches: &[Breach]| -> Vec<(String, bool)> {
        breaches
            .iter()
            .map(|b| (b.rule.clone(), b.certain))
            .collect()
    };
    rules(a) == rules(b)
}

/// Says what breaks a policy, and when the next rule breaks if nothing is done.
#[must_use]
pub fn judge(policy: &BackupPolicy, shelves: &[Shelf], known: &Backups, now: Time) -> Judgement {
    let mut judge = Judge {
        policy,
        known,
        now,
        shelves: shelves.iter().map(|s| (&s.source, s)).collect(),
        breaches: Vec::new(),
        next: None,
    };
    judge.listed();
    judge.fresh();
    judge.distinct();
    judge.encrypted();
    judge.daily();
    judge.monthly();
    judge.verified();
    Judgement {
        breaches: judge.breaches,
        next: judge.next,
    }
}

/// A part of a place.
type Part = fn(&Location) -> &Option<String>;

struct Judge<'a> {
    policy: &'a BackupPolicy,
    known: &'a Backups,
    now: Time,
    shelves: BTreeMap<&'a SourceName, &'a Shelf>,
    breaches: Vec<Breach>,
    next: Option<(Time, String)>,
}

impl<'a> Judge<'a> {
    /// The copies of a source that count; none where they cannot be told.
    fn copies(&self, source: &'a BackupSource, kind: BackupKind) -> Option<Vec<&'a BackupCopy>> {
        match &self.shelves.get(&source.name)?.listed {
            Listed::Unknown(_) => None,
            Listed::Copies(copies) => Some(
                copies
                    .iter()
                    .filter(|c| c.kind == kind && self.known.bad(&source.name, c).is_none())
                    .collect(),
            ),
        }
    }

    /// The sources that keep full backups.
    fn full(&self) -> impl Iterator<Item = &'a BackupSource> {
        let policy = self.policy;
        policy
            .sources
            .iter()
            .filter(|s| s.keeps.contains_key(&BackupKind::Full))
    }

    fn broken(&mut self, rule: String, certain: bool, text: String, fix: &str) {
        self.breaches.push(Breach {
            rule,
            certain,
            text,
            fix: fix.to_owned(),
        });
    }

    fn due(&mut self, at: Time, what: String) {
        if at > self.now && self.next.as_ref().is_none_or(|(next, _)| at < *next) {
            self.next = Some((at, what));
        }
    }

    fn listed(&mut self) {
        for source in &self.policy.sources {
            let reason = match self.shelves.get(&source.name).map(|s| &s.listed) {
                Some(Listed::Copies(_)) => continue,
                Some(Listed::Unknown(reason)) => reason.clone(),
                None => "it was not asked".to_owned(),
            };
            let text = format!("what {} holds cannot be told: {reason}", source.name);
            self.broken(
                format!("list/{}", source.name),
                false,
                text,
                "see that the place can be reached from here, and its credentials",
            );
        }
    }

    fn fresh(&mut self) {
        for source in &self.policy.sources {
            for (kind, limit) in &source.keeps {
                self.bad(source, *kind);
                let Some(copies) = self.copies(source, *kind) else {
                    continue;
                };
                let rule = format!("freshness/{}/{kind}", source.name);
                let fix = "see why the job that makes it does not run, or does not end well";
                match (copies.iter().map(|c| c.at).max(), limit) {
                    (None, _) => {
                        let text = format!("there is no {kind} backup in {}", source.name);
                        self.broken(rule, true, text, fix);
                    }
                    (Some(at), Some(limit)) if self.now.since(at) > *limit => {
                        let text = format!(
                            "the newest {kind} backup in {} is of {}, and may be {limit} old at most",
                            source.name,
                            at.date()
                        );
                        self.broken(rule, true, text, fix);
                    }
                    (Some(at), Some(limit)) => {
                        let what = format!(
                            "the newest {kind} backup in {} is then older than {limit}",
                            source.name
                        );
                        self.due(at.after(*limit), what);
                    }
                    (Some(_), None) => {}
                }
            }
        }
    }

    /// The newest backup was tried, and is none.
    fn bad(&mut self, source: &'a BackupSource, kind: BackupKind) {
        let Some(held) = self.shelves.get(&source.name) else {
            return;
        };
        let of_kind = held.copies().iter().filter(|c| c.kind == kind);
        let Some(newest) = of_kind.max_by_key(|c| c.at) else {
            return;
        };
        if let Some(reason) = self.known.bad(&source.name, newest) {
            let text = format!(
                "the newest {kind} backup in {}, {}, cannot be used: {reason}",
                source.name, newest.id
            );
            self.broken(
                format!("bad/{}/{kind}", source.name),
                true,
                text,
                "take another backup now, and find out what is wrong with the way in which this one was taken",
            );
        }
    }

    /// Whether a source holds a full backup that is young enough; none where it cannot be told.
    fn is_fresh(&self, source: &'a BackupSource) -> Option<bool> {
        let newest = self
            .copies(source, BackupKind::Full)?
            .iter()
            .map(|c| c.at)
            .max();
        let limit = source.keeps.get(&BackupKind::Full).copied().flatten();
        Some(newest.is_some_and(|at| limit.is_none_or(|limit| self.now.since(at) <= limit)))
    }

    fn distinct(&mut self) {
        let full: Vec<_> = self.full().map(|s| (s, self.is_fresh(s))).collect();
        let count = |is: fn(Option<bool>) -> bool, part: Part| {
            let named = full.iter().filter(|(_, fresh)| is(*fresh));
            let parts = named.filter_map(|(s, _)| part(&s.location).as_ref());
            parts.collect::<BTreeSet<_>>().len()
        };
        let sure: fn(Option<bool>) -> bool = |fresh| fresh == Some(true);
        let perhaps: fn(Option<bool>) -> bool = |fresh| fresh != Some(false);
        let copies = |is: fn(Option<bool>) -> bool| full.iter().filter(|(_, f)| is(*f)).count();
        let parts: [(&str, &str, usize, Part); 3] = [
            ("regions", "region", self.policy.regions, |l| &l.region),
            ("providers", "provider", self.policy.providers, |l| {
                &l.provider
            }),
            ("continents", "continent", self.policy.continents, |l| {
                &l.continent
            }),
        ];
        let mut short = vec![(
            "copies",
            "place",
            self.policy.copies,
            copies(sure),
            copies(perhaps),
        )];
        for (rule, noun, wanted, part) in parts {
            short.push((rule, noun, wanted, count(sure, part), count(perhaps, part)));
        }
        for (rule, noun, wanted, there, at_most) in short {
            if there < wanted {
                let text = format!(
                    "a full backup that is young enough is in {}, and should be in {wanted}",
                    counted(there, noun)
                );
                self.broken(
                    rule.to_owned(),
                    at_most < wanted,
                    text,
                    "mend the copies that are too old or missing",
                );
            }
        }
    }

    fn encrypted(&mut self) {
        if !self.policy.encrypted {
            return;
        }
        for source in &self.policy.sources {
            let copies = self
                .shelves
                .get(&source.name)
                .map_or(&[][..], |s| s.copies());
            let open = copies.iter().filter(|c| c.encrypted == Some(false)).count();
            let untold = copies.iter().filter(|c| c.encrypted.is_none()).count();
            let rule = format!("encrypted/{}", source.name);
            let all = copies.len();
            if open > 0 {
                let text = format!(
                    "{open} of {all} copies in {} are not encrypted",
                    source.name
                );
                self.broken(rule, true, text, "encrypt them, or delete them");
            } else if untold > 0 {
                let text = format!(
                    "whether {untold} of {all} copies in {} are encrypted cannot be told",
                    source.name
                );
                self.broken(
                    rule,
                    false,
                    text,
                    "say of the source that its place encrypts: `encrypted: true`",
                );
            }
        }
    }

    /// Days or months that have a full backup somewhere, and whether that is all that can be told.
    fn kept(&self, period: fn(Time) -> i64) -> (BTreeSet<i64>, bool) {
        let mut certain = true;
        let mut kept = BTreeSet::new();
        for source in self.full() {
            match self.copies(source, BackupKind::Full) {
                Some(copies) => kept.extend(copies.iter().map(|c| period(c.at))),
                None => certain = false,
            }
        }
        (kept, certain)
    }

    fn daily(&mut self) {
        let retention = &self.policy.retention;
        if retention.daily == 0 {
            return;
        }
        let (kept, certain) = self.kept(Time::day);
        let today = self.now.day();
        let first = retention.since.map_or(i64::MIN, Time::day);
        let wanted = (today - i64::from(retention.daily)).max(first)..today;
        let missing: Vec<_> = wanted.clone().filter(|day| !kept.contains(day)).collect();
        if !missing.is_empty() {
            let names = missing.iter().map(|day| Time::of_day(*day).day_words());
            let text = format!(
                "of {} days, {} no full backup: {}",
                wanted.count(),
                have(missing.len()),
                some(names.collect())
            );
            self.broken("daily".to_owned(), certain, text, FOR_EVER);
        }
        if !kept.contains(&today) {
            let end = Time::of_day(today + 1);
            self.due(end, "today has no full backup yet".to_owned());
        }
    }

    fn monthly(&mut self) {
        let retention = &self.policy.retention;
        if retention.monthly == 0 {
            return;
        }
        let (kept, certain) = self.kept(Time::month);
        let this = self.now.month();
        let first = retention.since.map_or(i64::MIN, Time::month);
        let wanted = (this - i64::from(retention.monthly)).max(first)..this;
        let missing: Vec<_> = wanted.clone().filter(|m| !kept.contains(m)).collect();
        if !missing.is_empty() {
            let names = missing
                .iter()
                .map(|m| format!("{}-{:02}", m.div_euclid(12), m.rem_euclid(12) + 1));
            let text = format!(
                "of {} months, {} no full backup: {}",
                wanted.count(),
                have(missing.len()),
                some(names.collect())
            );
            self.broken("monthly".to_owned(), certain, text, FOR_EVER);
        }
    }

    /// Whether a source is known to hold backups, and none that was restored with success.
    fn has_lost(&self, source: &SourceName) -> bool {
        let Some(held) = self.shelves.get(source) else {
            return false;
        };
        let mut full = held
            .copies()
            .iter()
            .filter(|c| c.kind == BackupKind::Full)
            .peekable();
        full.peek().is_some() && !full.any(|c| self.known.is_proved(source, c))
    }

    fn verified(&mut self) {
        let Some(verify) = &self.policy.verify else {
            return;
        };
        for source in &verify.sources {
            let rule = format!("verified/{source}");
            let fix = "failover backups verify";
            match self.known.last_good(source) {
                None => {
                    let text = format!("no backup in {source} was ever restored to try it");
                    self.broken(rule, true, text, fix);
                }
                Some((at, _)) if self.now.since(at) > verify.every => {
                    let text = format!(
                        "a backup in {source} was last restored with success on {}, and should be every {}",
                        at.date(),
                        verify.every
                    );
                    self.broken(rule, true, text, fix);
                }
                Some(_) if self.has_lost(source) => {
                    let text = format!(
                        "no backup that is in {source} now was ever restored to try it: what was is not there any more"
                    );
                    self.broken(rule, true, text, fix);
                }
                Some((at, _)) => {
                    let what = format!("a backup in {source} should be restored again by then");
                    self.due(at.after(verify.every), what);
                }
            }
        }
    }
}

const FOR_EVER: &str = "see that the job runs each time and nothing deletes too early; what is missing cannot be made \
                        good: once that is mended, set `retention.since`";

fn counted(n: usize, noun: &str) -> String {
    match n {
        0 => format!("no {noun}"),
        1 => format!("1 {noun}"),
        n => format!("{n} {noun}s"),
    }
}

fn have(n: usize) -> String {
    if n == 1 {
        "1 has".to_owned()
    } else {
        format!("{n} have")
    }
}

fn some(names: Vec<String>) -> String {
    let more = names.len().saturating_sub(NAMED);
    let first = names.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
    if more == 0 {
        first
    } else {
        format!("{first} and {more} more")
    }
}

/// The next backup of a source to be tried: its newest full one, unless that was tried and settled.
#[must_use]
pub fn to_try<'s>(shelf: &'s Shelf, known: &Backups) -> Option<&'s BackupCopy> {
    let full = shelf.copies().iter().filter(|c| c.kind == BackupKind::Full);
    full.filter(|c| known.bad(&shelf.source, c).is_none())
        .max_by_key(|c| c.at)
}

/// Whether a source is to be tried now: every so often, where what was proved is not there any more, and again a while after
/// a try that came to nothing. `listed` is what it holds, and when each was taken; none where that is not known.
#[must_use]
pub fn is_due(
    every: Span,
    again: Span,
    source: &SourceName,
    known: &Backups,
    listed: Option<&BTreeMap<CopyId, Time>>,
    now: Time,
) -> bool {
    let is_proved = |(id, at): (&CopyId, &Time)| known.proves(source, id, *at);
    let stale = known
        .last_good(source)
        .is_none_or(|(at, _)| now.since(at) >= every)
        || listed.is_some_and(|listed| !listed.is_empty() && !listed.iter().any(is_proved));
    let rested = known
        .last_try(source)
        .is_none_or(|at| now.since(at) >= again);
    stale && rested
}

#[cfg(test)]
mod prune_tests;
#[cfg(test)]
pub(super) mod tests;
