//! The first page: every service that the visitor may see.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use maud::{Markup, html};

use super::{Frame, Part, Tone, block, csrf, refused, state, verdict};
use crate::{
    decide::explain::Report,
    desk::message::{Answer, Request},
    web::{caller::Visitor, problem::Problem, room::Room},
};

/// Where its changes come from.
const LIVE: &str = "/live";

/// The page.
pub async fn show(State(room): State<Arc<Room>>, visitor: Visitor) -> Response {
    match parts(&room, &visitor).await {
        Ok(parts) => {
            let frame = Frame {
                title: "Services",
                visitor: Some(&visitor),
                live: Some(LIVE),
                said: room.sessions.hear(&visitor.session.key),
            };
            frame
                .around(&html! {
                    @for part in &parts { (part.whole()) }
                    (brake(&visitor))
                })
                .into_response()
        }
        Err(problem) => refused(Some(&visitor), &problem),
    }
}

/// Its parts, as they are now.
///
/// # Errors
/// Where the clerk refuses.
pub async fn parts(room: &Arc<Room>, visitor: &Visitor) -> Result<Vec<Part>, Problem> {
    let request = Request::Status { service: None };
    let Answer::Status(reports) = room.ask(request, &visitor.caller.speaker).await? else {
        return Err(Room::unexpected());
    };
    let waiting: Vec<_> = reports
        .iter()
        .flat_map(|r| r.asks.iter().map(move |ask| (r, ask)))
        .collect();
    let pages: Vec<_> = reports
        .iter()
        .flat_map(|r| r.pages.iter().map(move |page| (r, page)))
        .collect();
    let asked = html! {
        ul class="calls" {
            @for (report, ask) in &waiting {
                li { a href={ "/services/" (report.service) "#asks" } { (report.title) ": " (ask.about) } }
            }
        }
    };
    let called = html! {
        ul class="calls" {
            @for (report, page) in &pages {
                li { a href={ "/services/" (report.service) "#pages" } { (page.title) } }
            }
        }
    };
    Ok(vec![
        Part {
            id: "top",
            title: None,
            body: Some(html! { h1 { (headline(&reports)) } }),
        },
        Part::new(
            "asks",
            "Questions for you",
            (!waiting.is_empty()).then_some(asked),
        ),
        Part::new(
            "pages",
            "Pages that nobody has acknowledged",
            (!pages.is_empty()).then_some(called),
        ),
        Part::new(
            "services",
            "Services",
            Some(html! {
                ul class="cards" { @for report in &reports { (card(report)) } }
            }),
        ),
    ])
}

/// Everything at once: the services that one may not pause say so.
fn brake(visitor: &Visitor) -> Markup {
    html! {
        section id="actions" class="part" aria-labelledby="actions-heading" {
            h2 id="actions-heading" { "Everywhere at once" }
            details id="pause" {
                summary { "Pause every service" }
                form method="post" action="/act" {
                    (csrf(visitor))
                    input type="hidden" name="back" value="/";
                    input type="hidden" name="act" value="pause";
                    p class="hint" { "Begin nothing automatically, anywhere." }
                    label for="pause-reason" { "Reason" }
                    input id="pause-reason" name="reason" type="text" required maxlength="500" autocomplete="off";
                    button class="danger" type="submit" { "Pause everything" }
                }
            }
            form method="post" action="/act" {
                (csrf(visitor))
                input type="hidden" name="back" value="/";
                input type="hidden" name="act" value="resume";
                button class="quiet" type="submit" { "End every pause" }
            }
        }
    }
}

fn headline(reports: &[Report]) -> String {
    let incidents = reports.iter().filter(|r| r.incident.is_some()).count();
    let asks: usize = reports.iter().map(|r| r.asks.len()).sum();
    match (asks, incidents) {
        (0, 0) => "No incident is open".to_owned(),
        (0, 1) => "An incident is open".to_owned(),
        (0, n) => format!("{n} incidents are open"),
        (1, _) => "A question waits for an answer".to_owned(),
        (n, _) => format!("{n} questions wait for answers"),
    }
}

fn card(report: &Report) -> Markup {
    let mut components: Vec<_> = report.components.iter().collect();
    components.sort_by(|a, b| a.name.cmp(&b.name));
    html! {
        li class="card" {
            h3 { a href={ "/services/" (report.service) } { (report.title) } }
            p { (report.headline) }
            p class="row" {
                @if report.incident.is_some() { (state(Tone::Bad, "incident open")) }
                @if let Some(paused) = &report.paused { (state(Tone::Warn, &format!("paused by {paused}"))) }
                @if let Some(run) = report.run.as_ref().filter(|r| r.outcome.is_none()) {
                    (state(Tone::Info, &format!("{} in progress", run.kind)))
                }
            }
            dl class="facts" {
                @for component in components {
                    dt { (component.name) }
                    dd { (verdict(component.verdict)) }
                }
                dt { "mode" } dd { (block::mode(report)) }
                dt { "readiness" } dd { (block::readiness(report)) }
                dt { "loss now" } dd { (report.loss) }
            }
        }
    }
}
