//! Promotion over HTTP, against a stand-in for a standby's own service.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use failover::{
    driver::registry::kinds,
    model::{
        check::CheckStatus,
        span::Span,
        step::{Presence, StepResult},
    },
    port::kind::Wiring,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use wiremock::{
    Mock, MockServer, Request, ResponseTemplate,
    matchers::{body_partial_json, header, method, path},
};

use crate::stand::wiring::{action, step, wiring};

const LONG: Span = Span::from_secs(30);
const SHORT: Span = Span::from_secs(1);

struct Desk {
    _folder: TempDir,
    wiring: Wiring,
    standby: MockServer,
    with: Value,
}

impl Desk {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("token"), "s3cret").unwrap();
        let wiring = wiring(folder.path());
        let standby = MockServer::start().await;
        let token = json!({"secret": {"file": folder.path().join("token")}, "prefix": "Bearer "});
        let with = json!({
            "url": format!("{}/promote", standby.uri()),
            "headers": {"Authorization": token},
            "observe": {
                "url": format!("{}/primary", standby.uri()),
                "headers": {"Authorization": token},
                "status": [200],
                "body": {"contains": ["leader"]},
            },
        });
        Self {
            _folder: folder,
            wiring,
            standby,
            with,
        }
    }

    async fn answer(&self, route: &str, answer: ResponseTemplate) {
        Mock::given(path(route))
            .respond_with(answer)
            .mount(&self.standby)
            .await;
    }

    async fn perform(&self, timeout: Span) -> StepResult {
        action("http/promote", &self.with, &self.wiring)
            .perform(&step(timeout))
            .await
    }

    async fn observe(&self) -> Presence {
        action("http/promote", &self.with, &self.wiring)
            .observe(&step(SHORT))
            .await
    }
}

#[tokio::test]
async fn it_asks_once_and_looks_until_it_is_so() {
    let desk = Desk::new().await;
    Mock::given(method("POST"))
        .and(path("/promote"))
        .and(header("authorization", "Bearer s3cret"))
        .and(header("idempotency-key", "shop-r7.step.e2"))
        .and(body_partial_json(
            json!({"service": "shop", "epoch": 2, "to": {"name": "b"}}),
        ))
        .respond_with(ResponseTemplate::new(202))
        .expect(1)
        .mount(&desk.standby)
        .await;
    let looks = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&looks);
    Mock::given(method("GET"))
        .and(path("/primary"))
        .and(header("authorization", "Bearer s3cret"))
        .respond_with(
            move |_: &Request| match seen.fetch_add(1, Ordering::SeqCst) {
                0 => ResponseTemplate::new(503),
                1 => ResponseTemplate::new(200).set_body_string("replica"),
                _ => ResponseTemplate::new(200).set_body_string("leader"),
            },
        )
        .mount(&desk.standby)
        .await;
    let result = desk.perform(LONG).await;
    assert!(matches!(result, StepResult::Done(_)), "{result:?}");
    assert_eq!(looks.load(Ordering::SeqCst), 3);
    assert!(matches!(desk.observe().await, Presence::InPlace(_)));
}

#[tokio::test]
async fn a_refusal_fails_and_a_lost_answer_does_not() {
    for (status, expected) in [
        (400, true),
        (401, true),
        (409, true),
        (302, true),
        (500, false),
        (503, false),
    ] {
        let desk = Desk::new().await;
        let answer = ResponseTemplate::new(status).set_body_string("I got Bearer s3cret");
        desk.answer("/promote", answer).await;
        let result = desk.perform(LONG).await;
        let failed = matches!(result, StepResult::Failed { .. });
        assert_eq!(failed, expected, "{status}: {result:?}");
        assert!(!format!("{result:?}").contains("s3cret"), "{result:?}");
        assert!(!matches!(result, StepResult::Done(_)), "{result:?}");
    }
    let desk = Desk::new().await;
    let late = ResponseTemplate::new(200).set_delay(LONG.to_std());
    desk.answer("/promote", late).await;
    let result = desk.perform(SHORT).await;
    assert!(
        matches!(result, StepResult::Indeterminate { .. }),
        "{result:?}"
    );

    let mut desk = Desk::new().await;
    desk.with["url"] = json!("http://127.0.0.1:1/promote");
    let result = desk.perform(SHORT).await;
    assert!(matches!(result, StepResult::Failed { .. }), "{result:?}");

    let desk = Desk::new().await;
    desk.answer("/promote", ResponseTemplate::new(200)).await;
    desk.answer("/primary", ResponseTemplate::new(503)).await;
    let result = desk.perform(SHORT).await;
    assert!(
        matches!(result, StepResult::Indeterminate { .. }),
        "{result:?}"
    );
}

#[tokio::test]
async fn observe_tells_no_from_cannot_tell() {
    for (status, expected) in [
        (200, "absent"),
        (404, "absent"),
        (503, "absent"),
        (401, "unknown"),
        (502, "unknown"),
    ] {
        let desk = Desk::new().await;
        desk.answer("/primary", ResponseTemplate::new(status)).await;
        let presence = desk.observe().await;
        let found = match &presence {
            Presence::InPlace(_) => "in place",
            Presence::Absent { .. } => "absent",
            Presence::Unknown { .. } => "unknown",
        };
        assert_eq!(found, expected, "{status}: {presence:?}");
        let step = step(LONG);
        let items = action("http/promote", &desk.with, &desk.wiring)
            .check(&step.from, &step.to)
            .await;
        let ok = items[0].status == CheckStatus::Ok;
        assert_eq!(ok, expected == "absent", "{status}: {items:?}");
        let asked = desk.standby.received_requests().await.unwrap();
        assert!(asked.iter().all(|r| r.method.as_str() == "GET"));
    }
    let desk = Desk::new().await;
    desk.answer(
        "/primary",
        ResponseTemplate::new(200).set_body_string("leader"),
    )
    .await;
    let step = step(LONG);
    let items = action("http/promote", &desk.with, &desk.wiring)
        .check(&step.from, &step.to)
        .await;
    assert_eq!(items[0].status, CheckStatus::Fail, "{items:?}");
}

#[test]
fn what_cannot_work_is_found_before() {
    let kind = kinds().get("http/promote").unwrap();
    let with = json!({
        "url": "ftp://u:p@h/",
        "headers": {"idempotency-KEY": {"value": "x"}, "A": {}},
        "status": [],
        "observe": {"url": "standby"},
    });
    let paths: Vec<_> = (kind.check)(&with).into_iter().map(|p| p.path).collect();
    assert_eq!(
        paths,
        [
            "url",
            "url",
            "observe.url",
            "headers.A",
            "headers.idempotency-KEY",
            "status"
        ]
    );
    let with = json!({"url": "https://a.example/", "observe": {"url": "https://[::1]:8/"}});
    assert_eq!((kind.hosts)(&with), ["a.example", "::1"]);
}
