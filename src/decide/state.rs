//! What the journal says: the same after a restart as before.

use std::collections::{BTreeMap, BTreeSet};

use super::backups::Backups;
use crate::model::{
    announcement::{Announcement, Phase, Tallies},
    approval::{Ask, AskSubject},
    check::CheckItem,
    guard::{Lease, Terms},
    id::{
        AnnouncementId, AskId, Attempt, ComponentName, ConfigHash, Epoch, IncidentId, PageId,
        PersonName, RunId, Seq, SiteName, StepId,
    },
    loss::LossForecast,
    page::Page,
    plan::{Plan, PlanStep, RunKind, StepPhase},
    record::{AskOutcome, ForecastPart, Record, RecordBody, RunOutcome, Settlement},
    service::Mode,
    span::Span,
    step::{Presence, Proof, Rung, StepResult},
    time::Time,
    verdict::Verdict,
};

/// Durations of a step that are remembered for the forecast.
const REMEMBERED: usize = 50;

/// What the journal says of a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Last record.
    pub seq: Seq,
    /// When it was written.
    pub at: Time,
    /// Epoch in force.
    pub epoch: Epoch,
    /// The terms of the newest epoch that has any.
    pub terms: Option<Terms>,
    /// The newest epoch whose lease its site's guard asked for.
    pub held: Option<Epoch>,
    /// Sites that may write without an end: there was no guard, or its lease has none.
    pub endless: BTreeSet<SiteName>,
    /// The longest lease that any epoch had.
    pub longest_lease: Span,
    /// The site whose database takes writes.
    pub active: Option<SiteName>,
    /// The site that the application is served from.
    pub serving: Option<SiteName>,
    /// The documents in force.
    pub config: ConfigHash,
    /// The mode that the documents ask for.
    pub wanted: Mode,
    /// The mode that a person lowered it to.
    pub lowered: Option<Mode>,
    /// The last readiness check.
    pub check: Option<Check>,
    /// Verdicts, and since when.
    pub verdicts: BTreeMap<ComponentName, (Verdict, Time)>,
    /// The open incident.
    pub incident: Option<Incident>,
    /// Open questions.
    pub asks: BTreeMap<AskId, Question>,
    /// The open run.
    pub run: Option<Run>,
    /// The run that ended last.
    pub last_run: Option<Run>,
    /// Announcements that are not settled, and those of the open incident.
    pub announcements: BTreeMap<AnnouncementId, Told>,
    /// Open pages.
    pub pages: BTreeMap<PageId, Paged>,
    /// Who paused it, why.
    pub paused: Option<(PersonName, String)>,
    /// A run that ended Stuck or Aborted: nothing is begun automatically until somebody acknowledges it.
    pub stuck: Option<RunId>,
    /// A failover that nobody has acknowledged yet.
    pub unacknowledged: Option<RunId>,
    /// Who had this controller take up another one's journal, and why; nobody has acknowledged yet that the service runs
    /// where it says.
    pub taken_over: Option<(PersonName, String)>,
    /// Durations of steps that were done, newest last.
    pub durations: BTreeMap<StepId, Vec<Span>>,
    /// From the first failing look to the opening of an incident.
    pub detections: Vec<Span>,
    /// TTLs as they were before the controller lowered them, in seconds.
    pub ttl_before: BTreeMap<String, u32>,
    /// What is known of its backups.
    pub backups: Backups,
    /// How often a controller took up the chain.
    pub starts: u64,
}

/// A readiness check.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// The documents that it was made for.
    pub config: ConfigHash,
    /// When.
    pub at: Time,
    /// Whether nothing failed or was unknown.
    pub green: bool,
    /// What is not ok.
    pub problems: Vec<CheckItem>,
}

