//! Where observers elsewhere report to: gives them their assignments, proves what they send, and hands what counts to
//! the loops of their services.

mod known;
mod readiness;
mod routes;
mod seldom;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::channel::mpsc;
use serde::Serialize;

use self::{
    known::{Expecting, Known, SeatId, remote, revision, without_commands},
    seldom::Seldom,
};
pub use self::{readiness::unheard, routes::routes};
use super::metrics::Metrics;
use crate::{
    decide::detect,
    model::{id::ServiceName, observation::Observation, service::Service, span::Span, time::Time},
    port::{cause, runtime::SharedRuntime, secret::SharedSecrets},
    vantage::{
        challenge::Challenges,
        key::Key,
        message::{
            Begun, Challenge, Hello, REPORT, Receipt, Refusal, Refused, Report, SESSION, Seen,
            SessionId,
        },
        seat::{Clocks, Fate, Heard},
        signature::{Answer, Request},
    },
};

/// Looks that may wait for a loop.
const MOST_WAITING: usize = 16 * 1024;

/// Where observers report to.
pub struct Desk {
    secrets: SharedSecrets,
    runtime: SharedRuntime,
    metrics: Arc<Metrics>,
    began: Time,
    /// Proves nothing; for names that nobody has, so that they take as long as the others.
    nobody: Key,
    seldom: Seldom,
    known: Mutex<Known>,
}

/// The headers of a signed request.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// Who it says to be.
    pub vantage: &'a str,
    /// The session, or a challenge.
    pub session: &'a str,
    /// The signature.
    pub signature: &'a str,
}

/// What goes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// JSON.
    pub body: Vec<u8>,
    /// Its signature, where the request had a right one.
    pub signature: Option<String>,
}

impl Desk {
    /// A desk that expects nobody yet.
    #[must_use]
    pub fn new(secrets: SharedSecrets, runtime: SharedRuntime, metrics: Arc<Metrics>) -> Self {
        Self {
            began: runtime.now(),
            secrets,
            runtime,
            metrics,
            nobody: Key::random(),
            seldom: Seldom::default(),
            known: Mutex::new(Known {
                services: BTreeMap::new(),
                seats: BTreeMap::new(),
                challenges: Challenges::new(rand::random()),
            }),
        }
    }

    /// What the observers of a service see from now on; takes the place of what was expected for it before, and ends
    /// with it.
    pub fn expect(&self, service: &Arc<Service>) -> mpsc::Receiver<Observation> {
        let (looks, seen) = mpsc::channel(MOST_WAITING);
        let remote: Vec<_> = remote(service).map(|(v, _)| v.name.clone()).collect();
        self.metrics.observers().keep(&service.name, &remote);
        let expecting = Expecting {
            service: service.clone(),
            looks,
        };
        let mut known = self.known();
        known.services.insert(service.name.clone(), expecting);
        known.forget();
        seen
    }

    /// A service is protected here no longer.
    pub fn forget(&self, service: &ServiceName) {
        self.metrics.observers().keep(service, &[]);
        let mut known = self.known();
        known.services.remove(service);
        known.forget();
    }

    /// A challenge for whoever asks.
    #[must_use]
    pub fn challenge(&self) -> Challenge {
        let challenge = self
            .known()
            .challenges
            .give(rand::random(), self.runtime.now());
        Challenge { challenge }
    }

    /// Begins a session.
    #[must_use]
    pub fn begin(&self, envelope: Envelope<'_>, body: &[u8]) -> Reply {
        let Some((id, key)) = self.prove(SESSION, envelope, body) else {
            return self.refuse(Refusal::Signature, None, envelope);
        };
        let Ok(hello) = serde_json::from_slice::<Hello>(body) else {
            return self.refuse(Refusal::Shape, Some(&key), envelope);
        };
        let clocks = self.clocks();
        let mut known = self.known();
        if !known.challenges.redeem(envelope.session, clocks.now) {
            drop(known);
            return self.refuse(Refusal::Session, Some(&key), envelope);
        }
        let assignment = known.assignment(&id);
        let session = SessionId(format!("{:032x}", rand::random::<u128>()));
        let seat = known.seats.entry(id.clone()).or_default();
        let rival = seat.begin(session.clone(), &hello, clocks);
        let heard = seat.heard().cloned();
        drop(known);
        self.heard(&id, heard.as_ref());
        self.greet(&id, heard.as_ref(), rival);
        let begun = Begun {
            session,
            revision: revision(&assignment),
            services: assignment
                .into_iter()
                .map(|a| {
                    if hello.commands {
                        a
                    } else {
                        without_commands(a)
                    }
                })
                .collect(),
            ahead_ms: heard.map_or(0, |h| h.ahead_ms),
        };
        reply(200, &begun, Some(&key), envelope)
    }

