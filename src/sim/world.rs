//! The world around the controller: a pure loop over what happens next. It knows no tasks and waits for nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use futures::channel::oneshot;

use super::{
    chance::Chance,
    customer::Customers,
    errand::Errand,
    fault::{Anchor, Away, Fault, JournalFault, Mishap, OutletFault},
    guard::{Forks, Host, Stir},
    line::Letter,
    network::{Network, Party},
    order::{Order, Reply},
    process::Clock,
    referee::Referee,
    scenario::Scenario,
    site::{Life, Power, Site},
    trace::Trace,
    watchman::Watchman,
};
use crate::{
    guard::wire::Ways,
    model::{
        id::Term,
        observation::DatabaseRole,
        plan::StepPhase,
        service::{ComponentKind, RecordKind, Service},
        site::SiteRole,
        span::Span,
        time::Time,
    },
    port::dns::RecordSet,
};

/// When every history begins.
pub const BEGIN: Time = Time::from_millis(1_795_269_600_000);

/// No history is over before this.
const LEAST: Span = Span::from_secs(60);

/// Something that happens in the world.
#[derive(Debug)]
pub enum Happening {
    /// A fault begins.
    Begins(usize),
    /// A fault is over.
    Ends(usize),
    /// A customer writes.
    Writes(usize),
    /// So much of the log of this timeline reaches a standby.
    Ships(usize, usize, u32),
    /// An order arrives.
    Arrives(Order),
    /// An answer arrives.
    Answers(Reply, oneshot::Sender<Reply>),
    /// Something happens at the host of a guard.
    Stirs(usize, Stir),
    /// What guards and controller say to each other arrives.
    Letter(Box<Letter>),
    /// A person does something; it is left to whoever knows the controller.
    Runs(Errand),
}

/// The world.
pub struct World {
    /// What time it is.
    pub now: Time,
    /// What this history is made of.
    pub scenario: Arc<Scenario>,
    /// The sites, as the documents have them.
    pub sites: Vec<Site>,
    /// The hosts of those with guards.
    pub hosts: Vec<Option<Host>>,
    /// What guards did.
    pub referee: Referee,
    /// The timelines of databases.
    pub forks: Forks,
    /// The network, as it is now.
    pub network: Network,
    /// What the name server holds.
    pub zone: BTreeMap<(String, RecordKind), RecordSet>,
    /// The customers and what they know to be written.
    pub customers: Customers,
    /// What must hold, and whether it did.
    pub watchman: Watchman,
    /// What happened.
    pub trace: Trace,
    /// Chance of whatever is not planned.
    pub chance: Chance,
    /// Which controller acts just now.
    pub speaker: Party,
    /// Whether another controller took over.
    pub is_succeeded: bool,
    /// Whether one that was elected after it leads.
    pub(super) is_led: bool,
    /// The term of the replica that was elected last, and when its lease was renewed last.
    pub lease: Option<(Term, Time)>,
    /// When the journal's copy may not have answered the controller that was taken over from, last.
    pub(super) unsure: Option<Time>,
    /// Whose word a guard heeds just now.
    pub(super) word_of: Option<Party>,
    /// Which ways what a guard says goes just now.
    pub(super) ways: Ways,
    /// When the last fault is over, as far as that is known.
    pub calm: Time,
    /// Whether the service has a database.
    has_database: bool,
    /// Which faults are on their way by now.
    anchored: BTreeSet<Anchor>,
    /// Which faults are there just now.
    active: Vec<bool>,
    /// Which faults have begun.
    begun: Vec<bool>,
    /// Boxed: what is moved about in a map had better be small.
    queue: BTreeMap<(Time, u64), Box<Happening>>,
    next: u64,
}

/// A world that adapters share with the loop that moves it.
pub type SharedWorld = Arc<Mutex<World>>;

