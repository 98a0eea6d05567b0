//! Faults that must not lead to a failover, played to a copy of the core that nobody listens to.
//!
//! The copy sees what is seen now, doctored by the fault, over as much virtual time as it takes. What it would do is read
//! off its records; none of them is written down, and none of its effects is performed. Where the strength of a fault is
//! not given, the worst is taken: a stall is seen by each kind of evidence at once, and nothing that the standby lacks
//! speaks against promoting it.

use crate::{
    decide::{
        core::Core,
        detect,
        event::Event,
        gate, incident,
        state::State,
        view::{Position, View},
    },
    model::{
        approval::AskSubject,
        fault::{Fault, Injected, Turned},
        observation::{DatabaseRole, Evidence, Facts, Lsn, Observation, Sight},
        plan::{Plan, RunKind},
        record::{FORMAT, Record, RecordBody},
        service::{Component, Probe, Service, Trigger, VantagePoint},
        span::Span,
        time::Time,
    },
};

/// A question waits no longer than this for its answer: whether silence is a yes does not hang on how long it lasted.
const SILENCE: Span = Span::from_secs(30);
/// Besides what the probes need, so long is waited for what follows from a fault.
const MARGIN: Span = Span::from_secs(15);
/// What is closer together than this shows nothing more.
const DENSEST: Span = Span::from_millis(100);
/// What the standby lacks where it lags: a WAL segment.
const LACKS: u64 = 16 << 20;
/// Decisions at one moment, at most.
const DECISIONS: usize = 200;

/// What each fault would come to now.
#[must_use]
pub fn play(
    service: &Service,
    state: &State,
    view: &View,
    faults: &[Fault],
    now: Time,
) -> Vec<Injected> {
    let one = |fault| Shadow::new(service, state, view, fault, now).play();
    faults.iter().map(one).collect()
}

/// A core that a fault is played to.
struct Shadow<'a> {
    fault: &'a Fault,
    core: Core,
    eyes: Vec<Eye>,
    began: Time,
    /// When the fault is over; none where it is not.
    until: Option<Time>,
    now: Time,
    verdicts: Vec<Turned>,
    /// Why nothing was done, as the core said last.
    held: Vec<String>,
    /// Whether an incident opened.
    opened: bool,
    /// What the core did, or asked whether it may.
    deeds: Vec<Deed>,
}

/// One vantage point that looks through one probe.
struct Eye {
    every: Span,
    next: Time,
    /// What it sees while nothing is wrong.
    well: Observation,
    /// What it sees while the fault lasts; none where the fault does not touch it.
    hit: Option<Sight>,
    evidence: Evidence,
}

/// Something that a core does about an outage.
struct Deed {
    how: How,
    /// In words, such as `a failover to west`.
    what: String,
    kind: RunKind,
    after: Span,
    reasons: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Began,
    Asked,
    /// In the mode `observe`.
    WouldBegin,
}

impl<'a> Shadow<'a> {
    fn new(service: &Service, state: &State, view: &View, fault: &'a Fault, began: Time) -> Self {
        let mut eyes = eyes(service, state, view, fault, began);
        let mut view = view.clone();
        match fault {
            Fault::StandbyLag { by } => lag(&mut view, &mut eyes, *by, began),
            Fault::VantageBlind { .. } | Fault::Stall { .. } => keep_up(&view, &mut eyes),
        }
        Self {
            fault,
            core: Core::shadow(doctored(service, fault), state, &view),
            eyes,
            began,
            until: match fault {
                Fault::VantageBlind { lasts, .. } | Fault::Stall { lasts, .. } => {
                    Some(began.after(*lasts))
                }
                Fault::StandbyLag { .. } => None,
            },
            now: began,
            verdicts: Vec::new(),
            held: Vec::new(),
            opened: false,
            deeds: Vec::new(),
        }
    }

    fn play(mut self) -> Injected {
        let end = self
            .until
            .unwrap_or(self.began)
            .after(aftermath(self.core.service()));
        while self.now <= end && !self.is_over() {
            let wake = self.look();
            let next = self.eyes.iter().map(|e| e.next).chain(wake).min();
            self.now = next.unwrap_or(end).max(self.now.after(DENSEST));
        }
        let wrong = match self.fault {
            Fault::StandbyLag { by } => self.promoted(*by),
            Fault::VantageBlind { .. } | Fault::Stall { .. } => self.acted(),
        };
        Injected {
            fault: self.fault.clone(),
            came: self.came(),
            verdicts: self.verdicts,
            wrong,
        }
    }

    /// Everyone whose turn it is looks, and the core decides; when it wants to be called again.
    fn look(&mut self) -> Option<Time> {
        let now = self.now;
        let lasts = self.until.is_none_or(|until| now <= until);
        for eye in self.eyes.iter_mut().filter(|e| e.next <= now) {
            self.core
                .observe(eye.look(now, lasts, now.since(self.began)));
            eye.next = now.after(eye.every);
        }
        for _ in 0..DECISIONS {
            let out = self.core.step(Event::Tick, now);
            if out.records.is_empty() {
                return out.wake.map(|w| w.at);
            }
            for body in out.records {
                self.note(&body);
                let state = self.core.state();
                let record = Record {
                    format: FORMAT,
                    chain: self.core.service().name.clone(),
                    seq: state.seq.next(),
                    epoch: state.epoch,
                    at: now,
                    prev: String::new(),
                    body,
                };
                self.core.committed(&record);
            }
            if self.is_over() {
                break;
            }
        }
        None
    }

