//! TSIG (RFC 8945): a shared key signs a message, and what the other side says of it is told in plain words.

use base64::{Engine, engine::general_purpose::STANDARD};
use hickory_proto::{
    op::Message,
    rr::{
        TSigner,
        rdata::tsig::{TSIG, TsigAlgorithm, TsigError},
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{rrset, wire::Answer};
use crate::{
    model::{
        secret::{Secret, SecretRef},
        span::Span,
    },
    port::{
        kind::Problem,
        secret::{SecretError, Secrets},
    },
};

/// How far two clocks may lie apart, in seconds (RFC 8945 §10 recommends it). It is also the longest time for which
/// a message that is stuck on its way can still be accepted.
pub const FUDGE: u16 = 300;

/// How messages are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    #[default]
    #[serde(rename = "hmac-sha256")]
    HmacSha256,
    /// HMAC with SHA-384.
    #[serde(rename = "hmac-sha384")]
    HmacSha384,
    /// HMAC with SHA-512.
    #[serde(rename = "hmac-sha512")]
    HmacSha512,
}

impl Algorithm {
    fn wire(self) -> TsigAlgorithm {
        match self {
            Self::HmacSha256 => TsigAlgorithm::HmacSha256,
            Self::HmacSha384 => TsigAlgorithm::HmacSha384,
            Self::HmacSha512 => TsigAlgorithm::HmacSha512,
        }
    }
}

/// A TSIG key as documents name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyRef {
    /// Name of the key, the same as the server knows it by.
    pub name: String,
    /// Algorithm, the same as the server has for this key. Default: hmac-sha256.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// Where the secret is read from: base64, as `tsig-keygen` prints it.
    pub secret: SecretRef,
}

impl KeyRef {
    /// What the types cannot say.
    #[must_use]
    pub fn problems(&self, path: &str) -> Vec<Problem> {
        match rrset::name(&self.name) {
            Ok(_) => Vec::new(),
            Err(e) => vec![Problem::new(format!("{path}.name"), e.to_string())],
        }
    }

    /// Reads the secret now.
    ///
    /// # Errors
    /// Where it cannot be read, or is no key.
    pub fn read(&self, secrets: &dyn Secrets) -> Result<Key, KeyError> {
        let secret = secrets.read(&self.secret)?;
        Key::new(&self.name, self.algorithm, &secret)
    }
}

/// Why a key cannot be used. The secret never shows.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The secret cannot be read.
    #[error("cannot read the secret of the DNS key: {0}")]
    Secret(#[from] SecretError),
    /// The key's name is no domain name.
    #[error("the name of the DNS key is wrong: {0}")]
    Name(#[from] rrset::ValueError),
    /// The secret is no base64.
    #[error(
        "the secret of the DNS key {0} is no base64: expected what tsig-keygen prints after `secret`"
    )]
    Base64(String),
    /// The algorithm is not available.
    #[error("the algorithm of the DNS key {0} is not available")]
    Algorithm(String),
}

/// A TSIG key, ready to sign.
#[derive(Clone)]
pub struct Key {
    signer: TSigner,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({}, …)", self.signer.signer_name())
    }
}

/// A signed message: its bytes, and what its answer's signature hangs on.
#[derive(Clone, Debug)]
pub struct Signed {
    /// As it is sent.
    pub bytes: Vec<u8>,
    mac: Vec<u8>,
    at: u64,
}

/// What the signature of an answer came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Signed with our key, in time: what it says is the server's own word.
    Genuine {
        /// How far the server's clock lies from ours.
        skew: Span,
    },
    /// Not signed at all: anybody may have sent it.
    Unsigned,
    /// The server does not know the key, or not with this algorithm (BADKEY).
    BadKey,
    /// The server has another secret for this key (BADSIG).
    BadSignature,
    /// The clocks lie too far apart (BADTIME).
    BadTime {
        /// How far.
        skew: Span,
    },
    /// Signed, but not by our key, or not as an answer to this message.
    Forged,
}

impl Key {
    /// Makes a key from its parts; the secret is base64.
    ///
    /// # Errors
    /// Where name, secret or algorithm cannot be used.
    pub fn new(name: &str, algorithm: Algorithm, secret: &Secret) -> Result<Self, KeyError> {
        let owner = rrset::name(name)?;
        let bytes = STANDARD
            .decode(secret.expose().trim())
            .ok()
            .filter(|b| !b.is_empty())
            .ok_or_else(|| KeyError::Base64(name.to_owned()))?;
        let signer = TSigner::new(bytes, algorithm.wire(), owner, FUDGE)
            .map_err(|_| KeyError::Algorithm(name.to_owned()))?;
        Ok(Self { signer })
    }

    /// The key's name, absolute.
    #[must_use]
    pub fn name(&self) -> String {
        self.signer.signer_name().to_string()
    }

    /// The signer, for the server's side.
    #[must_use]
    pub fn signer(&self) -> &TSigner {
        &self.signer
    }

    /// Signs a message at this moment (seconds since 1970 UTC); none where it cannot be written.
    #[must_use]
    pub fn sign(&self, mut message: Message, now: u64) -> Option<Signed> {
        message.finalize(&self.signer, now).ok()?;
        let mac = message.signature()?.data.mac.clone();
        Some(Signed {
            bytes: message.to_vec().ok()?,
            mac,
            at: now,
        })
    }

