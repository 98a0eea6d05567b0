//! The built-in listener: serves the page last rendered, from memory, so that it works without any disk or bucket.

use std::{
    collections::BTreeMap,
    future::Future,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
        header::{
            ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY,
            CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY, RETRY_AFTER,
            X_CONTENT_TYPE_OPTIONS,
        },
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use futures::future::{Either, select};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::style::POLICY;
use crate::port::target::PageFile;

/// How long caches may keep a file without asking: short, because the address that works may have just changed.
const CACHE: &str = "public, max-age=10";

/// Largest request body that any route takes, bytes; forms of one field need no more.
const BODY: usize = 16 * 1024;

/// Largest head of a request, bytes.
const HEAD: usize = 16 * 1024;

/// The page last rendered. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Pages {
    files: Arc<RwLock<Arc<BTreeMap<String, Served>>>>,
    unserved: bool,
}

#[derive(Clone, Debug)]
struct Served {
    content_type: &'static str,
    etag: HeaderValue,
    bytes: Bytes,
}

impl Pages {
    /// Pages that nobody can ask for, so that none need be rendered.
    #[must_use]
    pub fn unserved() -> Self {
        Self {
            unserved: true,
            ..Self::default()
        }
    }

    /// Whether somebody can ask for them.
    #[must_use]
    pub const fn are_served(&self) -> bool {
        !self.unserved
    }

    /// Puts these files in the place of all those shown before.
    pub fn show(&self, files: &[PageFile]) {
        let map = files
            .iter()
            .map(|f| (f.path.clone(), Served::new(f)))
            .collect();
        *self.files.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(map);
    }

    fn current(&self) -> Arc<BTreeMap<String, Served>> {
        Arc::clone(&self.files.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Served {
    fn new(file: &PageFile) -> Self {
        let digest = hex::encode(&Sha256::digest(&file.bytes)[..16]);
        Self {
            content_type: file.content_type,
            etag: HeaderValue::from_str(&format!("\"{digest}\""))
                .unwrap_or_else(|_| HeaderValue::from_static("\"\"")),
            bytes: Bytes::from(file.bytes.clone()),
        }
    }
}

/// Who is at the other end of a connection; every request has it among its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// How much a listener puts up with.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; more wait in the kernel's queue.
    pub connections: u32,
    /// Longest time for the head of a request to arrive, also the longest idle time between two requests.
    pub head: Duration,
    /// Longest time to answer a request.
    pub answer: Duration,
    /// Longest life of a connection: bounds readers that take their time.
    pub connection: Duration,
    /// Longest time that a request under way is waited for when its connection is to end.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 2048,
            head: Duration::from_secs(10),
            answer: Duration::from_secs(15),
            connection: Duration::from_mins(2),
            drain: Duration::from_secs(5),
        }
    }
}

/// The routes of the page. It answers everything that no other route takes, so further routes may be merged that
/// have no fallback of their own.
pub fn router(pages: Pages) -> Router {
    Router::new().fallback(page).with_state(pages)
}

/// Serves until `stop` ends, then waits for requests under way for at most `limits.drain`.
pub async fn serve(
    listener: TcpListener,
    routes: Router,
    limits: Limits,
    stop: impl Future<Output = ()> + Send,
) {
    serve_over(listener, None, routes, limits, stop).await;
}

/// The same over TLS where there is an acceptor.
pub async fn serve_over(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    routes: Router,
    limits: Limits,
    stop: impl Future<Output = ()> + Send,
) {
    let routes = routes
        .layer(DefaultBodyLimit::max(BODY))
        .layer(middleware::from_fn(move |request, next| {
            answer_in_time(limits.answer, request, next)
        }));
    let slots = Arc::new(Semaphore::new(limits.connections as usize));
    let (stopping, stopped) = watch::channel(false);
    let mut stop = pin!(stop);
    loop {
        let next = pin!(accept(&listener, &slots));
        match select(stop.as_mut(), next).await {
            Either::Left(((), _)) => break,
            Either::Right((None, _)) => {}
            Either::Right((Some((stream, peer, slot)), _)) => {
                let (tls, routes, stopped) = (tls.clone(), routes.clone(), stopped.clone());
                tokio::spawn(async move {
                    match tls {
                        None => attend(stream, peer, routes, limits, stopped).await,
                        Some(tls) => {
                            if let Some(stream) = shake_hands(&tls, stream, limits).await {
                                attend(stream, peer, routes, limits, stopped).await;
                            }
                        }
                    }
                    drop(slot);
                });
            }
        }
    }
    drop(listener);
    stopping.send_replace(true);
    let everyone_left = slots.acquire_many(limits.connections);
    if timeout(limits.drain, everyone_left).await.is_err() {
        tracing::warn!("requests under way were cut off: their clients were too slow");
    }
}

