//! Where a service stands, as its status and its conditions say it.

use super::{
    document::Remarks,
    resource::{Condition, Holds, OpenAsk, ServiceStatus},
};
use crate::{
    decide::{budget, core::Core, event, explain, incident, lag, readiness},
    model::{
        loss::LossForecast, readiness::Readiness, service::Mode, span::Span, time::Time,
        verdict::Verdict,
    },
};

/// Whether a document can be used.
pub const VALID: &str = "Valid";

/// A condition before it is known since when it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    kind: &'static str,
    status: Holds,
    reason: &'static str,
    message: String,
}

impl Claim {
    /// A condition.
    pub fn new(
        kind: &'static str,
        status: impl Into<Holds>,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            status: status.into(),
            reason,
            message: message.into(),
        }
    }
}

/// Conditions with the moments since when they hold, which those that were there before give.
#[must_use]
pub fn conditions(
    claims: Vec<Claim>,
    before: &[Condition],
    generation: i64,
    now: Time,
) -> Vec<Condition> {
    let since = |claim: &Claim| {
        let same = before
            .iter()
            .find(|c| c.kind == claim.kind && c.status == claim.status);
        same.map_or_else(|| seconds(now), |c| c.last_transition_time.clone())
    };
    claims
        .into_iter()
        .map(|claim| Condition {
            last_transition_time: since(&claim),
            kind: claim.kind.to_owned(),
            status: claim.status,
            observed_generation: generation,
            reason: claim.reason.to_owned(),
            message: claim.message,
        })
        .collect()
}

/// Kubernetes writes times without fractions.
fn seconds(at: Time) -> String {
    let whole = Time::from_millis(at.as_millis() / 1000 * 1000);
    whole.to_string().replace(".000Z", "Z")
}

/// Whether a document can be used: what was found, and what of the cluster or of other documents keeps it from running.
#[must_use]
pub fn valid(remarks: &Remarks, trouble: Option<&str>, runs: bool) -> Claim {
    let kept = if runs {
        "; what was in force before stays in force"
    } else {
        ""
    };
    match (remarks.errors.as_slice(), trouble) {
        ([first], _) => Claim::new(VALID, false, "Invalid", format!("{first}{kept}")),
        ([first, more @ ..], _) => {
            let message = format!("{first}; and {} more{kept}", more.len());
            Claim::new(VALID, false, "Invalid", message)
        }
        ([], Some(trouble)) => Claim::new(VALID, false, "CannotStart", format!("{trouble}{kept}")),
        ([], None) if remarks.warnings.is_empty() => {
            Claim::new(VALID, true, "Valid", "nothing is wrong with it")
        }
        ([], None) => Claim::new(VALID, true, "Warnings", remarks.warnings.join("; ")),
    }
}

/// The status of a service that runs.
#[must_use]
pub fn status(core: &Core, now: Time) -> (ServiceStatus, Vec<Claim>) {
    let (service, state) = (core.service(), core.state());
    let mode = readiness::mode(service, state, now);
    let (ready, why) = readiness::verdict(service, state, now);
    let headline = explain::headline_of(core);
    let verdict = worst(core);
    let asks: Vec<OpenAsk> = state
        .asks
        .iter()
        .filter(|(_, question)| !question.granted)
        .map(|(id, question)| OpenAsk {
            id: id.to_string(),
            about: event::subject_words(&question.ask.subject),
            expires: seconds(question.expires),
            commands: event::answers(id, &question.ask.subject),
        })
        .collect();
    let run = state.run.as_ref().or_else(|| state.drills.run());
    let claims = vec![
        can_act(mode, ready, &why),
        primary(verdict, &headline),
        standby(core, now),
        Claim::new(
            "FailoverInProgress",
            state.run.is_some(),
            if state.run.is_some() {
                "Running"
            } else {
                "NoRun"
            },
            state
                .run
                .as_ref()
                .map_or_else(|| "no run is open".to_owned(), |r| r.reason.clone()),
        ),
        Claim::new(
            "AwaitingApproval",
            !asks.is_empty(),
            if asks.is_empty() {
                "NoQuestion"
            } else {
                "Asked"
            },
            asks.first().map_or_else(
                || "no question is open".to_owned(),
                |ask| format!("{}: {}", ask.about, ask.commands.join(", or ")),
            ),
        ),
    ];
    let status = ServiceStatus {
        verdict: Some(verdict.to_string()),
        active: state.active.as_ref().map(ToString::to_string),
        serving: state.serving.as_ref().map(ToString::to_string),
        mode: Some(mode.to_string()),
        epoch: i64::try_from(state.epoch.0).ok(),
        lag: lag_words(core, now),
        budget: budget_words(core, now),
        readiness: Some(ready.to_string()),
        headline: Some(headline),
        run: run.map(|run| run.id.to_string()),
        asks,
        ..ServiceStatus::default()
    };
    (status, claims)
}

/// The worst of what is known; Inconclusive is worse than well, and better than bad.
fn worst(core: &Core) -> Verdict {
    let order = |verdict: &Verdict| match verdict {
        Verdict::Healthy => 0,
        Verdict::Degraded => 1,
        Verdict::Inconclusive => 2,
        Verdict::Suspect => 3,
        Verdict::Down => 4,
    };
    let verdicts = core.state().verdicts.values().map(|(verdict, _)| *verdict);
    let known = core.service().components.len() == core.state().verdicts.len();
    let unknown = (!known).then_some(Verdict::Inconclusive);
    verdicts
        .chain(unknown)
        .max_by_key(order)
        .unwrap_or_default()
}

