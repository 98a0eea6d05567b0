//! A report as one page that needs nothing else.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    Told,
    figure::{brief, label, off},
    markdown::{asker, downtime, ended, expected, outcome, point, took, verdict},
    svg,
};
use crate::{
    decide::drill::report::{Report, StepLine, StepStatus},
    model::drill::DrillOutcome,
};

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --faint: #59636e; --line: #d1d9e0;
  --good: #1a7f37; --bad: #cf222e; --guess: #9a6700; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --paper: #0d1117; --faint: #9198a1; --line: #3d444d;
  --good: #3fb950; --bad: #f85149; --guess: #d29922; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 54rem; padding: 1.5rem 1rem 3rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p, ul { margin: .25rem 0 .75rem; }
.faint, .small { color: var(--faint); fill: var(--faint); }
.badge { display: inline-block; padding: .1rem .6rem; border-radius: 1rem; border: 2px solid currentColor; font-weight: 600; }
.passed { color: var(--good); } .not { color: var(--bad); }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem .35rem 0; border-bottom: 1px solid var(--line); }
td { overflow-wrap: anywhere; } td.tight { white-space: nowrap; }
.wide { overflow-x: auto; }
svg { width: 100%; height: auto; font-size: 13px; fill: var(--ink); }
svg .measured { fill: var(--good); } svg .forecast { fill: none; stroke: var(--guess); stroke-dasharray: 4 3; }
svg .bad { fill: var(--bad); } svg .limit { stroke: var(--bad); stroke-width: 2; }
svg .figure { text-anchor: end; font-variant-numeric: tabular-nums; } svg .small { font-size: 12px; }
code { font-size: .85em; overflow-wrap: anywhere; }
@media print { :root { --ink: #000; --paper: #fff; --faint: #444; --line: #999; --good: #1a7f37; --bad: #b00; --guess: #750; }
  body { max-width: none; padding: 0; } h2 { break-after: avoid; } tr, svg { break-inside: avoid; } }
";

/// The report as a page.
pub fn of(told: &Told) -> String {
    let report = &told.report;
    let title = format!("Drill {} of {}", report.policy, report.service);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) ": " (outcome(report)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (head(told, &title))
                (recovery(report))
                (steps(report))
                (legs(report))
                (injected(report))
                (missing(report))
                @if let Some(sha256) = &told.sha256 {
                    p.faint { "SHA-256 of this report in the journal: " code { (sha256) } }
                }
            }
        }
    };
    page.into_string()
}

fn head(told: &Told, title: &str) -> Markup {
    let report = &told.report;
    let class = if report.outcome == Some(DrillOutcome::Passed) && told.left.is_empty() {
        "badge passed"
    } else {
        "badge not"
    };
    html! {
        header {
            h1 { (title) }
            p { span class=(class) { (outcome(report)) } }
            p.faint {
                (report.drill) ", " (report.depth) ", begun " (report.began.date()) " by " (asker(report)) ": " (report.reason)
            }
            @if !(report.reasons.is_empty() && told.left.is_empty()) {
                ul {
                    @for reason in &report.reasons { li { (reason) } }
                    @for left in &told.left { li.not { "Left behind: " (left) } }
                }
            }
        }
    }
}

fn recovery(report: &Report) -> Markup {
    html! {
        section {
            h2 { "Recovery time: " (brief(report.rto.total)) " of " (brief(report.rto.objective)) }
            (svg::recovery(report))
            div.wide {
                table {
                    thead { tr { th { "Part" } th { "Took" } th { "Forecast" } } }
                    tbody {
                        @for part in &report.rto.parts {
                            tr { td { (label(part)) } td { (took(part)) } td { (brief(part.forecast)) } }
                        }
                    }
                }
            }
            p.faint { "Filled: measured in this drill. Dashed: the forecast counts, because it was not exercised." }
            h2 { "Recovery point: " (point(report)) }
            p { "Expected loss of a failover at that moment: " (report.rpo.forecast.to_string()) "." }
        }
    }
}

fn steps(report: &Report) -> Markup {
    html! {
        @if !report.steps.is_empty() {
            section {
                h2 { "Steps" }
                (svg::steps(report))
                (table(&report.steps))
                @if let Some(error) = report.forecast_error {
                    p { "Together they took " (off(error)) "." }
                }
            }
        }
    }
}

fn table(steps: &[StepLine]) -> Markup {
    html! {
        div.wide {
            table {
                thead { tr { th { "Step" } th { "" } th { "Took" } th { "Expected" } th { "Evidence" } } }
                tbody {
                    @for step in steps {
                        tr {
                            td { (step.name) }
                            td class=(if step.result == StepStatus::Done { "tight passed" } else { "tight not" }) {
                                (step.result.words())
                            }
                            td.tight { @if let Some(took) = step.took { (brief(took)) } }
                            td.tight { (expected(step)) }
                            td { (step.evidence) }
                        }
                    }
                }
            }
        }
    }
}

fn legs(report: &Report) -> Markup {
    html! {
        @for leg in &report.legs {
            section {
                h2 { (leg.kind) " from " (leg.from) " to " (leg.to) ": " (ended(leg)) }
                p { (downtime(leg)) }
                (table(&leg.steps))
            }
        }
        @if let (false, Some(error)) = (report.legs.is_empty(), report.forecast_error) {
            p { "Together they took " (off(error)) "." }
        }
    }
}

fn injected(report: &Report) -> Markup {
    html! {
        @if !report.injected.is_empty() {
            section {
                h2 { "What must not lead to a failover" }
                div.wide {
                    table {
                        thead { tr { th { "Injected" } th { "" } th { "What followed" } } }
                        tbody {
                            @for one in &report.injected {
                                tr {
                                    td { (one.fault) }
                                    td class=(if one.wrong.is_none() { "passed" } else { "not" }) { (verdict(one)) }
                                    td { (one.came) }
                                }
                            }
                        }
                    }
                }
                p.faint { "Played to a copy of the controller's state: nothing was touched." }
            }
        }
    }
}

fn missing(report: &Report) -> Markup {
    html! {
        @if !report.not_exercised.is_empty() {
            section {
                h2 { "Not exercised" }
                ul { @for step in &report.not_exercised { li { (step.name) ": " (step.why) } } }
            }
        }
        @if !report.gates.is_empty() {
            section {
                h2 { "What the gates had against a failover" }
                ul { @for gate in &report.gates { li { (gate) } } }
            }
        }
    }
}
