//! What a run does next. Intent is recorded before an effect; after a crash or an unclear outcome the effect is
//! looked for before it is made again; after a promotion was promised the way is forward only.

use super::{
    detect, drill,
    event::{Call, Effect},
    incident, restore, salvage,
    state::{Question, Run, State, Step},
    terms,
    view::View,
};
use crate::model::{
    approval::{Ask, AskSubject},
    id::{Attempt, IdempotencyKey, StepId},
    loss::LossForecast,
    plan::{Action, OnFailure, PlanStep, RunKind, StepPhase},
    record::{RecordBody, RunOutcome, Settlement},
    service::Service,
    span::Span,
    time::Time,
    verdict::Verdict,
};

/// Longest wait between two attempts or looks.
const LONGEST: Span = Span::from_secs(30);
/// So long a run that has done nothing yet waits for what is down to be seen.
const UNSEEN: Span = Span::from_secs(120);

/// What the open runs do next, as records; one decision at a time.
#[must_use]
pub fn advance(service: &Service, state: &State, view: &View, now: Time) -> Vec<RecordBody> {
    let mut decided = state.runs().map(|run| next(service, state, run, view, now));
    decided
        .find(|records| !records.is_empty())
        .unwrap_or_default()
}

fn next(service: &Service, state: &State, run: &Run, view: &View, now: Time) -> Vec<RecordBody> {
    if run.unwinding.is_some() {
        return unwind(service, state, run, view, now);
    }
    if let Some(reason) = needless(service, state, run, view, now) {
        return vec![RecordBody::Unwinding {
            run: run.id.clone(),
            by: None,
            reason,
        }];
    }
    if let Some(measured) = salvage::measured(state, run) {
        return vec![measured];
    }
    // What the journal says to be down may have come back while no controller ran: whoever has just begun looks first.
    let is_blind = is_own(run) && detect::settling(service, state, view, now);
    if is_blind || waits_to_see(state, run, view) {
        return Vec::new();
    }
    let mut out = Vec::new();
    for (step, at) in run.steps() {
        if !ready(run, step) {
            continue;
        }
        let decision = match at {
            None => begin(service, state, run, step, view, now),
            Some(Step::Failed { reason, .. }) => {
                after_failure(service, state, run, step, reason, view, now)
            }
            Some(Step::Indeterminate { reason, .. }) => {
                while_unclear(service, state, run, step, reason, now)
            }
            Some(Step::Intended { .. } | Step::Done(_) | Step::Settled(_)) => Vec::new(),
        };
        // A run that stops or an epoch that rises comes alone: what follows is decided on the new state.
        if decision.iter().any(|r| {
            matches!(
                r,
                RecordBody::RunClosed { .. }
                    | RecordBody::DrillJudged { .. }
                    | RecordBody::EpochRaised { .. }
                    | RecordBody::Unwinding { .. }
            )
        }) {
            return decision;
        }
        out.extend(decision);
    }
    if !out.is_empty() {
        return out;
    }
    finish(service, state, run, now)
}

/// Why a run that nobody asked for, and that has changed nothing for good, goes no further; none where it does.
fn needless(service: &Service, state: &State, run: &Run, view: &View, now: Time) -> Option<String> {
    if is_own(run) && incident::well(service, state) {
        return Some("what was down works again, and nothing was done yet".to_owned());
    }
    let waited = view.unseen_since.map(|since| now.since(since));
    let is_over = waited.is_some_and(|waited| waited >= UNSEEN) && waits_to_see(state, run, view);
    is_over.then(|| {
        format!(
            "what was down was not seen to be so for {UNSEEN}, and nothing was done yet: where it is seen again, that is \
             decided anew"
        )
    })
}

/// Whether a run that nobody asked for has done nothing yet, and what is down is not seen to be so any more, as after a
/// journal that hung while the run was written to it: it waits until that is known.
#[must_use]
pub fn waits_to_see(state: &State, run: &Run, view: &View) -> bool {
    let is_seen = state.verdicts.values().any(|v| v.0 == Verdict::Down);
    // After a restart an intended step is one that may have been performed.
    let has_acted = run.steps.iter().any(|(step, at)| {
        let of = (run.id.clone(), step.clone());
        !matches!(at, Step::Intended { .. }) || view.under_way.contains(&of)
    });
    is_own(run) && !has_acted && !is_seen
}

