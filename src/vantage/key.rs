//! The key that an observer and the controller share, read each time it is used.

use std::collections::BTreeSet;

use crate::{
    model::secret::{Secret, SecretRef},
    port::secret::{SecretError, Secrets},
};

/// Bits that a key must have: those of HMAC-SHA256's own output (RFC 2104, section 3).
const BITS: usize = 256;

/// A key with enough in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(Secret);

/// Why a key cannot be used. The value never shows.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read.
    #[error("the key cannot be read")]
    Read(#[source] SecretError),
    /// Somebody could guess it.
    #[error(
        "the key in the {0} is too weak: it needs 32 random bytes, such as `openssl rand -hex 32` prints"
    )]
    Weak(SecretRef),
}

impl Key {
    /// Reads a key now.
    ///
    /// # Errors
    /// Where it cannot be read, or holds fewer than 32 random bytes by the looks of it.
    pub fn read(secrets: &dyn Secrets, at: &SecretRef) -> Result<Self, KeyError> {
        let secret = secrets.read(at).map_err(KeyError::Read)?;
        Self::new(secret).ok_or_else(|| KeyError::Weak(at.clone()))
    }

    /// A key, unless it is too weak.
    #[must_use]
    pub fn new(secret: Secret) -> Option<Self> {
        is_strong(secret.expose()).then_some(Self(secret))
    }

    /// A key that nobody has.
    #[must_use]
    pub fn random() -> Self {
        Self(Secret::new(hex::encode(rand::random::<[u8; 32]>())))
    }

    /// Its bytes, for the one call that signs.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.0.expose().as_bytes()
    }
}

/// Whether a text can hold 256 random bits: by its length in hex or else in base64, and by how many different
/// characters it has. A random text of this length practically never has so few.
fn is_strong(text: &str) -> bool {
    let is_hex = text.bytes().all(|b| b.is_ascii_hexdigit());
    let (bits, fewest) = if is_hex { (4, 8) } else { (6, 16) };
    let different = text.bytes().collect::<BTreeSet<_>>().len();
    text.len() * bits >= BITS && different >= fewest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_random_generators_print_is_strong() {
        let hex = "9f2c4be07d1a358866f0e3c29b5d47a1c8e6f4130b7a2d5990eec14f23a8b67d";
        assert!(is_strong(hex));
        assert!(is_strong("q5V0s1Yk9mB3xT7eLw2ZrUoHc8DgNfAj4PiKvSyQ6uM="));
        assert!(is_strong("fot_q5V0s1Yk9mB3xT7eLw2ZrUoHc8DgNfAj4PiKvSyQ6uM"));
    }

    #[test]
    fn what_people_think_up_is_not() {
        for weak in [
            "",
            "secret",
            "correct horse battery staple",
            "9f2c4be07d1a358866f0e3c29b5d47a1",
            &"ab".repeat(40),
            &"0".repeat(64),
        ] {
            assert!(!is_strong(weak), "{weak}");
        }
    }

    #[test]
    fn a_key_does_not_show() {
        let key = Key::new(Secret::new("q5V0s1Yk9mB3xT7eLw2ZrUoHc8DgNfAj4PiKvSyQ6uM="));
        assert_eq!(format!("{key:?}"), "Some(Key(Secret(…)))");
    }
}
