//! The certificate of the controller's listener, which can be renewed without a restart.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};
use tokio_rustls::TlsAcceptor;

/// Where a certificate chain and its key stand, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A certificate in use.
#[derive(Debug)]
pub struct Certificate {
    files: Files,
    provider: Arc<CryptoProvider>,
    current: RwLock<Arc<CertifiedKey>>,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read, or holds something else.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// The two do not fit together, or the key is of an unknown kind.
    #[error("the key in {} does not fit the certificate in {}", files.key.display(), files.certificate.display())]
    Unfit {
        /// Which.
        files: Files,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// Where they cannot be read or do not fit together.
    pub fn read(files: Files) -> Result<Arc<Self>, CertificateError> {
        let provider = Arc::new(ring::default_provider());
        let current = RwLock::new(certified(&files, &provider)?);
        Ok(Arc::new(Self {
            files,
            provider,
            current,
        }))
    }

    /// Reads the files again; those before stay in use where they cannot be used.
    ///
    /// # Errors
    /// Where they cannot be read or do not fit together.
    pub fn renew(&self) -> Result<(), CertificateError> {
        let renewed = certified(&self.files, &self.provider)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = renewed;
        Ok(())
    }

    /// Accepts TLS connections with whichever certificate is in use.
    ///
    /// # Errors
    /// Where the provider lacks the protocol versions.
    pub fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor, CertificateError> {
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|source| CertificateError::Unfit {
                files: self.files.clone(),
                source,
            })?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Some(current.clone())
    }
}

fn certified(
    files: &Files,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, CertificateError> {
    let unread = |path: &PathBuf| {
        let path = path.clone();
        |source| CertificateError::Read { path, source }
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect)
        .map_err(unread(&files.certificate))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(unread(&files.key))?;
    let unfit = |source| CertificateError::Unfit {
        files: files.clone(),
        source,
    };
    if chain.is_empty() {
        return Err(unfit(rustls::Error::NoCertificatesPresented));
    }
    CertifiedKey::from_der(chain, key, provider)
        .map(Arc::new)
        .map_err(unfit)
}