impl World {
    /// The world of a scenario, before anything happened.
    #[must_use]
    pub fn new(scenario: &Arc<Scenario>, trace: Trace) -> Self {
        let service = &scenario.service;
        let has_database = databases(service);
        let sites = service
            .sites
            .iter()
            .zip(&scenario.hosts)
            .map(|(s, host)| {
                let state = match (host, s.role) {
                    // Only its guard starts it.
                    (Some(_), _) => (DatabaseRole::Standby, Life::Gone),
                    (None, SiteRole::Primary) => (DatabaseRole::Primary, Life::Runs),
                    (None, SiteRole::Standby) => (DatabaseRole::Standby, Life::Runs),
                };
                Site::new(has_database.then_some(state), BEGIN)
            })
            .collect();
        let hosts = service.sites.iter().zip(&scenario.hosts);
        let hosts = hosts
            .map(|(s, plan)| plan.map(|plan| Host::new(s.name.clone(), plan, BEGIN)))
            .collect();
        let mut world = Self {
            now: BEGIN,
            sites,
            hosts,
            referee: Referee::default(),
            forks: Forks::new(),
            network: Network::default(),
            zone: zone(service),
            customers: Customers::default(),
            watchman: Watchman::new(scenario),
            trace,
            chance: Chance::new(scenario.seed ^ 0xface),
            speaker: Party::Controller,
            is_succeeded: false,
            is_led: false,
            lease: None,
            unsure: None,
            word_of: None,
            ways: Ways::Both,
            calm: BEGIN.after(LEAST),
            has_database,
            anchored: BTreeSet::new(),
            active: vec![false; scenario.faults.len()],
            begun: vec![false; scenario.faults.len()],
            queue: BTreeMap::new(),
            next: 0,
            scenario: scenario.clone(),
        };
        world.anchor(Anchor::Beginning);
        for customer in 0..2 {
            world.plan(scenario.writes_every, Happening::Writes(customer));
        }
        for n in 0..world.sites.len() {
            if world.is_guarded(n) {
                world.powered(n, true);
            }
        }
        world.look_around();
        world
    }

    /// Has something happen so much later.
    pub fn plan(&mut self, after: Span, what: Happening) {
        self.next += 1;
        let at = (self.now.after(after), self.next);
        self.queue.insert(at, Box::new(what));
    }

    /// That which faults wait for happens: the first time counts.
    pub fn anchor(&mut self, from: Anchor) {
        if !self.anchored.insert(from) {
            return;
        }
        let scenario = self.scenario.clone();
        for (n, planned) in scenario.faults.iter().enumerate() {
            if planned.from == from {
                self.plan(planned.at, Happening::Begins(n));
                let ends = planned.at.saturating_add(planned.lasts);
                self.plan(ends, Happening::Ends(n));
            }
        }
        let calm = self.now.after(scenario.calm_after(from));
        self.calm = self.calm.max(calm);
    }

    /// When something happens next.
    #[must_use]
    pub fn next_at(&self) -> Option<Time> {
        self.queue.keys().next().map(|k| k.0)
    }

    /// Lets time pass until then, and the next thing happen if it happens then. Faults of the controller and errands
    /// are handed out: they are not the world's.
    pub fn pass(&mut self, to: Time) -> Option<Happening> {
        self.now = self.now.max(to);
        let first = self.queue.first_entry().filter(|e| e.key().0 <= to)?;
        match *first.remove() {
            Happening::Begins(n) => {
                self.turn(n, true);
                Some(Happening::Begins(n))
            }
            Happening::Ends(n) => {
                self.turn(n, false);
                Some(Happening::Ends(n))
            }
            Happening::Writes(customer) => {
                self.write(customer);
                None
            }
            Happening::Ships(site, length, timeline) => {
                self.ship(site, length, timeline);
                None
            }
            Happening::Arrives(order) => {
                self.arrive(order);
                None
            }
            Happening::Answers(reply, to) => {
                drop(to.send(reply));
                None
            }
            Happening::Stirs(n, stir) => {
                self.stir(n, stir);
                None
            }
            Happening::Letter(letter) => match letter.to {
                Party::Site(n) => {
                    self.hears(n, *letter);
                    None
                }
                Party::Controller
                | Party::Former
                | Party::Store
                | Party::Vantage(_)
                | Party::Power
                | Party::Names
                | Party::Outlets
                | Party::Customers(_) => Some(Happening::Letter(letter)),
            },
            Happening::Runs(errand) => Some(Happening::Runs(errand)),
        }
    }

    fn turn(&mut self, n: usize, begins: bool) {
        self.notice();
        self.active[n] = begins;
        self.begun[n] = true;
        let fault = self.scenario.faults[n].fault;
        let word = if begins { "begins" } else { "is over" };
        self.trace.note(self.now, 1, || format!("{fault} {word}"));
        self.take_effect();
        self.stir_up(fault, begins);
    }

