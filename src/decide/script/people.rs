//! Who a person is, by whatever front end and whatever documents say meanwhile.

use super::{Stage, shop};
use crate::{
    decide::{
        approve::{Approver, approve},
        event::Refusal,
    },
    model::{id::UserName, service::Mode},
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
