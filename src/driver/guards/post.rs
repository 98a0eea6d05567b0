//! The wire to the guards of all services: one UDP socket for this process.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{net::UdpSocket, time::interval};

use super::{Carrier, Said, Told, Ward, lock};
use crate::{
    guard::{
        clock,
        wire::{
            self, Allowance, Counts, Dropped, KeyError, KeyPair, LARGEST, Message, Party, Way,
            Ways, Wire, relay,
        },
    },
    model::{
        id::{ServiceName, SiteName},
        service::{Guards, Service},
        time::Time,
    },
    port::{cause, runtime::SharedRuntime, secret::SharedSecrets},
};

/// Guards are asked how their sites stand after this.
const LOOK: Duration = Duration::from_millis(500);

/// The socket, and the services whose guards speak through it.
pub struct Post {
    socket: Arc<UdpSocket>,
    secrets: SharedSecrets,
    runtime: SharedRuntime,
    lines: Mutex<BTreeMap<ServiceName, Connected>>,
    dropped: Mutex<Counts>,
}

/// One service, its wire, and what is known of its guards.
type Connected = (Arc<Line>, Arc<Ward>);

/// The wire to the guards of one service.
struct Line {
    socket: Arc<UdpSocket>,
    ends: Mutex<Ends>,
    /// As changed documents have it, before they are in force.
    next: Mutex<Option<Ends>>,
    allowance: Mutex<Allowance>,
}

struct Ends {
    wire: Wire,
    addresses: BTreeMap<SiteName, SocketAddr>,
}

impl Post {
    /// Listens.
    ///
    /// # Errors
    /// Where the address cannot be had.
    pub async fn listen(
        address: SocketAddr,
        secrets: SharedSecrets,
        runtime: SharedRuntime,
    ) -> io::Result<Arc<Self>> {
        let socket = UdpSocket::bind(address).await?;
        Ok(Arc::new(Self {
            socket: Arc::new(socket),
            secrets,
            runtime,
            lines: Mutex::default(),
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

    /// The guards of a service, as its documents have them; none where they name none. What was granted and heard before
    /// a change of the documents stays known; until [`Post::connect`] they are spoken to as before.
    ///
    /// # Errors
    /// Where the controller's key cannot be used.
    pub fn ward(&self, service: &Service) -> Result<Option<Arc<Ward>>, KeyError> {
        let Some(guards) = &service.guards else {
            return Ok(None);
        };
        let ends = Ends::new(&service.name, guards, self.secrets.as_ref())?;
        let mut lines = lock(&self.lines);
        if let Some((line, ward)) = lines.get(&service.name) {
            *lock(&line.next) = Some(ends);
            return Ok(Some(Arc::clone(ward)));
        }
        let line = Arc::new(Line {
            socket: Arc::clone(&self.socket),
            ends: Mutex::new(ends),
            next: Mutex::default(),
            allowance: Mutex::new(Allowance::new(clock::grantor())),
        });
        let ward = Arc::new(Ward::new(line.clone(), self.runtime.clone()));
        lines.insert(service.name.clone(), (line, Arc::clone(&ward)));
        Ok(Some(ward))
    }

    /// The documents of a service are in force: from now on its guards are spoken to as these have it.
    pub fn connect(&self, service: &Service) {
        if service.guards.is_none() {
            self.forget(&service.name);
        } else if let Some((line, _)) = lock(&self.lines).get(&service.name)
            && let Some(next) = lock(&line.next).take()
        {
            *lock(&line.ends) = next;
        }
    }

    /// A service is protected here no longer: nothing is granted any more.
    pub fn forget(&self, service: &ServiceName) {
        lock(&self.lines).remove(service);
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
                    let wards: Vec<_> = lock(&self.lines).values().map(|l| l.1.clone()).collect();
                    for ward in wards {
                        ward.ask();
                    }
                }
            }
        }
    }

    fn hear(&self, datagram: &[u8]) {
        let service = wire::about(datagram);
        let line = service.and_then(|s| lock(&self.lines).get(&s).cloned());
        let heard = line.ok_or(Dropped::Service).and_then(|(line, ward)| {
            if Wire::is_to_pass(datagram) {
                return line.pass(datagram);
            }
            let (site, told, way) = line.open(datagram)?;
            ward.hear(&site, told, way);
            Ok(())
        });
        if let Err(why) = heard {
            lock(&self.dropped).note(why);
            tracing::debug!(%why, "a guard's datagram was dropped");
        }
    }
}

impl Ends {
    fn new(
        service: &ServiceName,
        guards: &Guards,
        secrets: &dyn crate::port::secret::Secrets,
    ) -> Result<Self, KeyError> {
        let key = KeyPair::read(secrets, &guards.key)?;
        let sites = guards.sites.iter();
        let others = sites.map(|(site, guard)| (Party::Guard(site.clone()), guard.public_key));
        let own = Party::Controller(guards.controller.clone());
        let addresses = guards.sites.iter().map(|(s, g)| (s.clone(), g.address));
        Ok(Self {
            wire: Wire::new(own, service.clone(), key, others),
            addresses: addresses.collect(),
        })
    }
}

impl Line {
    /// Passes on what one guard says to the other.
    fn pass(&self, datagram: &[u8]) -> Result<(), Dropped> {
        let ends = lock(&self.ends);
        let (to, passed) = ends.wire.pass(datagram)?;
        lock(&self.allowance).take(self.now())?;
        if let Party::Guard(site) = to {
            self.put(&ends, &site, &passed);
        }
        Ok(())
    }

