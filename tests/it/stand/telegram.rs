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

/// A message as its chat shows it now.
#[derive(Clone, Debug)]
pub struct Shown {
    pub id: i64,
    pub chat: String,
    pub text: String,
    /// Labels and what they carry.
    pub buttons: Vec<(String, String)>,
}

#[derive(Default)]
pub struct Seen {
    /// What was said to the bot and not confirmed yet.
    updates: Vec<Value>,
    next_update: i64,
    /// How many polls wait: a second one is a conflict.
    polls: usize,
    /// Whether a poll that confirms is answered with an error, and how many were.
    denies: bool,
    denied: usize,
    /// Messages, edited in place.
    messages: Vec<Shown>,
    /// Answers to presses, by query.
    answers: BTreeMap<String, String>,
    /// Presses that were made.
    queries: u64,
    /// Edits that changed nothing.
    pub idle_edits: usize,
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

    /// Somebody writes in a chat; the id of the update.
    pub fn write(&self, chat: i64, user: i64, text: &str) {
        self.say(chat, user, text, &json!({}));
    }

    /// The same with these fields put into the message.
    pub fn say(&self, chat: i64, user: i64, text: &str, more: &Value) {
        let mut message = json!({
            "message_id": 900_000, "date": now(), "text": text, "chat": place(chat), "from": person(user),
        });
        for (name, value) in more.as_object().unwrap() {
            message[name] = value.clone();
        }
        self.push("message", message);
    }

    /// Puts an update into the queue.
    pub fn push(&self, kind: &str, what: Value) {
        let mut seen = self.seen.lock().unwrap();
        seen.next_update += 1;
        let mut update = json!({"update_id": 700 + seen.next_update});
        update[kind] = what;
        seen.updates.push(update);
    }

    /// Somebody presses the newest button of that label in a chat; the id of the query.
    pub fn press(&self, chat: i64, user: i64, label: &str) -> String {
        let data = self.button(chat, label).unwrap_or_else(|| {
            panic!("no button {label:?} in {:#?}", self.messages(chat));
        });
        self.press_data(chat, user, &data)
    }

    /// What the newest button of that label carries.
    pub fn button(&self, chat: i64, label: &str) -> Option<String> {
        let messages = self.messages(chat);
        let buttons = messages.iter().rev().flat_map(|m| &m.buttons);
        let mut fitting = buttons.filter(|(text, _)| text.contains(label));
        fitting.next().map(|(_, data)| data.clone())
    }

    /// Somebody sends what a button may carry; the id of the query.
    pub fn press_data(&self, chat: i64, user: i64, data: &str) -> String {
        let id = {
            let mut seen = self.seen.lock().unwrap();
            seen.queries += 1;
            format!("q{}", seen.queries)
        };
        let query = json!({
            "id": id, "from": person(user), "chat_instance": "1", "data": data,
            "message": {"message_id": 1, "date": now(), "chat": place(chat), "text": "x"},
        });
        self.push("callback_query", query);
        id
    }

    /// What a press was answered.
    pub fn answered(&self, query: &str) -> Option<String> {
        self.seen.lock().unwrap().answers.get(query).cloned()
    }

    /// What a chat shows now, in order.
    pub fn messages(&self, chat: i64) -> Vec<Shown> {
        let seen = self.seen.lock().unwrap();
        let here = |m: &&Shown| m.chat == chat.to_string();
        seen.messages.iter().filter(here).cloned().collect()
    }

    /// The newest message of a chat that holds these words, as it reads now.
    pub fn saying(&self, chat: i64, words: &str) -> Option<String> {
        let messages = self.messages(chat);
        let mut fitting = messages.into_iter().rev().map(|m| m.text);
        fitting.find(|text| text.contains(words))
    }

    /// Whether polls that confirm are answered with an error, before they take effect.
    pub fn deny_confirmations(&self, denies: bool) {
        self.seen.lock().unwrap().denies = denies;
    }

    /// How many polls were answered so.
    pub fn refused_polls(&self) -> usize {
        self.seen.lock().unwrap().denied
    }

