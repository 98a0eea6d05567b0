//! What happened, one line a record.

use std::sync::Arc;

use axum::{
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
};
use maud::{Markup, html};
use serde::Deserialize;

use super::{Frame, Part, Tone, day, moment, refused, service::View};
use crate::{
    desk::{
        line::{self, Weight},
        message::{Answer, Request},
    },
    model::{id::ServiceName, record::Record},
    web::{caller::Visitor, room::Room},
};

/// Records on the page unless the link says otherwise.
const LAST: usize = 200;

/// The last records, as a part of the service's page.
#[must_use]
pub fn part(view: &View<'_>) -> Part {
    let body = html! {
        (list(&view.records, false))
        p { a href={ "/services/" (view.service.name) "/timeline" } { "The whole timeline" } }
    };
    Part::new(
        "timeline",
        "Timeline",
        (!view.records.is_empty()).then_some(body),
    )
}

/// Newest first, since that is what one looks for.
fn list(records: &[Record], days: bool) -> Markup {
    html! {
        ol class="timeline" reversed {
            @for record in records.iter().rev() {
                @let line = line::of(record);
                li class=(weight(line.weight)) {
                    span class="soft" { @if days { (day(record.at)) } @else { (moment(record.at)) } }
                    span class="topic" { (line.topic) }
                    span class="text" {
                        @if line.weight == Weight::Bad {
                            span class="unseen" { "Bad news: " }
                            span aria-hidden="true" { "✕ " }
                        }
                        (line.text)
                    }
                }
            }
        }
    }
}

fn weight(weight: Weight) -> &'static str {
    match weight {
        Weight::Detail => "detail",
        Weight::Normal => "normal",
        Weight::Heavy => "heavy",
        Weight::Bad => Tone::Bad.class(),
    }
}

/// What the link says.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Wanted {
    last: Option<usize>,
}

/// The timeline on a page of its own.
pub async fn show(
    State(room): State<Arc<Room>>,
    visitor: Visitor,
    Path(service): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Response {
    let service = ServiceName::from(service.as_str());
    let last = wanted.last.unwrap_or(LAST);
    let request = Request::Timeline {
        service: service.clone(),
        last,
    };
    let records = match room.ask(request, &visitor.caller.speaker).await {
        Ok(Answer::Timeline(records)) => records,
        Ok(_) => return refused(Some(&visitor), &Room::unexpected()),
        Err(problem) => return refused(Some(&visitor), &problem),
    };
    let path = format!("/services/{service}");
    let frame = Frame {
        title: &format!("Timeline of {service}"),
        visitor: Some(&visitor),
        live: None,
        said: None,
    };
    let body = html! {
        p class="path" { a href="/" { "All services" } " / " a href=(path) { (service) } }
        h1 { "Timeline of " (service) }
        (list(&records, true))
        @if records.len() >= last {
            p { a href={ (path) "/timeline?last=" (last.saturating_mul(4)) } { "Further back" } }
        }
    };
    frame.around(&body).into_response()
}
