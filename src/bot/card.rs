//! What the bot says: plain text, whose first line stands out.

use std::fmt::Write as _;

use super::phrase::ENTRIES;
use crate::{
    decide::explain::{AskReport, Report, RunReport},
    desk::{
        line,
        message::{Member, PlanView, PreviewItem},
    },
    model::{
        duty::Duty,
        id::{IncidentId, RunId},
        record::Record,
        span::Span,
        time::Time,
    },
};

/// Sentences of a report that a status shows at most.
const SENTENCES: usize = 8;

/// What a card is about: it is edited in place as long as that stays the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matter {
    /// An incident.
    Incident(IncidentId),
    /// A drill without one.
    Drill(RunId),
}

impl Matter {
    /// What there is to follow now.
    #[must_use]
    pub fn of(report: &Report) -> Option<Self> {
        let drill = || report.drill.as_ref().map(|run| Self::Drill(run.id.clone()));
        let incident = report.incident.clone().map(Self::Incident);
        incident.or_else(drill)
    }
}

/// How a service stands, for whoever asks.
#[must_use]
pub fn status(report: &Report) -> String {
    let mut text = report.headline.clone();
    let _ = write!(text, "\nMode {}", report.mode);
    if report.mode != report.mode_wanted {
        let _ = write!(text, " (the documents ask for {})", report.mode_wanted);
    }
    if let Some(paused) = &report.paused {
        let _ = write!(text, ", paused by {paused}");
    }
    text.push('.');
    verdicts(&mut text, report);
    for sentence in report.sentences.iter().take(SENTENCES) {
        let _ = write!(text, "\n{sentence}");
    }
    if let Some(next) = &report.next {
        let _ = write!(text, "\n{next}");
    }
    let _ = write!(text, "\nA failover now would lose: {}.", report.loss);
    let _ = write!(text, "\nReadiness: {}.", report.readiness);
    if Matter::of(report).is_some() {
        matter(&mut text, report);
    }
    for ask in &report.asks {
        let _ = write!(text, "\nQuestion {} is open: {}.", ask.id, ask.about);
    }
    for page in &report.pages {
        let _ = write!(
            text,
            "\nPage {}: {} ({})",
            page.id,
            page.title,
            page.course()
        );
    }
    text
}

/// The live card of an incident or a drill.
#[must_use]
pub fn live(report: &Report) -> String {
    let mut text = report.headline.clone();
    verdicts(&mut text, report);
    matter(&mut text, report);
    for ask in &report.asks {
        let _ = write!(
            text,
            "\n❓ {} is open until {}: {}",
            ask.id,
            ask.expires.clock(),
            ask.about
        );
    }
    let _ = write!(text, "\nAs of {}.", report.at.clock());
    text
}

/// The card of what is over.
#[must_use]
pub fn over(report: &Report, matter: &Matter, how: &str) -> String {
    let what = match matter {
        Matter::Incident(id) => format!("Incident {id}"),
        Matter::Drill(id) => format!("Drill {id}"),
    };
    let mark = match matter {
        Matter::Incident(_) => "✅ ",
        // A drill that failed is over as well.
        Matter::Drill(_) => "",
    };
    let mut text = format!("{mark}{}: {what} is over", report.title);
    let _ = write!(text, "\n{how}");
    let serving = report.serving.as_ref();
    if let Some(site) = serving {
        let _ = write!(text, "\nServed from {site}.");
    }
    let _ = write!(text, "\n$ failover postmortem {}", report.service);
    text
}

fn verdicts(text: &mut String, report: &Report) {
    let each: Vec<String> = report
        .components
        .iter()
        .map(|c| format!("{} {}", c.name, c.verdict))
        .collect();
    if !each.is_empty() {
        let _ = write!(text, "\n{}", each.join(" · "));
    }
}

