//! `http/promote`: asks an HTTP service to make the standby take over, and looks until it has.

mod with;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use with::HttpWith;

use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        plan::StepPhase,
        site::Site,
        step::{Presence, StepResult},
    },
    port::{
        action::{Action, SharedAction, StepContext},
        cause,
        command::{Context, Verb},
        endpoint,
        kind::{Kind, Make, MakeError, Wiring, read},
        request::{HeaderWith, StatusRange},
        secret::SharedSecrets,
    },
};

/// Time between two looks while the standby takes over.
const AGAIN: Duration = Duration::from_millis(250);
/// How long `failover check` waits for `observe`.
const CHECK: Duration = Duration::from_secs(10);
/// Characters of a refusal's body that are shown.
const SHOWN: usize = 200;

/// `http/promote`.
pub const KIND: Kind = Kind::new::<HttpWith>(
    "http/promote",
    "asks an HTTP service to make the standby take over, and looks until it has",
    "url: https://standby.example.com/promote\n\
     headers:\n  Authorization: {secret: {env: STANDBY_TOKEN}, prefix: \"Bearer \"}\n\
     observe:\n  url: https://standby.example.com/primary\n  status: [200]\n",
    Make::Action(make),
)
.in_phase(StepPhase::Promote);

fn make(with: &Value, wiring: &Wiring) -> Result<SharedAction, MakeError> {
    Ok(Arc::new(HttpPromotion {
        with: read(with)?,
        client: wiring.http.clone(),
        secrets: Arc::clone(&wiring.secrets),
    }))
}

struct HttpPromotion {
    with: HttpWith,
    client: reqwest::Client,
    secrets: SharedSecrets,
}

#[async_trait]
impl Action for HttpPromotion {
    async fn perform(&self, step: &StepContext) -> StepResult {
        let deadline = Instant::now() + step.limit();
        if let Err(result) = self.ask(step).await {
            return result;
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let reason = match self.look(left).await {
                Presence::InPlace(proof) => return StepResult::Done(proof),
                Presence::Absent { reason } | Presence::Unknown { reason } => reason,
            };
            if deadline.saturating_duration_since(Instant::now()) <= AGAIN {
                return StepResult::indeterminate(format!(
                    "the promotion was accepted, but it is not seen yet: {reason}"
                ));
            }
            sleep(AGAIN).await;
        }
    }

    async fn observe(&self, step: &StepContext) -> Presence {
        self.look(step.limit()).await
    }

    async fn undo(&self, _step: &StepContext) -> Option<StepResult> {
        Some(StepResult::failed("a promotion by HTTP has no way back"))
    }

    async fn check(&self, _from: &Site, _to: &Site) -> Vec<CheckItem> {
        let name = "promote/http";
        vec![match self.look(CHECK).await {
            Presence::Absent { reason } => CheckItem::ok(
                name,
                format!("observe can be asked and says: not promoted ({reason})"),
            ),
            Presence::InPlace(proof) => CheckItem::bad(
                name,
                CheckStatus::Fail,
                format!(
                    "observe says that it is promoted already ({})",
                    proof.summary
                ),
                "let observe tell a standby from a primary, or a failover will take nothing for a success",
            ),
            Presence::Unknown { reason } => CheckItem::bad(
                name,
                CheckStatus::Fail,
                format!("observe cannot tell ({reason})"),
                "check observe's url and headers from this host",
            ),
        }]
    }
}

impl HttpPromotion {
    /// Asks for the promotion; the error is the step's result.
    async fn ask(&self, step: &StepContext) -> Result<(), StepResult> {
        let refused = |why: String| StepResult::failed(format!("nothing was promoted: {why}"));
        let mut headers = self.headers(&self.with.headers).map_err(refused)?;
        let key = HeaderValue::try_from(step.key.as_str())
            .map_err(|_| refused("the step's key is no header's value".to_owned()))?;
        headers.insert(HeaderName::from_static("idempotency-key"), key);
        let context = Context::of_step(Verb::Perform, step);
        let body = self.with.body.as_ref().unwrap_or(context.json());
        let sent = self
            .client
            .request(self.with.method.as_http(), &self.with.url)
            .timeout(step.limit())
            .headers(headers.clone())
            .json(body)
            .send()
            .await;
        let answer = match sent {
            Ok(answer) => answer,
            Err(e) if e.is_timeout() => {
                return Err(StepResult::indeterminate(cause::without_repeats(&e)));
            }
            // Nothing has left this host yet.
            Err(e) if e.is_connect() || e.is_builder() => {
                return Err(refused(cause::without_repeats(&e)));
            }
            Err(e) => return Err(StepResult::indeterminate(cause::without_repeats(&e))),
        };
        let status = answer.status();
        if accepts(&self.with.status, status) {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&endpoint::body(answer).await).into_owned();
        let text = format!("HTTP {status}{}", shown(&said, &headers));
        Err(if status.is_server_error() {
            StepResult::indeterminate(text)
        } else {
            refused(text)
        })
    }

    async fn look(&self, within: Duration) -> Presence {
        let observe = &self.with.observe;
        let headers = match self.headers(&observe.headers) {
            Ok(headers) => headers,
            Err(why) => return Presence::unknown(why),
        };
        let request = self.client.get(&observe.url).timeout(within);
        let answer = match request.headers(headers).send().await {
            Ok(answer) => answer,
            Err(e) => return Presence::unknown(cause::without_repeats(&e)),
        };
        let status = answer.status();
        if !accepts(&observe.status, status) {
            let text = format!("HTTP {status}");
            return match status.as_u16() {
                401 | 403 | 407 | 429 | 500 | 502 | 504 => Presence::unknown(text),
                _ => Presence::absent(text),
            };
        }
        if !observe.body.is_judged() {
            return Presence::in_place(format!("{} answers HTTP {status}", observe.url));
        }
        match observe.body.wrong(&endpoint::body(answer).await) {
            None => Presence::in_place(format!("{} answers HTTP {status} rightly", observe.url)),
            Some(wrong) => Presence::absent(format!("HTTP {status}, but {wrong}")),
        }
    }

    fn headers(&self, with: &BTreeMap<String, HeaderWith>) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        for (name, header) in with {
            let key = HeaderName::try_from(name.as_str())
                .map_err(|_| format!("{name:?} is no header name"))?;
            let value = header
                .read(&*self.secrets)
                .map_err(|e| format!("header {name}: {}", cause::without_repeats(&e)))?;
            headers.insert(key, value);
        }
        Ok(headers)
    }
}

fn accepts(statuses: &[StatusRange], status: StatusCode) -> bool {
    statuses.iter().any(|range| range.contains(status.as_u16()))
}

/// The beginning of what the other side said, without the secrets that it was sent.
fn shown(said: &str, sent: &HeaderMap) -> String {
    let mut text = said.to_owned();
    for value in sent.values().filter(|v| v.is_sensitive()) {
        // A scheme such as `Bearer` stands before the secret.
        for secret in value.to_str().unwrap_or_default().split(' ') {
            if !secret.is_empty() {
                text = text.replace(secret, "***");
            }
        }
    }
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(SHOWN)
        .collect();
    match text.trim() {
        "" => String::new(),
        text => format!(": {text}"),
    }
}
