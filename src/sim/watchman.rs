//! The watchman: knows what is so and what the journal says, and notes where a rule does not hold.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    coverage::{Answer, Coverage, Part, Situation, Standing},
    customer::{Acknowledged, Customers},
    rule::{Rule, Violations},
    scenario::Scenario,
    sights::Sights,
    site::{Site, Write},
    world::BEGIN,
};
use crate::{
    model::{
        announcement::Phase,
        id::{
            AnnouncementId, Attempt, ComponentName, Epoch, IdempotencyKey, RunId, SiteName, StepId,
        },
        loss::LossForecast,
        plan::{Plan, RunKind, StepPhase},
        record::{AskOutcome, Record, RecordBody, RunOutcome},
        service::Service,
        span::Span,
        step::{Presence, Rung, StepResult},
        time::Time,
        verdict::Verdict,
    },
    port::action::StepContext,
};

/// A run as the journal tells of it.
#[expect(clippy::struct_excessive_bools, reason = "each is one record")]
#[derive(Clone, Debug)]
struct Seen {
    kind: RunKind,
    plan: Plan,
    since: Time,
    by_itself: bool,
    loss: LossForecast,
    rungs: BTreeMap<StepId, Option<Rung>>,
    settled: BTreeSet<StepId>,
    attested: bool,
    unwinding: bool,
    /// It has begun to change something.
    acts: bool,
    epoch: Option<Epoch>,
    part: StepPhase,
    closed: bool,
}

/// The watchman.
#[derive(Clone, Debug)]
pub struct Watchman {
    /// What did not hold.
    pub violations: Violations,
    /// What was seen.
    pub coverage: Coverage,
    /// A fence said what is not so, or a person did: what follows is not the controller's fault.
    pub lied: bool,
    /// Who gets right answers.
    pub customers: Sights,
    /// Acknowledged writes that were lost although they were made after the outage began: no forecast speaks of them.
    pub lost_after_outage: u64,
    /// When the service was verified at its new site.
    pub verified: Option<Time>,
    /// How many runs ended in which way.
    pub ended: BTreeMap<&'static str, u64>,
    knows_clock: bool,
    intents: BTreeSet<(RunId, StepId, Attempt)>,
    epochs: BTreeMap<Epoch, SiteName>,
    runs: BTreeMap<RunId, Seen>,
    announced: BTreeSet<AnnouncementId>,
    settled: BTreeSet<IdempotencyKey>,
    verdicts: BTreeMap<ComponentName, Verdict>,
    gates: Option<Answer>,
    /// A question ended by silence, and the policy then goes on.
    silence: bool,
    serving: usize,
    promoted: Option<(usize, Time)>,
    /// Acknowledged writes that a promotion has lost already.
    lost: BTreeSet<Write>,
    service: std::sync::Arc<Service>,
}

impl Watchman {
    /// Nothing was seen yet.
    #[must_use]
    pub fn new(scenario: &Scenario) -> Self {
        let service = scenario.service.clone();
        let primary = service.primary().map(|p| p.name.clone());
        let serving = service
            .sites
            .iter()
            .position(|s| Some(&s.name) == primary.as_ref());
        Self {
            violations: Violations::default(),
            coverage: Coverage::default(),
            lied: false,
            customers: Sights::default(),
            lost_after_outage: 0,
            verified: None,
            ended: BTreeMap::new(),
            knows_clock: scenario.has_true_clock(),
            intents: BTreeSet::new(),
            epochs: BTreeMap::new(),
            runs: BTreeMap::new(),
            announced: BTreeSet::new(),
            settled: BTreeSet::new(),
            verdicts: BTreeMap::new(),
            gates: None,
            silence: false,
            serving: serving.unwrap_or(0),
            promoted: None,
            lost: BTreeSet::new(),
            service,
        }
    }

    /// The site that the application is served from, as the journal has it.
    #[must_use]
    pub fn serving(&self) -> usize {
        self.serving
    }

