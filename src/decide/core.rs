//! The core of one service: event and time in, records and effects out.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    approve, backups, command, detect, drill, escalation,
    event::{Effect, Event, Output, Reply, Trouble, Wake},
    incident, lag, page, phase, readiness, restore, schedule,
    state::{State, Step},
    terms, turn,
    view::View,
};
use crate::model::{
    announcement::Tallies,
    guard::{Lease, Terms},
    id::{AnnouncementId, ChannelName, Epoch, RunId, SiteName, StepId},
    observation::Observation,
    page::PageTopic,
    record::{Record, RecordBody},
    service::Service,
    span::Span,
    step::Presence,
    time::Time,
};

/// Evidence ages: the core wants to be called at least this often.
const HEARTBEAT: Span = Span::from_secs(1);

/// The core of one service.
#[derive(Clone, Debug)]
pub struct Core {
    service: Arc<Service>,
    state: State,
    view: View,
}

impl Core {
    /// A core for a service, before its chain is replayed.
    #[must_use]
    pub fn new(service: Arc<Service>) -> Self {
        Self {
            service,
            state: State::default(),
            view: View::default(),
        }
    }

    /// A core that knows what another one does, for what nobody is to hear of.
    #[must_use]
    pub fn shadow(service: Service, state: &State, view: &View) -> Self {
        Self {
            service: Arc::new(service),
            state: state.clone(),
            view: view.clone(),
        }
    }

    /// The service.
    #[must_use]
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// What the journal says.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What was seen.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Takes in a record of an earlier process.
    pub fn replay(&mut self, record: &Record) {
        self.state.apply(record);
    }

    /// Takes in a record that this process made durable.
    pub fn committed(&mut self, record: &Record) {
        if let RecordBody::StepIntent {
            run, step, attempt, ..
        } = &record.body
        {
            let of = (run.clone(), step.clone());
            self.view.fresh.insert((of, *attempt));
        }
        if let RecordBody::RunClosed { run, .. } | RecordBody::DrillClosed { drill: run, .. } =
            &record.body
        {
            self.view.forget(run);
        }
        let before = (self.state.active.clone(), self.state.serving.clone());
        self.state.apply(record);
        if before.0.is_some() && before != (self.state.active.clone(), self.state.serving.clone()) {
            // Another site is judged now: everyone looks again before anything is concluded.
            self.view.voices.clear();
            self.view.positions.clear();
            self.view.timelines.clear();
            self.view.synchronous = None;
            self.view.started = Some(record.at);
        }
    }

    /// Begins to use changed documents. A run in flight keeps its plan; the mode is never raised by a change.
    #[must_use]
    pub fn reload(&mut self, service: Arc<Service>) -> Vec<RecordBody> {
        let record = RecordBody::DocumentsChanged {
            config: service.config.clone(),
            mode: service.mode,
        };
        let before = std::mem::replace(&mut self.service, service);
        self.view.voices.retain(|(_, probe), _| {
            let new = self.service.probe(probe).map(|(_, p)| p);
            new.is_some() && new == before.probe(probe).map(|(_, p)| p)
        });
        vec![record]
    }

    /// The records with which a process takes up the chain, after the replay.
    #[must_use]
    pub fn start(&mut self, version: &str, now: Time) -> Vec<RecordBody> {
        self.view.started = Some(now);
        let mut out = vec![RecordBody::ControllerStarted {
            version: version.to_owned(),
            config: self.service.config.clone(),
            active: self
                .state
                .active
                .is_none()
                .then(|| self.service.primary().map(|s| s.name.clone()))
                .flatten(),
            mode: self.service.mode,
        }];
        if self.state.starts > 0 {
            out.push(RecordBody::PageRaised {
                page: Box::new(page::restarted(&self.service, &self.state)),
            });
        }
        out
    }

    /// One decision. The caller makes `records` durable, passes each to [`Core::committed`], and calls again with
    /// `Event::Tick` until there are none; only an output without records has effects.
    pub fn step(&mut self, event: Event, now: Time) -> Output {
        match self.take(event, now) {
            (records, reply) if !records.is_empty() || reply.is_some() => Output {
                records,
                reply,
                ..Output::default()
            },
            _ => self.turn(now),
        }
    }

