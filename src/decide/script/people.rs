//! Who a person is, by whatever front end and whatever documents say meanwhile.

use super::{Stage, shop};
use crate::{
    decide::{
        approve::{Approver, approve},
        command,
        event::{Command, Event, Refusal},
    },
    model::{
        announcement::Phase, approval::Role, duty::Duty, id::UserName, service::Mode, span::Span,
    },
};

/// One person is one user of the API server, whatever the documents say of it from one answer to the next.
#[test]
fn who_becomes_another_person_between_two_answers_is_one() {
    let known = |whose: &str| {
        let mut service = shop();
        service.mode = Mode::Ask;
        service.approvals.required = 2;
        let mut people = service.team.people.iter_mut();
        let person = people.find(|p| p.name.as_str() == whose).unwrap();
        person.kubernetes = Some("mallory@example.com".to_owned());
        service
    };
    let user = UserName::from("mallory@example.com");
    for (first, signs) in [(true, true), (true, false), (false, true)] {
        let mut stage = Stage::new(known(if first { "ben" } else { "anna" }));
        let (one, other) = if first {
            ("ben", "anna")
        } else {
            ("anna", "ben")
        };
        stage.play(&format!("well\nopen cleo\nsign {one} mallory@example.com"));
        let approver = Approver {
            by: &other.into(),
            user: signs.then_some(&user),
        };
        let now = known(other);
        let refused = approve(&now, stage.core.state(), None, approver, None, false);
        assert_eq!(
            refused.unwrap_err(),
            Refusal::Twice("mallory@example.com".into()),
            "{one}, then {other}, signed: {signs}"
        );
        let real = Approver {
            by: &other.into(),
            user: None,
        };
        let honest = approve(&shop(), stage.core.state(), None, real, None, false);
        assert_eq!(honest.unwrap().len(), 2);
    }
}

#[test]
fn whom_documents_call_another_person_is_still_called_alike() {
    let mut service = shop();
    service.mode = Mode::Ask;
    service.approvals.required = 2;
    service.team.people[1].kubernetes = Some("anna@example.com".to_owned());
    let played = Stage::new(service).play(
        "well
        open kubernetes/anna@example.com
        approve anna
        deny anna",
    );
    assert!(played.contains("anna cannot approve"), "{played}");
    assert!(!played.contains("approved by"), "{played}");
}

#[test]
fn whoever_asked_may_take_it_back_by_another_front_end() {
    let mut service = shop();
    service.mode = Mode::Ask;
    service.approvals.approvers = vec!["ben".into()];
    service.team.people[0].kubernetes = Some("anna@example.com".to_owned());
    let played = Stage::new(service).play(
        "well
        open kubernetes/anna@example.com
        deny anna",
    );
    assert!(played.contains("ask closed: Denied"), "{played}");
}

/// Gives a command, and what it was answered.
fn told(stage: &mut Stage, command: Command) -> String {
    let (core, now) = (&stage.core, stage.now);
    let taken = command::take(core.service(), core.state(), core.view(), &command, now);
    stage.settle(Event::Command(command));
    match taken {
        Ok((_, said)) => said,
        Err(refusal) => format!("no: {refusal}"),
    }
}

fn declare(by: &str) -> Command {
    Command::Declare {
        by: by.into(),
        reason: "people cannot pay".to_owned(),
    }
}

fn resolve(by: &str) -> Command {
    Command::Resolve {
        by: by.into(),
        reason: "they can".to_owned(),
    }
}

#[test]
fn what_a_person_declared_is_over_when_a_person_says_so() {
    let mut stage = Stage::new(shop());
    stage.play("well\ncheck green");
    assert!(told(&mut stage, resolve("ben")).starts_with("no: no incident is open"));
    let said = told(&mut stage, declare("anna"));
    assert!(said.contains("anna leads it"), "{said}");
    assert!(told(&mut stage, declare("ben")).contains("is open already"));
    let tell = Command::Announce {
        phase: Phase::Investigating,
        text: Some("We look into it.".to_owned()),
        by: "anna".into(),
    };
    assert!(told(&mut stage, tell).starts_with("announced"));
    stage.play("wait 10m\nwell");
    let open = stage.core.state().incident.as_ref().unwrap();
    assert_eq!(open.phase, Some(Phase::Investigating));
    stage.play("blind web a b c\nwait 1m");
    let said = told(&mut stage, resolve("ben"));
    assert!(
        said.contains("probes do not confirm it"),
        "{said} {}",
        stage.out
    );
    stage.play("well");
    assert!(told(&mut stage, resolve("ben")).contains("customers are told"));
    for _ in 0..40 {
        stage.play("wait 2s\nwell");
    }
    assert_eq!(stage.core.state().incident, None);
}

