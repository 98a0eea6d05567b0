//! A controller elsewhere, asked by the API of its desk with a personal token.

use std::{fs, io, time::Duration};

use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;

use super::place::Server;
use crate::{
    desk::message::{Answer, Event, Request, Wish, wanted},
    error::Error,
    model::{
        id::{ServiceName, SiteName},
        secret::Secret,
    },
    port::{cause, http},
    web::{
        api::{
            ROOT,
            operation::{Orders, Possible, Preview},
        },
        order::Done,
        problem::Problem,
    },
};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_mins(1);
/// The same where everything is tried first, or a backup restored.
const LONG: Duration = Duration::from_hours(6);
/// A stream is followed for at most so long.
const FOLLOWED: Duration = Duration::from_hours(30 * 24);
/// Longest silence of a stream: the desk sends a sign of life every 15 s.
const SILENCE: Duration = Duration::from_mins(1);

/// The desk of a controller.
#[derive(Debug)]
pub struct Remote {
    http: reqwest::Client,
    url: Url,
    token: Option<Secret>,
    events: Option<Events>,
}

impl Remote {
    /// That desk, asked with this token where a request brings none.
    ///
    /// # Errors
    /// Where the address is none that a token may be sent to, or its certificates cannot be read.
    pub fn new(server: &Server, token: Option<Secret>) -> Result<Self, Error> {
        let wrong =
            |what: &str| Error::Usage(format!("--server: {:?} {what}", server.url.as_str()));
        let url = Url::parse(&server.url).map_err(|e| wrong(&format!("is no URL: {e}")))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::Usage(
                "--server: an address holds no name and no password: who asks is said by the token"
                    .to_owned(),
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong(
                "goes on after its path: name the address of the desk alone",
            ));
        }
        let host = url.host_str().unwrap_or_default();
        let is_loopback = ["localhost", "127.0.0.1", "[::1]"].contains(&host);
        match url.scheme() {
            "https" => {}
            "http" if is_loopback => {}
            "http" => return Err(wrong("is not encrypted: tokens are sent by https:// alone")),
            _ => return Err(wrong("is no https:// address")),
        }
        let client = match &server.ca {
            // What goes to this host in the clear goes through nobody else.
            None if url.scheme() == "http" => {
                http::client_direct(PATIENCE).map_err(|e| cannot(&url, &e))?
            }
            None => http::client(PATIENCE).map_err(|e| cannot(&url, &e))?,
            Some(path) => {
                let pem = fs::read(path).map_err(|source| Error::File {
                    verb: "read",
                    path: path.clone(),
                    source,
                })?;
                http::client_trusting(PATIENCE, &pem)
                    .map_err(|e| Error::Usage(format!("--server-ca: {}", cause::in_full(&e))))?
            }
        };
        Ok(Self {
            http: client,
            url,
            token,
            events: None,
        })
    }

    /// Asks, and gives the answer; a refusal is an error.
    ///
    /// # Errors
    /// Where the desk refuses, or cannot be asked.
    pub async fn ask(&mut self, request: Request, token: Option<&Secret>) -> Result<Answer, Error> {
        let token = token.or(self.token.as_ref()).cloned();
        let Some(token) = token else {
            return Err(Error::TokenNeeded {
                what: wanted(&request).to_owned(),
            });
        };
        let asks = Asking {
            remote: self,
            token: &token,
        };
        Ok(match request {
            Request::Status { service: None } => Answer::Status(asks.get("services").await?),
            Request::Status {
                service: Some(service),
            } => Answer::Status(vec![asks.of(&service, "").await?]),
            Request::Timeline { service, last } => {
                let last = last.min(u16::MAX.into()).to_string();
                let call = asks.call(Method::GET, &path(&service, "timeline"));
                Answer::Timeline(asks.answer(call.query(&[("last", last)])).await?)
            }
            Request::Team { service } => Answer::Team(asks.of(&service, "team").await?),
            Request::Plan { service, kind, to } => {
                let call = asks.call(Method::GET, &path(&service, "plan"));
                let call = call.query(&[("kind", kind)]);
                let call = call.query(&to.map(|to| ("to", to)).into_iter().collect::<Vec<_>>());
                Answer::Plan(asks.answer(call).await?)
            }
            Request::Check { service } => {
                let call = asks.call(Method::POST, &path(&service, "check"));
                Answer::Check(asks.answer(call.timeout(LONG)).await?)
            }
            Request::Backups { service } => Answer::Backups(asks.of(&service, "backups").await?),
            Request::VerifyBackup { service, choice } => {
                let call = asks.call(Method::POST, &path(&service, "backups/verify"));
                Answer::BackupVerified(asks.answer(call.json(&choice).timeout(LONG)).await?)
            }
            Request::BackupVerified { .. } | Request::BackupTaken { .. } => {
                return Err(Error::Usage(
                    "what this host did by itself is recorded by the controller of this host alone: leave --server away"
                        .to_owned(),
                ));
            }
            Request::Preview {
                service,
                phases,
                text,
            } => {
                let body = Preview { phases, text };
                Answer::Preview(asks.post(&path(&service, "preview"), &body).await?)
            }
            Request::Command { services, wish } => {
                let confirm = asks.leads_to(&services, &wish).await?;
                let body = Orders {
                    services,
                    wish,
                    confirm,
                };
                let Done { done, refused } = asks.post("commands", &body).await?;
                Answer::Done { done, refused }
            }
            Request::Try { service, wish } => {
                let _: Possible = asks.post(&path(&service, "commands/try"), &wish).await?;
                Answer::Possible
            }
            Request::Watch { service } => {
                let call = asks.call(Method::GET, "events").timeout(FOLLOWED);
                let only: Vec<_> = service.map(|s| ("service", s)).into_iter().collect();
                let sent = asks.send(call.query(&only));
                let response = timeout(PATIENCE, sent).await.map_err(|_| Error::Server {
                    url: asks.remote.url.to_string(),
                    reason: format!("it did not begin to tell within {} s", PATIENCE.as_secs()),
                })??;
                self.events = Some(Events {
                    response,
                    heard: Vec::new(),
                });
                Answer::Watching
            }
        })
    }

    /// The next event, after the answer to `Watch`; none when the controller has stopped.
    ///
    /// # Errors
    /// Where the connection breaks.
    pub async fn event(&mut self) -> Result<Option<Event>, Error> {
        match &mut self.events {
            Some(events) => events.next().await,
            None => Ok(None),
        }
    }
}

