//! `failover drill`, `failover report` and `failover history`.

mod figure;
mod html;
mod junit;
pub(super) mod markdown;
mod svg;

use std::{fs, path::Path};

use comfy_table::{Table, presets::NOTHING};
use serde::Serialize;

use super::{
    act, arguments, arguments::ReportFormat, identity, journal, output::Output, place::Place,
    watch::Watcher,
};
use crate::{
    decide::drill::report::{self, Report},
    desk::message::Wish,
    error::Error,
    model::{
        drill::DrillOutcome,
        id::{DrillName, RunId, ServiceName},
        record::{Record, RecordBody},
        span::Span,
        time::Time,
    },
};

/// `failover drill`.
///
/// # Errors
/// Where it cannot begin, and where it was not passed.
pub async fn drill(args: &arguments::Drill, place: &Place, output: Output) -> Result<(), Error> {
    let service = ServiceName::from(args.service.as_str());
    // Followed from before the command, so that nothing is missed.
    let place = &place.with_token(identity::given(&args.identity)?);
    let watcher = Watcher::connect(place, Some(service.clone())).await?;
    if let Some(path) = &args.report {
        format_of(path)?;
    }
    let wish = Wish::Drill {
        policy: args.name.as_deref().map(DrillName::from),
        reason: args.reason.clone(),
    };
    act::act(
        act::Deed::new(vec![service], wish, &args.identity),
        place,
        output,
    )
    .await?;
    if args.detach {
        return Ok(());
    }
    let drill = watcher.until_drill_ends(output).await?;
    let told = find(place, drill.as_str()).await?;
    if let Some(path) = &args.report {
        save(&told, path)?;
    }
    if output.json() {
        output.value(&told)?;
    } else {
        output.text(&markdown::of(&told))?;
    }
    match told.report.outcome {
        Some(DrillOutcome::Passed) if told.left.is_empty() => Ok(()),
        Some(DrillOutcome::Passed | DrillOutcome::Failed | DrillOutcome::BrokenOff) | None => {
            Err(Error::Refused {
                reason: format!("drill {drill} was not passed"),
                help: format!("'failover report {drill}' says why"),
            })
        }
    }
}

/// `failover report`.
///
/// # Errors
/// Where the journal cannot be read, or knows no such drill, or the report is not the one that was recorded.
pub async fn report(args: &arguments::Report, place: &Place, output: Output) -> Result<(), Error> {
    let told = find(place, &args.id).await?;
    let format = match (args.format, &args.out) {
        (Some(format), _) => format,
        (None, Some(path)) => format_of(path)?,
        (None, None) if output.json() => ReportFormat::Json,
        (None, None) => ReportFormat::Text,
    };
    match &args.out {
        Some(path) => save_as(&told, format, path),
        None => output.text(&written(&told, format)?),
    }
}

/// A report with what became of the drill afterwards.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// The report.
    #[serde(flatten)]
    pub report: Report,
    /// What could not be taken back.
    pub left: Vec<String>,
    /// When nothing else was left of it; none while that is not so.
    pub closed: Option<Time>,
    /// SHA-256 of the report, as the journal holds it.
    pub sha256: Option<String>,
}

/// The drill of that id; of a service its newest one.
///
/// # Errors
/// Where the journal cannot be read, or knows no such drill, or the report is not the one that was recorded.
pub(super) async fn find(place: &Place, id: &str) -> Result<Told, Error> {
    let owner = act::owner(id, 'r');
    let service = owner
        .as_ref()
        .map_or(id, |service| service.as_str())
        .to_owned();
    let records = journal::records(place, &service).await?;
    let wanted = owner.ok().map(|_| RunId::new(id));
    let mut all = told(&records);
    let found = match &wanted {
        Some(id) => all.into_iter().find(|t| t.report.drill == *id),
        None => all.pop(),
    };
    let found = found.ok_or_else(|| {
        Error::Usage(match wanted {
            Some(id) => format!(
                "the journal of {service} knows no drill {id}: 'failover history {service}' shows them"
            ),
            None => format!(
                "the journal of {service} knows no drill yet: 'failover drill {service}' makes one"
            ),
        })
    })?;
    if found
        .sha256
        .as_ref()
        .is_some_and(|sha| *sha != found.report.hash())
    {
        return Err(Error::Refused {
            reason: format!(
                "the report of {} is not the one that was recorded: was the journal changed, or written by another version?",
                found.report.drill
            ),
            help: "'failover journal verify' says whether the journal is whole".to_owned(),
        });
    }
    Ok(found)
}

/// Every drill that a journal knows, oldest first.
fn told(records: &[Record]) -> Vec<Told> {
    let opened = records
        .iter()
        .enumerate()
        .filter(|(_, r)| matches!(r.body, RecordBody::DrillOpened { .. }));
    let one = |(at, _): (usize, &Record)| {
        let report = report::of(&records[at..])?;
        let closed = records[at..].iter().find_map(|r| {
            let RecordBody::DrillClosed {
                drill,
                left,
                report: sha256,
            } = &r.body
            else {
                return None;
            };
            (*drill == report.drill).then(|| (left.clone(), r.at, sha256.clone()))
        });
        let (left, closed, sha256) = match closed {
            Some((left, at, sha256)) => (left, Some(at), Some(sha256)),
            None => (Vec::new(), None, None),
        };
        Some(Told {
            report,
            left,
            closed,
            sha256,
        })
    };
    opened.filter_map(one).collect()
}

