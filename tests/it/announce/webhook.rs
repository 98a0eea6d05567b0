//! Signed webhooks, against a receiver that believes only its secret.

use failover::{
    driver::registry::kinds,
    model::{announcement::Phase, check::CheckStatus, span::Span},
    port::channel::{Sent, SharedChannel},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{channel, key, notice, secret, to};
use crate::stand::{
    webhook::{Receiver, SECRET, Turn},
    wiring::wiring,
};

struct Stage {
    receiver: Receiver,
    channel: SharedChannel,
    folder: TempDir,
}

async fn stage(signed_with: &str) -> Stage {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let with = json!({
        "url": receiver.url, "secret": secret(folder.path(), "hook", signed_with),
        "allowPrivate": true, "timeout": "1s",
    });
    let channel = channel("announce/webhook", &with, &wiring(folder.path()));
    Stage {
        receiver,
        channel,
        folder,
    }
}

async fn send(stage: &Stage) -> Sent {
    let message = stage.channel.compile(&notice(Phase::OnStandby));
    stage
        .channel
        .send(&message, &to("webhook"), &key("k"))
        .await
}

#[tokio::test]
async fn the_receiver_gets_the_facts_signed() {
    let stage = stage(SECRET).await;
    assert_eq!(send(&stage).await, Sent::Accepted { reference: None });
    let seen = stage.receiver.seen.lock().unwrap();
    assert_eq!(seen.forged, 0);
    let body = &seen.taken[0];
    assert_eq!(body["type"], "announcement");
    assert_eq!(body["data"]["phase"], "onStandby");
    assert_eq!(
        body["data"]["fallbackUrl"],
        "https://shop.standby.example.net/"
    );
    assert_eq!(body["data"]["dataSafety"], Value::Null);
}

#[tokio::test]
async fn a_repeat_has_the_same_id_and_is_taken_once() {
    let stage = stage(SECRET).await;
    stage.receiver.next([
        Turn::Status(500, None),
        Turn::TakenInSilence,
        Turn::Status(502, Some("1")),
        Turn::Status(429, Some("1")),
    ]);
    let message = stage.channel.compile(&notice(Phase::OnStandby));
    let (hook, key) = (to("webhook"), key("k"));
    let mut sent = stage.channel.send(&message, &hook, &key).await;
    for _ in 0..4 {
        assert!(matches!(sent, Sent::Unsure { .. }), "{sent:?}");
        let resumed = stage.channel.resume(&message, &hook, &key).await;
        sent = resumed.unwrap();
    }
    assert_eq!(sent, Sent::Accepted { reference: None });
    let seen = stage.receiver.seen.lock().unwrap();
    assert_eq!(seen.taken.len(), 1);
    assert_eq!(seen.ids.len(), 5);
    assert!(seen.ids.iter().all(|id| *id == seen.ids[0]));
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let stage = stage(SECRET).await;
    stage
        .receiver
        .next([Turn::Status(429, Some("77")), Turn::Status(503, Some("55"))]);
    assert!(
        matches!(send(&stage).await, Sent::Later { after, everyone: true, .. } if after == Span::from_secs(77))
    );
    assert!(
        matches!(send(&stage).await, Sent::Unsure { after, .. } if after == Span::from_secs(55))
    );
}

#[tokio::test]
async fn gone_breaks_the_channel() {
    let stage = stage(SECRET).await;
    stage.receiver.next([Turn::Status(410, None)]);
    let sent = send(&stage).await;
    assert!(
        matches!(&sent, Sent::Broken { reason } if reason.contains("410")),
        "{sent:?}"
    );
}

#[tokio::test]
async fn a_wrong_secret_breaks_the_channel() {
    let other = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
    let stage = stage(other).await;
    assert!(matches!(send(&stage).await, Sent::Broken { .. }));
    assert_eq!(stage.receiver.seen.lock().unwrap().forged, 1);
    secret(stage.folder.path(), "hook", "no secret of the right form");
    let sent = send(&stage).await;
    assert!(
        matches!(&sent, Sent::Broken { reason } if !reason.contains("right form")),
        "{sent:?}"
    );
    let items = stage.channel.check().await;
    assert_eq!(
        (items[0].status, items[1].status),
        (CheckStatus::Fail, CheckStatus::Ok)
    );
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = Receiver::start().await;
    let stage = stage(SECRET).await;
    stage.receiver.next([Turn::Redirect(other.url.clone())]);
    assert!(matches!(send(&stage).await, Sent::Broken { .. }));
    assert!(other.seen.lock().unwrap().ids.is_empty());
}

#[tokio::test]
async fn a_name_that_leads_inside_is_not_connected_to() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let port = receiver.url.rsplit(':').next().unwrap();
    // `localhost` passes the check of documents, because only resolving tells where a name leads.
    let with = json!({
        "url": format!("http://localhost:{port}"), "secret": secret(folder.path(), "hook", SECRET),
    });
    let channel = channel("announce/webhook", &with, &wiring(folder.path()));
    let message = channel.compile(&notice(Phase::OnStandby));
    let sent = channel.send(&message, &to("webhook"), &key("k")).await;
    assert!(
        matches!(&sent, Sent::Broken { reason } if reason.contains("allowPrivate")),
        "{sent:?}"
    );
    assert!(receiver.seen.lock().unwrap().ids.is_empty());
}

#[test]
fn an_inside_address_is_an_error_of_the_document() {
    let kind = kinds().get("announce/webhook").unwrap();
    for url in [
        "https://169.254.169.254/x",
        "https://[::1]/x",
        "http://10.0.0.1/x",
    ] {
        let problems = (kind.check)(&json!({"url": url, "secret": {"env": "X"}}));
        assert!(!problems.is_empty(), "{url}");
    }
}
