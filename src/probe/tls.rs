//! TLS for probes: a full handshake each look, so that a bad certificate is seen at once.

use std::{
    fmt,
    path::Path,
    pin::Pin,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    task::{Context, Poll},
    time::Instant,
};

use rustls::{CertificateError, ClientConfig, client::Resumption, crypto::ring};
use rustls_pki_types::ServerName;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    dial::Host,
    fault::Fault,
    progress::{Progress, Stage, micros},
};
use crate::{
    model::{span::Span, time::Time},
    port::{
        kind::Problem,
        lenient::Lenient,
        trust::{self, Trust},
    },
};

/// How the other side's certificate is checked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TlsWith {
    /// The name that the certificate must be for, and that is sent as SNI; default: the host.
    pub server_name: Option<String>,
    /// A PEM file with the certificates that are trusted instead of the host's.
    pub ca: Option<String>,
    /// Whether the certificate is checked at all; without it only its expiry is reported.
    pub verify: bool,
    /// `failover check` warns when the certificate ends within this time.
    pub warn_before: Span,
}

impl Default for TlsWith {
    fn default() -> Self {
        Self {
            server_name: None,
            ca: None,
            verify: true,
            // Two weeks: automatic renewal (ACME) happens a month ahead, so this means that it has failed.
            warn_before: Span::from_secs(14 * 24 * 3600),
        }
    }
}

impl TlsWith {
    /// What the types cannot say, with paths below `tls`.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Some(name) = &self.server_name
            && ServerName::try_from(name.as_str()).is_err()
        {
            problems.push(Problem::new(
                "tls.serverName",
                format!("{name:?} is no host name"),
            ));
        }
        if self.ca.is_some() && !self.verify {
            problems.push(
                Problem::new("tls.ca", "a CA file has no use where verify is false")
                    .hint("leave out verify, so that the certificate is checked against the file"),
            );
        }
        problems
    }
}

/// Makes TLS connections with one setting.
pub(super) struct Tls {
    with: TlsWith,
    own: Kept,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with.fmt(f)
    }
}

impl Tls {
    pub(super) fn new(with: TlsWith) -> Self {
        Self {
            with,
            own: Mutex::new(None),
        }
    }

    pub(super) fn warn_before(&self) -> Span {
        self.with.warn_before
    }

    /// Shakes hands as a client and notes when the certificate ends.
    pub(super) async fn connect(
        &self,
        host: &Host,
        stream: TcpStream,
        progress: &Progress,
    ) -> Result<TlsStream<TcpStream>, Fault> {
        progress.enter(Stage::Handshaking);
        let begin = Instant::now();
        let config = self.config()?;
        let name = self.name(host)?;
        // The handshake's last flight and the request are two writes; without this they wait for each other.
        stream.set_nodelay(true).map_err(Fault::Io)?;
        let shaken = TlsConnector::from(config).connect(name, stream).await;
        let mut known = progress.known();
        known.times.tls_us += micros(begin);
        match shaken {
            Ok(stream) => {
                known.certificate_expires = expiry(&stream);
                Ok(stream)
            }
            Err(e) => match e.downcast::<rustls::Error>() {
                Ok(e) => {
                    known.certificate_expires = expired(&e);
                    Err(judge(e))
                }
                Err(e) => Err(Fault::TlsIo(e)),
            },
        }
    }

    fn name(&self, host: &Host) -> Result<ServerName<'static>, Fault> {
        match (&self.with.server_name, host) {
            (None, Host::Address(ip)) => Ok(ServerName::IpAddress((*ip).into())),
            (Some(name), _) | (None, Host::Name(name)) => {
                ServerName::try_from(name.trim_end_matches('.').to_owned())
                    .map_err(|_| Fault::Via(format!("{name:?} is no host name")))
            }
        }
    }

    fn config(&self) -> Result<Arc<ClientConfig>, Fault> {
        match &self.with.ca {
            None if self.with.verify => trust::host().and_then(|host| trusting(&HOST, host)),
            None => trusting(&UNCHECKED, Arc::clone(&BLIND)),
            Some(path) => {
                let unusable = |source| Fault::CaFile {
                    path: path.clone(),
                    source: Box::new(source),
                };
                let trust = trust::file(Path::new(path)).map_err(unusable)?;
                trusting(&self.own, trust)
            }
        }
        .map_err(Fault::OwnRoots)
    }
}

/// What a failed handshake means.
fn judge(error: rustls::Error) -> Fault {
    if let rustls::Error::InvalidCertificate(
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
    ) = error
    {
        return Fault::OwnClock;
    }
    Fault::Tls(error)
}

fn expired(error: &rustls::Error) -> Option<Time> {
    if let rustls::Error::InvalidCertificate(CertificateError::ExpiredContext {
        not_after, ..
    }) = error
    {
        let secs = i64::try_from(not_after.as_secs()).ok()?;
        return Some(Time::from_millis(secs.saturating_mul(1000)));
    }
    None
}

fn expiry(stream: &TlsStream<TcpStream>) -> Option<Time> {
    let leaf = stream.get_ref().1.peer_certificates()?.first()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(leaf).ok()?;
    let secs = certificate.validity().not_after.timestamp();
    Some(Time::from_millis(secs.saturating_mul(1000)))
}

/// A setting, and whom it trusts.
type Kept = Mutex<Option<(Trust, Arc<ClientConfig>)>>;

/// Trusts what the host trusts.
static HOST: Kept = Mutex::new(None);

/// Trusts everybody.
static BLIND: LazyLock<Trust> =
    LazyLock::new(|| Arc::new(Lenient::nothing(&Arc::new(ring::default_provider()))));

static UNCHECKED: Kept = Mutex::new(None);

/// The setting that trusts this; the one that is kept, where it does.
fn trusting(kept: &Kept, trust: Trust) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((known, config)) = &*kept
        && Arc::ptr_eq(known, &trust)
    {
        return Ok(Arc::clone(config));
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&trust))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    let config = Arc::new(config);
    *kept = Some((trust, Arc::clone(&config)));
    Ok(config)
}

/// A connection with or without TLS.
pub(super) enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_flush(cx),
            Self::Tls(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Self::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}
