//! Results on standard output, everything else on standard error, colour only where it is seen.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::arguments::{Color, Format, Global};
use crate::error::Error;

/// Where and how a command prints.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Text or JSON.
    pub format: Format,
    /// Whether standard output takes colour.
    pub color: bool,
    /// Whether standard error is a terminal that takes colour and live progress.
    pub live: bool,
}

impl Output {
    /// As flags, environment and terminal say.
    #[must_use]
    pub fn new(global: &Global) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var_os("TERM").is_some_and(|v| v == "dumb");
        let color = |terminal: bool| match global.color {
            Color::Auto => terminal && !plain,
            Color::Always => true,
            Color::Never => false,
        };
        Self {
            format: global.output,
            color: color(io::stdout().is_terminal()),
            live: io::stderr().is_terminal() && color(true),
        }
    }

    /// Whether results are printed as JSON.
    #[must_use]
    pub fn json(&self) -> bool {
        self.format == Format::Json
    }

    /// Prints text to standard output as it is.
    ///
    /// # Errors
    /// Where standard output cannot be written; a reader that went away (`| head`) is no error.
    pub fn text(&self, text: &str) -> Result<(), Error> {
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(Error::Output),
        }
    }

    /// Prints one line to standard output.
    ///
    /// # Errors
    /// As `text`.
    pub fn line(&self, line: &str) -> Result<(), Error> {
        self.text(&format!("{line}\n"))
    }

    /// Prints a value as JSON: readable on its own, one line where it is one of many.
    ///
    /// # Errors
    /// As `text`.
    pub fn value<T: Serialize>(&self, value: &T) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(value).map_err(|e| Error::Output(e.into()))?;
        self.line(&text)
    }

    /// Prints a value as one line of JSON.
    ///
    /// # Errors
    /// As `text`.
    pub fn value_line<T: Serialize>(&self, value: &T) -> Result<(), Error> {
        let text = serde_json::to_string(value).map_err(|e| Error::Output(e.into()))?;
        self.line(&text)
    }

    /// Says something beside the result, on standard error. Whether anybody reads it changes nothing.
    pub fn note(&self, line: &str) {
        let _ = writeln!(io::stderr().lock(), "{line}");
    }

    /// Text in a style where standard output takes colour.
    #[must_use]
    pub fn paint(&self, text: &str, style: owo_colors::Style) -> String {
        paint(text, style, self.color)
    }
}

/// Text in a style, or as it is.
#[must_use]
pub fn paint(text: &str, style: owo_colors::Style, color: bool) -> String {
    if color {
        style.style(text).to_string()
    } else {
        text.to_owned()
    }
}

/// Prints an error to standard error, as the output format says.
pub fn report(error: &Error, format: Format) {
    let text = match format {
        Format::Text => error.render(),
        Format::Json => format!("{}\n", error.json()),
    };
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
