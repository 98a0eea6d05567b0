//! The service manager that started this process, where there is one that listens (`NOTIFY_SOCKET`, as systemd has it).

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// What is told to the service supervisor.
#[derive(Debug)]
pub struct Supervisor {
    /// How often it wants to hear that the process is alive.
    every: Option<Duration>,
    last: Option<Instant>,
}

impl Supervisor {
    /// The one that the environment names; all that is told is lost where it names none.
    #[must_use]
    pub fn of_this_process() -> Self {
        // Half of what it allows, as it recommends.
        let every = sd_notify::watchdog_enabled().map(|allowed| allowed / 2);
        Self { every, last: None }
    }

    /// The process does what it is for.
    pub fn ready(&self) {
        tell(&[NotifyState::Ready]);
    }

    /// It is about to end.
    pub fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }

    /// Its main loop turns: told as often as it is wanted, however often this is called.
    pub fn alive(&mut self) {
        let Some(every) = self.every else { return };
        if self.last.is_none_or(|last| last.elapsed() >= every) {
            self.last = Some(Instant::now());
            tell(&[NotifyState::Watchdog]);
        }
    }

    /// After so long at most the loop has to turn again.
    #[must_use]
    pub fn pause(&self) -> Duration {
        self.every.unwrap_or(Duration::from_hours(1))
    }
}

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::debug!(%error, "the service manager was not told");
    }
}
