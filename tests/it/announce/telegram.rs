//! Messages in Telegram chats, against a stand-in that is as strict as Telegram.

use failover::{
    model::{announcement::Phase, check::CheckStatus},
    port::channel::{Sent, SharedChannel},
};
use serde_json::json;
use tempfile::TempDir;

use super::{channel, key, ledger, mailing, notice, saying, secret, tell, to};
use crate::stand::{
    telegram::{Chat, TOKEN, Telegram},
    wiring::wiring,
};

struct Stage {
    telegram: Telegram,
    channel: SharedChannel,
    folder: TempDir,
}

fn bot(telegram: &Telegram, folder: &TempDir, chats: &[&str], token: &str) -> SharedChannel {
    let token = secret(folder.path(), "token", token);
    let with = json!({"token": token, "chats": chats, "baseUrl": telegram.url, "timeout": "2s"});
    channel("announce/telegram", &with, &wiring(folder.path()))
}

async fn stage(chats: &[(&str, Chat)]) -> Stage {
    let folder = tempfile::tempdir().unwrap();
    let telegram = Telegram::start().await;
    for (chat, how) in chats {
        telegram.chat(chat, how.clone());
    }
    let names: Vec<&str> = chats.iter().map(|(name, _)| *name).collect();
    let channel = bot(&telegram, &folder, &names, TOKEN);
    Stage {
        telegram,
        channel,
        folder,
    }
}

async fn send(stage: &Stage, chat: &str, text: &str) -> Sent {
    let message = stage.channel.compile(&saying(text));
    stage.channel.send(&message, &to(chat), &key("k")).await
}

#[tokio::test]
async fn the_chat_shows_the_text_with_all_its_characters() {
    let stage = stage(&[("@status", Chat::Open)]).await;
    let message = stage.channel.compile(&notice(Phase::OnStandby));
    let sent = stage
        .channel
        .send(&message, &to("@status"), &key("k"))
        .await;
    assert_eq!(
        sent,
        Sent::Accepted {
            reference: Some("1".to_owned())
        }
    );
    assert_eq!(
        stage.telegram.shown(),
        [("@status".to_owned(), message.text, true)]
    );
    let strange = "First.\n_*[]()~`>#+-=|{}.! and \\ too\n$ failover ack `x`";
    assert!(matches!(
        send(&stage, "@status", strange).await,
        Sent::Accepted { .. }
    ));
    assert_eq!(stage.telegram.shown()[1].1, strange);
}

#[tokio::test]
async fn a_long_text_is_cut_before_it_is_escaped() {
    let stage = stage(&[("@status", Chat::Open)]).await;
    let text = "1.2.3-🙂! ".repeat(900);
    assert!(matches!(
        send(&stage, "@status", &text).await,
        Sent::Accepted { .. }
    ));
    let shown = stage.telegram.shown()[0].1.encode_utf16().count();
    assert!(shown > 4000 && shown <= 4096, "{shown}");
}

#[tokio::test]
async fn markup_that_is_not_understood_is_left_out() {
    let stage = stage(&[("@status", Chat::Unparsing)]).await;
    assert!(matches!(
        send(&stage, "@status", "Plain.").await,
        Sent::Accepted { .. }
    ));
    assert_eq!(
        stage.telegram.shown(),
        [("@status".to_owned(), "Plain.".to_owned(), false)]
    );
}

#[tokio::test]
async fn a_429_amid_a_fan_out_is_waited_out() {
    let names = ["-1", "-2", "-3", "-4", "-5", "-6"];
    let chats: Vec<(&str, Chat)> = names.iter().map(|n| (*n, Chat::Open)).collect();
    let stage = stage(&chats).await;
    stage.telegram.flood_before(3, 1);
    let ledger = ledger(stage.folder.path());
    let message = stage.channel.compile(&saying("We are on it."));
    let outcome = tell(&*stage.channel, &*ledger, &message, &mailing("m1")).await;
    assert_eq!((outcome.tally.sent, outcome.tally.queued), (6, 0));
    let mut told: Vec<String> = stage.telegram.shown().into_iter().map(|s| s.0).collect();
    told.sort();
    assert_eq!(told, names);
    assert_eq!(stage.telegram.seen.lock().unwrap().floods, 1);
}

