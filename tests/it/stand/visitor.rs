//! Somebody at the desk: what a browser keeps and sends, request by request.

use std::collections::BTreeMap;

use reqwest::{
    Client, Method, RequestBuilder, StatusCode,
    header::{COOKIE, HeaderMap, LOCATION, ORIGIN, SET_COOKIE},
    redirect::Policy,
};

use super::controller::{Stand, TOKENS, until};

/// Where a running controller says that its desk is.
pub fn address(stand: &Stand) -> String {
    let mut found = None;
    until("the controller says where its desk is", || {
        found = said(&stand.log());
        found.is_some()
    });
    found.unwrap()
}

/// Where a log says that the desk is.
pub fn said(log: &str) -> Option<String> {
    let (_, at) = log.split_once("the desk is at ")?;
    let end = at.find("/\n").or(at.find("/\""))?;
    Some(at[..end].to_owned())
}

/// A token of one of the stand's people.
pub fn token(person: &str) -> &'static str {
    TOKENS.iter().find(|(name, _)| *name == person).unwrap().1
}

/// An HTTP client that follows nothing by itself.
pub fn client() -> reqwest::ClientBuilder {
    // Another test may have installed it already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().redirect(Policy::none())
}

/// A page or a redirection.
pub struct Seen {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Seen {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    pub fn leads_to(&self) -> &str {
        self.header(LOCATION.as_str())
    }

    /// What the forms of this page carry.
    pub fn csrf(&self) -> String {
        let (_, rest) = self.text.split_once("name=\"csrf\" value=\"").unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    }

    /// The value of the first hidden field of that name.
    pub fn field(&self, name: &str) -> String {
        let (_, rest) = self
            .text
            .split_once(&format!("name=\"{name}\" value=\""))
            .unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    }
}

/// A browser at the desk.
pub struct Visitor {
    pub url: String,
    pub client: Client,
    pub cookies: BTreeMap<String, String>,
}

impl Visitor {
    pub fn at(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            client: client().build().unwrap(),
            cookies: BTreeMap::new(),
        }
    }

    /// Somebody who has logged in.
    pub async fn of(url: &str, person: &str) -> Self {
        let mut visitor = Self::at(url);
        let entered = visitor.login(token(person), "/").await;
        assert_eq!(entered.status, StatusCode::SEE_OTHER, "{}", entered.text);
        visitor
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let all: Vec<_> = self
            .cookies
            .iter()
            .map(|(n, v)| format!("{n}={v}"))
            .collect();
        let request = self.client.request(method, format!("{}{path}", self.url));
        if all.is_empty() {
            request
        } else {
            request.header(COOKIE, all.join("; "))
        }
    }

    pub async fn send(&mut self, request: RequestBuilder) -> Seen {
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        for cookie in headers.get_all(SET_COOKIE) {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        let text = answer.text().await.unwrap();
        Seen {
            status,
            headers,
            text,
        }
    }

    pub async fn get(&mut self, path: &str) -> Seen {
        let request = self.request(Method::GET, path);
        self.send(request).await
    }

    /// Sends a form as the desk's own page does.
    pub async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Seen {
        let origin = self.url.clone();
        let request = self.request(Method::POST, path).header(ORIGIN, origin);
        self.send(request.form(fields)).await
    }

    pub async fn login(&mut self, token: &str, next: &str) -> Seen {
        self.post("/login", &[("token", token), ("next", next)])
            .await
    }

    /// Sends a form of a service's page, and gives what the next page says of it.
    pub async fn act(&mut self, service: &str, fields: &[(&str, &str)]) -> String {
        let page = format!("/services/{service}");
        let csrf = self.get(&page).await.csrf();
        let mut all = vec![("csrf", csrf.as_str()), ("back", page.as_str())];
        all.extend(fields);
        let done = self.post(&format!("{page}/act"), &all).await;
        assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.text);
        assert_eq!(done.leads_to(), page);
        let next = self.get(&page).await;
        let (_, said) = next.text.split_once("role=\"alert\">").unwrap();
        said.split_once("</p>").unwrap().0.to_owned()
    }
}
