//! All that a guard does, around [`Machine`], which decides it: hears the wire, looks at the clocks and at the database,
//! makes the machine's effects, and tells it what came of them.
//!
//! The loop waits for nothing but its next event, so that leases are renewed while a start takes minutes: whatever takes
//! time runs in a task of its own and answers in a `Done`. An answer that something later has overtaken is dropped.

use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    net::{UdpSocket, UnixListener},
    sync::{mpsc, watch},
    time::sleep,
};

mod action;
mod done;
mod effect;
pub mod status;

use self::{
    action::Actions,
    done::Done,
    effect::{Opening, Pending},
};
use super::{
    clock,
    config::Config,
    machine::{Event, Machine, Resynced},
    proof::{self, Trial},
    runs::Runs,
    server::{self, Server, ServerError, SharedServer, Store, Turn},
    state::{Kept, State, StateError},
    wire::{
        Allowance, Certificate, Counts, Dropped, KeyError, KeyPair, LARGEST, Message, Party, Way,
        Ways, Wire, relay,
    },
};
use crate::{
    model::{
        check::CheckStatus,
        guard::{Boot, Promise, Role},
        id::Epoch,
        secret::SecretRef,
        silence::Silence,
        span::Span,
    },
    port::{cause, secret::SharedSecrets, supervisor::Supervisor},
};

/// The least time between two ticks.
const TICK: Duration = Duration::from_millis(10);

