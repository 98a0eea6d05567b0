//! Programs that this host's own document names: one at a time, bounded, and without a shell.

use std::collections::VecDeque;

use super::{Agent, Done};
use crate::{
    guard::clock,
    model::{id::ActionName, silence::Silent},
    port::{
        command::{Command, Context, Ending, Run, Why},
        secret::SharedSecrets,
    },
};

/// What is run, and what is to be run after it.
pub(super) struct Actions {
    secrets: SharedSecrets,
    is_busy: bool,
    waiting: VecDeque<(ActionName, Why)>,
}

impl Actions {
    pub(super) fn new(secrets: SharedSecrets) -> Self {
        Self {
            secrets,
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
        let (service, site) = (&self.config.service, &self.config.site);
        let context = Context::of_guard(service, site, &name, &why, program.timeout);
        let command = Command {
            argv: program.command.clone(),
            env: program.env.clone(),
            secrets: self.actions.secrets.clone(),
        };
        self.actions.is_busy = true;
        tracing::info!(action = %name, ?why, "an action of this host is run");
        let (limit, tell) = (program.timeout.to_std(), self.tell.clone());
        tokio::spawn(async move {
            let run = command.run(&context, limit).await;
            let _ = tell.send(Done::Ran(name, run));
        });
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
}
