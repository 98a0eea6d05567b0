//! Live drills: there, a while, and back.

use insta::{assert_snapshot, assert_yaml_snapshot};

use super::{Stage, drills::isolated, planned::either_way};
use crate::{
    decide::drill::report,
    model::{
        drill::{Depth, DrillOutcome, DrillPolicy},
        page::PageTopic,
        schedule::Schedule,
        service::{Mode, Service},
        span::Span,
    },
};

fn live() -> DrillPolicy {
    DrillPolicy {
        name: "yearly".into(),
        depth: Depth::Live,
        runbook: None,
        stay: Span::from_secs(300),
        ..isolated()
    }
}

fn service(policy: DrillPolicy) -> Service {
    Service {
        drills: vec![policy],
        ..either_way()
    }
}

/// A stage on which everything is well and checked.
fn stage(service: Service) -> Stage {
    let mut stage = Stage::new(service);
    stage.play("well\n wait 2s\n well\n check green");
    stage
}

/// A switchover once its fence stands, and before its last step.
const MOVE: &str = "done attempt
    done promote
    done repoint
    done verify
    done follow
    ";
const BEGUN: &str = "drill anna\n approve anna\n";
const STAY: &str = "wait 4m58s
    well
    wait 2s
    ";

fn there() -> String {
    format!("done fence\n{MOVE} done fallback\n well\n")
}

fn home() -> String {
    format!("done return\n{}", there())
}

/// A stage on which a live drill was begun and approved, and has gone there.
fn moved() -> Stage {
    let mut stage = stage(service(live()));
    stage.play(&format!("{BEGUN}{}", there()));
    stage
}

#[test]
fn it_goes_there_stays_and_comes_back() {
    let mut stage = stage(service(live()));
    let (there, home) = (there(), home());
    assert_snapshot!(stage.play(&format!("{BEGUN}{there}{STAY}{home}")));
    let known = stage.core.state();
    assert_eq!(known.active.as_ref().unwrap().as_str(), "ams");
    assert_eq!(
        known.drills.ended.values().next().unwrap().outcome,
        DrillOutcome::Passed
    );
    assert!(known.drills.passed.contains_key(&Depth::Live));
    assert!(known.drills.last_passed().is_some());
    assert!(known.unacknowledged.is_none() && known.asks.is_empty());
    let report = report::of(&stage.log).unwrap();
    assert_eq!(report.legs.len(), 2);
    assert_yaml_snapshot!(report);
}

#[test]
fn one_on_a_schedule_asks_and_a_no_ends_it() {
    let policy = DrillPolicy {
        schedule: Some(Schedule::parse("5 3 * * *", "UTC").unwrap()),
        ..live()
    };
    let due = "wait 4m\n well\n wait 1m\n well\n";
    let mut asked = stage(service(policy.clone()));
    assert_snapshot!(asked.play(&format!("{due} approve anna")));
    assert!(asked.core.state().run.is_some());
    let mut denied = stage(service(policy.clone()));
    assert_snapshot!(denied.play(&format!("{due} deny anna")));
    let mut silent = stage(service(policy));
    silent.play(due);
    assert_snapshot!(silent.play("wait 14m\n well\n wait 1m\n well"));
    for stage in [denied, silent] {
        let known = stage.core.state();
        assert!(known.run.is_none() && known.drills.open.is_none());
    }
}

#[test]
fn two_persons_approve_it_where_a_switchover_needs_two() {
    let mut service = service(live());
    service.approvals.required = 2;
    service.approvals.approvers.push("cleo".into());
    assert_snapshot!(stage(service).play("drill ben\n approve ben\n approve anna\n approve cleo"));
}

#[test]
fn a_switchover_that_fails_ends_it_where_it_began() {
    let mut stage = stage(service(live()));
    assert_snapshot!(stage.play(
        "drill anna
        approve anna
        failed fence
        wait 2s
        failed fence
        wait 2s"
    ));
    let known = stage.core.state();
    assert!(known.drills.open.is_none(), "no way back is begun");
    assert_eq!(known.active.as_ref().unwrap().as_str(), "ams");
}

#[test]
fn whoever_stops_it_is_told_what_goes_on() {
    let mut stage = stage(service(live()));
    assert_snapshot!(stage.play(&format!("{BEGUN} stop ben\n{}", there())));
    let known = stage.core.state();
    assert_eq!(known.active.as_ref().unwrap().as_str(), "fra");
    let left = &known.drills.ended.values().next().unwrap().left;
    assert!(left[0].contains("goes on: `failover abort"), "{left:?}");
}

#[test]
fn an_outage_at_the_other_site_breaks_it_off() {
    let mut stage = moved();
    assert_snapshot!(stage.play(
        "wait 2s
        well
        down db-fra a b c
        wait 1s"
    ));
    let known = stage.core.state();
    assert!(known.drills.open.is_none());
    assert_eq!(known.active.as_ref().unwrap().as_str(), "fra");
}

#[test]
fn a_controller_that_dies_in_the_middle_goes_on_with_it() {
    let mut stage = stage(service(live()));
    assert_snapshot!(stage.play(&format!(
        "drill anna
        restart
        well
        approve anna
        restart
        inplace fence
        {MOVE}
        done fallback
        restart
        well
        {STAY}
        restart
        inplace return
        done fence
        {MOVE}
        restart
        inplace fallback
        well"
    )));
    let known = stage.core.state();
    assert_eq!(known.active.as_ref().unwrap().as_str(), "ams");
    assert!(known.drills.passed.contains_key(&Depth::Live));
}

#[test]
fn a_way_back_that_cannot_be_begun_is_told() {
    let mut stage = moved();
    assert_snapshot!(stage.play(&format!(
        "pause ben
        {STAY}
        wait 9m58s
        well
        wait 2s"
    )));
    let known = stage.core.state();
    let mut pages = known.pages.values().map(|p| &p.page);
    let page = pages
        .find(|p| matches!(p.topic, PageTopic::Drill(_)))
        .unwrap();
    let said = page.body.join(" ");
    assert!(said.contains("the service stays at fra"), "{said}");
    assert!(said.contains("ben paused it"), "{said}");
}

#[test]
fn what_stands_in_its_way_is_said() {
    let mut lagging = stage(service(live()));
    assert_snapshot!(lagging.play("lag 500\n well\n wait 40s\n well\n drill anna"));
    let mut watched = stage(Service {
        mode: Mode::Observe,
        ..service(live())
    });
    assert_snapshot!(watched.play("drill anna"));
    // One way only.
    let mut one_way = either_way();
    for step in &mut one_way.runbook.steps {
        step.on
            .retain(|k| *k != crate::model::plan::RunKind::Failback);
    }
    one_way.drills = vec![live()];
    assert_snapshot!(stage(one_way).play("drill anna"));
}
