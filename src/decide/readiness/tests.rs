use std::sync::Arc;

use super::*;
use crate::{
    decide::core::Core,
    model::{
        id::{Epoch, Seq},
        loss::LossForecast,
        record::{FORMAT, Record},
    },
};

const HOUR: Span = Span::from_secs(3600);
const DAY: Span = Span::from_secs(86_400);

fn service(drill_max_age: Option<Span>) -> Service {
    let site = |name: &str, role: &str| serde_json::json!({"name": name, "role": role, "location": {}, "addresses": []});
    let mut service: Service = serde_json::from_value(serde_json::json!({
        "name": "shop", "title": "Shop", "mode": "automatic",
        "objectives": {"rto": "5m", "rpo": "1m"},
        "sites": [site("ham", "primary"), site("fra", "standby")],
        "residency": [], "vantagePoints": [],
        "quorum": {"networks": 1, "failures": 1, "successes": 1},
        "components": [], "trigger": "immediate",
        "gates": {"maxLagAge": "1m", "overRpo": "ask", "maintenance": []},
        "fencing": "infrastructure",
        "announcements": {"channels": [], "templates": {}, "symptom": "", "cadence": "20m"},
        "team": {"people": [], "channels": [], "repeat": "5m"},
        "approvals": {"required": 1, "approvers": [], "breakGlass": [], "expiry": "1h", "onTimeout": "hold"},
        "runbook": {"name": "shop", "title": "Shop", "steps": []},
        "config": "c1",
    }))
    .unwrap();
    service.readiness.drill_max_age = drill_max_age;
    service
}

/// A service and what its journal says.
struct Desk {
    service: Service,
    state: State,
    now: Time,
    told: Vec<(Readiness, Readiness)>,
}

impl Desk {
    fn new(drill_max_age: Option<Span>) -> Self {
        let mut desk = Self {
            service: service(drill_max_age),
            state: State::default(),
            now: Time::parse("2026-11-22T20:00:00Z").unwrap(),
            told: Vec::new(),
        };
        desk.start("0.1.0");
        desk
    }

    fn start(&mut self, version: &str) {
        self.apply(RecordBody::ControllerStarted {
            version: version.to_owned(),
            config: self.service.config.clone(),
            active: Some("ham".into()),
            mode: Mode::Automatic,
        });
    }

    fn apply(&mut self, body: RecordBody) {
        if let RecordBody::ReadinessTurned { from, to, .. } = &body {
            self.told.push((*from, *to));
        }
        let record = Record {
            format: FORMAT,
            chain: self.service.name.clone(),
            seq: Seq(self.state.seq.0 + 1),
            epoch: Epoch(1),
            at: self.now,
            prev: String::new(),
            body,
        };
        self.state.apply(&record);
    }

    /// Whether a check was news.
    fn check(&mut self, items: &[CheckItem]) -> bool {
        let config = self.service.config.clone();
        let plan = Some(PlanHash::new("p1"));
        let record = checked(&self.service, &self.state, config, plan, items, self.now);
        let is_news = record.is_some();
        if let Some(record) = record {
            self.apply(record);
        }
        self.turn();
        is_news
    }

    fn turn(&mut self) {
        if let Some(record) = turn(&self.service, &self.state, self.now) {
            self.apply(record);
        }
    }

    fn wait(&mut self, span: Span) {
        self.now = self.now.after(span);
        self.turn();
    }

    fn says(&self) -> (Readiness, Mode) {
        (
            verdict(&self.service, &self.state, self.now).0,
            mode(&self.service, &self.state, self.now),
        )
    }
}

fn fine() -> Vec<CheckItem> {
    vec![CheckItem::ok("all", "fine")]
}

fn bad(status: CheckStatus) -> Vec<CheckItem> {
    vec![CheckItem::bad("drift/ssl", status, "off", "set it")]
}

