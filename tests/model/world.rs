//! Two sites, a controller and its journal, and everything that may happen to them.

use std::sync::Arc;

use failover::{
    guard::machine::{Effect, Event, Weakness},
    model::{
        guard::{
            Database, DrainOrder, FenceOrder, Lease, Promise, PromoteOrder, ResyncOrder, Role,
            Starts,
        },
        id::Epoch,
        span::Span,
    },
};
use stateright::{Model, Property};

use super::{
    action::{Action, Leader as Who, Proof, Site},
    controller::{Blunder, Journal, Leader, terms},
    faults::Faults,
    host::{Host, NOW},
    network::Network,
};

/// The property that everything is about.
pub const ONE_WRITER: &str = "never two sites that accept writes";

const LEASE: Span = Span::from_millis(2);

/// A rule that is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// By the guards.
    Guard(Weakness),
    /// By the controller.
    Controller(Blunder),
    /// By what the guards stand on.
    Host(Missing),
}

/// What a host lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Missing {
    /// The kernel's timer: only a guard that runs ends a lease.
    Timer,
    /// The fence begins when the lease ends, not before.
    Margin,
    /// The service manager starts the database without a permit.
    Permit,
}

impl Rule {
    /// Every rule with the faults that it takes to see that it is broken.
    pub fn each() -> Vec<(Self, Faults)> {
        use {Blunder as B, Missing as M, Weakness as W};
        let guard = [
            (W::LeaseFromReceipt, Faults::NONE),
            (W::GrantBelowPromise, Faults::NONE),
            (W::AcknowledgedBeforeWritten, Faults::HOLDER_DIES_SLOWLY),
            (W::PermitFromDisk, Faults::NONE),
            (W::DeputyDoesNotWait, Faults::DEPUTY),
            (W::DeputyForgetsAtStart, Faults::DEPUTY_DIES),
            (W::DeputyGrantsBelowPromise, Faults::DEPUTY),
            (W::LostStateVotes, Faults::LOSS),
            (W::LapseAcknowledged, Faults::NONE),
            (W::PromotedBeforeLease, Faults::THREE),
            (W::LeaseKeptAtStart, Faults::HOLDER_DIES_TWICE),
            (W::OldPromoteObeyed, Faults::THREE),
            (W::LeaseLengthened, Faults::NONE),
        ];
        let controller = [
            (B::WaitNotRestarted, Faults::NONE),
            (B::WaitTooShort, Faults::FREEZE),
            (B::NewLeaderAssumesNothing, Faults::TAKEOVER),
            (B::DeposedGrants, Faults::TAKEOVER),
            (B::BlindAppend, Faults::TAKEOVER),
            (B::GrantsOldEpoch, Faults::NONE),
            (B::AnyAcknowledgement, Faults::FOUR),
            (B::TimeoutIsFailure, Faults::THREE),
            (B::WaitByEpoch, Faults::REOPENED),
            (B::UnreachableIsRefused, Faults::NONE),
            (B::SoloNotLeft, Faults::SOLO),
            (B::SoloLeftNoWait, Faults::SOLO),
        ];
        let host = [
            (M::Timer, Faults::HOLDER_DIES),
            (M::Timer, Faults::FREEZE),
            (M::Margin, Faults::FREEZE),
            (M::Permit, Faults::DEATH),
        ];
        guard
            .map(|(w, f)| (Self::Guard(w), f))
            .into_iter()
            .chain(controller.map(|(b, f)| (Self::Controller(b), f)))
            .chain(host.map(|(m, f)| (Self::Host(m), f)))
            .collect()
    }
}

/// What is explored.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    rule: Option<Rule>,
    faults: Faults,
}

/// How things stand.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    hosts: [Arc<Host>; 2],
    journal: Arc<Journal>,
    leader: Arc<Leader>,
    deposed: Option<Arc<Leader>>,
    network: Arc<Network>,
    left: Faults,
    /// A promise on disk was replaced by an older one.
    is_taken_back: bool,
    /// The newest epoch in which a site wrote.
    written: Epoch,
}

impl Plan {
    pub fn new(rule: Option<Rule>, faults: Faults) -> Self {
        Self { rule, faults }
    }

    fn weakness(self) -> Option<Weakness> {
        match self.rule {
            Some(Rule::Guard(weakness)) => Some(weakness),
            Some(Rule::Controller(_) | Rule::Host(_)) | None => None,
        }
    }

