//! Posts on X (API v2, OAuth 1.0a user context).

use std::{num::NonZeroU64, time::Duration};

use async_trait::async_trait;
use oauth1_request as oauth;
use reqwest::{Method, StatusCode, header::HeaderMap};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{message::Message, weight};
use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        id::IdempotencyKey,
        secret::SecretRef,
        span::Span,
        time::Time,
    },
    port::{
        channel::{Channel, Compiled, Notice, Recipient, RecipientsError, Sent, SharedChannel},
        endpoint,
        kind::{Kind, Make, MakeError, Problem, Wiring, With, read},
        secret::SecretError,
    },
};

/// `announce/x`.
pub const KIND: Kind = Kind::new::<XWith>(
    "announce/x",
    "post on X",
    "apiKey: {env: X_API_KEY}\napiSecret: {env: X_API_SECRET}\naccessToken: {env: X_ACCESS_TOKEN}\naccessSecret: {env: X_ACCESS_SECRET}\n",
    Make::Channel(make),
);

/// The window of X's rate limits, for a 429 that does not say when it ends.
const WINDOW: Span = Span::from_secs(15 * 60);

/// The shortest wait before the identical text is tried again.
const PAUSE: Span = Span::from_secs(5);

/// Settings of `announce/x`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct XWith {
    /// The app's API key (consumer key).
    pub api_key: SecretRef,
    /// The app's API secret.
    pub api_secret: SecretRef,
    /// The account's access token, with permission to read and write.
    pub access_token: SecretRef,
    /// The access token's secret.
    pub access_secret: SecretRef,
    /// Where the API is.
    #[serde(default = "base_url")]
    pub base_url: String,
    /// Time-out of one request.
    #[serde(default = "timeout")]
    pub timeout: Span,
}

fn base_url() -> String {
    "https://api.x.com".to_owned()
}

fn timeout() -> Span {
    Span::from_secs(15)
}

impl With for XWith {
    fn problems(&self) -> Vec<Problem> {
        endpoint::problem("baseUrl", &self.base_url)
            .into_iter()
            .collect()
    }

