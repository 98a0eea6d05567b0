//! Whom TLS trusts: this host's roots, or a file's. Both are loaded anew where they may have changed, so that a
//! certificate authority can be exchanged while the program runs.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustls::{
    RootCertStore,
    client::{VerifierBuilderError, WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::ring,
};
use rustls_pki_types::{
    CertificateDer,
    pem::{self, PemObject},
};
use rustls_platform_verifier::Verifier;

/// How long this host's roots are kept: they are many, and change with a package at most.
const HOST_AGE: Duration = Duration::from_mins(1);

/// Decides about a server's certificate; one that trusts the same is the same.
pub type Trust = Arc<dyn ServerCertVerifier>;

/// Why a file's certificates cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// It is no PEM file.
    #[error(transparent)]
    Pem(#[from] pem::Error),
    /// There is none in it.
    #[error("it holds no certificate")]
    Empty,
    /// One of them is no authority's.
    #[error(transparent)]
    Certificate(#[from] rustls::Error),
    /// They cannot be used together.
    #[error(transparent)]
    Verifier(#[from] VerifierBuilderError),
}

/// What tells one content of a file from another without reading it: the device, the inode, the size, and when it was
/// changed.
type Stamp = (u64, u64, u64, i64, i64);

static HOST: Mutex<Option<(Instant, Trust)>> = Mutex::new(None);

static FILES: Mutex<BTreeMap<PathBuf, (Stamp, Trust)>> = Mutex::new(BTreeMap::new());

/// Trusts what this host trusts.
///
/// # Errors
/// Where it never trusted anybody since this program began.
pub fn host() -> Result<Trust, rustls::Error> {
    let mut kept = HOST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((since, trust)) = &*kept
        && since.elapsed() < HOST_AGE
    {
        return Ok(Arc::clone(trust));
    }
    match (Verifier::new(Arc::new(ring::default_provider())), &*kept) {
        (Ok(new), _) => {
            let trust: Trust = Arc::new(new);
            *kept = Some((Instant::now(), Arc::clone(&trust)));
            Ok(trust)
        }
        (Err(_), Some((_, trust))) => Ok(Arc::clone(trust)),
        (Err(e), None) => Err(e),
    }
}

/// Trusts the certificates of a PEM file, as it is now.
///
/// # Errors
/// Where it cannot be used.
pub fn file(path: &Path) -> Result<Trust, TrustError> {
    let metadata = fs::metadata(path)?;
    let stamp = (
        metadata.dev(),
        metadata.ino(),
        metadata.size(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    );
    let mut kept = FILES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((then, trust)) = kept.get(path)
        && *then == stamp
    {
        return Ok(Arc::clone(trust));
    }
    let trust = load(path)?;
    kept.insert(path.to_owned(), (stamp, Arc::clone(&trust)));
    Ok(trust)
}

fn load(path: &Path) -> Result<Trust, TrustError> {
    let text = fs::read(path)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        roots.add(certificate?)?;
    }
    if roots.is_empty() {
        return Err(TrustError::Empty);
    }
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
    Ok(verifier.build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> String {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn a_file_is_loaded_once_until_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        fs::write(&path, authority()).unwrap();
        let first = file(&path).unwrap();
        assert!(Arc::ptr_eq(&first, &file(&path).unwrap()));
        // Put in its place whole, as tools that renew certificates do.
        let new = folder.path().join("new");
        fs::write(&new, authority()).unwrap();
        fs::rename(&new, &path).unwrap();
        assert!(!Arc::ptr_eq(&first, &file(&path).unwrap()));
        fs::write(&path, "").unwrap();
        assert!(matches!(file(&path), Err(TrustError::Empty)));
    }
}
