//! The one HTTP client for services' APIs (probes have their own wire, which measures each part).

use std::time::Duration;

/// A client that follows no redirects, verifies certificates against the platform's roots, and gives up after
/// `timeout`.
///
/// # Errors
/// Where the TLS roots cannot be loaded.
pub fn client(timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .user_agent(concat!("failover/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5).min(timeout))
        .timeout(timeout)
        .build()
}
