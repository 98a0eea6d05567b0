//! Who speaks: the personal token, from a file, the environment, or a question on the terminal.

use std::{
    env,
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal, Write},
};

use nix::sys::termios::{self, LocalFlags, SetArg, Termios};

use super::{arguments::Identity, token};
use crate::{error::Error, model::secret::Secret};

/// The environment variable that holds a token.
const VARIABLE: &str = "FAILOVER_TOKEN";

/// The token that flags or environment name; none where nothing is said.
///
/// # Errors
/// Where the named file cannot be read.
pub fn given(identity: &Identity) -> Result<Option<Secret>, Error> {
    if let Some(path) = &identity.token_file {
        return token::read(path).map(Some);
    }
    Ok(env::var(VARIABLE)
        .ok()
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty())
        .map(Secret::new))
}

/// Asks on the terminal, without echo; none where there is no terminal.
///
/// # Errors
/// Where the terminal cannot be read.
pub fn asked() -> Result<Option<Secret>, Error> {
    let failed = |source: io::Error| Error::TokenRead {
        place: "the terminal".to_owned(),
        source,
    };
    let Ok(terminal) = File::options().read(true).write(true).open("/dev/tty") else {
        return Ok(None);
    };
    let mut prompt = terminal.try_clone().map_err(failed)?;
    write!(prompt, "Personal token: ").map_err(failed)?;
    prompt.flush().map_err(failed)?;
    let line = {
        let _silent = Silence::on(&terminal).map_err(failed)?;
        let mut line = String::new();
        BufReader::new(&terminal)
            .read_line(&mut line)
            .map_err(failed)?;
        line
    };
    writeln!(prompt).map_err(failed)?;
    let text = line.trim();
    Ok((!text.is_empty()).then(|| Secret::new(text)))
}

/// Asks a yes-or-no question on the terminal; only `yes` is yes.
///
/// # Errors
/// Where there is nobody to ask, or the answer is another.
pub fn confirm(question: &str) -> Result<(), Error> {
    let input = io::stdin();
    if !input.is_terminal() {
        return Err(Error::NotConfirmed);
    }
    let mut said = String::new();
    let mut error = io::stderr().lock();
    let asked = write!(error, "{question} Type 'yes': ").and_then(|()| error.flush());
    match asked.and_then(|()| input.lock().read_line(&mut said)) {
        Ok(_) if said.trim() == "yes" => Ok(()),
        Ok(_) | Err(_) => Err(Error::NotConfirmed),
    }
}

/// A terminal that does not echo, until this is dropped.
struct Silence<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Silence<'a> {
    fn on(terminal: &'a File) -> io::Result<Self> {
        let before = termios::tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        termios::tcsetattr(terminal, SetArg::TCSAFLUSH, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}
