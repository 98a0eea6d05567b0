//! A stand-in for Twilio's messages: it checks the credential and the form as Twilio does, counts what it was asked,
//! and limits, fails and stays silent.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::listener::Listener;

pub const SID: &str = "AC0123456789abcdef0123456789abcdef";
pub const TOKEN: &str = "an-auth-token";
pub const FROM: &str = "+12025550143";
pub const SERVICE: &str = "MG0123456789abcdef0123456789abcdef";

/// What happens to one message, in place of the ordinary.
#[derive(Clone, Debug)]
pub enum Turn {
    /// Refused with this status and code.
    Error(u16, u32),
    /// Too many: try again after so many seconds.
    Limit(&'static str),
    /// Taken, but nothing is ever answered.
    TakenInSilence,
    /// Taken, but a gateway in between answers 502.
    TakenBehind502,
    /// This status and no JSON.
    Gateway(u16),
}

/// A message that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub to: String,
    pub sender: String,
    pub body: String,
}

#[derive(Default)]
pub struct Seen {
    pub taken: Vec<Taken>,
    /// To whom a message was asked for.
    pub asked: Vec<String>,
    turns: VecDeque<Turn>,
    /// What a number always gets.
    numbers: BTreeMap<String, u32>,
    account: Value,
}

pub struct Twilio {
    pub url: String,
    pub seen: Arc<Mutex<Seen>>,
    _listener: Listener,
}

impl Twilio {
    pub async fn start() -> Self {
        let seen = Arc::new(Mutex::new(Seen {
            account: json!({"sid": SID, "status": "active", "type": "Full"}),
            ..Seen::default()
        }));
        let listener = Listener::bind().await;
        let url = listener.url();
        let router = Router::new()
            .route(
                "/2010-04-01/Accounts/{account}/Messages.json",
                post(message),
            )
            .route("/2010-04-01/Accounts/{account}", get(account))
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

    /// This number is refused with this code, each time.
    pub fn refuse(&self, number: &str, code: u32) {
        let mut seen = self.seen.lock().unwrap();
        seen.numbers.insert(number.to_owned(), code);
    }

    pub fn account(&self, status: &str, kind: &str) {
        let mut seen = self.seen.lock().unwrap();
        seen.account = json!({"sid": SID, "status": status, "type": kind});
    }

    pub fn taken(&self) -> Vec<Taken> {
        self.seen.lock().unwrap().taken.clone()
    }

    pub fn asked(&self) -> usize {
        self.seen.lock().unwrap().asked.len()
    }
}

type Shared = State<Arc<Mutex<Seen>>>;

async fn message(
    State(seen): Shared,
    Path(account): Path<String>,
    headers: HeaderMap,
    body: String,
) -> Response {
    if !authorized(&headers) {
        return error(401, 20003, "Authenticate");
    }
    if account != SID {
        return error(404, 20404, "The requested resource was not found");
    }
    let pairs: Vec<(String, String)> = url::form_urlencoded::parse(body.as_bytes())
        .into_owned()
        .collect();
    let form: BTreeMap<String, String> = pairs.iter().cloned().collect();
    // A field that comes twice, or one that nobody asked for, was smuggled in.
    let known = ["To", "From", "MessagingServiceSid", "Body"];
    if form.len() != pairs.len() || form.keys().any(|k| !known.contains(&k.as_str())) {
        return error(400, 20001, "Unknown parameters");
    }
    let get = |name: &str| form.get(name).cloned().unwrap_or_default();
    let taken = Taken {
        to: get("To"),
        sender: get("From") + &get("MessagingServiceSid"),
        body: get("Body"),
    };
    let (turn, refused) = {
        let mut seen = seen.lock().unwrap();
        seen.asked.push(taken.to.clone());
        (seen.turns.pop_front(), seen.numbers.get(&taken.to).copied())
    };
    match turn {
        Some(Turn::Error(status, code)) => {
            let message = format!("The number {} cannot be sent to", taken.to);
            error(status, code, &message)
        }
        Some(Turn::Limit(after)) => {
            let limited = error(429, 20429, "Too Many Requests");
            ([("retry-after", after)], limited).into_response()
        }
        Some(Turn::TakenInSilence) => {
            ordinary(&seen, taken, refused);
            std::future::pending().await
        }
        Some(Turn::TakenBehind502) => {
            ordinary(&seen, taken, refused);
            gateway(502)
        }
        Some(Turn::Gateway(status)) => gateway(status),
        None => ordinary(&seen, taken, refused),
    }
}

fn ordinary(seen: &Mutex<Seen>, taken: Taken, refused: Option<u32>) -> Response {
    if let Some(code) = refused {
        let message = format!("The 'To' number {} is not a valid phone number.", taken.to);
        return error(400, code, &message);
    }
    if taken.body.is_empty() {
        return error(400, 21602, "Message body is required");
    }
    if taken.body.chars().count() > 1600 {
        return error(400, 21617, "The concatenated message body is too long");
    }
    if taken.sender != FROM && taken.sender != SERVICE {
        return error(400, 21606, "The 'From' phone number is not valid");
    }
    let mut seen = seen.lock().unwrap();
    let answer = json!({
        "sid": format!("SM{:032x}", seen.taken.len() + 1),
        "status": "queued", "to": taken.to, "body": taken.body,
        "error_code": null, "error_message": null,
    });
    seen.taken.push(taken);
    (StatusCode::CREATED, Json(answer)).into_response()
}

async fn account(State(seen): Shared, Path(file): Path<String>, headers: HeaderMap) -> Response {
    if !authorized(&headers) {
        return error(401, 20003, "Authenticate");
    }
    if file != format!("{SID}.json") {
        return error(404, 20404, "The requested resource was not found");
    }
    Json(seen.lock().unwrap().account.clone()).into_response()
}

fn authorized(headers: &HeaderMap) -> bool {
    let expected = format!("Basic {}", STANDARD.encode(format!("{SID}:{TOKEN}")));
    headers
        .get("authorization")
        .is_some_and(|given| *given == *expected)
}

fn error(status: u16, code: u32, message: &str) -> Response {
    let body = json!({
        "code": code, "message": message, "status": status,
        "more_info": format!("https://www.twilio.com/docs/errors/{code}"),
    });
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}

fn gateway(status: u16) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    (status, "<html>upstream</html>").into_response()
}
