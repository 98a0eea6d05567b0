//! A stand-in for Prometheus' Alertmanager: it keeps alerts by their labels, checks them as Alertmanager does, and
//! fails and stays silent.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use failover::model::time::Time;
use serde_json::{Value, json};

use super::listener::Listener;

/// What happens to one post, in place of the ordinary.
#[derive(Clone, Debug)]
pub enum Turn {
    /// This status, and perhaps `Retry-After`.
    Status(u16, Option<&'static str>),
    /// Taken, but nothing is ever answered.
    TakenInSilence,
}

/// An alert as it is kept.
#[derive(Clone, Debug)]
pub struct Alert {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub starts: Time,
    pub ends: Time,
}

#[derive(Default)]
pub struct Seen {
    pub alerts: BTreeMap<BTreeMap<String, String>, Alert>,
    pub asked: usize,
    turns: VecDeque<Turn>,
    authorization: Option<String>,
}

pub struct Alertmanager {
    pub url: String,
    pub seen: Arc<Mutex<Seen>>,
    _listener: Listener,
}

impl Alertmanager {
    /// One that asks for this `Authorization`, or for none, below the route prefix `/am`.
    pub async fn start(authorization: Option<&str>) -> Self {
        let seen = Arc::new(Mutex::new(Seen {
            authorization: authorization.map(str::to_owned),
            ..Seen::default()
        }));
        let listener = Listener::bind().await;
        let url = format!("{}/am/", listener.url());
        let router = Router::new()
            .route("/am/api/v2/alerts", post(alerts))
            .route("/am/api/v2/status", get(status))
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

    pub fn alerts(&self) -> Vec<Alert> {
        self.seen.lock().unwrap().alerts.values().cloned().collect()
    }

    pub fn asked(&self) -> usize {
        self.seen.lock().unwrap().asked
    }
}

type Shared = State<Arc<Mutex<Seen>>>;

async fn status(State(seen): Shared, headers: HeaderMap) -> Response {
    if !authorized(&seen, &headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    Json(json!({"versionInfo": {"version": "0.28.1"}, "cluster": {"status": "ready"}}))
        .into_response()
}

async fn alerts(State(seen): Shared, headers: HeaderMap, Json(posted): Json<Value>) -> Response {
    if !authorized(&seen, &headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let turn = {
        let mut seen = seen.lock().unwrap();
        seen.asked += 1;
        seen.turns.pop_front()
    };
    match turn {
        None => take(&seen, &posted),
        Some(Turn::Status(status, after)) => {
            let status = StatusCode::from_u16(status).unwrap();
            match after {
                Some(after) => (status, [("retry-after", after)]).into_response(),
                None => status.into_response(),
            }
        }
        Some(Turn::TakenInSilence) => {
            take(&seen, &posted);
            std::future::pending().await
        }
    }
}

fn take(seen: &Mutex<Seen>, posted: &Value) -> Response {
    for posted in posted.as_array().unwrap() {
        let Some(alert) = read(posted) else {
            let body = Json("start time must be before end time, or labels are invalid");
            return (StatusCode::BAD_REQUEST, body).into_response();
        };
        let mut seen = seen.lock().unwrap();
        let kept = seen.alerts.entry(alert.labels.clone());
        let kept = kept.or_insert_with(|| alert.clone());
        // The earliest start and the latest end rule.
        *kept = Alert {
            starts: kept.starts.min(alert.starts),
            ..alert
        };
    }
    StatusCode::OK.into_response()
}

fn read(posted: &Value) -> Option<Alert> {
    let texts = |at: &str| -> Option<BTreeMap<String, String>> {
        serde_json::from_value(posted[at].clone()).ok()
    };
    let time = |at: &str| Time::parse(posted[at].as_str()?).ok();
    let ends = time("endsAt")?;
    let alert = Alert {
        labels: texts("labels")?,
        annotations: texts("annotations")?,
        // What Alertmanager does where the start is missing.
        starts: time("startsAt").unwrap_or(ends),
        ends,
    };
    let named = alert.labels.contains_key("alertname");
    let filled = alert.labels.values().all(|v| !v.is_empty());
    (named && filled && alert.starts <= alert.ends).then_some(alert)
}

fn authorized(seen: &Mutex<Seen>, headers: &HeaderMap) -> bool {
    let expected = seen.lock().unwrap().authorization.clone();
    let given = headers.get("authorization").and_then(|v| v.to_str().ok());
    given == expected.as_deref()
}
