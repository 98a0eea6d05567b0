//! Encryption by age: to public keys that documents name, from an identity that is a secret.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Write},
    path::Path,
};

use age::{DecryptError, Decryptor, Encryptor, x25519};

use crate::model::secret::Secret;

/// Why a file was not encrypted or decrypted.
#[derive(Debug, thiserror::Error)]
pub enum AgeError {
    /// Not a public key.
    #[error("`{0}` is no public key of age (age1…)")]
    Recipient(String),
    /// Not an identity.
    #[error("the identity is none of age (AGE-SECRET-KEY-1…)")]
    Identity,
    /// It is encrypted to others.
    #[error("it is encrypted to other keys than this identity's")]
    OtherKeys,
    /// It was changed, or is cut off.
    #[error("what is encrypted is not whole: {0}")]
    Damaged(String),
    /// Something of this host's.
    #[error("its file")]
    File(#[source] io::Error),
}

/// Reads a public key.
///
/// # Errors
/// Where it is none.
pub fn recipient(text: &str) -> Result<x25519::Recipient, AgeError> {
    text.trim()
        .parse()
        .map_err(|_| AgeError::Recipient(text.to_owned()))
}

/// Encrypts a file to all of these keys.
///
/// # Errors
/// Where a key is none, or a file cannot be had.
pub fn encrypt(from: &Path, to: &Path, recipients: &[String]) -> Result<(), AgeError> {
    let keys: Vec<_> = recipients
        .iter()
        .map(|text| recipient(text))
        .collect::<Result<_, _>>()?;
    let keys = keys.iter().map(|key| key as &dyn age::Recipient);
    let encryptor =
        Encryptor::with_recipients(keys).map_err(|e| AgeError::Recipient(e.to_string()))?;
    let mut input = File::open(from).map_err(AgeError::File)?;
    let output = BufWriter::new(File::create_new(to).map_err(AgeError::File)?);
    let mut sealed = encryptor.wrap_output(output).map_err(AgeError::File)?;
    io::copy(&mut input, &mut sealed).map_err(AgeError::File)?;
    let mut output = sealed.finish().map_err(AgeError::File)?;
    output.flush().map_err(AgeError::File)
}

/// Decrypts a file. A file of identities as `age-keygen` writes it will do.
///
/// # Errors
/// Where it is not whole, or encrypted to others.
pub fn decrypt(from: &Path, to: &Path, identity: &Secret) -> Result<(), AgeError> {
    let lines = identity.expose().lines().map(str::trim);
    let keys: Vec<x25519::Identity> = lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.parse().map_err(|_| AgeError::Identity))
        .collect::<Result<_, _>>()?;
    if keys.is_empty() {
        return Err(AgeError::Identity);
    }
    let input = BufReader::new(File::open(from).map_err(AgeError::File)?);
    let decryptor = Decryptor::new_buffered(input).map_err(|e| told(&e))?;
    let keys = keys.iter().map(|key| key as &dyn age::Identity);
    let mut opened = decryptor.decrypt(keys).map_err(|e| told(&e))?;
    let mut output = BufWriter::new(File::create_new(to).map_err(AgeError::File)?);
    // What is read wrongly is the backup's fault, what cannot be written this host's.
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = io::Read::read(&mut opened, &mut buffer);
        let n = read.map_err(|e| AgeError::Damaged(e.to_string()))?;
        if n == 0 {
            return output.flush().map_err(AgeError::File);
        }
        output.write_all(&buffer[..n]).map_err(AgeError::File)?;
    }
}

fn told(error: &DecryptError) -> AgeError {
    if matches!(error, DecryptError::NoMatchingKeys) {
        AgeError::OtherKeys
    } else {
        AgeError::Damaged(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use age::secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn what_was_encrypted_is_read_by_its_key_alone_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let own = x25519::Identity::generate();
        let other = x25519::Identity::generate();
        let secret = |key: &x25519::Identity| {
            Secret::new(format!("# a key\n{}\n", key.to_string().expose_secret()))
        };
        let text = vec![7; 200_000];
        fs::write(path("plain"), &text).unwrap();
        let keys = [own.to_public().to_string()];
        encrypt(&path("plain"), &path("sealed"), &keys).unwrap();
        decrypt(&path("sealed"), &path("opened"), &secret(&own)).unwrap();
        assert_eq!(fs::read(path("opened")).unwrap(), text);
        let error = decrypt(&path("sealed"), &path("x"), &secret(&other)).unwrap_err();
        assert!(matches!(error, AgeError::OtherKeys), "{error}");
        let mut sealed = fs::read(path("sealed")).unwrap();
        let cut = sealed.len() - 10;
        fs::write(path("cut"), &sealed[..cut]).unwrap();
        let error = decrypt(&path("cut"), &path("y"), &secret(&own)).unwrap_err();
        assert!(matches!(error, AgeError::Damaged(_)), "{error}");
        let middle = sealed.len() / 2;
        sealed[middle] ^= 1;
        fs::write(path("turned"), &sealed).unwrap();
        let error = decrypt(&path("turned"), &path("z"), &secret(&own)).unwrap_err();
        assert!(matches!(error, AgeError::Damaged(_)), "{error}");
        assert!(recipient("age1x").is_err());
    }
}
