//! The server: answers for its zone over UDP and TCP, and takes updates signed with TSIG.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use hickory_net::runtime::TokioRuntimeProvider;
use hickory_proto::{
    op::ResponseCode,
    rr::{LowerName, Name, Record, RecordType, TSigResponseContext, rdata::tsig::TsigError},
};
use hickory_server::{
    dnssec::NxProofKind,
    server::{Request, RequestInfo},
    store::in_memory::InMemoryZoneHandler,
    zone_handler::{
        AuthLookup, AxfrPolicy, Catalog, LookupControlFlow, LookupError, LookupOptions,
        Nsec3QueryInfo, UpdateRequest as _, ZoneHandler, ZoneTransfer, ZoneType,
    },
};
use tokio::net::{TcpListener, UdpSocket};

use super::{
    content::{Content, ContentError},
    file::{self, FileError},
};
use crate::{
    dns::tsig::{Key, KeyRef},
    port::{lock::Lock, secret::SharedSecrets},
};

/// How long a connection may stay silent.
const IDLE: Duration = Duration::from_secs(5);

/// Answers that may wait for a slow reader of one connection.
const BACKLOG: usize = 32;

/// How often a port is tried that must be free for UDP and for TCP, where any will do.
const PORTS: usize = 16;

/// The keys that may update the zone. Their secrets are read at each use.
#[derive(Clone)]
pub struct Keyring {
    /// The keys.
    pub keys: Vec<KeyRef>,
    /// Where their secrets are.
    pub secrets: SharedSecrets,
}

impl Keyring {
    fn find(&self, name: &Name) -> Option<Key> {
        let keys = self.keys.iter().filter_map(|k| match k.read(self.secrets.as_ref()) {
            Ok(key) => Some(key),
            Err(e) => {
                tracing::warn!(key = k.name, error = %e, "a key of the embedded DNS server cannot be used");
                None
            }
        });
        keys.into_iter().find(|k| k.signer().signer_name() == name)
    }
}