#[test]
fn a_verdict_is_what_the_worst_item_makes_it() {
    let mut desk = Desk::new(None);
    assert_eq!(desk.says(), (Readiness::Unknown, Mode::Ask));
    desk.check(&fine());
    assert_eq!(desk.says(), (Readiness::Ready, Mode::Automatic));
    desk.check(&bad(CheckStatus::Warn));
    assert_eq!(desk.says(), (Readiness::Ready, Mode::Automatic));
    desk.check(&bad(CheckStatus::Unknown));
    assert_eq!(desk.says(), (Readiness::Unknown, Mode::Ask));
    desk.check(&bad(CheckStatus::Fail));
    assert_eq!(desk.says(), (Readiness::NotReady, Mode::Ask));
    desk.check(&[CheckItem::untold("disk/ham", "not told", "guard")]);
    assert_eq!(desk.says(), (Readiness::Ready, Mode::Automatic));
}

#[test]
fn a_verdict_decays_with_time() {
    let mut desk = Desk::new(None);
    desk.check(&fine());
    desk.wait(DAY);
    assert_eq!(desk.says().0, Readiness::Ready);
    desk.wait(Span::from_secs(1));
    assert_eq!(desk.says(), (Readiness::Unknown, Mode::Ask));
    assert!(unearned(&desk.service, &desk.state, desk.now).contains("older than 1d"));
}

#[test]
fn a_check_that_is_repeated_keeps_the_verdict_without_a_record_each_time() {
    let mut desk = Desk::new(None);
    desk.service.readiness.max_age = HOUR;
    let mut records = 0;
    for _ in 0..24 {
        records += u32::from(desk.check(&fine()));
        for _ in 0..15 {
            desk.wait(Span::from_secs(60));
            assert_eq!(desk.says().0, Readiness::Ready);
        }
    }
    assert_eq!(records, 12, "every half of the greatest age");
    assert_eq!(desk.told, [(Readiness::Unknown, Readiness::Ready)]);
}

#[test]
fn a_verdict_is_void_with_every_change_of_plan() {
    let changes: [fn(&mut Desk); 3] = [
        |desk| {
            desk.service.config = ConfigHash::new("c2");
            let config = desk.service.config.clone();
            desk.apply(RecordBody::DocumentsChanged {
                config,
                mode: Mode::Automatic,
            });
        },
        |desk| {
            desk.apply(RecordBody::Moved {
                site: "fra".into(),
                epoch: Epoch(2),
                by: "ann".into(),
                reason: "by hand".to_owned(),
                terms: None,
            });
        },
        |desk| desk.start("0.2.0"),
    ];
    for change in changes {
        let mut desk = Desk::new(None);
        desk.check(&fine());
        change(&mut desk);
        assert_eq!(desk.says(), (Readiness::Unknown, Mode::Ask));
        desk.turn();
        assert!(
            desk.check(&fine()),
            "the same items are news for another plan"
        );
        assert_eq!(desk.says(), (Readiness::Ready, Mode::Automatic));
        let (ready, unknown) = (Readiness::Ready, Readiness::Unknown);
        assert_eq!(
            desk.told,
            [(unknown, ready), (ready, unknown), (unknown, ready)]
        );
    }
}

#[test]
fn a_check_for_another_plan_is_news() {
    let mut desk = Desk::new(None);
    desk.check(&fine());
    let config = desk.service.config.clone();
    let other = Some(PlanHash::new("p2"));
    let news = checked(&desk.service, &desk.state, config, other, &fine(), desk.now);
    assert!(news.is_some());
}

#[test]
fn a_restart_changes_nothing() {
    let mut desk = Desk::new(None);
    desk.check(&fine());
    desk.start("0.1.0");
    assert_eq!(desk.says(), (Readiness::Ready, Mode::Automatic));
}

