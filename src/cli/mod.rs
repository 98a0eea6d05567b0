//! Arguments in, output out. Commands talk to a running controller over its socket, or work on documents and the
//! journal alone; what they show comes from `decide` and `driver`, nothing is decided here.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

pub mod arguments;
pub mod demo;
pub mod help;
pub mod identity;
pub mod journal;
pub mod line;
pub mod output;
pub mod place;
pub mod preview;
pub mod socket;
pub mod telemetry;
pub mod token;
pub mod view;

use arguments::{Arguments, Command};
use output::Output;
use place::Place;

use crate::error::Error;

/// Runs the program and gives its exit status.
#[must_use]
pub fn main() -> ExitCode {
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
    match args.command {
        Command::Journal(args) => journal::journal(&args, &Place::new(&global)?, output),
        Command::Timeline(args) => journal::timeline(&args, &Place::new(&global)?, output),
        Command::Token(args) => token::token(&args, output),
        Command::Help(args) => help::help(&args, output),
        Command::Completions(args) => completions(&args, output),
        Command::Demo(_)
        | Command::Init(_)
        | Command::Validate(_)
        | Command::Schema(_)
        | Command::Run(_)
        | Command::Check(_)
        | Command::Plan(_)
        | Command::Explain(_)
        | Command::Status(_)
        | Command::Failover(_)
        | Command::Approve(_)
        | Command::Deny(_)
        | Command::Pause(_)
        | Command::Resume(_)
        | Command::Abort(_)
        | Command::Ack(_)
        | Command::Mode(_)
        | Command::Announce(_)
        | Command::Runbook(_)
        | Command::DemoPart(_) => Err(Error::Usage("this command is not built in yet".to_owned())),
    }
}

fn completions(args: &arguments::Completions, output: Output) -> Result<(), Error> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Arguments::command(), "failover", &mut text);
    output.text(&String::from_utf8_lossy(&text))
}
