//! `failover postmortem`: a draft from the journal alone. What the journal cannot know is left to be written.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{act, arguments, journal, output::Output, place::Place};
use crate::{
    desk::line::{self, Weight},
    error::Error,
    model::{
        announcement::{Announcement, Tallies},
        id::{AnnouncementId, AskId, ComponentName, IncidentId, RunId, Seq, ServiceName, StepId},
        loss::LossForecast,
        plan::{Plan, StepPhase},
        record::{ForecastPart, Record, RecordBody, RunOutcome, Settlement},
        span::Span,
        step::StepResult,
        time::Time,
        verdict::Verdict,
    },
};

/// `failover postmortem`.
///
/// # Errors
/// Where the journal cannot be read, or knows no such incident.
pub async fn postmortem(
    args: &arguments::Postmortem,
    place: &Place,
    output: Output,
) -> Result<(), Error> {
    let (service, wanted) = match act::owner(&args.id, 'i') {
        Ok(service) => (service, Some(IncidentId::new(args.id.clone()))),
        Err(_) => (ServiceName::from(args.id.as_str()), None),
    };
    let records = journal::records(place, service.as_str()).await?;
    journal::tell_cut(place, &records, output);
    let Some(draft) = draft(&records, &service, wanted.as_ref()) else {
        return Err(Error::Usage(match wanted {
            Some(id) => format!(
                "the journal of {service} knows no incident {id}: 'failover timeline {service}' shows them"
            ),
            None => format!("the journal of {service} knows no incident yet"),
        }));
    };
    output.text(&draft)
}

/// A run of the incident.
struct Run<'a> {
    id: RunId,
    plan: &'a Plan,
    opened: Time,
    reason: &'a str,
    loss: &'a LossForecast,
    forecast: &'a [ForecastPart],
    spans: BTreeMap<&'a StepId, (Time, Time)>,
    verified: Option<(Span, bool)>,
    ended: Option<(RunOutcome, &'a str)>,
    /// Steps that were left out or failed, with the reason.
    troubles: Vec<String>,
}

/// What the journal tells of one incident.
struct Account<'a> {
    id: IncidentId,
    service: &'a ServiceName,
    since: Time,
    opened: Time,
    closed: Option<Time>,
    reason: &'a str,
    planned: bool,
    components: &'a [ComponentName],
    records: &'a [Record],
    runs: Vec<Run<'a>>,
    told: Vec<&'a Announcement>,
    tallies: BTreeMap<&'a AnnouncementId, &'a Tallies>,
    lost: Vec<(&'a RunId, u64, u64)>,
}

/// The draft; none where there is no such incident.
#[must_use]
pub fn draft(records: &[Record], service: &ServiceName, id: Option<&IncidentId>) -> Option<String> {
    let account = account(records, service, id)?;
    let mut text = String::new();
    summary(&mut text, &account);
    impact(&mut text, &account);
    recovery(&mut text, &account);
    data(&mut text, &account);
    decisions(&mut text, &account);
    messages(&mut text, &account);
    timeline(&mut text, &account);
    open_items(&mut text, &account);
    text.push_str(
        "\n## To be written\n\n- What the cause was, and how it is known.\n- What customers could not do, in their words.\n\
         - What went well, and what went badly.\n- What is changed, by whom, until when.\n",
    );
    Some(text)
}

fn account<'a>(
    records: &'a [Record],
    service: &'a ServiceName,
    id: Option<&IncidentId>,
) -> Option<Account<'a>> {
    let begin = records.iter().rposition(|r| {
        let is_opening = matches!(r.body, RecordBody::IncidentOpened { .. });
        is_opening && id.is_none_or(|id| *id == IncidentId::of(service, r.seq))
    })?;
    let RecordBody::IncidentOpened {
        components,
        since,
        reason,
        ..
    } = &records[begin].body
    else {
        return None;
    };
    let id = IncidentId::of(service, records[begin].seq);
    let end = records[begin..].iter().position(
        |r| matches!(&r.body, RecordBody::IncidentClosed { incident, .. } if *incident == id),
    );
    let next = records[begin + 1..]
        .iter()
        .position(|r| matches!(r.body, RecordBody::IncidentOpened { .. }));
    let until = match (end, next) {
        (Some(end), _) => begin + end + 1,
        (None, Some(next)) => begin + 1 + next,
        (None, None) => records.len(),
    };
    let part = &records[begin..until];
    let mut account = Account {
        id,
        service,
        since: *since,
        opened: records[begin].at,
        closed: end.map(|end| records[begin + end].at),
        reason,
        planned: components.is_empty(),
        components,
        records: part,
        runs: Vec::new(),
        told: Vec::new(),
        tallies: BTreeMap::new(),
        lost: Vec::new(),
    };
    for record in part {
        account.take(record);
    }
    // What was really lost may be known only long after.
    for record in &records[until..] {
        if let RecordBody::LossMeasured { run, .. } = &record.body
            && account.runs.iter().any(|r| r.id == *run)
        {
            account.take(record);
        }
    }
    Some(account)
}

