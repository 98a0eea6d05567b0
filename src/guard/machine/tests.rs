use super::*;
use crate::model::{guard::Lease, lease::wait};

const LEASE: Span = Span::from_millis(1_000);
const RENEWAL: Span = Span::from_millis(150);
const BOOT: Boot = Boot(7);

/// A guard on a host whose two clocks agree.
struct Guard {
    machine: Machine,
    at: Time,
}

impl Guard {
    fn new(site: &str, role: Role, epoch: u64) -> Self {
        let promise = Promise {
            epoch: Epoch(epoch),
            role,
            terms: Some(terms(epoch, "a", "b")),
            longest: LEASE,
            starts: Starts(1),
        };
        Self::with(site, Some(promise))
    }

    fn with(site: &str, kept: Option<Promise>) -> Self {
        let at = Time::from_millis(1_000_000);
        let machine = Machine::new(
            site.into(),
            BOOT,
            RENEWAL,
            Some(Span::ZERO),
            kept,
            clocks(at),
        );
        Self { machine, at }
    }

    fn tell(&mut self, event: Event) -> Vec<Effect> {
        self.machine.step(event, clocks(self.at))
    }

    fn pass(&mut self, ms: u64) -> Vec<Effect> {
        self.at = self.at.after(Span::from_millis(ms));
        self.tell(Event::Tick)
    }

    fn granted(&mut self, epoch: u64, sent: Time) -> Vec<Effect> {
        self.tell(Event::Granted(Grant {
            epoch: Epoch(epoch),
            boot: BOOT,
            sent,
            lease: Lease::Bounded(LEASE),
            by: Grantor::Controller,
            starts: None,
        }))
    }

    fn asked(&mut self, epoch: u64, shown: Option<Terms>) -> Vec<Effect> {
        let mut report = Guard::new("a", Role::Primary, epoch).machine.report();
        report.boot = Boot(9);
        let request = LeaseRequest {
            epoch: Epoch(epoch),
            sent: self.at,
            heard: [(Grantor::Deputy, self.at)].into(),
            report,
        };
        self.tell(Event::Asked(request, shown))
    }

    fn promoted(&mut self, epoch: u64, acknowledged: bool) -> Vec<Effect> {
        let mut effects = self.tell(Event::Promote(PromoteOrder {
            terms: terms(epoch, "b", "a"),
            acknowledged,
            boot: Some(BOOT),
        }));
        if matches!(effects[..], [Effect::Write(_)]) {
            effects.extend(self.tell(Event::Written));
        }
        effects
    }
}

fn clocks(at: Time) -> Clocks {
    Clocks {
        holder: at,
        grantor: at,
    }
}

fn terms(epoch: u64, site: &str, deputy: &str) -> Terms {
    Terms {
        service: "shop".into(),
        epoch: Epoch(epoch),
        site: site.into(),
        lease: Lease::Bounded(LEASE),
        deputy: Some(deputy.into()),
    }
}

fn fence(epoch: u64, boot: Option<Boot>) -> Event {
    Event::Fence(FenceOrder {
        epoch: Epoch(epoch),
        boot,
        drained: false,
    })
}

/// What was asked to be done, without the requests that go on all the time.
fn deeds(effects: Vec<Effect>) -> Vec<Effect> {
    effects
        .into_iter()
        .filter(|e| !matches!(e, Effect::Ask(_)))
        .collect()
}

fn kept(effects: &[Effect]) -> &Promise {
    effects
        .iter()
        .find_map(|e| {
            if let Effect::Write(promise) = e {
                Some(promise)
            } else {
                None
            }
        })
        .expect("a promise to be written")
}

/// A primary that writes under a lease which was granted just now.
fn writing() -> Guard {
    let mut guard = Guard::new("a", Role::Primary, 1);
    guard.tell(Event::Database(Database::Gone));
    guard.pass(wait(LEASE).as_millis());
    let until = Until::At(guard.at.after(Span::from_millis(850)));
    assert_eq!(deeds(guard.granted(1, guard.at)), [Effect::Start(until)]);
    guard.tell(Event::Armed(until));
    assert_eq!(deeds(guard.tell(Event::Opened(Database::Writable))), []);
    guard
}

