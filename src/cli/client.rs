//! The running controller that a command talks to: the one on this host by its control socket, or one elsewhere by the
//! API of its desk.

use super::{identity, place::Place, remote::Remote, socket::client};
use crate::{
    desk::message::{Answer, Event, Request},
    error::Error,
    model::secret::Secret,
};

/// A connection to the running controller.
#[derive(Debug)]
pub enum Client {
    /// On this host.
    Here(Box<client::Client>),
    /// Elsewhere.
    Elsewhere(Box<Remote>),
}

impl Client {
    /// Connects, with the token of the place or the environment where one is needed to look.
    ///
    /// # Errors
    /// Where no controller answers, or it does not talk to this user.
    pub async fn connect(place: &Place) -> Result<Self, Error> {
        if let Some(server) = &place.server {
            let token = match place.token.clone().or_else(identity::of_environment) {
                None => identity::asked()?,
                given => given,
            };
            let remote = Remote::new(server, token)?;
            return Ok(Self::Elsewhere(Box::new(remote)));
        }
        let client = client::Client::connect(&place.socket).await?;
        Ok(Self::Here(Box::new(client)))
    }

    /// Asks, and gives the answer; a refusal is an error.
    ///
    /// # Errors
    /// Where the controller refuses or goes away.
    pub async fn ask(&mut self, request: Request, token: Option<&Secret>) -> Result<Answer, Error> {
        match self {
            Self::Here(client) => client.ask(request, token).await,
            Self::Elsewhere(remote) => remote.ask(request, token).await,
        }
    }

    /// The next event, after the answer to `Watch`; none when the controller has stopped.
    ///
    /// # Errors
    /// Where the connection breaks.
    pub async fn event(&mut self) -> Result<Option<Event>, Error> {
        match self {
            Self::Here(client) => client.event().await,
            Self::Elsewhere(remote) => remote.event().await,
        }
    }
}
