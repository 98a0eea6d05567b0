//! The pages. They are whole without JavaScript, load nothing from elsewhere, and read well on a phone, by ear and in the
//! dark.

pub mod block;
pub mod evidence;
pub mod incident;
pub mod login;
pub mod overview;
pub mod plan;
pub mod question;
pub mod report;
pub mod run;
pub mod service;
pub mod timeline;

use axum::{
    http::StatusCode,
    response::{Html, IntoResponse, Response},
};
use maud::{DOCTYPE, Markup, html};

use super::{caller::Visitor, problem::Problem, session::Said};
use crate::model::{time::Time, verdict::Verdict};

/// What stands around a page.
pub struct Frame<'a> {
    /// Its title.
    pub title: &'a str,
    /// Who looks at it.
    pub visitor: Option<&'a Visitor>,
    /// Where its changes come from, where it is one that changes.
    pub live: Option<&'a str>,
    /// What is said once.
    pub said: Option<Said>,
}

impl Frame<'_> {
    /// The whole page.
    pub fn around(&self, body: &Markup) -> Html<String> {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (self.title) " · failover desk" }
                    link rel="icon" href="/icon.svg";
                    link rel="stylesheet" href="/desk.css";
                    @if self.live.is_some() { script src="/desk.js" defer {} }
                }
                body {
                    a class="skip" href="#main" { "Skip to the content" }
                    header {
                        nav aria-label="Desk" {
                            a class="brand" href="/" { "failover desk" }
                            @if let Some(visitor) = self.visitor { (who(visitor)) }
                        }
                    }
                    main id="main" data-live=[self.live] {
                        @if let Some(said) = &self.said {
                            p class={ "said " (if said.done { "ok" } else { "bad" }) } role="alert" {
                                strong { (if said.done { "Done. " } else { "Not done. " }) }
                                (said.text)
                            }
                        }
                        (body)
                    }
                    footer {
                        @if self.live.is_some() {
                            p {
                                span id="heard" class="unseen" role="status" {}
                                span id="link" role="status" { "Load this page again to see what is new." }
                            }
                        }
                        p { "failover " (env!("CARGO_PKG_VERSION")) " · times are UTC · "
                            a href="/api/v1/openapi.json" { "API" } }
                    }
                }
            }
        };
        Html(page.into_string())
    }
}

fn who(visitor: &Visitor) -> Markup {
    html! {
        form class="who" method="post" action="/logout" {
            (csrf(visitor))
            span { (visitor.caller.name) }
            button class="quiet" type="submit" { "Log out" }
        }
    }
}

/// The field that shows that a form is one of this session's.
#[must_use]
pub fn csrf(visitor: &Visitor) -> Markup {
    html! { input type="hidden" name="csrf" value=(visitor.session.csrf()); }
}

/// A page that says why something was not done.
#[must_use]
pub fn refused(visitor: Option<&Visitor>, problem: &Problem) -> Response {
    let frame = Frame {
        title: &problem.title,
        visitor,
        live: None,
        said: None,
    };
    let body = html! {
        h1 { (problem.title) }
        p class="lead" { (problem.detail) }
        p { (problem.help) }
        p { a href="/" { "To all services" } }
    };
    let mut answer = (problem.status(), frame.around(&body)).into_response();
    if let Some(secs) = problem.retry_after {
        let headers = answer.headers_mut();
        headers.insert(axum::http::header::RETRY_AFTER, secs.into());
    }
    answer
}

/// There is no such page.
pub async fn missing() -> Response {
    refused(
        None,
        &Problem::new(
            StatusCode::NOT_FOUND,
            "There is no such page.",
            "The desk has no page of this name.",
            "Begin at the overview.",
        ),
    )
}

/// A part of a page that changes: it is sent again when its text is another one.
pub struct Part {
    /// Its id on the page.
    pub id: &'static str,
    /// Its heading; none where it has one of its own.
    pub title: Option<&'static str>,
    /// What stands in it; nothing hides the part.
    pub body: Option<Markup>,
}

impl Part {
    /// A part under a heading.
    #[must_use]
    pub fn new(id: &'static str, title: &'static str, body: Option<Markup>) -> Self {
        Self {
            id,
            title: Some(title),
            body,
        }
    }

    /// What stands between its tags.
    #[must_use]
    pub fn inner(&self) -> Markup {
        let heading = format!("{}-heading", self.id);
        html! {
            @if let Some(body) = &self.body {
                @if let Some(title) = self.title { h2 id=(heading) { (title) } }
                (body)
            }
        }
    }

    /// The part on its page.
    #[must_use]
    pub fn whole(&self) -> Markup {
        let heading = self.title.map(|_| format!("{}-heading", self.id));
        html! {
            section id=(self.id) class="part" aria-labelledby=[heading] hidden[self.body.is_none()] {
                (self.inner())
            }
        }
    }
}

/// A moment of the last days, for people and for programs.
#[must_use]
pub fn moment(at: Time) -> Markup {
    html! { time datetime=(at) { (at.clock()) } }
}

/// A moment with its day.
#[must_use]
pub fn day(at: Time) -> Markup {
    html! { time datetime=(at) { (at.date()) } }
}

/// How bad something is: never by colour alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Info,
    /// Somebody should look.
    Warn,
    /// Bad.
    Bad,
    /// Not known, or not begun.
    Quiet,
}

impl Tone {
    const fn class(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Bad => "bad",
            Self::Quiet => "none",
        }
    }

    const fn sign(self) -> &'static str {
        match self {
            Self::Ok => "✓",
            Self::Info => "▸",
            Self::Warn => "!",
            Self::Bad => "✕",
            Self::Quiet => "○",
        }
    }
}

/// A state in one word, with its sign.
#[must_use]
pub fn state(tone: Tone, word: &str) -> Markup {
    html! {
        span class={ "state " (tone.class()) } {
            span class="sign" aria-hidden="true" { (tone.sign()) }
            (word)
        }
    }
}

/// A verdict.
#[must_use]
pub fn verdict(verdict: Verdict) -> Markup {
    let tone = match verdict {
        Verdict::Healthy => Tone::Ok,
        Verdict::Degraded | Verdict::Suspect => Tone::Warn,
        Verdict::Down => Tone::Bad,
        Verdict::Inconclusive => Tone::Quiet,
    };
    state(tone, &verdict.to_string())
}