/// An outage.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    /// Its id.
    pub id: IncidentId,
    /// When the first voice saw it.
    pub since: Time,
    /// When the present outage began: later than `since` where everything was well again in between. Patience and
    /// RTO count from here.
    pub outage: Time,
    /// Whether everything was well after the present outage began.
    pub well: bool,
    /// When it was opened.
    pub opened: Time,
    /// In one sentence.
    pub reason: String,
    /// Components that were down when it began.
    pub components: Vec<ComponentName>,
    /// What a failover would have lost when it was opened.
    pub loss: LossForecast,
    /// Why nothing is done, as last recorded.
    pub held: Vec<String>,
    /// `observe`: what was recorded as what would have been done.
    pub would_act: Option<String>,
    /// The phase that customers heard of last.
    pub phase: Option<Phase>,
    /// The reasons that a person said no to: not asked again while they stay the same.
    pub denied: Option<Vec<String>>,
    /// Announcements made, for numbering corrections.
    pub told: u32,
}

/// An open question.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The question.
    pub ask: Ask,
    /// The plan that it is about, where no run holds it.
    pub plan: Option<Plan>,
    /// When it was put.
    pub opened: Time,
    /// When it ends by itself.
    pub expires: Time,
    /// Who approved so far.
    pub approved: Vec<PersonName>,
    /// What they gave as reason, the last one.
    pub reason: Option<String>,
    /// Whether one of them broke the glass.
    pub break_glass: bool,
    /// Whether enough have approved, or time ran out and the policy proceeds.
    pub granted: bool,
}

/// A run.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// What for.
    pub kind: RunKind,
    /// The incident.
    pub incident: Option<IncidentId>,
    /// The plan.
    pub plan: Plan,
    /// When the outage began.
    pub since: Time,
    /// When it was opened.
    pub opened: Time,
    /// Why.
    pub reason: String,
    /// Who asked.
    pub requester: Option<PersonName>,
    /// What is expected to be lost.
    pub loss: LossForecast,
    /// The forecast.
    pub forecast: Vec<ForecastPart>,
    /// The epoch that it opened, once it did.
    pub epoch: Option<Epoch>,
    /// When it did.
    pub promised: Option<Time>,
    /// Where each step stands; a step that is absent has not begun.
    pub steps: BTreeMap<StepId, Step>,
    /// When each step was begun and settled.
    pub times: BTreeMap<StepId, (Time, Option<Time>)>,
    /// How often each step's effect failed or could not be told, apart from crashes of the controller.
    pub failures: BTreeMap<StepId, u32>,
    /// Steps that were left out although their effect may be in place.
    pub unclear: BTreeSet<StepId>,
    /// An attestation by a person.
    pub attested: Option<(PersonName, String)>,
    /// When the service was verified.
    pub verified: Option<Time>,
    /// Whether it is known by now what was really lost.
    pub is_measured: bool,
    /// Somebody wants it to stop, or its cause is gone: why.
    pub unwinding: Option<(Option<PersonName>, String)>,
    /// How it ended.
    pub ended: Option<(RunOutcome, String, Time)>,
}

/// Where a step stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Promised, outcome not recorded.
    Intended {
        /// Which attempt.
        attempt: Attempt,
    },
    /// It may or may not have happened.
    Indeterminate {
        /// Which attempt.
        attempt: Attempt,
        /// Why it cannot be told.
        reason: String,
    },
    /// It is known not to be in place after this attempt.
    Failed {
        /// Which attempt.
        attempt: Attempt,
        /// Why.
        reason: String,
    },
    /// It is in place.
    Done(Proof),
    /// Settled without being performed.
    Settled(Settlement),
}

impl Step {
    /// Whether steps after it may begin.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        match self {
            Self::Done(_) | Self::Settled(_) => true,
            Self::Intended { .. } | Self::Indeterminate { .. } | Self::Failed { .. } => false,
        }
    }
}

/// An announcement.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// What is said.
    pub announcement: Announcement,
    /// What came of it, once nothing is left to send.
    pub settled: Option<Tallies>,
}

/// An open page.
#[derive(Clone, Debug, PartialEq)]
pub struct Paged {
    /// The page.
    pub page: Page,
    /// When it was raised.
    pub raised: Time,
    /// Who acknowledged it; it then stays only while its cause lasts.
    pub acknowledged: Option<PersonName>,
}

impl Run {
    /// A step of its plan and where it stands.
    pub fn steps(&self) -> impl Iterator<Item = (&PlanStep, Option<&Step>)> {
        self.plan.steps.iter().map(|s| (s, self.steps.get(&s.id)))
    }

