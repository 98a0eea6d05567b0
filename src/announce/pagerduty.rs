//! Alerts in PagerDuty (Events API v2, <https://developer.pagerduty.com/docs/send-alert-event>).
//!
//! Every repeat of a page has the same `dedup_key`, so that it stays one alert, and so has its end, which resolves it.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    answer::{Answer, NoAnswer, ask, retry_after},
    cut::cut,
    message::{Message, one_line, topic},
};
use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        id::{IdempotencyKey, ServiceName},
        secret::SecretRef,
        span::Span,
        time::Time,
    },
    port::{
        channel::{Channel, Compiled, Notice, Recipient, RecipientsError, Sent, SharedChannel},
        endpoint,
        kind::{Kind, Make, MakeError, Problem, Wiring, With, read},
    },
};

/// `announce/pagerduty`.
pub const KIND: Kind = Kind::new::<PagerDutyWith>(
    "announce/pagerduty",
    "alert in PagerDuty",
    "routingKey: {env: PAGERDUTY_ROUTING_KEY}\n",
    Make::Channel(make),
)
.proved_by_use();

/// Shortest wait before an event is sent again, where PagerDuty does not say.
const PAUSE: Span = Span::from_secs(10);

/// Most characters of a summary.
const SUMMARY: usize = 1024;

/// Most characters of the text: an event may have 512 KB in all.
const TEXT: usize = 20_000;

/// Characters of an integration key.
const KEY: usize = 32;

/// Most characters of `source`: a `dedup_key` has 255 in all.
const SOURCE: usize = 100;

/// Settings of `announce/pagerduty`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PagerDutyWith {
    /// The integration key of a service or of an orchestration ("Events API v2").
    pub routing_key: SecretRef,
    /// Shown as the source; keeps alerts of several installations apart. Default: the service's name.
    #[serde(default)]
    pub source: Option<String>,
    /// Where the API is; `https://events.eu.pagerduty.com` for accounts in the EU.
    #[serde(default = "base_url")]
    pub base_url: String,
    /// Time-out of one request.
    #[serde(default = "timeout")]
    pub timeout: Span,
}

fn base_url() -> String {
    "https://events.pagerduty.com".to_owned()
}

fn timeout() -> Span {
    Span::from_secs(15)
}

