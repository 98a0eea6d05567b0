//! One-click unsubscribing (RFC 8058): the links in mails, and the pages that they lead to.

use std::sync::{Arc, PoisonError, RwLock};

use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use hmac::{Hmac, KeyInit, Mac};
use maud::{DOCTYPE, Markup, html};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::{EmailWith, KIND};
use crate::{
    model::{
        id::ServiceName,
        secret::{Secret, SecretRef},
        service::Service,
    },
    port::{
        channel::Recipient, ledger::SharedLedger, runtime::SharedRuntime, secret::SharedSecrets,
    },
};

/// The path below which the pages stand.
pub const PATH: &str = "/unsubscribe";

/// Bytes of the token's code: 128 bits.
const CODE: usize = 16;

/// Settings of the links.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UnsubscribeWith {
    /// Public address of the listener that serves the status page; links lead to `<url>/unsubscribe/…`.
    pub url: String,
    /// The key that the links are signed with; at least 16 characters that nobody can guess.
    pub key: SecretRef,
    /// Name of the list that a recipient leaves.
    #[serde(default = "list")]
    pub list: String,
}

fn list() -> String {
    "announcements".to_owned()
}

/// What a link names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// Of which service.
    pub service: ServiceName,
    /// Which list.
    pub list: String,
    /// Who leaves.
    pub to: Recipient,
}

impl Leaving {
    /// The token of a link: what it names, and a code that only the key's holder can make.
    #[must_use]
    pub fn token(&self, key: &Secret) -> String {
        let payload = [self.service.as_str(), &self.list, &self.to.0].join("\n");
        let payload = BASE64.encode(payload);
        let code = BASE64.encode(&code(key, &payload).into_bytes()[..CODE]);
        format!("{payload}.{code}")
    }

    /// What a token names, before its code is proved.
    fn read(token: &str) -> Option<Self> {
        let (payload, _) = token.split_once('.')?;
        let text = String::from_utf8(BASE64.decode(payload).ok()?).ok()?;
        let mut parts = text.split('\n');
        let leaving = Self {
            service: parts.next()?.into(),
            list: parts.next()?.to_owned(),
            to: Recipient(parts.next()?.to_owned()),
        };
        parts.next().is_none().then_some(leaving)
    }

    /// Whether the token was made with this key.
    fn proves(token: &str, key: &Secret) -> bool {
        let Some((payload, given)) = token.split_once('.') else {
            return false;
        };
        let Ok(given) = BASE64.decode(given) else {
            return false;
        };
        given.len() == CODE && code(key, payload).verify_truncated_left(&given).is_ok()
    }
}

struct Code(Hmac<Sha256>);

fn code(key: &Secret, payload: &str) -> Code {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.expose().as_bytes()).expect("HMAC takes any key");
    mac.update(b"failover unsubscribe 1\n");
    mac.update(payload.as_bytes());
    Code(mac)
}

impl Code {
    fn into_bytes(self) -> [u8; 32] {
        self.0.finalize().into_bytes().into()
    }

    fn verify_truncated_left(self, given: &[u8]) -> Result<(), hmac::digest::MacError> {
        self.0.verify_truncated_left(given)
    }
}

/// The lists that people can leave through this process.
pub struct Desk {
    lists: RwLock<Vec<(ServiceName, String, UnsubscribeWith)>>,
    secrets: SharedSecrets,
    ledger: SharedLedger,
    runtime: SharedRuntime,
}

impl Desk {
    /// A desk without lists.
    #[must_use]
    pub fn new(secrets: SharedSecrets, ledger: SharedLedger, runtime: SharedRuntime) -> Self {
        Self {
            lists: RwLock::default(),
            secrets,
            ledger,
            runtime,
        }
    }

