//! X's API v2 as far as posting goes (facts: status 201, limits by header, 403 on a duplicate, 401 without a signature
//! that could be right).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};

use super::{Inbox, Received, Service, now};

/// Posts of one user within a quarter of an hour.
const LIMIT: usize = 100;
/// That quarter, in seconds.
const WINDOW: i64 = 900;
/// The longest post; a URL counts for 23.
const LONGEST: usize = 280;
/// How far a client's clock may be off, in seconds.
const CLOCK: i64 = 300;

/// The keys that are known.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The app's.
    pub api_key: String,
    /// The account's.
    pub access_token: String,
}

struct Account {
    keys: Keys,
    inbox: Inbox,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    nonces: BTreeSet<String>,
    texts: BTreeSet<String>,
    posted: Vec<i64>,
}

/// The service.
pub fn router(keys: Keys, inbox: Inbox) -> Router {
    let account = Arc::new(Account {
        keys,
        inbox,
        seen: Mutex::default(),
    });
    Router::new()
        .route("/2/tweets", post(tweet))
        .route("/2/users/me", get(me))
        .with_state(account)
}

async fn me(State(account): State<Arc<Account>>, headers: HeaderMap) -> Response {
    let mut seen = account.lock();
    if account.authorised(&headers, &mut seen) {
        Json(json!({ "data": { "id": "1", "name": "The shop", "username": "shop" } }))
            .into_response()
    } else {
        problem(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }
}

async fn tweet(
    State(account): State<Arc<Account>>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    let mut seen = account.lock();
    if !account.authorised(&headers, &mut seen) {
        return problem(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized");
    }
    let at = now();
    seen.posted.retain(|t| *t > at.as_secs() - WINDOW);
    let text = body["text"].as_str().unwrap_or_default().to_owned();
    let refused = if seen.posted.len() >= LIMIT {
        Some((
            StatusCode::TOO_MANY_REQUESTS,
            "Too Many Requests",
            "Too Many Requests",
        ))
    } else if text.is_empty() || weight(&text) > LONGEST {
        Some((
            StatusCode::BAD_REQUEST,
            "Invalid Request",
            "One or more parameters to your request was invalid.",
        ))
    } else if !seen.texts.insert(text.clone()) {
        Some((
            StatusCode::FORBIDDEN,
            "Forbidden",
            "You are not allowed to create a Tweet with duplicate content.",
        ))
    } else {
        None
    };
    let reset = seen.posted.first().copied().unwrap_or(at.as_secs()) + WINDOW;
    let mut answer = if let Some((status, title, detail)) = refused {
        problem(status, title, detail)
    } else {
        seen.posted.push(at.as_secs());
        let id = seen.texts.len().to_string();
        account.inbox.put(Received {
            at,
            service: Service::X,
            to: "followers".to_owned(),
            subject: None,
            text: text.clone(),
        });
        (
            StatusCode::CREATED,
            Json(json!({ "data": { "id": id, "text": text } })),
        )
            .into_response()
    };
    let left = LIMIT.saturating_sub(seen.posted.len());
    for (name, value) in [
        ("x-rate-limit-limit", LIMIT.to_string()),
        ("x-rate-limit-remaining", left.to_string()),
        ("x-rate-limit-reset", reset.to_string()),
    ] {
        if let Ok(value) = value.parse() {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}

impl Account {
    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Known keys, HMAC-SHA1, a nonce that is new, a clock that is right.
    fn authorised(&self, headers: &HeaderMap, seen: &mut Seen) -> bool {
        let fields = headers
            .get(header::AUTHORIZATION)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.strip_prefix("OAuth "))
            .map(fields)
            .unwrap_or_default();
        let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
        let clock: i64 = field("oauth_timestamp").parse().unwrap_or(0);
        field("oauth_consumer_key") == self.keys.api_key
            && field("oauth_token") == self.keys.access_token
            && field("oauth_signature_method") == "HMAC-SHA1"
            && !field("oauth_signature").is_empty()
            && (now().as_secs() - clock).abs() <= CLOCK
            && !field("oauth_nonce").is_empty()
            && seen.nonces.insert(field("oauth_nonce").to_owned())
    }
}

fn fields(text: &str) -> BTreeMap<String, String> {
    text.split(',')
        .filter_map(|field| {
            let (name, value) = field.trim().split_once('=')?;
            Some((name.to_owned(), value.trim_matches('"').to_owned()))
        })
        .collect()
}

fn problem(status: StatusCode, title: &str, detail: &str) -> Response {
    let body = json!({
        "type": "about:blank", "title": title, "detail": detail, "status": status.as_u16(),
    });
    (
        status,
        [(header::CONTENT_TYPE, "application/problem+json")],
        body.to_string(),
    )
        .into_response()
}

fn weight(text: &str) -> usize {
    text.split_inclusive(char::is_whitespace)
        .map(|word| {
            let bare = word.trim_end();
            if bare.starts_with("http://") || bare.starts_with("https://") {
                23 + word.chars().count() - bare.chars().count()
            } else {
                word.chars()
                    .map(|c| if c <= '\u{10ff}' { 1 } else { 2 })
                    .sum()
            }
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_weighs_23() {
        assert_eq!(weight("Hi http://test.co"), 26);
        assert_eq!(weight(&"http://test.co ".repeat(10)), 240);
    }
}
