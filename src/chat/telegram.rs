//! Groups and private chats of Telegram, heard by long polling: it needs no way in while ingress is down.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use teloxide::{
    Bot,
    payloads::{
        AnswerCallbackQuerySetters, EditMessageTextSetters, GetUpdatesSetters, SendMessageSetters,
    },
    requests::Requester,
    types::{
        AllowedUpdate, CallbackQuery, CallbackQueryId, Chat as Place, InlineKeyboardButton,
        InlineKeyboardMarkup, MaybeInaccessibleMessage, Message, MessageId, ParseMode, Update,
        UpdateKind, User,
    },
};

use tokio::sync::OnceCell;

use crate::{
    model::{check::CheckItem, id::TelegramUser, secret::SecretRef, span::Span, time::Time},
    port::{
        chat::{
            Author, Button, Chat, ChatError, Post, PostId, PressId, Room, Said, SharedChat, Words,
        },
        endpoint,
        kind::{Kind, Make, MakeError, Problem, Wiring, With, read},
        telegram::{
            self, Account, LONGEST,
            answer::{Answer, answer},
            markdown,
        },
    },
};

/// `chat/telegram`.
pub const KIND: Kind = Kind::new::<TelegramWith>(
    "chat/telegram",
    "commands in Telegram groups and private chats",
    "token: {env: TELEGRAM_TOKEN}\nchats: [\"-1001234567890\"]\n",
    Make::Chat(make),
);

/// Words that are taken at once. Source: <https://core.telegram.org/bots/api#getupdates>.
const BATCH: u8 = 100;

/// The longest poll that the Bot API does not cut short, seconds.
const LONGEST_POLL: u64 = 50;

/// The longest answer to a press, characters.
const LONGEST_ANSWER: usize = 200;

/// Wait after another process was heard to listen with the same token.
const OTHER_LISTENS: Span = Span::from_secs(5);

/// The sender that Telegram puts in for administrators who want to stay unknown.
const ANONYMOUS: u64 = 1_087_968_824;

/// The sender that Telegram puts in for what a channel says in a group.
const CHANNEL: u64 = 136_817_688;

/// Settings of `chat/telegram`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TelegramWith {
    /// The bot's token. No other program may listen with it.
    pub token: SecretRef,
    /// Groups that commands are taken from, by number in quotes, such as `"-1001234567890"`. In private, whoever has
    /// their number under `team.people` may speak to the bot as well.
    pub chats: Vec<String>,
    /// Where the Bot API is.
    #[serde(default = "telegram::base_url")]
    pub base_url: String,
    /// Time-out of one request.
    #[serde(default = "telegram::timeout")]
    pub timeout: Span,
    /// How long one poll waits for words: up to 50 s.
    #[serde(default = "poll")]
    pub poll: Span,
}

fn poll() -> Span {
    Span::from_secs(30)
}

