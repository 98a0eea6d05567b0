//! Who is paged when, by a whole core.

use std::collections::BTreeSet;

use super::{Stage, shop};
use crate::{
    decide::event::{Command, Event, Trouble},
    model::{
        id::{ChannelName, PageId},
        page::{EscalationLevel, Page, PageTopic, Severity},
        record::RecordBody,
        service::{Mode, Service},
        span::Span,
        time::Time,
    },
};

fn level(after: u64, severity: Severity, to: &str) -> EscalationLevel {
    EscalationLevel {
        after: Span::from_secs(after),
        severity,
        to: vec![to.to_owned()],
        channels: vec![ChannelName::new(format!("{to}-phone"))],
    }
}

/// Anna at once, Ben after ten minutes, the boss after half an hour; anew after another ten.
fn escalating() -> Service {
    let mut service = shop();
    service.mode = Mode::Ask;
    service.team.repeat = Span::from_secs(600);
    service.team.escalation = vec![
        level(0, Severity::Info, "anna"),
        level(600, Severity::Critical, "ben"),
        level(1800, Severity::Critical, "boss"),
    ];
    service
}

/// Who was paged when, in seconds from the beginning, of the page of that title.
fn course(stage: &Stage, title: &str) -> Vec<(u64, u32, String)> {
    let start = Time::parse("2026-11-21T03:00:00Z").unwrap();
    let raised = stage.log.iter().find(|record| {
        matches!(&record.body, RecordBody::PageRaised { page } if page.title.contains(title))
    });
    let raised = raised.map(|record| PageId::of(&record.chain, record.seq));
    let page = raised.expect("a page of that title");
    let told = stage.log.iter().filter_map(|record| {
        let RecordBody::TeamPaged { pages, to, .. } = &record.body else {
            return None;
        };
        let round = pages.get(&page)?;
        let at = record.at.since(start).as_millis() / 1000;
        Some((at, *round, to.join(" ")))
    });
    told.collect()
}

fn channel(name: &str) -> Event {
    Event::Trouble(Trouble::Channel {
        channel: name.to_owned(),
        reason: "no credit".to_owned(),
    })
}

#[test]
fn a_page_goes_along_the_levels_until_somebody_acknowledges() {
    let mut stage = Stage::new(escalating());
    stage.play("well\n wait 1m\n down db a b c");
    for _ in 0..9 {
        stage.play("wait 5m");
    }
    let course = |stage: &Stage| course(stage, "outage since");
    let expected = [
        (60, 0, "anna".to_owned()),
        (660, 0, "ben".to_owned()),
        (1860, 0, "boss".to_owned()),
        (2460, 1, "anna".to_owned()),
    ];
    assert_eq!(course(&stage), expected);
    stage.play("ack ben\n wait 5m\n wait 10m\n wait 20m");
    assert_eq!(course(&stage), expected);
}

#[test]
fn what_can_wait_wakes_nobody_but_the_first() {
    let mut stage = Stage::new(escalating());
    stage.play("well");
    stage.settle(Event::Trouble(Trouble::Documents("no YAML".to_owned())));
    stage.play("wait 10m\n wait 30m\n wait 50m");
    let course = course(&stage, "the documents changed");
    let who: BTreeSet<&str> = course.iter().map(|(.., who)| who.as_str()).collect();
    assert_eq!(who, BTreeSet::from(["anna"]));
    assert_eq!(course.len(), 2, "again after an hour: {course:?}");
}

#[test]
fn a_restart_pages_nobody_twice_and_leaves_nobody_out() {
    let mut stage = Stage::new(escalating());
    stage.play("well\n wait 1m\n down db a b c\n wait 5m\n restart\n wait 1m\n restart");
    assert_eq!(course(&stage, "outage since").len(), 1);
    // Nobody led when Ben's turn was, nor when the round ended.
    stage.now = stage.now.after(Span::from_secs(2400));
    stage.play("restart");
    let course = course(&stage, "outage since");
    let who: Vec<_> = course
        .iter()
        .map(|(_, round, who)| (*round, who.as_str()))
        .collect();
    assert_eq!(who, [(0, "anna"), (1, "anna"), (1, "ben"), (1, "boss")]);
}

#[test]
fn pages_that_come_together_are_one_message_and_critical_ones_wait_for_no_other() {
    let mut stage = Stage::new(escalating());
    stage.play("well\n wait 1m");
    stage.sent.clear();
    let before = stage.log.len();
    stage.settle(Event::Trouble(Trouble::Documents("no YAML".to_owned())));
    for n in 0..35 {
        stage.settle(channel(&format!("c{n}")));
    }
    let messages = |stage: &Stage| -> Vec<usize> {
        let new = stage.log[before..].iter();
        new.filter_map(|record| {
            let RecordBody::TeamPaged { pages, .. } = &record.body else {
                return None;
            };
            Some(pages.len())
        })
        .collect()
    };
    let first = [1, 1, 1, 1];
    assert_eq!(
        messages(&stage),
        first,
        "a warning and three critical ones, at once"
    );
    stage.play("wait 14s");
    assert_eq!(messages(&stage), first);
    stage.play("wait 1s");
    assert_eq!(messages(&stage), [1, 1, 1, 1, 32]);
    assert_eq!(stage.sent.len(), 36);
    // The same messages after a restart, whoever was in which.
    stage.sent.clear();
    stage.play("restart");
    let again: BTreeSet<_> = stage.sent.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(again.len(), 37, "and that it was restarted");
    assert_eq!(messages(&stage), [1, 1, 1, 1, 32, 1]);
}

#[test]
fn the_end_of_pages_is_told_once_and_together() {
    let mut stage = Stage::new(escalating());
    stage.play("well\n wait 1m");
    for n in 0..3 {
        stage.settle(channel(&format!("c{n}")));
    }
    stage.over.clear();
    stage.settle(Event::Command(Command::Acknowledge {
        page: None,
        by: "ben".into(),
    }));
    assert_eq!(stage.over.len(), 1, "{:?}", stage.over);
    assert_eq!(stage.over[0].len(), 3);
    stage.play("wait 1m");
    assert_eq!(stage.over.len(), 1);
    // The next process says the same, which the ledger knows.
    let told = stage.over.clone();
    stage.over.clear();
    stage.play("restart");
    assert_eq!(stage.over[0], told[0]);
}

#[test]
fn what_takes_a_pages_place_is_no_end() {
    let mut stage = Stage::new(escalating());
    stage.play("well\n wait 1m");
    let raised = |why: &str| RecordBody::PageRaised {
        page: Box::new(Page {
            topic: PageTopic::Hold,
            severity: Severity::Critical,
            title: "The shop: the failover is held back".to_owned(),
            body: vec![why.to_owned()],
            commands: Vec::new(),
        }),
    };
    let page = |stage: &mut Stage, why: &str, before: Option<PageId>| {
        let closed = before.map(|page| RecordBody::PageClosed { page, by: None });
        stage.commit(closed.into_iter().chain([raised(why)]).collect());
        let id = PageId::of(&"shop".into(), stage.core.state().seq);
        stage.commit(vec![RecordBody::TeamPaged {
            pages: [(id.clone(), 0)].into(),
            level: 0,
            to: vec!["anna".to_owned()],
        }]);
        id
    };
    let first = page(&mut stage, "the lag is unknown", None);
    let second = page(&mut stage, "the lag is too long", Some(first.clone()));
    stage.commit(vec![RecordBody::PageClosed {
        page: second.clone(),
        by: None,
    }]);
    let over = &stage.core.state().pager.over;
    assert!(over[&first].is_replaced);
    assert!(!over[&second].is_replaced);
}
