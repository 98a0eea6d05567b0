//! Scripts: a service's life as text. `> ` lines are what happens, the lines below are what the core records and does.
//!
//! ```text
//! > down db a b c        these vantage points see the component down, often enough
//! > up db a              … up
//! > blind db a           … cannot tell
//! > wait 30s             time passes
//! > lag 500              the standby lacks so many bytes
//! > stays fence          the step's effect could not be taken back
//! > promoted             somebody promotes the standby past the controller
//! > channel broken       announcements cannot be sent until `channel mended`
//! > done fence           the step's effect came out as done
//! ```

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use super::{
    core::Core,
    event::{Command, Effect, Event, Reply},
};
use crate::model::{
    announcement::Tally,
    approval::{ApprovalPolicy, OnTimeout, Person},
    check::CheckItem,
    guard::{Boot, Database, FirstHand, Promise, Report, Role},
    id::{AnnouncementId, ChannelName, ConfigHash, Epoch, PageId, PlanHash, Seq},
    observation::{DatabaseFacts, DatabaseRole, Evidence, Facts, Lsn, Observation, Sight},
    plan::{Action, OnFailure, Retry, RunKind, StepPhase, Uses},
    readiness::ReadinessPolicy,
    record::{FORMAT, Record, RecordBody},
    service::{
        Announcements, Channel, Component, ComponentKind, Gates, Looker, Mode, Objectives, OverRpo,
        Probe, Quorum, Runbook, RunbookStep, Service, Team, Trigger, VantagePoint, Via,
    },
    site::{Location, Site, SiteRole},
    span::Span,
    step::{Presence, Proof, Rung, StepResult, WRITE, WRITE_UNANSWERED},
    time::Time,
};

fn uses(kind: &str) -> Uses {
    Uses {
        uses: kind.into(),
        with: serde_json::Value::Null,
    }
}

fn site(name: &str, role: SiteRole) -> Site {
    Site {
        name: name.into(),
        role,
        location: Location::default(),
        addresses: Vec::new(),
        url: Some(format!("https://{name}.example")),
    }
}

fn probe(id: &str, at: &str, evidence: Evidence) -> Probe {
    Probe {
        id: id.into(),
        action: uses("probe/test"),
        site: Some(at.into()),
        cold: false,
        evidence,
        every: Span::from_secs(1),
        timeout: Span::from_secs(1),
        from: Vec::new(),
    }
}

fn step(
    id: &str,
    phase: StepPhase,
    kind: &str,
    needs: &[&str],
    on_failure: OnFailure,
) -> RunbookStep {
    RunbookStep {
        id: id.into(),
        name: id.to_owned(),
        phase,
        action: Action::Adapter(uses(kind)),
        both_ways: !matches!(phase, StepPhase::Fence | StepPhase::Promote),
        sites: BTreeMap::new(),
        needs: needs.iter().map(|n| (*n).into()).collect(),
        instead_of: None,
        timeout: Span::from_secs(10),
        retry: Retry {
            attempts: 2,
            backoff: Span::from_secs(1),
        },
        on: if phase == StepPhase::Fence || phase == StepPhase::Promote {
            vec![RunKind::Failover]
        } else {
            vec![RunKind::Failover, RunKind::Redirect]
        },
        on_failure,
    }
}

