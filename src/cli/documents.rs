//! Documents on the command line: `validate`, `schema`, and loading for everything else.

use std::{collections::BTreeSet, path::PathBuf};

use super::{arguments, output::Output};
use crate::{
    driver::registry,
    error::Error,
    model::service::Service,
    spec::{self, Diagnostic, Loaded, Look, Severity},
};

/// Columns of a drawn error where the terminal does not say.
const WIDTH: usize = 100;

/// `failover validate`.
///
/// # Errors
/// Where a document has errors.
pub fn validate(args: &arguments::Validate, output: Output) -> Result<(), Error> {
    let loaded = spec::load(&args.paths, registry::kinds());
    let names: Vec<_> = loaded.services.iter().map(|s| s.name.to_string()).collect();
    if output.json() {
        output.value(&serde_json::json!({
            "valid": loaded.is_usable(),
            "services": names,
            "problems": loaded.diagnostics,
        }))?;
    } else {
        for diagnostic in &loaded.diagnostics {
            output.text(&drawn(diagnostic, output.color))?;
        }
        if loaded.is_usable() {
            output.line(&format!("valid: {}", names.join(", ")))?;
        }
    }
    verdict(&loaded)
}

/// `failover schema`.
///
/// # Errors
/// Where it cannot be printed.
pub fn schema(output: Output) -> Result<(), Error> {
    output.value(&spec::schema(registry::kinds()))
}

/// Reads documents; what is wrong with them is drawn on standard error.
///
/// # Errors
/// Where a document has errors.
pub fn load(paths: &[PathBuf], output: Output) -> Result<Vec<Service>, Error> {
    let loaded = spec::load(paths, registry::kinds());
    for diagnostic in &loaded.diagnostics {
        output.note(drawn(diagnostic, output.live).trim_end());
    }
    verdict(&loaded)?;
    Ok(loaded.services)
}

fn verdict(loaded: &Loaded) -> Result<(), Error> {
    let errors: Vec<&Diagnostic> = loaded
        .diagnostics
        .iter()
        .filter(|d| d.severity == Severity::Error)
        .collect();
    let files: BTreeSet<&str> = errors.iter().map(|d| d.file.as_str()).collect();
    if errors.is_empty() {
        return Ok(());
    }
    Err(Error::Documents {
        errors: counted(errors.len(), "error"),
        files: counted(files.len(), "file"),
    })
}

/// A diagnostic as it is drawn.
#[must_use]
pub fn drawn(diagnostic: &Diagnostic, color: bool) -> String {
    let look = if color { Look::Fancy } else { Look::Plain };
    format!("{}\n", diagnostic.render(look, WIDTH).trim_end())
}

/// `1 error`, `2 errors`.
#[must_use]
pub fn counted(n: usize, noun: &str) -> String {
    if n == 1 {
        format!("1 {noun}")
    } else {
        format!("{n} {noun}s")
    }
}