impl<'a> Account<'a> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a record of any other kind says nothing of this part"
    )]
    fn take(&mut self, record: &'a Record) {
        let at = record.at;
        match &record.body {
            RecordBody::RunOpened {
                plan,
                reason,
                loss,
                forecast,
                ..
            } => self.runs.push(Run {
                id: RunId::of(self.service, record.seq),
                plan,
                opened: at,
                reason,
                loss,
                forecast,
                spans: BTreeMap::new(),
                verified: None,
                ended: None,
                troubles: Vec::new(),
            }),
            RecordBody::StepIntent { run, step, .. } => self.change(run, |run| {
                run.spans.entry(step).or_insert((at, at));
            }),
            RecordBody::StepOutcome {
                run, step, result, ..
            } => self.change(run, |run| {
                if let Some(span) = run.spans.get_mut(step) {
                    span.1 = at;
                }
                if let StepResult::Failed { reason } | StepResult::Indeterminate { reason } = result
                {
                    run.troubles.push(format!("step {step}: {reason}"));
                }
            }),
            RecordBody::StepObserved { run, step, .. } => self.change(run, |run| {
                if let Some(span) = run.spans.get_mut(step) {
                    span.1 = at;
                }
            }),
            RecordBody::StepSettled { run, step, how, .. } => self.change(run, |run| match how {
                Settlement::Skipped { reason } => {
                    run.troubles
                        .push(format!("step {step} was left out: {reason}"));
                }
                Settlement::Left { reason } => run
                    .troubles
                    .push(format!("step {step} could not be taken back: {reason}")),
                Settlement::Manual { .. } | Settlement::Undone { .. } => {}
            }),
            RecordBody::Verified {
                run,
                downtime,
                within_rto,
                ..
            } => self.change(run, |run| run.verified = Some((*downtime, *within_rto))),
            RecordBody::RunClosed {
                run,
                outcome,
                reason,
                ..
            } => self.change(run, |run| run.ended = Some((*outcome, reason))),
            RecordBody::PhaseEntered { announcement, .. } => self.told.push(announcement),
            RecordBody::AnnouncementSettled {
                announcement,
                tallies,
            } => drop(self.tallies.insert(announcement, tallies)),
            RecordBody::LossMeasured {
                run,
                bytes,
                commits,
                ..
            } => self.lost.push((run, *bytes, *commits)),
            _ => {}
        }
    }

    /// Drills have steps of their own beside a run's.
    fn change(&mut self, id: &RunId, change: impl FnOnce(&mut Run<'a>)) {
        if let Some(run) = self.runs.iter_mut().find(|run| run.id == *id) {
            change(run);
        }
    }
}

fn summary(text: &mut String, account: &Account<'_>) {
    let what = if account.planned {
        "Planned work"
    } else {
        "Post-mortem"
    };
    let _ = writeln!(text, "# {what}: {} (draft)\n", account.id);
    let _ = writeln!(
        text,
        "Drafted from the journal of {}, records {} to {}. Times are UTC.\n",
        account.service,
        account.records.first().map_or(Seq(0), |r| r.seq),
        account.records.last().map_or(Seq(0), |r| r.seq),
    );
    let _ = writeln!(text, "## Summary\n");
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "- **{name}:** {value}");
    };
    row("What", account.reason.to_owned());
    row("Began", account.since.to_string());
    if !account.planned {
        let took = account.opened.since(account.since);
        row("Noticed", format!("{} ({took} later)", account.opened));
    }
    let verified = account.runs.iter().filter_map(|r| r.verified).next_back();
    match verified {
        Some((downtime, within)) => row(
            "Served again",
            format!(
                "after {downtime}, {} the RTO",
                if within { "within" } else { "beyond" }
            ),
        ),
        None if account.planned => {}
        None => row(
            "Served again",
            "no run of this incident was verified".to_owned(),
        ),
    }
    row(
        "Over",
        account
            .closed
            .map_or_else(|| "not yet".to_owned(), |at| at.to_string()),
    );
}

