//! Hetzner Cloud's API as far as one server's power goes, with its states, its lock, its limit and its moods.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::listener::Listener;

/// The one server.
pub const SERVER: u32 = 4711;

/// A token that may read and write.
pub const TOKEN: &str = "jEheVytlAoFl7F8MqUQ7jAo2hOXASztX";

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Nothing is done: too many calls.
    Limited,
    /// Nothing is done: status 503.
    Down,
    /// It is done, and the answer is status 502 of something in between.
    BadGatewayAfter,
    /// It is done, and no answer comes.
    SilentAfter,
    /// It is done, and the answer takes a second.
    Slow,
}

#[derive(Default)]
struct World {
    status: &'static str,
    /// Looks during which a change is under way, from the next change on.
    lasts: usize,
    left: usize,
    writes: VecDeque<Mood>,
    reads: VecDeque<Mood>,
    powered: Vec<String>,
    calls: usize,
}

type Shared = Arc<Mutex<World>>;

/// The running stand-in.
pub struct Hetzner {
    /// Base URL.
    pub url: String,
    world: Shared,
    _listener: Listener,
}

impl Hetzner {
    /// Starts it with the server running.
    pub async fn start() -> Self {
        let world = Shared::default();
        world.lock().unwrap().status = "running";
        let app = Router::new()
            .route("/v1/servers/{id}", get(server))
            .route("/v1/servers/{id}/actions/{action}", post(power))
            .layer(middleware::from_fn_with_state(world.clone(), gate))
            .with_state(world.clone());
        let listener = Listener::bind().await;
        Self {
            url: format!("{}/v1", listener.url()),
            world,
            _listener: listener.serve(app),
        }
    }

    /// The state of the server.
    pub fn status(&self) -> &'static str {
        self.world.lock().unwrap().status
    }

    /// The server is in this state, whoever brought it there.
    pub fn turn(&self, status: &'static str) {
        self.world.lock().unwrap().status = status;
    }

    /// The next change is under way for so many looks.
    pub fn lasts(&self, looks: usize) {
        self.world.lock().unwrap().lasts = looks;
    }

    /// The next calls that change something meet these moods.
    pub fn writes(&self, moods: impl IntoIterator<Item = Mood>) {
        self.world.lock().unwrap().writes.extend(moods);
    }

    /// The next calls that look meet these moods.
    pub fn reads(&self, moods: impl IntoIterator<Item = Mood>) {
        self.world.lock().unwrap().reads.extend(moods);
    }

    /// The changes that were taken.
    pub fn powered(&self) -> Vec<String> {
        self.world.lock().unwrap().powered.clone()
    }

    /// How often it was called.
    pub fn calls(&self) -> usize {
        self.world.lock().unwrap().calls
    }
}

fn wrong(status: u16, code: &str) -> Response {
    let body = json!({"error": {"code": code, "message": code.replace('_', " "), "details": {}}});
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}

fn is_known(headers: &HeaderMap) -> bool {
    headers
        .get(header::AUTHORIZATION)
        .is_some_and(|given| *given == format!("Bearer {TOKEN}"))
}

/// The credential comes first, then the mood.
async fn gate(State(world): State<Shared>, request: Request, next: Next) -> Response {
    let mood = {
        let mut world = world.lock().unwrap();
        world.calls += 1;
        if !is_known(request.headers()) {
            return wrong(401, "unauthorized");
        }
        if request.method().is_safe() {
            world.reads.pop_front()
        } else {
            world.writes.pop_front()
        }
    };
    match mood {
        Some(Mood::Limited) => return wrong(429, "rate_limit_exceeded"),
        Some(Mood::Down) => return wrong(503, "unavailable"),
        Some(Mood::BadGatewayAfter | Mood::SilentAfter | Mood::Slow) | None => {}
    }
    let response = next.run(request).await;
    match mood {
        Some(Mood::BadGatewayAfter) => {
            (StatusCode::BAD_GATEWAY, "<html>bad gateway</html>").into_response()
        }
        Some(Mood::SilentAfter) => std::future::pending().await,
        Some(Mood::Slow) => {
            sleep(Duration::from_secs(1)).await;
            response
        }
        Some(Mood::Limited | Mood::Down) | None => response,
    }
}

async fn server(State(world): State<Shared>, Path(id): Path<u32>) -> Response {
    if id != SERVER {
        return wrong(404, "not_found");
    }
    let mut world = world.lock().unwrap();
    let after = match world.status {
        "stopping" => Some("off"),
        "starting" => Some("running"),
        _ => None,
    };
    if let Some(after) = after {
        match world.left {
            0 => world.status = after,
            _ => world.left -= 1,
        }
    }
    Json(json!({"server": {"id": id, "name": "db1", "status": world.status}})).into_response()
}

async fn power(
    State(world): State<Shared>,
    Path((id, action)): Path<(u32, String)>,
    Json(_): Json<Value>,
) -> Response {
    let (during, command) = match action.as_str() {
        "poweroff" => ("stopping", "stop_server"),
        "poweron" => ("starting", "start_server"),
        _ => return wrong(404, "not_found"),
    };
    if id != SERVER {
        return wrong(404, "not_found");
    }
    let mut world = world.lock().unwrap();
    if matches!(world.status, "stopping" | "starting") {
        return wrong(423, "locked");
    }
    world.status = during;
    world.left = std::mem::take(&mut world.lasts);
    world.powered.push(action);
    let action = json!({
        "id": world.powered.len(), "command": command, "status": "running", "progress": 0,
        "resources": [{"id": id, "type": "server"}], "error": null,
    });
    (StatusCode::CREATED, Json(json!({"action": action}))).into_response()
}
