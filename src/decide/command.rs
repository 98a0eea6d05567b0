//! What people want becomes records, or a refusal that says why.

use super::{
    approve::{self, Approver},
    drill, duty,
    event::{Command, Refusal, subject_words},
    gate::Says,
    incident, page, phase, readiness, right, schedule,
    state::{Refused, State},
    terms, turn,
    view::View,
};
use crate::model::{
    announcement::Phase,
    id::{DrillName, IncidentId, PersonName, PlanHash, RunId, SiteName},
    plan::RunKind,
    record::{AskOutcome, RecordBody, RunOutcome},
    service::{Mode, Service},
    span::Span,
    time::Time,
};

/// The same refusal of the same person is written down once in this time.
pub const SAME_REFUSAL: Span = Span::from_secs(60);
/// So many refusals are written down in that time.
pub const REFUSALS: usize = 20;

/// Records that a command makes, and what the person is told once they are durable.
pub type Taken = Result<(Vec<RecordBody>, String), Refusal>;

/// Takes a command, where the person's role lets them give it.
///
/// # Errors
/// A refusal, in a sentence that says what to do.
pub fn take(service: &Service, state: &State, view: &View, command: &Command, now: Time) -> Taken {
    right::check(service, command)?;
    match command {
        Command::Open {
            kind,
            to,
            plan,
            by,
            reason,
        } => open(
            service,
            state,
            view,
            *kind,
            to.as_ref(),
            plan.as_ref(),
            by,
            reason,
            now,
        ),
        Command::Approve {
            ask,
            by,
            user,
            reason,
            break_glass,
        } => {
            let (_, question) = approve::find(state, ask.as_ref())?;
            let subject = subject_words(&question.ask.subject);
            let records = approve::approve(
                service,
                state,
                ask.as_ref(),
                Approver {
                    by,
                    user: user.as_ref(),
                },
                reason.as_deref(),
                *break_glass,
            )?;
            let enough = records.len() > 1;
            Ok((
                records,
                if enough {
                    format!("approved: {subject}; `failover status` shows what comes of it")
                } else {
                    "noted; another person must approve as well".to_owned()
                },
            ))
        }
        Command::Deny { ask, by, reason } => {
            let records = approve::deny(service, state, ask.as_ref(), by, reason.clone())?;
            let stops = records.len() > 1;
            Ok((
                records,
                if stops {
                    "denied: the run stops here; `failover status` shows where it stands"
                } else {
                    "denied; it is not asked again until the evidence changes"
                }
                .to_owned(),
            ))
        }
        Command::Pause { by, reason } => Ok((
            vec![RecordBody::Paused {
                by: by.clone(),
                reason: reason.clone(),
            }],
            "paused: nothing is begun automatically".to_owned(),
        )),
        Command::Resume { by } if state.paused.is_some() => Ok((
            vec![RecordBody::Resumed { by: by.clone() }],
            "resumed".to_owned(),
        )),
        Command::Resume { .. } => Err(Refusal::NotPaused),
        Command::Abort { by, reason } => abort(state, by, reason, now),
        Command::Acknowledge { page, by } => acknowledge(state, page.as_ref(), by),
        Command::Announce { phase, text, by } => {
            announce(service, state, *phase, text.clone(), by, now)
        }
        Command::Drill { policy, by, reason } => {
            begin_drill(service, state, view, policy.as_ref(), by, reason, now)
        }
        Command::StopDrill { by, reason } => {
            let open = state.drills.open.as_ref().filter(|d| d.judged.is_none());
            let open = open.ok_or(Refusal::NoRun)?;
            let said = format!("drill {} is broken off", open.id);
            Ok((vec![drill::stopped(open, by, reason)], said))
        }
        Command::SetMode { mode, by, reason } => set_mode(state, *mode, by, reason),
        Command::Moved { site, by, reason } => moved(service, state, view, site, by, reason),
        Command::TakeOver { by, reason } => take_over(service, state, view, by, reason),
        Command::Note { by, text } => Ok((
            vec![RecordBody::Note {
                by: by.clone(),
                text: text.clone(),
            }],
            "noted".to_owned(),
        )),
        Command::Declare { by, reason } => duty::declare(service, state, view, by, reason, now),
        Command::Resolve { by, reason } => duty::resolve(service, state, by, reason, now),
        Command::TakeDuty { duty, person, by } => {
            duty::take(service, state, *duty, person.as_ref(), by)
        }
        Command::HandOver { to, by } => duty::hand_over(service, state, to, by),
        Command::Accept { by } => duty::accept(state, by),
        Command::TurnedAway { reason, .. } => Err(Refusal::TurnedAway(reason.clone())),
    }
}

