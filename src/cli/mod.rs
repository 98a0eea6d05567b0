//! Arguments in, output out. Commands talk to a running controller over its socket, or work on documents and the
//! journal alone; what they show comes from `decide` and `driver`, nothing is decided here.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

mod act;
pub mod arguments;
mod backups;
mod client;
mod demo;
mod desk;
mod documents;
mod drill;
mod engine;
mod guard;
mod help;
mod identity;
mod incident;
mod init;
mod journal;
mod look;
mod offline;
mod operator;
pub mod output;
mod place;
mod postmortem;

mod progress;
mod remote;
mod run;
mod runbook;
mod simulate;
mod socket;
pub mod takeover;
mod telemetry;
mod token;
mod vantage;

mod watch;

use arguments::{Arguments, Command, Format, Global};
use output::Output;
use place::Place;
use telemetry::Lines;

use crate::error::Error;

/// Runs the program and gives its exit status.
#[must_use]
pub fn main() -> ExitCode {
    // The parser takes a variable such as FAILOVER_STATE for an argument, and would not help whoever gave none.
    if std::env::args_os().len() < 2 {
        let _ = Arguments::command().print_help();
        return ExitCode::from(2);
    }
    let args = Arguments::parse();
    let output = Output::new(&args.global);
    match dispatch(args, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::report(&error, output.format);
            error.status()
        }
    }
}

fn dispatch(args: Arguments, output: Output) -> Result<(), Error> {
    let global = args.global;
    let place = || Place::new(&global);
    let here = |command| Place::here(&global, command);
    match args.command {
        Command::Init(args) => quietly(&global, init::init(&args, output)),
        Command::Demo(args) => {
            log(&global, "error")?;
            demo::demo(&args, output)
        }
        Command::Validate(args) => documents::validate(&args, output),
        Command::Schema(_) => documents::schema(output),
        Command::Run(args) => {
            log(&global, if output.live { "warn" } else { "info" })?;
            wait(run::run(&args, &place()?, output))
        }
        Command::Operator(arguments::Operator {
            part: Some(arguments::OperatorPart::Crds(args)),
            ..
        }) => operator::crds(&args, output),
        Command::Operator(args) => {
            log(&global, "info")?;
            wait(operator::run(&args.run, &place()?))
        }
        Command::Vantage(args) => {
            log(&global, if output.live { "error" } else { "info" })?;
            wait(vantage::vantage(&args, output))
        }
        Command::Guard(arguments::Guard::Run(args)) => {
            log(&global, "info")?;
            wait(guard::run(&args))
        }
        Command::Guard(args) => quietly(&global, guard::other(&args, output)),
        Command::Check(args) => quietly(&global, look::check(&args, &place()?, output)),
        Command::Backups(args) => quietly(&global, backups::backups(&args, &place()?, output)),
        Command::Plan(args) => quietly(&global, look::plan(&args, &place()?, output)),
        Command::Explain(args) => quietly(&global, look::explain(&args, &place()?, output)),
        Command::Status(args) => quietly(&global, look::status(&args, &place()?, output)),
        Command::Timeline(args) => quietly(&global, journal::timeline(&args, &place()?, output)),
        Command::Postmortem(args) => {
            quietly(&global, postmortem::postmortem(&args, &place()?, output))
        }
        Command::Simulate(args) => {
            log(&global, "off")?;
            simulate::simulate(&args, output)
        }
        Command::Failover(args) => quietly(&global, act::failover(&args, &place()?, output)),
        Command::Switchover(args) => {
            let args = args.of(arguments::Kind::Switchover);
            quietly(&global, act::failover(&args, &place()?, output))
        }
        Command::Failback(args) => {
            let args = args.of(arguments::Kind::Failback);
            quietly(&global, act::failover(&args, &place()?, output))
        }
        Command::Drill(args) => quietly(&global, drill::drill(&args, &place()?, output)),
        Command::Report(args) => quietly(&global, drill::report(&args, &place()?, output)),
        Command::History(args) => quietly(&global, drill::history(&args, &place()?, output)),
        Command::Approve(args) => {
            quietly(&global, act::act(act::approve(&args)?, &place()?, output))
        }
        Command::Deny(args) => quietly(&global, act::act(act::deny(&args)?, &place()?, output)),
        Command::Pause(args) => quietly(&global, act::act(act::pause(&args), &place()?, output)),
        Command::Resume(args) => quietly(&global, act::act(act::resume(&args), &place()?, output)),
        Command::Abort(args) => quietly(&global, act::act(act::abort(&args)?, &place()?, output)),
        Command::Ack(args) => quietly(&global, act::ack(&args, &place()?, output)),
        Command::Incident(args) => quietly(&global, incident::incident(&args, &place()?, output)),
        Command::Moved(args) => quietly(&global, act::act(act::moved(&args), &place()?, output)),
        Command::Takeover(args) => quietly(
            &global,
            takeover::takeover(&args, &here("takeover")?, output),
        ),
        Command::Mode(args) => quietly(&global, act::act(act::mode(&args), &place()?, output)),
        Command::Announce(arguments::Announce::Preview(args)) => {
            quietly(&global, act::preview(&args, &place()?, output))
        }
        Command::Announce(arguments::Announce::Send(args)) => {
            quietly(&global, act::announce(&args, &place()?, output))
        }
        Command::Journal(args) => {
            quietly(&global, journal::journal(&args, &here("journal")?, output))
        }
        Command::Runbook(arguments::Runbook::Show(args)) => runbook::show(&args, output),
        Command::Token(args) => token::token(&args, output),
        Command::Help(args) => help::help(&args, output),
        Command::Completions(args) => completions(&args, output),
        Command::GuardPart(part) => guard::part(part),
        Command::DemoPart(part) => {
            log(&global, "warn")?;
            wait(demo::part(part))
        }
    }
}

/// Waits for a command that only looks or asks, with nothing logged but trouble.
fn quietly(global: &Global, command: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    log(global, "error")?;
    wait(command)
}

fn log(global: &Global, filter: &str) -> Result<(), Error> {
    let lines = match global.log_format {
        Format::Text => Lines::Text {
            color: std::io::IsTerminal::is_terminal(&std::io::stderr()),
        },
        Format::Json => Lines::Json,
    };
    telemetry::init(global.log.as_deref().or(Some(filter)), lines)
        .map_err(|e| Error::Usage(e.to_string()))
}

fn wait(command: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    tokio::runtime::Runtime::new()
        .map_err(|e| engine::cannot_start(&e))?
        .block_on(command)
}

fn completions(args: &arguments::Completions, output: Output) -> Result<(), Error> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Arguments::command(), "failover", &mut text);
    output.text(&String::from_utf8_lossy(&text))
}
