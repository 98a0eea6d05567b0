//! Gates: each says whether a run may begin by itself, needs a person, or is held, and why.
//!
//! Reasons hold no numbers that change from second to second: a question stays the same question while its
//! evidence does.

use super::{
    detect, lag, readiness, restore,
    state::State,
    turn,
    view::{View, Voice},
};
use crate::model::{
    id::RunId,
    loss::LossForecast,
    observation::{DatabaseRole, Sight},
    plan::{Plan, PlanStep, RunKind, StepPhase},
    service::{ComponentKind, Mode, OverRpo, Probe, Service, Trigger},
    site::Site,
    span::Span,
    time::Time,
};

/// What a gate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Says {
    /// Nothing speaks against it.
    Allow,
    /// A person must decide.
    Ask,
    /// Not now, whoever asks for it automatically.
    Hold,
}

/// The answer of one gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Which gate.
    pub gate: &'static str,
    /// What it says.
    pub says: Says,
    /// In one sentence.
    pub reason: String,
}

fn answer(gate: &'static str, says: Says, reason: impl Into<String>) -> Answer {
    Answer {
        gate,
        says,
        reason: reason.into(),
    }
}

/// What every gate says to a run that nobody asked for.
#[must_use]
pub fn answers(
    service: &Service,
    state: &State,
    view: &View,
    plan: &Plan,
    loss: &LossForecast,
    now: Time,
) -> Vec<Answer> {
    let mut out = vec![
        pause(state),
        stuck(state, plan),
        taken_over(state),
        maintenance(service, now),
        mode(service, state, now),
        trigger(service),
        flap(state),
    ];
    out.extend(turn(service, view, plan));
    if plan.kind.is_planned() {
        out.push(health(service, state));
    }
    if let Some(site) = service.site(&plan.to) {
        out.push(residency(service, site));
        out.extend(restore::residency(service, plan, site));
        let returns =
            |s: &PlanStep| s.phase == StepPhase::Prepare && s.action.kind() == Some("guard/rejoin");
        let is_prepared = plan.kind.is_planned() && plan.steps.iter().any(returns);
        out.push(if is_prepared {
            let reason = format!("{} is made ready before anything is stopped", site.name);
            answer("standby", Says::Allow, reason)
        } else if restore::replaces_standby(plan) {
            restore::answer(state, plan)
        } else {
            standby(service, view, site, now)
        });
    }
    if plan.steps.iter().any(|s| s.phase == StepPhase::Promote) {
        out.push(rpo(service, view, plan, loss));
    }
    out
}

/// The gate of a group's turns: it delays what is allowed, and asks nobody.
pub const TURN: &str = "turn";

/// Whether it would be the service's turn. Planned work waits for nobody: nothing is down.
fn turn(service: &Service, view: &View, plan: &Plan) -> Option<Answer> {
    let own = service.group.as_ref()?;
    match plan.kind {
        RunKind::Failover | RunKind::Redirect => Some(match turn::behind(own, view) {
            None => answer(
                TURN,
                Says::Allow,
                format!("nobody of {} is ahead", own.group),
            ),
            Some(reason) => answer(TURN, Says::Hold, reason),
        }),
        RunKind::Switchover | RunKind::Failback | RunKind::Drill => None,
    }
}

/// The answers of all gates but that of the turn.
#[must_use]
pub fn but_turn(answers: &[Answer]) -> Vec<Answer> {
    let others = answers.iter().filter(|a| a.gate != TURN);
    others.cloned().collect()
}

/// The strictest of the answers.
#[must_use]
pub fn strictest(answers: &[Answer]) -> Says {
    answers.iter().map(|a| a.says).max().unwrap_or(Says::Allow)
}

/// The sentences of the answers that say so.
#[must_use]
pub fn reasons(answers: &[Answer], says: Says) -> Vec<String> {
    answers
        .iter()
        .filter(|a| a.says == says)
        .map(|a| a.reason.clone())
        .collect()
}

fn pause(state: &State) -> Answer {
    match &state.paused {
        Some((by, reason)) => answer("pause", Says::Hold, format!("{by} paused it: {reason}")),
        None => answer("pause", Says::Allow, "not paused"),
    }
}

