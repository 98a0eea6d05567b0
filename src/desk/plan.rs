//! The plan of a run, as people are shown it.

use super::message::{PlanView, RemarkView};
use crate::{
    decide::{budget, core::Core, incident, lint},
    model::{id::SiteName, loss::LossForecast, plan::RunKind, time::Time},
};

/// The plan of a run that could be begun now.
///
/// # Errors
/// In one sentence, where no plan can be made.
pub fn of(
    core: &Core,
    kind: RunKind,
    to: Option<&SiteName>,
    now: Time,
) -> Result<PlanView, String> {
    let (service, state) = (core.service(), core.state());
    let since = state.incident.as_ref().map_or(now, |i| i.outage);
    let proposal = incident::propose(service, state, core.view(), kind, to, since, now)?;
    let total = budget::total(&proposal.parts);
    let remarks = lint::lint(service, &proposal.plan, total);
    Ok(PlanView {
        hash: proposal.plan.hash(),
        expected: proposal
            .plan
            .steps
            .iter()
            .map(|s| (s.id.clone(), budget::expected(state, s)))
            .collect(),
        plan: proposal.plan,
        forecast: proposal.parts,
        total,
        rto: service.objectives.rto,
        loss: loss(core, &proposal.loss),
        remarks: remarks
            .into_iter()
            .map(|r| RemarkView {
                text: r.text,
                fix: r.fix,
            })
            .collect(),
    })
}

/// What cannot be told where nobody looked is no finding about the standby.
fn loss(core: &Core, loss: &LossForecast) -> String {
    match loss {
        LossForecast::Unknown { .. } if core.view().voices.is_empty() => {
            "unknown: not looked at without a controller".to_owned()
        }
        LossForecast::Unknown { .. }
        | LossForecast::Stateless
        | LossForecast::Drained
        | LossForecast::Restored(_)
        | LossForecast::Known(_) => loss.to_string(),
    }
}