fn matter(text: &mut String, report: &Report) {
    if let Some(id) = &report.incident {
        let _ = write!(text, "\nIncident {id}");
        if let Some(since) = report.since {
            let gone = whole(report.at.since(since));
            let _ = write!(text, ", since {} ({gone})", since.clock());
        }
        if let Some(by) = &report.declared {
            let _ = write!(text, ", declared by {by}");
        }
    }
    if let Some(left) = report.rto_left {
        let words = if left == Span::ZERO {
            "used up".to_owned()
        } else {
            format!("{} left", whole(left))
        };
        let _ = write!(text, "\n⏳ RTO {}: {words}", report.rto);
    }
    for run in [&report.run, &report.drill].into_iter().flatten() {
        steps(text, run);
    }
    people(text, report);
    customers(text, report);
}

fn steps(text: &mut String, run: &RunReport) {
    let how = run.outcome.as_deref().unwrap_or("is running");
    let _ = write!(
        text,
        "\n{} {} from {} to {}: {how}",
        capital(&run.kind.to_string()),
        run.id,
        run.from,
        run.to
    );
    for step in &run.steps {
        let tick = match step.state.as_str() {
            "done" | "settled" => "✓",
            "running" => "▶",
            "failed" => "✗",
            "unclear" => "?",
            _ => "·",
        };
        let _ = write!(text, "\n{tick} {}", step.name);
        match (&step.took, step.state.as_str()) {
            (Some(took), "running" | "unclear") => {
                let _ = write!(
                    text,
                    " ({} of about {})",
                    whole(*took),
                    whole(step.expected)
                );
            }
            (Some(took), _) => {
                let _ = write!(text, " ({took})");
            }
            (None, _) => {}
        }
        if matches!(step.state.as_str(), "failed" | "unclear") {
            let _ = write!(text, ": {}", step.detail);
        }
    }
}

fn people(text: &mut String, report: &Report) {
    if report.incident.is_none() {
        return;
    }
    let commander = report.duties.get(&Duty::Commander);
    match (commander, &report.offered_to) {
        (Some(now), Some(next)) => {
            let _ = write!(
                text,
                "\n👤 {now} leads; {next} was asked to take over (/accept)"
            );
        }
        (Some(now), None) => {
            let _ = write!(text, "\n👤 {now} leads");
        }
        (None, _) => text.push_str("\n👤 Nobody leads yet: /role commander"),
    }
    for (duty, person) in report.duties.iter().filter(|(d, _)| **d != Duty::Commander) {
        let _ = write!(text, " · {duty}: {person}");
    }
}

fn customers(text: &mut String, report: &Report) {
    match (report.phase, report.next_update) {
        (Some(phase), Some(next)) => {
            let late = next <= report.at;
            let word = if late { "was due" } else { "is due" };
            let _ = write!(
                text,
                "\n📣 Customers heard last: {phase}; the next update {word} at {}",
                next.clock()
            );
        }
        (Some(phase), None) => {
            let _ = write!(text, "\n📣 Customers heard last: {phase}");
        }
        (None, _) if report.incident.is_some() => {
            text.push_str("\n📣 Customers have heard nothing yet");
        }
        (None, _) => {}
    }
}

/// A question, with everything that a person has to know before a button is pressed.
#[must_use]
pub fn question(report: &Report, ask: &AskReport) -> String {
    let mut text = format!("❓ {}: {}?", report.title, ask.about);
    for reason in &ask.reasons {
        let _ = write!(text, "\n• {reason}");
    }
    let _ = write!(text, "\nExpected loss: {}.", ask.loss);
    let _ = write!(text, "\nForecast: {}.", ask.forecast);
    let _ = write!(text, "\nPlan {}.", ask.plan);
    if let Some(requester) = &ask.requester {
        let _ = write!(text, "\n{requester} asked for it.");
    }
    let who = if ask.required == 1 {
        "One person".to_owned()
    } else {
        format!("{} different people", ask.required)
    };
    let _ = write!(text, "\n{who} must approve");
    if ask.approved.is_empty() {
        text.push('.');
    } else {
        let names: Vec<_> = ask.approved.iter().map(ToString::to_string).collect();
        let _ = write!(text, "; approved by {} so far.", names.join(", "));
    }
    let _ = write!(
        text,
        "\nIf nobody answers by {}: {}.",
        ask.expires.clock(),
        ask.otherwise
    );
    if ask.commands.iter().any(|c| c.contains("--reason")) {
        let _ = write!(text, "\nA reason is compulsory:\n$ /approve {} WHY", ask.id);
    }
    text
}

