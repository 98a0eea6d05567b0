//! Messages in Telegram chats (Bot API, through teloxide).

use std::{
    collections::BTreeMap,
    fs, io,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use teloxide::{
    Bot,
    payloads::SendMessageSetters,
    requests::Requester,
    types::{ChatId, ParseMode, Recipient as Chat},
};

use self::answer::{Answer, answer};
use super::message::Message;
use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        id::IdempotencyKey,
        secret::{Secret, SecretRef},
        span::Span,
    },
    port::{
        channel::{Channel, Compiled, Notice, Recipient, RecipientsError, Sent, SharedChannel},
        endpoint,
        kind::{Kind, Make, MakeError, Problem, Wiring, With, read},
    },
};

mod answer;
mod markdown;

/// `announce/telegram`.
pub const KIND: Kind = Kind::new::<TelegramWith>(
    "announce/telegram",
    "message in Telegram chats",
    "token: {env: TELEGRAM_TOKEN}\nchats: [\"@example_status\"]\n",
    Make::Channel(make),
);

/// The longest message after its markup is taken off.
const LONGEST: usize = 4096;

/// Where it is remembered which groups have become supergroups.
const MOVED: &str = "telegram-moved.json";

/// Settings of `announce/telegram`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TelegramWith {
    /// The bot's token.
    pub token: SecretRef,
    /// Chats that the bot may write to, as text: `@channel`, or a number such as `"-1001234567890"`.
    pub chats: Vec<String>,
    /// Where the Bot API is.
    #[serde(default = "base_url")]
    pub base_url: String,
    /// Time-out of one request.
    #[serde(default = "timeout")]
    pub timeout: Span,
}

fn timeout() -> Span {
    Span::from_secs(17)
}

fn base_url() -> String {
    "https://api.telegram.org".to_owned()
}

impl With for TelegramWith {
    fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = endpoint::problem("baseUrl", &self.base_url)
            .into_iter()
            .collect();
        if self.chats.is_empty() {
            problems.push(Problem::new(
                "chats",
                "is empty, expected at least one chat",
            ));
        }
        for (i, chat) in self.chats.iter().enumerate() {
            if parse(chat).is_none() {
                problems.push(
                    Problem::new(format!("chats[{i}]"), "is no chat")
                        .hint("write @channel, or the chat's number in quotes"),
                );
            }
        }
        problems
    }

    fn hosts(&self) -> Vec<String> {
        endpoint::host(&self.base_url).into_iter().collect()
    }
}

