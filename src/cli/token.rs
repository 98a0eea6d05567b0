//! Personal tokens: made here, kept by one person, known to documents by their hash only.

use std::{fs, path::Path};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{arguments, output::Output};
use crate::{
    error::Error,
    model::{approval::Person, id::PersonName, secret::Secret},
};

/// So that a token is recognised for what it is when it turns up where it should not.
const PREFIX: &str = "fot_";

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
        let hash = hash(&token);
        return if output.json() {
            output.value(&serde_json::json!({ "tokenHash": hash }))
        } else {
            output.line(&hash)
        };
    }
    let token = fresh();
    let hash = hash(&token);
    if output.json() {
        output.value(&serde_json::json!({ "token": token.expose(), "tokenHash": hash }))
    } else {
        output.line(&format!("token  {}\nhash   {hash}", token.expose()))?;
        output.note(
            "The token is one person's and is shown only now; the hash goes into spec.team.people[].tokenHash.",
        );
        Ok(())
    }
}

/// A token of 256 random bits.
#[must_use]
pub fn fresh() -> Secret {
    let bytes: [u8; 32] = rand::random();
    Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// `sha256:` and the hex digest, as documents hold it. A token has 256 bits, so no salt or slow hash is needed.
#[must_use]
pub fn hash(token: &Secret) -> String {
    format!(
        "sha256:{}",
        hex::encode(Sha256::digest(token.expose().as_bytes()))
    )
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

/// Whose token it is. Every person is compared, in constant time, whether or not one was found.
#[must_use]
pub fn owner(people: &[Person], token: &Secret) -> Option<PersonName> {
    let given = hash(token);
    let mut found = None;
    for person in people {
        let Some(known) = &person.token_hash else {
            continue;
        };
        let same: bool = given.as_bytes().ct_eq(known.as_bytes()).into();
        if same && found.is_none() {
            found = Some(person.name.clone());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_its_owners_alone() {
        let (ann, bob) = (fresh(), fresh());
        let person = |name: &str, token: &Secret| Person {
            name: name.into(),
            token_hash: Some(hash(token)),
            kubernetes: None,
            groups: vec![],
        };
        let people = [person("ann", &ann), person("bob", &bob)];
        assert_eq!(owner(&people, &bob), Some("bob".into()));
        assert_eq!(owner(&people, &fresh()), None);
        assert_eq!(owner(&people, &Secret::new("")), None);
    }

    #[test]
    fn the_hash_is_the_one_that_sha256sum_prints() {
        assert_eq!(
            hash(&Secret::new("abc")),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
