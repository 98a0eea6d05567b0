//! The demo: two sites, customers, a controller and an outage, all on this machine and all real.
//!
//! [`stage`] builds everything that is not the controller, [`documents`] writes what the controller runs on, [`show`]
//! makes the outage and finds out what came of it, [`story`] tells it. The controller is the same as under
//! `failover run`.

use std::{
    fs::{self, File},
    path::Path,
};

use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
};

mod account;
mod address;
mod auditor;
mod customer;
mod documents;
mod drain;
mod fence;
mod findings;
mod follow;
mod host;
mod outside;
mod postgres;
mod process;
mod relay;
mod shop;
mod show;
mod stage;
mod story;
mod summary;

use self::{findings::Findings, postgres::Programs, show::Show, stage::Stage, story::Story};
use super::{
    arguments::{self, DemoPart, Scenario},
    drill, engine,
    output::Output,
};
use crate::error::Error;

/// How long tasks may take to end when the demo is over.
const END: std::time::Duration = std::time::Duration::from_secs(10);

/// Shows the whole story, and leaves nothing behind.
///
/// # Errors
/// Where it cannot be shown, is stopped, or ends otherwise than it should.
pub fn demo(args: &arguments::Demo, output: Output) -> Result<(), Error> {
    let runtime = Runtime::new().map_err(|e| engine::cannot_start(&e))?;
    let mut stage = None;
    let shown = runtime.block_on(show(args, output, &mut stage));
    // First every task of the controller ends, then the stage is struck: nobody writes to a folder that goes away.
    runtime.shutdown_timeout(END);
    drop(stage);
    shown
}

async fn show(
    args: &arguments::Demo,
    output: Output,
    stage: &mut Option<Stage>,
) -> Result<(), Error> {
    let mut stop = Stop::new()?;
    process::adopt_orphans();
    let programs = if args.without_database {
        None
    } else {
        Programs::find(args.postgres.as_deref())
    };
    possible(args, programs.is_some())?;
    let mut story = Story::new(output);
    introduce(&mut story, args, programs.as_ref());
    story.fact(
        "",
        "two sites, their customers and a controller are being set up: this takes some seconds",
    );
    let stage = tokio::select! {
        built = Stage::build(programs) => stage.insert(built?),
        stopped = stop.wait() => return Err(stopped),
    };
    describe(&story, stage);
    let opened = tokio::select! {
        opened = Show::open(args, stage, story, output) => opened,
        stopped = stop.wait() => return Err(stopped),
    };
    let mut show = opened?;
    let played = tokio::select! {
        played = show.play() => played,
        stopped = stop.wait() => Err(stopped),
    };
    let told = match played {
        Ok((findings, fault)) => tell(args, &mut show, findings, output).and(match fault {
            Some(fault) => Err(Error::DemoOutcome(fault)),
            None => Ok(()),
        }),
        Err(error) => Err(error),
    };
    if args.keep && !matches!(told, Err(Error::DemoStopped { .. })) {
        show.addresses();
        tokio::select! {
            () = show.keep() => {}
            // Whoever keeps it running ends it so: that is no failure.
            _ = stop.wait() => {}
        }
    }
    show.close().await;
    told
}

/// Runs a part of the demo in a process of its own.
///
/// # Errors
/// Where it cannot start.
pub async fn part(part: DemoPart) -> Result<(), Error> {
    let ended = match part {
        DemoPart::Host { settings } => match shop::read(&settings) {
            Ok(settings) => host::run(settings).await,
            Err(error) => Err(error),
        },
        DemoPart::Shop { settings } => match shop::read(&settings) {
            Ok(settings) => shop::run(settings).await,
            Err(error) => Err(error),
        },
        DemoPart::Fence { verb, agent } => fence::run(verb, agent).await,
        DemoPart::Drain {
            verb,
            agent,
            standby,
        } => drain::run(verb, agent, standby).await,
        DemoPart::Follow {
            verb,
            agent,
            primary,
        } => follow::run(verb, agent, primary).await,
    };
    ended.map_err(|e| engine::cannot_start(&e))
}

