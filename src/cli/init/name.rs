//! The public name as DNS answers it now: its records, their TTL, and the zone with its servers.

use std::collections::BTreeSet;

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{Name, RData, RecordType},
};

use crate::{
    dns::{
        live, rrset,
        wire::{self, Endpoint, Travel},
    },
    error::Error,
};

/// How many of the zone's servers are asked for the TTL before the resolver's word is taken.
const TRIES: usize = 4;

/// A public name as it was found.
#[derive(Clone, Debug)]
pub struct PublicName {
    /// The name, without its final dot.
    pub name: String,
    /// Its addresses, in order; of an alias those that it leads to.
    pub addresses: Vec<String>,
    /// What it is an alias of.
    pub alias: Option<String>,
    /// The TTL in seconds, the longest of its records.
    pub ttl: Option<u32>,
    /// Whether the TTL is a zone's server's word; else it is what a resolver had left of it.
    pub whole_ttl: bool,
    /// The zone.
    pub zone: Option<String>,
    /// The zone's primary server, as its SOA record says.
    pub primary_server: Option<String>,
    /// The zone's servers.
    pub servers: Vec<String>,
}

/// Who answers questions.
pub struct Resolvers(Vec<Endpoint>);

impl Resolvers {
    /// The server that was named, or those of this host.
    ///
    /// # Errors
    /// Where what was named is none, or this host has none.
    pub fn new(named: Option<&str>, name: &str) -> Result<Self, Error> {
        match named {
            Some(text) => Endpoint::parse(text)
                .map(|endpoint| Self(vec![endpoint]))
                .map_err(|e| Error::Usage(format!("--dns-server: {e}"))),
            None => live::own_resolvers()
                .map(|servers| Self(servers.into_iter().flat_map(|s| s.endpoints).collect()))
                .map_err(|_| failed(name, "this host has no DNS resolver")),
        }
    }

    /// Looks a name up.
    ///
    /// # Errors
    /// Where there is no such name, or nobody tells.
    pub async fn look(&self, text: &str) -> Result<PublicName, Error> {
        let wrong = |_| Error::Usage(format!("--host: {text:?} is no domain name"));
        let name = rrset::name(text).map_err(wrong)?;
        let four = self.ask(&name, RecordType::A).await;
        let four = four.map_err(|reason| failed(text, &reason))?;
        if four.response_code == ResponseCode::NXDomain {
            return Err(failed(text, "there is no such name (NXDOMAIN)"));
        }
        let six = self.ask(&name, RecordType::AAAA).await;
        let six = six.map_err(|reason| failed(text, &reason))?;
        let mut found = PublicName {
            name: plain(&name),
            addresses: addresses([&four, &six]),
            alias: alias(&four, &name).or_else(|| alias(&six, &name)),
            ttl: longest([&four, &six], &name),
            whole_ttl: four.authoritative && six.authoritative,
            zone: None,
            primary_server: None,
            servers: Vec::new(),
        };
        if found.addresses.is_empty() && found.alias.is_none() {
            return Err(failed(text, "it has no A, AAAA or CNAME record"));
        }
        self.find_zone(&name, &mut found).await;
        if !found.whole_ttl {
            self.find_ttl(&name, &mut found).await;
        }
        Ok(found)
    }

    /// Addresses of a name; none where it has none or nobody tells.
    pub async fn addresses(&self, text: &str) -> Vec<String> {
        let Ok(name) = rrset::name(text) else {
            return Vec::new();
        };
        let four = self.ask(&name, RecordType::A).await;
        let six = self.ask(&name, RecordType::AAAA).await;
        addresses([four, six].iter().flatten())
    }

