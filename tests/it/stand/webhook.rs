//! A receiver of signed webhooks, which believes only what its secret signed, and takes each id once.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use ring::hmac;
use serde_json::Value;

use super::listener::Listener;

pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What is answered in place of 204.
#[derive(Clone, Debug)]
pub enum Turn {
    /// This status, and perhaps `Retry-After`.
    Status(u16, Option<&'static str>),
    /// It is taken, but nothing is ever answered.
    TakenInSilence,
    /// A redirect to this URL.
    Redirect(String),
}

#[derive(Default)]
pub struct Seen {
    /// What was taken, each id once.
    pub taken: Vec<Value>,
    /// The ids of all genuine requests.
    pub ids: Vec<String>,
    /// Requests whose signature is wrong.
    pub forged: usize,
    turns: VecDeque<Turn>,
    known: BTreeSet<String>,
}

pub struct Receiver {
    pub url: String,
    pub seen: Arc<Mutex<Seen>>,
    _listener: Listener,
}

impl Receiver {
    pub async fn start() -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let listener = Listener::bind().await;
        let url = format!("{}/hook", listener.url());
        let router = Router::new()
            .route("/hook", post(take))
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
}

async fn take(State(seen): State<Arc<Mutex<Seen>>>, headers: HeaderMap, body: String) -> Response {
    let get = |name: &str| {
        let value = headers.get(name).and_then(|v| v.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let (id, at) = (get("webhook-id"), get("webhook-timestamp"));
    let key = STANDARD
        .decode(SECRET.trim_start_matches("whsec_"))
        .unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let given = get("webhook-signature");
    let given = given
        .strip_prefix("v1,")
        .and_then(|g| STANDARD.decode(g).ok());
    let genuine = given
        .is_some_and(|g| hmac::verify(&key, format!("{id}.{at}.{body}").as_bytes(), &g).is_ok());
    let turn = {
        let mut seen = seen.lock().unwrap();
        if !genuine {
            seen.forged += 1;
            return StatusCode::UNAUTHORIZED.into_response();
        }
        seen.ids.push(id.clone());
        seen.turns.pop_front()
    };
    if let Some(Turn::Status(status, after)) = turn {
        let status = StatusCode::from_u16(status).unwrap();
        return match after {
            Some(after) => (status, [("retry-after", after)]).into_response(),
            None => status.into_response(),
        };
    }
    if let Some(Turn::Redirect(to)) = turn {
        return (StatusCode::TEMPORARY_REDIRECT, [("location", to)]).into_response();
    }
    {
        let mut seen = seen.lock().unwrap();
        if seen.known.insert(id) {
            seen.taken.push(serde_json::from_str(&body).unwrap());
        }
    }
    if let Some(Turn::TakenInSilence) = turn {
        return std::future::pending().await;
    }
    StatusCode::NO_CONTENT.into_response()
}
