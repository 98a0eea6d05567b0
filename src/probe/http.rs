//! `probe/http`: a request as a customer would make it, over a fresh connection each time.

mod exchange;
mod with;

use std::{fmt, net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::body::Bytes;
use serde_json::Value;
use url::Url;

use self::exchange::Answer;
pub use self::with::{HttpMethod, HttpWith};
use super::{
    dial::{Endpoint, dial},
    fault::Fault,
    progress::Progress,
    readiness, resolve,
    tls::{Tls, Wire},
};
use crate::{
    model::{
        check::CheckItem,
        observation::{Evidence, Look, Sight},
        service::Via,
        span::Span,
    },
    port::{
        kind::{Kind, Make, MakeError, Wiring, read},
        probe::{LookContext, Probe, SharedProbe},
        request::HeaderError,
        runtime::SharedRuntime,
        secret::SharedSecrets,
    },
};

/// The kind.
pub const KIND: Kind = Kind::new::<HttpWith>(
    "probe/http",
    "asks a URL and judges status and body",
    "url: https://shop.example.com/healthz\nstatus: [2xx]\nbody:\n  contains: [ok]\n",
    Make::Probe(make),
)
.giving(Evidence::Outside);

fn make(with: &Value, wiring: &Wiring) -> Result<SharedProbe, MakeError> {
    let with: HttpWith = read(with)?;
    let url = Url::parse(&with.url).map_err(|e| MakeError(format!("with.url: {e}")))?;
    let resolver = with.resolver.as_deref().and_then(resolve::server);
    Ok(Arc::new(HttpProbe {
        tls: Tls::new(with.tls.clone()),
        with,
        url,
        resolver,
        secrets: wiring.secrets.clone(),
        runtime: wiring.runtime.clone(),
    }))
}

struct HttpProbe {
    with: HttpWith,
    url: Url,
    tls: Tls,
    resolver: Option<SocketAddr>,
    secrets: SharedSecrets,
    runtime: SharedRuntime,
}

impl fmt::Debug for HttpProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpProbe")
            .field("url", &self.with.url)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Probe for HttpProbe {
    async fn look(&self, context: &LookContext) -> Look {
        let progress = Progress::start();
        let answer = progress
            .within(context.timeout, self.ask(&context.via, &progress))
            .await;
        let took = progress.elapsed();
        let mut look = match answer {
            Ok(answer) => self.judge(&answer, took),
            Err(fault) => fault.into_look(),
        };
        let known = progress.known();
        look.facts.http = Some(known.times.clone());
        look.facts.certificate_expires = known.certificate_expires;
        drop(known);
        readiness::mention_expiry(&mut look, self.runtime.now(), self.tls.warn_before());
        look
    }

    async fn check(&self, context: &LookContext) -> Vec<CheckItem> {
        let look = self.look(context).await;
        readiness::items(
            &format!("probe/http {}", self.with.url),
            &look,
            self.runtime.now(),
            self.tls.warn_before(),
        )
    }
}

impl HttpProbe {
    /// Asks, and follows redirects as far as the settings allow.
    async fn ask(&self, via: &Via, progress: &Progress) -> Result<Answer, Fault> {
        let mut url = self.url.clone();
        let mut method = self.with.method.as_http();
        let mut hops = 0;
        loop {
            let answer = self.hop(&url, method.clone(), via, progress).await?;
            let Some(location) = answer
                .location
                .as_deref()
                .filter(|_| self.with.follow_redirects > 0)
            else {
                return Ok(answer);
            };
            if hops == self.with.follow_redirects {
                return Err(Fault::Redirects(hops));
            }
            hops += 1;
            url = url
                .join(location)
                .ok()
                .filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host())
                .ok_or_else(|| Fault::RedirectTarget(cut(location)))?;
            method = after_redirect(answer.status, method);
        }
    }

    /// One request over a connection of its own.
    async fn hop(
        &self,
        url: &Url,
        method: Method,
        via: &Via,
        progress: &Progress,
    ) -> Result<Answer, Fault> {
        let request = self.request(url, method)?;
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err(Fault::RedirectTarget(cut(url.as_str())));
        };
        let endpoint = Endpoint {
            host: host.into(),
            port,
        };
        let stream = dial(&endpoint, via, self.resolver, progress).await?;
        let wire = if url.scheme() == "https" {
            // Boxed: a handshake's state is large, and plain looks would carry it too.
            let stream = Box::pin(self.tls.connect(&endpoint.host, stream, progress)).await?;
            Wire::Tls(Box::new(stream))
        } else {
            Wire::Plain(stream)
        };
        exchange::exchange(wire, request, self.with.body.is_judged(), progress).await
    }

    fn request(&self, url: &Url, method: Method) -> Result<Request<Empty<Bytes>>, Fault> {
        let mut request = Request::new(Empty::new());
        *request.method_mut() = method;
        let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
        *request.uri_mut() =
            Uri::try_from(target).map_err(|_| Fault::RedirectTarget(cut(url.as_str())))?;
        let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
        let headers = request.headers_mut();
        headers.insert(
            header::HOST,
            HeaderValue::from_str(authority)
                .map_err(|_| Fault::RedirectTarget(cut(url.as_str())))?,
        );
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(
            header::USER_AGENT,
            HeaderValue::from_static(concat!("failover/", env!("CARGO_PKG_VERSION"))),
        );
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        // What a document gives is for this origin only, secrets above all.
        if url.origin() == self.url.origin() {
            self.own_headers(headers)?;
        }
        Ok(request)
    }

    fn own_headers(&self, headers: &mut HeaderMap) -> Result<(), Fault> {
        for (name, value) in &self.with.headers {
            let shape = || Fault::SecretShape(name.clone());
            let key = HeaderName::try_from(name.as_str()).map_err(|_| shape())?;
            let text = value.read(&*self.secrets).map_err(|e| match e {
                HeaderError::Secret(e) => Fault::Secret(e),
                HeaderError::Shape => shape(),
            })?;
            headers.insert(key, text);
        }
        Ok(())
    }

    fn judge(&self, answer: &Answer, took: Span) -> Look {
        let mut detail = format!("HTTP {} in {} ms", answer.status.as_u16(), took.as_millis());
        let sight = if !self.with.accepts(answer.status) {
            Sight::Down
        } else if let Some(wrong) = self.with.body.wrong(&answer.body) {
            detail.push_str(", but ");
            detail.push_str(&wrong);
            Sight::Down
        } else {
            Sight::Up
        };
        Look {
            latency: Some(took),
            ..Look::new(sight, detail)
        }
    }
}

/// RFC 9110, section 15.4: 303 always turns into GET, and 301 and 302 do for POST.
fn after_redirect(status: StatusCode, method: Method) -> Method {
    match status {
        StatusCode::SEE_OTHER if method != Method::HEAD => Method::GET,
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND if method == Method::POST => Method::GET,
        _ => method,
    }
}

/// At most 120 characters of what the other side sent.
fn cut(text: &str) -> String {
    text.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_post_becomes_a_get_where_the_rfc_says_so() {
        assert_eq!(after_redirect(StatusCode::FOUND, Method::POST), Method::GET);
        assert_eq!(
            after_redirect(StatusCode::PERMANENT_REDIRECT, Method::POST),
            Method::POST
        );
        assert_eq!(
            after_redirect(StatusCode::SEE_OTHER, Method::HEAD),
            Method::HEAD
        );
    }
}