/// Whether it is a failover that nobody asked for, and that has changed nothing for good.
fn is_own(run: &Run) -> bool {
    run.epoch.is_none()
        && run.rung().is_none()
        && run.attested.is_none()
        && run.requester.is_none()
        && run.kind == RunKind::Failover
}

fn ready(run: &Run, step: &PlanStep) -> bool {
    step.needs
        .iter()
        .all(|n| run.steps.get(n).is_some_and(Step::is_settled))
}

fn begin(
    service: &Service,
    state: &State,
    run: &Run,
    step: &PlanStep,
    view: &View,
    now: Time,
) -> Vec<RecordBody> {
    if let Some(reason) = restore::needless(run, step) {
        return vec![RecordBody::StepSettled {
            run: run.id.clone(),
            step: step.id.clone(),
            how: Settlement::Skipped { reason },
        }];
    }
    if step.phase == StepPhase::Promote && run.epoch.is_none() && run.plan.fencing.is_some() {
        return promise(service, state, run, view, now);
    }
    // Better before anything is stopped than after it.
    if step.phase <= StepPhase::Fence
        && run.epoch.is_none()
        && run.kind != RunKind::Drill
        && let Some(stranger) = terms::stranger(service, state, view)
    {
        return vec![closed(run, RunOutcome::Stuck, stranger)];
    }
    if step.phase == StepPhase::Fence
        && let Some(reasons) = salvage::unsettled(state, run)
    {
        let subject = AskSubject::Salvage {
            run: run.id.clone(),
        };
        match question(state, &subject) {
            Some(q) if q.granted => {}
            Some(_) => return Vec::new(),
            None => return vec![ask(service, run, subject, reasons, 1, now)],
        }
    }
    match &step.action {
        Action::Adapter(_) => vec![intent(state, run, step, Attempt(1))],
        Action::Manual { instructions } => {
            let subject = AskSubject::Manual {
                run: run.id.clone(),
                step: step.id.clone(),
            };
            match question(state, &subject) {
                Some(q) if q.granted => {
                    let by = q.approved.first().cloned().unwrap_or_default();
                    vec![RecordBody::StepSettled {
                        run: run.id.clone(),
                        step: step.id.clone(),
                        how: Settlement::Manual { by },
                    }]
                }
                Some(_) => Vec::new(),
                None => vec![ask(
                    service,
                    run,
                    subject,
                    vec![format!("manual step {}: {instructions}", step.name)],
                    1,
                    now,
                )],
            }
        }
    }
}

/// Before the first promotion: the fence must be proved as far as the policy wants, then the epoch rises.
fn promise(service: &Service, state: &State, run: &Run, view: &View, now: Time) -> Vec<RecordBody> {
    let required = run.plan.fencing;
    let is_taken = state.taken_over.is_some();
    let attested = run.attestation(service.approvals.expiry, now);
    let evidence = match (attested, run.rung()) {
        (_, Some(rung)) if Some(rung) >= required && !is_taken => format!("fenced: rung {rung}"),
        (None, Some(rung)) if is_taken => {
            let reason = format!(
                "the old primary at {} is fenced with rung {rung}, but this controller took over and may lack the last records",
                run.plan.from
            );
            return fence_question(service, state, run, reason, now);
        }
        (Some((by, statement)), _) => format!("attested by {by}: {statement}"),
        (None, rung) => {
            let reached =
                rung.map_or_else(|| "no rung of proof".to_owned(), |r| format!("rung {r}"));
            let wanted = required.map_or_else(String::new, |r| format!(", {r} is required"));
            let reason = format!(
                "the old primary at {} is fenced with {reached}{wanted}",
                run.plan.from
            );
            return fence_question(service, state, run, reason, now);
        }
    };
    if let Some(stranger) = terms::stranger(service, state, view) {
        return vec![closed(run, RunOutcome::Stuck, stranger)];
    }
    // Higher than what the new site's guard has promised to a controller whose journal knew more.
    let target = view.guards.get(&run.plan.to);
    let promised = target.and_then(|r| r.promise.as_ref()).map(|p| p.epoch);
    let epoch = promised.unwrap_or_default().max(state.epoch).next();
    vec![RecordBody::EpochRaised {
        run: run.id.clone(),
        epoch,
        site: run.plan.to.clone(),
        evidence,
        terms: terms::of(service, view, epoch, &run.plan.to),
    }]
}