    /// Takes a report.
    #[must_use]
    pub fn report(&self, envelope: Envelope<'_>, body: &[u8]) -> Reply {
        let Some((id, key)) = self.prove(REPORT, envelope, body) else {
            return self.refuse(Refusal::Signature, None, envelope);
        };
        let Ok(report) = serde_json::from_slice::<Report>(body) else {
            return self.refuse(Refusal::Shape, Some(&key), envelope);
        };
        let clocks = self.clocks();
        let mut known = self.known();
        let changed = revision(&known.assignment(&id)) != report.revision;
        let Known {
            services, seats, ..
        } = &mut *known;
        let life = |seen: &Seen| {
            let expecting = services.get(&seen.service).filter(|_| !changed)?;
            let mut probes = expecting.probes(&id);
            probes.find(|p| p.id == seen.probe).map(detect::shelf_life)
        };
        let seat = seats.entry(id.clone()).or_default();
        let fates = match seat.admit(envelope.session, &report, clocks, life) {
            Ok(fates) => fates,
            Err(refusal) => {
                drop(known);
                return self.refuse(refusal, Some(&key), envelope);
            }
        };
        let heard = seat.heard().cloned();
        let mut taken = 0;
        for (seen, fate) in report.looks.iter().zip(fates) {
            taken += usize::from(self.hand_on(services, &id, seen, fate));
        }
        drop(known);
        self.heard(&id, heard.as_ref());
        reply(200, &Receipt { taken, changed }, Some(&key), envelope)
    }

    /// Whose key signed the request.
    fn prove(&self, path: &str, envelope: Envelope<'_>, body: &[u8]) -> Option<(SeatId, Key)> {
        let request = Request {
            method: "POST",
            path,
            vantage: envelope.vantage,
            session: envelope.session,
            body,
        };
        let keys = self.known().keys(envelope.vantage);
        if keys.is_empty() {
            let _ = request.is_signed(&self.nobody, envelope.signature);
        }
        keys.into_iter().find_map(|id| {
            let key = match Key::read(self.secrets.as_ref(), &id.key) {
                Ok(key) => key,
                Err(error) => {
                    if let Some(times) = self.seldom.due("key", self.runtime.now()) {
                        tracing::error!(code = "FO-084", vantage = %id.vantage, times, error = %cause::in_full(&error), "an observer's key cannot be used");
                    }
                    self.nobody.clone()
                }
            };
            let genuine = request.is_signed(&key, envelope.signature);
            genuine.then_some((id, key))
        })
    }

    fn hand_on(
        &self,
        services: &mut BTreeMap<ServiceName, Expecting>,
        id: &SeatId,
        seen: &Seen,
        fate: Fate,
    ) -> bool {
        let drop_for = |reason| {
            self.metrics.observers().dropped(&id.vantage, reason);
            false
        };
        let at = match fate {
            Fate::Counts(at) => at,
            Fate::Repeated => return drop_for("repeated"),
            Fate::Stale => return drop_for("stale"),
            Fate::HeldUp => return drop_for("heldUp"),
            Fate::NotAssigned => return drop_for("notAssigned"),
        };
        let look = seen.look();
        let observation = Observation {
            at,
            vantage: id.vantage.clone(),
            probe: seen.probe.clone(),
            sight: look.sight,
            detail: look.detail,
            latency: look.latency,
            facts: look.facts,
        };
        let handed = services
            .get_mut(&seen.service)
            .is_some_and(|e| e.looks.try_send(observation).is_ok());
        handed || drop_for("notTaken")
    }

    fn heard(&self, id: &SeatId, heard: Option<&Heard>) {
        let Some(heard) = heard else { return };
        let services = self.known().of(id);
        for service in services {
            self.metrics
                .observers()
                .heard(&service, &id.vantage, heard.at, heard.ahead_ms);
        }
    }

    fn greet(&self, id: &SeatId, heard: Option<&Heard>, rival: bool) {
        let vantage = &id.vantage;
        if let Some(Heard {
            version, ahead_ms, ..
        }) = heard
        {
            tracing::info!(%vantage, %version, clock_ahead_ms = ahead_ms, "an observer reports");
        }
        if rival && let Some(times) = self.seldom.due("rival", self.runtime.now()) {
            tracing::warn!(%vantage, times, "two observers report under one name: stop one, or give it a name of its own");
        }
    }

    /// Who was refused is not logged: the name is anybody's word where the signature is wrong.
    fn refuse(&self, refusal: Refusal, key: Option<&Key>, envelope: Envelope<'_>) -> Reply {
        self.metrics.observers().refused(refusal.name());
        if let Some(times) = self.seldom.due(refusal.name(), self.runtime.now()) {
            tracing::warn!(reason = %refusal, times, "a request of an observer was refused");
        }
        let refused = Refused { refused: refusal };
        reply(refusal.status(), &refused, key, envelope)
    }

    fn clocks(&self) -> Clocks {
        Clocks {
            now: self.runtime.now(),
            wall: self.runtime.wall(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends once every observer of a service was heard, or is overdue.
    pub async fn assembled(&self, service: &ServiceName) {
        loop {
            let now = self.runtime.now();
            if !self.known().is_awaited(service, now.since(self.began)) {
                return;
            }
            let soon = now.after(Span::from_millis(500));
            self.runtime.sleep_until(soon).await;
        }
    }
}

fn reply(
    status: u16,
    message: &impl Serialize,
    key: Option<&Key>,
    envelope: Envelope<'_>,
) -> Reply {
    let body = serde_json::to_vec(message).unwrap_or_default();
    let answer = Answer {
        request: envelope.signature,
        status,
        body: &body,
    };
    let signature = key.map(|key| answer.sign(key));
    Reply {
        status,
        body,
        signature,
    }
}
