//! Terms that the controller signed: a guard can show them to another one while the controller is away.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::key::{self, KeyPair};
use crate::model::{guard::Terms, public_key::PublicKey};

const CONTEXT: &[u8] = b"failover guard terms\0";

/// The controller's signature under terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof([u8; 64]);

impl Proof {
    /// Signs terms, with the controller's key.
    #[must_use]
    pub fn new(key: &KeyPair, terms: &Terms) -> Self {
        Self(key.sign(CONTEXT, &text(terms)))
    }

    /// Whether the owner of that key signed these terms.
    #[must_use]
    pub fn holds(&self, signer: &PublicKey, terms: &Terms) -> bool {
        key::signed(signer, CONTEXT, &text(terms), &self.0)
    }
}

/// Terms and their proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Certificate {
    /// What the epoch is.
    pub terms: Terms,
    /// That the controller said so.
    pub proof: Proof,
}

/// Fields stand in one order and names are escaped, so that each terms have one text, and each text one terms.
fn text(terms: &Terms) -> Vec<u8> {
    // A structure of names and numbers always has a form in JSON.
    serde_json::to_vec(terms).unwrap_or_default()
}

impl Serialize for Proof {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&STANDARD_NO_PAD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Proof {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let bytes = STANDARD_NO_PAD
            .decode(String::deserialize(d)?)
            .map_err(de::Error::custom)?;
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| de::Error::custom("expected a signature of 64 bytes"))
    }
}