fn parse(chat: &str) -> Option<Chat> {
    match chat.strip_prefix('@') {
        Some(name) if !name.is_empty() => Some(Chat::ChannelUsername(chat.to_owned())),
        Some(_) => None,
        None => chat.parse().ok().map(|id| Chat::Id(ChatId(id))),
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedChannel, MakeError> {
    let with: TelegramWith = read(with)?;
    let file = wiring.state.join(MOVED);
    Ok(std::sync::Arc::new(Telegram {
        with,
        wiring: wiring.clone(),
        moved: Mutex::new(moved(&file)),
        file,
        bot: Mutex::new(None),
    }))
}

struct Telegram {
    with: TelegramWith,
    wiring: Wiring,
    /// Groups that have become supergroups: their new ids.
    moved: Mutex<BTreeMap<String, i64>>,
    file: PathBuf,
    /// The bot of the token that was last read.
    bot: Mutex<Option<(Secret, Bot)>>,
}

#[async_trait]
impl Channel for Telegram {
    fn compile(&self, notice: &Notice) -> Compiled {
        let (text, was_cut) = Message::of(notice)
            .long
            .fit(|t| markdown::length(t) <= LONGEST);
        let mut remarks = vec![format!(
            "{} of {LONGEST} characters",
            markdown::length(&text)
        )];
        if was_cut {
            remarks.push("cut to length".to_owned());
        }
        Compiled {
            text,
            remarks,
            ..Compiled::default()
        }
    }

    async fn recipients(&self) -> Result<Vec<Recipient>, RecipientsError> {
        Ok(self.with.chats.iter().cloned().map(Recipient).collect())
    }

    async fn send(&self, message: &Compiled, to: &Recipient, _key: &IdempotencyKey) -> Sent {
        let bot = match self.bot() {
            Ok(bot) => bot,
            Err(reason) => return Sent::Broken { reason },
        };
        let Some(mut chat) = self.chat(&to.0) else {
            return Sent::Refused {
                reason: "this is no chat".to_owned(),
                suppress: false,
            };
        };
        let (mut marked_up, mut moved) = (true, false);
        loop {
            let answer = self.say(&bot, &chat, &message.text, marked_up).await;
            if let Answer::Moved { to: id } = answer
                && !moved
            {
                moved = true;
                self.remember(&to.0, id);
                chat = Chat::Id(ChatId(id));
            } else if marked_up && matches!(answer, Answer::Unparsable { .. }) {
                marked_up = false;
            } else {
                return self.judge(answer);
            }
        }
    }

    fn workers(&self) -> usize {
        self.with.chats.len().clamp(1, 4)
    }

    async fn check(&self) -> Vec<CheckItem> {
        let bot = match self.bot() {
            Ok(bot) => bot,
            Err(reason) => {
                let fix = "set the bot's token";
                return vec![CheckItem::bad(
                    "announce/telegram/bot",
                    CheckStatus::Fail,
                    reason,
                    fix,
                )];
            }
        };
        let me = answer(bot.get_me().await.map(|me| me.username().to_owned()));
        let ok = matches!(me, Answer::Posted { .. });
        let mut items = vec![item(
            "announce/telegram/bot",
            me,
            "make a new token with @BotFather",
        )];
        if ok {
            for name in &self.with.chats {
                let Some(chat) = self.chat(name) else {
                    continue;
                };
                let seen = answer(bot.get_chat(chat).await.map(|_| name.clone()));
                items.push(item(
                    &format!("announce/telegram/chat/{name}"),
                    seen,
                    "add the bot to the chat and let it post there",
                ));
            }
        }
        items
    }
}

impl Telegram {
    async fn say(&self, bot: &Bot, chat: &Chat, text: &str, marked_up: bool) -> Answer {
        let posted = if marked_up {
            bot.send_message(chat.clone(), markdown::mark_up(text))
                .parse_mode(ParseMode::MarkdownV2)
                .await
        } else {
            bot.send_message(chat.clone(), text).await
        };
        answer(posted.map(|message| message.id.0.to_string()))
    }

    /// The bot of today's token; its connections outlive a change of the token.
    fn bot(&self) -> Result<Bot, String> {
        let token = self
            .wiring
            .secrets
            .read(&self.with.token)
            .map_err(|e| format!("the bot's token cannot be read: {e}"))?;
        let url = url::Url::parse(self.with.base_url.trim_end_matches('/'))
            .map_err(|e| format!("baseUrl is no URL: {e}"))?;
        let mut kept = self.bot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, bot)) = kept.as_ref()
            && *of == token
        {
            return Ok(bot.clone());
        }
        let client = match kept.as_ref() {
            Some((_, bot)) => bot.client().clone(),
            None => teloxide::net::default_reqwest_settings()
                .timeout(self.with.timeout.to_std())
                .build()
                .map_err(|_| {
                    "no HTTPS client can be made: check this host's root certificates".to_owned()
                })?,
        };
        let bot = Bot::with_client(token.expose(), client).set_api_url(url);
        *kept = Some((token, bot.clone()));
        Ok(bot)
    }

    fn chat(&self, name: &str) -> Option<Chat> {
        let moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        match moved.get(name) {
            Some(id) => Some(Chat::Id(ChatId(*id))),
            None => parse(name),
        }
    }

    fn remember(&self, name: &str, id: i64) {
        let mut known = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(name.to_owned(), id);
        // Another channel may have noted its own groups since this one was made.
        let mut all = moved(&self.file);
        all.append(&mut known.clone());
        if let Err(e) = keep(&self.file, &all) {
            tracing::warn!(error = %e, chat = name, new_id = id, "cannot note that a Telegram group has a new id: change it in chats");
        }
    }

    fn judge(&self, answer: Answer) -> Sent {
        match answer {
            Answer::Posted { id } => Sent::Accepted { reference: id },
            Answer::Later { after, reason } => Sent::Later {
                after,
                everyone: true,
                reason,
            },
            Answer::Lost { reason } => Sent::Unknown { reason },
            Answer::Closed { reason } if self.with.chats.len() > 1 => Sent::Refused {
                reason,
                suppress: false,
            },
            Answer::Closed { reason } | Answer::Token { reason } => Sent::Broken { reason },
            Answer::Unparsable { reason } | Answer::Refused { reason } => Sent::Refused {
                reason,
                suppress: false,
            },
            Answer::Moved { to } => Sent::Refused {
                reason: format!("the group moved twice, now to {to}: change chats"),
                suppress: false,
            },
        }
    }
}

fn item(name: &str, answer: Answer, fix: &str) -> CheckItem {
    match answer {
        Answer::Posted { id } => CheckItem::ok(name, id.unwrap_or_else(|| "answers".to_owned())),
        Answer::Later { reason, .. } | Answer::Lost { reason } => {
            CheckItem::bad(name, CheckStatus::Unknown, reason, "check again later")
        }
        Answer::Moved { to } => CheckItem::bad(
            name,
            CheckStatus::Warn,
            format!("the group has become a supergroup with id {to}"),
            "write the new id into chats",
        ),
        Answer::Closed { reason }
        | Answer::Token { reason }
        | Answer::Unparsable { reason }
        | Answer::Refused { reason } => CheckItem::bad(name, CheckStatus::Fail, reason, fix),
    }
}

/// What was noted of groups that moved; a file that cannot be read only costs one more request each.
fn moved(file: &PathBuf) -> BTreeMap<String, i64> {
    fs::read(file)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

fn keep(file: &std::path::Path, moved: &BTreeMap<String, i64>) -> io::Result<()> {
    let folder = file.parent().unwrap_or(std::path::Path::new("."));
    fs::create_dir_all(folder)?;
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer(&mut new, moved)?;
    new.as_file().sync_all()?;
    new.persist(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chats_are_names_or_numbers() {
        assert_eq!(
            parse("@status"),
            Some(Chat::ChannelUsername("@status".to_owned()))
        );
        assert_eq!(parse("-100123"), Some(Chat::Id(ChatId(-100_123))));
        assert_eq!(parse("status"), None);
        assert_eq!(parse("@"), None);
    }

    #[test]
    fn what_moved_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state").join(MOVED);
        assert!(moved(&file).is_empty());
        let map = BTreeMap::from([("-5".to_owned(), -1005)]);
        keep(&file, &map).unwrap();
        assert_eq!(moved(&file), map);
        fs::write(&file, "half").unwrap();
        assert!(moved(&file).is_empty());
    }
}
