//! A report as Markdown, which is also what a terminal shows.

use std::fmt::Write as _;

use super::{
    Told,
    figure::{brief, label, off},
};
use crate::{
    decide::drill::{
        leg::Leg,
        report::{Report, RtoPart, StepLine},
    },
    model::{drill::DrillOutcome, fault::Injected, record::RunOutcome},
};

/// The report as Markdown.
pub fn of(told: &Told) -> String {
    let report = &told.report;
    let mut text = String::new();
    let _ = writeln!(
        text,
        "# Drill {} of {}: {}\n",
        report.policy,
        report.service,
        outcome(report)
    );
    let _ = writeln!(
        text,
        "{} ({}), begun {} by {}: {}\n",
        report.drill,
        report.depth,
        report.began.date(),
        asker(report),
        report.reason
    );
    for reason in &report.reasons {
        let _ = writeln!(text, "- {reason}");
    }
    for left in &told.left {
        let _ = writeln!(text, "- left behind: {left}");
    }
    if !(report.reasons.is_empty() && told.left.is_empty()) {
        text.push('\n');
    }
    recovery(&mut text, report);
    steps(&mut text, report);
    legs(&mut text, report);
    injected(&mut text, report);
    missing(&mut text, report);
    if let Some(sha256) = &told.sha256 {
        let _ = writeln!(text, "SHA-256 in the journal: `{sha256}`");
    }
    text
}

fn recovery(text: &mut String, report: &Report) {
    let _ = writeln!(
        text,
        "## Recovery time: {} of {}\n\n| part | took | forecast |\n|---|---|---|",
        brief(report.rto.total),
        brief(report.rto.objective)
    );
    for part in &report.rto.parts {
        let _ = writeln!(
            text,
            "| {} | {} | {} |",
            label(part),
            took(part),
            brief(part.forecast)
        );
    }
    let _ = writeln!(text, "\n## Recovery point: {}\n", point(report));
    let _ = writeln!(
        text,
        "Expected loss of a failover at that moment: {}.\n",
        report.rpo.forecast
    );
}

fn steps(text: &mut String, report: &Report) {
    if !report.steps.is_empty() {
        text.push_str("## Steps\n\n");
        table(text, &report.steps);
    }
    if let Some(error) = report.forecast_error {
        let _ = writeln!(text, "Together they took {}.\n", off(error));
    }
}

fn legs(text: &mut String, report: &Report) {
    for leg in &report.legs {
        let _ = writeln!(
            text,
            "## {} from {} to {}: {}\n\n{}\n",
            leg.kind,
            leg.from,
            leg.to,
            ended(leg),
            downtime(leg)
        );
        table(text, &leg.steps);
    }
}

/// How a direction ended, in a word.
pub fn ended(leg: &Leg) -> &'static str {
    match (leg.outcome, &leg.run) {
        (Some(RunOutcome::Done), _) => "done",
        (Some(RunOutcome::Unwound | RunOutcome::Aborted), _) => "went back",
        (Some(RunOutcome::Stuck), _) => "did not finish",
        (None, Some(_)) => "open",
        (None, None) => "not begun",
    }
}

/// What a direction took, and what was lost.
pub fn downtime(leg: &Leg) -> String {
    let took = leg.downtime.map_or_else(
        || "It was not verified".to_owned(),
        |took| format!("From the end of writes to the verification it took {took}"),
    );
    let lost = match leg.lost {
        None => "nothing counted what was left behind".to_owned(),
        Some(lost) => format!("{lost} transactions were left behind"),
    };
    format!("{took} (forecast: {}); {lost}.", leg.forecast)
}

fn table(text: &mut String, steps: &[StepLine]) {
    text.push_str("| step | result | took | expected | evidence |\n|---|---|---|---|---|\n");
    for step in steps {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            step.name,
            step.result.words(),
            step.took.map_or_else(String::new, brief),
            expected(step),
            cell(&step.evidence)
        );
    }
    text.push('\n');
}

fn injected(text: &mut String, report: &Report) {
    if report.injected.is_empty() {
        return;
    }
    text.push_str(
        "## What must not lead to a failover\n\n| injected | | what followed |\n|---|---|---|\n",
    );
    for one in &report.injected {
        let _ = writeln!(
            text,
            "| {} | {} | {} |",
            one.fault,
            verdict(one),
            cell(&one.came)
        );
    }
    text.push('\n');
}

/// Whether a fault led to what it must not lead to.
pub fn verdict(injected: &Injected) -> &'static str {
    if injected.wrong.is_some() {
        "wrong"
    } else {
        "as it should"
    }
}

fn missing(text: &mut String, report: &Report) {
    if !report.not_exercised.is_empty() {
        text.push_str("## Not exercised\n\n");
        for step in &report.not_exercised {
            let _ = writeln!(text, "- {} ({}): {}", step.name, step.id, step.why);
        }
        text.push('\n');
    }
    if !report.gates.is_empty() {
        text.push_str("## What the gates had against a failover\n\n");
        for gate in &report.gates {
            let _ = writeln!(text, "- {gate}");
        }
        text.push('\n');
    }
}

/// How the drill came out, in a word.
pub fn outcome(report: &Report) -> String {
    report
        .outcome
        .map_or_else(|| "open".to_owned(), |o: DrillOutcome| o.to_string())
}

/// Who asked for it.
pub fn asker(report: &Report) -> String {
    report
        .requester
        .as_ref()
        .map_or_else(|| "its schedule".to_owned(), ToString::to_string)
}

/// What a part took, and how that is known.
pub fn took(part: &RtoPart) -> String {
    part.measured.map_or_else(
        || format!("{} (forecast, not exercised)", brief(part.forecast)),
        brief,
    )
}

/// The recovery point, in a few words.
pub fn point(report: &Report) -> String {
    let objective = brief(report.rpo.objective);
    report.rpo.measured.map_or_else(
        || format!("not measured, of {objective}"),
        |age| format!("{} of {objective}", brief(age)),
    )
}

/// What a step was expected to take, and how that was known.
pub fn expected(step: &StepLine) -> String {
    let expected = brief(step.expected);
    if step.known {
        expected
    } else {
        format!("{expected} (its time-out)")
    }
}

/// Text that does not end its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
