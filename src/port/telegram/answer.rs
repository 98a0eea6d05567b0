//! What an answer of the Bot API means.
//!
//! teloxide drops `error_code`, and fails to read an error whose `parameters` it does not know, so the meaning is
//! taken from the description and, where teloxide gives up, from the raw answer.

use serde_json::Value;
use teloxide::{ApiError, RequestError, types::ChatId};

use crate::model::span::Span;

/// What an answer means for one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done.
    Posted {
        /// The message's id, or whatever was asked for.
        id: Option<String>,
    },
    /// Nothing was posted; not before this.
    Later {
        /// Shortest wait.
        after: Span,
        /// In plain words.
        reason: String,
    },
    /// It may have been posted.
    Lost {
        /// In plain words.
        reason: String,
    },
    /// The group has become a supergroup with this id.
    Moved {
        /// The new id.
        to: i64,
    },
    /// The markup was not understood.
    Unparsable {
        /// In plain words.
        reason: String,
    },
    /// The bot cannot write to this chat.
    Closed {
        /// In plain words.
        reason: String,
    },
    /// The token is not valid.
    Token {
        /// In plain words.
        reason: String,
    },
    /// This message cannot be posted.
    Refused {
        /// In plain words.
        reason: String,
    },
}

/// Wait where a 429 does not say how long.
const FLOOD: Span = Span::from_secs(30);

/// Wait after Telegram could not be reached.
const UNREACHABLE: Span = Span::from_secs(5);

/// Judges the outcome of a request.
#[must_use]
pub fn answer(outcome: Result<String, RequestError>) -> Answer {
    match outcome {
        Ok(id) => Answer::Posted { id: Some(id) },
        Err(RequestError::RetryAfter(wait)) => flood(Some(wait.seconds().into())),
        Err(RequestError::MigrateToChatId(ChatId(to))) => Answer::Moved { to },
        Err(RequestError::Api(ApiError::Unknown(description))) => described(&description),
        Err(RequestError::Api(known)) => described(&known.to_string()),
        Err(RequestError::InvalidJson { raw, .. }) => raw_answer(&raw),
        Err(RequestError::Network(e)) if e.is_connect() || e.is_builder() => Answer::Later {
            after: UNREACHABLE,
            reason: "Telegram cannot be reached".to_owned(),
        },
        Err(RequestError::Network(e)) if e.is_timeout() => Answer::Lost {
            reason: "Telegram did not answer in time".to_owned(),
        },
        Err(RequestError::Network(_)) => Answer::Lost {
            reason: "the connection to Telegram broke before it answered".to_owned(),
        },
        Err(RequestError::Io(_)) => Answer::Refused {
            reason: "the message cannot be written".to_owned(),
        },
    }
}

fn flood(seconds: Option<u64>) -> Answer {
    Answer::Later {
        after: seconds.map_or(FLOOD, |s| Span::from_millis(s.saturating_mul(1000))),
        reason: "Telegram wants slower sending (429)".to_owned(),
    }
}

fn described(description: &str) -> Answer {
    let reason = format!(
        "Telegram answered: {}",
        description.chars().take(200).collect::<String>()
    );
    let text = description.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|w| text.contains(w));
    if says(&["message is not modified"]) {
        Answer::Posted { id: None }
    } else if says(&["too many requests"]) {
        flood(None)
    } else if says(&["can't parse entities"]) {
        Answer::Unparsable { reason }
    } else if says(&[
        "bot was",
        "forbidden",
        "chat not found",
        "not enough rights",
        "administrator rights",
        "can't initiate",
        "group is deactivated",
        "group chat was",
    ]) {
        Answer::Closed { reason }
    } else if says(&["invalid bot token", "unauthorized"]) || text == "not found" {
        Answer::Token { reason }
    } else if says(&[
        "internal server error",
        "bad gateway",
        "gateway timeout",
        "service unavailable",
    ]) {
        Answer::Lost { reason }
    } else {
        Answer::Refused { reason }
    }
}

/// Reads an answer that teloxide could not.
fn raw_answer(raw: &str) -> Answer {
    let Ok(Value::Object(answer)) = serde_json::from_str::<Value>(raw) else {
        return Answer::Lost {
            reason: "what answered is not the Bot API: check baseUrl and any proxy".to_owned(),
        };
    };
    let number = |name: &str| answer.get("parameters").and_then(|p| p.get(name));
    if answer.get("ok") == Some(&Value::Bool(true)) {
        let id = answer
            .get("result")
            .and_then(|r| r.get("message_id"))
            .map(Value::to_string);
        return Answer::Posted { id };
    }
    if let Some(to) = number("migrate_to_chat_id").and_then(Value::as_i64) {
        return Answer::Moved { to };
    }
    let code = answer.get("error_code").and_then(Value::as_u64);
    let wait = number("retry_after").and_then(Value::as_u64);
    if code == Some(429) || wait.is_some() {
        return flood(wait);
    }
    match answer.get("description").and_then(Value::as_str) {
        Some(description) => described(description),
        None => Answer::Lost {
            reason: "Telegram's answer could not be read".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn kind(answer: &Answer) -> &'static str {
        match answer {
            Answer::Posted { .. } => "posted",
            Answer::Later { .. } => "later",
            Answer::Lost { .. } => "lost",
            Answer::Moved { .. } => "moved",
            Answer::Unparsable { .. } => "unparsable",
            Answer::Closed { .. } => "closed",
            Answer::Token { .. } => "token",
            Answer::Refused { .. } => "refused",
        }
    }

    #[rstest]
    #[case("Bad Request: chat not found", "closed")]
    #[case("Forbidden: bot was blocked by the user", "closed")]
    #[case("Forbidden: bot was kicked from the supergroup chat", "closed")]
    #[case("Unauthorized: bot was kicked from a chat", "closed")]
    #[case("Bad Request: need administrator rights in the channel chat", "closed")]
    #[case("Unauthorized", "token")]
    #[case("Not Found", "token")]
    #[case(
        "Bad Request: can't parse entities: Character '.' is reserved",
        "unparsable"
    )]
    #[case("Bad Request: message is too long", "refused")]
    #[case(
        "Bad Request: message is not modified: specified new message content …",
        "posted"
    )]
    #[case("Internal Server Error", "lost")]
    #[case("Too Many Requests: retry later", "later")]
    fn descriptions(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(kind(&described(text)), expected);
        let raw = serde_json::json!({"ok": false, "error_code": 400, "description": text, "parameters": {}});
        assert_eq!(kind(&raw_answer(&raw.to_string())), expected);
    }

    #[test]
    fn what_the_library_cannot_read_is_read_here() {
        assert_eq!(
            raw_answer(r#"{"ok":true,"result":{"message_id":7,"news":1}}"#),
            Answer::Posted {
                id: Some("7".to_owned())
            }
        );
        assert_eq!(
            raw_answer(
                r#"{"ok":false,"error_code":400,"description":"x","parameters":{"migrate_to_chat_id":-1005,"more":1}}"#
            ),
            Answer::Moved { to: -1005 }
        );
        assert_eq!(
            raw_answer(
                r#"{"ok":false,"error_code":429,"description":"x","parameters":{"retry_after":7,"more":1}}"#
            ),
            Answer::Later {
                after: Span::from_secs(7),
                reason: "Telegram wants slower sending (429)".to_owned()
            }
        );
        assert_eq!(kind(&raw_answer("<html>502 Bad Gateway</html>")), "lost");
    }
}
