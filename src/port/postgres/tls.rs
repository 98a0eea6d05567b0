//! TLS as libpq's `sslmode` means it, on rustls.

use std::{error::Error, path::Path, sync::Arc};

use rustls::{
    ClientConfig,
    client::danger::ServerCertVerifier,
    crypto::{CryptoProvider, ring},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::{
    conninfo::{Conninfo, TlsMode},
    error::PostgresError,
};
use crate::port::{lenient::Lenient, trust};

/// The client's side of TLS for this server. Files that were renewed are used.
///
/// # Errors
/// Where a certificate or key cannot be used.
pub(super) fn client(at: &Conninfo) -> Result<ClientConfig, PostgresError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = verifier(at, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| unusable(at, "these TLS versions", e))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let Some((certificate, key)) = &at.identity else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(at, certificate)?;
    let secret = PrivateKeyDer::from_pem_file(key)
        .map_err(|e| unusable(at, &key.display().to_string(), e))?;
    builder
        .with_client_auth_cert(chain, secret)
        .map_err(|e| unusable(at, &certificate.display().to_string(), e))
}

fn verifier(
    at: &Conninfo,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, PostgresError> {
    let scope = match (at.tls, &at.root) {
        (TlsMode::VerifyFull, _) => Scope::Full,
        // libpq: `require` verifies like `verify-ca` where a root is given.
        (TlsMode::VerifyCa, _) | (TlsMode::Require, Some(_)) => Scope::Authority,
        (TlsMode::Require, None) | (TlsMode::Prefer | TlsMode::Disable, _) => Scope::Nothing,
    };
    let inner = match (scope, &at.root) {
        (Scope::Nothing, _) => return Ok(Arc::new(Lenient::nothing(provider))),
        (Scope::Full | Scope::Authority, Some(path)) => {
            trust::file(path).map_err(|e| unusable(at, &path.display().to_string(), e))?
        }
        (Scope::Full | Scope::Authority, None) => {
            trust::host().map_err(|e| unusable(at, "the platform's roots", e))?
        }
    };
    Ok(match scope {
        Scope::Full => inner,
        Scope::Authority | Scope::Nothing => Arc::new(Lenient::authority(inner, provider)),
    })
}

/// How much of a certificate is verified.
#[derive(Clone, Copy)]
enum Scope {
    Full,
    Authority,
    Nothing,
}

fn certificates(at: &Conninfo, path: &Path) -> Result<Vec<CertificateDer<'static>>, PostgresError> {
    let place = path.display().to_string();
    let all: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|e| unusable(at, &place, e))?;
    if all.is_empty() {
        return Err(unusable(at, &place, "it holds no certificate"));
    }
    Ok(all)
}

fn unusable(
    at: &Conninfo,
    path: &str,
    source: impl Into<Box<dyn Error + Send + Sync>>,
) -> PostgresError {
    PostgresError::Certificates {
        server: at.server(),
        path: path.to_owned(),
        source: source.into(),
    }
}
