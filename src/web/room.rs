//! The room itself: what every page and every call of the API stands on, and where it is listened for.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Router, middleware,
    routing::{get, post},
};

use super::{
    api, asset,
    attempt::Attempts,
    caller::{self, Caller},
    course::Courses,
    entry, live, page, policy,
    problem::Problem,
    session::Sessions,
};
use crate::{
    desk::{
        clerk::Clerk,
        message::{Answer, Refusal, Request},
        speaker::Speaker,
        token::TokenHash,
    },
    driver::engine::{Engine, EngineError},
    model::{secret::Secret, time::Time},
};

/// What every page and every call stands on.
pub struct Room {
    /// Who answers.
    pub clerk: Arc<Clerk>,
    /// Whether it is listened for over TLS.
    pub secure: bool,
    /// Who has logged in.
    pub sessions: Sessions,
    /// Who tried tokens that were nobody's.
    pub attempts: Attempts,
    /// What was measured of late.
    pub courses: Courses,
}

/// Opens the desk where the engine listens for it; nothing where it does not.
///
/// # Errors
/// Where its certificate cannot be used.
pub fn open(engine: &mut Engine, clerk: &Arc<Clerk>) -> Result<(), EngineError> {
    let Some(secure) = engine.desk_is_secure() else {
        return Ok(());
    };
    let room = Arc::new(Room {
        clerk: clerk.clone(),
        secure,
        sessions: Sessions::default(),
        attempts: Attempts::default(),
        courses: Courses::default(),
    });
    let measuring = room.clone();
    engine.attend(async move { measuring.courses.keep(&measuring.clerk).await });
    engine.serve_desk(routes(room))
}

/// Everything that is answered.
pub fn routes(room: Arc<Room>) -> Router {
    Router::new()
        .route("/", get(page::overview::show))
        .route("/login", get(page::login::show).post(page::login::enter))
        .route("/logout", post(page::login::leave))
        .route("/services/{service}", get(page::service::show))
        .route("/services/{service}/plan", get(page::plan::show))
        .route("/services/{service}/timeline", get(page::timeline::show))
        .route(
            "/services/{service}/drills/{drill}",
            get(page::report::show),
        )
        .route("/services/{service}/act", post(entry::act))
        .route("/act", post(entry::act_everywhere))
        .route("/live", get(live::overview))
        .route("/live/services/{service}", get(live::service))
        .route("/desk.css", get(asset::css))
        .route("/desk.js", get(asset::script))
        .route("/icon.svg", get(asset::icon))
        .nest("/api/v1", api::routes())
        .fallback(page::missing)
        .layer(middleware::from_fn(policy::keep))
        .with_state(room)
}

impl Room {
    /// Now.
    #[must_use]
    pub fn now(&self) -> Time {
        self.clerk.runtime.now()
    }

    /// The session cookie's name. Over TLS a browser takes it from this very host alone.
    #[must_use]
    pub const fn cookie(&self) -> &'static str {
        if self.secure {
            "__Host-failover"
        } else {
            "failover"
        }
    }

    /// Whose token this is the hash of, as the documents are now.
    #[must_use]
    pub fn caller(&self, holder: TokenHash) -> Option<Caller> {
        let speaker = Speaker::Holder(holder);
        let services = self.clerk.visible(&speaker);
        let name = services
            .iter()
            .find_map(|s| speaker.person(s))?
            .name
            .clone();
        Some(Caller { speaker, name })
    }

    /// Whose token this is; each address may be wrong so often only.
    ///
    /// # Errors
    /// Where it is nobody's, or the address has to wait.
    pub fn admit(&self, token: &Secret, from: IpAddr) -> Result<Caller, Problem> {
        let now = self.now();
        if let Some(wait) = self.attempts.wait(from, now) {
            return Err(Problem::too_many(wait));
        }
        let found = caller::hash(token).and_then(|hash| self.caller(hash));
        found.ok_or_else(|| {
            self.attempts.failed(from, now);
            tracing::warn!(address = %from, "somebody showed the desk a token that is nobody's");
            Problem::stranger()
        })
    }

    /// What the clerk answers.
    ///
    /// # Errors
    /// Where it refuses.
    pub async fn ask(&self, request: Request, speaker: &Speaker) -> Result<Answer, Problem> {
        let advice = request.advice();
        let answer = self.clerk.answer(request, speaker).await.0;
        if let Answer::Refused(refusal) = answer {
            return Err(Problem::of(refusal, advice));
        }
        Ok(answer)
    }

    /// Why an answer of another kind than was asked for came: never, unless this program is wrong.
    #[must_use]
    pub fn unexpected() -> Problem {
        Problem::of(
            Refusal::Engine {
                reason: "the controller answered something else than it was asked".to_owned(),
            },
            "See the controller's log.".to_owned(),
        )
    }
}
