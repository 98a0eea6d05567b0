//! Posts on X, against a stand-in that checks signatures and refuses as X does.

use failover::{
    model::{announcement::Phase, check::CheckStatus, span::Span},
    port::channel::{Sent, SharedChannel},
};
use serde_json::json;
use tempfile::TempDir;

use super::{channel, key, ledger, mailing, notice, saying, secret, tell, to};
use crate::stand::{
    wiring::wiring,
    x::{KEYS, Turn, X, now},
};

struct Stage {
    x: X,
    channel: SharedChannel,
    folder: TempDir,
}

async fn stage() -> Stage {
    with_secret("access-secret").await
}

async fn with_secret(access_secret: &str) -> Stage {
    let folder = tempfile::tempdir().unwrap();
    let x = X::start().await;
    let mut with = json!({"baseUrl": x.url, "timeout": "1s"});
    for (name, value) in KEYS {
        let value = if name == "accessSecret" {
            access_secret
        } else {
            value
        };
        with[name] = secret(folder.path(), name, value);
    }
    let channel = channel("announce/x", &with, &wiring(folder.path()));
    Stage { x, channel, folder }
}

async fn send(stage: &Stage, text: &str) -> Sent {
    let message = stage.channel.compile(&saying(text));
    stage.channel.send(&message, &to("x"), &key("k")).await
}

#[tokio::test]
async fn a_signed_post_stands_on_the_timeline() {
    let stage = stage().await;
    let message = stage.channel.compile(&notice(Phase::OnStandby));
    let sent = stage.channel.send(&message, &to("x"), &key("k")).await;
    assert_eq!(
        sent,
        Sent::Accepted {
            reference: Some("1700000001".to_owned())
        }
    );
    let posts = stage.x.posts();
    assert!(
        posts[0].contains("https://shop.standby.example.net/"),
        "{posts:?}"
    );
    assert!(
        message.remarks.iter().any(|r| r.contains("with a URL")),
        "{:?}",
        message.remarks
    );
}

#[tokio::test]
async fn a_long_text_is_cut_and_keeps_its_url() {
    let stage = stage().await;
    let text = format!(
        "{} see https://shop.standby.example.com/now",
        "サービス障害 ".repeat(60)
    );
    assert!(matches!(send(&stage, &text).await, Sent::Accepted { .. }));
    let post = &stage.x.posts()[0];
    assert!(
        post.contains('…') && post.contains("https://shop.standby.example.com/now"),
        "{post}"
    );
}

#[tokio::test]
async fn a_duplicate_after_a_time_out_means_that_it_was_posted() {
    for lost in [Turn::PostedInSilence, Turn::PostedBehind503] {
        let stage = stage().await;
        stage.x.next([lost]);
        let ledger = ledger(stage.folder.path());
        let message = stage.channel.compile(&saying("We are on it."));
        let outcome = tell(&*stage.channel, &*ledger, &message, &mailing("m1")).await;
        assert_eq!((outcome.tally.sent, outcome.broken), (1, None));
        assert_eq!(stage.x.posts().len(), 1);
        assert_eq!(stage.x.asked(), 2);
    }
}

#[tokio::test]
async fn what_was_not_posted_is_posted_in_the_end() {
    let stage = stage().await;
    stage
        .x
        .next([Turn::Silence, Turn::Unavailable, Turn::Limit(now() + 1)]);
    let ledger = ledger(stage.folder.path());
    let message = stage.channel.compile(&saying("We are on it."));
    let outcome = tell(&*stage.channel, &*ledger, &message, &mailing("m1")).await;
    assert_eq!(outcome.tally.sent, 1);
    assert_eq!(stage.x.posts(), ["We are on it."]);
    assert_eq!(stage.x.seen.lock().unwrap().too_early, 0);
}

#[tokio::test]
async fn a_duplicate_of_an_earlier_post_is_refused() {
    let stage = stage().await;
    assert!(matches!(
        send(&stage, "Same words").await,
        Sent::Accepted { .. }
    ));
    let again = send(&stage, "Same words").await;
    assert!(
        matches!(&again, Sent::Refused { reason, .. } if reason.contains("duplicate")),
        "{again:?}"
    );
    assert_eq!(stage.x.posts().len(), 1);
}

#[tokio::test]
async fn without_credit_the_channel_is_broken_and_nothing_is_retried() {
    let stage = stage().await;
    stage.x.next([Turn::Problem(402, "CreditsDepleted")]);
    let ledger = ledger(stage.folder.path());
    let message = stage.channel.compile(&saying("We are on it."));
    let outcome = tell(&*stage.channel, &*ledger, &message, &mailing("m1")).await;
    assert_eq!(
        outcome.broken.as_deref(),
        Some("X answered 402: CreditsDepleted")
    );
    assert_eq!((outcome.tally.queued, stage.x.asked()), (1, 1));
}

#[tokio::test]
async fn a_limit_lasts_until_its_reset_in_both_shapes() {
    let stage = stage().await;
    stage.x.next([Turn::Limit(now() + 30)]);
    let limited = send(&stage, "a").await;
    let Sent::Later {
        after,
        everyone: true,
        ..
    } = limited
    else {
        panic!("{limited:?}")
    };
    assert!(
        after >= Span::from_secs(28) && after <= Span::from_secs(32),
        "{after}"
    );
    let stage = self::stage().await;
    stage.x.next([Turn::Listed(429, 88, "Rate limit exceeded")]);
    let limited = send(&stage, "a").await;
    assert!(
        matches!(limited, Sent::Later { after, .. } if after >= Span::from_secs(900)),
        "{limited:?}"
    );
}

#[tokio::test]
async fn a_wrong_key_breaks_the_channel_and_never_shows() {
    let stage = with_secret("not the secret").await;
    let sent = send(&stage, "a").await;
    assert!(
        matches!(&sent, Sent::Broken { reason } if reason.contains("401") && !reason.contains("not the")),
        "{sent:?}"
    );
    let items = stage.channel.check().await;
    assert_eq!(items[0].status, CheckStatus::Fail);
}

#[tokio::test]
async fn the_check_posts_nothing() {
    let stage = stage().await;
    let items = stage.channel.check().await;
    assert_eq!(items[0].status, CheckStatus::Ok, "{items:?}");
    assert!(items[0].detail.contains("@shop_status"));
    assert_eq!(stage.x.asked(), 0);
}

#[tokio::test]
async fn an_unreachable_x_is_tried_again_later() {
    let stage = stage().await;
    let Stage {
        x,
        channel,
        folder: _folder,
    } = stage;
    drop(x);
    // The port is free once the server's task has ended.
    crate::stand::patience::until("X is gone", || async {
        let message = channel.compile(&saying("a"));
        let sent = channel.send(&message, &to("x"), &key("k")).await;
        matches!(sent, Sent::Later { everyone: true, .. })
    })
    .await;
}
