//! Logging in and out.

use std::sync::Arc;

use axum::{
    Form,
    extract::{Query, State},
    http::{HeaderValue, header::SET_COOKIE},
    response::{IntoResponse, Redirect, Response},
};
use maud::{DOCTYPE, html};
use serde::Deserialize;

use super::{Frame, refused};
use crate::{
    model::secret::Secret,
    web::{
        caller::{self, Remote, Visitor},
        entry, policy,
        problem::Problem,
        room::Room,
    },
};

/// What the link to the login says.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Wanted {
    next: Option<String>,
}

/// What the login's form sends.
#[derive(Deserialize)]
pub struct Login {
    token: String,
    next: Option<String>,
}

/// What the form for logging out sends.
#[derive(Debug, Deserialize)]
pub struct Leave {
    csrf: String,
}

/// The login.
pub async fn show(visitor: Option<SignedIn>, Query(wanted): Query<Wanted>) -> Response {
    let next = policy::own_path(wanted.next.as_deref());
    if visitor.is_some() {
        return Redirect::to(next).into_response();
    }
    form(next, None)
}

/// Somebody who has logged in already.
pub struct SignedIn;

impl axum::extract::OptionalFromRequestParts<Arc<Room>> for SignedIn {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        room: &Arc<Room>,
    ) -> Result<Option<Self>, Self::Rejection> {
        use axum::extract::FromRequestParts;
        let visitor = Visitor::from_request_parts(parts, room).await;
        Ok(visitor.is_ok().then_some(Self))
    }
}

fn form(next: &str, problem: Option<&Problem>) -> Response {
    let frame = Frame {
        title: "Log in",
        visitor: None,
        live: None,
        said: None,
    };
    let body = html! {
        div class="login" {
            h1 { "Log in" }
            @if let Some(problem) = problem {
                p class="said bad" role="alert" id="wrong" {
                    strong { (problem.title) " " } (problem.detail)
                }
            }
            form method="post" action="/login" {
                input type="hidden" name="next" value=(next);
                label for="token" { "Personal token" }
                input id="token" name="token" type="password" autocomplete="current-password" required
                    spellcheck="false" autocapitalize="off" autofocus
                    aria-describedby=(if problem.is_some() { "wrong about" } else { "about" });
                p class="hint" id="about" {
                    "It begins with " code { "fot_" } ". "
                    code { "failover token" } " makes one; whoever keeps the documents puts its hash there."
                }
                button type="submit" { "Log in" }
            }
        }
    };
    let page = frame.around(&body);
    match problem {
        Some(problem) => {
            let mut answer = (problem.status(), page).into_response();
            if let Some(secs) = problem.retry_after {
                let headers = answer.headers_mut();
                headers.insert(axum::http::header::RETRY_AFTER, secs.into());
            }
            answer
        }
        None => page.into_response(),
    }
}

/// Begins a session: always a fresh one, and whatever session the browser had before is over.
pub async fn enter(
    State(room): State<Arc<Room>>,
    Remote(address): Remote,
    visitor: Result<Visitor, Response>,
    form: Result<Form<Login>, axum::extract::rejection::FormRejection>,
) -> Response {
    let login = match form {
        Ok(Form(login)) => login,
        Err(error) => return refused(None, &Problem::wrong(error.body_text())),
    };
    let next = policy::own_path(login.next.as_deref());
    let token = Secret::new(login.token.trim());
    if let Err(mut problem) = room.admit(&token, address) {
        if problem.retry_after.is_none() {
            "This token is nobody's.".clone_into(&mut problem.title);
            "Nobody in the documents has its hash: compare it with what 'failover token --hash-of FILE' prints."
                .clone_into(&mut problem.detail);
        }
        return self::form(next, Some(&problem));
    }
    if let Ok(visitor) = visitor {
        room.sessions.end(&visitor.session.key);
    }
    let Some(holder) = caller::hash(&token) else {
        return self::form(next, Some(&Problem::stranger()));
    };
    let id = room.sessions.begin(holder, room.now());
    let mut answer = Redirect::to(next).into_response();
    set_cookie(&mut answer, &room, id.expose(), "");
    answer
}

/// Ends the session.
pub async fn leave(
    State(room): State<Arc<Room>>,
    visitor: Visitor,
    Form(form): Form<Leave>,
) -> Response {
    if !visitor.session.owns(&form.csrf) {
        return refused(Some(&visitor), &entry::foreign());
    }
    room.sessions.end(&visitor.session.key);
    let mut answer = Redirect::to("/login").into_response();
    set_cookie(&mut answer, &room, "", "; Max-Age=0");
    answer
}

fn set_cookie(answer: &mut Response, room: &Room, value: &str, more: &str) {
    let secure = if room.secure { "; Secure" } else { "" };
    let text = format!(
        "{}={value}; Path=/; HttpOnly; SameSite=Strict{secure}{more}",
        room.cookie()
    );
    if let Ok(value) = HeaderValue::from_str(&text) {
        answer.headers_mut().insert(SET_COOKIE, value);
    }
}

/// A link of a letter or a chat led here, and so the browser sent no cookie. Now it is the desk that leads on.
#[must_use]
pub fn led_here(path: &str) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="refresh" content={ "0;url=" (path) };
                title { "failover desk" }
                link rel="stylesheet" href="/desk.css";
            }
            body { main { p { a href=(path) { "Go on to the desk" } } } }
        }
    };
    axum::response::Html(page.into_string()).into_response()
}
