//! Where the logs of two sites part, and what one of them holds beyond that.

use std::{collections::BTreeSet, fs, io, path::Path};

use crate::model::observation::Lsn;

/// Where a log leaves another one's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The timeline that is left.
    pub timeline: u32,
    /// Where.
    pub at: Lsn,
}

/// A file of the log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment {
    /// Its name.
    pub name: String,
    /// Where it begins.
    pub begin: Lsn,
}

/// What `pg_waldump` told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dump {
    /// Transactions that were committed.
    pub commits: u64,
    /// Where the log ends; none where nothing of it could be read.
    pub end: Option<Lsn>,
}

/// How `pg_waldump` says that a log ends where it was to begin.
pub const NOTHING: &str = "could not find a valid record after";

/// Where a timeline was left, by the history of the one that serves; none where that does not know it.
#[must_use]
pub fn of(timeline: u32, history: &str) -> Option<Fork> {
    before(history).find(|fork| fork.timeline == timeline)
}

/// Whether one history tells of every timeline before what another one does.
#[must_use]
pub fn agrees(history: &str, with: &str) -> bool {
    before(history).all(|fork| of(fork.timeline, with) == Some(fork))
}

/// Where a timeline began, by its own history; none where no other was before it.
#[must_use]
pub fn began(timeline: u32, history: &str) -> Option<Lsn> {
    let earlier = before(history).filter(|fork| fork.timeline < timeline);
    earlier.max_by_key(|fork| fork.timeline).map(|fork| fork.at)
}

fn before(history: &str) -> impl Iterator<Item = Fork> {
    history.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let timeline = words.next()?.parse().ok()?;
        let at = Lsn::parse(words.next()?)?;
        Some(Fork { timeline, at })
    })
}

/// The timelines that a folder has log of. A history alone is none: a server fetches that before it sees whether its own
/// log fits to it.
///
/// # Errors
/// Where the folder cannot be read.
pub fn timelines(wal: &Path) -> io::Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(wal)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if is_log(&name) {
            found.extend(name.get(..8).and_then(|n| u32::from_str_radix(n, 16).ok()));
        }
    }
    Ok(found)
}

/// The files of a timeline's log that hold anything after the fork, in order.
///
/// # Errors
/// Where the folder cannot be read.
pub fn segments(wal: &Path, fork: Fork) -> io::Result<Vec<Segment>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(wal)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let size = entry.metadata()?.len();
        let Some(begin) = begin(&name, fork.timeline, size).filter(|_| is_log(&name)) else {
            continue;
        };
        if begin.0.saturating_add(size) > fork.at.0 {
            found.push(Segment { name, begin });
        }
    }
    found.sort_by_key(|s| s.begin);
    Ok(found)
}

