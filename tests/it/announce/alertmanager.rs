//! Alerts in Alertmanager, against a stand-in that checks and keeps them as Alertmanager does.

use base64::{Engine, engine::general_purpose::STANDARD};
use failover::{
    model::{announcement::Phase, check::CheckStatus, page::Severity, span::Span, time::Time},
    port::channel::{Notice, Sent, SharedChannel},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{channel, key, ledger, mailing, notice, over, page, secret, tell, to};
use crate::stand::{
    alertmanager::{Alertmanager, Turn},
    wiring::wiring,
};

fn made(folder: &TempDir, members: &[&Alertmanager], more: &Value) -> SharedChannel {
    let urls: Vec<&str> = members.iter().map(|m| m.url.as_str()).collect();
    let mut with = json!({"urls": urls, "timeout": "1s"});
    for (name, value) in more.as_object().unwrap() {
        with[name] = value.clone();
    }
    channel("announce/alertmanager", &with, &wiring(folder.path()))
}

struct Stage {
    alertmanager: Alertmanager,
    channel: SharedChannel,
    folder: TempDir,
}

async fn stage() -> Stage {
    let folder = tempfile::tempdir().unwrap();
    let alertmanager = Alertmanager::start(None).await;
    let channel = made(&folder, &[&alertmanager], &json!({}));
    Stage {
        alertmanager,
        channel,
        folder,
    }
}

async fn send(stage: &Stage, notice: &Notice) -> Sent {
    let message = stage.channel.compile(notice);
    let to = to(&stage.alertmanager.url);
    stage.channel.send(&message, &to, &key("k")).await
}

#[tokio::test]
async fn repeats_of_a_page_are_one_alert_with_an_end_that_moves() {
    let stage = stage().await;
    let mut ends = Time::default();
    let mut starts = None;
    for repeat in 0..3 {
        let sent = send(&stage, &page(Severity::Critical, repeat, "shop-p4")).await;
        assert_eq!(sent, Sent::Accepted { reference: None });
        let alerts = stage.alertmanager.alerts();
        assert_eq!(alerts.len(), 1);
        let first = *starts.get_or_insert(alerts[0].starts);
        // Three times the 5 minutes after which the page is repeated.
        assert!(alerts[0].ends.since(first) >= Span::from_secs(900));
        assert!(alerts[0].ends >= ends);
        assert_eq!(alerts[0].starts, first);
        ends = alerts[0].ends;
    }
    let alert = &stage.alertmanager.alerts()[0];
    let labels: Vec<(&str, &str)> = alert
        .labels
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        labels,
        [
            ("alertname", "FailoverAsk"),
            ("page", "shop-p4"),
            ("service", "shop"),
            ("severity", "critical"),
        ]
    );
    assert_eq!(alert.annotations["acknowledge"], "failover ack shop-p4");
    assert_eq!(alert.annotations["commands"], "failover approve shop-a3");
    assert_eq!(alert.annotations["repeat"], "2");
}

#[tokio::test]
async fn the_last_announcement_ends_the_alert() {
    let stage = stage().await;
    for phase in [Phase::Investigating, Phase::Recovered] {
        let sent = send(&stage, &notice(phase)).await;
        assert_eq!(sent, Sent::Accepted { reference: None });
        let alerts = stage.alertmanager.alerts();
        assert_eq!(alerts.len(), 1);
        let lasts = alerts[0].ends.since(alerts[0].starts);
        assert_eq!(lasts >= Span::from_secs(900), phase == Phase::Investigating);
    }
}

#[tokio::test]
async fn the_end_of_a_page_ends_its_alert_at_once() {
    let stage = stage().await;
    assert!(stage.channel.keeps_state());
    send(&stage, &page(Severity::Critical, 0, "shop-p4")).await;
    let before = stage.alertmanager.alerts();
    let sent = send(&stage, &over(Severity::Critical, "shop-p4")).await;
    assert_eq!(sent, Sent::Accepted { reference: None });
    let after = stage.alertmanager.alerts();
    assert_eq!((before.len(), after.len()), (1, 1));
    assert!(after[0].ends < before[0].ends);
    assert!(after[0].ends.since(after[0].starts) < Span::from_secs(60));
}

#[tokio::test]
async fn a_warning_lasts_until_it_is_sent_again() {
    let stage = stage().await;
    send(&stage, &page(Severity::Warning, 0, "shop-p4")).await;
    let alert = &stage.alertmanager.alerts()[0];
    // Six times less often than what somebody must act on now.
    assert!(alert.ends.since(alert.starts) >= Span::from_secs(3 * 6 * 300));
}