fn path(service: &ServiceName, what: &str) -> String {
    format!("services/{service}/{what}")
}

fn cannot(url: &Url, error: &reqwest::Error) -> Error {
    Error::Server {
        url: url.to_string(),
        reason: cause::without_repeats(error),
    }
}

/// One request with its token.
struct Asking<'a> {
    remote: &'a Remote,
    token: &'a Secret,
}

impl Asking<'_> {
    fn call(&self, method: Method, path: &str) -> RequestBuilder {
        let mut url = self.remote.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            let all = ROOT.split('/').chain(path.split('/'));
            segments
                .pop_if_empty()
                .extend(all.filter(|part| !part.is_empty()));
        }
        self.remote
            .http
            .request(method, url)
            .bearer_auth(self.token.expose())
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.answer(self.call(Method::GET, path)).await
    }

    async fn of<T: DeserializeOwned>(&self, service: &ServiceName, what: &str) -> Result<T, Error> {
        self.get(&path(service, what)).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        self.answer(self.call(Method::POST, path).json(body)).await
    }

    async fn answer<T: DeserializeOwned>(&self, call: RequestBuilder) -> Result<T, Error> {
        let response = self.send(call).await?;
        let bytes = response.bytes().await.map_err(|e| self.cannot(&e))?;
        serde_json::from_slice(&bytes).map_err(|e| Error::Server {
            url: self.remote.url.to_string(),
            reason: format!("its answer is not understood, as one of another version: {e}"),
        })
    }

    async fn send(&self, call: RequestBuilder) -> Result<Response, Error> {
        let (http, call) = call.build_split();
        let call = call.map_err(|e| self.cannot(&e))?;
        let may_change = call.method() != Method::GET && call.url().path().ends_with("/commands");
        let response = http.execute(call).await.map_err(|e| {
            if may_change && !e.is_connect() {
                self.unclear(&e)
            } else {
                self.cannot(&e)
            }
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let bytes = response.bytes().await.map_err(|e| self.cannot(&e))?;
        Err(match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) => Error::Refused {
                reason: problem.detail.trim_end_matches('.').to_owned(),
                help: problem.help,
            },
            Err(_) => Error::Server {
                url: self.remote.url.to_string(),
                reason: format!("{}, as no desk answers", told(status)),
            },
        })
    }

    /// The answer to a command was lost.
    fn unclear(&self, error: &reqwest::Error) -> Error {
        Error::Server {
            url: self.remote.url.to_string(),
            reason: format!(
                "{}; it may have done it all the same: look with `failover explain` before you say it again",
                cause::without_repeats(error)
            ),
        }
    }

    fn cannot(&self, error: &reqwest::Error) -> Error {
        cannot(&self.remote.url, error)
    }

    /// The site that a run leads to, which whoever wishes one has seen in its plan and confirmed.
    async fn leads_to(
        &self,
        services: &[ServiceName],
        wish: &Wish,
    ) -> Result<Option<SiteName>, Error> {
        let (Wish::Open { kind, to, .. }, [service]) = (wish, services) else {
            return Ok(None);
        };
        if to.is_some() {
            return Ok(to.clone());
        }
        let call = self.call(Method::GET, &path(service, "plan"));
        let view: crate::desk::message::PlanView =
            self.answer(call.query(&[("kind", kind)])).await?;
        Ok(Some(view.plan.to))
    }
}

