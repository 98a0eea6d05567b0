//! A controller on this host: its journal, ledger and control socket. `run` and the demo start the very same.

use std::{path::Path, sync::Arc};

use super::{place::Place, socket::server::Socket};
use crate::{
    announce::ledger::SqliteLedger,
    bot,
    desk::clerk::Clerk,
    driver::{
        clock::HostRuntime,
        engine::{Engine, EngineError, Ground, Outlets},
        metrics::Metrics,
        service::LoopError,
        takeover,
    },
    error::Error,
    journal::{
        copy::{Copy, CopyError},
        sqlite::SqliteJournal,
    },
    model::{id::ServiceName, secret::SecretRef, service::Service},
    port::{
        cause,
        ledger::SharedLedger,
        runtime::SharedRuntime,
        secret::{HostSecrets, SharedSecrets},
        store::StoreWith,
    },
    web::room,
};

/// Starts a controller on the state folder of this host, or nothing.
///
/// # Errors
/// Where a part of it cannot be had; what was begun ends again.
pub async fn start(
    services: Vec<Service>,
    place: &Place,
    outlets: &Outlets,
    journal_copy: Option<&str>,
) -> Result<(Engine, Arc<Clerk>), Error> {
    place.prepare()?;
    let runtime: SharedRuntime = Arc::new(HostRuntime::new());
    let secrets: SharedSecrets = Arc::new(HostSecrets);
    let socket = Socket::bind(&place.socket).await?;
    let listening = outlets.listen(&secrets, &runtime).await?;
    let journal = Arc::new(SqliteJournal::open(&place.journal())?);
    if !journal.origin().is_here() {
        return Err(Error::Elsewhere {
            path: place.journal(),
        });
    }
    let ledger: SharedLedger = Arc::new(
        SqliteLedger::open(&place.state.join("ledger.sqlite")).map_err(|e| cannot_start(&e))?,
    );
    let metrics = Arc::new(Metrics::new(runtime.clone(), env!("CARGO_PKG_VERSION")));
    let copy = match journal_copy {
        Some(url) => {
            let store = store(url).open(&secrets).map_err(|e| cannot_start(&e))?;
            let figures = metrics.clone();
            let copy = Copy::new(journal.clone(), store, runtime.clone())
                .telling(move |chain, up_to| figures.copied(chain, up_to));
            leads(&copy, &runtime, url, &place.journal()).await?;
            Some(Arc::new(copy))
        }
        None => None,
    };
    let ground = Ground {
        journal,
        copy,
        ledger,
        runtime: runtime.clone(),
        secrets,
        state: place.state.clone(),
        metrics,
        leader: None,
    };
    let mut engine = Engine::start(services, ground, listening).await?;
    let clerk = answer(&mut engine, socket, runtime);
    room::open(&mut engine, &clerk)?;
    Ok((engine, clerk))
}

/// Answers at the control socket for as long as the controller runs.
pub fn answer(engine: &mut Engine, socket: Socket, runtime: SharedRuntime) -> Arc<Clerk> {
    let clerk = Arc::new(Clerk {
        controller: engine.controller.clone(),
        runtime,
    });
    let answering = clerk.clone();
    engine.attend(async move { socket.serve(answering).await });
    engine.attend(bot::serve(clerk.clone(), clerk.runtime.clone()));
    clerk
}

impl From<EngineError> for Error {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Listen { address, source } => Self::Listen { address, source },
            EngineError::Certificate(error) => Self::Certificate(error.into()),
            EngineError::Start(error) => cannot_start(&error),
        }
    }
}

/// How a loop that was not asked to ended, as an error.
#[must_use]
pub fn ended(service: &ServiceName, end: Result<(), LoopError>) -> Option<Error> {
    match end {
        Ok(()) => None,
        Err(LoopError::TakenOver(succession)) => Some(Error::TakenOver(succession)),
        Err(error) => Some(Error::Start {
            reason: format!("the loop of {service} ended: {}", cause::in_full(&error)),
        }),
    }
}

/// A controller that was taken over from does not begin again.
async fn leads(
    copy: &Copy,
    runtime: &SharedRuntime,
    url: &str,
    journal: &Path,
) -> Result<(), Error> {
    match takeover::leads(copy, runtime).await {
        Ok(()) => Ok(()),
        Err(CopyError::TakenOver(succession)) => Err(Error::TakenOver(succession)),
        Err(CopyError::StillWritten { chain, .. }) => Err(Error::StillWritten {
            url: url.to_owned(),
            chain,
            path: journal.to_owned(),
        }),
        Err(error) => Err(cannot_start(&error)),
    }
}

/// Something that keeps a controller from starting.
#[must_use]
pub fn cannot_start(error: &dyn std::error::Error) -> Error {
    Error::Start {
        reason: cause::in_full(error),
    }
}

/// The journal's copy, its credentials in the variables that every S3 tool reads.
#[must_use]
pub fn store(url: &str) -> StoreWith {
    let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let secret = |name: &str| variable(name).map(|_| SecretRef::Env(name.to_owned()));
    let endpoint = variable("AWS_ENDPOINT_URL");
    StoreWith {
        url: url.to_owned(),
        allow_http: endpoint.as_ref().is_some_and(|e| e.starts_with("http://")),
        endpoint,
        region: variable("AWS_REGION"),
        access_key_id: secret("AWS_ACCESS_KEY_ID"),
        secret_access_key: secret("AWS_SECRET_ACCESS_KEY"),
        virtual_host: false,
    }
}
