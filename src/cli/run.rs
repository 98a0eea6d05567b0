//! `failover run`: a controller on documents, until it is told to stop.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream::BoxStream};
use notify::{RecursiveMode, Watcher as _};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{self, Instant},
};

use super::{
    arguments, desk, documents, engine, output::Output, place::Place, progress::Progress, vantage,
};
use crate::{
    desk::{clerk::Clerk, message::Event, speaker::Speaker},
    driver::{
        engine::{Engine, Outlets},
        registry,
    },
    error::Error,
    model::service::Service,
    port::{cause, supervisor::Supervisor},
    spec::{self, Severity},
};

/// Editors write a file in several goes: documents are read again when they have been still for so long.
const STILL: Duration = Duration::from_millis(500);

/// Runs a controller until SIGTERM or Ctrl-C.
///
/// # Errors
/// Where it cannot start, or a service's loop ends by itself.
pub async fn run(args: &arguments::Run, place: &Place, output: Output) -> Result<(), Error> {
    if let Some(succession) = place.succession()? {
        return Err(Error::TakenOver(succession));
    }
    let ended = lead(args, place, output).await;
    if let Err(Error::TakenOver(succession)) = &ended {
        place.was_taken_over(succession);
    }
    ended
}

async fn lead(args: &arguments::Run, place: &Place, output: Output) -> Result<(), Error> {
    let on = |kind| signal(kind).map_err(|e| engine::cannot_start(&e));
    let (mut terminate, mut interrupt) =
        (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
    let mut hang_up = on(SignalKind::hangup())?;
    let paths = &args.documents.file;
    let vantage = vantage::listen(&args.vantage)?;
    let desk = desk::listen(&args.desk)?;
    let services = load(paths, output)?;
    let outlets = Outlets {
        page: args.listen.address(),
        metrics: args.metrics.address(),
        guards: args.guard_listen.address(),
        vantage,
        desk,
    };
    let mut changes = Changes::of(paths);
    let copy = args.journal_copy.as_deref();
    let (mut engine, clerk) = engine::start(services, place, &outlets, copy).await?;
    engine.metrics.documents_loaded();
    greet(&engine, place, &outlets, output);
    let mut progress = Progress::new(output);
    let mut events = follow(&clerk);
    let mut mute = false;
    let mut supervisor = Supervisor::of_this_process();
    supervisor.ready();
    let ended = loop {
        supervisor.alive();
        tokio::select! {
            () = time::sleep(supervisor.pause()) => {}
            _ = terminate.recv() => break Ok(()),
            _ = interrupt.recv() => break Ok(()),
            end = engine.ends.next() => match end {
                Some((service, end)) => if let Some(error) = engine::ended(&service, end) {
                    break Err(error);
                },
                None => break Ok(()),
            },
            Some(event) = events.next() => if let Err(error) = progress.event(&event)
                && !std::mem::replace(&mut mute, true)
            {
                tracing::error!(error = %cause::in_full(&error), "standard output is not written any more");
            },
            _ = hang_up.recv() => {
                engine.renew_certificate();
                reload(&engine, paths, output).await;
                events = follow(&clerk);
            }
            () = changes.next() => {
                reload(&engine, paths, output).await;
                events = follow(&clerk);
            }
        }
    };
    drop(progress);
    supervisor.stopping();
    tracing::info!("stopping");
    engine.stop().await;
    ended
}

fn greet(engine: &Engine, place: &Place, outlets: &Outlets, output: Output) {
    let names: Vec<_> = engine
        .controller
        .services()
        .iter()
        .map(|s| format!("{} ({})", s.name, s.mode))
        .collect();
    say(output, &format!("protecting {}", names.join(", ")));
    if let Some(address) = outlets.page {
        say(output, &format!("status page on http://{address}/"));
    }
    if let Some(url) = &engine.desk {
        say(output, &format!("the desk is at {url}/"));
    }
    if let Some(address) = outlets.metrics {
        say(output, &format!("figures on http://{address}/metrics"));
    }
    if let Some(address) = engine.guards {
        say(output, &format!("guards speak to {address} (UDP)"));
    } else if engine
        .controller
        .services()
        .iter()
        .any(|s| s.guards.is_some())
    {
        tracing::warn!("guards are expected, but nothing listens for them: give --guard-listen");
    }
    if let Some(vantage) = &outlets.vantage {
        say(output, &format!("observers report to {vantage}"));
    } else if engine
        .controller
        .services()
        .iter()
        .any(|s| s.vantage_points.iter().any(|v| v.observer().is_some()))
    {
        tracing::warn!(
            "observers elsewhere are expected, but nothing listens for them: give --vantage-listen"
        );
    }
    say(
        output,
        &format!("commands through {}", place.socket.display()),
    );
}

/// For people on a terminal as it is, else in the log, which programs read line by line.
fn say(output: Output, text: &str) {
    if output.live {
        output.note(text);
    } else {
        tracing::info!("{text}");
    }
}

/// Reads the documents to begin with. Their warnings go where everything else is said.
fn load(paths: &[PathBuf], output: Output) -> Result<Vec<Service>, Error> {
    let loaded = spec::load(paths, registry::kinds());
    if output.live || !loaded.is_usable() {
        return documents::load(paths, output);
    }
    for warning in &loaded.diagnostics {
        tracing::warn!("{warning}");
    }
    Ok(loaded.services)
}

/// Records of all services from now on.
fn follow(clerk: &Arc<Clerk>) -> BoxStream<'static, Event> {
    match clerk.watch(None, &Speaker::host()) {
        Ok(events) => events,
        // Every service that runs can be followed; one that has just ended is no reason to stop.
        Err(_) => futures::stream::pending().boxed(),
    }
}

