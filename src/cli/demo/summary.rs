//! What came of the demo, in sentences.

use super::{
    findings::{Findings, Outcome},
    story::Story,
};
use crate::cli::drill::markdown;

/// Tells what was found.
pub fn tell(story: &mut Story, findings: &Findings) {
    story.heading("What came of it");
    let outcome = match findings.outcome {
        Outcome::FailedOver => "the standby took over",
        Outcome::Asked => "a person is asked; the standby was not promoted",
        Outcome::Stayed => "the primary kept serving",
        Outcome::Stuck => "the run is stuck",
        Outcome::SwitchedOver => "the service was moved to the standby site in order",
        Outcome::Drilled => "the recovery was exercised; the primary served all the time",
    };
    story.fact("outcome", outcome);
    story.fact("why", &findings.reason);
    let is_outage = match findings.outcome {
        Outcome::FailedOver | Outcome::Asked | Outcome::Stayed | Outcome::Stuck => true,
        Outcome::SwitchedOver | Outcome::Drilled => false,
    };
    if is_outage {
        let after = seconds(findings.detection_s);
        story.fact("detected", &format!("after {after}"));
    }
    let (name, silence) = downtime(findings);
    story.fact(name, &silence);
    story.fact(
        "orders",
        &format!(
            "{} acknowledged; {}",
            findings.acknowledged_writes,
            kept(findings)
        ),
    );
    if let (Some(missing), Some(forecast)) = (findings.would_lose, &findings.loss_forecast) {
        story.fact(
            "approved now",
            &format!("the standby lacks {missing} of them; the forecast said: {forecast}"),
        );
    }
    story.fact("customers", &told(findings));
    if let Some(url) = &findings.fallback_url {
        let checks = findings.fallback_checks;
        story.fact(
            "fallback URL",
            &format!(
                "{url}, opened from {} messages: {} led to an open shop",
                checks.messages, checks.worked
            ),
        );
    }
    let (before, after) = (
        findings.dns_before.join(", "),
        findings.dns_after.join(", "),
    );
    let moved = if before == after {
        format!("{before}, as before")
    } else {
        format!("{before} -> {after}")
    };
    story.fact("DNS", &moved);
    steps(story, findings);
    if let Some(drill) = &findings.drill {
        story.heading("Its report");
        story.tell(&format!("\n{}", markdown::of(drill).trim_end()));
        story.tell("");
    }
    if let Some(path) = &findings.report {
        story.fact("report", &path.display().to_string());
    }
    let whole = if findings.journal_verified {
        "its chain is whole"
    } else {
        "its chain is BROKEN"
    };
    story.fact(
        "journal",
        &format!("{} records, {whole}", findings.journal_records),
    );
}

/// The longest silence, and what it is called.
fn downtime(findings: &Findings) -> (&'static str, String) {
    let silence = seconds(findings.downtime_s);
    match (findings.downtime_s, findings.outcome) {
        (Some(_), Outcome::Drilled) => (
            "longest gap",
            format!("{silence} between two orders while it went on"),
        ),
        (Some(_), _) => (
            "downtime",
            format!("{silence} without an order, as customers saw it"),
        ),
        (None, _) => ("downtime", "goes on: orders have not come back".to_owned()),
    }
}

fn kept(findings: &Findings) -> String {
    let serves = match findings.outcome {
        Outcome::FailedOver | Outcome::Stayed | Outcome::SwitchedOver | Outcome::Drilled => true,
        Outcome::Asked | Outcome::Stuck => false,
    };
    match findings.lost_writes {
        Some(0) if serves => "every one was read back from the site that serves now".to_owned(),
        Some(0) => "every one is safe at the old primary, which was left as it was".to_owned(),
        Some(n) => {
            let forecast = findings.loss_forecast.as_deref().unwrap_or("none");
            format!("{n} are missing; the forecast of the loss said: {forecast}")
        }
        None => "they lie in the killed primary's files; no site serves".to_owned(),
    }
}

fn told(findings: &Findings) -> String {
    let Some(first) = findings.time_to_first_announcement_s else {
        return "none was sent a message".to_owned();
    };
    let accepted: Vec<String> = findings
        .announcements
        .iter()
        .map(|(channel, n)| format!("{channel} {n}"))
        .collect();
    format!(
        "messages accepted: {}; the first after {first:.2} s",
        accepted.join(", ")
    )
}

fn steps(story: &Story, findings: &Findings) {
    for step in &findings.steps {
        let (id, outcome) = (step.id.to_string(), &step.outcome);
        let took = seconds(step.took_s);
        story.fact(
            "step",
            &format!(
                "{id:<16} {outcome:<9} {took:>9}  (expected at most {} s)",
                step.expected_s
            ),
        );
    }
}

fn seconds(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |s| format!("{s:.2} s"))
}
