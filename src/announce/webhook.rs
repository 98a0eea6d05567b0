//! Signed webhooks (Standard Webhooks, <https://www.standardwebhooks.com>).

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use reqwest::{StatusCode, header::HeaderMap};
use rustls_platform_verifier::ConfigVerifierExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use url::{Host, Url};

use super::{address::is_public, answer::retry_after, message::Message};
use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        id::IdempotencyKey,
        secret::{Secret, SecretRef},
        span::Span,
        time::Time,
    },
    port::{
        channel::{Channel, Compiled, Notice, Recipient, RecipientsError, Sent, SharedChannel},
        endpoint, http,
        kind::{Kind, Make, MakeError, Problem, Wiring, With, read},
        webhook::{Key, MessageId, PREFIX},
    },
};

/// `announce/webhook`.
pub const KIND: Kind = Kind::new::<WebhookWith>(
    "announce/webhook",
    "signed JSON to a URL",
    "url: https://hooks.example.net/failover\nsecret: {env: WEBHOOK_SECRET}\n",
    Make::Channel(make),
)
.proved_by_use();

/// Wait before the same message is sent again, where the other side does not say.
const PAUSE: Span = Span::from_secs(30);

/// How long a client is kept: this host's roots may change.
const CLIENT_AGE: Duration = Duration::from_mins(10);

/// Settings of `announce/webhook`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhookWith {
    /// Where it is sent to.
    pub url: String,
    /// The secret that it is signed with: `whsec_` and the base64 of 24 to 64 bytes.
    pub secret: SecretRef,
    /// Whether the URL may lead to a private address or to this host.
    #[serde(default)]
    pub allow_private: bool,
    /// Time-out of one request.
    #[serde(default = "timeout")]
    pub timeout: Span,
}

fn timeout() -> Span {
    Span::from_secs(20)
}

impl With for WebhookWith {
    fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = endpoint::problem("url", &self.url).into_iter().collect();
        if literal(&self.url).is_some_and(|ip| !is_public(ip)) && !self.allow_private {
            problems.push(
                Problem::new("url", "leads to a private address")
                    .hint("set allowPrivate: true if that is meant"),
            );
        }
        problems
    }

    fn hosts(&self) -> Vec<String> {
        endpoint::host(&self.url).into_iter().collect()
    }
}

