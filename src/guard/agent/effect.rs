//! What the machine wants, made: sent at once, or begun in a task that answers.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::{Agent, Done};
use crate::{
    guard::{
        machine::{Effect, Until},
        server::{CallOff, ServerError, SharedServer, Turn},
        state::Kept,
        wire::{Message, Party, Ways},
    },
    model::{
        guard::{Database, LeaseRequest, Promise},
        id::Epoch,
    },
    port::cause,
};

/// The least time that an opening in vain takes, so that a server that fails at once is not started without a pause.
const IN_VAIN: Duration = Duration::from_secs(1);

/// A server that is being opened.
pub(super) struct Opening {
    pub(super) turn: Turn,
    off: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// The moment that is being set, and the one to be set after it: only the newest counts.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) is_busy: bool,
    next: Option<(Until, Turn)>,
}

impl Agent {
    /// Makes an effect; an answer goes these ways.
    pub(super) fn perform(&mut self, effect: Effect, ways: Ways) {
        match effect {
            Effect::Ask(request) => self.ask(request),
            Effect::Grant(site, grant) => {
                self.send(&Party::Guard(site), &Message::Grant(grant), ways);
            }
            Effect::Acknowledge(ack) => {
                tracing::info!(epoch = ack.epoch.0, "the fence is acknowledged");
                self.send(&self.controller(), &Message::Fenced(ack), ways);
            }
            Effect::Write(promise) => self.write(promise),
            Effect::Empty => self.empty(),
            Effect::Arm(until) => {
                self.arming.next = Some((until, self.hold_turn));
                self.arm_next();
            }
            // What is stopped in order must not come up again.
            Effect::Start(_)
            | Effect::Promote
            | Effect::Follow
            | Effect::Drain
            | Effect::Resync
                if self.is_stopping => {}
            Effect::Start(until) => self.start_primary(until),
            Effect::Promote => self.open(Kind::Promote),
            Effect::Follow => self.open(Kind::Follow),
            Effect::Drain => self.drain(),
            Effect::Resync => self.resync(),
            Effect::BreakOff => self.break_off(),
        }
    }

    fn drain(&mut self) {
        tracing::warn!("the database is stopped in order");
        let turn = self.next_turn();
        self.draining = Some(turn);
        let (server, tell) = (Arc::clone(&self.server), self.tell.clone());
        tokio::spawn(async move {
            let _ = tell.send(Done::Drained(turn, server.drain().await));
        });
    }

    fn resync(&mut self) {
        let epoch = self.kept.as_ref().map_or(Epoch(0), |k| k.promise.epoch);
        tracing::warn!(epoch = epoch.0, "the data is brought into line");
        let (off, called) = CallOff::new();
        self.resyncing = Some(off);
        let (server, tell) = (Arc::clone(&self.server), self.tell.clone());
        tokio::spawn(async move {
            let resynced = server.resync(epoch, &called).await;
            let is_half_done = resynced.is_err() && server.is_half_done();
            let _ = tell.send(Done::Resynced(resynced, is_half_done));
        });
    }

    fn break_off(&mut self) {
        if let Some(off) = self.resyncing.take() {
            tracing::warn!("the resync is broken off: another order came");
            let _ = off.send(true);
        }
    }

    fn ask(&self, request: LeaseRequest) {
        let promise = request.report.promise.as_ref();
        let certificate = promise.and_then(|p| self.certificate(p));
        let deputy = certificate.as_ref().and_then(|c| c.terms.deputy.clone());
        let message = Message::Ask {
            request,
            proof: certificate.map(|c| c.proof),
        };
        self.send(&self.controller(), &message, Ways::Both);
        if let Some(deputy) = deputy {
            self.send(&Party::Guard(deputy), &message, Ways::Both);
        }
    }

    fn write(&mut self, promise: Promise) {
        let kept = Kept {
            certificate: self.certificate(&promise),
            promise,
        };
        let (state, tell) = (Arc::clone(&self.state), self.tell.clone());
        tokio::task::spawn_blocking(move || {
            let written = match state.lock() {
                Ok(mut state) => state.write(&kept),
                Err(_) => Err(crate::guard::state::StateError::Broken),
            };
            let _ = tell.send(Done::Written(written.map(|()| Box::new(kept))));
        });
    }

