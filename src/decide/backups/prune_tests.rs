use proptest::prelude::*;

use super::{prune::*, tests::*, *};
use crate::model::backup::{Retention, Verify};

const DAY: i64 = 86_400_000;

fn now() -> Time {
    time("2026-11-20T12:00:00Z")
}

fn both() -> BTreeSet<SourceName> {
    ["a", "b"].map(SourceName::from).into()
}

fn ladder(daily: u32, monthly: u32) -> BackupPolicy {
    let mut policy = policy(vec![
        source("a", "r1", Some(Span::from_secs(30 * 3600))),
        source("b", "r2", Some(Span::from_secs(40 * 86_400))),
    ]);
    policy.retention = Retention {
        daily,
        monthly,
        since: None,
    };
    policy
}

fn with_verify(mut policy: BackupPolicy) -> BackupPolicy {
    policy.verify = Some(Verify {
        every: Span::from_secs(7 * 86_400),
        sources: vec!["a".into()],
        queries: Vec::new(),
        database: String::new(),
        timeout: Span::from_secs(1),
        folder: None,
        keep_free: 0,
        programs: None,
    });
    policy
}

/// A copy so many hours old.
fn old(hours: i64) -> BackupCopy {
    let at = now().as_millis() - hours * 3_600_000;
    copy(&format!("h{hours}"), Time::from_millis(at))
}

/// Copies so many hours old.
fn aged(hours: &[i64]) -> Vec<BackupCopy> {
    let mut copies: Vec<_> = hours.iter().map(|h| old(*h)).collect();
    copies.sort_by_key(|c| c.at);
    copies.dedup_by_key(|c| c.id.clone());
    copies
}

fn after(shelves: &[Shelf], gone: &[(SourceName, BackupCopy)]) -> Vec<Shelf> {
    shelves
        .iter()
        .map(|s| {
            let is_gone =
                |c: &&BackupCopy| !gone.iter().any(|(n, g)| n == &s.source && g.id == c.id);
            shelf(
                s.source.as_str(),
                s.copies().iter().filter(is_gone).cloned().collect(),
            )
        })
        .collect()
}

#[test]
fn the_ladder_keeps_days_and_months() {
    let hours: Vec<i64> = (0..400).map(|n| n * 24 + 10).collect();
    let shelves = [shelf("a", aged(&hours)), shelf("b", aged(&[24]))];
    let gone = prune(
        &ladder(30, 12),
        &shelves,
        &Backups::default(),
        &both(),
        now(),
    )
    .unwrap();
    let left = after(&shelves, &gone);
    // Today, 30 days before it, and the first of each of the 12 months before, of which two lie within the 30 days.
    assert_eq!(left[0].copies().len(), 31 + 12 - 1 + 1);
    let days: Vec<_> = left[0]
        .copies()
        .iter()
        .take(3)
        .map(|c| c.at.day_words())
        .collect();
    assert_eq!(days, ["2025-11-01", "2025-12-01", "2026-01-01"]);
    assert_eq!(left[1].copies().len(), 1);
    let again = prune(&ladder(30, 12), &left, &Backups::default(), &both(), now()).unwrap();
    assert_eq!(again, []);
}

#[test]
fn nothing_goes_where_that_cannot_be_judged() {
    let shelves = [shelf("a", aged(&[10, 5000])), shelf("b", Vec::new())];
    let none = Backups::default();
    let refused = |policy: &BackupPolicy, shelves: &[Shelf]| {
        prune(policy, shelves, &none, &both(), now()).unwrap_err()
    };
    assert_eq!(refused(&ladder(0, 0), &shelves), Unprunable::NoLadder);
    assert_eq!(
        refused(&with_verify(ladder(30, 0)), &shelves),
        Unprunable::Unproved
    );
    let mut unseen = shelves.clone();
    unseen[1].listed = Listed::Unknown("away".into());
    let refusal = refused(&ladder(30, 0), &unseen);
    assert_eq!(refusal, Unprunable::Unseen("b".into(), "away".into()));
    let only_b = ["b"].map(SourceName::from).into();
    assert_eq!(
        prune(&ladder(30, 0), &shelves, &none, &only_b, now()),
        Ok(Vec::new())
    );
}

