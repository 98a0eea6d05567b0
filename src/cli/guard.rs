//! `failover guard`, and the processes between a guard and its database. Before those no thread is started: the kernel
//! counts the death of the thread that forked as the death of the parent, and gives no PID namespace to a process with
//! threads.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process,
    sync::Arc,
};

use tokio::signal::unix::{SignalKind, signal};

use super::{
    arguments::{Guard, GuardKeygen, GuardPart, GuardRun},
    documents, engine,
    output::Output,
};
use crate::{
    error::Error,
    guard::{
        agent::{Agent, AgentError, AtEnd, status},
        config::Config,
        hold::{init, keeper, tool},
        proof::{LeaseRung, Trial, prove},
        server::{self, ServerError},
        state::{State, StateError},
        wire::KeyPair,
    },
    model::{
        check::CheckStatus,
        guard::{Resync, STUCK},
    },
    port::{cause, secret::HostSecrets},
};

/// Guards until SIGTERM or Ctrl-C.
///
/// # Errors
/// Where it cannot start.
pub async fn run(args: &GuardRun) -> Result<(), Error> {
    let on = |kind| signal(kind).map_err(|e| engine::cannot_start(&e));
    let (mut terminate, mut interrupt) =
        (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
    let config = read(&args.document.file)?;
    let agent = Agent::start(config, Arc::new(HostSecrets))
        .await
        .map_err(|e| {
            let is_new = matches!(e, AgentError::State(StateError::NotEnrolled(_)));
            let file = args.document.file.display();
            let init = || format!("enrol it, once: 'failover guard init -f {file}'");
            Error::Guard {
                what: "run",
                help: is_new.then(init),
                source: Box::new(e),
            }
        })?;
    let at_end = if args.stop_database {
        AtEnd::Stop
    } else {
        AtEnd::Leave
    };
    agent
        .run(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            at_end
        })
        .await;
    Ok(())
}

/// Everything but `run`.
///
/// # Errors
/// Where it fails.
pub async fn other(args: &Guard, output: Output) -> Result<(), Error> {
    match args {
        Guard::Run(args) => run(args).await,
        Guard::Init(args) => {
            let config = read(&args.file)?;
            State::enrol(&config.state).map_err(|e| failed("be enrolled", e))?;
            output.line(&format!(
                "site {} of {} is enrolled: 'failover guard run' follows until the controller promotes it",
                config.site, config.service
            ))
        }
        Guard::Rejoin(args) => {
            let config = read(&args.document.file)?;
            let data = &config.database.data_dir;
            if server::is_half_done(data) && !args.rebuilt {
                return Err(Error::Guard {
                    what: "rejoin",
                    help: Some(format!(
                        "let 'failover failback' have the guard make a new copy; or make {} anew from the other site or a \
                         backup, then say so with --rebuilt",
                        data.display()
                    )),
                    source: Box::new(ServerError::HalfDone),
                });
            }
            let rejoining = State::rejoin(&config.state).map_err(|e| failed("rejoin", e))?;
            server::made_anew(data).map_err(|e| failed("rejoin", e))?;
            let epoch = rejoining.write().map_err(|e| failed("rejoin", e))?;
            output.line(&format!(
                "site {} of {}, fenced in epoch {epoch}, follows from the guard's next start on",
                config.site, config.service
            ))
        }
        Guard::Status(args) => tell_status(&args.file, output).await,
        Guard::Keygen(args) => keygen(args, output),
        Guard::Prove(args) => tell_proof(&read(&args.file)?, output).await,
    }
}

fn read(path: &Path) -> Result<Config, Error> {
    let text = fs::read_to_string(path).map_err(|source| Error::File {
        verb: "read",
        path: path.to_owned(),
        source,
    })?;
    Config::read(&text).map_err(|source| Error::GuardDocument {
        path: path.to_owned(),
        source,
    })
}