    /// The highest rung that its fences reached.
    #[must_use]
    pub fn rung(&self) -> Option<Rung> {
        let proved = self.steps.values().filter_map(|s| match s {
            Step::Done(proof) => proof.rung,
            Step::Intended { .. }
            | Step::Indeterminate { .. }
            | Step::Failed { .. }
            | Step::Settled(_) => None,
        });
        proved
            .chain(self.attested.as_ref().map(|_| Rung::Attested))
            .max()
    }

    /// What its fences proved has to be seen again.
    fn doubt_fences(&mut self) {
        let fences = self
            .plan
            .steps
            .iter()
            .filter(|s| s.phase == StepPhase::Fence);
        for step in fences {
            if let Some(at @ Step::Done(_)) = self.steps.get_mut(&step.id) {
                *at = Step::Indeterminate {
                    attempt: Attempt(1),
                    reason: "another controller saw it done".to_owned(),
                };
            }
        }
    }

    /// Whether it is proved that the new site serves. DNS is apart from that: the fallback URL works before it does.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.steps().all(|(step, at)| match step.phase {
            StepPhase::Prepare | StepPhase::Fence => at.is_some_and(Step::is_settled),
            // What was left out proves nothing.
            StepPhase::Promote | StepPhase::Verify => matches!(
                at,
                Some(Step::Done(_) | Step::Settled(Settlement::Manual { .. }))
            ),
            StepPhase::Traffic | StepPhase::Protect | StepPhase::Tell => true,
        })
    }

    /// Whether every step of the phases up to this one is settled.
    #[must_use]
    pub fn settled_through(&self, phase: StepPhase) -> bool {
        self.steps()
            .filter(|(s, _)| s.phase <= phase)
            .all(|(_, at)| at.is_some_and(Step::is_settled))
    }
}

impl State {
    /// The mode in force: what the documents ask for, lowered by a person, and `automatic` only where earned.
    #[must_use]
    pub fn mode(&self, now: Time, max_age: Span) -> Mode {
        let mode = self
            .lowered
            .map_or(self.wanted, |lowered| lowered.min(self.wanted));
        if mode == Mode::Automatic && !self.earned(now, max_age) {
            Mode::Ask
        } else {
            mode
        }
    }

    /// Whether a green check for these documents is young enough.
    #[must_use]
    pub fn earned(&self, now: Time, max_age: Span) -> bool {
        self.check
            .as_ref()
            .is_some_and(|c| c.green && c.config == self.config && now.since(c.at) <= max_age)
    }

    /// A primary that flaps is one incident, but each outage has a budget of its own.
    fn note_outage(&mut self, to: Verdict, at: Time) {
        let well = |v: &(Verdict, Time)| matches!(v.0, Verdict::Healthy | Verdict::Degraded);
        let all_well = self.verdicts.values().all(well);
        let Some(incident) = &mut self.incident else {
            return;
        };
        if all_well {
            incident.well = true;
        } else if to == Verdict::Down && incident.well {
            incident.well = false;
            incident.outage = at;
        }
    }

    /// What an earlier controller granted may still be in force, on terms that nobody leads by any more; and what it
    /// proved, it may have taken back in records that are lost.
    fn take_over(&mut self, epoch: Epoch) {
        if let Some(active) = self.active.clone().filter(|_| epoch > self.epoch) {
            self.enter(epoch, &active, None);
        }
        if let Some(run) = self.run.as_mut().filter(|run| run.epoch.is_none()) {
            run.doubt_fences();
        }
    }

    /// A site's epoch begins.
    fn enter(&mut self, epoch: Epoch, site: &SiteName, terms: Option<&Terms>) {
        self.epoch = epoch;
        self.terms = terms.cloned();
        match terms.map(|t| t.lease) {
            Some(Lease::Bounded(lease)) => self.longest_lease = self.longest_lease.max(lease),
            Some(Lease::Unbounded) | None => drop(self.endless.insert(site.clone())),
        }
    }

