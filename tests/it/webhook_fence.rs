//! Fences by signed webhooks: the wire, against a stand-in for a service of the user's own, and the worked example of
//! `examples/webhook-fence`, against a stand-in for the provider.

mod example;

use std::{fs, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use failover::{
    driver::{independence, registry::kinds},
    model::{
        check::{CheckItem, CheckStatus},
        span::Span,
        step::{Presence, Rung, StepResult},
    },
    port::{action::SharedAction, kind::Wiring},
};
use ring::hmac;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use wiremock::{Mock, MockServer, Request, ResponseTemplate, matchers::path};

use crate::stand::{
    host::{ClosedPort, Host},
    webhook::SECRET,
    wiring::{action, service, step, wiring},
};

const LONG: Span = Span::from_secs(30);
const SHORT: Span = Span::from_secs(1);

/// The service of the user's own.
struct Desk {
    folder: TempDir,
    wiring: Wiring,
    service: MockServer,
    with: Value,
}

impl Desk {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let wiring = wiring(folder.path());
        let service = MockServer::start().await;
        let with = settings(&service.uri(), folder.path());
        Self {
            folder,
            wiring,
            service,
            with,
        }
    }

    /// A service that takes every request and sees the old primary in this state.
    async fn seeing(fenced: bool) -> Self {
        let desk = Self::new().await;
        desk.answer("/fence", ResponseTemplate::new(202)).await;
        desk.answer("/undo", ResponseTemplate::new(202)).await;
        desk.answer("/observe", seen(fenced)).await;
        desk
    }

    /// The first of the answers to a route that is not used up counts.
    async fn answer(&self, route: &str, answer: ResponseTemplate) {
        Mock::given(path(route))
            .respond_with(answer)
            .mount(&self.service)
            .await;
    }

    async fn answer_once(&self, route: &str, answer: ResponseTemplate) {
        Mock::given(path(route))
            .respond_with(answer)
            .up_to_n_times(1)
            .mount(&self.service)
            .await;
    }

    fn fence(&self) -> SharedAction {
        action("webhook/fence", &self.with, &self.wiring)
    }

    async fn perform(&self, timeout: Span) -> StepResult {
        self.fence().perform(&step(timeout)).await
    }

    async fn observe(&self) -> Presence {
        self.fence().observe(&step(SHORT)).await
    }

    async fn check(&self) -> CheckItem {
        let step = step(SHORT);
        let mut items = self.fence().check(&step.from, &step.to).await;
        assert_eq!(items.len(), 1);
        items.remove(0)
    }

    /// What was asked at a route, each verified with the key.
    async fn asked(&self, route: &str) -> Vec<Asked> {
        let all = self.service.received_requests().await.unwrap();
        let here = all.iter().filter(|r| r.url.path() == route);
        here.map(Asked::verified).collect()
    }
}

/// A genuine request.
struct Asked {
    id: String,
    body: Value,
}

impl Asked {
    fn verified(request: &Request) -> Self {
        assert_eq!(request.method.as_str(), "POST");
        let get = |name: &str| request.headers[name].to_str().unwrap().to_owned();
        let (id, at, given) = (
            get("webhook-id"),
            get("webhook-timestamp"),
            get("webhook-signature"),
        );
        assert_eq!(get("content-type"), "application/json");
        assert!(!id.contains('.'), "{id}");
        assert_eq!(
            given,
            signature(&id, &at, std::str::from_utf8(&request.body).unwrap())
        );
        Self {
            id,
            body: request.body_json().unwrap(),
        }
    }
}

