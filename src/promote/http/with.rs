//! Settings of `http/promote`.

use std::collections::BTreeMap;

use http::Method;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use crate::port::{
    kind::{Problem, With},
    request::{BodyWith, HeaderWith, StatusRange, header_problems, secret_problem},
};

/// Settings of `http/promote`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpWith {
    /// Where the promotion is asked for.
    pub url: String,
    /// How; default POST.
    #[serde(default)]
    pub method: HttpMethod,
    /// Headers to send. `Idempotency-Key` is added: the same over every repeat of the step.
    #[serde(default)]
    pub headers: BTreeMap<String, HeaderWith>,
    /// JSON body; default: what commands get on standard input (service, run, step, epoch, key, from, to, …).
    #[serde(default)]
    pub body: Option<Value>,
    /// Statuses that mean "done, or under way"; default `2xx`. Another status below 500 means refused; from 500 on
    /// it may have happened.
    #[serde(default = "success")]
    pub status: Vec<StatusRange>,
    /// How to see whether the standby has taken over.
    pub observe: ObserveWith,
}

/// How to see whether the standby has taken over.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObserveWith {
    /// Asked with GET, which changes nothing.
    pub url: String,
    /// Headers to send.
    #[serde(default)]
    pub headers: BTreeMap<String, HeaderWith>,
    /// Statuses that mean that it has, where the body is right too; default `2xx`. 401, 403, 407, 429, 500, 502 and
    /// 504 tell nothing; any other means that it has not.
    #[serde(default = "success")]
    pub status: Vec<StatusRange>,
    /// What the body must and must not hold, within its first 64 KiB.
    #[serde(default)]
    pub body: BodyWith,
}

fn success() -> Vec<StatusRange> {
    vec![StatusRange { from: 200, to: 299 }]
}

/// Methods that change something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    /// Asks for something to be done.
    #[default]
    Post,
    /// Puts a state in place.
    Put,
    /// Changes a part of a state.
    Patch,
}

impl HttpMethod {
    pub(super) fn as_http(self) -> Method {
        match self {
            Self::Post => Method::POST,
            Self::Put => Method::PUT,
            Self::Patch => Method::PATCH,
        }
    }
}

impl With for HttpWith {
    fn problems(&self) -> Vec<Problem> {
        let mut all = url_problems("url", &self.url);
        all.extend(url_problems("observe.url", &self.observe.url));
        all.extend(secret_problem("url", &self.url, &self.headers));
        let observe = &self.observe;
        all.extend(secret_problem(
            "observe.url",
            &observe.url,
            &observe.headers,
        ));
        all.extend(header_problems("headers", &self.headers));
        all.extend(header_problems("observe.headers", &self.observe.headers));
        for name in self.headers.keys() {
            if name.eq_ignore_ascii_case("idempotency-key") {
                all.push(Problem::new(
                    format!("headers.{name}"),
                    "this header is set by failover itself",
                ));
            }
        }
        for (path, status) in [
            ("status", &self.status),
            ("observe.status", &self.observe.status),
        ] {
            if status.is_empty() {
                all.push(Problem::new(path, "expected at least one status").hint("[2xx]"));
            }
        }
        all
    }

    fn hosts(&self) -> Vec<String> {
        [&self.url, &self.observe.url]
            .into_iter()
            .filter_map(|text| Url::parse(text).ok())
            .filter_map(|url| Some(url.host_str()?.trim_matches(['[', ']']).to_owned()))
            .collect()
    }
}

fn url_problems(path: &str, text: &str) -> Vec<Problem> {
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(e) => {
            return vec![
                Problem::new(path, format!("{text:?} is no URL: {e}"))
                    .hint("write it whole, such as https://standby.example.com/promote"),
            ];
        }
    };
    let mut problems = Vec::new();
    if !matches!(url.scheme(), "http" | "https") {
        let message = format!("expected http or https, not {}", url.scheme());
        problems.push(Problem::new(path, message));
    }
    if !url.username().is_empty() || url.password().is_some() {
        problems.push(
            Problem::new(path, "a URL must not hold a user name or password")
                .hint("send it as a header: headers: {Authorization: {secret: {env: NAME}, prefix: \"Basic \"}}"),
        );
    }
    problems
}