    /// Takes in one record; the only place where state changes.
    pub fn apply(&mut self, record: &Record) {
        self.seq = record.seq;
        self.at = record.at;
        let at = record.at;
        match &record.body {
            RecordBody::ControllerStarted {
                config,
                active,
                mode,
                ..
            } => {
                self.starts += 1;
                self.config = config.clone();
                self.wanted = *mode;
                if self.active.is_none() {
                    self.endless.extend(active.clone());
                    self.active.clone_from(active);
                    self.serving.clone_from(active);
                    self.epoch = Epoch(1);
                }
            }
            RecordBody::DocumentsChanged { config, mode } => {
                self.config = config.clone();
                self.wanted = *mode;
            }
            RecordBody::ModeChanged { mode, .. } => self.lowered = Some(*mode),
            RecordBody::Checked {
                config,
                green,
                problems,
            } => {
                self.check = Some(Check {
                    config: config.clone(),
                    at,
                    green: *green,
                    problems: problems.clone(),
                });
            }
            RecordBody::VerdictChanged { component, to, .. } => {
                self.verdicts.insert(component.clone(), (*to, at));
                self.note_outage(*to, at);
            }
            RecordBody::IncidentOpened {
                components,
                since,
                reason,
                loss,
            } => {
                if !components.is_empty() {
                    remember(&mut self.detections, at.since(*since));
                }
                self.incident = Some(Incident {
                    id: IncidentId::of(&record.chain, record.seq),
                    since: *since,
                    outage: *since,
                    well: false,
                    opened: at,
                    reason: reason.clone(),
                    components: components.clone(),
                    loss: loss.clone(),
                    held: Vec::new(),
                    would_act: None,
                    phase: None,
                    denied: None,
                    told: 0,
                });
            }
            RecordBody::IncidentClosed { .. } => {
                self.incident = None;
                self.announcements.retain(|_, told| told.settled.is_none());
            }
            RecordBody::Held { reasons, .. } => {
                if let Some(incident) = &mut self.incident {
                    incident.held.clone_from(reasons);
                }
            }
            RecordBody::WouldAct { plan, .. } => {
                if let Some(incident) = &mut self.incident {
                    incident.would_act = Some(plan.hash().to_string());
                }
            }
            RecordBody::AskOpened { ask, plan, expires } => {
                let question = Question {
                    ask: (**ask).clone(),
                    plan: plan.as_deref().cloned(),
                    opened: at,
                    expires: *expires,
                    approved: Vec::new(),
                    reason: None,
                    break_glass: false,
                    granted: false,
                };
                self.asks
                    .insert(AskId::of(&record.chain, record.seq), question);
            }
            RecordBody::Approved {
                ask,
                by,
                reason,
                break_glass,
            } => {
                if let Some(question) = self.asks.get_mut(ask) {
                    question.approved.push(by.clone());
                    question.break_glass |= break_glass;
                    if reason.is_some() {
                        question.reason.clone_from(reason);
                    }
                }
            }
            RecordBody::AskClosed { ask, outcome } => self.close_ask(ask, outcome),
            RecordBody::RunOpened { .. } => {
                // Whether a run may begin is answered.
                self.asks
                    .retain(|_, q| !matches!(q.ask.subject, AskSubject::Open { .. }));
                // What held it back does not hold it back any more.
                if let Some(incident) = &mut self.incident {
                    incident.held.clear();
                }
                self.run = Run::opened(record);
            }
            RecordBody::EpochRaised {
                epoch, site, terms, ..
            } => {
                self.enter(*epoch, site, terms.as_ref());
                self.change(|run| {
                    run.epoch = Some(*epoch);
                    run.promised = Some(at);
                });
            }
            RecordBody::EpochOpened { terms, .. } => {
                self.enter(terms.epoch, &terms.site, Some(terms));
            }
            RecordBody::EpochHeld { site, epoch } => {
                self.held = Some(*epoch);
                self.endless.remove(site);
            }
            RecordBody::StepIntent { step, attempt, .. } => self.change(|run| {
                run.times.entry(step.clone()).or_insert((at, None));
                let next = Step::Intended { attempt: *attempt };
                run.steps.insert(step.clone(), next);
            }),
            RecordBody::StepOutcome {
                step,
                attempt,
                result,
                took,
                ..
            } => {
                if matches!(result, StepResult::Done(_)) {
                    remember(self.durations.entry(step.clone()).or_default(), *took);
                }
                self.change(|run| run.outcome(step, *attempt, result, at));
            }
            RecordBody::StepObserved {
                step,
                attempt,
                presence,
                ..
            } => self.change(|run| run.observed(step, *attempt, presence, at)),
            RecordBody::StepSettled { step, how, .. } => {
                self.change(|run| run.put(step, Step::Settled(how.clone()), at));
            }
            RecordBody::Attested { by, statement, .. } => {
                self.change(|run| run.attested = Some((by.clone(), statement.clone())));
            }
            RecordBody::Unwinding { by, reason, .. } => {
                self.change(|run| run.unwinding = Some((by.clone(), reason.clone())));
            }
            RecordBody::Verified { .. } => self.change(|run| run.verified = Some(at)),
            RecordBody::LossMeasured { run, .. } => {
                if let Some(last) = self.last_run.as_mut().filter(|r| r.id == *run) {
                    last.is_measured = true;
                }
            }
            RecordBody::RunClosed {
                outcome,
                reason,
                active,
                ..
            } => self.close_run(*outcome, reason, active, at),
            RecordBody::PhaseEntered {
                phase,
                announcement,
            } => {
                if let Some(incident) = &mut self.incident {
                    incident.phase = Some(*phase);
                    incident.told += 1;
                }
                self.announcements.insert(
                    announcement.id.clone(),
                    Told {
                        announcement: (**announcement).clone(),
                        settled: None,
                    },
                );
            }
            RecordBody::AnnouncementSettled {
                announcement,
                tallies,
            } => {
                if let Some(told) = self.announcements.get_mut(announcement) {
                    told.settled = Some(tallies.clone());
                }
            }
            RecordBody::PageRaised { page } => {
                let id = PageId::of(&record.chain, record.seq);
                self.pages.insert(
                    id,
                    Paged {
                        page: (**page).clone(),
                        raised: at,
                        acknowledged: None,
                    },
                );
            }
            RecordBody::PageClosed { page, by } => match (self.pages.get_mut(page), by) {
                (Some(paged), Some(by)) => paged.acknowledged = Some(by.clone()),
                (Some(_), None) => drop(self.pages.remove(page)),
                (None, _) => {}
            },
            RecordBody::Paused { by, reason } => self.paused = Some((by.clone(), reason.clone())),
            RecordBody::Resumed { .. } => self.paused = None,
            RecordBody::FailoverAcknowledged { .. } => {
                self.unacknowledged = None;
                self.stuck = None;
                self.taken_over = None;
            }
            RecordBody::TakenOver { epoch, by, reason } => {
                self.taken_over = Some((by.clone(), reason.clone()));
                self.take_over(*epoch);
            }
            RecordBody::Moved {
                site, epoch, terms, ..
            } => {
                self.enter(*epoch, site, terms.as_ref());
                self.active = Some(site.clone());
                self.serving = Some(site.clone());
                self.unacknowledged = None;
                self.stuck = None;
                self.taken_over = None;
                self.forget_verdicts(at);
            }
            RecordBody::TtlChanged {
                name,
                from,
                to,
                done,
            } => {
                if to < from {
                    self.ttl_before.entry(name.clone()).or_insert(*from);
                } else if *done {
                    self.ttl_before.remove(name);
                }
            }
            RecordBody::BackupVerified { result } => self.backups.verified(result, at),
            RecordBody::BackupsJudged { breaches } => self.backups.judged(breaches),
            RecordBody::JournalResumed { .. } | RecordBody::Note { .. } => {}
        }
    }