fn is_log(name: &str) -> bool {
    name.len() == 24 && name.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Where a file of the log begins; none where it is of another timeline.
fn begin(name: &str, timeline: u32, size: u64) -> Option<Lsn> {
    let number = |from: usize, to: usize| u32::from_str_radix(name.get(from..to)?, 16).ok();
    let (high, low) = (u64::from(number(8, 16)?), u64::from(number(16, 24)?));
    (number(0, 8)? == timeline && size > 0).then(|| Lsn((high << 32) + low * size))
}

/// Reads what `pg_waldump` printed: a line a record, and where it could go no further.
#[must_use]
pub fn dumped(records: &str, errors: &str) -> Dump {
    let is_commit =
        |line: &&str| line.starts_with("rmgr: Transaction") && line.contains("desc: COMMIT");
    // "error in WAL record at 0/3000148: invalid record length at 0/3000180: wanted 24, got 0"
    let stopped = errors.lines().rev().find_map(|line| {
        let (_, after) = line.rsplit_once(" at ")?;
        Lsn::parse(after.split([':', ',', ' ']).next()?)
    });
    let last = records.lines().next_back().and_then(ends);
    Dump {
        commits: u64::try_from(records.lines().filter(is_commit).count()).unwrap_or(u64::MAX),
        end: stopped.max(last),
    }
}

/// Where a record ends at the earliest.
fn ends(line: &str) -> Option<Lsn> {
    let (_, after) = line.split_once("lsn: ")?;
    let begin = Lsn::parse(after.split(',').next()?)?;
    let (_, lengths) = line.split_once("len (rec/tot):")?;
    let total: u64 = lengths
        .split(',')
        .next()?
        .split('/')
        .nth(1)?
        .trim()
        .parse()
        .ok()?;
    Some(Lsn(begin.0 + total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_is_found_in_the_history() {
        let history = "1\t0/3000098\tno recovery target specified\n\n2\t0/5000028\tno recovery\n3\tFFFFFFFF/FFFFFFFF\n";
        let at = |timeline| of(timeline, history).map(|f| f.at.to_string());
        assert_eq!(at(1).as_deref(), Some("0/3000098"));
        assert_eq!(at(2).as_deref(), Some("0/5000028"));
        assert_eq!(at(3).as_deref(), Some("FFFFFFFF/FFFFFFFF"));
        assert_eq!(at(4), None);
        assert_eq!(began(3, history), Lsn::parse("0/5000028"));
        assert_eq!(began(1, history), None);
    }

    #[test]
    fn two_histories_agree_where_one_goes_on_from_the_other() {
        let serving =
            "1\t0/3000098\tno recovery\n2\t0/5000028\tno recovery\n3\tFFFFFFFF/FFFFFFFF\n";
        assert!(agrees("", serving));
        assert!(agrees("1\t0/3000098\tno recovery\n", serving));
        assert!(!agrees("1\t0/3000100\tno recovery\n", serving));
        assert!(!agrees("1\t0/3000098\tby hand\n4\t0/6000000\t\n", serving));
    }

    #[test]
    fn a_history_without_log_is_no_timeline_of_a_site() {
        let folder = tempfile::tempdir().unwrap();
        let names = [
            "000000010000000000000003",
            "0000000A0000000000000003",
            "00000002.history",
            "000000040000000000000003.partial",
            "archive_status",
        ];
        for name in names {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found = timelines(folder.path()).unwrap();
        assert_eq!(found, BTreeSet::from([1, 10]));
    }

    #[test]
    fn the_log_after_a_fork_is_chosen() {
        let folder = tempfile::tempdir().unwrap();
        let size = 1024 * 1024;
        for name in [
            "000000010000000000000002",
            "000000010000000000000003",
            "000000010000000000000004",
            "000000020000000000000003",
            "00000002.history",
        ] {
            let file = fs::File::create(folder.path().join(name)).unwrap();
            file.set_len(size).unwrap();
        }
        let fork = Fork {
            timeline: 1,
            at: Lsn(3 * size + 100),
        };
        let found = segments(folder.path(), fork).unwrap();
        let names: Vec<_> = found.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(
            names,
            ["000000010000000000000003", "000000010000000000000004"]
        );
    }

    #[test]
    fn commits_and_the_end_of_the_log_are_read() {
        let records = "rmgr: Heap        len (rec/tot):     59/    59, tx:        734, lsn: 0/03000098, prev 0/03000060, desc: INSERT off 1\n\
             rmgr: Transaction len (rec/tot):     34/    34, tx:        734, lsn: 0/030000D8, prev 0/03000098, desc: COMMIT 2026-11-22 10:00:00 UTC\n\
             rmgr: Transaction len (rec/tot):     34/    34, tx:        735, lsn: 0/03000100, prev 0/030000D8, desc: ABORT 2026-11-22 10:00:00 UTC\n";
        let errors = "pg_waldump: error: error in WAL record at 0/3000100: invalid record length at 0/3000128: wanted 24, got 0\n";
        let dump = dumped(records, errors);
        assert_eq!(dump.commits, 1);
        assert_eq!(dump.end, Lsn::parse("0/3000128"));
        // What cannot be read further ends no earlier than its last record.
        let torn = "pg_waldump: error: error in WAL record at 0/3000100: unexpected pageaddr 0/1000000, offset 8192\n";
        assert_eq!(dumped(records, torn).end, Lsn::parse("0/3000122"));
        assert_eq!(dumped("", "").end, None);
    }
}
