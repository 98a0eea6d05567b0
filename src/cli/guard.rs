//! The processes between a guard and its database. No thread is started before them: the kernel counts the death of the
//! thread that forked as the death of the parent, and gives no PID namespace to a process with threads.

use std::{io::Write, process};

use super::arguments::GuardPart;
use crate::{
    guard::hold::{init, keeper},
    port::cause,
};

/// Runs as one of them, and ends the process.
pub fn part(part: GuardPart) -> ! {
    let ran = match part {
        GuardPart::Hold => keeper::run().map_err(|e| cause::in_full(&e)),
        GuardPart::Init => init::run().map_err(|e| cause::in_full(&e)),
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
