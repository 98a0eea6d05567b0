//! Alerts in Prometheus' Alertmanager (API v2).
//!
//! An alert has an end from the start, which every repeat of the page moves on: one whose controller is gone, or whose
//! page was acknowledged, ends by itself. When the page is over, it ends at once.

use std::collections::BTreeMap;

use async_trait::async_trait;
use reqwest::RequestBuilder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::Url;

use super::{
    answer::{Answer, NoAnswer, ask, retry_after},
    message::{Message, one_line, topic},
};
use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        id::IdempotencyKey,
        page::Severity,
        secret::{Secret, SecretRef},
        span::Span,
        time::Time,
    },
    port::{
        channel::{Channel, Compiled, Notice, Recipient, RecipientsError, Sent, SharedChannel},
        endpoint,
        kind::{Kind, Make, MakeError, Problem, Wiring, With, read},
    },
};

/// `announce/alertmanager`.
pub const KIND: Kind = Kind::new::<AlertmanagerWith>(
    "announce/alertmanager",
    "alert in Prometheus' Alertmanager",
    "urls: [\"https://alertmanager.example.net\"]\nbearerToken: {env: ALERTMANAGER_TOKEN}\n",
    Make::Channel(make),
);

/// Shortest wait before an alert is sent again, where the other side does not say.
const PAUSE: Span = Span::from_secs(5);

/// An alert outlives so many rounds of its page, so that one that is late does not end it.
const REPEATS: u64 = 3;

/// Most characters of a description.
const TEXT: usize = 20_000;

/// The labels that an alert has anyway.
const OWN: [&str; 5] = ["alertname", "service", "severity", "page", "incident"];

/// Settings of `announce/alertmanager`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AlertmanagerWith {
    /// Where it is, with its route prefix, if it has one. Of a cluster: every member.
    pub urls: Vec<String>,
    /// A bearer token, where one is asked for.
    #[serde(default)]
    pub bearer_token: Option<SecretRef>,
    /// The user name of basic authentication.
    #[serde(default)]
    pub username: Option<String>,
    /// The password that goes with it.
    #[serde(default)]
    pub password: Option<SecretRef>,
    /// More labels for every alert, such as `environment: production`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// How long an alert lasts after its page was sent last. Default: three times what it takes until the page is sent
    /// again.
    #[serde(default)]
    pub lasts: Option<Span>,
    /// Time-out of one request.
    #[serde(default = "timeout")]
    pub timeout: Span,
}

fn timeout() -> Span {
    Span::from_secs(10)
}

impl With for AlertmanagerWith {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.urls.is_empty() {
            problems.push(Problem::new("urls", "is empty, expected at least one URL"));
        }
        for (i, url) in self.urls.iter().enumerate() {
            problems.extend(self.url_problem(&format!("urls[{i}]"), url));
        }
        if self.bearer_token.is_some() && self.password.is_some() {
            problems.push(
                Problem::new("bearerToken", "stands beside password")
                    .hint("a request has one credential: take one of them out"),
            );
        }
        if self.username.is_some() != self.password.is_some() {
            problems.push(Problem::new(
                "username",
                "stands without password, or password without it",
            ));
        }
        if self.username.as_ref().is_some_and(|u| u.contains(':')) {
            problems.push(Problem::new("username", "holds a colon"));
        }
        for name in self.labels.keys() {
            let path = format!("labels.{name}");
            if OWN.contains(&name.as_str()) {
                problems.push(Problem::new(path, "is set by failover itself"));
            } else if !is_label(name) {
                problems.push(Problem::new(
                    path,
                    "is no label's name, expected letters, digits and _, no digit first",
                ));
            }
        }
        if self.lasts.is_some_and(|l| l < Span::from_secs(60)) {
            problems.push(Problem::new("lasts", "is below 1m"));
        }
        problems
    }

    fn hosts(&self) -> Vec<String> {
        self.urls.iter().filter_map(|u| endpoint::host(u)).collect()
    }
}

impl AlertmanagerWith {
    /// Within a cluster it is reached in the clear, as long as no secret goes with it.
    fn url_problem(&self, field: &str, url: &str) -> Option<Problem> {
        if self.bearer_token.is_some() || self.password.is_some() {
            return endpoint::problem(field, url);
        }
        let encrypted = match url.strip_prefix("http://") {
            Some(rest) => format!("https://{rest}"),
            None => url.to_owned(),
        };
        endpoint::problem(field, &encrypted)
    }
}

