//! The smaller parts of a service's page: how it stands, its budget, its gates, guards and drills, and what one may do.

use maud::{Markup, html};

use super::{Part, Tone, day, service::View, state};
use crate::{
    decide::{budget as sums, explain::Report},
    model::{approval::Role, drill::DrillOutcome, plan::RunKind, service::Mode, span::Span},
    web::picture,
};

/// How the service stands, and why.
#[must_use]
pub fn now(view: &View<'_>) -> Part {
    let report = &view.report;
    let body = html! {
        h1 id="headline" { (report.headline) }
        @if let Some(next) = &report.next { p class="lead" { (next) } }
        @if let Some(paused) = &report.paused {
            p class="lead" { (state(Tone::Warn, &format!("paused by {paused}"))) }
        }
        @for sentence in &report.sentences { p { (sentence) } }
        dl class="facts wide" {
            dt { "mode" } dd { (mode(report)) }
            dt { "epoch" } dd { (report.epoch) }
            dt { "takes writes" } dd { (site(report.active.as_ref().map(ToString::to_string))) }
            dt { "serves" } dd { (site(report.serving.as_ref().map(ToString::to_string))) }
            dt { "readiness" } dd { (readiness(report)) }
            dt { "loss now" } dd { (report.loss) }
        }
    };
    Part {
        id: "now",
        title: None,
        body: Some(body),
    }
}

fn site(name: Option<String>) -> String {
    name.unwrap_or_else(|| "nowhere yet".to_owned())
}

/// The mode in force, and the one that is wanted where that is another.
#[must_use]
pub fn mode(report: &Report) -> Markup {
    html! {
        (report.mode)
        @if report.mode != report.mode_wanted { " (the documents ask for " (report.mode_wanted) ")" }
    }
}

/// Readiness, with its sign.
#[must_use]
pub fn readiness(report: &Report) -> Markup {
    let (word, rest) = report
        .readiness
        .split_once(':')
        .unwrap_or((&report.readiness, ""));
    let tone = match word {
        "ready" => Tone::Ok,
        "not ready" => Tone::Bad,
        _ => Tone::Quiet,
    };
    html! { (state(tone, word)) " " span class="soft" { (rest.trim()) } }
}

/// What each part of a failover takes, and what is left of the RTO.
#[must_use]
pub fn budget(view: &View<'_>) -> Part {
    let report = &view.report;
    let body = (!report.forecast.is_empty()).then(|| budget_of(report));
    Part::new("budget", "Budget", body)
}

fn budget_of(report: &Report) -> Markup {
    let total = sums::total(&report.forecast);
    let parts: Vec<_> = report
        .forecast
        .iter()
        .map(|p| (p.part.as_str(), p.expected.as_millis()))
        .collect();
    let words = format!("{total} of the RTO of {}", report.rto);
    let fits = total <= report.rto;
    let after = report.rto.saturating_sub(total);
    html! {
        @if let Some(left) = report.rto_left {
            p class="lead" { (state(if left == Span::ZERO { Tone::Bad } else { Tone::Warn },
                &format!("{left} of the RTO left"))) }
        }
        (picture::budget(&parts, report.rto.as_millis(), &words))
        table {
            caption class="unseen" { "What each part of a failover is expected to take" }
            thead { tr { th scope="col" { "Part" } th scope="col" { "Expected" } th scope="col" { "From" } } }
            tbody {
                @for part in &report.forecast {
                    tr {
                        th scope="row" { (part.part) }
                        td class="figure" { (part.expected) }
                        td { @match (part.measured, part.rehearsed) {
                            (false, _) => "its time-out",
                            (true, true) => "drills",
                            (true, false) => "runs",
                        } }
                    }
                }
            }
        }
        p {
            "Together " strong class="figure" { (total) } ", "
            (state(
                if fits { Tone::Ok } else { Tone::Bad },
                &if fits {
                    format!("{after} to spare of {}", report.rto)
                } else {
                    format!("{} beyond {}", total.saturating_sub(report.rto), report.rto)
                },
            ))
        }
    }
}

/// What each gate says to a failover now.
#[must_use]
pub fn gates(view: &View<'_>) -> Part {
    let gates = &view.report.gates;
    let tone = |says: &str| match says {
        "allow" => Tone::Ok,
        "ask" => Tone::Warn,
        _ => Tone::Bad,
    };
    let body = html! {
        ul class="plain" { @for gate in gates {
            li { (state(tone(&gate.says), &gate.says)) " " strong { (gate.gate) } ": " (gate.reason) }
        } }
    };
    Part::new(
        "gates",
        "What the gates say",
        (!gates.is_empty()).then_some(body),
    )
}

/// What each site's guard says.
#[must_use]
pub fn guards(view: &View<'_>) -> Part {
    let guards = &view.report.guards;
    let body = html! {
        dl class="facts" { @for guard in guards { dt { (guard.site) } dd { (guard.says) } } }
    };
    Part::new("guards", "Guards", (!guards.is_empty()).then_some(body))
}

