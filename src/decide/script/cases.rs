//! The scripts.

use insta::assert_snapshot;

use super::{Stage, play, shop};
use crate::model::{
    announcement::Phase,
    approval::OnTimeout,
    page::PageTopic,
    record::{AskOutcome, Record, RecordBody},
    service::{Mode, Trigger},
    span::Span,
};

#[test]
fn a_dead_database_leads_to_a_failover() {
    assert_snapshot!(play(
        "well
         check green
         down db a b c
         done fence
         done attempt
         done promote
         done repoint
         done verify
         done fallback"
    ));
}

#[test]
fn a_dead_application_leads_to_a_redirect_never_to_a_promotion() {
    assert_snapshot!(play(
        "well
        check green
        down web a b c"
    ));
}

#[test]
fn one_network_is_not_enough() {
    assert_snapshot!(play(
        "well
        check green
        down db a
        down web a"
    ));
}

#[test]
fn a_standby_that_still_streams_contradicts() {
    assert_snapshot!(play(
        "well
        check green
        down db-ams a b c"
    ));
}

#[test]
fn those_who_cannot_see_do_not_count() {
    assert_snapshot!(play(
        "well
        check green
        blind db a b c
        down web a"
    ));
}

#[test]
fn a_database_that_is_not_judged_yet_holds_nothing_back() {
    let first = "well
        check green
        blind db a b c
        down web a b c";
    let held = "held: the application is down";
    assert!(!play(first).contains(held));
    assert!(play(&format!("{first}\nwait 3s")).contains(held));
    let judged = play(&format!("{first}\ndown db a b c"));
    assert!(
        !judged.contains(held) && judged.contains("run opened"),
        "{judged}"
    );
}

#[test]
fn automatic_must_be_earned() {
    assert_snapshot!(play(
        "well
        down db a b c
        approve carl
        approve anna
        done fence"
    ));
}

#[test]
fn a_fence_that_cannot_be_proved_asks_and_an_attestation_needs_words() {
    assert_snapshot!(play(
        "well
        check green
        down db a b c
        unclear fence
        unseen fence
        wait 21s
        approve anna
        approve anna I pulled the plug
        done attempt"
    ));
}

#[test]
fn an_old_primary_that_still_takes_writes_stops_the_run() {
    assert_snapshot!(play(
        "well
        check green
        down db a b c
        done fence
        failed attempt
        wait 2s
        failed attempt
        ack anna"
    ));
}

#[test]
fn silence_does_not_take_back_a_write_that_was_taken() {
    assert_snapshot!(play(
        "well
        check green
        down db a b c
        done fence
        failed attempt
        wait 2s
        silent attempt
        restart
        approve anna I pulled the plug"
    ));
}

#[test]
fn an_attestation_holds_for_a_while() {
    assert_snapshot!(play(
        "well
        check green
        down db a b c
        unclear fence
        unseen fence
        wait 21s
        approve anna I pulled the plug
        wait 2h
        done attempt
        approve anna it is still pulled"
    ));
}

#[test]
fn after_a_crash_an_intent_is_looked_for_before_it_is_performed_again() {
    assert_snapshot!(play(
        "well
        check green
        down db a b c
        restart
        absent fence
        wait 2s
        down db a b c
        up web a b c
        done fence
        done attempt
        restart
        inplace promote"
    ));
}

#[test]
fn a_promotion_that_cannot_be_told_is_looked_for_for_ever() {
    assert_snapshot!(play(
        "well
        check green
        down db a b c
        done fence
        done attempt
        unclear promote
        wait 2s
        unseen promote
        wait 60s
        unseen promote
        wait 60s
        absent promote
        wait 60s"
    ));
}

#[test]
fn the_primary_comes_back_before_anything_was_done() {
    assert_snapshot!(play(
        "well
        check green
        down db a b c
        unclear fence
        up db a b c
        undone fence
        wait 61s"
    ));
}

#[test]
fn a_person_stops_it_before_the_promotion_and_not_after() {
    assert_snapshot!(play(
        "well
        check green
        down db a b c
        abort anna
        undone fence
        wait 2s
        ack anna
        done fence
        done attempt
        abort anna"
    ));
}

#[test]
fn observe_records_what_it_would_have_done_and_does_nothing() {
    let mut service = shop();
    service.mode = Mode::Observe;
    assert_snapshot!(Stage::new(service).play(
        "well
        down db a b c
        open anna"
    ));
}