    fn take(&mut self, event: Event, now: Time) -> (Vec<RecordBody>, Option<Reply>) {
        match event {
            Event::Tick => (Vec::new(), None),
            Event::Observed(seen) => {
                self.observe(seen);
                (Vec::new(), None)
            }
            Event::Performed {
                run,
                step,
                attempt,
                result,
                took,
            } => {
                if self.is_open(&run) {
                    self.finished(&run, &step, now);
                    let result = match self.state.run_of(&run) {
                        Some(open) => open.judged(&step, result),
                        None => result,
                    };
                    (
                        vec![RecordBody::StepOutcome {
                            run,
                            step,
                            attempt,
                            result,
                            took,
                        }],
                        None,
                    )
                } else {
                    (Vec::new(), None)
                }
            }
            Event::Looked {
                run,
                step,
                attempt,
                presence,
                took,
            } => {
                if !self.is_open(&run) {
                    return (Vec::new(), None);
                }
                self.finished(&run, &step, now);
                if self.is_known(&run, &step, &presence) {
                    return (Vec::new(), None);
                }
                let seen = RecordBody::StepObserved {
                    run,
                    step,
                    attempt,
                    presence,
                    took,
                };
                (vec![seen], None)
            }
            Event::Undone { run, step, result } => {
                if !self.is_open(&run) {
                    return (Vec::new(), None);
                }
                self.view.under_way.remove(&(run.clone(), step.clone()));
                (vec![undone(run, step, result)], None)
            }
            Event::Announced {
                announcement,
                tallies,
                broken,
            } => (self.announced(announcement, tallies, &broken, now), None),
            Event::Guard(report) => {
                self.view.guard(*report, self.state.epoch);
                (Vec::new(), None)
            }
            Event::GuardSilent(site) => {
                self.view.silent.insert(site);
                (Vec::new(), None)
            }
            Event::Turn(word) => {
                turn::hear(&mut self.view, word, now);
                (Vec::new(), None)
            }
            Event::Held { site, epoch } => (self.held(site, epoch), None),
            Event::Checked {
                config,
                plan,
                items,
            } => {
                let record =
                    readiness::checked(&self.service, &self.state, config, plan, &items, now);
                (record.into_iter().collect(), None)
            }
            Event::BackupsJudged { breaches, shelves } => {
                self.view.shelved = restore::shelved(&shelves);
                let same = backups::same_rules(&self.state.backups.breaches, &breaches);
                let news = (!same).then_some(RecordBody::BackupsJudged { breaches });
                (news.into_iter().collect(), None)
            }
            Event::BackupTaken(result) => (vec![RecordBody::BackupTaken { result }], None),
            Event::BackupVerified(result) => (vec![RecordBody::BackupVerified { result }], None),
            Event::Trouble(trouble) => (self.trouble(&trouble), None),
            Event::Command(wanted) => {
                match command::take(&self.service, &self.state, &self.view, &wanted, now) {
                    Ok((records, text)) => (records, Some(Reply::Ok(text))),
                    Err(refusal) => {
                        let record = command::refused(&self.state, &wanted, &refusal, now);
                        let records = record.into_iter().collect();
                        (records, Some(Reply::Refused(refusal)))
                    }
                }
            }
        }
    }

    fn announced(
        &mut self,
        announcement: AnnouncementId,
        tallies: Tallies,
        broken: &BTreeMap<ChannelName, String>,
        now: Time,
    ) -> Vec<RecordBody> {
        self.view.announcing.remove(&announcement);
        let mut records = Vec::new();
        // Whoever acknowledged that a channel is broken does not hear it again each time that it is tried.
        if !self.view.announce_again.contains_key(&announcement) {
            for (channel, reason) in broken {
                let (channel, reason) = (channel.to_string(), reason.clone());
                records.extend(self.trouble(&Trouble::Channel { channel, reason }));
            }
        }
        if phase::is_due_again(&self.state, &announcement, broken, now) {
            let at = now.after(phase::TELL_AGAIN);
            self.view.announce_again.insert(announcement, at);
        } else {
            self.view.announce_again.remove(&announcement);
            records.push(RecordBody::AnnouncementSettled {
                announcement,
                tallies,
            });
        }
        records
    }