fn told(status: StatusCode) -> String {
    format!("it answered {status}")
}

/// Records as they are written, as server-sent events.
#[derive(Debug)]
struct Events {
    response: Response,
    /// What came and is not a whole event yet.
    heard: Vec<u8>,
}

impl Events {
    async fn next(&mut self) -> Result<Option<Event>, Error> {
        let lost = |kind| Error::Lost {
            source: io::Error::from(kind),
        };
        loop {
            if let Some(event) = take(&mut self.heard) {
                return serde_json::from_str(&event)
                    .map(Some)
                    .map_err(|e| Error::Lost { source: e.into() });
            }
            let chunk = timeout(SILENCE, self.response.chunk())
                .await
                .map_err(|_| lost(io::ErrorKind::TimedOut))?;
            match chunk {
                Ok(Some(bytes)) => self.heard.extend_from_slice(&bytes),
                Ok(None) => return Ok(None),
                Err(error) => {
                    return Err(Error::Lost {
                        source: io::Error::other(error),
                    });
                }
            }
        }
    }
}

/// The data of the first whole event; signs of life have none, and are passed over.
fn take(heard: &mut Vec<u8>) -> Option<String> {
    loop {
        let end = heard.windows(2).position(|two| two == b"\n\n")?;
        let event: Vec<u8> = heard.drain(..end + 2).collect();
        let event = String::from_utf8_lossy(&event);
        let data: Vec<&str> = event
            .lines()
            .filter_map(|line| line.strip_prefix("data:"))
            .map(|data| data.strip_prefix(' ').unwrap_or(data))
            .collect();
        if !data.is_empty() {
            return Some(data.join("\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(url: &str) -> Result<Remote, Error> {
        let server = Server {
            url: url.to_owned(),
            ca: None,
        };
        Remote::new(&server, None)
    }

    #[test]
    fn tokens_go_to_nobody_in_the_clear() {
        for url in [
            "http://dr.example.com:8443",
            "ftp://localhost",
            "dr:8443",
            "",
            "https://anna:secret@dr.example.com",
            "https://dr.example.com/?a=b",
            "https://dr.example.com/#top",
        ] {
            assert!(remote(url).is_err(), "{url:?}");
        }
    }

    #[test]
    fn an_event_is_taken_once_it_is_whole() {
        let mut heard = b":\n\nevent: record\nid: 1\ndata: {\"a\":\ndata: 1}\n".to_vec();
        assert_eq!(take(&mut heard), None);
        heard.extend_from_slice(b"\n:\n\ndata: 2\n\nda");
        assert_eq!(take(&mut heard).as_deref(), Some("{\"a\":\n1}"));
        assert_eq!(take(&mut heard).as_deref(), Some("2"));
        assert_eq!(take(&mut heard), None);
        assert_eq!(heard, b"da");
    }
}