#[test]
fn a_request_for_another_plan_opens_nothing() {
    let mut service = shop();
    service.mode = Mode::Ask;
    assert_snapshot!(Stage::new(service).play(
        "well
        open anna plan 00000000
        open anna"
    ));
}

#[test]
fn an_rpo_of_zero_is_kept_by_a_synchronous_standby_alone() {
    let mut service = shop();
    service.objectives.rpo = Span::ZERO;
    for (synchronous, outcome) in [(true, "run opened"), (false, "ask: ")] {
        let mut stage = Stage::new(service.clone());
        stage.synchronous = synchronous;
        let told = stage.play(
            "well
            check green
            down db a b c",
        );
        assert!(told.contains(outcome), "{told}");
    }
}

#[test]
fn who_heard_of_no_outage_hears_of_no_end() {
    let mut service = shop();
    service.trigger = Trigger::Budget {
        patience: Span::from_secs(120),
    };
    let mut stage = Stage::new(service);
    stage.play(
        "well
        check green
        down db a b c
        up db a b c
        up web a b c
        wait 3s
        up db a b c
        up web a b c",
    );
    for _ in 0..25 {
        stage.play(
            "wait 3s
            up db a b c
            up web a b c",
        );
    }
    let told = |wanted| {
        stage.log.iter().find_map(|r| {
            let RecordBody::PhaseEntered {
                phase,
                announcement,
            } = &r.body
            else {
                return None;
            };
            (*phase == wanted).then(|| announcement.channels.clone())
        })
    };
    assert_eq!(told(Phase::Investigating), Some(Vec::new()));
    assert_eq!(told(Phase::Recovered), Some(Vec::new()));
}

#[test]
fn nobody_answers() {
    let mut service = shop();
    service.mode = Mode::Ask;
    assert_snapshot!(Stage::new(service).play(
        "well
        down db a b c
        wait 901s"
    ));
}

#[test]
fn a_no_mutes_until_the_evidence_changes() {
    let mut service = shop();
    service.mode = Mode::Ask;
    assert_snapshot!(Stage::new(service).play(
        "well
        down db a b c
        deny anna
        wait 1s
        down web a b c"
    ));
}

#[test]
fn two_persons_means_two() {
    let mut service = shop();
    service.mode = Mode::Ask;
    service.approvals.required = 2;
    assert_snapshot!(Stage::new(service).play(
        "well
        open anna
        approve anna
        approve ben
        approve ben"
    ));
}

#[test]
fn whoever_asked_by_another_front_end_is_no_second_person() {
    let mut service = shop();
    service.mode = Mode::Ask;
    service.approvals.required = 2;
    assert_snapshot!(Stage::new(service).play(
        "well
        open kubernetes/Anna@example.com
        approve anna
        approve ben"
    ));
}

#[test]
fn a_second_failover_waits_until_the_first_is_acknowledged() {
    let mut stage = Stage::new(shop());
    stage.play(
        "well
         check green
         down db a b c
         done fence
         done attempt
         done promote
         done repoint
         done verify
         done fallback
         up db-fra a b c
         up web-fra a b c
         down db a b c
         down web a b c",
    );
    assert_snapshot!(stage.play(
        "down db-fra a b c
        ack anna"
    ));
}

#[test]
fn a_flapping_primary_is_one_incident() {
    let mut service = shop();
    service.trigger = Trigger::Budget {
        patience: Span::from_secs(120),
    };
    assert_snapshot!(Stage::new(service).play(
        "well
        check green
        down db a b c
        wait 3s
        up db a b c
        up web a b c
        down db a b c
        wait 3s
        up db a b c
        up web a b c"
    ));
}

#[test]
fn after_a_restart_nothing_is_concluded_before_everyone_has_looked() {
    let mut service = shop();
    service.mode = Mode::Ask;
    assert_snapshot!(Stage::new(service).play(
        "well
        down db a b c
        restart
        wait 1s
        up web a b c
        down db a b c
        up db-fra a b c
        restart
        wait 1s
        up web a b c
        up db a b c
        up db-fra a b c
        up web-fra a b c"
    ));
}

#[test]
fn pages_are_repeated_on_through_a_restart() {
    let mut service = shop();
    service.mode = Mode::Ask;
    service.team.repeat = Span::from_secs(300);
    let mut stage = Stage::new(service);
    stage.play("well\n down db a b c\n wait 5m\n wait 5m\n wait 6m");
    let page = stage.sent[0].0.clone();
    let repeats = |stage: &Stage| -> Vec<u32> {
        let of_page = stage.sent.iter().filter(|(id, _)| *id == page);
        of_page.map(|(_, repeat)| *repeat).collect()
    };
    assert_eq!(repeats(&stage), [0, 1, 2, 3]);
    stage.sent.clear();
    // What was sent last is sent once more, and the ledger knows it.
    stage.play("restart\n wait 5m");
    assert_eq!(repeats(&stage), [3, 4]);
}

