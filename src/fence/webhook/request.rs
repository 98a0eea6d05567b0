//! A signed request to the user's service, and why it came to nothing.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;

use crate::{
    model::{check::CheckStatus, id::ServiceName, site::Site, span::Span, time::Time},
    port::{
        action::StepContext,
        cause,
        command::{Context, Verb},
        secret::SecretError,
        webhook::{Key, MessageId},
    },
};

/// Characters of what the service said that are shown.
const SHOWN: usize = 200;

/// What the service is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Stop the old primary.
    Fence,
    /// Look whether it is stopped.
    Observe,
    /// Let it run again.
    Undo,
}

impl Wish {
    fn name(self) -> &'static str {
        match self {
            Self::Fence => "fence",
            Self::Observe => "observe",
            Self::Undo => "undo",
        }
    }

    fn verb(self) -> Verb {
        match self {
            Self::Fence => Verb::Perform,
            Self::Observe => Verb::Observe,
            Self::Undo => Verb::Undo,
        }
    }
}

/// A request, not yet signed: its moment is that of its sending.
pub(super) struct Request {
    id: MessageId,
    pub(super) body: String,
}

impl Request {
    /// What a step asks.
    pub(super) fn of_step(wish: Wish, step: &StepContext) -> Self {
        let id = match wish {
            Wish::Fence | Wish::Undo => MessageId::of(&format!("{} {}", step.key, wish.name())),
            // Each look is a new one: an answer from memory would prove nothing.
            Wish::Observe => MessageId::fresh(),
        };
        Self {
            id,
            body: body(wish, &Context::of_step(wish.verb(), step)),
        }
    }

    /// What `failover check` asks, outside any run.
    pub(super) fn of_check(
        service: &ServiceName,
        from: &Site,
        to: &Site,
        within: Duration,
    ) -> Self {
        let context = Context::of_check(service, from, to, Span::from(within));
        Self {
            id: MessageId::fresh(),
            body: body(Wish::Observe, &context),
        }
    }

    /// The headers of a request that is sent now.
    pub(super) fn headers(&self, key: &Key, now: Time) -> HeaderMap {
        let signature = key.sign(&self.id, now, &self.body);
        let mut headers = HeaderMap::new();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        for (name, value) in [
            ("webhook-id", self.id.as_str()),
            ("webhook-timestamp", &now.as_secs().to_string()),
            ("webhook-signature", &signature),
        ] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        headers
    }
}

/// What commands get on standard input, with `action` in the place of `verb`.
fn body(wish: Wish, context: &Context) -> String {
    let mut body = context.json().clone();
    if let Some(fields) = body.as_object_mut() {
        fields.remove("verb");
        fields.insert("action".to_owned(), json!(wish.name()));
    }
    body.to_string()
}

/// Why a request came to nothing. Neither the key nor a URL shows.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// The key cannot be read.
    #[error("the key cannot be read")]
    Key(#[source] SecretError),
    /// The key is none.
    #[error("the key is not the base64 of 24 to 64 bytes")]
    KeyShape,
    /// Nothing has left this host.
    #[error("the service cannot be reached")]
    Unreached(#[source] reqwest::Error),
    /// It was sent, as far as can be told, and no answer came.
    #[error("the service did not answer")]
    Unanswered(#[source] reqwest::Error),
    /// The answer has another status than was asked for.
    #[error("HTTP {status} {said}")]
    Status {
        /// The status.
        status: StatusCode,
        /// The body.
        said: String,
    },
    /// The answer is not what `observe` answers.
    #[error("the answer is not understood")]
    Shape(#[source] serde_json::Error),
}

impl AskError {
    /// What a failed sending came to.
    pub(super) fn of(error: reqwest::Error) -> Self {
        let unsent = error.is_builder() || (error.is_connect() && !error.is_timeout());
        if unsent {
            Self::Unreached(error)
        } else {
            Self::Unanswered(error)
        }
    }

    /// Whether nothing was done, for sure.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Key(_) | Self::KeyShape | Self::Unreached(_) => true,
            Self::Unanswered(_) | Self::Shape(_) => false,
            Self::Status { status, .. } => {
                status.is_client_error() && !matches!(status.as_u16(), 408 | 409 | 425 | 429)
            }
        }
    }

    /// In one line, for people.
    pub(super) fn told(&self) -> String {
        clipped(&cause::without_repeats(self))
    }

    /// What `failover check` makes of it.
    pub(super) fn check_status(&self) -> CheckStatus {
        match self {
            Self::Unanswered(_) => CheckStatus::Unknown,
            Self::Key(_)
            | Self::KeyShape
            | Self::Unreached(_)
            | Self::Status { .. }
            | Self::Shape(_) => CheckStatus::Fail,
        }
    }

    /// What to do.
    pub(super) fn fix(&self) -> &'static str {
        match self {
            Self::Key(_) | Self::KeyShape => {
                "set the key on both sides, such as whsec_ and what `openssl rand -base64 32` prints"
            }
            Self::Unreached(_) | Self::Unanswered(_) => {
                "check observe's url, and the way to it from this host"
            }
            Self::Shape(_) => {
                "let it answer status 200 with {\"fenced\": false, \"summary\": \"…\"} and nothing else"
            }
            Self::Status { status, .. } => match status.as_u16() {
                300..=399 => "name the place that it leads to: redirects are not followed",
                401 | 403 => "give both sides the same key, and see that both clocks are right",
                404 | 405 => "correct observe's url: it is asked with POST",
                _ => "look into the log of the service: observe must answer with status 200",
            },
        }
    }
}

/// The beginning of a text, in one line.
pub(super) fn clipped(text: &str) -> String {
    let line: String = text
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(SHOWN)
        .collect();
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16) -> AskError {
        AskError::Status {
            status: StatusCode::from_u16(code).unwrap(),
            said: String::new(),
        }
    }

    #[test]
    fn only_an_answer_that_refuses_is_a_refusal() {
        for code in [400, 401, 403, 404, 405, 410, 413, 422, 424] {
            assert!(status(code).is_refusal(), "{code}");
        }
        for code in [302, 307, 408, 409, 425, 429, 500, 502, 503, 504] {
            assert!(!status(code).is_refusal(), "{code}");
        }
    }

    #[test]
    fn what_the_service_says_is_one_short_line() {
        let error = AskError::Status {
            status: StatusCode::BAD_REQUEST,
            said: format!("no\n\u{1b}[31m{}", "x".repeat(1000)),
        };
        let told = error.told();
        assert!(
            told.starts_with("HTTP 400 Bad Request no  [31mxxx"),
            "{told}"
        );
        assert_eq!(told.chars().count(), SHOWN);
    }
}
