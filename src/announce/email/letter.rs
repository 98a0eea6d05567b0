//! One mail: headers, text and HTML, signature.

use std::time::{Duration, SystemTime};

use lettre::{
    Address, Message,
    message::{
        Mailbox, MultiPart,
        dkim::{
            DkimCanonicalization, DkimCanonicalizationType, DkimConfig, DkimSigningAlgorithm,
            DkimSigningKey,
        },
        header::{HeaderName, HeaderValue},
    },
};
use maud::{DOCTYPE, Markup, html};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::{
    id::IdempotencyKey,
    secret::{Secret, SecretRef},
    time::Time,
};

/// Headers under the signature: those that a reader or a mailbox provider acts on. `Content-Type` is not among them
/// because the signer does not see it.
const SIGNED: [&str; 10] = [
    "From",
    "To",
    "Reply-To",
    "Subject",
    "Date",
    "Message-ID",
    "MIME-Version",
    "Auto-Submitted",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
];

/// The shortest RSA key that mailbox providers accept is 1024 bits, which is 600 bytes and more as PKCS#1.
const SHORTEST_RSA: usize = 800;

/// Longest subject, in characters.
const LONGEST_SUBJECT: usize = 200;

/// How mails are signed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DkimWith {
    /// The domain that signs; the one of `from`, or above it.
    pub domain: String,
    /// The name of the key in DNS: `<selector>._domainkey.<domain>`.
    pub selector: String,
    /// The private key: for `ed25519` the base64 of its 32 bytes, for `rsa` a PKCS#1 PEM.
    pub key: SecretRef,
    /// The key's kind.
    #[serde(default)]
    pub algorithm: DkimAlgorithm,
}

/// Kinds of DKIM keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum DkimAlgorithm {
    /// Understood by every receiver.
    #[default]
    Rsa,
    /// Short; not yet understood by every receiver.
    Ed25519,
}

/// Why a mail could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LetterError {
    /// An address is none.
    #[error("the recipient's address is not valid")]
    Recipient,
    /// The signing key does not fit.
    #[error("the DKIM key is no {0} key of sufficient length")]
    Key(&'static str),
    /// The parts do not make a mail.
    #[error("the mail cannot be put together")]
    Build(#[source] lettre::error::Error),
}

/// What all mails of a message have in common.
pub struct Letter<'a> {
    /// Sender.
    pub from: &'a Mailbox,
    /// Where answers go.
    pub reply_to: Option<&'a Mailbox>,
    /// Subject.
    pub subject: &'a str,
    /// Plain text.
    pub text: &'a str,
    /// HTML without the document around it.
    pub html: &'a str,
    /// When it is sent.
    pub at: Time,
}

impl Letter<'_> {
    /// The mail to one recipient. Its `Message-ID` comes from the key, so that a repeat has the same.
    ///
    /// # Errors
    /// Where the address or the signing key does not fit.
    pub fn to(
        &self,
        to: &str,
        key: &IdempotencyKey,
        unsubscribe: Option<&str>,
        sign: Option<(&DkimWith, &Secret)>,
    ) -> Result<(Address, Vec<u8>), LetterError> {
        let address: Address = to.parse().map_err(|_| LetterError::Recipient)?;
        let ms = u64::try_from(self.at.as_millis()).unwrap_or(0);
        let subject: String = self.subject.chars().take(LONGEST_SUBJECT).collect();
        let mut mail = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, address.clone()))
            .subject(subject)
            .date(SystemTime::UNIX_EPOCH + Duration::from_millis(ms))
            .message_id(Some(message_id(key, self.from.email.domain())))
            .raw_header(exact("Auto-Submitted", "auto-generated"));
        if let Some(reply_to) = self.reply_to {
            mail = mail.reply_to(reply_to.clone());
        }
        let mut text = self.text.to_owned();
        if let Some(link) = unsubscribe {
            mail = mail
                .raw_header(exact("List-Unsubscribe", &format!("<{link}>")))
                .raw_header(exact("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"));
            text = format!("{text}\n\n-- \nTo get no more of these messages: {link}");
        }
        let html = document(self.subject, self.html, unsubscribe).into_string();
        let mut mail = mail
            .multipart(MultiPart::alternative_plain_html(text, html))
            .map_err(LetterError::Build)?;
        if let Some((dkim, secret)) = sign {
            mail.sign(&config(dkim, secret)?);
        }
        Ok((address, mail.formatted()))
    }
}

/// The `Message-ID` of a mail, in its brackets.
#[must_use]
pub fn message_id(key: &IdempotencyKey, domain: &str) -> String {
    let digest = Sha256::digest(key.0.as_bytes());
    format!("<{}@{domain}>", hex::encode(&digest[..16]))
}

/// How to sign.
///
/// # Errors
/// Where the key does not fit.
pub fn config(dkim: &DkimWith, secret: &Secret) -> Result<DkimConfig, LetterError> {
    let (algorithm, name) = match dkim.algorithm {
        DkimAlgorithm::Rsa => (DkimSigningAlgorithm::Rsa, "RSA"),
        DkimAlgorithm::Ed25519 => (DkimSigningAlgorithm::Ed25519, "Ed25519"),
    };
    if dkim.algorithm == DkimAlgorithm::Rsa && secret.expose().len() < SHORTEST_RSA {
        return Err(LetterError::Key(name));
    }
    let key = DkimSigningKey::new(secret.expose().trim(), algorithm)
        .map_err(|_| LetterError::Key(name))?;
    Ok(DkimConfig::new(
        dkim.selector.clone(),
        dkim.domain.clone(),
        key,
        SIGNED.map(HeaderName::new_from_ascii_str).to_vec(),
        DkimCanonicalization {
            header: DkimCanonicalizationType::Relaxed,
            body: DkimCanonicalizationType::Relaxed,
        },
    ))
}

