//! Drills beside everything else.

use super::{Stage, play, shop, step};
use crate::{
    decide::{drill::report, event::Event},
    model::{
        drill::{Depth, DrillPolicy},
        plan::{OnFailure, RunKind, StepPhase},
        record::RecordBody,
        schedule::Schedule,
        service::{Runbook, RunbookStep, Service, Window},
        span::Span,
        time::Time,
    },
};

pub(super) fn isolated() -> DrillPolicy {
    let part = |id: &str, phase, needs: &[&str]| RunbookStep {
        on: vec![RunKind::Drill],
        ..step(id, phase, "drill/test", needs, OnFailure::Stop)
    };
    DrillPolicy {
        name: "monthly".into(),
        depth: Depth::Isolated,
        runbook: Some(Runbook {
            name: "drill".into(),
            title: "Drill".to_owned(),
            steps: vec![
                part("clone", StepPhase::Prepare, &[]),
                part("rehearse", StepPhase::Promote, &["clone"]),
                part("ask", StepPhase::Verify, &["rehearse"]),
            ],
        }),
        schedule: None,
        jitter: Span::ZERO,
        grace: Span::from_secs(600),
        stay: Span::ZERO,
        blocked: Vec::new(),
        inject: Vec::new(),
    }
}

fn exercised(policy: DrillPolicy) -> Service {
    Service {
        drills: vec![policy],
        ..shop()
    }
}

/// A stage on which everything is well, checked and measured.
fn stage(policy: DrillPolicy) -> Stage {
    let mut stage = Stage::new(exercised(policy));
    stage.play("well\n wait 2s\n well\n check green");
    stage
}

#[test]
fn a_drill_is_done_judged_taken_back_and_closed() {
    let mut stage = stage(isolated());
    insta::assert_snapshot!(stage.play(
        "drill ben
         done clone
         done rehearse
         done ask
         undone ask
         undone rehearse
         undone clone"
    ));
    let known = stage.core.state();
    assert_eq!(known.active.as_ref().unwrap().as_str(), "ams");
    assert!(known.drills.last_passed().is_some());
    assert!(known.last_run.is_none(), "a drill is no run of the service");
}

#[test]
fn its_report_is_the_same_from_the_journal_and_has_the_hash_that_was_recorded() {
    let mut stage = stage(isolated());
    stage.play(
        "drill ben\n done clone\n done rehearse\n done ask\n undone ask\n undone rehearse\n undone clone",
    );
    let recorded = stage.log.iter().find_map(|r| {
        let RecordBody::DrillClosed { report, .. } = &r.body else {
            return None;
        };
        Some(report.clone())
    });
    let made = report::of(&stage.log).unwrap();
    assert_eq!(recorded, Some(made.hash()));
    insta::assert_yaml_snapshot!(made);
}

#[test]
fn a_step_that_fails_ends_it_and_is_taken_back_as_well() {
    insta::assert_snapshot!(stage(isolated()).play(
        "drill ben
         done clone
         failed rehearse
         wait 2s
         failed rehearse
         undone rehearse
         undone clone"
    ));
}

#[test]
fn an_outage_breaks_it_off_and_does_not_wait_for_it() {
    let mut stage = stage(isolated());
    insta::assert_snapshot!(stage.play(
        "drill ben
         down db a b c
         done fence
         unclear clone
         wait 2s
         done attempt
         stays clone"
    ));
    assert!(stage.core.state().run.is_some(), "the failover goes on");
}

#[test]
fn a_person_breaks_it_off() {
    insta::assert_snapshot!(stage(isolated()).play(
        "drill ben\n done clone\n stop anna\n unclear rehearse\n undone rehearse\n undone clone"
    ));
}

#[test]
fn after_a_restart_it_is_looked_for_and_goes_on() {
    insta::assert_snapshot!(stage(isolated()).play(
        "drill ben
         restart
         well
         inplace clone
         done rehearse
         restart
         well
         absent ask
         wait 5s
         done ask
         restart
         well
         undone ask
         restart
         well
         undone rehearse
         undone clone"
    ));
}

#[test]
fn what_stands_in_the_way_is_said() {
    insta::assert_snapshot!(stage(isolated()).play(
        "drill ben weekly
         pause anna
         drill ben"
    ));
    let mut lagging = stage(isolated());
    insta::assert_snapshot!(lagging.play("lag 500\n well\n wait 40s\n well\n drill ben"));
    let mut down = stage(isolated());
    insta::assert_snapshot!(down.play("down web a b c\n drill ben"));
}

#[test]
fn a_drill_on_paper_touches_nothing() {
    let unchecked = play("well\n wait 2s\n well\n drill ben");
    insta::assert_snapshot!(unchecked);
    let mut checked = Stage::new(shop());
    checked.play("well\n wait 2s\n well\n check green");
    insta::assert_snapshot!(checked.play("drill ben"));
    assert!(
        checked.core.state().drills.last_passed().is_none(),
        "paper is no evidence"
    );
}

fn scheduled(cron: &str) -> DrillPolicy {
    DrillPolicy {
        schedule: Some(Schedule::parse(cron, "UTC").unwrap()),
        ..isolated()
    }
}

#[test]
fn its_schedule_begins_it_once() {
    // The script begins at three.
    let mut stage = stage(scheduled("5 3 * * *"));
    insta::assert_snapshot!(stage.play(
        "wait 4m
         well
         wait 1m
         well
         stop anna
         undone clone
         restart
         well
         wait 1m
         well"
    ));
}

#[test]
fn what_blocks_it_is_waited_for_and_then_said() {
    let mut policy = scheduled("5 3 * * *");
    policy.blocked = vec![Window {
        from: Time::parse("2026-11-21T00:00:00Z").unwrap(),
        to: Time::parse("2026-11-22T00:00:00Z").unwrap(),
        reason: "the sale".to_owned(),
    }];
    let mut stage = stage(policy);
    insta::assert_snapshot!(stage.play("wait 5m\n well\n wait 9m\n well\n wait 2m\n well"));
    // Whoever asks for it himself knows of the sale.
    insta::assert_snapshot!(stage.play("drill ben"));
}

#[test]
fn the_core_wakes_for_it() {
    let mut stage = stage(scheduled("5 3 * * *"));
    stage.play("wait 4m\n well");
    let wake = stage.core.step(Event::Tick, stage.now).wake.unwrap();
    assert!(wake.at <= Time::parse("2026-11-21T03:05:00Z").unwrap());
}