    /// Takes up the lists of these services in place of those before.
    pub fn serve<'a>(&self, services: impl IntoIterator<Item = &'a Service>) {
        let mut lists = Vec::new();
        for service in services {
            for channel in &service.announcements.channels {
                if channel.action.uses.as_str() != KIND.name {
                    continue;
                }
                let with = serde_json::from_value::<EmailWith>(channel.action.with.clone());
                if let Some(list) = with.ok().and_then(|w| w.unsubscribe) {
                    lists.push((service.name.clone(), service.title.clone(), list));
                }
            }
        }
        *self.lists.write().unwrap_or_else(PoisonError::into_inner) = lists;
    }

    /// `GET` shows a page with a button and changes nothing; `POST` puts the recipient on the suppression list.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route(&format!("{PATH}/{{token}}"), get(ask).post(leave))
            .with_state(self)
    }

    /// Who leaves which service's list, where the token is genuine.
    fn prove(&self, token: &str) -> Option<(Leaving, String)> {
        let leaving = Leaving::read(token)?;
        let lists = self.lists.read().unwrap_or_else(PoisonError::into_inner);
        lists
            .iter()
            .filter(|(service, _, with)| *service == leaving.service && with.list == leaving.list)
            .find(|(_, _, with)| {
                let key = self.secrets.read(&with.key);
                key.is_ok_and(|key| Leaving::proves(token, &key))
            })
            .map(|(_, title, _)| (leaving, title.clone()))
    }
}

async fn ask(State(desk): State<Arc<Desk>>, Path(token): Path<String>) -> Response {
    let Some((leaving, title)) = desk.prove(&token) else {
        return unknown();
    };
    page(
        StatusCode::OK,
        "Unsubscribe",
        &html! {
            p { "Shall " strong { (leaving.to.0) } " get no more announcements of " (title) " by email?" }
            form method="post" { button type="submit" { "Unsubscribe" } }
        },
    )
}

async fn leave(State(desk): State<Arc<Desk>>, Path(token): Path<String>) -> Response {
    let Some((leaving, title)) = desk.prove(&token) else {
        return unknown();
    };
    let now = desk.runtime.now();
    let done = desk
        .ledger
        .suppress(
            &leaving.service,
            &leaving.to,
            "unsubscribed by one click",
            now,
        )
        .await;
    if let Err(e) = done {
        tracing::error!(error = %e, service = %leaving.service, "somebody could not be unsubscribed");
        return page(
            StatusCode::SERVICE_UNAVAILABLE,
            "Not unsubscribed",
            &html! { p { "This did not work. Please try again later." } },
        );
    }
    page(
        StatusCode::OK,
        "Unsubscribed",
        &html! { p { "You get no more announcements of " (title) " by email." } },
    )
}

fn unknown() -> Response {
    page(
        StatusCode::NOT_FOUND,
        "Unknown link",
        &html! { p { "This link is not valid. Please use the link in the newest message as a whole." } },
    )
}

fn page(status: StatusCode, title: &str, body: &Markup) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex";
                title { (title) }
            }
            body { main { h1 { (title) } (body) } }
        }
    };
    let headers = [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; form-action 'self'; frame-ancestors 'none'",
        ),
    ];
    (status, headers, Html(page.into_string())).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaving() -> Leaving {
        Leaving {
            service: "shop".into(),
            list: "announcements".to_owned(),
            to: Recipient("ann@example.com".to_owned()),
        }
    }

    #[test]
    fn a_token_names_recipient_and_list() {
        let key = Secret::new("0123456789abcdef");
        let token = leaving().token(&key);
        assert_eq!(Leaving::read(&token), Some(leaving()));
        assert!(Leaving::proves(&token, &key));
        assert!(!Leaving::proves(&token, &Secret::new("another key of 16")));
    }

    #[test]
    fn a_changed_token_proves_nothing() {
        let key = Secret::new("0123456789abcdef");
        let token = leaving().token(&key);
        let mut other = leaving();
        other.to = Recipient("eve@example.com".to_owned());
        let (payload, _) = token.split_once('.').unwrap();
        let (_, code) = token.split_once('.').unwrap();
        let (eve, _) = {
            let t = other.token(&Secret::new("guessed"));
            let (a, b) = t.split_once('.').unwrap();
            (a.to_owned(), b.to_owned())
        };
        for bad in [
            format!("{eve}.{code}"),
            format!("{payload}."),
            format!("{payload}.{}", &code[..4]),
            payload.to_owned(),
            String::new(),
            "….…".to_owned(),
        ] {
            assert!(!Leaving::proves(&bad, &key), "{bad}");
        }
    }
}