fn can_act(mode: Mode, ready: Readiness, why: &str) -> Claim {
    match (mode, ready) {
        (Mode::Observe, _) => Claim::new(
            "Ready",
            false,
            "Observing",
            "the mode is observe: nothing is begun",
        ),
        (_, Readiness::Ready) => Claim::new("Ready", true, "Ready", why),
        (_, Readiness::NotReady) => Claim::new("Ready", false, "NotReady", why),
        (_, Readiness::Unknown) => Claim::new("Ready", Holds::Unknown, "Unchecked", why),
    }
}

fn primary(verdict: Verdict, headline: &str) -> Claim {
    let (holds, reason) = match verdict {
        Verdict::Healthy => (Holds::True, "Healthy"),
        Verdict::Degraded => (Holds::True, "Degraded"),
        Verdict::Suspect => (Holds::Unknown, "Suspect"),
        Verdict::Inconclusive => (Holds::Unknown, "Inconclusive"),
        Verdict::Down => (Holds::False, "Down"),
    };
    Claim::new("PrimaryHealthy", holds, reason, headline)
}

fn standby(core: &Core, now: Time) -> Claim {
    let kind = "StandbyReady";
    match loss(core, now) {
        None => Claim::new(
            kind,
            Holds::Unknown,
            "NoTarget",
            "there is no other site to go to",
        ),
        Some(LossForecast::Stateless) => Claim::new(
            kind,
            true,
            "Stateless",
            "no database is part of this service",
        ),
        Some(LossForecast::Known(lag)) if lag.time <= core.service().objectives.rpo => Claim::new(
            kind,
            true,
            "WithinRpo",
            "the standby follows within the RPO",
        ),
        Some(LossForecast::Known(_)) => {
            Claim::new(kind, false, "BeyondRpo", "the standby lags beyond the RPO")
        }
        Some(LossForecast::Restored(_)) => {
            Claim::new(kind, false, "BackupOnly", "only a backup could take over")
        }
        Some(LossForecast::Unknown { reason }) => {
            Claim::new(kind, Holds::Unknown, "LagUnknown", steady(&reason))
        }
    }
}

/// A reason without figures that change all the time: a status is written only where something is new.
fn steady(reason: &str) -> String {
    let figures = |word: &str| word.chars().next().is_some_and(|c| c.is_ascii_digit());
    let words = reason.split(' ').filter(|word| !figures(word));
    words.collect::<Vec<_>>().join(" ")
}

fn loss(core: &Core, now: Time) -> Option<LossForecast> {
    let (service, state) = (core.service(), core.state());
    let to = incident::target(service, state.active.as_ref()?)?;
    Some(lag::forecast(service, state, core.view(), &to, now, now))
}

/// To the next power of two in seconds: what changes all the time would be written all the time.
fn lag_words(core: &Core, now: Time) -> Option<String> {
    match loss(core, now)? {
        LossForecast::Stateless => None,
        LossForecast::Known(lag) => {
            let seconds = lag.time.as_millis().div_ceil(1000).max(1);
            Some(format!("<{}", Span::from_secs(seconds.next_power_of_two())))
        }
        LossForecast::Restored(_) | LossForecast::Unknown { .. } => Some("unknown".to_owned()),
    }
}

fn budget_words(core: &Core, now: Time) -> Option<String> {
    let (service, state) = (core.service(), core.state());
    let kind = crate::model::plan::RunKind::Failover;
    let proposal = incident::propose(service, state, core.view(), kind, None, now, now).ok()?;
    let seconds = budget::total(&proposal.parts).as_millis().div_ceil(1000);
    let total = Span::from_secs(seconds);
    Some(format!("{total}/{}", service.objectives.rto))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time::from_millis(seconds * 1000 + 250)
    }

    #[test]
    fn a_condition_keeps_the_moment_since_when_it_holds() {
        let claims = |holds: bool, words: &str| vec![Claim::new("Ready", holds, "Ready", words)];
        let first = conditions(claims(true, "a"), &[], 1, at(10));
        assert_eq!(first[0].last_transition_time, "1970-01-01T00:00:10Z");
        let second = conditions(claims(true, "b"), &first, 2, at(20));
        assert_eq!(second[0].last_transition_time, "1970-01-01T00:00:10Z");
        assert_eq!(second[0].message, "b");
        assert_eq!(second[0].observed_generation, 2);
        let third = conditions(claims(false, "c"), &second, 2, at(30));
        assert_eq!(third[0].last_transition_time, "1970-01-01T00:00:30Z");
    }

    #[test]
    fn a_document_is_valid_with_warnings_and_not_with_errors() {
        let mut remarks = Remarks::default();
        assert_eq!(valid(&remarks, None, false).reason, "Valid");
        remarks.warnings.push("w".to_owned());
        assert_eq!(valid(&remarks, None, false).status, Holds::True);
        assert_eq!(valid(&remarks, Some("no key"), false).reason, "CannotStart");
        remarks.errors = vec!["one".to_owned(), "two".to_owned()];
        let claim = valid(&remarks, None, true);
        assert_eq!(claim.status, Holds::False);
        assert_eq!(
            claim.message,
            "one; and 1 more; what was in force before stays in force"
        );
    }

    #[test]
    fn a_reason_is_told_without_its_figures() {
        assert_eq!(
            steady("last seen 3s before the outage, longer than 60s"),
            "last seen before the outage, longer than"
        );
    }
}