/// A plan, before it is begun.
#[must_use]
pub fn plan(report: &Report, view: &PlanView) -> String {
    let plan = &view.plan;
    let mut text = format!(
        "{}: a {} from {} to {}",
        report.title, plan.kind, plan.from, plan.to
    );
    let _ = write!(text, "\nForecast {}, RTO {}.", whole(view.total), view.rto);
    let _ = write!(text, "\nIt would lose: {}.", view.loss);
    for step in &plan.steps {
        let expected = view.expected.get(&step.id).copied().unwrap_or_default();
        let _ = write!(text, "\n· {} (about {})", step.name, whole(expected));
    }
    for remark in &view.remarks {
        let _ = write!(text, "\n⚠ {} {}", remark.text, remark.fix);
    }
    for gate in report.gates.iter().filter(|g| g.says != "allow") {
        let _ = write!(
            text,
            "\nGate {} says {}: {}",
            gate.gate, gate.says, gate.reason
        );
    }
    let _ = write!(text, "\nPlan {}.", view.hash.short());
    text
}

/// The last records.
#[must_use]
pub fn timeline(title: &str, records: &[Record]) -> String {
    let mut text = format!("{title}: the timeline, UTC");
    for record in records {
        let line = line::of(record);
        let _ = write!(text, "\n{} {}: {}", clock(record.at), line.topic, line.text);
    }
    if records.is_empty() {
        text.push_str("\nNothing is recorded yet.");
    }
    text
}

/// One record, for a room that wants to hear of each.
#[must_use]
pub fn news(record: &Record) -> Option<String> {
    let line = line::of(record);
    (line.weight > line::Weight::Detail)
        .then(|| format!("{} {}: {}", record.chain, line.topic, line.text))
}

/// Who can be called.
#[must_use]
pub fn contacts(title: &str, members: &[Member]) -> String {
    let mut text = format!("{title}: whom to call");
    for member in members {
        let phone = member.phone.as_deref().unwrap_or("no number is known");
        let _ = write!(text, "\n{} · {phone}", member.name);
        let powers = member.powers();
        if !powers.is_empty() {
            let _ = write!(text, " · {powers}");
        }
    }
    if members.is_empty() {
        text.push_str("\nNobody is named under team.people.");
    }
    text
}

/// What customers would read.
#[must_use]
pub fn preview(title: &str, items: &[PreviewItem], words: Option<&str>) -> String {
    let mut text = format!("{title}: customers would read");
    for item in items {
        let _ = write!(
            text,
            "\n\n{} ({}), {}",
            item.channel, item.uses, item.recipients
        );
        if let Some(subject) = &item.subject {
            let _ = write!(text, "\n{subject}");
        }
        let _ = write!(text, "\n{}", item.text);
    }
    if items.is_empty() {
        let words = words.unwrap_or("the ready-made words of this phase");
        let _ = write!(
            text,
            "\n\nthe status page alone, since no channel speaks of this phase\n{words}"
        );
    }
    text
}

/// What can be said.
#[must_use]
pub fn help() -> String {
    let mut text = "What you can say".to_owned();
    for entry in ENTRIES {
        let _ = write!(text, "\n/{} {}", entry.word, entry.usage);
        let _ = write!(text, " – {}", entry.summary);
    }
    text.push_str("\nWhere one service is spoken of here, its name can be left out.");
    text
}

fn clock(at: Time) -> String {
    at.clock().trim_end_matches(" UTC").to_owned()
}

/// Rounded down to what people care about.
fn whole(span: Span) -> Span {
    if span < Span::from_secs(1) {
        return span;
    }
    Span::from_secs(span.as_millis() / 1000)
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string());
    first.unwrap_or_default() + chars.as_str()
}
