//! Settings of `probe/http`.

use std::{collections::BTreeMap, fmt, str::FromStr};

use http::{HeaderName, HeaderValue, Method, StatusCode};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};
use url::Url;

use super::super::{resolve, tls::TlsWith};
use crate::{
    model::secret::SecretRef,
    port::kind::{Problem, With},
};

/// Headers that belong to the connection, which is the probe's own.
const CONNECTION_HEADERS: [&str; 5] = [
    "connection",
    "content-length",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Settings of `probe/http`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpWith {
    /// What to ask for: `http://…` or `https://…`.
    pub url: String,
    /// How to ask; default GET.
    #[serde(default)]
    pub method: HttpMethod,
    /// Headers to send, to the URL's own origin only, not to where it redirects.
    #[serde(default)]
    pub headers: BTreeMap<String, HeaderWith>,
    /// Statuses that are right: codes such as 204, or classes such as `2xx`; default `2xx`.
    #[serde(default = "success")]
    pub status: Vec<StatusRange>,
    /// What the body must and must not hold, within its first 64 KiB.
    #[serde(default)]
    pub body: BodyWith,
    /// Redirects that are followed before the answer is judged; default 0: the redirect itself is judged.
    #[serde(default)]
    pub follow_redirects: u8,
    /// How the certificate is checked.
    #[serde(default)]
    pub tls: TlsWith,
    /// The name server to ask instead of the host's own, as `address[:port]`; a proxy resolves by itself.
    #[serde(default)]
    pub resolver: Option<String>,
}

fn success() -> Vec<StatusRange> {
    vec![StatusRange { from: 200, to: 299 }]
}

/// Methods that change nothing at the other side, and POST for those who have such a check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    /// The whole answer.
    #[default]
    Get,
    /// Status and headers only.
    Head,
    /// What may be asked.
    Options,
    /// With an empty body.
    Post,
}

impl HttpMethod {
    pub(super) fn as_http(self) -> Method {
        match self {
            Self::Get => Method::GET,
            Self::Head => Method::HEAD,
            Self::Options => Method::OPTIONS,
            Self::Post => Method::POST,
        }
    }
}

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
    pub(super) fn is_judged(&self) -> bool {
        !(self.contains.is_empty() && self.not_contains.is_empty())
    }

    /// What is wrong with a body, in a few words.
    pub(super) fn wrong(&self, body: &[u8]) -> Option<String> {
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

impl HttpWith {
    pub(super) fn accepts(&self, status: StatusCode) -> bool {
        self.status
            .iter()
            .any(|range| (range.from..=range.to).contains(&status.as_u16()))
    }

    fn url_problems(&self) -> Vec<Problem> {
        let url = match Url::parse(&self.url) {
            Ok(url) => url,
            Err(e) => {
                return vec![
                    Problem::new("url", format!("{:?} is no URL: {e}", self.url))
                        .hint("write it whole, such as https://shop.example.com/healthz"),
                ];
            }
        };
        let mut problems = Vec::new();
        if !matches!(url.scheme(), "http" | "https") {
            problems.push(Problem::new(
                "url",
                format!("expected http or https, not {}", url.scheme()),
            ));
        }
        if !url.username().is_empty() || url.password().is_some() {
            problems.push(
                Problem::new("url", "a URL must not hold a user name or password")
                    .hint("send it as a header: headers: {Authorization: {secret: {env: NAME}, prefix: \"Basic \"}}"),
            );
        }
        problems
    }

    fn header_problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (name, header) in &self.headers {
            let path = format!("headers.{name}");
            let mut wrong = |message: &str| problems.push(Problem::new(&path, message));
            if HeaderName::try_from(name.as_str()).is_err() {
                wrong("this is no header name");
            }
            if CONNECTION_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
                wrong("this header is the probe's own");
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
}

impl With for HttpWith {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = self.url_problems();
        problems.extend(self.header_problems());
        problems.extend(self.tls.problems());
        if self.status.is_empty() {
            problems.push(Problem::new("status", "expected at least one status").hint("[2xx]"));
        }
        if self.method == HttpMethod::Head && self.body.is_judged() {
            problems.push(Problem::new("body", "the answer to HEAD has no body"));
        }
        problems.extend(resolve::problem(self.resolver.as_deref()));
        problems
    }

    fn hosts(&self) -> Vec<String> {
        let url = Url::parse(&self.url).ok();
        url.iter()
            .filter_map(|u| u.host_str())
            .map(|h| h.trim_matches(['[', ']']).to_owned())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::KIND, *};

    fn problems(with: &Value) -> Vec<(String, String)> {
        (KIND.check)(with)
            .into_iter()
            .map(|p| (p.path, p.message))
            .collect()
    }

    #[test]
    fn statuses_are_codes_and_classes() {
        assert_eq!("2xx".parse(), Ok(StatusRange { from: 200, to: 299 }));
        assert_eq!("204".parse(), Ok(StatusRange { from: 204, to: 204 }));
        for wrong in ["6xx", "0xx", "99", "600", "ok", "", "2x"] {
            assert_eq!(wrong.parse::<StatusRange>(), Err(StatusError), "{wrong}");
        }
    }

    #[test]
    fn each_mistake_is_named_at_its_field() {
        let with = json!({
            "url": "ftp://u:p@h/",
            "method": "HEAD",
            "status": [],
            "headers": {
                "A": {},
                "B": {"value": "x", "secret": {"env": "X"}},
                "Connection": {"value": "x"},
            },
            "body": {"contains": ["x"]},
            "tls": {"serverName": "a b"},
            "resolver": "nowhere",
        });
        let paths: Vec<_> = problems(&with).into_iter().map(|p| p.0).collect();
        assert_eq!(
            paths,
            [
                "url",
                "url",
                "headers.A",
                "headers.B",
                "headers.Connection",
                "tls.serverName",
                "status",
                "body",
                "resolver",
            ]
        );
    }

    #[test]
    fn a_type_error_is_named_at_its_field() {
        assert_eq!(
            problems(&json!({"url": "http://h/", "status": ["2xx", 999]}))[0].0,
            "status[1]"
        );
        assert_eq!(
            problems(&json!({"url": "http://h/", "tls": {"verfy": true}}))[0].0,
            "tls.verfy"
        );
    }

    #[test]
    fn the_host_has_no_brackets() {
        let hosts = (KIND.hosts)(&json!({"url": "http://[::1]:80/"}));
        assert_eq!(hosts, ["::1"]);
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
