//! The `failover` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    // The only failure is that a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    failover::cli::main()
}
