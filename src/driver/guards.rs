//! Where guards ask for leases and say how their sites stand: one UDP socket for all services of this process.
//!
//! A grant rests on what the journal says at the moment that the request is answered: the loop of the service tells its
//! [`Ward`] of every record as soon as it is durable, and before any effect that it announces.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::channel::mpsc::UnboundedSender;
use tokio::{
    net::UdpSocket,
    sync::Notify,
    time::{interval, timeout},
};

use super::service::Input;
use crate::{
    decide::{
        event::Event,
        grant::{Grants, Standing},
        state::State,
        terms,
    },
    guard::{
        clock,
        wire::{self, Counts, KeyError, KeyPair, LARGEST, Message, Party, Wire},
    },
    model::{
        guard::{Boot, FenceAck, FenceOrder, Lease, LeaseRequest, PromoteOrder, Report, Terms},
        id::{Epoch, ServiceName, SiteName},
        service::Service,
        span::Span,
        time::Time,
    },
    port::{
        cause,
        guard::{Guards, Heard, Order},
        secret::SharedSecrets,
    },
};

/// Guards are asked how their sites stand after this.
const LOOK: Duration = Duration::from_millis(500);
/// A loop that could not record that an epoch is held is told again after this.
const TELL_AGAIN: Span = Span::from_secs(1);

/// The socket, and the services whose guards speak through it.
pub struct Post {
    socket: Arc<UdpSocket>,
    secrets: SharedSecrets,
    wards: Mutex<BTreeMap<ServiceName, Arc<Ward>>>,
    dropped: Mutex<Counts>,
}

/// The guards of one service.
pub struct Ward {
    socket: Arc<UdpSocket>,
    inner: Mutex<Inner>,
    news: Notify,
}

struct Inner {
    wire: Wire,
    addresses: BTreeMap<SiteName, SocketAddr>,
    /// None until the journal was read.
    standing: Option<Stand>,
    heard: BTreeMap<SiteName, (Report, Time)>,
    acknowledged: BTreeMap<SiteName, FenceAck>,
    /// The life of each guard that lost its state, and the epoch in which it was first heard.
    lost: BTreeMap<SiteName, (Boot, Epoch)>,
    tell: Option<UnboundedSender<Input>>,
}

/// What the journal says, as far as leases go.
struct Stand {
    grants: Grants,
    epoch: Epoch,
    terms: Option<Terms>,
    is_fencing: bool,
    is_running: bool,
    leads: bool,
    held: Option<Epoch>,
    /// When the loop was told last that the epoch is held.
    told: Option<Time>,
}

impl Post {
    /// Listens.
    ///
    /// # Errors
    /// Where the address cannot be had.
    pub async fn listen(address: SocketAddr, secrets: SharedSecrets) -> io::Result<Arc<Self>> {
        let socket = UdpSocket::bind(address).await?;
        Ok(Arc::new(Self {
            socket: Arc::new(socket),
            secrets,
            wards: Mutex::default(),
            dropped: Mutex::default(),
        }))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// Where the system does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The guards of a service, as its documents have them now; none where they name none. What was granted and heard
    /// before a change of the documents stays known.
    ///
    /// # Errors
    /// Where the controller's key cannot be used.
    pub fn ward(&self, service: &Service) -> Result<Option<Arc<Ward>>, KeyError> {
        let Some(guards) = &service.guards else {
            self.forget(&service.name);
            return Ok(None);
        };
        let key = KeyPair::read(self.secrets.as_ref(), &guards.key)?;
        let others = guards
            .sites
            .iter()
            .map(|(site, guard)| (Party::Guard(site.clone()), guard.public_key));
        let own = Party::Controller(guards.controller.clone());
        let wire = Wire::new(own, service.name.clone(), key, others);
        let addresses = guards.sites.iter().map(|(s, g)| (s.clone(), g.address));
        let addresses = addresses.collect();
        let mut wards = lock(&self.wards);
        if let Some(ward) = wards.get(&service.name) {
            let mut inner = lock(&ward.inner);
            inner.wire = wire;
            inner.addresses = addresses;
            drop(inner);
            return Ok(Some(Arc::clone(ward)));
        }
        let ward = Arc::new(Ward {
            socket: Arc::clone(&self.socket),
            inner: Mutex::new(Inner {
                wire,
                addresses,
                standing: None,
                heard: BTreeMap::new(),
                acknowledged: BTreeMap::new(),
                lost: BTreeMap::new(),
                tell: None,
            }),
            news: Notify::new(),
        });
        wards.insert(service.name.clone(), Arc::clone(&ward));
        Ok(Some(ward))
    }

    /// A service is protected here no longer: nothing is granted any more.
    pub fn forget(&self, service: &ServiceName) {
        lock(&self.wards).remove(service);
    }

    /// Datagrams that were dropped, and why.
    #[must_use]
    pub fn dropped(&self) -> Counts {
        lock(&self.dropped).clone()
    }

    /// Hears and asks guards for as long as it is polled.
    pub async fn serve(&self) {
        let mut datagram = vec![0; LARGEST + 1];
        let mut look = interval(LOOK);
        loop {
            tokio::select! {
                heard = self.socket.recv_from(&mut datagram) => match heard {
                    Ok((length, _)) => self.hear(&datagram[..length]),
                    // An answer of the network to something sent before.
                    Err(error) => tracing::debug!(%error, "the guards' wire"),
                },
                _ = look.tick() => {
                    let wards: Vec<_> = lock(&self.wards).values().cloned().collect();
                    for ward in wards {
                        ward.ask();
                    }
                }
            }
        }
    }

    fn hear(&self, datagram: &[u8]) {
        let service = wire::about(datagram);
        let ward = service.and_then(|s| lock(&self.wards).get(&s).cloned());
        let heard = match ward {
            Some(ward) => ward.hear(datagram),
            None => Err(wire::Dropped::Service),
        };
        if let Err(why) = heard {
            lock(&self.dropped).note(why);
            tracing::debug!(%why, "a guard's datagram was dropped");
        }
    }
}

impl Ward {
    /// The loop of the service takes up its journal: grants of an earlier process are assumed to have been made just now.
    pub fn take_up(&self, state: &State, tell: UnboundedSender<Input>) {
        let mut inner = lock(&self.inner);
        inner.tell = Some(tell);
        if inner.standing.is_none() {
            let mut grants = Grants::new(clock::grantor(), state.longest_lease);
            for site in &state.endless {
                grants.endless(site.clone());
            }
            inner.standing = Some(Stand {
                grants,
                epoch: state.epoch,
                terms: None,
                is_fencing: true,
                is_running: false,
                leads: true,
                held: None,
                told: None,
            });
        }
        drop(inner);
        self.follow(state);
    }

