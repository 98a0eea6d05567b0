//! The RTO as a budget: what each part is expected to take, and when a failover must begin at the latest.

use std::collections::BTreeMap;

use super::state::State;
use crate::model::{
    id::StepId,
    plan::{Plan, PlanStep, StepPhase},
    record::ForecastPart,
    service::{Service, Trigger},
    span::Span,
    time::Time,
};

/// Fewer measurements than this say nothing of a 95th percentile: the largest stands in.
const ENOUGH: usize = 20;

/// What each part is expected to take, in the order of a run. A step never measured counts as its time-out.
#[must_use]
pub fn forecast(service: &Service, state: &State, plan: &Plan) -> Vec<ForecastPart> {
    let mut parts = Vec::new();
    if !plan.kind.is_planned() {
        let detect = p95(&state.detections);
        parts.push(ForecastPart {
            part: "detect".to_owned(),
            expected: detect.unwrap_or_else(|| slowest_detection(service)),
            measured: detect.is_some(),
            rehearsed: false,
        });
    }
    // Users notice nothing of what is made ready while the old site serves.
    let mut done = longest(state, plan, StepPhase::Prepare);
    for phase in [
        StepPhase::Fence,
        StepPhase::Promote,
        StepPhase::Traffic,
        StepPhase::Verify,
    ] {
        let of_phase = |s: &&PlanStep| s.phase == phase && s.instead_of.is_none();
        let steps: Vec<_> = plan.steps.iter().filter(of_phase).collect();
        if steps.is_empty() {
            continue;
        }
        // What a phase adds to the longest path of needs: steps side by side are not counted twice.
        let until = longest(state, plan, phase);
        let has_run = |s: &PlanStep| state.durations.contains_key(&s.id);
        parts.push(ForecastPart {
            part: phase.to_string(),
            expected: until.saturating_sub(done),
            measured: steps
                .iter()
                .all(|s| has_run(s) || rehearsed(state, s).is_some()),
            rehearsed: steps
                .iter()
                .any(|s| !has_run(s) && rehearsed(state, s).is_some()),
        });
        done = done.max(until);
        if phase == StepPhase::Traffic
            && let Some(dns) = &service.dns
        {
            parts.push(ForecastPart {
                part: "dnsTtl".to_owned(),
                expected: dns
                    .ttl
                    .saturating_add(unwaited(state, plan, dns.propagation)),
                measured: true,
                rehearsed: false,
            });
        }
    }
    parts
}

/// How much longer the zone's servers may take than repointing is expected to: it waits for them itself.
fn unwaited(state: &State, plan: &Plan, propagation: Span) -> Span {
    let waits = plan
        .steps
        .iter()
        .filter(|s| s.action.kind() == Some("dns/repoint"))
        .map(|s| expected(state, s));
    propagation.saturating_sub(waits.max().unwrap_or(Span::ZERO))
}

/// The forecast's sum.
#[must_use]
pub fn total(parts: &[ForecastPart]) -> Span {
    parts
        .iter()
        .fold(Span::ZERO, |sum, p| sum.saturating_add(p.expected))
}

/// What is expected of one step: the 95th percentile of what was measured, else of what promoting a copy took in drills, else
/// its time-out.
#[must_use]
pub fn expected(state: &State, step: &PlanStep) -> Span {
    let measured = state.durations.get(&step.id).and_then(|d| p95(d));
    measured
        .or_else(|| rehearsed(state, step))
        .unwrap_or(step.timeout)
}

/// What drills measured of a step: a copy is promoted as the standby is, and says nothing of other steps.
fn rehearsed(state: &State, step: &PlanStep) -> Option<Span> {
    let stand_in = match step.action.kind()? {
        "postgres/promote" | "guard/promote" => "drill/promote",
        "command/promote" if step.phase == StepPhase::Promote => "command/promote",
        _ => return None,
    };
    p95(state.drills.promotions.get(stand_in)?)
}

/// When a failover begins, and why then; none where only a person may begin it.
#[must_use]
pub fn due(service: &Service, since: Time, parts: &[ForecastPart]) -> Option<(Time, String)> {
    match service.trigger {
        Trigger::Manual => None,
        Trigger::Immediate => Some((since, "the trigger is immediate".to_owned())),
        Trigger::Budget { patience } => {
            let rest =
                total(parts).saturating_sub(parts.first().map_or(Span::ZERO, |p| p.expected));
            let latest = since.after(service.objectives.rto).before(rest);
            let patient = since.after(patience);
            if patient <= latest {
                Some((
                    patient,
                    format!("the primary did not come back within its patience of {patience}"),
                ))
            } else {
                Some((
                    latest,
                    format!(
                        "a run is forecast to take {rest}: later than this the RTO of {} would be lost",
                        service.objectives.rto
                    ),
                ))
            }
        }
    }
}

