//! What keeps browsers honest: headers of every answer, whose requests are taken, and where one may be led to.

use axum::{
    extract::Request,
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
        header::{
            AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, ORIGIN, REFERRER_POLICY,
            X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
        },
    },
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::problem::Problem;

/// The desk's own files and nothing else, in nobody's frame.
const CONTENT: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
    img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const OPENER: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// The longest path that one is led to.
const LONGEST: usize = 512;

/// Takes no change that another site had a browser ask for, and puts the headers on every answer.
///
/// There is no `Strict-Transport-Security`: it would hold for all ports of the host, and the status page may be at one of
/// them without TLS. The session's cookie goes over TLS alone in any case.
pub async fn keep(request: Request, next: Next) -> Response {
    let changes = !matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    );
    // No browser sends a token that it was not given by a program of the desk's own site.
    let by_token = request.headers().contains_key(AUTHORIZATION);
    let mut answer = if changes && !by_token && !is_own(request.headers()) {
        Problem::new(
            StatusCode::FORBIDDEN,
            "Another site asked for this.",
            "What changes something is taken from the desk's own pages alone.",
            "Open the desk itself and do it there. A proxy in front of the desk has to hand on the header Host.",
        )
        .into_response()
    } else {
        next.run(request).await
    };
    let headers = answer.headers_mut();
    let mut put = |name: HeaderName, value: &'static str| {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    };
    put(CONTENT_SECURITY_POLICY, CONTENT);
    put(X_CONTENT_TYPE_OPTIONS, "nosniff");
    put(X_FRAME_OPTIONS, "DENY");
    // Not no-referrer: with that a browser says "Origin: null" for the desk's own forms.
    put(REFERRER_POLICY, "same-origin");
    put(CACHE_CONTROL, "no-store");
    put(OPENER, "same-origin");
    put(RESOURCE, "same-origin");
    answer
}

/// Whether a request comes from the desk's own pages, or from no page at all. Browsers of today say so themselves; of
/// older ones the origin is compared.
fn is_own(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get(SEC_FETCH_SITE) {
        return site == "same-origin" || site == "none";
    }
    let Some(origin) = headers.get(ORIGIN) else {
        return true;
    };
    let origin = origin.to_str().ok().and_then(|o| o.parse::<Uri>().ok());
    let host = headers.get(HOST).and_then(|h| h.to_str().ok());
    match (origin.as_ref().and_then(Uri::authority), host) {
        (Some(origin), Some(host)) => origin.as_str().eq_ignore_ascii_case(host),
        (None, _) | (_, None) => false,
    }
}

/// Whether a link of another site led a browser here: then it sends no cookie, though it may have one.
#[must_use]
pub fn is_led_here(headers: &HeaderMap) -> bool {
    let site = headers.get(SEC_FETCH_SITE);
    site.is_some_and(|site| site == "cross-site" || site == "same-site")
}

/// A path of the desk that one may be led to; the first page for anything else.
#[must_use]
pub fn own_path(wanted: Option<&str>) -> &str {
    let is_own = |path: &str| {
        path.len() <= LONGEST
            && path.starts_with('/')
            && !path.starts_with("//")
            && !path.starts_with("/log")
            && path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
    };
    wanted.filter(|path| is_own(path)).unwrap_or("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().cloned();
        pairs
            .map(|(name, value)| (name, HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn one_is_led_to_the_desks_own_pages_alone() {
        for own in ["/", "/services/shop", "/services/shop/plan?kind=failover"] {
            assert_eq!(own_path(Some(own)), own);
        }
        for other in [
            "//evil.example",
            "https://evil.example/",
            "/\\evil.example",
            "/a\r\nSet-Cookie: x=y",
            "/\tevil.example",
            "javascript:alert(1)",
            "services",
            "/logout",
            "/login?next=/",
            "",
        ] {
            assert_eq!(own_path(Some(other)), "/", "{other:?}");
        }
        assert_eq!(own_path(Some(&"/a".repeat(400))), "/");
        assert_eq!(own_path(None), "/");
    }

    #[test]
    fn changes_are_taken_from_the_desks_own_pages() {
        let site = |value| headers(&[(SEC_FETCH_SITE, value), (HOST, "desk.example")]);
        assert!(is_own(&site("same-origin")) && is_own(&site("none")));
        assert!(!is_own(&site("cross-site")) && !is_own(&site("same-site")));
        let from = |origin| headers(&[(ORIGIN, origin), (HOST, "desk.example:8443")]);
        assert!(is_own(&from("https://desk.example:8443")));
        for other in ["https://desk.example", "https://evil.example:8443", "null"] {
            assert!(!is_own(&from(other)), "{other}");
        }
        assert!(is_own(&headers(&[])), "no browser sends neither");
    }
}