#[test]
fn asks_every_renewal_and_the_lease_counts_from_the_asking() {
    let mut guard = writing();
    let sent = guard.at;
    assert_eq!(guard.pass(149), []);
    let asked = guard.pass(1);
    assert!(
        matches!(&asked[..], [Effect::Ask(r)] if r.sent == guard.at),
        "{asked:?}"
    );
    let late = guard.granted(1, sent.after(RENEWAL));
    assert_eq!(
        late,
        [Effect::Arm(Until::At(sent.after(Span::from_millis(1_000))))]
    );
    assert_eq!(
        guard.granted(1, sent),
        [],
        "an older grant moves nothing back"
    );
}

#[test]
fn a_lapse_stops_the_database_and_promises_nothing() {
    let mut guard = writing();
    assert_eq!(deeds(guard.pass(849)), []);
    assert_eq!(deeds(guard.pass(1)), [Effect::Empty]);
    assert_eq!(deeds(guard.tell(Event::Emptied(None))), []);
    let again = deeds(guard.granted(1, guard.at));
    assert!(matches!(again[..], [Effect::Start(_)]), "{again:?}");
}

#[test]
fn a_fence_is_acknowledged_once_it_is_written_and_as_often_as_it_is_asked() {
    let mut guard = writing();
    assert_eq!(deeds(guard.tell(fence(1, None))), [], "of its own epoch");
    assert_eq!(deeds(guard.tell(fence(2, None))), [Effect::Empty]);
    assert_eq!(guard.pass(1_000), [], "no request any more");
    let written = guard.tell(Event::Emptied(Some(Lsn(5))));
    assert_eq!(kept(&written).epoch, Epoch(2));
    assert_eq!(kept(&written).role, Role::Fenced);
    let ack = Effect::Acknowledge(FenceAck {
        site: "a".into(),
        epoch: Epoch(2),
        lsn: Some(Lsn(5)),
    });
    assert_eq!(guard.tell(Event::Written), std::slice::from_ref(&ack));
    assert_eq!(guard.tell(fence(2, None)), [ack]);
    assert_eq!(guard.granted(1, guard.at), []);
    assert_eq!(guard.pass(10_000), []);
}

#[test]
fn what_could_not_be_written_is_never_acknowledged() {
    let mut guard = writing();
    guard.tell(fence(2, None));
    guard.tell(Event::Emptied(None));
    assert_eq!(guard.tell(Event::NotWritten), []);
    assert_eq!(guard.tell(fence(2, None)), []);
    assert_eq!(guard.pass(10_000), []);
    assert!(!guard.machine.report().can_fence);
}

#[test]
fn what_could_not_be_ended_is_ended_again_and_acknowledged_then() {
    let mut guard = writing();
    guard.tell(fence(2, None));
    for _ in 0..3 {
        assert_eq!(guard.tell(Event::NotEmptied), []);
        assert_eq!(guard.tell(fence(2, None)), []);
        assert!(!guard.machine.report().can_fence);
        assert_eq!(guard.pass(999), []);
        assert_eq!(guard.pass(1), [Effect::Empty]);
        assert_eq!(guard.pass(10_000), [], "one kill at a time");
    }
    let written = guard.tell(Event::Emptied(None));
    assert_eq!(kept(&written).epoch, Epoch(2));
    let acknowledged = guard.tell(Event::Written);
    assert!(
        matches!(acknowledged[..], [Effect::Acknowledge(_)]),
        "{acknowledged:?}"
    );
    assert!(guard.machine.report().can_fence);
}

#[test]
fn whoever_may_not_have_ended_asks_for_no_lease_and_takes_none() {
    let mut guard = writing();
    assert_eq!(deeds(guard.pass(850)), [Effect::Empty]);
    guard.tell(Event::NotEmptied);
    assert_eq!(guard.pass(500), []);
    assert_eq!(guard.granted(1, guard.at), []);
    assert!(!guard.machine.report().leased);
    guard.pass(500);
    let asked = guard.tell(Event::Emptied(None));
    assert!(matches!(asked[..], [Effect::Ask(_)]), "{asked:?}");
}

