//! Scripts of a shop with a guard at each site.

use insta::assert_snapshot;

use super::{Stage, shop};
use crate::model::{
    page::PageTopic,
    plan::{Action, Uses},
    public_key::PublicKey,
    record::RecordBody,
    secret::SecretRef,
    service::{Guard, Guards, Service},
    span::Span,
    step::Rung,
};

fn guarded() -> Service {
    let mut service = shop();
    let guard = |n: u8| Guard {
        address: ([10, 0, 0, n], 7400).into(),
        public_key: PublicKey::new([n; 32]),
    };
    service.guards = Some(Guards {
        controller: "dr".to_owned(),
        key: SecretRef::Env("KEY".to_owned()),
        lease: Span::from_secs(2),
        sites: [("ams".into(), guard(1)), ("fra".into(), guard(2))].into(),
    });
    service.fencing = Rung::Infrastructure;
    for step in &mut service.runbook.steps {
        if let Action::Adapter(Uses { uses, .. }) = &mut step.action
            && matches!(step.id.as_str(), "fence" | "promote")
        {
            *uses = format!("guard/{}", step.id).as_str().into();
            step.both_ways = true;
        }
    }
    service
}

fn play(script: &str) -> String {
    Stage::new(guarded()).play(script)
}

#[test]
fn the_first_epoch_is_opened_when_every_guard_was_heard() {
    assert_snapshot!(play(
        "well
        guard ams standby 0
        guard fra standby 0
        guard ams primary 2
        held ams 2
        held ams 2
        restart
        guard ams primary 2
        held ams 2"
    ));
}

#[test]
fn a_host_that_enforces_no_lease_gets_one_without_an_end() {
    assert_snapshot!(play(
        "well
        guard fra standby 0
        guard ams loose 0
        held ams 2
        guard ams primary 2"
    ));
}

#[test]
fn a_journal_that_knows_less_than_a_guard_opens_nothing_elsewhere() {
    assert_snapshot!(play(
        "well
        guard ams fenced 5
        guard fra primary 5
        moved ams ann
        moved fra ann
        guard fra primary 6
        wait 5s"
    ));
}

#[test]
fn a_new_journal_beside_guards_that_have_promised_waits_for_a_person_who_takes_over() {
    let mut stage = Stage::new(guarded());
    let told = stage.play(
        "well
        guard ams primary 5
        guard fra standby 5
        wait 61s",
    );
    assert!(!told.contains("epoch"), "{told}");
    let pages = &stage.core.state().pages;
    let guards = pages.values().find(|p| p.page.topic == PageTopic::Guards);
    let body = guards.map(|p| p.page.body.join(" ")).unwrap_or_default();
    assert!(
        body.contains("this journal, which is new, knows of none"),
        "{body}"
    );
    assert_snapshot!(stage.play("takeover anna"));
}

#[test]
fn a_fence_that_nobody_here_ordered_is_not_taken_back() {
    assert_snapshot!(play(
        "well
        check green
        guard ams standby 0
        guard fra standby 0
        guard ams primary 2
        held ams 2
        guard ams fenced 3
        wait 61s"
    ));
}

#[test]
fn a_site_cannot_be_said_to_serve_past_its_guard() {
    assert_snapshot!(play(
        "well
        guard ams standby 0
        guard fra standby 0
        moved fra ann"
    ));
}

#[test]
fn a_guard_that_lost_its_state_gets_one_new_epoch() {
    assert_snapshot!(play(
        "well
        guard ams standby 0
        guard fra standby 0
        guard ams primary 2
        guard ams lost 0
        wait 1s
        guard ams primary 3
        wait 1s"
    ));
}

#[test]
fn after_a_failover_the_new_site_is_alone_and_its_lease_has_no_end() {
    assert_snapshot!(play(
        "well
        check green
        guard ams standby 0
        guard fra standby 0
        guard ams primary 2
        held ams 2
        down db a b c
        done fence
        done attempt
        done promote
        done repoint
        done verify
        done fallback
        guard fra primary 3
        guard ams fenced 3
        wait 5s"
    ));
}

#[test]
fn a_fence_is_taken_back_by_a_later_epoch_alone() {
    assert_snapshot!(play(
        "well
        check green
        guard ams standby 0
        guard fra standby 0
        guard ams primary 2
        down db a b c
        done fence
        guard ams fenced 3
        abort ann
        guard ams primary 4
        undone fence
        undone attempt"
    ));
}

#[test]
fn whoever_takes_over_hears_every_guard_before_it_grants_anything() {
    assert_snapshot!(play(
        "well
        check green
        guard ams standby 0
        guard fra standby 0
        guard ams primary 2
        held ams 2
        takenover ann
        guard ams primary 2
        wait 1s
        guard fra standby 2
        guard ams primary 4
        down db a b c"
    ));
}

#[test]
fn a_person_answers_for_a_guard_that_is_silent_after_a_takeover() {
    assert_snapshot!(play(
        "well
        guard ams standby 0
        guard fra standby 0
        guard ams primary 2
        takenover ann
        guard ams primary 2
        wait 5m
        ack ann"
    ));
}

#[test]
fn a_takeover_does_not_believe_a_copy_that_lacks_the_last_promotion() {
    assert_snapshot!(play(
        "well
        guard ams standby 0
        guard fra standby 0
        guard ams primary 2
        takenover ann
        guard ams fenced 3
        guard fra primary 3
        wait 2m
        moved fra ann"
    ));
}

#[test]
fn where_objects_were_restored_a_person_takes_over_once_and_the_journal_counts_again() {
    let mut stage = Stage::new(guarded());
    stage.play(
        "well
        check green
        guard ams standby 0
        guard fra standby 0
        guard ams primary 2",
    );
    let told = stage.play("takeover ann");
    assert!(told.contains("there is nothing to take over"), "{told}");
    let told = stage.play(
        "guard ams primary 7
        wait 1m
        wait 1m",
    );
    assert!(!told.contains("epoch 8"), "{told}");
    let paged = stage.log.iter().find_map(|record| {
        let RecordBody::PageRaised { page } = &record.body else {
            return None;
        };
        (page.topic == PageTopic::Guards).then_some(page)
    });
    let commands = &paged.expect("the team is paged").commands;
    let takeover = |c: &String| c.starts_with("failover takeover shop --reason");
    assert!(commands.iter().any(takeover), "{commands:?}");
    let told = stage.play(
        "takeover ann
        guard ams primary 7
        guard fra standby 2
        wait 1s",
    );
    assert!(told.contains("taken over by ann, epoch 3"), "{told}");
    assert!(told.contains("epoch 8"), "{told}");
}

#[test]
fn who_takes_over_within_a_promotion_opens_an_epoch_of_its_own_after_it() {
    assert_snapshot!(play(
        "well
        check green
        guard ams standby 0
        guard fra standby 0
        guard ams primary 2
        held ams 2
        down db a b c
        done fence
        done attempt
        guard ams fenced 3
        takenover ann
        guard ams fenced 3
        guard fra primary 3
        inplace promote
        done repoint
        done verify
        done fallback
        wait 5s"
    ));
}
