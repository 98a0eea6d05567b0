//! How a run ends that a person gives up, or that somebody got ahead of.

use insta::assert_snapshot;

use super::{Stage, play, shop};
use crate::{
    decide::event::Event,
    model::{
        announcement::Phase,
        observation::{Observation, Sight},
        page::PageTopic,
        record::RecordBody,
        span::Span,
        verdict::Verdict,
    },
};

impl Stage {
    /// The outage is seen, and the journal hangs with the promise of the first step until `later`.
    fn hang_at_intent(&mut self, later: Span) {
        self.play("well\ncheck green\ndown db a b");
        for probe in ["db-ams", "stream", "db-ams", "stream"] {
            let mut event = Event::Observed(Observation {
                at: self.now,
                vantage: "c".into(),
                probe: probe.into(),
                sight: Sight::Down,
                detail: "down".to_owned(),
                latency: None,
                facts: self.facts(probe, Sight::Down),
            });
            loop {
                let records = self.core.step(event, self.now).records;
                event = Event::Tick;
                let is_rest = records.is_empty();
                let is_intent = |r: &RecordBody| matches!(r, RecordBody::StepIntent { .. });
                let is_there = records.iter().any(is_intent);
                self.commit(records);
                if is_there {
                    self.now = self.now.after(later);
                    return;
                }
                if is_rest {
                    break;
                }
            }
        }
        panic!("no step was promised:\n{}", self.out);
    }

    fn has_page(&self, topic: &PageTopic) -> bool {
        let mut pages = self.core.state().pages.values();
        pages.any(|paged| paged.page.topic == *topic)
    }

    fn phase(&self) -> Option<Phase> {
        self.core.state().incident.as_ref()?.phase
    }
}

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

#[test]
fn an_outage_stays_paged_and_told_after_a_run_that_went_back() {
    let mut stage = Stage::new(shop());
    stage.play(
        "well
        check green
        down db a b c",
    );
    assert!(stage.has_page(&PageTopic::Incident));
    stage.play(
        "restart
        blind db a b c
        up web a b c
        up db-fra a b c
        up web-fra a b c
        absent fence
        wait 5s
        wait 100s
        wait 30s
        undone fence",
    );
    assert!(stage.core.state().run.is_none());
    assert_eq!(stage.phase(), Some(Phase::Investigating));
    assert!(stage.has_page(&PageTopic::Incident));
}

#[test]
fn a_step_that_was_promised_and_not_begun_is_not_taken_back() {
    let mut stage = Stage::new(shop());
    stage.hang_at_intent(Span::from_secs(300));
    stage.commit(vec![RecordBody::VerdictChanged {
        component: "db".into(),
        from: Verdict::Down,
        to: Verdict::Inconclusive,
        reason: "nobody has looked lately".to_owned(),
        witnesses: Vec::new(),
    }]);
    stage.out.clear();
    assert_snapshot!(stage.play(
        "up db a b c
        up web a b c
        up db-fra a b c
        up web-fra a b c"
    ));
}

#[test]
fn a_fence_that_cannot_be_taken_back_does_not_bar_the_next_failover() {
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
        wait 5s
        wait 100s
        wait 30s",
    );
    assert_snapshot!(stage.play(
        "stays fence
        up db-fra a b c
        up web-fra a b c
        down db a b c"
    ));
}