/// Why a guard cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Its key.
    #[error("the key at {at} cannot be used")]
    Key {
        /// Where it is.
        at: SecretRef,
        /// Why.
        source: KeyError,
    },
    /// Its address.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: std::net::SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Its socket for people on this host.
    #[error("cannot make the socket {path}")]
    Status {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is asked how it stands.
    #[error("no guard answers at {path}")]
    Ask {
        /// Its socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its state.
    #[error("the guard's state cannot be used")]
    State(#[from] StateError),
    /// The database's surroundings.
    #[error("the database cannot be guarded")]
    Server(#[from] ServerError),
}

/// What becomes of the database when the guard is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtEnd {
    /// It runs on until its lease ends, or for ever as a standby: a guard that is started again finds it.
    Leave,
    /// It is stopped in its own order.
    Stop,
}

/// Guards one database.
pub struct Agent {
    config: Config,
    wire: Wire,
    socket: UdpSocket,
    local: UnixListener,
    machine: Machine,
    server: SharedServer,
    state: Arc<std::sync::Mutex<State>>,
    /// What is on disk, as far as this process knows.
    kept: Option<Kept>,
    /// Certificates that were shown, of the promised epoch and later ones.
    shown: BTreeMap<Epoch, Certificate>,
    dropped: Counts,
    allowance: Allowance,
    silence: Silence,
    actions: Actions,
    /// Datagrams that it passed on for others.
    passed: u64,
    /// Told by tasks.
    tell: mpsc::UnboundedSender<Done>,
    told: mpsc::UnboundedReceiver<Done>,
    /// Counts what is begun at the database; the look sees it too.
    turn: watch::Sender<Turn>,
    /// The last turn that has to do with the hold that runs.
    hold_turn: Turn,
    opening: Option<Opening>,
    is_emptying: bool,
    /// The server is being stopped in order, since this turn.
    draining: Option<Turn>,
    /// Calls off the resync that is under way.
    resyncing: Option<watch::Sender<bool>>,
    arming: Pending,
    has_looked: bool,
    is_stopping: bool,
}

impl Agent {
    /// Opens the state, which counts this start before anything else, and gets everything in place. Touches no database.
    ///
    /// # Errors
    /// Where something is not there or not right.
    pub async fn start(config: Config, secrets: SharedSecrets) -> Result<Self, AgentError> {
        let (state, kept) = open_state(config.state.clone()).await?;
        if kept.is_none() {
            tracing::error!(
                "the promise on disk is lost: this guard asks, grants and starts nothing until the controller orders \
                 something new"
            );
        }
        let key =
            KeyPair::read(secrets.as_ref(), &config.key).map_err(|source| AgentError::Key {
                at: config.key.clone(),
                source,
            })?;
        let address = config.listen;
        let socket = UdpSocket::bind(address)
            .await
            .map_err(|source| AgentError::Listen { address, source })?;
        let local = status::listen(&config.state)?;
        let server = Server::new(&config, Arc::clone(&secrets))?;
        server.prepare().await?;
        let kill = proved(&config).await?;
        let boot = Boot(rand::random());
        let mut machine = Machine::new(
            config.site.clone(),
            boot,
            config.renewal,
            kill,
            kept.as_ref().map(|k| k.promise.clone()),
            clock::now(),
        );
        let resync = config.database.resync.as_ref();
        let store = resync.map(|resync| Store::new(&resync.salvage));
        if server.is_half_done() {
            machine.recall(Resynced::HalfDone);
        }
        match (&store, &kept) {
            // Its life before may have ended before it had said so.
            (Some(store), Some(kept)) if kept.promise.role == Role::Primary => settle(store),
            (Some(store), Some(_)) => {
                if let Some(salvage) = store.unsettled() {
                    machine.recall(Resynced::Done(salvage));
                }
            }
            (_, None) | (None, _) => {}
        }
        let (tell, told) = mpsc::unbounded_channel();
        Ok(Self {
            wire: wire(&config, key),
            socket,
            local,
            machine,
            server: Arc::new(server),
            state: Arc::new(std::sync::Mutex::new(state)),
            kept,
            shown: BTreeMap::new(),
            dropped: Counts::default(),
            allowance: Allowance::new(clock::grantor()),
            silence: Silence::new(config.controller_silence, clock::grantor()),
            actions: Actions::new(Arc::clone(&secrets), Runs::open(&config.state, boot)),
            passed: 0,
            tell,
            told,
            turn: watch::Sender::default(),
            hold_turn: Turn::default(),
            opening: None,
            is_emptying: false,
            draining: None,
            resyncing: None,
            arming: Pending::default(),
            has_looked: false,
            is_stopping: false,
            config,
        })
    }

    /// Guards until `stop` is ready.
    pub async fn run(mut self, stop: impl Future<Output = AtEnd>) {
        tracing::info!(site = %self.config.site, service = %self.config.service, "guarding");
        let looking = tokio::spawn(look(
            Arc::clone(&self.server),
            self.config.renewal,
            self.turn.subscribe(),
            self.tell.clone(),
        ));
        let mut datagram = vec![0; LARGEST + 1];
        let mut supervisor = Supervisor::of_this_process();
        supervisor.ready();
        tokio::pin!(stop);
        loop {
            supervisor.alive();
            self.listen();
            let pause = self.pause().min(supervisor.pause());
            tokio::select! {
                end = &mut stop, if !self.is_stopping => match end {
                    AtEnd::Leave => break,
                    AtEnd::Stop => self.stop(),
                },
                Some(done) = self.told.recv() => {
                    if matches!(done, Done::Stopped) {
                        break;
                    }
                    self.take_in(done);
                }
                heard = self.socket.recv_from(&mut datagram) => match heard {
                    Ok((length, _)) => self.hear(&datagram[..length]),
                    // An answer of the network to something sent before.
                    Err(error) => tracing::debug!(%error, "the wire"),
                },
                asked = self.local.accept() => if let Ok((stream, _)) = asked {
                    status::answer(stream, self.status());
                },
                () = sleep(pause) => self.step(Event::Tick),
            }
        }
        supervisor.stopping();
        looking.abort();
        status::remove(&self.config.state);
        tracing::info!("the guard ends");
    }

    /// How long until the machine wants to be asked again.
    fn pause(&self) -> Duration {
        let now = clock::now();
        let wake = self.machine.wake(now).since(now.holder).to_std();
        wake.clamp(TICK, self.config.renewal.to_std().max(TICK))
    }

    /// Tells the machine, and makes what it wants.
    fn step(&mut self, event: Event) {
        self.answer(event, Ways::Both);
    }

    /// The same; answers go these ways.
    fn answer(&mut self, event: Event, ways: Ways) {
        let before = self.machine.report();
        let effects = self.machine.step(event, clock::now());
        let after = self.machine.report();
        if !after.is_like(&before) {
            tell_of(&after);
        }
        for effect in effects {
            self.perform(effect, ways);
        }
        if !after.is_like(&before) {
            // Else the controller hears of it when it asks next, or at the next request for a lease.
            self.report(&self.controller(), Ways::Both);
        }
    }

    fn hear(&mut self, datagram: &[u8]) {
        let taken = if Wire::is_to_pass(datagram) {
            self.pass(datagram)
        } else {
            self.take(datagram)
        };
        if let Err(why) = taken {
            self.dropped.note(why);
            tracing::debug!(%why, "a datagram was dropped");
        }
    }

    fn pass(&mut self, datagram: &[u8]) -> Result<(), Dropped> {
        let (to, passed) = self.wire.pass(datagram)?;
        self.allowance.take(clock::grantor())?;
        self.passed += 1;
        self.put(&to, &passed);
        Ok(())
    }

    fn take(&mut self, datagram: &[u8]) -> Result<(), Dropped> {
        let (sender, message, way) = self.wire.open(datagram)?;
        let ways = Ways::Only(way);
        if matches!(sender, Party::Controller(_)) {
            self.controller_spoke();
        }
        if let Some((terms, proof)) = message.shown() {
            self.show(Certificate {
                terms: terms.clone(),
                proof: *proof,
            });
        }
        match message {
            Message::Ask { request, proof } => {
                let terms = request.report.promise.as_ref();
                let terms = terms
                    .and_then(|p| p.terms.clone())
                    .filter(|_| proof.is_some());
                self.answer(Event::Asked(request, terms), ways);
            }
            Message::Grant(grant) => self.step(Event::Granted(grant)),
            Message::Fence(order) => self.answer(Event::Fence(order), ways),
            Message::Promote { order, .. } => self.step(Event::Promote(order)),
            Message::Drain(order) => self.step(Event::Drain(order)),
            Message::Resync(order) => self.step(Event::Resync(order)),
            Message::Act(order) => self.act(order, ways),
            Message::Recall(query) => self.recall(query, ways),
            Message::Look => self.report(&sender, ways),
            // Guards are told these by nobody who means it.
            Message::Fenced(_) | Message::Report { .. } | Message::Acted { .. } => {}
        }
        Ok(())
    }

    /// Remembers a certificate until it is promised.
    fn show(&mut self, certificate: Certificate) {
        let promised = self.kept.as_ref().map_or(Epoch(0), |k| k.promise.epoch);
        self.shown.retain(|epoch, _| *epoch >= promised);
        if certificate.terms.epoch >= promised {
            self.shown.insert(certificate.terms.epoch, certificate);
        }
    }

    /// The controller's certificate of a promise's terms.
    fn certificate(&self, promise: &Promise) -> Option<Certificate> {
        let terms = promise.terms.as_ref()?;
        let kept = self.kept.as_ref().and_then(|k| k.certificate.as_ref());
        self.shown
            .get(&terms.epoch)
            .into_iter()
            .chain(kept)
            .find(|c| c.terms == *terms)
            .cloned()
    }

    fn report(&self, to: &Party, ways: Ways) {
        let message = Message::Report {
            at: clock::now().holder,
            report: self.machine.report(),
        };
        self.send(to, &message, ways);
    }

    /// Sends now or never: whoever misses it asks again.
    fn send(&self, to: &Party, message: &Message, ways: Ways) {
        let mut datagram = match self.wire.seal(to, message) {
            Ok(datagram) => datagram,
            Err(error) => {
                tracing::error!(error = %cause::in_full(&error), "a message cannot be sent");
                return;
            }
        };
        if ways.include(Way::Straight) {
            self.put(to, &datagram);
        }
        let third = match to {
            Party::Controller(_) => self
                .config
                .peer
                .as_ref()
                .map(|p| Party::Guard(p.site.clone())),
            Party::Guard(_) => Some(self.controller()),
        };
        if let Some(third) = third.filter(|_| ways.include(Way::Around)) {
            relay::mark(&mut datagram);
            self.put(&third, &datagram);
        }
    }

    fn put(&self, to: &Party, datagram: &[u8]) {
        let peer = self.config.peer.as_ref();
        let address = match to {
            Party::Controller(_) => Some(self.config.controller.address),
            Party::Guard(site) => peer.filter(|p| p.site == *site).map(|p| p.address),
        };
        if let Some(address) = address
            && let Err(error) = self.socket.try_send_to(datagram, address)
        {
            tracing::debug!(%error, %to, "a datagram was not sent");
        }
    }

    fn controller(&self) -> Party {
        Party::Controller(self.config.controller.name.clone())
    }

    /// A new turn at the database.
    fn next_turn(&mut self) -> Turn {
        self.turn.send_modify(|turn| turn.0 += 1);
        *self.turn.borrow()
    }
}

/// A site that is to serve again was looked after: nobody is asked any more about what it had.
fn settle(store: &Store) {
    if let Err(error) = store.settle() {
        tracing::error!(
            error = %cause::in_full(&error),
            "it cannot be written down that the salvage is settled: it will be asked about again"
        );
    }
}

/// Looks every renewal, and at once when the database ends; tells what it sees with the turn that was current when it
/// began. That something ended is no news by itself, for a fence or a start may have ended it: the look says what is left.
async fn look(
    server: SharedServer,
    renewal: Span,
    mut turn: watch::Receiver<Turn>,
    tell: mpsc::UnboundedSender<Done>,
) {
    let mut session = None;
    let mut trouble = None;
    let mut between = tokio::time::interval(renewal.to_std());
    between.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = between.tick() => {}
            () = server.ended() => {}
            // Another one may run now, whose end counts.
            Ok(()) = turn.changed() => continue,
        }
        let began = *turn.borrow();
        match server.look(&mut session).await {
            Ok(seen) => {
                trouble = None;
                if tell.send(Done::Looked(began, seen)).is_err() {
                    return;
                }
            }
            Err(error) => {
                let error = cause::in_full(&error);
                if trouble.as_ref() != Some(&error) {
                    tracing::warn!(%error, "the database cannot be looked at");
                }
                trouble = Some(error);
            }
        }
    }
}