/// Asks a person to attest that the old primary cannot write; once granted, records the attestation.
fn fence_question(
    service: &Service,
    state: &State,
    run: &Run,
    reason: String,
    now: Time,
) -> Vec<RecordBody> {
    let subject = AskSubject::Fence {
        run: run.id.clone(),
    };
    match question(state, &subject) {
        Some(q) if q.granted => {
            let by = q.approved.last().cloned().unwrap_or_default();
            vec![RecordBody::Attested {
                run: run.id.clone(),
                by,
                statement: q.reason.clone().unwrap_or_default(),
            }]
        }
        Some(_) => Vec::new(),
        None => {
            let reasons = vec![
                reason,
                "approve only if you have seen yourself that the old primary is off or cannot be reached by any client: your name stands for it".to_owned(),
            ];
            vec![ask(
                service,
                run,
                subject,
                reasons,
                service.approvals.required.max(1),
                now,
            )]
        }
    }
}

fn after_failure(
    service: &Service,
    state: &State,
    run: &Run,
    step: &PlanStep,
    reason: &str,
    view: &View,
    now: Time,
) -> Vec<RecordBody> {
    let failures = run.failures.get(&step.id).copied().unwrap_or(0);
    if failures < step.retry.attempts {
        let of = (run.id.clone(), step.id.clone());
        if view.not_before.get(&of).is_some_and(|at| now < *at) {
            return Vec::new();
        }
        let attempt = match run.steps.get(&step.id) {
            Some(Step::Failed { attempt, .. }) => Attempt(attempt.0 + 1),
            _ => Attempt(1),
        };
        return vec![intent(state, run, step, attempt)];
    }
    if let Some(branch) = second_branch(service, state, run, step, reason, view, now) {
        return branch;
    }
    give_up(service, state, run, step, reason, now)
}

/// Before what stands in for a step that has failed for good is begun, people approve what that loses; none where nothing
/// stands in for it.
fn second_branch(
    service: &Service,
    state: &State,
    run: &Run,
    step: &PlanStep,
    reason: &str,
    view: &View,
    now: Time,
) -> Option<Vec<RecordBody>> {
    let (instead, loss) = restore::instead(state, view, run, step)?;
    let subject = AskSubject::Failed {
        run: run.id.clone(),
        step: step.id.clone(),
    };
    let failed = format!("step {} ({}) failed: {reason}", step.id, step.name);
    Some(match question(state, &subject) {
        Some(q) if q.granted => vec![RecordBody::StepSettled {
            run: run.id.clone(),
            step: step.id.clone(),
            how: Settlement::Skipped {
                reason: format!("{reason}; people approved the second branch"),
            },
        }],
        Some(_) => Vec::new(),
        None => {
            let required = service.approvals.required.max(1);
            let opened = ask(service, run, subject, vec![failed, instead], required, now);
            vec![losing(opened, loss)]
        }
    })
}

/// The same question with another loss than the run's.
fn losing(mut record: RecordBody, loss: LossForecast) -> RecordBody {
    if let RecordBody::AskOpened { ask, .. } = &mut record {
        ask.loss = loss;
    }
    record
}

/// A step whose effect cannot be told is looked for again and again; only when its time is over are people asked.
fn while_unclear(
    service: &Service,
    state: &State,
    run: &Run,
    step: &PlanStep,
    reason: &str,
    now: Time,
) -> Vec<RecordBody> {
    // Whether production takes writes there must be known; in a drill nothing hangs on it.
    let is_awaited = step.phase == StepPhase::Promote && run.kind != RunKind::Drill;
    if !run.is_overdue(step, now) || is_awaited {
        return Vec::new();
    }
    give_up(service, state, run, step, reason, now)
}

