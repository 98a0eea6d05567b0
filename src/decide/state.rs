//! What the journal says: the same after a restart as before.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    backups::Backups,
    command::SAME_REFUSAL,
    drill::Drills,
    escalation::{Calling, Pager},
    readiness::{Check, saw_outage},
    terms,
};

pub use super::run::{Run, Step};
use crate::model::{
    announcement::{Announcement, Phase, Tallies},
    approval::{Ask, AskSubject},
    duty::Duty,
    guard::{Lease, Terms},
    id::{
        AnnouncementId, AskId, ComponentName, ConfigHash, Epoch, IncidentId, PageId, PersonName,
        RunId, Seq, SiteName, StepId, UserName,
    },
    loss::LossForecast,
    page::Page,
    plan::{Plan, RunKind},
    readiness::Readiness,
    record::{AskOutcome, Record, RecordBody, RunOutcome},
    service::Mode,
    span::Span,
    step::StepResult,
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
    /// The epoch in which a controller may still grant that was taken over from; none where each has its own.
    pub shared: Option<Epoch>,
    /// The epoch in which a step last had the guard of a site fence it.
    pub fences: BTreeMap<SiteName, Epoch>,
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
    /// The one before it; in an incident, the last one before that.
    pub check_before: Option<Check>,
    /// What readiness was recorded as.
    pub readiness: Readiness,
    /// The program that took up the chain last.
    pub version: String,
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
    /// What was sent of them, and to whom.
    pub pager: Pager,
    /// Who paused it, why.
    pub paused: Option<(PersonName, String)>,
    /// A run that ended Stuck or Aborted: nothing is begun automatically until somebody acknowledges it.
    pub stuck: Option<RunId>,
    /// A failover that nobody has acknowledged yet.
    pub unacknowledged: Option<RunId>,
    /// Who had this controller take up another one's journal, and why; nobody has acknowledged yet that the service runs
    /// where it says.
    pub taken_over: Option<(PersonName, String)>,
    /// Whether the chain was taken over, and no epoch was opened since: whoever takes over goes beyond all that guards have
    /// promised, once. Any other chain knows of every promise, since it asks for none that it does not hold.
    pub goes_beyond: bool,
    /// Durations of steps that were done, newest last.
    pub durations: BTreeMap<StepId, Vec<Span>>,
    /// From the first failing look to the opening of an incident.
    pub detections: Vec<Span>,
    /// TTLs as they were before the controller lowered them, in seconds.
    pub ttl_before: BTreeMap<String, u32>,
    /// What is known of its backups.
    pub backups: Backups,
    /// Drills: the open one, and what came of those before.
    pub drills: Drills,
    /// How often a controller took up the chain.
    pub starts: u64,
    /// Who was refused what within the last minute, and when.
    pub refused: Vec<Refused>,
}

/// Something that somebody was refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// Who.
    pub by: PersonName,
    /// What.
    pub what: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Time,
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
    /// Who declared it; then it is over when a person says so.
    pub declared: Option<PersonName>,
    /// Who said that it is over.
    pub resolved: Option<PersonName>,
    /// Who does what.
    pub duties: BTreeMap<Duty, PersonName>,
    /// Who is asked to lead, and by whom.
    pub handover: Option<(PersonName, PersonName)>,
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
    /// The users of the API server that they were, where that is known: a document may make one another person later.
    pub users: Vec<UserName>,
    /// What they gave as reason, the last one.
    pub reason: Option<String>,
    /// Whether one of them broke the glass.
    pub break_glass: bool,
    /// Whether enough have approved, or time ran out and the policy proceeds.
    pub granted: bool,
    /// When that was.
    pub settled: Option<Time>,
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
    /// What each level of the escalation was sent last.
    pub told: BTreeMap<u32, Calling>,
}