    /// Words that nobody has confirmed to have heard.
    pub fn unheard(&self) -> usize {
        self.seen.lock().unwrap().updates.len()
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
        "editmessagetext" => edit(&seen, &chat, &body),
        "answercallbackquery" => press_answer(&seen, &body),
        "getupdates" => updates(&seen, &body).await,
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
        let id = seen.shown.len();
        let buttons = buttons(body);
        seen.messages.push(Shown {
            id: i64::try_from(id).unwrap(),
            chat: chat.clone(),
            text: text.clone(),
            buttons,
        });
        id
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

fn edit(seen: &Mutex<Seen>, chat: &str, body: &Value) -> Response {
    if let Some(response) = flooded(seen) {
        return response;
    }
    if let Err(response) = known(seen, chat) {
        return response;
    }
    let raw = body["text"].as_str().unwrap_or_default();
    let text = match parse(raw) {
        Ok(text) => text,
        Err(why) => {
            return no(
                400,
                &format!("Bad Request: can't parse entities: {why}"),
                None,
            );
        }
    };
    let mut seen = seen.lock().unwrap();
    let buttons = buttons(body);
    let id = body["message_id"].as_i64();
    let Some(message) = seen.messages.iter_mut().find(|m| Some(m.id) == id) else {
        return no(400, "Bad Request: message to edit not found", None);
    };
    if message.text == text && message.buttons == buttons {
        seen.idle_edits += 1;
        let why = "Bad Request: message is not modified: specified new message content and reply markup are exactly \
                   the same as a current content and reply markup of the message";
        return no(400, why, None);
    }
    message.text.clone_from(&text);
    message.buttons = buttons;
    yes(&json!({
        "message_id": id, "date": now(), "text": text, "chat": place(chat.parse().unwrap_or(-100)),
    }))
}

fn buttons(body: &Value) -> Vec<(String, String)> {
    let rows = body["reply_markup"]["inline_keyboard"].as_array();
    let all = rows.into_iter().flatten().filter_map(Value::as_array);
    all.flatten()
        .map(|button| {
            let field = |name: &str| button[name].as_str().unwrap_or_default().to_owned();
            let data = field("callback_data");
            assert!((1..=64).contains(&data.len()), "callback_data of {data:?}");
            (field("text"), data)
        })
        .collect()
}

fn press_answer(seen: &Mutex<Seen>, body: &Value) -> Response {
    let id = body["callback_query_id"].as_str().unwrap_or_default();
    let text = body["text"].as_str().unwrap_or_default();
    if text.chars().count() > 200 {
        return no(400, "Bad Request: MESSAGE_TOO_LONG", None);
    }
    let mut seen = seen.lock().unwrap();
    if seen
        .answers
        .insert(id.to_owned(), text.to_owned())
        .is_some()
    {
        let why =
            "Bad Request: query is too old and response timeout expired or query ID is invalid";
        return no(400, why, None);
    }
    yes(&json!(true))
}

/// Long polling: what was not confirmed by an offset comes again, and a second poller is a conflict.
async fn updates(seen: &Mutex<Seen>, body: &Value) -> Response {
    let until = Instant::now() + Duration::from_secs(body["timeout"].as_u64().unwrap_or(0).min(50));
    let limit = usize::try_from(body["limit"].as_u64().unwrap_or(100)).unwrap();
    {
        let mut seen = seen.lock().unwrap();
        if seen.polls > 0 {
            let why = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running";
            return no(409, why, None);
        }
        let first = seen.updates.first().and_then(|u| u["update_id"].as_i64());
        if seen.denies
            && body["offset"]
                .as_i64()
                .zip(first)
                .is_some_and(|(o, f)| o > f)
        {
            seen.denied += 1;
            return no(502, "Bad Gateway", None);
        }
        seen.polls += 1;
        if let Some(offset) = body["offset"].as_i64() {
            seen.updates
                .retain(|u| u["update_id"].as_i64() >= Some(offset));
        }
    }
    let _waits = Waits(seen);
    loop {
        let found: Vec<Value> = {
            let seen = seen.lock().unwrap();
            seen.updates.iter().take(limit).cloned().collect()
        };
        if !found.is_empty() || Instant::now() >= until {
            return yes(&Value::Array(found));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A poll that waits, also where its client goes away.
struct Waits<'a>(&'a Mutex<Seen>);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap().polls -= 1;
    }
}

fn now() -> u64 {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

fn person(id: i64) -> Value {
    json!({"id": id, "is_bot": false, "first_name": "<b>_*Someone*_</b>"})
}

fn place(id: i64) -> Value {
    if id > 0 {
        json!({"id": id, "type": "private", "first_name": "Someone"})
    } else {
        json!({"id": id, "type": "supergroup", "title": "On call"})
    }
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
