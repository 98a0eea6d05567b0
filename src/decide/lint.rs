//! What a careful colleague would say of a plan before it is needed.

use std::collections::BTreeSet;

use crate::model::{
    id::SiteName,
    observation::Evidence,
    plan::{OnFailure, Plan, PlanStep, RunKind, StepPhase},
    service::{ComponentKind, RunbookStep, Service, Trigger},
    span::Span,
    step::Rung,
};

/// One remark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// What is noticed.
    pub text: String,
    /// What to do.
    pub fix: String,
}

fn remark(text: impl Into<String>, fix: impl Into<String>) -> Remark {
    Remark {
        text: text.into(),
        fix: fix.into(),
    }
}

/// Remarks on a plan.
#[must_use]
pub fn lint(service: &Service, plan: &Plan, forecast: Span) -> Vec<Remark> {
    let mut out = Vec::new();
    let has = |phase| plan.steps.iter().any(|s| s.phase == phase);
    let uses = |name: &str| plan.steps.iter().any(|s| s.action.kind() == Some(name));
    if forecast > service.objectives.rto {
        out.push(remark(
            format!("the forecast of {forecast} is above the RTO of {}", service.objectives.rto),
            "shorten time-outs of steps that were never measured, or run drills so that they are measured",
        ));
    }
    if plan.kind == RunKind::Failover && has(StepPhase::Promote) {
        if !has(StepPhase::Fence) {
            out.push(remark(
                "nothing proves that the old primary cannot write",
                "add a fence step: every failover will ask a person to attest",
            ));
        }
        if service
            .components
            .iter()
            .any(|c| c.kind == ComponentKind::Database)
            && !uses("postgres/write-attempt")
        {
            out.push(remark(
                "no write is attempted at the old primary before promotion",
                "add a step that uses postgres/write-attempt",
            ));
        }
        if service.fencing == Rung::Attested && service.trigger != Trigger::Manual {
            out.push(remark(
                "fencing.require is attested: every failover waits for a person",
                "use a fence that confirms itself, such as command/fence",
            ));
        }
    }
    let restores = |s: &RunbookStep| s.on.contains(&plan.kind) && s.action.restores();
    if service.runbook.steps.iter().any(restores) && !plan.steps.iter().any(|s| s.action.restores())
    {
        out.push(remark(
            "the second branch has nothing to restore: no base backup was ever restored to try it",
            "failover backups verify",
        ));
    }
    if !has(StepPhase::Verify) {
        out.push(remark(
            "nothing verifies the service at the new site",
            "add a step that uses service/verify",
        ));
    }
    if service.dns.is_none() && service.sites.iter().all(|s| s.url.is_none()) {
        out.push(remark(
            "there is neither DNS nor a fallback URL: nobody will find the new site",
            "set dns, or a url for the standby site",
        ));
    }
    if let Some(dns) = &service.dns
        && dns.resolvers.is_empty()
    {
        out.push(remark(
            "no resolver is asked whether the cut-over has reached users",
            "list a few public resolvers in dns.resolvers",
        ));
    }
    if let Some(dns) = &service.dns {
        let waits = |s: &&PlanStep| matches!(s.action.kind(), Some("dns/repoint" | "dns/cutover"));
        let too_short = |s: &&PlanStep| s.timeout <= dns.propagation;
        for step in plan.steps.iter().filter(waits).filter(too_short) {
            out.push(remark(
                format!(
                    "step {} may take {}, and the zone's servers may take {} until they follow",
                    step.id, step.timeout, dns.propagation
                ),
                "give the step a longer timeout, or have the provider look more often",
            ));
        }
    }
    for step in plan
        .steps
        .iter()
        .filter(|s| s.phase == StepPhase::Promote && s.on_failure == OnFailure::Continue)
    {
        out.push(remark(
            format!(
                "step {} promotes, and the run goes on when it fails",
                step.id
            ),
            "set onFailure: stop",
        ));
    }
    if service.trigger != Trigger::Manual {
        out.extend(lone_witnesses(service, plan));
    }
    let networks: BTreeSet<_> = service.vantage_points.iter().map(|v| &v.network).collect();
    if networks.len() < 2 {
        out.push(remark(
            "all vantage points are in one network: its own failure looks like an outage",
            "add a vantage point in another network, and sentinels",
        ));
    }
    if service
        .vantage_points
        .iter()
        .any(|v| v.sentinels.is_empty())
    {
        out.push(remark("a vantage point has no sentinels: it cannot tell its own network's failure from an outage", "add sentinels: things that are surely up"));
    }
    out
}

/// Databases that one kind of evidence alone would call down, at the site that is left or at the one that will serve.
fn lone_witnesses(service: &Service, plan: &Plan) -> Vec<Remark> {
    let databases = (service.components.iter()).filter(|c| c.kind == ComponentKind::Database);
    databases
        .flat_map(|component| {
            [&plan.from, &plan.to].into_iter().filter_map(|site| {
                let kinds: BTreeSet<_> = (component.probes.iter())
                    .filter(|p| judges(p.evidence, p.site.as_ref(), site))
                    .map(|p| p.evidence)
                    .collect();
                let [alone] = kinds.into_iter().collect::<Vec<_>>()[..] else {
                    return None;
                };
                Some(remark(
                    format!(
                        "{} at {site} is judged by one kind of evidence alone ({alone}): while that stalls, it looks down",
                        component.name
                    ),
                    "add a probe of another kind: the replication stream of the other site, or a guard",
                ))
            })
        })
        .collect()
}

/// Whether evidence from a probe's site says something of the database while this site is active: a stream is watched
/// from where it arrives.
fn judges(evidence: Evidence, probe: Option<&SiteName>, active: &SiteName) -> bool {
    match evidence {
        Evidence::Stream => probe != Some(active),
        Evidence::Outside | Evidence::Database | Evidence::Guard | Evidence::Cluster => {
            probe.is_none_or(|site| site == active)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_says_something_of_the_site_that_it_comes_from() {
        let [east, west] = ["east", "west"].map(SiteName::new);
        assert!(judges(Evidence::Stream, Some(&west), &east));
        assert!(!judges(Evidence::Stream, Some(&west), &west));
        assert!(judges(Evidence::Database, Some(&west), &west));
        assert!(!judges(Evidence::Guard, Some(&east), &west));
        assert!(judges(Evidence::Outside, None, &west));
    }
}
