//! `dns/embedded`: repoints in the controller's own authoritative server.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, LazyLock, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use hickory_proto::{
    op::ResponseCode,
    rr::{
        Name, RData, Record,
        rdata::{A, AAAA, NS, SOA},
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    content::Content,
    file::FileError,
    server::{Config, Keyring, Server, StartError, UpdateError},
};
use crate::{
    dns::{
        rrset,
        tsig::KeyRef,
        update::Change,
        wire::{self, Endpoint, Travel},
    },
    model::{
        check::{CheckItem, CheckStatus},
        service::{Dns, RecordKind, Service},
        span::Span,
    },
    port::{
        cause,
        dns::{DnsProvider, ReadError, RecordSet, SharedDns, Swap},
        kind::{self, Kind, Make, MakeError, Problem, Wiring},
        runtime::SharedRuntime,
    },
};

/// `dns/embedded`.
pub const KIND: Kind = Kind::new::<EmbeddedWith>(
    "dns/embedded",
    "serves the zone itself, for a name that is delegated to the controller's host",
    "listen: 0.0.0.0:53\nnameServers:\n  - name: ns1.failover.example.com.\n    addresses: [192.0.2.53]\n",
    Make::Dns(make),
);

/// How long the server in another process may take to answer.
const ELSEWHERE: Duration = Duration::from_secs(2);

/// Longest wait between two tries to start.
const START_AGAIN: Span = Span::from_secs(30);

/// TTL of SOA and NS, and how long resolvers remember that a name does not exist, at most.
const APEX_TTL: u32 = 3600;

/// Settings of `dns/embedded`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EmbeddedWith {
    /// Where the server listens (UDP and TCP), as `address:port`.
    pub listen: String,
    /// The names of this server, as the parent zone delegates to it.
    pub name_servers: Vec<NameServer>,
    /// Where the zone is kept. Default: `<zone>zone` in the service's state folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// TSIG keys that may change the zone from outside (nsupdate). Default: nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeyRef>,
}

/// A name of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NameServer {
    /// The name.
    pub name: String,
    /// Its addresses; needed where the name lies in the zone itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<std::net::IpAddr>,
}

