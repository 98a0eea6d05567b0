//! A stand-in for Telegram's Bot API: it reads MarkdownV2, counts lengths, moves groups, and wants to be left alone for
//! as long as it says.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};

use super::listener::Listener;

pub const TOKEN: &str = "5353622:AAF7-g0gYncWnm5IyfZlpPRqRRv6kNAGlao";

/// How a chat behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chat {
    /// Takes messages.
    Open,
    /// Has thrown the bot out.
    Blocked,
    /// Has become a supergroup with this id.
    Moved(i64),
    /// Takes the message, but nothing is ever answered.
    Silent,
    /// Cannot make sense of any markup.
    Unparsing,
}

#[derive(Default)]
pub struct Seen {
    chats: BTreeMap<String, Chat>,
    /// What the chats show: chat, text, and whether markup was used.
    pub shown: Vec<(String, String, bool)>,
    /// The message before which a 429 comes, and for how long.
    flood: Option<(usize, u64)>,
    closed_until: Option<Instant>,
    /// Requests that came before the wait was over.
    pub too_early: usize,
    /// How many 429 were answered.
    pub floods: usize,
}

pub struct Telegram {
    pub url: String,
    pub seen: Arc<Mutex<Seen>>,
    _listener: Listener,
}

impl Telegram {
    pub async fn start() -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let listener = Listener::bind().await;
        let router = Router::new()
            .route("/{bot}/{method}", post(call))
            .with_state(seen.clone());
        Self {
            url: listener.url(),
            seen,
            _listener: listener.serve(router),
        }
    }

    pub fn chat(&self, id: &str, how: Chat) {
        self.seen.lock().unwrap().chats.insert(id.to_owned(), how);
    }

    /// Answers 429 before the message of this number, from 0.
    pub fn flood_before(&self, message: usize, seconds: u64) {
        self.seen.lock().unwrap().flood = Some((message, seconds));
    }

    pub fn shown(&self) -> Vec<(String, String, bool)> {
        self.seen.lock().unwrap().shown.clone()
    }
}

fn no(code: u16, description: &str, parameters: Option<Value>) -> Response {
    let mut body = json!({"ok": false, "error_code": code, "description": description});
    if let Some(parameters) = parameters {
        body["parameters"] = parameters;
    }
    (StatusCode::from_u16(code).unwrap(), Json(body)).into_response()
}

fn yes(result: &Value) -> Response {
    Json(json!({"ok": true, "result": result})).into_response()
}

async fn call(
    State(seen): State<Arc<Mutex<Seen>>>,
    Path((bot, method)): Path<(String, String)>,
    body: String,
) -> Response {
    if bot != format!("bot{TOKEN}") {
        return no(401, "Unauthorized", None);
    }
    let body: Value = serde_json::from_str(&body).unwrap_or(Value::Null);
    let chat = body["chat_id"]
        .as_str()
        .map_or_else(|| body["chat_id"].to_string(), str::to_owned);
    match method.to_ascii_lowercase().as_str() {
        "getme" => yes(&json!({
            "id": 5_353_622, "is_bot": true, "first_name": "Status", "username": "shop_status_bot",
            "can_join_groups": true, "can_read_all_group_messages": false, "supports_inline_queries": false,
            "can_connect_to_business": false, "has_main_web_app": false,
        })),
        "getchat" => match known(&seen, &chat) {
            Ok(_) => yes(&json!({
                "id": -100, "type": "channel", "title": "Status", "accent_color_id": 0,
                "max_reaction_count": 11, "accepted_gift_types": {
                    "unlimited_gifts": false, "limited_gifts": false, "unique_gifts": false,
                    "premium_subscription": false,
                },
            })),
            Err(response) => response,
        },
        "sendmessage" => send(&seen, chat, &body).await,
        _ => no(404, "Not Found", None),
    }
}

