//! What drills inject, and what must not follow from it.

use insta::{assert_snapshot, assert_yaml_snapshot};

use super::{Stage, drills::isolated, shop, uses};
use crate::{
    decide::drill::report::{self, Report},
    model::{
        approval::OnTimeout,
        drill::{Depth, DrillOutcome, DrillPolicy},
        fault::Fault,
        record::RecordBody,
        schedule::Schedule,
        service::{Mode, OverRpo, Service, Trigger},
        span::Span,
    },
};

fn stall(secs: u64) -> Fault {
    Fault::Stall {
        component: None,
        lasts: Span::from_secs(secs),
    }
}

fn blind() -> Fault {
    Fault::VantageBlind {
        vantage: "a".into(),
        lasts: Span::from_secs(300),
    }
}

fn lag() -> Fault {
    Fault::StandbyLag {
        by: Span::from_secs(60),
    }
}

fn on_paper(inject: Vec<Fault>) -> DrillPolicy {
    DrillPolicy {
        depth: Depth::Paper,
        runbook: None,
        inject,
        ..isolated()
    }
}

fn patient(policy: DrillPolicy) -> Service {
    Service {
        trigger: Trigger::Budget {
            patience: Span::from_secs(120),
        },
        drills: vec![policy],
        ..shop()
    }
}

fn impatient(policy: DrillPolicy) -> Service {
    Service {
        trigger: Trigger::Immediate,
        ..patient(policy)
    }
}

/// The report of a drill that somebody asks for while everything is well.
fn drilled(service: Service) -> (Stage, Report) {
    let mut stage = Stage::new(service);
    stage.play("well\n wait 2s\n well\n check green\n drill ben");
    let report = report::of(&stage.log).unwrap();
    (stage, report)
}

#[test]
fn a_blind_vantage_point_a_short_stall_and_a_lag_lead_to_nothing() {
    let (stage, report) = drilled(patient(on_paper(vec![blind(), stall(20), lag()])));
    assert_eq!(
        report.outcome,
        Some(DrillOutcome::Passed),
        "{:?}",
        report.reasons
    );
    assert_yaml_snapshot!(report.injected);
    // Production heard nothing of it.
    let known = stage.core.state();
    assert!(known.incident.is_none() && known.run.is_none() && known.asks.is_empty());
    let opened = |r: &&crate::model::record::Record| {
        matches!(
            r.body,
            RecordBody::IncidentOpened { .. } | RecordBody::RunOpened { .. }
        )
    };
    assert_eq!(stage.log.iter().filter(opened).count(), 0);
    let closed = stage.log.iter().find_map(|r| {
        let RecordBody::DrillClosed { report, .. } = &r.body else {
            return None;
        };
        Some(report.clone())
    });
    assert_eq!(closed, Some(report.hash()));
}

#[test]
fn who_has_no_patience_fails_over_for_a_stall_and_the_drill_says_so() {
    let (stage, report) = drilled(impatient(on_paper(vec![stall(20)])));
    assert_eq!(report.outcome, Some(DrillOutcome::Failed));
    assert_snapshot!(report.reasons.join("\n"));
    assert_yaml_snapshot!(report.injected);
    assert!(stage.core.state().run.is_none(), "the shadow's run is none");
    // One that is over before it counts is harmless even then.
    let (_, report) = drilled(impatient(on_paper(vec![Fault::Stall {
        component: Some("db".into()),
        lasts: Span::from_millis(500),
    }])));
    assert_eq!(report.outcome, Some(DrillOutcome::Passed));
}

#[test]
fn a_failover_that_is_only_asked_for_or_left_undone_is_wrong_as_well() {
    for mode in [Mode::Ask, Mode::Observe] {
        let service = Service {
            mode,
            ..impatient(on_paper(vec![stall(20)]))
        };
        let (_, report) = drilled(service);
        let wrong = report.injected[0].wrong.clone().unwrap();
        let said = match mode {
            Mode::Ask => "a failover to fra was asked for after",
            Mode::Observe | Mode::Automatic => "a failover to fra would have begun",
        };
        assert!(wrong.starts_with(said), "{wrong}");
    }
}

#[test]
fn an_application_that_stalls_too_long_is_redirected() {
    let (_, report) = drilled(impatient(on_paper(vec![Fault::Stall {
        component: Some("web".into()),
        lasts: Span::from_secs(20),
    }])));
    let wrong = report.injected[0].wrong.clone().unwrap();
    assert!(wrong.starts_with("a redirect to fra began"), "{wrong}");
}

#[test]
fn one_vantage_point_alone_needs_sentinels_to_know_that_it_is_blind() {
    let alone = |sentinels| {
        let mut service = impatient(on_paper(vec![blind()]));
        service.vantage_points.truncate(1);
        service.vantage_points[0].sentinels = sentinels;
        service.quorum.networks = 1;
        drilled(service).1
    };
    let wrong = alone(Vec::new());
    assert_eq!(wrong.outcome, Some(DrillOutcome::Failed));
    assert!(
        wrong.reasons[0]
            .starts_with("vantage point a is blind for 5m: a failover to fra began after"),
        "{:?}",
        wrong.reasons
    );
    let right = alone(vec![uses("probe/test")]);
    assert_eq!(right.outcome, Some(DrillOutcome::Passed));
    assert_yaml_snapshot!(right.injected);
}

#[test]
fn silence_that_promotes_a_lagging_standby_fails_the_drill() {
    let mut service = patient(on_paper(vec![lag()]));
    service.approvals.on_timeout = OnTimeout::Proceed;
    let (_, report) = drilled(service.clone());
    assert_eq!(report.outcome, Some(DrillOutcome::Failed));
    assert_snapshot!(report.reasons.join("\n"));
    service.gates.over_rpo = OverRpo::Hold;
    let (_, report) = drilled(service);
    assert_eq!(report.outcome, Some(DrillOutcome::Passed));
    assert_yaml_snapshot!(report.injected);
}

#[test]
fn an_isolated_drill_on_a_schedule_injects_them_once_and_goes_on() {
    let policy = DrillPolicy {
        schedule: Some(Schedule::parse("5 3 * * *", "UTC").unwrap()),
        inject: vec![stall(20)],
        ..isolated()
    };
    let mut stage = Stage::new(impatient(policy));
    assert_snapshot!(stage.play(
        "well
        wait 2s
        well
        check green
        wait 4m
        well
        wait 1m
        well
        done clone
        done rehearse
        done ask
        undone ask
        undone rehearse
        undone clone"
    ));
}
