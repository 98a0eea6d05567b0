//! `failover token`: personal tokens, made here and kept by one person.

use std::{fs, path::Path};

use super::{arguments, output::Output};
use crate::{
    desk::token::{PREFIX, TokenHash, fresh},
    error::Error,
    model::secret::Secret,
};

/// `failover token`.
///
/// # Errors
/// Where the file of `--hash-of` cannot be read, or holds no token.
pub fn token(args: &arguments::Token, output: Output) -> Result<(), Error> {
    if let Some(path) = &args.hash_of {
        let token = read(path)?;
        if !token.expose().starts_with(PREFIX) {
            return Err(Error::TokenRead {
                place: path.display().to_string(),
                source: std::io::Error::other(format!(
                    "it holds no token: one begins with {PREFIX}, as 'failover token' prints it"
                )),
            });
        }
        let hash = TokenHash::of(&token);
        return if output.json() {
            output.value(&serde_json::json!({ "tokenHash": hash.as_str() }))
        } else {
            output.line(hash.as_str())
        };
    }
    let token = fresh();
    let hash = TokenHash::of(&token);
    if output.json() {
        output.value(&serde_json::json!({ "token": token.expose(), "tokenHash": hash.as_str() }))
    } else {
        output.line(&format!(
            "token  {}\nhash   {}",
            token.expose(),
            hash.as_str()
        ))?;
        output.note(
            "The token is one person's and is shown only now; the hash goes into spec.team.people[].tokenHash.",
        );
        Ok(())
    }
}

/// Reads a token's file; white space around it does not count.
///
/// # Errors
/// Where the file cannot be read or is empty.
pub fn read(path: &Path) -> Result<Secret, Error> {
    let failed = |source| Error::TokenRead {
        place: path.display().to_string(),
        source,
    };
    let text = fs::read_to_string(path).map_err(failed)?;
    let text = text.trim();
    if text.is_empty() {
        return Err(failed(std::io::Error::other("the file is empty")));
    }
    Ok(Secret::new(text))
}
