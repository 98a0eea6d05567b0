//! A stand-in for PagerDuty's Events API v2: it keeps alerts by their `dedup_key`, checks events as PagerDuty does,
//! and limits, fails and stays silent.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};

use super::listener::Listener;

pub const ROUTING_KEY: &str = "0123456789abcdef0123456789abcdef";

/// What happens to one event, in place of the ordinary.
#[derive(Clone, Debug)]
pub enum Turn {
    /// This status, and perhaps `Retry-After`.
    Status(u16, Option<&'static str>),
    /// Taken, but nothing is ever answered.
    TakenInSilence,
    /// Taken, but a gateway in between answers 502.
    TakenBehind502,
}

#[derive(Default)]
pub struct Seen {
    /// The events of each open alert.
    pub open: BTreeMap<String, Vec<Value>>,
    pub asked: usize,
    turns: VecDeque<Turn>,
}

pub struct PagerDuty {
    pub url: String,
    pub seen: Arc<Mutex<Seen>>,
    _listener: Listener,
}

impl PagerDuty {
    pub async fn start() -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let listener = Listener::bind().await;
        let url = listener.url();
        let router = Router::new()
            .route("/v2/enqueue", post(enqueue))
            .with_state(seen.clone());
        Self {
            url,
            seen,
            _listener: listener.serve(router),
        }
    }

    pub fn next(&self, turns: impl IntoIterator<Item = Turn>) {
        self.seen.lock().unwrap().turns.extend(turns);
    }

    pub fn open(&self) -> BTreeMap<String, Vec<Value>> {
        self.seen.lock().unwrap().open.clone()
    }

    pub fn asked(&self) -> usize {
        self.seen.lock().unwrap().asked
    }
}

async fn enqueue(State(seen): State<Arc<Mutex<Seen>>>, Json(event): Json<Value>) -> Response {
    let turn = {
        let mut seen = seen.lock().unwrap();
        seen.asked += 1;
        seen.turns.pop_front()
    };
    match turn {
        None => take(&seen, &event),
        Some(Turn::Status(status, after)) => {
            let status = StatusCode::from_u16(status).unwrap();
            let body = Json(json!({"status": "throttle exceeded", "message": "Requests exceeded"}));
            match after {
                Some(after) => (status, [("retry-after", after)], body).into_response(),
                None => (status, body).into_response(),
            }
        }
        Some(Turn::TakenInSilence) => {
            take(&seen, &event);
            std::future::pending().await
        }
        Some(Turn::TakenBehind502) => {
            take(&seen, &event);
            (StatusCode::BAD_GATEWAY, "<html>").into_response()
        }
    }
}

fn take(seen: &Mutex<Seen>, event: &Value) -> Response {
    let errors = errors(event);
    if !errors.is_empty() {
        let body = json!({
            "status": "invalid event", "message": "Event object is invalid", "errors": errors,
        });
        return (StatusCode::BAD_REQUEST, Json(body)).into_response();
    }
    let key = event["dedup_key"].as_str().unwrap().to_owned();
    let mut seen = seen.lock().unwrap();
    if event["event_action"] == "resolve" {
        seen.open.remove(&key);
    } else {
        let events = seen.open.entry(key.clone()).or_default();
        events.push(event.clone());
    }
    let body = json!({"status": "success", "message": "Event processed", "dedup_key": key});
    (StatusCode::ACCEPTED, Json(body)).into_response()
}

fn errors(event: &Value) -> Vec<String> {
    let text = |at: &str| {
        event
            .pointer(at)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let within = |at: &str, most: usize| (1..=most).contains(&text(at).chars().count());
    let checks = [
        (
            text("/routing_key") == ROUTING_KEY,
            "'routing_key' is invalid",
        ),
        (
            ["trigger", "acknowledge", "resolve"].contains(&text("/event_action")),
            "'event_action' is invalid",
        ),
        (within("/dedup_key", 255), "'dedup_key' is invalid"),
        (
            within("/payload/summary", 1024),
            "'payload.summary' is invalid",
        ),
        (
            within("/payload/source", 1024),
            "'payload.source' is invalid",
        ),
        (
            ["critical", "error", "warning", "info"].contains(&text("/payload/severity")),
            "'payload.severity' is invalid",
        ),
        (event.to_string().len() <= 512 * 1024, "too long"),
    ];
    let wrong = checks.iter().filter(|(right, _)| !right);
    wrong.map(|(_, error)| (*error).to_owned()).collect()
}