/// A header whose value is ASCII of our own making, and must not be folded or encoded.
fn exact(name: &'static str, value: &str) -> HeaderValue {
    let value: String = value
        .chars()
        .filter(|c| c.is_ascii_graphic() || *c == ' ')
        .collect();
    HeaderValue::dangerous_new_pre_encoded(
        HeaderName::new_from_ascii_str(name),
        value.clone(),
        value,
    )
}

/// The text as paragraphs with links.
#[must_use]
pub fn paragraphs(text: &str) -> Markup {
    html! {
        @for line in text.lines().filter(|l| !l.trim().is_empty()) {
            @if let Some(command) = line.strip_prefix("$ ") {
                pre { code { (command) } }
            } @else {
                p {
                    @for (i, word) in line.split(' ').enumerate() {
                        @if i > 0 { " " }
                        @if word.starts_with("https://") || word.starts_with("http://") {
                            a href=(word) { (word) }
                        } @else { (word) }
                    }
                }
            }
        }
    }
}

fn document(title: &str, body: &str, unsubscribe: Option<&str>) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
            }
            body style="font-family: sans-serif; line-height: 1.5; max-width: 40em" {
                (maud::PreEscaped(body))
                @if let Some(link) = unsubscribe {
                    hr;
                    p { small { a href=(link) { "Get no more of these messages" } } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter<'a>(from: &'a Mailbox, subject: &'a str) -> Letter<'a> {
        Letter {
            from,
            reply_to: None,
            subject,
            text: "Hello",
            html: "<p>Hello</p>",
            at: Time::parse("2026-11-21T14:00:00Z").unwrap(),
        }
    }

    fn mail(subject: &str, link: Option<&str>) -> String {
        let from: Mailbox = "Shop status <status@example.net>".parse().unwrap();
        let key = IdempotencyKey::new("shop-i7-onStandby.mail.ab".to_owned());
        let (_, bytes) = letter(&from, subject)
            .to("ann@example.com", &key, link, None)
            .unwrap();
        String::from_utf8(bytes).unwrap()
    }

    fn headers(mail: &str) -> Vec<&str> {
        let end = mail.find("\r\n\r\n").unwrap();
        mail[..end].split("\r\n").collect()
    }

    #[test]
    fn it_says_that_it_is_automatic_and_how_to_leave() {
        let link = format!("https://status.example.net/unsubscribe/{}", "a".repeat(180));
        let mail = mail("It works again", Some(&link));
        let headers = headers(&mail);
        for line in [
            "From: \"Shop status\" <status@example.net>",
            "To: ann@example.com",
            "Subject: It works again",
            "Date: Sat, 21 Nov 2026 14:00:00 +0000",
            "Auto-Submitted: auto-generated",
            "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
            &format!("List-Unsubscribe: <{link}>"),
        ] {
            assert!(headers.contains(&line), "{line}\n{mail}");
        }
    }

    #[test]
    fn the_message_id_is_the_same_over_repeats() {
        let id = |mail: &str| {
            headers(mail)
                .iter()
                .find(|h| h.starts_with("Message-ID"))
                .map(|h| (*h).to_owned())
        };
        let (first, second) = (mail("a", None), mail("b", None));
        assert!(id(&first).unwrap().ends_with("@example.net>"));
        assert_eq!(id(&first), id(&second));
    }

    #[test]
    fn a_header_cannot_be_smuggled_in() {
        let evil = "Hi\r\nBcc: eve@example.com\r\n\r\nbody";
        let mail = mail(evil, Some("https://x.example/\r\nBcc: eve@example.com"));
        assert!(
            !headers(&mail)
                .iter()
                .any(|h| h.to_ascii_lowercase().starts_with("bcc")),
            "{mail}"
        );
    }

    #[test]
    fn html_is_escaped_and_links_are_links() {
        assert_eq!(
            paragraphs("<b> & co\nsee https://a.example/?a=1&b=2 now\n$ failover ack x")
                .into_string(),
            "<p>&lt;b&gt; &amp; co</p><p>see <a href=\"https://a.example/?a=1&amp;b=2\">https://a.example/?a=1&amp;b=2</a> now</p><pre><code>failover ack x</code></pre>"
        );
    }

    #[test]
    fn a_short_key_is_refused() {
        let dkim = DkimWith {
            domain: "example.net".to_owned(),
            selector: "s1".to_owned(),
            key: SecretRef::Env("X".to_owned()),
            algorithm: DkimAlgorithm::Rsa,
        };
        assert!(config(&dkim, &Secret::new("-----BEGIN RSA PRIVATE KEY-----")).is_err());
        let dkim = DkimWith {
            algorithm: DkimAlgorithm::Ed25519,
            ..dkim
        };
        assert!(config(&dkim, &Secret::new("AAAA")).is_err());
        assert!(
            config(
                &dkim,
                &Secret::new("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
            )
            .is_ok()
        );
    }
}
