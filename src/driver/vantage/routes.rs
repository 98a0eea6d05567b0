//! The desk over HTTP, for a listener of its own.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
    routing::{get, post},
};

use super::{Desk, Envelope, Reply};
use crate::vantage::message::{
    BODY, CHALLENGE, REPORT, SESSION, SESSION_HEADER, SIGNATURE_HEADER, VANTAGE_HEADER,
};

/// What observers ask for. Nothing else is answered there.
pub fn routes(desk: Arc<Desk>) -> Router {
    Router::new()
        .route(CHALLENGE, get(challenge))
        .route(SESSION, post(begin))
        .route(REPORT, post(report))
        .layer(DefaultBodyLimit::max(BODY))
        .with_state(desk)
}

async fn challenge(State(desk): State<Arc<Desk>>) -> Response {
    ([(CACHE_CONTROL, "no-store")], Json(desk.challenge())).into_response()
}

async fn begin(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Bytes) -> Response {
    desk.begin(envelope(&headers), &body).into_response()
}

async fn report(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Bytes) -> Response {
    desk.report(envelope(&headers), &body).into_response()
}

/// A header that is missing is an empty one: nothing is signed by it.
fn envelope(headers: &HeaderMap) -> Envelope<'_> {
    let text = |name| {
        let value = headers.get(name).and_then(|v| v.to_str().ok());
        value.unwrap_or_default()
    };
    Envelope {
        vantage: text(VANTAGE_HEADER),
        session: text(SESSION_HEADER),
        signature: text(SIGNATURE_HEADER),
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let signature = self.signature.as_deref().map(HeaderValue::from_str);
        if let Some(Ok(signature)) = signature {
            headers.insert(SIGNATURE_HEADER, signature);
        }
        (status, headers, self.body).into_response()
    }
}
