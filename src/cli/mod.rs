//! Arguments in, output out. Commands talk to a running controller over its socket, or work on documents and the
//! journal alone; what they show comes from `decide` and `driver`, nothing is decided here.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

pub mod arguments;
mod demo;
mod help;
mod identity;
mod output;
mod place;
pub mod socket;
mod token;
mod view;

use arguments::{Arguments, Command};
use output::Output;

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
    match args.command {
        Command::Token(args) => token::token(&args, output),
        Command::Help(args) => help::help(&args, output),
        Command::Completions(args) => completions(&args, output),
        _ => todo!()
    }
}

fn completions(args: &arguments::Completions, output: Output) -> Result<(), Error> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Arguments::command(), "failover", &mut text);
    output.text(&String::from_utf8_lossy(&text))
}
