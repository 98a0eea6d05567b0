//! When customers are promised to hear again.

use super::{Stage, shop};
use crate::{
    decide::event::{Command, Event},
    model::{
        announcement::{Announcement, Phase},
        record::RecordBody,
        service::{LongCadence, Mode},
        span::Span,
    },
};

fn announced(stage: &Stage) -> Vec<&Announcement> {
    let bodies = stage.log.iter().map(|record| &record.body);
    bodies
        .filter_map(|body| {
            let RecordBody::PhaseEntered { announcement, .. } = body else {
                return None;
            };
            Some(announcement.as_ref())
        })
        .collect()
}

fn say(stage: &mut Stage) {
    stage.settle(Event::Command(Command::Announce {
        phase: Phase::Investigating,
        text: Some("We are still at it.".to_owned()),
        by: "anna".into(),
    }));
}

#[test]
fn an_incident_that_lasts_is_told_of_less_often_and_customers_are_told_so_once() {
    let mut service = shop();
    service.mode = Mode::Ask;
    service.announcements.channels[0].phases = vec![Phase::Investigating];
    service.announcements.long_cadence = Some(LongCadence {
        after: Span::from_secs(4 * 3600),
        cadence: Span::from_secs(3600),
    });
    let mut stage = Stage::new(service);
    stage.play("well\n down db a b c\n wait 20m");
    say(&mut stage);
    stage.play("wait 4h");
    say(&mut stage);
    stage.play("wait 1h");
    say(&mut stage);
    let promised: Vec<_> = announced(&stage)
        .iter()
        .map(|a| (a.next_update.unwrap().since(a.at), a.less_often))
        .collect();
    let (minutes, hour) = (Span::from_secs(1200), Span::from_secs(3600));
    assert_eq!(
        promised,
        [
            (minutes, None),
            (minutes, None),
            (hour, Some(hour)),
            (hour, None)
        ]
    );
}
