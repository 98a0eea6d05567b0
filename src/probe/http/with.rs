//! Settings of `probe/http`.

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use super::super::{resolve, tls::TlsWith};
use crate::port::{
    kind::{Problem, With},
    request::{BodyWith, HeaderWith, StatusRange, header_problems, secret_problem},
};

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

impl HttpWith {
    pub(super) fn accepts(&self, status: StatusCode) -> bool {
        self.status
            .iter()
            .any(|range| range.contains(status.as_u16()))
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
}

impl With for HttpWith {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = self.url_problems();
        problems.extend(secret_problem("url", &self.url, &self.headers));
        problems.extend(header_problems("headers", &self.headers));
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

    use super::super::KIND;

    fn problems(with: &Value) -> Vec<(String, String)> {
        (KIND.check)(with)
            .into_iter()
            .map(|p| (p.path, p.message))
            .collect()
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
    fn a_secret_does_not_travel_in_the_clear() {
        let with = |url: &str, header: Value| json!({"url": url, "headers": {"A": header}});
        let (secret, value) = (json!({"secret": {"env": "X"}}), json!({"value": "x"}));
        for good in [
            with("https://shop.example.com/", secret.clone()),
            with("http://127.0.0.1:8080/", secret.clone()),
            with("http://shop.example.com/", value),
        ] {
            assert_eq!(problems(&good), [], "{good}");
        }
        let far = problems(&with("http://shop.example.com/", secret));
        assert_eq!(far, [("url".to_owned(), "is not encrypted".to_owned())]);
    }

    #[test]
    fn the_host_has_no_brackets() {
        let hosts = (KIND.hosts)(&json!({"url": "http://[::1]:80/"}));
        assert_eq!(hosts, ["::1"]);
    }
}
