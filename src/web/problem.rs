//! What an API answers where something is not done (RFC 9457), and what a page says then.

use axum::{
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{desk::message::Refusal, model::span::Span};

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The status, as in the answer's first line.
    pub status: u16,
    /// What kind of problem it is, in one sentence.
    pub title: String,
    /// What happened here.
    pub detail: String,
    /// What to do.
    pub help: String,
    /// After so many seconds it may be tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

impl Problem {
    /// A problem.
    #[must_use]
    pub fn new(
        status: StatusCode,
        title: &str,
        detail: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self {
            status: status.as_u16(),
            title: title.to_owned(),
            detail: detail.into(),
            help: help.into(),
            retry_after: None,
        }
    }

    /// Nobody is logged in.
    #[must_use]
    pub fn stranger() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "The desk does not know who you are.",
            "No token came with the request, or one that is nobody's.",
            "Send 'Authorization: Bearer TOKEN' with your personal token; 'failover token' makes one.",
        )
    }

    /// Too many tokens that were nobody's.
    #[must_use]
    pub fn too_many(wait: Span) -> Self {
        let mut problem = Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "Too many tokens were wrong.",
            format!("Your address may try again in {wait}."),
            "Compare 'failover token --hash-of FILE' with tokenHash in the documents.",
        );
        problem.retry_after = Some(wait.as_millis().div_ceil(1000).max(1));
        problem
    }

    /// What was sent is not understood.
    #[must_use]
    pub fn wrong(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "The request is not understood.",
            detail,
            "See /api/v1/openapi.json for what is taken.",
        )
    }

    /// The controller said no.
    #[must_use]
    pub fn of(refusal: Refusal, advice: String) -> Self {
        match refusal {
            Refusal::NoService { name, known } => Self::new(
                StatusCode::NOT_FOUND,
                "There is no such service.",
                format!("There is no service {name} that you may see."),
                match known.as_slice() {
                    [] => "Names are case-sensitive.".to_owned(),
                    known => format!("You may see {}.", known.join(", ")),
                },
            ),
            Refusal::TokenNeeded => Self::stranger(),
            Refusal::TokenUnknown { service } => Self::new(
                StatusCode::FORBIDDEN,
                "You are not of the team.",
                format!("Nobody in the team of {service} has your token."),
                "Have its hash added at spec.team.people[].tokenHash.",
            ),
            Refusal::Stranger { service, who } => Self::new(
                StatusCode::FORBIDDEN,
                "You are not of the team.",
                format!("{who} is nobody of the team of {service}."),
                "Have yourself added at spec.team.people.",
            ),
            Refusal::NoPlan { service, reason } => Self::new(
                StatusCode::CONFLICT,
                "No plan can be made.",
                format!("{service}: {reason}."),
                "Change the documents as it says, or choose another kind of run.",
            ),
            Refusal::Version { .. } => Self::new(
                StatusCode::BAD_REQUEST,
                "The controller has another version.",
                "The request is of another version of failover.",
                "Use the program that the controller was started from.",
            ),
            Refusal::Engine { reason } => Self::new(
                StatusCode::CONFLICT,
                "The controller refused.",
                reason,
                advice,
            ),
        }
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut answer = (self.status(), body).into_response();
        let headers = answer.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(secs) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(secs));
        }
        if self.status() == StatusCode::UNAUTHORIZED {
            headers.insert(
                WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"failover\""),
            );
        }
        answer
    }
}