/// A shop with a database at `ams` and `fra`, seen from networks a, b and c.
pub(super) fn shop() -> Service {
    let vantage = |n: &str| VantagePoint {
        name: n.into(),
        network: n.into(),
        looker: Looker::Controller(Via::Direct),
        sentinels: Vec::new(),
    };
    Service {
        name: "shop".into(),
        title: "Shop".to_owned(),
        mode: Mode::Automatic,
        objectives: Objectives {
            rto: Span::from_secs(300),
            rpo: Span::from_secs(30),
            availability: None,
            response_time: None,
        },
        sites: vec![
            site("ams", SiteRole::Primary),
            site("fra", SiteRole::Standby),
        ],
        residency: Vec::new(),
        vantage_points: vec![vantage("a"), vantage("b"), vantage("c")],
        quorum: Quorum {
            networks: 2,
            failures: 2,
            successes: 2,
        },
        components: vec![
            Component {
                name: "web".into(),
                title: "Web".to_owned(),
                kind: ComponentKind::Application,
                probes: vec![
                    probe("web-ams", "ams", Evidence::Outside),
                    probe("web-fra", "fra", Evidence::Outside),
                ],
            },
            Component {
                name: "db".into(),
                title: "Data".to_owned(),
                kind: ComponentKind::Database,
                probes: vec![
                    probe("db-ams", "ams", Evidence::Database),
                    probe("db-fra", "fra", Evidence::Database),
                    probe("stream", "fra", Evidence::Stream),
                ],
            },
        ],
        trigger: Trigger::Immediate,
        gates: Gates {
            max_lag_age: Span::from_secs(60),
            over_rpo: OverRpo::Ask,
            maintenance: Vec::new(),
        },
        fencing: Rung::Infrastructure,
        guards: None,
        dns: None,
        publication: None,
        announcements: Announcements {
            channels: vec![Channel {
                name: "x".into(),
                action: uses("announce/x"),
                phases: vec![
                    crate::model::announcement::Phase::FailingOver,
                    crate::model::announcement::Phase::OnStandby,
                ],
            }],
            templates: BTreeMap::new(),
            symptom: "the shop cannot be reached".to_owned(),
            cadence: Span::from_secs(1200),
            long_cadence: None,
        },
        team: Team {
            people: ["anna", "ben"].map(Person::named).to_vec(),
            channels: vec![Channel {
                name: "pager".into(),
                action: uses("announce/sms"),
                phases: Vec::new(),
            }],
            chat: None,
            repeat: Span::from_secs(300),
            escalation: Vec::new(),
        },
        approvals: ApprovalPolicy {
            required: 1,
            approvers: vec!["anna".into(), "ben".into()],
            break_glass: vec!["anna".into()],
            expiry: Span::from_secs(900),
            on_timeout: OnTimeout::Hold,
        },
        runbook: Runbook {
            name: "test".into(),
            title: "Test".to_owned(),
            steps: vec![
                step(
                    "fence",
                    StepPhase::Fence,
                    "command/fence",
                    &[],
                    OnFailure::Ask,
                ),
                step(
                    "attempt",
                    StepPhase::Fence,
                    "postgres/write-attempt",
                    &["fence"],
                    OnFailure::Stop,
                ),
                step(
                    "promote",
                    StepPhase::Promote,
                    "postgres/promote",
                    &["attempt"],
                    OnFailure::Stop,
                ),
                step(
                    "repoint",
                    StepPhase::Traffic,
                    "dns/repoint",
                    &["promote"],
                    OnFailure::Ask,
                ),
                step(
                    "verify",
                    StepPhase::Verify,
                    "service/verify",
                    &["promote"],
                    OnFailure::Ask,
                ),
                step(
                    "fallback",
                    StepPhase::Tell,
                    "publish/fallback",
                    &["verify"],
                    OnFailure::Continue,
                ),
            ],
        },
        backups: None,
        drills: Vec::new(),
        readiness: ReadinessPolicy::default(),
        group: None,
        config: ConfigHash::new("c1"),
    }
}

/// Runs a script and writes down what the core did.
struct Stage {
    core: Core,
    now: Time,
    log: Vec<Record>,
    out: String,
    lsn: u64,
    /// Bytes that the standby lacks.
    lag: u64,
    synchronous: bool,
    /// Whether the database at `fra` was promoted.
    promoted: bool,
    /// Whether the database at `ams` follows it.
    turned: bool,
    /// Why the channel cannot send.
    broken: Option<String>,
    /// Pages as they were sent, each with its round.
    sent: Vec<(PageId, u32)>,
    /// Which pages were said to be over, together.
    over: Vec<Vec<PageId>>,
}

impl Stage {
    fn new(service: Service) -> Self {
        let now = Time::parse("2026-11-21T03:00:00Z").unwrap();
        let mut stage = Self {
            core: Core::new(Arc::new(service)),
            now,
            log: Vec::new(),
            out: String::new(),
            lsn: 1000,
            lag: 0,
            synchronous: false,
            promoted: false,
            turned: false,
            broken: None,
            sent: Vec::new(),
            over: Vec::new(),
        };
        let opening = stage.core.start("test", now);
        stage.commit(opening);
        stage.out.clear();
        stage
    }

    /// The same journal in a new process.
    fn restart(&mut self) {
        let service = self.core.service().clone();
        let mut core = Core::new(service);
        for record in &self.log {
            core.replay(record);
        }
        self.core = core;
        let opening = self.core.start("test", self.now);
        self.commit(opening);
        self.settle(Event::Tick);
    }

