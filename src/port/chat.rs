//! Chats in which people give commands: what they write and press comes in, messages go out and are edited in place.

use std::sync::Arc;

use async_trait::async_trait;

use crate::model::{check::CheckItem, id::TelegramUser, span::Span, time::Time};

/// A room of a chat, as documents name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Room(pub String);

/// A message that was posted, known within its room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostId(pub String);

/// A press of a button, which wants an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PressId(pub String);

/// An account of a chat: what it never gives to anybody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Author {
    /// A user of Telegram.
    Telegram(TelegramUser),
    /// Somebody who cannot be known: why.
    Unknowable(&'static str),
}

/// Something that was said in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Where.
    pub room: Room,
    /// Whether nobody but the author and the bot is there.
    pub is_private: bool,
    /// By whom.
    pub author: Author,
    /// When, by the chat's clock; none for a press, which has no time of its own.
    pub at: Option<Time>,
    /// What.
    pub what: Words,
}

/// What was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Words {
    /// A text as it was written.
    Text(String),
    /// A text that is not what its author wrote here and now.
    Stale {
        /// The text.
        text: String,
        /// Why.
        why: &'static str,
    },
    /// A button was pressed.
    Press {
        /// To be answered.
        press: PressId,
        /// What the button carries; anybody may send any.
        ticket: String,
    },
}

/// A button below a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Button {
    /// What it says.
    pub label: String,
    /// What comes back when it is pressed: up to 64 bytes.
    pub ticket: String,
}

/// A message: the first line stands out, lines that begin with `$ ` are commands to copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Post {
    /// Plain text, as long as it needs to be; a chat that takes less cuts it and says so.
    pub text: String,
    /// Buttons, row by row.
    pub buttons: Vec<Vec<Button>>,
}

impl Post {
    /// A text without buttons.
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            buttons: Vec::new(),
        }
    }
}

/// Why something could not be said or heard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChatError {
    /// Not now.
    #[error("{reason}")]
    Later {
        /// Shortest wait.
        after: Span,
        /// In plain words.
        reason: String,
    },
    /// It may have been said: the answer was lost.
    #[error("{reason}")]
    Lost {
        /// In plain words.
        reason: String,
    },
    /// This message cannot be said or edited; another may.
    #[error("{reason}")]
    Refused {
        /// In plain words.
        reason: String,
    },
    /// Nothing can be said or heard until a person mends it.
    #[error("{reason}")]
    Broken {
        /// In plain words.
        reason: String,
    },
}

/// A chat.
#[async_trait]
pub trait Chat: Send + Sync {
    /// Tells two accounts apart. Whoever has the same one hears the same words, and only one may listen at a time.
    fn account(&self) -> String;

    /// The rooms that documents name.
    fn rooms(&self) -> Vec<Room>;

    /// Waits for what is said. Everything is handed out once at most: the chat was told before that it was heard, so that
    /// neither a restart nor another process hears it again.
    ///
    /// # Errors
    /// Where nothing can be heard; what was said meanwhile comes later.
    async fn listen(&self) -> Result<Vec<Said>, ChatError>;

    /// Posts a message.
    ///
    /// # Errors
    /// Where it was not said, or may not have been.
    async fn post(&self, room: &Room, post: &Post) -> Result<PostId, ChatError>;

    /// Puts another message in the place of one.
    ///
    /// # Errors
    /// Where it still reads as before, or may.
    async fn edit(&self, room: &Room, id: &PostId, post: &Post) -> Result<(), ChatError>;

    /// Answers whoever pressed a button, in a few words that nobody else sees; `aloud` where they must not be missed.
    ///
    /// # Errors
    /// Where it was not said.
    async fn answer(&self, press: &PressId, text: &str, aloud: bool) -> Result<(), ChatError>;

    /// Whether it works, changing nothing.
    async fn check(&self) -> Vec<CheckItem>;
}

/// A chat, shared.
pub type SharedChat = Arc<dyn Chat>;