/// Whether what is asked for can be shown here, before anything is started.
fn possible(args: &arguments::Demo, database: bool) -> Result<(), Error> {
    if args.report.is_some() && args.scenario != Scenario::Drill {
        let text = "--report is for the report of a drill: add --scenario drill";
        return Err(Error::Usage(text.to_owned()));
    }
    if let Some(path) = &args.report {
        drill::format_of(path)?;
    }
    if let Some(path) = &args.journal {
        if path.exists() {
            return Err(Error::Exists { path: path.clone() });
        }
        writable(path)?;
    }
    if args.scenario == Scenario::Drill {
        writable(args.report.as_deref().unwrap_or(Path::new(show::REPORT)))?;
    }
    if let Some(folder) = args.postgres.as_ref().filter(|_| !database)
        && !args.without_database
    {
        return Err(Error::DemoStart {
            part: "the database".to_owned(),
            reason: format!(
                "no PostgreSQL 13 or newer was found in {}, which --postgres names",
                folder.display()
            ),
        });
    }
    if args.scenario != Scenario::Switchover || database {
        return Ok(());
    }
    if args.without_database {
        let text = "--scenario switchover moves a database: leave --without-database out";
        return Err(Error::Usage(text.to_owned()));
    }
    Err(Error::DemoStart {
        part: "the switchover".to_owned(),
        reason: format!(
            "it moves a real database, and no PostgreSQL 13 or newer was found; {}, or name the folder of its programs with --postgres",
            install()
        ),
    })
}

/// Whether a file can be written there at the end; what is there stays, and nothing is left.
fn writable(path: &Path) -> Result<(), Error> {
    let is_there = path.exists();
    let opened = File::options().write(true).create_new(!is_there).open(path);
    let tried = opened.and_then(|_| {
        if is_there {
            Ok(())
        } else {
            fs::remove_file(path)
        }
    });
    tried.map_err(|source| Error::File {
        verb: "write",
        path: path.to_owned(),
        source,
    })
}

fn introduce(story: &mut Story, args: &arguments::Demo, programs: Option<&Programs>) {
    story.heading(match args.scenario {
        Scenario::Crash
        | Scenario::Freeze
        | Scenario::Partition
        | Scenario::Flapping
        | Scenario::Lagging => "A shop at two sites, and what happens when the first one is lost",
        Scenario::Drill => "A shop at two sites, and a drill of its recovery while customers order",
        Scenario::Switchover => {
            "A shop at two sites, and how it is moved to the second one while customers order"
        }
    });
    if let Some(programs) = programs {
        let folder = programs.folder.display();
        story.fact(
            "database",
            &format!("PostgreSQL {} from {folder}", programs.version),
        );
    } else if args.without_database {
        story.fact(
            "database",
            "none: the shop is stateless, its orders are signed receipts",
        );
    } else {
        story.fact(
            "database",
            "no PostgreSQL 13 or newer was found: the shop is stateless, its orders are signed receipts",
        );
        story.fact("", &format!("to see it with a real one: {}", install()));
    }
}

/// The line that installs PostgreSQL here.
fn install() -> &'static str {
    let has = |path: &str| Path::new(path).exists();
    if has("/usr/bin/apt-get") {
        "sudo apt-get install postgresql"
    } else if has("/usr/bin/dnf") {
        "sudo dnf install postgresql-server"
    } else if has("/sbin/apk") {
        "sudo apk add postgresql"
    } else if has("/usr/bin/pacman") {
        "sudo pacman -S postgresql"
    } else {
        "brew install postgresql"
    }
}

fn describe(story: &Story, stage: &Stage) {
    let primary = stage.url(address::Spot::Primary);
    let kept = match (&stage.standby, &stage.account) {
        (Some(_), Some(account)) => format!(", database as user {}", account.name),
        (Some(_), None) => ", database as this user".to_owned(),
        (None, _) => String::new(),
    };
    story.fact(documents::PRIMARY, &format!("serves at {primary}{kept}"));
    let follows = if stage.standby.is_some() {
        ", a streaming standby"
    } else {
        ""
    };
    story.fact(
        documents::STANDBY,
        &format!("stands by at {}{follows}", stage.standby_url()),
    );
}

/// Tells what was found, and exports the journal where it shall stay.
fn tell(
    args: &arguments::Demo,
    show: &mut Show<'_>,
    mut findings: Findings,
    output: Output,
) -> Result<(), Error> {
    if let Some(path) = &args.journal {
        show.export(path)?;
        findings.journal.clone_from(path);
    }
    show.summary(&findings);
    if output.json() {
        output.value(&findings)?;
    }
    Ok(())
}

/// What ends the demo by hand.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Stop {
    fn new() -> Result<Self, Error> {
        let on = |kind| signal(kind).map_err(|e| engine::cannot_start(&e));
        Ok(Self {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
            hang_up: on(SignalKind::hangup())?,
        })
    }

    /// Waits for one of them; gives what the demo then ends with.
    async fn wait(&mut self) -> Error {
        let kind = tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.hang_up.recv() => SignalKind::hangup(),
        };
        Error::DemoStopped {
            signal: u8::try_from(kind.as_raw_value()).unwrap_or_default(),
        }
    }
}
