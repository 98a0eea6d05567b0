//! Alerts in PagerDuty, against a stand-in that checks events and keeps alerts as PagerDuty does.

use failover::{
    model::{announcement::Phase, check::CheckStatus, page::Severity, span::Span},
    port::channel::{Sent, SharedChannel},
};
use serde_json::json;
use tempfile::TempDir;

use super::{channel, key, ledger, mailing, notice, over, page, secret, tell, to};
use crate::stand::{
    pagerduty::{PagerDuty, ROUTING_KEY, Turn},
    wiring::wiring,
};

struct Stage {
    pagerduty: PagerDuty,
    channel: SharedChannel,
    folder: TempDir,
}

async fn stage() -> Stage {
    with_key(ROUTING_KEY).await
}

async fn with_key(routing_key: &str) -> Stage {
    let folder = tempfile::tempdir().unwrap();
    let pagerduty = PagerDuty::start().await;
    let with = json!({
        "routingKey": secret(folder.path(), "key", routing_key),
        "baseUrl": pagerduty.url, "timeout": "1s",
    });
    let channel = channel("announce/pagerduty", &with, &wiring(folder.path()));
    Stage {
        pagerduty,
        channel,
        folder,
    }
}

async fn send(stage: &Stage, severity: Severity, repeat: u32) -> Sent {
    let message = stage.channel.compile(&page(severity, repeat, "shop-p4"));
    let to = to("pagerduty");
    stage.channel.send(&message, &to, &key("k")).await
}

#[tokio::test]
async fn repeats_of_a_page_are_one_alert() {
    let stage = stage().await;
    for repeat in 0..3 {
        let sent = send(&stage, Severity::Critical, repeat).await;
        assert!(matches!(sent, Sent::Accepted { .. }), "{sent:?}");
    }
    let open = stage.pagerduty.open();
    let events = &open["failover/shop/shop-p4"];
    assert_eq!((open.len(), events.len()), (1, 3));
    assert_eq!(events[0]["event_action"], "trigger");
    let payload = &events[2]["payload"];
    assert_eq!(
        payload["summary"],
        "[critical] shop: Approval needed: fail over to standby"
    );
    assert_eq!(
        (&payload["source"], &payload["class"]),
        (&json!("shop"), &json!("ask"))
    );
    let details = &payload["custom_details"];
    assert_eq!(details["commands"], json!(["failover approve shop-a3"]));
    assert_eq!(details["acknowledge"], "failover ack shop-p4");
    assert_eq!(details["repeat"], 2);
}

#[tokio::test]
async fn the_end_of_a_page_resolves_its_alert_and_no_other() {
    let stage = stage().await;
    assert!(stage.channel.keeps_state());
    for id in ["shop-p4", "shop-p5", ""] {
        for notice in [
            page(Severity::Critical, 0, id),
            page(Severity::Critical, 1, id),
        ] {
            let message = stage.channel.compile(&notice);
            stage
                .channel
                .send(&message, &to("pagerduty"), &key("k"))
                .await;
        }
    }
    assert_eq!(stage.pagerduty.open().len(), 3);
    for (id, left) in [("shop-p4", 2), ("", 1)] {
        let message = stage.channel.compile(&over(Severity::Critical, id));
        let sent = stage
            .channel
            .send(&message, &to("pagerduty"), &key("k"))
            .await;
        assert!(matches!(sent, Sent::Accepted { .. }), "{sent:?}");
        assert_eq!(stage.pagerduty.open().len(), left);
    }
    let open = stage.pagerduty.open();
    assert_eq!(open.keys().collect::<Vec<_>>(), ["failover/shop/shop-p5"]);
}

#[tokio::test]
async fn the_severity_is_the_pages() {
    for (severity, expected) in [
        (Severity::Critical, "critical"),
        (Severity::Warning, "warning"),
        (Severity::Info, "info"),
    ] {
        let stage = stage().await;
        send(&stage, severity, 0).await;
        let open = stage.pagerduty.open();
        let event = &open["failover/shop/shop-p4"][0];
        assert_eq!(event["payload"]["severity"], expected);
    }
}

#[tokio::test]
async fn a_page_that_stands_in_no_journal_is_one_alert_a_topic() {
    let stage = stage().await;
    for repeat in 0..2 {
        let message = stage.channel.compile(&page(Severity::Critical, repeat, ""));
        let sent = stage
            .channel
            .send(&message, &to("pagerduty"), &key("k"))
            .await;
        assert!(matches!(sent, Sent::Accepted { .. }), "{sent:?}");
    }
    let open = stage.pagerduty.open();
    assert_eq!(open.keys().collect::<Vec<_>>(), ["failover/shop/shop-ask"]);
}

