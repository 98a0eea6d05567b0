use super::*;
use crate::model::{
    backup::{Retention, Verify},
    id::PolicyName,
    plan::Uses,
};

const HOUR: Span = Span::from_secs(3600);

pub fn time(text: &str) -> Time {
    Time::parse(text).unwrap()
}

pub fn source(name: &str, region: &str, full: Option<Span>) -> BackupSource {
    BackupSource {
        name: name.into(),
        location: Location {
            region: Some(region.into()),
            country: Some("ZA".into()),
            continent: Some("AF".into()),
            provider: Some("one".into()),
        },
        keeps: [(BackupKind::Full, full)].into(),
        action: Uses {
            uses: "backup/folder".into(),
            with: serde_json::Value::Null,
        },
    }
}

pub fn policy(sources: Vec<BackupSource>) -> BackupPolicy {
    BackupPolicy {
        residency: Vec::new(),
        name: PolicyName::new("p"),
        sources,
        copies: 1,
        regions: 0,
        providers: 0,
        continents: 0,
        encrypted: false,
        retention: Retention::default(),
        verify: None,
        take: None,
    }
}

pub fn copy(id: &str, at: Time) -> BackupCopy {
    BackupCopy {
        id: id.into(),
        kind: BackupKind::Full,
        at,
        bytes: Some(1),
        encrypted: Some(true),
    }
}

pub fn shelf(source: &str, copies: Vec<BackupCopy>) -> Shelf {
    Shelf {
        source: source.into(),
        listed: Listed::Copies(copies),
    }
}

pub fn result(source: &str, copy: &BackupCopy, outcome: Restored) -> Verification {
    Verification {
        source: source.into(),
        copy: copy.id.clone(),
        taken: copy.at,
        outcome,
        bytes: 1,
        took: HOUR,
        form: "dump".into(),
        answers: BTreeMap::new(),
    }
}

fn rules(judgement: &Judgement) -> Vec<String> {
    judgement
        .breaches
        .iter()
        .map(|b| format!("{}{}", b.rule, if b.certain { "" } else { "?" }))
        .collect()
}

const NOW: &str = "2026-11-20T12:00:00Z";

#[test]
fn a_backup_is_fresh_up_to_its_limit_and_then_not() {
    let policy = policy(vec![source("a", "r1", Some(Span::from_secs(86_400)))]);
    let shelves = [shelf("a", vec![copy("x", time("2026-11-19T12:00:00Z"))])];
    let kept = judge(&policy, &shelves, &Backups::default(), time(NOW));
    assert_eq!(rules(&kept), [""; 0]);
    let before = judge(
        &policy,
        &shelves,
        &Backups::default(),
        time("2026-11-20T11:00:00Z"),
    );
    assert_eq!(before.next.unwrap().0, time(NOW));
    let late = judge(
        &policy,
        &shelves,
        &Backups::default(),
        time("2026-11-20T12:00:01Z"),
    );
    assert_eq!(rules(&late), ["freshness/a/full", "copies"]);
    assert!(late.breaches[0].text.contains("may be 1d old at most"));
}

#[test]
fn an_empty_place_and_one_that_does_not_answer_are_two_things() {
    let mut policy = policy(vec![source("a", "r1", None), source("b", "r2", None)]);
    policy.copies = 2;
    policy.regions = 2;
    let full = shelf("a", vec![copy("x", time(NOW))]);
    let empty = [full.clone(), shelf("b", Vec::new())];
    let judged = judge(&policy, &empty, &Backups::default(), time(NOW));
    assert_eq!(rules(&judged), ["freshness/b/full", "copies", "regions"]);
    let silent = Shelf {
        source: "b".into(),
        listed: Listed::Unknown("no answer".into()),
    };
    let judged = judge(&policy, &[full, silent], &Backups::default(), time(NOW));
    assert_eq!(rules(&judged), ["list/b?", "copies?", "regions?"]);
}

