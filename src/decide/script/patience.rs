//! How long a failover waits for a primary that may come back.

use insta::assert_snapshot;

use super::{Stage, shop};
use crate::model::{
    service::{Mode, Trigger},
    span::Span,
};

#[test]
fn patience_waits_for_the_primary_but_not_beyond_the_budget() {
    let mut service = shop();
    service.trigger = Trigger::Budget {
        patience: Span::from_secs(120),
    };
    assert_snapshot!(Stage::new(service.clone()).play(
        "well
        check green
        down db a b c
        wait 3s"
    ));
    service.objectives.rto = Span::from_secs(61);
    assert_snapshot!(Stage::new(service).play(
        "well
        check green
        down db a b c
        wait 3s"
    ));
}

#[test]
fn who_stood_still_does_not_act_on_what_was_so_before() {
    let mut service = shop();
    service.trigger = Trigger::Budget {
        patience: Span::from_secs(60),
    };
    let told = Stage::new(service).play(
        "well
        check green
        down db a b c
        wait 2m
        up db a b c
        up web a b c",
    );
    assert!(!told.contains("run opened"), "{told}");
    assert_snapshot!(told);
}

#[test]
fn a_question_is_as_patient_as_a_run() {
    let mut service = shop();
    service.mode = Mode::Ask;
    service.trigger = Trigger::Budget {
        patience: Span::from_secs(5),
    };
    let told = Stage::new(service).play(
        "well
        down db a b c
        wait 2s
        up db a b c
        up web a b c
        down db a b c
        wait 3s
        down db a b c
        wait 3s
        down db a b c",
    );
    assert_eq!(told.matches("ask: ").count(), 1, "{told}");
    assert_snapshot!(told);
}

#[test]
fn each_outage_of_a_flapping_primary_has_its_own_patience() {
    let mut service = shop();
    service.trigger = Trigger::Budget {
        patience: Span::from_secs(10),
    };
    let told = Stage::new(service).play(
        "well
        check green
        down db a b c
        wait 3s
        up db a b c
        up web a b c
        wait 10s
        up db a b c
        up web a b c
        down db a b c
        wait 3s
        up db a b c
        up web a b c",
    );
    assert!(!told.contains("run opened"), "{told}");
    assert_snapshot!(told);
}