#[tokio::test]
async fn a_page_that_stands_in_no_journal_has_no_empty_label() {
    let stage = stage().await;
    let sent = send(&stage, &page(Severity::Critical, 0, "")).await;
    assert_eq!(sent, Sent::Accepted { reference: None });
    let alert = &stage.alertmanager.alerts()[0];
    assert!(!alert.labels.contains_key("page"));
    assert!(!alert.annotations.contains_key("acknowledge"));
}

#[tokio::test]
async fn a_credential_is_sent_and_a_wrong_one_never_shows() {
    let basic = format!("Basic {}", STANDARD.encode("failover:pass-word"));
    for (asked, kind) in [("Bearer a-token", "bearer"), (basic.as_str(), "basic")] {
        let folder = tempfile::tempdir().unwrap();
        let alertmanager = Alertmanager::start(Some(asked)).await;
        let with = |value: &str| {
            let secret = secret(folder.path(), "credential", value);
            if kind == "bearer" {
                json!({"bearerToken": secret})
            } else {
                json!({"username": "failover", "password": secret})
            }
        };
        let right = if kind == "bearer" {
            "a-token"
        } else {
            "pass-word"
        };
        for (value, works) in [(right, true), ("something-else", false)] {
            let channel = made(&folder, &[&alertmanager], &with(value));
            let items = channel.check().await;
            let message = channel.compile(&page(Severity::Warning, 0, "shop-p4"));
            let sent = channel
                .send(&message, &to(&alertmanager.url), &key("k"))
                .await;
            assert_eq!(items[0].status == CheckStatus::Ok, works, "{items:?}");
            assert_eq!(matches!(sent, Sent::Accepted { .. }), works, "{sent:?}");
            assert!(works || matches!(sent, Sent::Broken { .. }), "{sent:?}");
            assert!(!format!("{items:?} {sent:?}").contains(value));
        }
    }
}

#[tokio::test]
async fn what_got_no_answer_is_sent_again_and_stays_one_alert() {
    let stage = stage().await;
    stage
        .alertmanager
        .next([Turn::TakenInSilence, Turn::Status(503, None)]);
    let notice = page(Severity::Warning, 0, "shop-p4");
    for _ in 0..2 {
        let sent = send(&stage, &notice).await;
        assert!(matches!(sent, Sent::Unsure { .. }), "{sent:?}");
    }
    let message = stage.channel.compile(&notice);
    let at = to(&stage.alertmanager.url);
    let resumed = stage.channel.resume(&message, &at, &key("k")).await;
    assert_eq!(resumed, Some(Sent::Accepted { reference: None }));
    assert_eq!(stage.alertmanager.alerts().len(), 1);
}

#[tokio::test]
async fn a_limit_is_waited_out() {
    let stage = stage().await;
    stage
        .alertmanager
        .next([Turn::Status(429, Some("30")), Turn::Status(429, Some("1"))]);
    let notice = page(Severity::Warning, 0, "shop-p4");
    let limited = send(&stage, &notice).await;
    assert!(
        matches!(limited, Sent::Later { after, everyone: true, .. } if after == Span::from_secs(30)),
        "{limited:?}"
    );
    let ledger = ledger(stage.folder.path());
    let message = stage.channel.compile(&notice);
    let outcome = tell(&*stage.channel, &*ledger, &message, &mailing("m1")).await;
    assert_eq!((outcome.tally.sent, stage.alertmanager.asked()), (1, 3));
}

#[tokio::test]
async fn one_member_that_refuses_does_not_silence_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let right = Alertmanager::start(None).await;
    let wrong = Alertmanager::start(Some("Bearer x")).await;
    let channel = made(
        &folder,
        &[&wrong, &right],
        &json!({"labels": {"environment": "a\nb"}}),
    );
    let message = channel.compile(&page(Severity::Critical, 0, "shop-p4"));
    let ledger = ledger(folder.path());
    let outcome = tell(&*channel, &*ledger, &message, &mailing("m1")).await;
    assert_eq!((outcome.tally.sent, outcome.tally.failed), (1, 1));
    assert_eq!(right.alerts()[0].labels["environment"], "a b");
    let status: Vec<CheckStatus> = channel.check().await.iter().map(|i| i.status).collect();
    assert_eq!(status, [CheckStatus::Fail, CheckStatus::Ok]);
}

#[tokio::test]
async fn the_check_raises_no_alert() {
    let stage = stage().await;
    let items = stage.channel.check().await;
    assert_eq!((items.len(), items[0].status), (1, CheckStatus::Ok));
    assert_eq!(items[0].detail, "Alertmanager 0.28.1");
    assert_eq!(stage.alertmanager.asked(), 0);
    // An alert that ends between two repeats is said.
    let short = made(
        &stage.folder,
        &[&stage.alertmanager],
        &json!({"lasts": "2m"}),
    );
    let items = short.check().await;
    assert_eq!(items[1].status, CheckStatus::Warn, "{items:?}");
}