    fn close_ask(&mut self, ask: &AskId, outcome: &AskOutcome) {
        match outcome {
            AskOutcome::Approved | AskOutcome::Expired { proceed: true } => {
                if let Some(question) = self.asks.get_mut(ask) {
                    question.granted = true;
                }
            }
            AskOutcome::Denied { .. } => {
                if let (Some(question), Some(incident)) =
                    (self.asks.remove(ask), &mut self.incident)
                    && matches!(question.ask.subject, AskSubject::Open { .. })
                {
                    incident.denied = Some(question.ask.reasons);
                }
            }
            AskOutcome::Expired { proceed: false } | AskOutcome::Void { .. } => {
                drop(self.asks.remove(ask));
            }
        }
    }

    fn change(&mut self, change: impl FnOnce(&mut Run)) {
        if let Some(run) = &mut self.run {
            change(run);
        }
    }

    /// What was said of the old site says nothing of the new one.
    fn forget_verdicts(&mut self, at: Time) {
        for verdict in self.verdicts.values_mut() {
            *verdict = (Verdict::Inconclusive, at);
        }
    }

    fn close_run(&mut self, outcome: RunOutcome, reason: &str, active: &SiteName, at: Time) {
        let Some(mut run) = self.run.take() else {
            return;
        };
        run.ended = Some((outcome, reason.to_owned(), at));
        self.asks
            .retain(|_, q| q.ask.subject.run() != Some(&run.id));
        if outcome == RunOutcome::Done {
            self.serving = Some(active.clone());
            if run.kind != RunKind::Redirect {
                self.active = Some(active.clone());
            }
        }
        if matches!(outcome, RunOutcome::Stuck | RunOutcome::Aborted) {
            self.stuck = Some(run.id.clone());
        }
        if outcome == RunOutcome::Done || run.epoch.is_some() {
            self.forget_verdicts(at);
        }
        if run.epoch.is_some() {
            // Whoever planned it knows of it.
            if !(run.kind.is_planned() && outcome == RunOutcome::Done) {
                self.unacknowledged = Some(run.id.clone());
            }
            self.active = Some(run.plan.to.clone());
        }
        self.last_run = Some(run);
    }
}