fn give_up(
    service: &Service,
    state: &State,
    run: &Run,
    step: &PlanStep,
    reason: &str,
    now: Time,
) -> Vec<RecordBody> {
    let skip = |why: String| RecordBody::StepSettled {
        run: run.id.clone(),
        step: step.id.clone(),
        how: Settlement::Skipped { reason: why },
    };
    // The site that is left works: nobody is asked to attest that it does not, it goes on.
    if run.kind.is_planned() && step.phase == StepPhase::Fence && run.epoch.is_none() {
        return vec![RecordBody::Unwinding {
            run: run.id.clone(),
            by: None,
            reason: format!("step {} ({}) failed: {reason}", step.id, step.name),
        }];
    }
    match step.on_failure {
        OnFailure::Continue => vec![skip(reason.to_owned())],
        OnFailure::Stop | OnFailure::Ask if run.kind == RunKind::Drill => {
            let why = format!("step {} ({}) failed: {reason}", step.id, step.name);
            vec![drill::failed(run, why)]
        }
        OnFailure::Stop => vec![closed(
            run,
            RunOutcome::Stuck,
            format!("step {} ({}) failed: {reason}", step.id, step.name),
        )],
        OnFailure::Ask if step.phase == StepPhase::Fence => {
            if let Some((by, _)) = run.attestation(service.approvals.expiry, now) {
                return vec![skip(format!("{reason}; attested by {by}"))];
            }
            fence_question(
                service,
                state,
                run,
                format!("fencing {} could not be proved: {reason}", run.plan.from),
                now,
            )
        }
        OnFailure::Ask => {
            let subject = AskSubject::Failed {
                run: run.id.clone(),
                step: step.id.clone(),
            };
            match question(state, &subject) {
                Some(q) if q.granted => vec![skip(format!("{reason}; a person decided to go on"))],
                Some(_) => Vec::new(),
                None => vec![ask(
                    service,
                    run,
                    subject,
                    vec![format!("step {} ({}) failed: {reason}", step.id, step.name)],
                    1,
                    now,
                )],
            }
        }
    }
}

fn finish(service: &Service, state: &State, run: &Run, now: Time) -> Vec<RecordBody> {
    if run.kind == RunKind::Drill {
        let is_over = run.settled_through(StepPhase::Tell);
        return is_over
            .then(|| drill::judged(state))
            .flatten()
            .into_iter()
            .collect();
    }
    if run.verified.is_none() && run.serves() {
        let downtime = now.since(run.since);
        return vec![RecordBody::Verified {
            run: run.id.clone(),
            downtime,
            within_rto: downtime <= service.objectives.rto,
        }];
    }
    if run.settled_through(StepPhase::Tell) {
        let what = match run.kind {
            RunKind::Redirect => "traffic goes to",
            RunKind::Failover | RunKind::Switchover | RunKind::Failback | RunKind::Drill => {
                "the service runs at"
            }
        };
        let unproved = if run.verified.is_some() {
            ""
        } else {
            ", which was not verified"
        };
        return vec![closed(
            run,
            RunOutcome::Done,
            format!("{what} {}{unproved}", run.plan.to),
        )];
    }
    Vec::new()
}

/// Takes back what was done, last step first, then closes the run.
fn unwind(service: &Service, state: &State, run: &Run, view: &View, now: Time) -> Vec<RecordBody> {
    let unbegun = unbegun(run, view);
    if !unbegun.is_empty() {
        return unbegun;
    }
    let kept = kept(service, state, run, view, now);
    if !kept.is_empty() {
        return kept;
    }
    let waiting = run
        .steps()
        .any(|(s, _)| view.under_way.contains(&(run.id.clone(), s.id.clone())) || undoable(run, s));
    if waiting {
        return Vec::new();
    }
    let (by, reason) = run.unwinding.clone().unwrap_or((None, String::new()));
    let (steps, left): (Vec<&PlanStep>, Vec<String>) = run
        .steps()
        .filter_map(|(step, at)| Some((step, left(step, at?)?)))
        .unzip();
    if run.kind == RunKind::Drill {
        return drill::closed(state, left).into_iter().collect();
    }
    // A fence that may be in place keeps nobody from being failed over to: what it fences is what another run would fence.
    let is_harmless = || {
        let of_fence = steps.iter().all(|step| step.phase == StepPhase::Fence);
        let elsewhere = detect::writing_elsewhere(service, state, view, now);
        is_own(run) && of_fence && elsewhere.is_empty()
    };
    let outcome = match by {
        None if !left.is_empty() && is_harmless() => RunOutcome::Unwound,
        _ if !left.is_empty() => RunOutcome::Stuck,
        Some(_) => RunOutcome::Aborted,
        None => RunOutcome::Unwound,
    };
    let reason = std::iter::once(reason).chain(left).collect::<Vec<_>>();
    vec![closed(run, outcome, reason.join("; "))]
}

