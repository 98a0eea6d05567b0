//! The operations: each with what it takes and gives, for the routes and for their description alike.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    response::{
        IntoResponse, Response, Sse,
        sse::{self, KeepAlive},
    },
    routing::{MethodRouter, get, post},
};
use futures::{StreamExt, future};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::extract::{Asked, Body, Named};
use crate::{
    decide::explain::Report,
    desk::message::{Answer, Event, Member, PlanView, PreviewItem, Request, Wish},
    driver::backups::{Choice, Survey},
    model::{
        announcement::Phase,
        approval::Role,
        backup::Verification,
        check::CheckItem,
        id::{PersonName, ServiceName, SiteName},
        plan::RunKind,
        record::Record,
    },
    web::{
        caller::Client,
        order::{self, Done, Order},
        problem::Problem,
        room::Room,
    },
};

/// Records that a timeline has unless it is said.
const LAST: usize = 200;
/// Longest silence of a stream, so that proxies keep the connection.
const ALIVE: Duration = Duration::from_secs(15);

/// A method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Looks, and changes nothing.
    Get,
    /// Does something.
    Post,
}

/// What makes the schema of a type.
pub type Shape = fn(&mut SchemaGenerator) -> Schema;

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One value.
    Json,
    /// One value an event, for as long as the client stays.
    Events,
}

/// One operation.
pub struct Operation {
    /// Its method.
    pub verb: Verb,
    /// Its path below the API's root.
    pub path: &'static str,
    /// Its name, for programs made from the description.
    pub id: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// What may stand behind the `?`: its type's fields.
    pub asked: Option<Shape>,
    /// What has to be sent.
    pub body: Option<Shape>,
    /// What comes back.
    pub answer: Shape,
    /// How.
    pub form: Form,
    /// What answers.
    pub mount: fn() -> MethodRouter<Arc<Room>>,
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// The fields themselves.
fn fields<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    T::json_schema(generator)
}

/// Every operation.
#[must_use]
pub fn operations() -> Vec<Operation> {
    let look = |path, id, summary, answer: Shape, mount| Operation {
        verb: Verb::Get,
        path,
        id,
        summary,
        asked: None,
        body: None,
        answer,
        form: Form::Json,
        mount,
    };
    let act = |path, id, summary, body: Option<Shape>, answer: Shape, mount| Operation {
        verb: Verb::Post,
        path,
        id,
        summary,
        asked: None,
        body,
        answer,
        form: Form::Json,
        mount,
    };
    vec![
        look(
            "/me",
            "whoAmI",
            "Who the token is, and what they may do at each service.",
            of::<Me>,
            || get(me),
        ),
        look(
            "/services",
            "listServices",
            "How every service that you may see stands, and why.",
            of::<Vec<Report>>,
            || get(services),
        ),
        look(
            "/services/{service}",
            "showService",
            "How a service stands, and why.",
            of::<Report>,
            || get(service),
        ),
        Operation {
            asked: Some(fields::<Last>),
            ..look(
                "/services/{service}/timeline",
                "showTimeline",
                "The last records of the journal, oldest first.",
                of::<Vec<Record>>,
                || get(timeline),
            )
        },
        look(
            "/services/{service}/team",
            "showTeam",
            "Who is of a service's team.",
            of::<Vec<Member>>,
            || get(team),
        ),
        Operation {
            asked: Some(fields::<Run>),
            ..look(
                "/services/{service}/plan",
                "showPlan",
                "The plan of a run that could be begun now, its forecast and its expected loss.",
                of::<PlanView>,
                || get(plan),
            )
        },
        act(
            "/services/{service}/check",
            "checkService",
            "Try everything that a failover needs, and record what came of it.",
            None,
            of::<Vec<CheckItem>>,
            || post(check),
        ),
        look(
            "/services/{service}/backups",
            "showBackups",
            "What backups there are, and what breaks their policy; null where there is none.",
            of::<Option<Survey>>,
            || get(backups),
        ),
        act(
            "/services/{service}/backups/verify",
            "verifyBackup",
            "Restore a backup to try it, and record what came of it; answered when that is done.",
            Some(of::<Choice>),
            of::<Verification>,
            || post(verify),
        ),
        act(
            "/services/{service}/preview",
            "previewMessages",
            "The messages of each channel as they would go out now.",
            Some(of::<Preview>),
            of::<Vec<PreviewItem>>,
            || post(preview),
        ),
        act(
            "/services/{service}/commands",
            "command",
            "Give a command to a service. Answering a question is one: the first answer counts.",
            Some(of::<Order>),
            of::<Done>,
            || post(command),
        ),
        act(
            "/services/{service}/commands/try",
            "tryCommand",
            "Whether a command would be taken as things stand; nothing is done.",
            Some(of::<Wish>),
            of::<Possible>,
            || post(possible),
        ),
        act(
            "/commands",
            "commandAll",
            "Give a command to several services: to all that you may see where none is named.",
            Some(of::<Orders>),
            of::<Done>,
            || post(commands),
        ),
        Operation {
            asked: Some(fields::<Followed>),
            form: Form::Events,
            ..look(
                "/events",
                "followEvents",
                "Records as they are written, each with how its service stands then.",
                of::<Event>,
                || get(events),
            )
        },
    ]
}

