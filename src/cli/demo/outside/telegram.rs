//! Telegram's Bot API as far as sending goes (facts: `ok`, one message a second and chat with short bursts, 429 with
//! `retry_after`, 400 for a chat that is not known or markup that does not parse, 401 for a token that is not).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use serde_json::{Value, json};

use super::{Inbox, Received, Service, now};

/// Messages to one chat that pass at once.
const BURST: usize = 3;
/// The longest message, in UTF-16 units.
const LONGEST: usize = 4096;
/// Characters that `MarkdownV2` wants escaped outside of an entity.
const ESCAPED: &str = "[]()>#+-={}.!";

struct Bot {
    token: String,
    chats: Vec<i64>,
    inbox: Inbox,
    sent: Mutex<BTreeMap<i64, Vec<Instant>>>,
}

/// The service.
pub fn router(token: String, chats: Vec<i64>, inbox: Inbox) -> Router {
    let bot = Arc::new(Bot {
        token,
        chats,
        inbox,
        sent: Mutex::default(),
    });
    Router::new()
        .route("/{bot}/{method}", any(call))
        .with_state(bot)
}

async fn call(
    State(bot): State<Arc<Bot>>,
    Path((token, method)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    if token.strip_prefix("bot") != Some(&bot.token) {
        return refused(StatusCode::UNAUTHORIZED, "Unauthorized", None);
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    match method.to_ascii_lowercase().as_str() {
        "getme" => done(&json!({
            "id": 1, "is_bot": true, "first_name": "Shop", "username": "shop_status_bot",
            "can_join_groups": true, "can_read_all_group_messages": false,
            "supports_inline_queries": false, "can_connect_to_business": false, "has_main_web_app": false,
        })),
        "getchat" => match bot.chat(&body) {
            Some(id) => done(&json!({
                "id": id, "type": "channel", "title": "Status", "accent_color_id": 0, "max_reaction_count": 1,
                "accepted_gift_types": {
                    "unlimited_gifts": false, "limited_gifts": false, "unique_gifts": false,
                    "premium_subscription": false, "gifts_from_channels": false,
                },
            })),
            None => refused(StatusCode::BAD_REQUEST, "Bad Request: chat not found", None),
        },
        "getchatmember" => done(&json!({
            "status": "administrator",
            "user": { "id": 1, "is_bot": true, "first_name": "Shop" },
            "can_be_edited": false, "is_anonymous": false, "can_manage_chat": true,
            "can_delete_messages": true, "can_manage_video_chats": false, "can_restrict_members": false,
            "can_promote_members": false, "can_change_info": false, "can_invite_users": false,
            "can_post_messages": true, "can_edit_messages": true, "can_post_stories": false,
            "can_edit_stories": false, "can_delete_stories": false,
        })),
        "sendmessage" => bot.send(&body),
        _ => refused(StatusCode::NOT_FOUND, "Not Found: method not found", None),
    }
}

impl Bot {
    fn chat(&self, body: &Value) -> Option<i64> {
        let chat = &body["chat_id"];
        let id = chat
            .as_i64()
            .or_else(|| chat.as_str().and_then(|text| text.parse().ok()));
        id.filter(|id| self.chats.contains(id))
    }

    fn send(&self, body: &Value) -> Response {
        let bad = |why| refused(StatusCode::BAD_REQUEST, why, None);
        let Some(chat) = self.chat(body) else {
            return bad("Bad Request: chat not found");
        };
        let raw = body["text"].as_str().unwrap_or_default();
        let text = match body["parse_mode"].as_str() {
            Some("MarkdownV2") => match plain(raw) {
                Some(text) => text,
                None => {
                    return bad(
                        "Bad Request: can't parse entities: a character is reserved and must be escaped",
                    );
                }
            },
            Some(_) | None => raw.to_owned(),
        };
        let length = text.encode_utf16().count();
        if length == 0 {
            return bad("Bad Request: message text is empty");
        }
        if length > LONGEST {
            return bad("Bad Request: message is too long");
        }
        if self.too_fast(chat) {
            return refused(
                StatusCode::TOO_MANY_REQUESTS,
                "Too Many Requests: retry after 1",
                Some(1),
            );
        }
        let at = now();
        self.inbox.put(Received {
            at,
            service: Service::Telegram,
            to: chat.to_string(),
            subject: None,
            text: text.clone(),
        });
        done(&json!({
            "message_id": self.inbox.all().len(), "date": at.as_secs(), "text": text,
            "chat": { "id": chat, "type": "channel", "title": "Status" },
        }))
    }

    fn too_fast(&self, chat: i64) -> bool {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let times = sent.entry(chat).or_default();
        times.retain(|t| t.elapsed() < Duration::from_secs(1));
        if times.len() >= BURST {
            return true;
        }
        times.push(Instant::now());
        false
    }
}

fn done(result: &Value) -> Response {
    Json(json!({ "ok": true, "result": result })).into_response()
}

fn refused(status: StatusCode, description: &str, retry_after: Option<u64>) -> Response {
    let mut body =
        json!({ "ok": false, "error_code": status.as_u16(), "description": description });
    if let Some(seconds) = retry_after {
        body["parameters"] = json!({ "retry_after": seconds });
    }
    let mut answer = (status, Json(body)).into_response();
    if let Some(seconds) = retry_after {
        answer
            .headers_mut()
            .insert(header::RETRY_AFTER, seconds.into());
    }
    answer
}

/// `MarkdownV2` as people see it; none where a reserved character is not escaped.
fn plain(raw: &str) -> Option<String> {
    let mut text = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => text.push(chars.next()?),
            // Bold, italic, code: seen as their style.
            '*' | '_' | '~' | '`' | '|' => {}
            c if ESCAPED.contains(c) => return None,
            c => text.push(c),
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_escaped_is_refused() {
        assert_eq!(plain("*Shop* is up\\."), Some("Shop is up.".to_owned()));
        assert_eq!(plain("up."), None);
    }
}
