//! Name resolution for probes: a resolver of our own with the host's settings, so that a deadline always holds.

use std::{
    collections::HashMap,
    fs,
    net::{IpAddr, SocketAddr},
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use hickory_resolver::{
    Resolver, TokioResolver,
    config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{DnsError, NetError, NoRecords, runtime::TokioRuntimeProvider},
    proto::op::ResponseCode,
};
use tokio::runtime;

use super::fault::Fault;
use crate::port::kind::Problem;

/// An answer is kept for at most so long, however long its TTL: a repointed name is noticed within a minute.
const LONGEST_KEPT: Duration = Duration::from_mins(1);

/// "No such name" is kept for at most so long: a name that was put back is seen at once.
const LONGEST_MISSING: Duration = Duration::from_secs(1);

/// One server gets so long before the next one is asked.
pub(super) const PER_SERVER: Duration = Duration::from_secs(2);

/// How often the host's settings are looked at for a change.
const SETTINGS_AGE: Duration = Duration::from_secs(5);

/// The files that hold the host's settings.
const SETTINGS: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// A resolver's background tasks live in the runtime that made it, so each runtime has its own.
type Key = (runtime::Id, Option<SocketAddr>);

static RESOLVERS: LazyLock<Mutex<HashMap<Key, Kept>>> = LazyLock::new(Mutex::default);

struct Kept {
    resolver: TokioResolver,
    settings: [Option<SystemTime>; 2],
    looked: Instant,
}

/// Addresses of a name, IPv4 first, from `server` or as the host would resolve it.
pub(super) async fn resolve(name: &str, server: Option<SocketAddr>) -> Result<Vec<IpAddr>, Fault> {
    let resolver = resolver(server).map_err(|e| unanswered(name, e))?;
    match resolver.lookup_ip(name).await {
        Ok(found) => {
            let addresses: Vec<_> = found.iter().collect();
            if addresses.is_empty() {
                return Err(Fault::NoAddress(name.to_owned()));
            }
            Ok(addresses)
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(NoRecords { response_code, .. }))) => {
            if response_code == ResponseCode::NXDomain {
                Err(Fault::NoSuchName(name.to_owned()))
            } else if response_code == ResponseCode::NoError {
                Err(Fault::NoAddress(name.to_owned()))
            } else {
                Err(unanswered(
                    name,
                    DnsError::ResponseCode(response_code).into(),
                ))
            }
        }
        Err(other) => Err(unanswered(name, other)),
    }
}

fn unanswered(name: &str, source: NetError) -> Fault {
    Fault::Resolver {
        name: name.to_owned(),
        source: Box::new(source),
    }
}

fn resolver(server: Option<SocketAddr>) -> Result<TokioResolver, NetError> {
    let key = (runtime::Handle::current().id(), server);
    let mut kept = RESOLVERS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(k) = kept.get_mut(&key) {
        if k.looked.elapsed() < SETTINGS_AGE {
            return Ok(k.resolver.clone());
        }
        if k.settings == settings() {
            k.looked = Instant::now();
            return Ok(k.resolver.clone());
        }
    }
    let settings = settings();
    let resolver = match server {
        Some(server) => asking(server)?,
        None => as_host()?,
    };
    kept.insert(
        key,
        Kept {
            resolver: resolver.clone(),
            settings,
            looked: Instant::now(),
        },
    );
    Ok(resolver)
}

fn settings() -> [Option<SystemTime>; 2] {
    SETTINGS.map(|path| fs::metadata(path).and_then(|m| m.modified()).ok())
}

fn as_host() -> Result<TokioResolver, NetError> {
    let mut builder = Resolver::builder_tokio()?;
    tune(builder.options_mut());
    builder.options_mut().use_hosts_file = ResolveHosts::Always;
    builder.build()
}

fn asking(server: SocketAddr) -> Result<TokioResolver, NetError> {
    let mut name_server = NameServerConfig::udp_and_tcp(server.ip());
    for connection in &mut name_server.connections {
        connection.port = server.port();
    }
    let config = ResolverConfig::from_name_servers(vec![name_server]);
    let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
    tune(builder.options_mut());
    builder.options_mut().use_hosts_file = ResolveHosts::Never;
    builder.build()
}

fn tune(options: &mut ResolverOpts) {
    options.timeout = options.timeout.min(PER_SERVER);
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.positive_max_ttl = Some(LONGEST_KEPT);
    options.negative_max_ttl = Some(LONGEST_MISSING);
    // Thousands of probes may begin at the same moment.
    options.max_active_requests = 4096;
}

/// Reads `address` or `address:port` of a name server.
pub(super) fn server(text: &str) -> Option<SocketAddr> {
    text.parse()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(|ip| (ip, 53).into()))
}

/// What is wrong with a `resolver` field, if anything.
pub(super) fn problem(resolver: Option<&str>) -> Option<Problem> {
    let text = resolver.filter(|text| server(text).is_none())?;
    Some(Problem::new(
        "resolver",
        format!("expected address or address:port, not {text:?}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_may_leave_out_its_port() {
        assert_eq!(server("1.1.1.1"), Some(([1, 1, 1, 1], 53).into()));
        assert_eq!(server("1.1.1.1:5353"), Some(([1, 1, 1, 1], 5353).into()));
        assert_eq!(server("::1").map(|s| s.port()), Some(53));
        assert_eq!(server("[::1]:54").map(|s| s.port()), Some(54));
        assert_eq!(server("dns.example"), None);
    }

    #[tokio::test]
    async fn the_hosts_file_is_honoured() {
        let found = resolve("localhost", None).await.unwrap();
        assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
    }
}
