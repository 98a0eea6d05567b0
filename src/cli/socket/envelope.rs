//! A request on its way through the control socket.

use serde::{Deserialize, Serialize};

use crate::{desk::message::Request, model::secret::Secret};

/// Version of these messages; both ends are one program, and a restart after an update makes them agree again.
pub const VERSION: u32 = 5;

/// What a client sends.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// Version of the messages.
    pub version: u32,
    /// The personal token, where the command needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// What is wanted.
    pub request: Request,
}

/// A token on its way; it never shows in a log.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// A token to send.
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        Self(secret.expose().to_owned())
    }

    /// The token that was sent.
    #[must_use]
    pub fn secret(&self) -> Secret {
        Secret::new(self.0.clone())
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}