    fn commit(&mut self, bodies: Vec<RecordBody>) {
        for body in bodies {
            let state = self.core.state();
            let record = Record {
                format: FORMAT,
                chain: "shop".into(),
                seq: Seq(state.seq.0 + 1),
                epoch: state.epoch,
                at: self.now,
                prev: String::new(),
                body,
            };
            self.say(&record);
            self.core.committed(&record);
            self.log.push(record);
        }
    }

    fn say(&mut self, record: &Record) {
        let text = match &record.body {
            RecordBody::VerdictChanged { component, to, .. } => format!("{component} {to}"),
            RecordBody::IncidentOpened { .. } => "incident opened".to_owned(),
            RecordBody::IncidentClosed { .. } => "incident closed".to_owned(),
            RecordBody::Held { reasons, .. } => format!("held: {}", reasons.join("; ")),
            RecordBody::WouldAct { kind, .. } => format!("would {kind}"),
            RecordBody::AskOpened { ask, .. } => format!("ask: {}", ask.reasons.join("; ")),
            RecordBody::Approved { by, .. } => format!("approved by {by}"),
            RecordBody::AskClosed { outcome, .. } => format!("ask closed: {outcome:?}")
                .split(" {")
                .next()
                .unwrap_or_default()
                .to_owned(),
            RecordBody::RunOpened { kind, plan, .. } => {
                format!("run opened: {kind} {} -> {}", plan.from, plan.to)
            }
            RecordBody::EpochRaised {
                epoch, evidence, ..
            } => format!("epoch {epoch}: {evidence}"),
            RecordBody::EpochOpened { terms, reason } => {
                format!("epoch {} at {}: {reason}", terms.epoch, terms.site)
            }
            RecordBody::TakenOver { epoch, by, .. } => format!("taken over by {by}, epoch {epoch}"),
            RecordBody::EpochHeld { site, epoch } => format!("epoch {epoch} held at {site}"),
            RecordBody::StepIntent { step, attempt, .. } => format!("intent {step} {attempt}"),
            RecordBody::StepOutcome { step, result, .. } => match result {
                StepResult::Done(_) => format!("{step} done"),
                StepResult::Failed { .. } => format!("{step} failed"),
                StepResult::Indeterminate { .. } => format!("{step} indeterminate"),
            },
            RecordBody::StepObserved { step, presence, .. } => match presence {
                Presence::InPlace(_) => format!("{step} seen in place"),
                Presence::Absent { .. } => format!("{step} seen absent"),
                Presence::Unknown { .. } => format!("{step} not seen"),
            },
            RecordBody::StepSettled { step, how, .. } => format!("{step} settled: {how:?}")
                .split(" {")
                .next()
                .unwrap_or_default()
                .to_owned(),
            RecordBody::Attested { by, statement, .. } => format!("attested by {by}: {statement}"),
            RecordBody::Unwinding { reason, .. } => format!("unwinding: {reason}"),
            RecordBody::Verified {
                downtime,
                within_rto,
                ..
            } => format!("verified after {downtime}, within RTO {within_rto}"),
            RecordBody::RunClosed {
                outcome, active, ..
            } => format!("run closed: {outcome:?} at {active}"),
            RecordBody::PhaseEntered {
                phase,
                announcement,
            } => {
                let url = announcement
                    .fallback_url
                    .as_deref()
                    .map(|u| format!(" with {u}"))
                    .unwrap_or_default();
                format!("tell: {phase}{url}")
            }
            RecordBody::AnnouncementSettled {
                announcement,
                tallies,
            } if tallies.values().any(|t| t.queued > 0) => format!("{announcement} given up"),
            RecordBody::Moved { site, epoch, .. } => format!("moved to {site}, epoch {epoch}"),
            RecordBody::FailoverAcknowledged { by } => format!("acknowledged by {by}"),
            RecordBody::DrillOpened { drill, .. } => {
                format!("drill opened: {} ({})", drill.policy, drill.depth)
            }
            RecordBody::DrillJudged {
                outcome, reasons, ..
            } => format!("drill {outcome}: {}", reasons.join("; ")),
            RecordBody::DrillClosed { left, .. } => format!("drill closed {}", left.join("; ")),
            RecordBody::DrillSkipped { policy, reason, .. } => {
                format!("drill {policy} left out: {reason}")
            }
            RecordBody::ControllerStarted { .. }
            | RecordBody::DocumentsChanged { .. }
            | RecordBody::ModeChanged { .. }
            | RecordBody::Checked { .. }
            | RecordBody::ReadinessTurned { .. }
            | RecordBody::AnnouncementSettled { .. }
            | RecordBody::PageRaised { .. }
            | RecordBody::TeamPaged { .. }
            | RecordBody::PageClosed { .. }
            | RecordBody::Paused { .. }
            | RecordBody::Resumed { .. }
            | RecordBody::TtlChanged { .. }
            | RecordBody::BackupVerified { .. }
            | RecordBody::BackupTaken { .. }
            | RecordBody::BackupsJudged { .. }
            | RecordBody::LeaderTaken { .. }
            | RecordBody::JournalResumed { .. }
            | RecordBody::Group(_)
            | RecordBody::LossMeasured { .. }
            | RecordBody::Refused { .. }
            | RecordBody::Declared { .. }
            | RecordBody::Resolved { .. }
            | RecordBody::DutyTaken { .. }
            | RecordBody::HandOverOffered { .. }
            | RecordBody::Note { .. } => return,
        };
        writeln!(self.out, "  {text}").unwrap();
    }