#[expect(clippy::result_large_err, reason = "a stand-in's answer is made once")]
fn known(seen: &Mutex<Seen>, chat: &str) -> Result<Chat, Response> {
    let found = seen.lock().unwrap().chats.get(chat).cloned();
    match found {
        None => Err(no(400, "Bad Request: chat not found", None)),
        Some(Chat::Blocked) => Err(no(403, "Forbidden: bot was blocked by the user", None)),
        Some(Chat::Moved(to)) => {
            let to = json!({"migrate_to_chat_id": to});
            let why = "Bad Request: group chat was upgraded to a supergroup chat";
            Err(no(400, why, Some(to)))
        }
        Some(other @ (Chat::Open | Chat::Silent | Chat::Unparsing)) => Ok(other),
    }
}

async fn send(seen: &Mutex<Seen>, chat: String, body: &Value) -> Response {
    if let Some(response) = flooded(seen) {
        return response;
    }
    let how = match known(seen, &chat) {
        Ok(how) => how,
        Err(response) => return response,
    };
    let raw = body["text"].as_str().unwrap_or_default();
    let marked_up = body["parse_mode"] == "MarkdownV2";
    let text = match (marked_up, &how) {
        (true, Chat::Unparsing) => Err("Can't find end of the entity".to_owned()),
        (true, Chat::Open | Chat::Silent | Chat::Blocked | Chat::Moved(_)) => parse(raw),
        (false, _) => Ok(raw.to_owned()),
    };
    let text = match text {
        Ok(text) => text,
        Err(why) => {
            return no(
                400,
                &format!("Bad Request: can't parse entities: {why}"),
                None,
            );
        }
    };
    if text.encode_utf16().count() > 4096 {
        return no(400, "Bad Request: message is too long", None);
    }
    if text.trim().is_empty() {
        return no(400, "Bad Request: message text is empty", None);
    }
    let id = {
        let mut seen = seen.lock().unwrap();
        seen.shown.push((chat.clone(), text.clone(), marked_up));
        seen.shown.len()
    };
    if how == Chat::Silent {
        return std::future::pending().await;
    }
    yes(&json!({
        "message_id": id, "date": 1_795_269_802, "text": text,
        "chat": {"id": chat.parse::<i64>().unwrap_or(-100), "type": "channel", "title": "Status"},
        "sender_chat": {"id": -100, "type": "channel", "title": "Status"},
    }))
}

fn flooded(seen: &Mutex<Seen>) -> Option<Response> {
    let mut seen = seen.lock().unwrap();
    if let Some(until) = seen.closed_until {
        if Instant::now() < until {
            seen.too_early += 1;
            return Some(too_many(1));
        }
        seen.closed_until = None;
    }
    let (before, seconds) = seen.flood?;
    if seen.shown.len() < before {
        return None;
    }
    seen.flood = None;
    seen.floods += 1;
    seen.closed_until = Some(Instant::now() + Duration::from_secs(seconds));
    Some(too_many(seconds))
}

fn too_many(seconds: u64) -> Response {
    let why = format!("Too Many Requests: retry after {seconds}");
    let response = no(429, &why, Some(json!({"retry_after": seconds})));
    ([("retry-after", seconds.to_string())], response).into_response()
}

/// What a MarkdownV2 text shows: bold, code and escapes; anything else that is special must be escaped.
fn parse(raw: &str) -> Result<String, String> {
    let mut text = String::new();
    let (mut bold, mut code) = (false, false);
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(next) if next.is_ascii() => text.push(next),
                Some(next) => text.extend(['\\', next]),
                None => return Err("a backslash ends the text".to_owned()),
            },
            '`' => code = !code,
            _ if code => text.push(c),
            '*' => bold = !bold,
            '_' | '[' | ']' | '(' | ')' | '~' | '>' | '#' | '+' | '-' | '=' | '|' | '{' | '}'
            | '.' | '!' => {
                return Err(format!(
                    "Character '{c}' is reserved and must be escaped with the preceding '\\'"
                ));
            }
            _ => text.push(c),
        }
    }
    if bold || code {
        return Err("Can't find end of Bold entity".to_owned());
    }
    Ok(text)
}
