//! A client that follows the public name: it asks where that leads, keeps the answer for its TTL, and writes there.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
};

/// The TTL of the public name.
pub const TTL: Duration = Duration::from_secs(1);

/// Who says where the name leads.
#[derive(Clone)]
pub enum Names {
    /// A DNS server.
    Served(SocketAddr),
    /// Whoever promotes by hand changes it there in the same moment.
    Told(Arc<Mutex<IpAddr>>),
}

/// One that asks and remembers.
pub enum Asker {
    Server(Box<TokioResolver>),
    Told(Arc<Mutex<IpAddr>>, Option<(IpAddr, Instant)>),
}

impl Names {
    pub fn asker(&self) -> Asker {
        match self {
            Self::Served(at) => {
                let mut udp = ConnectionConfig::udp();
                udp.port = at.port();
                let server = NameServerConfig::new(at.ip(), true, vec![udp]);
                let config = ResolverConfig::from_name_servers(vec![server]);
                let runtime = TokioRuntimeProvider::default();
                let builder = TokioResolver::builder_with_config(config, runtime);
                Asker::Server(Box::new(builder.build().unwrap()))
            }
            Self::Told(told) => Asker::Told(Arc::clone(told), None),
        }
    }
}

impl Asker {
    /// Where the name leads, as a client knows it.
    pub async fn address(&mut self) -> Option<IpAddr> {
        match self {
            Self::Server(resolver) => {
                let answer = resolver.lookup_ip("shop.demo.test.").await;
                answer.ok()?.iter().next()
            }
            Self::Told(told, known) => {
                let fresh = known.filter(|(_, since)| since.elapsed() < TTL);
                let (address, _) =
                    *known.insert(fresh.unwrap_or_else(|| (*told.lock().unwrap(), Instant::now())));
                Some(address)
            }
        }
    }
}
