use super::*;
use crate::{
    decide::{backups::tests as backups_tests, compile, script},
    model::{
        backup::{BackupSource, Restored, Verification},
        plan::{RESTORE, StepPhase, Uses},
        site::Location,
        span::Span,
    },
};

fn log(name: &str, minute: i64) -> BackupCopy {
    BackupCopy {
        id: CopyId::new(format!("wal/{name}")),
        kind: BackupKind::Log,
        at: Time::from_millis(minute * 60_000),
        bytes: None,
        encrypted: None,
    }
}

fn at(minute: i64) -> Time {
    Time::from_millis(minute * 60_000)
}

#[test]
fn archived_wal_counts_as_far_as_nothing_is_missing() {
    let copies = [
        log("000000010000000000000002", 2),
        log("000000010000000000000003.gz", 3),
        log("00000002.history", 4),
        log("000000020000000000000004", 5),
        log("000000020000000000000006", 9),
    ];
    let found = stretches(&copies);
    assert_eq!(found, [(at(2), at(5)), (at(9), at(9))]);
    assert_eq!(archived(&found, at(1)), Some(at(5)));
    assert_eq!(archived(&found, at(5)), Some(at(5)));
    assert_eq!(archived(&found, at(6)), Some(at(9)));
    assert_eq!(archived(&found, at(10)), None);
}

fn tried(state: &mut State, copy: &str, taken: i64, form: &str, outcome: Restored) {
    let result = Verification {
        source: "base".into(),
        copy: CopyId::new(copy),
        taken: at(taken),
        outcome,
        bytes: 1,
        took: Span::from_secs(1),
        form: form.to_owned(),
        answers: BTreeMap::new(),
    };
    state.backups.verified(&result, at(taken + 1));
}

/// A shop whose runbook restores `instead of` a step, or nothing else, with backups in one country.
fn shop(instead_of: Option<&str>, country: &str) -> Service {
    let mut service = script::shop();
    let mut step = service.runbook.steps.clone().into_iter();
    let mut step = step.find(|s| s.phase == StepPhase::Promote).unwrap();
    if instead_of.is_none() {
        service
            .runbook
            .steps
            .retain(|s| s.phase != StepPhase::Promote);
    }
    step.id = "restore".into();
    step.action = Action::Adapter(Uses {
        uses: RESTORE.into(),
        with: serde_json::json!({"wal": "archive"}),
    });
    step.instead_of = instead_of.map(Into::into);
    service.runbook.steps.push(step);
    let source = |name: &str, kind| BackupSource {
        name: name.into(),
        location: Location {
            country: Some(country.to_owned()),
            ..Location::default()
        },
        keeps: BTreeMap::from([(kind, None)]),
        action: Uses {
            uses: "backup/folder".into(),
            with: Value::Null,
        },
    };
    let mut policy = backups_tests::policy(vec![
        source("base", BackupKind::Full),
        source("archive", BackupKind::Log),
    ]);
    policy.residency = vec!["ZA".to_owned()];
    service.backups = Some(policy);
    service
}

fn compiled(service: &Service, way: &Way) -> Plan {
    let (from, to) = ("ams".into(), "fra".into());
    compile::along(service, RunKind::Failover, &from, &to, way).unwrap()
}

fn ids(plan: &Plan, of: &str) -> Vec<String> {
    let step = plan.step(&of.into()).unwrap();
    step.needs.iter().map(ToString::to_string).collect()
}

#[test]
fn only_a_base_backup_that_was_restored_is_taken_the_newest_of_them() {
    let service = shop(Some("promote"), "ZA");
    let policy = service.backups.as_ref().unwrap();
    let (mut state, mut view) = (State::default(), View::default());
    assert_eq!(candidate(policy, &state, &view), None);
    let base = "base backup with manifest";
    tried(&mut state, "a", 10, base, Restored::Good);
    tried(&mut state, "b", 20, base, Restored::Good);
    tried(&mut state, "dump", 30, "archive of pg_dump", Restored::Good);
    let reason = String::new();
    tried(
        &mut state,
        "bad",
        40,
        base,
        Restored::Bad {
            reason: reason.clone(),
        },
    );
    tried(&mut state, "half", 50, base, Restored::Unknown { reason });
    let found = candidate(policy, &state, &view).unwrap();
    assert_eq!((found.copy.as_str(), found.taken), ("b", at(20)));
    // What its source does not list any more cannot be restored.
    let shelf = Shelf {
        source: "base".into(),
        listed: Listed::Copies(vec![BackupCopy {
            kind: BackupKind::Full,
            ..log("x", 1)
        }]),
    };
    view.shelved = shelved(&[shelf]);
    assert_eq!(candidate(policy, &state, &view), None);
}

#[test]
fn a_plan_holds_both_branches_or_the_second_alone() {
    let service = shop(Some("promote"), "ZA");
    let found = Candidate {
        source: "base".into(),
        copy: CopyId::new("b"),
        taken: at(20),
        verified: at(21),
    };
    let both = compiled(&service, &Way::Promote(Some(found.clone())));
    assert!(ids(&both, "restore").contains(&"promote".to_owned()));
    assert!(ids(&both, "repoint").contains(&"restore".to_owned()));
    assert!(ids(&both, "restore").contains(&"fence".to_owned()));
    assert!(!replaces_standby(&both));
    let step = both.step(&"restore".into()).unwrap();
    assert_eq!(setting(step, "copy"), Some("b"));

    let second = compiled(&service, &Way::Restore(found));
    assert!(second.step(&"promote".into()).is_none());
    assert!(ids(&second, "repoint").contains(&"restore".to_owned()));
    assert!(ids(&second, "restore").contains(&"fence".to_owned()));
    assert!(replaces_standby(&second) && second.fencing.is_some());
    assert_ne!(both.hash(), second.hash());

    let first = compiled(&service, &Way::Promote(None));
    assert!(first.step(&"restore".into()).is_none());
}

#[test]
fn data_goes_nowhere_where_it_may_not_be() {
    let found = Candidate {
        source: "base".into(),
        copy: CopyId::new("b"),
        taken: at(20),
        verified: at(21),
    };
    let says = |backup: &str, spare: &str| {
        let mut service = shop(Some("promote"), backup);
        service.residency = vec!["ZA".to_owned()];
        let plan = compiled(&service, &Way::Restore(found.clone()));
        let mut site = service.site(&"fra".into()).unwrap().clone();
        site.location.country = (!spare.is_empty()).then(|| spare.to_owned());
        residency(&service, &plan, &site).unwrap()
    };
    assert_eq!(says("ZA", "ZA").says, Says::Allow);
    for (backup, spare) in [("DE", "ZA"), ("ZA", "DE"), ("ZA", "")] {
        let answer = says(backup, spare);
        assert_eq!(
            answer.says,
            Says::Hold,
            "{backup} {spare}: {}",
            answer.reason
        );
    }
}