    /// That its end can be waited for outlives this process.
    fn held(&self, site: SiteName, epoch: Epoch) -> Vec<RecordBody> {
        let terms = self.state.terms.as_ref();
        let is_bounded = |t: &Terms| t.lease != Lease::Unbounded;
        let is_news = terms.is_some_and(|t| t.epoch == epoch && t.site == site && is_bounded(t))
            && self.state.held != Some(epoch);
        is_news
            .then_some(RecordBody::EpochHeld { site, epoch })
            .into_iter()
            .collect()
    }

    fn is_open(&self, run: &RunId) -> bool {
        self.state.run_of(run).is_some()
    }

    /// Whether a look tells no more than the one before: it cannot tell, for the same reason.
    fn is_known(&self, run: &RunId, step: &StepId, presence: &Presence) -> bool {
        let at = self.state.run_of(run).and_then(|r| r.steps.get(step));
        match (at, presence) {
            (Some(Step::Indeterminate { reason, .. }), Presence::Unknown { reason: again }) => {
                reason == again
            }
            _ => false,
        }
    }

    /// Takes in one look; the next decision rests on it.
    pub fn observe(&mut self, seen: Observation) {
        if let Some(position) = lag::position(&self.service, &self.state, &seen) {
            self.view.position(position);
        }
        if let Some(waits) = lag::waits(&self.service, &self.state, &seen) {
            self.view.synchronous = Some((seen.at, waits));
        }
        if let Some((site, timeline)) = lag::follows(&self.service, &seen) {
            self.view.follows(site, timeline);
        }
        let probe = self.service.probe(&seen.probe);
        let shelf_life = probe.map_or(Span::ZERO, |(_, p)| detect::shelf_life(p));
        self.view.observe(seen, &self.service.quorum, shelf_life);
    }

    /// An effect came to an end: the step waits a little before it is tried or looked for again.
    fn finished(&mut self, run: &RunId, step: &StepId, now: Time) {
        let of = (run.clone(), step.clone());
        self.view.under_way.remove(&of);
        let Some(run) = self.state.run_of(run) else {
            return;
        };
        let Some(planned) = run.plan.step(step) else {
            return;
        };
        let tries = self.view.tries.entry(of.clone()).or_default();
        *tries += 1;
        let times = *tries;
        let at = now.after(schedule::pause(planned, run, times));
        self.view.not_before.insert(of, at);
    }

    fn trouble(&self, trouble: &Trouble) -> Vec<RecordBody> {
        if let Trouble::Ttl {
            name,
            from,
            to,
            done,
        } = trouble
        {
            return vec![RecordBody::TtlChanged {
                name: name.clone(),
                from: *from,
                to: *to,
                done: *done,
            }];
        }
        if *trouble == Trouble::DocumentsFixed {
            let open = self
                .state
                .pages
                .iter()
                .filter(|(_, p)| p.page.topic == PageTopic::Documents);
            return open
                .map(|(id, _)| RecordBody::PageClosed {
                    page: id.clone(),
                    by: None,
                })
                .collect();
        }
        let page = page::trouble(&self.service, trouble);
        let is_open = |p: &crate::model::page::Page| {
            self.state.pages.values().any(|o| o.page.topic == p.topic)
        };
        page.filter(|p| !is_open(p))
            .map(|p| RecordBody::PageRaised { page: Box::new(p) })
            .into_iter()
            .collect()
    }

    /// What follows from state, view and time; the first part that has something to record ends the turn.
    fn turn(&mut self, now: Time) -> Output {
        let (service, state) = (&self.service, &self.state);
        if state.active.is_none() {
            return Output::default();
        }
        if turn::waits(service, state) {
            self.view.waits_since.get_or_insert(now);
        } else {
            self.view.waits_since = None;
        }
        turn::spend(service, state, &mut self.view);
        let settled = !detect::settling(service, state, &self.view, now);
        if settled && incident::well(service, state) {
            self.view.well_since.get_or_insert(now);
        } else {
            self.view.well_since = None;
        }
        let waits = state
            .runs()
            .any(|run| schedule::waits_to_see(state, run, &self.view));
        if settled && waits {
            self.view.unseen_since.get_or_insert(now);
        } else {
            self.view.unseen_since = None;
        }
        let (records, due) = self.decide(settled, now);
        if records.is_empty() {
            return self.act(now, due);
        }
        Output {
            records,
            ..Output::default()
        }
    }