impl kind::With for EmbeddedWith {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.listen.parse::<SocketAddr>().is_err() {
            problems.push(Problem::new(
                "listen",
                format!(
                    "{:?} is no address with a port: expected something like 0.0.0.0:53 or [::]:53",
                    self.listen
                ),
            ));
        }
        if self.name_servers.is_empty() {
            problems.push(Problem::new(
                "nameServers",
                "at least one name is needed, as the parent zone's NS records have it",
            ));
        }
        for (i, server) in self.name_servers.iter().enumerate() {
            if let Err(e) = rrset::name(&server.name) {
                problems.push(Problem::new(
                    format!("nameServers[{i}].name"),
                    e.to_string(),
                ));
            }
        }
        for (i, key) in self.keys.iter().enumerate() {
            problems.extend(key.problems(&format!("keys[{i}]")));
        }
        problems
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedDns, MakeError> {
    let with: EmbeddedWith = kind::read(with)?;
    let Some(dns) = &wiring.service.dns else {
        return Err(MakeError("the service names no DNS zone".into()));
    };
    let wrong = |e: rrset::ValueError| MakeError(e.to_string());
    let origin = rrset::name(&dns.zone).map_err(wrong)?;
    let listen = with
        .listen
        .parse()
        .map_err(|e| MakeError(format!("with.listen: {e}")))?;
    let serial = u32::try_from(wiring.runtime.now().as_secs()).unwrap_or(1);
    let config = Config {
        listen,
        file: with
            .file
            .clone()
            .unwrap_or_else(|| wiring.state.join(format!("{}zone", origin.to_ascii()))),
        seed: seed(&with, &wiring.service, dns, &origin, serial).map_err(wrong)?,
        keyring: Keyring {
            keys: with.keys,
            secrets: wiring.secrets.clone(),
        },
        origin,
    };
    let provider = Arc::new(Embedded {
        slot: Slot::shared(config),
    });
    // The world asks from the first moment on, not only from the first swap on.
    if tokio::runtime::Handle::try_current().is_ok() {
        let (slot, runtime) = (Arc::downgrade(&provider.slot), wiring.runtime.clone());
        wiring
            .runtime
            .spawn("dns/embedded", Box::pin(serve(slot, runtime)));
    }
    Ok(provider)
}

/// Starts the server, again and again while it does not: a program that ends (a `failover check`, the controller
/// before this one) gives up address and file.
async fn serve(slot: Weak<Slot>, runtime: SharedRuntime) {
    let mut wait = Span::from_millis(500);
    loop {
        let Some(alive) = slot.upgrade() else { return };
        match alive.server().await {
            Ok(_) => return,
            Err(e) => {
                tracing::warn!(error = %cause::in_full(&e), "the embedded DNS server does not serve yet");
            }
        }
        drop(alive);
        runtime.sleep_until(runtime.now().after(wait)).await;
        wait = wait.saturating_mul(2).min(START_AGAIN);
    }
}

/// What the documents say of the zone: SOA, NS, addresses of name servers, and the service's records as they are
/// while the primary serves.
fn seed(
    with: &EmbeddedWith,
    service: &Service,
    dns: &Dns,
    origin: &Name,
    serial: u32,
) -> Result<Vec<Record>, rrset::ValueError> {
    let ttl = u32::try_from(dns.ttl.as_millis() / 1000).unwrap_or(APEX_TTL);
    let mut names = Vec::new();
    for server in &with.name_servers {
        names.push((rrset::name(&server.name)?, &server.addresses));
    }
    let main = names.first().map_or(origin, |(name, _)| name).clone();
    let contact = rrset::name(&format!("hostmaster.{origin}"))?;
    let negative = ttl.min(APEX_TTL);
    let soa = SOA::new(main, contact, serial.max(1), 3600, 600, 604_800, negative);
    let mut records = vec![Record::from_rdata(
        origin.clone(),
        APEX_TTL,
        RData::SOA(soa),
    )];
    for (name, addresses) in &names {
        let data = RData::NS(NS(name.clone()));
        records.push(Record::from_rdata(origin.clone(), APEX_TTL, data));
        if origin.zone_of(name) {
            for address in *addresses {
                let data = match address {
                    std::net::IpAddr::V4(a) => RData::A(A(*a)),
                    std::net::IpAddr::V6(a) => RData::AAAA(AAAA(*a)),
                };
                records.push(Record::from_rdata(name.clone(), APEX_TTL, data));
            }
        }
    }
    if let Some(primary) = service.primary() {
        for record in &dns.records {
            let owner = rrset::name_in(&record.name, origin)?;
            for value in rrset::of_site(record, &primary.name)? {
                let data = rrset::rdata(record.kind, &value)?;
                records.push(Record::from_rdata(owner.clone(), ttl, data));
            }
        }
    }
    Ok(records)
}

/// One zone file is one server in this process, whoever asks for it: a reload makes the provider anew while the one
/// before still lives.
static SLOTS: LazyLock<Mutex<BTreeMap<PathBuf, Weak<Slot>>>> = LazyLock::new(Mutex::default);

struct Slot {
    config: Mutex<Config>,
    /// Whether the running server has not heard of the documents' records yet.
    unheard: AtomicBool,
    server: tokio::sync::Mutex<Option<(SocketAddr, Arc<Server>)>>,
}

impl Slot {
    fn shared(config: Config) -> Arc<Self> {
        let mut slots = SLOTS.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|_, slot| slot.strong_count() > 0);
        if let Some(slot) = slots.get(&config.file).and_then(Weak::upgrade) {
            *slot.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
            slot.unheard.store(true, Ordering::Relaxed);
            return slot;
        }
        let file = config.file.clone();
        let slot = Arc::new(Self {
            config: Mutex::new(config),
            unheard: AtomicBool::new(false),
            server: tokio::sync::Mutex::new(None),
        });
        slots.insert(file, Arc::downgrade(&slot));
        slot
    }

    fn config(&self) -> Config {
        self.config
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The running server, started where it does not run yet.
    async fn server(&self) -> Result<Arc<Server>, StartError> {
        let mut running = self.server.lock().await;
        let config = self.config();
        if let Some((listen, server)) = running.as_ref()
            && *listen == config.listen
        {
            server.set_keyring(config.keyring);
            if self.unheard.swap(false, Ordering::Relaxed)
                && let Err(e) = server.seed(config.seed).await
            {
                self.unheard.store(true, Ordering::Relaxed);
                tracing::warn!(error = %cause::in_full(&e), "the embedded DNS server does not serve the new records");
            }
            return Ok(server.clone());
        }
        *running = None;
        self.unheard.store(false, Ordering::Relaxed);
        let listen = config.listen;
        let server = Arc::new(Server::start(config).await?);
        *running = Some((listen, server.clone()));
        Ok(server)
    }
}

struct Embedded {
    slot: Arc<Slot>,
}

#[async_trait]
impl DnsProvider for Embedded {
    async fn read(&self, name: &str, kind: RecordKind) -> Result<RecordSet, ReadError> {
        let fail = |reason: String| ReadError { reason };
        let config = self.slot.config();
        let owner = rrset::name_in(name, &config.origin).map_err(|e| fail(e.to_string()))?;
        match self.slot.server().await {
            Ok(server) => Ok(held(&server.content().await, &owner, kind)),
            Err(e) if e.elsewhere() => ask(config.listen, &owner, kind).await.map_err(fail),
            Err(e) => Err(fail(cause::in_full(&e))),
        }
    }