#[test]
fn a_promoted_deputy_waits_for_its_own_grants_unless_the_old_site_acknowledged() {
    for acknowledged in [false, true] {
        let mut guard = Guard::new("b", Role::Standby, 1);
        guard.tell(Event::Database(Database::Following));
        let granted = guard.asked(1, None);
        assert!(matches!(granted[..], [Effect::Grant(..)]), "{granted:?}");
        let asks = guard.promoted(2, acknowledged);
        assert_eq!(kept(&asks).role, Role::Primary);
        assert_eq!(guard.asked(1, None), [], "the old epoch is over");
        let sent = guard.at;
        let first = deeds(guard.granted(2, sent));
        if !acknowledged {
            assert_eq!(first, [], "its grant may still be in use");
            assert_eq!(deeds(guard.pass(wait(LEASE).as_millis())), []);
        }
        let until = Until::At(guard.at.after(Span::from_millis(850)));
        let armed = if acknowledged {
            first
        } else {
            deeds(guard.granted(2, guard.at))
        };
        assert_eq!(armed, [Effect::Arm(until)]);
        assert_eq!(guard.tell(Event::Armed(until)), [Effect::Promote]);
    }
}

#[test]
fn a_deputy_behind_promises_what_it_is_shown_before_it_grants() {
    let mut guard = Guard::new("b", Role::Standby, 1);
    guard.tell(Event::Database(Database::Following));
    assert_eq!(guard.asked(3, None), [], "nothing was shown");
    assert_eq!(
        guard.asked(3, Some(terms(3, "a", "c"))),
        [],
        "not its epoch"
    );
    let shown = Some(terms(3, "a", "b"));
    assert_eq!(kept(&guard.asked(3, shown)).epoch, Epoch(3));
    assert_eq!(guard.asked(3, None), [], "not on disk yet");
    guard.tell(Event::Written);
    assert!(matches!(guard.asked(3, None)[..], [Effect::Grant(..)]));
    assert_eq!(guard.asked(1, None), []);
}

#[test]
fn a_guard_without_state_obeys_only_orders_of_this_life() {
    let mut guard = Guard::with("a", None);
    guard.tell(Event::Database(Database::Gone));
    assert_eq!(guard.pass(1_000), []);
    assert_eq!(guard.asked(1, Some(terms(1, "b", "a"))), []);
    assert_eq!(guard.tell(fence(5, Some(Boot(1)))), []);
    assert_eq!(guard.tell(fence(5, None)), []);
    assert_eq!(kept(&guard.tell(fence(5, Some(BOOT)))).epoch, Epoch(5));
}

#[test]
fn a_restart_leaves_the_database_to_the_timer_that_runs() {
    let mut guard = Guard::new("a", Role::Primary, 1);
    let until = Until::At(guard.at.after(Span::from_millis(500)));
    guard.tell(Event::Armed(until));
    assert_eq!(deeds(guard.tell(Event::Database(Database::Writable))), []);
    let old = Grant {
        epoch: Epoch(1),
        boot: Boot(6),
        sent: guard.at,
        lease: Lease::Bounded(LEASE),
        by: Grantor::Controller,
        starts: None,
    };
    assert_eq!(guard.tell(Event::Granted(old)), [], "of an earlier life");
    assert!(matches!(guard.granted(1, guard.at)[..], [Effect::Arm(_)]));
}

#[test]
fn the_timer_of_a_promotion_that_a_restart_broke_off_follows_the_lease() {
    let mut guard = Guard::new("a", Role::Primary, 1);
    let until = Until::At(guard.at.after(Span::from_millis(500)));
    guard.tell(Event::Armed(until));
    guard.tell(Event::Database(Database::Following));
    // It may have granted just before, and waits with the promotion.
    let moved = Until::At(guard.at.after(Span::from_millis(850)));
    assert_eq!(deeds(guard.granted(1, guard.at)), [Effect::Arm(moved)]);
    guard.tell(Event::Armed(moved));
    let mut passed = 0;
    while guard.machine.job != Job::Opening {
        guard.pass(500);
        passed += 500;
        assert!(passed <= wait(LEASE).as_millis() + 500, "it never opens");
        let effects = deeds(guard.granted(1, guard.at));
        let [Effect::Arm(until), rest @ ..] = &effects[..] else {
            panic!("{effects:?}");
        };
        guard.tell(Event::Armed(*until));
        assert!(rest.is_empty() || rest == [Effect::Promote], "{rest:?}");
    }
}