    fn empty(&mut self) {
        let turn = self.next_turn();
        self.hold_turn = turn;
        self.is_emptying = true;
        self.draining = None;
        self.arming.next = None;
        let opening = self.opening.take().map(Opening::call_off);
        let (server, tell) = (Arc::clone(&self.server), self.tell.clone());
        tracing::warn!("the database is ended");
        tokio::spawn(async move {
            let emptied = server.empty(turn, opening).await;
            let _ = tell.send(Done::Emptied(turn, emptied));
        });
    }

    /// Sets the moment that is to be set, where none is being set.
    pub(super) fn arm_next(&mut self) {
        if self.arming.is_busy {
            return;
        }
        let Some((until, turn)) = self.arming.next.take() else {
            return;
        };
        self.arming.is_busy = true;
        let (server, tell) = (Arc::clone(&self.server), self.tell.clone());
        tokio::spawn(async move {
            let armed = server.arm(until, turn).await;
            let _ = tell.send(Done::Armed(turn, armed.map(|()| until)));
        });
    }

    fn start_primary(&mut self, until: Until) {
        self.open(Kind::Start(until));
    }

    fn open(&mut self, kind: Kind) {
        // Only one that follows can be under way still: the machine had orders meanwhile.
        let before = self.opening.take().map(Opening::call_off);
        let turn = self.next_turn();
        self.draining = None;
        if !matches!(kind, Kind::Promote) {
            self.hold_turn = turn;
        }
        let (off, called) = CallOff::new();
        let work = Work {
            server: Arc::clone(&self.server),
            kind,
            turn,
            tell: self.tell.clone(),
        };
        tracing::info!(?kind, "the database is opened");
        let task = tokio::spawn(async move {
            if let Some(before) = before {
                let _ = before.await;
            }
            work.run(called).await;
        });
        self.opening = Some(Opening { turn, off, task });
    }

    /// Stops the database in its own order, while leases are renewed; then the guard ends.
    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
        let opening = self.opening.take().map(Opening::call_off);
        let (server, tell) = (Arc::clone(&self.server), self.tell.clone());
        tokio::spawn(async move {
            if let Some(opening) = opening {
                let _ = opening.await;
            }
            if let Err(error) = server.stop().await {
                tracing::error!(error = %cause::in_full(&error), "the database could not be stopped");
            }
            let _ = tell.send(Done::Stopped);
        });
    }
}

impl Opening {
    fn call_off(self) -> JoinHandle<()> {
        let _ = self.off.send(true);
        self.task
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Start(Until),
    Promote,
    Follow,
}

struct Work {
    server: SharedServer,
    kind: Kind,
    turn: Turn,
    tell: tokio::sync::mpsc::UnboundedSender<Done>,
}

impl Work {
    async fn run(self, off: CallOff) {
        let began = Instant::now();
        let opened = match self.kind {
            Kind::Start(until) => {
                let armed = || {
                    let _ = self.tell.send(Done::Started(self.turn, until));
                };
                self.server.start(until, self.turn, &off, armed).await
            }
            Kind::Promote => self.server.promote(&off).await,
            Kind::Follow => self.server.follow(self.turn, &off).await,
        };
        let database = match opened {
            Ok(database) => database,
            // Whoever called it off does not wait for an answer.
            Err(ServerError::CalledOff) => return,
            Err(error) => {
                tracing::error!(error = %cause::in_full(&error), "the database was not opened");
                self.left().await
            }
        };
        let in_vain = match self.kind {
            Kind::Start(_) | Kind::Promote => database != Database::Writable,
            Kind::Follow => database != Database::Following,
        };
        let rested = sleep_until(began + IN_VAIN);
        if in_vain && off.unless(rested).await.is_err() {
            return;
        }
        let _ = self.tell.send(Done::Opened(self.turn, database));
    }

    /// What runs after an opening that failed; the worst where it cannot be told.
    async fn left(&self) -> Database {
        let seen = self.server.look(&mut None).await;
        seen.ok()
            .and_then(|seen| seen.database)
            .unwrap_or(Database::Writable)
    }
}