    /// Says what the signature of the answer to `request` came to.
    #[must_use]
    pub fn judge(&self, request: &Signed, answer: &Answer) -> Verdict {
        let Some(signature) = answer.message.signature() else {
            return Verdict::Unsigned;
        };
        let tsig = &signature.data;
        // RFC 8945 §5.3.2: a server that has no common key cannot sign these two.
        match tsig.error {
            Some(TsigError::BadKey) => return Verdict::BadKey,
            Some(TsigError::BadSig) => return Verdict::BadSignature,
            Some(TsigError::BadTime | TsigError::BadTrunc | TsigError::Unknown(_)) | None => {}
        }
        // The signer subtracts the one from the other.
        if tsig.time < u64::from(tsig.fudge)
            || self
                .signer
                .verify_message_byte(&answer.bytes, Some(&request.mac), true)
                .is_err()
        {
            return Verdict::Forged;
        }
        let skew = Span::from_secs(server_time(tsig).abs_diff(request.at));
        match tsig.error {
            Some(TsigError::BadTime) => Verdict::BadTime { skew },
            Some(TsigError::BadTrunc | TsigError::Unknown(_)) => Verdict::Forged,
            Some(TsigError::BadKey | TsigError::BadSig) | None => {
                if skew > Span::from_secs(u64::from(FUDGE)) {
                    Verdict::BadTime { skew }
                } else {
                    Verdict::Genuine { skew }
                }
            }
        }
    }
}

/// With BADTIME the server's own clock stands in the other data, six octets (RFC 8945 §5.2.3).
fn server_time(tsig: &TSIG) -> u64 {
    if tsig.error == Some(TsigError::BadTime) && tsig.other.len() == 6 {
        tsig.other
            .iter()
            .fold(0, |time, b| time << 8 | u64::from(*b))
    } else {
        tsig.time
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::{
        op::{OpCode, ResponseCode},
        rr::TSigResponseContext,
    };

    use super::*;

    fn key(name: &str, secret: &[u8]) -> Key {
        let secret = Secret::new(STANDARD.encode(secret));
        Key::new(name, Algorithm::HmacSha512, &secret).unwrap()
    }

    fn request() -> Message {
        super::super::wire::question(
            &rrset::name("app.example.com").unwrap(),
            hickory_proto::rr::RecordType::A,
            false,
        )
    }

    fn answered(context: TSigResponseContext, id: u16) -> Answer {
        let mut message = Message::response(id, OpCode::Query);
        message.metadata.response_code = ResponseCode::NoError;
        let unsigned = message.to_vec().unwrap();
        message.set_signature(context.sign(&unsigned).unwrap());
        let bytes = message.to_vec().unwrap();
        Answer {
            message: Message::from_vec(&bytes).unwrap(),
            bytes,
        }
    }

    #[test]
    fn a_genuine_answer_is_told_from_forged_and_late_ones() {
        let ours = key("failover-key", b"0123456789abcdef");
        let theirs = key("failover-key", b"another-secret!!");
        let message = request();
        let id = message.id;
        let signed = ours.sign(message, 1_800_000_000).unwrap();
        let answer = |key: &Key, now, error| {
            answered(
                TSigResponseContext::new(id, now, key.signer().clone(), signed.mac.clone(), error),
                id,
            )
        };
        assert_eq!(
            ours.judge(&signed, &answer(&ours, 1_800_000_002, None)),
            Verdict::Genuine {
                skew: Span::from_secs(2)
            }
        );
        assert_eq!(
            ours.judge(&signed, &answer(&theirs, 1_800_000_002, None)),
            Verdict::Forged
        );
        assert_eq!(
            ours.judge(
                &signed,
                &answer(&ours, 1_800_003_600, Some(TsigError::BadTime))
            ),
            Verdict::BadTime {
                skew: Span::from_secs(3600)
            }
        );
        let mut replayed = signed.clone();
        replayed.mac[0] ^= 1;
        assert_eq!(
            ours.judge(&replayed, &answer(&ours, 1_800_000_002, None)),
            Verdict::Forged
        );
    }

    #[test]
    fn unknown_keys_and_wrong_secrets_are_told_apart() {
        let ours = key("failover-key", b"0123456789abcdef");
        let message = request();
        let id = message.id;
        let signed = ours.sign(message, 1_800_000_000).unwrap();
        let unknown = TSigResponseContext::unknown_key(id, 1, ours.signer().signer_name().clone());
        assert_eq!(ours.judge(&signed, &answered(unknown, id)), Verdict::BadKey);
        let wrong = TSigResponseContext::bad_signature(id, 1, ours.signer().clone());
        assert_eq!(
            ours.judge(&signed, &answered(wrong, id)),
            Verdict::BadSignature
        );
    }

    #[test]
    fn a_secret_that_is_no_base64_does_not_show() {
        let error = Key::new("k.", Algorithm::default(), &Secret::new("hush!hush")).unwrap_err();
        assert!(!error.to_string().contains("hush"));
        let key = key("k.", b"hush");
        assert_eq!(format!("{key:?}"), "Key(k., …)");
    }
}