/// The address that a URL holds in place of a name.
fn literal(url: &str) -> Option<IpAddr> {
    match Url::parse(url).ok()?.host()? {
        Host::Domain(_) => None,
        Host::Ipv4(ip) => Some(ip.into()),
        Host::Ipv6(ip) => Some(ip.into()),
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedChannel, MakeError> {
    let with: WebhookWith = read(with)?;
    let url = Url::parse(&with.url).map_err(|e| MakeError(format!("with.url: {e}")))?;
    Ok(Arc::new(Webhook {
        with,
        url,
        wiring: wiring.clone(),
        client: Mutex::default(),
    }))
}

struct Webhook {
    with: WebhookWith,
    url: Url,
    wiring: Wiring,
    client: Mutex<Option<Kept>>,
}

/// A client for the addresses that were checked; loading this host's roots takes longer than most posts.
struct Kept {
    addresses: Vec<SocketAddr>,
    since: Instant,
    client: reqwest::Client,
}

#[async_trait]
impl Channel for Webhook {
    fn compile(&self, notice: &Notice) -> Compiled {
        let message = Message::of(notice);
        let text = message.long.text();
        let body = body(notice, &message.subject, &text);
        Compiled {
            remarks: vec![format!("JSON of {} bytes", body.to_string().len())],
            subject: Some(message.subject),
            text,
            html: None,
            json: Some(body),
        }
    }

    async fn recipients(&self) -> Result<Vec<Recipient>, RecipientsError> {
        Ok(vec![Recipient("webhook".to_owned())])
    }

    async fn send(&self, message: &Compiled, _to: &Recipient, key: &IdempotencyKey) -> Sent {
        self.post(message, key).await
    }

    async fn resume(
        &self,
        message: &Compiled,
        _to: &Recipient,
        key: &IdempotencyKey,
    ) -> Option<Sent> {
        // The same webhook-id tells the receiver that it is a repeat.
        Some(match self.post(message, key).await {
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
        const NAME: &str = "announce/webhook/connection";
        let secret = match self.key() {
            Ok(_) => CheckItem::ok("announce/webhook/secret", "can be read"),
            Err(reason) => CheckItem::bad(
                "announce/webhook/secret",
                CheckStatus::Fail,
                reason,
                "set the secret that the receiver shows",
            ),
        };
        let limit = self.with.timeout.to_std();
        let reached = match tokio::time::timeout(limit, self.reach()).await {
            Ok(Ok(address)) => {
                CheckItem::ok(NAME, format!("{address} answers for {}", self.name()))
            }
            Ok(Err(reason)) => CheckItem::bad(
                NAME,
                CheckStatus::Fail,
                reason,
                "check the url and the network",
            ),
            Err(_) => CheckItem::bad(
                NAME,
                CheckStatus::Unknown,
                format!(
                    "{} did not answer within {}",
                    self.name(),
                    self.with.timeout
                ),
                "check the url and the network",
            ),
        };
        vec![secret, reached]
    }
}

impl Webhook {
    async fn post(&self, message: &Compiled, key: &IdempotencyKey) -> Sent {
        let secret = match self.key() {
            Ok(secret) => secret,
            Err(reason) => return Sent::Broken { reason },
        };
        let client = match self.client().await {
            Ok(client) => client,
            Err(sent) => return sent,
        };
        let body = message.json.as_ref().unwrap_or(&Value::Null).to_string();
        let id = MessageId::of(&key.0);
        let now = self.wiring.runtime.wall();
        let sent = client
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header("webhook-id", id.as_str())
            .header("webhook-timestamp", now.as_secs().to_string())
            .header("webhook-signature", secret.sign(&id, now, &body))
            .body(body)
            .send()
            .await;
        match sent {
            Ok(answer) => judge(answer.status(), answer.headers(), &self.name(), now),
            Err(e) if e.is_connect() || e.is_builder() => Sent::Later {
                after: PAUSE,
                everyone: true,
                reason: format!("{} cannot be reached", self.name()),
            },
            Err(e) if e.is_timeout() => Sent::Unsure {
                after: PAUSE,
                reason: format!(
                    "{} did not answer within {}",
                    self.name(),
                    self.with.timeout
                ),
            },
            Err(_) => Sent::Unsure {
                after: PAUSE,
                reason: format!("{} closed the connection before it answered", self.name()),
            },
        }
    }

    /// A client that connects to the addresses that were checked, whatever the name leads to a moment later.
    async fn client(&self) -> Result<reqwest::Client, Sent> {
        let mut addresses = self.addresses().await?;
        addresses.sort();
        let mut kept = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = &*kept
            && kept.addresses == addresses
            && kept.since.elapsed() < CLIENT_AGE
        {
            return Ok(kept.client.clone());
        }
        let timeout = Duration::from_millis(self.with.timeout.as_millis());
        let builder = reqwest::Client::builder()
            .user_agent(concat!("failover/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(timeout)
            .timeout(timeout)
            .resolve_to_addrs(self.url.host_str().unwrap_or_default(), &addresses);
        let client = http::trusting_host(builder)
            .build()
            .map_err(|_| Sent::Broken {
                reason: "no HTTPS client can be made: check this host's root certificates"
                    .to_owned(),
            })?;
        *kept = Some(Kept {
            addresses,
            since: Instant::now(),
            client: client.clone(),
        });
        Ok(client)
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>, Sent> {
        let port = self.url.port_or_known_default().unwrap_or(443);
        let found: Vec<SocketAddr> = match literal(&self.with.url) {
            Some(ip) => vec![SocketAddr::new(ip, port)],
            None => tokio::net::lookup_host((self.url.host_str().unwrap_or_default(), port))
                .await
                .map_err(|_| Sent::Later {
                    after: PAUSE,
                    everyone: true,
                    reason: format!("{} has no address", self.name()),
                })?
                .collect(),
        };
        let allowed: Vec<SocketAddr> = found
            .into_iter()
            .filter(|a| self.with.allow_private || is_public(a.ip()))
            .collect();
        if allowed.is_empty() {
            return Err(Sent::Broken {
                reason: format!(
                    "{} leads to private addresses only: set allowPrivate: true if that is meant",
                    self.name()
                ),
            });
        }
        Ok(allowed)
    }

    fn key(&self) -> Result<Key, String> {
        let secret = self.wiring.secrets.read(&self.with.secret);
        let secret = secret.map_err(|e| format!("the webhook's secret cannot be read: {e}"))?;
        key(&secret).ok_or_else(|| {
            format!("the webhook's secret is not {PREFIX} and the base64 of 24 to 64 bytes")
        })
    }

    /// Connects, as far as encryption, and asks for nothing.
    async fn reach(&self) -> Result<SocketAddr, String> {
        let addresses = self.addresses().await.map_err(|sent| match sent {
            Sent::Later { reason, .. }
            | Sent::Broken { reason }
            | Sent::Refused { reason, .. }
            | Sent::Unsure { reason, .. }
            | Sent::Unknown { reason } => reason,
            Sent::Accepted { .. } => String::new(),
        })?;
        let name = self.name();
        let stream = TcpStream::connect(&addresses[..])
            .await
            .map_err(|_| format!("{name} cannot be reached"))?;
        let address = stream.peer_addr().map_err(|e| e.to_string())?;
        if self.url.scheme() == "https" {
            let config =
                rustls::ClientConfig::with_platform_verifier().map_err(|e| e.to_string())?;
            let server = rustls_pki_types::ServerName::try_from(name.clone())
                .map_err(|_| format!("{name} is no host name"))?;
            tokio_rustls::TlsConnector::from(Arc::new(config))
                .connect(server, stream)
                .await
                .map_err(|e| format!("{name} cannot be spoken to encrypted: {e}"))?;
        }
        Ok(address)
    }

    fn name(&self) -> String {
        endpoint::host(&self.with.url).unwrap_or_default()
    }
}

/// The body: what happened, and the facts.
fn body(notice: &Notice, subject: &str, text: &str) -> Value {
    match notice {
        Notice::Announcement { announcement, .. } => json!({
            "type": "announcement",
            "timestamp": announcement.at,
            "data": {
                "id": announcement.id,
                "incident": announcement.incident,
                "phase": announcement.phase,
                "service": announcement.title,
                "started": announcement.started,
                "symptom": announcement.symptom,
                "fallbackUrl": announcement.fallback_url,
                "statusUrl": announcement.status_url,
                "dataSafety": announcement.data_safety,
                "nextUpdate": announcement.next_update,
                "drill": announcement.drill,
                "subject": subject,
                "text": text,
            },
        }),
        Notice::Page {
            service,
            page,
            repeat,
            id,
        } => json!({
            "type": "page",
            "data": {
                "id": id,
                "service": service,
                "severity": page.severity,
                "title": page.title,
                "body": page.body,
                "commands": page.commands,
                "acknowledge": (!id.is_empty()).then(|| format!("failover ack {id}")),
                "repeat": repeat,
                "text": text,
            },
        }),
        Notice::PageOver { service, page, id } => json!({
            "type": "pageOver",
            "data": {
                "id": id,
                "service": service,
                "severity": page.severity,
                "title": page.title,
                "text": text,
            },
        }),
    }
}

fn key(secret: &Secret) -> Option<Key> {
    let prefixed = secret.expose().trim().starts_with(PREFIX);
    prefixed.then(|| Key::read(secret)).flatten()
}

/// What an answer means. Only 2xx is success; what may have got through is sent again under the same id.
fn judge(status: StatusCode, headers: &HeaderMap, name: &str, now: Time) -> Sent {
    let reason = format!("{name} answered {status}");
    match status.as_u16() {
        200..=299 => Sent::Accepted { reference: None },
        410 => Sent::Broken {
            reason: format!(
                "{name} wants no more webhooks (410 Gone): take the channel out, or ask for a new url"
            ),
        },
        429 => Sent::Later {
            after: retry_after(headers, now).unwrap_or(PAUSE),
            everyone: true,
            reason,
        },
        408 | 425 | 500.. => Sent::Unsure {
            after: retry_after(headers, now).unwrap_or(PAUSE),
            reason,
        },
        300..=399 | 401 | 403..=405 => Sent::Broken { reason },
        _ => Sent::Refused {
            reason,
            suppress: false,
        },
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

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
    #[case(200, "accepted")]
    #[case(204, "accepted")]
    #[case(301, "broken")]
    #[case(400, "refused")]
    #[case(401, "broken")]
    #[case(404, "broken")]
    #[case(410, "broken")]
    #[case(429, "later")]
    #[case(500, "unsure")]
    #[case(502, "unsure")]
    #[case(504, "unsure")]
    fn answers(#[case] status: u16, #[case] expected: &str) {
        let status = StatusCode::from_u16(status).unwrap();
        let sent = judge(
            status,
            &HeaderMap::new(),
            "hooks.example.net",
            Time::default(),
        );
        assert_eq!(kind(&sent), expected);
    }

    #[test]
    fn a_secret_has_its_prefix_and_length() {
        for bad in [
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_AAAA",
            "whsec_?",
            "",
        ] {
            assert!(key(&Secret::new(bad)).is_none(), "{bad}");
        }
    }
}