#[test]
fn a_database_that_writes_without_a_right_is_stopped() {
    for role in [Role::Standby, Role::Fenced, Role::Primary] {
        let mut guard = Guard::new("a", role, 1);
        assert_eq!(
            deeds(guard.tell(Event::Database(Database::Writable))),
            [Effect::Empty],
            "{role:?}"
        );
    }
}

#[test]
fn a_deputy_whose_grants_do_not_arrive_rests_for_longer_than_the_wait() {
    let mut guard = Guard::new("b", Role::Standby, 1);
    guard.tell(Event::Database(Database::Following));
    let mut last = guard.at;
    let mut longest = Span::ZERO;
    for _ in 0..100 {
        guard.pass(100);
        let mut report = Guard::new("a", Role::Primary, 1).machine.report();
        report.boot = Boot(9);
        let request = LeaseRequest {
            epoch: Epoch(1),
            sent: guard.at,
            heard: BTreeMap::new(),
            report,
        };
        if !guard.tell(Event::Asked(request, None)).is_empty() {
            longest = longest.max(guard.at.since(last));
            last = guard.at;
        }
    }
    assert!(longest > wait(LEASE), "{longest}");
}

/// A primary under a lease, whose database writes.
fn serving() -> Guard {
    let mut guard = Guard::new("a", Role::Primary, 1);
    let _ = guard.tell(Event::Database(Database::Gone));
    // What it may have granted in its life before is over.
    let _ = guard.pass(2_000);
    let sent = guard.at;
    let effects = guard.granted(1, sent);
    assert!(effects.iter().any(|e| matches!(e, Effect::Start(_))));
    let until = guard.machine.lease().unwrap();
    let _ = guard.tell(Event::Armed(until));
    let _ = guard.tell(Event::Opened(Database::Writable));
    guard
}

fn drain(guard: &Guard, hold_ms: u64) -> Event {
    Event::Drain(DrainOrder {
        epoch: Epoch(1),
        boot: BOOT,
        asked: guard.at,
        hold: Span::from_millis(hold_ms),
    })
}

fn fence_drained(epoch: u64) -> Event {
    Event::Fence(FenceOrder {
        epoch: Epoch(epoch),
        boot: Some(BOOT),
        drained: true,
    })
}

#[test]
fn a_drained_database_stays_stopped_for_a_while_and_comes_back_by_itself() {
    let mut guard = serving();
    let order = drain(&guard, 500);
    assert!(guard.tell(order.clone()).contains(&Effect::Drain));
    // A fence of planned work waits until it has stopped.
    assert!(!guard.tell(fence_drained(2)).contains(&Effect::Empty));
    let effects = guard.tell(Event::Drained(Some(Lsn(7))));
    assert!(!effects.iter().any(|e| matches!(e, Effect::Start(_))));
    assert_eq!(guard.machine.report().drained, Some(Lsn(7)));
    let effects = guard.pass(499);
    assert!(!effects.iter().any(|e| matches!(e, Effect::Start(_))));
    assert!(guard.machine.lease().is_some());
    let effects = guard.pass(1);
    assert!(effects.iter().any(|e| matches!(e, Effect::Start(_))));
    assert_eq!(guard.machine.report().drained, None);
    // An order that was kept on its way for so long stops nothing.
    let _ = guard.tell(Event::Opened(Database::Writable));
    assert!(!guard.tell(order).contains(&Effect::Drain));
}

