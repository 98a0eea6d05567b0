//! Channels: where announcements to customers and pages to the team go out.

use std::sync::Arc;

use async_trait::async_trait;

use crate::model::{
    announcement::Announcement,
    check::CheckItem,
    id::{IdempotencyKey, ServiceName},
    page::Page,
    service::Template,
    span::Span,
};

/// What is to be said, before a channel compiles it.
#[derive(Clone, Debug)]
pub enum Notice {
    /// To customers.
    Announcement {
        /// The facts.
        announcement: Box<Announcement>,
        /// The text with its variables.
        template: Template,
    },
    /// To the team.
    Page {
        /// Of which service.
        service: ServiceName,
        /// The page.
        page: Box<Page>,
        /// How often it was sent before.
        repeat: u32,
        /// `failover ack <id>`'s argument.
        id: String,
    },
    /// To those of the team who were paged: nobody needs to act on it any more.
    PageOver {
        /// Of which service.
        service: ServiceName,
        /// The page as it was.
        page: Box<Page>,
        /// Its id.
        id: String,
    },
}

/// A message as one channel sends it, for everybody alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// Subject, where the channel has one.
    pub subject: Option<String>,
    /// Plain text, escaped and cut to the channel's length.
    pub text: String,
    /// HTML, where the channel has it.
    pub html: Option<String>,
    /// JSON body, where the channel is a webhook.
    pub json: Option<serde_json::Value>,
    /// What a person should know before it goes out: cost class, length used, what was cut.
    pub remarks: Vec<String>,
}

/// One recipient. A broadcast channel has just one, the channel itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Recipient(pub String);

impl std::fmt::Debug for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Recipient(…)")
    }
}

/// What sending to one recipient came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The other side has it.
    Accepted {
        /// Its id at the other side, where it gives one.
        reference: Option<String>,
    },
    /// It was sent, but the answer was lost: recorded as unknown and not sent again.
    Unknown {
        /// In plain words.
        reason: String,
    },
    /// It may have been delivered, and the other side recognises a repeat: [`Channel::resume`] is called after so
    /// long. Until then the recipient counts as interrupted, so that a crash changes nothing.
    Unsure {
        /// Shortest wait.
        after: Span,
        /// In plain words.
        reason: String,
    },
    /// Not now: nothing was delivered; wait at least so long. With `everyone`, all workers of the channel wait.
    Later {
        /// Shortest wait.
        after: Span,
        /// Whether the whole channel has to slow down.
        everyone: bool,
        /// In plain words.
        reason: String,
    },
    /// This recipient can never get it.
    Refused {
        /// In plain words.
        reason: String,
        /// Whether the recipient shall be suppressed from now on.
        suppress: bool,
    },
    /// The channel itself is broken (credential, credit, configuration): people are paged, nothing is retried.
    Broken {
        /// In plain words, without secrets.
        reason: String,
    },
}

/// Why the recipients of a channel cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct RecipientsError {
    /// In plain words, without addresses.
    pub reason: String,
}

/// A channel.
#[async_trait]
pub trait Channel: Send + Sync {
    /// Makes the message that this channel sends. Pure: the same notice gives the same message.
    fn compile(&self, notice: &Notice) -> Compiled;

    /// Who gets it. Read from what was refreshed ahead of need, never from the primary.
    ///
    /// # Errors
    /// Where there is no list that may be used.
    async fn recipients(&self) -> Result<Vec<Recipient>, RecipientsError>;

    /// The same as far as it is known: nothing is fetched, and a message that is being sent is left alone.
    ///
    /// # Errors
    /// Where there is no list that may be used.
    async fn known(&self) -> Result<Vec<Recipient>, RecipientsError> {
        self.recipients().await
    }

    /// Sends to one recipient. `key` is the same over every repeat of this message to this recipient.
    async fn send(&self, message: &Compiled, to: &Recipient, key: &IdempotencyKey) -> Sent;

    /// Takes up a sending whose outcome is not known: it was [`Sent::Unsure`], or a crash came before its answer was
    /// recorded. `None` where the other side cannot tell a repeat from a new message: the recipient is then recorded
    /// as unknown and nothing is sent.
    async fn resume(
        &self,
        _message: &Compiled,
        _to: &Recipient,
        _key: &IdempotencyKey,
    ) -> Option<Sent> {
        None
    }

    /// How many messages may be under way at once.
    fn workers(&self) -> usize {
        1
    }

    /// Whether the other side keeps what it is told until it hears that it is over. Each page and its end are then told
    /// apart; else pages may come together, and only the end of a critical one is told.
    fn keeps_state(&self) -> bool {
        false
    }

    /// Fetches the list of recipients anew, where the channel has one; `None` where there is nothing to refresh.
    async fn refresh(&self) -> Option<CheckItem> {
        None
    }

    /// Tries credentials and settings without telling anybody anything, for `failover check`.
    async fn check(&self) -> Vec<CheckItem>;
}

/// A shared channel.
pub type SharedChannel = Arc<dyn Channel>;
