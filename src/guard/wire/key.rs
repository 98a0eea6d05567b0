//! Ed25519 keys of the parties.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{
    rand::SystemRandom,
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject};

use crate::{
    model::{
        public_key::PublicKey,
        secret::{Secret, SecretRef},
    },
    port::secret::{SecretError, Secrets},
};

/// Why a key cannot be used. No key shows in it.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read.
    #[error("the private key cannot be read")]
    Read(#[from] SecretError),
    /// What was read is no key.
    #[error("the private key is no Ed25519 key in PKCS#8, as PEM or base64")]
    Private,
    /// The system gives no randomness.
    #[error("no key could be drawn: the system gives no randomness")]
    Draw,
}

/// A private key and its public one.
pub struct KeyPair(Ed25519KeyPair);

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({})", self.public())
    }
}

impl KeyPair {
    /// Draws a new one; gives its PEM text beside it.
    ///
    /// # Errors
    /// Where the system gives no randomness.
    pub fn draw() -> Result<(Self, Secret), KeyError> {
        let der =
            Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyError::Draw)?;
        let pair = Self::from_der(der.as_ref())?;
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            STANDARD
                .encode(der.as_ref())
                .as_bytes()
                .chunks(64)
                .map(|line| String::from_utf8_lossy(line).into_owned())
                .collect::<Vec<_>>()
                .join("\n")
        );
        Ok((pair, Secret::new(pem)))
    }

    /// Reads it from where it is kept.
    ///
    /// # Errors
    /// Where it cannot be read, or is none.
    pub fn read(secrets: &dyn Secrets, at: &SecretRef) -> Result<Self, KeyError> {
        Self::of(&secrets.read(at)?)
    }

    /// Of its text: PKCS#8, as PEM or as base64 without its frame.
    ///
    /// # Errors
    /// Where it is none.
    pub fn of(text: &Secret) -> Result<Self, KeyError> {
        let text = text.expose();
        if let Ok(der) = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()) {
            return Self::from_der(der.secret_pkcs8_der());
        }
        let bare: String = text.split_whitespace().collect();
        let der = STANDARD.decode(bare).map_err(|_| KeyError::Private)?;
        Self::from_der(&der)
    }

    fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        // Other tools leave the public key out.
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(der)
            .map(Self)
            .map_err(|_| KeyError::Private)
    }

    /// What the others know it by.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.public_key().as_ref());
        PublicKey::new(bytes)
    }

    /// Signs what stands in that context.
    #[must_use]
    pub fn sign(&self, context: &[u8], what: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.0.sign(&[context, what].concat()).as_ref());
        signature
    }
}

/// Whether the owner of a public key signed that in that context.
#[must_use]
pub fn signed(key: &PublicKey, context: &[u8], what: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, key.bytes())
        .verify(&[context, what].concat(), signature)
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_as_pem_and_as_base64_and_by_its_public_text() {
        let (pair, pem) = KeyPair::draw().unwrap();
        let bare: String = pem
            .expose()
            .lines()
            .filter(|l| !l.starts_with('-'))
            .collect();
        for text in [pem, Secret::new(bare)] {
            assert_eq!(KeyPair::of(&text).unwrap().public(), pair.public());
        }
        assert!(KeyPair::of(&Secret::new("no key")).is_err());
    }
}