    fn note(&mut self, body: &RecordBody) {
        let after = self.now.since(self.began);
        let deed = |how, kind: RunKind, plan: Option<&Plan>, reasons: &[String]| Deed {
            how,
            what: plan.map_or_else(|| format!("a {kind}"), |p| format!("a {kind} to {}", p.to)),
            kind,
            after,
            reasons: reasons.to_vec(),
        };
        if let RecordBody::VerdictChanged { component, to, .. } = body {
            self.verdicts.push(Turned {
                component: component.clone(),
                to: *to,
                after,
            });
        }
        if let RecordBody::IncidentOpened { .. } = body {
            self.opened = true;
        }
        if let RecordBody::Held { reasons, .. } = body
            && !reasons.is_empty()
        {
            self.held.clone_from(reasons);
        }
        if let RecordBody::RunOpened { kind, plan, .. } = body {
            self.deeds.push(deed(How::Began, *kind, Some(plan), &[]));
        }
        if let RecordBody::AskOpened { ask, plan, .. } = body
            && let AskSubject::Open { kind } = ask.subject
            // Asked again when nobody answered, it is the same question.
            && !self.deeds.iter().any(|d| d.how == How::Asked && d.kind == kind)
        {
            let asked = deed(How::Asked, kind, plan.as_deref(), &ask.reasons);
            self.deeds.push(asked);
        }
        if let RecordBody::WouldAct {
            kind, plan, gates, ..
        } = body
        {
            self.deeds
                .push(deed(How::WouldBegin, *kind, Some(plan), gates));
        }
    }

    /// Whether nothing more can follow that counts.
    fn is_over(&self) -> bool {
        let began = |d: &Deed| d.how == How::Began;
        let Some(until) = self.until else {
            return self.deeds.iter().any(began);
        };
        let well = || incident::well(self.core.service(), self.core.state());
        !self.deeds.is_empty() || (self.now > until && well())
    }

    /// What was done or asked for although nothing is to happen.
    fn acted(&self) -> Option<String> {
        self.deeds.first().map(Deed::sentence)
    }

    /// Whether the standby was promoted although too much is missing from it, or would be if nothing else held it.
    fn promoted(&self, by: Span) -> Option<String> {
        let rpo = self.core.service().objectives.rpo;
        let beyond = format!("although {by} of writes are missing, beyond the RPO of {rpo}");
        let mut deeds = self.deeds.iter();
        if let Some(deed) = deeds.find(|d| d.how == How::Began && d.kind != RunKind::Redirect) {
            return Some(format!("{}, {beyond}", deed.sentence()));
        }
        let gate = self.gate()?;
        (gate.says == gate::Says::Allow)
            .then(|| format!("the gate of the RPO lets a failover pass, {beyond}"))
    }

    /// What the gate of the RPO says to a failover now.
    fn gate(&self) -> Option<gate::Answer> {
        let (service, state, view) = (self.core.service(), self.core.state(), self.core.view());
        let kind = RunKind::Failover;
        let found = incident::propose(service, state, view, kind, None, self.began, self.now);
        let answers = found.ok()?.answers;
        answers.into_iter().find(|a| a.gate == "rpo")
    }

    /// What followed, in one sentence.
    fn came(&self) -> String {
        let mut said: Vec<String> = self
            .verdicts
            .iter()
            .map(|t| format!("{} was {} after {}", t.component, t.to, t.after))
            .collect();
        if said.is_empty() {
            said.push("no verdict changed".to_owned());
        }
        if self.opened {
            said.push("an incident was opened".to_owned());
        }
        said.extend(self.deeds.iter().map(Deed::with_reasons));
        if !self.held.is_empty() && self.deeds.is_empty() {
            said.push(format!("it was held: {}", self.held.join("; ")));
        }
        if self.deeds.iter().all(|d| d.how != How::Began) {
            said.push("nothing was begun".to_owned());
        }
        said.join("; ")
    }
}

impl Deed {
    fn sentence(&self) -> String {
        let how = match self.how {
            How::Began => "began",
            How::Asked => "was asked for",
            How::WouldBegin => "would have begun, were the mode not observe",
        };
        format!("{} {how} after {}", self.what, self.after)
    }

    fn with_reasons(&self) -> String {
        if self.reasons.is_empty() {
            return self.sentence();
        }
        format!("{} ({})", self.sentence(), self.reasons.join("; "))
    }
}

