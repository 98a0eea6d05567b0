//! What comes with a request; what is wrong with it is told as every other problem.

use std::sync::Arc;

use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{StatusCode, request::Parts},
};
use serde::de::DeserializeOwned;

use crate::{
    model::id::ServiceName,
    web::{problem::Problem, room::Room},
};

/// The service in the path.
pub struct Named(pub ServiceName);

impl FromRequestParts<Arc<Room>> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, room: &Arc<Room>) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, room).await;
        let name = path.map_err(|e| not_understood(e.status(), e.body_text()))?;
        Ok(Self(ServiceName::from(name.0.as_str())))
    }
}

/// What stands behind the `?`.
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Room>> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, room: &Arc<Room>) -> Result<Self, Problem> {
        let query = Query::<T>::from_request_parts(parts, room).await;
        let query = query.map_err(|e| not_understood(e.status(), e.body_text()))?;
        Ok(Self(query.0))
    }
}

/// The body, as JSON.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Arc<Room>> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, room: &Arc<Room>) -> Result<Self, Problem> {
        let body = Json::<T>::from_request(request, room).await;
        let body = body.map_err(|e| not_understood(e.status(), e.body_text()))?;
        Ok(Self(body.0))
    }
}

fn not_understood(status: StatusCode, detail: String) -> Problem {
    let mut problem = Problem::wrong(detail);
    problem.status = status.as_u16();
    problem
}
