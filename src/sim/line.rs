//! The line between a controller and the guards: what they say to each other, over the world's network.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    guard::Drifting,
    network::Party,
    stagehand::lock,
    weakness::Weakness,
    world::{Happening, SharedWorld, World},
};
use crate::{
    driver::guards::{Carrier, Said, Told, Ward},
    guard::wire::{Way, Ways},
    model::{
        guard::{FenceAck, Grant, Grantor, Lease, LeaseRequest, Terms},
        id::{ActionName, Epoch, IdempotencyKey, SiteName},
        lease,
        span::Span,
        time::Time,
    },
    port::guard::{Act, Acted, Guards, Heard, Order},
};

/// How old a datagram may become, in milliseconds.
const OLDEST: u64 = 120_000;

/// What is said.
#[derive(Clone, Debug)]
pub enum Message {
    /// By the controller to a guard, or a grant by a deputy.
    Said(Box<Said>),
    /// By a guard to its deputy: it asks for a lease, and shows the terms.
    Ask(Box<LeaseRequest>, Option<Box<Terms>>),
    /// By a guard to the controller.
    Told(Box<Told>),
    /// To a third one, who is to pass it on.
    Pass(Box<Letter>),
}

/// What is said, on its way.
#[derive(Clone, Debug)]
pub struct Letter {
    /// By whom.
    pub from: Party,
    /// To whom.
    pub to: Party,
    /// Which way it goes, or came.
    pub way: Way,
    /// What.
    pub what: Message,
}

impl Letter {
    /// A letter that goes straight.
    #[must_use]
    pub fn new(from: Party, to: Party, what: Message) -> Self {
        let way = Way::Straight;
        Self {
            from,
            to,
            way,
            what,
        }
    }
}

impl World {
    /// Sends a letter, now or never, by these ways.
    pub fn post(&mut self, letter: Letter, ways: Ways) {
        if ways.include(Way::Around) {
            for third in self.thirds(&letter) {
                let way = Way::Around;
                let passed = Message::Pass(Box::new(Letter {
                    way,
                    ..letter.clone()
                }));
                self.carry(letter.from, Letter::new(letter.from, third, passed));
            }
        }
        if ways.include(Way::Straight) {
            self.carry(letter.from, letter);
        }
    }

    /// A controller opens a letter: what a guard has told it, and by which way; what it is only to pass on, it passes on.
    pub fn reads(&mut self, by: Party, letter: Letter) -> Option<(usize, Told, Way)> {
        match (letter.from, letter.what) {
            (Party::Site(n), Message::Told(told)) => Some((n, *told, letter.way)),
            (_, Message::Pass(letter)) => {
                self.carry(by, *letter);
                None
            }
            (_, Message::Told(_) | Message::Said(_) | Message::Ask(..)) => None,
        }
    }

    /// Who passes a letter on: for a guard and the controller the other guards, for two guards the controller.
    fn thirds(&self, letter: &Letter) -> Vec<Party> {
        if !self.scenario.relays {
            return Vec::new();
        }
        if let (Party::Site(_), Party::Site(_)) = (letter.from, letter.to) {
            let former = self.is_succeeded.then_some(Party::Former);
            return former.into_iter().chain([Party::Controller]).collect();
        }
        let ends = [letter.from, letter.to];
        let guarded = (0..self.sites.len()).filter(|n| self.is_guarded(*n));
        guarded
            .map(Party::Site)
            .filter(|third| !ends.contains(third))
            .collect()
    }

    /// Takes a letter from whoever has it now to its receiver: it may be lost, late, or come twice.
    pub fn carry(&mut self, by: Party, letter: Letter) {
        let leg = self.network.send((by, letter.to), &mut self.chance);
        let Some(arrives) = leg.arrives else { return };
        if let Some(again) = leg.again {
            // A datagram may turn up again when nobody thinks of it any more.
            let late = self.chance.percent(20);
            let most = if late { OLDEST } else { 0 };
            let again = again.saturating_add(self.chance.millis(0, most));
            self.plan(again, Happening::Letter(Box::new(letter.clone())));
        }
        self.plan(arrives, Happening::Letter(Box::new(letter)));
    }
}

impl World {
    /// A controller that does not look at its journal grants whatever it is asked for.
    pub fn grant_blindly(&mut self, n: usize, request: &LeaseRequest) {
        let terms = request
            .report
            .promise
            .as_ref()
            .and_then(|p| p.terms.as_ref());
        let Some(terms) =
            terms.filter(|_| self.scenario.weakness == Some(Weakness::GrantsOldEpoch))
        else {
            return;
        };
        let grant = Said::Grant(Grant {
            epoch: request.epoch,
            boot: request.report.boot,
            sent: request.sent,
            lease: terms.lease,
            by: Grantor::Controller,
            starts: None,
        });
        self.says(n, &grant);
        let what = Message::Said(Box::new(grant));
        self.post(Letter::new(self.speaker, Party::Site(n), what), Ways::Both);
    }
}

