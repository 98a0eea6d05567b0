//! Challenges: what the signed beginning of a session must quote, so that a recorded one begins nothing.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::model::{span::Span, time::Time};

/// How long a challenge may be answered.
const LIFE: Span = Span::from_secs(30);

/// Gives challenges and remembers those that were used. What was given is not kept, so asking costs nothing.
#[derive(Debug)]
pub struct Challenges {
    key: [u8; 32],
    used: BTreeMap<String, Time>,
}

impl Challenges {
    /// None given yet; `key` is random and this process's own.
    #[must_use]
    pub const fn new(key: [u8; 32]) -> Self {
        Self {
            key,
            used: BTreeMap::new(),
        }
    }

    /// A challenge; `nonce` is random.
    #[must_use]
    pub fn give(&self, nonce: u128, now: Time) -> String {
        let text = format!("{}.{nonce:032x}", now.as_millis());
        let code = self.code(&text);
        format!("{text}.{code}")
    }

    /// Whether the challenge was given here not long ago and is used for the first time. To be asked only once the
    /// signature over it is proved, so that only holders of a key fill the memory.
    pub fn redeem(&mut self, challenge: &str, now: Time) -> bool {
        self.used.retain(|_, given| now.since(*given) <= LIFE);
        let Some(given) = self.given(challenge) else {
            return false;
        };
        if given > now || now.since(given) > LIFE {
            return false;
        }
        self.used.insert(challenge.to_owned(), given).is_none()
    }

    /// When it was given; none where it was not given here.
    fn given(&self, challenge: &str) -> Option<Time> {
        let (text, code) = challenge.rsplit_once('.')?;
        let genuine: bool = self.code(text).as_bytes().ct_eq(code.as_bytes()).into();
        let (at, _) = text.split_once('.')?;
        genuine
            .then(|| at.parse().ok().map(Time::from_millis))
            .flatten()
    }

    fn code(&self, text: &str) -> String {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes any key");
        mac.update(text.as_bytes());
        hex::encode(mac.finalize().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_millis(1_000_000);

    #[test]
    fn a_challenge_begins_one_session_and_not_for_long() {
        let mut here = Challenges::new([1; 32]);
        let one = here.give(7, NOW);
        assert!(here.redeem(&one, NOW.after(Span::from_secs(1))));
        assert!(!here.redeem(&one, NOW.after(Span::from_secs(2))));
        let late = here.give(8, NOW);
        assert!(!here.redeem(&late, NOW.after(Span::from_secs(31))));
        // It is forgotten only when it is too old to be used again.
        assert!(!here.redeem(&one, NOW.after(Span::from_secs(31))));
        assert!(here.used.is_empty());
    }

    #[test]
    fn only_own_challenges_count() {
        let mut here = Challenges::new([1; 32]);
        let foreign = Challenges::new([2; 32]).give(7, NOW);
        assert!(!here.redeem(&foreign, NOW));
        let own = here.give(7, NOW);
        for at in 0..own.len() {
            let mut bytes = own.clone().into_bytes();
            bytes[at] ^= 1;
            let changed = String::from_utf8(bytes).unwrap();
            assert!(!here.redeem(&changed, NOW), "{changed}");
        }
        for odd in ["", ".", "..", "1.2.3", "x.y"] {
            assert!(!here.redeem(odd, NOW));
        }
    }
}