/// The `webhook-signature` that the key's holder makes.
fn signature(id: &str, at: &str, body: &str) -> String {
    let key = STANDARD.decode(SECRET.trim_start_matches("whsec_"));
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key.unwrap());
    let tag = hmac::sign(&key, format!("{id}.{at}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(tag))
}

/// Settings for a service at this URL, with the key in a file of the folder.
fn settings(url: &str, folder: &Path) -> Value {
    let key = folder.join("key");
    fs::write(&key, SECRET).unwrap();
    json!({
        "url": format!("{url}/fence"),
        "observe": format!("{url}/observe"),
        "undo": format!("{url}/undo"),
        "key": {"file": key},
    })
}

fn seen(fenced: bool) -> ResponseTemplate {
    let body = json!({"fenced": fenced, "summary": "server 7 was looked at"});
    ResponseTemplate::new(200).set_body_json(body)
}

fn is_failed(result: &StepResult) -> bool {
    matches!(result, StepResult::Failed { .. })
}

fn is_indeterminate(result: &StepResult) -> bool {
    matches!(result, StepResult::Indeterminate { .. })
}

#[tokio::test]
async fn it_is_done_once_observe_says_so() {
    let desk = Desk::new().await;
    desk.answer("/fence", ResponseTemplate::new(202)).await;
    desk.answer_once("/observe", seen(false)).await;
    desk.answer_once("/observe", ResponseTemplate::new(503))
        .await;
    desk.answer("/observe", seen(true)).await;
    let result = desk.perform(LONG).await;
    let StepResult::Done(proof) = &result else {
        panic!("{result:?}")
    };
    assert_eq!(proof.rung, Some(Rung::Infrastructure));
    assert_eq!(proof.summary, "the service says: server 7 was looked at");
    assert_eq!(desk.asked("/fence").await.len(), 1);
    let looks = desk.asked("/observe").await;
    assert_eq!(looks.len(), 3);
    // A library that takes each id once must not take a look for a repeat.
    assert!(looks[0].id != looks[1].id && looks[1].id != looks[2].id);

    let Presence::InPlace(proof) = desk.observe().await else {
        panic!("it is fenced")
    };
    assert_eq!(proof.rung, Some(Rung::Infrastructure));
}

#[tokio::test]
async fn the_service_is_told_what_is_asked_and_why() {
    let desk = Desk::seeing(true).await;
    desk.perform(LONG).await;
    desk.perform(LONG).await;
    let fence = desk.asked("/fence").await;
    assert_eq!(fence[0].id, fence[1].id, "a repeat is told by its id");
    let body = &fence[0].body;
    for (field, value) in [
        ("action", json!("fence")),
        ("service", json!("shop")),
        ("run", json!("shop-r7")),
        ("step", json!("step")),
        ("attempt", json!(1)),
        ("epoch", json!(2)),
        ("key", json!("shop-r7.step.e2")),
    ] {
        assert_eq!(body[field], value, "{field}");
    }
    assert_eq!(body["from"]["name"], "a");
    assert_eq!(body["from"]["addresses"], json!(["192.0.2.1"]));
    assert_eq!(body["to"]["name"], "b");
    let looks = desk.asked("/observe").await;
    assert!(looks.iter().all(|l| l.body["action"] == "observe"));
    assert!(looks.iter().all(|l| l.body["key"] == "shop-r7.step.e2"));

    let desk = Desk::seeing(false).await;
    let undone = desk.fence().undo(&step(LONG)).await;
    assert!(matches!(undone, Some(StepResult::Done(_))), "{undone:?}");
    let undo = desk.asked("/undo").await;
    assert_eq!(undo[0].body["action"], "undo");
    assert_ne!(undo[0].id, fence[0].id);
}

#[tokio::test]
async fn a_refusal_fails_and_a_doubt_does_not() {
    for (status, fails) in [
        (400, true),
        (401, true),
        (403, true),
        (404, true),
        (422, true),
        (302, false),
        (408, false),
        (409, false),
        (425, false),
        (429, false),
        (500, false),
        (503, false),
    ] {
        let desk = Desk::new().await;
        desk.answer(
            "/fence",
            ResponseTemplate::new(status).set_body_string("no\nway"),
        )
        .await;
        desk.answer("/observe", seen(false)).await;
        let result = desk.perform(SHORT).await;
        assert_eq!(is_failed(&result), fails, "{status}: {result:?}");
        assert_eq!(is_indeterminate(&result), !fails, "{status}: {result:?}");
        assert!(format!("{result:?}").contains("no way"), "{result:?}");

        // Whatever it answers: what counts is whether it is fenced.
        let desk = Desk::new().await;
        desk.answer("/fence", ResponseTemplate::new(status)).await;
        desk.answer("/observe", seen(true)).await;
        let result = desk.perform(SHORT).await;
        assert!(
            matches!(result, StepResult::Done(_)),
            "{status}: {result:?}"
        );
    }
}

#[tokio::test]
async fn what_was_in_doubt_once_is_never_failed() {
    let desk = Desk::new().await;
    desk.answer_once("/fence", ResponseTemplate::new(502)).await;
    desk.answer("/fence", ResponseTemplate::new(403)).await;
    desk.answer("/observe", seen(false)).await;
    let result = desk.perform(Span::from_secs(4)).await;
    assert!(is_indeterminate(&result), "{result:?}");
    let asked = desk.asked("/fence").await;
    assert!(asked.len() > 1 && asked.iter().all(|a| a.id == asked[0].id));
}

#[tokio::test]
async fn it_is_asked_again_until_it_takes_the_request() {
    let desk = Desk::new().await;
    desk.answer_once("/fence", ResponseTemplate::new(429)).await;
    desk.answer("/fence", ResponseTemplate::new(200)).await;
    desk.answer_once("/observe", seen(false)).await;
    desk.answer_once("/observe", seen(false)).await;
    desk.answer("/observe", seen(true)).await;
    let result = desk.perform(LONG).await;
    assert!(matches!(result, StepResult::Done(_)), "{result:?}");
    assert_eq!(desk.asked("/fence").await.len(), 2);
}

#[tokio::test]
async fn no_answer_is_a_doubt_and_no_way_to_ask_a_failure() {
    let late = ResponseTemplate::new(200).set_delay(LONG.to_std());
    let desk = Desk::new().await;
    desk.answer("/fence", late.clone()).await;
    desk.answer("/observe", seen(false)).await;
    let result = desk.perform(SHORT).await;
    assert!(is_indeterminate(&result), "{result:?}");
    // Half of the time is left for looking.
    let desk = Desk::new().await;
    desk.answer("/fence", late).await;
    desk.answer("/observe", seen(true)).await;
    let result = desk.perform(SHORT).await;
    assert!(matches!(result, StepResult::Done(_)), "{result:?}");

    // It reads the request and goes away.
    let gone = Host::serving(|mut stream| async move {
        let mut sink = [0; 64];
        let _ = stream.read(&mut sink).await;
    })
    .await;
    let mut desk = Desk::seeing(false).await;
    desk.with["url"] = json!(gone.url());
    let result = desk.perform(SHORT).await;
    assert!(is_indeterminate(&result), "{result:?}");

    let closed = ClosedPort::new();
    desk.with["url"] = json!(format!("http://{}/?code=t0ken", closed.address));
    let result = desk.perform(SHORT).await;
    assert!(is_failed(&result), "{result:?}");
    assert!(!format!("{result:?}").contains("t0ken"), "{result:?}");

    fs::remove_file(desk.folder.path().join("key")).unwrap();
    let result = desk.perform(SHORT).await;
    assert!(is_failed(&result), "{result:?}");
    fs::write(desk.folder.path().join("key"), "s3cret of another form").unwrap();
    let result = desk.perform(SHORT).await;
    assert!(is_failed(&result), "{result:?}");
    assert!(!format!("{result:?}").contains("s3cret"), "{result:?}");
    assert_eq!(desk.asked("/fence").await.len(), 0);
}

#[tokio::test]
async fn anything_but_the_two_answers_tells_nothing() {
    let right = json!({"fenced": true, "summary": "off"});
    let status = ResponseTemplate::new;
    let long = format!(
        "{{\"fenced\": true, \"summary\": \"{}\"}}",
        "x".repeat(70_000)
    );
    let elsewhere = Desk::seeing(true).await;
    for answer in [
        status(200).set_body_string(""),
        status(200).set_body_string("<html>fenced</html>"),
        status(200).set_body_json(json!({"fenced": true})),
        status(200).set_body_json(json!({"fenced": "yes", "summary": "off"})),
        status(200).set_body_json(json!([right])),
        status(200).set_body_string(long),
        status(201).set_body_json(&right),
        status(204),
        status(307).insert_header("location", format!("{}/observe", elsewhere.service.uri())),
        status(401).set_body_json(&right),
        status(404).set_body_json(&right),
        status(500).set_body_json(&right),
        status(200).set_body_json(&right).set_delay(LONG.to_std()),
    ] {
        let desk = Desk::new().await;
        desk.answer("/fence", status(200)).await;
        desk.answer("/observe", answer.clone()).await;
        let presence = desk.observe().await;
        assert!(
            matches!(presence, Presence::Unknown { .. }),
            "{answer:?}: {presence:?}"
        );
        let result = desk.perform(SHORT).await;
        assert!(is_indeterminate(&result), "{answer:?}: {result:?}");
    }
    assert!(elsewhere.asked("/observe").await.is_empty());
    let presence = Desk::seeing(false).await.observe().await;
    assert!(matches!(presence, Presence::Absent { .. }), "{presence:?}");
}

#[tokio::test]
async fn taking_it_back_is_seen_too() {
    let desk = Desk::seeing(true).await;
    let undone = desk.fence().undo(&step(SHORT)).await.unwrap();
    assert!(is_indeterminate(&undone), "{undone:?}");
    let mut desk = Desk::seeing(false).await;
    desk.with.as_object_mut().unwrap().remove("undo");
    let undone = desk.fence().undo(&step(SHORT)).await.unwrap();
    assert!(is_failed(&undone), "{undone:?}");
}

#[tokio::test]
async fn check_wants_an_observe_that_says_no() {
    let html = ResponseTemplate::new(200).set_body_string("<html>");
    for (answer, status, fix) in [
        (seen(false), CheckStatus::Ok, ""),
        (seen(true), CheckStatus::Warn, "while the primary runs"),
        (
            ResponseTemplate::new(401),
            CheckStatus::Fail,
            "the same key",
        ),
        (
            ResponseTemplate::new(403),
            CheckStatus::Fail,
            "the same key",
        ),
        (ResponseTemplate::new(404), CheckStatus::Fail, "POST"),
        (ResponseTemplate::new(308), CheckStatus::Fail, "redirects"),
        (ResponseTemplate::new(500), CheckStatus::Fail, "log"),
        (html, CheckStatus::Fail, "\"fenced\": false"),
    ] {
        let desk = Desk::new().await;
        desk.answer("/observe", answer).await;
        let item = desk.check().await;
        assert_eq!(item.status, status, "{item:?}");
        assert!(
            item.fix.as_deref().unwrap_or_default().contains(fix),
            "{item:?}"
        );
        assert!(desk.asked("/fence").await.is_empty());
        let asked = &desk.asked("/observe").await[0].body;
        assert_eq!(asked["action"], "observe");
        assert_eq!(asked["run"], Value::Null);
    }
    let desk = Desk::seeing(false).await;
    fs::write(desk.folder.path().join("key"), "whsec_c2hvcnQ=").unwrap();
    let item = desk.check().await;
    assert_eq!(item.status, CheckStatus::Fail, "{item:?}");
    assert!(!format!("{item:?}").contains("c2hvcnQ"), "{item:?}");
    assert!(desk.asked("/observe").await.is_empty());
}

#[tokio::test]
async fn the_service_must_not_stand_at_the_primary() {
    let mut service = service();
    for site in &mut service.sites {
        site.url = None;
    }
    for (host, depends) in [("192.0.2.1", true), ("198.51.100.7", false)] {
        let url = format!("https://{host}/");
        let plan = json!({
            "service": "shop", "kind": "failover", "runbook": "shop", "from": "a", "to": "b",
            "fencing": "infrastructure", "config": "0",
            "steps": [{
                "id": "stop", "name": "Stop", "phase": "fence", "needs": [], "timeout": "1m",
                "action": {"adapter": {
                    "uses": "webhook/fence",
                    "with": {"url": url, "observe": url, "key": {"env": "K"}},
                }},
                "retry": {}, "onFailure": "stop",
            }],
        });
        let plan = serde_json::from_value(plan).unwrap();
        let items = independence::check(&service, kinds(), &plan).await;
        let failed = items.iter().any(|i| i.status == CheckStatus::Fail);
        assert_eq!(failed, depends, "{items:?}");
        assert_eq!(items.len(), 1, "{items:?}");
    }
}

#[test]
fn what_cannot_work_is_found_before() {
    let kind = kinds().get("webhook/fence").unwrap();
    assert_eq!(kind.rung, Some(Rung::Infrastructure));
    let with = json!({
        "url": "http://fence.example.net/", "observe": "https://u:p@h/", "undo": "ftp://h/",
        "key": {"env": "K"},
    });
    let paths: Vec<_> = (kind.check)(&with).into_iter().map(|p| p.path).collect();
    assert_eq!(paths, ["url", "observe", "undo"]);
    let with = json!({"url": "https://a.example/", "observe": "https://a.example/o"});
    assert_eq!((kind.check)(&with).len(), 1, "a key is compulsory");
    let with = json!({
        "url": "https://a.example/", "observe": "https://[2001:db8::1]:8/",
        "undo": "https://a.example/undo", "key": {"env": "K"},
    });
    assert_eq!((kind.hosts)(&with), ["2001:db8::1", "a.example"]);
}
