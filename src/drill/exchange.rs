//! HTTP requests from within a bubble, and to nowhere else.

use std::time::Duration;

use url::Url;

use crate::port::{
    cause, endpoint,
    kind::Problem,
    request::{BodyWith, StatusRange},
};

/// What an answer must be.
#[derive(Clone, Debug)]
pub struct Expected {
    /// One of these.
    pub status: Vec<StatusRange>,
    /// Its body.
    pub body: BodyWith,
}

/// `2xx`.
pub fn success() -> Vec<StatusRange> {
    vec![StatusRange { from: 200, to: 299 }]
}

/// What is wrong with a URL in a bubble: nothing but its own loopback can be reached there.
pub fn url_problem(field: &str, url: &str) -> Option<Problem> {
    let parsed = match Url::parse(url) {
        Ok(parsed) => parsed,
        Err(e) => return Some(Problem::new(field, format!("is no URL: {e}"))),
    };
    if parsed.scheme() != "http" {
        return Some(Problem::new(
            field,
            "expected http://: nobody else listens in a bubble",
        ));
    }
    if parsed.host_str() != Some("127.0.0.1") {
        return Some(
            Problem::new(field, "a drill asks and loads nothing but its own bubble")
                .hint("write http://127.0.0.1:PORT/path"),
        );
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Some(Problem::new(
            field,
            "a URL must not hold a user name or password",
        ));
    }
    None
}

/// A client for use within a bubble: no proxy, no redirect.
///
/// # Errors
/// Where it cannot be made.
pub fn client(patience: Duration) -> Result<reqwest::Client, String> {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(patience)
        .build()
        .map_err(|e| cause::in_full(&e))
}

/// Asks once.
///
/// # Errors
/// What is wrong with the answer, or why there is none.
pub async fn ask(client: &reqwest::Client, url: &str, expected: &Expected) -> Result<(), String> {
    let answer = client.get(url).send().await;
    let answer = answer.map_err(|e| cause::without_repeats(&e.without_url()))?;
    let status = answer.status().as_u16();
    // Read to its end in any case, so that the connection can be used again.
    let body = endpoint::body(answer).await;
    if !expected.status.iter().any(|range| range.contains(status)) {
        return Err(format!("the answer is {status}"));
    }
    expected.body.wrong(&body).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_bubble_itself_can_be_named() {
        assert_eq!(url_problem("url", "http://127.0.0.1:8080/healthz"), None);
        for outside in [
            "http://shop.example.com/",
            "http://192.0.2.1/",
            "https://127.0.0.1/",
            "http://localhost:80/",
            "http://a:b@127.0.0.1/",
            "http://127.0.0.1.example.com/",
            "nonsense",
        ] {
            assert!(url_problem("url", outside).is_some(), "{outside}");
        }
    }
}