fn stuck(state: &State, plan: &Plan) -> Answer {
    let last = state.last_run.as_ref();
    // Planned work that an outage has overtaken before it promised anything: whatever it left, the failover fences by itself,
    // and nobody may have to get up first.
    let was_overtaken = |run: &RunId| {
        plan.kind == RunKind::Failover
            && last.is_some_and(|l| l.id == *run && l.kind.is_planned() && l.epoch.is_none())
    };
    match &state.stuck {
        Some(run) if was_overtaken(run) => answer(
            "lastRun",
            Says::Allow,
            format!("run {run} was planned work, and ended before anything was promoted"),
        ),
        Some(run) => answer(
            "lastRun",
            Says::Hold,
            format!("run {run} did not finish; look at it and acknowledge it first"),
        ),
        None => answer("lastRun", Says::Allow, "no earlier run is unsettled"),
    }
}

fn taken_over(state: &State) -> Answer {
    match &state.taken_over {
        Some((by, _)) => answer(
            "takeover",
            Says::Ask,
            format!(
                "{by} took the journal over, and nobody has acknowledged yet that the service runs where it says"
            ),
        ),
        None => answer("takeover", Says::Allow, "the journal is its own"),
    }
}

fn maintenance(service: &Service, now: Time) -> Answer {
    match service
        .gates
        .maintenance
        .iter()
        .find(|w| w.from <= now && now < w.to)
    {
        Some(window) => answer(
            "maintenance",
            Says::Hold,
            format!("maintenance until {}: {}", window.to.date(), window.reason),
        ),
        None => answer("maintenance", Says::Allow, "no maintenance window"),
    }
}

fn mode(service: &Service, state: &State, now: Time) -> Answer {
    match (state.wanted, readiness::mode(service, state, now)) {
        (_, Mode::Observe) => answer("mode", Says::Hold, "the mode is observe: nothing is done"),
        (Mode::Automatic, Mode::Ask) if state.lowered.is_none_or(|l| l == Mode::Automatic) => {
            answer(
                "mode",
                Says::Ask,
                format!(
                    "automatic is not earned: {}",
                    readiness::unearned(service, state, now)
                ),
            )
        }
        (_, Mode::Ask) => answer("mode", Says::Ask, "the mode is ask"),
        (_, Mode::Automatic) => answer(
            "mode",
            Says::Allow,
            "the mode is automatic, earned by a green check",
        ),
    }
}

/// Whether there is something to plan for: what is down needs no plan but a failover.
fn health(service: &Service, state: &State) -> Answer {
    match detect::need(service, &state.verdicts) {
        detect::Need::Nothing => answer("health", Says::Allow, "nothing is down"),
        detect::Need::Failover | detect::Need::Redirect | detect::Need::Unclear => answer(
            "health",
            Says::Ask,
            "something is down: `failover failover` is for that",
        ),
    }
}

fn trigger(service: &Service) -> Answer {
    match service.trigger {
        Trigger::Manual => answer(
            "trigger",
            Says::Hold,
            "the trigger is manual: only a person begins a run",
        ),
        Trigger::Budget { .. } | Trigger::Immediate => {
            answer("trigger", Says::Allow, "the trigger is not manual")
        }
    }
}

fn flap(state: &State) -> Answer {
    match &state.unacknowledged {
        Some(run) => answer(
            "flap",
            Says::Ask,
            format!("nobody has acknowledged the last failover ({run}) yet"),
        ),
        None => answer("flap", Says::Allow, "no failover waits for acknowledgement"),
    }
}

fn residency(service: &Service, site: &Site) -> Answer {
    match &site.location.country {
        _ if service.residency.is_empty() => {
            answer("residency", Says::Allow, "data may be anywhere")
        }
        Some(c) if service.residency.contains(c) => {
            answer("residency", Says::Allow, format!("{} is in {c}", site.name))
        }
        Some(c) => answer(
            "residency",
            Says::Hold,
            format!(
                "{} is in {c}, data must stay in {}",
                site.name,
                service.residency.join(", ")
            ),
        ),
        None => answer(
            "residency",
            Says::Hold,
            format!(
                "the country of {} is not known, data must stay in {}",
                site.name,
                service.residency.join(", ")
            ),
        ),
    }
}