    fn blunder(self) -> Option<Blunder> {
        match self.rule {
            Some(Rule::Controller(blunder)) => Some(blunder),
            Some(Rule::Guard(_) | Rule::Host(_)) | None => None,
        }
    }

    fn lacks(self, missing: Missing) -> bool {
        self.rule == Some(Rule::Host(missing))
    }

    /// The first site writes in the first epoch, the second one follows.
    fn begin(self) -> World {
        let lease = if self.faults.is_solo {
            Lease::Unbounded
        } else {
            Lease::Bounded(LEASE)
        };
        let sites = ["a", "b"].map(Into::into);
        let first = terms(Epoch(1), &sites[0], &sites[1], lease);
        let promise = |role| Promise {
            epoch: Epoch(1),
            role,
            terms: Some(first.clone()),
            longest: LEASE,
            starts: Starts(0),
        };
        let journal = Journal {
            epochs: vec![first.clone()],
            fencing: None,
        };
        let is_slow = self.faults.is_slow;
        let is_late = self.lacks(Missing::Margin);
        let mut world = World {
            hosts: [
                Host::new("a", promise(Role::Primary), is_slow, is_late).into(),
                Host::new("b", promise(Role::Standby), is_slow, is_late).into(),
            ],
            leader: Leader::new(&journal, LEASE, None).into(),
            journal: journal.into(),
            deposed: None,
            network: Network::default().into(),
            left: self.faults,
            is_taken_back: false,
            written: Epoch(1),
        };
        for site in 0..2 {
            let sent = world.host(site).start(self.weakness());
            world.post(site, sent);
        }
        // A guard that was just started waits as if it had granted just before.
        for _ in 0..5 {
            world.run_well(self);
        }
        assert_eq!(world.hosts[0].database, Database::Writable);
        assert_eq!(world.hosts[1].database, Database::Following);
        if self.faults.is_failed_over {
            self.fail_over(world)
        } else {
            world
        }
    }

    fn fail_over(self, mut world: World) -> World {
        let mut act = |action| {
            let next = self.next_state(&world, action);
            world = next.unwrap_or_else(|| world.clone());
            world.clone()
        };
        act(Action::OpenFence(Who::Current));
        for _ in 0..4 {
            act(Action::Pass);
        }
        let opened = act(Action::OpenEpoch(Who::Current, 1, Proof::Lease));
        let order = opened.network.promotions.first().expect("an order").clone();
        let asked = act(Action::Promote(1, order));
        let key = asked.network.requests.keys().find(|k| k.0.as_str() == "b");
        let granted = act(Action::AskController(
            Who::Current,
            key.expect("a request").clone(),
        ));
        let key = granted.network.grants.keys().find(|k| k.0.as_str() == "b");
        let done = act(Action::Grant(1, key.expect("a grant").clone()));
        assert_eq!(done.hosts[1].database, Database::Writable);
        done
    }
}

impl World {
    fn host(&mut self, site: Site) -> &mut Host {
        Arc::make_mut(&mut self.hosts[site])
    }

    fn net(&mut self) -> &mut Network {
        Arc::make_mut(&mut self.network)
    }

    /// A unit of time in which everything arrives and is done.
    fn run_well(&mut self, plan: Plan) {
        self.pass(plan);
        let asked: Vec<_> = self.network.requests.keys().cloned().collect();
        for key in asked {
            self.ask(Who::Current, &key, None);
        }
        let granted: Vec<_> = self.network.grants.keys().cloned().collect();
        for key in granted {
            let grant = self.network.grants[&key].clone();
            let sent = self.host(0).tell(Event::Granted(grant));
            self.post(0, sent);
        }
        for site in 0..2 {
            while !self.hosts[site].under_way.is_empty() {
                let sent = self.host(site).complete();
                self.post(site, sent);
            }
        }
    }

    fn pass(&mut self, plan: Plan) {
        Arc::make_mut(&mut self.network).pass();
        Arc::make_mut(&mut self.leader).pass();
        if let Some(deposed) = &mut self.deposed {
            Arc::make_mut(deposed).pass();
        }
        for site in 0..2 {
            let sent = self.host(site).pass(!plan.lacks(Missing::Timer));
            self.post(site, sent);
        }
    }