/// What a server needs.
#[derive(Clone)]
pub struct Config {
    /// Where it listens, UDP and TCP; port 0: any that is free.
    pub listen: SocketAddr,
    /// The zone.
    pub origin: Name,
    /// Where the zone is kept.
    pub file: PathBuf,
    /// What the documents say of the zone, SOA and NS among it: see [`Content::seeded`].
    pub seed: Vec<Record>,
    /// Who may update it.
    pub keyring: Keyring,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its address cannot be had.
    #[error("cannot listen on {address} for DNS")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Its zone cannot be had.
    #[error(transparent)]
    File(#[from] FileError),
    /// The records to begin with are no zone.
    #[error("the records that the zone begins with do not fit together")]
    Seed(#[from] ContentError),
    /// The store does not take the zone.
    #[error("the zone {0} cannot be served")]
    Store(Name),
}

impl StartError {
    /// Whether another process serves the zone in this one's place.
    #[must_use]
    pub fn elsewhere(&self) -> bool {
        match self {
            Self::Listen { source, .. } => source.kind() == io::ErrorKind::AddrInUse,
            Self::File(FileError::Locked(_)) => true,
            Self::File(_) | Self::Seed(_) | Self::Store(_) => false,
        }
    }
}

/// Why an update was not made.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// The zone does not allow it; nothing was changed.
    #[error("the zone answers {}", .0.to_str())]
    Code(ResponseCode),
    /// It could not be kept.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A running server. It ends when it is dropped.
pub struct Server {
    address: SocketAddr,
    zone: Arc<Zone>,
    _sockets: hickory_server::Server<Catalog>,
}

impl Server {
    /// Takes the zone's file, listens, and answers. Must be called within the tokio runtime.
    ///
    /// # Errors
    /// Where the file or the address cannot be had.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let lock = file::lock(&config.file)?;
        let kept = file::read(&config.file, &config.origin)?;
        let content = Content::seeded(kept.as_ref(), &config.origin, &config.seed)?;
        if kept.as_ref() != Some(&content) {
            file::write(&config.file, &config.origin, &content)?;
        }
        let (udp, tcp) = listen(config.listen)
            .await
            .map_err(|source| StartError::Listen {
                address: config.listen,
                source,
            })?;
        let listening = |source| StartError::Listen {
            address: config.listen,
            source,
        };
        let address = udp.local_addr().map_err(listening)?;
        let memory = InMemoryZoneHandler::new(
            config.origin.clone(),
            content.served(),
            ZoneType::Primary,
            AxfrPolicy::Deny,
            None,
        )
        .map_err(|_| StartError::Store(config.origin.clone()))?;
        let zone = Arc::new(Zone {
            origin: config.origin.clone(),
            memory,
            content: tokio::sync::Mutex::new(content),
            file: config.file,
            keyring: RwLock::new(config.keyring),
            _lock: lock,
        });
        let mut catalog = Catalog::new();
        catalog.upsert(
            LowerName::new(&config.origin),
            vec![Arc::new(Handler(zone.clone()))],
        );
        let mut sockets = hickory_server::Server::new(catalog);
        sockets.register_socket(udp);
        sockets.register_listener(tcp, IDLE, BACKLOG);
        Ok(Self {
            address,
            zone,
            _sockets: sockets,
        })
    }

    /// Where it listens, with the port that it got.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What the zone holds now.
    pub async fn content(&self) -> Content {
        self.zone.content.lock().await.clone()
    }

    /// Changes the zone as RFC 2136 §3 has it; durable when it returns. It is made whole even if the caller is
    /// cancelled.
    ///
    /// # Errors
    /// Where the zone does not allow it, or it cannot be kept.
    pub async fn update(
        &self,
        prerequisites: Vec<Record>,
        updates: Vec<Record>,
    ) -> Result<(), UpdateError> {
        self.zone.clone().update(prerequisites, updates).await
    }

    /// Adds what documents that have changed say of the zone: see [`Content::seeded`].
    ///
    /// # Errors
    /// Where it does not fit, or cannot be kept.
    pub async fn seed(&self, records: Vec<Record>) -> Result<(), StartError> {
        let origin = self.zone.origin.clone();
        let lost = StartError::Store(origin.clone());
        let edit = move |content: &Content| {
            Content::seeded(Some(content), &origin, &records).map_err(StartError::Seed)
        };
        let seeded = self.zone.clone().change(edit).await;
        seeded.unwrap_or(Err(lost))
    }

    /// Lets other keys update the zone from now on.
    pub fn set_keyring(&self, keyring: Keyring) {
        *self
            .zone
            .keyring
            .write()
            .unwrap_or_else(PoisonError::into_inner) = keyring;
    }
}

async fn listen(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut tries = if address.port() == 0 { PORTS } else { 1 };
    loop {
        let tcp = TcpListener::bind(address).await?;
        match UdpSocket::bind(tcp.local_addr()?).await {
            Ok(udp) => return Ok((udp, tcp)),
            Err(_) if tries > 1 => tries -= 1,
            Err(e) => return Err(e),
        }
    }
}

struct Zone {
    origin: Name,
    memory: InMemoryZoneHandler<TokioRuntimeProvider>,
    content: tokio::sync::Mutex<Content>,
    file: PathBuf,
    keyring: RwLock<Keyring>,
    _lock: Lock,
}

impl Zone {
    async fn update(
        self: Arc<Self>,
        prerequisites: Vec<Record>,
        updates: Vec<Record>,
    ) -> Result<(), UpdateError> {
        let edit = move |content: &Content| {
            content
                .updated(&prerequisites, &updates)
                .map_err(UpdateError::Code)
        };
        let made = self.change(edit).await;
        made.unwrap_or(Err(UpdateError::Code(ResponseCode::ServFail)))
    }

    /// Puts new content in the place of the old; none where that panicked. It is made whole even if the caller is
    /// cancelled.
    async fn change<E>(
        self: Arc<Self>,
        edit: impl FnOnce(&Content) -> Result<Content, E> + Send + 'static,
    ) -> Option<Result<(), E>>
    where
        E: From<FileError> + Send + 'static,
    {
        let task = tokio::spawn(async move {
            let mut content = self.content.lock().await;
            let new = edit(&content)?;
            if new == *content {
                return Ok(());
            }
            let kept = self.keep(&new).await;
            match &kept {
                // With `Sync` the file holds the new content already, so the answers must too.
                Ok(()) | Err(FileError::Sync { .. }) => {
                    let served = new.served().into_iter().map(|(k, s)| (k, Arc::new(s)));
                    *self.memory.records_mut().await = served.collect();
                    *content = new;
                }
                Err(_) => {}
            }
            kept.map_err(E::from)
        });
        task.await.ok()
    }

    async fn keep(&self, content: &Content) -> Result<(), FileError> {
        let (path, origin, content) = (self.file.clone(), self.origin.clone(), content.clone());
        let lost = self.file.clone();
        tokio::task::spawn_blocking(move || file::write(&path, &origin, &content))
            .await
            .unwrap_or_else(|e| {
                Err(FileError::Write {
                    path: lost,
                    source: io::Error::other(e),
                })
            })
    }