#[tokio::test]
async fn one_at_a_time_nobody_knocks_before_the_wait_is_over() {
    let stage = stage(&[("@status", Chat::Open)]).await;
    stage.telegram.flood_before(0, 2);
    let ledger = ledger(stage.folder.path());
    let message = stage.channel.compile(&saying("We are on it."));
    let outcome = tell(&*stage.channel, &*ledger, &message, &mailing("m1")).await;
    assert_eq!(outcome.tally.sent, 1);
    let seen = stage.telegram.seen.lock().unwrap();
    assert_eq!((seen.floods, seen.too_early), (1, 0));
}

#[tokio::test]
async fn a_group_that_moved_is_followed_and_remembered() {
    let stage = stage(&[("-5", Chat::Moved(-1005)), ("-1005", Chat::Open)]).await;
    assert!(matches!(
        send(&stage, "-5", "One").await,
        Sent::Accepted { .. }
    ));
    // Neither this channel nor one made after a restart asks at the old address again.
    stage.telegram.chat("-5", Chat::Blocked);
    assert!(matches!(
        send(&stage, "-5", "Two").await,
        Sent::Accepted { .. }
    ));
    let restarted = Stage {
        channel: bot(&stage.telegram, &stage.folder, &["-5"], TOKEN),
        ..stage
    };
    assert!(matches!(
        send(&restarted, "-5", "Three").await,
        Sent::Accepted { .. }
    ));
    let shown: Vec<String> = restarted
        .telegram
        .shown()
        .into_iter()
        .map(|s| s.0)
        .collect();
    assert_eq!(shown, ["-1005"; 3]);
}

#[tokio::test]
async fn a_closed_chat_breaks_the_channel_at_once() {
    for (how, words) in [(Some(Chat::Blocked), "blocked"), (None, "chat not found")] {
        let stage = stage(&[("@status", Chat::Open)]).await;
        let chat = if let Some(how) = how {
            stage.telegram.chat("@status", how);
            "@status"
        } else {
            "@other"
        };
        let sent = send(&stage, chat, "a").await;
        assert!(
            matches!(&sent, Sent::Broken { reason } if reason.contains(words)),
            "{sent:?}"
        );
        assert!(stage.telegram.shown().is_empty());
    }
}

#[tokio::test]
async fn one_closed_chat_of_several_does_not_silence_the_others() {
    let stage = stage(&[("-1", Chat::Blocked), ("-2", Chat::Open)]).await;
    let ledger = ledger(stage.folder.path());
    let message = stage.channel.compile(&saying("We are on it."));
    let outcome = tell(&*stage.channel, &*ledger, &message, &mailing("m1")).await;
    assert_eq!((outcome.tally.sent, outcome.tally.failed), (1, 1));
    assert!(
        outcome.problems.keys().any(|why| why.contains("blocked")),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_wrong_token_breaks_the_channel_and_never_shows() {
    let mut stage = stage(&[("@status", Chat::Open)]).await;
    let token = "1:another-token-entirely";
    stage.channel = bot(&stage.telegram, &stage.folder, &["@status"], token);
    let sent = send(&stage, "@status", "a").await;
    assert!(
        matches!(&sent, Sent::Broken { reason } if !reason.contains(token)),
        "{sent:?}"
    );
    assert_eq!(stage.channel.check().await[0].status, CheckStatus::Fail);
    // The token is read when it is used: putting it right is enough.
    secret(stage.folder.path(), "token", TOKEN);
    assert!(matches!(
        send(&stage, "@status", "a").await,
        Sent::Accepted { .. }
    ));
}

#[tokio::test]
async fn an_answer_that_never_comes_leaves_it_unknown() {
    let stage = stage(&[("@status", Chat::Silent)]).await;
    let ledger = ledger(stage.folder.path());
    let message = stage.channel.compile(&saying("We are on it."));
    let outcome = tell(&*stage.channel, &*ledger, &message, &mailing("m1")).await;
    assert_eq!((outcome.tally.unknown, outcome.tally.sent), (1, 0));
    assert_eq!(stage.telegram.shown().len(), 1);
}

#[tokio::test]
async fn the_check_says_which_chat_is_closed_and_posts_nothing() {
    let stage = stage(&[("-1", Chat::Open), ("-2", Chat::Blocked)]).await;
    let items = stage.channel.check().await;
    let status: Vec<_> = items.iter().map(|i| (i.name.as_str(), i.status)).collect();
    assert_eq!(
        status,
        [
            ("announce/telegram/bot", CheckStatus::Ok),
            ("announce/telegram/chat/-1", CheckStatus::Ok),
            ("announce/telegram/chat/-2", CheckStatus::Fail),
        ]
    );
    assert!(stage.telegram.shown().is_empty());
}