    fn post(&mut self, from: Site, sent: Vec<Effect>) {
        for effect in sent {
            match effect {
                Effect::Ask(request) => {
                    let shown = self.hosts[from].disk.as_ref().and_then(|p| p.terms.clone());
                    self.net().request(request, shown);
                }
                Effect::Grant(to, grant) => self.net().grant(to, grant),
                Effect::Acknowledge(ack) => {
                    self.net().acknowledgements.insert(ack);
                }
                Effect::Write(_)
                | Effect::Empty
                | Effect::Arm(_)
                | Effect::Start(_)
                | Effect::Promote
                | Effect::Follow
                | Effect::Drain
                | Effect::Resync
                | Effect::BreakOff => {}
            }
        }
    }

    fn ask(
        &mut self,
        who: Who,
        key: &(
            failover::model::id::SiteName,
            Epoch,
            failover::model::guard::Boot,
        ),
        blunder: Option<Blunder>,
    ) {
        let Some((request, _)) = self.network.requests.get(key).cloned() else {
            return;
        };
        let leader = match who {
            Who::Current => {
                let leader = Arc::make_mut(&mut self.leader);
                leader.seen = (*self.journal).clone();
                leader
            }
            Who::Deposed => match &mut self.deposed {
                Some(leader) => Arc::make_mut(leader),
                None => return,
            },
        };
        if let Some(grant) = leader.grant(&request, blunder) {
            self.net().grant(request.report.site.clone(), grant);
        }
    }

    fn acknowledged(&self, epoch: Epoch, blunder: Option<Blunder>) -> bool {
        let old = &self.journal.newest().site;
        self.network.acknowledgements.iter().any(|ack| {
            ack.site == *old && (ack.epoch >= epoch || blunder == Some(Blunder::AnyAcknowledgement))
        })
    }

    /// Which proof lets the next epoch go to a site.
    fn proof(&self, who: Who, to: Site, blunder: Option<Blunder>) -> Option<Proof> {
        let (journal, leader) = match (who, &self.deposed) {
            (Who::Current, _) => (&*self.journal, &*self.leader),
            (Who::Deposed, Some(deposed)) => (&deposed.seen, &**deposed),
            (Who::Deposed, None) => return None,
        };
        let old = &journal.newest().site;
        let is_first = journal.epochs.len() == 1;
        if self.hosts[to].site == *old {
            return (who == Who::Current && self.left.is_reopened).then_some(Proof::Same);
        }
        let taken_for_failed = blunder == Some(Blunder::TimeoutIsFailure) && !is_first;
        if blunder == Some(Blunder::UnreachableIsRefused) || taken_for_failed {
            return Some(Proof::None);
        }
        let epoch = journal.fencing?;
        if self.acknowledged(epoch, blunder) {
            Some(Proof::Acknowledged)
        } else {
            leader.is_over(old, blunder).then_some(Proof::Lease)
        }
    }

    fn open(&mut self, who: Who, to: Site, proof: Proof, blunder: Option<Blunder>) {
        let epoch = self.journal.newest().epoch.next();
        let other = self.hosts[1 - to].site.clone();
        let old = self.journal.newest().site.clone();
        let terms = terms(epoch, &self.hosts[to].site, &other, Lease::Bounded(LEASE));
        let journal = Arc::make_mut(&mut self.journal);
        journal.epochs.push(terms.clone());
        journal.fencing = None;
        let journal = journal.clone();
        let leader = match (who, &mut self.deposed) {
            (Who::Deposed, Some(deposed)) => Arc::make_mut(deposed),
            (Who::Current | Who::Deposed, _) => Arc::make_mut(&mut self.leader),
        };
        leader.seen = journal;
        leader.grants.opened(&terms);
        if proof == Proof::Acknowledged {
            leader.grants.left_endless(&old);
        }
        if blunder == Some(Blunder::WaitByEpoch) {
            leader.grants =
                failover::decide::grant::Grants::new(super::controller::LONG_AGO, LEASE);
        }
        let boot = self.hosts[to].boot();
        self.net().promotions.insert(PromoteOrder {
            terms,
            acknowledged: proof == Proof::Acknowledged,
            boot: Some(boot),
        });
    }

    fn note_promises(&mut self, before: &[Option<Promise>; 2]) {
        for (host, before) in self.hosts.iter().zip(before) {
            if let (Some(now), Some(before)) = (&host.disk, before) {
                self.is_taken_back |= now.epoch < before.epoch;
            }
            if host.may_write() {
                self.written = self.written.max(host.epoch);
            }
        }
    }
}

