//! `/metrics`, `/healthz` and `/readyz`, for a listener of their own: they are not for the public.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};

use super::Metrics;

/// Media type of the `OpenMetrics` text format.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `/metrics` for Prometheus; `/healthz`: 200 while every loop turns, else restart it; `/readyz`: 200 while it could
/// act, else 503 with the reasons, one a line.
pub fn routes(metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/metrics", get(figures))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(metrics)
}

async fn figures(State(metrics): State<Arc<Metrics>>) -> Response {
    ([(CONTENT_TYPE, OPEN_METRICS)], metrics.encode()).into_response()
}

async fn healthz(State(metrics): State<Arc<Metrics>>) -> Response {
    answer(&metrics.stuck())
}

async fn readyz(State(metrics): State<Arc<Metrics>>) -> Response {
    answer(&metrics.unready())
}

fn answer(reasons: &[String]) -> Response {
    if reasons.is_empty() {
        "ok\n".into_response()
    } else {
        let text = reasons.iter().fold(String::new(), |all, r| all + r + "\n");
        (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
    }
}
