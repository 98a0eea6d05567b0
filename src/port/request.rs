//! HTTP requests and answers as documents describe them, alike wherever they do.

use std::{collections::BTreeMap, fmt, str::FromStr};

use http::{HeaderName, HeaderValue};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

use super::{
    endpoint,
    kind::Problem,
    secret::{SecretError, Secrets},
};
use crate::model::secret::SecretRef;

/// Headers that belong to the connection, which is the probe's own.
const CONNECTION_HEADERS: [&str; 5] = [
    "connection",
    "content-length",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// A header's value: either `value`, or `secret` with what stands before it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HeaderWith {
    /// The value itself, where it is no secret.
    pub value: Option<String>,
    /// Where the secret value is read from at each look.
    pub secret: Option<SecretRef>,
    /// What stands before the secret, such as `Bearer ` with its space.
    pub prefix: Option<String>,
}

/// Why a header has no value. The value never shows.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// Its secret cannot be read.
    #[error("cannot read a header's secret")]
    Secret(#[source] SecretError),
    /// It holds what a header cannot hold.
    #[error("the value holds characters that a header cannot have")]
    Shape,
}

impl HeaderWith {
    /// The value, read now.
    ///
    /// # Errors
    /// Where a secret cannot be read, or the text is no header's value.
    pub fn read(&self, secrets: &dyn Secrets) -> Result<HeaderValue, HeaderError> {
        let text = match (&self.value, &self.secret) {
            (_, Some(secret)) => {
                let secret = secrets.read(secret).map_err(HeaderError::Secret)?;
                let prefix = self.prefix.as_deref().unwrap_or_default();
                format!("{prefix}{}", secret.expose())
            }
            (Some(value), None) => value.clone(),
            (None, None) => String::new(),
        };
        let mut value = HeaderValue::try_from(text).map_err(|_| HeaderError::Shape)?;
        value.set_sensitive(self.secret.is_some());
        Ok(value)
    }
}

/// What the body must and must not hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BodyWith {
    /// Texts that must all be there.
    pub contains: Vec<String>,
    /// Texts of which none may be there.
    pub not_contains: Vec<String>,
}

impl BodyWith {
    /// Whether the body matters at all.
    #[must_use]
    pub fn is_judged(&self) -> bool {
        !(self.contains.is_empty() && self.not_contains.is_empty())
    }

    /// What is wrong with a body, in a few words.
    #[must_use]
    pub fn wrong(&self, body: &[u8]) -> Option<String> {
        let holds = |text: &&String| {
            text.is_empty() || body.windows(text.len()).any(|w| w == text.as_bytes())
        };
        if let Some(missing) = self.contains.iter().find(|text| !holds(text)) {
            return Some(format!("the body does not hold {missing:?}"));
        }
        let found = self.not_contains.iter().find(holds)?;
        Some(format!("the body holds {found:?}"))
    }
}

/// A status code, or a class of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    /// First code.
    pub from: u16,
    /// Last code.
    pub to: u16,
}

/// A text is no status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a status code from 100 to 599 or a class such as 2xx")]
pub struct StatusError;

impl StatusRange {
    fn code(code: u64) -> Result<Self, StatusError> {
        match u16::try_from(code) {
            Ok(code @ 100..=599) => Ok(Self {
                from: code,
                to: code,
            }),
            Ok(_) | Err(_) => Err(StatusError),
        }
    }
}

impl StatusRange {
    /// Whether a status is in it.
    #[must_use]
    pub fn contains(self, status: u16) -> bool {
        (self.from..=self.to).contains(&status)
    }
}

impl FromStr for StatusRange {
    type Err = StatusError;

    fn from_str(text: &str) -> Result<Self, StatusError> {
        let class = text
            .strip_suffix("xx")
            .or_else(|| text.strip_suffix("XX"))
            .and_then(|c| c.parse::<u16>().ok());
        match class {
            Some(class @ 1..=5) => Ok(Self {
                from: class * 100,
                to: class * 100 + 99,
            }),
            Some(_) => Err(StatusError),
            None => Self::code(text.parse().map_err(|_| StatusError)?),
        }
    }
}

impl<'de> Deserialize<'de> for StatusRange {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = StatusRange;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status code such as 204 or a class such as 2xx")
            }
            fn visit_u64<E: de::Error>(self, code: u64) -> Result<StatusRange, E> {
                StatusRange::code(code).map_err(E::custom)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<StatusRange, E> {
                text.parse().map_err(E::custom)
            }
        }
        d.deserialize_any(Visitor)
    }
}

impl JsonSchema for StatusRange {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "StatusRange".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": true,
            "description": "A status code such as 204, or a class such as 2xx",
        })
    }
}

/// What is wrong with sending these headers to `url`, which stands at `path` of a `with`: a secret in one of them does
/// not travel in the clear.
#[must_use]
pub fn secret_problem(
    path: &str,
    url: &str,
    headers: &BTreeMap<String, HeaderWith>,
) -> Option<Problem> {
    let secret = headers.values().any(|header| header.secret.is_some());
    secret.then(|| endpoint::in_the_clear(path, url)).flatten()
}

/// What is wrong with the headers at `path` of a `with`.
#[must_use]
pub fn header_problems(path: &str, headers: &BTreeMap<String, HeaderWith>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, header) in headers {
        let path = format!("{path}.{name}");
        let mut wrong = |message: &str| problems.push(Problem::new(&path, message));
        if HeaderName::try_from(name.as_str()).is_err() {
            wrong("this is no header name");
        }
        if CONNECTION_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
            wrong("this header is set by the connection itself");
        }
        match (&header.value, &header.secret) {
            (Some(_), Some(_)) => wrong("give either value or secret, not both"),
            (None, None) => wrong("expected value or secret"),
            (Some(_), None) | (None, Some(_)) => {}
        }
        if header.prefix.is_some() && header.secret.is_none() {
            wrong("a prefix stands before a secret: write it into value");
        }
        for text in [&header.value, &header.prefix].into_iter().flatten() {
            if HeaderValue::try_from(text).is_err() {
                wrong("a header cannot hold these characters");
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_codes_and_classes() {
        assert_eq!("2xx".parse(), Ok(StatusRange { from: 200, to: 299 }));
        assert_eq!("204".parse(), Ok(StatusRange { from: 204, to: 204 }));
        for wrong in ["6xx", "0xx", "99", "600", "ok", "", "2x"] {
            assert_eq!(wrong.parse::<StatusRange>(), Err(StatusError), "{wrong}");
        }
    }

    #[test]
    fn a_body_is_judged_by_what_it_holds() {
        let body = BodyWith {
            contains: vec!["ok".into()],
            not_contains: vec!["maintenance".into()],
        };
        assert_eq!(body.wrong(b"all ok"), None);
        assert_eq!(
            body.wrong(b"").as_deref(),
            Some("the body does not hold \"ok\"")
        );
        assert_eq!(
            body.wrong(b"ok maintenance").as_deref(),
            Some("the body holds \"maintenance\"")
        );
    }
}