    fn settle(&mut self, event: Event) {
        let mut event = event;
        for _ in 0..200 {
            let out = self.core.step(event, self.now);
            if let Some(Reply::Refused(refusal)) = &out.reply {
                writeln!(self.out, "  refused: {refusal}").unwrap();
            }
            let again = !out.records.is_empty() || out.reply.is_some();
            self.commit(out.records);
            for effect in out.effects {
                match effect {
                    Effect::Perform(call) => writeln!(self.out, "  perform {}", call.step).unwrap(),
                    Effect::Observe(call) => writeln!(self.out, "  observe {}", call.step).unwrap(),
                    Effect::Undo(call) => writeln!(self.out, "  undo {}", call.step).unwrap(),
                    Effect::Break(_) => writeln!(self.out, "  break off").unwrap(),
                    Effect::Announce(id) => self.announce(id),
                    Effect::Page(message) => self.page(message),
                    Effect::PageOver(pages) => self.over.push(pages),
                }
            }
            if !again {
                return;
            }
            event = Event::Tick;
        }
        panic!("the core does not come to rest:\n{}", self.out);
    }

    fn page(&mut self, message: Seq) {
        let message = &self.core.state().pager.messages[&message];
        let pages = message.pages.iter();
        self.sent
            .extend(pages.map(|(id, round)| (id.clone(), *round)));
    }

    fn announce(&mut self, id: AnnouncementId) {
        let broken: BTreeMap<ChannelName, String> = self
            .broken
            .iter()
            .map(|why| ("x".into(), why.clone()))
            .collect();
        let mut tally = Tally::default();
        if broken.is_empty() {
            tally.sent = 1;
        } else {
            tally.queued = 1;
            writeln!(self.out, "  {id} cannot be sent").unwrap();
        }
        self.settle(Event::Announced {
            announcement: id,
            tallies: [("x".into(), tally)].into(),
            broken,
        });
    }

    fn look(&mut self, component: &str, who: &[&str], sight: Sight) {
        let probes: Vec<String> = match component {
            "web" => vec!["web-ams".to_owned()],
            "db" => vec!["db-ams".to_owned(), "stream".to_owned()],
            other => vec![other.to_owned()],
        };
        for probe in probes {
            for vantage in who {
                let facts = self.facts(&probe, sight);
                let seen = Observation {
                    at: self.now,
                    vantage: (*vantage).into(),
                    probe: probe.as_str().into(),
                    sight,
                    detail: sight.to_string(),
                    latency: Some(Span::from_millis(20)),
                    facts,
                };
                self.settle(Event::Observed(seen));
            }
        }
    }

    fn facts(&self, probe: &str, sight: Sight) -> Facts {
        let role = match (probe, sight) {
            ("db-fra", Sight::Up | Sight::Down) if self.promoted => DatabaseRole::Primary,
            ("stream" | "db-fra" | "db-waw", Sight::Up | Sight::Down) => DatabaseRole::Standby,
            ("db-ams", Sight::Up) if self.turned => DatabaseRole::Standby,
            ("db-ams", Sight::Up) => DatabaseRole::Primary,
            _ => return Facts::default(),
        };
        let lsn = Some(Lsn(self.lsn));
        let lag = if probe == "db-waw" { 0 } else { self.lag };
        let received = Some(Lsn(self.lsn - lag));
        let database = DatabaseFacts {
            role,
            timeline: Some(1),
            current: lsn,
            received,
            replayed: received,
            streaming: None,
            replay_age: None,
            heard: None,
            synchronous: (role == DatabaseRole::Primary).then_some(self.synchronous),
        };
        Facts {
            database: Some(database),
            ..Facts::default()
        }
    }