/// Steps that were promised and not begun when the run turned back: there is nothing to take back.
fn unbegun(run: &Run, view: &View) -> Vec<RecordBody> {
    let unbegun = run.steps().filter(|(step, _)| never_begun(run, step, view));
    unbegun
        .map(|(step, _)| RecordBody::StepSettled {
            run: run.id.clone(),
            step: step.id.clone(),
            how: Settlement::Undone {
                summary: "it was not begun".to_owned(),
            },
        })
        .collect()
}

/// Whether a step was promised here, for the first time, and its effect was not handed out yet.
fn never_begun(run: &Run, step: &PlanStep, view: &View) -> bool {
    let first = ((run.id.clone(), step.id.clone()), Attempt(1));
    matches!(run.steps.get(&step.id), Some(Step::Intended { attempt }) if *attempt == Attempt(1))
        && view.fresh.contains(&first)
}

/// Fences that stay, since another site is seen to take writes: somebody promoted it past this run, as a controller may have
/// done that was taken over from and does not know it.
fn kept(service: &Service, state: &State, run: &Run, view: &View, now: Time) -> Vec<RecordBody> {
    if run.kind == RunKind::Drill {
        return Vec::new();
    }
    let writers = detect::writing_elsewhere(service, state, view, now);
    let Some(writer) = writers.first() else {
        return Vec::new();
    };
    let is_kept = |step: &PlanStep| {
        let is_under_way = view.under_way.contains(&(run.id.clone(), step.id.clone()));
        step.phase == StepPhase::Fence && undoable(run, step) && !is_under_way
    };
    let kept = run.steps().map(|(step, _)| step).filter(|s| is_kept(s));
    kept.map(|step| RecordBody::StepSettled {
        run: run.id.clone(),
        step: step.id.clone(),
        how: Settlement::Left {
            reason: format!(
                "the database at {writer} takes writes, so that {} stays fenced",
                run.plan.from
            ),
        },
    })
    .collect()
}

/// What a person has to take back by hand.
fn left(step: &PlanStep, at: &Step) -> Option<String> {
    match at {
        Step::Settled(Settlement::Left { reason }) => Some(format!(
            "step {} could not be taken back ({reason}): look at it by hand",
            step.id
        )),
        Step::Settled(Settlement::Manual { by }) => Some(format!(
            "step {} was done by {by} and is to be taken back by hand",
            step.id
        )),
        Step::Settled(Settlement::Skipped { .. } | Settlement::Undone { .. })
        | Step::Intended { .. }
        | Step::Indeterminate { .. }
        | Step::Failed { .. }
        | Step::Done(_) => None,
    }
}

/// Whether a step may have had an effect that was not taken back yet.
fn undoable(run: &Run, step: &PlanStep) -> bool {
    match run.steps.get(&step.id) {
        Some(Step::Done(_) | Step::Intended { .. } | Step::Indeterminate { .. }) => true,
        Some(Step::Settled(Settlement::Skipped { .. })) => run.unclear.contains(&step.id),
        // What a drill began and did not finish is in its bubble still.
        Some(Step::Failed { .. }) => run.kind == RunKind::Drill,
        Some(Step::Settled(
            Settlement::Manual { .. } | Settlement::Undone { .. } | Settlement::Left { .. },
        ))
        | None => false,
    }
}

/// The end of a run; after its promotion the service belongs to the site that it went to, whatever came of it.
pub fn closed(run: &Run, outcome: RunOutcome, reason: String) -> RecordBody {
    let active = if outcome == RunOutcome::Done || run.epoch.is_some() {
        &run.plan.to
    } else {
        &run.plan.from
    };
    RecordBody::RunClosed {
        run: run.id.clone(),
        outcome,
        reason,
        active: active.clone(),
    }
}

fn intent(state: &State, run: &Run, step: &PlanStep, attempt: Attempt) -> RecordBody {
    let epoch = run.epoch.unwrap_or(state.epoch);
    RecordBody::StepIntent {
        run: run.id.clone(),
        step: step.id.clone(),
        attempt,
        key: IdempotencyKey::of(&run.id, &step.id, epoch),
    }
}

