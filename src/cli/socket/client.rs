//! The commands' end of the control socket.

use std::{io, path::Path};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::envelope::{Envelope, Token, VERSION};
use crate::{
    desk::message::{Answer, Event, Refusal, Request, wanted},
    error::Error,
    model::secret::Secret,
};

/// A connection to the running controller.
#[derive(Debug)]
pub struct Client {
    read: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Where no controller answers, or it does not talk to this user.
    pub async fn connect(socket: &Path) -> Result<Self, Error> {
        let stream = UnixStream::connect(socket).await.map_err(|source| {
            if source.kind() == io::ErrorKind::PermissionDenied {
                Error::Peer {
                    socket: socket.to_owned(),
                }
            } else {
                Error::NoController {
                    socket: socket.to_owned(),
                    source,
                }
            }
        })?;
        let (read, write) = stream.into_split();
        Ok(Self {
            read: BufReader::new(read).lines(),
            write,
        })
    }

    /// Asks, and gives the answer; a refusal is an error.
    ///
    /// # Errors
    /// Where the controller refuses or goes away.
    pub async fn ask(&mut self, request: Request, token: Option<&Secret>) -> Result<Answer, Error> {
        let (what, advice) = (wanted(&request), request.advice());
        let envelope = Envelope {
            version: VERSION,
            token: token.map(Token::new),
            request,
        };
        let lost = |source| Error::Lost { source };
        let mut line = serde_json::to_vec(&envelope).map_err(|e| lost(e.into()))?;
        line.push(b'\n');
        self.write.write_all(&line).await.map_err(lost)?;
        match self.next::<Answer>().await? {
            Some(Answer::Refused(refusal)) => Err(refused(refusal, what, advice)),
            Some(answer) => Ok(answer),
            None => Err(lost(io::Error::from(io::ErrorKind::UnexpectedEof))),
        }
    }

    /// The next event, after the answer to `Watch`; none when the controller has stopped.
    ///
    /// # Errors
    /// Where the connection breaks.
    pub async fn event(&mut self) -> Result<Option<Event>, Error> {
        self.next().await
    }

    async fn next<T: serde::de::DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        let lost = |source| Error::Lost { source };
        match self.read.next_line().await.map_err(lost)? {
            Some(line) => serde_json::from_str(&line)
                .map(Some)
                .map_err(|e| lost(e.into())),
            None => Ok(None),
        }
    }
}

fn refused(refusal: Refusal, what: &str, advice: String) -> Error {
    match refusal {
        Refusal::Version { ours } => Error::Version {
            theirs: ours,
            ours: VERSION,
        },
        Refusal::NoService { name, known } => Error::NoService { name, known },
        Refusal::TokenNeeded => Error::TokenNeeded {
            what: what.to_owned(),
        },
        Refusal::TokenUnknown { service } => Error::TokenUnknown {
            service: service.to_string(),
        },
        Refusal::Stranger { service, who } => Error::Refused {
            reason: format!("{who} is nobody of the team of {service}"),
            help: advice,
        },
        Refusal::NoPlan { service, reason } => Error::Plan {
            service: service.to_string(),
            reason,
        },
        Refusal::Engine { reason } => Error::Refused {
            reason,
            help: advice,
        },
    }
}