    /// Whether a request is signed with one of the keys, and how the answer is to be signed (RFC 8945 §5.2).
    fn authorize(
        &self,
        request: &Request,
        now: u64,
    ) -> (Result<(), ResponseCode>, Option<TSigResponseContext>) {
        let Some(tsig) = request.signature() else {
            return (Err(ResponseCode::Refused), None);
        };
        let key = self
            .keyring
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .find(&tsig.name);
        let Some(key) = key.filter(|k| k.signer().algorithm() == &tsig.data.algorithm) else {
            let context = TSigResponseContext::unknown_key(request.id(), now, tsig.name.clone());
            return (Err(ResponseCode::NotAuth), Some(context));
        };
        let signer = key.signer().clone();
        // The signer subtracts the one from the other.
        let sane = tsig.data.time >= u64::from(tsig.data.fudge);
        let Some((_, _, range)) = sane
            .then(|| {
                signer
                    .verify_message_byte(request.as_slice(), None, true)
                    .ok()
            })
            .flatten()
        else {
            let context = TSigResponseContext::bad_signature(request.id(), now, signer);
            return (Err(ResponseCode::NotAuth), Some(context));
        };
        let (result, error) = if range.contains(&now) {
            (Ok(()), None)
        } else {
            (Err(ResponseCode::NotAuth), Some(TsigError::BadTime))
        };
        let mac = tsig.data.mac.clone();
        let context = TSigResponseContext::new(request.id(), now, signer, mac, error);
        (result, Some(context))
    }
}

/// The zone as the server's library wants it.
struct Handler(Arc<Zone>);

#[async_trait::async_trait]
impl ZoneHandler for Handler {
    fn zone_type(&self) -> ZoneType {
        ZoneType::Primary
    }

    fn axfr_policy(&self) -> AxfrPolicy {
        AxfrPolicy::Deny
    }

    async fn update(
        &self,
        request: &Request,
        now: u64,
    ) -> (Result<bool, ResponseCode>, Option<TSigResponseContext>) {
        let context = match self.0.authorize(request, now) {
            (Ok(()), context) => context,
            (Err(code), context) => return (Err(code), context),
        };
        // The catalog looks for the zone among the names above as well: the zone section must name it exactly.
        let named = request
            .zone()
            .is_ok_and(|zone| zone.name() == self.0.memory.origin());
        if !named {
            return (Err(ResponseCode::NotAuth), context);
        }
        let result = self
            .0
            .clone()
            .update(request.prerequisites().to_vec(), request.updates().to_vec())
            .await;
        let result = match result {
            Ok(()) => Ok(true),
            Err(UpdateError::Code(code)) => Err(code),
            Err(UpdateError::File(e)) => {
                tracing::error!(error = %e, "an update of the embedded DNS zone could not be kept");
                Err(ResponseCode::ServFail)
            }
        };
        (result, context)
    }

    fn origin(&self) -> &LowerName {
        self.0.memory.origin()
    }

    async fn lookup(
        &self,
        name: &LowerName,
        kind: RecordType,
        info: Option<&RequestInfo<'_>>,
        options: LookupOptions,
    ) -> LookupControlFlow<AuthLookup> {
        self.0.memory.lookup(name, kind, info, options).await
    }

    /// A signed question gets a signed answer; a wrongly signed one gets none.
    async fn search(
        &self,
        request: &Request,
        options: LookupOptions,
    ) -> (LookupControlFlow<AuthLookup>, Option<TSigResponseContext>) {
        if request.signature().is_none() {
            return self.0.memory.search(request, options).await;
        }
        let now = <hickory_net::runtime::TokioTime as hickory_net::runtime::Time>::current_time();
        match self.0.authorize(request, now) {
            (Ok(()), context) => (self.0.memory.search(request, options).await.0, context),
            (Err(code), context) => {
                let refused = LookupError::ResponseCode(code);
                (LookupControlFlow::Break(Err(refused)), context)
            }
        }
    }

    async fn nsec_records(
        &self,
        name: &LowerName,
        options: LookupOptions,
    ) -> LookupControlFlow<AuthLookup> {
        self.0.memory.nsec_records(name, options).await
    }

    async fn nsec3_records(
        &self,
        info: Nsec3QueryInfo<'_>,
        options: LookupOptions,
    ) -> LookupControlFlow<AuthLookup> {
        self.0.memory.nsec3_records(info, options).await
    }

    async fn zone_transfer(
        &self,
        request: &Request,
        options: LookupOptions,
        now: u64,
    ) -> Option<(
        Result<ZoneTransfer, LookupError>,
        Option<TSigResponseContext>,
    )> {
        self.0.memory.zone_transfer(request, options, now).await
    }

    fn nx_proof_kind(&self) -> Option<&NxProofKind> {
        None
    }
}
