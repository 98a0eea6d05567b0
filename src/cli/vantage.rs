//! `failover vantage`: an observer that looks from here and reports to a controller elsewhere, until it is told to
//! stop.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

use futures::StreamExt;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Mutex,
};
use url::{Host, Url};

use super::{
    arguments::{self, Listen},
    documents, engine,
    output::Output,
};
use crate::{
    driver::{
        clock::HostRuntime,
        engine::VantageOutlet,
        observer::{Means, Observer, Told},
        registry,
    },
    error::Error,
    model::{id::VantageName, secret::SecretRef, span::Span},
    port::{
        command::{Command, Context, Ending, Why},
        http,
        secret::{HostSecrets, SharedSecrets},
    },
    probe::sockets,
    vantage::{
        certificate::{Certificate, Files},
        client::Client,
        key::Key,
    },
};

/// Longest time of one request to the controller.
const REQUEST: Duration = Duration::from_secs(5);
/// Longest time of one call of a service's API by a probe.
const PROBE: Duration = Duration::from_secs(20);
/// An observer that has nothing to say reports every five seconds.
const SHORTEST: Span = Span::from_secs(6);
/// Longest time of the program that tells of a silent controller.
const PAGE: Duration = Duration::from_mins(1);

/// Looks and reports until SIGTERM or Ctrl-C.
///
/// # Errors
/// Where it cannot start; a controller that is away is no error.
pub async fn vantage(args: &arguments::Vantage, output: Output) -> Result<(), Error> {
    let on = |kind| signal(kind).map_err(|e| engine::cannot_start(&e));
    let (mut terminate, mut interrupt) =
        (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
    let means = means(args)?;
    if let Err(error) = sockets::raise_limit() {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
    tracing::info!(controller = %args.controller, name = %args.name, "observing");
    let pager = args.on_silence.as_ref().map(|program| Pager {
        program: Command {
            argv: vec![program.clone()],
            env: BTreeMap::new(),
            secrets: means.secrets.clone(),
        },
        vantage: means.client.vantage.clone(),
        turn: Arc::default(),
    });
    let (observer, mut told) = Observer::new(means);
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let told = async {
        while let Some(told) = told.next().await {
            if let Some(pager) = &pager {
                pager.page(&told);
            }
            tell(&told, output)?;
        }
        Ok(())
    };
    let ((), told) = tokio::join!(observer.run(stop), told);
    tracing::info!("stopping");
    told
}

/// The program of this host that tells people of a silent controller.
struct Pager {
    program: Command,
    vantage: VantageName,
    /// One runs at a time, in order.
    turn: Arc<Mutex<()>>,
}

impl Pager {
    fn page(&self, told: &Told) {
        let why = match told {
            Told::Silent { .. } => Why::ControllerSilent,
            Told::Heard { .. } => Why::ControllerHeard,
            Told::Assigned { .. } | Told::Away { .. } | Told::Back { .. } => return,
        };
        let context = Context::of_observer(&self.vantage, &why);
        let (program, turn) = (self.program.clone(), Arc::clone(&self.turn));
        tokio::spawn(async move {
            let _turn = turn.lock().await;
            let run = program.run(&context, PAGE).await;
            if run.ending != Ending::Exited(0) {
                tracing::error!(told = %run.told(), "the program of --on-silence failed");
            }
        });
    }
}

fn means(args: &arguments::Vantage) -> Result<Means, Error> {
    let secrets: SharedSecrets = Arc::new(HostSecrets);
    let key = reference(&args.key)?;
    Key::read(secrets.as_ref(), &key).map_err(|source| Error::VantageKey {
        name: args.name.clone(),
        source,
    })?;
    check_url(&args.controller)?;
    if args.silence < SHORTEST {
        return Err(Error::Usage(format!(
            "--silence {} is too short: expected {SHORTEST} or more",
            args.silence
        )));
    }
    let client = match &args.ca {
        Some(path) => http::client_trusting(REQUEST, &read(path)?)
            .map_err(|e| Error::Certificate(e.into()))?,
        None => http::client(REQUEST).map_err(|e| engine::cannot_start(&e))?,
    };
    Ok(Means {
        client: Client {
            http: client,
            controller: args.controller.clone(),
            vantage: args.name.as_str().into(),
            key,
            secrets: secrets.clone(),
        },
        kinds: registry::kinds(),
        runtime: Arc::new(HostRuntime::new()),
        secrets,
        http: http::client(PROBE).map_err(|e| engine::cannot_start(&e))?,
        commands: args.allow_commands,
        silence: args.silence,
    })
}

/// Where the key is. What was given may be the key itself, so it is not repeated.
fn reference(text: &str) -> Result<SecretRef, Error> {
    match text.split_once(':') {
        Some(("env", name)) if !name.is_empty() => Ok(SecretRef::Env(name.to_owned())),
        Some(("file", path)) if !path.is_empty() => Ok(SecretRef::File(path.to_owned())),
        Some(_) | None => Err(Error::Usage(
            "--key says where the key is, never the key itself: expected env:NAME or file:PATH"
                .to_owned(),
        )),
    }
}

/// Reports and assignments go over HTTPS; plain HTTP does for this very host only.
fn check_url(url: &Url) -> Result<(), Error> {
    let here = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    let right = match url.scheme() {
        "https" => url.has_host(),
        "http" => here,
        _ => false,
    };
    if right && url.path() == "/" && url.query().is_none() && url.username().is_empty() {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "--controller {url} cannot be used: expected https://HOST:PORT and nothing behind it"
    )))
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::File {
        verb: "read",
        path: path.to_owned(),
        source,
    })
}

fn tell(told: &Told, output: Output) -> Result<(), Error> {
    if output.json() {
        return output.value_line(told);
    }
    output.line(&match told {
        Told::Assigned {
            services,
            probes,
            ahead_ms,
        } => format!(
            "looks through {} of {}; this clock is {ahead_ms} ms ahead of the controller's",
            documents::counted(*probes, "probe"),
            documents::counted(*services, "service")
        ),
        Told::Away { reason, code } => {
            let more = code.map(|c| format!(" (failover help {c})"));
            format!("nothing is reported: {reason}{}", more.unwrap_or_default())
        }
        Told::Silent { lasted } => format!("the controller has been silent for {lasted}"),
        Told::Heard { lasted } => format!("the controller is heard again, after {lasted}"),
        Told::Back { kept, dropped } => format!(
            "the controller answers again: {} kept for it, {dropped} dropped",
            documents::counted(*kept, "look")
        ),
    })
}

/// Where a controller listens for observers, as flags say.
///
/// # Errors
/// Where it would speak plain HTTP without being told to, or its certificate cannot be used.
pub fn listen(args: &arguments::VantageListen) -> Result<Option<VantageOutlet>, Error> {
    let Listen::At(address) = args.vantage_listen else {
        return Ok(None);
    };
    let certificate = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => {
            let files = Files {
                certificate: certificate.clone(),
                key: key.clone(),
            };
            Some(Certificate::read(files).map_err(|e| Error::Certificate(e.into()))?)
        }
        (None, _) | (_, None) if args.vantage_insecure => None,
        (None, _) | (_, None) => {
            return Err(Error::Usage(
                "--vantage-listen needs --tls-cert and --tls-key, or --vantage-insecure behind a proxy that speaks HTTPS"
                    .to_owned(),
            ));
        }
    };
    Ok(Some(VantageOutlet {
        address,
        certificate,
    }))
}