#[test]
fn a_drill_is_asked_for_and_where_documents_say_so_required() {
    let now = Time::parse("2026-11-22T20:00:00Z").unwrap();
    let of = |max_age, days: Option<u64>| {
        let policy = ReadinessPolicy {
            drill_max_age: max_age,
            ..ReadinessPolicy::default()
        };
        let passed = days.map(|d| now.before(DAY.saturating_mul(d)));
        drill(&policy, passed, now).status
    };
    assert_eq!(of(None, None), CheckStatus::Warn);
    assert_eq!(of(None, Some(90)), CheckStatus::Ok);
    assert_eq!(of(None, Some(91)), CheckStatus::Warn);
    let policy = Some(DAY.saturating_mul(30));
    assert_eq!(of(policy, None), CheckStatus::Fail);
    assert_eq!(of(policy, Some(30)), CheckStatus::Ok);
    assert_eq!(of(policy, Some(31)), CheckStatus::Fail);
}

#[test]
fn automatic_is_refused_without_a_drill_that_is_young_enough() {
    let mut desk = Desk::new(Some(DAY));
    desk.check(&fine());
    assert_eq!(desk.says(), (Readiness::NotReady, Mode::Ask));
    assert!(unearned(&desk.service, &desk.state, desk.now).contains("no drill was ever passed"));
    desk.state
        .drills
        .passed
        .insert(crate::model::drill::Depth::Isolated, desk.now);
    assert_eq!(desk.says(), (Readiness::Ready, Mode::Automatic));
    desk.wait(DAY);
    desk.check(&fine());
    assert_eq!(desk.says(), (Readiness::Ready, Mode::Automatic));
    desk.wait(Span::from_secs(1));
    assert_eq!(desk.says(), (Readiness::NotReady, Mode::Ask));
}

#[test]
fn a_mode_that_a_person_lowered_stays_so() {
    let mut desk = Desk::new(None);
    desk.check(&fine());
    desk.state.lowered = Some(Mode::Observe);
    assert_eq!(desk.says().1, Mode::Observe);
}

#[test]
fn checks_come_a_little_sooner_than_their_time_and_soon_after_a_change() {
    let mut desk = Desk::new(None);
    let last = desk.now;
    desk.check(&fine());
    let due = |desk: &Desk, count, after: u64| {
        let now = last.after(Span::from_secs(after));
        is_due(&desk.service, &desk.state, last, count, now)
    };
    assert!((1..50).all(|n| !due(&desk, n, 809) && due(&desk, n, 900)));
    assert!((1..50).any(|n| due(&desk, n, 870)) && (1..50).any(|n| !due(&desk, n, 870)));
    desk.start("0.2.0");
    assert!(!due(&desk, 1, 59) && due(&desk, 1, 60));
}

fn suspect(desk: &mut Desk, to: Verdict) {
    desk.apply(RecordBody::VerdictChanged {
        component: "web".into(),
        from: Verdict::Healthy,
        to,
        reason: "it was seen".to_owned(),
        witnesses: Vec::new(),
    });
}

fn outage(desk: &mut Desk) {
    let since = desk.now;
    desk.apply(RecordBody::IncidentOpened {
        components: vec!["web".into()],
        since,
        reason: "it is down".to_owned(),
        loss: LossForecast::Stateless,
    });
}

#[test]
fn a_check_in_an_outage_does_not_cost_the_failover_that_was_earned() {
    let mut desk = Desk::new(None);
    desk.check(&fine());
    desk.wait(Span::from_secs(600));
    // The primary dies, and the check sees it before any probe does.
    assert!(desk.check(&bad(CheckStatus::Fail)));
    assert_eq!(desk.says(), (Readiness::NotReady, Mode::Ask));
    desk.wait(Span::from_secs(2));
    suspect(&mut desk, Verdict::Suspect);
    assert!(
        !desk.check(&bad(CheckStatus::Fail)),
        "the outage says so itself"
    );
    outage(&mut desk);
    assert_eq!(desk.says(), (Readiness::Ready, Mode::Automatic));
    // It goes on for long, and is checked again.
    desk.wait(Span::from_secs(400));
    assert!(desk.check(&bad(CheckStatus::Unknown)));
    assert_eq!(desk.says(), (Readiness::Ready, Mode::Automatic));
    // What was earned before decays as ever.
    desk.wait(DAY);
    assert_eq!(desk.says().1, Mode::Ask);
}