#[test]
fn the_same_journal_gives_the_same_state() {
    let mut stage = Stage::new(shop());
    stage.play(
        "well
        check green
        down db a b c
        done fence
        unclear attempt",
    );
    let before = stage.core.state().clone();
    let mut again = super::Core::new(stage.core.service().clone());
    for record in &stage.log {
        again.replay(record);
    }
    assert_eq!(&before, again.state());
}

#[test]
fn a_broken_channel_is_tried_again_until_it_has_newer_things_to_say() {
    let to_standby = "well
        check green
        channel broken
        down db a b c
        wait 4m
        wait 2m
        done fence
        done attempt
        done promote
        done repoint
        done verify
        done fallback";
    assert_snapshot!(play(&format!(
        "{to_standby}
        wait 5m
        channel mended
        wait 5m
        restart"
    )));
}

#[test]
fn a_channel_that_stays_broken_is_given_up_after_a_day() {
    let played = play(
        "well
        check green
        channel broken
        down db a b c
        wait 23h
        wait 2h",
    );
    assert!(played.contains("failing-over given up"), "{played}");
}

/// A shop without a database, of which silence begins what is asked.
fn silent_shop() -> Stage {
    let mut service = shop();
    service.components.retain(|c| c.name.as_str() == "web");
    service.approvals.on_timeout = OnTimeout::Proceed;
    let mut stage = Stage::new(service);
    let asked = stage.play(
        "well
        check green
        down web-fra a b c
        down web-ams a b c",
    );
    assert!(asked.contains("ask: "), "{asked}");
    stage
}

/// Time passes while the application stays down at both sites.
fn outlast(stage: &mut Stage) -> String {
    stage.play(
        "wait 899s
        down web-fra a b c
        down web-ams a b c
        wait 2s
        down web-fra a b c
        down web-ams a b c",
    )
}

#[test]
fn silence_begins_what_was_asked_where_the_policy_says_so() {
    let told = outlast(&mut silent_shop());
    assert!(told.contains("run opened"), "{told}");
}

#[test]
fn silence_is_no_yes_against_a_pause_or_a_lowered_mode() {
    for (line, reason) in [("pause anna", "paused"), ("lower anna", "the mode is ask")] {
        let mut stage = silent_shop();
        stage.play(line);
        let told = outlast(&mut stage);
        assert!(!told.contains("run opened"), "{line}:\n{told}");
        let void = stage.log.iter().filter_map(|r| {
            let RecordBody::AskClosed { outcome, .. } = &r.body else {
                return None;
            };
            let AskOutcome::Void { reason } = outcome else {
                return None;
            };
            Some(reason.clone())
        });
        let void = void.collect::<Vec<_>>().join("; ");
        assert!(
            void.contains("nobody answered") && void.contains(reason),
            "{line}: {void}\n{told}"
        );
    }
}

#[test]
fn silence_right_after_a_restart_waits_until_everyone_has_looked() {
    let mut stage = silent_shop();
    let told = stage.play(
        "wait 901s
        restart",
    );
    assert!(!told.contains("run opened"), "{told}");
}

#[test]
fn what_was_left_out_proves_nothing() {
    assert_snapshot!(play(
        "well
        check green
        down db a b c
        done fence
        done attempt
        done promote
        done repoint
        failed verify
        wait 2s
        failed verify
        approve anna
        done fallback"
    ));
}

#[test]
fn what_cannot_be_taken_back_is_told() {
    assert_snapshot!(play(
        "well
        check green
        down db a b c
        done fence
        abort anna
        done attempt
        undone attempt
        stays fence"
    ));
}

#[test]
fn a_redirect_that_is_stopped_takes_dns_back() {
    assert_snapshot!(play(
        "well
        check green
        down web a b c
        done repoint
        abort anna
        done verify
        undone verify
        undone repoint"
    ));
}

#[test]
fn a_standby_that_was_always_behind_has_an_unknown_loss() {
    let mut stage = Stage::new(shop());
    stage.lag = 500;
    let told = stage.play(
        "well
        check green
        down db a b c",
    );
    assert!(!told.contains("run opened"), "{told}");
    assert!(told.contains("ask: "), "{told}");
}