#[test]
fn places_count_once() {
    let mut policy = policy(vec![source("a", "r1", None), source("b", "r1", None)]);
    (policy.copies, policy.regions, policy.providers) = (2, 2, 1);
    let shelves = ["a", "b"].map(|s| shelf(s, vec![copy("x", time(NOW))]));
    let judged = judge(&policy, &shelves, &Backups::default(), time(NOW));
    assert_eq!(rules(&judged), ["regions"]);
    assert!(
        judged.breaches[0]
            .text
            .contains("is in 1 region, and should be in 2")
    );
    policy.sources[1].location.region = None;
    let judged = judge(&policy, &shelves, &Backups::default(), time(NOW));
    assert_eq!(rules(&judged), ["regions"]);
}

#[test]
fn what_is_not_known_to_be_encrypted_is_asked_about() {
    let mut policy = policy(vec![source("a", "r1", None)]);
    policy.encrypted = true;
    let mut one = copy("x", time(NOW));
    let judged = |one: &BackupCopy| {
        let shelves = [shelf("a", vec![one.clone(), copy("y", time(NOW))])];
        rules(&judge(&policy, &shelves, &Backups::default(), time(NOW)))
    };
    assert_eq!(judged(&one), [""; 0]);
    one.encrypted = None;
    assert_eq!(judged(&one), ["encrypted/a?"]);
    one.encrypted = Some(false);
    assert_eq!(judged(&one), ["encrypted/a"]);
}

#[test]
fn each_day_and_month_has_its_backup() {
    let mut policy = policy(vec![source("a", "r1", None), source("b", "r2", None)]);
    policy.retention = Retention {
        daily: 3,
        monthly: 2,
        since: None,
    };
    let nightly = ["2026-11-17", "2026-11-19", "2026-11-20"];
    let nightly = nightly.map(|d| copy(d, time(&format!("{d}T02:00:00Z"))));
    let monthly = vec![copy("m", time("2026-09-01T02:00:00Z"))];
    let shelves = [shelf("a", nightly.to_vec()), shelf("b", monthly)];
    let judged = judge(&policy, &shelves, &Backups::default(), time(NOW));
    assert_eq!(rules(&judged), ["daily", "monthly"]);
    assert_eq!(
        judged.breaches[0].text,
        "of 3 days, 1 has no full backup: 2026-11-18"
    );
    assert_eq!(
        judged.breaches[1].text,
        "of 2 months, 1 has no full backup: 2026-10"
    );
    policy.retention.since = Some(time("2026-11-19T00:00:00Z"));
    let judged = judge(&policy, &shelves, &Backups::default(), time(NOW));
    assert_eq!(rules(&judged), [""; 0]);
    let tomorrow = judge(
        &policy,
        &shelves,
        &Backups::default(),
        time("2026-11-21T01:00:00Z"),
    );
    assert_eq!(tomorrow.next.unwrap().0, time("2026-11-22T00:00:00Z"));
}

#[test]
fn a_bad_backup_does_not_count() {
    let policy = policy(vec![source("a", "r1", Some(HOUR.saturating_mul(30)))]);
    let shelves = [shelf(
        "a",
        vec![
            copy("old", time("2026-11-18T02:00:00Z")),
            copy("new", time("2026-11-20T02:00:00Z")),
        ],
    )];
    let new = &shelves[0].copies()[1];
    let mut known = Backups::default();
    assert_eq!(to_try(&shelves[0], &known).unwrap().id.as_str(), "new");
    let bad = Restored::Bad {
        reason: "truncated".into(),
    };
    known.verified(&result("a", new, bad.clone()), time(NOW));
    let judged = judge(&policy, &shelves, &known, time(NOW));
    assert_eq!(rules(&judged), ["bad/a/full", "freshness/a/full", "copies"]);
    assert!(judged.breaches[0].text.contains("truncated"));
    assert_eq!(to_try(&shelves[0], &known).unwrap().id.as_str(), "old");
    let unclear = Restored::Unknown {
        reason: "no disk".into(),
    };
    known.verified(&result("a", new, unclear), time(NOW));
    assert_eq!(known.bad(&"a".into(), new), Some("truncated"));
    known.verified(&result("a", new, Restored::Good), time(NOW));
    assert_eq!(rules(&judge(&policy, &shelves, &known, time(NOW))), [""; 0]);
}

