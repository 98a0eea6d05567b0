//! Messages in Telegram chats (Bot API, through teloxide).

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

use super::message::Message;
use crate::{
    model::{check::CheckItem, id::IdempotencyKey, secret::SecretRef, span::Span},
    port::{
        channel::{Channel, Compiled, Notice, Recipient, RecipientsError, Sent, SharedChannel},
        endpoint,
        kind::{Kind, Make, MakeError, Problem, Wiring, With, read},
        telegram::{
            self, Account, LONGEST,
            answer::{Answer, answer},
            markdown,
        },
    },
};

/// `announce/telegram`.
pub const KIND: Kind = Kind::new::<TelegramWith>(
    "announce/telegram",
    "message in Telegram chats",
    "token: {env: TELEGRAM_TOKEN}\nchats: [\"@example_status\"]\n",
    Make::Channel(make),
);

/// Settings of `announce/telegram`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TelegramWith {
    /// The bot's token.
    pub token: SecretRef,
    /// Chats that the bot may write to, as text: `@channel`, or a number such as `"-1001234567890"`.
    pub chats: Vec<String>,
    /// Where the Bot API is.
    #[serde(default = "telegram::base_url")]
    pub base_url: String,
    /// Time-out of one request.
    #[serde(default = "telegram::timeout")]
    pub timeout: Span,
}

impl With for TelegramWith {
    fn problems(&self) -> Vec<Problem> {
        telegram::problems(&self.base_url, &self.chats)
    }

    fn hosts(&self) -> Vec<String> {
        endpoint::host(&self.base_url).into_iter().collect()
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedChannel, MakeError> {
    let with: TelegramWith = read(with)?;
    let account = Account::new(&with.token, &with.base_url, with.timeout, wiring);
    Ok(std::sync::Arc::new(Telegram { with, account }))
}

struct Telegram {
    with: TelegramWith,
    account: Account,
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
        let bot = match self.account.bot() {
            Ok(bot) => bot,
            Err(reason) => return Sent::Broken { reason },
        };
        let Some(mut chat) = self.account.chat(&to.0) else {
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
                self.account.remember(&to.0, id);
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
        let fix = "add the bot to the chat and let it post there";
        self.account.check(KIND.name, &self.with.chats, fix).await
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
