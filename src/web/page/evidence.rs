//! What is seen: each component's verdict with what every vantage point saw, and how latency and lag went.

use maud::{Markup, html};

use super::{Part, Tone, service::View, state, verdict};
use crate::{
    decide::explain::ComponentReport,
    model::{observation::Sight, verdict::Witness},
    web::{course::Line, picture},
};

/// Every component with its evidence.
#[must_use]
pub fn components(view: &View<'_>) -> Part {
    let body = html! { @for component in &view.report.components { (one(view, component)) } };
    Part::new("components", "What is seen", Some(body))
}

fn one(view: &View<'_>, component: &ComponentReport) -> Markup {
    html! {
        div class="component" {
            h3 { (component.name) " " (verdict(component.verdict)) }
            p { (component.reason) }
            @if !component.witnesses.is_empty() {
                div class="scroll" tabindex="0" role="region" aria-label={ "Evidence for " (component.name) } {
                    table {
                        caption class="unseen" { "What each vantage point saw of " (component.name) }
                        thead { tr {
                            th scope="col" { "From" }
                            th scope="col" { "Through" }
                            th scope="col" { "Sees" }
                            th scope="col" { "In detail" }
                            th scope="col" { "Latency, 20 min" }
                        } }
                        tbody { @for witness in &component.witnesses { (row(view, witness)) } }
                    }
                }
            }
        }
    }
}

fn row(view: &View<'_>, witness: &Witness) -> Markup {
    let tone = match witness.sight {
        Sight::Up => Tone::Ok,
        Sight::Down => Tone::Bad,
        Sight::Unknown => Tone::Quiet,
    };
    let key = (witness.vantage.clone(), witness.probe.clone());
    let latency = view.course.latency.get(&key);
    html! {
        tr {
            th scope="row" { (witness.vantage) " " span class="soft" { "(" (witness.network) ")" } }
            td { (witness.probe) " " span class="soft" { (witness.evidence) } }
            td { (state(tone, witness.sight.word())) }
            td { (witness.detail) " " span class="soft" { (witness.age) " ago" } }
            td { (measured(latency, &format!("latency of {} from {}", witness.probe, witness.vantage), "ms")) }
        }
    }
}

fn measured(line: Option<&Line>, what: &str, unit: &str) -> Markup {
    html! {
        @match line {
            Some(line) => span class="measured" {
                (picture::line(line, what, unit))
                @if let Some(latest) = picture::latest(line, unit) { span { (latest) } }
            },
            None => span class="soft" { "not measured yet" },
        }
    }
}

/// How far the standby was behind of late; nothing where there is no database.
#[must_use]
pub fn lag(view: &View<'_>) -> Part {
    let body = view.course.lag.as_ref().map(|line| {
        html! {
            p { (measured(Some(line), "lag of the standby", "s")) }
            p class="soft" { "Lost if the primary were lost now: " (view.report.loss) }
        }
    });
    Part::new("lag", "Lag, 20 min", body)
}
