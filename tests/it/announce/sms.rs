//! Text messages, against a stand-in that checks and refuses as Twilio does.

use failover::{
    model::{announcement::Phase, check::CheckStatus, page::Severity, span::Span},
    port::{
        channel::{Notice, Sent, SharedChannel},
        ledger::Ledger,
    },
};
use serde_json::json;
use tempfile::TempDir;

use super::{channel, key, ledger, mailing, notice, saying, secret, tell, to};
use crate::stand::{
    twilio::{FROM, SERVICE, SID, TOKEN, Taken, Turn, Twilio},
    wiring::wiring,
};

const ANN: &str = "+442079460001";
const BEN: &str = "+442079460002";

struct Stage {
    twilio: Twilio,
    channel: SharedChannel,
    folder: TempDir,
}

fn sms(twilio: &Twilio, folder: &TempDir, sid: &str, token: &str) -> SharedChannel {
    let with = json!({
        "accountSid": secret(folder.path(), "sid", sid),
        "authToken": secret(folder.path(), "token", token),
        "from": FROM, "to": [ANN, BEN], "baseUrl": twilio.url, "timeout": "1s",
    });
    channel("announce/sms", &with, &wiring(folder.path()))
}

async fn stage() -> Stage {
    let folder = tempfile::tempdir().unwrap();
    let twilio = Twilio::start().await;
    let channel = sms(&twilio, &folder, SID, TOKEN);
    Stage {
        twilio,
        channel,
        folder,
    }
}

async fn send(stage: &Stage, text: &str) -> Sent {
    let message = stage.channel.compile(&saying(text));
    stage.channel.send(&message, &to(ANN), &key("k")).await
}

/// One that is longer than its segments.
fn page() -> Notice {
    let mut notice = super::page(Severity::Critical, 0, "shop-p4");
    if let Notice::Page { page, .. } = &mut notice {
        page.body = vec!["The database is down, seen from 3 of 3 networks. ".repeat(20)];
    }
    notice
}

#[tokio::test]
async fn everybody_gets_the_page_once_with_its_commands() {
    let stage = stage().await;
    let message = stage.channel.compile(&page());
    let ledger = ledger(stage.folder.path());
    for _ in 0..2 {
        let outcome = tell(&*stage.channel, &*ledger, &message, &mailing("m1")).await;
        assert_eq!((outcome.tally.sent, outcome.broken), (2, None));
    }
    let mut taken = stage.twilio.taken();
    taken.sort_by(|a, b| a.to.cmp(&b.to));
    let body = "[critical] shop: Approval needed: fail over to standby\n...\n\
                failover approve shop-a3\nfailover ack shop-p4";
    let expected = [ANN, BEN].map(|to| Taken {
        to: to.to_owned(),
        sender: FROM.to_owned(),
        body: body.to_owned(),
    });
    assert_eq!(taken, expected);
    assert!(
        message
            .remarks
            .contains(&"cost: 2 segments (1 each for 2 numbers)".to_owned()),
        "{:?}",
        message.remarks
    );
    assert!(message.remarks.contains(&"cut to length".to_owned()));
}

#[tokio::test]
async fn text_is_one_field_whatever_stands_in_it() {
    let stage = stage().await;
    let text = "a&To=+15005550006&Body=b\r\nFrom: x %0d%0a =+ {\"To\":1}";
    assert!(matches!(send(&stage, text).await, Sent::Accepted { .. }));
    let taken = stage.twilio.taken();
    assert_eq!(taken.len(), 1);
    assert_eq!(
        (taken[0].to.as_str(), taken[0].sender.as_str()),
        (ANN, FROM)
    );
    assert_eq!(taken[0].body, text.replace('\r', ""));
}

#[tokio::test]
async fn a_messaging_service_sends_in_place_of_a_number() {
    let stage = stage().await;
    let with = json!({
        "accountSid": secret(stage.folder.path(), "sid", SID),
        "authToken": secret(stage.folder.path(), "token", TOKEN),
        "messagingServiceSid": SERVICE, "to": [ANN], "baseUrl": stage.twilio.url,
    });
    let channel = channel("announce/sms", &with, &wiring(stage.folder.path()));
    let message = channel.compile(&notice(Phase::OnStandby));
    let sent = channel.send(&message, &to(ANN), &key("k")).await;
    assert_eq!(
        sent,
        Sent::Accepted {
            reference: Some("SM00000000000000000000000000000001".to_owned())
        }
    );
    assert_eq!(stage.twilio.taken()[0].sender, SERVICE);
}

#[tokio::test]
async fn what_got_no_answer_is_unknown_and_never_sent_again() {
    for lost in [
        Turn::TakenInSilence,
        Turn::TakenBehind502,
        Turn::Gateway(503),
    ] {
        let stage = stage().await;
        stage.twilio.next([lost]);
        let ledger = ledger(stage.folder.path());
        let message = stage.channel.compile(&page());
        for _ in 0..2 {
            let outcome = tell(&*stage.channel, &*ledger, &message, &mailing("m1")).await;
            assert_eq!((outcome.tally.unknown, outcome.tally.sent), (1, 1));
        }
        assert_eq!(stage.twilio.asked(), 2);
    }
}