impl With for TelegramWith {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = telegram::problems(&self.base_url, &self.chats);
        for (i, chat) in self.chats.iter().enumerate() {
            if chat.starts_with('@') {
                problems.push(
                    Problem::new(format!("chats[{i}]"), "is a name, and names change hands").hint(
                        "write the group's number in quotes; /whoami of somebody of the team tells it there",
                    ),
                );
            }
        }
        if self.poll < Span::from_secs(1) || self.poll > Span::from_secs(LONGEST_POLL) {
            problems.push(Problem::new("poll", "must be between 1s and 50s"));
        }
        problems
    }

    fn hosts(&self) -> Vec<String> {
        endpoint::host(&self.base_url).into_iter().collect()
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedChat, MakeError> {
    let with: TelegramWith = read(with)?;
    let account = |timeout| Account::new(&with.token, &with.base_url, timeout, wiring);
    // Whoever waits for words does not hang up before they could have come.
    let patience = Span::from_millis(with.timeout.as_millis() + with.poll.as_millis());
    let (account, ears) = (account(with.timeout), account(patience));
    Ok(Arc::new(Telegram {
        with,
        account,
        ears,
        number: Mutex::new(String::new()),
        heard: Mutex::new(Heard::default()),
        me: OnceCell::new(),
    }))
}

struct Telegram {
    with: TelegramWith,
    account: Account,
    /// The same for whoever waits for words.
    ears: Account,
    /// The bot's number, as its token said last.
    number: Mutex<String>,
    heard: Mutex<Heard>,
    /// The bot's name: a command may be meant for another one.
    me: OnceCell<String>,
}

/// What was heard.
#[derive(Default)]
struct Heard {
    /// The last word, which does not come again.
    last: Option<u32>,
    /// Words that Telegram does not know to be heard.
    unconfirmed: Vec<Update>,
}

#[async_trait]
impl Chat for Telegram {
    fn account(&self) -> String {
        // A token is one bot's, wherever it is kept; what stands before the colon is the bot's number.
        let mut number = self.number.lock().unwrap_or_else(PoisonError::into_inner);
        // A token that cannot be read for a moment makes no other bot.
        if let Ok(bot) = self.account.bot() {
            let told = bot.token().split(':').next().unwrap_or_default();
            told.clone_into(&mut number);
        }
        format!("telegram {} {number}", self.with.base_url)
    }

    fn rooms(&self) -> Vec<Room> {
        self.with.chats.iter().cloned().map(Room).collect()
    }

    async fn listen(&self) -> Result<Vec<Said>, ChatError> {
        let bot = self.ears.bot();
        let bot = bot.map_err(|reason| ChatError::Broken { reason })?;
        let me = self.me.get_or_try_init(|| name(&bot)).await?;
        if !self.is_confirming() {
            let seconds = self.with.poll.as_millis() / 1000;
            let seconds = u32::try_from(seconds).unwrap_or(1);
            let updates = self.poll(&bot, seconds, BATCH).await?;
            let Some(last) = updates.iter().map(|u| u.id.0).max() else {
                return Ok(Vec::new());
            };
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.last = Some(last);
            heard.unconfirmed = updates;
        }
        // Only once Telegram knows that it was heard may anything be done: whoever listens next does not hear it again.
        self.poll(&bot, 0, 1).await?;
        let updates = {
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut heard.unconfirmed)
        };
        let said = updates.into_iter().filter_map(|u| self.said(u, me));
        Ok(said.collect())
    }

    async fn post(&self, room: &Room, post: &Post) -> Result<PostId, ChatError> {
        let bot = self.bot()?;
        let text = cut(&post.text);
        let keyboard = keyboard(&post.buttons);
        let (mut marked_up, mut moved) = (true, false);
        loop {
            let Some(chat) = self.account.chat(&room.0) else {
                return Err(refused("this is no chat"));
            };
            let said = if marked_up {
                let sending = bot.send_message(chat, markdown::mark_up(&text));
                let sending = sending.parse_mode(ParseMode::MarkdownV2);
                sending.reply_markup(keyboard.clone()).await
            } else {
                bot.send_message(chat, text.as_str())
                    .reply_markup(keyboard.clone())
                    .await
            };
            let answer = answer(said.map(|message| message.id.0.to_string()));
            if let Answer::Posted { id } = answer {
                return Ok(PostId(id.unwrap_or_default()));
            }
            if let Answer::Moved { to } = answer
                && !moved
            {
                moved = true;
                self.account.remember(&room.0, to);
            } else if marked_up && matches!(answer, Answer::Unparsable { .. }) {
                marked_up = false;
            } else {
                return Err(failed(answer));
            }
        }
    }

    async fn edit(&self, room: &Room, id: &PostId, post: &Post) -> Result<(), ChatError> {
        let bot = self.bot()?;
        let text = cut(&post.text);
        let keyboard = keyboard(&post.buttons);
        let number = id.0.parse().map_err(|_| refused("this is no message"))?;
        let mut marked_up = true;
        loop {
            let Some(chat) = self.account.chat(&room.0) else {
                return Err(refused("this is no chat"));
            };
            let said = if marked_up {
                let editing =
                    bot.edit_message_text(chat, MessageId(number), markdown::mark_up(&text));
                let editing = editing.parse_mode(ParseMode::MarkdownV2);
                editing.reply_markup(keyboard.clone()).await
            } else {
                bot.edit_message_text(chat, MessageId(number), text.as_str())
                    .reply_markup(keyboard.clone())
                    .await
            };
            let answer = answer(said.map(|message| message.id.0.to_string()));
            if matches!(answer, Answer::Posted { .. }) {
                return Ok(());
            }
            if !marked_up || !matches!(answer, Answer::Unparsable { .. }) {
                return Err(failed(answer));
            }
            marked_up = false;
        }
    }

    async fn answer(&self, press: &PressId, text: &str, aloud: bool) -> Result<(), ChatError> {
        let bot = self.bot()?;
        let text: String = text.chars().take(LONGEST_ANSWER).collect();
        let said = bot
            .answer_callback_query(CallbackQueryId(press.0.clone()))
            .text(text)
            .show_alert(aloud)
            .await;
        let answer = answer(said.map(|_| String::new()));
        // Whoever pressed has gone on; what it came to stands in the room.
        let is_late = |reason: &str| reason.contains("query is too old");
        if matches!(&answer, Answer::Refused { reason } if is_late(reason))
            || matches!(answer, Answer::Posted { .. })
        {
            return Ok(());
        }
        Err(failed(answer))
    }

    async fn check(&self) -> Vec<CheckItem> {
        let fix = "add the bot to the group";
        self.account.check(KIND.name, &self.with.chats, fix).await
    }
}