/// Reads the documents again. What is wrong with them changes nothing and is told to the team.
async fn reload(engine: &Engine, paths: &[PathBuf], output: Output) {
    let loaded = spec::load(paths, registry::kinds());
    if !loaded.is_usable() {
        let errors: Vec<_> = loaded
            .diagnostics
            .iter()
            .filter(|d| d.severity == Severity::Error)
            .collect();
        let first = errors.first().map_or_else(String::new, |d| {
            let line = d.line.map(|n| format!(":{n}")).unwrap_or_default();
            format!("{}{line}: {}", d.file, d.message)
        });
        let errors = documents::counted(errors.len(), "error");
        let problem = format!("{errors}, the first in {first}");
        tracing::error!(%problem, "the changed documents cannot be used; the old ones stay in force");
        engine.metrics.documents_refused();
        engine.controller.documents(Some(&problem));
        return;
    }
    match engine.reload(loaded.services).await {
        Ok(changes) => {
            engine.metrics.documents_loaded();
            engine.controller.documents(None);
            for change in changes {
                say(output, &format!("documents: {change}"));
            }
        }
        Err(error) => {
            let problem = cause::in_full(&error);
            tracing::error!(%problem, "the changed documents cannot be used; the old ones stay in force");
            engine.metrics.documents_refused();
            engine.controller.documents(Some(&problem));
        }
    }
}

/// Changes of documents on disk.
struct Changes {
    seen: mpsc::Receiver<()>,
    /// Something has changed, and is thought to be still then.
    due: Option<Instant>,
    /// Looks for as long as it lives.
    _watcher: Option<notify::RecommendedWatcher>,
}

impl Changes {
    /// Of these files, and of everything in these folders. Where the system cannot tell, SIGHUP still does.
    fn of(paths: &[PathBuf]) -> Self {
        let (tell, seen) = mpsc::channel(1);
        let told = move |event: notify::Result<notify::Event>| {
            let ours =
                event.is_ok_and(|e| !e.kind.is_access() && e.paths.iter().any(|p| is_document(p)));
            if ours {
                // A full channel has told already.
                let _ = tell.try_send(());
            }
        };
        let watcher = notify::recommended_watcher(told).and_then(|mut watcher| {
            for folder in folders(paths) {
                watcher.watch(&folder, RecursiveMode::Recursive)?;
            }
            Ok(watcher)
        });
        if let Err(error) = &watcher {
            tracing::warn!(%error, "changes of documents are not seen by themselves: send SIGHUP");
        }
        Self {
            seen,
            due: None,
            _watcher: watcher.ok(),
        }
    }

    /// Ends when something has changed and is still again.
    ///
    /// What was seen is not lost where nobody waits for the end of it.
    async fn next(&mut self) {
        let mut due = match self.due {
            Some(due) => due,
            None if self.seen.recv().await.is_some() => Instant::now() + STILL,
            None => std::future::pending().await,
        };
        self.due = Some(due);
        while let Ok(Some(())) = time::timeout_at(due, self.seen.recv()).await {
            due = Instant::now() + STILL;
            self.due = Some(due);
        }
        self.due = None;
    }
}

/// A document, or the link that Kubernetes turns when it replaces mounted files.
fn is_document(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "yaml" || e == "yml")
        || path.file_name().is_some_and(|n| n == "..data")
}

/// A file is watched by its folder: editors put a new file in the place of the old one.
fn folders(paths: &[PathBuf]) -> BTreeSet<PathBuf> {
    paths
        .iter()
        .map(|path| match path.parent() {
            Some(_) if path.is_dir() => path.clone(),
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            Some(_) | None => PathBuf::from("."),
        })
        .collect()
}