fn is_label(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedChannel, MakeError> {
    Ok(std::sync::Arc::new(Alertmanager {
        with: read(with)?,
        wiring: wiring.clone(),
    }))
}

struct Alertmanager {
    with: AlertmanagerWith,
    wiring: Wiring,
}

#[async_trait]
impl Channel for Alertmanager {
    fn compile(&self, notice: &Notice) -> Compiled {
        let message = Message::of(notice);
        let (text, was_cut) = message.long.fit(|t| t.chars().count() <= TEXT);
        let lasts = self.lasts(severity(notice));
        let mut remarks = vec![format!("ends by itself after {lasts}")];
        if was_cut {
            remarks.push("cut to length".to_owned());
        }
        let alert = json!({
            "labels": self.labels(notice),
            "annotations": annotations(notice, &message.subject, &text),
        });
        Compiled {
            subject: Some(message.subject),
            text,
            html: None,
            json: Some(json!({"alert": alert, "over": is_over(notice), "lasts": lasts})),
            remarks,
        }
    }

    async fn recipients(&self) -> Result<Vec<Recipient>, RecipientsError> {
        Ok(self.with.urls.iter().cloned().map(Recipient).collect())
    }

    async fn send(&self, message: &Compiled, to: &Recipient, _key: &IdempotencyKey) -> Sent {
        self.post(message, &to.0).await
    }

    async fn resume(
        &self,
        message: &Compiled,
        to: &Recipient,
        _key: &IdempotencyKey,
    ) -> Option<Sent> {
        // The same labels are the same alert.
        Some(match self.post(message, &to.0).await {
            Sent::Later { after, reason, .. } => Sent::Unsure { after, reason },
            sent @ (Sent::Accepted { .. }
            | Sent::Unknown { .. }
            | Sent::Unsure { .. }
            | Sent::Refused { .. }
            | Sent::Broken { .. }) => sent,
        })
    }

    fn keeps_state(&self) -> bool {
        true
    }

    fn workers(&self) -> usize {
        self.with.urls.len().clamp(1, 8)
    }

    async fn check(&self) -> Vec<CheckItem> {
        let mut items = Vec::new();
        for url in &self.with.urls {
            items.push(self.check_one(url).await);
        }
        let repeat = self.sent_again(Severity::Critical);
        let lasts = self.lasts(Severity::Critical);
        if lasts < repeat {
            items.push(CheckItem::bad(
                "announce/alertmanager/lasts",
                CheckStatus::Warn,
                format!(
                    "an alert ends after {lasts}, before its page is sent again after {repeat}"
                ),
                "make lasts at least twice that",
            ));
        }
        items
    }
}

impl Alertmanager {
    fn sent_again(&self, severity: Severity) -> Span {
        let team = &self.wiring.service.team;
        team.round(severity).unwrap_or(team.repeat)
    }

    fn lasts(&self, severity: Severity) -> Span {
        let own = self.with.lasts;
        own.unwrap_or_else(|| self.sent_again(severity).saturating_mul(REPEATS))
    }

    fn labels(&self, notice: &Notice) -> Map<String, Value> {
        let mut labels: Map<String, Value> = self
            .with
            .labels
            .iter()
            .map(|(name, value)| (name.clone(), json!(one_line(value))))
            .collect();
        let own = match notice {
            Notice::Announcement { announcement, .. } => vec![
                ("alertname", "FailoverAnnouncement".to_owned()),
                ("service", self.wiring.service.name.to_string()),
                ("severity", "info".to_owned()),
                ("incident", announcement.incident.to_string()),
            ],
            Notice::Page {
                service, page, id, ..
            }
            | Notice::PageOver { service, page, id } => vec![
                ("alertname", alert_name(&topic(page))),
                ("service", service.to_string()),
                ("severity", page.severity.to_string()),
                ("page", id.clone()),
            ],
        };
        // An empty label is none.
        let own = own.into_iter().filter(|(_, value)| !value.is_empty());
        labels.extend(own.map(|(name, value)| (name.to_owned(), json!(value))));
        labels
    }

    async fn post(&self, message: &Compiled, url: &str) -> Sent {
        let now = self.wiring.runtime.wall();
        let compiled = message.json.clone().unwrap_or_default();
        let mut alert = compiled["alert"].clone();
        // Without a start, Alertmanager takes the end for it.
        alert["startsAt"] = json!(now);
        alert["endsAt"] = json!(if compiled["over"] == json!(true) {
            now
        } else {
            let lasts = serde_json::from_value(compiled["lasts"].clone());
            now.after(lasts.unwrap_or_else(|_| self.lasts(Severity::Critical)))
        });
        let request = self
            .wiring
            .http
            .post(below(url, "alerts"))
            .json(&json!([alert]));
        let request = match self.authorize(request) {
            Ok(request) => request,
            Err(reason) => return Sent::Broken { reason },
        };
        let (name, alone) = (name(url), self.with.urls.len() == 1);
        match ask(request, &name, self.with.timeout).await {
            Ok(answer) => judge(&answer, &name, alone, now),
            Err(NoAnswer::Unreachable(reason)) => Sent::Later {
                after: PAUSE,
                everyone: alone,
                reason,
            },
            Err(NoAnswer::Lost(reason)) => Sent::Unsure {
                after: PAUSE,
                reason,
            },
        }
    }

    fn authorize(&self, request: RequestBuilder) -> Result<RequestBuilder, String> {
        let read = |at: &SecretRef| -> Result<Secret, String> {
            let secret = self.wiring.secrets.read(at);
            secret.map_err(|e| format!("Alertmanager's credential cannot be read: {e}"))
        };
        if let Some(token) = &self.with.bearer_token {
            return Ok(request.bearer_auth(read(token)?.expose().trim()));
        }
        Ok(match (&self.with.username, &self.with.password) {
            (Some(user), Some(password)) => {
                request.basic_auth(user, Some(read(password)?.expose()))
            }
            (Some(_), None) | (None, Some(_) | None) => request,
        })
    }

    async fn check_one(&self, url: &str) -> CheckItem {
        let name = name(url);
        let item = format!("announce/alertmanager/{name}");
        let bad = |status, reason: String, fix: &str| CheckItem::bad(&item, status, reason, fix);
        let request = match self.authorize(self.wiring.http.get(below(url, "status"))) {
            Ok(request) => request,
            Err(reason) => return bad(CheckStatus::Fail, reason, "set the credential"),
        };
        let answer = match ask(request, &name, self.with.timeout).await {
            Ok(answer) => answer,
            Err(NoAnswer::Unreachable(reason)) => {
                return bad(CheckStatus::Fail, reason, "check the URL and the network");
            }
            Err(NoAnswer::Lost(reason)) => {
                return bad(
                    CheckStatus::Unknown,
                    reason,
                    "check the URL and the network",
                );
            }
        };
        let version = answer.body.pointer("/versionInfo/version");
        match (answer.status.as_u16(), version.and_then(Value::as_str)) {
            (200, Some(version)) => {
                CheckItem::ok(&item, format!("Alertmanager {}", one_line(version)))
            }
            (200, None) => bad(
                CheckStatus::Fail,
                format!("{name} answered 200, but not as Alertmanager does"),
                "check the URL and its route prefix",
            ),
            (429 | 500.., _) => bad(
                CheckStatus::Unknown,
                said(&answer, &name),
                "check again later",
            ),
            (_, _) => bad(
                CheckStatus::Fail,
                said(&answer, &name),
                "check the URL, its route prefix and the credential",
            ),
        }
    }
}

fn severity(notice: &Notice) -> Severity {
    match notice {
        Notice::Announcement { .. } => Severity::Info,
        Notice::Page { page, .. } | Notice::PageOver { page, .. } => page.severity,
    }
}

/// Ends with the last announcement, and when its page is over.
fn is_over(notice: &Notice) -> bool {
    match notice {
        Notice::Announcement { announcement, .. } => announcement.phase.is_last(),
        Notice::Page { .. } => false,
        Notice::PageOver { .. } => true,
    }
}

fn annotations(notice: &Notice, subject: &str, text: &str) -> Value {
    let mut annotations = json!({"summary": subject, "description": text});
    match notice {
        Notice::Announcement { announcement, .. } => {
            annotations["phase"] = json!(announcement.phase.word());
        }
        Notice::Page {
            page, repeat, id, ..
        } => {
            annotations["commands"] = json!(page.commands.join("\n"));
            annotations["repeat"] = json!(repeat.to_string());
            if !id.is_empty() {
                annotations["acknowledge"] = json!(format!("failover ack {id}"));
            }
        }
        Notice::PageOver { .. } => {}
    }
    annotations
}

/// Such as `FailoverTwoWriters`.
fn alert_name(topic: &str) -> String {
    let mut letters = topic.chars();
    let first = letters.next().map(|c| c.to_ascii_uppercase());
    format!("Failover{}{}", String::from_iter(first), letters.as_str())
}

fn below(url: &str, what: &str) -> String {
    format!("{}/api/v2/{what}", url.trim_end_matches('/'))
}

/// Host and port: members may stand on one host.
fn name(url: &str) -> String {
    let host = endpoint::host(url).unwrap_or_default();
    match Url::parse(url).ok().and_then(|url| url.port()) {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

/// What an answer means. Where one of several is broken, the others still take the alert.
fn judge(answer: &Answer, name: &str, alone: bool, now: Time) -> Sent {
    let reason = said(answer, name);
    let wait = || retry_after(&answer.headers, now).unwrap_or(PAUSE);
    match answer.status.as_u16() {
        200..=299 => Sent::Accepted { reference: None },
        429 => Sent::Later {
            after: wait(),
            everyone: alone,
            reason,
        },
        408 | 500.. => Sent::Unsure {
            after: wait(),
            reason,
        },
        _ if alone => Sent::Broken { reason },
        _ => Sent::Refused {
            reason,
            suppress: false,
        },
    }
}

/// The answer with its error: a text, or `message` of an object.
fn said(answer: &Answer, name: &str) -> String {
    let status = answer.status.as_u16();
    let message = answer.body.as_str();
    let message = message.or_else(|| answer.body.get("message").and_then(Value::as_str));
    match message {
        Some(message) => {
            let message: String = one_line(message).chars().take(200).collect();
            format!("{name} answered {status}: {message}")
        }
        None => format!("{name} answered {status}"),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(json!({"urls": []}), "urls")]
    #[case(json!({"urls": ["nonsense"]}), "urls[0]")]
    #[case(json!({"urls": ["https://u:p@am.example.net"]}), "urls[0]")]
    #[case(json!({"urls": ["ftp://am.example.net"]}), "urls[0]")]
    #[case(json!({"urls": ["https://am.example.net", "http://am.example.net"], "bearerToken": {"env": "A"}}), "urls[1]")]
    #[case(json!({"urls": ["https://am.example.net"], "username": "a"}), "username")]
    #[case(json!({"urls": ["https://am.example.net"], "password": {"env": "A"}}), "username")]
    #[case(json!({"urls": ["https://am.example.net"], "username": "a:b", "password": {"env": "A"}}), "username")]
    #[case(json!({"urls": ["https://am.example.net"], "bearerToken": {"env": "A"}, "username": "a", "password": {"env": "A"}}), "bearerToken")]
    #[case(json!({"urls": ["https://am.example.net"], "labels": {"page": "x"}}), "labels.page")]
    #[case(json!({"urls": ["https://am.example.net"], "labels": {"0x": "x"}}), "labels.0x")]
    #[case(json!({"urls": ["https://am.example.net"], "lasts": "10s"}), "lasts")]
    fn a_wrong_setting_is_named(#[case] with: Value, #[case] path: &str) {
        let with: AlertmanagerWith = serde_json::from_value(with).unwrap();
        let found = with.problems();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].path, path);
    }

    #[test]
    fn without_a_secret_it_may_be_reached_in_the_clear() {
        let with =
            json!({"urls": ["http://alertmanager.monitoring:9093/am"], "labels": {"env": "p"}});
        let with: AlertmanagerWith = serde_json::from_value(with).unwrap();
        assert_eq!(with.problems(), []);
        assert_eq!(with.hosts(), ["alertmanager.monitoring"]);
    }

    #[test]
    fn an_alert_is_named_after_its_topic() {
        assert_eq!(alert_name("twoWriters"), "FailoverTwoWriters");
    }
}