impl Telegram {
    fn bot(&self) -> Result<Bot, ChatError> {
        self.account
            .bot()
            .map_err(|reason| ChatError::Broken { reason })
    }

    async fn poll(&self, bot: &Bot, seconds: u32, most: u8) -> Result<Vec<Update>, ChatError> {
        let heard = {
            let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.last
        };
        let mut polling = bot.get_updates().timeout(seconds).limit(most);
        if let Some(next) = heard.and_then(|last| i32::try_from(last.wrapping_add(1)).ok()) {
            polling = polling.offset(next);
        }
        let polling = polling.allowed_updates([
            AllowedUpdate::Message,
            AllowedUpdate::EditedMessage,
            AllowedUpdate::CallbackQuery,
        ]);
        let mut updates = Vec::new();
        let outcome = polling.await.map(|heard| {
            updates = heard;
            String::new()
        });
        let answer = answer(outcome);
        if let Answer::Refused { reason } = &answer
            && reason.contains("Conflict")
        {
            return Err(ChatError::Later {
                after: OTHER_LISTENS,
                reason: format!(
                    "{reason}: another program listens with this token, or a webhook is set"
                ),
            });
        }
        if matches!(answer, Answer::Posted { .. }) {
            return Ok(updates);
        }
        Err(failed(answer))
    }

    fn is_confirming(&self) -> bool {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        !heard.unconfirmed.is_empty()
    }

    /// What an update says to the bot of this name; nothing where it is about something else.
    fn said(&self, update: Update, me: &str) -> Option<Said> {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "a bot hears three of the many kinds of update"
        )]
        match update.kind {
            UpdateKind::Message(message) => self.written(&message, None, me),
            UpdateKind::EditedMessage(message) => {
                self.written(&message, Some("it was edited after it was sent"), me)
            }
            UpdateKind::CallbackQuery(query) => self.pressed(query),
            _ => None,
        }
    }

    fn written(&self, message: &Message, stale: Option<&'static str>, me: &str) -> Option<Said> {
        if let Some(to) = message.migrate_to_chat_id() {
            let group = message.chat.id.0.to_string();
            if self.with.chats.contains(&group) {
                self.account.remember(&group, to.0);
            }
            return None;
        }
        let text = message.text()?;
        if !is_for(text, me) {
            return None;
        }
        let stale = match (stale, message.forward_origin(), &message.via_bot) {
            (Some(why), _, _) => Some(why),
            (None, Some(_), _) => Some("it was forwarded"),
            (None, None, Some(_)) => Some("another bot wrote it"),
            (None, None, None) => None,
        };
        Some(Said {
            room: self.room(&message.chat),
            is_private: message.chat.is_private(),
            author: author(message.from.as_ref(), message.sender_chat.is_some()),
            at: Some(Time::from_millis(message.date.timestamp_millis())),
            what: match stale {
                Some(why) => Words::Stale {
                    text: text.to_owned(),
                    why,
                },
                None => Words::Text(text.to_owned()),
            },
        })
    }

    fn pressed(&self, query: CallbackQuery) -> Option<Said> {
        let place = match query.message? {
            MaybeInaccessibleMessage::Regular(message) => message.chat.clone(),
            MaybeInaccessibleMessage::Inaccessible(message) => message.chat,
        };
        Some(Said {
            room: self.room(&place),
            is_private: place.is_private(),
            author: author(Some(&query.from), false),
            at: None,
            what: Words::Press {
                press: PressId(query.id.0),
                ticket: query.data.unwrap_or_default(),
            },
        })
    }

    fn room(&self, place: &Place) -> Room {
        Room(self.account.name(place.id.0))
    }
}

