//! Fitting out a service: its documents' `uses` become adapters.

use std::{path::Path, sync::Arc, time::Duration};

use crate::{
    guard::wire::KeyError,
    model::{
        id::ChannelName,
        plan::Uses,
        service::{Channel, Service},
    },
    port::{
        action::SharedAction,
        backup::SharedBackups,
        channel::SharedChannel,
        chat::SharedChat,
        dns::SharedDns,
        guard::SharedGuards,
        kind::{Kinds, Make, MakeError, Wiring},
        lookout::SharedLookouts,
        probe::SharedProbe,
        runtime::SharedRuntime,
        secret::SharedSecrets,
        target::SharedTarget,
    },
};

/// Longest time that one call of a service's API may take.
const API_TIMEOUT: Duration = Duration::from_secs(20);

/// Why a service cannot be fitted out.
#[derive(Debug, thiserror::Error)]
pub enum FittingError {
    /// The HTTP client cannot be made.
    #[error("the HTTP client cannot be set up")]
    Http(#[source] reqwest::Error),
    /// The folder for what adapters keep cannot be made.
    #[error("cannot make the state folder {path}")]
    Folder {
        /// The folder.
        path: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The controller's key for its guards.
    #[error("the guards cannot be reached")]
    Guards(#[source] KeyError),
    /// No such kind.
    #[error("unknown kind {0}")]
    Unknown(String),
    /// A kind of another family.
    #[error("{kind} is not {wanted}")]
    Family {
        /// The kind.
        kind: String,
        /// What was wanted.
        wanted: &'static str,
    },
    /// The adapter cannot be made.
    #[error("{kind} cannot be set up")]
    Make {
        /// The kind.
        kind: String,
        /// The cause.
        #[source]
        source: MakeError,
    },
}

/// Makes adapters for one service.
#[derive(Clone)]
pub struct Fitting {
    kinds: Kinds,
    wiring: Wiring,
}

impl Fitting {
    /// Prepares to make adapters; makes the DNS provider, since steps need it.
    ///
    /// # Errors
    /// Where the state folder, the HTTP client or the DNS provider cannot be had.
    pub fn new(
        service: &Arc<Service>,
        kinds: Kinds,
        runtime: SharedRuntime,
        secrets: SharedSecrets,
        state: &Path,
    ) -> Result<Self, FittingError> {
        let state = state.join("services").join(service.name.as_str());
        std::fs::create_dir_all(&state).map_err(|source| FittingError::Folder {
            path: state.display().to_string(),
            source,
        })?;
        let http = crate::port::http::client(API_TIMEOUT).map_err(FittingError::Http)?;
        let wiring = Wiring {
            secrets,
            runtime,
            http,
            service: service.clone(),
            state,
            dns: None,
            lookouts: None,
            guards: None,
        };
        Self::over(kinds, wiring)
    }

    /// Prepares to make adapters with a wiring of one's own; nothing of this host is touched.
    ///
    /// # Errors
    /// Where the DNS provider cannot be had.
    pub fn over(kinds: Kinds, wiring: Wiring) -> Result<Self, FittingError> {
        let mut fitting = Self { kinds, wiring };
        let provider = fitting.wiring.service.dns.as_ref();
        if let Some(uses) = provider.map(|dns| dns.provider.clone()) {
            fitting.wiring.dns = Some(fitting.dns(&uses)?);
        }
        Ok(fitting)
    }

    /// The same with vantage points for the actions that look.
    #[must_use]
    pub fn with_lookouts(mut self, lookouts: SharedLookouts) -> Self {
        self.wiring.lookouts = Some(lookouts);
        self
    }

    /// The same with guards for the adapters that speak to them.
    #[must_use]
    pub fn with_guards(mut self, guards: Option<SharedGuards>) -> Self {
        self.wiring.guards = guards;
        self
    }

    /// The kinds that it knows.
    #[must_use]
    pub fn kinds(&self) -> Kinds {
        self.kinds
    }

    /// What adapters are made with.
    #[must_use]
    pub fn wiring(&self) -> &Wiring {
        &self.wiring
    }

    /// Makes a step's action.
    ///
    /// # Errors
    /// Where it is none, or cannot be made.
    pub fn action(&self, uses: &Uses) -> Result<SharedAction, FittingError> {
        match self.make(uses)? {
            Make::Action(make) => self.made(uses, make(&uses.with, &self.wiring)),
            Make::Probe(_)
            | Make::Dns(_)
            | Make::Channel(_)
            | Make::Target(_)
            | Make::Chat(_)
            | Make::Backup(_) => Err(other(uses, "a step's action")),
        }
    }

    /// Makes a probe.
    ///
    /// # Errors
    /// Where it is none, or cannot be made.
    pub fn probe(&self, uses: &Uses) -> Result<SharedProbe, FittingError> {
        match self.make(uses)? {
            Make::Probe(make) => self.made(uses, make(&uses.with, &self.wiring)),
            Make::Action(_)
            | Make::Dns(_)
            | Make::Channel(_)
            | Make::Target(_)
            | Make::Chat(_)
            | Make::Backup(_) => Err(other(uses, "a probe")),
        }
    }

    /// Makes a DNS provider.
    ///
    /// # Errors
    /// Where it is none, or cannot be made.
    pub fn dns(&self, uses: &Uses) -> Result<SharedDns, FittingError> {
        match self.make(uses)? {
            Make::Dns(make) => self.made(uses, make(&uses.with, &self.wiring)),
            Make::Action(_)
            | Make::Probe(_)
            | Make::Channel(_)
            | Make::Target(_)
            | Make::Chat(_)
            | Make::Backup(_) => Err(other(uses, "a DNS provider")),
        }
    }

    /// Makes a channel.
    ///
    /// # Errors
    /// Where it is none, or cannot be made.
    pub fn channel(&self, uses: &Uses) -> Result<SharedChannel, FittingError> {
        match self.make(uses)? {
            Make::Channel(make) => self.made(uses, make(&uses.with, &self.wiring)),
            Make::Action(_)
            | Make::Probe(_)
            | Make::Dns(_)
            | Make::Target(_)
            | Make::Chat(_)
            | Make::Backup(_) => Err(other(uses, "a channel")),
        }
    }

    /// Makes a place for the status page.
    ///
    /// # Errors
    /// Where it is none, or cannot be made.
    pub fn target(&self, uses: &Uses) -> Result<SharedTarget, FittingError> {
        match self.make(uses)? {
            Make::Target(make) => self.made(uses, make(&uses.with, &self.wiring)),
            Make::Action(_)
            | Make::Probe(_)
            | Make::Dns(_)
            | Make::Channel(_)
            | Make::Chat(_)
            | Make::Backup(_) => Err(other(uses, "a place for the status page")),
        }
    }

    /// Makes a chat.
    ///
    /// # Errors
    /// Where it is none, or cannot be made.
    pub fn chat(&self, uses: &Uses) -> Result<SharedChat, FittingError> {
        match self.make(uses)? {
            Make::Chat(make) => self.made(uses, make(&uses.with, &self.wiring)),
            Make::Action(_)
            | Make::Probe(_)
            | Make::Dns(_)
            | Make::Channel(_)
            | Make::Target(_)
            | Make::Backup(_) => Err(other(uses, "a chat")),
        }
    }

    /// Makes a place of backups.
    ///
    /// # Errors
    /// Where it is none, or cannot be made.
    pub fn backups(&self, uses: &Uses) -> Result<SharedBackups, FittingError> {
        match self.make(uses)? {
            Make::Backup(make) => self.made(uses, make(&uses.with, &self.wiring)),
            Make::Action(_)
            | Make::Probe(_)
            | Make::Dns(_)
            | Make::Channel(_)
            | Make::Chat(_)
            | Make::Target(_) => Err(other(uses, "a place of backups")),
        }
    }

    /// Makes channels, each with its name.
    ///
    /// # Errors
    /// Where one cannot be made.
    pub fn channels(
        &self,
        channels: &[Channel],
    ) -> Result<Vec<(ChannelName, SharedChannel)>, FittingError> {
        channels
            .iter()
            .map(|c| Ok((c.name.clone(), self.channel(&c.action)?)))
            .collect()
    }

    fn make(&self, uses: &Uses) -> Result<Make, FittingError> {
        self.kinds
            .get(uses.uses.as_str())
            .map(|k| k.make)
            .ok_or_else(|| FittingError::Unknown(uses.uses.to_string()))
    }

    #[expect(
        clippy::unused_self,
        reason = "reads as part of the seven makers above"
    )]
    fn made<T>(&self, uses: &Uses, made: Result<T, MakeError>) -> Result<T, FittingError> {
        made.map_err(|source| FittingError::Make {
            kind: uses.uses.to_string(),
            source,
        })
    }
}

fn other(uses: &Uses, wanted: &'static str) -> FittingError {
    FittingError::Family {
        kind: uses.uses.to_string(),
        wanted,
    }
}