    /// Whether a run is open.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.runs.values().any(|r| !r.closed)
    }

    /// Whether a run was ever open.
    #[must_use]
    pub fn was_busy(&self) -> bool {
        !self.runs.is_empty()
    }

    /// The site that the open run leaves.
    #[must_use]
    pub fn leaves(&self) -> Option<usize> {
        let open = self.runs.values().find(|r| !r.closed)?;
        Some(self.site(&open.plan.from))
    }

    /// The site that a run leaves.
    #[must_use]
    pub fn left_by(&self, run: &RunId) -> Option<SiteName> {
        self.runs.get(run).map(|r| r.plan.from.clone())
    }

    /// The rungs that the fences of a run say to have reached.
    #[must_use]
    pub fn claims(&self, run: &RunId) -> Vec<Rung> {
        // What a person attests stands by itself.
        let seen = self.runs.get(run).filter(|seen| !seen.attested);
        let claims = seen.into_iter().flat_map(|r| r.rungs.values());
        claims.copied().flatten().collect()
    }

    fn site(&self, name: &SiteName) -> usize {
        let sites = &self.service.sites;
        sites.iter().position(|s| &s.name == name).unwrap_or(0)
    }

    /// A record is durable.
    pub fn recorded(&mut self, record: &Record, sites: &[Site], now: Time) {
        match &record.body {
            RecordBody::RunOpened { .. } => self.opened(record),
            RecordBody::EpochRaised {
                run, epoch, site, ..
            } => self.raised(run, *epoch, site, sites, now),
            RecordBody::Moved { epoch, site, .. } => self.rises(*epoch, site, now),
            RecordBody::EpochOpened { terms, .. } => self.rises(terms.epoch, &terms.site, now),
            RecordBody::StepIntent {
                run, step, attempt, ..
            } => {
                self.intents.insert((run.clone(), step.clone(), *attempt));
                if let Some(seen) = self.runs.get_mut(run)
                    && let Some(planned) = seen.plan.step(step)
                {
                    seen.part = seen.part.max(planned.phase);
                }
            }
            RecordBody::StepOutcome {
                run,
                step,
                result: StepResult::Done(proof),
                ..
            }
            | RecordBody::StepObserved {
                run,
                step,
                presence: Presence::InPlace(proof),
                ..
            } => {
                if let Some(seen) = self.runs.get_mut(run) {
                    seen.rungs.insert(step.clone(), proof.rung);
                    seen.settled.insert(step.clone());
                }
            }
            RecordBody::StepSettled { run, step, .. } => {
                if let Some(seen) = self.runs.get_mut(run) {
                    seen.settled.insert(step.clone());
                }
            }
            RecordBody::Attested { run, .. } => {
                if let Some(seen) = self.runs.get_mut(run) {
                    seen.attested = true;
                }
            }
            RecordBody::Unwinding { run, .. } => {
                if let Some(seen) = self.runs.get_mut(run) {
                    seen.unwinding = true;
                }
            }
            RecordBody::Verified { .. } => self.verified = Some(now),
            RecordBody::RunClosed {
                run,
                outcome,
                reason,
                active,
            } => {
                if reason.trim().is_empty() {
                    let found = format!("run {run} ended {outcome:?} without a reason");
                    self.violations.note(Rule::RunsEnd, now, found);
                }
                let word = match outcome {
                    RunOutcome::Done => "done",
                    RunOutcome::Unwound => "unwound",
                    RunOutcome::Stuck => "stuck",
                    RunOutcome::Aborted => "aborted",
                };
                *self.ended.entry(word).or_default() += 1;
                self.serving = self.site(active);
                if let Some(seen) = self.runs.get_mut(run) {
                    seen.closed = true;
                }
            }
            RecordBody::PhaseEntered {
                phase,
                announcement,
            } => {
                self.announced.insert(announcement.id.clone());
                if *phase == Phase::Recovered {
                    self.recovered(now);
                }
            }
            RecordBody::VerdictChanged { component, to, .. } => {
                self.verdicts.insert(component.clone(), *to);
            }
            RecordBody::Held { reasons, .. } if !reasons.is_empty() => {
                self.gates = Some(Answer::Hold);
            }
            RecordBody::AskOpened { plan: Some(_), .. } => self.gates = Some(Answer::Ask),
            RecordBody::AskClosed {
                outcome: AskOutcome::Expired { proceed },
                ..
            } => self.silence = *proceed,
            RecordBody::IncidentClosed { .. } => self.gates = None,
            RecordBody::ControllerStarted { .. }
            | RecordBody::LeaderTaken { .. }
            | RecordBody::EpochHeld { .. }
            | RecordBody::TakenOver { .. }
            | RecordBody::DocumentsChanged { .. }
            | RecordBody::ModeChanged { .. }
            | RecordBody::Checked { .. }
            | RecordBody::IncidentOpened { .. }
            | RecordBody::Held { .. }
            | RecordBody::WouldAct { .. }
            | RecordBody::AskOpened { .. }
            | RecordBody::Approved { .. }
            | RecordBody::AskClosed { .. }
            | RecordBody::StepOutcome { .. }
            | RecordBody::StepObserved { .. }
            | RecordBody::AnnouncementSettled { .. }
            | RecordBody::PageRaised { .. }
            | RecordBody::TeamPaged { .. }
            | RecordBody::PageClosed { .. }
            | RecordBody::Paused { .. }
            | RecordBody::Resumed { .. }
            | RecordBody::FailoverAcknowledged { .. }
            | RecordBody::TtlChanged { .. }
            | RecordBody::BackupVerified { .. }
            | RecordBody::DrillOpened { .. }
            | RecordBody::DrillJudged { .. }
            | RecordBody::DrillClosed { .. }
            | RecordBody::DrillSkipped { .. }
            | RecordBody::BackupTaken { .. }
            | RecordBody::BackupsJudged { .. }
            | RecordBody::ReadinessTurned { .. }
            | RecordBody::JournalResumed { .. }
            | RecordBody::Group(_)
            | RecordBody::LossMeasured { .. }
            | RecordBody::Refused { .. }
            | RecordBody::Declared { .. }
            | RecordBody::Resolved { .. }
            | RecordBody::DutyTaken { .. }
            | RecordBody::HandOverOffered { .. }
            | RecordBody::Note { .. } => {}
        }
        self.coverage.see(Situation::Standing(self.standing()));
    }

    /// From here on another journal counts, which begins with these records. Whoever was told by the controller before
    /// may be told again: its ledger is lost.
    pub fn goes_on_from(&mut self, records: &[Record], sites: &[Site], now: Time) {
        let before = self.clone();
        self.runs.clear();
        self.epochs.clear();
        self.intents.clear();
        self.announced.clear();
        self.settled.clear();
        self.verdicts.clear();
        for record in records {
            self.recorded(record, sites, now);
        }
        // What the controller before had begun is not begun again.
        for run in self.runs.values_mut() {
            run.acts = true;
        }
        self.violations = before.violations;
        self.coverage = before.coverage;
        self.ended = before.ended;
        self.verified = before.verified;
    }

    fn standing(&self) -> Standing {
        let open = self.runs.values().find(|r| !r.closed);
        let worst = |v: &&Verdict| match v {
            Verdict::Down => 4,
            Verdict::Suspect => 3,
            Verdict::Inconclusive => 2,
            Verdict::Degraded => 1,
            Verdict::Healthy => 0,
        };
        Standing {
            verdict: self
                .verdicts
                .values()
                .max_by_key(worst)
                .copied()
                .unwrap_or_default(),
            part: match open {
                None => Part::None,
                Some(run) if run.unwinding => Part::Unwinding,
                Some(run) => Part::Phase(run.part),
            },
            rung: open.and_then(Seen::rung),
            gates: self.gates,
        }
    }

    fn opened(&mut self, record: &Record) {
        let RecordBody::RunOpened {
            kind,
            plan,
            since,
            requester,
            approved_by,
            loss,
            ..
        } = &record.body
        else {
            return;
        };
        let by_silence = std::mem::take(&mut self.silence);
        let by_itself = requester.is_none() && approved_by.is_empty() && !by_silence;
        if by_itself {
            self.gates = Some(Answer::Allow);
        }
        self.runs.insert(
            RunId::of(&record.chain, record.seq),
            Seen {
                kind: *kind,
                plan: plan.as_ref().clone(),
                since: *since,
                by_itself,
                loss: loss.clone(),
                rungs: BTreeMap::new(),
                settled: BTreeSet::new(),
                attested: false,
                unwinding: false,
                epoch: None,
                acts: false,
                part: StepPhase::Fence,
                closed: false,
            },
        );
    }

    /// A failover begins to act by itself: do customers have need of one?
    fn unneeded(&mut self, now: Time) {
        let window = believed(&self.service);
        let well: BTreeSet<_> = self
            .customers
            .since
            .iter()
            .zip(&self.service.vantage_points)
            .filter(|(since, _)| since.is_some_and(|s| now.since(s) > window))
            .map(|(_, point)| &point.network)
            .collect();
        if well.len() >= self.service.quorum.networks {
            let found = format!(
                "{} networks have got right answers for more than {window}",
                well.len()
            );
            self.violations
                .note(Rule::NoFailoverWhileServed, now, found);
        }
    }

    fn raised(&mut self, run: &RunId, epoch: Epoch, site: &SiteName, sites: &[Site], now: Time) {
        self.rises(epoch, site, now);
        let Some(seen) = self.runs.get_mut(run) else {
            let found = format!("run {run} was never opened");
            self.violations.note(Rule::RecordBeforeEffect, now, found);
            return;
        };
        seen.epoch = Some(epoch);
        seen.part = StepPhase::Promote;
        let from = seen.plan.from.clone();
        // What is proved of a guarded site is the referee's to judge.
        let guards = self.service.guards.as_ref();
        if guards.is_some_and(|g| g.sites.contains_key(&from)) {
            return;
        }
        let old = self.site(&from);
        if sites[old].may_take_writes() && !self.lied {
            let found = format!(
                "epoch {epoch} is {site}'s, and the host of {from} is {:?}",
                sites[old].power
            );
            self.violations.note(Rule::FencedBeforeEpoch, now, found);
        }
    }

    fn rises(&mut self, epoch: Epoch, site: &SiteName, now: Time) {
        let highest = self.epochs.keys().next_back().copied();
        if highest.is_some_and(|h| epoch <= h) || epoch <= Epoch(1) {
            let found = format!("epoch {epoch} for {site}");
            self.violations.note(Rule::EpochsRise, now, found);
        }
        self.epochs.insert(epoch, site.clone());
    }

    fn recovered(&mut self, now: Time) {
        let recent = believed(&self.service).saturating_mul(2);
        let well = |last: &Option<Time>| last.is_some_and(|l| now.since(l) <= recent);
        let now_well = self.customers.since.iter().any(Option::is_some);
        if !now_well && !self.customers.last.iter().any(well) {
            let found = format!("nobody has got a right answer for {recent}");
            self.violations.note(Rule::RecoveredIsTrue, now, found);
        }
    }

    /// An adapter is called.
    pub fn performs(&mut self, step: &StepContext, now: Time) {
        let key = (step.run.clone(), step.step.clone(), step.attempt);
        if !self.intents.contains(&key) {
            let found = format!(
                "step {} of {}, attempt {}",
                step.step, step.run, step.attempt.0
            );
            self.violations.note(Rule::RecordBeforeEffect, now, found);
        }
        self.acts(now);
    }

    /// The open run changes something.
    pub fn acts(&mut self, now: Time) {
        let open = self.runs.values_mut().find(|run| !run.closed);
        let by_itself = |run: &&mut Seen| run.by_itself && run.kind == RunKind::Failover;
        if let Some(run) = open.filter(by_itself)
            && !std::mem::replace(&mut run.acts, true)
        {
            self.unneeded(now);
        }
    }

    /// Whether the journal says that a step of this kind was to be performed.
    #[must_use]
    pub fn intends(&self, kind: &str) -> bool {
        self.intents.iter().any(|(run, step, _)| {
            let plan = self.runs.get(run).map(|r| &r.plan);
            let planned = plan.and_then(|p| p.step(step));
            planned.and_then(|s| s.action.kind()) == Some(kind)
        })
    }

    /// Whether a run that is open has begun a step of this kind that is not settled.
    #[must_use]
    pub fn is_doing(&self, kind: &str) -> bool {
        self.intents.iter().any(|(run, step, _)| {
            let open = self.runs.get(run).filter(|r| !r.closed);
            let open = open.filter(|r| !r.settled.contains(step));
            let planned = open.and_then(|r| r.plan.step(step));
            planned.and_then(|s| s.action.kind()) == Some(kind)
        })
    }

    /// An adapter is to take back what it did.
    pub fn undoes(&mut self, step: &StepContext, now: Time) {
        let is_recorded = self.runs.get(&step.run).is_some_and(|r| r.unwinding);
        if !is_recorded {
            let found = format!("undo of {} of {}", step.step, step.run);
            self.violations.note(Rule::RecordBeforeEffect, now, found);
        }
    }

    /// A promotion is asked for.
    pub fn promotes(&mut self, step: &StepContext, now: Time) {
        let Some(seen) = self.runs.get(&step.run) else {
            return;
        };
        let required = seen.plan.fencing;
        let fences = seen
            .plan
            .steps
            .iter()
            .filter(|s| s.phase == StepPhase::Fence);
        let open: Vec<_> = fences
            .filter(|s| !seen.settled.contains(&s.id))
            .map(|s| s.id.to_string())
            .collect();
        let proved = seen.rung() >= required || seen.attested;
        if seen.epoch != Some(step.epoch) || !proved || !open.is_empty() {
            let found = format!(
                "rung {:?}, required {required:?}, epoch {:?}, open {}",
                seen.rung(),
                seen.epoch,
                open.join(", ")
            );
            self.violations.note(Rule::RungBeforePromotion, now, found);
        }
    }

    /// A step ended as failed; `left` is whether its effect came into place meanwhile.
    pub fn failed(&mut self, step: &StepContext, left: bool, now: Time) {
        if left {
            let found = format!("step {} of {}", step.step, step.run);
            self.violations.note(Rule::FailedLeavesNothing, now, found);
        }
    }

    /// A database was promoted, in that epoch where guards know one: what was acknowledged and is not in its log is
    /// lost, once.
    pub fn promoted_at(
        &mut self,
        n: usize,
        epoch: Option<Epoch>,
        sites: &[Site],
        customers: &Customers,
        now: Time,
    ) {
        self.promoted = Some((n, now));
        let Some(database) = &sites[n].database else {
            return;
        };
        let kept: BTreeSet<u64> = database.log.iter().copied().collect();
        let lost: Vec<Acknowledged> = customers
            .acknowledged
            .iter()
            .filter(|a| !kept.contains(&a.write) && !self.lost.contains(&a.write))
            .copied()
            .collect();
        self.lost.extend(lost.iter().map(|a| a.write));
        let mut runs = self.runs.values();
        let is_its = |r: &&Seen| match epoch {
            Some(_) => r.epoch == epoch,
            None => !r.closed,
        };
        let Some(run) = runs.find(is_its) else {
            return;
        };
        if run.kind.is_planned()
            && !self.lied
            && let Some(first) = lost.first()
        {
            let found = format!(
                "{} writes, the first acknowledged at {}, by planned work",
                lost.len(),
                first.at.since(BEGIN)
            );
            self.violations.note(Rule::LossWithinForecast, now, found);
        }
        if lost.is_empty() || self.lied || !self.knows_clock || run.kind == RunKind::Redirect {
            return;
        }
        let since = run.since;
        let after = lost.iter().filter(|a| a.at > since).count();
        self.lost_after_outage += after as u64;
        let rpo = self.service.objectives.rpo;
        let may_be_lost = match &run.loss {
            // Nobody was asked: then not more than the objective allows, whatever the forecast says.
            LossForecast::Known(lag) if run.by_itself => lag.time.min(rpo),
            LossForecast::Known(lag) => lag.time,
            // The gate has asked about all that is beyond the objective.
            LossForecast::Restored(reach) => reach.time,
            // People have said yes to a loss that nobody knows; without them it is none.
            LossForecast::Unknown { .. } if !run.by_itself => return,
            LossForecast::Unknown { .. } | LossForecast::Stateless | LossForecast::Drained => {
                Span::ZERO
            }
        };
        let safe_until = since.before(may_be_lost).before(SLACK);
        let none = run.by_itself && rpo == Span::ZERO;
        let broken: Vec<_> = lost.iter().filter(|a| a.at < safe_until || none).collect();
        if let Some(first) = broken.first() {
            let found = format!(
                "{} of {} lost writes, the first {} before the outage; the forecast was {}",
                broken.len(),
                lost.len(),
                since.since(first.at),
                run.loss
            );
            self.violations.note(Rule::LossWithinForecast, now, found);
        }
    }

    /// The public name leads to a site now.
    pub fn led(&mut self, site: usize, takes_writes: bool, now: Time) {
        let open = self.runs.values().find(|r| !r.closed);
        let promotes = open.is_some_and(|r| r.plan.fencing.is_some() && r.promotes());
        let is_new = open.is_some_and(|r| self.site(&r.plan.to) == site);
        if promotes && is_new && !takes_writes && self.promoted.is_none_or(|p| p.0 != site) {
            let found = format!("site-{site} is no primary");
            self.violations.note(Rule::NamesAfterPromotion, now, found);
        }
    }

    /// A customer's write was acknowledged.
    pub fn wrote(&mut self, site: usize, now: Time) {
        if let Some((to, at)) = self.promoted
            && to != site
            && at < now
            && !self.lied
        {
            let found = format!("site-{site} acknowledged a write after site-{to} was promoted");
            self.violations.note(Rule::OneWriter, now, found);
        }
    }

    /// After every event.
    pub fn look(&mut self, sites: &[Site], now: Time) {
        let is_guarded = self.service.guards.is_some();
        if self.promoted.is_none() && !is_guarded || self.lied {
            return;
        }
        if sites.iter().filter(|s| s.takes_writes()).count() > 1 {
            let writers: Vec<_> = (0..sites.len())
                .filter(|n| sites[*n].takes_writes())
                .collect();
            let found = format!("sites {writers:?} take writes");
            self.violations.note(Rule::OneWriter, now, found);
        }
    }

    /// A message goes out to somebody.
    pub fn tells(&mut self, key: &IdempotencyKey, now: Time) {
        if self.settled.contains(key) {
            self.violations.note(Rule::ToldOnce, now, key.to_string());
        }
    }

    /// An announcement goes out.
    pub fn announces(&mut self, id: &AnnouncementId, now: Time) {
        if !self.announced.contains(id) {
            let found = format!("announcement {id}");
            self.violations.note(Rule::RecordBeforeEffect, now, found);
        }
    }

    /// The ledger says that somebody was told, or may have been.
    pub fn settled(&mut self, key: IdempotencyKey) {
        self.settled.insert(key);
    }
}