impl State {
    /// Whether no run and no drill is open.
    #[must_use]
    pub const fn is_at_rest(&self) -> bool {
        self.run.is_none() && self.drills.open.is_none()
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
            incident.resolved = None;
        }
    }

    /// What an earlier controller granted may still be in force, on terms that nobody leads by any more; and what it
    /// proved, it may have taken back in records that are lost.
    fn take_over(&mut self, epoch: Epoch) {
        if epoch == self.epoch {
            self.shared = Some(epoch);
        }
        if let Some(active) = self.active.clone().filter(|_| epoch > self.epoch) {
            self.enter(epoch, &active, None);
        }
        if let Some(run) = self.run.as_mut().filter(|run| run.epoch.is_none()) {
            run.doubt_fences();
        }
    }

    /// The epoch in which whoever takes the journal up now goes on. Each takeover begins a later one: whoever led before may
    /// still grant leases in its own. A promotion that was promised goes on in its epoch, and the next one follows on it.
    #[must_use]
    pub fn after_takeover(&self) -> Epoch {
        let is_forward = self.run.as_ref().is_some_and(|run| run.epoch.is_some());
        if is_forward {
            self.epoch
        } else {
            self.epoch.next()
        }
    }

    /// A site's epoch begins.
    fn enter(&mut self, epoch: Epoch, site: &SiteName, terms: Option<&Terms>) {
        self.epoch = epoch;
        self.goes_beyond = false;
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
        self.drills.apply(record);
        match &record.body {
            RecordBody::ControllerStarted {
                config,
                active,
                mode,
                version,
            } => {
                self.starts += 1;
                self.version.clone_from(version);
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
                plan,
            } => {
                self.keep_check();
                self.check = Some(Check {
                    config: config.clone(),
                    plan: plan.clone(),
                    active: self.active.clone(),
                    version: self.version.clone(),
                    at,
                    green: *green,
                    problems: problems.clone(),
                });
            }
            RecordBody::ReadinessTurned { to, .. } => self.readiness = *to,
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
                    declared: None,
                    resolved: None,
                    duties: BTreeMap::new(),
                    handover: None,
                });
            }
            RecordBody::Declared { by, .. } => {
                if let Some(incident) = &mut self.incident {
                    incident.declared = Some(by.clone());
                    incident.resolved = None;
                }
            }
            RecordBody::Resolved { by, .. } => {
                if let Some(incident) = &mut self.incident {
                    incident.resolved = Some(by.clone());
                }
            }
            RecordBody::DutyTaken { duty, person, .. } => {
                if let Some(incident) = &mut self.incident {
                    incident.duties.insert(*duty, person.clone());
                    if *duty == Duty::Commander {
                        incident.handover = None;
                    }
                }
            }
            RecordBody::HandOverOffered { to, by, .. } => {
                if let Some(incident) = &mut self.incident {
                    incident.handover = Some((to.clone(), by.clone()));
                }
            }
            RecordBody::Refused { by, what, reason } => {
                self.refused
                    .retain(|known| at.since(known.at) < SAME_REFUSAL);
                self.refused.push(Refused {
                    by: by.clone(),
                    what: what.clone(),
                    reason: reason.clone(),
                    at,
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
                    users: Vec::new(),
                    reason: None,
                    break_glass: false,
                    granted: false,
                    settled: None,
                };
                self.asks
                    .insert(AskId::of(&record.chain, record.seq), question);
            }
            RecordBody::Approved {
                ask,
                by,
                user,
                reason,
                break_glass,
            } => {
                if let Some(question) = self.asks.get_mut(ask) {
                    question.approved.push(by.clone());
                    question.users.extend(user.clone());
                    question.break_glass |= break_glass;
                    if reason.is_some() {
                        question.reason.clone_from(reason);
                    }
                }
            }
            RecordBody::AskClosed { ask, outcome } => self.close_ask(ask, outcome, at),
            RecordBody::RunOpened { .. } => {
                // Whether a run may begin is answered.
                self.asks.retain(|_, q| {
                    let subject = &q.ask.subject;
                    !matches!(subject, AskSubject::Open { .. } | AskSubject::Drill { .. })
                });
                // What held it back does not hold it back any more.
                if let Some(incident) = &mut self.incident {
                    incident.held.clear();
                }
                self.run = Run::opened(record);
            }
            RecordBody::EpochRaised {
                run,
                epoch,
                site,
                terms,
                ..
            } => {
                self.enter(*epoch, site, terms.as_ref());
                self.change(run, |run| {
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
            RecordBody::StepIntent {
                run, step, attempt, ..
            } => {
                let epoch = self.epoch.next();
                let fences = &mut self.fences;
                let mut runs = self.run.iter_mut().chain(self.drills.run_mut());
                if let Some(run) = runs.find(|r| r.id == *run) {
                    run.times.entry(step.clone()).or_insert((at, None));
                    let next = Step::Intended { attempt: *attempt };
                    run.steps.insert(step.clone(), next);
                    if run
                        .plan
                        .step(step)
                        .is_some_and(|s| s.action.kind() == Some(terms::FENCE))
                    {
                        fences.insert(run.plan.from.clone(), epoch);
                    }
                }
            }
            RecordBody::StepOutcome {
                run,
                step,
                attempt,
                result,
                took,
                ..
            } => {
                if matches!(result, StepResult::Done(_)) {
                    let is_drills = self.drills.run().is_some_and(|r| r.id == *run);
                    let name = if is_drills {
                        in_drill(step)
                    } else {
                        step.clone()
                    };
                    remember(self.durations.entry(name).or_default(), *took);
                }
                self.change(run, |run| run.outcome(step, *attempt, result, at));
            }
            RecordBody::StepObserved {
                run,
                step,
                attempt,
                presence,
                ..
            } => self.change(run, |run| run.observed(step, *attempt, presence, at)),
            RecordBody::StepSettled { run, step, how } => {
                self.change(run, |run| run.put(step, Step::Settled(how.clone()), at));
            }
            RecordBody::Attested { run, by, statement } => {
                // Its answer holds for a while; after that it is asked anew.
                let subject = AskSubject::Fence { run: run.clone() };
                self.asks.retain(|_, q| q.ask.subject != subject);
                self.change(run, |run| {
                    run.attested = Some((by.clone(), statement.clone(), at));
                });
            }
            RecordBody::Unwinding { run, by, reason } => {
                self.change(run, |run| {
                    run.unwinding = Some((by.clone(), reason.clone()));
                });
            }
            RecordBody::Verified { run, .. } => self.change(run, |run| run.verified = Some(at)),
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
                self.pager.raised(&page.topic, at);
                let id = PageId::of(&record.chain, record.seq);
                self.pages.insert(
                    id,
                    Paged {
                        page: (**page).clone(),
                        raised: at,
                        acknowledged: None,
                        told: BTreeMap::new(),
                    },
                );
            }
            RecordBody::TeamPaged { pages, level, to } => {
                let calling = Calling {
                    message: record.seq,
                    round: 0,
                    to: to.clone(),
                    at,
                };
                self.pager.called(&mut self.pages, pages, *level, &calling);
            }
            RecordBody::PageClosed { page, by } => match (self.pages.get_mut(page), by) {
                (Some(paged), Some(by)) => paged.acknowledged = Some(by.clone()),
                (Some(_), None) => {
                    let ended = self.pages.remove(page);
                    self.pager.ended(page, ended, &self.pages, at);
                }
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
                self.goes_beyond = true;
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
            RecordBody::DrillClosed { drill, .. } => {
                self.asks.retain(|_, q| q.ask.subject.run() != Some(drill));
            }
            RecordBody::BackupVerified { result } => self.backups.verified(result, at),
            RecordBody::BackupTaken { result } => self.backups.taken = Some((**result).clone()),
            RecordBody::BackupsJudged { breaches } => self.backups.judged(breaches),
            RecordBody::DrillOpened { .. }
            | RecordBody::DrillJudged { .. }
            | RecordBody::DrillSkipped { .. }
            | RecordBody::LeaderTaken { .. }
            | RecordBody::JournalResumed { .. }
            | RecordBody::Group(_)
            | RecordBody::Note { .. } => {}
        }
    }

    fn close_ask(&mut self, ask: &AskId, outcome: &AskOutcome, at: Time) {
        match outcome {
            AskOutcome::Approved | AskOutcome::Expired { proceed: true } => {
                if let Some(question) = self.asks.get_mut(ask) {
                    question.granted = true;
                    question.settled = Some(at);
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

    /// The open run of that id: a drill may be open beside another one.
    #[must_use]
    pub fn run_of(&self, id: &RunId) -> Option<&Run> {
        self.runs().find(|run| run.id == *id)
    }

    /// The open runs.
    pub fn runs(&self) -> impl Iterator<Item = &Run> {
        self.run.iter().chain(self.drills.run())
    }

    fn change(&mut self, id: &RunId, change: impl FnOnce(&mut Run)) {
        let mut runs = self.run.iter_mut().chain(self.drills.run_mut());
        if let Some(run) = runs.find(|run| run.id == *id) {
            change(run);
        }
    }

    /// What was said of the old site says nothing of the new one.
    /// Of an outage's checks none that found it takes the place of the last one before.
    fn keep_check(&mut self) {
        let saw_outage = self
            .check
            .as_ref()
            .is_some_and(|c| !c.green && saw_outage(self, c));
        if !saw_outage {
            self.check_before = self.check.take();
        }
    }

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

/// Under which name it is remembered how long a step of a drill took: the same name in a failover is another step.
#[must_use]
pub fn in_drill(step: &StepId) -> StepId {
    StepId::new(format!("drill/{step}"))
}

fn remember(durations: &mut Vec<Span>, took: Span) {
    durations.push(took);
    if durations.len() > REMEMBERED {
        durations.remove(0);
    }
}