#[test]
fn what_was_found_of_a_file_says_nothing_of_the_next_one_of_that_name() {
    let name = SourceName::from("a");
    let old = copy("latest", time("2026-11-18T02:00:00Z"));
    let new = copy("latest", time("2026-11-19T02:00:00Z"));
    let mut known = Backups::default();
    known.verified(&result("a", &old, Restored::Good), time(NOW));
    assert!(known.is_proved(&name, &old) && !known.is_proved(&name, &new));
    assert_eq!(to_try(&shelf("a", vec![new.clone()]), &known), Some(&new));
    let bad = Restored::Bad {
        reason: "cut".into(),
    };
    known.verified(&result("a", &new, bad), time(NOW));
    assert!(known.is_damaged(&name, &new) && !known.is_damaged(&name, &old));
    // One that cannot be tried to the end says more than what was found of its predecessor.
    let unclear = Restored::Unknown {
        reason: "no disk".into(),
    };
    let next = copy("latest", time("2026-11-20T02:00:00Z"));
    known.verified(&result("a", &next, unclear), time(NOW));
    assert!(!known.is_damaged(&name, &next) && known.of(&name, &next).is_some());
}

#[test]
fn an_empty_file_is_no_backup() {
    let policy = policy(vec![source("a", "r1", Some(HOUR.saturating_mul(30)))]);
    let mut empty = copy("new", time("2026-11-20T02:00:00Z"));
    empty.bytes = Some(0);
    let old = copy("old", time("2026-11-18T02:00:00Z"));
    let shelves = [shelf("a", vec![old, empty])];
    let known = Backups::default();
    let judged = judge(&policy, &shelves, &known, time(NOW));
    assert_eq!(rules(&judged), ["bad/a/full", "freshness/a/full", "copies"]);
    let text = &judged.breaches[0].text;
    assert!(text.contains("new, cannot be used: it is empty"), "{text}");
    assert_eq!(to_try(&shelves[0], &known).unwrap().id.as_str(), "old");
}

#[test]
fn a_restore_is_due_again() {
    let mut policy = policy(vec![source("a", "r1", None)]);
    let name = SourceName::from("a");
    policy.verify = Some(Verify {
        every: HOUR,
        sources: vec![name.clone()],
        queries: Vec::new(),
        database: String::new(),
        timeout: HOUR,
        folder: None,
        keep_free: 0,
        programs: None,
    });
    let shelves = [shelf("a", vec![copy("x", time(NOW))])];
    let mut known = Backups::default();
    let due =
        |known: &Backups, at: Time| is_due(HOUR, Span::from_secs(600), &name, known, None, at);
    let judged = |known: &Backups, at: Time| rules(&judge(&policy, &shelves, known, at));
    assert_eq!(judged(&known, time(NOW)), ["verified/a"]);
    assert!(due(&known, time(NOW)));
    let unclear = Restored::Unknown {
        reason: "no disk".into(),
    };
    known.verified(&result("a", &shelves[0].copies()[0], unclear), time(NOW));
    assert_eq!(judged(&known, time(NOW)), ["verified/a"]);
    assert!(!due(&known, time(NOW)) && due(&known, time("2026-11-20T12:10:00Z")));
    known.verified(
        &result("a", &shelves[0].copies()[0], Restored::Good),
        time(NOW),
    );
    assert_eq!(judged(&known, time("2026-11-20T13:00:00Z")), [""; 0]);
    assert_eq!(judged(&known, time("2026-11-20T13:00:01Z")), ["verified/a"]);
    assert!(due(&known, time("2026-11-20T13:00:00Z")));
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut known = Backups::default();
    let named = |n: usize| copy(&format!("c{n}"), Time::default());
    for n in 0..REMEMBERED + 7 {
        let at = Time::from_millis(i64::try_from(n).unwrap());
        known.verified(&result("a", &named(n), Restored::Good), at);
    }
    assert_eq!(known.tried.len(), REMEMBERED);
    assert_eq!(known.of(&"a".into(), &named(6)), None);
    assert!(known.of(&"a".into(), &named(7)).is_some());
}