fn raised(stage: &Stage, topic: &PageTopic) -> usize {
    let about =
        |r: &&Record| matches!(&r.body, RecordBody::PageRaised { page } if &page.topic == topic);
    stage.log.iter().filter(about).count()
}

#[test]
fn an_old_primary_that_writes_in_the_middle_of_a_run_is_told() {
    let mut stage = Stage::new(shop());
    stage.play(
        "well
        check green
        down db a b c
        done fence
        done attempt
        done promote",
    );
    assert_eq!(raised(&stage, &PageTopic::TwoWriters), 0);
    stage.play(
        "wait 1s
        up db-ams a",
    );
    assert_eq!(raised(&stage, &PageTopic::TwoWriters), 1);
}

#[test]
fn an_outage_of_the_new_site_is_told_as_well() {
    let to_standby = "well
        check green
        down db a b c
        done fence
        done attempt
        done promote
        done repoint
        done verify
        done fallback
        up web-fra a b c
        up db-fra a b c";
    assert_snapshot!(play(&format!(
        "{to_standby}
        wait 1s
        down web-fra a b c"
    )));
}

#[test]
fn a_promotion_that_cannot_be_told_calls_a_person() {
    let mut stage = Stage::new(shop());
    stage.play(
        "well
        check green
        down db a b c
        done fence
        done attempt
        unclear promote
        wait 2s
        unseen promote
        wait 30s
        unseen promote
        wait 30s
        unseen promote",
    );
    let critical = |r: &Record| {
        matches!(&r.body, RecordBody::PageRaised { page }
            if page.title.contains("whether fra was promoted"))
    };
    assert!(stage.log.iter().any(critical));
    let looks = |r: &&Record| matches!(r.body, RecordBody::StepObserved { .. });
    assert_eq!(stage.log.iter().filter(looks).count(), 1);
}

/// Seed 1276 of the simulator: the epoch is the standby's, its promotion failed for good, and it answers as a standby.
#[test]
fn a_standby_that_was_never_promoted_is_not_well() {
    let played = play(
        "well
        check green
        down db a b c
        done fence
        done attempt
        failed promote
        wait 2s
        failed promote
        ack anna
        up db-fra a b c
        up web a b c
        wait 1s
        up db-fra a b c
        up web a b c
        wait 90s
        up db-fra a b c
        up web a b c",
    );
    assert!(played.contains("epoch 2"), "{played}");
    let after = played.split("> ack anna").last().unwrap();
    assert!(
        !after.contains("db healthy") && !after.contains("recovered"),
        "{played}"
    );
}

#[test]
fn people_who_moved_it_by_hand_are_believed() {
    assert_snapshot!(play(
        "well
        check green
        down db a b c
        done fence
        done attempt
        failed promote
        wait 2s
        failed promote
        moved nowhere anna
        moved ams anna
        moved ams anna
        up db a b c
        up web a b c
        down db a b c"
    ));
}

#[test]
fn a_lasting_doubt_calls_a_person() {
    let mut stage = Stage::new(shop());
    let about = PageTopic::Doubt("db".into());
    stage.play("well\ncheck green");
    for (n, expected) in [(10, 0), (12, 1)] {
        for _ in 0..n {
            stage.play(
                "down db-ams a b c
                blind stream a b c
                up web a b c
                wait 3s",
            );
        }
        assert_eq!(raised(&stage, &about), expected);
    }
    stage.play("up db a b c");
    assert_eq!(stage.core.state().pages.len(), 0);
}

#[test]
fn customers_who_wait_for_a_promised_update_are_remembered() {
    let mut stage = Stage::new(shop());
    stage.play(
        "well
        check green
        down db a b c
        wait 19m",
    );
    assert_eq!(raised(&stage, &PageTopic::UpdateDue), 0);
    stage.play("wait 2m");
    assert_eq!(raised(&stage, &PageTopic::UpdateDue), 1);
}

#[test]
fn a_cold_standby_does_not_have_to_answer_before() {
    let script = "well
        check green
        down web-fra a b c
        down web-ams a b c";
    let stateless = |cold| {
        let mut service = shop();
        service.components.retain(|c| c.name.as_str() == "web");
        service.components[0].probes[1].cold = cold;
        Stage::new(service).play(script)
    };
    let cold = stateless(true);
    assert!(cold.contains("run opened"), "{cold}");
    let warm = stateless(false);
    assert!(warm.contains("fra does not answer either"), "{warm}");
}
