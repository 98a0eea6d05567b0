//! Who of the team is paged when, by the real loop and its ledger, under virtual time.

use failover::{
    decide::event::{Command, Reply},
    model::{
        id::ChannelName,
        page::{EscalationLevel, Severity},
        service::Service,
        span::Span,
    },
};
use futures::FutureExt;

use crate::stand::{doubles::Manners, stage::Stage};

const MINUTE: Span = Span::from_secs(60);
const BROKEN: &str = "shop: channel hook cannot send";

/// Everything goes to `team` at once, what is critical to `team-late` after ten minutes; `team-kept` keeps what it is told.
fn escalating(stage: &Stage) -> Service {
    let mut service = stage.service("shop");
    let model = service.team.channels[0].clone();
    for name in ["team-late", "team-kept"] {
        let mut channel = model.clone();
        channel.name = name.into();
        channel.action.with["name"] = name.into();
        service.team.channels.push(channel);
    }
    let level = |after: u64, severity, channels: &[&str]| EscalationLevel {
        after: Span::from_secs(after),
        severity,
        to: channels.iter().map(ToString::to_string).collect(),
        channels: channels.iter().map(|c| ChannelName::from(*c)).collect(),
    };
    service.team.repeat = Span::from_secs(3600);
    service.team.escalation = vec![
        level(0, Severity::Info, &["team", "team-kept"]),
        level(600, Severity::Critical, &["team-late"]),
    ];
    service
}

fn running() -> Stage {
    let mut stage = Stage::new();
    let service = escalating(&stage);
    stage.start(vec![service]);
    stage.time.pass(MINUTE);
    stage
}

/// How often exactly this was heard.
fn times(stage: &Stage, heard: &str) -> usize {
    let pages = stage.props.pages();
    pages.iter().filter(|page| *page == heard).count()
}

fn acknowledge(stage: &Stage) {
    let said = stage.say(Command::Acknowledge {
        page: None,
        by: "ann".into(),
    });
    let said = said.now_or_never().unwrap().unwrap().unwrap();
    assert!(matches!(said, Reply::Ok(_)), "{said:?}");
    stage.time.pass(MINUTE);
}

#[test]
fn a_page_reaches_the_next_level_once_and_its_end_whoever_heard_of_it() {
    let mut stage = running();
    stage.props.make("hook", Some(Manners::Panics));
    stage.fail_over();
    stage.time.pass(MINUTE);
    let (late, kept) = (
        format!("team-late: {BROKEN}"),
        format!("team-kept: {BROKEN}"),
    );
    assert_eq!(
        (
            times(&stage, BROKEN),
            times(&stage, &late),
            times(&stage, &kept)
        ),
        (1, 0, 1)
    );
    // Another process takes it up where this one was.
    stage.stop();
    let service = escalating(&stage);
    stage.start(vec![service]);
    stage.time.pass(Span::from_secs(700));
    assert_eq!(
        (
            times(&stage, BROKEN),
            times(&stage, &late),
            times(&stage, &kept)
        ),
        (1, 1, 1)
    );

    stage.props.make("hook", None);
    acknowledge(&stage);
    for channel in ["", "team-late: ", "team-kept: "] {
        let over = format!("{channel}over: {BROKEN}");
        let pages = stage.props.pages();
        assert_eq!(times(&stage, &over), 1, "{over}: {pages:#?}");
    }
    // What can wait ends in silence, but where it is kept.
    let ended = |page: &&String| page.contains("over: ") && !page.contains(BROKEN);
    let pages = stage.props.pages();
    let ended: Vec<&String> = pages.iter().filter(ended).collect();
    assert!(!ended.is_empty());
    assert!(
        ended.iter().all(|page| page.starts_with("team-kept")),
        "{ended:#?}"
    );
}

#[test]
fn whoever_was_not_paged_hears_of_no_end() {
    let stage = running();
    stage.props.make("hook", Some(Manners::Panics));
    stage.fail_over();
    stage.time.pass(MINUTE);
    stage.props.make("hook", None);
    acknowledge(&stage);
    stage.time.pass(Span::from_secs(1200));
    assert_eq!(times(&stage, &format!("over: {BROKEN}")), 1);
    let pages = stage.props.pages();
    assert!(
        !pages.iter().any(|page| page.starts_with("team-late")),
        "{pages:#?}"
    );
}

#[test]
fn pages_beyond_the_first_few_come_as_one_message() {
    let mut stage = Stage::new();
    let mut service = escalating(&stage);
    // Nine channels that fail at once.
    let model = service.announcements.channels[0].clone();
    service.announcements.channels = (0..9)
        .map(|n| {
            let mut channel = model.clone();
            channel.name = format!("c{n}").as_str().into();
            channel.action.with["name"] = format!("c{n}").into();
            channel
        })
        .collect();
    stage.start(vec![service]);
    stage.time.pass(MINUTE);
    for n in 0..9 {
        stage.props.make(&format!("c{n}"), Some(Manners::Panics));
    }
    stage.fail_over();
    stage.time.pass(MINUTE);
    let pages = stage.props.pages();
    let to_people: Vec<&String> = pages.iter().filter(|p| !p.starts_with("team-")).collect();
    let broken = |page: &&&String| page.contains("cannot send") || page.contains(" pages");
    let messages = to_people.iter().filter(broken).count();
    assert!((1..=4).contains(&messages), "{to_people:#?}");
    // Where each is kept, each is told.
    for n in 0..9 {
        let kept = format!("team-kept: shop: channel c{n} cannot send");
        assert_eq!(times(&stage, &kept), 1, "{pages:#?}");
    }
}