    /// What the guard of a site says: `lost` where it has no promise, `loose` where nothing enforces its leases.
    fn guard(&mut self, site: &str, role: &str, epoch: &str) {
        let role_of = |role: &str| match role {
            "primary" => Role::Primary,
            "fenced" => Role::Fenced,
            _ => Role::Standby,
        };
        let promise = Promise {
            epoch: Epoch(epoch.parse().unwrap()),
            role: role_of(role),
            ..Promise::first()
        };
        self.settle(Event::Guard(Box::new(Report {
            site: site.into(),
            boot: Boot(1),
            promise: (role != "lost").then_some(promise),
            database: (role == "primary").then_some(Database::Writable),
            answers: true,
            seen: FirstHand::default(),
            can_fence: true,
            kill: (role != "loose").then_some(Span::from_millis(20)),
            leased: false,
            drained: None,
            resync: None,
        })));
    }

    fn play(&mut self, script: &str) -> String {
        for line in script.lines().map(str::trim).filter(|l| !l.is_empty()) {
            writeln!(self.out, "> {line}").unwrap();
            let words: Vec<&str> = line.split_whitespace().collect();
            self.line(&words);
        }
        std::mem::take(&mut self.out)
    }

    fn line(&mut self, words: &[&str]) {
        match words {
            ["well"] => {
                for component in ["web", "db", "web-fra", "db-fra"] {
                    self.look(component, &["a", "b", "c"], Sight::Up);
                    self.look(component, &["a", "b", "c"], Sight::Up);
                }
            }
            [what @ ("up" | "down" | "blind"), component, who @ ..] => {
                let sight = match *what {
                    "up" => Sight::Up,
                    "down" => Sight::Down,
                    _ => Sight::Unknown,
                };
                self.look(component, who, sight);
                self.look(component, who, sight);
            }
            ["channel", "broken"] => self.broken = Some("no credit".to_owned()),
            ["channel", "mended"] => self.broken = None,
            ["wait", span] => {
                self.now = self.now.after(span.parse().unwrap());
                self.settle(Event::Tick);
            }
            ["check", "green"] => self.settle(Event::Checked {
                config: ConfigHash::new("c1"),
                plan: None,
                items: vec![CheckItem::ok("all", "fine")],
            }),
            [
                what @ ("done" | "kept" | "failed" | "silent" | "unclear"),
                step,
            ] => {
                self.promoted |= (*what, *step) == ("done", "promote");
                if (*what, *step) == ("done", "follow") {
                    self.turned = !self.turned;
                    self.promoted = self.turned;
                }
                let result = match (*what, *step) {
                    ("done", "fence") => {
                        StepResult::Done(Proof::new("off").reaching(Rung::Infrastructure))
                    }
                    ("done", "fallback") => {
                        StepResult::Done(Proof::new("works").with("url", "https://fra.example"))
                    }
                    ("kept", _) => StepResult::Done(
                        Proof::new("follows")
                            .with("salvage.commits", "3")
                            .with("salvage.bytes", "4096"),
                    ),
                    ("silent", _) => {
                        StepResult::Done(Proof::new("nobody answers").with(WRITE, WRITE_UNANSWERED))
                    }
                    ("done", _) => StepResult::done("ok"),
                    ("failed", _) => StepResult::failed("no"),
                    _ => StepResult::indeterminate("no answer"),
                };
                let (run, attempt) = self.call(step);
                self.settle(Event::Performed {
                    run,
                    step: (*step).into(),
                    attempt,
                    result,
                    took: Span::from_millis(100),
                });
            }
            [what @ ("inplace" | "absent" | "unseen"), step] => {
                self.promoted |= (*what, *step) == ("inplace", "promote");
                let presence = match (*what, *step) {
                    ("inplace", "fence") => {
                        Presence::InPlace(Proof::new("off").reaching(Rung::Infrastructure))
                    }
                    ("inplace", _) => Presence::in_place("there"),
                    ("absent", _) => Presence::absent("not there"),
                    _ => Presence::unknown("cannot see"),
                };
                let (run, attempt) = self.call(step);
                self.settle(Event::Looked {
                    run,
                    step: (*step).into(),
                    attempt,
                    presence,
                    took: Span::from_millis(100),
                });
            }
            [what @ ("undone" | "stays"), step] => {
                let (run, _) = self.call(step);
                let result = if *what == "undone" {
                    StepResult::done("started again")
                } else {
                    StepResult::failed("no answer")
                };
                self.settle(Event::Undone {
                    run,
                    step: (*step).into(),
                    result: Some(result),
                });
            }
            ["guard", site, role, epoch] => self.guard(site, role, epoch),
            ["takenover", by] => {
                let epoch = self.core.state().after_takeover();
                self.commit(vec![RecordBody::TakenOver {
                    epoch,
                    by: (*by).into(),
                    reason: "a fire".to_owned(),
                }]);
                self.restart();
            }
            ["held", site, epoch] => self.settle(Event::Held {
                site: (*site).into(),
                epoch: Epoch(epoch.parse().unwrap()),
            }),
            ["promoted"] => self.promoted = true,
            ["lag", bytes] => self.lag = bytes.parse().unwrap(),
            ["restart"] => self.restart(),
            ["approve", by, reason @ ..] => {
                let reason = Some(reason.join(" ")).filter(|r| !r.is_empty());
                self.settle(Event::Command(Command::Approve {
                    ask: None,
                    by: (*by).into(),
                    user: None,
                    reason,
                    break_glass: false,
                }));
            }
            ["sign", by, user] => self.settle(Event::Command(Command::Approve {
                ask: None,
                by: (*by).into(),
                user: Some((*user).into()),
                reason: None,
                break_glass: false,
            })),
            ["deny", by] => self.settle(Event::Command(Command::Deny {
                ask: None,
                by: (*by).into(),
                reason: None,
            })),
            ["abort", by] => self.settle(Event::Command(Command::Abort {
                by: (*by).into(),
                reason: "wrong".to_owned(),
            })),
            ["ack", by] => self.settle(Event::Command(Command::Acknowledge {
                page: None,
                by: (*by).into(),
            })),
            ["takeover", by] => self.settle(Event::Command(Command::TakeOver {
                by: (*by).into(),
                reason: "objects were restored".to_owned(),
            })),
            ["moved", site, by] => self.settle(Event::Command(Command::Moved {
                site: (*site).into(),
                by: (*by).into(),
                reason: "by hand".to_owned(),
            })),
            ["pause", by] => self.settle(Event::Command(Command::Pause {
                by: (*by).into(),
                reason: "work".to_owned(),
            })),
            ["lower", by] => self.settle(Event::Command(Command::SetMode {
                mode: Mode::Ask,
                by: (*by).into(),
                reason: "work".to_owned(),
            })),
            ["open", by, kind @ ..] => self.settle(Event::Command(Command::Open {
                kind: match kind {
                    ["switchover"] => RunKind::Switchover,
                    ["failback"] => RunKind::Failback,
                    _ => RunKind::Failover,
                },
                to: None,
                plan: match kind {
                    ["plan", hash] => Some(PlanHash::from(*hash)),
                    _ => None,
                },
                by: (*by).into(),
                reason: "drill".to_owned(),
            })),
            ["drill", by, name @ ..] => self.settle(Event::Command(Command::Drill {
                policy: name.first().map(|n| (*n).into()),
                by: (*by).into(),
                reason: "to see".to_owned(),
            })),
            ["stop", by] => self.settle(Event::Command(Command::StopDrill {
                by: (*by).into(),
                reason: "enough".to_owned(),
            })),
            ["recovered", by] => self.settle(Event::Command(Command::Announce {
                phase: crate::model::announcement::Phase::Recovered,
                text: None,
                by: (*by).into(),
            })),
            other => panic!("no such line: {other:?}"),
        }
    }

    fn call(&self, step: &str) -> (crate::model::id::RunId, crate::model::id::Attempt) {
        let mut runs = self.core.state().runs();
        let run = runs.find(|r| r.plan.step(&step.into()).is_some());
        let run = run.expect("a run with this step");
        let attempt = match run.steps.get(&step.into()) {
            Some(
                super::state::Step::Intended { attempt }
                | super::state::Step::Indeterminate { attempt, .. },
            ) => *attempt,
            _ => crate::model::id::Attempt(1),
        };
        (run.id.clone(), attempt)
    }
}

/// Plays a script against the shop.
fn play(script: &str) -> String {
    Stage::new(shop()).play(script)
}

mod cases;
mod drills;
mod ends;
mod faults;
mod guards;
mod live;
mod paging;
mod patience;
mod people;
mod planned;
mod telling;