#[tokio::test]
async fn the_last_announcement_resolves_the_first() {
    let stage = stage().await;
    for (phase, open) in [
        (Phase::Investigating, 1),
        (Phase::OnStandby, 1),
        (Phase::Recovered, 0),
    ] {
        let message = stage.channel.compile(&notice(phase));
        let sent = stage
            .channel
            .send(&message, &to("pagerduty"), &key("k"))
            .await;
        assert!(matches!(sent, Sent::Accepted { .. }), "{sent:?}");
        assert_eq!(stage.pagerduty.open().len(), open, "{phase}");
    }
}

#[tokio::test]
async fn what_got_no_answer_is_sent_again_and_stays_one_alert() {
    for lost in [
        Turn::TakenInSilence,
        Turn::TakenBehind502,
        Turn::Status(503, Some("1")),
    ] {
        let stage = stage().await;
        stage.pagerduty.next([lost]);
        let ledger = ledger(stage.folder.path());
        let message = stage
            .channel
            .compile(&page(Severity::Warning, 0, "shop-p4"));
        // The ordinary pause would make this test slow: the second try comes by hand.
        let sent = send(&stage, Severity::Warning, 0).await;
        assert!(matches!(sent, Sent::Unsure { .. }), "{sent:?}");
        let resumed = stage
            .channel
            .resume(&message, &to("pagerduty"), &key("k"))
            .await;
        assert!(
            matches!(resumed, Some(Sent::Accepted { .. })),
            "{resumed:?}"
        );
        let outcome = tell(&*stage.channel, &*ledger, &message, &mailing("m1")).await;
        assert_eq!((outcome.tally.sent, outcome.broken), (1, None));
        assert_eq!(stage.pagerduty.open().len(), 1);
    }
}

#[tokio::test]
async fn a_limit_is_waited_out() {
    let stage = stage().await;
    stage
        .pagerduty
        .next([Turn::Status(429, Some("30")), Turn::Status(429, Some("1"))]);
    let limited = send(&stage, Severity::Info, 0).await;
    assert!(
        matches!(limited, Sent::Later { after, everyone: true, .. } if after == Span::from_secs(30)),
        "{limited:?}"
    );
    let ledger = ledger(stage.folder.path());
    let message = stage
        .channel
        .compile(&page(Severity::Warning, 0, "shop-p4"));
    let outcome = tell(&*stage.channel, &*ledger, &message, &mailing("m1")).await;
    assert_eq!((outcome.tally.sent, stage.pagerduty.asked()), (1, 3));
}

#[tokio::test]
async fn a_wrong_key_breaks_the_channel_and_never_shows() {
    let wrong = "fedcba9876543210fedcba9876543210";
    let stage = with_key(wrong).await;
    let sent = send(&stage, Severity::Critical, 0).await;
    assert!(
        matches!(&sent, Sent::Broken { reason } if reason.contains("'routing_key' is invalid") && !reason.contains(wrong)),
        "{sent:?}"
    );
}

#[tokio::test]
async fn a_long_page_fits() {
    let stage = stage().await;
    let mut long = page(Severity::Critical, 0, "shop-p4");
    if let failover::port::channel::Notice::Page { page, .. } = &mut long {
        page.title = "databáze ".repeat(300);
        page.body = vec!["It is down. ".repeat(100_000)];
    }
    let message = stage.channel.compile(&long);
    assert!(message.remarks.contains(&"cut to length".to_owned()));
    let sent = stage
        .channel
        .send(&message, &to("pagerduty"), &key("k"))
        .await;
    assert!(matches!(sent, Sent::Accepted { .. }), "{sent:?}");
}

#[tokio::test]
async fn the_check_raises_no_alert() {
    let right = stage().await;
    let status = |items: Vec<failover::model::check::CheckItem>| -> Vec<CheckStatus> {
        items.iter().map(|i| i.status).collect()
    };
    assert_eq!(
        status(right.channel.check().await),
        [CheckStatus::Ok, CheckStatus::Ok]
    );
    assert_eq!(right.pagerduty.asked(), 0);
    let wrong = with_key("not a key").await;
    assert_eq!(
        status(wrong.channel.check().await),
        [CheckStatus::Fail, CheckStatus::Ok]
    );
}
