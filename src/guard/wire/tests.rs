use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::{
    action::{ActEnd, ActOrder, ActQuery, ActReport, ActState},
    guard::{
        Boot, Database, FenceAck, FenceOrder, FirstHand, Grant, Grantor, Lease, LeaseRequest,
        Promise, PromoteOrder, Report, Role, Room, Starts, Terms,
    },
    id::{Attempt, Epoch},
    observation::Lsn,
    span::Span,
    time::Time,
};

const LATE: Time = Time::from_millis(99_999_999_999);

struct Ends {
    controller: Wire,
    a: Wire,
    b: Wire,
}

fn controller() -> Party {
    Party::Controller("controller".to_owned())
}

fn guard(site: &str) -> Party {
    Party::Guard(SiteName::new(site))
}

fn ends(service: &str, a: &str, b: &str) -> Ends {
    let key = || KeyPair::draw().unwrap().0;
    let (of_c, of_a, of_b) = (key(), key(), key());
    let all = [
        (controller(), of_c.public()),
        (guard(a), of_a.public()),
        (guard(b), of_b.public()),
    ];
    let wire = |own: Party, key| {
        let others = all.clone().into_iter().filter(|(party, _)| *party != own);
        Wire::new(own.clone(), service.into(), key, others)
    };
    Ends {
        controller: wire(controller(), of_c),
        a: wire(guard(a), of_a),
        b: wire(guard(b), of_b),
    }
}

fn shop() -> Ends {
    ends("shop", "a", "b")
}

fn terms(service: &str, site: &str, deputy: &str) -> Terms {
    Terms {
        service: service.into(),
        epoch: Epoch(u64::MAX),
        site: site.into(),
        lease: Lease::Bounded(Span::from_millis(59_999)),
        deputy: Some(deputy.into()),
    }
}

fn report(site: &str, terms: Terms) -> Report {
    Report {
        site: site.into(),
        boot: Boot(u64::MAX),
        promise: Some(Promise {
            epoch: terms.epoch,
            role: Role::Primary,
            terms: Some(terms),
            longest: Span::from_millis(59_999),
            starts: Starts(u64::MAX),
        }),
        database: Some(Database::Following),
        answers: false,
        seen: FirstHand {
            position: Some(Lsn(u64::MAX)),
            contact: Some(Span::from_millis(86_399_999)),
            is_full: true,
            is_read_only: true,
            disk: Some(Room {
                free: u64::MAX,
                size: u64::MAX,
            }),
            wall: Some(i64::MAX),
        },
        can_fence: false,
        kill: Some(Span::from_millis(59_999)),
        leased: false,
        drained: None,
        resync: None,
    }
}

fn ask(ends: &Ends, service: &str, site: &str, deputy: &str) -> Message {
    let terms = terms(service, site, deputy);
    let proof = Some(ends.controller.certify(&terms));
    Message::Ask {
        request: LeaseRequest {
            epoch: terms.epoch,
            sent: LATE,
            heard: BTreeMap::from([(Grantor::Controller, LATE), (Grantor::Deputy, LATE)]),
            report: report(site, terms).brief(),
        },
        proof,
    }
}

fn grant(by: Grantor) -> Message {
    Message::Grant(Grant {
        epoch: Epoch(1),
        boot: Boot(1),
        sent: LATE,
        lease: Lease::Unbounded,
        by,
        starts: None,
    })
}

fn acted(site: &str) -> Message {
    Message::Acted {
        site: site.into(),
        report: ActReport {
            key: "k".repeat(300).as_str().into(),
            state: ActState::Ended(ActEnd {
                attempt: Attempt(u32::MAX),
                status: Some(-1),
                said: "x".repeat(400),
            }),
        },
    }
}

#[test]
fn every_message_is_read_as_it_was_sealed() {
    let ends = shop();
    let order = PromoteOrder {
        terms: terms("shop", "a", "b"),
        acknowledged: true,
        boot: Some(Boot(3)),
    };
    let of_controller = [
        grant(Grantor::Controller),
        Message::Fence(FenceOrder {
            epoch: Epoch(2),
            boot: None,
            drained: false,
        }),
        Message::Promote {
            proof: ends.controller.certify(&order.terms),
            order,
        },
        Message::Act(ActOrder {
            action: "scale-up".into(),
            key: "k".into(),
            attempt: Attempt(1),
            epoch: Epoch(2),
            boot: Boot(3),
        }),
        Message::Recall(ActQuery {
            action: "scale-up".into(),
            key: "k".into(),
        }),
        Message::Look,
    ];
    for message in of_controller {
        let datagram = ends.controller.seal(&guard("a"), &message).unwrap();
        assert_eq!(
            ends.a.open(&datagram),
            Ok((controller(), message, Way::Straight))
        );
    }
    let of_guard = [
        ask(&ends, "shop", "a", "b"),
        grant(Grantor::Deputy),
        Message::Fenced(FenceAck {
            site: "a".into(),
            epoch: Epoch(4),
            lsn: None,
        }),
        acted("a"),
        Message::Report {
            at: LATE,
            report: report("a", terms("shop", "a", "b")),
        },
    ];
    for message in of_guard {
        let datagram = ends.a.seal(&controller(), &message).unwrap();
        assert_eq!(
            ends.controller.open(&datagram),
            Ok((guard("a"), message, Way::Straight))
        );
    }
}