/// How long the slowest configured probe takes to be believed.
#[must_use]
pub fn slowest_detection(service: &Service) -> Span {
    service
        .components
        .iter()
        .flat_map(|c| &c.probes)
        .map(|p| {
            p.every
                .saturating_mul(u64::from(service.quorum.failures))
                .saturating_add(p.timeout)
        })
        .max()
        .unwrap_or(Span::ZERO)
}

/// The longest path through the steps of the phases up to this one.
fn longest(state: &State, plan: &Plan, through: StepPhase) -> Span {
    let mut ends: BTreeMap<&StepId, Span> = BTreeMap::new();
    // Steps are in an order in which needs come first: compile saw to that.
    // A second branch is none that is expected.
    let expected_steps = |s: &&PlanStep| s.phase <= through && s.instead_of.is_none();
    for step in plan.steps.iter().filter(expected_steps) {
        let begin = step
            .needs
            .iter()
            .filter_map(|n| ends.get(n))
            .max()
            .copied()
            .unwrap_or(Span::ZERO);
        ends.insert(&step.id, begin.saturating_add(expected(state, step)));
    }
    ends.into_values().max().unwrap_or(Span::ZERO)
}

/// The 95th percentile; the largest of a few; none of none.
#[must_use]
pub fn p95(measured: &[Span]) -> Option<Span> {
    let mut sorted = measured.to_vec();
    sorted.sort_unstable();
    let index = if sorted.len() < ENOUGH {
        sorted.len()
    } else {
        (sorted.len() * 95).div_ceil(100)
    };
    sorted.get(index.checked_sub(1)?).copied()
}

/// The middle one of what was measured, the larger of two; none of none.
#[must_use]
pub fn median(measured: &[Span]) -> Option<Span> {
    let mut sorted = measured.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        decide::{compile::compile, lint::lint, script::shop},
        model::{
            plan::{RunKind, Uses},
            service::Dns,
        },
    };

    #[test]
    fn servers_that_follow_later_count_once_and_never_less() {
        let secs = Span::from_secs;
        let mut service = shop();
        service.dns = Some(Dns {
            provider: Uses {
                uses: "dns/external-dns".into(),
                with: serde_json::Value::Null,
            },
            zone: "example.com.".to_owned(),
            records: Vec::new(),
            ttl: secs(30),
            propagation: secs(60),
            lower_ahead: false,
            resolvers: Vec::new(),
            authorities: Vec::new(),
        });
        let plan = compile(&service, RunKind::Failover, &"ams".into(), &"fra".into()).unwrap();
        let mut state = State::default();
        let mut ttl_after = |repointing: Span| {
            state.durations.insert("repoint".into(), vec![repointing]);
            let parts = forecast(&service, &state, &plan);
            let part = |name: &str| parts.iter().find(|p| p.part == name).unwrap().expected;
            (part("traffic"), part("dnsTtl"))
        };
        assert_eq!(ttl_after(secs(1)), (secs(1), secs(89)));
        assert_eq!(ttl_after(secs(50)), (secs(50), secs(40)));
        assert_eq!(ttl_after(secs(70)), (secs(70), secs(30)));

        let noticed = |service: &Service| {
            let remarks = lint(service, &plan, Span::ZERO);
            remarks
                .iter()
                .any(|r| r.text.contains("step repoint may take"))
        };
        for (propagation, expected) in [(secs(10), true), (secs(9), false)] {
            service.dns.as_mut().unwrap().propagation = propagation;
            assert_eq!(noticed(&service), expected, "{propagation}");
        }
    }

    #[test]
    fn percentile_of_few_is_the_largest() {
        let spans = |n: u64| (1..=n).map(Span::from_millis).collect::<Vec<_>>();
        assert_eq!(p95(&spans(0)), None);
        assert_eq!(p95(&spans(3)), Some(Span::from_millis(3)));
        assert_eq!(p95(&spans(100)), Some(Span::from_millis(95)));
    }
}