/// How a report is written into a file of that name.
///
/// # Errors
/// Where its ending does not tell.
pub(super) fn format_of(path: &Path) -> Result<ReportFormat, Error> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("html" | "htm") => Ok(ReportFormat::Html),
        Some("json") => Ok(ReportFormat::Json),
        Some("xml") => Ok(ReportFormat::Junit),
        Some("md") => Ok(ReportFormat::Markdown),
        Some("txt") => Ok(ReportFormat::Text),
        Some(_) | None => Err(Error::Usage(format!(
            "{}: how the report is written is told by the ending: .html, .json, .xml (JUnit), .md or .txt",
            path.display()
        ))),
    }
}

/// Writes a report into a file, whose ending says how.
///
/// # Errors
/// Where its ending does not tell, or it cannot be written.
pub(super) fn save(told: &Told, path: &Path) -> Result<(), Error> {
    save_as(told, format_of(path)?, path)
}

fn save_as(told: &Told, format: ReportFormat, path: &Path) -> Result<(), Error> {
    fs::write(path, written(told, format)?).map_err(|source| Error::File {
        verb: "write",
        path: path.to_owned(),
        source,
    })
}

fn written(told: &Told, format: ReportFormat) -> Result<String, Error> {
    Ok(match format {
        ReportFormat::Text | ReportFormat::Markdown => markdown::of(told),
        ReportFormat::Html => html::of(told),
        ReportFormat::Json => {
            serde_json::to_string_pretty(told).map_err(|e| Error::Output(e.into()))? + "\n"
        }
        ReportFormat::Junit => junit::of(told)?,
    })
}

/// A drill in the history.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    drill: RunId,
    policy: DrillName,
    depth: String,
    began: Time,
    outcome: Option<DrillOutcome>,
    rto: Span,
    rto_objective: Span,
    rpo: Option<Span>,
    rpo_objective: Span,
    forecast_error: Option<f64>,
    reasons: Vec<String>,
}

/// `failover history`.
///
/// # Errors
/// Where the journal cannot be read.
pub async fn history(
    args: &arguments::History,
    place: &Place,
    output: Output,
) -> Result<(), Error> {
    let records = journal::records(place, &args.service).await?;
    let mut all = told(&records);
    let skip = args.last.map_or(0, |n| all.len().saturating_sub(n));
    all.drain(..skip);
    let reports: Vec<Report> = all.into_iter().map(|t| t.report).collect();
    let error = report::typical_error(&reports);
    let entries: Vec<Entry> = reports.iter().map(entry).collect();
    if output.json() {
        return output.value(&serde_json::json!({
            "service": args.service, "drills": entries, "forecastErrorMedian": error,
        }));
    }
    if entries.is_empty() {
        return output.line(&format!(
            "no drill yet: 'failover drill {}' makes one",
            args.service
        ));
    }
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header([
        "drill",
        "when",
        "what",
        "outcome",
        "RTO",
        "",
        "RPO",
        "forecast off by",
    ]);
    let mut before: Option<Span> = None;
    for entry in &entries {
        table.add_row([
            entry.drill.to_string(),
            entry.began.date(),
            format!("{} ({})", entry.policy, entry.depth),
            entry
                .outcome
                .map_or_else(|| "open".to_owned(), |o| o.to_string()),
            format!("{} of {}", entry.rto, entry.rto_objective),
            trend(before, entry.rto).to_owned(),
            entry.rpo.map_or_else(
                || "not measured".to_owned(),
                |rpo| format!("{rpo} of {}", entry.rpo_objective),
            ),
            entry
                .forecast_error
                .map_or_else(String::new, |e| format!("{e:+.1} %")),
        ]);
        before = Some(entry.rto);
    }
    output.line(&table.to_string())?;
    if let Some(error) = error {
        output.line(&format!("forecasts were off by {error:.1} % in the middle"))?;
    }
    Ok(())
}

fn entry(report: &Report) -> Entry {
    Entry {
        drill: report.drill.clone(),
        policy: report.policy.clone(),
        depth: report.depth.to_string(),
        began: report.began,
        outcome: report.outcome,
        rto: report.rto.total,
        rto_objective: report.rto.objective,
        rpo: report.rpo.measured,
        rpo_objective: report.rpo.objective,
        forecast_error: report.forecast_error,
        reasons: report.reasons.clone(),
    }
}

/// Whether it became better or worse than the time before, beyond a tenth.
fn trend(before: Option<Span>, now: Span) -> &'static str {
    let Some(before) = before.map(Span::as_millis) else {
        return "";
    };
    let now = now.as_millis();
    if now * 10 > before * 11 {
        "slower"
    } else if now * 11 < before * 10 {
        "faster"
    } else {
        "as before"
    }
}