impl With for PagerDutyWith {
    fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = endpoint::problem("baseUrl", &self.base_url)
            .into_iter()
            .collect();
        let fits = |source: &String| {
            (1..=SOURCE).contains(&source.chars().count()) && one_line(source) == *source
        };
        if !self.source.as_ref().is_none_or(fits) {
            problems.push(Problem::new(
                "source",
                format!("is no name, expected one line of 1 to {SOURCE} characters"),
            ));
        }
        problems
    }

    fn hosts(&self) -> Vec<String> {
        endpoint::host(&self.base_url).into_iter().collect()
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedChannel, MakeError> {
    Ok(std::sync::Arc::new(PagerDuty {
        with: read(with)?,
        wiring: wiring.clone(),
    }))
}

struct PagerDuty {
    with: PagerDutyWith,
    wiring: Wiring,
}

#[async_trait]
impl Channel for PagerDuty {
    fn compile(&self, notice: &Notice) -> Compiled {
        let message = Message::of(notice);
        let summary = cut(&message.subject, |t| t.chars().count() <= SUMMARY);
        let (text, mut was_cut) = message.long.fit(|t| t.chars().count() <= TEXT);
        was_cut |= summary != message.subject;
        let event = self.event(notice, &summary, &text);
        let mut remarks = vec![format!("event of {} bytes", event.to_string().len())];
        if was_cut {
            remarks.push("cut to length".to_owned());
        }
        Compiled {
            subject: Some(summary),
            text,
            html: None,
            json: Some(event),
            remarks,
        }
    }

    async fn recipients(&self) -> Result<Vec<Recipient>, RecipientsError> {
        Ok(vec![Recipient("pagerduty".to_owned())])
    }

    async fn send(&self, message: &Compiled, _to: &Recipient, _key: &IdempotencyKey) -> Sent {
        self.post(message).await
    }

    async fn resume(
        &self,
        message: &Compiled,
        _to: &Recipient,
        _key: &IdempotencyKey,
    ) -> Option<Sent> {
        // The same dedup_key makes a repeat the same alert.
        Some(match self.post(message).await {
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

    async fn check(&self) -> Vec<CheckItem> {
        vec![self.check_key(), self.check_connection().await]
    }
}

impl PagerDuty {
    /// The event without its key, which is a secret.
    fn event(&self, notice: &Notice, summary: &str, text: &str) -> Value {
        let source = self.source();
        match notice {
            Notice::Announcement { announcement, .. } => json!({
                "event_action": if announcement.phase.is_last() { "resolve" } else { "trigger" },
                "dedup_key": format!("failover/{source}/{}", announcement.incident),
                "client": "failover",
                "payload": {
                    "summary": summary,
                    "source": source,
                    "severity": "info",
                    "class": "announcement",
                    "custom_details": {"text": text, "phase": announcement.phase},
                },
            }),
            Notice::Page {
                service,
                page,
                repeat,
                id,
            } => {
                let topic = topic(page);
                json!({
                    "event_action": "trigger",
                    "dedup_key": alert(&source, service, &topic, id),
                    "client": "failover",
                    "payload": {
                        "summary": summary,
                        "source": source,
                        "severity": page.severity,
                        "group": service,
                        "class": topic,
                        "custom_details": {
                            "text": text,
                            "commands": page.commands,
                            "acknowledge": (!id.is_empty()).then(|| format!("failover ack {id}")),
                            "repeat": repeat,
                        },
                    },
                })
            }
            Notice::PageOver { service, page, id } => json!({
                "event_action": "resolve",
                "dedup_key": alert(&source, service, &topic(page), id),
                "client": "failover",
                "payload": {
                    "summary": summary,
                    "source": source,
                    "severity": page.severity,
                    "group": service,
                    "class": topic(page),
                },
            }),
        }
    }

    fn source(&self) -> String {
        let own = self.with.source.clone();
        own.unwrap_or_else(|| self.wiring.service.name.to_string())
    }

    async fn post(&self, message: &Compiled) -> Sent {
        let key = match self.key() {
            Ok(key) => key,
            Err(reason) => return Sent::Broken { reason },
        };
        let mut event = message.json.clone().unwrap_or_default();
        event["routing_key"] = json!(key);
        let request = self.wiring.http.post(self.url()).json(&event);
        let name = self.name();
        match ask(request, &name, self.with.timeout).await {
            Ok(answer) => judge(&answer, &name, &key, self.wiring.runtime.wall()),
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

    fn key(&self) -> Result<String, String> {
        let key = self.wiring.secrets.read(&self.with.routing_key);
        let key = key.map_err(|e| format!("the routing key cannot be read: {e}"))?;
        Ok(key.expose().trim().to_owned())
    }

    fn check_key(&self) -> CheckItem {
        const NAME: &str = "announce/pagerduty/key";
        const FIX: &str = "set the integration key that PagerDuty shows for \"Events API v2\"";
        let is_key = |key: &str| key.len() == KEY && key.bytes().all(|b| b.is_ascii_alphanumeric());
        match self.key() {
            Ok(key) if is_key(&key) => CheckItem::ok(NAME, "can be read"),
            Ok(_) => CheckItem::bad(
                NAME,
                CheckStatus::Fail,
                format!("the routing key is not {KEY} letters and digits"),
                FIX,
            ),
            Err(reason) => CheckItem::bad(NAME, CheckStatus::Fail, reason, FIX),
        }
    }

    /// Asks what only an event is told: any answer will do, and nothing changes.
    async fn check_connection(&self) -> CheckItem {
        const NAME: &str = "announce/pagerduty/connection";
        let name = self.name();
        let request = self.wiring.http.get(self.url());
        match ask(request, &name, self.with.timeout).await {
            Ok(answer) if answer.status.is_server_error() => CheckItem::bad(
                NAME,
                CheckStatus::Unknown,
                format!("{name} answered {}", answer.status),
                "check again later",
            ),
            Ok(_) => CheckItem::ok(NAME, format!("{name} answers")),
            Err(NoAnswer::Unreachable(reason)) => CheckItem::bad(
                NAME,
                CheckStatus::Fail,
                reason,
                "check the baseUrl and the network",
            ),
            Err(NoAnswer::Lost(reason)) => CheckItem::bad(
                NAME,
                CheckStatus::Unknown,
                reason,
                "check the baseUrl and the network",
            ),
        }
    }

    fn url(&self) -> String {
        format!("{}/v2/enqueue", self.with.base_url.trim_end_matches('/'))
    }

    fn name(&self) -> String {
        endpoint::host(&self.with.base_url).unwrap_or_default()
    }
}

/// The alert that a page is. What stands in no journal has no id: one alert a topic.
fn alert(source: &str, service: &ServiceName, topic: &str, id: &str) -> String {
    if id.is_empty() {
        format!("failover/{source}/{service}-{topic}")
    } else {
        format!("failover/{source}/{id}")
    }
}

/// What an answer means. Only 202 says that the event was taken.
fn judge(answer: &Answer, name: &str, key: &str, now: Time) -> Sent {
    let reason = said(answer, name, key);
    let wait = || retry_after(&answer.headers, now).unwrap_or(PAUSE);
    match answer.status.as_u16() {
        202 => Sent::Accepted {
            reference: answer
                .body
                .get("dedup_key")
                .and_then(Value::as_str)
                .map(str::to_owned),
        },
        429 => Sent::Later {
            after: wait(),
            everyone: true,
            reason,
        },
        408 | 500.. => Sent::Unsure {
            after: wait(),
            reason,
        },
        413 => Sent::Refused {
            reason,
            suppress: false,
        },
        _ => Sent::Broken { reason },
    }
}

/// The answer with what it says is wrong, never with the key.
fn said(answer: &Answer, name: &str, key: &str) -> String {
    let message = answer.body.get("message").and_then(Value::as_str);
    let errors = answer.body.get("errors").and_then(Value::as_array);
    let errors = errors.into_iter().flatten().filter_map(Value::as_str);
    let words: Vec<&str> = message.into_iter().chain(errors).collect();
    let words = one_line(&words.join(": "));
    let words = if key.is_empty() {
        words
    } else {
        words.replace(key, "(the key)")
    };
    let words: String = words.chars().take(200).collect();
    let status = answer.status.as_u16();
    if words.is_empty() {
        format!("{name} answered {status}")
    } else {
        format!("{name} answered {status}: {words}")
    }
}

#[cfg(test)]
mod tests {
    use reqwest::{StatusCode, header::HeaderMap};
    use rstest::rstest;

    use super::*;

    const ROUTING: &str = "0123456789abcdef0123456789abcdef";

    #[rstest]
    #[case(202, "accepted")]
    #[case(200, "broken")]
    #[case(302, "broken")]
    #[case(400, "broken")]
    #[case(403, "broken")]
    #[case(404, "broken")]
    #[case(408, "unsure")]
    #[case(413, "refused")]
    #[case(429, "later")]
    #[case(500, "unsure")]
    #[case(503, "unsure")]
    fn answers(#[case] status: u16, #[case] expected: &str) {
        let answer = Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: json!({"message": "Event object is invalid", "errors": [format!("no such key {ROUTING}")]}),
        };
        let sent = judge(&answer, "events.pagerduty.com", ROUTING, Time::default());
        let kind = match &sent {
            Sent::Accepted { .. } => "accepted",
            Sent::Unknown { .. } => "unknown",
            Sent::Unsure { .. } => "unsure",
            Sent::Later { .. } => "later",
            Sent::Refused { .. } => "refused",
            Sent::Broken { .. } => "broken",
        };
        assert_eq!(kind, expected);
        assert!(!format!("{sent:?}").contains(ROUTING), "{sent:?}");
    }

    #[test]
    fn a_source_is_one_line() {
        let problems = |source: &str| {
            let with = json!({"routingKey": {"env": "A"}, "source": source});
            serde_json::from_value::<PagerDutyWith>(with)
                .unwrap()
                .problems()
        };
        assert_eq!(problems("shop, Frankfurt"), []);
        let long = "a".repeat(101);
        for bad in ["", "a\nb", " a", long.as_str()] {
            assert_eq!(problems(bad)[0].path, "source", "{bad}");
        }
    }
}