fn question<'a>(state: &'a State, subject: &AskSubject) -> Option<&'a Question> {
    state.asks.values().find(|q| &q.ask.subject == subject)
}

fn ask(
    service: &Service,
    run: &Run,
    subject: AskSubject,
    reasons: Vec<String>,
    required: u32,
    now: Time,
) -> RecordBody {
    let ask = Ask {
        subject,
        plan: run.plan.hash(),
        reasons,
        loss: run.loss.clone(),
        forecast: format!(
            "the RTO of {} counts from {}",
            service.objectives.rto,
            run.since.clock()
        ),
        required,
        requester: run.requester.clone(),
    };
    RecordBody::AskOpened {
        ask: Box::new(ask),
        plan: None,
        expires: now.after(service.approvals.expiry),
    }
}

/// What is done now for the open runs; each effect is backed by a durable intent. Marks what it hands out.
#[must_use]
pub fn effects(state: &State, view: &mut View, now: Time) -> Vec<Effect> {
    let mut out = Vec::new();
    for run in state.runs() {
        let is_busy = |view: &View| view.under_way.iter().any(|(of, _)| *of == run.id);
        let is_blind = waits_to_see(state, run, view);
        if run.unwinding.is_some() && is_broken_off(run, view) {
            out.push(Effect::Break(run.id.clone()));
        }
        for (step, at) in run.steps() {
            let of = (run.id.clone(), step.id.clone());
            let waits =
                view.under_way.contains(&of) || view.not_before.get(&of).is_some_and(|t| now < *t);
            if waits {
                continue;
            }
            if run.unwinding.is_some() {
                // What was not begun is settled before anything is taken back.
                if run.steps().any(|(s, _)| never_begun(run, s, view)) {
                    break;
                }
                let last = run.plan.steps.iter().rev().find(|s| undoable(run, s));
                if last.is_some_and(|l| l.id == step.id) && !is_busy(view) {
                    view.under_way.insert(of);
                    out.push(Effect::Undo(call(state, run, &step.id, Attempt(1))));
                }
                continue;
            }
            if is_blind {
                continue;
            }
            let effect = match at {
                Some(Step::Intended { attempt }) if view.fresh.remove(&(of.clone(), *attempt)) => {
                    Effect::Perform(call(state, run, &step.id, *attempt))
                }
                Some(Step::Intended { attempt } | Step::Indeterminate { attempt, .. }) => {
                    Effect::Observe(call(state, run, &step.id, *attempt))
                }
                Some(Step::Failed { .. } | Step::Done(_) | Step::Settled(_)) | None => continue,
            };
            view.under_way.insert(of);
            out.push(effect);
        }
    }
    out
}

/// Whether what a drill has under way is not waited for.
fn is_broken_off(run: &Run, view: &mut View) -> bool {
    let busy = run.steps().any(|(step, at)| {
        let of = (run.id.clone(), step.id.clone());
        matches!(at, Some(Step::Intended { .. } | Step::Indeterminate { .. }))
            && view.under_way.contains(&of)
    });
    run.kind == RunKind::Drill && busy && view.broken.insert(run.id.clone())
}

fn call(state: &State, run: &Run, step: &StepId, attempt: Attempt) -> Call {
    let epoch = run.epoch.unwrap_or(state.epoch);
    Call {
        run: run.id.clone(),
        step: step.clone(),
        attempt,
        epoch,
        key: IdempotencyKey::of(&run.id, step, epoch),
    }
}

/// How long to wait after so many failures or looks in a row: doubling, with jitter, at most 30 s.
#[must_use]
pub fn pause(step: &PlanStep, run: &Run, times: u32) -> Span {
    let doubled = step
        .retry
        .backoff
        .saturating_mul(1 << times.saturating_sub(1).min(10))
        .min(LONGEST);
    // Jitter of up to a quarter, drawn from the names alone so that the same history gives the same waits.
    let seed = run
        .id
        .0
        .bytes()
        .chain(step.id.0.bytes())
        .fold(u64::from(times), |h, b| {
            h.wrapping_mul(31).wrapping_add(u64::from(b))
        });
    Span::from_millis(doubled.as_millis() - (doubled.as_millis() / 4) * (seed % 100) / 100)
}
