//! The plan of a run, and the form that begins it once one has typed where it leads.

use std::sync::Arc;

use axum::{
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
};
use maud::{Markup, html};
use serde::Deserialize;

use super::{Frame, Tone, csrf, refused, state};
use crate::{
    desk::message::{Answer, PlanView, Request},
    model::{
        approval::Role,
        id::{ServiceName, SiteName},
        plan::{RunKind, StepPhase},
    },
    web::{caller::Visitor, entry, picture, problem::Problem, room::Room},
};

/// What the link says.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Wanted {
    kind: Option<String>,
    to: Option<String>,
}

/// The plan.
pub async fn show(
    State(room): State<Arc<Room>>,
    visitor: Visitor,
    Path(service): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Response {
    let service = ServiceName::from(service.as_str());
    let kind = match entry::kind(wanted.kind.as_deref().unwrap_or("failover")) {
        Ok(kind) => kind,
        Err(reason) => return refused(Some(&visitor), &Problem::wrong(reason)),
    };
    let to: Option<SiteName> = wanted
        .to
        .as_deref()
        .filter(|t| !t.is_empty())
        .map(Into::into);
    let request = Request::Plan {
        service: service.clone(),
        kind,
        to: to.clone(),
    };
    let plan = match room.ask(request, &visitor.caller.speaker).await {
        Ok(Answer::Plan(plan)) => plan,
        Ok(_) => return refused(Some(&visitor), &Room::unexpected()),
        Err(problem) => return refused(Some(&visitor), &problem),
    };
    let visible = room.clerk.visible(&visitor.caller.speaker);
    let may = visible
        .iter()
        .any(|s| s.name == service && visitor.caller.may(s, Role::Operator));
    let title = format!("Plan of a {kind} of {service}");
    let frame = Frame {
        title: &title,
        visitor: Some(&visitor),
        live: None,
        said: None,
    };
    let body = html! {
        p class="path" { a href="/" { "All services" } " / " a href={ "/services/" (service) } { (service) } }
        h1 { (title) }
        (facts(&plan))
        h2 { "Steps" }
        (steps(&plan))
        h2 { "Forecast" }
        (forecast(&plan))
        @if !plan.remarks.is_empty() {
            h2 { "Remarks" }
            ul { @for remark in &plan.remarks { li { (remark.text) " " span class="soft" { (remark.fix) } } } }
        }
        h2 { "Begin it" }
        @if may { (begin(&visitor, &service, kind, to.as_ref(), &plan)) } @else {
            p { "Your role here is viewer: others begin runs." }
        }
    };
    frame.around(&body).into_response()
}

fn facts(plan: &PlanView) -> Markup {
    html! {
        dl class="facts wide" {
            dt { "from" } dd { (plan.plan.from) }
            dt { "to" } dd { (plan.plan.to) }
            dt { "expected loss" } dd class="loss" { (plan.loss) }
            dt { "plan" } dd { code { (plan.hash) } }
        }
    }
}

fn steps(plan: &PlanView) -> Markup {
    let of = |phase: StepPhase| plan.plan.steps.iter().filter(move |s| s.phase == phase);
    html! {
        ol class="graph" {
            @for phase in StepPhase::ALL { @if of(phase).next().is_some() {
                li class="phase" {
                    h3 { (phase.to_string()) }
                    ol { @for step in of(phase) {
                        li class="step waiting" {
                            p { strong { (step.name) } }
                            p class="soft" {
                                (step.id)
                                @if let Some(expected) = plan.expected.get(&step.id) { ", expected " (expected) }
                            }
                        }
                    } }
                }
            } }
        }
    }
}

fn forecast(plan: &PlanView) -> Markup {
    let parts: Vec<_> = plan
        .forecast
        .iter()
        .map(|p| (p.part.as_str(), p.expected.as_millis()))
        .collect();
    let fits = plan.total <= plan.rto;
    let words = format!(
        "{} {} the RTO of {}",
        plan.total,
        if fits { "within" } else { "beyond" },
        plan.rto
    );
    html! {
        (picture::budget(&parts, plan.rto.as_millis(), &words))
        p { (state(if fits { Tone::Ok } else { Tone::Bad }, &words)) }
        ul class="row plain" { @for part in &plan.forecast {
            li { strong { (part.part) } " " (part.expected) @if !part.measured { span class="soft" { " (its time-out)" } } }
        } }
    }
}

fn begin(
    visitor: &Visitor,
    service: &ServiceName,
    kind: RunKind,
    to: Option<&SiteName>,
    plan: &PlanView,
) -> Markup {
    let site = &plan.plan.to;
    html! {
        form class="begin" method="post" action={ "/services/" (service) "/act" } {
            (csrf(visitor))
            input type="hidden" name="back" value={ "/services/" (service) };
            input type="hidden" name="act" value="open";
            input type="hidden" name="kind" value=(kind.to_string());
            input type="hidden" name="plan" value=(plan.hash);
            @if let Some(to) = to { input type="hidden" name="to" value=(to); }
            label for="reason" { "Reason" }
            input id="reason" name="reason" type="text" required maxlength="500" autocomplete="off";
            label for="confirm" { "Name of the site that serves afterwards" }
            input id="confirm" name="confirm" type="text" required autocomplete="off" autocapitalize="off"
                spellcheck="false" aria-describedby="confirm-hint";
            p class="hint" id="confirm-hint" {
                "Type " strong { (site) } ". It begins with exactly this plan or not at all; approvals are asked for \
                 where the documents want them."
            }
            button class="danger" type="submit" { "Begin the " (kind.to_string()) " to " (site) }
        }
    }
}
