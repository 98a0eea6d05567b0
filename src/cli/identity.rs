//! Who speaks: the personal token, from a file, the environment, or a question on the terminal.

use std::{
    env,
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal, Read, Write},
    sync::OnceLock,
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
    Ok(of_environment())
}

/// The token that the environment holds.
#[must_use]
pub fn of_environment() -> Option<Secret> {
    env::var(VARIABLE)
        .ok()
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty())
        .map(Secret::new)
}

/// Asks on the terminal, once for a command and without echo; none where there is no terminal.
///
/// # Errors
/// Where the terminal cannot be read.
pub fn asked() -> Result<Option<Secret>, Error> {
    static TYPED: OnceLock<Secret> = OnceLock::new();
    if let Some(typed) = TYPED.get() {
        return Ok(Some(typed.clone()));
    }
    let failed = |source: io::Error| Error::TokenRead {
        place: "the terminal".to_owned(),
        source,
    };
    let Ok(terminal) = File::options().read(true).write(true).open("/dev/tty") else {
        return Ok(None);
    };
    let mut prompt = terminal.try_clone().map_err(failed)?;
    let typed = {
        // Before the question: whoever types at once is not seen either.
        let _silent = Silence::on(&terminal).map_err(failed)?;
        write!(prompt, "Personal token: ").map_err(failed)?;
        prompt.flush().map_err(failed)?;
        typed(&terminal)
    };
    writeln!(prompt).map_err(failed)?;
    let Some(line) = typed.map_err(failed)? else {
        return Err(Error::NotConfirmed);
    };
    let text = line.trim();
    Ok((!text.is_empty()).then(|| TYPED.get_or_init(|| Secret::new(text)).clone()))
}

/// A line as it is typed; none where Ctrl-C, Ctrl-D or Ctrl-\ ends it. The terminal hands those on instead of
/// killing the program with them, which would leave it without echo.
fn typed(terminal: &File) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    for byte in BufReader::new(terminal).bytes() {
        match byte? {
            b'\n' | b'\r' => break,
            0x03 | 0x04 | 0x1c => return Ok(None),
            0x08 | 0x7f => {
                line.pop();
            }
            // Ctrl-U: begins again.
            0x15 => line.clear(),
            byte => line.push(byte),
        }
    }
    String::from_utf8(line)
        .map(Some)
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
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

/// A terminal that neither echoes nor edits nor sends signals, until this is dropped.
struct Silence<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Silence<'a> {
    fn on(terminal: &'a File) -> io::Result<Self> {
        let before = termios::tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent
            .local_flags
            .remove(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG);
        termios::tcsetattr(terminal, SetArg::TCSAFLUSH, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}