    /// Whether the last fault is over.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        self.now > self.calm
    }

    /// Every planned fault that is there just now.
    pub fn faults(&self) -> impl Iterator<Item = Fault> + '_ {
        let planned = self.scenario.faults.iter().zip(&self.active);
        planned.filter(|(_, a)| **a).map(|(p, _)| p.fault)
    }

    /// Whether a site's host has burnt down.
    #[must_use]
    pub fn is_burnt(&self, site: usize) -> bool {
        let begun = self.scenario.faults.iter().zip(&self.begun);
        let mut burnt = begun.filter(|(_, begun)| **begun).map(|(p, _)| p.fault);
        burnt.any(|fault| fault == Fault::Burns(site))
    }

    /// Whether that fault is there just now.
    #[must_use]
    pub fn has(&self, fault: Fault) -> bool {
        self.faults().any(|f| f == fault)
    }

    /// The clock of a process that begins now: wrong as the last fault of the clock has left it.
    #[must_use]
    pub fn clock(&self) -> Clock {
        let planned = self.scenario.faults.iter().zip(&self.begun).rev();
        let mut steps = planned
            .filter(|(_, begun)| **begun)
            .filter_map(|(p, _)| p.fault.of_clock());
        let (offset, gains) = steps.next().unwrap_or_default();
        Clock {
            offset,
            gains,
            since: self.now,
        }
    }

    /// What the faults of this moment make of hosts and network.
    pub fn take_effect(&mut self) {
        let active: Vec<Fault> = self.faults().collect();
        let burnt: Vec<bool> = (0..self.sites.len()).map(|n| self.is_burnt(n)).collect();
        let mut powered = Vec::new();
        for (n, site) in self.sites.iter_mut().enumerate() {
            let was_on = site.is_on();
            if site.power != Power::Off {
                let is_dark = active.contains(&Fault::Crash(n)) || burnt[n];
                site.power = if is_dark { Power::Crashed } else { Power::On };
            }
            let life = |freezes, dies| {
                if active.contains(&dies) {
                    Life::Gone
                } else if active.contains(&freezes) {
                    Life::Frozen
                } else {
                    Life::Runs
                }
            };
            site.application = life(Fault::ApplicationFreezes(n), Fault::ApplicationDies(n));
            if was_on != site.is_on() {
                powered.push((n, site.is_on()));
            }
            let is_guarded = self.hosts[n].is_some();
            if let Some(database) = site.database.as_mut().filter(|_| !is_guarded) {
                database.life = life(Fault::DatabaseFreezes(n), Fault::DatabaseDies(n));
            }
        }
        self.doubts_copy();
        self.network = Network::default();
        for fault in &active {
            self.disturb(*fault);
        }
        for (n, is_on) in powered {
            self.powered(n, is_on);
        }
        self.look_around();
        self.ship_all();
    }

    fn disturb(&mut self, fault: Fault) {
        match fault {
            Fault::Cut(way) => self.network.cut(way, true),
            Fault::CutOff(n) => {
                for other in self.parties() {
                    self.cut_both(Party::Site(n), other);
                }
            }
            Fault::Island(n, customer) => {
                let own = [Party::Site(n), Party::Customers(customer)];
                for other in self.parties() {
                    if !own.contains(&other) {
                        self.cut_both(own[0], other);
                        self.cut_both(own[1], other);
                    }
                }
            }
            Fault::Severed(n, customer) => {
                for other in self.parties() {
                    let stays =
                        matches!(other, Party::Site(_)) || other == Party::Customers(customer);
                    if !stays {
                        self.cut_both(Party::Site(n), other);
                    }
                }
            }
            Fault::Succeeded(_, Away::CutOff) => self.apart(&[self.away()]),
            Fault::Succeeded(_, Away::WithPrimary) => {
                self.apart(&[self.away(), Party::Site(0), Party::Customers(0)]);
            }
            Fault::Slow => self.network.slow(true),
            Fault::Lossy => self.network.lossy(true),
            Fault::Rough => self.network.rough(true),
            Fault::Doubling => self.network.doubling(true),
            Fault::Crash(_)
            | Fault::Burns(_)
            | Fault::DatabaseDies(_)
            | Fault::DatabaseFreezes(_)
            | Fault::ApplicationDies(_)
            | Fault::ApplicationFreezes(_)
            | Fault::Blind(_)
            | Fault::ControllerDies(_)
            | Fault::ControllerFreezes
            | Fault::ClockSteps(..)
            | Fault::Journal(_)
            | Fault::Step(..)
            | Fault::FenceLies
            | Fault::Outlet(_)
            | Fault::Slanders(_)
            | Fault::GuardDies(_)
            | Fault::GuardFreezes(_)
            | Fault::GuardLosesState(_)
            | Fault::GuardDisk(..)
            | Fault::KillHangs(_)
            | Fault::Slews(..)
            | Fault::Succeeded(_, Away::Frozen | Away::Dead)
            | Fault::Wishes(_) => {}
        }
    }

    /// These reach each other, and nobody else.
    fn apart(&mut self, own: &[Party]) {
        let others = [Party::Power, Party::Names, Party::Store, Party::Outlets];
        for other in self.parties().into_iter().chain(others) {
            for one in own.iter().filter(|_| !own.contains(&other)) {
                self.cut_both(*one, other);
            }
        }
    }

    fn cut_both(&mut self, one: Party, other: Party) {
        self.network.cut((one, other), true);
        self.network.cut((other, one), true);
    }

    fn parties(&self) -> Vec<Party> {
        let points = self.scenario.service.vantage_points.len();
        [
            Party::Controller,
            Party::Former,
            Party::Customers(0),
            Party::Customers(1),
        ]
        .into_iter()
        .chain((0..points).map(Party::Vantage))
        .chain((0..self.sites.len()).map(Party::Site))
        .collect()
    }

    /// Whether a vantage point's own network is there.
    #[must_use]
    pub fn sees(&self, point: usize) -> bool {
        !self.has(Fault::Blind(point))
    }

    /// Whether a vantage point says Down whatever it sees.
    #[must_use]
    pub fn slanders(&self, point: usize) -> bool {
        self.has(Fault::Slanders(point))
    }

    /// How the journal behaves.
    #[must_use]
    pub fn journal_fault(&self) -> Option<JournalFault> {
        self.faults().find_map(Fault::of_journal)
    }

    /// How outlets behave.
    #[must_use]
    pub fn outlet_fault(&self) -> Option<OutletFault> {
        self.faults().find_map(Fault::of_outlet)
    }

    /// What happens to steps of a phase.
    #[must_use]
    pub fn mishap(&self, phase: StepPhase) -> Option<Mishap> {
        self.faults().find_map(|f| f.of_step(phase))
    }

    /// Whether a fence lies just now.
    #[must_use]
    pub fn lies(&self) -> bool {
        self.has(Fault::FenceLies)
    }

    /// The site that the public name leads to.
    #[must_use]
    pub fn led_to(&self) -> Option<usize> {
        let service = &self.scenario.service;
        let Some(record) = service.dns.as_ref().and_then(|d| d.records.first()) else {
            return Some(self.watchman.serving());
        };
        let mut zone = self.zone.iter();
        let (_, held) =
            zone.find(|((name, kind), _)| *name == record.name && *kind == record.kind)?;
        let is_held = |of: &Vec<String>| {
            of.iter().all(|value| held.values.contains(value))
                && held.values.iter().all(|value| of.contains(value))
        };
        let (name, _) = record.values.iter().find(|(_, of)| is_held(of))?;
        service.sites.iter().position(|s| &s.name == name)
    }

    /// The site whose database an application at that site writes to: its own, else one that it reaches.
    #[must_use]
    pub fn written_from(&self, site: usize) -> Option<usize> {
        if self.sites[site].takes_writes() {
            return Some(site);
        }
        (0..self.sites.len()).find(|other| {
            self.sites[*other].takes_writes()
                && self
                    .network
                    .is_open_both_ways(Party::Site(site), Party::Site(*other))
        })
    }

    /// The site that answers rightly whoever reaches it.
    fn answering_rightly(&self) -> Option<usize> {
        let site = self.led_to()?;
        let is_well = self.sites[site].serves()
            && self.network.is_calm()
            && (!self.has_database || self.written_from(site).is_some());
        is_well.then_some(site)
    }

    /// Before something changes: what was well until now is noted.
    pub fn notice(&mut self) {
        self.hear();
        let now = self.now;
        self.watchman.customers.until(now);
    }

    /// After something changed: who gets right answers now.
    pub fn look_around(&mut self) {
        let points = self.scenario.service.vantage_points.len();
        let answers = self.answering_rightly().map(Party::Site);
        let reaches =
            |p| answers.is_some_and(|site| self.network.is_open_both_ways(Party::Vantage(p), site));
        let well: Vec<bool> = (0..points)
            .map(|p| reaches(p) && self.sees(p) && !self.slanders(p))
            .collect();
        let now = self.now;
        self.watchman.customers.look(now, &well);
    }
}

/// Whether a service has a database.
fn databases(service: &Service) -> bool {
    let mut all = service.components.iter();
    all.any(|c| c.kind == ComponentKind::Database)
}

fn zone(service: &Service) -> BTreeMap<(String, RecordKind), RecordSet> {
    let Some((dns, primary)) = service.dns.as_ref().zip(service.primary()) else {
        return BTreeMap::new();
    };
    let ttl = u32::try_from(dns.ttl.as_millis() / 1000).unwrap_or(u32::MAX);
    let held = dns.records.iter().map(|r| {
        let values = r.values.get(&primary.name).cloned().unwrap_or_default();
        let values = values.into_iter().collect();
        ((r.name.clone(), r.kind), RecordSet { values, ttl })
    });
    held.collect()
}
