//! TCP connections from a vantage point: directly, from a source address, or through a proxy.

use std::{
    convert::Infallible,
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    time::Instant,
};

use tokio::net::{TcpSocket, TcpStream};

use super::{
    fault::Fault,
    progress::{Progress, Stage, micros},
    proxy::Proxy,
    resolve,
};
use crate::{
    model::{observation::Sight, service::Via},
    port::connection::race,
};

/// A host as documents name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    Name(String),
    Address(IpAddr),
}

impl FromStr for Host {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let bare = text
            .strip_prefix('[')
            .and_then(|t| t.strip_suffix(']'))
            .unwrap_or(text);
        Ok(bare
            .parse()
            .map_or_else(|_| Self::Name(text.to_owned()), Self::Address))
    }
}

impl From<url::Host<&str>> for Host {
    fn from(host: url::Host<&str>) -> Self {
        match host {
            url::Host::Domain(name) => Self::Name(name.to_owned()),
            url::Host::Ipv4(ip) => Self::Address(ip.into()),
            url::Host::Ipv6(ip) => Self::Address(ip.into()),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(ip) => ip.fmt(f),
        }
    }
}

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) host: Host,
    pub(super) port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => write!(f, "{name}:{}", self.port),
            Host::Address(ip) => SocketAddr::from((*ip, self.port)).fmt(f),
        }
    }
}

/// Connects to `to`. Names are resolved by `resolver`, else as the host would; a proxy resolves by itself.
pub(super) async fn dial(
    to: &Endpoint,
    via: &Via,
    resolver: Option<SocketAddr>,
    progress: &Progress,
) -> Result<TcpStream, Fault> {
    match via {
        Via::Direct => direct(to, None, resolver, progress).await,
        Via::SourceAddress(ip) => direct(to, Some(*ip), resolver, progress).await,
        // Boxed: few vantage points use a proxy, and every look would carry its state.
        Via::Proxy(url) => Box::pin(through(to, url, progress)).await,
    }
}

async fn through(to: &Endpoint, url: &str, progress: &Progress) -> Result<TcpStream, Fault> {
    let proxy = Proxy::parse(url)?;
    progress.enter(Stage::ReachingProxy);
    let begin = Instant::now();
    let stream = connect_to(&proxy.endpoint, None, None)
        .await
        .map_err(|source| Fault::ProxyAway {
            proxy: url.to_owned(),
            source: Box::new(source),
        })?;
    let stream = proxy.connect(stream, to, progress).await?;
    progress.known().times.connect_us += micros(begin);
    Ok(stream)
}

async fn connect_to(
    to: &Endpoint,
    source: Option<IpAddr>,
    resolver: Option<SocketAddr>,
) -> Result<TcpStream, Fault> {
    let addresses = addresses(to, source, resolver).await?;
    connect(&addresses, source).await
}

async fn direct(
    to: &Endpoint,
    source: Option<IpAddr>,
    resolver: Option<SocketAddr>,
    progress: &Progress,
) -> Result<TcpStream, Fault> {
    progress.enter(Stage::Resolving);
    let begin = Instant::now();
    let addresses = addresses(to, source, resolver).await?;
    {
        let mut known = progress.known();
        known.times.dns_us += micros(begin);
        known.stage = Stage::Connecting;
    }
    let begin = Instant::now();
    let stream = connect(&addresses, source).await?;
    progress.known().times.connect_us += micros(begin);
    Ok(stream)
}

/// The addresses of an endpoint that can be reached from `source`.
pub(super) async fn addresses(
    to: &Endpoint,
    source: Option<IpAddr>,
    resolver: Option<SocketAddr>,
) -> Result<Vec<SocketAddr>, Fault> {
    let mut found = match &to.host {
        Host::Address(ip) => vec![*ip],
        Host::Name(name) => Box::pin(resolve::resolve(name, resolver)).await?,
    };
    if let Some(source) = source {
        found.retain(|ip| ip.is_ipv4() == source.is_ipv4());
        if found.is_empty() {
            return Err(Fault::OwnFamily(source));
        }
    }
    Ok(found.into_iter().map(|ip| (ip, to.port).into()).collect())
}

async fn connect(addresses: &[SocketAddr], source: Option<IpAddr>) -> Result<TcpStream, Fault> {
    match addresses {
        [one] => connect_one(*one, source).await,
        many => Box::pin(race(many, |to| connect_one(to, source)))
            .await
            .map_err(gravest),
    }
}

/// One address that is down says more than one that this host has no route to.
fn gravest(faults: Vec<Fault>) -> Fault {
    let graver = |known: Fault, new| match known.sight() {
        Sight::Down => known,
        Sight::Up | Sight::Unknown => new,
    };
    faults
        .into_iter()
        .reduce(graver)
        .unwrap_or(Fault::Unreachable)
}

async fn connect_one(to: SocketAddr, source: Option<IpAddr>) -> Result<TcpStream, Fault> {
    let socket = if to.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }
    .map_err(Fault::of_connect)?;
    if let Some(source) = source {
        // Without it each look would hold its local port for a minute after its end.
        socket.set_reuseaddr(true).map_err(Fault::Io)?;
        socket
            .bind((source, 0).into())
            .map_err(|_| Fault::OwnAddress(source))?;
    }
    socket.connect(to).await.map_err(Fault::of_connect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses() {
        assert_eq!(
            "[::1]".parse(),
            Ok(Host::Address(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])))
        );
        assert_eq!("db.example".parse(), Ok(Host::Name("db.example".into())));
        let endpoint = Endpoint {
            host: Host::Address([0u16, 0, 0, 0, 0, 0, 0, 1].into()),
            port: 80,
        };
        assert_eq!(endpoint.to_string(), "[::1]:80");
    }

    #[tokio::test]
    async fn the_second_address_is_tried_when_the_first_refuses() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let addresses = [
            SocketAddr::from(([127, 0, 0, 2], port)),
            SocketAddr::from(([127, 0, 0, 1], port)),
        ];
        let stream = connect(&addresses, None).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addresses[1]);
    }

    #[tokio::test]
    async fn a_source_address_of_another_host_is_unknown() {
        let fault = connect(&[([127, 0, 0, 1], 9).into()], Some([192, 0, 2, 1].into()))
            .await
            .unwrap_err();
        assert_eq!(fault.sight(), Sight::Unknown, "{fault:?}");
    }
}