/// The next connection; none where the kernel had none to give, after a short wait.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, Peer, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, address)) => Some((stream, Peer(address), slot)),
        Err(error) => {
            // Out of file descriptors, or the client is gone already: at once it would only fail again.
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

/// TLS on a connection; none where the client does not get so far in time.
async fn shake_hands(
    tls: &TlsAcceptor,
    stream: TcpStream,
    limits: Limits,
) -> Option<TlsStream<TcpStream>> {
    match timeout(limits.head, tls.accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!("a TLS handshake took too long");
            None
        }
    }
}

/// Serves one connection. When it has lived long enough, or the listener stops, the request under way is still
/// answered, within `limits.drain`.
async fn attend(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: Peer,
    routes: Router,
    limits: Limits,
    mut stopped: watch::Receiver<bool>,
) {
    let routes = TowerToHyperService::new(routes);
    let answer = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        routes.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = pin!(connection);
    let enough = pin!(async {
        drop(timeout(limits.connection, stopped.wait_for(|yes| *yes)).await);
    });
    let ended = match select(connection.as_mut(), enough).await {
        Either::Left((ended, _)) => Ok(ended),
        Either::Right(_) => {
            connection.as_mut().graceful_shutdown();
            timeout(limits.drain, connection).await
        }
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection ended early"),
        Err(_) => tracing::debug!("a connection was closed: its client was too slow"),
    }
}

async fn answer_in_time(limit: Duration, request: Request, next: Next) -> Response {
    match timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn page(State(pages): State<Pages>, request: Request) -> Response {
    let head = match *request.method() {
        Method::GET => false,
        Method::HEAD => true,
        _ => return (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET, HEAD")]).into_response(),
    };
    let files = pages.current();
    if files.is_empty() {
        let soon = [(RETRY_AFTER, "2"), (CACHE_CONTROL, "no-store")];
        return (StatusCode::SERVICE_UNAVAILABLE, soon, "not rendered yet\n").into_response();
    }
    let path = request.uri().path().trim_start_matches('/');
    let path = if path.is_empty() { "index.html" } else { path };
    let Some(file) = files.get(path) else {
        return (StatusCode::NOT_FOUND, guards(), "not found\n").into_response();
    };
    let mut headers = guards();
    headers.insert(ETAG, file.etag.clone());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(CACHE));
    if !file.content_type.starts_with("text/html") {
        // Apps of other origins read these.
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
    if known(request.headers(), &file.etag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(file.content_type));
    let body = if head {
        headers.insert(
            axum::http::header::CONTENT_LENGTH,
            HeaderValue::from(file.bytes.len()),
        );
        Body::empty()
    } else {
        Body::from(file.bytes.clone())
    };
    (headers, body).into_response()
}

/// Whether the client says that it has this very file (RFC 9110, section 13.1.2, weak comparison).
fn known(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(|v| v.trim().trim_start_matches("W/"))
        .any(|v| v == "*" || v.as_bytes() == etag.as_bytes())
}

/// What keeps a browser from doing anything but showing the page.
fn guards() -> HeaderMap {
    const FRAME_OPTIONS: HeaderName = HeaderName::from_static("x-frame-options");
    let mut headers = HeaderMap::new();
    if let Ok(policy) = HeaderValue::from_str(&format!("{}; frame-ancestors 'none'", *POLICY)) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers
}
