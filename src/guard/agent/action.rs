//! Programs that this host's own document names: one at a time, bounded, and without a shell.

use std::collections::VecDeque;

use super::{Agent, Done};
use crate::{
    guard::{
        clock,
        config::Program,
        runs::{Runs, Scene, Verdict},
        wire::{Message, Ways},
    },
    model::{
        action::{ActOrder, ActQuery, ActReport, ActState, NotRun},
        id::{ActionName, IdempotencyKey},
        silence::Silent,
    },
    port::{
        command::{Command, Context, Ending, Run, Why},
        secret::SharedSecrets,
    },
};

/// What is run, and what is to be run after it.
pub(super) struct Actions {
    secrets: SharedSecrets,
    runs: Runs,
    is_busy: bool,
    waiting: VecDeque<(ActionName, Why)>,
}

impl Actions {
    pub(super) fn new(secrets: SharedSecrets, runs: Runs) -> Self {
        Self {
            secrets,
            runs,
            is_busy: false,
            waiting: VecDeque::new(),
        }
    }
}

impl Agent {
    /// Something that the controller signed has come.
    pub(super) fn controller_spoke(&mut self) {
        if let Some(silent) = self.silence.hear(clock::grantor()) {
            self.silence_is(silent);
        }
    }

    /// Notices that the controller has been silent.
    pub(super) fn listen(&mut self) {
        if let Some(silent) = self.silence.look(clock::grantor()) {
            self.silence_is(silent);
        }
    }

    fn silence_is(&mut self, silent: Silent) {
        let controller = &self.config.controller.name;
        let why = match silent {
            Silent::Since(lasted) => {
                tracing::error!(
                    %controller,
                    silent = %lasted,
                    "the controller is silent: nobody fails over while it is away. See that it runs, and that UDP passes"
                );
                Why::ControllerSilent
            }
            Silent::Over(lasted) => {
                tracing::warn!(%controller, silent = %lasted, "the controller is heard again");
                Why::ControllerHeard
            }
        };
        if let Some(action) = self.config.on_silence.clone() {
            // Of what nobody could be told in time only the newest is news.
            self.actions.waiting.retain(|(_, before)| *before != why);
            self.actions.waiting.push_back((action, why));
            self.run_next();
        }
    }

    fn run_next(&mut self) {
        if self.actions.is_busy {
            return;
        }
        let Some((name, why)) = self.actions.waiting.pop_front() else {
            return;
        };
        let Some(program) = self.config.actions.get(&name) else {
            return;
        };
        let (command, context) = self.prepared(&name, program, &why);
        self.actions.is_busy = true;
        tracing::info!(action = %name, ?why, "an action of this host is run");
        let (limit, tell) = (program.timeout.to_std(), self.tell.clone());
        tokio::spawn(async move {
            let run = command.run(&context, limit).await;
            let _ = tell.send(Done::Ran(name, run));
        });
    }

    fn prepared(&self, name: &ActionName, program: &Program, why: &Why) -> (Command, Context) {
        let (service, site) = (&self.config.service, &self.config.site);
        let context = Context::of_guard(service, site, name, why, program.timeout);
        let command = Command {
            argv: program.command.clone(),
            env: program.env.clone(),
            secrets: self.actions.secrets.clone(),
        };
        (command, context)
    }

    pub(super) fn ran(&mut self, name: &ActionName, run: &Run) {
        if run.ending == Ending::Exited(0) {
            tracing::info!(action = %name, told = %run.told(), "the action has ended");
        } else {
            tracing::error!(action = %name, told = %run.told(), "the action has failed");
        }
        self.actions.is_busy = false;
        self.run_next();
    }

    /// The controller asks for an action: it is run once, and what became of it is said as often as that is asked.
    pub(super) fn act(&mut self, order: ActOrder, ways: Ways) {
        let verdict = self.actions.runs.judge(
            &order,
            Scene {
                promise: self.kept.as_ref().map(|k| &k.promise),
                is_named: self.config.actions.contains_key(&order.action),
                is_busy: self.actions.is_busy || self.is_stopping,
            },
        );
        let key = order.key.clone();
        let state = match verdict {
            Verdict::Answer(state) => state,
            Verdict::Begin => {
                self.begin(order);
                ActState::Running
            }
        };
        self.say(key, state, ways);
    }

    /// The controller asks what became of one.
    pub(super) fn recall(&self, query: ActQuery, ways: Ways) {
        let is_named = self.config.actions.contains_key(&query.action);
        let state = self.actions.runs.state(&query.key).unwrap_or({
            ActState::NotRun(if is_named {
                NotRun::Unasked
            } else {
                NotRun::Unnamed
            })
        });
        self.say(query.key, state, ways);
    }

    /// Writes down that it begins, and then begins it.
    fn begin(&mut self, order: ActOrder) {
        let Some(program) = self.config.actions.get(&order.action) else {
            return;
        };
        let limit = program.timeout.to_std();
        let why = Why::Asked(order.clone());
        let (command, context) = self.prepared(&order.action, program, &why);
        self.actions.is_busy = true;
        tracing::info!(action = %order.action, key = %order.key, "the controller asks for an action");
        let (page, tell) = (self.actions.runs.begin(&order), self.tell.clone());
        tokio::spawn(async move {
            let kept = tokio::task::spawn_blocking(move || page.keep()).await;
            let done = match kept.unwrap_or_else(|e| Err(std::io::Error::other(e))) {
                Ok(()) => Done::Acted(order, command.run(&context, limit).await),
                Err(error) => Done::NotBegun(order, error),
            };
            let _ = tell.send(done);
        });
    }

    /// An action that the controller asked for has ended.
    pub(super) fn acted(&mut self, order: &ActOrder, run: &Run) {
        let status = match &run.ending {
            Ending::Exited(status) => Some(*status),
            // Nothing was run.
            Ending::NoSecret(_) => Some(1),
            Ending::Signalled(_) | Ending::TimedOut(_) | Ending::NotStarted(_) => None,
        };
        let page = self.actions.runs.end(&order.key, status, &run.told());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = page.keep() {
                tracing::error!(%error, "how an action ended could not be kept: after a restart of this guard it is not known");
            }
        });
        if let Some(state) = self.actions.runs.state(&order.key) {
            self.say(order.key.clone(), state, Ways::Both);
        }
        self.ran(&order.action, run);
    }

    /// Nothing was run: it could not be written down first.
    pub(super) fn not_begun(&mut self, order: &ActOrder, error: &std::io::Error) {
        tracing::error!(action = %order.action, %error, "an action is not run, since it cannot be kept in mind");
        self.actions.runs.forget(&order.key);
        self.say(
            order.key.clone(),
            ActState::NotRun(NotRun::Disk),
            Ways::Both,
        );
        self.actions.is_busy = false;
        self.run_next();
    }

    fn say(&self, key: IdempotencyKey, state: ActState, ways: Ways) {
        let message = Message::Acted {
            site: self.config.site.clone(),
            report: ActReport { key, state },
        };
        self.send(&self.controller(), &message, ways);
    }
}