    async fn swap(
        &self,
        name: &str,
        kind: RecordKind,
        expect: &RecordSet,
        want: &RecordSet,
    ) -> Swap {
        let refused = |reason: String| Swap::Refused { reason };
        let origin = self.slot.config().origin;
        let change = rrset::name_in(name, &origin)
            .and_then(|owner| Ok((Change::swap(&owner, kind, expect, want)?, owner)));
        let (change, owner) = match change {
            Ok(change) => change,
            Err(e) => return refused(e.to_string()),
        };
        let server = match self.slot.server().await {
            Ok(server) => server,
            Err(e) => return refused(cause::in_full(&e)),
        };
        let result = server.update(change.prerequisites, change.updates).await;
        let found = held(&server.content().await, &owner, kind);
        match result {
            // However it came there: an update before this one may have been told as unknown.
            Ok(()) | Err(UpdateError::Code(_)) if found == *want => Swap::Done,
            Ok(()) => refused(format!(
                "records of another type stand at {owner}: a CNAME cannot stand beside others"
            )),
            Err(UpdateError::Code(ResponseCode::NXRRSet | ResponseCode::YXRRSet)) => {
                Swap::Conflict { found }
            }
            Err(UpdateError::File(e @ FileError::Sync { .. })) => Swap::Unknown {
                reason: cause::in_full(&e),
            },
            Err(e) => refused(cause::in_full(&e)),
        }
    }

    async fn check(&self, name: &str, kind: RecordKind) -> Vec<CheckItem> {
        let config = self.slot.config();
        let listen = config.listen;
        let served = match self.slot.server().await {
            Ok(server) => CheckItem::ok(
                "dns/provider",
                format!("the embedded DNS server answers on {}", server.local_addr()),
            ),
            Err(e) if e.elsewhere() => {
                let asked = match rrset::name_in(name, &config.origin) {
                    Ok(owner) => ask(listen, &owner, kind).await,
                    Err(e) => Err(e.to_string()),
                };
                match asked {
                    Ok(_) => CheckItem::ok(
                        "dns/provider",
                        format!("the embedded DNS server runs in another process on {listen}"),
                    ),
                    Err(reason) => CheckItem::bad(
                        "dns/provider",
                        CheckStatus::Fail,
                        format!(
                            "{}, and nobody serves the zone there: {reason}",
                            cause::in_full(&e)
                        ),
                        "end the program that has taken the address, or let the server listen on another one",
                    ),
                }
            }
            Err(e) => CheckItem::bad(
                "dns/provider",
                CheckStatus::Fail,
                cause::in_full(&e),
                "make address and file available to this process (port 53 needs CAP_NET_BIND_SERVICE)",
            ),
        };
        let single = CheckItem::bad(
            "dns/single-point",
            CheckStatus::Warn,
            "the embedded DNS server is a single point: while this host is down, nobody can look the name up",
            "use a DNS service with several servers (dns/rfc2136, dns/cloudflare) for what matters",
        );
        vec![served, single]
    }
}

fn held(content: &Content, owner: &Name, kind: RecordKind) -> RecordSet {
    let records: Vec<Record> = content.records().collect();
    rrset::pick(&records, owner, kind)
}

/// Asks the controller that serves the zone in another process.
async fn ask(listen: SocketAddr, owner: &Name, kind: RecordKind) -> Result<RecordSet, String> {
    let mut at = listen;
    if at.ip().is_unspecified() {
        at.set_ip(match at {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    let question = wire::question(owner, rrset::record_type(kind), false);
    let bytes = question
        .to_vec()
        .map_err(|_| "the question cannot be written".to_owned())?;
    let answer = wire::exchange(&Endpoint::from(at), &bytes, Travel::Udp, ELSEWHERE)
        .await
        .map_err(|e| e.plain())?
        .message;
    wire::held(&answer, owner, kind)
        .map_err(|doubt| format!("another program answers DNS on {listen}, and it {doubt}"))
}