#[test]
fn command_is_handed_over_only_when_it_is_accepted() {
    let mut stage = Stage::new(shop());
    stage.play("well\ncheck green");
    told(&mut stage, declare("anna"));
    let take = |person: Option<&str>, by: &str| Command::TakeDuty {
        duty: Duty::Commander,
        person: person.map(Into::into),
        by: by.into(),
    };
    let accept = |by: &str| Command::Accept { by: by.into() };
    let hand = |to: &str, by: &str| Command::HandOver {
        to: to.into(),
        by: by.into(),
    };
    let leads = |stage: &Stage| {
        let incident = stage.core.state().incident.as_ref().unwrap();
        incident.duties[&Duty::Commander].to_string()
    };
    assert!(told(&mut stage, take(None, "ben")).contains("only anna can hand that over"));
    assert!(told(&mut stage, accept("ben")).contains("nobody was asked"));
    assert!(told(&mut stage, hand("anna", "ben")).contains("anna leads"));
    assert!(told(&mut stage, hand("carl", "anna")).contains("known are anna, ben"));
    told(&mut stage, hand("ben", "anna"));
    assert_eq!(leads(&stage), "anna");
    assert!(told(&mut stage, accept("anna")).contains("ben is asked to lead, nobody else"));
    told(&mut stage, accept("ben"));
    assert_eq!(leads(&stage), "ben");
    assert!(told(&mut stage, accept("ben")).contains("nobody was asked"));
}

#[test]
fn a_role_holds_whatever_a_front_end_lets_through() {
    let mut service = shop();
    service.team.people[0].role = Some(Role::Viewer);
    service.team.people[0].kubernetes = Some("anna@example.com".to_owned());
    service.team.people[1].role = Some(Role::Operator);
    let mut stage = Stage::new(service);
    stage.play("well\ncheck green");
    assert!(
        told(&mut stage, declare("anna")).contains("anna is viewer here, and this takes operator")
    );
    assert!(told(&mut stage, declare("ben")).contains("ben leads it"));
    let lower = Command::SetMode {
        mode: Mode::Observe,
        by: "ben".into(),
        reason: "x".to_owned(),
    };
    assert!(told(&mut stage, lower).contains("this takes admin"));
    // Nor does it matter by which name a front end knows the person.
    let by_cluster = Command::Pause {
        by: "kubernetes/anna@example.com".into(),
        reason: "x".to_owned(),
    };
    assert!(told(&mut stage, by_cluster).contains("is viewer here"));
    // Who is nobody of the documents has no role; the front end knows what it lets through.
    assert_eq!(
        told(
            &mut stage,
            Command::Note {
                by: "local/root".into(),
                text: "x".to_owned()
            }
        ),
        "noted"
    );
}

#[test]
fn refusals_are_written_down_and_do_not_fill_the_journal() {
    let mut stage = Stage::new(shop());
    stage.play("well\ncheck green");
    let before = stage.core.state().seq.0;
    for n in 0..1_000 {
        let away = Command::TurnedAway {
            by: format!("telegram/{}", n % 100).as_str().into(),
            reason: "nobody of the team".to_owned(),
        };
        stage.settle(Event::Command(away));
    }
    assert_eq!(stage.core.state().seq.0 - before, 20);
    stage.now = stage.now.after(Span::from_secs(61));
    stage.settle(Event::Command(Command::TurnedAway {
        by: "telegram/1".into(),
        reason: "nobody of the team".to_owned(),
    }));
    assert_eq!(stage.core.state().refused.len(), 1);
}