async fn tell_status(file: &Path, output: Output) -> Result<(), Error> {
    let asked = status::ask(&read(file)?.state).await;
    let status = asked.map_err(|e| Error::Guard {
        what: "be asked",
        help: Some(format!(
            "start it with 'failover guard run -f {}', or ask as its user",
            file.display()
        )),
        source: Box::new(e),
    })?;
    if output.json() {
        return output.value_line(&status);
    }
    let report = &status.report;
    let promise = report.promise.as_ref().map_or_else(
        || "its promise is lost".to_owned(),
        |p| format!("{:?} of epoch {}", p.role, p.epoch).to_lowercase(),
    );
    let database = report.database.map_or_else(
        || "not seen yet".to_owned(),
        |d| format!("{d:?}").to_lowercase(),
    );
    let lease = match (report.leased, status.left) {
        (false, _) => "no lease".to_owned(),
        (true, None) => "a lease without an end".to_owned(),
        (true, Some(left)) => format!("a lease for {left}"),
    };
    output.line(&format!(
        "site {}: {promise}; the database is {database}; {lease}",
        report.site
    ))?;
    if let Some(stuck) = report.stuck() {
        output.line(&format!("{stuck}: {STUCK}"))?;
    }
    match report.resync {
        Some(Resync::UnderWay) => output.line(
            "its data is being brought into line: do not end the guard before that is done",
        )?,
        Some(Resync::Failed) => output.line("its data could not be brought into line: see the guard's log")?,
        Some(Resync::HalfDone) => output.line(
            "pg_rewind was broken off: its data is neither the old nor the new, and is not started before a failback or \
             'failover guard rejoin --rebuilt'",
        )?,
        Some(Resync::Done(_)) | None => {}
    }
    if let Some(silent) = status.silent {
        output.line(&format!(
            "the controller has been silent for {silent}: see that it runs, and that UDP passes both ways"
        ))?;
    }
    match status.dropped.all() {
        0 => Ok(()),
        dropped => output.line(&format!(
            "{} dropped",
            documents::counted(usize::try_from(dropped).unwrap_or(usize::MAX), "datagram")
        )),
    }
}

fn keygen(args: &GuardKeygen, output: Output) -> Result<(), Error> {
    let (pair, pem) = KeyPair::draw().map_err(|e| failed("draw a key", e))?;
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&args.key)
        .and_then(|mut file| {
            file.write_all(pem.expose().as_bytes())?;
            file.sync_all()
        });
    match written {
        Ok(()) => output.line(&pair.public().to_string()),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Err(Error::Exists {
            path: args.key.clone(),
        }),
        Err(source) => Err(Error::File {
            verb: "write",
            path: args.key.clone(),
            source,
        }),
    }
}

async fn tell_proof(config: &Config, output: Output) -> Result<(), Error> {
    let folder = config.runtime().with_extension("proof");
    let (uid, gid) = crate::guard::server::identity(config).map_err(|e| failed("prove it", e))?;
    let proof = prove(&Trial {
        folder: folder.clone(),
        exe: "/proc/self/exe".into(),
        uid,
        gid,
    })
    .await;
    let _ = fs::remove_dir_all(&folder);
    for item in &proof.items {
        output
            .line(&format!("{:?}  {}  {}", item.status, item.name, item.detail).to_lowercase())?;
    }
    match proof.lease {
        LeaseRung::Offered { kill } => output.line(&format!(
            "the end of a lease fences this site: {} ms at most",
            kill.as_millis()
        )),
        LeaseRung::Withheld { because } => {
            let bad = proof.items.iter().filter(|i| i.status != CheckStatus::Ok);
            for fix in bad.filter_map(|i| i.fix.as_ref()) {
                output.line(&format!("to do: {fix}"))?;
            }
            Err(Error::NotReady {
                failing: format!("{} is", because.join(", ")),
            })
        }
    }
}

fn failed(what: &'static str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Guard {
        what,
        help: None,
        source: Box::new(error),
    }
}

/// Runs as one of them, and ends the process.
pub fn part(part: GuardPart) -> ! {
    let ran = match part {
        GuardPart::Hold => keeper::run().map_err(|e| cause::in_full(&e)),
        GuardPart::Init => init::run().map_err(|e| cause::in_full(&e)),
        GuardPart::Tool { guard } => tool::run(guard).map_err(|e| cause::in_full(&e)),
        GuardPart::Command => match init::command() {
            Ok(never) => match never {},
            Err(e) => {
                say(&cause::in_full(&e));
                process::exit(127);
            }
        },
    };
    match ran {
        Ok(status) => process::exit(i32::from(status)),
        Err(told) => {
            say(&told);
            process::exit(1);
        }
    }
}

/// Into the command's log, where nobody may read any more.
fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "failover: {what}");
}
