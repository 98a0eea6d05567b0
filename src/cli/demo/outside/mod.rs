//! The world outside of the demo: a mail server, X and Telegram, as small servers that behave as theirs do, refusals
//! included, and keep what they accept for the one who reads it.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::model::time::Time;

pub mod mail;
pub mod telegram;
pub mod x;

/// A message as somebody got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// When.
    pub at: Time,
    /// Through which service.
    pub service: Service,
    /// By whom.
    pub to: String,
    /// Its subject, where it has one.
    pub subject: Option<String>,
    /// Its text.
    pub text: String,
}

/// A service of the world outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// Email.
    Mail,
    /// Posts on X.
    X,
    /// Messages in Telegram chats.
    Telegram,
}

/// Everything that was received.
#[derive(Clone, Debug, Default)]
pub struct Inbox {
    received: Arc<Mutex<Vec<Received>>>,
    count: Arc<watch::Sender<usize>>,
}

impl Inbox {
    /// Takes a message in.
    pub fn put(&self, message: Received) {
        let mut all = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(message);
        self.count.send_replace(all.len());
    }

    /// Everything received so far.
    #[must_use]
    pub fn all(&self) -> Vec<Received> {
        self.received
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Tells how many were received.
    #[must_use]
    pub fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }
}

/// Now, as the journal counts it.
#[must_use]
pub fn now() -> Time {
    Time::from_millis(jiff::Timestamp::now().as_millisecond())
}
