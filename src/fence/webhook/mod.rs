//! `webhook/fence`: asks a service of the user's own to stop the old primary, by signed requests, and looks until that
//! service says that it is stopped.
//!
//! Every request is a POST of JSON, signed as Standard Webhooks has it. The body's `action` says what is asked, so that
//! a request to look cannot be replayed as one to fence. Only what `observe` says counts as proof.

mod request;
mod with;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use reqwest::Response;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use request::{AskError, Request, Wish};
use with::WebhookWith;

use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        plan::StepPhase,
        site::Site,
        step::{Presence, Proof, Rung, StepResult},
    },
    port::{
        action::{Action, SharedAction, StepContext},
        endpoint,
        kind::{Kind, Make, MakeError, Wiring, read},
        webhook::Key,
    },
};

/// Time between two looks while the effect is not seen yet: a cloud takes a while to stop an instance.
const AGAIN: Duration = Duration::from_secs(1);
/// Longest time before a service that did not take the request is asked again.
const LONGEST: Duration = Duration::from_secs(8);
/// How long a look may take.
const LOOK: Duration = Duration::from_secs(10);

/// `webhook/fence`.
pub const KIND: Kind = Kind::new::<WebhookWith>(
    "webhook/fence",
    "asks a service of yours to stop the old primary; proved once its `observe` says that it is stopped",
    "url: https://fence.example.net/fence\n\
     observe: https://fence.example.net/observe\n\
     undo: https://fence.example.net/undo\n\
     key: {env: FENCE_KEY}\n",
    Make::Action(make),
)
.in_phase(StepPhase::Fence)
.reaching(Rung::Infrastructure);

fn make(with: &Value, wiring: &Wiring) -> Result<SharedAction, MakeError> {
    Ok(Arc::new(WebhookFence {
        with: read(with)?,
        wiring: wiring.clone(),
    }))
}

struct WebhookFence {
    with: WebhookWith,
    wiring: Wiring,
}

/// What the service says when it is asked to look.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    fenced: bool,
    summary: String,
}

/// What the service says when it is asked for something.
enum Reply {
    /// It took the request.
    Taken,
    /// It did not, and has done nothing.
    Refused(String),
    /// It may or may not have done it.
    Unclear(String),
}

#[async_trait]
impl Action for WebhookFence {
    async fn perform(&self, step: &StepContext) -> StepResult {
        self.pursue(Wish::Fence, &self.with.url, step).await
    }

    async fn observe(&self, step: &StepContext) -> Presence {
        self.presence(step, step.limit()).await
    }

    async fn undo(&self, step: &StepContext) -> Option<StepResult> {
        Some(match &self.with.undo {
            Some(url) => self.pursue(Wish::Undo, url, step).await,
            None => StepResult::failed("no `undo` is set"),
        })
    }

    async fn check(&self, from: &Site, to: &Site) -> Vec<CheckItem> {
        let name = "fence/webhook";
        let request = Request::of_check(&self.wiring.service.name, from, to, LOOK);
        vec![match self.look(&request, LOOK).await {
            Ok(seen) if seen.fenced => CheckItem::bad(
                name,
                CheckStatus::Warn,
                format!(
                    "observe says that it is fenced although no run is under way ({})",
                    seen.told()
                ),
                "let observe answer false while the primary runs, or a failover will take nothing for a success",
            ),
            Ok(seen) => CheckItem::ok(
                name,
                format!(
                    "observe takes signed requests and says: not fenced ({})",
                    seen.told()
                ),
            ),
            Err(e) => CheckItem::bad(
                name,
                e.check_status(),
                format!("observe cannot tell ({})", e.told()),
                e.fix(),
            ),
        }]
    }
}

impl WebhookFence {
    /// Asks until the service takes it, and looks until it is so. A repeat has the same id, which tells the service
    /// that it is one.
    async fn pursue(&self, wish: Wish, url: &str, step: &StepContext) -> StepResult {
        let deadline = Instant::now() + step.limit();
        let left = || deadline.saturating_duration_since(Instant::now());
        let mut pause = AGAIN;
        let mut doubt = false;
        // What is not answered in half of the time is looked for in the other half.
        let mut reply = self.ask(wish, url, step, left() / 2).await;
        loop {
            let seen = match settled(wish, self.presence(step, left().min(LOOK)).await) {
                Ok(result) => return result,
                Err(seen) => seen,
            };
            let said = match &reply {
                Reply::Taken => "the service took the request".to_owned(),
                Reply::Refused(why) if doubt => why.clone(),
                Reply::Refused(why) => return StepResult::failed(why),
                Reply::Unclear(why) => {
                    doubt = true;
                    why.clone()
                }
            };
            if left() <= pause {
                return StepResult::indeterminate(format!("{said}, but {seen}"));
            }
            sleep(pause).await;
            if !matches!(reply, Reply::Taken) {
                pause = (pause * 2).min(LONGEST);
                reply = self.ask(wish, url, step, left() / 2).await;
                if matches!(reply, Reply::Taken) {
                    pause = AGAIN;
                }
            }
        }
    }

