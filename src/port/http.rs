//! The one HTTP client for services' APIs (probes have their own wire, which measures each part).

use std::{sync::Arc, time::Duration};

use rustls::{ClientConfig, crypto::ring};

use super::trust;

/// A client that follows no redirects, verifies certificates against the platform's roots, and gives up after
/// `timeout`.
///
/// # Errors
/// Where the TLS roots cannot be loaded.
pub fn client(timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
    trusting_host(builder(timeout)).build()
}

/// The same for what must not pass through a proxy that the environment names.
///
/// # Errors
/// Where the TLS roots cannot be loaded.
pub fn client_direct(timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
    trusting_host(builder(timeout)).no_proxy().build()
}

/// Has a client trust this host's roots as all others do: a copy of its own is larger than a service.
pub fn trusting_host(builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
    match tls() {
        Ok(config) => builder.tls_backend_preconfigured(config),
        // Building it says why.
        Err(_) => builder,
    }
}

fn tls() -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(trust::host()?)
        .with_no_client_auth();
    config.alpn_protocols = vec!["h2".into(), "http/1.1".into()];
    Ok(config)
}

/// The same, but it trusts the certificates of this PEM text and no others.
///
/// # Errors
/// Where the text holds no certificate, or one that cannot be used.
pub fn client_trusting(timeout: Duration, pem: &[u8]) -> Result<reqwest::Client, TrustError> {
    let trusted = reqwest::Certificate::from_pem_bundle(pem).map_err(TrustError::Certificate)?;
    if trusted.is_empty() {
        return Err(TrustError::Empty);
    }
    let builder = builder(timeout).tls_certs_only(trusted);
    builder.build().map_err(TrustError::Certificate)
}

/// Why certificates cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// There is none.
    #[error("the file holds no PEM certificate")]
    Empty,
    /// One is broken.
    #[error("a certificate in the file cannot be used")]
    Certificate(#[source] reqwest::Error),
}

fn builder(timeout: Duration) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("failover/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5).min(timeout))
        .timeout(timeout)
}