#[test]
fn the_largest_request_of_long_names_fits() {
    let (service, a, b) = ("s".repeat(63), "a".repeat(63), "b".repeat(63));
    let ends = ends(&service, &a, &b);
    let message = ask(&ends, &service, &a, &b);
    let datagram = ends.a.seal(&guard(&b), &message).unwrap();
    assert_eq!(
        ends.b.open(&datagram),
        Ok((guard(&a), message.clone(), Way::Straight))
    );

    let Message::Ask { mut request, proof } = message else {
        panic!("a request");
    };
    // A site that is stopped in order says where its log ends, and no other position.
    request.report.drained = request.report.seen.position.take();
    request.report.seen.contact = None;
    ends.a
        .seal(&guard(&b), &Message::Ask { request, proof })
        .unwrap();

    let long = "x".repeat(600);
    let message = ask(&ends, &service, &long, &b);
    assert!(matches!(
        ends.a.seal(&guard(&b), &message),
        Err(SealError::Large { .. })
    ));
}

#[test]
fn nobody_speaks_for_another() {
    let ends = shop();
    let a_says = |message: &Message| ends.b.open(&ends.a.seal(&guard("b"), message).unwrap());
    assert_eq!(a_says(&grant(Grantor::Controller)), Err(Dropped::Author));
    assert_eq!(a_says(&ask(&ends, "shop", "b", "a")), Err(Dropped::Author));
    let fence = Message::Fence(FenceOrder {
        epoch: Epoch(9),
        boot: None,
        drained: false,
    });
    assert_eq!(a_says(&fence), Err(Dropped::Author));
    assert_eq!(a_says(&acted("b")), Err(Dropped::Author));
    let ack = Message::Fenced(FenceAck {
        site: "b".into(),
        epoch: Epoch(9),
        lsn: None,
    });
    assert_eq!(a_says(&ack), Err(Dropped::Author));
}

#[test]
fn terms_that_the_controller_did_not_sign_are_not_shown() {
    let ends = shop();
    let Message::Ask { request, .. } = ask(&ends, "shop", "a", "b") else {
        unreachable!();
    };
    // Of a guard's own key, of other terms, of another service.
    let other = Terms {
        epoch: Epoch(7),
        ..terms("shop", "a", "b")
    };
    for proof in [
        ends.a.certify(&terms("shop", "a", "b")),
        ends.controller.certify(&other),
    ] {
        let message = Message::Ask {
            request: request.clone(),
            proof: Some(proof),
        };
        let datagram = ends.a.seal(&guard("b"), &message).unwrap();
        assert_eq!(ends.b.open(&datagram), Err(Dropped::Certificate));
    }
    let foreign = ask(&ends, "bank", "a", "b");
    let datagram = ends.a.seal(&guard("b"), &foreign).unwrap();
    assert_eq!(ends.b.open(&datagram), Err(Dropped::Certificate));
}

#[test]
fn strangers_wrong_addresses_and_other_versions_are_told_apart() {
    let ends = shop();
    let stranger = shop();
    let sealed = |wire: &Wire, to: &Party| wire.seal(to, &Message::Look).unwrap();
    let to_a = sealed(&ends.controller, &guard("a"));
    assert_eq!(ends.b.open(&to_a), Err(Dropped::Receiver));
    assert_eq!(
        ends.a.open(&sealed(&stranger.controller, &guard("a"))),
        Err(Dropped::Signature)
    );
    let bank = super::tests::ends("bank", "a", "b");
    assert_eq!(
        ends.a.open(&sealed(&bank.controller, &guard("a"))),
        Err(Dropped::Service)
    );
    let other = super::tests::ends("shop", "c", "b");
    assert_eq!(
        ends.b.open(&sealed(&other.a, &guard("b"))),
        Err(Dropped::Sender)
    );
    let mut newer = to_a.clone();
    newer[0] = 9;
    assert_eq!(ends.a.open(&newer), Err(Dropped::Version));
    assert_eq!(ends.a.open(&[1; LARGEST + 1]), Err(Dropped::Large));
    let mut counts = Counts::default();
    counts.note(Dropped::Large);
    counts.note(Dropped::Large);
    assert_eq!((counts.of(Dropped::Large), counts.all()), (2, 2));
}

