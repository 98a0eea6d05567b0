//! What the world sees: the authoritative servers of a zone and resolvers, asked one by one.
//!
//! Nothing here goes through a cache of our own. Each server has the same deadline, so that one that is gone costs
//! no more than it.

use std::{collections::BTreeSet, time::Duration};

use futures::future::join_all;
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{Name, RData, RecordType},
};

use super::{
    rrset::{self, ValueError},
    wire::{self, Endpoint, Travel, WireError},
};
use crate::{
    model::service::{Dns, RecordKind},
    port::dns::RecordSet,
};

/// How long one server may take to answer. Resolvers give up on a server after about as long.
pub const LOOK: Duration = Duration::from_secs(2);

/// A server to ask, under the name that reports use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `ns1.example.net.` or `192.0.2.53:53`.
    pub label: String,
    /// Where it answers: the second is asked only where the first cannot be reached at all.
    pub endpoints: Vec<Endpoint>,
}

impl Server {
    fn at(text: &str) -> Result<Self, LiveError> {
        let endpoint = Endpoint::parse(text).map_err(LiveError::Server)?;
        Ok(Self {
            label: text.to_owned(),
            endpoints: vec![endpoint],
        })
    }
}

/// What one server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Which server.
    pub server: String,
    /// What it holds (a resolver: with what is left of the TTL), or why that is not known.
    pub seen: Result<RecordSet, String>,
}

/// Why the servers to ask are not known.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// A configured server is none.
    #[error("{0}")]
    Server(String),
    /// A name is none.
    #[error(transparent)]
    Name(#[from] ValueError),
    /// The host has no resolver.
    #[error(
        "this host has no DNS resolver: name some in dns.resolvers, or the servers in dns.authorities"
    )]
    NoResolver,
    /// No resolver tells the zone's servers.
    #[error(
        "the authoritative servers of {zone} cannot be found ({reason}): name them in dns.authorities"
    )]
    NoAuthorities {
        /// The zone.
        zone: Name,
        /// What each resolver said.
        reason: String,
    },
}

/// The authoritative servers of the zone: those that the document names, else those that its NS records name.
///
/// # Errors
/// Where they cannot be found.
pub async fn authorities(dns: &Dns) -> Result<Vec<Server>, LiveError> {
    if !dns.authorities.is_empty() {
        return dns.authorities.iter().map(|a| Server::at(a)).collect();
    }
    let zone = rrset::name(&dns.zone)?;
    let mut resolvers = resolvers(dns)?;
    if resolvers.is_empty() {
        resolvers = own_resolvers()?;
    }
    let mut reasons = Vec::new();
    for resolver in &resolvers {
        match name_servers(resolver, &zone).await {
            Ok(servers) => return Ok(servers),
            Err(reason) => reasons.push(format!("{}: {reason}", resolver.label)),
        }
    }
    Err(LiveError::NoAuthorities {
        zone,
        reason: reasons.join("; "),
    })
}

/// The resolvers that the document names.
///
/// # Errors
/// Where one is none.
pub fn resolvers(dns: &Dns) -> Result<Vec<Server>, LiveError> {
    dns.resolvers.iter().map(|r| Server::at(r)).collect()
}

/// Whom to ask, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Servers that hold the zone.
    Authorities,
    /// Servers that ask others, and remember.
    Resolvers,
}

/// Asks all of them at the same time.
pub async fn survey(
    servers: &[Server],
    audience: Audience,
    name: &Name,
    kind: RecordKind,
) -> Vec<Sighting> {
    join_all(servers.iter().map(|server| async move {
        Sighting {
            server: server.label.clone(),
            seen: look(server, audience, name, kind).await,
        }
    }))
    .await
}

async fn look(
    server: &Server,
    audience: Audience,
    name: &Name,
    kind: RecordKind,
) -> Result<RecordSet, String> {
    let recurse = audience == Audience::Resolvers;
    let answer = ask(server, name, rrset::record_type(kind), recurse).await?;
    match audience {
        Audience::Authorities => {
            wire::held(&answer, name, kind).map_err(|doubt| format!("it {doubt}"))
        }
        Audience::Resolvers => Ok(rrset::pick(&answer.answers, name, kind)),
    }
}

/// One answer, of whichever of its addresses can be reached.
async fn ask(
    server: &Server,
    name: &Name,
    kind: RecordType,
    recurse: bool,
) -> Result<Message, String> {
    let question = wire::question(name, kind, recurse);
    let bytes = question
        .to_vec()
        .map_err(|_| WireError::Unwritable.plain())?;
    let mut last = "it has no address".to_owned();
    for endpoint in &server.endpoints {
        match wire::exchange(endpoint, &bytes, Travel::Udp, LOOK).await {
            Ok(answer) => {
                let code = answer.message.response_code;
                if code != ResponseCode::NoError && code != ResponseCode::NXDomain {
                    return Err(format!("it answers {}", code.to_str()));
                }
                return Ok(answer.message);
            }
            Err(e) => {
                last = e.plain();
                if !e.never_sent() {
                    break;
                }
            }
        }
    }
    Err(last)
}

/// The zone's NS records and their addresses, by one resolver. Several addresses of one name are one server.
async fn name_servers(resolver: &Server, zone: &Name) -> Result<Vec<Server>, String> {
    let answer = ask(resolver, zone, RecordType::NS, true).await?;
    let names: BTreeSet<Name> = answer
        .answers
        .iter()
        .filter(|r| &r.name == zone)
        .filter_map(|r| {
            if let RData::NS(ns) = &r.data {
                Some(ns.0.to_lowercase())
            } else {
                None
            }
        })
        .collect();
    if names.is_empty() {
        return Err(format!("{zone} has no NS records"));
    }
    Ok(join_all(names.iter().map(|name| async move {
        let (four, six) = futures::future::join(
            ask(resolver, name, RecordType::A, true),
            ask(resolver, name, RecordType::AAAA, true),
        )
        .await;
        let addresses = [four, six].into_iter().flatten().flat_map(|m| m.answers);
        Server {
            label: name.to_string(),
            endpoints: addresses
                .filter_map(|r| r.data.ip_addr())
                .map(|ip| Endpoint {
                    host: ip.to_string(),
                    port: wire::PORT,
                })
                .collect(),
        }
    }))
    .await)
}

/// The resolvers that this host is set up with.
///
/// # Errors
/// Where it has none.
pub fn own_resolvers() -> Result<Vec<Server>, LiveError> {
    let (config, _) =
        hickory_resolver::system_conf::read_system_conf().map_err(|_| LiveError::NoResolver)?;
    let servers: Vec<Server> = config
        .name_servers()
        .iter()
        .map(|server| Server {
            label: server.ip.to_string(),
            endpoints: vec![Endpoint {
                host: server.ip.to_string(),
                port: wire::PORT,
            }],
        })
        .collect();
    if servers.is_empty() {
        return Err(LiveError::NoResolver);
    }
    Ok(servers)
}