fn wire(config: &Config, key: KeyPair) -> Wire {
    let controller = &config.controller;
    let peer = config.peer.iter();
    let others = peer
        .map(|p| (Party::Guard(p.site.clone()), p.public_key))
        .chain([(
            Party::Controller(controller.name.clone()),
            controller.public_key,
        )]);
    let own = Party::Guard(config.site.clone());
    Wire::new(own, config.service.clone(), key, others)
}

/// How long this host takes to end a database; none, with the reasons in the log, where that cannot be proved.
async fn proved(config: &Config) -> Result<Option<Span>, AgentError> {
    let (uid, gid) = server::identity(config).map_err(ServerError::from)?;
    let folder = config.runtime();
    let trial = Trial {
        folder: folder.with_extension("proof"),
        exe: "/proc/self/exe".into(),
        uid,
        gid,
    };
    let (kill, items) = proof::once_a_boot(&folder, &trial).await;
    for item in items.iter().filter(|i| i.status != CheckStatus::Ok) {
        tracing::warn!(item = %item.name, detail = %item.detail, fix = ?item.fix, "leases cannot be enforced on this host");
    }
    Ok(kill)
}

async fn open_state(folder: PathBuf) -> Result<(State, Option<Kept>), AgentError> {
    let path = folder.clone();
    match tokio::task::spawn_blocking(move || State::start(&folder)).await {
        Ok(started) => Ok(started?),
        Err(e) => Err(AgentError::State(StateError::Use {
            path,
            source: io::Error::other(e),
        })),
    }
}

fn tell_of(report: &crate::model::guard::Report) {
    let promise = report.promise.as_ref();
    tracing::info!(
        epoch = promise.map(|p| p.epoch.0),
        role = ?promise.map(|p| p.role),
        database = ?report.database,
        leased = report.leased,
        can_fence = report.can_fence,
        "the site now"
    );
}
