//! A controller with everything around it but where its journal stands: listeners for guards, observers, the public and
//! figures. `failover run`, the demo and the operator start the very same.

use std::{fmt, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use futures::StreamExt;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle, time};
use tokio_rustls::TlsAcceptor;

use super::{
    controller::{Controller, Ends, Means, StartError},
    group,
    guards::Post,
    metrics::{self, Metrics},
    registry,
    service::Leader,
    vantage,
};
use crate::{
    announce::email::unsubscribe,
    journal::copy::Copy,
    model::service::Service,
    port::{
        cause, journal::SharedJournal, ledger::SharedLedger, runtime::SharedRuntime,
        secret::SharedSecrets,
    },
    probe::sockets,
    publish::listener::{self, Limits, Pages},
    vantage::certificate::{Certificate, CertificateError},
};

/// Connections to the desk at once: each page that is looked at holds one.
const DESKS: u32 = 512;

/// A page that is looked at holds its connection so long; then its browser connects anew.
const LOOKING: Duration = Duration::from_mins(30);

/// Connections of observers at once: each may hold the largest report in memory before it is proved.
const OBSERVERS: u32 = 256;

/// How long loops may take to end.
const END: Duration = Duration::from_secs(20);

/// Where a controller is to listen.
#[derive(Clone, Debug, Default)]
pub struct Outlets {
    /// The status page.
    pub page: Option<SocketAddr>,
    /// Figures, liveness and readiness.
    pub metrics: Option<SocketAddr>,
    /// Where guards speak to.
    pub guards: Option<SocketAddr>,
    /// Where observers elsewhere report to.
    pub vantage: Option<VantageOutlet>,
    /// The desk.
    pub desk: Option<DeskOutlet>,
}

/// Where the desk is.
#[derive(Clone, Debug)]
pub struct DeskOutlet {
    /// The address.
    pub address: SocketAddr,
    /// The certificate; none on this host alone.
    pub certificate: Option<Arc<Certificate>>,
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

impl DeskOutlet {
    /// The listener may have been given a port of the system's choice.
    fn url(&self, listener: &TcpListener) -> String {
        let address = listener.local_addr().unwrap_or(self.address);
        let scheme = if self.certificate.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{address}")
    }
}

/// Why a controller cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The certificate for observers cannot be used.
    #[error("the certificate cannot be used")]
    Certificate(#[source] CertificateError),
    /// A service cannot be set up.
    #[error(transparent)]
    Start(StartError),
}

/// What a controller stands on.
#[derive(Clone)]
pub struct Ground {
    /// Where its records go.
    pub journal: SharedJournal,
    /// The copy that follows the journal, where there is one.
    pub copy: Option<Arc<Copy>>,
    /// Who was told what.
    pub ledger: SharedLedger,
    /// Time and tasks.
    pub runtime: SharedRuntime,
    /// Where secrets come from.
    pub secrets: SharedSecrets,
    /// A folder for what adapters keep.
    pub state: PathBuf,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// How this process came to lead, where it was elected.
    pub leader: Option<Leader>,
}

/// Everything that listens, before anybody is answered: what cannot be had is known before a journal is opened.
pub struct Listening {
    page: Option<TcpListener>,
    figures: Option<TcpListener>,
    observers: Option<(TcpListener, VantageOutlet)>,
    desk: Option<(TcpListener, DeskOutlet)>,
    post: Option<Arc<Post>>,
}

impl Outlets {
    /// Begins to listen.
    ///
    /// # Errors
    /// Where an address cannot be had.
    pub async fn listen(
        &self,
        secrets: &SharedSecrets,
        runtime: &SharedRuntime,
    ) -> Result<Listening, EngineError> {
        let page = bind(self.page).await?;
        let figures = bind(self.metrics).await?;
        let observers = match &self.vantage {
            Some(outlet) => bind(Some(outlet.address))
                .await?
                .map(|listener| (listener, outlet.clone())),
            None => None,
        };
        let desk = match &self.desk {
            Some(outlet) => bind(Some(outlet.address))
                .await?
                .map(|listener| (listener, outlet.clone())),
            None => None,
        };
        let post = match self.guards {
            None => None,
            Some(address) => {
                let post = Post::listen(address, secrets.clone(), runtime.clone()).await;
                Some(post.map_err(|source| EngineError::Listen { address, source })?)
            }
        };
        Ok(Listening {
            page,
            figures,
            observers,
            desk,
            post,
        })
    }
}

/// A running controller with everything around it.
pub struct Engine {
    /// The controller.
    pub controller: Arc<Controller>,
    /// How loops ended.
    pub ends: Ends,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// Where guards speak to.
    pub guards: Option<SocketAddr>,
    /// Where the desk is, as a browser is told.
    pub desk: Option<String>,
    unsubscribe: Arc<unsubscribe::Desk>,
    tasks: Vec<JoinHandle<()>>,
    listeners: Vec<(oneshot::Sender<()>, JoinHandle<()>)>,
    certificates: Vec<Arc<Certificate>>,
    /// What listens for the desk, until it is opened.
    unopened: Option<(TcpListener, DeskOutlet)>,
}

impl Engine {
    /// Starts everything, or nothing.
    ///
    /// # Errors
    /// Where a part of it cannot be had; what was begun ends again.
    pub async fn start(
        services: Vec<Service>,
        ground: Ground,
        listening: Listening,
    ) -> Result<Self, EngineError> {
        raise_limit();
        let pages = match &listening.page {
            Some(_) => Pages::default(),
            None => Pages::unserved(),
        };
        let unsubscribe = Arc::new(unsubscribe::Desk::new(
            ground.secrets.clone(),
            ground.ledger.clone(),
            ground.runtime.clone(),
        ));
        let voices = group::voices(&services);
        unsubscribe.serve(services.iter().chain(&voices));
        let post = listening.post;
        let means = Means {
            kinds: registry::kinds(),
            journal: ground.journal,
            copy: ground.copy.clone(),
            ledger: ground.ledger,
            runtime: ground.runtime,
            secrets: ground.secrets,
            state: ground.state,
            metrics: ground.metrics.clone(),
            guards: post.clone(),
            pages: pages.clone(),
            leader: ground.leader,
            upkeep: true,
        };
        let (controller, ends) = Controller::start(services, means)
            .await
            .map_err(EngineError::Start)?;
        let observers = listening.observers.as_ref();
        let observers = observers.and_then(|(_, outlet)| outlet.certificate.clone());
        let desk = listening.desk.as_ref();
        let url = desk.map(|(listener, outlet)| outlet.url(listener));
        let desk = desk.and_then(|(_, outlet)| outlet.certificate.clone());
        let mut engine = Self {
            controller,
            ends,
            metrics: ground.metrics.clone(),
            guards: post.as_ref().and_then(|p| p.address().ok()),
            desk: url,
            unsubscribe: unsubscribe.clone(),
            tasks: Vec::new(),
            listeners: Vec::new(),
            certificates: observers.into_iter().chain(desk).collect(),
            unopened: listening.desk,
        };
        if let Some(post) = post {
            engine.attend(async move { post.serve().await });
        }
        if let Some(copy) = ground.copy {
            let controller = engine.controller.clone();
            engine.attend(async move { controller.depose(copy.follow().await) });
        }
        if let Some(page) = listening.page {
            engine.serve(page, unsubscribe.router().merge(listener::router(pages)));
        }
        if let Some(figures) = listening.figures {
            engine.serve(figures, metrics::routes(ground.metrics));
        }
        if let Some((listener, outlet)) = listening.observers {
            engine.serve_observers(listener, &outlet)?;
        }
        Ok(engine)
    }