#[test]
fn the_last_verified_one_stays_and_a_bad_one_is_no_rung() {
    let policy = with_verify(ladder(2, 0));
    let shelves = [
        shelf("a", aged(&[10, 58, 59, 5000, 6000])),
        shelf("b", Vec::new()),
    ];
    let mut known = Backups::default();
    known.verified(&result("a", &old(5000), Restored::Good), now());
    let bad = Restored::Bad {
        reason: "cut".into(),
    };
    known.verified(&result("a", &old(59), bad), now());
    let gone = prune(&policy, &shelves, &known, &both(), now()).unwrap();
    let ids: Vec<_> = gone.iter().map(|(_, c)| c.id.as_str()).collect();
    assert_eq!(ids, ["h6000", "h59"]);
    // One that answers otherwise than it should keeps its rung, since the question may be the wrong one; the day's other
    // one stays as well, since the first counts for nothing.
    let wrong = Restored::Wrong {
        reason: "a table was renamed".into(),
    };
    let mut known = Backups::default();
    known.verified(&result("a", &old(5000), Restored::Good), now());
    known.verified(&result("a", &old(59), wrong), now());
    let gone = prune(&policy, &shelves, &known, &both(), now()).unwrap();
    let ids: Vec<_> = gone.iter().map(|(_, c)| c.id.as_str()).collect();
    assert_eq!(ids, ["h6000"]);
}

#[test]
fn of_those_that_were_verified_the_newest_that_is_still_there_stays() {
    let policy = with_verify(ladder(2, 0));
    let mut known = Backups::default();
    // The one that was verified last is gone, and an older one was verified again by hand.
    for hours in [4000, 5000, 3000] {
        known.verified(&result("a", &old(hours), Restored::Good), now());
    }
    let later = now().after(Span::from_secs(1));
    known.verified(&result("a", &old(6000), Restored::Good), later);
    let ids = |hours: &[i64]| -> Vec<String> {
        let shelves = [shelf("a", aged(hours)), shelf("b", Vec::new())];
        let gone = prune(&policy, &shelves, &known, &both(), now()).unwrap();
        gone.iter().map(|(_, c)| c.id.to_string()).collect()
    };
    assert_eq!(ids(&[10, 4000, 5000]), ["h5000"]);
    assert_eq!(ids(&[10, 4000, 5000, 6000]), ["h5000"]);
    let unknown = [shelf("a", aged(&[10, 100])), shelf("b", Vec::new())];
    let none = prune(&policy, &unknown, &known, &both(), now());
    assert_eq!(none, Err(Unprunable::Unproved));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn pruning_breaks_nothing_now_or_later(
        a in prop::collection::vec(0_i64..9000, 0..60),
        b in prop::collection::vec(0_i64..9000, 0..20),
        nightly in any::<bool>(),
        daily in 0_u32..20,
        monthly in 0_u32..8,
        copies in 1_usize..3,
        regions in 0_usize..3,
        verified in prop::option::of(0_usize..60),
        bad in prop::collection::vec(0_usize..60, 0..6),
        later in 0_i64..60,
    ) {
        let mut policy = ladder(daily, monthly.max(u32::from(daily == 0)));
        (policy.copies, policy.regions) = (copies, regions);
        if verified.is_some() {
            policy = with_verify(policy);
        }
        let mut a = a;
        if nightly {
            a.extend((0..370).map(|n| n * 24 + 10));
        }
        let shelves = [shelf("a", aged(&a)), shelf("b", aged(&b))];
        let mut known = Backups::default();
        for n in bad {
            if let Some(copy) = shelves[0].copies().get(n) {
                let bad = Restored::Bad { reason: "cut".into() };
                known.verified(&result("a", copy, bad), now());
            }
        }
        let proved = verified.and_then(|n| shelves[0].copies().get(n));
        if let Some(copy) = proved {
            known.verified(&result("a", copy, Restored::Good), now());
        }
        let proved = proved.map(|c| c.id.clone());
        let Ok(gone) = prune(&policy, &shelves, &known, &both(), now()) else {
            return Ok(());
        };
        let left = after(&shelves, &gone);
        let rules = |shelves: &[Shelf], at: Time| -> BTreeSet<String> {
            judge(&policy, shelves, &known, at).breaches.into_iter().map(|b| b.text).collect()
        };
        prop_assert!(rules(&left, now()).is_subset(&rules(&shelves, now())));
        if let Some(id) = proved {
            prop_assert!(left[0].copies().iter().any(|c| c.id == id));
        }
        for (before, after) in shelves.iter().zip(&left) {
            prop_assert_eq!(before.copies().last(), after.copies().last());
        }
        // The same backups are taken in the days that follow: what was pruned is not missed then either.
        let new: Vec<_> = (1..=later)
            .map(|n| copy(&format!("new{n}"), Time::from_millis(now().as_millis() + n * DAY)))
            .collect();
        let then = Time::from_millis(now().as_millis() + later * DAY);
        let grown = |shelves: &[Shelf]| -> Vec<Shelf> {
            let mut shelves = shelves.to_vec();
            let copies = shelves[0].copies().iter().cloned().chain(new.clone()).collect();
            shelves[0] = shelf("a", copies);
            shelves
        };
        prop_assert!(rules(&grown(&left), then).is_subset(&rules(&grown(&shelves), then)));
    }
}