/// What a component was, from when and until when.
type Trouble = (Verdict, Time, Option<Time>);

/// For how long each component was down or degraded, and whether customers heard of it.
fn impact(text: &mut String, account: &Account<'_>) {
    let _ = writeln!(text, "\n## Impact\n");
    let down = account
        .components
        .iter()
        .map(|c| (c, (Verdict::Down, account.since)));
    let mut open: BTreeMap<&ComponentName, (Verdict, Time)> = down.collect();
    let mut spans: BTreeMap<&ComponentName, Vec<Trouble>> = BTreeMap::new();
    for record in account.records {
        let RecordBody::VerdictChanged { component, to, .. } = &record.body else {
            continue;
        };
        // One that cannot be told just now is what it was before.
        let is_clear = matches!(to, Verdict::Healthy | Verdict::Degraded | Verdict::Down);
        if !is_clear || open.get(component).is_some_and(|(was, _)| was == to) {
            continue;
        }
        if let Some((was, since)) = open.remove(component) {
            let ended = (was, since, Some(record.at));
            spans.entry(component).or_default().push(ended);
        }
        if *to != Verdict::Healthy {
            open.insert(component, (*to, record.at));
        }
    }
    for (component, (was, since)) in open {
        let ended = (was, since, account.closed);
        spans.entry(component).or_default().push(ended);
    }
    if spans.is_empty() {
        let _ = writeln!(text, "- No component was seen to be down.");
    }
    for (component, spans) in spans {
        let words = spans.iter().map(|(was, from, to)| match to {
            Some(to) => format!("{was} for {} from {from}", to.since(*from)),
            None => format!("{was} since {from}"),
        });
        let words: Vec<_> = words.collect();
        let _ = writeln!(text, "- **{component}:** {}", words.join("; "));
    }
    let tallies = account.tallies.values().flat_map(|t| t.values());
    let accepted: u64 = tallies.map(|tally| tally.sent).sum();
    let _ = writeln!(
        text,
        "- **Customers:** {} announcements, {accepted} messages accepted by the other side",
        account.told.len()
    );
}

fn recovery(text: &mut String, account: &Account<'_>) {
    let _ = writeln!(text, "\n## Recovery");
    if account.runs.is_empty() {
        let _ = writeln!(text, "\nNo run was begun.");
    }
    for run in &account.runs {
        let plan = run.plan;
        let _ = writeln!(
            text,
            "\n### {} {} from {} to {}\n\nBegan {}: {}\n",
            plan.kind, run.id, plan.from, plan.to, run.opened, run.reason
        );
        let _ = writeln!(text, "| part | forecast | took |\n|---|---|---|");
        for phase in StepPhase::ALL {
            let spans: Vec<_> = plan
                .steps
                .iter()
                .filter(|s| s.phase == phase)
                .filter_map(|s| run.spans.get(&s.id))
                .collect();
            let (Some(begin), Some(end)) = (
                spans.iter().map(|s| s.0).min(),
                spans.iter().map(|s| s.1).max(),
            ) else {
                continue;
            };
            let part = run.forecast.iter().find(|p| p.part == phase.to_string());
            let forecast = part.map_or_else(
                || "none".to_owned(),
                |p| {
                    let measured = if p.measured { "" } else { " (never measured)" };
                    format!("{}{measured}", p.expected)
                },
            );
            let _ = writeln!(text, "| {phase} | {forecast} | {} |", end.since(begin));
        }
        let ended = match &run.ended {
            Some((outcome, reason)) => format!("Ended {outcome:?}: {reason}").to_lowercase(),
            None => "not ended".to_owned(),
        };
        let _ = writeln!(text, "\n{}", sentence(&ended));
    }
}

