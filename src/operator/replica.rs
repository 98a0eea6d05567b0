//! One replica of the operator: a candidate, and the leader once it is elected.

use std::{net::SocketAddr, path::PathBuf, pin::pin, sync::Arc};

use kube::Client;
use tokio::{net::TcpListener, sync::oneshot};

use super::{
    bounds::Bounds,
    cluster::Cluster,
    crd::CrdError,
    definitions,
    leader::{Leader, LeaderError, Means, Opening},
    lease::{Election, Lost, Times, Won},
    reach::{Door, Reach},
    secret::ClusterSecrets,
};
use crate::{
    driver::{
        engine::{Engine, EngineError, Ground, Outlets},
        metrics::{self, Metrics},
        service,
        tenure::Tenure,
    },
    journal::kubernetes::KubernetesJournal,
    model::span::Span,
    port::{cause, ledger::SharedLedger, runtime::SharedRuntime, secret::SharedSecrets},
    publish::listener::{self, Limits},
};

/// The journal is asked again after this where it does not answer.
const AGAIN: Span = Span::from_secs(1);

/// Of what definitions lack, so much is told.
const TOLD: usize = 5;

/// How a replica is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The namespace of its resources, its journal and its Lease.
    pub namespace: String,
    /// What it is called; no other process has the same name, not even this one after a restart.
    pub identity: String,
    /// The Lease.
    pub lease: String,
    /// How often the Lease is renewed, and when it may be taken.
    pub times: Times,
    /// Where the leader's status page and its desk are, and where guards and observers find it.
    pub outlets: Outlets,
    /// Where the leader is reached through Services, where it is.
    pub door: Option<Door>,
    /// Where every replica's figures, liveness and readiness are.
    pub metrics: Option<SocketAddr>,
    /// A folder for what adapters keep.
    pub state: PathBuf,
    /// The files and variables that documents may name.
    pub bounds: Bounds,
    /// Whether approvals by kubectl are taken.
    pub approvals: bool,
}

