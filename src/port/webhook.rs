//! Signed requests as Standard Webhooks has them (<https://www.standardwebhooks.com>), so that receivers can verify them
//! with a library that exists.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::model::{secret::Secret, time::Time};

/// What a secret begins with.
pub const PREFIX: &str = "whsec_";

/// The key that requests are signed with. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Vec<u8>);

impl Key {
    /// Reads a secret: the base64 of 24 to 64 bytes, with or without [`PREFIX`].
    #[must_use]
    pub fn read(secret: &Secret) -> Option<Self> {
        let text = secret.expose().trim();
        let bytes = BASE64
            .decode(text.strip_prefix(PREFIX).unwrap_or(text))
            .ok()?;
        (24..=64).contains(&bytes.len()).then_some(Self(bytes))
    }

    /// The `webhook-signature` of a body.
    #[must_use]
    pub fn sign(&self, id: &MessageId, at: Time, body: &str) -> String {
        let mut mac = self.mac();
        mac.update(format!("{id}.{}.", at.as_secs()).as_bytes());
        mac.update(body.as_bytes());
        format!("v1,{}", BASE64.encode(mac.finalize().into_bytes()))
    }

    fn mac(&self) -> Hmac<Sha256> {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        Hmac::new_from_slice(&self.0).expect("HMAC takes any key")
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// The `webhook-id`: tells repeats from new messages. It never holds a full stop, which is what the signature joins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageId(String);

impl MessageId {
    /// The same for the same text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let digest = Sha256::digest(text.as_bytes());
        Self(format!("msg_{}", hex::encode(&digest[..16])))
    }

    /// One that was never used before, for a request that is not to be taken for a repeat.
    #[must_use]
    pub fn fresh() -> Self {
        Self(format!("msg_{:032x}", rand::random::<u128>()))
    }

    /// As it is sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn the_signature_is_that_of_the_standard() {
        // The example of the specification's reference libraries.
        let key = Key::read(&Secret::new(SECRET)).unwrap();
        let id = MessageId("msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned());
        let at = Time::from_millis(1_614_265_330_000);
        assert_eq!(
            key.sign(&id, at, r#"{"test": 2432232314}"#),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn a_secret_has_its_length_and_may_have_its_prefix() {
        let key = Key::read(&Secret::new(SECRET)).unwrap();
        let bare = SECRET.strip_prefix(PREFIX).unwrap();
        assert_eq!(Key::read(&Secret::new(bare)), Some(key.clone()));
        assert_eq!(format!("{key:?}"), "Key(…)");
        for bad in ["whsec_AAAA", "whsec_?", "whsec_", "AAAA", ""] {
            assert!(Key::read(&Secret::new(bad)).is_none(), "{bad}");
        }
    }

    #[test]
    fn an_id_holds_no_full_stop_and_stays_the_same() {
        let id = MessageId::of("shop-r7.stop.e2");
        assert_eq!(id, MessageId::of("shop-r7.stop.e2"));
        assert_ne!(id, MessageId::of("shop-r7.stop.e3"));
        assert!(!id.as_str().contains('.'));
        assert_ne!(MessageId::fresh(), MessageId::fresh());
    }
}
