//! The API: what the pages do, for programs. One table of operations is served, and described as OpenAPI.

pub mod document;
pub mod extract;
pub mod operation;

use std::sync::Arc;

use axum::{Json, Router, http::StatusCode, routing::get};

use self::operation::operations;
use super::{problem::Problem, room::Room};

/// Where the API is.
pub const ROOT: &str = "/api/v1";

/// Every operation, and the document that describes them.
pub fn routes() -> Router<Arc<Room>> {
    let mut routes = Router::new().route("/openapi.json", get(describe));
    for operation in operations() {
        routes = routes.route(operation.path, (operation.mount)());
    }
    routes
        .fallback(missing)
        .method_not_allowed_fallback(not_allowed)
}

async fn describe() -> Json<serde_json::Value> {
    Json(document::document())
}

async fn missing() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "There is no such operation.",
        "The API has nothing at this path.",
        "See /api/v1/openapi.json for what there is.",
    )
}

async fn not_allowed() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "The operation has another method.",
        "The API knows this path, but not with this method.",
        "See /api/v1/openapi.json for what there is.",
    )
}