/// Why a replica ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// Its listeners.
    #[error(transparent)]
    Engine(EngineError),
    /// The definitions of this version cannot be made.
    #[error(transparent)]
    Crd(CrdError),
    /// The cluster has older definitions, or none.
    #[error("the cluster's definitions lack {}", told(.0))]
    Definitions(Vec<String>),
    /// It was deposed.
    #[error("this replica does not lead any more")]
    Deposed(#[source] Lost),
    /// It cannot go on.
    #[error("this replica cannot lead")]
    Leader(#[source] LeaderError),
}

/// The first of what is lacking, and how much more there is.
fn told(lacking: &[String]) -> String {
    let first = lacking.iter().take(TOLD).cloned().collect::<Vec<_>>();
    let first = first.join(", ");
    match lacking.len().saturating_sub(TOLD) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// A replica that is elected, and does not lead yet.
pub struct Elected {
    client: Client,
    settings: Settings,
    runtime: SharedRuntime,
    metrics: Arc<Metrics>,
    election: Election,
    won: Won,
    /// Its figures are there for as long as this.
    _figures: Option<oneshot::Sender<()>>,
}

/// Waits to be elected; none where `stop` ends before.
///
/// # Errors
/// Where it cannot listen, or the cluster lacks definitions of this version.
pub async fn elect(
    client: Client,
    settings: Settings,
    runtime: SharedRuntime,
    stop: impl Future<Output = ()>,
) -> Result<Option<Elected>, ReplicaError> {
    let metrics = Arc::new(Metrics::new(runtime.clone(), env!("CARGO_PKG_VERSION")));
    let figures = match settings.metrics {
        Some(address) => Some(
            figures(address, &metrics)
                .await
                .map_err(ReplicaError::Engine)?,
        ),
        None => None,
    };
    let mut stop = pin!(stop);
    tokio::select! {
        settled = definitions::settle(&client, &runtime) => settled?,
        () = &mut stop => return Ok(None),
    }
    // A candidate is ready: it could lead at once.
    metrics.documents_loaded();
    let election = Election::new(
        client.clone(),
        &settings.namespace,
        &settings.lease,
        &settings.identity,
        settings.times,
        runtime.clone(),
    );
    tracing::info!(identity = %settings.identity, namespace = %settings.namespace, "waiting for the lease");
    let won = tokio::select! {
        won = election.win() => won,
        () = &mut stop => return Ok(None),
    };
    Ok(Some(Elected {
        client,
        settings,
        runtime,
        metrics,
        election,
        won,
        _figures: figures,
    }))
}

impl Elected {
    /// Leads until `stop` ends or another replica leads. `began` gets the controller that begins, and gives what is to be
    /// done once its documents are in force.
    ///
    /// # Errors
    /// Where it cannot listen, is deposed, or cannot go on; it is to be started again then.
    pub async fn lead(
        self,
        ledger: SharedLedger,
        began: impl FnOnce(&mut Engine) -> Opening,
        stop: impl Future<Output = ()>,
    ) -> Result<(), ReplicaError> {
        let Self {
            client,
            settings,
            runtime,
            metrics,
            election,
            won,
            _figures,
        } = self;
        let mut won = won;
        let mut stop = Box::pin(stop);
        let journal = Arc::new(KubernetesJournal::new(
            client.clone(),
            &settings.namespace,
            &settings.identity,
            runtime.clone(),
        ));
        tokio::select! {
            succeeds = succeed(&election, &mut won, &journal, &runtime) => {
                succeeds.map_err(ReplicaError::Deposed)?;
            }
            () = &mut stop => {
                election.release(won).await;
                return Ok(());
            }
        }
        tracing::info!(term = %won.term, "this replica leads");
        let secrets = Arc::new(ClusterSecrets::new(
            client.clone(),
            &settings.namespace,
            settings.bounds,
        ));
        let tenure = Arc::new(Tenure::new(
            won.asked,
            settings.times.renew,
            journal.clone(),
            runtime.clone(),
        ));
        let shared: SharedSecrets = secrets.clone();
        // What it grants to guards would not be recorded.
        let yields = settings.outlets.guards.is_some();
        let listening = settings.outlets.listen(&shared, &runtime).await;
        let listening = listening.map_err(ReplicaError::Engine)?;
        let ground = Ground {
            journal: journal.clone(),
            copy: None,
            ledger,
            runtime: runtime.clone(),
            secrets: shared,
            state: settings.state,
            metrics,
            leader: Some(service::Leader {
                term: won.term,
                name: settings.identity.clone(),
                tenure: tenure.clone(),
            }),
        };
        let mut engine = Engine::start(Vec::new(), ground, listening)
            .await
            .map_err(ReplicaError::Engine)?;
        // A certificate that was read by the candidate may have been replaced since.
        engine.renew_certificate();
        let opening = began(&mut engine);
        let reach = settings.door.map(|door| {
            let (client, runtime) = (client.clone(), runtime.clone());
            Reach::new(client, &settings.namespace, door, tenure.clone(), runtime)
        });
        let (mut leader, answered) = Leader::new(Means {
            cluster: Cluster::new(client, &settings.namespace),
            engine,
            opening: Some(opening),
            journal,
            secrets,
            runtime,
            identity: settings.identity,
            approvals: settings.approvals,
        });
        // In a task of its own: nothing that the leader waits for keeps it from renewing.
        let (tell, mut lost) = oneshot::channel();
        let (end, ended) = oneshot::channel::<()>();
        let renewing = tokio::spawn(async move {
            let mut won = won;
            tokio::select! {
                lost = election.keep(&mut won, &tenure, yields) => drop(tell.send(lost)),
                _ = ended => election.release(won).await,
            }
        });
        let until = async {
            tokio::select! {
                lost = &mut lost => lost.ok(),
                () = stop => None,
            }
        };
        let led = {
            let mut led = pin!(leader.lead(answered, until));
            match &reach {
                None => led.await,
                Some(reach) => {
                    let mut keep = pin!(reach.keep());
                    tokio::select! {
                        led = &mut led => led,
                        () = &mut keep => led.await,
                    }
                }
            }
        };
        leader.stop().await;
        let led = match led {
            Ok(Some(lost)) => return Err(ReplicaError::Deposed(lost)),
            Ok(None) => Ok(()),
            // Whoever cannot lead lets another one try.
            Err(error) => Err(ReplicaError::Leader(error)),
        };
        if let Some(reach) = &reach {
            reach.leave().await;
        }
        drop(end);
        // What it could not give up ends by itself.
        drop(renewing.await);
        led
    }
}

/// Takes stock of the journal, and makes the term one that follows all that it knows.
async fn succeed(
    election: &Election,
    won: &mut Won,
    journal: &KubernetesJournal,
    runtime: &SharedRuntime,
) -> Result<(), Lost> {
    let stock = async {
        loop {
            match journal.take_stock().await {
                Ok(last) => return last,
                Err(error) => {
                    tracing::warn!(error = %cause::in_full(&error), "the journal cannot be read; trying again");
                }
            }
            runtime.sleep_until(runtime.now().after(AGAIN)).await;
        }
    };
    let last = election.during(won, stock).await?;
    election.surpass(won, last).await
}

async fn figures(
    address: SocketAddr,
    metrics: &Arc<Metrics>,
) -> Result<oneshot::Sender<()>, EngineError> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|source| EngineError::Listen { address, source })?;
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async {
        let _ = stopped.await;
    };
    let routes = metrics::routes(metrics.clone());
    tokio::spawn(listener::serve_over(
        listener,
        None,
        routes,
        Limits::default(),
        stopped,
    ));
    Ok(stop)
}
