//! What keeps a probe from an answer, and whether that lies on the other side or on the looker's own.

use std::{io, net::IpAddr};

use nix::libc;

use super::progress::Stage;
use crate::{
    model::{
        observation::{Look, Sight},
        span::Span,
    },
    port::secret::SecretError,
};

/// Why there was no right answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("connection refused")]
    Refused,
    #[error("the host cannot be reached")]
    Unreachable,
    #[error("connection reset")]
    Reset,
    #[error("the connection was closed without an answer")]
    Closed,
    #[error("the answer broke off after {0} bytes")]
    BrokeOff(usize),
    #[error("the answer is no {0}")]
    Garbled(&'static str),
    #[error("no such name: {0}")]
    NoSuchName(String),
    #[error("the name {0} has no address")]
    NoAddress(String),
    #[error("TLS failed")]
    Tls(#[source] rustls::Error),
    #[error("TLS failed")]
    TlsIo(#[source] io::Error),
    #[error("more than {0} redirects")]
    Redirects(u8),
    #[error("redirected to {0:?}, which is no http or https URL")]
    RedirectTarget(String),
    #[error("proxy {proxy} cannot reach it: {answer}")]
    BehindProxy { proxy: String, answer: String },
    #[error("no answer within {} ({stage})", seconds(*timeout))]
    Silent { timeout: Span, stage: Stage },
    #[error("{0}")]
    Wrong(String),

    #[error("this host has no route to it")]
    NoRoute,
    #[error("source address {0} is not on this host")]
    OwnAddress(IpAddr),
    #[error("the name has no address of the same family as source address {0}")]
    OwnFamily(IpAddr),
    #[error("this host has run out of sockets, ports or memory")]
    OwnLimit(#[source] io::Error),
    #[error("this host's own firewall forbids the connection")]
    OwnFirewall,
    #[error("cannot connect")]
    Io(#[source] io::Error),
    #[error("this host's resolver cannot answer for {name}")]
    Resolver {
        name: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("cannot reach proxy {proxy}")]
    ProxyAway {
        proxy: String,
        #[source]
        source: Box<Fault>,
    },
    #[error("proxy {proxy} does not serve this vantage point: {answer}")]
    ProxyRefuses { proxy: String, answer: String },
    #[error("the vantage point's `via` cannot be used: {0}")]
    Via(String),
    #[error("cannot read a header's secret")]
    Secret(#[source] SecretError),
    #[error("the secret of header {0} holds characters that a header cannot have")]
    SecretShape(String),
    #[error("cannot load the CA file {path}")]
    CaFile {
        path: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("this host has no usable CA certificates: install them or set tls.ca")]
    OwnRoots(#[source] rustls::Error),
    #[error("the certificate is not valid yet: check this host's clock")]
    OwnClock,
    #[error("this host stood still for {} during the look", seconds(*.0))]
    Stalled(Span),
}

impl Fault {
    /// Whether it is the other side that is at fault.
    pub(super) fn sight(&self) -> Sight {
        match self {
            Self::Refused
            | Self::Unreachable
            | Self::Reset
            | Self::Closed
            | Self::BrokeOff(_)
            | Self::Garbled(_)
            | Self::NoSuchName(_)
            | Self::NoAddress(_)
            | Self::Tls(_)
            | Self::TlsIo(_)
            | Self::Redirects(_)
            | Self::RedirectTarget(_)
            | Self::BehindProxy { .. }
            | Self::Wrong(_) => Sight::Down,
            Self::Silent { stage, .. } => stage.silence(),
            Self::NoRoute
            | Self::OwnAddress(_)
            | Self::OwnFamily(_)
            | Self::OwnLimit(_)
            | Self::OwnFirewall
            | Self::Io(_)
            | Self::Resolver { .. }
            | Self::ProxyAway { .. }
            | Self::ProxyRefuses { .. }
            | Self::Via(_)
            | Self::Secret(_)
            | Self::SecretShape(_)
            | Self::CaFile { .. }
            | Self::OwnRoots(_)
            | Self::OwnClock
            | Self::Stalled(_) => Sight::Unknown,
        }
    }

    /// The fault and its causes in one line.
    pub(super) fn detail(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(e) = cause {
            let more = e.to_string();
            if !text.ends_with(&more) {
                text.push_str(": ");
                text.push_str(&more);
            }
            cause = e.source();
        }
        text
    }

    /// As a look that learned nothing else.
    pub(super) fn into_look(self) -> Look {
        Look::new(self.sight(), self.detail())
    }

    /// What a failed connect or bind means.
    pub(super) fn of_connect(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => Self::Refused,
            Some(libc::ECONNRESET | libc::EPIPE) => Self::Reset,
            Some(libc::EHOSTUNREACH | libc::EHOSTDOWN | libc::ETIMEDOUT) => Self::Unreachable,
            Some(libc::ENETUNREACH | libc::ENETDOWN | libc::ENONET) => Self::NoRoute,
            Some(
                libc::EMFILE
                | libc::ENFILE
                | libc::ENOBUFS
                | libc::ENOMEM
                | libc::EADDRNOTAVAIL
                | libc::EAGAIN,
            ) => Self::OwnLimit(error),
            Some(libc::EPERM | libc::EACCES) => Self::OwnFirewall,
            Some(_) | None => Self::Io(error),
        }
    }

    /// What a connection that broke in use means.
    pub(super) fn of_stream(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self::Closed;
        }
        match error.raw_os_error() {
            Some(libc::ENETUNREACH | libc::ENETDOWN) => Self::NoRoute,
            Some(libc::EHOSTUNREACH | libc::ETIMEDOUT) => Self::Unreachable,
            Some(_) | None => Self::Reset,
        }
    }
}

/// `3 s`, `250 ms`, `1.5 s`.
pub(super) fn seconds(span: Span) -> String {
    let ms = span.as_millis();
    match (ms / 1000, ms % 1000) {
        (0, ms) => format!("{ms} ms"),
        (s, 0) => format!("{s} s"),
        (s, ms) => format!("{s}.{} s", format!("{ms:03}").trim_end_matches('0')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_on_the_own_side_is_unknown() {
        for (errno, sight) in [
            (libc::ECONNREFUSED, Sight::Down),
            (libc::EHOSTUNREACH, Sight::Down),
            (libc::ETIMEDOUT, Sight::Down),
            (libc::ENETUNREACH, Sight::Unknown),
            (libc::EMFILE, Sight::Unknown),
            (libc::EADDRNOTAVAIL, Sight::Unknown),
            (libc::EPERM, Sight::Unknown),
        ] {
            let fault = Fault::of_connect(io::Error::from_raw_os_error(errno));
            assert_eq!(fault.sight(), sight, "{fault:?}");
        }
    }

    #[test]
    fn causes_follow_in_one_line() {
        let fault = Fault::ProxyAway {
            proxy: "socks5://p:1080".into(),
            source: Box::new(Fault::Refused),
        };
        assert_eq!(
            fault.detail(),
            "cannot reach proxy socks5://p:1080: connection refused"
        );
    }

    #[test]
    fn spans_read_as_people_write_them() {
        assert_eq!(seconds(Span::from_secs(3)), "3 s");
        assert_eq!(seconds(Span::from_millis(250)), "250 ms");
        assert_eq!(seconds(Span::from_millis(1500)), "1.5 s");
    }
}