#[test]
fn a_drained_site_is_fenced_and_says_where_its_log_ends() {
    let mut guard = serving();
    let order = drain(&guard, 5_000);
    let _ = guard.tell(order);
    let _ = guard.tell(Event::Drained(Some(Lsn(7))));
    assert!(guard.tell(fence_drained(2)).contains(&Effect::Empty));
    let _ = guard.tell(Event::Emptied(None));
    let effects = guard.tell(Event::Written);
    let acknowledged =
        |e: &Effect| matches!(e, Effect::Acknowledge(ack) if ack.lsn == Some(Lsn(7)));
    assert!(effects.iter().any(acknowledged), "{effects:?}");
}

#[test]
fn what_does_not_stop_in_time_is_ended_and_started_again() {
    let mut guard = serving();
    let order = drain(&guard, 300);
    let _ = guard.tell(order);
    assert!(guard.pass(300).contains(&Effect::Empty));
    // The stop that ends at last changes nothing.
    let _ = guard.tell(Event::Drained(Some(Lsn(7))));
    let effects = guard.tell(Event::Emptied(None));
    assert!(effects.iter().any(|e| matches!(e, Effect::Start(_))));
}

#[test]
fn a_fenced_site_follows_once_its_data_is_in_line() {
    let mut guard = Guard::new("a", Role::Fenced, 2);
    let _ = guard.tell(Event::Database(Database::Gone));
    let order = |epoch| {
        Event::Resync(ResyncOrder {
            epoch: Epoch(epoch),
            boot: BOOT,
        })
    };
    assert_eq!(guard.tell(order(1)), []);
    assert_eq!(guard.tell(order(2)), [Effect::Resync]);
    assert_eq!(guard.tell(order(2)), []);
    let _ = guard.tell(Event::Resynced(Resynced::Failed));
    assert_eq!(guard.machine.report().resync, Some(Resync::Failed));
    assert_eq!(guard.tell(order(2)), [Effect::Resync]);
    let salvage = Salvage {
        from: Lsn(3),
        to: Lsn(9),
        commits: 2,
        is_whole: false,
    };
    let effects = guard.tell(Event::Resynced(Resynced::Done(salvage)));
    let [Effect::Write(promise)] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!((promise.epoch, promise.role), (Epoch(2), Role::Standby));
    assert_eq!(guard.tell(Event::Written), [Effect::Follow]);
    assert_eq!(guard.machine.report().resync, Some(Resync::Done(salvage)));
}

#[test]
fn an_order_to_fence_or_promote_breaks_a_resync_off_and_is_obeyed_when_it_comes_again() {
    let promote = || {
        Event::Promote(PromoteOrder {
            terms: terms(3, "b", "a"),
            acknowledged: true,
            boot: Some(BOOT),
        })
    };
    let fence = |epoch| fence(epoch, Some(BOOT));
    let resyncing = || {
        let mut guard = Guard::new("b", Role::Fenced, 2);
        let _ = guard.tell(Event::Database(Database::Gone));
        let order = ResyncOrder {
            epoch: Epoch(2),
            boot: BOOT,
        };
        assert_eq!(guard.tell(Event::Resync(order)), [Effect::Resync]);
        guard
    };
    let mut guard = resyncing();
    assert_eq!(guard.tell(fence(3)), [Effect::BreakOff]);
    let _ = guard.tell(Event::Resynced(Resynced::Failed));
    assert!(matches!(guard.tell(fence(3))[..], [Effect::Write(_)]));

    let mut guard = resyncing();
    assert_eq!(guard.tell(promote()), [Effect::BreakOff]);
    let _ = guard.tell(Event::Resynced(Resynced::Failed));
    assert!(matches!(guard.tell(promote())[..], [Effect::Write(_)]));

    // Data that is neither old nor new may be fenced, and is promoted by nobody.
    let mut guard = resyncing();
    let _ = guard.tell(promote());
    let _ = guard.tell(Event::Resynced(Resynced::HalfDone));
    assert_eq!(guard.machine.report().resync, Some(Resync::HalfDone));
    assert_eq!(guard.tell(promote()), []);
    assert!(matches!(guard.tell(fence(4))[..], [Effect::Write(_)]));
    assert!(
        guard
            .tell(Event::Written)
            .iter()
            .any(|e| matches!(e, Effect::Acknowledge(_)))
    );
    assert_eq!(guard.machine.report().resync, Some(Resync::HalfDone));
}
