//! The page of one service.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use maud::{Markup, html};

use super::{Frame, Part, block, evidence, incident, question, refused, run, timeline};
use crate::{
    decide::explain::Report,
    desk::message::{Answer, Member, Request},
    model::{approval::Role, id::ServiceName, record::Record, service::Service},
    web::{caller::Visitor, course::Course, problem::Problem, room::Room},
};

/// Records that the page shows; the timeline has more.
const LAST: usize = 12;

/// What the page shows.
pub struct View<'a> {
    /// Who looks.
    pub visitor: &'a Visitor,
    /// The service as documents have it.
    pub service: Arc<Service>,
    /// How it stands.
    pub report: Report,
    /// Who is of its team.
    pub team: Vec<Member>,
    /// Its last records.
    pub records: Vec<Record>,
    /// How things went of late.
    pub course: Course,
}

impl<'a> View<'a> {
    /// Everything that is known of a service.
    ///
    /// # Errors
    /// Where there is none of that name that the visitor may see.
    pub async fn of(
        room: &Arc<Room>,
        visitor: &'a Visitor,
        name: &ServiceName,
    ) -> Result<Self, Problem> {
        let speaker = &visitor.caller.speaker;
        let request = Request::Status {
            service: Some(name.clone()),
        };
        let Answer::Status(reports) = room.ask(request, speaker).await? else {
            return Err(Room::unexpected());
        };
        let report = reports.into_iter().next().ok_or_else(Room::unexpected)?;
        let request = Request::Timeline {
            service: name.clone(),
            last: LAST,
        };
        let Answer::Timeline(records) = room.ask(request, speaker).await? else {
            return Err(Room::unexpected());
        };
        let request = Request::Team {
            service: name.clone(),
        };
        let Answer::Team(team) = room.ask(request, speaker).await? else {
            return Err(Room::unexpected());
        };
        let mut visible = room.clerk.visible(speaker).into_iter();
        let service = visible.find(|s| s.name == *name);
        Ok(Self {
            visitor,
            service: service.ok_or_else(Room::unexpected)?,
            report,
            team,
            records,
            course: room.courses.of(name),
        })
    }

    /// Whether the visitor's role leaves this to them.
    #[must_use]
    pub fn may(&self, needed: Role) -> bool {
        self.visitor.caller.may(&self.service, needed)
    }

    /// A form of this page: it comes back here.
    #[must_use]
    pub fn form(&self, act: &str, body: &Markup) -> Markup {
        html! {
            form method="post" action={ "/services/" (self.service.name) "/act" } {
                (super::csrf(self.visitor))
                input type="hidden" name="back" value={ "/services/" (self.service.name) };
                input type="hidden" name="act" value=(act);
                (body)
            }
        }
    }

    /// What happens now, above everything else.
    fn urgent(&self) -> Vec<Part> {
        vec![
            block::now(self),
            question::asks(self),
            question::pages(self),
            incident::part(self),
            run::part("run", "Run", self.report.run.as_ref(), self),
            run::part(
                "drill",
                "Drill in progress",
                self.report.drill.as_ref(),
                self,
            ),
        ]
    }

    fn side(&self) -> Vec<Part> {
        vec![
            block::budget(self),
            evidence::lag(self),
            block::gates(self),
            block::guards(self),
            block::drills(self),
        ]
    }
}

/// The page.
pub async fn show(
    State(room): State<Arc<Room>>,
    visitor: Visitor,
    Path(service): Path<String>,
) -> Response {
    let name = ServiceName::from(service.as_str());
    let view = match View::of(&room, &visitor, &name).await {
        Ok(view) => view,
        Err(problem) => return refused(Some(&visitor), &problem),
    };
    let live = format!("/live/services/{}", view.service.name);
    let frame = Frame {
        title: &view.service.title,
        visitor: Some(&visitor),
        live: Some(&live),
        said: room.sessions.hear(&visitor.session.key),
    };
    let whole = |parts: Vec<Part>| html! { @for part in &parts { (part.whole()) } };
    let body = html! {
        p class="path" { a href="/" { "All services" } }
        (whole(view.urgent()))
        div class="columns" {
            div {
                (whole(vec![evidence::components(&view)]))
                (block::actions(&view))
                (whole(vec![timeline::part(&view)]))
            }
            div { (whole(view.side())) }
        }
    };
    frame.around(&body).into_response()
}

/// Its parts, as they are now.
///
/// # Errors
/// Where there is none of that name that the visitor may see.
pub async fn parts(
    room: &Arc<Room>,
    visitor: &Visitor,
    name: &ServiceName,
) -> Result<Vec<Part>, Problem> {
    let view = View::of(room, visitor, name).await?;
    let mut parts = view.urgent();
    parts.extend([evidence::components(&view), timeline::part(&view)]);
    parts.extend(view.side());
    Ok(parts)
}