/// The bot's own name.
async fn name(bot: &Bot) -> Result<String, ChatError> {
    let mut name = String::new();
    let outcome = bot.get_me().await.map(|me| {
        me.username().clone_into(&mut name);
        String::new()
    });
    let answer = answer(outcome);
    if matches!(answer, Answer::Posted { .. }) {
        return Ok(name);
    }
    Err(failed(answer))
}

/// Whether a text is no command for another bot.
fn is_for(text: &str, me: &str) -> bool {
    let word = text.split_whitespace().next().unwrap_or_default();
    match word.strip_prefix('/').and_then(|w| w.split_once('@')) {
        Some((_, bot)) => bot.eq_ignore_ascii_case(me),
        None => true,
    }
}

fn author(from: Option<&User>, for_a_chat: bool) -> Author {
    match from {
        Some(user) if user.id.0 == ANONYMOUS => {
            Author::Unknowable("an administrator who stays anonymous cannot be known")
        }
        Some(user) if user.id.0 == CHANNEL || for_a_chat => {
            Author::Unknowable("what a channel says is nobody's word")
        }
        Some(user) if user.is_bot => Author::Unknowable("a bot is nobody of the team"),
        Some(user) => match i64::try_from(user.id.0) {
            Ok(id) => Author::Telegram(TelegramUser(id)),
            Err(_) => Author::Unknowable("this user's number cannot be read"),
        },
        None => Author::Unknowable("nobody is named as its author"),
    }
}

/// Cut where it is longer than a message may be, and says so.
fn cut(text: &str) -> String {
    const MARK: &str = "\n… (cut: /timeline and the web desk show all of it)";
    if markdown::length(text) <= LONGEST {
        return text.to_owned();
    }
    let room = LONGEST - markdown::length(MARK);
    let mut kept = String::new();
    let mut used = 0;
    for line in text.split_inclusive('\n') {
        used += markdown::length(line);
        if used > room {
            break;
        }
        kept.push_str(line);
    }
    if kept.is_empty() {
        let mut left = room;
        let fits = |c: &char| {
            let length = c.len_utf16();
            let ok = length <= left;
            left = left.saturating_sub(length);
            ok
        };
        kept = text.chars().take_while(fits).collect();
    }
    kept.push_str(MARK);
    kept
}

fn keyboard(buttons: &[Vec<Button>]) -> InlineKeyboardMarkup {
    InlineKeyboardMarkup::new(buttons.iter().map(|row| {
        row.iter()
            .map(|b| InlineKeyboardButton::callback(b.label.clone(), b.ticket.clone()))
    }))
}

fn refused(reason: &str) -> ChatError {
    ChatError::Refused {
        reason: reason.to_owned(),
    }
}

fn failed(answer: Answer) -> ChatError {
    match answer {
        Answer::Later { after, reason } => ChatError::Later { after, reason },
        Answer::Lost { reason } => ChatError::Lost { reason },
        Answer::Closed { reason } | Answer::Token { reason } => ChatError::Broken { reason },
        Answer::Refused { reason } | Answer::Unparsable { reason } => ChatError::Refused { reason },
        Answer::Moved { to } => ChatError::Refused {
            reason: format!("the group moved again, now to {to}"),
        },
        Answer::Posted { .. } => ChatError::Refused {
            reason: "Telegram's answer says nothing".to_owned(),
        },
    }
}