impl Eye {
    fn look(&self, now: Time, lasts: bool, since: Span) -> Observation {
        let mut seen = self.well.clone();
        seen.at = now;
        let Some(sight) = self.hit.filter(|_| lasts) else {
            return seen;
        };
        seen.sight = sight;
        "injected by a drill".clone_into(&mut seen.detail);
        seen.latency = None;
        match (self.evidence, sight) {
            // Whoever looks at the standby sees it still; it hears nothing any more.
            (Evidence::Stream, Sight::Down) => {
                if let Some(database) = &mut seen.facts.database {
                    database.streaming = Some(false);
                    let heard = &mut database.heard;
                    *heard = heard.map(|(lsn, age)| (lsn, age.saturating_add(since)));
                }
            }
            (
                Evidence::Stream
                | Evidence::Outside
                | Evidence::Database
                | Evidence::Guard
                | Evidence::Cluster,
                _,
            ) => {
                seen.facts = Facts::default();
            }
        }
        seen
    }
}

/// Who looks through what, as each sees it now: what failed once and does not count yet, does not go on failing.
fn eyes(service: &Service, state: &State, view: &View, fault: &Fault, began: Time) -> Vec<Eye> {
    let mut out = Vec::new();
    for component in &service.components {
        for probe in &component.probes {
            for vantage in detect::lookers(service, probe) {
                let key = (vantage.name.clone(), probe.id.clone());
                let Some(voice) = view.voices.get(&key) else {
                    continue;
                };
                let mut well = voice.last.clone();
                well.sight = voice.says.sight();
                out.push(Eye {
                    every: probe.every.max(DENSEST),
                    next: began,
                    well,
                    hit: hit(state, fault, component, probe, vantage),
                    evidence: probe.evidence,
                });
            }
        }
    }
    out
}

/// What somebody sees through a probe while the fault lasts; none where it sees what it always does.
fn hit(
    state: &State,
    fault: &Fault,
    component: &Component,
    probe: &Probe,
    vantage: &VantagePoint,
) -> Option<Sight> {
    let is_of_active = || detect::relevant(component, state).any(|p| p.id == probe.id);
    match fault {
        Fault::VantageBlind { vantage: blind, .. } if *blind == vantage.name => {
            // Without sentinels it takes its own blindness for an outage of what it looks at.
            Some(if vantage.sentinels.is_empty() {
                Sight::Down
            } else {
                Sight::Unknown
            })
        }
        Fault::VantageBlind { .. } => None,
        Fault::Stall {
            component: only, ..
        } => {
            let is_meant = only.as_ref().is_none_or(|c| *c == component.name);
            (is_meant && is_of_active()).then_some(Sight::Down)
        }
        Fault::StandbyLag { .. } => is_of_active().then_some(Sight::Down),
    }
}

/// The service as the shadow has it: without drills of its own, and no more patient than it takes to see what follows.
fn doctored(service: &Service, fault: &Fault) -> Service {
    let mut service = service.clone();
    service.drills = Vec::new();
    let approvals = &mut service.approvals;
    approvals.expiry = approvals.expiry.min(SILENCE);
    match (fault, &service.trigger) {
        (Fault::StandbyLag { .. }, Trigger::Budget { .. }) => service.trigger = Trigger::Immediate,
        (Fault::StandbyLag { .. }, Trigger::Manual | Trigger::Immediate)
        | (Fault::VantageBlind { .. } | Fault::Stall { .. }, _) => {}
    }
    service
}

/// How long after a fault, or after it began where it does not end, something may still follow from it.
fn aftermath(service: &Service) -> Span {
    let probes = service.components.iter().flat_map(|c| &c.probes);
    let looks = u64::from(service.quorum.failures.max(service.quorum.successes)) + 2;
    let slowest = probes
        .map(|p| {
            let believed = p.every.saturating_mul(looks).saturating_add(p.timeout);
            believed.saturating_add(detect::shelf_life(p))
        })
        .max();
    let silence = service.approvals.expiry;
    slowest
        .unwrap_or(Span::ZERO)
        .saturating_add(silence)
        .saturating_add(MARGIN)
}

/// The standby has everything that the primary was seen to have written: nothing but the verdicts holds a failover.
fn keep_up(view: &View, eyes: &mut [Eye]) {
    let Some(last) = view.positions.back() else {
        return;
    };
    received(eyes, |lsn| lsn.max(last.lsn));
}

/// Every standby stopped receiving so long ago, and the primary wrote on.
fn lag(view: &mut View, eyes: &mut [Eye], by: Span, now: Time) {
    let known = view.positions.back();
    let (has, timeline) = known.map_or((Lsn(LACKS), None), |p| (p.lsn, p.timeline));
    received(eyes, |_| has);
    view.positions.clear();
    view.position(Position {
        at: now.before(by),
        lsn: has,
        timeline,
    });
    view.position(Position {
        at: now,
        lsn: Lsn(has.0 + LACKS),
        timeline,
    });
}

/// Changes what each standby has.
fn received(eyes: &mut [Eye], change: impl Fn(Lsn) -> Lsn) {
    let databases = eyes
        .iter_mut()
        .filter_map(|e| e.well.facts.database.as_mut());
    for database in databases.filter(|d| d.role == DatabaseRole::Standby) {
        database.received = database.received.map(&change);
        database.replayed = database.replayed.map(&change);
    }
}