/// What is written down of a command that was refused. Whoever asks again and again for the same is written down once a
/// minute, and no more than a few people are: a journal is not to be filled by whoever likes to.
#[must_use]
pub fn refused(
    state: &State,
    command: &Command,
    refusal: &Refusal,
    now: Time,
) -> Option<RecordBody> {
    let (by, what, reason) = (command.by(), command.words(), refusal.to_string());
    let recent = |at: &&Refused| now.since(at.at) < SAME_REFUSAL;
    let is_same = |at: &Refused| at.by == *by && at.what == what && at.reason == reason;
    let mut known = state.refused.iter().filter(recent);
    if known.clone().count() >= REFUSALS || known.any(is_same) {
        return None;
    }
    Some(RecordBody::Refused {
        by: by.clone(),
        what: what.to_owned(),
        reason,
    })
}

#[expect(clippy::too_many_arguments, reason = "the fields of one command")]
fn open(
    service: &Service,
    state: &State,
    view: &View,
    kind: RunKind,
    to: Option<&SiteName>,
    meant: Option<&PlanHash>,
    by: &PersonName,
    reason: &str,
    now: Time,
) -> Taken {
    if let Some(run) = &state.run {
        return Err(Refusal::RunOpen(run.id.clone()));
    }
    if readiness::mode(service, state, now) == Mode::Observe {
        return Err(Refusal::Observe);
    }
    if let Some(to) = to
        && (service.site(to).is_none() || Some(to) == incident::leaves(state, kind))
    {
        return Err(Refusal::NoSite(to.to_string()));
    }
    let mut records = Vec::new();
    if let Some((id, question)) = incident::open_question(state) {
        // What was approved and waits for its turn may be asked for again, past the turn.
        if !(question.granted && turn::waits(service, state)) {
            return Err(Refusal::AskOpen(id.clone()));
        }
        records.push(RecordBody::AskClosed {
            ask: id.clone(),
            outcome: AskOutcome::Void {
                reason: format!("{by} asks for it past its turn"),
            },
        });
    }
    let since = state.incident.as_ref().map_or(now, |i| i.outage);
    let proposal = incident::propose(service, state, view, kind, to, since, now)
        .map_err(|reason| Refusal::NoPlan(kind, reason))?;
    let hash = proposal.plan.hash();
    if let Some(meant) = meant.filter(|meant| !hash.0.starts_with(meant.as_str())) {
        return Err(Refusal::OtherPlan {
            meant: meant.clone(),
            now: PlanHash::from(hash.short()),
        });
    }
    let concerns: Vec<String> = proposal
        .answers
        .iter()
        // A person who commands it knows the mode, the trigger and the pause; what the evidence says still counts.
        .filter(|a| {
            a.says != Says::Allow && !matches!(a.gate, "mode" | "trigger" | "pause" | "maintenance")
        })
        .map(|a| a.reason.clone())
        .collect();
    let incident_id = state.incident.as_ref().map_or_else(
        || IncidentId::of(&service.name, state.seq.next()),
        |i| i.id.clone(),
    );
    if state.incident.is_none() {
        records.push(RecordBody::IncidentOpened {
            components: Vec::new(),
            since,
            reason: format!("{by} asked for a {kind}: {reason}"),
            loss: incident::loss_now(service, state, view, since, now),
        });
    }
    let alone = service.approvals.required <= 1 && service.approvals.approvers.contains(by);
    if alone && concerns.is_empty() {
        let why = format!("{by} asked for it: {reason}");
        records.push(incident::opened(
            &proposal,
            Some(&incident_id),
            since,
            why,
            Some(by.clone()),
            vec![by.clone()],
        ));
        return Ok((
            records,
            format!("the {kind} to {} begins", proposal.plan.to),
        ));
    }
    let mut reasons = vec![format!("{by} asked for a {kind}: {reason}")];
    reasons.extend(concerns);
    let ask = incident::question(service, &proposal, Some(by.clone()), reasons);
    let plan = Some(Box::new(proposal.plan.clone()));
    records.push(RecordBody::AskOpened {
        ask: Box::new(ask),
        plan,
        expires: now.after(service.approvals.expiry),
    });
    Ok((
        records,
        "it must be approved first: `failover status` shows the question".to_owned(),
    ))
}

