//! What came of what was begun.

use super::{Agent, Event};
use crate::{
    guard::{
        clock,
        machine::{Resynced, Until},
        server::{Seen, ServerError, Store, Turn},
        state::{Kept, StateError},
    },
    model::{
        action::ActOrder,
        guard::{Database, Lease, Role, Salvage},
        id::ActionName,
        observation::Lsn,
    },
    port::{cause, command::Run},
};

/// Told to the loop by its tasks.
#[derive(Debug)]
pub(super) enum Done {
    /// A look that began in this turn.
    Looked(Turn, Seen),
    /// Dead-man and gate were set for the hold of this turn.
    Armed(Turn, Result<Until, ServerError>),
    /// A start of this turn has armed both.
    Started(Turn, Until),
    /// The database was opened, or could not be.
    Opened(Turn, Database),
    /// The database was ended.
    Emptied(Turn, Result<Option<Lsn>, ServerError>),
    /// The database was stopped in order since this turn, and its log ends there.
    Drained(Turn, Result<Option<Lsn>, ServerError>),
    /// The data was brought into line; or it was not, and whether it is neither the old nor the new now.
    Resynced(Result<Salvage, ServerError>, bool),
    /// A promise was written.
    Written(Result<Box<Kept>, StateError>),
    /// A program of this host has ended.
    Ran(ActionName, Run),
    /// One that the controller asked for has ended.
    Acted(ActOrder, Run),
    /// One that the controller asked for was not begun.
    NotBegun(ActOrder, std::io::Error),
    /// The database was stopped, and the guard may end.
    Stopped,
}

impl Agent {
    pub(super) fn take_in(&mut self, done: Done) {
        match done {
            Done::Looked(turn, seen) => self.looked(turn, seen),
            Done::Armed(turn, armed) => {
                self.arming.is_busy = false;
                self.armed(turn, armed);
                self.arm_next();
            }
            Done::Started(turn, until) => self.armed(turn, Ok(until)),
            Done::Opened(turn, database) => {
                if self.opening.as_ref().is_some_and(|o| o.turn == turn) {
                    self.opening = None;
                    self.next_turn();
                    self.step(Event::Opened(database));
                }
            }
            Done::Emptied(turn, emptied) => {
                if self.hold_turn == turn {
                    self.is_emptying = false;
                    self.next_turn();
                    self.step(match emptied {
                        Ok(end) => Event::Emptied(end),
                        Err(error) => {
                            tracing::error!(
                                error = %cause::in_full(&error),
                                "it is not known whether the database has ended: nothing is acknowledged"
                            );
                            Event::NotEmptied
                        }
                    });
                }
            }
            // What was ended, or opened again, meanwhile has a turn of its own, which this must not overtake.
            Done::Drained(turn, _) if self.draining != Some(turn) => {}
            Done::Drained(_, drained) => {
                self.draining = None;
                let turn = self.next_turn();
                // One that may still run keeps its turn, or its dead-man would never be moved again: the look says what is
                // left.
                if drained.is_ok() {
                    self.hold_turn = turn;
                }
                let end = drained.unwrap_or_else(|error| {
                    tracing::error!(error = %cause::in_full(&error), "the database was not stopped in order");
                    None
                });
                self.step(Event::Drained(end));
            }
            Done::Resynced(resynced, is_half_done) => {
                self.resyncing = None;
                match &resynced {
                    Ok(_) => {}
                    Err(ServerError::CalledOff) => {
                        tracing::warn!(is_half_done, "the resync was broken off");
                    }
                    Err(error) => {
                        tracing::error!(
                            error = %cause::in_full(error), is_half_done,
                            "the data is not in line: the site stays fenced"
                        );
                    }
                }
                self.step(Event::Resynced(match resynced {
                    Ok(salvage) => Resynced::Done(salvage),
                    Err(_) if is_half_done => Resynced::HalfDone,
                    Err(_) => Resynced::Failed,
                }));
            }
            Done::Written(written) => self.written(written),
            Done::Ran(name, run) => self.ran(&name, &run),
            Done::Acted(order, run) => self.acted(&order, &run),
            Done::NotBegun(order, error) => self.not_begun(&order, &error),
            Done::Stopped => {}
        }
    }

    fn written(&mut self, written: Result<Box<Kept>, StateError>) {
        let event = match written {
            Ok(kept) => {
                if kept.promise.role == Role::Primary {
                    self.settle();
                }
                self.kept = Some(*kept);
                Event::Written
            }
            Err(error) => {
                tracing::error!(error = %cause::in_full(&error), "the promise could not be written");
                Event::NotWritten
            }
        };
        self.step(event);
    }

    fn settle(&self) {
        if let Some(resync) = &self.config.database.resync {
            let store = Store::new(&resync.salvage);
            tokio::task::spawn_blocking(move || super::settle(&store));
        }
    }

    fn armed(&mut self, turn: Turn, armed: Result<Until, ServerError>) {
        let is_start = self.opening.as_ref().is_some_and(|o| o.turn == turn);
        match armed {
            Ok(until) => {
                if turn == self.hold_turn && !self.is_emptying {
                    self.step(Event::Armed(until));
                }
            }
            Err(ServerError::CalledOff) => {}
            Err(error) if is_start => {
                tracing::debug!(error = %cause::in_full(&error), "there is nothing to arm yet");
            }
            Err(error) => {
                tracing::warn!(error = %cause::in_full(&error), "dead-man and gate were not moved");
            }
        }
    }

    /// A look counts where nothing was begun or ended at the database since it began.
    fn looked(&mut self, turn: Turn, seen: Seen) {
        let is_under_way = self.opening.is_some() || self.is_emptying;
        if is_under_way || turn != *self.turn.borrow() {
            return;
        }
        // What is being armed for one that is gone says nothing any more. Before any step: one may begin to end what runs,
        // in a turn of its own, which nothing here may overtake.
        let is_gone = seen.database == Some(Database::Gone);
        if is_gone && self.machine.report().database != Some(Database::Gone) {
            self.hold_turn = self.next_turn();
        }
        self.step(Event::Seen(seen.besides));
        let Some(database) = seen.database else {
            self.step(Event::Silent);
            return;
        };
        if !self.has_looked {
            self.has_looked = true;
            self.found(database, seen);
        }
        self.step(Event::Database(database));
    }

    /// The first look of this life: what an earlier one armed goes on.
    fn found(&mut self, database: Database, seen: Seen) {
        let promise = self.kept.as_ref().map(|k| &k.promise);
        let is_standby = promise.is_some_and(|p| p.role == Role::Standby);
        let is_endless = promise.is_some_and(|p| {
            p.role == Role::Primary && p.terms.as_ref().map(|t| t.lease) == Some(Lease::Unbounded)
        });
        match (database, seen.armed) {
            (Database::Following | Database::Writable, Some(at)) => {
                self.step(Event::Armed(Until::At(clock::time(at))));
            }
            // Without a timer only an epoch without an end lets it run on.
            (Database::Writable, None) if is_endless => self.step(Event::Armed(Until::Never)),
            (Database::Following, None) if is_standby => {
                let (server, turn) = (std::sync::Arc::clone(&self.server), self.hold_turn);
                tokio::spawn(async move {
                    if let Err(error) = server.admit(turn).await {
                        tracing::warn!(error = %cause::in_full(&error), "the gate was not opened for readers");
                    }
                });
            }
            (Database::Gone, _) | (Database::Following | Database::Writable, None) => {}
        }
    }
}