/// Clocks and journal of the simulation are no more exact than this.
const SLACK: Span = Span::from_millis(250);

/// After this long every probe that looks is believed, either way.
fn believed(service: &Service) -> Span {
    let times = u64::from(service.quorum.failures.max(service.quorum.successes)) + 1;
    let probes = service.components.iter().flat_map(|c| &c.probes);
    probes
        .map(|p| p.every.saturating_mul(times + 2).saturating_add(p.timeout))
        .max()
        .unwrap_or(Span::ZERO)
}

impl Seen {
    fn rung(&self) -> Option<Rung> {
        let attested = self.attested.then_some(Rung::Attested);
        self.rungs.values().copied().flatten().chain(attested).max()
    }

    fn promotes(&self) -> bool {
        let mut steps = self.plan.steps.iter();
        steps.any(|s| s.phase == StepPhase::Promote)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{loss::Lag, observation::DatabaseRole},
        sim::site::Life,
    };

    fn run(watchman: &mut Watchman, (id, epoch): (&str, u64), kind: RunKind, since: Time) {
        let service = watchman.service.clone();
        let plan = Plan {
            service: service.name.clone(),
            kind,
            runbook: service.runbook.name.clone(),
            from: service.sites[0].name.clone(),
            to: service.sites[1].name.clone(),
            fencing: None,
            steps: Vec::new(),
            config: service.config.clone(),
        };
        let seen = Seen {
            kind,
            plan,
            since,
            by_itself: false,
            loss: LossForecast::Known(Lag {
                bytes: 0,
                time: Span::from_secs(5),
                measured: since,
            }),
            rungs: BTreeMap::new(),
            settled: BTreeSet::new(),
            attested: false,
            unwinding: false,
            acts: false,
            epoch: Some(Epoch(epoch)),
            part: StepPhase::Promote,
            closed: false,
        };
        watchman.runs.insert(RunId::new(id), seen);
    }

