//! How programs end, and what that means for a step.

use std::collections::BTreeMap;

use nix::sys::signal::Signal;

use crate::model::{
    span::Span,
    step::{Presence, Proof, StepResult},
};

/// Exit status for "it may or may not have happened": `EX_TEMPFAIL` of sysexits.
const INDETERMINATE: i32 = 75;
/// How a program ended, and what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// How it ended.
    pub ending: Ending,
    /// Its `failover: key=value` lines.
    pub facts: BTreeMap<String, String>,
    /// The last of what it said, without secrets; may be empty.
    pub said: String,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With an exit status.
    Exited(i32),
    /// By a signal.
    Signalled(i32),
    /// Killed at the time-out.
    TimedOut(Span),
    /// It could not be started.
    NotStarted(String),
    /// A secret that it was to get cannot be read; it was not started.
    NoSecret(String),
}

impl Run {
    pub(super) fn unstarted(ending: Ending) -> Self {
        Self {
            ending,
            facts: BTreeMap::new(),
            said: String::new(),
        }
    }

    /// In one sentence: what happened, and what it said.
    #[must_use]
    pub fn told(&self) -> String {
        let what = match &self.ending {
            Ending::Exited(126) => "exit status 126: it cannot be executed".to_owned(),
            Ending::Exited(127) => "exit status 127: a program was not found".to_owned(),
            Ending::Exited(code) => format!("exit status {code}"),
            Ending::Signalled(signal) => match Signal::try_from(*signal) {
                Ok(signal) => format!("ended by {signal}"),
                Err(_) => format!("ended by signal {signal}"),
            },
            Ending::TimedOut(after) => format!("killed: no end within {after}"),
            Ending::NotStarted(why) | Ending::NoSecret(why) => why.clone(),
        };
        if self.said.is_empty() {
            what
        } else {
            format!("{what}: {}", self.said)
        }
    }

    /// What it means for `perform` and `undo`.
    #[must_use]
    pub fn result(self) -> StepResult {
        match self.ending {
            Ending::Exited(0) => StepResult::Done(self.proof()),
            // Without its secret nothing was run: whatever was there before is still there.
            Ending::Exited(1) | Ending::NoSecret(_) => StepResult::failed(self.told()),
            Ending::Exited(INDETERMINATE) => {
                StepResult::indeterminate(format!("it cannot tell itself: {}", self.told()))
            }
            Ending::Exited(_)
            | Ending::Signalled(_)
            | Ending::TimedOut(_)
            | Ending::NotStarted(_) => StepResult::indeterminate(self.told()),
        }
    }

    /// What it means for `observe`.
    #[must_use]
    pub fn presence(self) -> Presence {
        match self.ending {
            Ending::Exited(0) => Presence::InPlace(self.proof()),
            Ending::Exited(1) => Presence::absent(self.told()),
            Ending::Exited(_)
            | Ending::Signalled(_)
            | Ending::TimedOut(_)
            | Ending::NotStarted(_)
            | Ending::NoSecret(_) => Presence::unknown(self.told()),
        }
    }

    fn proof(self) -> Proof {
        Proof {
            summary: if self.said.is_empty() {
                "the command says so".to_owned()
            } else {
                format!("the command says: {}", self.said)
            },
            facts: self.facts,
            rung: None,
        }
    }
}