    /// What the journal says now; called when a record is durable, before anything is done because of it.
    pub fn follow(&self, state: &State) {
        let mut inner = lock(&self.inner);
        let Some(stand) = &mut inner.standing else {
            return;
        };
        let terms = state.terms.as_ref().filter(|t| t.epoch == state.epoch);
        if stand.terms.as_ref() != terms {
            match terms {
                Some(terms) => stand.grants.opened(terms),
                None => state
                    .endless
                    .iter()
                    .for_each(|site| stand.grants.endless(site.clone())),
            }
            stand.terms = terms.cloned();
        }
        stand.epoch = state.epoch;
        stand.is_fencing = terms::is_fencing(state);
        stand.is_running = state.run.is_some();
        stand.held = state.held;
    }

    /// The loop has ended: this process leads no longer.
    pub fn leave(&self) {
        if let Some(stand) = &mut lock(&self.inner).standing {
            stand.leads = false;
        }
    }

    /// Asks every guard how its site stands, and tells the one of the newest epoch's site of that epoch where it does not
    /// know it; whoever promotes in a run says so itself.
    fn ask(&self) {
        let mut inner = lock(&self.inner);
        let sites: Vec<_> = inner.addresses.keys().cloned().collect();
        for site in sites {
            self.say(&inner, &site, &Message::Look);
            if let Some(order) = inner.overdue(&site) {
                self.send(&mut inner, &site, order);
            }
        }
    }

    fn hear(&self, datagram: &[u8]) -> Result<(), wire::Dropped> {
        let mut inner = lock(&self.inner);
        let (sender, message) = inner.wire.open(datagram)?;
        let Party::Guard(site) = sender else {
            return Err(wire::Dropped::Author);
        };
        match message {
            Message::Ask { request, .. } => {
                inner.note(&site, &request.report);
                if let Some(grant) = inner.grant(&request) {
                    self.say(&inner, &site, &Message::Grant(grant));
                }
            }
            Message::Fenced(ack) => {
                tracing::info!(%site, epoch = ack.epoch.0, "the guard acknowledges a fence");
                let known = inner.acknowledged.get(&site).map(|a| a.epoch);
                if known < Some(ack.epoch) {
                    inner.acknowledged.insert(site, ack);
                }
            }
            Message::Report(report) => inner.note(&site, &report),
            Message::Grant(_) | Message::Fence(_) | Message::Promote { .. } | Message::Look => {}
        }
        drop(inner);
        self.news.notify_waiters();
        // For whoever is about to wait.
        self.news.notify_one();
        Ok(())
    }

    fn send(&self, inner: &mut Inner, site: &SiteName, order: Order) {
        let boot = inner.answers(site);
        let message = match order {
            Order::Look => Message::Look,
            Order::Fence(epoch) => Message::Fence(FenceOrder { epoch, boot }),
            Order::Promote { acknowledged } => {
                let terms = inner.standing.as_ref().and_then(|s| s.terms.clone());
                let Some(terms) = terms.filter(|t| t.site == *site) else {
                    return;
                };
                let proof = inner.wire.certify(&terms);
                let order = PromoteOrder {
                    terms,
                    acknowledged,
                    boot,
                };
                Message::Promote { order, proof }
            }
        };
        self.say(inner, site, &message);
    }

