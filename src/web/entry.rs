//! The pages' forms: each becomes an order like those of the API.

use std::{str::FromStr, sync::Arc};

use axum::{
    Form,
    extract::{Path, State, rejection::FormRejection},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use serde::{Deserialize, Deserializer};

use super::{
    caller::Visitor,
    order::{self, Done, Order},
    page, policy,
    problem::Problem,
    room::Room,
    session::Said,
};
use crate::{
    desk::message::Wish,
    model::{duty::Duty, id::ServiceName, plan::RunKind, service::Mode},
};

/// What a form sends. Fields that the form does not have, or that were left empty, are absent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Entry {
    csrf: String,
    #[serde(deserialize_with = "filled")]
    back: Option<String>,
    act: String,
    #[serde(deserialize_with = "filled")]
    ask: Option<String>,
    #[serde(deserialize_with = "filled")]
    run: Option<String>,
    #[serde(deserialize_with = "filled")]
    page: Option<String>,
    #[serde(deserialize_with = "filled")]
    reason: Option<String>,
    #[serde(deserialize_with = "filled")]
    text: Option<String>,
    #[serde(deserialize_with = "filled")]
    person: Option<String>,
    #[serde(deserialize_with = "filled")]
    duty: Option<String>,
    #[serde(deserialize_with = "filled")]
    to: Option<String>,
    #[serde(deserialize_with = "filled")]
    confirm: Option<String>,
    #[serde(deserialize_with = "filled")]
    plan: Option<String>,
    #[serde(deserialize_with = "filled")]
    kind: Option<String>,
    #[serde(deserialize_with = "filled")]
    policy: Option<String>,
    #[serde(deserialize_with = "filled")]
    mode: Option<String>,
    #[serde(deserialize_with = "filled")]
    glass: Option<String>,
}

fn filled<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(from)?;
    let text = text.trim();
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// A form as it came.
type Came = Result<Form<Entry>, FormRejection>;

/// Takes a form for one service, and leads back to the page that it stood on, which says what came of it.
pub async fn act(
    State(room): State<Arc<Room>>,
    visitor: Visitor,
    Path(service): Path<String>,
    form: Came,
) -> Response {
    take(
        &room,
        &visitor,
        vec![ServiceName::from(service.as_str())],
        form,
    )
    .await
}

/// The same for every service that the visitor may see.
pub async fn act_everywhere(
    State(room): State<Arc<Room>>,
    visitor: Visitor,
    form: Came,
) -> Response {
    take(&room, &visitor, Vec::new(), form).await
}

async fn take(
    room: &Arc<Room>,
    visitor: &Visitor,
    services: Vec<ServiceName>,
    form: Came,
) -> Response {
    let entry = match form {
        Ok(Form(entry)) => entry,
        Err(error) => return page::refused(Some(visitor), &Problem::wrong(error.body_text())),
    };
    if !visitor.session.owns(&entry.csrf) {
        return page::refused(Some(visitor), &foreign());
    }
    let given = match entry.order() {
        Ok(order) => order::give(room, services, order, &visitor.caller).await,
        Err(missing) => Err(incomplete(&missing)),
    };
    room.sessions.say(&visitor.session.key, said(given));
    Redirect::to(policy::own_path(entry.back.as_deref())).into_response()
}

/// A form that is none of this session's.
#[must_use]
pub fn foreign() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "This form is of another session.",
        "You have logged in anew since the page was loaded, or another site sent the form. Nothing was done.",
        "Go back, load the page again and repeat it.",
    )
}

fn incomplete(missing: &str) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "Something is missing.",
        missing,
        "Nothing was done. Fill it in and send it again.",
    )
}

fn said(given: Result<Done, Problem>) -> Said {
    match given {
        Ok(done) => {
            let all = done.done.iter().chain(&done.refused);
            let text: Vec<_> = all.map(|(name, said)| format!("{name}: {said}")).collect();
            Said {
                done: done.refused.is_empty(),
                text: text.join("; "),
            }
        }
        Err(problem) => Said {
            done: false,
            text: format!(
                "{} {}. {}",
                problem.title,
                problem.detail.trim_end_matches('.'),
                problem.help
            ),
        },
    }
}