#[test]
fn what_is_passed_on_arrives_as_it_was_signed_and_goes_no_further() {
    let ends = shop();
    let message = ask(&ends, "shop", "a", "b");
    let mut datagram = ends.a.seal(&controller(), &message).unwrap();
    assert!(!Wire::is_to_pass(&datagram));
    relay::mark(&mut datagram);
    assert!(Wire::is_to_pass(&datagram));
    // It is nothing to its receiver before it was passed on.
    assert_eq!(ends.controller.open(&datagram), Err(Dropped::Version));
    let (to, passed) = ends.b.pass(&datagram).unwrap();
    assert_eq!((to, passed.len()), (controller(), datagram.len()));
    assert_eq!(
        ends.controller.open(&passed),
        Ok((guard("a"), message, Way::Around))
    );
    // Nobody passes it on again, and marks change nothing of it.
    assert_eq!(ends.b.pass(&passed), Err(Dropped::Version));
    let mut again = passed.clone();
    relay::mark(&mut again);
    assert_eq!(again, passed);

    // And between the guards, by way of the controller.
    let grant = grant(Grantor::Deputy);
    let mut back = ends.b.seal(&guard("a"), &grant).unwrap();
    relay::mark(&mut back);
    let (to, passed) = ends.controller.pass(&back).unwrap();
    assert_eq!(to, guard("a"));
    assert_eq!(ends.a.open(&passed), Ok((guard("b"), grant, Way::Around)));
}

#[test]
fn only_what_is_signed_by_one_who_is_known_for_another_is_passed_on() {
    let ends = shop();
    let sealed = |wire: &Wire, to: &Party| {
        let mut datagram = wire.seal(to, &Message::Look).unwrap();
        relay::mark(&mut datagram);
        datagram
    };
    let to_b = sealed(&ends.a, &guard("b"));
    assert_eq!(ends.b.pass(&to_b), Err(Dropped::Receiver), "its own");
    let to_c = sealed(&ends.a, &guard("c"));
    assert_eq!(ends.b.pass(&to_c), Err(Dropped::Receiver), "a stranger");
    let to_a = sealed(&ends.a, &guard("a"));
    assert_eq!(ends.b.pass(&to_a), Err(Dropped::Receiver), "its sender");
    let forged = sealed(&shop().a, &controller());
    assert_eq!(ends.b.pass(&forged), Err(Dropped::Signature));
    let mut changed = sealed(&ends.a, &controller());
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(ends.b.pass(&changed), Err(Dropped::Signature));
    let bank = super::tests::ends("bank", "a", "b");
    let foreign = sealed(&bank.a, &controller());
    assert_eq!(ends.b.pass(&foreign), Err(Dropped::Service));
}

#[test]
fn no_more_is_passed_on_than_anybody_needs() {
    let at = |ms| Time::from_millis(7_000).after(Span::from_millis(ms));
    let mut allowance = Allowance::new(at(0));
    let passed = |allowance: &mut Allowance, ms| {
        (0..1_000)
            .filter(|_| allowance.take(at(ms)).is_ok())
            .count()
    };
    assert_eq!(passed(&mut allowance, 0), 400);
    assert_eq!(passed(&mut allowance, 999), 0);
    assert_eq!(passed(&mut allowance, 1_000), 400);
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_dropped(bytes in prop::collection::vec(any::<u8>(), 0..1300)) {
        prop_assert!(shop().a.open(&bytes).is_err());
        let mut versioned = bytes;
        versioned.insert(0, VERSION);
        prop_assert!(shop().a.open(&versioned).is_err());
    }

    #[test]
    fn no_changed_bit_passes(at in 0_usize..2000, bit in 0_u8..8) {
        let ends = shop();
        let mut datagram = ends.a.seal(&guard("b"), &ask(&ends, "shop", "a", "b")).unwrap();
        let at = at % datagram.len();
        datagram[at] ^= 1 << bit;
        prop_assert!(ends.b.open(&datagram).is_err());
        datagram.truncate(at);
        prop_assert!(ends.b.open(&datagram).is_err());
    }
}