    /// Says it now or never: whoever wants it done says it again.
    fn say(&self, inner: &Inner, site: &SiteName, message: &Message) {
        let Some(address) = inner.addresses.get(site) else {
            return;
        };
        match inner.wire.seal(&Party::Guard(site.clone()), message) {
            Ok(datagram) => {
                if let Err(error) = self.socket.try_send_to(&datagram, *address) {
                    tracing::debug!(%error, %site, "a datagram was not sent");
                }
            }
            Err(error) => {
                tracing::error!(error = %cause::in_full(&error), "a message cannot be sent");
            }
        }
    }
}

impl Inner {
    fn note(&mut self, site: &SiteName, report: &Report) {
        let now = clock::grantor();
        let epoch = self.standing.as_ref().map_or(Epoch(0), |s| s.epoch);
        let is_known = self.lost.get(site).is_some_and(|l| l.0 == report.boot);
        if report.promise.is_none() && !is_known {
            self.lost.insert(site.clone(), (report.boot, epoch));
        }
        let before = self.heard.insert(site.clone(), (report.clone(), now));
        if before.is_none_or(|(said, _)| said != *report) {
            self.tell(Event::Guard(Box::new(report.clone())));
        }
    }

    /// Answers a request; what is granted is noted before.
    fn grant(&mut self, request: &LeaseRequest) -> Option<crate::model::guard::Grant> {
        let now = clock::grantor();
        let stand = self.standing.as_mut()?;
        let terms = stand.terms.clone()?;
        let standing = Standing {
            terms: &terms,
            is_fencing: stand.is_fencing,
            leads: stand.leads,
        };
        match stand.grants.grant(standing, request, now) {
            Ok(grant) => {
                let is_new = grant.lease != Lease::Unbounded && stand.held != Some(terms.epoch);
                if is_new && stand.told.is_none_or(|at| now.since(at) >= TELL_AGAIN) {
                    stand.told = Some(now);
                    self.tell(Event::Held {
                        site: terms.site,
                        epoch: terms.epoch,
                    });
                }
                Some(grant)
            }
            Err(why) => {
                tracing::debug!(site = %request.report.site, epoch = request.epoch.0, ?why, "no lease is granted");
                None
            }
        }
    }

    /// The order that a guard should have had: the newest epoch of its site, or, where it lost its state, that it has no
    /// part in what was before.
    fn overdue(&self, site: &SiteName) -> Option<Order> {
        let stand = self
            .standing
            .as_ref()
            .filter(|s| s.leads && !s.is_running)?;
        let terms = stand.terms.as_ref()?;
        let report = &self.heard.get(site)?.0;
        match &report.promise {
            Some(promise) if terms.site == *site && promise.epoch < terms.epoch => {
                Some(Order::Promote {
                    acknowledged: false,
                })
            }
            Some(_) => None,
            // It answers to nothing that it may have forgotten.
            None if terms.site == *site => {
                let since = self.lost.get(site)?.1;
                (terms.epoch > since).then_some(Order::Promote {
                    acknowledged: false,
                })
            }
            None => Some(Order::Fence(terms.epoch)),
        }
    }

    /// The life of a guard that an order answers.
    fn answers(&self, site: &SiteName) -> Option<Boot> {
        self.heard.get(site).map(|(report, _)| report.boot)
    }

    fn tell(&self, event: Event) {
        if let Some(tell) = &self.tell {
            drop(tell.unbounded_send(Input::Event(event)));
        }
    }
}

#[async_trait]
impl Guards for Ward {
    fn heard(&self, site: &SiteName) -> Option<Heard> {
        let inner = lock(&self.inner);
        let (report, at) = inner.heard.get(site)?;
        Some(Heard {
            report: report.clone(),
            age: clock::grantor().since(*at),
        })
    }

    fn acknowledged(&self, site: &SiteName) -> Option<FenceAck> {
        lock(&self.inner).acknowledged.get(site).cloned()
    }

    fn left(&self, site: &SiteName) -> Option<Span> {
        let inner = lock(&self.inner);
        let stand = inner.standing.as_ref()?;
        stand.grants.left(site, clock::grantor())
    }

    fn terms(&self) -> Option<Terms> {
        let inner = lock(&self.inner);
        inner.standing.as_ref().and_then(|s| s.terms.clone())
    }

    fn order(&self, site: &SiteName, order: Order) {
        self.send(&mut lock(&self.inner), site, order);
    }

    async fn news(&self, within: Duration) {
        let _ = timeout(within, self.news.notified()).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
