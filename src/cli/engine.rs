//! A controller with everything around it: journal, ledger, control socket, status page and figures. `run` and the demo
//! start the very same.

use std::{fmt, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use futures::StreamExt;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle, time};
use tokio_rustls::TlsAcceptor;

use super::{
    arguments::Listen,
    place::Place,
    socket::{desk::Desk, server::Socket},
};
use crate::{
    announce::{email::unsubscribe, ledger::SqliteLedger},
    driver::{
        clock::HostRuntime,
        controller::{Controller, Ends, Means, StartError},
        guards::Post,
        metrics::{self, Metrics},
        registry,
        service::LoopError,
        vantage,
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
    probe::sockets,
    publish::listener::{self, Limits, Pages},
    vantage::certificate::Certificate,
};

/// Connections of observers at once: each may hold the largest report in memory before it is proved.
const OBSERVERS: u32 = 256;

/// How long loops may take to end.
const END: Duration = Duration::from_secs(20);

/// At a start the journal's copy has so long to say whether another controller leads.
const WORD: Duration = Duration::from_secs(5);

/// Where a controller is to listen, and where its journal is copied to.
#[derive(Clone, Debug)]
pub struct Outlets {
    /// The status page.
    pub page: Listen,
    /// Figures, liveness and readiness.
    pub metrics: Listen,
    /// The journal's copy.
    pub journal_copy: Option<String>,
    /// Where guards speak to.
    pub guards: Listen,
    /// Where observers elsewhere report to.
    pub vantage: Option<VantageOutlet>,
}

/// Where observers elsewhere report to.
#[derive(Clone, Debug)]
pub struct VantageOutlet {
    /// The address.
    pub address: SocketAddr,
    /// The certificate; none behind a proxy that has one.
    pub certificate: Option<Arc<Certificate>>,
}

impl fmt::Display for VantageOutlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.certificate {
            Some(_) => write!(f, "https://{}", self.address),
            None => write!(f, "http://{}, behind your proxy", self.address),
        }
    }
}

/// A running controller with everything around it.
pub struct Engine {
    /// The controller.
    pub controller: Arc<Controller>,
    /// Answers requests.
    pub desk: Arc<Desk>,
    /// How loops ended.
    pub ends: Ends,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// Where guards speak to.
    pub guards: Option<SocketAddr>,
    unsubscribe: Arc<unsubscribe::Desk>,
    tasks: Vec<JoinHandle<()>>,
    listeners: Vec<(oneshot::Sender<()>, JoinHandle<()>)>,
    certificate: Option<Arc<Certificate>>,
}

impl Engine {
    /// Starts everything, or nothing.
    ///
    /// # Errors
    /// Where a part of it cannot be had; what was begun ends again.
    pub async fn start(
        services: Vec<Service>,
        place: &Place,
        outlets: &Outlets,
    ) -> Result<Self, Error> {
        place.prepare()?;
        raise_limit();
        let runtime: SharedRuntime = Arc::new(HostRuntime::new());
        let secrets: SharedSecrets = Arc::new(HostSecrets);
        let socket = Socket::bind(&place.socket).await?;
        let page = bind(outlets.page).await?;
        let figures = bind(outlets.metrics).await?;
        let vantage = match &outlets.vantage {
            Some(outlet) => bind(Listen::At(outlet.address)).await?,
            None => None,
        };
        let post = match outlets.guards {
            Listen::Off => None,
            Listen::At(address) => {
                let post = Post::listen(address, secrets.clone(), runtime.clone()).await;
                Some(post.map_err(|source| Error::Listen { address, source })?)
            }
        };
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
        let copy = match &outlets.journal_copy {
            Some(url) => {
                let store = store(url).open(&secrets).map_err(|e| cannot_start(&e))?;
                let figures = metrics.clone();
                let copy = Copy::new(journal.clone(), store, runtime.clone())
                    .telling(move |chain, up_to| figures.copied(chain, up_to));
                leads(&copy, url, &place.journal()).await?;
                Some(Arc::new(copy))
            }
            None => None,
        };
        let pages = Pages::default();
        let unsubscribe = Arc::new(unsubscribe::Desk::new(
            secrets.clone(),
            ledger.clone(),
            runtime.clone(),
        ));
        unsubscribe.serve(&services);
        let means = Means {
            kinds: registry::kinds(),
            journal,
            copy: copy.clone(),
            ledger,
            runtime: runtime.clone(),
            secrets,
            state: place.state.clone(),
            metrics: metrics.clone(),
            guards: post.clone(),
            pages: pages.clone(),
            upkeep: true,
        };
        let (controller, ends) = Controller::start(services, means)
            .await
            .map_err(|e| cannot_start(&e))?;
        let desk = Arc::new(Desk {
            controller: controller.clone(),
            runtime,
        });
        let mut engine = Self {
            controller,
            desk: desk.clone(),
            ends,
            metrics: metrics.clone(),
            guards: post.as_ref().and_then(|p| p.address().ok()),
            unsubscribe: unsubscribe.clone(),
            tasks: vec![tokio::spawn(async move { socket.serve(desk).await })],
            listeners: Vec::new(),
            certificate: outlets.vantage.as_ref().and_then(|v| v.certificate.clone()),
        };
        if let Some(post) = post {
            engine
                .tasks
                .push(tokio::spawn(async move { post.serve().await }));
        }
        if let Some(copy) = copy {
            let controller = engine.controller.clone();
            engine.tasks.push(tokio::spawn(async move {
                controller.depose(copy.follow().await);
            }));
        }
        if let Some(page) = page {
            engine.serve(page, unsubscribe.router().merge(listener::router(pages)));
        }
        if let Some(figures) = figures {
            engine.serve(figures, metrics::routes(metrics));
        }
        if let (Some(listener), Some(outlet)) = (vantage, &outlets.vantage) {
            engine.serve_observers(listener, outlet)?;
        }
        Ok(engine)
    }