/// Who the token is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Me {
    /// The name.
    pub name: PersonName,
    /// The services that one may see.
    pub services: Vec<Part>,
}

/// One's part at a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    /// The service.
    pub service: ServiceName,
    /// One's role; none: whatever the approvals leave to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Whether one may approve.
    pub approves: bool,
}

/// How many records.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Last {
    /// How many records; 200 where it is not said.
    last: Option<u16>,
}

/// Which run.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Run {
    /// What for; a failover where it is not said.
    #[serde(default)]
    kind: Option<RunKind>,
    /// To which site; the first standby where it is not said.
    #[serde(default)]
    to: Option<SiteName>,
}

/// Which services.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Followed {
    /// Of which service; of all that one may see where it is not said.
    service: Option<ServiceName>,
}

/// Which messages.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Preview {
    /// Of which phases.
    pub phases: Vec<Phase>,
    /// Text of a person instead of the template's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// A command for several services.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Orders {
    /// Which; empty: all that one may see.
    #[serde(default)]
    pub services: Vec<ServiceName>,
    /// What.
    pub wish: Wish,
    /// For a run: the name of the site that serves afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<SiteName>,
}

/// It would be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Possible {
    /// Always true: what would be refused is a problem.
    pub possible: bool,
}

type Desk = State<Arc<Room>>;

async fn me(State(room): Desk, Client(caller): Client) -> Json<Me> {
    let visible = room.clerk.visible(&caller.speaker);
    let part = |service: &Arc<crate::model::service::Service>| Part {
        service: service.name.clone(),
        role: caller.person(service).and_then(|person| person.role),
        approves: caller.may(service, Role::Approver)
            && service.approvals.approvers.contains(&caller.name),
    };
    Json(Me {
        services: visible.iter().map(part).collect(),
        name: caller.name.clone(),
    })
}

async fn services(State(room): Desk, Client(caller): Client) -> Result<Json<Vec<Report>>, Problem> {
    let request = Request::Status { service: None };
    let Answer::Status(reports) = room.ask(request, &caller.speaker).await? else {
        return Err(Room::unexpected());
    };
    Ok(Json(reports))
}

async fn service(
    State(room): Desk,
    Client(caller): Client,
    Named(service): Named,
) -> Result<Json<Report>, Problem> {
    let request = Request::Status {
        service: Some(service),
    };
    let Answer::Status(reports) = room.ask(request, &caller.speaker).await? else {
        return Err(Room::unexpected());
    };
    let report = reports.into_iter().next();
    report.map(Json).ok_or_else(Room::unexpected)
}

async fn timeline(
    State(room): Desk,
    Client(caller): Client,
    Named(service): Named,
    Asked(asked): Asked<Last>,
) -> Result<Json<Vec<Record>>, Problem> {
    let request = Request::Timeline {
        service,
        last: asked.last.map_or(LAST, usize::from),
    };
    let Answer::Timeline(records) = room.ask(request, &caller.speaker).await? else {
        return Err(Room::unexpected());
    };
    Ok(Json(records))
}

