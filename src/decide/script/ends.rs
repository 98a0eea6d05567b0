//! How a run ends that a person gives up, or that somebody got ahead of.

use insta::assert_snapshot;

use super::{Stage, play, shop};

#[test]
fn a_promotion_that_nobody_can_tell_of_is_given_up_once_its_time_is_over() {
    assert_snapshot!(play(
        "well
        check green
        down db a b c
        done fence
        done attempt
        unclear promote
        abort anna
        wait 21s
        unseen promote
        abort anna"
    ));
}

#[test]
fn a_fence_stays_while_another_site_is_seen_to_take_writes() {
    assert_snapshot!(play(
        "well
        check green
        down db a b c
        done fence
        wait 1s
        promoted
        up db-fra a b c
        abort anna
        done attempt"
    ));
}

#[test]
fn a_run_that_did_nothing_goes_back_where_what_was_down_stays_unseen() {
    let mut stage = Stage::new(shop());
    stage.play(
        "well
        check green
        down db a b c
        restart
        blind db a b c
        up web a b c
        up db-fra a b c
        up web-fra a b c
        absent fence
        wait 5s",
    );
    let waits = stage.play("wait 100s");
    assert!(!waits.contains("unwinding"), "{waits}");
    assert!(!waits.contains("perform"), "{waits}");
    assert_snapshot!(stage.play(
        "wait 30s
        undone fence
        up db-fra a b c
        up web-fra a b c
        down db a b c"
    ));
}