/// One process of the controller speaks to the guards.
pub struct Line {
    world: SharedWorld,
    clock: Drifting,
}

impl Line {
    /// By a clock of its own, which nobody steps.
    #[must_use]
    pub fn new(world: &SharedWorld) -> Self {
        let mut held = lock(world);
        let ppm = i64::try_from(held.chance.below(20_001)).unwrap_or(0) - 10_000;
        let shown = i64::try_from(held.chance.below(1_000_000)).unwrap_or(0);
        let clock = Drifting::new(held.now, 1_000_000 + shown, ppm);
        held.referee.controller_starts();
        drop(held);
        Self {
            world: world.clone(),
            clock,
        }
    }
}

impl Carrier for Line {
    fn sites(&self) -> Vec<SiteName> {
        let world = lock(&self.world);
        let guards = world.scenario.service.guards.as_ref();
        guards
            .map(|g| g.sites.keys().cloned().collect())
            .unwrap_or_default()
    }

    fn say(&self, site: &SiteName, what: Said, ways: Ways) {
        let mut world = lock(&self.world);
        let n = world.site_named(site);
        world.says(n, &what);
        let what = Message::Said(Box::new(what));
        let speaker = world.speaker;
        world.post(Letter::new(speaker, Party::Site(n), what), ways);
    }

    fn now(&self) -> Time {
        self.clock.shows(lock(&self.world).now)
    }
}

/// The guards as adapters reach them, through a controller that keeps one rule not.
pub struct Blundering {
    ward: Arc<Ward>,
    line: Arc<Line>,
    began: Time,
}

impl Blundering {
    /// These guards.
    #[must_use]
    pub fn new(ward: Arc<Ward>, line: Arc<Line>) -> Self {
        let began = line.now();
        Self { ward, line, began }
    }

    fn weakness(&self) -> Option<Weakness> {
        lock(&self.line.world).scenario.weakness
    }

    /// What is left to wait where the lease without an end of the epoch before is not left as it has to be.
    fn counted(&self, site: &SiteName, weak: Weakness, left: Option<Span>) -> Option<Span> {
        let terms = self.ward.terms();
        if terms.is_none_or(|t| t.site != *site || t.lease == Lease::Unbounded) {
            return left;
        }
        let longest = self.longest();
        let world = lock(&self.line.world);
        let since = world.now.since(world.referee.entered());
        if weak == Weakness::SoloUnreported {
            left.or(Some(longest.saturating_sub(since)))
        } else if weak == Weakness::SoloUnwaited && world.referee.left_solo() {
            left.map(|_| Span::ZERO)
        } else {
            left
        }
    }

    fn longest(&self) -> Span {
        let world = lock(&self.line.world);
        let guards = world.scenario.service.guards.as_ref();
        guards.map_or(Span::ZERO, |g| lease::wait(g.lease))
    }
}

#[async_trait]
impl Guards for Blundering {
    fn heard(&self, site: &SiteName) -> Option<Heard> {
        self.ward.heard(site)
    }

    fn acknowledged(&self, site: &SiteName) -> Option<FenceAck> {
        let mut ack = self.ward.acknowledged(site)?;
        if self.weakness() == Some(Weakness::AnyAcknowledgement) {
            ack.epoch = Epoch(u64::MAX);
        }
        Some(ack)
    }

    fn left(&self, site: &SiteName) -> Option<Span> {
        let left = self.ward.left(site);
        match self.weakness() {
            Some(Weakness::EndlessForgotten) => Some(left.unwrap_or(Span::ZERO)),
            Some(Weakness::WaitNotRestarted) => {
                let since = self.line.now().since(self.began);
                left.map(|left| left.min(self.longest().saturating_sub(since)))
            }
            Some(Weakness::WaitTooShort) => {
                let half = Span::from_millis(self.longest().as_millis() / 2);
                left.map(|left| left.saturating_sub(half))
            }
            Some(Weakness::NewLeaderAssumesNothing) => {
                let world = lock(&self.line.world);
                let n = world.site_named(site);
                left.map(|left| {
                    if world.referee.has_granted(n) {
                        left
                    } else {
                        Span::ZERO
                    }
                })
            }
            Some(weak @ (Weakness::SoloUnreported | Weakness::SoloUnwaited)) => {
                self.counted(site, weak, left)
            }
            Some(_) | None => left,
        }
    }

    fn terms(&self) -> Option<Terms> {
        self.ward.terms()
    }

    fn order(&self, site: &SiteName, order: Order) {
        self.ward.order(site, order);
    }

    fn act(&self, site: &SiteName, action: &ActionName, key: &IdempotencyKey, act: Act) {
        self.ward.act(site, action, key, act);
    }

    fn acted(&self, site: &SiteName, key: &IdempotencyKey) -> Option<Acted> {
        self.ward.acted(site, key)
    }

    async fn news(&self, within: std::time::Duration) {
        self.ward.news(within).await;
    }
}