impl Entry {
    fn order(&self) -> Result<Order, String> {
        let reason = || self.reason.clone().ok_or_else(|| "say why".to_owned());
        let wish = match self.act.as_str() {
            "open" => Wish::Open {
                kind: self.kind()?,
                to: self.to.as_deref().map(Into::into),
                reason: reason()?,
                plan: self.plan.clone(),
            },
            "approve" => Wish::Approve {
                ask: wanted(self.ask.as_ref(), "the question")?.as_str().into(),
                reason: self.reason.clone(),
                break_glass: self.glass.is_some(),
            },
            "deny" => Wish::Deny {
                ask: wanted(self.ask.as_ref(), "the question")?.as_str().into(),
                reason: self.reason.clone(),
            },
            "pause" => Wish::Pause { reason: reason()? },
            "resume" => Wish::Resume,
            "abort" => Wish::Abort {
                run: wanted(self.run.as_ref(), "the run")?.as_str().into(),
                reason: reason()?,
            },
            "acknowledge" => Wish::Acknowledge {
                page: self.page.as_deref().map(Into::into),
            },
            "drill" => Wish::Drill {
                policy: self.policy.as_deref().map(Into::into),
                reason: reason()?,
            },
            "mode" => Wish::SetMode {
                mode: mode(wanted(self.mode.as_ref(), "the mode")?)?,
                reason: reason()?,
            },
            "note" => Wish::Note {
                text: wanted(self.text.as_ref(), "the remark")?.clone(),
            },
            "declare" => Wish::Declare { reason: reason()? },
            "resolve" => Wish::Resolve { reason: reason()? },
            "duty" => Wish::TakeDuty {
                duty: Duty::from_str(wanted(self.duty.as_ref(), "the duty")?)
                    .map_err(|e| e.to_string())?,
                person: self.person.as_deref().map(Into::into),
            },
            "hand-over" => Wish::HandOver {
                to: wanted(self.person.as_ref(), "whom")?.as_str().into(),
            },
            "accept" => Wish::Accept,
            other => return Err(format!("the desk has no form {other:?}")),
        };
        Ok(Order {
            wish,
            confirm: self.confirm.as_deref().map(Into::into),
        })
    }

    fn kind(&self) -> Result<RunKind, String> {
        kind(wanted(self.kind.as_ref(), "the kind of run")?)
    }
}

fn wanted<'a>(field: Option<&'a String>, what: &str) -> Result<&'a String, String> {
    field.ok_or_else(|| format!("{what} is missing"))
}

/// A kind of run as forms and links name it.
///
/// # Errors
/// Where there is none of that name that a person begins so.
pub fn kind(text: &str) -> Result<RunKind, String> {
    RunKind::asked_for(text).ok_or_else(|| format!("{text:?} is no kind of run"))
}

fn mode(text: &str) -> Result<Mode, String> {
    Mode::named(text).ok_or_else(|| format!("{text:?} is no mode"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_becomes_what_it_says() {
        let entry = Entry {
            act: "approve".to_owned(),
            ask: Some("shop-a3".to_owned()),
            ..Entry::default()
        };
        let wish = Wish::Approve {
            ask: "shop-a3".into(),
            reason: None,
            break_glass: false,
        };
        assert_eq!(entry.order().unwrap().wish, wish);
        for act in [
            "open", "approve", "deny", "pause", "abort", "note", "duty", "", "rm",
        ] {
            let entry = Entry {
                act: act.to_owned(),
                ..Entry::default()
            };
            assert!(entry.order().is_err(), "{act}");
        }
    }

    #[test]
    fn a_drill_is_begun_as_one_and_not_as_a_run() {
        assert_eq!(kind("failback"), Ok(RunKind::Failback));
        assert!(kind("drill").is_err());
    }
}
