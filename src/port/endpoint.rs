//! Addresses of services that are spoken to over HTTP, and how much of an answer is read.

use std::net::IpAddr;

use url::Url;

use super::kind::Problem;

/// Most of an answer that is read; errors of services are shorter.
const LONGEST_ANSWER: usize = 64 * 1024;

/// What is wrong with a base URL; unencrypted ones only lead to this host.
#[must_use]
pub fn problem(field: &str, url: &str) -> Option<Problem> {
    let parsed = match Url::parse(url) {
        Ok(parsed) => parsed,
        Err(e) => return Some(Problem::new(field, format!("is no URL: {e}"))),
    };
    if parsed.host().is_none() {
        return Some(Problem::new(field, "names no host"));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Some(
            Problem::new(field, "holds a user name or password")
                .hint("secrets are references, never values"),
        );
    }
    match parsed.scheme() {
        "https" | "http" => in_the_clear(field, url),
        other => Some(Problem::new(
            field,
            format!("has scheme {other}, expected https"),
        )),
    }
}

/// What is wrong with sending a secret to this URL; unencrypted ones only lead to this host.
#[must_use]
pub fn in_the_clear(field: &str, url: &str) -> Option<Problem> {
    let url = Url::parse(url).ok()?;
    let far = url.scheme() == "http" && !url.host_str().is_some_and(is_loopback_name);
    far.then(|| {
        Problem::new(field, "is not encrypted").hint("use https://; http:// is only for this host")
    })
}

/// The host of a URL, without port; empty where it has none.
#[must_use]
pub fn host(url: &str) -> Option<String> {
    Url::parse(url)
        .ok()?
        .host_str()
        .map(|h| h.trim_matches(['[', ']']).to_owned())
}

/// Whether a host is this machine by its name alone.
#[must_use]
pub fn is_loopback_name(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

/// The beginning of an answer's body; what could not be read is left out.
pub async fn body(mut answer: reqwest::Response) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() >= LONGEST_ANSWER {
            bytes.truncate(LONGEST_ANSWER);
            break;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_host_may_be_spoken_to_in_the_clear() {
        for good in [
            "https://api.example.com",
            "http://127.0.0.1:8080",
            "http://[::1]/x",
            "http://localhost",
        ] {
            assert_eq!(problem("url", good), None, "{good}");
        }
        for bad in [
            "http://api.example.com",
            "ftp://api.example.com",
            "nonsense",
            "https://user:pw@api.example.com",
            "http://127.0.0.1.example.com",
        ] {
            assert!(problem("url", bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn hosts_have_no_port_and_no_brackets() {
        assert_eq!(
            host("https://[2001:db8::1]:8443/x").as_deref(),
            Some("2001:db8::1")
        );
        assert_eq!(
            host("https://api.example.com:1/x").as_deref(),
            Some("api.example.com")
        );
        assert_eq!(host("nonsense"), None);
    }
}