/// Its drills and how they ended.
#[must_use]
pub fn drills(view: &View<'_>) -> Part {
    let drills = &view.report.drills;
    let service = &view.service.name;
    let tone = |outcome: DrillOutcome| match outcome {
        DrillOutcome::Passed => Tone::Ok,
        DrillOutcome::Failed => Tone::Bad,
        DrillOutcome::BrokenOff => Tone::Warn,
    };
    let body = html! {
        ul class="plain" { @for drill in drills {
            li {
                strong { (drill.name) } " " span class="soft" { (drill.depth) }
                @if let Some(next) = drill.next { ", next " (day(next)) }
                @if let Some(last) = &drill.last {
                    p {
                        (state(tone(last.outcome), &last.outcome.to_string())) " " (day(last.at)) " "
                        a href={ "/services/" (service) "/drills/" (last.id) } { "Report of " (last.id) }
                    }
                    @for reason in &last.reasons { p class="soft" { (reason) } }
                } @else {
                    p class="soft" { "never made" }
                }
            }
        } }
    };
    Part::new("drills", "Drills", (!drills.is_empty()).then_some(body))
}

/// What one may do here. It does not change while one looks, so that nothing is taken out of one's hands.
#[must_use]
pub fn actions(view: &View<'_>) -> Markup {
    html! {
        section id="actions" class="part" aria-labelledby="actions-heading" {
            h2 id="actions-heading" { "What you may do" }
            @if view.may(Role::Operator) { (operator(view)) } @else {
                p { "Your role here is viewer: you may look at everything, and change nothing." }
            }
            (plans(view))
        }
    }
}

fn plans(view: &View<'_>) -> Markup {
    let path = format!("/services/{}/plan", view.service.name);
    let kinds = [
        (RunKind::Failover, "Fail over…"),
        (RunKind::Switchover, "Switch over…"),
        (RunKind::Failback, "Fail back…"),
        (RunKind::Redirect, "Redirect traffic…"),
    ];
    html! {
        p { "Each begins with its plan, its forecast and what would be lost." }
        ul class="plain row" {
            @for (kind, text) in kinds { li { a class="button" href={ (path) "?kind=" (kind.to_string()) } { (text) } } }
        }
    }
}

fn operator(view: &View<'_>) -> Markup {
    let lower: &[Mode] = match view.report.mode_wanted {
        Mode::Observe => &[],
        Mode::Ask => &[Mode::Observe],
        Mode::Automatic => &[Mode::Ask, Mode::Observe],
    };
    let moved = view
        .report
        .run
        .as_ref()
        .is_some_and(|run| run.outcome.is_some());
    html! {
        @if view.report.paused.is_some() {
            (view.form("resume", &html! { button type="submit" { "End the pause" } }))
        } @else {
            (asking(view, "pause", "Pause", "Begin nothing automatically", "Pause"))
        }
        @if moved {
            (view.form("acknowledge", &html! {
                button class="quiet" type="submit" { "Acknowledge the last failover" }
            }))
        }
        details id="note" {
            summary { "Write a remark into the timeline" }
            (view.form("note", &html! {
                label for="note-text" { "Remark" }
                textarea id="note-text" name="text" rows="3" required maxlength="2000" {}
                button class="quiet" type="submit" { "Write it down" }
            }))
        }
        @if view.report.incident.is_none() {
            (asking(view, "declare", "Declare an incident", "Whatever probes see", "Declare"))
        }
        @if !view.service.drills.is_empty() {
            details id="begin-drill" {
                summary { "Begin a drill" }
                (view.form("drill", &html! {
                    label for="drill-policy" { "Which" }
                    select id="drill-policy" name="policy" {
                        @for drill in &view.service.drills {
                            option value=(drill.name) { (drill.name) ", " (drill.depth) }
                        }
                    }
                    label for="drill-reason" { "Reason" }
                    input id="drill-reason" name="reason" type="text" required maxlength="500" autocomplete="off";
                    button class="quiet" type="submit" { "Begin the drill" }
                }))
            }
        }
        @if view.may(Role::Admin) && !lower.is_empty() {
            details id="lower" {
                summary { "Lower the mode" }
                (view.form("mode", &html! {
                    label for="mode" { "Mode" }
                    select id="mode" name="mode" { @for mode in lower { option value=(mode) { (mode) } } }
                    label for="mode-reason" { "Reason" }
                    input id="mode-reason" name="reason" type="text" required maxlength="500" autocomplete="off";
                    button class="quiet" type="submit" { "Lower it" }
                }))
            }
        }
    }
}

/// A form that asks for nothing but why.
fn asking(view: &View<'_>, act: &str, title: &str, hint: &str, button: &str) -> Markup {
    let field = format!("{act}-reason");
    html! {
        details id=(act) {
            summary { (title) }
            (view.form(act, &html! {
                p class="hint" { (hint) "." }
                label for=(field) { "Reason" }
                input id=(field) name="reason" type="text" required maxlength="500" autocomplete="off";
                button class="quiet" type="submit" { (button) }
            }))
        }
    }
}