    async fn ask(&self, wish: Wish, url: &str, step: &StepContext, within: Duration) -> Reply {
        let request = Request::of_step(wish, step);
        let answered = async {
            let answer = self.send(url, &request, within).await?;
            if answer.status().is_success() {
                Ok(())
            } else {
                Err(refused(answer).await)
            }
        };
        match answered.await {
            Ok(()) => Reply::Taken,
            Err(e) if e.is_refusal() => Reply::Refused(e.told()),
            Err(e) => Reply::Unclear(e.told()),
        }
    }

    async fn presence(&self, step: &StepContext, within: Duration) -> Presence {
        let request = Request::of_step(Wish::Observe, step);
        match self.look(&request, within).await {
            Ok(seen) if seen.fenced => {
                Presence::InPlace(Proof::new(seen.told()).reaching(Rung::Infrastructure))
            }
            Ok(seen) => Presence::absent(seen.told()),
            Err(e) => Presence::unknown(e.told()),
        }
    }

    async fn look(&self, request: &Request, within: Duration) -> Result<Seen, AskError> {
        let answer = self.send(&self.with.observe, request, within).await?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(refused(answer).await);
        }
        serde_json::from_slice(&endpoint::body(answer).await).map_err(AskError::Shape)
    }

    async fn send(
        &self,
        url: &str,
        request: &Request,
        within: Duration,
    ) -> Result<Response, AskError> {
        let secret = self.wiring.secrets.read(&self.with.key);
        let key = Key::read(&secret.map_err(AskError::Key)?).ok_or(AskError::KeyShape)?;
        let headers = request.headers(&key, self.wiring.runtime.wall());
        let sent = self
            .wiring
            .http
            .post(url)
            .timeout(within)
            .headers(headers)
            .body(request.body.clone())
            .send()
            .await;
        // Some services are reached by a URL that holds a token.
        sent.map_err(|e| AskError::of(e.without_url()))
    }
}

/// What the step came to, or what was seen instead.
fn settled(wish: Wish, presence: Presence) -> Result<StepResult, String> {
    match (wish, presence) {
        (Wish::Undo, Presence::Absent { reason }) => Ok(StepResult::done(reason)),
        (Wish::Undo, Presence::InPlace(proof)) => {
            Err(format!("observe sees it fenced ({})", proof.summary))
        }
        (Wish::Fence | Wish::Observe, Presence::InPlace(proof)) => Ok(StepResult::Done(proof)),
        (Wish::Fence | Wish::Observe, Presence::Absent { reason }) => {
            Err(format!("observe does not see it fenced yet ({reason})"))
        }
        (_, Presence::Unknown { reason }) => Err(format!("observe cannot tell ({reason})")),
    }
}

async fn refused(answer: Response) -> AskError {
    AskError::Status {
        status: answer.status(),
        said: String::from_utf8_lossy(&endpoint::body(answer).await).into_owned(),
    }
}

impl Seen {
    fn told(&self) -> String {
        match request::clipped(&self.summary).as_str() {
            "" => "the service says so".to_owned(),
            summary => format!("the service says: {summary}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_words_are_an_answer() {
        let read = serde_json::from_str::<Seen>;
        assert!(
            read(r#"{"fenced": true, "summary": "off"}"#)
                .unwrap()
                .fenced
        );
        for bad in [
            "",
            "true",
            "{}",
            r#"{"fenced": true}"#,
            r#"{"fenced": "true", "summary": "off"}"#,
            r#"{"fenced": 1, "summary": "off"}"#,
            r#"{"fenced": null, "summary": "off"}"#,
            r#"{"fenced": true, "summary": "off", "error": "no"}"#,
            r#"{"fenced": false, "fenced": true, "summary": "off"}"#,
            r#"{"fenced": true, "summary": "off"} {}"#,
            r#"{"fenced": true, "summary": "of"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn taking_back_is_done_once_it_is_not_fenced() {
        let absent = || Presence::absent("it runs");
        assert_eq!(
            settled(Wish::Undo, absent()),
            Ok(StepResult::done("it runs"))
        );
        assert!(settled(Wish::Fence, absent()).is_err());
        assert!(settled(Wish::Undo, Presence::in_place("off")).is_err());
        for wish in [Wish::Undo, Wish::Fence] {
            assert!(settled(wish, Presence::unknown("HTTP 500")).is_err());
        }
    }
}
