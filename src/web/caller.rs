//! Who calls: a browser with a session, or a program with a personal token.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::FromRequestParts,
    http::{
        HeaderMap, Method, header::AUTHORIZATION, header::COOKIE, request::Parts, uri::PathAndQuery,
    },
    response::{IntoResponse, Redirect, Response},
};

use super::{page, policy, problem::Problem, room::Room, session::Known};
use crate::{
    desk::{
        speaker::Speaker,
        token::{PREFIX, TokenHash},
    },
    model::{
        approval::{Person, Role},
        id::PersonName,
        secret::Secret,
        service::Service,
    },
    publish::listener::Peer,
};

/// The header in which the desk's own script would say that a request is its own.
const CSRF: &str = "x-csrf-token";

/// Somebody whom the documents know.
#[derive(Clone, Debug)]
pub struct Caller {
    /// As the clerk knows them.
    pub speaker: Speaker,
    /// The name.
    pub name: PersonName,
}

impl Caller {
    /// The person that this is in a service's team.
    #[must_use]
    pub fn person<'a>(&self, service: &'a Service) -> Option<&'a Person> {
        self.speaker.person(service)
    }

    /// Whether the role in a service's team leaves this to them; the controller asks again.
    #[must_use]
    pub fn may(&self, service: &Service, needed: Role) -> bool {
        self.person(service)
            .is_some_and(|person| person.may(needed))
    }
}

/// A browser in which somebody has logged in.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// Who.
    pub caller: Caller,
    /// The session.
    pub session: Known,
}

impl Visitor {
    /// Whoever has the session of this cookie.
    fn of(room: &Room, headers: &HeaderMap) -> Option<Self> {
        let id = Secret::new(cookie(headers, room.cookie())?);
        let session = room.sessions.find(&id, room.now())?;
        let caller = room.caller(session.holder.clone());
        if caller.is_none() {
            // The documents do not know the token any more.
            room.sessions.end(&session.key);
        }
        Some(Self {
            caller: caller?,
            session,
        })
    }
}

impl FromRequestParts<Arc<Room>> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, room: &Arc<Room>) -> Result<Self, Response> {
        Self::of(room, &parts.headers).ok_or_else(|| {
            let path = parts.uri.path_and_query().map(PathAndQuery::as_str);
            let path = policy::own_path(path);
            if parts.method != Method::GET {
                return Redirect::to("/login").into_response();
            }
            if policy::is_led_here(&parts.headers) {
                return page::login::led_here(path).into_response();
            }
            let query: String = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("next", path)
                .finish();
            Redirect::to(&format!("/login?{query}")).into_response()
        })
    }
}

/// Somebody who calls the API, with a token or from a session.
#[derive(Clone, Debug)]
pub struct Client(pub Caller);

impl FromRequestParts<Arc<Room>> for Client {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, room: &Arc<Room>) -> Result<Self, Problem> {
        let headers = &parts.headers;
        if let Some(given) = headers.get(AUTHORIZATION) {
            let token = given.to_str().ok().and_then(|v| v.strip_prefix("Bearer "));
            let token = Secret::new(token.unwrap_or_default().trim());
            return room.admit(&token, address(parts, room)).map(Self);
        }
        let Some(visitor) = Visitor::of(room, headers) else {
            return Err(Problem::stranger());
        };
        let csrf = headers.get(CSRF).and_then(|v| v.to_str().ok());
        let changes = !matches!(parts.method, Method::GET | Method::HEAD);
        if changes && !csrf.is_some_and(|csrf| visitor.session.owns(csrf)) {
            return Err(Problem::wrong(
                "A session needs the header X-CSRF-Token to change anything; a token as Bearer does not.",
            ));
        }
        Ok(Self(visitor.caller))
    }
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub struct Remote(pub IpAddr);

impl FromRequestParts<Arc<Room>> for Remote {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        room: &Arc<Room>,
    ) -> Result<Self, std::convert::Infallible> {
        Ok(Self(address(parts, room)))
    }
}

/// The other end of the connection. Without TLS that is this host: its proxy says who came to it, last of all.
fn address(parts: &Parts, room: &Room) -> IpAddr {
    let peer = parts.extensions.get::<Peer>();
    let peer = peer.map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0.ip());
    if room.secure || !peer.is_loopback() {
        return peer;
    }
    let said = parts.headers.get_all("x-forwarded-for").iter().next_back();
    let last = said.and_then(|v| v.to_str().ok()?.rsplit(',').next());
    let parsed = last.map(str::trim).and_then(|text| {
        let with_port = || text.parse::<SocketAddr>().ok().map(|a| a.ip());
        text.parse().ok().or_else(with_port)
    });
    parsed.unwrap_or(peer)
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let all = headers.get_all(COOKIE).iter();
    let pairs = all
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(';'));
    let found = pairs.filter_map(|pair| pair.trim().split_once('='));
    found
        .filter(|(n, _)| *n == name)
        .map(|(_, value)| value.to_owned())
        .next()
}

/// A token's hash, where it looks like a token at all.
#[must_use]
pub fn hash(token: &Secret) -> Option<TokenHash> {
    token
        .expose()
        .starts_with(PREFIX)
        .then(|| TokenHash::of(token))
}
