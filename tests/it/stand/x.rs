//! A stand-in for X's API v2: it checks signatures, refuses duplicates and long posts, counts its limits, and answers
//! in both shapes of X's errors.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use ring::hmac;
use serde_json::{Value, json};

use super::listener::Listener;

pub const KEYS: [(&str, &str); 4] = [
    ("apiKey", "consumer-key"),
    ("apiSecret", "consumer-secret"),
    ("accessToken", "access-token"),
    ("accessSecret", "access-secret"),
];

/// What happens to one request, in place of the ordinary.
#[derive(Clone, Debug)]
pub enum Turn {
    /// Refused as `application/problem+json`.
    Problem(u16, &'static str),
    /// Refused as a list of errors.
    Listed(u16, u16, &'static str),
    /// Too many: until this second.
    Limit(u64),
    /// Posted, but nothing is ever answered.
    PostedInSilence,
    /// Not posted, and nothing is ever answered.
    Silence,
    /// Posted, but a gateway in between answers 503.
    PostedBehind503,
    /// Not posted: 503.
    Unavailable,
}

#[derive(Default)]
pub struct Seen {
    /// What stands on the timeline.
    pub posts: Vec<String>,
    /// What was asked to be posted.
    pub asked: Vec<String>,
    turns: VecDeque<Turn>,
    nonces: BTreeSet<String>,
    limited_until: u64,
    /// Requests that came while a limit was in force.
    pub too_early: usize,
}

pub struct X {
    pub url: String,
    pub seen: Arc<Mutex<Seen>>,
    _listener: Listener,
}

impl X {
    pub async fn start() -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let listener = Listener::bind().await;
        let url = listener.url();
        let router = Router::new()
            .route("/2/tweets", post(tweet))
            .route("/2/users/me", get(me))
            .with_state((seen.clone(), url.clone()));
        Self {
            url,
            seen,
            _listener: listener.serve(router),
        }
    }

    pub fn next(&self, turns: impl IntoIterator<Item = Turn>) {
        self.seen.lock().unwrap().turns.extend(turns);
    }

    pub fn posts(&self) -> Vec<String> {
        self.seen.lock().unwrap().posts.clone()
    }

    pub fn asked(&self) -> usize {
        self.seen.lock().unwrap().asked.len()
    }
}

pub fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_secs()
}

type Shared = State<(Arc<Mutex<Seen>>, String)>;

async fn tweet(
    State((seen, url)): Shared,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    if let Err(response) = authorized(&seen, "POST", &format!("{url}/2/tweets"), &headers) {
        return response;
    }
    let text = body["text"].as_str().unwrap_or_default().to_owned();
    let turn = {
        let mut seen = seen.lock().unwrap();
        seen.asked.push(text.clone());
        if now() < seen.limited_until {
            seen.too_early += 1;
            return limit(seen.limited_until);
        }
        seen.turns.pop_front()
    };
    match turn {
        None => ordinary(&seen, &text),
        Some(Turn::Problem(status, detail)) => problem(status, detail),
        Some(Turn::Listed(status, code, message)) => {
            let body = json!({"errors": [{"code": code, "message": message}]});
            (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
        }
        Some(Turn::Limit(until)) => {
            seen.lock().unwrap().limited_until = until;
            limit(until)
        }
        Some(Turn::PostedInSilence) => {
            ordinary(&seen, &text);
            std::future::pending().await
        }
        Some(Turn::Silence) => std::future::pending().await,
        Some(Turn::PostedBehind503) => {
            ordinary(&seen, &text);
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "<html>over capacity</html>",
            )
                .into_response()
        }
        Some(Turn::Unavailable) => problem(503, "Service Unavailable"),
    }
}

