//! Services that fail over together: on one dead site, in their order, and with one voice.

use std::sync::Arc;

use failover::{
    decide::event::{Command, Reply},
    model::{
        announcement::Phase,
        group::{GroupRecord, Member, ServiceGroup},
        id::ServiceName,
        plan::RunKind,
        record::{Record, RecordBody, RunOutcome},
        service::{Announcements, Channel, Mode, Service},
        span::Span,
        time::Time,
    },
};

use crate::stand::{doubles::Manners, stage::Stage};

const SECOND: Span = Span::from_secs(1);
const MINUTE: Span = Span::from_secs(60);
const GROUP: &str = "group.dc";

/// A group of these waves, whose audience hears of everything on the channel `everybody`.
fn group(stage: &Stage, waves: &[Vec<Service>], at_once: usize) -> ServiceGroup {
    let member = |s: &Service| Member {
        service: s.name.clone(),
        title: s.title.clone(),
    };
    ServiceGroup {
        name: "dc".into(),
        title: "Everything".to_owned(),
        waves: waves
            .iter()
            .map(|wave| wave.iter().map(member).collect())
            .collect(),
        at_once,
        wait_at_most: Span::from_secs(300),
        gather: Span::from_secs(5),
        announcements: Announcements {
            channels: vec![Channel {
                name: "everybody".into(),
                action: stage.channel("everybody"),
                phases: vec![
                    Phase::Investigating,
                    Phase::FailingOver,
                    Phase::OnStandby,
                    Phase::Recovered,
                ],
            }],
            cadence: Span::from_secs(3600),
            ..Announcements::default()
        },
        status_url: None,
    }
}

fn service(stage: &Stage, name: &str, mode: Mode) -> Service {
    let mut service = stage.service(name);
    service.mode = mode;
    service.publication = None;
    // What the group says is said by nobody else.
    service.announcements.channels.clear();
    service
}

fn joined(group: ServiceGroup, waves: &[Vec<Service>]) -> Vec<Service> {
    let mut services = waves.concat();
    ServiceGroup::place(&Arc::new(group), &mut services);
    services
}

/// When runs of services were opened and closed, in order; what ends makes room for what begins at the same moment.
fn runs(stage: &Stage, services: &[Service]) -> Vec<(Time, bool, ServiceName)> {
    let mut all = Vec::new();
    for service in services {
        for record in stage.chain(&service.name) {
            if let RecordBody::RunOpened { .. } = record.body {
                all.push((record.at, true, record.chain));
            } else if let RecordBody::RunClosed { outcome, .. } = record.body {
                assert_eq!(outcome, RunOutcome::Done, "{}", record.chain);
                all.push((record.at, false, record.chain));
            }
        }
    }
    all.sort();
    all
}

fn most_at_once(runs: &[(Time, bool, ServiceName)]) -> usize {
    let mut open = 0_usize;
    let counts = runs.iter().map(|(_, opens, _)| {
        open = if *opens { open + 1 } else { open - 1 };
        open
    });
    counts.max().unwrap_or_default()
}

fn of_group(records: &[Record]) -> Vec<&GroupRecord> {
    let bodies = records.iter().filter_map(|r| {
        let RecordBody::Group(record) = &r.body else {
            return None;
        };
        Some(record)
    });
    bodies.collect()
}

