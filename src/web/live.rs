//! What changes on a page, as it changes: the server renders its parts again and sends those that look otherwise.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures::{FutureExt, StreamExt, stream};
use serde_json::json;

use super::{
    caller::Visitor,
    page::{Part, overview, service},
    problem::Problem,
    room::Room,
};
use crate::{
    desk::clerk::Events,
    model::{id::ServiceName, span::Span},
};

/// Looked at again after so long even where nothing was recorded: ages and latencies change.
const PAUSE: Span = Span::from_secs(2);
/// Longest silence, so that proxies keep the connection.
const ALIVE: Duration = Duration::from_secs(15);

/// Which page.
#[derive(Clone, Debug)]
enum Page {
    Overview,
    Service(ServiceName),
}

/// Changes of the first page.
pub async fn overview(State(room): State<Arc<Room>>, visitor: Visitor) -> Response {
    watch(room, visitor, Page::Overview)
}

/// Changes of a service's page.
pub async fn service(
    State(room): State<Arc<Room>>,
    visitor: Visitor,
    Path(service): Path<String>,
) -> Response {
    let service = ServiceName::from(service.as_str());
    watch(room, visitor, Page::Service(service))
}

struct Watched {
    room: Arc<Room>,
    visitor: Visitor,
    page: Page,
    events: Events,
    /// What each part looked like when it was sent last.
    sent: BTreeMap<&'static str, u64>,
    is_first: bool,
}

fn watch(room: Arc<Room>, visitor: Visitor, page: Page) -> Response {
    let service = match &page {
        Page::Overview => None,
        Page::Service(name) => Some(name),
    };
    let events = match room.clerk.watch(service, &visitor.caller.speaker) {
        Ok(events) => events,
        Err(refusal) => return Problem::of(refusal, String::new()).into_response(),
    };
    let watched = Watched {
        room,
        visitor,
        page,
        events,
        sent: BTreeMap::new(),
        is_first: true,
    };
    let rounds = stream::unfold(Some(watched), |watched| async {
        let mut watched = watched?;
        match watched.round().await {
            Round::Changed(events) => Some((events, Some(watched))),
            Round::Out => Some((vec![Event::default().event("over").data("now")], None)),
            Round::Stopped => None,
        }
    });
    let events = rounds.flat_map(stream::iter).map(Ok::<_, Infallible>);
    Sse::new(events)
        .keep_alive(KeepAlive::new().interval(ALIVE))
        .into_response()
}

enum Round {
    /// What changed since the last one.
    Changed(Vec<Event>),
    /// The page may not be seen any more: it is loaded anew, and whoever is not logged in is asked to.
    Out,
    /// The controller stops. The page stays as it is until another one answers.
    Stopped,
}

impl Watched {
    async fn round(&mut self) -> Round {
        if !std::mem::take(&mut self.is_first) && !self.waited().await {
            return Round::Stopped;
        }
        let (sessions, session) = (&self.room.sessions, &self.visitor.session);
        let holds = sessions.holds(&session.key, self.room.now());
        if !holds || self.room.caller(session.holder.clone()).is_none() {
            return Round::Out;
        }
        let parts = match &self.page {
            Page::Overview => overview::parts(&self.room, &self.visitor).await,
            Page::Service(name) => service::parts(&self.room, &self.visitor, name).await,
        };
        match parts {
            Ok(parts) => Round::Changed(parts.iter().filter_map(|p| self.changed(p)).collect()),
            Err(problem) if problem.status() == StatusCode::NOT_FOUND => Round::Out,
            Err(_) => Round::Stopped,
        }
    }

    /// Waits for a record, or a while; whether the controller goes on.
    async fn waited(&mut self) -> bool {
        let runtime = &self.room.clerk.runtime;
        let pause = runtime.sleep_until(runtime.now().after(PAUSE));
        let goes_on = tokio::select! {
            event = self.events.next() => event.is_some(),
            () = pause => true,
        };
        // Records that come together are shown together.
        while let Some(event) = self.events.next().now_or_never() {
            if event.is_none() {
                return false;
            }
        }
        goes_on
    }

    fn changed(&mut self, part: &Part) -> Option<Event> {
        let html = part.inner().into_string();
        let mut hasher = DefaultHasher::new();
        html.hash(&mut hasher);
        let looks = hasher.finish();
        if self.sent.insert(part.id, looks) == Some(looks) {
            return None;
        }
        let data = json!({ "id": part.id, "html": html }).to_string();
        Some(Event::default().event("part").data(data))
    }
}