/// Whether the site that shall take over can.
fn standby(service: &Service, view: &View, site: &Site, now: Time) -> Answer {
    if service
        .components
        .iter()
        .any(|c| c.kind == ComponentKind::Database)
    {
        return match lag::standby(service, view, &site.name, now) {
            Some((_, facts)) if facts.role == DatabaseRole::Standby => answer(
                "standby",
                Says::Allow,
                format!("the standby at {} answers", site.name),
            ),
            _ => answer(
                "standby",
                Says::Hold,
                format!(
                    "the standby database at {} cannot be seen: promoting it would be blind",
                    site.name
                ),
            ),
        };
    }
    let (cold, warm): (Vec<&Probe>, Vec<&Probe>) = service
        .components
        .iter()
        .flat_map(|c| &c.probes)
        .filter(|p| p.site.as_ref() == Some(&site.name))
        .partition(|p| p.cold);
    if warm.is_empty() && !cold.is_empty() {
        let detail = format!("{} is cold: the run starts what serves there", site.name);
        return answer("standby", Says::Allow, detail);
    }
    // As each vantage point says after hysteresis: one look that failed must not make another question of this one.
    let says: Vec<Sight> = warm
        .into_iter()
        .flat_map(|p| {
            let fresh = move |v: &&Voice| now.since(v.last.at) <= detect::shelf_life(p);
            view.voices_of(&p.id).filter(fresh)
        })
        .map(|v| v.says.sight())
        .collect();
    if says.contains(&Sight::Up) {
        answer("standby", Says::Allow, format!("{} answers", site.name))
    } else if says.is_empty() {
        answer(
            "standby",
            Says::Ask,
            format!(
                "no probe looks at {}: whether it can serve is not known",
                site.name
            ),
        )
    } else {
        answer(
            "standby",
            Says::Ask,
            format!("{} does not answer either", site.name),
        )
    }
}

fn rpo(service: &Service, view: &View, plan: &Plan, loss: &LossForecast) -> Answer {
    let over = match service.gates.over_rpo {
        OverRpo::Ask => Says::Ask,
        OverRpo::Hold => Says::Hold,
    };
    let rpo = service.objectives.rpo;
    match loss {
        _ if plan.kind == RunKind::Redirect => {
            answer("rpo", Says::Allow, "the database stays where it is")
        }
        LossForecast::Stateless => answer("rpo", Says::Allow, "there is no data to lose"),
        LossForecast::Drained => answer(
            "rpo",
            Says::Allow,
            "nothing is promoted before the standby has everything",
        ),
        LossForecast::Known(lag) if rpo == Span::ZERO => {
            if lag.bytes == 0 && lag::synchronous(service, view, lag) {
                answer(
                    "rpo",
                    Says::Allow,
                    "the standby was synchronous and has everything",
                )
            } else {
                answer(
                    "rpo",
                    over,
                    "the RPO is zero, and the standby was not seen to be synchronous with nothing missing",
                )
            }
        }
        LossForecast::Restored(reach) if reach.time > rpo => answer(
            "rpo",
            over,
            format!("what is lost by restoring a backup is above the RPO of {rpo}"),
        ),
        LossForecast::Restored(_) => answer(
            "rpo",
            Says::Allow,
            format!("what is lost by restoring a backup is within the RPO of {rpo}"),
        ),
        LossForecast::Known(lag) if lag.time <= rpo => answer(
            "rpo",
            Says::Allow,
            format!("what may be lost is within the RPO of {rpo}"),
        ),
        LossForecast::Known(_) => answer(
            "rpo",
            over,
            format!("what may be lost is above the RPO of {rpo}"),
        ),
        LossForecast::Unknown { .. } => answer(
            "rpo",
            over,
            format!("what would be lost is not known; the RPO is {rpo}"),
        ),
    }
}