    fn hosts(&self) -> Vec<String> {
        endpoint::host(&self.base_url).into_iter().collect()
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedChannel, MakeError> {
    Ok(std::sync::Arc::new(X {
        with: read(with)?,
        wiring: wiring.clone(),
    }))
}

struct X {
    with: XWith,
    wiring: Wiring,
}

/// Why no answer came.
enum NoAnswer {
    /// A credential could not be read.
    Secret(SecretError),
    /// Nothing was sent.
    Unreachable(String),
    /// It was sent, or may have been.
    Lost(String),
}

#[async_trait]
impl Channel for X {
    fn compile(&self, notice: &Notice) -> Compiled {
        let (text, was_cut) = Message::of(notice)
            .short
            .fit(|t| weight::weigh(t).length <= weight::LONGEST);
        let weight = weight::weigh(&text);
        let mut remarks = vec![format!(
            "{} of {} characters",
            weight.length,
            weight::LONGEST
        )];
        if was_cut {
            remarks.push("cut to length".to_owned());
        }
        remarks.push(if weight.links > 0 {
            "cost class: post with a URL (X charges far more credits for it)".to_owned()
        } else {
            "cost class: post without a URL".to_owned()
        });
        Compiled {
            text,
            remarks,
            ..Compiled::default()
        }
    }

    async fn recipients(&self) -> Result<Vec<Recipient>, RecipientsError> {
        Ok(vec![Recipient("x".to_owned())])
    }

    async fn send(&self, message: &Compiled, _to: &Recipient, _key: &IdempotencyKey) -> Sent {
        self.post(&message.text, false).await
    }

    async fn resume(
        &self,
        message: &Compiled,
        _to: &Recipient,
        _key: &IdempotencyKey,
    ) -> Option<Sent> {
        Some(match self.post(&message.text, true).await {
            // The first try may still have been posted: that doubt outlives a later "not now".
            Sent::Later { after, reason, .. } => Sent::Unsure { after, reason },
            sent @ (Sent::Accepted { .. }
            | Sent::Unknown { .. }
            | Sent::Unsure { .. }
            | Sent::Refused { .. }
            | Sent::Broken { .. }) => sent,
        })
    }

    async fn check(&self) -> Vec<CheckItem> {
        vec![self.check_account().await]
    }
}

impl X {
    async fn post(&self, text: &str, again: bool) -> Sent {
        match self.request(Method::POST, "/2/tweets", Some(text)).await {
            Ok((status, headers, body)) => {
                let now = self.wiring.runtime.now();
                judge(status, &headers, &body, again, now)
            }
            Err(NoAnswer::Secret(e)) => Sent::Broken {
                reason: format!("a credential of X cannot be read: {e}"),
            },
            Err(NoAnswer::Unreachable(reason)) => Sent::Later {
                after: PAUSE,
                everyone: true,
                reason,
            },
            Err(NoAnswer::Lost(reason)) => Sent::Unsure {
                after: PAUSE,
                reason,
            },
        }
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        text: Option<&str>,
    ) -> Result<(StatusCode, HeaderMap, Value), NoAnswer> {
        let url = format!("{}{path}", self.with.base_url.trim_end_matches('/'));
        let authorization = self.authorize(&method, &url).map_err(NoAnswer::Secret)?;
        let mut request = self
            .wiring
            .http
            .request(method, &url)
            .timeout(Duration::from_millis(self.with.timeout.as_millis()))
            .header(reqwest::header::AUTHORIZATION, authorization);
        if let Some(text) = text {
            request = request.json(&json!({ "text": text }));
        }
        let answer = request.send().await.map_err(|e| {
            if e.is_connect() || e.is_builder() {
                NoAnswer::Unreachable(format!("X cannot be reached at {}", self.with.base_url))
            } else if e.is_timeout() {
                NoAnswer::Lost(format!("X did not answer within {}", self.with.timeout))
            } else {
                NoAnswer::Lost("the connection to X broke before it answered".to_owned())
            }
        })?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = endpoint::body(answer).await;
        Ok((
            status,
            headers,
            serde_json::from_slice(&body).unwrap_or(Value::Null),
        ))
    }

    fn authorize(&self, method: &Method, url: &str) -> Result<String, SecretError> {
        let secret = |at| self.wiring.secrets.read(at);
        let (key, key_secret) = (secret(&self.with.api_key)?, secret(&self.with.api_secret)?);
        let token = secret(&self.with.access_token)?;
        let token_secret = secret(&self.with.access_secret)?;
        let token = oauth::Token::from_parts(
            key.expose(),
            key_secret.expose(),
            token.expose(),
            token_secret.expose(),
        );
        let now = u64::try_from(self.wiring.runtime.wall().as_secs()).unwrap_or(0);
        let mut builder = oauth::Builder::with_token(token, oauth::HMAC_SHA1);
        builder.timestamp(NonZeroU64::new(now)).version(true);
        Ok(builder.authorize(method.as_str(), url, &()))
    }

    async fn check_account(&self) -> CheckItem {
        const NAME: &str = "announce/x/account";
        const KEYS: &str = "make new keys for the app with permission to read and write, and check this host's clock";
        let (status, headers, body) = match self.request(Method::GET, "/2/users/me", None).await {
            Ok(answer) => answer,
            Err(NoAnswer::Secret(e)) => {
                return CheckItem::bad(
                    NAME,
                    CheckStatus::Fail,
                    e.to_string(),
                    "set the credential",
                );
            }
            Err(NoAnswer::Unreachable(reason) | NoAnswer::Lost(reason)) => {
                return CheckItem::bad(
                    NAME,
                    CheckStatus::Unknown,
                    reason,
                    "check the network from this host to X",
                );
            }
        };
        let may = headers.get("x-access-level").and_then(|v| v.to_str().ok());
        match status.as_u16() {
            200 if may == Some("read") => CheckItem::bad(
                NAME,
                CheckStatus::Fail,
                "the access token may only read",
                "allow the app to read and write, then make a new access token",
            ),
            200 => {
                let name = body.pointer("/data/username").and_then(Value::as_str);
                CheckItem::ok(NAME, format!("posts as @{}", name.unwrap_or("?")))
            }
            429 => CheckItem::bad(
                NAME,
                CheckStatus::Unknown,
                "X limits how often this may be asked; the credentials were not tried",
                "check again in 15 minutes",
            ),
            500.. => CheckItem::bad(
                NAME,
                CheckStatus::Unknown,
                said(status, &body),
                "check again later",
            ),
            _ => CheckItem::bad(NAME, CheckStatus::Fail, said(status, &body), KEYS),
        }
    }
}

/// What an answer means. `again` says that the same text may have been posted before.
fn judge(status: StatusCode, headers: &HeaderMap, body: &Value, again: bool, now: Time) -> Sent {
    let reason = said(status, body);
    match status.as_u16() {
        200..300 => Sent::Accepted {
            reference: body
                .pointer("/data/id")
                .and_then(Value::as_str)
                .map(str::to_owned),
        },
        403 if is_duplicate(body) && again => Sent::Accepted { reference: None },
        403 if is_duplicate(body) => Sent::Refused {
            reason: format!(
                "{reason}: an earlier post says the same; put {{started}} or {{incident}} into the template"
            ),
            suppress: false,
        },
        300..=399 | 401..=404 => Sent::Broken { reason },
        429 => Sent::Later {
            after: until_reset(headers, now),
            everyone: true,
            reason,
        },
        500.. => Sent::Unsure {
            after: PAUSE,
            reason,
        },
        _ => Sent::Refused {
            reason,
            suppress: false,
        },
    }
}

/// How long a 429 lasts.
fn until_reset(headers: &HeaderMap, now: Time) -> Span {
    let number = |name| {
        headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.trim().parse::<i64>().ok())
    };
    if let Some(reset) = number("x-rate-limit-reset") {
        return Time::from_millis(reset.saturating_mul(1000))
            .since(now)
            .saturating_add(Span::from_secs(1));
    }
    number("retry-after")
        .and_then(|s| u64::try_from(s).ok())
        .map_or(WINDOW, |s| Span::from_millis(s.saturating_mul(1000)))
}

/// The messages in either shape of X's errors: problem+json, or a list.
fn messages(body: &Value) -> Vec<&str> {
    let listed = body
        .get("errors")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .flat_map(|e| [e.get("message"), e.get("detail")]);
    [body.get("detail")]
        .into_iter()
        .chain(listed)
        .chain([body.get("title")])
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// Code 187 is the list shape's word for a duplicate.
fn is_duplicate(body: &Value) -> bool {
    let coded = body
        .get("errors")
        .and_then(Value::as_array)
        .is_some_and(|errors| errors.iter().any(|e| e.get("code") == Some(&json!(187))));
    coded
        || messages(body)
            .iter()
            .any(|m| m.to_ascii_lowercase().contains("duplicate content"))
}

fn said(status: StatusCode, body: &Value) -> String {
    match messages(body).first() {
        Some(message) => {
            let message: String = message.chars().take(200).collect();
            format!("X answered {}: {message}", status.as_u16())
        }
        None => format!("X answered {status}"),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn now() -> Time {
        Time::parse("2026-11-21T14:00:00Z").unwrap()
    }

    fn kind(sent: &Sent) -> &'static str {
        match sent {
            Sent::Accepted { .. } => "accepted",
            Sent::Unknown { .. } => "unknown",
            Sent::Unsure { .. } => "unsure",
            Sent::Later { .. } => "later",
            Sent::Refused { .. } => "refused",
            Sent::Broken { .. } => "broken",
        }
    }

    #[rstest]
    #[case(201, r#"{"data":{"id":"17","text":"hi"}}"#, "accepted", "accepted")]
    #[case(201, "not json", "accepted", "accepted")]
    #[case(403, r#"{"detail":"You are not allowed to create a Tweet with duplicate content.","title":"Forbidden","status":403,"type":"about:blank"}"#, "refused", "accepted")]
    #[case(
        403,
        r#"{"errors":[{"code":187,"message":"Status is a duplicate."}]}"#,
        "refused",
        "accepted"
    )]
    #[case(
        403,
        r#"{"detail":"You are not permitted to perform this action.","title":"Forbidden"}"#,
        "broken",
        "broken"
    )]
    #[case(401, r#"{"title":"Unauthorized","status":401}"#, "broken", "broken")]
    #[case(402, r#"{"title":"CreditsDepleted","status":402}"#, "broken", "broken")]
    #[case(404, "", "broken", "broken")]
    #[case(302, "", "broken", "broken")]
    #[case(
        400,
        r#"{"detail":"One or more parameters to your request was invalid."}"#,
        "refused",
        "refused"
    )]
    #[case(
        429,
        r#"{"errors":[{"code":88,"message":"Rate limit exceeded"}]}"#,
        "later",
        "later"
    )]
    #[case(503, "<html>", "unsure", "unsure")]
    fn answers(#[case] status: u16, #[case] body: &str, #[case] first: &str, #[case] again: &str) {
        let body = serde_json::from_str(body).unwrap_or(Value::Null);
        let status = StatusCode::from_u16(status).unwrap();
        let judged = |again| judge(status, &HeaderMap::new(), &body, again, now());
        assert_eq!(kind(&judged(false)), first);
        assert_eq!(kind(&judged(true)), again);
    }

    #[test]
    fn a_429_lasts_until_the_reset() {
        let mut headers = HeaderMap::new();
        assert_eq!(until_reset(&headers, now()), WINDOW);
        headers.insert("retry-after", "30".parse().unwrap());
        assert_eq!(until_reset(&headers, now()), Span::from_secs(30));
        let reset = (now().as_secs() + 90).to_string();
        headers.insert("x-rate-limit-reset", reset.parse().unwrap());
        assert_eq!(until_reset(&headers, now()), Span::from_secs(91));
        headers.insert("x-rate-limit-reset", "-5".parse().unwrap());
        assert_eq!(until_reset(&headers, now()), Span::from_secs(1));
    }

    #[test]
    fn the_signature_is_that_of_rfc_5849() {
        // X's own worked example of a signature (docs: "Creating a signature"), which holds form parameters too.
        #[derive(oauth::Request)]
        struct Status<'a> {
            include_entities: bool,
            status: &'a str,
        }
        let token = oauth::Token::from_parts(
            "xvz1evFS4wEEPTGEFPHBog",
            "kAcSOqF21Fu85e7zjz7ZN2U4ZRhfV3WpwPAoE3Z7kBw",
            "370773112-GmHxMAgYyLbNEtIKZeRNFsMKPR9EyMZeS9weJAEb",
            "LswwdoUaIvS8ltyTt5jkRh4J50vUPVVHtR2YPi5kE",
        );
        let mut builder = oauth::Builder::with_token(token, oauth::HMAC_SHA1);
        builder
            .nonce("kYjzVBB8Y0ZFabxSWbWovY3uYSQ2pTgmZeNu2VS4cg")
            .timestamp(NonZeroU64::new(1_318_622_958))
            .version(true);
        let status = Status {
            include_entities: true,
            status: "Hello Ladies + Gentlemen, a signed OAuth request!",
        };
        let header = builder.authorize(
            "POST",
            "https://api.twitter.com/1.1/statuses/update.json",
            &status,
        );
        assert!(
            header.contains(r#"oauth_signature="hCtSmYh%2BiHYCEqBWrE7C7hYmtUk%3D""#),
            "{header}"
        );
    }
}