impl Model for Plan {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![self.begin()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        actions.push(Action::Pass);
        for (site, host) in world.hosts.iter().enumerate() {
            if !host.under_way.is_empty() && !host.is_frozen {
                actions.push(Action::Complete(site));
            }
            if host.is_up() {
                self.deliveries(world, site, actions);
            }
            self.faults_at(world, site, actions);
        }
        for key in world.network.requests.keys() {
            actions.push(Action::AskController(Who::Current, key.clone()));
            if world.deposed.is_some() {
                actions.push(Action::AskController(Who::Deposed, key.clone()));
            }
        }
        if (world.journal.epochs.len() as u64) < world.left.epochs {
            if world.journal.fencing.is_none() {
                actions.push(Action::OpenFence(Who::Current));
            }
            let appends_blindly = self.blunder() == Some(Blunder::BlindAppend);
            if appends_blindly
                && world
                    .deposed
                    .as_ref()
                    .is_some_and(|d| d.seen.fencing.is_none())
            {
                actions.push(Action::OpenFence(Who::Deposed));
            }
            for to in 0..2 {
                if let Some(proof) = world.proof(Who::Current, to, self.blunder()) {
                    actions.push(Action::OpenEpoch(Who::Current, to, proof));
                }
                if appends_blindly
                    && let Some(proof) = world.proof(Who::Deposed, to, self.blunder())
                {
                    actions.push(Action::OpenEpoch(Who::Deposed, to, proof));
                }
            }
        }
        if world.left.takeovers > 0 {
            actions.push(Action::TakeOver);
        }
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        let mut world = before.clone();
        let disks = [0, 1].map(|site| world.hosts[site].disk.clone());
        match action {
            Action::Pass => world.pass(*self),
            Action::Complete(site) => {
                let sent = world.host(site).complete();
                world.post(site, sent);
            }
            Action::AskController(who, key) => world.ask(who, &key, self.blunder()),
            Action::AskDeputy(site, key) => {
                let (request, shown) = world.network.requests.get(&key)?.clone();
                let sent = world.host(site).tell(Event::Asked(request, shown));
                world.post(site, sent);
            }
            Action::Grant(site, key) => {
                let grant = world.network.grants.get(&key)?.clone();
                let sent = world.host(site).tell(Event::Granted(grant));
                world.post(site, sent);
            }
            Action::Fence(site, order) => {
                let sent = world.host(site).tell(Event::Fence(order));
                world.post(site, sent);
            }
            Action::Drain(site, hold) => {
                world.left.drains -= 1;
                let host = world.host(site);
                let promise = host.disk.as_ref();
                let order = DrainOrder {
                    epoch: promise.map_or(Epoch(0), |p| p.epoch),
                    boot: host.boot(),
                    asked: NOW.holder,
                    hold,
                };
                let sent = host.tell(Event::Drain(order));
                world.post(site, sent);
            }
            Action::Resync(site) => {
                world.left.drains -= 1;
                let host = world.host(site);
                let promise = host.disk.as_ref();
                let order = ResyncOrder {
                    epoch: promise.map_or(Epoch(0), |p| p.epoch),
                    boot: host.boot(),
                };
                let sent = host.tell(Event::Resync(order));
                world.post(site, sent);
            }
            Action::Promote(site, order) => {
                let sent = world.host(site).tell(Event::Promote(order));
                world.post(site, sent);
            }
            Action::OpenFence(who) => {
                let journal = match (who, &mut world.deposed) {
                    (Who::Deposed, Some(deposed)) => &mut Arc::make_mut(deposed).seen,
                    (Who::Current | Who::Deposed, _) => Arc::make_mut(&mut world.journal),
                };
                let epoch = journal.newest().epoch.next();
                journal.fencing = Some(epoch);
                let old = journal.newest().site.clone();
                let boot = world.hosts.iter().find(|h| h.site == old).map(|h| h.boot());
                world.net().fences.insert((
                    old,
                    FenceOrder {
                        epoch,
                        boot,
                        drained: false,
                    },
                ));
            }
            Action::OpenEpoch(who, to, proof) => world.open(who, to, proof, self.blunder()),
            Action::TakeOver => {
                world.left.takeovers -= 1;
                let new = Leader::new(&world.journal, LEASE, self.blunder());
                let mut old = std::mem::replace(&mut world.leader, Arc::new(new));
                Arc::make_mut(&mut old).leads = false;
                world.deposed = Some(old);
            }
            Action::DatabaseDies(site) => {
                world.left.deaths -= 1;
                world.host(site).end();
                let sent = world.host(site).tell(Event::Database(Database::Gone));
                world.post(site, sent);
            }
            Action::GuardDies(site) => {
                world.left.guard_deaths -= 1;
                world.host(site).guard = None;
                world.host(site).is_frozen = false;
            }
            Action::HostDies(site) => {
                world.left.deaths -= 1;
                world.host(site).guard = None;
                world.host(site).is_frozen = false;
                world.host(site).under_way.clear();
                world.host(site).end();
            }
            Action::GuardStarts(site) => {
                let sent = world.host(site).start(self.weakness());
                world.post(site, sent);
            }
            Action::Freeze(site) => {
                world.left.freezes -= 1;
                world.host(site).is_frozen = true;
            }
            Action::Thaw(site) => {
                world.host(site).is_frozen = false;
                let sent = world.host(site).tell(Event::Tick);
                world.post(site, sent);
            }
            Action::StateLost(site) => {
                world.left.losses -= 1;
                world.host(site).disk = None;
            }
            Action::StartedByHand(site) => {
                world.host(site).database = Database::Writable;
                let sent = world.host(site).tell(Event::Database(Database::Writable));
                world.post(site, sent);
            }
        }
        world.note_promises(&disks);
        (world != *before).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(ONE_WRITER, |_: &Self, w: &World| {
                !(w.hosts[0].may_write() && w.hosts[1].may_write())
            }),
            Property::always("an acknowledged fence stays true", |_, w: &World| {
                w.network.acknowledgements.iter().all(|ack| {
                    w.hosts
                        .iter()
                        .all(|h| h.site != ack.site || !h.may_write() || h.epoch >= ack.epoch)
                })
            }),
            Property::always("nobody writes in an older epoch again", |_, w: &World| {
                w.hosts
                    .iter()
                    .all(|h| !h.may_write() || h.epoch >= w.written)
            }),
            Property::always("a promise is never taken back", |_, w: &World| {
                !w.is_taken_back
            }),
        ];
        if self.rule.is_none() {
            properties.push(Property::sometimes(
                "the standby writes in the second epoch",
                |_, w: &World| w.hosts[1].may_write() && w.hosts[1].epoch == Epoch(2),
            ));
        }
        properties
    }
}

