//! One request to a service's API: what it answered, or what is known where no answer came.

use reqwest::{RequestBuilder, StatusCode, header::HeaderMap};
use serde_json::Value;

use crate::{
    model::{span::Span, time::Time},
    port::endpoint,
};

/// What a service answered.
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; null where it is no JSON.
    pub body: Value,
}

/// Why no answer came, in plain words.
pub enum NoAnswer {
    /// Nothing was sent.
    Unreachable(String),
    /// It was sent, or may have been.
    Lost(String),
}

/// Sends a request to the service called `name` and waits at most `timeout` for all of its answer.
///
/// # Errors
/// Where none came, and whether the request may have been taken.
pub async fn ask(request: RequestBuilder, name: &str, timeout: Span) -> Result<Answer, NoAnswer> {
    let answer = request
        .timeout(timeout.to_std())
        .send()
        .await
        .map_err(|e| {
            if e.is_connect() || e.is_builder() {
                NoAnswer::Unreachable(format!("{name} cannot be reached"))
            } else if e.is_timeout() {
                NoAnswer::Lost(format!("{name} did not answer within {timeout}"))
            } else {
                NoAnswer::Lost(format!("the connection to {name} broke before it answered"))
            }
        })?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = endpoint::body(answer).await;
    Ok(Answer {
        status,
        headers,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    })
}

/// `Retry-After` in either form, where there is one.
pub fn retry_after(headers: &HeaderMap, now: Time) -> Option<Span> {
    let text = headers.get("retry-after")?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Span::from_millis(seconds.saturating_mul(1000)));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?;
    Some(Time::from_millis(at.timestamp().as_millisecond()).since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_has_two_forms() {
        let now = Time::parse("2026-11-21T14:00:00Z").unwrap();
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("retry-after", text.parse().unwrap());
            retry_after(&headers, now)
        };
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
        assert_eq!(read("120"), Some(Span::from_secs(120)));
        assert_eq!(
            read("Sat, 21 Nov 2026 14:01:00 GMT"),
            Some(Span::from_secs(60))
        );
        assert_eq!(read("soon"), None);
    }
}