    /// Has a task end with the controller.
    pub fn attend(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.push(tokio::spawn(task));
    }

    /// Begins to use changed documents; the answer names what changed.
    ///
    /// # Errors
    /// Where a changed service cannot be set up; nothing was changed then.
    pub async fn reload(&self, services: Vec<Service>) -> Result<Vec<String>, StartError> {
        let changes = self.controller.reload(services).await?;
        let running = self.controller.services();
        let running = || running.iter().map(AsRef::as_ref);
        let voices = group::voices(running());
        self.unsubscribe.serve(running().chain(&voices));
        Ok(changes)
    }

    /// Begins to use a renewed certificate; the one before stays in use where that cannot be.
    pub fn renew_certificate(&self) {
        for certificate in &self.certificates {
            if let Err(error) = certificate.renew() {
                let error = cause::in_full(&error);
                tracing::error!(code = "FO-083", %error, "the renewed certificate cannot be used; the old one stays");
            }
        }
    }

    /// Whether the desk is listened for over TLS; none where it is not listened for, or is open already.
    #[must_use]
    pub fn desk_is_secure(&self) -> Option<bool> {
        let (_, outlet) = self.unopened.as_ref()?;
        Some(outlet.certificate.is_some())
    }

    /// Opens the desk where it is listened for.
    ///
    /// # Errors
    /// Where its certificate cannot be used.
    pub fn serve_desk(&mut self, routes: axum::Router) -> Result<(), EngineError> {
        let Some((listener, outlet)) = self.unopened.take() else {
            return Ok(());
        };
        let tls = outlet.certificate.as_ref().map(Certificate::acceptor);
        let tls = tls.transpose().map_err(EngineError::Certificate)?;
        let limits = Limits {
            connections: DESKS,
            connection: LOOKING,
            // A check or a preview asks others.
            answer: Duration::from_mins(2),
            ..Limits::default()
        };
        self.serve_over(listener, tls, routes, limits);
        Ok(())
    }

    fn serve_observers(
        &mut self,
        listener: TcpListener,
        outlet: &VantageOutlet,
    ) -> Result<(), EngineError> {
        let certificate = outlet.certificate.as_ref();
        let tls = certificate.map(Certificate::acceptor).transpose();
        let tls = tls.map_err(EngineError::Certificate)?;
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

/// Thousands of probes hold thousands of sockets; with fewer, probes beyond the limit would see nothing and say so.
fn raise_limit() {
    match sockets::raise_limit() {
        Ok(limit) => tracing::debug!(limit, "open files"),
        Err(error) => tracing::warn!(%error, "the limit of open files could not be raised"),
    }
}

async fn bind(address: Option<SocketAddr>) -> Result<Option<TcpListener>, EngineError> {
    let Some(address) = address else {
        return Ok(None);
    };
    TcpListener::bind(address)
        .await
        .map(Some)
        .map_err(|source| EngineError::Listen { address, source })
}
