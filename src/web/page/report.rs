//! The report of a drill, read from the journal's records as 'failover report' reads it.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use maud::{Markup, html};

use super::{Frame, Tone, day, refused, state};
use crate::{
    decide::drill::report::{self, Report},
    desk::message::{Answer, Request},
    model::{
        drill::DrillOutcome,
        id::{RunId, ServiceName},
        record::{Record, RecordBody},
        span::Span,
    },
    web::{caller::Visitor, picture, problem::Problem, room::Room},
};

/// Records that are looked through.
const LAST: usize = 5_000;

/// The report.
pub async fn show(
    State(room): State<Arc<Room>>,
    visitor: Visitor,
    Path((service, drill)): Path<(String, String)>,
) -> Response {
    let service = ServiceName::from(service.as_str());
    let request = Request::Timeline {
        service: service.clone(),
        last: LAST,
    };
    let records = match room.ask(request, &visitor.caller.speaker).await {
        Ok(Answer::Timeline(records)) => records,
        Ok(_) => return refused(Some(&visitor), &Room::unexpected()),
        Err(problem) => return refused(Some(&visitor), &problem),
    };
    let id = RunId::new(drill);
    let Some(found) = find(&records, &id) else {
        let problem = Problem::new(
            StatusCode::NOT_FOUND,
            "There is no such drill.",
            format!("The last {LAST} records of {service} know no drill {id}."),
            format!("'failover report {id}' on the controller's host reads the whole journal."),
        );
        return refused(Some(&visitor), &problem);
    };
    let title = format!("Drill {id}");
    let frame = Frame {
        title: &title,
        visitor: Some(&visitor),
        live: None,
        said: None,
    };
    let body = html! {
        p class="path" { a href="/" { "All services" } " / " a href={ "/services/" (service) } { (service) } }
        h1 { (title) }
        (shown(&found))
    };
    frame.around(&body).into_response()
}

fn find(records: &[Record], wanted: &RunId) -> Option<Report> {
    let opens = |record: &Record| {
        matches!(&record.body, RecordBody::DrillOpened { .. })
            && RunId::of(&record.chain, record.seq) == *wanted
    };
    let at = records.iter().position(opens)?;
    report::of(&records[at..])
}

fn shown(report: &Report) -> Markup {
    let (tone, word) = match report.outcome {
        None => (Tone::Info, "goes on".to_owned()),
        Some(DrillOutcome::Passed) => (Tone::Ok, DrillOutcome::Passed.to_string()),
        Some(DrillOutcome::Failed) => (Tone::Bad, DrillOutcome::Failed.to_string()),
        Some(DrillOutcome::BrokenOff) => (Tone::Warn, DrillOutcome::BrokenOff.to_string()),
    };
    let parts: Vec<_> = report
        .rto
        .parts
        .iter()
        .map(|p| (p.part.as_str(), p.counts().as_millis()))
        .collect();
    let words = format!(
        "{} of the RTO of {}",
        report.rto.total, report.rto.objective
    );
    let took = |span: Option<Span>| span.map_or_else(|| "–".to_owned(), |s| s.to_string());
    html! {
        p class="lead" { (state(tone, &word)) }
        @for reason in &report.reasons { p { (reason) } }
        dl class="facts wide" {
            dt { "drill" } dd { (report.policy) ", " (report.depth) }
            dt { "began" } dd { (day(report.began)) }
            @if let Some(by) = &report.requester { dt { "asked for by" } dd { (by) } }
            dt { "because" } dd { (report.reason) }
            dt { "RPO" } dd {
                (took(report.rpo.measured)) " measured, " (report.rpo.objective) " promised; forecast: "
                (report.rpo.forecast.to_string())
            }
        }
        h2 { "Recovery time" }
        (picture::budget(&parts, report.rto.objective.as_millis(), &words))
        p { (words) }
        table {
            thead { tr { th scope="col" { "Part" } th scope="col" { "Forecast" } th scope="col" { "Measured" } } }
            tbody { @for part in &report.rto.parts { tr {
                th scope="row" { (part.part) }
                td class="figure" { (part.forecast) }
                td class="figure" { (took(part.measured)) }
            } } }
        }
        @if !report.steps.is_empty() {
            h2 { "Steps" }
            div class="scroll" tabindex="0" role="region" aria-label="Steps" { table {
                thead { tr {
                    th scope="col" { "Step" } th scope="col" { "Phase" }
                    th scope="col" { "Expected" } th scope="col" { "Took" }
                } }
                tbody { @for step in &report.steps { tr {
                    th scope="row" { (step.name) }
                    td { (step.phase.to_string()) }
                    td class="figure" { (step.expected) }
                    td class="figure" { (took(step.took)) }
                } } }
            } }
        }
        @if !report.not_exercised.is_empty() {
            h2 { "Not exercised" }
            p { (report.not_exercised.len()) " steps of the failover have nothing here that stands for them." }
        }
        (listed("What the gates had against a failover", &report.gates))
        @if let Some(readiness) = &report.readiness { (listed("What the last check found", readiness)) }
    }
}

fn listed(title: &str, lines: &[String]) -> Markup {
    html! {
        @if !lines.is_empty() {
            h2 { (title) }
            ul { @for line in lines { li { (line) } } }
        }
    }
}
