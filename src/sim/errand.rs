//! Errands: what people and the controller's supervisor do.

use super::{site::Power, world::World};
use crate::{
    decide::event::Command,
    model::{
        approval::AskSubject,
        id::{AskId, PersonName},
        span::Span,
    },
};

/// What somebody does.
#[derive(Clone, Debug)]
pub enum Errand {
    /// The supervisor starts the controller.
    Start,
    /// A person answers a question.
    Answer(Answer),
    /// A person looks at what is open, answers all of it, and acknowledges.
    LookAfter,
    /// A person restores the journal from its copy on another host, for the first time or again.
    Restore,
    /// The person puts the takeover into the copy.
    Claim,
    /// Another replica looks whether the Lease is to be taken.
    Elect,
    /// The supervisor starts the controller again that was taken over from, on its own disk.
    Return,
}

/// A person's answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// To which question.
    pub ask: AskId,
    /// Whose.
    pub by: PersonName,
    /// Yes, or no.
    pub yes: bool,
    /// Whether it says that the old primary is off.
    pub attests: bool,
}

/// The longest time that a person takes to answer.
const LATEST: u64 = 240_000;

/// What people will answer to a question, and when: late, never, or twice.
pub fn answers(world: &mut World, ask: &AskId, subject: &AskSubject) -> Vec<(Span, Answer)> {
    let people = world.scenario.service.approvals.approvers.clone();
    let attention = world.scenario.attention;
    let attests = matches!(subject, AskSubject::Fence { .. });
    let mut out = Vec::new();
    for by in people {
        if !world.chance.percent(attention) {
            continue;
        }
        let yes = world.chance.percent(85);
        let times = if world.chance.percent(15) { 2 } else { 1 };
        for _ in 0..times {
            let after = world.chance.millis(2_000, LATEST);
            let answer = Answer {
                ask: ask.clone(),
                by: by.clone(),
                yes,
                attests,
            };
            out.push((after, answer));
        }
    }
    out
}

impl Answer {
    /// The command that gives it. Whoever attests has pulled the plug before, unless he is careless.
    pub fn command(self, world: &mut World) -> Command {
        if self.yes && self.attests {
            world.pull_plug();
        }
        if self.yes {
            Command::Approve {
                ask: Some(self.ask),
                by: self.by,
                user: None,
                reason: Some("I have seen to it".to_owned()),
                break_glass: false,
            }
        } else {
            Command::Deny {
                ask: Some(self.ask),
                by: self.by,
                reason: None,
            }
        }
    }
}

impl World {
    fn pull_plug(&mut self) {
        let Some(from) = self.watchman.leaves() else {
            return;
        };
        self.notice();
        if self.scenario.careless {
            self.watchman.lied |= self.sites[from].may_take_writes();
        } else {
            self.sites[from].power = Power::Off;
            self.powered(from, false);
        }
        self.trace
            .note(self.now, 8, || format!("a person sees to site-{from}"));
        self.look_around();
    }
}