#[test]
fn what_was_mended_right_before_the_outage_counts() {
    let mut desk = Desk::new(None);
    desk.check(&bad(CheckStatus::Fail));
    desk.wait(Span::from_secs(120));
    desk.check(&fine());
    desk.wait(Span::from_secs(30));
    outage(&mut desk);
    desk.wait(Span::from_secs(400));
    desk.check(&bad(CheckStatus::Fail));
    assert_eq!(desk.says(), (Readiness::Ready, Mode::Automatic));
}

#[test]
fn what_was_not_ready_before_the_outage_is_not_made_ready_by_it() {
    let mut desk = Desk::new(None);
    desk.check(&fine());
    desk.wait(Span::from_secs(600));
    desk.check(&bad(CheckStatus::Fail));
    desk.wait(Span::from_secs(61));
    outage(&mut desk);
    assert_eq!(desk.says(), (Readiness::NotReady, Mode::Ask));
    desk.check(&bad(CheckStatus::Unknown));
    assert_eq!(desk.says(), (Readiness::NotReady, Mode::Ask));
    desk.check(&fine());
    assert_eq!(desk.says(), (Readiness::Ready, Mode::Automatic));
}

#[test]
fn what_is_red_is_checked_again_soon_and_nothing_in_the_first_minutes_of_an_outage() {
    let mut desk = Desk::new(None);
    let last = desk.now;
    let due = |desk: &Desk, after: u64| {
        let now = last.after(Span::from_secs(after));
        is_due(&desk.service, &desk.state, last, 1, now)
    };
    desk.check(&bad(CheckStatus::Fail));
    assert!(!due(&desk, 119) && due(&desk, 120));
    suspect(&mut desk, Verdict::Down);
    assert!(!due(&desk, 299) && due(&desk, 300));
    suspect(&mut desk, Verdict::Healthy);
    assert!(due(&desk, 120));
}

/// Ready, then not: who pages, and that it ends.
#[test]
fn the_team_is_paged_when_it_turns_to_not_ready() {
    let mut quiet = service(None);
    quiet.mode = Mode::Ask;
    let mut core = Core::new(Arc::new(quiet));
    let now = Time::parse("2026-11-22T20:00:00Z").unwrap();
    let mut seq = 0;
    let mut kinds = Vec::new();
    let mut commit = |core: &mut Core, bodies: Vec<RecordBody>| {
        for body in bodies {
            seq += 1;
            kinds.push(body.kind());
            core.committed(&Record {
                format: FORMAT,
                chain: "shop".into(),
                seq: Seq(seq),
                epoch: Epoch(1),
                at: now,
                prev: String::new(),
                body,
            });
        }
    };
    let start = core.start("0.1.0", now);
    commit(&mut core, start);
    for items in [fine(), bad(CheckStatus::Fail), fine()] {
        let event = crate::decide::event::Event::Checked {
            config: ConfigHash::new("c1"),
            plan: None,
            items,
        };
        let mut records = core.step(event, now).records;
        while !records.is_empty() {
            commit(&mut core, records);
            records = core.step(crate::decide::event::Event::Tick, now).records;
        }
    }
    let story: Vec<_> = kinds
        .into_iter()
        .filter(|k| ["checked", "readinessTurned", "pageRaised", "pageClosed"].contains(k))
        .collect();
    assert_eq!(
        story,
        [
            "checked",
            "readinessTurned",
            "checked",
            "readinessTurned",
            "pageRaised",
            "checked",
            "readinessTurned",
            "pageClosed"
        ]
    );
}
