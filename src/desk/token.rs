//! Personal tokens: kept by one person, known to documents by their hash only.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::model::{approval::Person, secret::Secret};

/// So that a token is recognised for what it is when it turns up where it should not.
pub const PREFIX: &str = "fot_";

/// A token of 256 random bits.
#[must_use]
pub fn fresh() -> Secret {
    let bytes: [u8; 32] = rand::random();
    Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// A token's `sha256:` and hex digest, as documents hold it. A token has 256 bits, so no salt or slow hash is needed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenHash(String);

impl TokenHash {
    /// Of a token.
    #[must_use]
    pub fn of(token: &Secret) -> Self {
        let digest = Sha256::digest(token.expose().as_bytes());
        Self(format!("sha256:{}", hex::encode(digest)))
    }

    /// As documents hold it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whose token it is. Every person is compared, in constant time, whether or not one was found.
#[must_use]
pub fn owner<'a>(people: &'a [Person], given: &TokenHash) -> Option<&'a Person> {
    let mut found = None;
    for person in people {
        let Some(known) = &person.token_hash else {
            continue;
        };
        let same: bool = given.0.as_bytes().ct_eq(known.as_bytes()).into();
        if same && found.is_none() {
            found = Some(person);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_its_owners_alone() {
        let (ann, bob) = (fresh(), fresh());
        let person = |name: &str, token: &Secret| Person {
            token_hash: Some(TokenHash::of(token).as_str().to_owned()),
            ..Person::named(name)
        };
        let people = [person("ann", &ann), person("bob", &bob)];
        let owner = |token: &Secret| owner(&people, &TokenHash::of(token)).map(|p| p.name.as_str());
        assert_eq!(owner(&bob), Some("bob"));
        assert_eq!(owner(&fresh()), None);
        assert_eq!(owner(&Secret::new("")), None);
    }

    #[test]
    fn the_hash_is_the_one_that_sha256sum_prints() {
        assert_eq!(
            TokenHash::of(&Secret::new("abc")).as_str(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