fn data(text: &mut String, account: &Account<'_>) {
    if account.runs.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n## Data\n");
    for run in &account.runs {
        let _ = writeln!(text, "- {}: the forecast was: {}", run.id, run.loss);
        for (_, bytes, commits) in account.lost.iter().filter(|l| *l.0 == run.id) {
            let _ = writeln!(
                text,
                "- {}: really left behind: {commits} committed transactions, {bytes} bytes of log",
                run.id
            );
        }
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a record of any other kind says nothing of this part"
)]
fn decisions(text: &mut String, account: &Account<'_>) {
    let mut asked: BTreeMap<AskId, String> = BTreeMap::new();
    let mut lines = Vec::new();
    for record in account.records {
        match &record.body {
            RecordBody::AskOpened { ask, .. } => {
                let subject = crate::decide::event::subject_words(&ask.subject);
                lines.push(format!("{} people were asked about {subject}", record.at));
                asked.insert(AskId::of(account.service, record.seq), subject);
            }
            RecordBody::Approved {
                ask,
                by,
                user,
                reason,
                break_glass,
            } => {
                let by = line::signed(by, user.as_ref());
                let what = asked.get(ask).map_or("a question", String::as_str);
                let reason = reason
                    .as_ref()
                    .map_or_else(String::new, |r| format!(": {r}"));
                let alone = if *break_glass {
                    ", alone (break-glass)"
                } else {
                    ""
                };
                lines.push(format!("{} {by} approved {what}{alone}{reason}", record.at));
            }
            RecordBody::RunOpened {
                requester: Some(by),
                kind,
                ..
            } => lines.push(format!("{} {by} asked for the {kind}", record.at)),
            RecordBody::Attested { .. }
            | RecordBody::AskClosed { .. }
            | RecordBody::Paused { .. }
            | RecordBody::Resumed { .. }
            | RecordBody::Unwinding { .. }
            | RecordBody::Declared { .. }
            | RecordBody::Resolved { .. }
            | RecordBody::DutyTaken { .. }
            | RecordBody::HandOverOffered { .. }
            | RecordBody::Refused { .. }
            | RecordBody::Note { .. } => {
                lines.push(format!("{} {}", record.at, line::of(record).text));
            }
            _ => {}
        }
    }
    let _ = writeln!(text, "\n## Who decided what\n");
    if lines.is_empty() {
        let _ = writeln!(text, "Nobody was asked.");
    }
    for line in lines {
        let _ = writeln!(text, "- {line}");
    }
}

fn messages(text: &mut String, account: &Account<'_>) {
    let _ = writeln!(text, "\n## What customers were told\n");
    if account.told.is_empty() {
        let _ = writeln!(text, "Nothing.");
    }
    for told in &account.told {
        let counts = account.tallies.get(&told.id).map_or_else(
            || "not settled yet".to_owned(),
            |tallies| {
                let counts = tallies.iter().map(|(channel, tally)| {
                    format!("{channel} {} sent, {} failed", tally.sent, tally.failed)
                });
                let counts: Vec<_> = counts.collect();
                if counts.is_empty() {
                    "on the status page".to_owned()
                } else {
                    counts.join("; ")
                }
            },
        );
        let _ = writeln!(text, "- {} {}: {counts}", told.at, told.phase);
    }
}

fn timeline(text: &mut String, account: &Account<'_>) {
    let _ = writeln!(text, "\n## Timeline\n");
    for record in account.records {
        let line = line::of(record);
        if line.weight > Weight::Detail {
            let _ = writeln!(text, "- {} {}: {}", record.at, line.topic, line.text);
        }
    }
}

fn open_items(text: &mut String, account: &Account<'_>) {
    let mut items = Vec::new();
    if account.closed.is_none() {
        items.push("The incident is not over.".to_owned());
    }
    for run in &account.runs {
        if !matches!(run.ended, Some((RunOutcome::Done, _))) {
            items.push(format!("{} did not end as planned: see above.", run.id));
        }
        items.extend(run.troubles.iter().map(|t| format!("{}: {t}", run.id)));
        let is_measured = account.lost.iter().any(|l| *l.0 == run.id);
        let loses = !matches!(run.loss, LossForecast::Stateless) && !run.plan.kind.is_planned();
        if loses && !is_measured {
            items.push(format!(
                "{}: what was really left at {} is not known: a failback with guards measures it.",
                run.id, run.plan.from
            ));
        }
        items.extend(
            run.forecast
                .iter()
                .filter(|p| !p.measured)
                .map(|p| format!("{}: the part {} had never been measured.", run.id, p.part)),
        );
    }
    for (id, tallies) in &account.tallies {
        for (channel, tally) in tallies.iter().filter(|(_, t)| t.failed + t.unknown > 0) {
            items.push(format!(
                "{id}: {} recipients on {channel} were not reached, of {} it is not known.",
                tally.failed, tally.unknown
            ));
        }
    }
    let _ = writeln!(text, "\n## Open items\n");
    if items.is_empty() {
        let _ = writeln!(text, "The journal knows of none.");
    }
    for item in items {
        let _ = writeln!(text, "- {item}");
    }
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}