fn begin_drill(
    service: &Service,
    state: &State,
    view: &View,
    name: Option<&DrillName>,
    by: &PersonName,
    reason: &str,
    now: Time,
) -> Taken {
    let policy = drill::named(service, name).map_err(Refusal::WhichDrill)?;
    let wanted = drill::Wanted {
        by: Some(by),
        reason,
        slot: None,
    };
    let records = drill::begin(service, state, view, &policy, &wanted, now);
    let records = records.map_err(|obstacles| Refusal::NoDrill(obstacles.join("; ")))?;
    let id = RunId::of(&service.name, state.seq.next());
    Ok((records, format!("drill {id} ({}) begins", policy.name)))
}

fn abort(state: &State, by: &PersonName, reason: &str, now: Time) -> Taken {
    let run = state.run.as_ref().ok_or(Refusal::NoRun)?;
    if run.epoch.is_none() {
        let record = RecordBody::Unwinding {
            run: run.id.clone(),
            by: Some(by.clone()),
            reason: format!("{by} stopped it: {reason}"),
        };
        return Ok((vec![record], format!("run {} goes back", run.id)));
    }
    // It is not waited for without an end: its host may be lost for good.
    let Some((_, unclear)) = run.unclear_promotion(now) else {
        return Err(Refusal::PastPromotion(run.id.clone()));
    };
    let to = &run.plan.to;
    let reason =
        format!("{by} gave it up: {reason}; whether {to} takes writes is not known: {unclear}");
    let said = format!(
        "run {} is given up; {to} may still take writes, so that it has to be fenced before another site is promoted",
        run.id
    );
    Ok((vec![schedule::closed(run, RunOutcome::Stuck, reason)], said))
}

fn acknowledge(state: &State, page: Option<&crate::model::id::PageId>, by: &PersonName) -> Taken {
    let pages = page::named(state, page);
    if let (Some(page), true) = (page, pages.is_empty()) {
        return Err(Refusal::NoPage(page.to_string()));
    }
    let mut records: Vec<RecordBody> = pages
        .iter()
        .map(|p| RecordBody::PageClosed {
            page: p.clone(),
            by: Some(by.clone()),
        })
        .collect();
    let waits =
        state.unacknowledged.is_some() || state.stuck.is_some() || state.taken_over.is_some();
    if page.is_none() && waits {
        records.push(RecordBody::FailoverAcknowledged { by: by.clone() });
    }
    if records.is_empty() {
        return Err(Refusal::NoPage("at all".to_owned()));
    }
    let what = match pages.len() {
        0 => "the last failover is acknowledged".to_owned(),
        1 => "one page acknowledged".to_owned(),
        n => format!("{n} pages acknowledged"),
    };
    let what = if page.is_none() && waits {
        format!("{what}; from now on another run may begin by itself, as the mode allows")
    } else {
        what
    };
    Ok((records, what))
}