async fn team(
    State(room): Desk,
    Client(caller): Client,
    Named(service): Named,
) -> Result<Json<Vec<Member>>, Problem> {
    let Answer::Team(team) = room.ask(Request::Team { service }, &caller.speaker).await? else {
        return Err(Room::unexpected());
    };
    Ok(Json(team))
}

async fn plan(
    State(room): Desk,
    Client(caller): Client,
    Named(service): Named,
    Asked(asked): Asked<Run>,
) -> Result<Json<PlanView>, Problem> {
    let request = Request::Plan {
        service,
        kind: asked.kind.unwrap_or(RunKind::Failover),
        to: asked.to,
    };
    let Answer::Plan(plan) = room.ask(request, &caller.speaker).await? else {
        return Err(Room::unexpected());
    };
    Ok(Json(*plan))
}

async fn check(
    State(room): Desk,
    Client(caller): Client,
    Named(service): Named,
) -> Result<Json<Vec<CheckItem>>, Problem> {
    let Answer::Check(items) = room
        .ask(Request::Check { service }, &caller.speaker)
        .await?
    else {
        return Err(Room::unexpected());
    };
    Ok(Json(items))
}

async fn backups(
    State(room): Desk,
    Client(caller): Client,
    Named(service): Named,
) -> Result<Json<Option<Survey>>, Problem> {
    let request = Request::Backups { service };
    let Answer::Backups(survey) = room.ask(request, &caller.speaker).await? else {
        return Err(Room::unexpected());
    };
    Ok(Json(survey.map(|survey| *survey)))
}

async fn verify(
    State(room): Desk,
    Client(caller): Client,
    Named(service): Named,
    Body(choice): Body<Choice>,
) -> Result<Json<Verification>, Problem> {
    let request = Request::VerifyBackup { service, choice };
    let Answer::BackupVerified(result) = room.ask(request, &caller.speaker).await? else {
        return Err(Room::unexpected());
    };
    Ok(Json(*result))
}

async fn preview(
    State(room): Desk,
    Client(caller): Client,
    Named(service): Named,
    Body(preview): Body<Preview>,
) -> Result<Json<Vec<PreviewItem>>, Problem> {
    let request = Request::Preview {
        service,
        phases: preview.phases,
        text: preview.text,
    };
    let Answer::Preview(items) = room.ask(request, &caller.speaker).await? else {
        return Err(Room::unexpected());
    };
    Ok(Json(items))
}

async fn command(
    State(room): Desk,
    Client(caller): Client,
    Named(service): Named,
    Body(order): Body<Order>,
) -> Result<Json<Done>, Problem> {
    let done = order::give(&room, vec![service], order, &caller).await?;
    Ok(Json(done))
}

async fn possible(
    State(room): Desk,
    Client(caller): Client,
    Named(service): Named,
    Body(wish): Body<Wish>,
) -> Result<Json<Possible>, Problem> {
    let Answer::Possible = room
        .ask(Request::Try { service, wish }, &caller.speaker)
        .await?
    else {
        return Err(Room::unexpected());
    };
    Ok(Json(Possible { possible: true }))
}

async fn commands(
    State(room): Desk,
    Client(caller): Client,
    Body(orders): Body<Orders>,
) -> Result<Json<Done>, Problem> {
    let order = Order {
        wish: orders.wish,
        confirm: orders.confirm,
    };
    let done = order::give(&room, orders.services, order, &caller).await?;
    Ok(Json(done))
}

async fn events(
    State(room): Desk,
    Client(caller): Client,
    Asked(asked): Asked<Followed>,
) -> Result<Response, Problem> {
    let speaker = caller.speaker.clone();
    let events = room.clerk.watch(asked.service.as_ref(), &speaker);
    let events = events.map_err(|refusal| Problem::of(refusal, String::new()))?;
    // Whoever is not of the team any more hears nothing more.
    let events = events.take_while(move |event| {
        let visible = room.clerk.visible(&speaker);
        future::ready(visible.iter().any(|s| s.name == event.record.chain))
    });
    let events = events.map(|event| {
        let data = serde_json::to_string(&event).unwrap_or_default();
        let id = event.record.seq.to_string();
        Ok::<_, Infallible>(sse::Event::default().event("record").id(id).data(data))
    });
    let alive = KeepAlive::new().interval(ALIVE);
    Ok(Sse::new(events).keep_alive(alive).into_response())
}