    /// A watchman, a promoted site that lacks the write of that moment, and the customers who know of it.
    fn lacking(at: u64) -> (Watchman, Vec<Site>, Customers) {
        let mut scenario = Scenario::draw(1, &[], None);
        scenario.faults.clear();
        let mut customers = Customers::default();
        customers.acknowledged.push(Acknowledged {
            write: 1,
            at: BEGIN.after(Span::from_secs(at)),
        });
        let site = Site::new(Some((DatabaseRole::Primary, Life::Runs)), BEGIN);
        (Watchman::new(&scenario), vec![site], customers)
    }

    #[test]
    fn what_one_failover_lost_is_not_the_loss_of_the_next() {
        let (mut watchman, sites, customers) = lacking(58);
        let at = |s| BEGIN.after(Span::from_secs(s));
        run(&mut watchman, ("one", 2), RunKind::Failover, at(60));
        watchman.promoted_at(0, Some(Epoch(2)), &sites, &customers, at(70));
        run(&mut watchman, ("two", 3), RunKind::Failover, at(200));
        watchman.promoted_at(0, Some(Epoch(3)), &sites, &customers, at(210));
        assert_eq!(watchman.violations.found, Vec::new());
        let (mut watchman, sites, customers) = lacking(50);
        run(&mut watchman, ("one", 2), RunKind::Failover, at(60));
        watchman.promoted_at(0, Some(Epoch(2)), &sites, &customers, at(70));
        assert_eq!(watchman.violations.found[0].rule, Rule::LossWithinForecast);
    }

    #[test]
    fn planned_work_loses_nothing() {
        let (mut watchman, sites, customers) = lacking(58);
        let at = |s| BEGIN.after(Span::from_secs(s));
        run(&mut watchman, ("one", 2), RunKind::Switchover, at(60));
        watchman.promoted_at(0, Some(Epoch(2)), &sites, &customers, at(70));
        assert_eq!(watchman.violations.found[0].rule, Rule::LossWithinForecast);
    }
}