    /// The zone begins at the first name above that has a SOA record. An alias has nothing beside it.
    async fn find_zone(&self, name: &Name, found: &mut PublicName) {
        let mut at = if found.alias.is_some() {
            name.base_name()
        } else {
            name.clone()
        };
        while !at.is_root() {
            let Ok(answer) = self.ask(&at, RecordType::SOA).await else {
                return;
            };
            let soa = answer.answers.iter().find(|r| r.name == at);
            if let Some(RData::SOA(soa)) = soa.map(|r| &r.data) {
                found.zone = Some(plain(&at));
                found.primary_server = Some(plain(&soa.mname));
                break;
            }
            at = at.base_name();
        }
        if found.zone.is_none() {
            return;
        }
        let Ok(answer) = self.ask(&at, RecordType::NS).await else {
            return;
        };
        let servers: BTreeSet<String> = answer
            .answers
            .iter()
            .filter(|r| r.name == at)
            .filter_map(|r| {
                if let RData::NS(ns) = &r.data {
                    Some(plain(&ns.0))
                } else {
                    None
                }
            })
            .collect();
        found.servers = servers.into_iter().collect();
    }

    /// The TTL as a server of the zone has it: a resolver tells only what is left.
    async fn find_ttl(&self, name: &Name, found: &mut PublicName) {
        let kind = if found.alias.is_some() {
            RecordType::CNAME
        } else {
            RecordType::A
        };
        let kinds = [kind, RecordType::AAAA];
        for server in found.servers.iter().take(TRIES) {
            for address in self.addresses(server).await {
                let server = Endpoint {
                    host: address,
                    port: wire::PORT,
                };
                let mut answers = Vec::new();
                for kind in kinds {
                    match question(&server, name, kind, false).await {
                        Ok(answer) if answer.authoritative => answers.push(answer),
                        Ok(_) | Err(_) => break,
                    }
                }
                if answers.len() == kinds.len()
                    && let Some(ttl) = longest(&answers, name)
                {
                    found.ttl = Some(ttl);
                    found.whole_ttl = true;
                    return;
                }
            }
        }
    }

    /// The first answer.
    async fn ask(&self, name: &Name, kind: RecordType) -> Result<Message, String> {
        let mut reasons = Vec::new();
        for server in &self.0 {
            match question(server, name, kind, true).await {
                Ok(answer) => return Ok(answer),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(reasons.join("; "))
    }
}

async fn question(
    server: &Endpoint,
    name: &Name,
    kind: RecordType,
    recurse: bool,
) -> Result<Message, String> {
    let bytes = wire::question(name, kind, recurse)
        .to_vec()
        .map_err(|e| e.to_string())?;
    let answer = wire::exchange(server, &bytes, Travel::Udp, live::LOOK).await;
    let message = answer.map_err(|e| e.plain())?.message;
    let code = message.response_code;
    if code == ResponseCode::NoError || code == ResponseCode::NXDomain {
        Ok(message)
    } else {
        Err(format!("{server} answers {}", code.to_str()))
    }
}

fn addresses<'a>(answers: impl IntoIterator<Item = &'a Message>) -> Vec<String> {
    let found: BTreeSet<_> = answers
        .into_iter()
        .flat_map(|m| &m.answers)
        .filter_map(|r| r.data.ip_addr())
        .collect();
    found.iter().map(ToString::to_string).collect()
}

fn alias(answer: &Message, name: &Name) -> Option<String> {
    let own = answer.answers.iter().filter(|r| r.name == *name);
    own.into_iter().find_map(|r| {
        if let RData::CNAME(target) = &r.data {
            Some(plain(&target.0))
        } else {
            None
        }
    })
}

fn longest<'a>(answers: impl IntoIterator<Item = &'a Message>, name: &Name) -> Option<u32> {
    answers
        .into_iter()
        .flat_map(|m| &m.answers)
        .filter(|r| r.name == *name)
        .map(|r| r.ttl)
        .max()
}

/// As people write it.
fn plain(name: &Name) -> String {
    name.to_lowercase()
        .to_string()
        .trim_end_matches('.')
        .to_owned()
}

fn failed(name: &str, reason: &str) -> Error {
    Error::InitDns {
        name: name.to_owned(),
        reason: reason.to_owned(),
    }
}