fn announce(
    service: &Service,
    state: &State,
    phase: Phase,
    text: Option<String>,
    by: &PersonName,
    now: Time,
) -> Taken {
    let Some(open) = &state.incident else {
        return Err(Refusal::Phase(
            "no incident is open: there is nothing to announce".to_owned(),
        ));
    };
    match phase {
        Phase::Recovered if state.run.is_some() => {
            return Err(Refusal::Phase(
                "a run is in progress: it is not over yet".to_owned(),
            ));
        }
        Phase::Recovered if !incident::well(service, state) => {
            return Err(Refusal::Phase(
                "probes do not confirm it: not every component is healthy (see `failover explain`)"
                    .to_owned(),
            ));
        }
        Phase::Correction if text.is_none() => {
            return Err(Refusal::Phase(
                "a correction needs its words: add --text \"…\"".to_owned(),
            ));
        }
        Phase::Investigating
        | Phase::FailingOver
        | Phase::OnStandby
        | Phase::Recovered
        | Phase::Correction
        | Phase::Maintenance
        | Phase::MaintenanceOver => {}
    }
    let record = phase::entered(service, state, open, phase, text, now);
    Ok((
        vec![
            record,
            RecordBody::Note {
                by: by.clone(),
                text: format!("announced: {phase}"),
            },
        ],
        format!("announced: {phase}"),
    ))
}

fn set_mode(state: &State, mode: Mode, by: &PersonName, reason: &str) -> Taken {
    if mode > state.wanted {
        return Err(Refusal::ModeUp(state.wanted));
    }
    Ok((
        vec![RecordBody::ModeChanged {
            mode,
            by: Some(by.clone()),
            reason: reason.to_owned(),
        }],
        format!("the mode is {mode} now"),
    ))
}

/// Whoever led since does so no more, which a person answers for: from now on this journal counts, in a later epoch.
fn take_over(
    service: &Service,
    state: &State,
    view: &View,
    by: &PersonName,
    reason: &str,
) -> Taken {
    if reason.trim().is_empty() {
        return Err(Refusal::NoReason);
    }
    if terms::stranger(service, state, view).is_none() {
        return Err(Refusal::NothingToTakeOver);
    }
    Ok((
        vec![RecordBody::TakenOver {
            epoch: state.after_takeover(),
            by: by.clone(),
            reason: reason.to_owned(),
        }],
        "taken over: every run is asked for first until `failover ack` says that the service runs where the journal has it"
            .to_owned(),
    ))
}

/// What people did past the controller: it believes them, under a higher epoch.
fn moved(
    service: &Service,
    state: &State,
    view: &View,
    site: &SiteName,
    by: &PersonName,
    reason: &str,
) -> Taken {
    if let Some(run) = &state.run {
        return Err(Refusal::RunOpen(run.id.clone()));
    }
    if service.site(site).is_none() {
        return Err(Refusal::NoSite(site.to_string()));
    }
    if state.active.as_ref() == Some(site) && state.serving.as_ref() == Some(site) {
        return Err(Refusal::AlreadyThere(site.clone()));
    }
    let is_guarded = service
        .guards
        .as_ref()
        .is_some_and(|g| g.sites.contains_key(site));
    // What is being ended takes writes for a moment only.
    let is_stuck = || view.guards.get(site).is_some_and(|r| r.stuck().is_some());
    if is_guarded && (is_stuck() || !terms::is_held(state, view, site)) {
        return Err(Refusal::NotHeld(site.clone()));
    }
    let active = state.active.as_ref().filter(|active| *active != site);
    if let Some(active) = active.filter(|active| terms::is_held(state, view, active)) {
        return Err(Refusal::StillHeld(active.clone()));
    }
    let epoch = terms::next(state, view);
    Ok((
        vec![RecordBody::Moved {
            site: site.clone(),
            epoch,
            by: by.clone(),
            reason: reason.to_owned(),
            terms: terms::of(service, view, epoch, site),
        }],
        format!(
            "{site} is the active site now, in epoch {epoch}; DNS and databases were not touched"
        ),
    ))
}