    fn put(&self, ends: &Ends, site: &SiteName, datagram: &[u8]) {
        if let Some(address) = ends.addresses.get(site)
            && let Err(error) = self.socket.try_send_to(datagram, *address)
        {
            tracing::debug!(%error, %site, "a datagram was not sent");
        }
    }

    fn open(&self, datagram: &[u8]) -> Result<(SiteName, Told, Way), Dropped> {
        let (sender, message, way) = lock(&self.ends).wire.open(datagram)?;
        let Party::Guard(site) = sender else {
            return Err(Dropped::Author);
        };
        let told = match message {
            Message::Ask { request, .. } => Told::Ask(request),
            Message::Fenced(ack) => Told::Fenced(ack),
            Message::Report { at, report } => Told::Report(at, report),
            Message::Acted { report, .. } => Told::Acted(report),
            Message::Grant(_)
            | Message::Fence(_)
            | Message::Promote { .. }
            | Message::Drain(_)
            | Message::Resync(_)
            | Message::Act(_)
            | Message::Recall(_)
            | Message::Look => return Err(Dropped::Author),
        };
        Ok((site, told, way))
    }
}

impl Carrier for Line {
    fn sites(&self) -> Vec<SiteName> {
        lock(&self.ends).addresses.keys().cloned().collect()
    }

    fn say(&self, site: &SiteName, what: Said, ways: Ways) {
        let ends = lock(&self.ends);
        if !ends.addresses.contains_key(site) {
            return;
        }
        let message = match what {
            Said::Grant(grant) => Message::Grant(grant),
            Said::Fence(order) => Message::Fence(order),
            Said::Promote(order) => Message::Promote {
                proof: ends.wire.certify(&order.terms),
                order,
            },
            Said::Drain(order) => Message::Drain(order),
            Said::Resync(order) => Message::Resync(order),
            Said::Act(order) => Message::Act(order),
            Said::Recall(query) => Message::Recall(query),
            Said::Look => Message::Look,
        };
        let mut datagram = match ends.wire.seal(&Party::Guard(site.clone()), &message) {
            Ok(datagram) => datagram,
            Err(error) => {
                tracing::error!(error = %cause::in_full(&error), "a message cannot be sent");
                return;
            }
        };
        if ways.include(Way::Straight) {
            self.put(&ends, site, &datagram);
        }
        if ways.include(Way::Around) {
            relay::mark(&mut datagram);
            for third in ends.addresses.keys().filter(|third| *third != site) {
                self.put(&ends, third, &datagram);
            }
        }
    }

    fn now(&self) -> Time {
        clock::grantor()
    }
}