    /// Begins to use changed documents; the answer names what changed.
    ///
    /// # Errors
    /// Where a changed service cannot be set up; nothing was changed then.
    pub async fn reload(&self, services: Vec<Service>) -> Result<Vec<String>, StartError> {
        let changes = self.controller.reload(services).await?;
        let running = self.controller.services();
        self.unsubscribe.serve(running.iter().map(AsRef::as_ref));
        Ok(changes)
    }

    /// Begins to use a renewed certificate; the one before stays in use where that cannot be.
    pub fn renew_certificate(&self) {
        let renewed = self.certificate.as_ref().map(|c| c.renew());
        if let Some(Err(error)) = renewed {
            let error = cause::in_full(&error);
            tracing::error!(code = "FO-083", %error, "the renewed certificate cannot be used; the old one stays");
        }
    }

    fn serve_observers(
        &mut self,
        listener: TcpListener,
        outlet: &VantageOutlet,
    ) -> Result<(), Error> {
        let certificate = outlet.certificate.as_ref();
        let tls = certificate.map(Certificate::acceptor).transpose();
        let tls = tls.map_err(|e| Error::Certificate(e.into()))?;
        let routes = vantage::routes(self.controller.observers().clone());
        let limits = Limits {
            connections: OBSERVERS,
            ..Limits::default()
        };
        self.serve_over(listener, tls, routes, limits);
        Ok(())
    }

    fn serve(&mut self, listener: TcpListener, routes: axum::Router) {
        self.serve_over(listener, None, routes, Limits::default());
    }

    fn serve_over(
        &mut self,
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
        routes: axum::Router,
        limits: Limits,
    ) {
        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            let _ = stopped.await;
        };
        let task = tokio::spawn(listener::serve_over(listener, tls, routes, limits, stopped));
        self.listeners.push((stop, task));
    }

    /// Stops cleanly: loops end after what they are recording.
    pub async fn stop(mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
        }
        let waiting = self.controller.services().len();
        self.controller.stop();
        let ended = async {
            for _ in 0..waiting {
                if self.ends.next().await.is_none() {
                    return;
                }
            }
        };
        if time::timeout(END, ended).await.is_err() {
            tracing::warn!("a service did not end in time");
        }
        for (stop, task) in self.listeners.drain(..) {
            let _ = stop.send(());
            let _ = task.await;
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

/// A controller that was taken over from does not begin again. A copy that cannot be asked keeps nobody from it.
async fn leads(copy: &Copy, url: &str, journal: &Path) -> Result<(), Error> {
    match time::timeout(WORD, copy.catch_up()).await {
        Ok(Err(CopyError::TakenOver(succession))) => Err(Error::TakenOver(succession)),
        Ok(Err(CopyError::StillWritten { chain, .. })) => Err(Error::StillWritten {
            url: url.to_owned(),
            chain,
            path: journal.to_owned(),
        }),
        Ok(Err(error)) => {
            let error = cause::in_full(&error);
            tracing::warn!(%error, "the journal's copy does not say whether this controller still leads");
            Ok(())
        }
        Ok(Ok(())) => Ok(()),
        Err(_) => {
            tracing::warn!(
                "the journal's copy does not answer whether this controller still leads"
            );
            Ok(())
        }
    }
}

/// Something that keeps a controller from starting.
#[must_use]
pub fn cannot_start(error: &dyn std::error::Error) -> Error {
    Error::Start {
        reason: cause::in_full(error),
    }
}

/// Thousands of probes hold thousands of sockets; with fewer, probes beyond the limit would see nothing and say so.
fn raise_limit() {
    match sockets::raise_limit() {
        Ok(limit) => tracing::debug!(limit, "open files"),
        Err(error) => tracing::warn!(%error, "the limit of open files could not be raised"),
    }
}

async fn bind(listen: Listen) -> Result<Option<TcpListener>, Error> {
    let address: SocketAddr = match listen {
        Listen::Off => return Ok(None),
        Listen::At(address) => address,
    };
    TcpListener::bind(address)
        .await
        .map(Some)
        .map_err(|source| Error::Listen { address, source })
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
