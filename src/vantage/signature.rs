//! Signatures over requests and answers: HMAC-SHA256 (RFC 2104) over every part with its length before it, so that no
//! byte can move from one part to the next.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::key::Key;

/// What a request's signature covers.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `GET` or `POST`.
    pub method: &'a str,
    /// The path, without host.
    pub path: &'a str,
    /// Who speaks.
    pub vantage: &'a str,
    /// The session, or the challenge where one begins.
    pub session: &'a str,
    /// The body as it is sent.
    pub body: &'a [u8],
}

/// What an answer's signature covers.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The signature of the request that it answers.
    pub request: &'a str,
    /// The HTTP status.
    pub status: u16,
    /// The body as it is sent.
    pub body: &'a [u8],
}

impl Request<'_> {
    /// The signature, lower-case hex.
    #[must_use]
    pub fn sign(&self, key: &Key) -> String {
        code(
            key,
            &[
                b"failover vantage request 1",
                self.method.as_bytes(),
                self.path.as_bytes(),
                self.vantage.as_bytes(),
                self.session.as_bytes(),
                self.body,
            ],
        )
    }

    /// Whether the holder of this key signed it; takes the same time wherever a wrong one differs.
    #[must_use]
    pub fn is_signed(&self, key: &Key, given: &str) -> bool {
        same(&self.sign(key), given)
    }
}

impl Answer<'_> {
    /// The signature, lower-case hex.
    #[must_use]
    pub fn sign(&self, key: &Key) -> String {
        code(
            key,
            &[
                b"failover vantage answer 1",
                self.request.as_bytes(),
                &self.status.to_be_bytes(),
                self.body,
            ],
        )
    }

    /// Whether the holder of this key signed it.
    #[must_use]
    pub fn is_signed(&self, key: &Key, given: &str) -> bool {
        same(&self.sign(key), given)
    }
}

fn code(key: &Key, parts: &[&[u8]]) -> String {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key.bytes()).expect("HMAC takes any key");
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    hex::encode(mac.finalize().into_bytes())
}

fn same(right: &str, given: &str) -> bool {
    right.as_bytes().ct_eq(given.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::secret::Secret;

    fn key(n: u8) -> Key {
        let text =
            format!("{n:02x}9f2c4be07d1a358866f0e3c29b5d47a1c8e6f4130b7a2d5990eec14f23a8b67d");
        Key::new(Secret::new(text)).unwrap()
    }

    /// A request as it lies on the wire: each part, and the signature last.
    fn wire(body: &[u8]) -> Vec<Vec<u8>> {
        let parts = ["POST", "/vantage/v1/report", "paris", "s1"];
        let request = request_of(&parts, body);
        let signature = request.sign(&key(1)).into_bytes();
        let parts = parts.iter().map(|p| p.as_bytes().to_vec());
        parts.chain([body.to_vec(), signature]).collect()
    }

    fn request_of<'a>(parts: &[&'a str; 4], body: &'a [u8]) -> Request<'a> {
        Request {
            method: parts[0],
            path: parts[1],
            vantage: parts[2],
            session: parts[3],
            body,
        }
    }

    fn is_taken(wire: &[Vec<u8>], key: &Key) -> bool {
        let text = |n: usize| std::str::from_utf8(&wire[n]).unwrap_or("no text");
        let parts = [text(0), text(1), text(2), text(3)];
        request_of(&parts, &wire[4]).is_signed(key, text(5))
    }

    proptest! {
        #[test]
        fn a_changed_byte_anywhere_is_noticed(
            body in proptest::collection::vec(any::<u8>(), 1..200),
            part in 0_usize..6,
            at in any::<prop::sample::Index>(),
            flip in 1_u8..,
        ) {
            let mut wire = wire(&body);
            prop_assert!(is_taken(&wire, &key(1)));
            let at = at.index(wire[part].len());
            wire[part][at] ^= flip;
            prop_assert!(!is_taken(&wire, &key(1)));
        }

        #[test]
        fn bytes_do_not_move_between_parts(body in "[a-z]{1,20}", take in 1_usize..20) {
            let whole = wire(body.as_bytes());
            let take = take.min(body.len());
            let mut moved = whole.clone();
            let begin: Vec<u8> = moved[4].drain(..take).collect();
            moved[3].extend(begin);
            prop_assert!(!is_taken(&moved, &key(1)));
        }

        #[test]
        fn another_key_signs_nothing(n in 2_u8.., body in proptest::collection::vec(any::<u8>(), 0..50)) {
            prop_assert!(!is_taken(&wire(&body), &key(n)));
        }

        #[test]
        fn a_signature_may_have_any_shape(given in ".*") {
            let request = request_of(&["GET", "/", "paris", ""], b"");
            prop_assert!(!request.is_signed(&key(1), &given));
        }

        #[test]
        fn an_answer_belongs_to_its_request(status in any::<u16>(), body in proptest::collection::vec(any::<u8>(), 0..50)) {
            let answer = Answer { request: "one", status, body: &body };
            let signature = answer.sign(&key(1));
            prop_assert!(answer.is_signed(&key(1), &signature));
            let elsewhere = Answer { request: "two", ..answer };
            let otherwise = Answer { status: !status, ..answer };
            prop_assert!(!elsewhere.is_signed(&key(1), &signature));
            prop_assert!(!otherwise.is_signed(&key(1), &signature));
            prop_assert!(!answer.is_signed(&key(2), &signature));
        }
    }
}