fn ordinary(seen: &Mutex<Seen>, text: &str) -> Response {
    let mut seen = seen.lock().unwrap();
    let weight = twitter_text::parse(text, twitter_text_config::config_v3(), true);
    if weight.weighted_length > 280 || text.is_empty() {
        return problem(400, "One or more parameters to your request was invalid.");
    }
    if seen.posts.iter().any(|p| p == text) {
        return problem(
            403,
            "You are not allowed to create a Tweet with duplicate content.",
        );
    }
    seen.posts.push(text.to_owned());
    let id = format!("17{:08}", seen.posts.len());
    let body = json!({"data": {"id": id, "text": text}});
    (StatusCode::CREATED, Json(body)).into_response()
}

async fn me(State((seen, url)): Shared, headers: HeaderMap) -> Response {
    if let Err(response) = authorized(&seen, "GET", &format!("{url}/2/users/me"), &headers) {
        return response;
    }
    let body = json!({"data": {"id": "9", "name": "Shop", "username": "shop_status"}});
    ([("x-access-level", "read-write")], Json(body)).into_response()
}

fn problem(status: u16, detail: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    let title = status.canonical_reason();
    let body =
        json!({"type": "about:blank", "title": title, "detail": detail, "status": status.as_u16()});
    let kind = [("content-type", "application/problem+json")];
    (status, kind, body.to_string()).into_response()
}

fn limit(until: u64) -> Response {
    let headers = [
        ("x-rate-limit-limit", "100".to_owned()),
        ("x-rate-limit-remaining", "0".to_owned()),
        ("x-rate-limit-reset", until.to_string()),
    ];
    (headers, problem(429, "Too Many Requests")).into_response()
}

/// OAuth 1.0a as RFC 5849 says, written apart from the product's.
#[expect(clippy::result_large_err, reason = "a stand-in's answer is made once")]
fn authorized(
    seen: &Mutex<Seen>,
    method: &str,
    url: &str,
    headers: &HeaderMap,
) -> Result<(), Response> {
    let refuse = || problem(401, "Unauthorized");
    let header = headers.get("authorization").and_then(|h| h.to_str().ok());
    let parameters = header
        .and_then(|h| h.strip_prefix("OAuth "))
        .ok_or_else(refuse)?;
    let mut pairs: Vec<(String, String)> = parameters
        .split(',')
        .filter_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            Some((name.to_owned(), decode(value.trim_matches('"'))))
        })
        .collect();
    let get = |pairs: &[(String, String)], name: &str| {
        let found = pairs.iter().find(|(n, _)| n == name);
        found.map(|(_, v)| v.clone()).unwrap_or_default()
    };
    let signature = get(&pairs, "oauth_signature");
    let (nonce, at) = (get(&pairs, "oauth_nonce"), get(&pairs, "oauth_timestamp"));
    pairs.retain(|(name, _)| name != "oauth_signature");
    pairs.sort();
    let joined: Vec<String> = pairs
        .iter()
        .map(|(n, v)| format!("{}={}", encode(n), encode(v)))
        .collect();
    let base = format!("{method}&{}&{}", encode(url), encode(&joined.join("&")));
    let key = format!("{}&{}", KEYS[1].1, KEYS[3].1);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key.as_bytes());
    let expected = STANDARD.encode(hmac::sign(&key, base.as_bytes()));
    let fresh = at.parse::<u64>().is_ok_and(|at| at.abs_diff(now()) < 300);
    let known = get(&pairs, "oauth_consumer_key") == KEYS[0].1
        && get(&pairs, "oauth_token") == KEYS[2].1
        && get(&pairs, "oauth_signature_method") == "HMAC-SHA1";
    let new = seen.lock().unwrap().nonces.insert(nonce);
    if expected == signature && fresh && known && new {
        Ok(())
    } else {
        Err(refuse())
    }
}

fn encode(text: &str) -> String {
    use std::fmt::Write as _;

    let mut out = String::new();
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(char::from(b));
        } else {
            let _ = write!(out, "%{b:02X}");
        }
    }
    out
}

fn decode(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b == b'%' {
            let hex = [bytes.next().unwrap(), bytes.next().unwrap()];
            let hex = std::str::from_utf8(&hex).unwrap();
            out.push(u8::from_str_radix(hex, 16).unwrap());
        } else {
            out.push(b);
        }
    }
    String::from_utf8(out).unwrap()
}