    /// The parts of a turn in their order, and when a failover is due if nothing changes.
    fn decide(&self, settled: bool, now: Time) -> (Vec<RecordBody>, Option<Time>) {
        let (service, state, view) = (&self.service, &self.state, &self.view);
        let mut records = approve::expired(service, state, now);
        if records.is_empty() && settled {
            records = incident::verdicts(service, state, view, now);
        }
        if records.is_empty() && settled {
            records = incident::turn(service, state, view, now);
        }
        if records.is_empty() {
            records = terms::turn(service, state, view);
        }
        if records.is_empty() {
            records = schedule::advance(service, state, view, now);
        }
        let mut due = None;
        if records.is_empty() && settled {
            (records, due) = incident::consider(service, state, view, now);
        }
        if records.is_empty() && settled {
            records = drill::turn(service, state, view, now);
        }
        if records.is_empty() {
            let need = detect::need(service, &state.verdicts);
            records.extend(phase::turn(service, state, view, now, need));
        }
        if records.is_empty() {
            records.extend(readiness::turn(service, state, now));
        }
        if records.is_empty() {
            records = page::turn(service, state, view, now);
        }
        if records.is_empty() {
            records = escalation::due(service, state, now).0;
        }
        (records, due)
    }

    fn act(&mut self, now: Time, due: Option<Time>) -> Output {
        let mut effects = schedule::effects(&self.state, &mut self.view, now);
        let mut next_telling = None;
        for (id, told) in &self.state.announcements {
            if told.settled.is_some() || self.view.announcing.contains(id) {
                continue;
            }
            if let Some(at) = self.view.announce_again.get(id).filter(|at| **at > now) {
                next_telling = next_telling.into_iter().chain([*at]).min();
            } else {
                self.view.announcing.insert(id.clone());
                effects.push(Effect::Announce(id.clone()));
            }
        }
        effects.extend(escalation::effects(&self.state, &mut self.view, now));
        let (_, next_page) = escalation::due(&self.service, &self.state, now);
        let mut wake = Wake {
            at: now.after(HEARTBEAT),
            reason: "evidence ages",
        };
        let mut sooner = |at: Option<Time>, reason| {
            if let Some(at) = at.filter(|at| *at < wake.at) {
                wake = Wake {
                    at: at.max(now),
                    reason,
                };
            }
        };
        sooner(due, "a failover is due");
        let drills = self.service.drills.iter();
        let next_drill = drills
            .filter_map(|d| drill::next(&self.service.name, d, now))
            .min();
        sooner(next_drill, "a drill is due");
        sooner(next_page, "the next are paged");
        sooner(next_telling, "a channel that was broken is tried again");
        sooner(
            self.view
                .not_before
                .values()
                .filter(|at| **at > now)
                .min()
                .copied(),
            "a step is tried again",
        );
        sooner(
            self.state
                .asks
                .values()
                .filter(|q| !q.granted)
                .map(|q| q.expires)
                .min(),
            "a question expires",
        );
        Output {
            records: Vec::new(),
            effects,
            wake: Some(wake),
            reply: None,
        }
    }
}

fn undone(
    run: crate::model::id::RunId,
    step: crate::model::id::StepId,
    result: Option<crate::model::step::StepResult>,
) -> RecordBody {
    use crate::model::{record::Settlement, step::StepResult};
    let how = match result {
        None => Settlement::Undone {
            summary: "it had changed nothing".to_owned(),
        },
        Some(StepResult::Done(proof)) => Settlement::Undone {
            summary: proof.summary,
        },
        Some(StepResult::Failed { reason } | StepResult::Indeterminate { reason }) => {
            Settlement::Left { reason }
        }
    };
    RecordBody::StepSettled { run, step, how }
}
