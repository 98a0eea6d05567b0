//! `failover operator`: a replica of the operator, and the definitions of its resources.

use std::{fs, pin::pin, sync::Arc, time::Duration};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    arguments::{OperatorCrds, OperatorRun},
    desk, engine,
    output::Output,
    place::Place,
    socket::server::Socket,
    vantage,
};
use crate::{
    announce::kubernetes::KubernetesLedger,
    driver::{
        clock::HostRuntime,
        engine::{Engine, Outlets},
        registry,
    },
    error::Error,
    operator::{
        bounds::Bounds,
        crd,
        leader::Opening,
        lease::Times,
        reach::Door,
        replica::{self, ReplicaError, Settings},
    },
    port::{ledger::SharedLedger, runtime::SharedRuntime},
    web::room,
};

/// How long connecting to the API server may take.
const CONNECT: Duration = Duration::from_secs(5);

/// `failover operator crds`.
///
/// # Errors
/// Where a definition cannot be made, which is a fault of failover.
pub fn crds(args: &OperatorCrds, output: Output) -> Result<(), Error> {
    let definitions = crd::all(registry::kinds()).map_err(|e| engine::cannot_start(&e))?;
    for (file, text) in definitions {
        match args.to.as_ref().map(|folder| folder.join(file)) {
            None => output.text(&format!("---\n{text}"))?,
            Some(path) => fs::write(&path, text).map_err(|source| Error::File {
                verb: "write",
                path,
                source,
            })?,
        }
    }
    Ok(())
}

/// Runs a replica until SIGTERM or Ctrl-C, or until another one leads.
///
/// # Errors
/// Where it cannot start, or cannot go on.
pub async fn run(args: &OperatorRun, place: &Place) -> Result<(), Error> {
    let on = |kind| signal(kind).map_err(|e| engine::cannot_start(&e));
    let (mut terminate, mut interrupt) =
        (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
    let times = Times::new(args.lease_duration, args.renew_deadline, args.retry_period)
        .map_err(|e| Error::Usage(e.to_string()))?;
    let config = config(args).await?;
    let namespace = args
        .namespace
        .clone()
        .unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config).map_err(|e| Error::Cluster(e.into()))?;
    place.prepare()?;
    let runtime: SharedRuntime = Arc::new(HostRuntime::new());
    let settings = Settings {
        namespace,
        identity: identity(args.identity.as_deref()),
        lease: args.lease.clone(),
        times,
        outlets: Outlets {
            page: args.listen.address(),
            metrics: None,
            guards: args.guard_listen.address(),
            vantage: vantage::listen(&args.vantage)?,
            desk: desk::listen(&args.desk)?,
        },
        door: door(args)?,
        metrics: args.metrics.address(),
        state: place.state.clone(),
        bounds: Bounds::new(args.secrets.clone(), args.allow_commands),
        approvals: args.approvals,
    };
    let ledger: SharedLedger = Arc::new(KubernetesLedger::new(
        client.clone(),
        &settings.namespace,
        runtime.clone(),
    ));
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
    };
    let mut stop = pin!(stop);
    let elected = replica::elect(client, settings, runtime.clone(), stop.as_mut()).await?;
    let Some(elected) = elected else {
        return Ok(());
    };
    // Only a leader has them: candidates may stand in the same folder.
    let socket = Socket::bind(&place.socket).await?;
    let began = |engine: &mut Engine| -> Opening {
        let clerk = engine::answer(engine, socket, runtime);
        Box::new(move |engine| room::open(engine, &clerk))
    };
    Box::pin(elected.lead(ledger, began, stop)).await?;
    Ok(())
}

impl From<ReplicaError> for Error {
    fn from(error: ReplicaError) -> Self {
        match error {
            ReplicaError::Engine(error) => error.into(),
            ReplicaError::Crd(error) => engine::cannot_start(&error),
            error @ (ReplicaError::Definitions(_)
            | ReplicaError::Deposed(_)
            | ReplicaError::Leader(_)) => Self::Replica(error),
        }
    }
}

async fn config(args: &OperatorRun) -> Result<Config, Error> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| Error::Cluster(error);
    let mut config = match &args.kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path).map_err(|e| failed(e.into()))?;
            let options = KubeConfigOptions::default();
            Config::from_custom_kubeconfig(kubeconfig, &options)
                .await
                .map_err(|e| failed(e.into()))?
        }
        None => Config::infer().await.map_err(|e| failed(e.into()))?,
    };
    config.connect_timeout = Some(CONNECT);
    Ok(config)
}

/// Where the leader is reached through Services.
fn door(args: &OperatorRun) -> Result<Option<Door>, Error> {
    if args.endpoint_slice.is_empty() {
        return Ok(None);
    }
    let address = args.address.ok_or_else(|| {
        Error::Usage(
            "--endpoint-slice needs the address that it is to hold: set POD_IP by the downward API (status.podIP), or --address"
                .to_owned(),
        )
    })?;
    Ok(Some(Door {
        address,
        slices: args.endpoint_slice.clone(),
    }))
}

/// A process that was started again under its old name is not the one before: it does not know what that one began.
fn identity(name: Option<&str>) -> String {
    let host = || {
        nix::unistd::gethostname()
            .ok()
            .and_then(|name| name.into_string().ok())
    };
    let name = name.map(ToOwned::to_owned).or_else(host);
    let name = name.unwrap_or_else(|| "failover".to_owned());
    format!("{name}-{:08x}", rand::random::<u32>())
}