#[test]
fn two_hundred_services_on_one_dead_site_move_in_waves_with_one_voice() {
    const AT_ONCE: usize = 20;
    let mut stage = Stage::new();
    stage.means.upkeep = true;
    let wave = |names: std::ops::Range<usize>| {
        let service = |n| service(&stage, &format!("s{n:03}"), Mode::Automatic);
        names.map(service).collect::<Vec<_>>()
    };
    let waves = [wave(0..10), wave(10..50), wave(50..200)];
    let services = joined(group(&stage, &waves, AT_ONCE), &waves);
    stage.start(services.clone());
    stage.time.pass(Span::from_secs(20));
    stage
        .props
        .make("promote", Some(Manners::Takes(Span::from_secs(3))));
    stage.props.dies("east");

    // The controller dies in the middle of the second wave.
    stage.time.pass(Span::from_secs(9));
    let before = runs(&stage, &services);
    assert!(before.len() > 20, "{before:?}");
    assert!(before.iter().all(|(_, _, name)| name.as_str() < "s050"));
    stage.stop();
    stage.time.pass(SECOND);
    stage.start(services.clone());
    stage.time.pass(MINUTE.saturating_mul(2));

    let runs = runs(&stage, &services);
    let opened = |name: &str| {
        let own = runs
            .iter()
            .filter(|(_, opens, n)| *opens && n.as_str() == name);
        own.map(|(at, _, _)| *at).collect::<Vec<_>>()
    };
    let closed = |name: &str| {
        let mut own = runs
            .iter()
            .filter(|(_, opens, n)| !opens && n.as_str() == name);
        own.next().unwrap().0
    };
    for service in &services {
        assert_eq!(opened(service.name.as_str()).len(), 1, "{}", service.name);
    }
    assert_eq!(most_at_once(&runs), AT_ONCE);
    for pair in waves.windows(2) {
        let ended = pair[0].iter().map(|s| closed(s.name.as_str())).max();
        let began = pair[1].iter().map(|s| opened(s.name.as_str())[0]).min();
        assert!(ended <= began, "{ended:?} {began:?}");
    }
    assert_eq!(
        stage.props.told(),
        ["everybody: failing over", "everybody: on standby"]
    );
    // Nobody of the team is paged because somebody else goes first.
    let pages = stage.props.pages();
    assert!(!pages.iter().any(|p| p.contains("held back")), "{pages:?}");

    // It is over when the last of them is.
    let (last, others) = services.split_last().unwrap();
    let recovered = |service: &Service| {
        let by = || "ann".into();
        for command in [
            Command::Acknowledge {
                page: None,
                by: by(),
            },
            Command::Announce {
                phase: Phase::Recovered,
                text: None,
                by: by(),
            },
        ] {
            let said = stage.order(&service.name, command);
            assert!(matches!(said, Reply::Ok(_)), "{said:?}");
        }
    };
    others.iter().for_each(recovered);
    stage.time.pass(MINUTE);
    assert_eq!(stage.props.told().len(), 2);
    recovered(last);
    stage.time.pass(MINUTE.saturating_mul(3));
    assert_eq!(stage.props.told()[2..], ["everybody: recovered"]);
    let chain = stage.chain(&GROUP.into());
    assert_eq!(chain.last().unwrap().body.kind(), "incidentClosed");
    let given = of_group(&chain)
        .into_iter()
        .filter(|r| matches!(r, GroupRecord::TurnGiven { .. }));
    assert_eq!(given.count(), 200);
}

#[test]
fn whoever_waits_for_a_person_is_passed_in_time_and_a_person_goes_past_at_once() {
    let mut stage = Stage::new();
    stage.means.upkeep = true;
    let waves = [
        vec![service(&stage, "db", Mode::Ask)],
        vec![
            service(&stage, "web", Mode::Automatic),
            service(&stage, "shop", Mode::Automatic),
        ],
    ];
    let services = joined(group(&stage, &waves, 5), &waves);
    stage.start(services.clone());
    stage.time.pass(Span::from_secs(20));
    stage.props.dies("east");
    stage.time.pass(MINUTE);

    let core = stage.core();
    let held = core.state().incident.as_ref().unwrap().held.clone();
    assert_eq!(held.len(), 1);
    assert!(
        held[0].starts_with("it waits for its turn in group dc (wave 2): wave 1 goes first since")
            && held[0].ends_with(": db"),
        "{held:?}"
    );
    let open = Command::Open {
        kind: RunKind::Failover,
        to: None,
        plan: None,
        by: "ann".into(),
        reason: "customers call".to_owned(),
    };
    // Who commands it learns that it is not its turn, and says so again.
    let asked = stage.order(&"shop".into(), open);
    assert!(matches!(&asked, Reply::Ok(text) if text.starts_with("it must be approved")));
    let approve = Command::Approve {
        ask: None,
        by: "ann".into(),
        user: None,
        reason: None,
        break_glass: false,
    };
    stage.order(&"shop".into(), approve);
    stage.time.pass(MINUTE);
    let done = |name: &str| {
        let core = stage.core_of(&name.into());
        let last = core.state().last_run.as_ref();
        last.and_then(|r| r.ended.as_ref()).map(|e| e.0)
    };
    assert_eq!(done("shop"), Some(RunOutcome::Done));
    assert_eq!(done("web"), None);

    stage.time.pass(Span::from_secs(300));
    assert_eq!(done("web"), Some(RunOutcome::Done));
    assert_eq!(done("db"), None);
    let chain = stage.chain(&GROUP.into());
    assert!(of_group(&chain).into_iter().any(|r| matches!(
        r,
        GroupRecord::Passed { member, reason }
            if member.as_str() == "db" && reason == "it is down and begins no run after 5m"
    )));
}