#[tokio::test]
async fn after_a_crash_amid_a_sending_nothing_is_sent_again() {
    let stage = stage().await;
    let message = stage.channel.compile(&page());
    let resumed = stage.channel.resume(&message, &to(ANN), &key("k")).await;
    assert_eq!((resumed, stage.twilio.asked()), (None, 0));
}

#[tokio::test]
async fn a_limit_is_waited_out() {
    let stage = stage().await;
    stage.twilio.next([Turn::Limit("7")]);
    let limited = send(&stage, "a").await;
    assert!(
        matches!(limited, Sent::Later { after, everyone: true, .. } if after == Span::from_secs(7)),
        "{limited:?}"
    );
    stage.twilio.next([Turn::Limit("1")]);
    let ledger = ledger(stage.folder.path());
    let message = stage.channel.compile(&page());
    let outcome = tell(&*stage.channel, &*ledger, &message, &mailing("m1")).await;
    assert_eq!((outcome.tally.sent, stage.twilio.taken().len()), (2, 2));
}

#[tokio::test]
async fn a_number_that_said_stop_or_is_none_is_not_written_to_again() {
    for code in [21610, 21211, 21614] {
        let stage = stage().await;
        stage.twilio.refuse(ANN, code);
        let ledger = ledger(stage.folder.path());
        let message = stage.channel.compile(&page());
        let first = tell(&*stage.channel, &*ledger, &message, &mailing("m1")).await;
        assert_eq!((first.tally.sent, first.tally.failed), (1, 1));
        let shown = format!("{:?}", first.problems);
        assert!(
            shown.contains(&code.to_string()) && !shown.contains("2079460"),
            "{shown}"
        );
        assert!(ledger.suppressed(&"shop".into(), &to(ANN)).await.unwrap());
        let second = tell(&*stage.channel, &*ledger, &message, &mailing("m2")).await;
        assert_eq!((second.tally.sent, second.tally.suppressed), (1, 1));
        assert_eq!(stage.twilio.asked(), 3);
    }
}

#[tokio::test]
async fn a_wrong_sender_breaks_the_channel_and_nothing_is_retried() {
    let stage = stage().await;
    stage.twilio.next([Turn::Error(400, 21606)]);
    let sent = send(&stage, "a").await;
    assert!(
        matches!(&sent, Sent::Broken { reason } if reason.contains("21606") && !reason.contains("2079460")),
        "{sent:?}"
    );
}

#[tokio::test]
async fn a_wrong_credential_breaks_the_channel_and_never_shows() {
    let stage = stage().await;
    let broken = [
        ("AC0", TOKEN),
        (SID, "not-the-token"),
        ("AC0/../x?y=1", TOKEN),
        ("..", TOKEN),
    ];
    for (sid, token) in broken {
        let channel = sms(&stage.twilio, &stage.folder, sid, token);
        let message = channel.compile(&page());
        let sent = channel.send(&message, &to(ANN), &key("k")).await;
        assert!(matches!(sent, Sent::Broken { .. }), "{sid}: {sent:?}");
        let items = channel.check().await;
        assert_eq!(items[0].status, CheckStatus::Fail, "{sid}: {items:?}");
        let shown = format!("{sent:?} {items:?}");
        assert!(!shown.contains(token), "{shown}");
    }
    assert_eq!(stage.twilio.asked(), 0);
    // The credentials are read when they are used: putting them right is enough.
    secret(stage.folder.path(), "sid", SID);
    secret(stage.folder.path(), "token", TOKEN);
    assert!(matches!(send(&stage, "a").await, Sent::Accepted { .. }));
}

#[tokio::test]
async fn the_check_reads_the_account_and_sends_nothing() {
    let stage = stage().await;
    for (status, kind, expected) in [
        ("active", "Full", CheckStatus::Ok),
        ("active", "Trial", CheckStatus::Warn),
        ("suspended", "Full", CheckStatus::Fail),
    ] {
        stage.twilio.account(status, kind);
        let items = stage.channel.check().await;
        assert_eq!(items[0].status, expected, "{items:?}");
        assert_eq!(items[0].name, "announce/sms/account");
    }
    assert_eq!(stage.twilio.asked(), 0);
}

#[tokio::test]
async fn an_unreachable_service_is_tried_again_later() {
    let Stage {
        twilio,
        channel,
        folder: _folder,
    } = stage().await;
    drop(twilio);
    // The port is free once the server's task has ended.
    crate::stand::patience::until("the service is gone", || async {
        let message = channel.compile(&page());
        let sent = channel.send(&message, &to(ANN), &key("k")).await;
        matches!(sent, Sent::Later { everyone: true, .. })
    })
    .await;
}
