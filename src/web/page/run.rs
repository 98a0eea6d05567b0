//! A run, step by step, as a graph from left to right: a column for each part of the way.

use maud::{Markup, html};

use super::{Part, Tone, day, moment, service::View, state};
use crate::{
    decide::explain::{RunReport, StepReport},
    model::{approval::Role, plan::StepPhase},
};

/// A run; nothing where there is none.
#[must_use]
pub fn part(
    id: &'static str,
    title: &'static str,
    run: Option<&RunReport>,
    view: &View<'_>,
) -> Part {
    Part::new(id, title, run.map(|run| body(run, view)))
}

fn body(run: &RunReport, view: &View<'_>) -> Markup {
    let tone = match run.outcome.as_deref() {
        None => Tone::Info,
        Some("done") => Tone::Ok,
        Some(_) => Tone::Bad,
    };
    html! {
        p class="row" {
            strong { (run.kind) " " (run.id) }
            (state(tone, run.outcome.as_deref().unwrap_or("in progress")))
            span class="soft" { (run.from) " → " (run.to) ", begun " (day(run.opened)) }
            @if let Some(verified) = run.verified {
                span { "verified " (moment(verified)) ", " (verified.since(run.since)) " after the outage began" }
            }
        }
        p { (run.reason) }
        (graph(&run.steps))
        @if run.outcome.is_none() && view.may(Role::Operator) { (abort(run, view)) }
    }
}

/// The steps by the part of the run that they belong to.
#[must_use]
pub fn graph(steps: &[StepReport]) -> Markup {
    let of = |phase: StepPhase| steps.iter().filter(move |s| s.phase == phase);
    html! {
        ol class="graph" {
            @for phase in StepPhase::ALL {
                @if of(phase).next().is_some() {
                    li class="phase" {
                        h3 { (phase.to_string()) }
                        ol { @for step in of(phase) { (one(step)) } }
                    }
                }
            }
        }
    }
}

fn one(step: &StepReport) -> Markup {
    let tone = match step.state.as_str() {
        "running" => Tone::Info,
        "unclear" => Tone::Warn,
        "failed" => Tone::Bad,
        "done" | "settled" => Tone::Ok,
        _ => Tone::Quiet,
    };
    html! {
        li class={ "step " (step.state) } {
            p { strong { (step.name) } }
            p { (state(tone, &step.state)) }
            p class="soft" {
                @if let Some(took) = step.took { "took " (took) " of " (step.expected) }
                @else { "expected " (step.expected) }
            }
            @if !step.detail.is_empty() { p class="detail" { (step.detail) } }
        }
    }
}

fn abort(run: &RunReport, view: &View<'_>) -> Markup {
    let field = format!("abort-{}", run.id);
    html! {
        details id={ "stop-" (run.id) } {
            summary { "Stop this " (run.kind) }
            (view.form("abort", &html! {
                input type="hidden" name="run" value=(run.id);
                label for=(field) { "Reason" }
                input id=(field) name="reason" type="text" required maxlength="500" autocomplete="off";
                button class="danger" type="submit" { "Stop it and take back what it did" }
            }))
        }
    }
}