impl Run {
    fn opened(record: &Record) -> Option<Self> {
        let RecordBody::RunOpened {
            kind,
            incident,
            plan,
            since,
            reason,
            requester,
            loss,
            forecast,
            ..
        } = &record.body
        else {
            return None;
        };
        Some(Self {
            id: RunId::of(&record.chain, record.seq),
            kind: *kind,
            incident: incident.clone(),
            plan: (**plan).clone(),
            since: *since,
            opened: record.at,
            reason: reason.clone(),
            requester: requester.clone(),
            loss: loss.clone(),
            forecast: forecast.clone(),
            epoch: None,
            promised: None,
            steps: BTreeMap::new(),
            times: BTreeMap::new(),
            failures: BTreeMap::new(),
            unclear: BTreeSet::new(),
            attested: None,
            verified: None,
            is_measured: false,
            unwinding: None,
            ended: None,
        })
    }

    fn outcome(&mut self, step: &StepId, attempt: Attempt, result: &StepResult, at: Time) {
        let next = match result {
            StepResult::Done(proof) => Step::Done(proof.clone()),
            StepResult::Failed { reason } => Step::Failed {
                attempt,
                reason: reason.clone(),
            },
            StepResult::Indeterminate { reason } => Step::Indeterminate {
                attempt,
                reason: reason.clone(),
            },
        };
        if !next.is_settled() {
            *self.failures.entry(step.clone()).or_default() += 1;
        }
        self.put(step, next, at);
    }

    fn observed(&mut self, step: &StepId, attempt: Attempt, presence: &Presence, at: Time) {
        let next = match presence {
            Presence::InPlace(proof) => Step::Done(proof.clone()),
            Presence::Absent { reason } => Step::Failed {
                attempt,
                reason: reason.clone(),
            },
            Presence::Unknown { reason } => Step::Indeterminate {
                attempt,
                reason: reason.clone(),
            },
        };
        self.put(step, next, at);
    }

    fn put(&mut self, step: &StepId, next: Step, at: Time) {
        let settled = next.is_settled().then_some(at);
        let times = self.times.entry(step.clone()).or_insert((at, None));
        times.1 = settled;
        let is_left_out = matches!(next, Step::Settled(Settlement::Skipped { .. }));
        let before = self.steps.insert(step.clone(), next);
        if is_left_out && matches!(before, Some(Step::Indeterminate { .. })) {
            self.unclear.insert(step.clone());
        }
    }
}

fn remember(durations: &mut Vec<Span>, took: Span) {
    durations.push(took);
    if durations.len() > REMEMBERED {
        durations.remove(0);
    }
}