impl Plan {
    fn deliveries(&self, world: &World, site: Site, actions: &mut Vec<Action>) {
        let me = &world.hosts[site].site;
        let network = &world.network;
        if self.faults.has_deputy {
            for key in network.requests.keys().filter(|k| k.0 != *me) {
                actions.push(Action::AskDeputy(site, key.clone()));
            }
        }
        for key in network.grants.keys().filter(|k| k.0 == *me) {
            actions.push(Action::Grant(site, key.clone()));
        }
        for (_, order) in network.fences.iter().filter(|(to, _)| to == me) {
            actions.push(Action::Fence(site, order.clone()));
            if self.faults.drains > 0 {
                let drained = FenceOrder {
                    drained: true,
                    ..order.clone()
                };
                actions.push(Action::Fence(site, drained));
            }
        }
        for order in network.promotions.iter().filter(|o| o.terms.site == *me) {
            actions.push(Action::Promote(site, order.clone()));
        }
    }

    fn faults_at(&self, world: &World, site: Site, actions: &mut Vec<Action>) {
        let host = &world.hosts[site];
        let left = world.left;
        if left.deaths > 0 {
            if host.database != Database::Gone {
                actions.push(Action::DatabaseDies(site));
            }
            actions.push(Action::HostDies(site));
        }
        let is_mortal = left.mortal.is_none_or(|only| only == site);
        if is_mortal && left.guard_deaths > 0 && host.guard.is_some() {
            actions.push(Action::GuardDies(site));
        }
        if host.guard.is_none() {
            actions.push(Action::GuardStarts(site));
            if left.losses > 0 {
                actions.push(Action::StateLost(site));
            }
        }
        if left.drains > 0 && host.is_up() {
            match host.disk.as_ref().map(|p| p.role) {
                Some(Role::Primary) => {
                    actions.push(Action::Drain(site, Span::from_millis(2)));
                    actions.push(Action::Drain(site, Span::ZERO));
                }
                Some(Role::Fenced) => actions.push(Action::Resync(site)),
                Some(Role::Standby) | None => {}
            }
        }
        if host.is_frozen {
            actions.push(Action::Thaw(site));
        } else if left.freezes > 0 && host.guard.is_some() {
            actions.push(Action::Freeze(site));
        }
        let is_primary = host.disk.as_ref().is_some_and(|p| p.role == Role::Primary);
        if self.lacks(Missing::Permit) && is_primary && host.database == Database::Gone {
            actions.push(Action::StartedByHand(site));
        }
    }
}
